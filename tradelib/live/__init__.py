"""The lean runner: verifies a signed bundle, decides exactly as research did, and trades through the real ccxt client.

Importing this package loads no exchange client and no research package.
"""

from tradelib._lazy import attach

__all__ = [
    "Fleet",
    "FleetSummary",
    "OrderState",
    "Patience",
    "RunSummary",
    "Runner",
    "Step",
    "make_client",
    "run_bundle",
    "run_bundles",
]

_HOMES = {
    "Fleet": "fleet",
    "FleetSummary": "summary",
    "OrderState": "orders",
    "Patience": "patience",
    "RunSummary": "summary",
    "Runner": "runner",
    "Step": "summary",
    "make_client": "connection",
    "run_bundle": "runner",
    "run_bundles": "fleet",
}

__getattr__, __dir__ = attach(__name__, _HOMES)
