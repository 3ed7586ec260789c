"""Content that was met before is recognised, and any change of it is noticed."""

import hashlib

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.support import changed, market
from tradelib._jit import interpreted
from tradelib.backtest import DecisionRule, TrialLedger, run
from tradelib.backtest.wiring import trial_of
from tradelib.data import content
from tradelib.data.bars import COLUMNS, check_bars, content_digest, make_bars
from tradelib.data.content import WORTHWHILE, Memory, are_bars, count_bad, digest_of, fingerprint, mixed_sum
from tradelib.errors import DataError
from tradelib.strategies import TrendFollowing

LONG = WORTHWHILE + 7


@pytest.fixture(scope="module")
def long_bars() -> pd.DataFrame:
    return market(LONG, timeframe="1m")


def plain_digest(bars: pd.DataFrame) -> str:
    """SHA-256 as the documentation of `content_digest` words it, without any memory."""
    head = f"tradelib bars 1\n{bars.attrs['symbol']}\n{bars.attrs['timeframe']}\n{len(bars)}\n".encode()
    parts = [bars.index.as_unit("ns").asi8.astype("<i8").tobytes(), *(bars[c].to_numpy().tobytes() for c in COLUMNS)]
    return hashlib.sha256(head + b"".join(parts)).hexdigest()


class TestMixedSum:
    def test_the_first_words_of_splitmix64(self):
        """SplitMix64 from state 0, https://prng.di.unimi.it/splitmix64.c: 0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4.

        The generator adds the golden number before it mixes: its outputs are the mixes of the places 1 and 2 with 0.
        """
        mixes = [mixed_sum(np.zeros(n, np.uint64)) for n in (1, 2, 3)]
        assert mixes == [0, 0xE220A8397B1DCDAF, (0xE220A8397B1DCDAF + 0x6E789E6AA1B965F4) % 2**64]

    @given(st.lists(st.integers(0, 2**64 - 1), max_size=50))
    @settings(max_examples=50, deadline=None)
    def test_compiled_and_interpreted_agree(self, words):
        array = np.array(words, np.uint64)
        array.flags.writeable = False
        with interpreted(), np.errstate(over="ignore"):
            expected = int(mixed_sum(array))
        assert mixed_sum(array) == expected

    @given(st.integers(0, 999), st.integers(0, 63))
    @settings(max_examples=100, deadline=None)
    def test_every_bit_of_every_place_counts(self, place, bit):
        words = np.random.default_rng(0).integers(0, 2**63, 1_000).astype(np.uint64)
        before = mixed_sum(words)
        words[place] ^= np.uint64(1) << np.uint64(bit)
        assert mixed_sum(words) != before

    def test_places_count(self):
        assert mixed_sum(np.array([1, 2], np.uint64)) != mixed_sum(np.array([2, 1], np.uint64))


class TestFingerprint:
    def test_it_is_not_taken_where_it_does_not_pay(self):
        few, many = [np.zeros(10)] * 6, [np.zeros(WORTHWHILE)] * 6
        assert fingerprint(few) is None
        assert fingerprint(many) is not None
        with interpreted():
            assert fingerprint(many) is None

    def test_the_bits_decide_not_the_numbers(self):
        zeros = [np.zeros(WORTHWHILE)] * 6
        assert fingerprint([*zeros[:5], -zeros[5]]) != fingerprint(zeros)

    def test_arrays_cannot_trade_places_or_lengths(self):
        one, other = np.zeros(4 * WORTHWHILE), np.ones(4 * WORTHWHILE)
        assert fingerprint([one, other]) != fingerprint([other, one])
        assert fingerprint([one[:-1], other]) != fingerprint([one, other[:-1]])


class TestMemory:
    def test_what_was_not_used_for_longest_is_forgotten(self):
        memory = Memory(2)
        memory.put("a", 1)
        memory.put("b", 2)
        assert memory.get("a") == 1
        memory.put("c", 3)
        assert [memory.get(key) for key in "abc"] == [1, None, 3]


