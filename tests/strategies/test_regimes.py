"""A rule behind a gate: what the filter knew decides, on any machine, and hindsight is caught."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tradelib._jit import interpreted
from tradelib.backtest import DecisionRule, run
from tradelib.bundle.golden import check_golden, make_golden
from tradelib.data import embedded
from tradelib.errors import ParameterError
from tradelib.features.regime_model import RegimeModel
from tradelib.indicators import probe_bars
from tradelib.risk import fit_regimes
from tradelib.strategies import RegimeGate, TrendFollowing, create
from tradelib.strategies.features import WeightedFeatures
from tradelib.validation.causality import prove_causality

BARS = embedded("sp500").iloc[:900]
RETURNS = BARS["close"].pct_change()
MODEL = RegimeModel(means=(0.0007, -0.001), volatilities=(0.007, 0.02), transition=((0.99, 0.01), (0.02, 0.98)))
GATE = RegimeGate(rule=TrendFollowing(fast=5, slow=20), model=MODEL, burn_in=30)


def expected_signal(gate: RegimeGate, bars: pd.DataFrame) -> list[float]:
    """The rule once more, bar by bar."""
    chance = gate.model.filtered(bars["close"].pct_change())[list(gate.states)].sum(axis=1)
    inner, opened, said = gate.rule.signals(bars), False, []
    for t, p in enumerate(chance):
        if t < gate.burn_in or np.isnan(inner.iloc[t]):
            said.append(np.nan)
            opened = t >= gate.burn_in and (p >= gate.enter or (opened and p >= gate.leave))
            continue
        opened = p >= gate.enter or (opened and p >= gate.leave)
        said.append(inner.iloc[t] * p if gate.mode == "scale" else inner.iloc[t] * opened)
    return said


@pytest.mark.parametrize(
    "gate",
    [GATE, GATE.replace(mode="scale"), GATE.replace(states=(1,), enter=0.9, leave=0.2), GATE.replace(burn_in=1)],
    ids=["gate", "scale", "wild", "at once"],
)
def test_it_says_what_the_filter_lets_through(gate: RegimeGate) -> None:
    signal = gate.signals(BARS)

    np.testing.assert_allclose(signal, expected_signal(gate, BARS), atol=1e-12)
    assert signal.dropna().nunique() > 1


def test_the_first_value_waits_for_the_burn_in_and_for_the_rule() -> None:
    assert GATE.warmup == 31  # thirty returns take thirty-one closes
    assert GATE.replace(burn_in=5).warmup == 20  # the slow average
    assert DecisionRule(strategy=GATE).warmup_on("1h") == 31


def test_it_is_causal() -> None:
    proof = prove_causality(GATE, BARS.iloc[:260], start=40, every=5)
    assert proof.passed, proof.summary()


def test_smoothed_probabilities_are_caught() -> None:
    """The planted fault: the same gate on what the whole history says."""

    def hindsight(bars: pd.DataFrame) -> pd.Series:
        chance = MODEL.smoothed(bars["close"].pct_change())[0]
        return (chance > 0.6).astype(float).where(chance.notna())

    proof = prove_causality(hindsight, BARS.iloc[:260], start=40, every=5)
    assert not proof.passed
    assert proof.reach > 1


@pytest.mark.parametrize("output", ["viterbi", "smoothed"])
def test_every_output_of_hindsight_is_caught(output: str) -> None:
    def leak(bars: pd.DataFrame) -> pd.Series:
        told = getattr(MODEL, output)(bars["close"].pct_change())
        return (told if isinstance(told, pd.Series) else told[1]).astype(float)

    assert not prove_causality(leak, BARS.iloc[:200], start=50, every=10).passed


@pytest.mark.parametrize("output", ["filtered", "predicted", "filtered_states"])
def test_every_output_for_signals_is_causal(output: str) -> None:
    def fair(bars: pd.DataFrame) -> Any:
        told = getattr(MODEL, output)(bars["close"].pct_change())
        return told.astype(float) if isinstance(told, pd.Series) else told[1]

    assert prove_causality(fair, BARS.iloc[:200], start=5, every=10).passed


def test_a_model_fitted_to_whatever_comes_is_caught() -> None:
    def refitted(bars: pd.DataFrame) -> pd.Series:
        returns = bars["close"].pct_change()
        return fit_regimes(returns, starts=3).filtered(returns)[0]

    proof = prove_causality(refitted, BARS.iloc[300:800], start=450, every=40, last=2, futures=False)
    assert proof.deterministic
    assert not proof.passed


def test_many_at_once_say_what_each_says() -> None:
    gates = [
        GATE,
        GATE.replace(enter=0.9),
        GATE.replace(mode="scale"),
        GATE.replace(states=(1,)),
        GATE.replace(burn_in=9),
    ]
    memo: dict[Any, Any] = {}
    rows = RegimeGate.batch_signals(gates, BARS, memo)
    for row, gate in zip(rows, gates, strict=True):
        np.testing.assert_array_equal(row, gate.signals(BARS))
    assert len(memo) == 1 + 3  # one rule; two burn-ins of the calm state, one of the wild


def test_it_gates_a_rule_of_features_too() -> None:
    gate = GATE.replace(rule=WeightedFeatures())
    again = create(**json.loads(json.dumps(gate.to_config())))
    assert again == gate
    pd.testing.assert_series_equal(again.signals(BARS), gate.signals(BARS), check_exact=True)


def test_the_configuration_is_the_strategy() -> None:
    gate = GATE.replace(model=fit_regimes(RETURNS.iloc[:500], starts=2))
    again = create(**json.loads(json.dumps(gate.to_config())))
    assert again == gate
    assert again.model.training == gate.model.training
    pd.testing.assert_series_equal(again.signals(BARS), gate.signals(BARS), check_exact=True)
    assert DecisionRule(strategy=again).digest == DecisionRule(strategy=gate).digest


def test_compiled_and_interpreted_agree_to_the_last_bit() -> None:
    compiled = GATE.replace(mode="scale").signals(BARS)
    with interpreted():
        pd.testing.assert_series_equal(GATE.replace(mode="scale").signals(BARS), compiled, check_exact=True)


def test_golden_decisions_are_reproduced_interpreted() -> None:
    bars = probe_bars(400, seed=6, timeframe="1h")
    rule = DecisionRule(strategy=GATE)
    golden, decisions = make_golden(rule, bars, len(bars))
    assert check_golden(rule, golden, decisions).equal


def test_it_runs_in_the_engine_and_its_threshold_can_be_swept(tmp_path: Path) -> None:
    from tradelib.backtest import TrialLedger, sweep

    ledger, rule = TrialLedger(tmp_path / "trials.sqlite"), DecisionRule(strategy=GATE)
    assert len(run(rule, BARS, ledger=ledger).trades) > 3
    found = sweep(rule, BARS, {"strategy.enter": [0.5, 0.8, 0.99]}, ledger=ledger, progress=False).frame
    assert found["exposure"].is_monotonic_decreasing


LIVE = """
import json, sys
for name in ("sklearn", "scipy", "numba", "statsmodels", "matplotlib", "plotly", "hmmlearn", "ruptures"):
    sys.modules[name] = None  # importing any of them is an error now
