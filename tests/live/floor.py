"""A trading floor for tests of orders: a real venue behind a real socket, a journal, and processes that live and die.

`Floor.life(work)` is the life of one process: it opens the journal, makes client, desk and reconciler, lets `work` do
something, and ends. What it knew is gone afterwards, as after a crash; the journal and the venue remain. A process
may be killed at a boundary (`die_at`), before or after a write of the journal or a request: everything that was
committed or received stays, nothing else happens. (`tests.live.matrix` does the same with real processes and SIGKILL.)
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from tests.live.support import KEY
from tradelib.bundle.trading.terms import client_order_id
from tradelib.data.bars import make_bars
from tradelib.ledger import Ledger, Verification, journal, open_journal
from tradelib.live.connection import make_client, set_clock
from tradelib.live.dialects import Dialect, dialect_of
from tradelib.live.intents import Intent, OrderReport
from tradelib.live.orders import OrderDesk
from tradelib.live.patience import Insistence, Patience
from tradelib.live.reconcile import Reconciler
from tradelib.venue import PaperExchange, VenueMarket, VenueThread
from tradelib.venue.faults import FaultPlan

Result = TypeVar("Result")
DIGEST = "f" * 64
SECRET = "dGVzdCBzZWNyZXQ="
"""Base64, as Kraken wants it."""
PATIENCE = Patience(request_timeout=0.5, receive_window=0.2, backoff=0.002, backoff_ceiling=0.01)


class Killed(BaseException):
    """The process was killed here."""


@dataclass(frozen=True)
class Listed:
    """What the reconciler must know of a market."""

    symbol: str
    base: str
    quote: str
    step: Decimal


class Clock:
    """Time that passes only where somebody sleeps; sleeping still lets the others go on."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)


@dataclass
class Life:
    """What one process has."""

    client: Any
    log: Ledger
    desk: OrderDesk
    reconciler: Reconciler
    reports: list[OrderReport]
    symbol: str
    time: str = "2020-01-02T00:00:00+00:00"

    def intend(self, leg: str, side: str, quantity: str, kind: str = "market", **terms: Any) -> Intent:
        """An intent, written into the journal."""
        exact = {name: Decimal(terms.pop(name)) for name in ("price", "stop_price") if name in terms}
        symbol = terms.pop("symbol", self.symbol)
        name = client_order_id(DIGEST, symbol, self.time, leg)
        intent = Intent(self.time, name, symbol, side, Decimal(quantity), kind, leg=leg, **exact, **terms)  # type: ignore[arg-type]
        journal.record(self.log, journal.INTENT, **intent.body())
        return intent

    async def trade(self, leg: str, side: str, quantity: str) -> OrderReport:
        """A market order."""
        return await self.desk.execute(self.intend(leg, side, quantity))


