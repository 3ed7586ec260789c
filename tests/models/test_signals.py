"""A model that trades: features, model and levels in one rule, and the same bits in research and bar by bar."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xgboost

from tests.environment import PROJECT
from tradelib._jit import interpreted
from tradelib.backtest import DecisionRule, run
from tradelib.bundle.golden import check_golden, make_golden
from tradelib.bundle.layout import pretty
from tradelib.data import embedded
from tradelib.data.bars import window
from tradelib.errors import ParameterError
from tradelib.features import Feature, FeaturePipeline, StandardScaler
from tradelib.indicators import probe_bars
from tradelib.models import predictor_of
from tradelib.strategies import create, predictors
from tradelib.strategies.models import ModelSignals
from tradelib.strategies.predictors import LinearPredictor, TreeEnsemble
from tradelib.validation.causality import prove_causality

BARS = embedded("sp500").iloc[:1_500]
PIPELINE = FeaturePipeline(
    features=(
        Feature(name="momentum", indicator="roc", parameters={"window": 40}),
        Feature(name="strength", indicator="rsi", parameters={"window": 14}),
        Feature(name="week", indicator="roc", parameters={"window": 5}, timeframe="1w"),
    ),
    scaling=(StandardScaler(),),
).fit(BARS, "2001-12-31")
LEARNED = BARS.index < "2001-12-20"


def fitted(**options: Any) -> xgboost.XGBClassifier:
    table = PIPELINE.transform(BARS)
    label = (BARS["close"].shift(-5) > BARS["close"]).astype(int)
    rows = table.notna().all(axis=1).to_numpy() & LEARNED
    settings = {"n_estimators": 40, "max_depth": 3, "n_jobs": 1}
    return xgboost.XGBClassifier(**settings | options).fit(table[rows], label[rows])


FITTED = fitted()
STRATEGY = ModelSignals(
    pipeline=PIPELINE,
    model=predictor_of(FITTED, known_at="2001-12-31T00:00:00Z"),
    long_above=0.55,
    short_below=0.45,
)
RULE = DecisionRule(strategy=STRATEGY)


def test_the_signal_is_what_the_levels_make_of_the_librarys_probability() -> None:
    said = FITTED.predict_proba(PIPELINE.transform(BARS))[:, 1]
    expected = np.select([said > 0.55, said < 0.45], [1.0, -1.0], 0.0)
    unclear = (np.abs(said - 0.55) < 1e-6) | (np.abs(said - 0.45) < 1e-6)  # XGBoost rounds to single precision

    signal = STRATEGY.signals(BARS)

    first = int(np.argmax(signal.notna()))
    assert first == STRATEGY.pipeline.warmup - 1 or first > 20
    assert np.isnan(signal.iloc[:first]).all()
    same = (signal.to_numpy() == expected)[first:] | unclear[first:]
    assert same.all()
    assert set(signal.iloc[first:]) == {-1.0, 0.0, 1.0}


def test_it_does_not_look_ahead() -> None:
    assert prove_causality(STRATEGY, BARS.iloc[:110]).passed


def test_a_model_that_reads_tomorrow_is_caught() -> None:
    """Given a pipeline changed to know the next bar, the proof names it."""

    class PeekingModelForTest(ModelSignals):
        def prediction(self, bars: pd.DataFrame) -> pd.Series:
            return super().prediction(bars).shift(-1).ffill()

    peeking = PeekingModelForTest(**{name: getattr(STRATEGY, name) for name in ModelSignals.model_fields})
    assert not prove_causality(peeking, BARS.iloc[:110]).passed


def test_it_decides_the_same_bits_at_once_bar_by_bar_compiled_and_not() -> None:
    at_once = RULE.decisions(BARS)

    with interpreted():
        again = RULE.decisions(BARS)
        last = [RULE.decisions(window(BARS, end=when)).iloc[-1:] for when in BARS.index[-12:]]

    pd.testing.assert_frame_equal(again, at_once, check_exact=True)
    pd.testing.assert_frame_equal(pd.concat(last), at_once.iloc[-12:], check_exact=True, check_freq=False)


def test_golden_decisions_of_a_bundle_are_reproduced_and_another_model_is_not() -> None:
    bars, decisions = make_golden(RULE, BARS, 300)

    assert check_golden(RULE, bars, decisions, 16).equal
    model = STRATEGY.model.replace(base=STRATEGY.model.base + 0.3)
    swapped = RULE.replace(strategy=STRATEGY.replace(model=model))
    assert not check_golden(swapped, bars, decisions, 16).equal


def test_the_rule_travels_as_json_with_the_model_in_it() -> None:
    config = json.loads(pretty(RULE.to_config(), "rule"))

    again = DecisionRule.from_config(config)

    assert again == RULE
    assert again.digest == RULE.digest
    assert again.strategy.model.digest == STRATEGY.model.digest
    assert create("ModelSignals", config["strategy"]["params"]) == STRATEGY


def test_a_large_model_stays_far_below_what_a_bundle_may_carry() -> None:
    """Given a thousand trees, rule.json takes a third of a megabyte of 64."""
    model = predictor_of(fitted(n_estimators=1_000, max_depth=5))
    raw = pretty(DecisionRule(strategy=STRATEGY.replace(model=model)).to_config(), "rule")

    predictors._parse.cache_clear()
    started = time.perf_counter()
    DecisionRule.from_config(json.loads(raw))
    seconds = time.perf_counter() - started

    print(f"{len(raw):,} bytes, {len(model.nodes.feature):,} nodes, {seconds:.3f} s")
    assert len(raw) < 2**20


def test_a_runner_without_research_packages_decides_the_same() -> None:
    code = (
        "import json, sys\n"
        "class Lean:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in {'xgboost', 'sklearn', 'scipy', 'numba', 'skops', 'mlflow'}:\n"
        "            raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Lean())\n"
        "from tradelib._jit import interpreted\n"
        "from tradelib.backtest.decision import DecisionRule\n"
        "from tradelib.indicators import probe_bars\n"
        "rule = DecisionRule.from_config(json.load(sys.stdin))\n"
        "with interpreted(): found = rule.decisions(probe_bars(700))\n"
        "print(*(x.hex() for x in found['target_weight'].iloc[-50:]))"
    )
    text = json.dumps(RULE.to_config())
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, input=text, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [x.hex() for x in RULE.decisions(probe_bars(700))["target_weight"].iloc[-50:]]


def test_a_sweep_over_levels_asks_the_model_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    true = TreeEnsemble._margins
    monkeypatch.setattr(TreeEnsemble, "_margins", lambda self, x: asked.append(len(x)) or true(self, x))
    points = [STRATEGY.replace(long_above=level) for level in (0.5, 0.55, 0.6)]

    rows = ModelSignals.batch_signals(points, BARS, {})

    assert len(asked) == 1
    for row, point in zip(rows, points, strict=True):
        np.testing.assert_array_equal(row, point.signals(BARS))


def test_rows_that_were_learned_from_are_marked() -> None:
    """Label rows included, and the scaler's: the later of the two ends counts."""
    learned = STRATEGY.in_sample(BARS)

    assert learned[learned].index[-1] == pd.Timestamp("2001-12-31", tz="UTC") or learned.sum() > 0
    later = STRATEGY.replace(model=STRATEGY.model.replace(known_at="2003-06-30T00:00:00Z"))
    assert later.in_sample(BARS).sum() > learned.sum()
    assert not ModelSignals().in_sample(BARS).any()