import numpy as np
from tradelib.indicators import probe_bars
from tradelib.strategies import create
strategy = create(**json.load(open(sys.argv[1])))
signal = strategy.signals(probe_bars(900, seed=6, timeframe="1h"))
sys.stdout.buffer.write(signal.to_numpy().tobytes())
"""


def test_it_decides_the_same_where_no_research_package_is_installed(tmp_path: Path) -> None:
    gate = GATE.replace(model=fit_regimes(RETURNS.iloc[:600], 3, starts=4), mode="scale")
    config = tmp_path / "strategy.json"
    config.write_text(json.dumps(gate.to_config()), encoding="utf-8")

    done = subprocess.run([sys.executable, "-c", LIVE, str(config)], capture_output=True)

    assert done.returncode == 0, done.stderr.decode()
    expected = gate.signals(probe_bars(900, seed=6, timeframe="1h")).to_numpy()
    np.testing.assert_array_equal(np.frombuffer(done.stdout), expected)
    assert len(np.unique(expected[~np.isnan(expected)])) > 100


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"states": (0, 0)}, "states must be different ones"),
        ({"states": (-1,)}, "different ones of 0 .. 1"),
        ({"enter": 0.3}, r"leave \(0.4\) must not be above enter \(0.3\)"),
        ({"enter": 1.2}, "enter = 1.2"),
        ({"burn_in": 0}, "burn_in = 0"),
        ({"model": {"means": [0.0]}}, "volatilities"),
        ({"rule": {"name": "TrendFollowing", "params": {"fats": 3}}}, "did you mean 'fast'"),
    ],
)
def test_bad_parameters_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        GATE.replace(**changes)
