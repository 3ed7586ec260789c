"""The one decision function: it travels as text, decides the same bar by bar, and refuses broken parts."""

import numpy as np
import pandas as pd
import pytest

from tradelib._jit import interpreted
from tradelib.backtest import DecisionRule
from tradelib.errors import ParameterError
from tradelib.indicators import probe_bars
from tradelib.risk import FixedFraction, Sizing, VolatilityTarget
from tradelib.strategies import Strategy, TrendFollowing

BARS = probe_bars(400, seed=21)
RULES = [
    DecisionRule(strategy=TrendFollowing(fast=5, slow=30)),
    DecisionRule(strategy=TrendFollowing(fast=5, slow=30, average="ema", direction="long_short")),
    DecisionRule(strategy=TrendFollowing(fast=3, slow=8), sizing=VolatilityTarget(window=40), rebalance_band=0.1),
]


@pytest.mark.parametrize("rule", RULES)
def test_bar_by_bar_and_interpreted_it_decides_the_same_bits(rule):
    whole = rule.decisions(BARS)
    with interpreted():
        steps = pd.concat([rule.decisions(BARS.iloc[: t + 1]).iloc[[-1]] for t in range(300, 400)])
    pd.testing.assert_frame_equal(steps, whole.iloc[300:], check_exact=True, check_freq=False)


@pytest.mark.parametrize("rule", RULES)
def test_it_comes_back_from_its_configuration(rule):
    same = DecisionRule.from_config(rule.to_config())
    assert same == rule
    assert same.digest == rule.digest


def test_different_rules_have_different_digests():
    assert len({rule.digest for rule in RULES}) == len(RULES)


@pytest.mark.parametrize(("rule", "bars"), zip(RULES, [30, 30, 41], strict=True))
def test_warmup_is_measured_over_strategy_and_sizing(rule, bars):
    assert rule.warmup == bars


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "strategy must be given as"),
        ({"strategy": "TrendFollowing"}, "strategy must be given as"),
        ({"strategy": {"name": "TrendFollowing", "parms": {}}}, "strategy must be given as"),
        ({"strategy": {"name": "Nothing"}}, "there is no strategy 'Nothing'"),
        ({"strategy": {"name": "TrendFollowing"}, "sizing": {"name": "None"}}, "there is no sizing 'None'"),
        ({"strategy": {"name": "TrendFollowing"}, "band": 0.1}, "has no parameter 'band'"),
        ({"strategy": {"name": "TrendFollowing"}, "rebalance_band": 1.0}, "rebalance_band = 1.0"),
        ({"strategy": {"name": "TrendFollowing"}, "rebalance_band": -0.1}, "rebalance_band = -0.1"),
    ],
)
def test_a_broken_configuration_is_refused(config, message):
    with pytest.raises(ParameterError, match=message):
        DecisionRule.from_config(config)


class Infinite(Sizing):
    def weights(self, signals, bars):
        return (signals * np.inf).rename("target_weight")


class Forgetful(Strategy):
    def signals(self, bars):
        return pd.Series(0.0, bars.index[1:])


def test_weights_and_signals_of_others_are_checked():
    with pytest.raises(ParameterError, match="Infinite: target weight"):
        DecisionRule(strategy=TrendFollowing(fast=1, slow=2), sizing=Infinite()).decisions(BARS)
    with pytest.raises(ParameterError, match="Forgetful.signals must return a Series"):
        DecisionRule(strategy=Forgetful()).decisions(BARS)


def test_a_rule_cannot_be_changed_but_copied_with_changes():
    rule = RULES[0]
    assert rule.replace(sizing=FixedFraction(fraction=0.5)).sizing.fraction == 0.5
    with pytest.raises(Exception, match="frozen"):
        rule.rebalance_band = 0.5
