"""Promotion: gates, registry, signed bundles, and the proof that paper equals research.

Importing this package is cheap; MLflow is loaded when a `Registry` is first used. To promote:
`from tradelib.promotion.promote import promote`.
"""

from tradelib._lazy import attach

__all__ = [
    "Book",
    "Candidate",
    "Deviation",
    "Gate",
    "GateResult",
    "LiveAttribution",
    "ParityReport",
    "Promotion",
    "PromotionLedger",
    "Registered",
    "Registry",
    "ReplayReport",
    "Stage",
    "Stages",
    "Standing",
    "Thresholds",
    "TrackRecord",
    "Verdict",
    "attribute_live",
    "breaches",
    "build_wheel",
    "compare_paper",
    "may_enter",
    "replay_equality",
    "replay_journal",
    "run_gates",
    "verdict",
]

_HOMES = {
    "Book": "history",
    "Candidate": "gates",
    "Deviation": "replay",
    "Gate": "gates",
    "GateResult": "gates",
    "LiveAttribution": "attribution",
    "ParityReport": "parity",
    "Promotion": "promote",
    "PromotionLedger": "history",
    "Registered": "registry",
    "Registry": "registry",
    "ReplayReport": "replay",
    "Stage": "stages",
    "Stages": "stages",
    "Standing": "history",
    "Thresholds": "gates",
    "TrackRecord": "stages",
    "Verdict": "gates",
    "attribute_live": "attribution",
    "breaches": "stages",
    "build_wheel": "wheel",
    "compare_paper": "parity",
    "may_enter": "stages",
    "replay_equality": "replay",
    "replay_journal": "replay",
    "run_gates": "gates",
    "verdict": "gates",
}

__getattr__, __dir__ = attach(__name__, _HOMES)
