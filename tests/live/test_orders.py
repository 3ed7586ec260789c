"""The fourteen ways in which an order can end, and some more: no outcome is believed without the venue's word."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.live import faults
from tests.live.faults import Fault, FaultProxy, first_order, refusal, status
from tests.live.shapes import AMBIGUOUS, PROVEN
from tests.live.support import KEY, SECRET, SYMBOL, Sealed, exchange, venue
from tradelib.bundle.trading.terms import client_order_id, quantise, quantise_price
from tradelib.errors import RunnerError
from tradelib.ledger import journal, open_journal
from tradelib.live.connection import make_client
from tradelib.live.fills import VenueTrade
from tradelib.live.intents import TERMINAL, TRANSITIONS, Intent, OrderReport, OrderState, advance, classify_reply
from tradelib.live.orders import OrderDesk
from tradelib.live.patience import Insistence, Patience
from tradelib.venue import VenueThread

TIME = "2020-04-09T00:00:00+00:00"
NAME = client_order_id("d" * 64, SYMBOL, TIME)
INTENT = Intent(TIME, NAME, SYMBOL, "buy", Decimal("12.5"))
ORDER = ("POST", "/api/v3/order")


class Clock:
    """Time that passes only where the runner sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


class Scene:
    """A desk at a faulty wire: settles one intent, and knows what the venue really did."""

    def __init__(self, served: VenueThread, path: Path, plan: faults.Plan, patience: Patience | None = None) -> None:
        self.served, self.path, self.plan = served, path, plan
        self.patience = patience or Patience(request_timeout=0.25)
        self.clock = Clock()
        self.real = False

    def settle(self, *, recover: bool = False, may_send: bool = True) -> OrderReport:
        """Write the intent and execute (or recover) it."""
        with FaultProxy(self.served.url, self.plan) as self.proxy:
            return asyncio.run(self._settle(recover, may_send))

    async def _settle(self, recover: bool, may_send: bool) -> OrderReport:
        window, timeout = (
            round(value * 1000) for value in (self.patience.receive_window, self.patience.request_timeout)
        )
        client = make_client(self.proxy.url, "paper", KEY, SECRET, receive_window_ms=window, request_timeout_ms=timeout)
        sleep = asyncio.sleep if self.real else self.clock.sleep
        insistence = Insistence(self.patience, sleep=sleep)
        try:
            await client.load_markets()
            with open_journal(self.path) as log:
                desk = OrderDesk(client, log, insistence) if self.real else self._desk(client, log, insistence)
                journal.record(log, journal.INTENT, **INTENT.body())
                if recover:
                    return await desk.recover(INTENT, may_send=may_send)
                return await desk.execute(INTENT)
        finally:
            await client.close()

    def _desk(self, client: Any, log: Any, insistence: Insistence) -> OrderDesk:
        return OrderDesk(client, log, insistence, clock=self.clock)

    def placed(self) -> list[Any]:
        """The venue's own orders under our id."""
        return [order for order in self.served.exchange.orders if order.client_order_id == NAME]

    def statuses(self) -> list[str]:
        """What the journal says, in order."""
        with open_journal(self.path, read_only=True) as log:
            return [order["status"] for order in journal.orders(log)]


@pytest.fixture
def served(sealed: Sealed) -> Iterator[VenueThread]:
    with venue(exchange(sealed)) as running:
        yield running


@pytest.mark.parametrize("name", AMBIGUOUS)
@pytest.mark.parametrize("delivered", [True, False], ids=["landed", "lost"])
def test_an_ambiguous_submit_is_asked_for_and_ends_as_exactly_one_order(
    served: VenueThread, tmp_path: Path, name: str, delivered: bool
) -> None:
    scene = Scene(served, tmp_path / "j", first_order(Fault(name, AMBIGUOUS[name], delivered=delivered)))
    report = scene.settle()
    (order,) = scene.placed()
    assert report.state is OrderState.FILLED
    assert (report.quantity, report.price, report.fee) == (12.5, order.fills[0].price, order.fills[0].fee)
    assert report.venue_order_id == str(order.order_id)
    assert scene.statuses() == ["unknown", "filled"]
    assert scene.proxy.count(*ORDER) == (1 if delivered else 2)
    if not delivered:  # not sent again before a late copy of the first request would be refused
        assert scene.clock.now >= scene.patience.receive_window + 1.0


