"""Is it real? Causality by cutting off the future, and Sharpe ratios deflated by the number of trials."""

from importlib import import_module
from typing import Any

_HOMES = {
    "CausalityProof": "causality",
    "SharpeEvidence": "sharpe",
    "deflated_sharpe": "sharpe",
    "deflated_sharpe_ratio": "sharpe",
    "expected_maximum_sharpe": "sharpe",
    "minimum_track_record_length": "sharpe",
    "probabilistic_sharpe_ratio": "sharpe",
    "prove_causality": "causality",
}

__all__ = [
    "CausalityProof",
    "SharpeEvidence",
    "deflated_sharpe",
    "deflated_sharpe_ratio",
    "expected_maximum_sharpe",
    "minimum_track_record_length",
    "probabilistic_sharpe_ratio",
    "prove_causality",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
