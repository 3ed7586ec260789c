"""What the venue says about its markets and the account: read strictly, because "not found" is never "flat"."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any

from tradelib.backtest import kernel
from tradelib.errors import RunnerError
from tradelib.live.patience import Insistence

__all__ = ["Account", "Listing", "Markets", "fetch_account", "fetch_balances"]


@dataclass(frozen=True)
class Listing:
    """A market of the venue: its names, the lot (`step`, base units) and the `tick` (quote currency) of its orders."""

    symbol: str
    base: str
    quote: str
    step: Decimal
    tick: Decimal | None = None


@dataclass(frozen=True)
class Account:
    """Free and locked holdings: `cash` in quote currency, `position` in base units, both as the venue states them."""

    cash: float
    position: float

    def equity(self, close: float) -> float:
        """Value at `close`, by the kernel's own rule."""
        return float(kernel.equity.python(self.cash, self.position, close))


class Markets:
    """The venue's markets, asked for once for everybody who wants to know at the same time."""

    def __init__(self, client: Any, insistence: Insistence) -> None:
        self._client, self._insistence = client, insistence
        self._known: dict[str, Any] = {}
        self._asking: asyncio.Task[dict[str, Any]] | None = None

    async def listing(self, symbol: str, lots_per_unit: float) -> Listing:
        """The market `symbol`; `RunnerError` if it is missing or its lots are not the bundle's."""
        markets = self._known or await self.refresh()
        market = markets.get(symbol)
        if market is None:
            raise RunnerError(
                f"the venue does not list {symbol!r}, only {', '.join(sorted(markets)[:10]) or 'nothing'}"
            )
        step = _step(market)
        if lots_per_unit > 0.0 and (1 / Fraction(lots_per_unit)) % Fraction(step) != 0:
            raise RunnerError(
                f"{symbol} trades in lots of {step} here, the bundle in lots of 1/{lots_per_unit:g}: orders would be "
                "rounded otherwise than in research; build the bundle with this venue's lot"
            )
        return Listing(symbol, str(market["base"]), str(market["quote"]), step, _tick(market))

    async def is_trading(self, symbol: str) -> bool:
        """Whether the venue says that `symbol` can be traded now; a market that it does not list cannot."""
        return bool((await self.refresh()).get(symbol, {}).get("active"))

    async def refresh(self) -> dict[str, Any]:
        """Ask anew; questions of the same moment share one answer."""
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask())
            self._asking.add_done_callback(lambda _: setattr(self, "_asking", None))
        return await asyncio.shield(self._asking)

    async def _ask(self) -> dict[str, Any]:
        async def question() -> Any:
            return await self._client.load_markets(True)

        markets = await self._insistence.insist(question, "its markets")
        self._known = markets if isinstance(markets, dict) else {}
        return self._known


async def fetch_account(client: Any, listing: Listing, insistence: Insistence) -> Account:
    """Cash and position. A reply in which either currency is missing is no answer and is asked again."""
    found = await fetch_balances(client, (listing.quote, listing.base), insistence)
    return Account(found[listing.quote], found[listing.base])


async def fetch_balances(client: Any, assets: tuple[str, ...], insistence: Insistence) -> dict[str, float]:
    """Free and locked amounts of each asset. A reply in which one is missing is no answer and is asked again."""

    async def question() -> dict[str, float]:
        balance = await client.fetch_balance()
        return {name: float(balance[name]["total"]) for name in assets}

    shown = " and ".join(assets) if len(assets) < 4 else f"{len(assets)} assets"
    return await insistence.insist(question, f"the balances of {shown}")


def _step(market: dict[str, Any]) -> Decimal:
    """The lot of a market: Binance's own LOT_SIZE text where there is one, else ccxt's amount precision."""
    step = _positive(_filter(market, "LOT_SIZE", "stepSize") or market.get("precision", {}).get("amount"))
    if step is None:
        raise RunnerError(f"the venue names no lot size for {market.get('symbol')}: amounts cannot be rounded safely")
    return step


def _tick(market: dict[str, Any]) -> Decimal | None:
    """The step of prices; None where the venue names none: then no price can be sent."""
    return _positive(_filter(market, "PRICE_FILTER", "tickSize") or market.get("precision", {}).get("price"))


def _filter(market: dict[str, Any], kind: str, name: str) -> Any:
    info = market.get("info")
    filters = (info.get("filters") if isinstance(info, dict) else None) or []
    return next((rule.get(name) for rule in filters if rule.get("filterType") == kind), None)


def _positive(said: Any) -> Decimal | None:
    try:
        value = Decimal(str(said)).normalize()
    except InvalidOperation:
        return None
    return value if value > 0 else None
