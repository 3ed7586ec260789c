"""Models: fitted ones in files without pickle, and as plain numbers that a strategy carries."""

from tradelib._lazy import attach

_HOMES = {
    "SavedModel": "saved",
    "load_model": "saved",
    "predictions": "saved",
    "predictor_of": "predictors",
    "read_model": "saved",
    "save_model": "saved",
}

__all__ = ["SavedModel", "load_model", "predictions", "predictor_of", "read_model", "save_model"]

__getattr__, __dir__ = attach(__name__, _HOMES)
