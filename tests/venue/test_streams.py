"""Binance's WebSocket streams, driven by the real ccxt.pro client and by a plain WebSocket."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import ccxt
import pytest

from tests.venue.support import DAY, FIRST, KEY, SECRET, exchange, market, pro_client, recorded, serve
from tradelib.venue import PaperExchange, VenueThread
from tradelib.venue.binance_streams import UserStream
from tradelib.venue.dialect import Credentials
from tradelib.venue.faults import Fault, FaultPlan
from tradelib.venue.protocol import signature

pytestmark = pytest.mark.integration
SPX = "SPX/USDT"
KLINE = "spxusdt@kline_1d"


def live(*faults: Fault, kline_seconds: float = 60.0, **options: Any) -> VenueThread:
    """A venue that the test steps; streams repeat nothing by themselves."""
    venue = exchange(start=3, **{"pace": "manual", "cash": 10_000.0, **options})
    return serve(venue, kline_seconds=kline_seconds, faults=FaultPlan.of(*faults) if faults else None)


def with_client(venue: VenueThread, work: Callable[[Any], Awaitable[Any]], **options: Any) -> Any:
    """Run `work` with a ccxt.pro client, within ten seconds."""

    async def run() -> Any:
        spot = pro_client(venue.url, **options)
        try:
            await spot.load_markets()
            return await asyncio.wait_for(work(spot), 10)
        finally:
            await spot.close()

    return asyncio.run(run())


def with_socket(venue: VenueThread, path: str, work: Callable[[Any], Awaitable[Any]]) -> Any:
    """Run `work` with a plain WebSocket at `path`, within ten seconds."""

    async def run() -> Any:
        async with aiohttp.ClientSession() as session, session.ws_connect(venue.url + path) as socket:
            return await asyncio.wait_for(work(socket), 10)

    return asyncio.run(run())


# Klines


def test_ccxt_watches_bars_form_and_close() -> None:
    bars = recorded()

    async def watch(spot: Any) -> list[Any]:
        seen = [list((await spot.watch_ohlcv(SPX, "1d"))[-1])]
        for _ in range(2):
            venue.exchange.step()
            seen.append(list((await spot.watch_ohlcv(SPX, "1d"))[-1]))  # the bar that closed
            seen.append(list((await spot.watch_ohlcv(SPX, "1d"))[-1]))  # the next one, which forms
        return seen

    with live(kline_seconds=0.05) as venue:
        seen = with_client(venue, watch)
    days = [(row[0] - FIRST) // DAY for row in seen]
    assert days[0] == 3
    assert set(days) == {3, 4, 5}
    closed = [row for row in seen if row[5] > 0.0]
    assert [row[1:] for row in closed] == [bars.iloc[(row[0] - FIRST) // DAY].tolist() for row in closed]
    assert all(row[1] == row[4] == bars["open"].iloc[(row[0] - FIRST) // DAY] for row in seen if row[5] == 0.0)


def test_a_raw_stream_says_which_bar_has_closed() -> None:
    async def listen(socket: Any) -> list[Any]:
        await socket.send_json({"method": "SUBSCRIBE", "params": [KLINE], "id": 1})
        found = [await socket.receive_json(), await socket.receive_json()]
        venue.exchange.step()
        return found + [await socket.receive_json() for _ in range(2)]

    with live() as venue:
        answer, present, closed, forming = with_socket(venue, "/ws", listen)
    assert answer == {"result": None, "id": 1}
    assert [(m["k"]["t"], m["k"]["x"]) for m in (present, closed, forming)] == [
        (FIRST + 3 * DAY, False),
        (FIRST + 3 * DAY, True),
        (FIRST + 4 * DAY, False),
    ]
    assert [float(closed["k"][key]) for key in "ohlcv"] == recorded().iloc[3].tolist()
    assert (closed["e"], closed["s"], closed["k"]["i"], closed["k"]["T"]) == (
        "kline",
        "SPXUSDT",
        "1d",
        FIRST + 4 * DAY - 1,
    )


def test_a_combined_stream_wraps_its_messages_and_names_two_markets() -> None:
    both = PaperExchange([market(), market(recorded(seed=2), "BTC/USDT")], start="2018-01-04", pace="manual")

    async def listen(socket: Any) -> list[Any]:
        while not venue._server._sockets._connections:
            await asyncio.sleep(0.01)
        both.step()
        return [await socket.receive_json() for _ in range(3)]

    with serve(both, kline_seconds=60.0) as venue:
        found = with_socket(venue, f"/stream?streams={KLINE}/btcusdt@bookTicker", listen)
    assert [message["stream"] for message in found] == [KLINE, KLINE, "btcusdt@bookTicker"]
    assert float(found[-1]["data"]["a"]) > float(found[-1]["data"]["b"])


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        ({"method": "LIST_SUBSCRIPTIONS", "id": 3}, {"result": [], "id": 3}),
        ({"method": "GET_PROPERTY", "params": ["combined"], "id": 2}, {"result": False, "id": 2}),
        ({"method": "SET_PROPERTY", "params": ["combined", True], "id": 5}, {"result": None, "id": 5}),
        ({"method": "UNSUBSCRIBE", "params": [KLINE], "id": 312}, {"result": None, "id": 312}),
    ],
)
def test_requests_of_a_market_stream_as_documented(sent: Any, answer: Any) -> None:
    """The examples of "Live Subscribing/Unsubscribing to streams" in Binance's documentation."""

    async def ask(socket: Any) -> Any:
        await socket.send_json(sent)
        return await socket.receive_json()

    with live() as venue:
        assert with_socket(venue, "/ws", ask) == answer


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ("{", 3),
        ("[]", 3),
        (json.dumps({"method": "SUBSCRIBE", "params": ["spxusdt@kline_1h"], "id": 1}), 2),
        (json.dumps({"method": "SUBSCRIBE", "params": ["SPXUSDT@kline_1d"], "id": 1}), 2),
        (json.dumps({"method": "SUBSCRIBE", "params": [], "id": 1}), 2),
        (json.dumps({"method": "DANCE", "id": 1}), 2),
    ],
)
def test_requests_that_a_market_stream_refuses(sent: str, code: int) -> None:
    async def ask(socket: Any) -> Any:
        await socket.send_str(sent)
        return (await socket.receive_json())["error"]["code"]

    with live() as venue:
        assert with_socket(venue, "/ws/0", ask) == code


