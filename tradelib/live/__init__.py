"""The lean runner: verifies a signed bundle, decides exactly as research did, and trades through the real ccxt client.

Importing this package loads no exchange client and no research package.
"""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["OrderState", "Patience", "RunSummary", "Runner", "Step", "make_client", "run_bundle"]

_HOMES = {
    "OrderState": "orders",
    "Patience": "patience",
    "RunSummary": "summary",
    "Runner": "runner",
    "Step": "summary",
    "make_client": "connection",
    "run_bundle": "runner",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
