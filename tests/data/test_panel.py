"""The panel: bars of several symbols on one grid, checked, immutable; faults named by bar and symbol."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.support import changed, market
from tradelib.data import panel as panel_module
from tradelib.data.bars import COLUMNS, check_bars, content_digest, make_bars, resample, window
from tradelib.data.panel import Panel, as_panel, nest, panel_from_wide
from tradelib.data.sources import embedded
from tradelib.errors import DataError

DAYS = pd.date_range("2024-01-01", periods=4, freq="D", tz="UTC", name="time")
CLOSES = pd.DataFrame({"A": [10.0, 11.0, 12.0, 9.0], "B": [20.0, 19.0, 21.0, 22.0]}, index=DAYS)
WIDE = {"timeframe": "1d", "calendar": "24/7"}


def named(symbol: str, seed: int, count: int = 50, **words: str) -> pd.DataFrame:
    """Bars of a random walk under another name."""
    bars = market(count, seed=seed)
    bars.attrs = {**bars.attrs, "symbol": symbol, **words}
    return bars


@pytest.fixture
def frames() -> dict[str, pd.DataFrame]:
    return {symbol: named(symbol, seed) for seed, symbol in enumerate(("A", "B", "C"))}


@pytest.fixture
def panel(frames) -> Panel:
    return as_panel(frames)


class TestOneSymbol:
    def test_it_holds_what_the_bars_hold(self):
        bars = market(50)
        panel = as_panel(bars)
        assert (panel.symbols, panel.shape, len(panel)) == (("BTC/EUR",), (50, 1), 50)
        assert (panel.timeframe, panel.calendar, panel.source) == ("1h", "24/7", "test")
        assert panel.periods_per_year == 8760
        for name in COLUMNS:
            np.testing.assert_array_equal(getattr(panel, name)[:, 0], bars[name])
        pd.testing.assert_index_equal(panel.index, bars.index)

    def test_nothing_is_copied(self):
        bars = market(50)
        assert np.shares_memory(as_panel(bars).close, bars["close"].to_numpy())

    def test_its_digest_is_that_of_its_bars(self):
        bars = market(50)
        assert as_panel(bars).digest == as_panel({"BTC/EUR": bars}).digest == content_digest(bars)

    def test_times_in_microseconds_are_the_same_panel(self):
        """The end of a day is known to the nanosecond, which microseconds cannot hold."""
        bars = market(50)
        coarse = bars.set_axis(bars.index.as_unit("us"))
        coarse.attrs = bars.attrs
        panel = as_panel(coarse)
        assert panel.digest == as_panel(bars).digest
        assert len(panel.window(None, "2024-01-01")) == 24

    def test_a_panel_is_taken_as_it_is(self, panel):
        assert as_panel(panel) is panel

    def test_the_embedded_market_is_one(self):
        bars = embedded("sp500")
        assert as_panel(bars).digest == bars.attrs["digest"]

    @pytest.mark.parametrize("given", [None, 7, "bars", [market(5)]])
    def test_what_is_no_bars_is_refused(self, given):
        with pytest.raises(DataError, match="bars must be a DataFrame"):
            as_panel(given)


class TestImmutable:
    def test_arrays_are_read_only(self, panel):
        for one in (panel, as_panel(market(5)), panel.select(["A"]), panel.window("2024-01-02")):
            for name in COLUMNS:
                with pytest.raises(ValueError, match="read-only"):
                    getattr(one, name)[0, 0] = 1.0

    def test_fields_cannot_be_set(self, panel):
        with pytest.raises(AttributeError):
            panel.close = panel.open

    @pytest.mark.parametrize(
        "write",
        [
            lambda frame: frame.__setitem__("close", 1.0),
            lambda frame: frame.loc.__setitem__((frame.index[0], "close"), 1.0),
            lambda frame: frame.iloc.__setitem__((0, 3), 1.0),
            lambda frame: frame.iloc.__setitem__((slice(None), slice(None)), 1.0),
            lambda frame: frame.mul(2.0).pipe(frame.update),
        ],
        ids=["column", "loc", "iloc", "all", "update"],
    )
    def test_writing_into_a_frame_changes_no_panel(self, write, panel):
        mine = market(50)
        before, kept = mine["close"].to_numpy().copy(), as_panel(mine)
        write(mine)
        np.testing.assert_array_equal(kept.close[:, 0], before)
        handed_out, values = panel.bars("A"), panel.close.copy()
        write(handed_out)
        np.testing.assert_array_equal(panel.close, values)
        np.testing.assert_array_equal(panel.bars("A")["close"], values[:, 0])

    def test_wide_tables_are_copied(self):
        mine = CLOSES[["A"]].copy()
        panel = panel_from_wide(mine, **WIDE)
        mine.iloc[0, 0] = 99.0
        assert panel.close[0, 0] == 10.0

    def test_attrs_of_bars_handed_out_are_the_callers_own(self, panel):
        panel.bars("A").attrs["symbol"] = "Z"
        assert panel.bars("A").attrs["symbol"] == "A"


class TestManySymbols:
    def test_columns_keep_the_order_of_the_mapping(self, frames):
        panel = as_panel({name: frames[name] for name in ("C", "A")})
        assert panel.symbols == ("C", "A")
        np.testing.assert_array_equal(panel.high[:, 0], frames["C"]["high"])

    def test_bars_come_out_as_they_went_in(self, frames, panel):
        for symbol, frame in frames.items():
            bars = check_bars(panel.bars(symbol), verify_digest=True)
            pd.testing.assert_frame_equal(bars, frame, check_freq=False)
            assert bars.attrs["symbol"] == symbol

    def test_a_frame_of_fields_by_symbol_is_the_same_panel(self, panel):
        assert as_panel(panel.to_frame()).digest == panel.digest

    def test_such_a_frame_may_hold_whole_numbers_other_fields_and_another_zone(self, panel):
        frame = panel.to_frame()
        frame[("B", "adjusted")] = 1.0
        shuffled = frame[sorted(frame.columns, reverse=True)].tz_convert("Europe/Berlin")
        for table in (shuffled, shuffled.astype({("A", "volume"): int})):
            table.attrs = {"timeframe": "1h", "calendar": "24/7"}
            again = as_panel(table)
            assert again.symbols == ("C", "B", "A")
            np.testing.assert_array_equal(again.close, panel.close[:, ::-1])
            pd.testing.assert_index_equal(again.index, panel.index, check_names=True)

    def test_selecting_and_cutting(self, panel):
        part = panel.select(["C", "B"]).window("2024-01-01 10:00", "2024-01-01 12:00")
        assert (part.symbols, part.shape) == (("C", "B"), (3, 2))
        np.testing.assert_array_equal(part.low, panel.low[10:13][:, [2, 1]])

    def test_every_part_of_the_content_is_in_the_digest(self, frames, panel):
        others = [
            as_panel({**frames, "B": changed(frames["B"], 7, volume=1.0)}),
            as_panel(dict(reversed(frames.items()))),
            as_panel({"A": frames["A"], "B": frames["B"], "D": frames["C"]}),
            panel.window("2024-01-01 01:00"),
            panel.select(["A", "B"]),
        ]
        assert len({panel.digest, *(other.digest for other in others)}) == 6

    def test_many_names_are_told_shortly(self):
        panel = panel_from_wide(pd.DataFrame(1.0, DAYS, [f"S{i}" for i in range(9)]), **WIDE)
        assert repr(panel).startswith("Panel(S0, S1, S2, S3 and 5 more: 4 bars of 1d, 2024-01-01")


class TestRefusals:
    def test_nothing(self):
        with pytest.raises(DataError, match="there are no symbols"):
            as_panel({})

    def test_a_hole_in_one_symbol(self, frames):
        frames["B"] = frames["B"].drop(frames["B"].index[7])
        with pytest.raises(DataError, match=r"^B has no bar at 2024-01-01 07:00:00\+00:00, A has one"):
            as_panel(frames)

    def test_a_bar_that_only_a_later_symbol_has(self, frames):
        frames["A"] = frames["A"].drop(frames["A"].index[7])
        with pytest.raises(DataError, match=r"^A has no bar at 2024-01-01 07:00:00\+00:00, B has one"):
            as_panel(frames)

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            ({"timeframe": "30m"}, "C has the timeframe '30m', A has '1h'"),
            ({"calendar": "XNYS"}, "C has the calendar 'XNYS', A has '24/7'"),
        ],
    )
    def test_symbols_that_share_no_grid(self, frames, words, message):
        frames["C"] = named("C", 3, **words)
        with pytest.raises(DataError, match=message):
            as_panel(frames)

    @pytest.mark.parametrize(
        ("cells", "message"),
        [
            ({"close": np.nan}, "not a finite number: close is nan"),
            ({"open": np.inf}, "not a finite number: open is inf"),
            ({"low": -1.0}, "a price must be positive: low is -1.0"),
            ({"volume": -1.0}, "negative volume"),
            ({"high": 1.0}, "high does not enclose open and close"),
        ],
    )
    @pytest.mark.parametrize("form", ["mapping", "frame"])
    def test_what_is_no_bar_names_symbol_and_bar(self, frames, form, cells, message):
        frames["B"] = changed(frames["B"], 9, **cells)
        bars = frames
        if form == "frame":
            bars = pd.concat(frames, axis=1)
            bars.attrs = {"timeframe": "1h", "calendar": "24/7"}
        with pytest.raises(DataError, match=rf"^B: row 9, 2024-01-01 09:00:00\+00:00: {message}"):
            as_panel(bars)

    @pytest.mark.parametrize("zone", ["Europe/Berlin", None])
    def test_times_in_another_zone_in_one_of_them(self, frames, zone):
        frames["B"] = frames["B"].tz_convert("Europe/Berlin") if zone else frames["B"].tz_localize(None)
        frames["B"].attrs = frames["A"].attrs
        with pytest.raises(DataError, match=r"^B: the (index must be UTC|times are naive)"):
            as_panel(frames)

    def test_a_frame_that_lost_its_attrs(self, panel):
        frame = panel.to_frame()
        frame.attrs.pop("calendar")
        with pytest.raises(DataError, match="attrs lack calendar: pandas lost them"):
            as_panel(frame)

    def test_bars_that_lost_their_attrs(self):
        bars = market(5)
        bars.attrs = {}
        with pytest.raises(DataError, match="attrs lack symbol, timeframe, source, calendar, digest"):
            as_panel(bars)

    def test_a_column_that_occurs_twice(self, panel):
        frame = panel.to_frame()
        twice = pd.concat([frame, frame[["A"]]], axis=1)
        twice.attrs = frame.attrs
        with pytest.raises(DataError, match="the columns hold .*'A', 'open'.* twice"):
            as_panel(twice)

    def test_a_symbol_without_a_field(self, panel):
        frame = panel.to_frame().drop(columns=[("B", "volume")])
        frame.attrs = {"timeframe": "1h", "calendar": "24/7"}
        with pytest.raises(DataError, match=r"^B: columns \['volume'\] are missing"):
            as_panel(frame)

    def test_an_unknown_symbol_or_an_empty_stretch(self, panel):
        for ask in (panel.bars, lambda name: panel.select(["A", name])):
            with pytest.raises(DataError, match="no symbol 'Z' in this panel of A, B, C"):
                ask("Z")
        with pytest.raises(DataError, match="no bar lies between 2030-01-01 and None: the bars run from 2024-01-01"):
            panel.window("2030-01-01")


class TestWide:
    def test_what_is_not_given_is_derived_by_the_stated_rule(self):
        """Open: the close before, first its own. High and low: the larger and the smaller of both. No volume."""
        panel = panel_from_wide(CLOSES, **WIDE)
        np.testing.assert_array_equal(panel.open, [[10, 20], [10, 20], [11, 19], [12, 21]])
        np.testing.assert_array_equal(panel.high, [[10, 20], [11, 20], [12, 21], [12, 22]])
        np.testing.assert_array_equal(panel.low, [[10, 20], [10, 19], [11, 19], [9, 21]])
        np.testing.assert_array_equal(panel.volume, np.zeros((4, 2)))
        assert panel.source == "wide"

    def test_what_is_given_is_kept(self):
        tables = {name: CLOSES * factor for name, factor in (("open", 1.0), ("high", 1.1), ("low", 0.9))}
        panel = panel_from_wide(CLOSES, **tables, volume=CLOSES * 7, **WIDE)
        for name, table in {**tables, "close": CLOSES, "volume": CLOSES * 7}.items():
            np.testing.assert_array_equal(getattr(panel, name), table)

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 0.0, -3.0])
    def test_what_is_no_price_names_symbol_and_bar(self, bad):
        closes = changed(CLOSES, 2, B=bad)
        with pytest.raises(DataError, match=rf"^B at 2024-01-03 00:00:00\+00:00: close is {bad}"):
            panel_from_wide(closes, **WIDE)

    @pytest.mark.parametrize(
        ("name", "value", "message"),
        [
            ("high", 9.5, "A at 2024-01-02 .*: high is 9.5"),
            ("low", 10.5, "A at 2024-01-02 .*: low is 10.5"),
            ("volume", -1.0, "A at 2024-01-02 .*: volume is -1.0"),
            ("volume", np.nan, "A at 2024-01-02 .*: volume is nan"),
            ("open", 0.0, "A at 2024-01-02 .*: open is 0.0"),
        ],
    )
    def test_so_do_other_tables(self, name, value, message):
        tables = {"high": CLOSES * 2, "low": CLOSES / 3, "volume": CLOSES, "open": CLOSES}
        with pytest.raises(DataError, match=message):
            panel_from_wide(CLOSES, **{name: changed(tables[name], 1, A=value)}, **WIDE)

    @pytest.mark.parametrize("other", [CLOSES.iloc[1:], CLOSES[["B", "A"]], CLOSES.set_axis(DAYS + pd.Timedelta("1D"))])
    def test_tables_share_their_axes(self, other):
        with pytest.raises(DataError, match="must share index and columns with close: those of high are others"):
            panel_from_wide(CLOSES, high=other, **WIDE)

    def test_words_are_no_numbers(self):
        with pytest.raises(DataError, match="the table close holds what is not a number"):
            panel_from_wide(CLOSES.astype(object).replace(11.0, "eleven"), **WIDE)

    @pytest.mark.parametrize(
        ("index", "message"),
        [
            (DAYS.tz_localize(None), "the times are naive"),
            (DAYS[[0, 2, 1, 3]], "the time lies before the row above"),
            (DAYS[[0, 1, 1, 3]], "the time occurs twice"),
            (DAYS + pd.Timedelta("1h"), "not on the grid of 1d"),
            (range(4), "the index must hold the bars' open times"),
        ],
    )
    def test_times_keep_the_bars_contract(self, index, message):
        with pytest.raises(DataError, match=message):
            panel_from_wide(CLOSES.set_axis(index), **WIDE)

    @pytest.mark.parametrize("columns", [["A", "A"], []])
    def test_each_symbol_once_and_at_least_one(self, columns):
        with pytest.raises(DataError, match="the columns must be symbols, each once"):
            panel_from_wide(CLOSES[columns], **WIDE)

    @given(st.data())
    @settings(max_examples=40, deadline=None)
    def test_any_table_of_prices_is_the_panel_of_its_bars(self, data):
        bars, symbols = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 4))
        prices = st.floats(1e-6, 1e9, allow_nan=False)
        values = data.draw(st.lists(prices, min_size=bars * symbols, max_size=bars * symbols))
        index = pd.date_range("2024-01-01", periods=bars, freq="D", tz="UTC", name="time")
        names = [f"S{i}" for i in range(symbols)]
        panel = panel_from_wide(pd.DataFrame(np.reshape(values, (bars, symbols)), index, names), **WIDE)
        again = as_panel({name: panel.bars(name) for name in names})
        assert again.digest == panel.digest == as_panel(panel.to_frame()).digest
        np.testing.assert_array_equal(panel.close, np.reshape(values, (bars, symbols)))


class TestNest:
    def test_rows_of_each_bar(self):
        hours = market(72)
        rows = nest(as_panel(resample(hours, "1d")), as_panel(hours))
        assert (rows.dtype, rows.tolist()) == (np.int64, [0, 24, 48, 72])

    def test_a_bar_without_finer_bars_is_told_by_itself(self):
        hours = market(72)
        days, part = as_panel(resample(hours, "1d")), window(hours, "2024-01-02", "2024-01-02 11:00")
        assert nest(days, as_panel(part)).tolist() == [0, 0, 12, 12]

    def test_finer_bars_before_and_after_do_no_harm(self):
        hours = market(96)
        days = as_panel(resample(hours, "1d")).window("2024-01-02", "2024-01-03")
        assert nest(days, as_panel(hours)).tolist() == [24, 48, 72]

    @given(st.integers(2, 40), st.sampled_from(["2h", "4h", "6h", "12h", "1d"]), st.integers(0, 2**32 - 1))
    @settings(max_examples=25, deadline=None)
    def test_the_finer_bars_of_a_bar_are_those_it_is_made_of(self, days, timeframe, seed):
        hours = market(24 * days, seed=seed)
        coarse, fine = as_panel(resample(hours, timeframe)), as_panel(hours)
        rows = nest(coarse, fine)
        highs = [fine.high[a:b, 0].max() for a, b in pairwise(rows)]
        np.testing.assert_array_equal(highs, coarse.high[:, 0])

    def test_other_symbols(self):
        with pytest.raises(DataError, match="finer bars hold B, the bars A"):
            nest(as_panel(named("A", 1)), as_panel(named("B", 1)))

    @pytest.mark.parametrize("timeframe", ["1d", "2d", "1h"])
    def test_bars_that_are_not_finer_or_do_not_divide(self, timeframe):
        hours = market(24 * 6)
        same = as_panel(hours) if timeframe == "1h" else as_panel(resample(hours, timeframe))
        with pytest.raises(DataError, match="do not divide bars of 1h"):
            nest(as_panel(hours), same)

    @pytest.mark.parametrize(("name", "factor"), [("high", 3.0), ("low", 0.1)])
    def test_a_finer_price_outside_of_its_bar(self, name, factor):
        hours = market(72)
        wrong = changed(hours, 30, **{name: hours[name].iloc[30] * factor})
        message = (
            rf"BTC/EUR: the finer bar at 2024-01-02 06:00:00\+00:00 has {name} .*, outside of its bar at 2024-01-02"
        )
        with pytest.raises(DataError, match=message):
            nest(as_panel(resample(hours, "1d")), as_panel(wrong))

    def test_a_finer_bar_between_the_bars(self):
        hours = market(72)
        gapped = as_panel(resample(hours, "1d").drop(pd.Timestamp("2024-01-02", tz="UTC")))
        with pytest.raises(DataError, match="the finer bar at 2024-01-02 00:00:00.* lies in no bar"):
            nest(gapped, as_panel(hours))


class TestTheSameBarsAgain:
    """The last panel is given again to the bars that it was made of, and only to them."""

    @pytest.fixture
    def bars(self) -> pd.DataFrame:
        return make_bars(named("A", 1))

    def test_they_are_checked_once(self, bars):
        assert as_panel(bars) is as_panel(bars)
        assert as_panel(bars.copy(deep=False)) is as_panel(bars)

    def test_other_bars_come_between(self, bars):
        first = as_panel(bars)
        assert as_panel(make_bars(named("A", 2))).digest != first.digest
        assert as_panel(bars).digest == first.digest

    def test_a_price_that_was_written_is_seen(self, bars):
        before = as_panel(bars)
        bars.loc[bars.index[3], "close"] = bars["low"].iloc[3]
        after = as_panel(bars)
        assert after.close[3, 0] == bars["low"].iloc[3] != before.close[3, 0]
        assert after.digest == content_digest(bars) != before.digest

    def test_a_wrong_price_that_was_written_is_refused(self, bars):
        as_panel(bars)
        bars.iloc[5, 3] = -1.0
        with pytest.raises(DataError, match="close"):
            as_panel(bars)

    @pytest.mark.parametrize("change", [{"symbol": "B"}, {"source": "elsewhere"}, {"timeframe": "7m"}])
    def test_the_same_prices_under_another_name_are_others(self, bars, change):
        before = as_panel(bars)
        bars.attrs.update(change)
        if "timeframe" in change:
            with pytest.raises(DataError):
                as_panel(bars)
        else:
            after = as_panel(bars)
            assert after is not before
            assert {"symbol": after.symbols[0], "source": after.source}[next(iter(change))] == next(
                iter(change.values())
            )

    def test_other_times_are_others(self, bars):
        before = as_panel(bars)
        bars.index = bars.index + pd.Timedelta("1D")
        assert as_panel(bars).index[0] == before.index[0] + pd.Timedelta("1D")

    def test_a_window_of_them_is_another_panel(self, bars):
        assert len(as_panel(window(bars, bars.index[0], bars.index[9]))) == 10
        assert len(as_panel(bars.iloc[:20])) == 20

    def test_memory_that_somebody_else_has_is_looked_at_again(self):
        source = market(60)
        memory = source.to_numpy().copy()
        bars = pd.DataFrame(memory, source.index, list(COLUMNS), copy=False)
        bars.attrs = dict(source.attrs)
        before = as_panel(bars)
        digest = before.digest
        memory[7, 3] = memory[7, 2]
        assert as_panel(bars) is not before
        assert as_panel(bars).digest != digest

    def test_large_bars_are_not_held(self, bars, monkeypatch):
        monkeypatch.setattr(panel_module, "_KEPT_BYTES", 100)
        assert as_panel(bars) is not as_panel(bars)
