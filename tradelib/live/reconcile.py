"""Does the account hold what the journals say? Asked at start and continuously; explained and healed, or halted.

What must be there is what the account held when it was first seen (`baseline`), plus every fill of every journal, plus
what others traded on the account (`foreign`), plus what an operator has accounted for (`adjustment`): exact decimals,
by asset. What is there is what the venue says of balances, open orders and trades. A difference is taken apart:

- a trade of one of our orders that no journal has: booked now (it was told while nobody listened);
- trades of one of our orders that are more than was ordered: somebody on the way sent it twice, and a venue that takes
  a client order id again once its first order is filled did what it was told: booked, and the symbol halts;
- a trade of an order that is not ours: somebody traded by hand; written down once, and the symbol halts unless told
  otherwise (`foreign="note"`);
- an order or a trade that carries our name and stands in no journal: the journal is older than the account (a backup
  was restored): the symbol halts;
- an order that the journal calls done and the venue calls open: the symbol halts;
- an order that works here and rests there no longer: asked for; where the venue does not know it, the symbol halts,
  because "not found" is never "flat";
- a balance that is still not explained after three cycles: its symbols halt.

Asking changes nothing at the venue, and a second reconciliation of the same state finds nothing and writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, Protocol

from tradelib.errors import RunnerError
from tradelib.ledger import Ledger, journal
from tradelib.live.dialects import Dialect
from tradelib.live.fills import VenueTrade
from tradelib.live.orders import OrderDesk, WorkingOrder
from tradelib.live.patience import Insistence

__all__ = ["Difference", "Market", "Reconciler", "Reconciliation"]

Cause = Literal[
    "fill", "overfill", "foreign_trade", "foreign_order", "unknown_order", "ended_order", "lost_order", "balance"
]

_OURS = ("tl-", "tg-")
_ROUNDING = Decimal("1e-8")
"""What one trade of a venue may round in quote currency (Binance's assets have 8 decimals)."""
_RELATIVE = Decimal("1e-9")
"""What the venue's own arithmetic may lose of the money that passed, as a fraction."""


class Market(Protocol):
    """What must be known of a symbol; `tradelib.live.account.Listing` has it."""

    @property
    def symbol(self) -> str: ...
    @property
    def base(self) -> str: ...
    @property
    def quote(self) -> str: ...
    @property
    def step(self) -> Decimal: ...


@dataclass(frozen=True)
class Difference:
    """One thing that did not agree. `healed`: explained, written down, and of no consequence any more."""

    cause: Cause
    symbol: str
    detail: str
    healed: bool
    asset: str = ""

    def body(self) -> dict[str, Any]:
        """Plain data for the journal."""
        return dict(vars(self))


@dataclass(frozen=True)
class Reconciliation:
    """What was found in how many cycles. `halted`: symbols that must not trade on, and why."""

    cycles: int
    differences: tuple[Difference, ...]

    @property
    def halted(self) -> dict[str, str]:
        """Symbol -> what is not explained there."""
        return {one.symbol: one.detail for one in self.differences if not one.healed}

    @property
    def equal(self) -> bool:
        """Whether nothing differed."""
        return not self.differences

    def body(self) -> dict[str, Any]:
        """The journal's entry."""
        healed = sum(one.healed for one in self.differences)
        told = [one.body() for one in self.differences]
        return {"cycles": self.cycles, "differences": told, "healed": healed, "halted": self.halted}


@dataclass
class _Books:
    """The sum of all fills that the journals have, and how far they were read."""

    holdings: dict[str, Decimal] = field(default_factory=dict)
    turnover: Decimal = Decimal(0)
    count: int = 0
    read: dict[int, int] = field(default_factory=dict)

    def add(self, asset: str, amount: Decimal) -> None:
        """Book an amount."""
        self.holdings[asset] = self.holdings.get(asset, Decimal(0)) + amount

    def trade(self, body: Mapping[str, Any]) -> None:
        """Book a `fill` or a `foreign` entry."""
        base, _, quote = body["symbol"].partition("/")
        quantity, price = Decimal(repr(body["quantity"])), Decimal(repr(body["price"]))
        self.add(base, quantity)
        self.add(quote, -quantity * price)
        self.turnover += abs(quantity * price)
        self.count += 1
        for currency, amount in body["fee_paid"].items():
            self.add(currency, -Decimal(amount))


class Reconciler:
    """Compares one account with the journals of everything that trades on it.

    log: where baseline, foreign trades and results are written (the journal itself where there is only one). desks:
    the desks of all journals. markets: what they trade. foreign: "halt" or "note" where somebody trades by hand.
    retired: desks of journals whose bundles are traded no more; their orders and trades are known, and booked there.
    """

    def __init__(
        self,
        client: Any,
        log: Ledger,
        desks: Sequence[OrderDesk],
        markets: Iterable[Market],
        insistence: Insistence,
        *,
        dialect: Dialect | None = None,
        foreign: Literal["halt", "note"] = "halt",
        cycles: int = 3,
        retired: Sequence[OrderDesk] = (),
    ) -> None:
        if foreign not in ("halt", "note"):
            raise RunnerError(f"foreign is {foreign!r}: use 'halt' or 'note'")
        self.client = client
        self.log = log
        self.desks = list(desks)
        self.markets = {market.symbol: market for market in markets}
        self.dialect = dialect or self.desks[0].dialect
        self.foreign = foreign
        self.cycles = cycles
        self._insistence = insistence
        self._books = _Books()
        self._seen: dict[str, tuple[int, set[str]]] = {}
        self._baseline: dict[str, Any] | None = None
        self._noted: set[str] = set()
        self.retired = list(retired)

    async def reconcile(self) -> Reconciliation:
        """One reconciliation, in at most `cycles` cycles; written down where anything differed.

        Raises `RunnerError` where the venue does not answer.
        """
        first = self._baseline is None
        if first:
            await self._begin()
        found: dict[Difference, None] = {}
        open_: list[Difference] = []
        for cycle in range(1, self.cycles + 1):
            differences = await self._cycle(thorough=first and cycle == 1)
            open_ = [one for one in differences if one.cause == "balance"]
            found |= dict.fromkeys(one for one in differences if one not in open_)
            if not open_:
                break
            if cycle < self.cycles:
                await self._insistence.sleep(self._insistence.pause(cycle))
        told = Reconciliation(cycle, (*found, *open_))
        if not told.equal:
            journal.record(self.log, journal.RECONCILED, **told.body())
        return told

    def adjust(self, asset: str, amount: Decimal, *, by: str, reason: str) -> None:
        """An operator accounts for a difference: `amount` came in (or went out) by a deposit, a withdrawal, a gift."""
        body = {"asset": asset, "amount": format(amount, "f"), "by": by, "reason": reason}
        journal.record(self.log, journal.ADJUSTMENT, **body)

    async def expected(self) -> dict[str, Decimal]:
        """What the account must hold, by asset."""
        if self._baseline is None:
            await self._begin()
        self._read_journals()
        return dict(self._books.holdings)

    # The beginning ----------------------------------------------------------------------------------------------------

    async def _begin(self) -> None:
        """Take what the account holds now as given, unless that was done by an earlier process."""
        entry = self.log.last(journal.BASELINE)
        if entry is None:
            body = await self._first_sight()
            entry = journal.record(self.log, journal.BASELINE, **body)
        self._baseline = entry.body
        for asset, amount in entry.body["balances"].items():
            self._books.add(asset, Decimal(amount))
        for log in self._all_journals():
            self._books.read[id(log)] = int(entry.body["after"].get(_name(log), 0))
        for symbol, (moment, names) in entry.body["seen"].items():
            self._seen[symbol] = (int(moment), set(names))

    async def _first_sight(self) -> dict[str, Any]:
        seen = {}
        for symbol in self.markets:
            trades = await self._trades_since(symbol, None)
            moment = max((trade["timestamp"] for trade in trades), default=0)
            seen[symbol] = [moment, sorted(str(trade["id"]) for trade in trades if trade["timestamp"] == moment)]
        balances = {asset: _text(amount) for asset, amount in (await self._balances()).items() if amount is not None}
        return {
            "balances": balances,
            "after": {_name(log): log.head()[0] for log in self._all_journals()},
            "seen": seen,
        }

    # One cycle --------------------------------------------------------------------------------------------------------

    async def _cycle(self, *, thorough: bool) -> list[Difference]:
        """Orders and balances; trades only where something does not add up, or for a `thorough` look."""
        differences = await self._compare_orders()
        doubtful = self._symbols_of(self._compare_balances(await self._still_balances()))
        for symbol in self.markets if thorough else doubtful:
            differences += await self._compare_trades(symbol)
        if doubtful:
            differences += self._compare_balances(await self._still_balances())
        return differences

    async def _still_balances(self) -> dict[str, Decimal | None]:
        """Balances that no trade has overtaken: none was written down while they were asked for, if that can be had."""
        before, said = await self._booked(), await self._balances()
        for _ in range(self.cycles - 1):
            if (booked := await self._booked()) == before:
                break
            before, said = booked, await self._balances()
        return said

    async def _booked(self) -> int:
        """How many trades the journals have, after everything that was heard is in them."""
        for desk in self._all_desks():
            await desk.written()
        self._read_journals()
        return self._books.count

    def _symbols_of(self, differences: Sequence[Difference]) -> list[str]:
        """The symbols whose trades may explain what is amiss: those of a base asset, else all of the currency."""
        based = {one.symbol for one in differences if one.asset == self.markets[one.symbol].base}
        return sorted(based or {one.symbol for one in differences})

    async def _compare_orders(self) -> list[Difference]:
        """Open orders here and there."""
        differences = []
        before = {order.id: order for desk in self._all_desks() for order in desk.working() if not order.held}
        for symbol in self.markets:
            names = await self._names(symbol)
            if any(self._is_done(name) for name in names):  # it may have ended while the answer was on its way
                await self._insistence.sleep(self._insistence.pause(0))
                later = await self._names(symbol)
                names = {name: order for name, order in names.items() if name in later or not self._is_done(name)}
            differences += [one for name, order in names.items() for one in self._unexpected(symbol, name, order)]
            gone = [one for one in before.values() if one.intent.symbol == symbol and one.id not in names]
            differences += [one for order in gone for one in await self._ask_for(order)]
        return differences

    async def _open_orders(self, symbol: str) -> list[dict[str, Any]]:
        async def question() -> list[dict[str, Any]]:
            return await self.dialect.open_orders(self.client, symbol)

        return await self._insistence.insist(question, f"the open orders of {symbol}")

    async def _names(self, symbol: str) -> dict[str, dict[str, Any]]:
        """What the venue shows as open, by client order id."""
        return {str(order.get("clientOrderId")): order for order in await self._open_orders(symbol)}

    def _is_done(self, client_order_id: str) -> bool:
        """Whether a journal calls this order final."""
        desk = self._desk_of(client_order_id)
        standing = None if desk is None else journal.standing_of(desk.log, client_order_id)
        return standing is not None and standing["status"] in journal.FINAL_STATUSES

    def _unexpected(self, symbol: str, name: str, order: dict[str, Any]) -> list[Difference]:
        """An order that the venue shows as open."""
        told = f"{order.get('side')} {order.get('amount')} {symbol} (order {order.get('id')}, named {name})"
        if not name.startswith(_OURS):
            detail = f"somebody else's order rests on the account: {told}"
            news, self._noted = detail not in self._noted, self._noted | {detail}
            return [Difference("foreign_order", symbol, detail, healed=True)] if news else []
        if self._desk_of(name) is None:
            return [self._from_nowhere(symbol, told)]
        if self._is_done(name):
            detail = f"the journal calls an order final that is open at the venue: {told}"
            return [Difference("unknown_order", symbol, detail, healed=False)]
        return []

    async def _ask_for(self, order: WorkingOrder) -> list[Difference]:
        """An order that rested here and is not shown as open there."""
        desk = self._desk_of(order.id)
        assert desk is not None
        try:
            await desk.refresh(order.intent.symbol)
        except RunnerError as error:
            return [Difference("lost_order", order.intent.symbol, str(error), healed=False)]
        if order.report.is_final:
            detail = f"order {order.id} ended as {order.state.value} while nobody listened"
            return [Difference("ended_order", order.intent.symbol, detail, healed=True)]
        return []  # it was being placed, or it is open after all: the next cycle sees

    async def _compare_trades(self, symbol: str) -> list[Difference]:
        """Trades that were not seen before: ours that no journal has, and somebody else's."""
        moment, names = self._seen.get(symbol, (0, set()))
        trades = [one for one in await self._trades_since(symbol, moment) if str(one["id"]) not in names]
        differences = [one for trade in trades for one in await self._compare_trade(symbol, trade)]
        newest = max((trade["timestamp"] for trade in trades), default=moment)
        at_newest = {str(trade["id"]) for trade in trades if trade["timestamp"] == newest}
        self._seen[symbol] = (newest, at_newest | (names if newest == moment else set()))
        return differences

    async def _compare_trade(self, symbol: str, trade: dict[str, Any]) -> list[Difference]:
        name = await self._owner(symbol, str(trade.get("order")))
        desk = None if name is None else self._desk_of(name)
        told = f"{trade.get('side')} {trade['amount']} {symbol} at {trade['price']}"
        told += f" (trade {trade['id']}, order {trade.get('order')})"
        if desk is not None and name is not None:
            if not await desk.book(name, [trade]):
                return []
            if desk.is_overfilled(name):
                detail = f"order {name} traded more than was ordered, the venue took it twice: {told}"
                return [Difference("overfill", symbol, detail, healed=False)]
            return [Difference("fill", symbol, f"a fill was not in the journal: {told}", healed=True)]
        if name is not None and name.startswith(_OURS):
            return [self._from_nowhere(symbol, told)]
        read = VenueTrade.read(trade, name or "", symbol)
        body = {key: read.body()[key] for key in journal.VOCABULARY[journal.FOREIGN]}
        if journal.record(self.log, journal.FOREIGN, **body).duplicate:
            return []
        detail = f"somebody else traded on this account: {told}"
        return [Difference("foreign_trade", symbol, detail, healed=self.foreign == "note")]

    async def _owner(self, symbol: str, venue_order_id: str) -> str | None:
        """The client order id of the order that a trade belongs to."""
        for desk in self._all_desks():
            name = desk.named(venue_order_id)
            if name is not None:
                return name

        async def question() -> dict[str, Any]:
            return self.dialect.named(await self.client.fetch_order(venue_order_id, symbol))

        order = await self._insistence.insist(question, f"order {venue_order_id} of {symbol}")
        return None if order.get("clientOrderId") is None else str(order["clientOrderId"])

    def _compare_balances(self, balances: Mapping[str, Decimal | None]) -> list[Difference]:
        self._read_journals()
        differences = []
        for asset, symbols in self._assets().items():
            wanted, held = self._books.holdings.get(asset, Decimal(0)), balances.get(asset)
            room = self._tolerance(asset)
            if (held is None and abs(wanted) <= room) or (held is not None and abs(held - wanted) <= room):
                continue
            shown = "does not name it" if held is None else f"holds {_text(held)}"
            detail = f"the journals account for {_text(wanted)} {asset}, the venue {shown}"
            differences += [Difference("balance", symbol, detail, healed=False, asset=asset) for symbol in symbols]
        return differences

    def _tolerance(self, asset: str) -> Decimal:
        """Half a lot of a base asset; of a currency what the venue's own rounding may have lost."""
        steps = [market.step for market in self.markets.values() if market.base == asset]
        if steps:
            return min(steps) / 2
        held = abs(self._books.holdings.get(asset, Decimal(0)))
        return _ROUNDING * (1 + self._books.count) + _RELATIVE * (held + self._books.turnover)

    # Reading ----------------------------------------------------------------------------------------------------------

    def _all_desks(self) -> list[OrderDesk]:
        """The desks of all who trade here, and of those who did."""
        return [*self.desks, *self.retired]

    def _all_journals(self) -> list[Ledger]:
        """Their journals."""
        return [desk.log for desk in self._all_desks()]

    def _read_journals(self) -> None:
        """Book what the journals have gained."""
        for log in {id(log): log for log in (self.log, *self._all_journals())}.values():
            after = self._books.read.get(id(log), 0)
            head = log.head()[0]
            for kind in (journal.FILL, journal.FOREIGN, journal.ADJUSTMENT) if head > after else ():
                for entry in log.entries(kind, after):
                    if kind == journal.ADJUSTMENT:
                        self._books.add(entry.body["asset"], Decimal(entry.body["amount"]))
                    else:
                        self._books.trade(entry.body)
            self._books.read[id(log)] = head

    async def _balances(self) -> dict[str, Decimal | None]:
        """Free and locked together, of the assets that are traded here; None where the venue does not name one."""

        async def question() -> dict[str, Decimal | None]:
            said = await self.client.fetch_balance()
            if not isinstance(said, dict) or not isinstance(said.get("info"), dict | list):
                raise LookupError("no balances")
            return {asset: _amount(said.get(asset)) for asset in self._assets()}

        return await self._insistence.insist(question, "the balances")

    async def _trades_since(self, symbol: str, since: int | None) -> list[dict[str, Any]]:
        """Every trade of the account from a time on, page by page."""
        found: dict[str, dict[str, Any]] = {}
        while True:

            async def question(since: int | None = since) -> list[dict[str, Any]]:
                said = await self.dialect.fills(self.client, symbol, since=since)
                if any(trade.get("id") is None or trade.get("timestamp") is None for trade in said):
                    raise LookupError("a trade without id or time")
                return said

            page = await self._insistence.insist(question, f"the trades of {symbol}")
            fresh = {str(trade["id"]): trade for trade in page if str(trade["id"]) not in found}
            found |= fresh
            if not fresh or since is None:
                return sorted(found.values(), key=lambda trade: (trade["timestamp"], str(trade["id"])))
            since = max(trade["timestamp"] for trade in fresh.values())

    def _assets(self) -> dict[str, list[str]]:
        """Asset -> the symbols that halt where it does not add up: all that it is base or quote of."""
        found: dict[str, list[str]] = {}
        for market in self.markets.values():
            found.setdefault(market.base, []).append(market.symbol)
            found.setdefault(market.quote, []).append(market.symbol)
        return found

    def _desk_of(self, client_order_id: str) -> OrderDesk | None:
        """The desk whose journal has this intent."""
        return next((desk for desk in self._all_desks() if desk.log.get(f"intent:{client_order_id}") is not None), None)

    def _from_nowhere(self, symbol: str, told: str) -> Difference:
        detail = f"an order of this runner is at the venue and in no journal (an old backup?): {told}"
        return Difference("unknown_order", symbol, detail, healed=False)


def _name(log: Ledger) -> str:
    return getattr(log, "base", log.path).name


def _amount(said: Any) -> Decimal | None:
    value = said.get("total") if isinstance(said, dict) else None
    return None if value is None else Decimal(repr(value)) if isinstance(value, float) else Decimal(str(value))


def _text(amount: Decimal) -> str:
    return format(amount.normalize(), "f")
