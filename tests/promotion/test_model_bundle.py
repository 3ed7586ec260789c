"""A model in a bundle: sealed with the rule, found when it is swapped, and the same decisions where it is loaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xgboost

from tests.promotion.support import rule_of
from tradelib.bundle import TrustStore, load_bundle
from tradelib.bundle.golden import reproduce_golden
from tradelib.errors import BundleError
from tradelib.features import Feature, FeaturePipeline
from tradelib.models import predictor_of
from tradelib.promotion.promote import promote
from tradelib.strategies.models import ModelSignals

PIPELINE = FeaturePipeline(
    features=(
        Feature(name="momentum", indicator="roc", parameters={"window": 10}),
        Feature(name="strength", indicator="rsi", parameters={"window": 7}),
    )
)


@pytest.fixture(scope="module")
def strategy(bars: pd.DataFrame) -> ModelSignals:
    table = PIPELINE.transform(bars).dropna()
    label = (bars["close"].shift(-1) > bars["close"]).loc[table.index]
    fitted = xgboost.XGBClassifier(n_estimators=30, max_depth=3, n_jobs=1).fit(table, label)
    return ModelSignals(pipeline=PIPELINE, model=predictor_of(fitted), long_above=0.5)


def test_a_model_is_sealed_with_its_rule_and_decides_the_same_when_loaded(
    request_of: Callable[..., dict[str, Any]],
    built_once: None,
    keys: tuple[Any, TrustStore],
    strategy: ModelSignals,
    bars: pd.DataFrame,
    tmp_path: Path,
) -> None:
    rule = rule_of(strategy)
    sealed = promote(**request_of(tmp_path, rule=rule)).bundle

    loaded = load_bundle(sealed.path, trust=keys[1])

    assert loaded.rule == rule
    assert loaded.rule.strategy.model.digest == strategy.model.digest
    assert reproduce_golden(loaded, 8).equal
    np.testing.assert_array_equal(loaded.rule.decisions(bars), rule.decisions(bars))
    assert (sealed.path / "rule.json").stat().st_size < 30_000

    file = sealed.path / "rule.json"
    config = json.loads(file.read_text())
    config["strategy"]["params"]["model"]["trees"].pop()
    file.write_text(json.dumps(config))
    with pytest.raises(BundleError, match=r"rule\.json"):
        load_bundle(sealed.path, trust=keys[1])