@dataclass
class Floor:
    """The venue and the journal. `bars` are `(open, high, low, close)`; the second one forms when it opens."""

    path: Path
    bars: list[tuple[float, float, float, float]] = field(default_factory=lambda: [(100.0, 101.0, 99.0, 100.0)] * 12)
    symbols: tuple[str, ...] = ("BTC/USDT",)
    dialect: str = "binance"
    faults: FaultPlan | None = None
    terms: dict[str, Any] = field(default_factory=dict)
    account: dict[str, Any] = field(default_factory=dict)
    changes: dict[str, Any] = field(default_factory=dict)
    """Fields of the runner's dialect to change: `{"holds_oco": False}`."""
    patience: Patience = PATIENCE
    foreign: Any = "halt"
    volume: float = 1e6

    def __post_init__(self) -> None:
        markets = [
            VenueMarket(symbol, self._frame(symbol), **({"price_decimals": 2} | self.terms)) for symbol in self.symbols
        ]
        self.exchange = PaperExchange(markets, **({"pace": "manual", "cash": 100_000.0} | self.account))
        self.served = VenueThread(
            self.exchange, key=KEY, secret=SECRET, dialect=self.dialect, faults=self.faults, passphrase="tests"
        )
        self.clock = Clock()
        self.boundaries = 0

    def __enter__(self) -> Floor:
        self.served.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.served.__exit__()

    def life(
        self, work: Callable[[Life], Awaitable[Result]], *, die_at: int | None = None, url: str | None = None
    ) -> Result:
        """One process, from its start to its end, or to its death (`Killed`) at a boundary."""
        self.boundaries = 0
        return asyncio.run(self._live(work, die_at, url or self.served.url))

    async def _live(self, work: Callable[[Life], Awaitable[Result]], die_at: int | None, url: str) -> Result:
        milliseconds = {"request_timeout_ms": 500, "receive_window_ms": 5_000}
        client = make_client(url, "paper", KEY, SECRET, self.dialect, passphrase="tests", **milliseconds)
        insistence = Insistence(self.patience, lambda: set_clock(client), sleep=self.clock.sleep)
        reports: list[OrderReport] = []
        try:
            await insistence.insist(client.load_markets, "markets")
            with open_journal(self.path) as log:
                desk = OrderDesk(
                    client, log, insistence, dialect=self._runner_dialect(), clock=self.clock, on_report=reports.append
                )
                markets = [Listed(symbol, *symbol.split("/"), Decimal("0.0001")) for symbol in self.symbols]
                reconciler = Reconciler(client, log, [desk], markets, insistence, foreign=self.foreign)
                self._mine(client, log, die_at)
                return await work(Life(client, log, desk, reconciler, reports, self.symbols[0]))
        finally:
            await client.close()

    def _runner_dialect(self) -> Dialect:
        return replace(dialect_of(self.dialect), **self.changes)

    def _mine(self, client: Any, log: Ledger, die_at: int | None) -> None:
        """Count the boundaries of this process, and die at one of them."""

        def cross() -> None:
            self.boundaries += 1
            if self.boundaries == die_at:
                raise Killed

        fetch, extend = client.fetch, log.extend

        async def fetched(*given: Any, **named: Any) -> Any:
            cross()
            answer = await fetch(*given, **named)
            cross()
            return answer

        def extended(items: Any) -> Any:
            cross()
            entries = extend(items)
            cross()
            return entries

        client.fetch, log.extend = fetched, extended  # type: ignore[method-assign]

    # What is true -----------------------------------------------------------------------------------------------------

    def step(self, bars: int = 1) -> None:
        """Let bars pass at the venue."""
        self.exchange.step(bars)

    def ours(self) -> list[Any]:
        """The venue's orders that carry our name (as the venue writes it)."""
        wire = self._runner_dialect().wire_id(client_order_id(DIGEST, "x", "y"))[:3]
        return [
            order
            for order in self.exchange.orders
            if order.client_order_id.startswith(("tl-", wire)) or len(order.client_order_id) == 32
        ]

    def read(self, kind: str) -> list[dict[str, Any]]:
        """The bodies of one kind in the journal."""
        with open_journal(self.path, read_only=True) as log:
            return journal.bodies(log, kind)

    def verified(self) -> Verification:
        """The journal's chain."""
        with open_journal(self.path, read_only=True) as log:
            return log.verify()

    def position(self) -> Decimal:
        """What the fills of the journal add up to."""
        return sum((Decimal(repr(body["quantity"])) for body in self.read(journal.FILL)), Decimal(0))

    def assert_sound(self) -> None:
        """What must hold whatever happened: one order per intent, every fill counted once, the chain whole."""
        names = [order.client_order_id for order in self.ours()]
        assert len(names) == len(set(names)), "an intent became two orders"
        told = sorted((body["venue_order_id"], body["trade_id"]) for body in self.read(journal.FILL))
        trades = self.exchange.trades()
        ours = {order.order_id for order in self.ours()}
        assert len(told) == len(set(told)) == len([1 for order, _ in trades if order.order_id in ours])
        assert self.verified().ok

    def _frame(self, symbol: str) -> pd.DataFrame:
        values = np.array(self.bars, dtype=float)
        columns = dict(zip(("open", "high", "low", "close"), values.T, strict=True))
        index = pd.date_range("2020-01-01", periods=len(values), freq="D", tz="UTC", name="time")
        frame = pd.DataFrame(columns | {"volume": self.volume}, index=index)
        return make_bars(frame, symbol=symbol, timeframe="1d", source="synthetic", calendar="24/7")
