"""From what a caller gives to a run: windows, events, sizes, trials, and one run held against a loop."""

import numpy as np
import pandas as pd
import pytest

from tests.data.support import changed
from tradelib._jit import interpreted
from tradelib.backtest import Costs, DecisionRule, Market, TrialLedger, run, run_signals
from tradelib.backtest.engine import evaluate
from tradelib.backtest.wiring import atr_table, build_tape, cut, event_targets, needed_atr, trial_of
from tradelib.data.bars import COLUMNS, make_bars, resample
from tradelib.data.panel import as_panel
from tradelib.errors import DataError, ParameterError
from tradelib.indicators import atr, probe_bars, sma
from tradelib.risk import Exits, FixedFraction, Limits, ScaleIn, judging
from tradelib.strategies import Strategy, TrendFollowing

BARS = probe_bars(600, seed=11)
PANEL = as_panel(BARS)
PAIR = as_panel({"A": BARS, "B": probe_bars(600, seed=12)})
IDENTITY = {"symbol": "PROBE", "timeframe": "1d", "source": "probe", "calendar": "24/7"}
YES, NO = True, False
TWO_ATR = {"value": 2, "unit": "atr"}


@pytest.fixture
def ledger(tmp_path):
    return TrialLedger(tmp_path / "trials.sqlite")


def events(**rows: list[int]) -> dict[str, np.ndarray]:
    """Event arrays of one symbol, true in the given rows."""
    names = ("entries", "exits", "short_entries", "short_exits")
    return {name: np.isin(np.arange(len(BARS)), rows.get(name, [])) for name in names}


class TestCut:
    @pytest.mark.parametrize(
        ("start", "end", "first", "bars"),
        [
            (None, None, 0, 600),
            ("2000-01-11", None, 10, 600),
            (None, "2000-01-10", 0, 10),
            ("2000-01-05", "2000-01-05", 4, 5),
            ("1990-01-01", "2050-01-01", 0, 600),
            ("2000-01-04 12:00", "2000-01-06 12:00", 4, 6),
        ],
    )
    def test_both_ends_are_included_and_earlier_bars_stay_to_warm_up(self, start, end, first, bars):
        part, row = cut(PANEL, start, end)
        assert (row, len(part)) == (first, bars)
        np.testing.assert_array_equal(part.close, PANEL.close[:bars])

    @pytest.mark.parametrize(
        ("start", "end"), [("2050-01-01", None), (None, "1990-01-01"), ("2000-02-02 01:00", "2000-02-02 02:00")]
    )
    def test_an_empty_stretch_is_refused(self, start, end):
        with pytest.raises(DataError, match="nothing to trade"):
            cut(PANEL, start, end)

    def test_bars_with_times_in_microseconds_are_cut_too(self):
        coarse = BARS.set_axis(BARS.index.as_unit("us"))
        coarse.attrs = BARS.attrs
        rule = DecisionRule(strategy=TrendFollowing(fast=10, slow=40))
        one, other = (evaluate(rule, bars, start="2000-06-01", end="2000-12-31") for bars in (coarse, BARS))
        np.testing.assert_array_equal(one.equity, other.equity)


LINES = ("high_line", "low_line", "close_line")  # of a single symbol


