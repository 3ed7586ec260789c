"""A seeded day of orders of every kind, and the process that trades it through the desk: what the crash matrix kills.

`script(seed)` says what happens: bars, and for each what to place and what to cancel. `trade` works it off against a
venue whose clock it moves itself, bar by bar; a bar that is done is marked in the journal, so a process that was killed
is continued by another one with the same call.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tradelib.bundle.trading.terms import client_order_id
from tradelib.data.bars import make_bars
from tradelib.ledger import Ledger, journal, open_journal
from tradelib.live.connection import make_client, set_clock
from tradelib.live.dialects import Dialect, dialect_of
from tradelib.live.fills import FillBook
from tradelib.live.held import HeldOrders
from tradelib.live.intents import TERMINAL, Intent, OrderReport, OrderState
from tradelib.live.orders import OrderDesk, WorkingOrder
from tradelib.live.patience import Insistence, Patience, attempt
from tradelib.live.reconcile import Reconciler

SYMBOLS = ("C0/USDT", "C1/USDT")
HOLDINGS = {"C0": 50.0, "C1": 50.0}
CASH = 100_000.0
BARS = 6
KEY, SECRET, PASSPHRASE = "test-key", "dGVzdCBzZWNyZXQ=", "tests"
PATIENCE = Patience(backoff=0.002, backoff_ceiling=0.02, receive_window=0.3, request_timeout=0.6)
_START = datetime(2020, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Listed:
    """What the reconciler must know of a market."""

    symbol: str
    base: str
    quote: str
    step: Decimal


def bars(seed: int, symbol: str) -> pd.DataFrame:
    """A few daily bars of a random walk in cents."""
    numbers = np.random.default_rng([seed, int(symbol[1])])
    close = np.round(100.0 * np.exp(np.cumsum(numbers.normal(0.0, 0.02, BARS + 2))), 2)
    opened = np.round(np.r_[100.0, close[:-1]], 2)
    spread = np.round(numbers.uniform(0.2, 3.0, BARS + 2), 2)
    columns = {
        "open": opened,
        "high": np.maximum(opened, close) + spread,
        "low": np.minimum(opened, close) - spread,
        "close": close,
        "volume": np.full(BARS + 2, 1e6),
    }
    index = pd.date_range(_START, periods=BARS + 2, freq="D", name="time")
    return make_bars(
        pd.DataFrame(columns, index=index), symbol=symbol, timeframe="1d", source="synthetic", calendar="24/7"
    )


def moment(bar: int) -> str:
    """The open time of a bar."""
    return (_START + timedelta(days=bar)).isoformat()


def script(seed: int) -> list[list[Intent]]:
    """For each bar from the second on, the orders to place; deterministic."""
    numbers = random.Random(seed)
    closes = {symbol: bars(seed, symbol)["close"].to_list() for symbol in SYMBOLS}
    return [
        [intent for number in range(numbers.randint(1, 3)) for intent in _orders(numbers, bar, number, closes)]
        for bar in range(1, BARS)
    ]


def _orders(numbers: random.Random, bar: int, number: int, closes: dict[str, list[float]]) -> list[Intent]:
    """One order, or a pair that cancels itself."""
    symbol, side = numbers.choice(SYMBOLS), numbers.choice(("buy", "sell"))
    kind = numbers.choice(("market", "market", "limit", "limit", "stop", "stop_limit", "pair"))
    price = closes[symbol][bar - 1]
    away = Decimal(numbers.choice(("0.3", "1.5", "4")))
    mid, gain = Decimal(str(price)), away if side == "sell" else -away

    def intend(leg: str, kind: str, **terms: Any) -> Intent:
        name = client_order_id("e" * 64, symbol, moment(bar), leg)
        quantity = Decimal(numbers.randint(1, 30)) / 10 if "quantity" not in terms else terms.pop("quantity")
        return Intent(moment(bar), name, symbol, side, quantity, kind, leg=leg, **terms)  # type: ignore[arg-type]

    leg = f"{number}"
    if kind == "market":
        return [intend(leg, kind)]
    if kind == "limit":
        return [intend(leg, kind, price=mid + gain)]
    stop = mid - gain
    if kind == "stop":
        return [intend(leg, kind, stop_price=stop)]
    if kind == "stop_limit":
        return [intend(leg, kind, stop_price=stop, price=stop - gain)]
    target = intend(f"{leg}t", "limit", price=mid + gain, group=f"{bar}/{leg}", reduces=True)
    guard = {"group": target.group, "reduces": True, "quantity": target.quantity}
    return [target, intend(f"{leg}s", "stop", stop_price=stop, **guard)]


def the_dialect(name: str, changes: dict[str, Any]) -> Dialect:
    """The runner's dialect, with parts taken away that the runner must then do itself."""
    kinds = {"order_kinds": frozenset(changes["order_kinds"])} if "order_kinds" in changes else {}
    return replace(dialect_of(name), **{**changes, **kinds, "clock_margin": 0.0})


