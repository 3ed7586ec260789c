"""A strategy made of features: what it holds is what it decides, in research, in a bundle, and in a lean runner."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tradelib.backtest import DecisionRule, run
from tradelib.bundle.golden import check_golden, make_golden
from tradelib.data.bars import make_bars
from tradelib.errors import ParameterError
from tradelib.features.pipeline import Feature, FeaturePipeline
from tradelib.features.scaling import PCA, StandardScaler
from tradelib.indicators import probe_bars
from tradelib.strategies import create
from tradelib.strategies.features import WeightedFeatures
from tradelib.validation.causality import prove_causality

BARS = probe_bars(900, seed=6, timeframe="1h")
FEATURES = (
    Feature(name="momentum", indicator="roc", parameters={"window": 24}),
    Feature(name="day", indicator="rsi", parameters={"window": 3}, timeframe="1d"),
)
WEIGHTS = {"momentum": 1.0, "day": -0.5}


@pytest.fixture(scope="module")
def strategy() -> WeightedFeatures:
    pipeline = FeaturePipeline(timeframe="1h", features=FEATURES, scaling=(StandardScaler(),))
    return WeightedFeatures(pipeline=pipeline.fit(BARS, train=0.5), weights=WEIGHTS, direction="long_short")


def test_the_score_is_the_weighted_sum(strategy: WeightedFeatures) -> None:
    table = strategy.pipeline.transform(BARS)
    expected = table["momentum"] - 0.5 * table["day"]

    np.testing.assert_allclose(strategy.score(BARS), expected, rtol=1e-14)
    known = expected.notna()
    assert strategy.signals(BARS)[known].tolist() == np.where(expected[known] > 0.0, 1.0, -1.0).tolist()
    assert strategy.signals(BARS)[~known].isna().all()


def test_it_is_causal_on_two_timeframes(strategy: WeightedFeatures) -> None:
    proof = prove_causality(strategy, BARS.iloc[:300], start=100, every=7)
    assert proof.passed, proof.summary()


def test_a_scaler_that_has_seen_everything_is_no_leak_of_a_fixed_strategy_but_of_one_that_learns() -> None:
    """What was learned is part of the parameters; a function that learns anew from all it gets looks ahead."""
    pipeline = FeaturePipeline(timeframe="1h", features=FEATURES[:1], scaling=(StandardScaler(),))

    def learns_from_everything(bars: pd.DataFrame) -> pd.DataFrame:
        return pipeline.fit(bars, train=1.0).transform(bars)

    assert prove_causality(learns_from_everything, BARS.iloc[:200], start=60, every=9).violations


def test_a_feature_that_goes_blank_takes_it_out_of_the_market() -> None:
    """The return of a volume of zero is not defined."""
    features = (Feature(name="change", indicator="volume", transform="return"),)
    strategy = WeightedFeatures(pipeline=FeaturePipeline(timeframe="1h", features=features), weights={"change": 1.0})
    volume = np.arange(1.0, 51.0)
    volume[20] = 0.0
    kept = {name: BARS.attrs[name] for name in ("symbol", "timeframe", "source", "calendar")}
    bars = make_bars(BARS.iloc[:50].assign(volume=volume), **kept)

    signal = strategy.signals(bars)

    assert np.isnan(signal.iloc[0])
    assert (signal.iloc[1:20] == 1.0).all()
    assert signal.iloc[20:22].tolist() == [0.0, 0.0]  # down to nothing, and from nothing
    assert (signal.iloc[22:] == 1.0).all()


def test_components_are_weighed_by_their_names() -> None:
    pipeline = FeaturePipeline(timeframe="1h", features=FEATURES, scaling=(StandardScaler(), PCA(n_components=1)))
    fitted = pipeline.fit(BARS, train=0.5)

    assert WeightedFeatures(pipeline=fitted, weights={"pc_1": 1.0}).score(BARS).notna().any()
    with pytest.raises(ParameterError, match="no column 'pc_2'"):
        WeightedFeatures(pipeline=fitted, weights={"pc_2": 1.0}).score(BARS)


def test_the_configuration_is_the_strategy(strategy: WeightedFeatures) -> None:
    config = json.loads(json.dumps(strategy.to_config()))
    again = create(**config)

    assert again == strategy
    pd.testing.assert_series_equal(again.signals(BARS), strategy.signals(BARS), check_exact=True)


def test_a_weight_without_a_column_is_named(strategy: WeightedFeatures) -> None:
    with pytest.raises(ParameterError, match="no column 'days'; did you mean 'day'"):
        strategy.replace(weights={"days": 1.0})


def test_golden_decisions_are_reproduced_interpreted(strategy: WeightedFeatures) -> None:
    rule = DecisionRule(strategy=strategy)
    bars, decisions = make_golden(rule, BARS, len(BARS))

    assert check_golden(rule, bars, decisions).equal
    assert rule.warmup_on("1h") == strategy.pipeline.warmup


def test_it_runs_in_the_engine_and_its_threshold_can_be_swept(strategy: WeightedFeatures, tmp_path: Path) -> None:
    from tradelib.backtest import TrialLedger, sweep

    ledger = TrialLedger(tmp_path / "trials.sqlite")
    rule = DecisionRule(strategy=strategy.replace(direction="long"))
    assert len(run(rule, BARS, ledger=ledger).trades) > 3
    found = sweep(rule, BARS, {"strategy.threshold": [-0.5, 0.0, 0.5]}, ledger=ledger, progress=False).frame
    assert found["exposure"].is_monotonic_decreasing


LIVE = """
import json, sys
for name in ("sklearn", "scipy", "numba", "statsmodels", "matplotlib", "plotly"):
    sys.modules[name] = None  # importing any of them is an error now
import numpy as np
from tradelib.indicators import probe_bars
from tradelib.strategies import create
strategy = create(**json.load(open(sys.argv[1])))
signal = strategy.signals(probe_bars(900, seed=6, timeframe="1h"))
sys.stdout.buffer.write(signal.to_numpy().tobytes())
"""


def test_it_decides_the_same_where_no_research_package_is_installed(strategy: Any, tmp_path: Path) -> None:
    config = tmp_path / "strategy.json"
    config.write_text(json.dumps(strategy.to_config()), encoding="utf-8")

    done = subprocess.run([sys.executable, "-c", LIVE, str(config)], capture_output=True)

    assert done.returncode == 0, done.stderr.decode()
    np.testing.assert_array_equal(np.frombuffer(done.stdout), strategy.signals(BARS).to_numpy())
