"""Promotion: gates, registry, signed bundles, and the proof that paper equals research.

Importing this package is cheap; MLflow is loaded when a `Registry` is first used. To promote:
`from tradelib.promotion.promote import promote`.
"""

from tradelib._lazy import attach

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

__getattr__, __dir__ = attach(__name__, _HOMES)
