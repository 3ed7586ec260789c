"""`Result`: nothing in it changes, excursions by hand, and files that come back bit for bit or not at all."""

from __future__ import annotations

import dataclasses
import hashlib
import html
import io
import json
import zipfile
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pandas as pd
import pytest

from tradelib._jit import interpreted
from tradelib.backtest import (
    Costs,
    DecisionRule,
    FeeTier,
    Market,
    Order,
    Result,
    book,
    load_result,
    run_orders,
    run_weights,
)
from tradelib.backtest.archive import read_archive, write_archive
from tradelib.backtest.engine import evaluate
from tradelib.backtest.plots import KINDS
from tradelib.backtest.rejections import REMEDIES, rejections
from tradelib.backtest.result import SAVED_COLUMNS, PlotKind
from tradelib.backtest.tables import position_table
from tradelib.backtest.trades import TRADE_COLUMNS, excursions
from tradelib.data import make_bars
from tradelib.errors import DataError, ParameterError
from tradelib.indicators import probe_bars
from tradelib.risk import Exits, FixedFraction, Limits, ScaleIn, VolatilityTarget
from tradelib.strategies import Strategy, TrendFollowing, base

FREE = Costs(fee_rate=0, slippage=0)
BARS = probe_bars(500, seed=21)
RULE = DecisionRule(
    strategy=TrendFollowing(fast=8, slow=30, direction="long_short"),
    sizing=VolatilityTarget(window=20),
    rebalance_band=0.1,
    exits=Exits(stop_loss=0.04),
)
TABLES = [
    "bars",
    "equity",
    "returns",
    "cash",
    "positions",
    "weights",
    "exposure",
    "decisions",
    "orders",
    "fills",
    "trades",
    "cash_book",
    "costs_by_kind",
]


@pytest.fixture(scope="module")
def result() -> Result:
    return evaluate(RULE, BARS, costs=Costs(borrow_rate=0.05))


def bars_of(*rows: tuple[float, float, float, float], symbol: str = "HAND") -> pd.DataFrame:
    """Daily bars from 2024-01-01 on, each (open, high, low, close)."""
    index = pd.date_range("2024-01-01", periods=len(rows), freq="D", tz="UTC", name="time")
    frame = pd.DataFrame(rows, columns=["open", "high", "low", "close"], index=index, dtype=float).assign(volume=1e6)
    return make_bars(frame, symbol=symbol, timeframe="1d", source="hand", calendar="24/7")


def traded(bars: pd.DataFrame, *orders: dict[str, object], **options: object) -> pd.DataFrame:
    """Trades of explicit orders without costs; `time` is the number of the bar on whose close an order is placed."""
    made = [Order(**{**order, "time": bars.index[int(str(order["time"]))]}) for order in orders]
    market = Market(maximum_leverage=10)
    return run_orders(made, bars, costs=FREE, market=market, cash=10_000.0, **options).trades


class TestNothingChanges:
    def test_a_field_cannot_be_replaced(self, result):
        with pytest.raises(dataclasses.FrozenInstanceError):
            result.initial_cash = 1.0

    def test_arrays_are_read_only(self, result):
        machine = [getattr(result.simulation.machine, name) for name in book.Machine._fields]
        arrays = [result.targets, result.signals, result.trade_rows, *result.simulation[:4], *machine]
        arrays += [getattr(result.panel, name) for name in ("open", "high", "low", "close", "volume")]
        assert [array.flags.writeable for array in arrays] == [False] * len(arrays)

    @pytest.mark.parametrize("name", TABLES)
    def test_a_table_handed_out_is_the_callers_own(self, result, name):
        before = getattr(result, name).copy(deep=True)
        taken = getattr(result, name)
        if isinstance(taken, pd.Series):
            taken.iloc[0] = -7.0
        else:
            taken.iloc[0, list(taken.dtypes).index(np.dtype(float))] = -7.0
            taken["note"] = "mine"
        assert not taken.equals(before)
        taken.attrs["note"] = "mine"
        taken.index.name = "mine"
        equal = pd.testing.assert_series_equal if isinstance(before, pd.Series) else pd.testing.assert_frame_equal
        equal(getattr(result, name), before, check_exact=True)
        assert "note" not in getattr(result, name).attrs
        assert getattr(result, name).index.name == before.index.name

    @pytest.mark.parametrize("name", ["equity", "returns", "cash"])
    def test_numpy_views_of_a_table_are_read_only(self, result, name):
        with pytest.raises(ValueError, match="read-only"):
            getattr(result, name).to_numpy()[0] = 0.0

    @pytest.mark.parametrize("name", ["metrics", "performance"])
    def test_figures_handed_out_are_the_callers_own(self, result, name):
        getattr(result, name)["sharpe_ratio"] = 99.0
        assert getattr(result, name)["sharpe_ratio"] != 99.0

    def test_what_the_caller_gave_may_change_afterwards(self):
        weights = np.full((len(BARS), 1), 0.5)
        done = run_weights(weights, BARS)
        weights[:] = 0.0
        assert (done.decisions["target_weight"] == 0.5).all()


