"""What the venue says about the market and the account: read strictly, because "not found" is never "flat"."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any

from tradelib.backtest import kernel
from tradelib.errors import RunnerError
from tradelib.live.patience import Insistence

__all__ = ["Account", "Listing", "fetch_account", "fetch_listing", "is_trading"]


@dataclass(frozen=True)
class Listing:
    """A market of the venue: its names, and the lot (`step`, base units) in which it trades."""

    symbol: str
    base: str
    quote: str
    step: Decimal


@dataclass(frozen=True)
class Account:
    """Free and locked holdings: `cash` in quote currency, `position` in base units, both as the venue states them."""

    cash: float
    position: float

    def equity(self, close: float) -> float:
        """Value at `close`, by the kernel's own rule."""
        return float(kernel.equity.python(self.cash, self.position, close))


async def fetch_listing(client: Any, symbol: str, lots_per_unit: float, insistence: Insistence) -> Listing:
    """The market `symbol` of the venue; `RunnerError` if it is missing or its lots are not the bundle's."""

    async def question() -> Any:
        return await client.load_markets(True)

    markets = await insistence.insist(question, "its markets")
    market = markets.get(symbol) if isinstance(markets, dict) else None
    if market is None:
        raise RunnerError(f"the venue does not list {symbol!r}, only {', '.join(sorted(markets)[:10]) or 'nothing'}")
    step = _step(market)
    if lots_per_unit > 0.0 and (1 / Fraction(lots_per_unit)) % Fraction(step) != 0:
        raise RunnerError(
            f"{symbol} trades in lots of {step} here, the bundle in lots of 1/{lots_per_unit:g}: orders would be "
            "rounded otherwise than in research; build the bundle with this venue's lot"
        )
    return Listing(symbol, str(market["base"]), str(market["quote"]), step)


async def is_trading(client: Any, symbol: str, insistence: Insistence) -> bool:
    """Whether the venue says that `symbol` can be traded now; a market that it does not list cannot."""

    async def question() -> Any:
        return await client.load_markets(True)

    markets = await insistence.insist(question, "its markets")
    return bool(markets.get(symbol, {}).get("active"))


async def fetch_account(client: Any, listing: Listing, insistence: Insistence) -> Account:
    """Cash and position. A reply in which either currency is missing is no answer and is asked again."""

    async def question() -> Account:
        balance = await client.fetch_balance()
        return Account(*(float(balance[name]["total"]) for name in (listing.quote, listing.base)))

    return await insistence.insist(question, f"the balances of {listing.quote} and {listing.base}")


def _step(market: dict[str, Any]) -> Decimal:
    """The lot of a market: Binance's own LOT_SIZE text where there is one, else ccxt's amount precision."""
    filters = market.get("info", {}).get("filters") or []
    texts = [rule.get("stepSize") for rule in filters if rule.get("filterType") == "LOT_SIZE"]
    text = str(texts[0] if texts else market.get("precision", {}).get("amount"))
    try:
        step = Decimal(text).normalize()
    except InvalidOperation:
        step = Decimal(0)
    if not step > 0:
        raise RunnerError(f"the venue names no lot size for {market.get('symbol')}: amounts cannot be rounded safely")
    return step