class Trading:
    """One process: from wherever the journal ends to the end of the script."""

    def __init__(
        self, case: dict[str, Any], client: Any, log: Ledger, insistence: Insistence, clock: Any = None
    ) -> None:
        self.seed = int(case["seed"])
        self.client, self.log = client, log
        dialect = the_dialect(case["dialect"], case["changes"])
        options = {} if clock is None else {"clock": clock, "at_once": 1}
        self.desk = OrderDesk(client, log, insistence, dialect=dialect, **options)
        markets = [Listed(symbol, *symbol.split("/"), Decimal("0.0001")) for symbol in SYMBOLS]
        self.reconciler = Reconciler(client, log, [self.desk], markets, insistence)
        self.insistence = insistence

    async def work(self) -> None:
        """Work the script off; what was found at the end is in the journal's `stop`."""
        if self.log.last(journal.BASELINE) is None:
            await self.reconciler.reconcile()
        done = [body["time"] for body in journal.bars(self.log)]
        present = moment(len(done) + 1)
        await self.desk.resume(lambda intent: intent.time == present)
        for bar, intents in enumerate(script(self.seed), start=1):
            if moment(bar) not in done:
                await self._bar(bar, intents)
        await self.desk.cancel_all("the end")
        found = await self.reconciler.reconcile()
        journal.record(self.log, journal.STOP, reason="the end", halted=found.halted)

    async def _bar(self, bar: int, intents: list[Intent]) -> None:
        await self._goto(bar)
        await self.desk.refresh()
        for symbol in SYMBOLS:
            price = float(bars(self.seed, symbol)["open"].iloc[bar])
            await self.desk.tick(symbol, bid=price, ask=price)
        for order in self.desk.working():
            chance = random.Random(f"{self.seed}/{bar}/{order.id}").random()
            if order.intent.time != moment(bar) and order.intent.group is None and chance < 0.3:
                await self.desk.cancel(order.id, "the script says so")
        new = [intent for intent in intents if self.log.get(f"intent:{intent.client_order_id}") is None]
        bodies = [intent.body() for intent in new]
        self.log.extend((journal.INTENT, body, journal.entry_key(journal.INTENT, body)) for body in bodies)
        here = [one for one in intents if one in new or not self._is_done(one)]
        await self.desk.place_all(here)
        if self.desk.halted:
            raise SystemExit(3)  # an outcome could not be proved: whoever comes next asks again
        columns = dict.fromkeys(("open", "high", "low", "close", "volume"), 0.0)
        journal.record(self.log, journal.BAR, time=moment(bar), **columns)

    def _is_done(self, intent: Intent) -> bool:
        standing = journal.standing_of(self.log, intent.client_order_id)
        return standing is not None and standing["status"] in {state.value for state in TERMINAL}

    async def _goto(self, bar: int) -> None:
        """Move the venue's clock to a bar; asking first makes it safe to say twice."""
        import aiohttp

        wanted = round((_START + timedelta(days=bar)).timestamp() * 1000)
        async with aiohttp.ClientSession() as session:
            while await self._clock(session) < wanted:
                await self._step(session)

    async def _clock(self, session: Any) -> int:
        async with session.get(f"{self.client.venue}/venue/v1/clock") as answer:
            return int((await answer.json())["clock"])

    async def _step(self, session: Any) -> None:
        import hashlib
        import hmac
        import time

        query = f"ticks=1&timestamp={round(time.time() * 1000)}"
        signature = hmac.new(SECRET.encode(), query.encode(), hashlib.sha256).hexdigest()
        address = f"{self.client.venue}/venue/v1/step?{query}&signature={signature}"
        async with session.post(address, headers={"X-MBX-APIKEY": KEY}) as answer:
            assert answer.status == 200, await answer.text()