# User data


def test_ccxt_watches_its_orders_fills_and_balances() -> None:
    async def watch(spot: Any) -> dict[str, Any]:
        orders = asyncio.create_task(spot.watch_orders(SPX))
        balance = asyncio.create_task(spot.watch_balance())
        await spot.watch_ohlcv(SPX, "1d")
        while not venue._server._sockets._connections or not any(
            getattr(c.stream, "subscription", None) is not None for c in venue._server._sockets._connections
        ):
            await asyncio.sleep(0.01)
        params = {"newClientOrderId": "rests"}
        resting = await spot.create_order(SPX, "limit", "buy", 2.0, 90.0, params=params)
        found = {"new": dict((await orders)[-1]), "locked": (await balance)["USDT"]}
        trades = asyncio.create_task(spot.watch_my_trades(SPX))
        await asyncio.sleep(0)
        await spot.create_order(SPX, "market", "buy", 1.0)
        found["trade"] = dict((await trades)[-1])
        orders = asyncio.create_task(spot.watch_orders(SPX))
        await asyncio.sleep(0)
        await spot.cancel_order(resting["id"], SPX)
        found["ended"] = dict((await orders)[-1])
        return found

    with live(fee_rate=0.001, slippage=0.0) as venue:
        found = with_client(venue, watch)
    opened = recorded()["open"].iloc[3]
    assert (found["new"]["clientOrderId"], found["new"]["status"], found["new"]["price"]) == ("rests", "open", 90.0)
    assert found["locked"] == {"free": 10_000.0 - 180.18, "used": 180.18, "total": 10_000.0}
    assert (found["trade"]["price"], found["trade"]["amount"], found["trade"]["takerOrMaker"]) == (opened, 1.0, "taker")
    assert found["trade"]["fee"] == {"currency": "USDT", "cost": 0.001 * opened}
    assert (found["ended"]["clientOrderId"], found["ended"]["status"]) == ("rests", "canceled")


def test_a_resting_order_that_fills_inside_a_bar_is_told() -> None:
    async def watch(spot: Any) -> Any:
        await spot.authenticate()
        await spot.create_order(SPX, "limit", "buy", 2.0, low, params={"newClientOrderId": "rests"})
        trades = asyncio.create_task(spot.watch_my_trades(SPX))
        await asyncio.sleep(0)
        venue.exchange.step()
        return dict((await trades)[-1])

    low = round(recorded()["low"].iloc[3] * 1.001, 8)
    with live() as venue:
        trade = with_client(venue, watch)
    assert (trade["price"], trade["amount"], trade["takerOrMaker"]) == (low, 2.0, "maker")