class TestTables:
    def test_equity_is_cash_and_held_value(self, result):
        held = position_table(result.simulation, result.first, 1)[:, 0]
        np.testing.assert_allclose(result.equity, result.cash + held * BARS["close"].to_numpy(), rtol=1e-12)

    def test_all_costs_by_kind_are_what_fills_and_cash_book_say(self, result):
        carried = -result.cash_book["amount"].sum()
        paid = result.fills[["fee", "slippage_cost"]].sum().sum() + carried
        assert result.costs_by_kind["borrow"] == pytest.approx(carried)
        assert result.costs_by_kind.sum() == pytest.approx(paid)

    def test_a_trade_tells_how_long_it_took(self, result):
        trades = result.trades
        assert (trades["duration"] == trades["exit_time"] - trades["entry_time"]).all()
        assert (trades["duration"] == pd.to_timedelta(trades["bars"], unit="D")).all()

    @pytest.mark.parametrize(
        ("symbols", "currency"),
        [(["BTC/USDT"], "USDT"), (["BTC/USDT:USDT"], "USDT"), (["A/EUR", "B/EUR"], "EUR"), (["A/EUR", "B/USD"], ""),
         (["SPY"], "")],
    )  # fmt: skip
    def test_the_currency_is_the_one_that_the_symbols_name(self, symbols, currency):
        bars = {symbol: bars_of((1, 1, 1, 1), (1, 1, 1, 1), symbol=symbol) for symbol in symbols}
        assert run_weights(np.zeros((2, len(symbols))), bars).currency == currency

    def test_a_run_of_orders_has_no_decisions_and_says_so(self):
        order = Order(time=BARS.index[3], side="buy", quantity=1)
        with pytest.raises(ParameterError, match="given orders, not targets"):
            _ = run_orders([order], BARS).decisions


class TestDisplay:
    def test_the_card_draws_itself_without_scripts(self, result):
        card = result._repr_html_()
        assert card.count("<svg") == 1
        assert "Sharpe ratio" in card
        assert "<script" not in card

    def test_names_are_escaped(self):
        done = run_weights(np.zeros((len(BARS), 1)), BARS, name="<b>mine</b>")
        assert "&lt;b&gt;mine&lt;/b&gt;" in done._repr_html_()

    def test_an_undefined_figure_is_a_dash(self):
        never = run_weights(np.zeros((len(BARS), 1)), BARS)
        assert never.summary().loc["Sharpe ratio", "value"] == "–"