async def trade(case: dict[str, Any], around: Callable[[Any], Any]) -> None:
    """Trade the case's script at `case["url"]` with the journal `case["journal"]`; `around` wraps the client."""
    milliseconds = {
        "request_timeout_ms": round(PATIENCE.request_timeout * 1000),
        "receive_window_ms": round(PATIENCE.receive_window * 1000),
    }
    if case.get("plant"):
        plant(case["plant"])
    client = around(
        make_client(case["url"], "paper", KEY, SECRET, case["dialect"], passphrase=PASSPHRASE, **milliseconds)
    )
    client.venue = case["url"]
    virtual = _VirtualClock() if case["virtual"] else None
    sleep = virtual.sleep if virtual is not None else asyncio.sleep
    insistence = Insistence(PATIENCE, lambda: set_clock(client), sleep=sleep)
    stamps = _Stamps(Path(case["journal"])) if case["virtual"] else None
    try:
        await insistence.insist(client.load_markets, "markets")
        with open_journal(case["journal"], clock=stamps) as log:
            if stamps is not None:
                stamps.log = log
            await Trading(case, client, log, insistence, virtual).work()
    finally:
        await client.close()


def plant(name: str) -> None:
    """Break the runner on purpose, to show that the matrix would see it."""
    if name == "sends again blindly":
        ask = OrderDesk.ask

        async def no_question(self: OrderDesk, order: WorkingOrder) -> OrderReport:
            if order.sends <= 1 and order.report.venue_order_id is None:
                return replace(order.report, state=OrderState.INTENDED)
            return await ask(self, order)

        OrderDesk.ask = no_question  # type: ignore[method-assign]
    elif name == "forgets a fill":
        entries = FillBook.entries
        FillBook.entries = lambda self, trades: entries(self, trades)[1:]  # type: ignore[method-assign]
    elif name == "calls an order lost when it is not found":

        async def lost(self: OrderDesk, order: WorkingOrder) -> OrderReport:
            report = await self._query(order)
            gone = report.state in (OrderState.UNKNOWN, OrderState.INTENDED)
            return replace(report, state=OrderState.EXPIRED) if gone else report

        OrderDesk.ask = lost  # type: ignore[method-assign]
    elif name == "believes the reply to a cancel":

        async def believe(self: OrderDesk, order: WorkingOrder) -> None:
            await attempt(self.dialect.cancel(self.client, order.intent.symbol, order.id))
            order.report = replace(order.report, state=OrderState.CANCELED)
            await self.note(order)

        OrderDesk._withdraw = believe  # type: ignore[method-assign]
    elif name == "forgets that a held order was fired":
        HeldOrders.has_fired = lambda self, intent: False  # type: ignore[method-assign]
    elif name == "books a trade as often as it is told":
        FillBook.fresh = lambda self, trades: list(trades)  # type: ignore[method-assign, assignment]
        FillBook.entries = lambda self, trades: [  # type: ignore[method-assign]
            (journal.FILL, trade.body(), None) for trade in trades
        ]
    else:
        raise AssertionError(name)


class _VirtualClock:
    """Time that passes only where somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)


class _Stamps:
    """Times for the journal that depend on nothing but how far it has come."""

    def __init__(self, path: Path) -> None:
        self.log: Ledger | None = None

    def __call__(self) -> datetime:
        return _START + timedelta(seconds=0 if self.log is None else self.log._newest())
