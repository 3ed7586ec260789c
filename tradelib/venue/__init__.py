"""The local venue: a real exchange process on this machine, with REST and WebSocket in the dialects of real exchanges.

It fills orders from recorded bars with the engine's own functions, so that a run on paper and the backtest of the same
window agree to the last bit; or from recorded trades, order-book events or live public data. `exchange` is the state
machine, `matching` says what fills, `sources` where prices come from, `faults` what goes wrong on purpose; `binance`,
`kraken` and `bitget` are the dialects, `server` the sockets.
"""

from tradelib._lazy import attach

__all__ = [
    "BookTape",
    "Fault",
    "FaultPlan",
    "LiveTape",
    "NewOrder",
    "PaperExchange",
    "RateLimits",
    "TradeTape",
    "VenueMarket",
    "VenueServer",
    "VenueThread",
    "run_venue",
]

_HOMES = {
    "BookTape": "sources",
    "Fault": "faults",
    "FaultPlan": "faults",
    "LiveTape": "sources",
    "NewOrder": "orders",
    "PaperExchange": "exchange",
    "RateLimits": "limits",
    "TradeTape": "sources",
    "VenueMarket": "markets",
    "VenueServer": "server",
    "VenueThread": "server",
    "run_venue": "server",
}

__getattr__, __dir__ = attach(__name__, _HOMES)