class TestTape:
    def test_what_is_not_asked_for_is_empty(self):
        tape = build_tape(PANEL)
        assert {name for name, table in tape._asdict().items() if len(table)} == {*COLUMNS, *LINES}

    def test_days_are_those_of_utc(self):
        hours = make_bars(BARS.set_axis(pd.date_range("2024-01-01", periods=600, freq="h", tz="UTC")), timeframe="1h")
        days = build_tape(as_panel(hours), limits=Limits(daily_loss=0.1)).past[:, judging.PAST_DAY]
        assert days.tolist() == [19723 + t // 24 for t in range(600)]  # 2024-01-01 is 19,723 days after 1970-01-01

    def test_finer_bars_come_in_the_order_of_the_symbols(self):
        weeks = as_panel({name: resample(PAIR.bars(name), "1w") for name in ("B", "A")})
        tape = build_tape(weeks, finer=PAIR)
        np.testing.assert_array_equal(tape.fine_close, PAIR.close[:, [1, 0]])
        assert tape.fine_first[:3].tolist() == [2, 9, 16]  # 2000-01-01 is a Saturday

    def test_the_atr_of_each_symbol(self):
        table = atr_table(PAIR, 14)
        for a, name in enumerate(PAIR.symbols):
            bars = PAIR.bars(name)
            np.testing.assert_array_equal(table[:, a], atr(bars["high"], bars["low"], bars["close"], 14))

    @pytest.mark.parametrize(
        ("exits", "scale_in", "window"),
        [
            (None, None, None),
            (Exits(stop_loss=0.05), None, None),
            (Exits(stop_loss=TWO_ATR, atr_window=21), None, 21),
            (None, ScaleIn(orders=2, step=TWO_ATR), 14),
            (Exits(stop_loss=0.05, atr_window=9), ScaleIn(orders=2, step=TWO_ATR), 9),
        ],
    )
    def test_the_atr_is_made_only_where_a_distance_needs_it(self, exits, scale_in, window):
        assert needed_atr(exits, scale_in) == window


class TestEvents:
    @pytest.mark.parametrize(
        ("rows", "expected"),
        [
            ({"entries": [1], "exits": [3]}, {1: 0.5, 3: 0.0}),
            ({"entries": [1, 2], "exits": [3, 4]}, {1: 0.5, 2: 0.5, 3: 0.0}),
            ({"exits": [1]}, {}),
            ({"short_entries": [1], "short_exits": [2]}, {1: -0.5, 2: 0.0}),
            ({"entries": [1], "short_exits": [2]}, {1: 0.5}),
            ({"entries": [1], "short_entries": [3], "exits": [4], "short_exits": [5]}, {1: 0.5, 3: -0.5, 5: 0.0}),
        ],
        ids=["long", "once is enough", "nothing to leave", "short", "the other side's exit", "flip"],
    )
    def test_targets_by_hand(self, rows, expected):
        targets = event_targets(PANEL, **events(**rows), size=0.5, maximum=1.0)[:, 0]
        known = np.flatnonzero(~np.isnan(targets))
        assert dict(zip(known.tolist(), targets[known].tolist(), strict=True)) == expected

    def test_one_size_per_bar_and_symbol(self):
        both, size = np.zeros((600, 2), bool), np.full((600, 2), 0.1)
        both[5], size[5] = YES, (0.25, 0.75)
        assert event_targets(PAIR, both, None, None, None, size, 1.0)[5].tolist() == [0.25, 0.75]
        named = pd.DataFrame(size, PAIR.index, ["B", "A"])
        assert event_targets(PAIR, both, None, None, None, named, 1.0)[5].tolist() == [0.75, 0.25]

    def test_columns_are_found_by_name(self):
        table = pd.DataFrame({"B": YES, "A": NO}, index=PAIR.index)
        assert np.isnan(event_targets(PAIR, table, None, None, None, 0.5, 1.0)[0]).tolist() == [True, False]

    def test_interpreted_as_compiled(self):
        rng = np.random.default_rng(0)
        given = events(**{name: rng.choice(600, 40).tolist() for name in ("entries", "short_exits")})
        compiled = event_targets(PANEL, **given, size=0.5, maximum=1.0)
        with interpreted():
            np.testing.assert_array_equal(event_targets(PANEL, **given, size=0.5, maximum=1.0), compiled)

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"entries": np.ones(600, bool), "exits": np.ones(600, bool)}, "PROBE enters and exits long at 2000-01-01"),
            ({"short_entries": np.ones(600, bool), "short_exits": np.ones(600, bool)}, "enters and exits short at"),
            ({"entries": np.ones(600, bool), "short_entries": np.ones(600, bool)}, "PROBE enters both ways at"),
            ({"entries": np.ones(599, bool)}, r"entries has the shape \(599,\), the bars have \(600, 1\)"),
            ({"exits": np.ones(600)}, "exits must be true or false, not float64: compare first"),
            ({"entries": pd.Series(YES, range(600))}, "entries must have the times of the bars as its index"),
            ({"entries": pd.DataFrame({"Z": YES}, BARS.index)}, "entries lacks the symbols PROBE"),
            ({"entries": np.ones(600, bool), "size": np.full(3, 0.1)}, r"size has the shape \(3, 1\)"),
            ({"size": pd.Series(0.5, range(600))}, "size must have the times of the bars as its index"),
            ({"entries": np.ones(600, bool), "size": 1.5}, "size is 1.5: give a positive fraction of equity up to"),
            ({"entries": np.ones(600, bool), "size": np.nan}, "size is nan"),
            ({"size": np.where(np.arange(600) == 7, 0.0, 0.5)}, r"size is 0 at 2000-01-08 .* of PROBE"),
        ],
    )
    def test_what_is_no_event_or_size_names_symbol_and_bar(self, given, message):
        known = {"entries": None, "exits": None, "short_entries": None, "short_exits": None, "size": 0.5, **given}
        with pytest.raises(ParameterError, match=message):
            event_targets(PANEL, **known, maximum=1.0)