@pytest.mark.parametrize("name", PROVEN)
def test_what_the_venue_proves_is_rejected_and_not_sent_again(served: VenueThread, tmp_path: Path, name: str) -> None:
    scene = Scene(served, tmp_path / "j", first_order(Fault(name, PROVEN[name])))
    report = scene.settle()
    assert (report.state, report.quantity, scene.placed()) == (OrderState.REJECTED, 0.0, [])
    assert scene.statuses() == ["rejected"]
    assert scene.proxy.count(*ORDER) == 1
    assert name.split()[0] in report.reason


def test_duplicate_order_sent_means_that_an_earlier_attempt_arrived(served: VenueThread, tmp_path: Path) -> None:
    said = refusal(-2010, "Duplicate order sent.")
    scene = Scene(served, tmp_path / "j", first_order(Fault("duplicate", said, delivered=True)))
    assert scene.settle().state is OrderState.FILLED
    assert (len(scene.placed()), scene.proxy.count(*ORDER)) == (1, 1)


def test_a_refused_timestamp_is_corrected_and_sent_again(served: VenueThread, tmp_path: Path) -> None:
    said = refusal(-1021, "Timestamp for this request is outside of the recvWindow.")
    scene = Scene(served, tmp_path / "j", first_order(Fault("clock", said)))
    assert scene.settle().state is OrderState.FILLED
    assert (len(scene.placed()), scene.proxy.count(*ORDER)) == (1, 2)
    assert scene.proxy.count("GET", "/api/v3/time") == 1
    assert scene.statuses() == ["filled"]


def test_a_refused_key_stops_the_runner(served: VenueThread, tmp_path: Path) -> None:
    said = refusal(-2015, "Invalid API-key, IP, or permissions for action.", 401)
    scene = Scene(served, tmp_path / "j", first_order(Fault("key", said)))
    with pytest.raises(RunnerError, match="refuses this key"):
        scene.settle()
    assert scene.statuses() == ["rejected"]


def test_the_venues_wish_to_be_left_alone_is_kept(served: VenueThread, tmp_path: Path) -> None:
    busy = status(429, b'{"code":-1003,"msg":"Too many requests."}', **{"Retry-After": "37"})
    scene = Scene(served, tmp_path / "j", first_order(Fault("busy", busy, delivered=True)))
    assert scene.settle().state is OrderState.FILLED
    assert scene.clock.now >= 37.0


def test_an_order_whose_outcome_stays_unknown_halts_and_stays_open_in_the_journal(
    served: VenueThread, tmp_path: Path
) -> None:
    down = Fault("down", status(502), delivered=True)
    scene = Scene(served, tmp_path / "j", lambda _, path: down if path == ORDER[1] else None)
    with pytest.raises(RunnerError, match=r"outcome of order tl-.* is unknown after 6 questions .*HTTP 502"):
        scene.settle()
    assert (scene.statuses(), len(scene.placed())) == (["unknown"], 1)
    with open_journal(tmp_path / "j", read_only=True) as log:
        assert [body["client_order_id"] for body in journal.unresolved(log)] == [NAME]


def test_a_venue_that_loses_every_order_is_given_up(served: VenueThread, tmp_path: Path) -> None:
    lost = Fault("lost", status(500))
    scene = Scene(served, tmp_path / "j", lambda method, path: lost if (method, path) == ORDER else None)
    with pytest.raises(RunnerError, match=r"did not take order .* in 3 attempts"):
        scene.settle()
    assert scene.placed() == []


@pytest.mark.parametrize("landed", [True, False])
@pytest.mark.parametrize("may_send", [True, False])
def test_an_intent_of_an_earlier_process_is_asked_for_first(
    served: VenueThread, tmp_path: Path, landed: bool, may_send: bool
) -> None:
    if landed:
        served.exchange.place_market_order("BTCUSDT", 1, INTENT.quantity, NAME)
    scene = Scene(served, tmp_path / "j", lambda *_: None)
    report = scene.settle(recover=True, may_send=may_send)
    assert report.state is (OrderState.FILLED if landed or may_send else OrderState.EXPIRED)
    assert len(scene.placed()) == (1 if landed or may_send else 0)
    assert scene.proxy.count(*ORDER) == (1 if may_send and not landed else 0)


