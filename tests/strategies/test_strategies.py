"""The strategy contract: frozen typed parameters, a registry that helps, and signals that are checked."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tradelib.errors import ParameterError
from tradelib.indicators import ema, probe_bars, sma
from tradelib.strategies import Strategy, TrendFollowing, available, check_signals, create, describe

BARS = probe_bars(500, seed=5)


class TestParameters:
    def test_they_cannot_be_changed(self):
        with pytest.raises(Exception, match="frozen"):
            TrendFollowing().fast = 3

    @pytest.mark.parametrize(
        ("params", "message"),
        [
            ({"fsat": 10}, "TrendFollowing has no parameter 'fsat'; did you mean 'fast'"),
            ({"fast": 0}, "fast = 0: Input should be greater than or equal to 1"),
            ({"fast": 2.5}, "fast = 2.5"),
            ({"fast": "many"}, "fast = 'many'"),
            ({"fast": 200, "slow": 50}, r"fast \(200\) must be below slow \(50\)"),
            ({"average": "wma"}, "average = 'wma'"),
            ({"direction": "short"}, "direction = 'short'"),
        ],
    )
    def test_what_is_wrong_is_named(self, params, message):
        with pytest.raises(ParameterError, match=message):
            create("TrendFollowing", params)

    def test_a_copy_is_validated_too(self):
        assert TrendFollowing().replace(fast=10).fast == 10
        with pytest.raises(ParameterError, match="must be below slow"):
            TrendFollowing().replace(fast=500)


class TestRegistry:
    def test_subclassing_registers_and_the_schema_is_derived(self):
        class Registered(Strategy):
            level: float = 1.0

            def signals(self, bars):
                return pd.Series(self.level, bars.index)

        assert available()["Registered"] is Registered
        assert create("Registered", {"level": 0.5}) == Registered(level=0.5)
        assert describe("Registered")["properties"]["level"]["default"] == 1.0

    def test_an_unknown_name_is_refused_with_the_nearest(self):
        with pytest.raises(ParameterError, match="did you mean 'TrendFollowing'"):
            create("TrendFolowing")

    def test_a_package_adds_its_own_by_entry_point(self, tmp_path, monkeypatch):
        info = tmp_path / "thirdparty-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: thirdparty\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[tradelib.strategies]\nThirdParty = thirdparty_strategies:ThirdParty\n")
        (tmp_path / "thirdparty_strategies.py").write_text(
            "import pandas as pd\nfrom tradelib.strategies import Strategy\n\n\nclass ThirdParty(Strategy):\n"
            "    def signals(self, bars):\n        return pd.Series(1.0, bars.index)\n"
        )
        monkeypatch.syspath_prepend(str(tmp_path))
        assert create("ThirdParty").signals(BARS).eq(1.0).all()


class TestTrendFollowing:
    @pytest.mark.parametrize(("kind", "average"), [("sma", sma), ("ema", ema)])
    def test_it_is_long_exactly_where_the_fast_average_is_above(self, kind, average):
        signal = TrendFollowing(fast=5, slow=20, average=kind).signals(BARS)
        expected = (average(BARS["close"], 5) > average(BARS["close"], 20)).astype(float)
        assert signal.iloc[:19].isna().all()
        np.testing.assert_array_equal(signal.iloc[19:], expected.iloc[19:])

    def test_warmup_is_the_slow_window(self):
        assert TrendFollowing(fast=5, slow=300).warmup == 300

    @settings(max_examples=30, deadline=None)
    @given(fast=st.integers(1, 20), gap=st.integers(1, 40), factor=st.floats(0.01, 100), seed=st.integers(0, 99))
    def test_signals_do_not_depend_on_the_unit_of_the_price(self, fast, gap, factor, seed):
        bars = probe_bars(200, seed=seed)
        rule = TrendFollowing(fast=fast, slow=fast + gap)
        scaled = bars.assign(close=bars["close"] * factor)
        one, other = rule.signals(bars), rule.signals(scaled)
        assert (one.fillna(9) != other.fillna(9)).mean() < 0.02  # ties at rounding only


@pytest.mark.parametrize(
    ("signals", "message"),
    [
        (np.zeros(500), "must return a Series on the index of the bars"),
        (pd.Series(0.0, BARS.index[:-1]), "must return a Series on the index of the bars"),
        (pd.Series(1.5, BARS.index), "signal 1.5 at 2000-01-01"),
        (pd.Series(np.where(np.arange(500) == 7, np.nan, 1.0), BARS.index), "signal nan at 2000-01-08"),
        (pd.Series(np.where(np.arange(500) == 7, np.inf, 1.0), BARS.index), "signal inf at 2000-01-08"),
    ],
)
def test_signals_that_break_the_contract_are_refused_with_their_bar(signals, message):
    with pytest.raises(ParameterError, match=message):
        check_signals(signals, BARS, "Broken")


def test_signals_may_be_blank_while_warming_up_and_for_ever():
    warming = pd.Series(np.where(np.arange(500) < 100, np.nan, -1.0), BARS.index)
    assert check_signals(warming, BARS).iloc[100:].eq(-1.0).all()
    assert check_signals(pd.Series(np.nan, BARS.index), BARS).isna().all()