class TestExcursionsByHand:
    """Given four bars around 100, each trade enters at 100; expected values are written from the bars."""

    BARS = bars_of((100, 101, 99, 100), (100, 104, 98, 102), (103, 107, 101, 105), (101, 110, 90, 95), (95, 96, 94, 95))
    IN = {"time": 0, "side": "buy", "quantity": 10}
    OUT = {"side": "sell", "quantity": 10}

    def far(self, *orders: dict[str, object]) -> object:
        """Adverse and favourable excursion of the one trade, to be compared with figures written by hand."""
        row = traded(self.BARS, *orders).iloc[0]
        return pytest.approx((row["mae"], row["mfe"]))

    def test_the_entry_bar_counts_as_a_whole_after_an_entry_at_its_open(self):
        assert self.far(self.IN, {**self.OUT, "time": 1}) == (98 / 100 - 1, 104 / 100 - 1)

    def test_of_the_bar_of_an_exit_at_the_open_only_the_open_counts(self):
        assert self.far(self.IN, {**self.OUT, "time": 2}) == (98 / 100 - 1, 107 / 100 - 1)

    def test_a_stop_ends_its_bar_before_the_high_and_below_it_nothing_counts(self):
        stop = {**self.OUT, "time": 2, "kind": "stop", "stop": 97.0}
        assert self.far(self.IN, stop) == (97 / 100 - 1, 107 / 100 - 1)

    def test_an_open_far_beyond_counts_also_when_a_stop_ends_the_bar(self):
        bars = bars_of((100, 101, 99, 100), (100, 101, 99, 100), (120, 121, 90, 95))
        trade = traded(bars, self.IN, {**self.OUT, "time": 1, "kind": "stop", "stop": 97.0}).iloc[0]
        assert (trade["mae"], trade["mfe"]) == (pytest.approx(-0.03), pytest.approx(0.20))

    def test_before_a_target_the_low_of_its_bar_is_assumed(self):
        target = {**self.OUT, "time": 2, "kind": "limit", "limit": 109.0}
        assert self.far(self.IN, target) == (90 / 100 - 1, 109 / 100 - 1)

    def test_after_a_limit_entry_inside_a_bar_its_high_does_not_count_but_its_close_does(self):
        limit = {**self.IN, "kind": "limit", "limit": 99.0}
        assert self.far(limit, {**self.OUT, "time": 1}) == (98 / 99 - 1, 103 / 99 - 1)  # out at the open of 103

    def test_after_a_stop_entry_inside_a_bar_its_high_counts(self):
        stop = {**self.IN, "kind": "stop", "stop": 102.0}
        assert self.far(stop, {**self.OUT, "time": 1}) == (98 / 102 - 1, 104 / 102 - 1)

    def test_a_short_position_looks_the_other_way(self):
        sell, buy = {**self.OUT, "time": 0}, {**self.IN, "time": 2}
        assert self.far(sell, buy) == (-(107 / 100 - 1), -(98 / 100 - 1))

    def test_a_partial_exit_does_not_end_the_trade(self):
        half = {**self.OUT, "time": 1, "quantity": 5}
        trades = traded(self.BARS, self.IN, half, {**self.OUT, "time": 3, "quantity": 5})
        assert len(trades) == 1
        assert trades["exit_price"].iloc[0] == (103 + 95) / 2
        assert (trades["mae"].iloc[0], trades["mfe"].iloc[0]) == (pytest.approx(-0.10), pytest.approx(0.10))

    def test_prices_before_a_further_entry_are_compared_with_the_average_until_then(self):
        more = {**self.IN, "time": 1}  # at 103: the average is 101.5 from then on
        assert self.far(self.IN, more, {**self.OUT, "time": 2, "quantity": 20}) == (98 / 100 - 1, 107 / 101.5 - 1)

    def test_a_flip_ends_one_trade_and_begins_the_next_at_the_same_open(self):
        trades = traded(self.BARS, self.IN, {**self.OUT, "time": 1, "quantity": 20})
        assert list(trades["side"]) == ["long", "short"]
        np.testing.assert_allclose(trades["mae"], [98 / 100 - 1, -(110 / 103 - 1)])
        np.testing.assert_allclose(trades["mfe"], [104 / 100 - 1, -(90 / 103 - 1)])

    def test_an_open_trade_lived_through_the_last_bar(self):
        bars = bars_of((100, 101, 99, 100), (100, 104, 98, 102), (101, 110, 90, 95))
        trade = traded(bars, self.IN).iloc[0]
        assert trade["open"]
        assert (trade["mae"], trade["mfe"]) == (pytest.approx(-0.10), pytest.approx(0.10))

    def test_in_and_out_within_one_bar(self):
        stopped = {**self.IN, "exits": Exits(stop_loss=0.015)}
        trade = traded(self.BARS, stopped).iloc[0]
        assert trade["bars"] == 0
        assert (trade["mae"], trade["mfe"]) == (pytest.approx(-0.015), 0.0)

    def test_slippage_of_the_entry_is_an_adverse_excursion(self):
        bars = bars_of((100, 100, 100, 100), (100, 100, 100, 100), (100, 100, 100, 100))
        made = [Order(time=bars.index[0], side="buy", quantity=1)]
        row = run_orders(made, bars, costs=Costs(fee_rate=0, slippage=0.01)).trades.iloc[0]
        assert (row["entry_price"], row["mae"], row["mfe"]) == (101.0, pytest.approx(100 / 101 - 1), 0.0)


