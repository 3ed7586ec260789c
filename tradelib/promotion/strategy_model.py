"""The model that MLflow keeps of a strategy: this file and a JSON configuration, no pickle.

MLflow copies the file into the model ("models from code") and runs it when the model is loaded; tradelib itself never
imports it. `predict` takes bars as a DataFrame and returns the decisions of the registered rule.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd

from tradelib.backtest.decision import DecisionRule

__all__ = ["StrategyModel"]


class StrategyModel(mlflow.pyfunc.PythonModel):  # type: ignore[name-defined]
    """A decision rule behind MLflow's interface."""

    def load_context(self, context: Any) -> None:
        """Read the rule and the identity of its market from the artifact `rule`."""
        config = json.loads(Path(context.artifacts["rule"]).read_text(encoding="utf-8"))
        self.rule = DecisionRule.from_config(config["rule"])
        self.market = dict(config["market"])

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """`signal` and `target_weight` per bar. Open times (UTC) are the index, or a column `time` without zone."""
        bars = model_input.copy()
        if "time" in bars.columns:
            bars = bars.set_index(pd.DatetimeIndex(bars.pop("time"), name="time").tz_localize("UTC"))
        bars.attrs = dict(self.market)
        return self.rule.decisions(bars)


mlflow.models.set_model(StrategyModel())
