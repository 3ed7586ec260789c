"""Golden decisions come out bit for bit, in one call and bar by bar, or the difference is named."""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import Context
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest

from tradelib._jit import compiling, interpreted
from tradelib.backtest.decision import DecisionRule
from tradelib.bundle import make_golden, reproduce_golden
from tradelib.bundle.golden import Difference, check_golden, decision_rows
from tradelib.data.bars import make_bars
from tradelib.errors import BundleError
from tradelib.indicators.core import probe_bars
from tradelib.risk.sizing import FixedFraction
from tradelib.strategies import Strategy
from tradelib.strategies import base as registry

BARS = make_bars(probe_bars(200), symbol="PROBE/USDT")


@pytest.fixture(autouse=True)
def plain_kernels() -> Iterator[None]:
    with interpreted():
        yield


@pytest.fixture(autouse=True, scope="module")
def forget_the_strategies_of_this_module() -> Iterator[None]:
    yield
    for name in [name for name, known in registry._registry.items() if known.__module__ == __name__]:
        del registry._registry[name]


class Peeking(Strategy):
    """Knows tomorrow's close."""

    def signals(self, bars: pd.DataFrame) -> pd.Series:
        return (bars["close"].shift(-1).fillna(0.0) > bars["close"]).astype(float).rename("signal")


class Counting(Strategy):
    """Depends on how often it was asked."""

    calls: ClassVar[list[int]] = []

    def signals(self, bars: pd.DataFrame) -> pd.Series:
        self.calls.append(1)
        return pd.Series(1.0 / len(self.calls), index=bars.index, name="signal")


class AlwaysCompiled(Strategy):
    """Differs where kernels are compiled."""

    def signals(self, bars: pd.DataFrame) -> pd.Series:
        return pd.Series(0.5 if compiling() else np.nextafter(0.5, 1), index=bars.index, name="signal")


def rule_of(strategy: Strategy) -> DecisionRule:
    return DecisionRule(strategy=strategy, sizing=FixedFraction(fraction=0.5))


def test_the_sealed_decisions_come_out_again(workshop: Any) -> None:
    check = reproduce_golden(workshop.bundle)
    assert (check.count, check.equal, check.first_difference) == (80, True, None)
    assert reproduce_golden(workshop.bundle, stepwise=10_000).equal
    assert reproduce_golden(workshop.bundle, stepwise=0).equal


def test_the_window_is_the_end_of_the_bars_and_stands_alone(workshop: Any) -> None:
    window, decisions = make_golden(workshop.contents.rule, BARS, 60)
    assert list(window.index) == list(BARS.index[-60:])
    assert window.attrs["digest"] != BARS.attrs["digest"]
    assert [row["target_weight"] is None for row in decisions] == [True] * 20 + [False] * 40
    assert decisions[-1]["time"] == "2000-07-18T00:00:00+00:00"


@pytest.mark.parametrize(
    ("length", "message"),
    [(0, "holds no decision"), (-3, "holds no decision"), (20, "holds no decision"), (201, "take fewer")],
)
def test_a_window_that_proves_nothing_is_refused(workshop: Any, length: int, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        make_golden(workshop.contents.rule, BARS, length)


@pytest.mark.parametrize("strategy", [Peeking(), Counting()])
def test_a_rule_that_decides_otherwise_the_second_time_is_refused(strategy: Strategy) -> None:
    with pytest.raises(BundleError, match="does not decide the same way twice: signal at"):
        make_golden(rule_of(strategy), BARS, 100)


def test_a_peeking_rule_is_caught_bar_by_bar() -> None:
    rule = rule_of(Peeking())
    expected = decision_rows(rule.decisions(BARS))
    assert check_golden(rule, BARS, expected, stepwise=0).equal
    check = check_golden(rule, BARS, expected)
    assert check.first_difference is not None
    assert check.first_difference.evaluation == "bar by bar"


def test_a_difference_between_compiled_and_interpreted_kernels_is_caught() -> None:
    with pytest.raises(
        BundleError, match=r"signal at .* is 0\.5000000000000001 instead of 0\.5 \(computed in one call\)"
    ):
        Context().run(make_golden, rule_of(AlwaysCompiled()), BARS, 50)  # outside of this module's interpreted kernels


@pytest.mark.parametrize(
    ("row", "field", "value"),
    [(-1, "signal", -0.0), (30, "target_weight", None), (0, "signal", 0.0), (5, "time", "x"), (25, "signal", 0.25)],
)
def test_one_other_value_is_named(workshop: Any, row: int, field: str, value: Any) -> None:
    rows = [dict(item) for item in workshop.bundle.golden_decisions]
    if field == "signal" and row == -1:
        assert rows[row][field] == 0.0
    before, rows[row][field] = rows[row][field], value
    check = reproduce_golden(replace(workshop.bundle, golden_decisions=rows))
    assert not check.equal
    assert check.first_difference == Difference(rows[row]["time"], field, value, before, "in one call")
    assert str(check.first_difference) == (
        f"{field} at {rows[row]['time']} is {before!r} instead of {value!r} (computed in one call)"
    )


def test_the_last_bit_counts(workshop: Any) -> None:
    rows = [dict(item) for item in workshop.bundle.golden_decisions]
    place = next(number for number, row in enumerate(rows) if row["target_weight"])
    rows[place]["target_weight"] = float(np.nextafter(rows[place]["target_weight"], 2))
    check = reproduce_golden(replace(workshop.bundle, golden_decisions=rows))
    assert check.first_difference is not None
    assert check.first_difference.field == "target_weight"


def test_one_decision_more_or_less_is_named(workshop: Any) -> None:
    rows = workshop.bundle.golden_decisions
    for other in (rows[:-1], [*rows, rows[-1]]):
        check = reproduce_golden(replace(workshop.bundle, golden_decisions=other))
        assert check.first_difference is not None
        assert check.first_difference.field == "number of decisions"


def test_an_altered_bar_is_noticed(workshop: Any) -> None:
    bars = workshop.bundle.golden_bars.copy()
    bars.iloc[40, 3] *= 1.0 + 1e-12
    bars.iloc[40, 1] = max(bars.iloc[40, 1], bars.iloc[40, 3])
    bars.iloc[40, 2] = min(bars.iloc[40, 2], bars.iloc[40, 3])
    assert not reproduce_golden(replace(workshop.bundle, golden_bars=make_bars(bars))).equal