class TestExcursionsAgainstTheMachine:
    """A stop a hair nearer than the adverse excursion ends the trade, one a hair farther away leaves it alone."""

    @pytest.mark.parametrize("side", ["buy", "sell"])
    @pytest.mark.parametrize("seed", range(6))
    @pytest.mark.parametrize("entry", ["market", "limit", "stop"])
    @pytest.mark.parametrize("out", ["market", "target"])
    def test_the_adverse_excursion_is_the_nearest_stop_that_survives(self, side, seed, entry, out):
        self.check(side, seed, entry, out, "stop_loss", "mae")

    @pytest.mark.parametrize("side", ["buy", "sell"])
    @pytest.mark.parametrize("seed", range(6))
    @pytest.mark.parametrize("entry", ["market", "limit", "stop"])
    @pytest.mark.parametrize("out", ["market", "stopped"])
    def test_the_favourable_excursion_is_the_farthest_target_that_is_reached(self, side, seed, entry, out):
        self.check(side, seed, entry, out, "take_profit", "mfe")

    def check(self, side: str, seed: int, entry: str, out: str, policy: str, column: str) -> None:
        bars = probe_bars(60, seed=seed)
        close, sign = bars["close"].iloc[9], 1 if side == "buy" else -1
        order = {"time": 9, "side": side, "quantity": 1, "kind": entry}
        if entry != "market":
            order[entry] = close * (1 + 0.003 * sign * (1 if entry == "stop" else -1))
        fixed = {"market": {"time_exit": 9}, "target": {"take_profit": 0.03}, "stopped": {"stop_loss": 0.02}}[out]
        plain = traded(bars, {**order, "exits": Exits(**fixed)}).iloc[0]
        far = abs(plain[column])
        ends_there = far == pytest.approx(abs(plain["exit_price"] / plain["entry_price"] - 1), rel=1e-12)
        for hair in (1.0 + 1e-7, 1.0 - 1e-7):
            if far > 1e-6 and not (hair < 1.0 and ends_there):  # beyond the exit itself there is nothing to lose
                again = traded(bars, {**order, "exits": Exits(**{**fixed, policy: far * hair})}).iloc[0]
                same = (again["exit_time"], again["reason"]) == (plain["exit_time"], plain["reason"])
                assert same == (hair > 1.0)


class TestInterpreted:
    def test_excursions_are_the_same_bits_without_a_compiler(self, result):
        panel, fills = result.panel, result.simulation.fills
        prices = (panel.open, panel.high, panel.low, panel.close)
        compiled = excursions(fills, len(panel) - 1, *prices)
        with interpreted():
            assert excursions(fills, len(panel) - 1, *prices).tobytes() == compiled.tobytes()
        assert len(compiled) == len(result.trades)


