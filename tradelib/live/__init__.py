"""The lean runner: verifies a signed bundle, decides exactly as research did, and trades through the real ccxt client.

Importing this package loads no exchange client and no research package.
"""

from tradelib._lazy import attach

__all__ = [
    "ExecutionQuality",
    "Fleet",
    "FleetSummary",
    "Latch",
    "Level",
    "OrderState",
    "Patience",
    "Reconciler",
    "RunSummary",
    "Runner",
    "RunnerSettings",
    "Scope",
    "Step",
    "execution_quality",
    "load_settings",
    "make_client",
    "run_bundle",
    "run_bundles",
]

_HOMES = {
    "ExecutionQuality": "quality",
    "Fleet": "fleet",
    "FleetSummary": "summary",
    "Latch": "latch",
    "Level": "latch",
    "OrderState": "orders",
    "Patience": "patience",
    "Reconciler": "reconcile",
    "RunSummary": "summary",
    "Runner": "runner",
    "RunnerSettings": "settings",
    "Scope": "latch",
    "Step": "summary",
    "execution_quality": "quality",
    "load_settings": "settings",
    "make_client": "connection",
    "run_bundle": "runner",
    "run_bundles": "fleet",
}

__getattr__, __dir__ = attach(__name__, _HOMES)
