"""The local paper exchange: a real HTTP server on this machine that speaks Binance's spot dialect.

It fills market orders from recorded bars with the engine's own functions, so that a run on paper and the backtest
of the same window agree to the last bit. `exchange` is the state machine, `protocol` the dialect, `server` the
sockets.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tradelib.venue.exchange import PaperExchange, VenueMarket
    from tradelib.venue.server import VenueServer, VenueThread, run_venue

__all__ = ["PaperExchange", "VenueMarket", "VenueServer", "VenueThread", "run_venue"]

_HOMES = {
    "PaperExchange": "exchange",
    "VenueMarket": "exchange",
    "VenueServer": "server",
    "VenueThread": "server",
    "run_venue": "server",
}


def __getattr__(name: str) -> Any:
    """Load a public name at first use: `import tradelib.venue` itself stays light."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