@pytest.mark.parametrize(("after", "posts"), [(0.25, 1), (0.9, 2)], ids=["inside the window", "after the window"])
def test_a_request_that_arrives_late_never_makes_a_second_order(
    served: VenueThread, tmp_path: Path, after: float, posts: int
) -> None:
    late = Fault("late", faults.hang(1.0), delivered=True, after=after)
    patience = Patience(request_timeout=0.15, receive_window=0.5, backoff=0.02, backoff_ceiling=0.1)
    scene = Scene(served, tmp_path / "j", first_order(late), patience)
    scene.real = True
    assert scene.settle().state is OrderState.FILLED
    assert (len(scene.placed()), scene.proxy.count(*ORDER)) == (1, posts)


def test_ids_are_deterministic_distinct_and_fit_binance() -> None:
    parts = itertools.product(
        ("a" * 64, "b" * 64), ("BTC/USDT", "SPX/USDT"), (TIME, "2020-04-10T00:00:00+00:00"), (0, 1)
    )
    names = [client_order_id(*part) for part in parts]
    assert len(set(names)) == 16
    assert all(len(name) <= 36 and name.replace("-", "").isalnum() for name in names)
    assert client_order_id("a" * 64, "BTC/USDT", TIME) == "tl-bb5900d39541c84d11a02d33ef3c147e"


@pytest.mark.parametrize(
    ("quantity", "step", "expected"),
    [
        (0.3, "0.1", "0.3"),
        (0.30000000000000004, "0.1", "0.3"),
        (-1.99999, "0.001", "1.999"),
        (123456.789, "1", "123456"),
        (0.00001, "0.00001", "0.00001"),
        (0.000009, "0.00001", "0"),
        (1e-7, "0.00000001", "0.00000010"),
    ],
)
def test_amounts_are_rounded_down_to_the_lot(quantity: float, step: str, expected: str) -> None:
    assert quantise(quantity, Decimal(step)) == Decimal(expected)


def test_rounding_keeps_whole_lots_and_never_grows() -> None:
    numbers = random.Random(3)
    for _ in range(2_000):
        lots, scale = numbers.randrange(1, 10**9), 10 ** numbers.randrange(0, 9)
        assert float(quantise(lots / scale, 1 / Decimal(scale))) == lots / scale
        quantity = numbers.uniform(0, 1e6)
        assert quantise(quantity, Decimal("0.001")) <= Decimal(repr(quantity))


def test_the_state_machine_has_no_way_out_of_a_final_state_and_none_to_it_without_the_venue() -> None:
    assert set(TRANSITIONS) == set(OrderState)
    assert all(not TRANSITIONS[state] for state in TERMINAL)
    assert TRANSITIONS[OrderState.INTENDED] & TERMINAL == {OrderState.EXPIRED, OrderState.CANCELED}
    assert advance(OrderState.SENT, OrderState.UNKNOWN) is OrderState.UNKNOWN
    with pytest.raises(RunnerError, match="cannot go from filled to sent"):
        advance(OrderState.FILLED, OrderState.SENT)


@pytest.mark.parametrize(
    "change",
    [{"id": None}, {"clientOrderId": None}, {"status": None}, {"status": "new"}, {"filled": None}, {"filled": 0.0}],
)
def test_a_reply_that_does_not_prove_everything_proves_nothing(change: dict[str, Any]) -> None:
    whole = {"id": "1", "clientOrderId": NAME, "status": "closed", "filled": 12.5, "average": 100.0}
    assert classify_reply(INTENT, whole).state is OrderState.FILLED
    assert classify_reply(INTENT, {**whole, **change}).state is OrderState.UNKNOWN


@pytest.mark.parametrize(
    ("field", "value"),
    [("side", "long"), ("quantity", Decimal(0)), ("client_order_id", "x" * 37), ("client_order_id", "ä")],
)
def test_an_impossible_intent_is_refused(field: str, value: Any) -> None:
    body = {"time": TIME, "client_order_id": NAME, "symbol": SYMBOL, "side": "buy", "quantity": Decimal(1)}
    with pytest.raises(RunnerError):
        Intent(**{**body, field: value})


def test_a_market_order_is_written_as_it_always_was_and_other_orders_say_more() -> None:
    assert set(INTENT.body()) == {"time", "client_order_id", "symbol", "side", "quantity"}
    stop = Intent(
        TIME,
        NAME,
        SYMBOL,
        "sell",
        Decimal("2.50"),
        "stop_limit",
        price=Decimal("89.90"),
        stop_price=Decimal(90),
        group="g",
        reduces=True,
        leg="stop",
    )
    extra = {"kind": "stop_limit", "price": "89.90", "stop_price": "90", "group": "g", "reduces": True, "leg": "stop"}
    assert stop.body() == {**INTENT.body(), "side": "sell", "quantity": "2.50", **extra}
    assert Intent.from_body(stop.body()) == stop
    assert Intent.from_body(INTENT.body()) == INTENT


