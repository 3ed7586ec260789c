"""Fourteen ways in which a submit fails, on three exchanges: none ends as failed without the venue's proof.

Real ccxt clients, real sockets: the order goes through a proxy that breaks the reply (after the venue took the order,
or instead of asking it), to the paper venue in the exchange's own dialect.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.live.faults import ORDER_PATHS, Fault, FaultProxy, first_order
from tests.live.shapes import FOURTEEN
from tests.live.support import KEY, SYMBOL, Sealed, exchange
from tradelib.bundle.trading.terms import client_order_id
from tradelib.ledger import journal, open_journal
from tradelib.live.connection import make_client, venue_reply, venue_verdict
from tradelib.live.dialects import Placement, Verdict, dialect_of
from tradelib.live.intents import Intent, OrderReport, OrderState
from tradelib.live.orders import OrderDesk
from tradelib.live.patience import Insistence, Patience, attempt
from tradelib.venue import VenueThread

TIME = "2020-04-09T00:00:00+00:00"
SECRET = base64.b64encode(b"a secret that is long enough").decode()
PASSPHRASE = "a passphrase"
PATIENCE = Patience(request_timeout=0.25)
EXCHANGES = tuple(FOURTEEN)
CASES = [(name, shape) for name in EXCHANGES for shape in FOURTEEN[name]]
NUMBERS = itertools.count()
POSSIBLE = [
    pytest.param(name, shape, landed, id=f"{name}-{shape}-{'landed' if landed else 'lost'}")
    for name, shape in CASES
    for landed in (True, False)
    if not (landed and FOURTEEN[name][shape].verdict in (Verdict.REFUSED, Verdict.CLOCK))
]
"""Each shape with an order that landed and one that was lost; who proves that it refused an order has not taken it."""


@pytest.fixture(scope="module")
def venues(sealed: Sealed) -> Iterator[dict[str, VenueThread]]:
    """The three dialects over three exchanges; their orders are told apart by their ids."""
    options = {"key": KEY, "secret": SECRET, "passphrase": PASSPHRASE}
    running = {name: VenueThread(exchange(sealed), dialect=name, **options) for name in EXCHANGES}
    for venue in running.values():
        venue.__enter__()
    yield running
    for venue in running.values():
        venue.__exit__()


class Clock:
    """Time that passes only where the runner sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


def connected(url: str, name: str) -> Any:
    """The client of an exchange, as the runner makes it."""
    window, timeout = (round(value * 1000) for value in (PATIENCE.receive_window, PATIENCE.request_timeout))
    return make_client(
        url, "paper", KEY, SECRET, name, passphrase=PASSPHRASE, receive_window_ms=window, request_timeout_ms=timeout
    )


class Scene:
    """One order at a venue behind a faulty wire."""

    def __init__(self, venue: VenueThread, name: str, shape: str, *, delivered: bool) -> None:
        self.venue, self.name = venue, name
        self.fault = Fault(shape, FOURTEEN[name][shape].reply, delivered=delivered)
        self.id = client_order_id(f"{next(NUMBERS):064x}", SYMBOL, TIME)
        self.clock = Clock()

    def settle(self, folder: Path) -> OrderReport:
        """Write the intent and see it through."""
        with FaultProxy(self.venue.url, first_order(self.fault, self.name)) as self.proxy:
            return asyncio.run(self._settle(folder / "journal.sqlite"))

    async def _settle(self, path: Path) -> OrderReport:
        client = connected(self.proxy.url, self.name)
        intent = Intent(TIME, self.id, SYMBOL, "buy", Decimal("0.5"))
        try:
            await client.load_markets()
            with open_journal(path) as log:
                insistence = Insistence(PATIENCE, sleep=self.clock.sleep)
                desk = OrderDesk(client, log, insistence, dialect=dialect_of(self.name), clock=self.clock)
                journal.record(log, journal.INTENT, **intent.body())
                return await desk.execute(intent)
        finally:
            await client.close()

    def placed(self) -> list[Any]:
        """The venue's own orders under our id."""
        name = dialect_of(self.name).wire_id(self.id)
        return [order for order in self.venue.exchange.orders if order.client_order_id == name]

    def sends(self) -> int:
        """How often the order was sent."""
        return self.proxy.count("POST", ORDER_PATHS[self.name])


@pytest.mark.parametrize(("name", "shape", "delivered"), POSSIBLE)
def test_a_failed_submit_ends_as_one_order_or_with_the_venues_proof(
    venues: dict[str, VenueThread], tmp_path: Path, name: str, shape: str, delivered: bool
) -> None:
    proof = FOURTEEN[name][shape].verdict
    scene = Scene(venues[name], name, shape, delivered=delivered)
    report = scene.settle(tmp_path)
    if proof is Verdict.REFUSED:
        assert (report.state, scene.placed(), scene.sends()) == (OrderState.REJECTED, [], 1)
        return
    (order,) = scene.placed()
    (fill,) = order.fills
    assert report.state is OrderState.FILLED
    assert (report.quantity, report.price, report.fee) == (0.5, fill.price, fill.fee)
    assert scene.sends() == (1 if delivered else 2)
    if not delivered and proof is not Verdict.CLOCK:  # not again before a late copy of the request would be refused
        assert scene.clock.now >= PATIENCE.receive_window + dialect_of(name).clock_margin


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_what_a_failure_proves_is_read_from_the_venues_own_words(
    venues: dict[str, VenueThread], name: str, shape: str
) -> None:
    scene = Scene(venues[name], name, shape, delivered=False)

    async def submit() -> Any:
        client = connected(proxy.url, name)
        try:
            await client.load_markets()
            order = Placement(SYMBOL, "buy", "market", Decimal("0.5"), scene.id)
            return await attempt(dialect_of(name).place(client, order, 5_000))
        finally:
            await client.close()

    with FaultProxy(venues[name].url, first_order(scene.fault, name)) as proxy:
        answer = asyncio.run(submit())
    error = getattr(answer, "error", None)
    if error is None:  # ccxt calls an empty or a broken reply a success
        assert shape.startswith("200")
        assert answer.get("id") is None
    else:
        assert venue_verdict(error) is FOURTEEN[name][shape].verdict
        assert dialect_of(name).verdict(venue_reply(error)) is FOURTEEN[name][shape].verdict


def test_there_are_fourteen_shapes_on_each_of_three_exchanges() -> None:
    assert {name: len(shapes) for name, shapes in FOURTEEN.items()} == {"binance": 14, "kraken": 14, "bitget": 14}
    assert len({frozenset(shapes) for shapes in FOURTEEN.values()}) == 1
