"""Is it real? Causality by cutting off the future, and Sharpe ratios deflated by the number of trials."""

from tradelib._lazy import attach

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

__getattr__, __dir__ = attach(__name__, _HOMES)
