"""The model that MLflow keeps of a strategy: this file and a JSON configuration, no pickle.

MLflow copies the file into the model ("models from code") and runs it when the model is loaded; it is never imported by
tradelib itself. `predict` takes bars as a DataFrame and returns the decisions of the registered rule.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd

from tradelib.backtest.decision import DecisionRule


class StrategyModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """A decision rule behind MLflow's interface."""

    def load_context(self, context: Any) -> None:
        """Read rule and bar attributes from the artifact `rule`."""
        config = json.loads(Path(context.artifacts["rule"]).read_text(encoding="utf-8"))
        self.rule = DecisionRule.from_config(config["rule"])
        self.attrs = dict(config["bars"])

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Decisions (`signal`, `target_weight`) per bar; times are the index, or a column `time`."""
        bars = model_input.set_index("time") if "time" in model_input.columns else model_input
        bars = bars.copy()
        bars.attrs = dict(self.attrs)
        return self.rule.decisions(bars)


mlflow.models.set_model(StrategyModel())
