"""What MLflow keeps of a fitted model without a strategy: this file and tradelib's own JSON of the model, no pickle.

MLflow copies the file into the model ("models from code") and runs it when the model is loaded; tradelib itself never
imports it. `predict` takes the columns that the model reads.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import pandas as pd

from tradelib.models.saved import predictions, read_model

__all__ = ["FittedModel"]


class FittedModel(mlflow.pyfunc.PythonModel):  # type: ignore[name-defined]
    """A saved model behind MLflow's interface."""

    def load_context(self, context: Any) -> None:
        """Read the artifact `model`, which must be the one whose digest the artifact `digest` tells."""
        digest = Path(context.artifacts["digest"]).read_text(encoding="utf-8").strip()
        saved = read_model(context.artifacts["model"], digest)
        self.features, self.model = saved.features, saved.restore(proven=True)

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """One column, named after what the model says."""
        return predictions(self.model, model_input, self.features).to_frame()


mlflow.models.set_model(FittedModel())