class TestKeeping:
    @pytest.fixture
    def file(self, result, tmp_path):
        return result.save(tmp_path / "kept.zip")

    @pytest.mark.parametrize("name", TABLES)
    def test_every_table_comes_back_bit_for_bit(self, result, file, name):
        equal = pd.testing.assert_series_equal if name in ("equity", "returns", "cash", "costs_by_kind") else None
        (equal or pd.testing.assert_frame_equal)(
            getattr(load_result(file), name), getattr(result, name), check_exact=True
        )

    def test_every_array_comes_back_bit_for_bit(self, result, file):
        again = load_result(file)
        for name in ("equity", "orders", "fills", "entries"):
            assert getattr(again.simulation, name).tobytes() == getattr(result.simulation, name).tobytes()
        for name in ("open", "high", "low", "close", "volume"):
            assert getattr(again.panel, name).tobytes() == getattr(result.panel, name).tobytes()
        assert again.panel.digest == result.panel.digest
        assert not again.simulation.equity.flags.writeable

    def test_rule_costs_market_and_figures_come_back(self, result, file):
        again = load_result(file)
        assert (again.rule, again.costs, again.market) == (result.rule, result.costs, result.market)
        assert (again.rule.digest, again.first, again.title) == (result.rule.digest, result.first, result.title)
        assert np.array(list(again.metrics.values())).tobytes() == np.array(list(result.metrics.values())).tobytes()

    def test_every_policy_and_setting_comes_back(self, tmp_path):
        rule = DecisionRule(
            strategy=TrendFollowing(fast=8, slow=30),
            rebalance_band=None,
            exits=Exits(stop_loss={"value": 2, "unit": "atr"}, take_profit=[(0.05, 0.5), (0.1, 0.5)]),
            scale_in=ScaleIn(orders=1),
            limits=Limits(daily_loss=0.05, blacklist=("XYZ",)),
        )
        costs = Costs(fee_tiers=(FeeTier(volume=0, maker=0.001, taker=0.002),))
        done = evaluate(rule, BARS, costs=costs, market=Market(lots_per_unit=100), start="2000-03-01", end="2001-02-01")
        again = load_result(done.save(tmp_path / "all.zip"))
        assert (again.rule, again.costs, again.market, again.first) == (rule, costs, done.market, done.first)
        pd.testing.assert_frame_equal(again.to_frame(), done.to_frame(), check_exact=True)

    def test_a_portfolio_comes_back(self, tmp_path):
        bars = {name: probe_bars(80, seed=seed) for seed, name in enumerate(("A/USD", "B/USD"))}
        bars = {name: make_bars(frame, symbol=name, timeframe="1d", source="x", calendar="24/7")
                for name, frame in bars.items()}  # fmt: skip
        done = run_weights(np.tile([0.5, -0.3], (80, 1)), bars, name="two legs")
        again = load_result(done.save(tmp_path / "two.zip"))
        assert (again.rule, again.name, again.symbols) == (None, "two legs", ("A/USD", "B/USD"))
        pd.testing.assert_frame_equal(again.weights, done.weights, check_exact=True)
        pd.testing.assert_frame_equal(again.decisions, done.decisions, check_exact=True)

    def test_equal_results_give_equal_bytes_and_an_earlier_file_is_replaced(self, result, tmp_path):
        one, two = result.save(tmp_path / "one.zip"), tmp_path / "two.zip"
        two.write_bytes(b"an earlier file")
        result.save(two)
        load_result(two).save(tmp_path / "three.zip")
        with zipfile.ZipFile(one) as archive:  # no member tells when it was written
            assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert one.read_bytes() == two.read_bytes() == (tmp_path / "three.zip").read_bytes()
        assert {path.name for path in tmp_path.iterdir() if path.suffix == ".zip"} == {
            "one.zip",
            "two.zip",
            "three.zip",
        }

    @pytest.mark.real_data
    def test_recorded_hours_come_back_too(self, real_data, tmp_path):
        hours = pd.read_parquet(real_data / "crypto/bitvavo_1h/BTC_EUR.parquet").set_index("time")
        bars = make_bars(hours, symbol="BTC/EUR", timeframe="1h", source="recorded", calendar="24/7")
        done = evaluate(RULE, bars, market=Market(lots_per_unit=1e8, minimum_notional=5.0))
        again = load_result(done.save(tmp_path / "hours.zip"))
        pd.testing.assert_frame_equal(again.trades, done.trades, check_exact=True)
        pd.testing.assert_frame_equal(again.orders, done.orders, check_exact=True)
        pd.testing.assert_frame_equal(again.bars, done.bars, check_exact=True)
        assert np.array(list(again.metrics.values())).tobytes() == np.array(list(done.metrics.values())).tobytes()
        assert again.currency == "EUR"

    def test_a_write_that_fails_leaves_the_earlier_file(self, result, tmp_path, monkeypatch):
        file = result.save(tmp_path / "kept.zip")
        before = file.read_bytes()
        monkeypatch.setattr("os.replace", lambda *paths: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            result.save(file)
        assert file.read_bytes() == before
        assert [path.name for path in tmp_path.iterdir() if "zip" in path.name] == ["kept.zip"]

    def test_it_reads_without_tradelib(self, result, file):
        with zipfile.ZipFile(file) as archive:
            document = json.loads(archive.read("document.json"))
            trades = np.load(io.BytesIO(archive.read("arrays/trades.npy")), allow_pickle=False)
            assert archive.testzip() is None
        profit = trades[:, document["columns"]["trades"].index("profit")]
        np.testing.assert_array_equal(profit, result.trades["profit"])
        reasons = [document["codes"]["reason"][int(code)] for code in trades[:-1, TRADE_COLUMNS.index("reason")]]
        assert reasons == list(result.trades["reason"][:-1])
        assert document["metrics"]["sharpe_ratio"] == result.metrics["sharpe_ratio"]

    def test_any_flipped_bit_is_noticed(self, file):
        content = file.read_bytes()
        for place in np.linspace(0, len(content) - 1, 60).astype(int).tolist():
            file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            with pytest.raises(DataError, match="damaged or was changed|not a saved result"):
                load_result(file)

    def test_a_shortened_file_is_noticed(self, file):
        file.write_bytes(file.read_bytes()[:-200])
        with pytest.raises(DataError, match="damaged or was changed"):
            load_result(file)

    def test_the_seal_is_the_digest_of_everything_before_it(self, file):
        content = file.read_bytes()
        assert hashlib.sha256(content[:-64]).hexdigest().encode() == content[-64:]

    @pytest.mark.parametrize("content", [b"", b"hello, I am not a result", b"PK\x03\x04"])
    def test_something_else_is_refused(self, tmp_path, content):
        (tmp_path / "other.zip").write_bytes(content)
        with pytest.raises(DataError, match=r"other\.zip"):
            load_result(tmp_path / "other.zip")

    def test_a_missing_file_is_named(self, tmp_path):
        with pytest.raises(DataError, match=r"cannot read .*nowhere\.zip"):
            load_result(tmp_path / "nowhere.zip")

    def test_a_later_version_is_refused_with_both_numbers(self, tmp_path):
        write_archive(tmp_path / "later.zip", "tradelib-result", 7, {}, {})
        with pytest.raises(DataError, match=r"version 7 .* reads up to 1"):
            load_result(tmp_path / "later.zip")

    def test_tables_of_another_machine_are_refused_and_not_misread(self, file):
        document, arrays = read_archive(file, "tradelib-result", 1)
        arrays["machine_account"] = np.append(arrays["machine_account"], 0.0)
        write_archive(file, "tradelib-result", 1, document, arrays)
        with pytest.raises(DataError, match=r"machine_account has \d+ columns, the machine of this tradelib \d+"):
            load_result(file)

    def test_another_format_is_refused(self, tmp_path):
        write_archive(tmp_path / "sweep.zip", "tradelib-sweep", 1, {}, {})
        with pytest.raises(DataError, match="holds 'tradelib-sweep', not 'tradelib-result'"):
            load_result(tmp_path / "sweep.zip")

    def test_objects_are_never_unpickled(self, tmp_path):
        with pytest.raises(ValueError, match="Object arrays cannot be saved"):
            write_archive(tmp_path / "o.zip", "x", 1, {}, {"bad": np.array([{}], dtype=object)})
        content = io.BytesIO()
        np.save(content, np.array([{}], dtype=object), allow_pickle=True)
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("document.json", json.dumps({"format": "x", "version": 1}))
            archive.writestr("arrays/bad.npy", content.getvalue())
            archive.comment = b"0" * 64
        body = packed.getvalue()[:-64]
        (tmp_path / "o.zip").write_bytes(body + hashlib.sha256(body).hexdigest().encode())
        with pytest.raises(ValueError, match="Object arrays cannot be loaded"):
            read_archive(tmp_path / "o.zip", "x", 1)

    def test_an_unknown_strategy_is_an_error_or_a_result_without_a_rule(self, tmp_path, monkeypatch):
        class Gone(Strategy):
            def signals(self, bars: pd.DataFrame) -> pd.Series:
                return pd.Series(1.0, bars.index)

        done = evaluate(Gone(), BARS)
        file = done.save(tmp_path / "gone.zip")
        monkeypatch.delitem(base._registry, "Gone")
        with pytest.raises(ParameterError, match=r"there is no strategy 'Gone'.*with_rule=False"):
            load_result(file)
        again = load_result(file, with_rule=False)
        assert (again.rule, again.title) == (None, "Gone on PROBE")
        pd.testing.assert_series_equal(again.equity, done.equity, check_exact=True)

    def test_the_columns_that_a_file_names_are_those_of_the_machine(self):
        for name, columns in SAVED_COLUMNS.items():
            if name != "trades":
                for place, column in enumerate(columns.split()):
                    assert getattr(book, column.upper()) == place
        assert len(SAVED_COLUMNS["orders"].split()) == book.ORDER_COLUMNS
        assert len(SAVED_COLUMNS["fills"].split()) == book.FILL_COLUMNS
        assert len(SAVED_COLUMNS["entries"].split()) == book.ENTRY_COLUMNS


class TestRejectedOrders:
    """Given a size of all that the account has, nothing is left for the fee: the orders are rejected."""

    @pytest.fixture(scope="class")
    def greedy(self) -> Result:
        return evaluate(RULE.replace(sizing=FixedFraction(fraction=1.0), exits=None), BARS)

    def test_they_are_counted_with_the_most_frequent_reason(self, greedy):
        rejected = greedy.orders[greedy.orders["status"] == "rejected"]["reason"]
        found = greedy.rejections
        assert (found.orders, found.mostly) == (len(rejected), rejected.value_counts().iloc[0])
        assert found.orders == greedy.metrics["rejected_orders"] > 0
        assert found.reason == rejected.value_counts().index[0]

    def test_the_summary_marks_them_and_names_reason_and_remedy_in_what_pandas_shows(self, greedy):
        summary = greedy.summary()["value"]
        assert summary["Rejected orders"] == f"{greedy.rejections.orders} ⚠"
        assert summary["⚠ Mostly because"] == "not enough equity for this exposure at the fill …"
        assert summary["⚠ What to do"] == "lower the size, or set insufficient_cash='reduce'"
        assert "..." not in repr(greedy.summary())

    def test_the_card_warns_in_one_sentence(self, greedy):
        card = html.unescape(greedy._repr_html_())
        assert f"⚠ {greedy.rejections.orders} orders were rejected: not enough equity for this exposure" in card
        assert "Lower the size, or set insufficient_cash='reduce'." in card
        assert "result.orders" in card

    def test_of_several_reasons_the_most_frequent_is_told_with_its_share(self):
        causes = [book.BELOW_LOT, book.NO_CASH, book.NO_CASH, book.ALLOWED]
        orders = np.zeros((4, book.ORDER_COLUMNS))
        orders[:, book.CAUSE] = causes
        orders[:, book.STATUS] = [book.REJECTED] * 3 + [book.FILLED]
        found = rejections(SimpleNamespace(orders=orders))
        assert (found.orders, found.mostly, found.reason) == (3, 2, book.CAUSES[int(book.NO_CASH)])

    def test_a_run_without_them_is_not_troubled(self, result):
        assert result.rejections == (0, 0, "", "")
        assert "⚠" not in result._repr_html_()
        assert not result.summary().index.str.contains("⚠").any()

    def test_every_remedy_is_for_a_cause_and_fits_a_line(self):
        assert {book.CAUSES[int(cause)] for cause in REMEDIES} <= set(book.CAUSES)
        assert max(map(len, REMEDIES.values())) <= 49


class TestKindsOfPlots:
    def test_the_signature_and_the_docstring_name_every_kind(self, result):
        assert get_args(PlotKind) == tuple(KINDS)
        assert all(f'"{kind}"' in str(Result.plot.__doc__) for kind in KINDS)


@pytest.mark.filterwarnings("error")
def test_without_equity_there_is_no_weight() -> None:
    """An account that stands at exactly zero: nothing to divide by, and no warning of numpy."""
    rule = DecisionRule(strategy=TrendFollowing(fast=2, slow=4), sizing=FixedFraction(fraction=0.5))
    result = evaluate(rule, probe_bars(40, seed=3))
    equity = result.simulation.equity.copy()
    equity[-2:] = 0.0
    broke = dataclasses.replace(result, simulation=result.simulation._replace(equity=equity))
    expected = [False] * 38 + [True] * 2
    assert broke.positions["weight"].isna().tolist() == expected
    assert broke.weights.isna().to_numpy().ravel().tolist() == expected
    assert broke.exposure.isna().all(axis=1).tolist() == expected
