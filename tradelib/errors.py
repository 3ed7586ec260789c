"""Errors that say what is wrong, which value it was, and what to do.

Every error that tradelib raises on purpose derives from `TradelibError`, so a caller can tell a refused input
from a defect. The message is written for the person at the keyboard: no traceback is needed to act on it.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = [
    "BundleError",
    "DataError",
    "LedgerError",
    "MissingExtraError",
    "ParameterError",
    "PromotionError",
    "RunnerError",
    "TradelibError",
    "VenueError",
    "require",
]


class TradelibError(Exception):
    """Base of every error raised on purpose."""


class DataError(TradelibError, ValueError):
    """Market data breaks the bars contract or cannot be read."""


class ParameterError(TradelibError, ValueError):
    """A parameter is unknown, misspelt, of the wrong type or out of its range."""


class LedgerError(TradelibError):
    """An append-only history is broken, locked or was asked to change its past."""


class BundleError(TradelibError):
    """A bundle is incomplete, altered, unsigned, or signed by a key that is not trusted."""


class PromotionError(TradelibError):
    """A promotion, approval or rollback that the ledger of promotions does not allow."""


class RunnerError(TradelibError):
    """The runner refuses to trade, or had to stop."""


class VenueError(TradelibError):
    """The local paper venue cannot start or serve."""


class MissingExtraError(TradelibError, ImportError):
    """An optional part is used whose packages are not installed."""


def require(module: str, extra: str) -> Any:
    """Import `module`, or say which extra of tradelib brings it.

    Raises `MissingExtraError` naming the module and the `pip install` line.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and not module.startswith(error.name):
            raise
        raise MissingExtraError(
            f"{module!r} is not installed: it belongs to the extra {extra!r}. Run: pip install 'tradelib[{extra}]'"
        ) from error