class TestOneAccount:
    """SMA 20/50 on one symbol, all in, without lots: short enough to write down as a loop over plain floats."""

    FEE, SLIPPAGE = 0.001, 0.0005
    KEYS = {"costs": Costs(fee_rate=FEE, slippage=SLIPPAGE), "market": Market(insufficient_cash="reduce")}
    RULE = DecisionRule(
        strategy=TrendFollowing(fast=20, slow=50), sizing=FixedFraction(fraction=1.0), rebalance_band=None
    )

    def by_hand(self) -> tuple[np.ndarray, int]:
        opens, closes = BARS["open"].to_numpy(), BARS["close"].to_numpy()
        above = (sma(closes, 20) > sma(closes, 50)) & (np.arange(600) >= 49)
        cash, held, equity, fills = 1e5, 0.0, np.empty(600), 0
        for t in range(600):
            if t and above[t - 1] and held == 0.0:
                price = opens[t] * (1 + self.SLIPPAGE)
                worth = cash
                held = worth / (price * (1 + self.FEE))
                cash, fills = cash - held * price * (1 + self.FEE), fills + 1
            elif t and not above[t - 1] and held > 0.0:
                cash, held, fills = cash + held * opens[t] * (1 - self.SLIPPAGE) * (1 - self.FEE), 0.0, fills + 1
            equity[t] = cash + held * closes[t]
        return equity, fills

    def test_it_is_what_the_loop_says(self):
        result, (equity, fills) = evaluate(self.RULE, BARS, **self.KEYS), self.by_hand()
        assert len(result.fills) == fills >= 10
        np.testing.assert_allclose(result.equity, equity, rtol=1e-12)

    def test_a_frame_a_panel_and_a_mapping_are_the_same_run_and_the_same_trial(self, ledger):
        for bars in (BARS, PANEL, {"PROBE": BARS}, PANEL.to_frame()):
            result = run(self.RULE, bars, ledger=ledger, **self.KEYS)
            np.testing.assert_array_equal(result.equity, evaluate(self.RULE, BARS, **self.KEYS).equity)
        assert [sum(ledger.families().values())] == [1]

    def test_writing_into_the_bars_afterwards_changes_no_result(self):
        mine = BARS.copy()
        result = evaluate(self.RULE, mine, **self.KEYS)
        before = result.to_frame()
        mine.iloc[:, :] = 1.0
        pd.testing.assert_frame_equal(result.to_frame(), before, check_exact=True)

    def test_what_a_strategy_writes_into_its_bars_stays_with_it(self):
        class Scribbler(Strategy):
            def signals(self, bars):
                bars.iloc[:, :] = 1.0
                bars["close"] = 2.0
                return pd.Series(1.0, bars.index)

        panel = as_panel(BARS)
        result = evaluate(Scribbler(), panel)
        np.testing.assert_array_equal(panel.close, PANEL.close)
        np.testing.assert_array_equal(result.panel.bars("PROBE")["close"], BARS["close"])

    def test_several_symbols_are_for_a_portfolio(self):
        with pytest.raises(DataError, match="run trades one symbol, the bars hold 2: use run_portfolio"):
            evaluate(self.RULE, PAIR)


class TestTrialOfSignals:
    ENTRIES = np.arange(600) % 40 == 5
    EXITS = np.arange(600) % 40 == 25

    def count(self, ledger: TrialLedger, bars: pd.DataFrame = BARS, **changes: object) -> int:
        given = {"entries": self.ENTRIES, "exits": self.EXITS, **changes}
        run_signals(given.pop("entries"), given.pop("exits"), bars, ledger=ledger, **given)
        return sum(ledger.families().values())

    def test_the_same_events_are_one_trial(self, ledger):
        assert [self.count(ledger), self.count(ledger)] == [1, 1]

    @pytest.mark.parametrize(
        "changes",
        [
            {"exits": np.roll(EXITS, 1)},
            {"size": 0.5},
            {"exits_policy": Exits(stop_loss=0.01)},
            {"costs": Costs(fee_rate=0.002)},
            {"name": "other"},
            {"start": "2000-03-01"},
            {"bars": changed(BARS, 300, volume=1.0)},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_anything_else_is_another(self, ledger, changes):
        assert [self.count(ledger), self.count(ledger, **changes)] == [1, 2]

    @pytest.mark.parametrize("changes", [{"entries": np.roll(ENTRIES, 1)}, {"size": 0.5}], ids=["when", "how much"])
    def test_what_was_traded_counts_also_where_it_earned_the_same(self, ledger, changes):
        """In a market that stands still, without costs, every account ends where it began."""
        flat = make_bars(BARS[["open"]].assign(**dict.fromkeys(COLUMNS, 100.0)), **IDENTITY)
        free = {"costs": Costs(fee_rate=0, slippage=0)}
        assert [self.count(ledger, flat, **free), self.count(ledger, flat, **free, **changes)] == [1, 2]

    def test_a_trial_can_be_told_its_digest(self):
        result = evaluate(TrendFollowing(fast=10, slow=40), BARS)
        assert trial_of(result).data_digest == PANEL.digest
        assert trial_of(result, "known").data_digest == "known"