class TestDigest:
    def test_a_remembered_digest_is_the_digest(self, long_bars):
        for _ in range(2):
            assert content_digest(long_bars) == plain_digest(long_bars) == long_bars.attrs["digest"]

    def test_it_is_computed_once_per_content(self, long_bars, monkeypatch):
        content_digest(long_bars)
        monkeypatch.setattr(content.hashlib, "sha256", lambda *_: pytest.fail("computed again"))
        assert content_digest(long_bars.copy()) == long_bars.attrs["digest"]

    def test_the_head_counts(self, long_bars):
        renamed = long_bars.copy()
        renamed.attrs["symbol"] = "ETH/EUR"
        assert content_digest(renamed) == plain_digest(renamed) != long_bars.attrs["digest"]

    @pytest.mark.parametrize("column", COLUMNS)
    @pytest.mark.parametrize("row", [0, LONG // 2, LONG - 1])
    def test_one_value_changed_anywhere_is_another_digest(self, long_bars, row, column):
        other = changed(long_bars, row, **{column: np.nextafter(long_bars[column].iloc[row], np.inf)})
        assert content_digest(other) == plain_digest(other) != long_bars.attrs["digest"]

    def test_so_is_one_changed_time(self, long_bars):
        times = long_bars.index.to_series()
        times.iloc[-1] += pd.Timedelta("1ns")
        moved = long_bars.set_axis(pd.DatetimeIndex(times, name="time"))
        moved.attrs = long_bars.attrs
        assert content_digest(moved) == plain_digest(moved) != long_bars.attrs["digest"]

    def test_a_value_written_in_place_is_noticed_too(self):
        """Not even pandas knows of it: the array under the frame is written to directly."""
        values = np.ones((5, LONG))
        index = pd.date_range("2024-01-01", periods=LONG, freq="min", tz="UTC", name="time").as_unit("ns")
        frame = pd.DataFrame(dict(zip(COLUMNS, values, strict=True)), index, copy=False)
        before = content_digest(frame)
        values[3, 20_000] = 2.0
        assert frame["close"].iloc[20_000] == 2.0
        assert content_digest(frame) != before

    def test_strided_and_plain_arrays_have_one_digest(self):
        table = np.random.default_rng(0).normal(size=(WORTHWHILE * 6, 2))
        assert digest_of("x", [np.ascontiguousarray(table[:, 0])]) == digest_of("x", [table[:, 0].copy()])


ODD = [np.nan, np.inf, -np.inf, 0.0, -0.0, -1.0, 1e-300, 1e300, 100.0]


class TestAreBars:
    """The one pass that says whether a closer look is needed, beside the closer look itself."""

    @given(st.sampled_from(COLUMNS), st.sampled_from(ODD), st.integers(0, 19))
    @settings(max_examples=150, deadline=None)
    def test_it_says_no_exactly_where_the_closer_look_finds_something(self, column, value, row):
        bars = changed(market(20), row, **{column: value})
        columns = [bars[name].to_numpy() for name in COLUMNS]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("tradelib.data.bars.are_bars", lambda _: False)
            try:
                check_bars(bars)
                found = False
            except DataError:
                found = True
        assert are_bars(columns) is not found
        with interpreted():
            assert count_bad(*columns) == found
        assert count_bad(*columns) == found

    @pytest.mark.parametrize("row", [0, 1, LONG // 2, LONG - 1])
    @pytest.mark.parametrize("column", COLUMNS)
    def test_one_place_among_many(self, long_bars, column, row):
        columns = {name: long_bars[name].to_numpy() for name in COLUMNS}
        assert are_bars(list(columns.values()))
        columns[column] = columns[column].copy()
        columns[column][row] = np.nan
        assert not are_bars(list(columns.values()))

    def test_tables_of_several_symbols(self):
        table = np.ones((WORTHWHILE, 2))
        assert are_bars([table] * 5)
        assert not are_bars([table] * 4 + [np.asfortranarray(-table)])


class TestChecks:
    def test_good_bars_are_checked_once(self, long_bars, monkeypatch):
        check_bars(long_bars)
        monkeypatch.setattr("tradelib.data.bars._check_content", lambda _: pytest.fail("checked again"))
        assert check_bars(long_bars) is long_bars

    @pytest.mark.parametrize(
        ("cells", "message"),
        [
            ({"close": np.nan}, "not a finite number: close is nan"),
            ({"volume": -1.0}, "negative volume"),
            ({"low": 0.0}, "a price must be positive"),
            ({"high": 1e-3}, "high does not enclose open and close"),
        ],
    )
    def test_a_fault_planted_after_they_were_found_good_is_found(self, long_bars, cells, message):
        check_bars(long_bars)
        with pytest.raises(DataError, match=rf"row 30000, .*{message}"):
            check_bars(changed(long_bars, 30_000, **cells))

    def test_good_on_one_grid_is_not_good_on_another(self, long_bars):
        check_bars(long_bars)
        hourly = long_bars.copy()
        hourly.attrs["timeframe"] = "1h"
        with pytest.raises(DataError, match="not on the grid of 1h"):
            check_bars(hourly)

    @pytest.mark.parametrize("index", [{"name": "open_time"}, {"tz": "Europe/Berlin"}])
    def test_the_index_is_looked_at_every_time(self, long_bars, index):
        check_bars(long_bars)
        other = long_bars.copy()
        other.index = other.index.rename(index["name"]) if "name" in index else other.index.tz_convert(index["tz"])
        with pytest.raises(DataError, match="must be UTC and named 'time'"):
            check_bars(other)


def test_the_ledger_tells_two_data_sets_apart_that_differ_in_one_value(tmp_path, long_bars):
    """The planted fault of a digest that is remembered too well: the second run would count as the first."""
    ledger, rule = TrialLedger(tmp_path / "trials.sqlite"), DecisionRule(strategy=TrendFollowing(fast=5, slow=20))
    other = changed(long_bars, 100, volume=long_bars["volume"].iloc[100] + 1.0)
    results = [run(rule, bars, ledger=ledger) for bars in (long_bars, long_bars.copy(), other)]
    digests = [trial_of(result).data_digest for result in results]
    assert digests[0] == digests[1] == plain_digest(long_bars)
    assert digests[2] == plain_digest(other) != digests[0]
    assert list(ledger.families().values()) == [2]


def test_making_bars_again_gives_the_same_digest(long_bars):
    assert make_bars(long_bars).attrs["digest"] == long_bars.attrs["digest"]
