"""Promotion: gates, registry, signed bundles, and the proof that paper equals research.

Importing this package is cheap; MLflow is loaded when a `Registry` is first used. To promote:
`from tradelib.promotion.promote import promote`.
"""

from __future__ import annotations

import importlib
from typing import Any

__all__ = [
    "Candidate",
    "Gate",
    "GateResult",
    "ParityReport",
    "Promotion",
    "Registered",
    "Registry",
    "Thresholds",
    "Verdict",
    "build_wheel",
    "compare_paper",
    "run_gates",
    "verdict",
]

_HOMES = {
    "Candidate": "gates",
    "Gate": "gates",
    "GateResult": "gates",
    "ParityReport": "parity",
    "Promotion": "promote",
    "Registered": "registry",
    "Registry": "registry",
    "Thresholds": "gates",
    "Verdict": "gates",
    "build_wheel": "wheel",
    "compare_paper": "parity",
    "run_gates": "gates",
    "verdict": "gates",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
