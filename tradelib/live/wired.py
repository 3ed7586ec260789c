"""The wire of a runner: what all of its traders share."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from tradelib.live.account import Markets
from tradelib.live.dialects import Dialect
from tradelib.live.feeds import MarketData, Tell
from tradelib.live.patience import Insistence

__all__ = ["Wire"]


@dataclass(frozen=True)
class Wire:
    """What all traders of a runner share: the client, its markets and data, and how long to insist."""

    client: Any
    mode: str
    dialect: Dialect
    insistence: Insistence
    data: MarketData
    markets: Markets
    tell: Tell
    executor: Executor | None = None
    blocked: Callable[[], tuple[str, ...]] = tuple
    """Endpoints of the account that may not be asked now: no order that adds to a position leaves meanwhile."""
