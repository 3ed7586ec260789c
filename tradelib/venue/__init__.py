"""The local paper exchange: a real HTTP server on this machine that speaks Binance's spot dialect.

It fills market orders from recorded bars with the engine's own functions, so that a run on paper and the backtest
of the same window agree to the last bit. `exchange` is the state machine, `protocol` the dialect, `server` the
sockets.
"""

from tradelib._lazy import attach

__all__ = ["PaperExchange", "VenueMarket", "VenueServer", "VenueThread", "run_venue"]

_HOMES = {
    "PaperExchange": "exchange",
    "VenueMarket": "exchange",
    "VenueServer": "server",
    "VenueThread": "server",
    "run_venue": "server",
}

__getattr__, __dir__ = attach(__name__, _HOMES)