def test_a_hole_later_is_no_position_for_a_linear_model_and_a_branch_for_trees() -> None:
    bars = probe_bars(300)
    pipeline = FeaturePipeline(features=(Feature(name="range", indicator="close", transform="log"),))
    assert ModelSignals(pipeline=pipeline, model=LinearPredictor(features=("range",), weights=(1.0,))).warmup == 1
    trees = TreeEnsemble(features=("range",), trees=("0<0 1 2 1; =-1; =1",))
    assert set(ModelSignals(pipeline=pipeline, model=trees, long_above=0.0).signals(bars)) == {1.0}
    table = pd.DataFrame({"range": [1.0, np.nan]})
    assert trees.predict(table).tolist() == [1.0, -1.0]


def test_it_backtests_like_any_strategy() -> None:
    assert run(RULE, BARS).metrics["trades"] > 5


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model": LinearPredictor(features=("speed",), weights=(1.0,))}, "reads 'speed', which the pipeline does not"),
        ({"short_below": 0.6}, r"short_below \(0.6\) must not be above long_above \(0.55\)"),
        ({"pipeline": PIPELINE.replace(scaling=(StandardScaler(),))}, "StandardScaler has learned nothing yet"),
        ({"model": {"kind": "xgboost"}}, "model"),
        ({"model": {"kind": "trees", "features": ["week"], "trees": ["=inf"]}}, "neither a split nor a leaf"),
    ],
)
def test_what_does_not_fit_is_refused_when_it_is_made(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ParameterError, match=told):
        STRATEGY.replace(**changes)