def signed(secret: str = SECRET, **changes: Any) -> dict[str, Any]:
    parameters = {"apiKey": KEY, "timestamp": time.time_ns() // 10**6, **changes}
    payload = "&".join(f"{name}={parameters[name]}" for name in sorted(parameters))
    return {**parameters, "signature": signature(secret, payload)}


@pytest.mark.parametrize(
    ("secret", "changes", "status", "code"),
    [
        (SECRET, {}, 200, None),
        (SECRET, {"recvWindow": 60_000}, 200, None),
        ("other", {}, 400, -1022),
        (SECRET, {"signature": "00"}, 400, -1022),
        (SECRET, {"timestamp": 1_000}, 400, -1021),
        (SECRET, {"apiKey": "other"}, 401, -2015),
        (SECRET, {"apiKey": ""}, 401, -2014),
    ],
)
def test_the_user_stream_is_signed_as_a_request_is(
    secret: str, changes: dict[str, Any], status: int, code: int | None
) -> None:
    stream = UserStream(exchange(), Credentials(KEY, SECRET))
    parameters = signed(secret, **changes) | {name: changes[name] for name in changes if name == "signature"}
    request = {"id": "7", "method": "userDataStream.subscribe.signature", "params": parameters}
    (text,) = stream.received(json.dumps(request), time.time_ns() // 10**6)
    reply = json.loads(text)
    assert (reply["id"], reply["status"], reply.get("error", {}).get("code")) == ("7", status, code)
    assert (stream.subscription is None) == (code is not None)


def test_ccxt_pro_with_a_wrong_secret_gets_nothing() -> None:
    with live() as venue, pytest.raises((ccxt.AuthenticationError, KeyError)):
        with_client(venue, lambda spot: spot.watch_balance(), secret="other")


# Faults of streams


def messages(venue: VenueThread, steps: int, expected: int) -> list[str]:
    """Bars that a client of the venue hears of, as "day" or "day!" for closed, in `steps` steps."""

    async def listen(socket: Any) -> list[str]:
        await socket.send_json({"method": "SUBSCRIBE", "params": [KLINE], "id": 1})
        await socket.receive()
        await socket.receive()
        venue.exchange.step(steps)
        found = []
        for _ in range(expected):
            message = await socket.receive()
            if message.type is not aiohttp.WSMsgType.TEXT:
                return [*found, "closed"]
            try:
                bar = json.loads(message.data)["k"]
                found.append(f"{(bar['t'] - FIRST) // DAY}{'!' if bar['x'] else ''}")
            except ValueError:
                found.append("broken")
        return found

    return with_socket(venue, "/ws", listen)


@pytest.mark.parametrize(
    ("fault", "heard"),
    [
        (Fault("drop_message", after=1, times=1), ["3!", "4!", "5"]),
        (Fault("duplicate_message", times=1), ["3!", "3!", "4", "4!", "5"]),
        (Fault("reorder_message", times=1), ["4", "3!", "4!", "5"]),
        (Fault("late_message", times=1, bars=3), ["3!", "4", "4!", "5", "3!"]),
        (Fault("truncate_message", times=1), ["broken", "4", "4!", "5"]),
        (Fault("disconnect", after=1, times=1), ["3!", "closed"]),
        (Fault("silent", after=2), ["3!", "4"]),
    ],
)
def test_what_a_struck_stream_tells(fault: Fault, heard: list[str]) -> None:
    """Two steps tell four times: bar 3 has closed, bar 4 forms, has closed, bar 5 forms."""
    with live(fault) as venue:
        assert messages(venue, 2, len(heard)) == heard


def test_a_silent_stream_still_answers_pings() -> None:
    async def listen(socket: Any) -> Any:
        await socket.send_json({"method": "SUBSCRIBE", "params": [KLINE], "id": 1})
        await socket.receive()
        await socket.receive()
        venue.exchange.step(3)
        await socket.ping(b"there?")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(socket.receive(), 0.3)
        await socket.send_json({"method": "LIST_SUBSCRIPTIONS", "id": 2})
        return await socket.receive_json()

    with live(Fault("silent"), kline_seconds=0.05) as venue:
        assert with_socket(venue, "/ws", listen) == {"result": [KLINE], "id": 2}


def test_a_storm_of_refused_and_broken_connections_passes() -> None:
    async def insist(spot: Any) -> tuple[int, Any]:
        for failures in range(40):
            try:
                return failures, await spot.watch_ohlcv(SPX, "1d")
            except ccxt.NetworkError:
                continue
        return 40, None

    with live(Fault("refuse_stream", times=3, status=503)) as venue:
        failures, bars = with_client(venue, insist)
    assert failures >= 1
    assert bars[-1][0] == FIRST + 3 * DAY