@pytest.mark.parametrize(
    ("kind", "terms"),
    [
        ("limit", {}),
        ("market", {"price": Decimal(1)}),
        ("stop", {"price": Decimal(1), "stop_price": Decimal(1)}),
        ("stop_limit", {"price": Decimal(1)}),
        ("limit", {"price": Decimal(0)}),
        ("iceberg", {}),
    ],
)
def test_terms_that_do_not_make_an_order_are_refused(kind: Any, terms: dict[str, Decimal]) -> None:
    with pytest.raises(RunnerError, match="of a"):
        Intent(TIME, NAME, SYMBOL, "buy", Decimal(1), kind, **terms)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("side", "expected"), [("buy", "100.12"), ("sell", "100.13")], ids=["never pays more", "never takes less"]
)
def test_prices_are_rounded_so_that_risk_does_not_grow(side: str, expected: str) -> None:
    assert quantise_price(100.125, Decimal("0.01"), side) == Decimal(expected)
    assert quantise_price(100.12, Decimal("0.01"), side) == Decimal("100.12")


@pytest.mark.parametrize(
    ("status", "filled", "state"),
    [
        ("open", 0.0, OrderState.OPEN),
        ("open", 5.0, OrderState.PARTIALLY_FILLED),
        ("open", 12.5, OrderState.PARTIALLY_FILLED),
        ("canceling", 5.0, OrderState.PENDING_CANCEL),
        ("canceled", 5.0, OrderState.CANCELED),
        ("expired", 0.0, OrderState.EXPIRED),
        ("closed", 12.5, OrderState.FILLED),
        ("closed", 5.0, OrderState.EXPIRED),
        ("rejected", 0.0, OrderState.REJECTED),
    ],
)
def test_a_status_is_read_together_with_what_is_filled(status: str, filled: float, state: OrderState) -> None:
    said = {"id": "1", "clientOrderId": NAME, "status": status, "filled": filled}
    assert classify_reply(INTENT, said).state is state


def test_a_trade_that_leaves_out_what_must_be_known_is_not_booked() -> None:
    whole = {
        "id": "7",
        "side": "buy",
        "amount": 2.0,
        "price": 50.0,
        "timestamp": 1_586_390_400_000,
        "takerOrMaker": "maker",
    }
    whole["fee"] = {"cost": 0.002, "currency": "BTC"}
    trade = VenueTrade.read(whole, NAME, SYMBOL)
    assert (trade.quantity, trade.fee, trade.fee_paid, trade.maker) == (2.0, 0.1, (("BTC", "0.002"),), True)
    assert trade.filled_at == "2020-04-09T00:00:00+00:00"
    assert trade.time_ms == 1_586_390_400_000
    assert VenueTrade.from_body(trade.body()) == trade
    assert VenueTrade.read({**whole, "fee": {"cost": 1.0, "currency": "BNB"}}, NAME, SYMBOL).fee is None
    for name in ("id", "amount", "price", "side", "timestamp"):
        with pytest.raises(RunnerError, match="without"):
            VenueTrade.read({**whole, name: None}, NAME, SYMBOL)


def test_a_venue_that_adds_up_floats_does_not_keep_an_order_open_for_its_last_digit() -> None:
    """0.2 and 0.1 are 0.30000000000000004 there: no trade is missing, and a restart does not ask for one for ever."""
    intent = Intent("2020-01-02T00:00:00+00:00", "tl-1", "C1/USDT", "buy", Decimal("0.4"))
    trades = tuple(
        VenueTrade.read(
            {"id": str(n), "side": "buy", "amount": amount, "price": 100.0, "timestamp": n + 1}, "tl-1", intent.symbol
        )
        for n, amount in enumerate((0.2, 0.1))
    )

    report = OrderReport("tl-1", OrderState.CANCELED, quantity=0.2 + 0.1).with_trades(trades)

    assert (report.quantity, report.price, report.complete) == (0.3, 100.0, True)
    assert not journal.accounts_for(Decimal("0.2"), 0.2 + 0.1)
