"""Order types over the wire, rate limits, live data passed through, and a venue that keeps its account."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import ccxt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.venue.support import DAY, FIRST, KEY, SECRET, ask, async_client, client, exchange, recorded, serve
from tradelib.errors import VenueError
from tradelib.venue import PaperExchange, VenueServer, VenueThread
from tradelib.venue.binance import BinanceDialect
from tradelib.venue.dialect import Credentials, Request
from tradelib.venue.limits import RateLimiter, RateLimits
from tradelib.venue.orders import NewOrder, Refusal, Row
from tradelib.venue.passthrough import live_market, public_client, refresh
from tradelib.venue.protocol import BinanceError
from tradelib.venue.sources import read_events

pytestmark = pytest.mark.integration
SPX = "SPX/USDT"


@pytest.fixture
def venue() -> Iterator[VenueThread]:
    with serve(exchange(start=3, cash=10_000.0, pace="manual")) as running:
        yield running


@pytest.fixture
def spot(venue: VenueThread) -> Any:
    return client(venue.url)


# Order types through the real client


def test_limit_orders_rest_and_are_cancelled(spot: Any) -> None:
    order = spot.create_order(SPX, "limit", "buy", 2.0, 90.0, params={"newClientOrderId": "mine"})
    assert (order["status"], order["type"], order["price"], order["filled"]) == ("open", "limit", 90.0, 0.0)
    assert [row["clientOrderId"] for row in spot.fetch_open_orders(SPX)] == ["mine"]
    balance = spot.fetch_balance()["USDT"]
    assert (balance["used"], balance["total"]) == (180.18, 10_000.0)
    with pytest.raises(ccxt.InvalidOrder, match="Duplicate order sent"):
        spot.create_order(SPX, "limit", "buy", 2.0, 89.0, params={"newClientOrderId": "mine"})
    cancelled = spot.cancel_order(order["id"], SPX)
    assert (cancelled["status"], cancelled["id"]) == ("canceled", order["id"])
    assert spot.fetch_order(order["id"], SPX)["status"] == "canceled"
    with pytest.raises(ccxt.OrderNotFound, match="-2011"):
        spot.cancel_order(order["id"], SPX)


@pytest.mark.parametrize(
    ("kind", "price", "more", "sent"),
    [
        ("STOP_LOSS", None, {"stopPrice": 95.0}, "STOP_LOSS"),
        ("STOP_LOSS_LIMIT", 94.0, {"stopPrice": 95.0}, "STOP_LOSS_LIMIT"),
        ("TAKE_PROFIT", None, {"stopPrice": 130.0}, "TAKE_PROFIT"),
        ("TAKE_PROFIT_LIMIT", 130.0, {"stopPrice": 130.0}, "TAKE_PROFIT_LIMIT"),
        ("limit", 130.0, {"postOnly": True}, "LIMIT_MAKER"),
        ("market", None, {"stopLossPrice": 95.0}, "STOP_LOSS"),  # ccxt's unified words
        ("limit", 94.0, {"stopLossPrice": 95.0}, "STOP_LOSS_LIMIT"),
        ("market", None, {"takeProfitPrice": 130.0}, "TAKE_PROFIT"),
    ],
)
def test_ccxt_places_every_kind(spot: Any, kind: str, price: float | None, more: dict[str, Any], sent: str) -> None:
    spot.create_order(SPX, "market", "buy", 5.0)
    order = spot.create_order(SPX, kind, "sell", 5.0, price, more)
    found = spot.fetch_order(order["id"], SPX)
    assert (found["info"]["type"], found["status"], found["amount"]) == (sent, "open", 5.0)
    assert found["info"]["isWorking"] is (sent == "LIMIT_MAKER")
    assert spot.fetch_balance()["SPX"]["used"] == 5.0
    assert spot.cancel_all_orders(SPX)[0]["status"] == "canceled"


def test_a_stop_fills_inside_the_bar_and_shows_in_the_trades(spot: Any, venue: VenueThread) -> None:
    spot.create_order(SPX, "market", "buy", 5.0)
    low = float(recorded()["low"].iloc[3])
    stop = spot.create_order(SPX, "STOP_LOSS", "sell", 5.0, None, {"stopPrice": low * 1.001})
    venue.exchange.step()
    found = spot.fetch_order(stop["id"], SPX)
    assert (found["status"], found["filled"]) == ("closed", 5.0)
    assert spot.fetch_my_trades(SPX)[-1]["takerOrMaker"] == "taker"
    assert spot.fetch_balance()["SPX"]["total"] == 0.0


@pytest.mark.parametrize(
    ("kind", "price", "more", "raised", "message"),
    [
        ("STOP_LOSS", None, {"stopPrice": 150.0}, ccxt.OrderImmediatelyFillable, "trigger immediately"),
        ("limit", 50.0, {"postOnly": True}, ccxt.OrderImmediatelyFillable, "immediately match and take"),
        ("limit", 0.01, {}, ccxt.BadRequest, "MIN_NOTIONAL"),
        ("limit", 150.0, {}, ccxt.InsufficientFunds, "insufficient balance"),
    ],
)
def test_what_ccxt_makes_of_refused_orders(
    spot: Any, kind: str, price: float | None, more: dict[str, Any], raised: type[Exception], message: str
) -> None:
    amount = 6.0 if raised is ccxt.InsufficientFunds else 5.0
    spot.create_order(SPX, "market", "buy", 5.0)
    with pytest.raises((raised, ccxt.InvalidOrder), match=message):
        spot.create_order(SPX, kind, "sell", amount, price, more)


def test_an_oco_pair_over_the_wire(spot: Any, venue: VenueThread) -> None:
    spot.create_order(SPX, "market", "buy", 5.0)
    bars = recorded()
    sent = {
        "symbol": "SPXUSDT",
        "side": "SELL",
        "quantity": "5",
        "listClientOrderId": "pair",
        "aboveType": "LIMIT_MAKER",
        "abovePrice": "150",
        "aboveClientOrderId": "target",
        "belowType": "STOP_LOSS",
        "belowStopPrice": f"{bars['low'].iloc[3] * 1.001:.8f}",
        "belowClientOrderId": "stop",
    }
    pair = spot.privatePostOrderListOco(dict(sent))
    assert (pair["contingencyType"], pair["listOrderStatus"], pair["listClientOrderId"]) == ("OCO", "EXECUTING", "pair")
    assert [row["clientOrderId"] for row in pair["orders"]] == ["target", "stop"]
    assert [row["type"] for row in pair["orderReports"]] == ["LIMIT_MAKER", "STOP_LOSS"]
    assert spot.fetch_balance()["SPX"]["used"] == 5.0
    venue.exchange.step()
    stop, target = (spot.fetch_order(None, SPX, {"origClientOrderId": name}) for name in ("stop", "target"))
    assert (stop["status"], target["status"], target["filled"]) == ("closed", "expired", 0.0)
    found = spot.privateGetOrderList({"origClientOrderId": "pair"})
    assert (found["listOrderStatus"], found["orderListId"]) == ("ALL_DONE", pair["orderListId"])
    with pytest.raises(ccxt.OrderNotFound):
        spot.privateDeleteOrderList({"symbol": "SPXUSDT", "orderListId": pair["orderListId"]})
    with pytest.raises(ccxt.BaseError, match="-2018"):
        spot.privateGetOrderList({"orderListId": 99})


def test_the_book_and_the_tickers(spot: Any) -> None:
    book = spot.fetch_order_book(SPX)
    assert (len(book["bids"]), len(book["asks"])) == (1, 1)
    assert book["asks"][0][0] > book["bids"][0][0]


def test_a_market_buy_by_cost(spot: Any) -> None:
    order = spot.create_order(SPX, "market", "buy", 1, None, {"quoteOrderQty": 250.0})
    assert 249.0 < order["cost"] <= 250.0


# Rate limits


def test_weights_and_orders_are_counted_and_who_does_not_stop_is_banned() -> None:
    now = [0]
    limiter = RateLimiter(RateLimits(weight=10, orders=2, patience=2, ban=5), lambda: now[0])
    assert [limiter.take(4)[0] for _ in range(3)] == [True, True, False]
    assert limiter.take(2, 2) == (True, 0)
    now[0] = 60_000  # the next minute
    assert limiter.take(1, 2) == (True, 0)
    assert limiter.take(1, 1) == (False, 10)
    now[0] = 70_000  # the next ten seconds
    assert limiter.take(1, 1) == (True, 0)
    assert limiter.take(9) == (False, 50)
    assert limiter.take(9) == (False, 5)
    assert limiter.banned
    assert limiter.take(0) == (False, 5)
    now[0] = 75_000
    assert limiter.take(1) == (True, 0)


def test_ccxt_hears_of_limits_and_bans() -> None:
    limits = RateLimits(weight=100, orders=2, patience=1)
    with serve(exchange(start=3), limits=limits, now=lambda: 1_700_000_000_000) as venue:
        order = {"symbol": "SPXUSDT", "side": "BUY", "type": "MARKET", "quantity": "1"}
        stamped = [order | {"timestamp": 1_700_000_000_000 - number} for number in range(4)]
        replies = [ask(venue.port, "/api/v3/order", each, method="POST", secret=SECRET) for each in stamped]
        assert [status for status, _ in replies] == [200, 200, 429, 418]
        assert [body["code"] for _, body in replies[2:]] == [-1003, -1003]
        assert len(venue.exchange.orders) == 2
        with pytest.raises(ccxt.DDoSProtection):
            client(venue.url).fetch_ohlcv(SPX, "1d")


# Live public data, passed through from another venue


def test_live_bars_of_another_exchange_are_traded_on_paper() -> None:
    """The other exchange is a venue of recorded bars, read by the real client without a key."""

    async def trade(upstream: VenueThread) -> dict[str, Any]:
        feed = async_client(upstream.url, key="", secret="")
        try:
            market = await live_market(feed, SPX, "1d", minimum_notional=0.0, fee_rate=0.0, slippage=0.0)
            paper = PaperExchange([market], pace="live")
            found: dict[str, Any] = {"history": len(paper.klines("SPXUSDT")) - 1, "price": paper.last_price("SPXUSDT")}
            bought = paper.place_market_order("SPXUSDT", 1, Decimal(1))
            low = round(float(recorded()["low"].iloc[3]) * 1.001, 8)
            resting = paper.place(NewOrder("SPXUSDT", 1, "limit", Decimal(1), Decimal(repr(low))))
            upstream.exchange.step()
            await refresh(paper, feed, lambda: FIRST + 5 * DAY)
            found |= {"bought": bought, "rested": paper.order("SPXUSDT", resting.order_id), "low": low}
            found |= {"clock": paper.clock, "bars": [row.row for row in paper.klines("SPXUSDT")]}
            await refresh(paper, feed, lambda: FIRST + 5 * DAY)  # nothing new
            found["again"] = [row.row for row in paper.klines("SPXUSDT")]
            return found
        finally:
            await feed.close()

    bars = recorded()
    with serve(exchange(start=3, pace="manual")) as upstream:
        found = asyncio.run(trade(upstream))
    assert (found["history"], found["price"]) == (3, bars["open"].iloc[3])
    assert found["bought"].fills[0].price == bars["open"].iloc[3]
    assert [(fill.price, fill.maker) for fill in found["rested"].fills] == [(found["low"], True)]
    assert found["clock"] == FIRST + 5 * DAY
    assert found["bars"][:4] == [Row(*row) for row in bars.iloc[:4].to_numpy().tolist()]
    assert found["again"] == found["bars"]


def test_a_live_market_may_not_rewrite_the_past_and_its_client_may_not_trade() -> None:
    async def contradict(upstream: VenueThread) -> None:
        feed = async_client(upstream.url, key="", secret="")
        try:
            market = await live_market(feed, SPX, "1d")
            paper = PaperExchange([market], pace="live")
            with pytest.raises(VenueError, match="changed the bar at .* that had closed"):
                paper.push("SPXUSDT", [(FIRST, Row(1.0, 1.0, 1.0, 1.0, 1.0))], FIRST)
        finally:
            await feed.close()
        armed = async_client(upstream.url)
        try:
            with pytest.raises(VenueError, match="holds a key"):
                await live_market(armed, SPX, "1d")
        finally:
            await armed.close()

    with serve(exchange(start=3, pace="manual")) as upstream:
        asyncio.run(contradict(upstream))
    with pytest.raises(VenueError, match="no exchange 'moonbase'"):
        public_client("moonbase")


# Settings and state


def test_the_account_survives_a_stop_of_the_venue(tmp_path: Path) -> None:
    state = tmp_path / "venue.json"
    with serve(exchange(start=3, pace="manual"), state=state) as venue:
        spot = client(venue.url)
        spot.create_order(SPX, "market", "buy", 5.0)
        spot.create_order(SPX, "limit", "buy", 1.0, 90.0, params={"newClientOrderId": "rests"})
        venue.exchange.step()
        before = venue.exchange.snapshot()
    with serve(exchange(start=3, pace="manual"), state=state) as venue:
        assert venue.exchange.snapshot() == before
        assert [row["clientOrderId"] for row in client(venue.url).fetch_open_orders(SPX)] == ["rests"]
    state.write_text('{"tick": 1}')
    with pytest.raises(VenueError, match="is no state of a venue.*move it away"):
        serve(exchange(start=3), state=state).__enter__()
    state.write_text(json.dumps({**before, "positions": {"BTC": 1.0}}))
    with pytest.raises(VenueError, match="other markets or other bars"):
        serve(exchange(start=3), state=state).__enter__()


def test_dialects_that_are_not_there() -> None:
    with pytest.raises(VenueError, match="dialect 'morse' is unknown: use one of binance, kraken, bitget"):
        VenueServer(exchange(), key=KEY, secret=SECRET, dialect="morse")


@pytest.mark.parametrize(
    ("text", "kind"),
    [("time,price,quantity\n0,1.5,2\n", "TradeTape"), ("time,side,price,quantity\n0,bid,1,2\n0,ask,2,2\n", "BookTape")],
)
def test_recordings_are_read_by_their_columns(tmp_path: Path, text: str, kind: str) -> None:
    path = tmp_path / "recording.csv"
    path.write_text(text)
    assert type(read_events(path, "1m")).__name__ == kind


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "has the columns a, b"),
        ("time,price,quantity\n", "is empty"),
        ("time,price,quantity\n5,1,1\n3,1,1\n", "event 1 of the recording at 3 is earlier"),
        ("time,side,price,quantity\n0,bid,1,2\n", "never show both a bid and an ask"),
    ],
)
def test_recordings_that_are_none(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "recording.csv"
    path.write_text(text)
    with pytest.raises(VenueError, match=message):
        read_events(path, "1m")
    with pytest.raises(VenueError, match="cannot be read"):
        read_events(tmp_path / "nothing.csv", "1m")


# Nonsense

NAMES = [
    "symbol",
    "side",
    "type",
    "quantity",
    "quoteOrderQty",
    "price",
    "stopPrice",
    "timeInForce",
    "newClientOrderId",
    "newOrderRespType",
    "orderId",
    "origClientOrderId",
    "startTime",
    "endTime",
    "limit",
    "interval",
    "symbols",
    "fromId",
    "aboveType",
    "belowType",
    "abovePrice",
    "belowStopPrice",
    "orderListId",
    "listClientOrderId",
    "omitZeroBalances",
]
WORDS = st.sampled_from(
    [
        "SPXUSDT",
        "BUY",
        "SELL",
        "MARKET",
        "LIMIT",
        "LIMIT_MAKER",
        "STOP_LOSS",
        "STOP_LOSS_LIMIT",
        "TAKE_PROFIT",
        "GTC",
        "IOC",
        "FULL",
        "1d",
        "null",
        "1",
        "0",
        "-1",
        "1e5",
        "100",
        "0.00000001",
        "99999999999999999999",
        "",
        "é",
        "[]",
    ]
)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_request_is_answered_with_a_crash(data: Any) -> None:
    """Whatever parameters come: JSON, or a refusal in Binance's words, and an account that balances."""
    venue = exchange(start=3, pace="manual", holdings={"SPX": 5.0})
    dialect = BinanceDialect(venue, Credentials(KEY, SECRET))
    route = data.draw(st.sampled_from(dialect.routes()))
    drawn = data.draw(st.lists(st.sampled_from(NAMES), max_size=9, unique=True))
    names = [*drawn, "timestamp"] if route.signed else drawn
    sent = {name: "1700000000000" if name == "timestamp" else data.draw(WORDS) for name in names}
    if data.draw(st.booleans()):
        sent |= {"symbol": "SPXUSDT", "side": "SELL", "quantity": "1"}
    request = Request(route.method, route.path, urlencode(sent), "", {}, 1_700_000_000_000)
    try:
        answer = route.answer(request)
    except (Refusal, BinanceError) as error:
        reply = dialect.refusal(error)
        assert reply is not None
        assert reply.body["code"] < 0
    else:
        json.dumps(answer)
    assert all(free >= 0.0 and locked >= 0.0 for free, locked in venue.balances().values())
