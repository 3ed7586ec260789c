"""The venue behind a real socket, driven by the real ccxt clients and by plain HTTP."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import ccxt
import pytest
from ccxt.base.decimal_to_precision import TICK_SIZE

from tests.venue.support import (
    DAY,
    FIRST,
    KEY,
    SECRET,
    ask,
    async_client,
    client,
    exchange,
    market,
    recorded,
    serve,
)
from tradelib.backtest import kernel
from tradelib.errors import VenueError
from tradelib.venue import PaperExchange, VenueServer, VenueThread
from tradelib.venue.orders import NewOrder

pytestmark = pytest.mark.integration
SPX = "SPX/USDT"


@pytest.fixture
def venue() -> Iterator[VenueThread]:
    with serve(exchange(start=3, cash=10_000.0, fee_rate=0.0013, slippage=0.0007)) as running:
        yield running


@pytest.fixture
def spot(venue: VenueThread) -> Any:
    return client(venue.url)


def day(number: int) -> int:
    return FIRST + number * DAY


# Markets and bars


def test_ccxt_reads_precision_and_limits(spot: Any) -> None:
    found = spot.load_markets()[SPX]
    assert spot.precisionMode == TICK_SIZE
    assert (found["id"], found["base"], found["quote"], found["spot"], found["active"]) == (
        "SPXUSDT",
        "SPX",
        "USDT",
        True,
        True,
    )
    assert found["precision"]["amount"] == 0.01
    assert found["precision"]["price"] == 1e-8
    assert found["limits"]["amount"]["min"] == 0.01
    assert found["limits"]["cost"]["min"] == 5.0
    assert spot.amount_to_precision(SPX, 12.3456) == "12.34"


def test_klines_have_binances_shape(venue: VenueThread) -> None:
    status, rows = ask(venue.port, "/api/v3/klines", {"symbol": "SPXUSDT", "interval": "1d", "limit": 2})
    closed, forming = rows
    bars = recorded()
    assert status == 200
    assert [type(value) for value in closed] == [int, *[str] * 5, int, str, int, *[str] * 3]
    assert [closed[0], closed[6], forming[0]] == [day(2), day(3) - 1, day(3)]
    assert [float(value) for value in closed[1:6]] == bars.iloc[2].tolist()
    assert [float(value) for value in forming[1:6]] == [bars["open"].iloc[3]] * 4 + [0.0]


def test_ccxt_pages_through_history_without_moving_the_clock_and_reads_the_same_floats() -> None:
    bars = recorded(2_400)
    with serve(exchange(bars, start=2_300)) as venue:
        spot = client(venue.url)
        rows: list[list[float]] = []
        since = FIRST
        while page := spot.fetch_ohlcv(SPX, "1d", since=since, limit=1_000):
            rows += page
            since = page[-1][0] + 1
        assert len(rows) == 2_301
        assert [row[1:] for row in rows[:2_300]] == bars.iloc[:2_300].to_numpy().tolist()
        assert venue.exchange.clock == day(2_300)
        assert len(spot.fetch_ohlcv(SPX, "1d")) == 500
        assert (
            len(ask(venue.port, "/api/v3/klines", {"symbol": "SPXUSDT", "interval": "1d", "limit": 9_999})[1]) == 1_000
        )


def test_a_client_finds_every_close_by_the_later_bar(spot: Any, venue: VenueThread) -> None:
    *history, forming = spot.fetch_ohlcv(SPX, "1d", since=FIRST, limit=1_000)
    assert forming[5] == 0.0
    last, closes = history[-1][0], []
    while len(closes) < 7:
        *closed, _ = spot.fetch_ohlcv(SPX, "1d", since=last + 1, limit=10)
        closes += [row[4] for row in closed]
        last = max([last, *(row[0] for row in closed)])
    assert closes == recorded()["close"].iloc[3:].tolist()
    assert ask(venue.port, "/venue/v1/clock") == (
        200,
        {"clock": day(10), "remaining": 0, "finished": True, "pace": "poll"},
    )
    assert spot.load_markets(True)[SPX]["active"] is False
    expired = spot.create_order(SPX, "market", "buy", 1.0)
    assert (expired["info"]["status"], expired["status"], expired["filled"]) == ("EXPIRED", "expired", 0.0)


def test_tickers_show_the_forming_open_and_where_orders_would_fill(spot: Any) -> None:
    opened = recorded()["open"].iloc[3]
    assert spot.fetch_last_prices([SPX])[SPX]["price"] == opened
    quote = spot.fetch_bids_asks([SPX])[SPX]
    assert (quote["bid"], quote["ask"]) == (
        kernel.fill_price(opened, -1.0, 0.0007),
        kernel.fill_price(opened, 1.0, 0.0007),
    )


# Orders and account


def test_market_orders_and_balances_are_the_kernels_numbers_bit_for_bit(spot: Any) -> None:
    bars = recorded()
    cash, held = 10_000.0, 0.0
    for t, side, amount in ((3, "buy", 12.34), (4, "buy", 0.21), (5, "sell", 2.3), (6, "sell", 10.25)):
        signed = amount if side == "buy" else -amount
        price = kernel.fill_price(bars["open"].iloc[t], 1.0 if side == "buy" else -1.0, 0.0007)
        paid = kernel.fee(signed, price, 0.0013)
        order = spot.create_order(SPX, "market", side, amount)
        assert (order["status"], order["filled"], order["timestamp"]) == ("closed", amount, day(t))
        assert [(fill["price"], fill["amount"]) for fill in order["trades"]] == [(price, amount)]
        assert order["fee"] == {"cost": paid, "currency": "USDT"}
        cash, held = kernel.cash_after(cash, signed, price, paid), round(held + signed, 2)
        balance = spot.fetch_balance()
        assert (balance["USDT"]["free"], balance["SPX"]["total"]) == (cash, held)
        spot.fetch_ohlcv(SPX, "1d", since=FIRST)
        spot.fetch_ohlcv(SPX, "1d", since=day(t - 1) + 1)
    trades = spot.fetch_my_trades(SPX)
    assert [(row["side"], row["amount"], row["timestamp"]) for row in trades] == [
        ("buy", 12.34, day(3)),
        ("buy", 0.21, day(4)),
        ("sell", 2.3, day(5)),
        ("sell", 10.25, day(6)),
    ]
    assert [row["id"] for row in spot.fetch_my_trades(SPX, since=day(4), limit=2)] == ["2", "3"]
    assert [row["id"] for row in spot.fetch_my_trades(SPX, limit=1)] == ["4"]
    assert [row["id"] for row in spot.fetch_my_trades(SPX, params={"orderId": "2"})] == ["2"]


def test_an_order_is_found_by_the_id_that_its_client_gave_it(spot: Any) -> None:
    sent = spot.create_order(SPX, "market", "buy", 1.0, params={"newClientOrderId": "tl-1"})
    found = spot.fetch_order(None, SPX, params={"origClientOrderId": "tl-1"})
    assert (found["id"], found["clientOrderId"], found["status"]) == (sent["id"], "tl-1", "closed")
    assert found["filled"] == 1.0
    assert found["cost"] == 1.0 * sent["trades"][0]["price"]
    assert spot.fetch_order(sent["id"], SPX)["clientOrderId"] == "tl-1"
    assert spot.fetch_open_orders(SPX) == []
    with pytest.raises(ccxt.OrderNotFound, match="-2013"):
        spot.fetch_order(None, SPX, params={"origClientOrderId": "tl-2"})
    with pytest.raises(ccxt.OrderNotFound, match="-2011"):
        spot.cancel_order(sent["id"], SPX)


def test_the_id_of_a_filled_order_is_accepted_again_as_on_binance(spot: Any) -> None:
    first = spot.create_order(SPX, "market", "buy", 1.0, params={"newClientOrderId": "tl-1"})
    second = spot.create_order(SPX, "market", "buy", 2.0, params={"newClientOrderId": "tl-1"})
    assert first["id"] != second["id"]
    assert spot.fetch_order(None, SPX, params={"origClientOrderId": "tl-1"})["id"] == second["id"]
    assert [row["id"] for row in spot.fetch_orders(SPX)] == [first["id"], second["id"]]
    assert [row["id"] for row in spot.fetch_orders(SPX, since=day(3), limit=1)] == [first["id"]]
    assert [row["id"] for row in spot.fetch_orders(SPX, limit=1)] == [second["id"]]


def test_what_ccxt_makes_of_refusals(spot: Any) -> None:
    with pytest.raises(ccxt.InsufficientFunds, match="insufficient balance"):
        spot.create_order(SPX, "market", "buy", 1_000.0)
    with pytest.raises(ccxt.InsufficientFunds, match="insufficient balance"):
        spot.create_order(SPX, "market", "sell", 1.0)
    with pytest.raises(ccxt.BadRequest, match=r"-1013.*MIN_NOTIONAL"):
        spot.create_order(SPX, "market", "buy", 0.01)
    assert spot.fetch_balance()["USDT"]["total"] == 10_000.0


def test_the_asynchronous_client_trades_too(venue: VenueThread) -> None:
    async def trade() -> tuple[Any, Any, Any]:
        spot = async_client(venue.url)
        try:
            bars = await spot.fetch_ohlcv(SPX, "1d", since=FIRST, limit=10)
            order = await spot.create_order(SPX, "market", "buy", 2.5, params={"newClientOrderId": "async-1"})
            return bars, order, await spot.fetch_balance()
        finally:
            await spot.close()

    bars, order, balance = asyncio.run(trade())
    assert [row[0] for row in bars] == [day(0), day(1), day(2), day(3)]
    assert (order["clientOrderId"], order["filled"]) == ("async-1", 2.5)
    assert balance["SPX"]["free"] == 2.5


@pytest.mark.parametrize(
    ("detail", "fields"), [("ACK", {"transactTime"}), ("RESULT", {"executedQty"}), ("FULL", {"executedQty", "fills"})]
)
def test_response_types(venue: VenueThread, detail: str, fields: set[str]) -> None:
    order = {"symbol": "SPXUSDT", "side": "BUY", "type": "MARKET", "quantity": "1", "newOrderRespType": detail}
    status, reply = ask(venue.port, "/api/v3/order", order, method="POST", secret=SECRET)
    assert status == 200
    assert fields <= reply.keys()
    assert ("fills" in reply) == (detail == "FULL")


ORDER = {"symbol": "SPXUSDT", "side": "BUY", "type": "MARKET", "quantity": "1"}


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({"symbol": "ABCUSDT"}, -1121, "Invalid symbol."),
        ({"symbol": None}, -1102, "Mandatory parameter 'symbol'"),
        ({"side": "HOLD"}, -1117, "Invalid side."),
        ({"type": "TRAILING"}, -1116, "Invalid orderType."),
        ({"type": "LIMIT", "price": "1"}, -1102, "Mandatory parameter 'timeInForce'"),
        ({"type": "LIMIT", "timeInForce": "GTC"}, -1102, "Mandatory parameter 'price'"),
        ({"type": "LIMIT", "timeInForce": "GTD", "price": "1"}, -1115, "Invalid timeInForce."),
        ({"type": "STOP_LOSS", "stopPrice": "90", "price": "1"}, -1106, "'price' sent when not required."),
        ({"type": "LIMIT", "timeInForce": "GTC", "price": "0"}, -1013, "Invalid price."),
        ({"type": "LIMIT", "timeInForce": "GTC", "price": "1.000000001"}, -1111, "too much precision"),
        ({"price": "1"}, -1106, "'price' sent when not required."),
        ({"quoteOrderQty": "10"}, -1128, "Combination of optional parameters invalid."),
        ({"quantity": None}, -1102, "Mandatory parameter 'quantity'"),
        ({"quantity": "1.000000001"}, -1111, "too much precision"),
        ({"quantity": "0.015"}, -1013, "Filter failure: LOT_SIZE"),
        ({"quantity": "0.01"}, -1013, "Filter failure: MIN_NOTIONAL"),
        ({"quantity": "500"}, -2010, "Account has insufficient balance for requested action."),
        ({"newClientOrderId": "not an id"}, -1100, "newClientOrderId"),
        ({"newOrderRespType": "ALL"}, -1130, "newOrderRespType"),
        ({"quantiy": "1"}, -1104, "Not all sent parameters were read"),
    ],
)
def test_orders_that_are_refused_change_nothing(
    venue: VenueThread, change: dict[str, str | None], code: int, message: str
) -> None:
    order = {name: value for name, value in {**ORDER, **change}.items() if value is not None}
    status, reply = ask(venue.port, "/api/v3/order", order, method="POST", secret=SECRET)
    assert (status, reply["code"]) == (400, code)
    assert message in reply["msg"]
    assert venue.exchange.orders == []
    assert venue.exchange.cash == 10_000.0


def test_an_open_orders_id_is_a_duplicate(venue: VenueThread) -> None:
    venue.exchange.place(NewOrder("SPXUSDT", 1, "limit", Decimal(1), Decimal(50), client_order_id="mine"))
    status, reply = ask(
        venue.port, "/api/v3/order", {**ORDER, "newClientOrderId": "mine"}, method="POST", secret=SECRET
    )
    assert (status, reply) == (400, {"code": -2010, "msg": "Duplicate order sent."})
    _, rows = ask(venue.port, "/api/v3/openOrders", secret=SECRET)
    assert [row["clientOrderId"] for row in rows] == ["mine"]


@pytest.mark.parametrize(
    ("path", "parameters", "code"),
    [
        ("/api/v3/klines", {"symbol": "SPXUSDT"}, -1102),
        ("/api/v3/klines", {"symbol": "SPXUSDT", "interval": "1h"}, -1120),
        ("/api/v3/klines", {"symbol": "SPXUSDT", "interval": "1d", "startTime": "yesterday"}, -1100),
        ("/api/v3/klines", {"symbol": "SPXUSDT", "interval": "1d", "limit": "0"}, -1130),
        ("/api/v3/klines", {"symbol": "SPX/USDT", "interval": "1d"}, -1121),
        ("/api/v3/ticker/price", {"symbol": "ABC"}, -1121),
        ("/api/v3/exchangeInfo", {"symbol": "ABC"}, -1121),
        ("/api/v3/exchangeInfo", {"symbols": '["SPXUSDT", "ABC"]'}, -1121),
        ("/api/v3/ticker/price", {"symbols": "SPXUSDT"}, -1135),
        ("/api/v3/ticker/price", {"symbols": '["SPXUSDT"]', "symbol": "SPXUSDT"}, -1128),
    ],
)
def test_public_requests_that_are_refused(venue: VenueThread, path: str, parameters: Any, code: int) -> None:
    status, reply = ask(venue.port, path, parameters)
    assert (status, reply["code"]) == (400, code)


# Keys, signatures, clocks


def test_what_ccxt_makes_of_wrong_credentials(venue: VenueThread) -> None:
    with pytest.raises(ccxt.AuthenticationError, match="-2015"):
        client(venue.url, key="other").fetch_balance()
    with pytest.raises(ccxt.AuthenticationError, match="-1022"):
        client(venue.url, secret="other").fetch_balance()
    late = client(venue.url)
    late.nonce = lambda: late.milliseconds() - 20_000
    with pytest.raises(ccxt.InvalidNonce, match="-1021"):
        late.fetch_balance()
    hasty = client(venue.url)
    hasty.nonce = lambda: hasty.milliseconds() + 20_000
    with pytest.raises(ccxt.InvalidNonce, match="1000ms ahead"):
        hasty.fetch_balance()
    corrected = client(venue.url, adjustForTimeDifference=True)
    corrected.load_markets()
    assert abs(corrected.options["timeDifference"]) < 1_000  # server time is real time, not the exchange's


def test_a_missing_key_and_a_missing_signature(venue: VenueThread) -> None:
    assert ask(venue.port, "/api/v3/account", secret=SECRET, headers={"X-MBX-APIKEY": ""}) == (
        401,
        {"code": -2014, "msg": "API-key format invalid."},
    )
    now = time.time_ns() // 10**6
    assert ask(venue.port, "/api/v3/account", {"timestamp": now})[1]["code"] == -1102


def test_bytes_that_are_no_text_are_a_wrong_signature(venue: VenueThread) -> None:
    signed = {"timestamp": time.time_ns() // 10**6, "signature": "00"}
    status, reply = ask(venue.port, "/api/v3/order", signed, method="POST", body=b"symbol=\xff\xfe")
    assert (status, reply["code"]) == (400, -1022)
    assert ask(venue.port, "/api/v3/order", method="POST", body=b"x" * 70_000)[0] == 413


def test_a_replayed_order_is_refused_inside_its_window_and_after_it() -> None:
    now = [1_700_000_000_000]
    with serve(exchange(), now=lambda: now[0]) as venue:
        order = {**ORDER, "timestamp": now[0], "recvWindow": 3_000}
        codes = []
        for later in (0, 3_000, 1):
            now[0] += later
            codes.append(ask(venue.port, "/api/v3/order", order, method="POST", secret=SECRET)[1].get("code"))
        assert codes == [None, -2010, -2010]
        now[0] += 120_000
        assert ask(venue.port, "/api/v3/order", order, method="POST", secret=SECRET)[1]["code"] == -1021
        again = {**order, "timestamp": now[0]}
        assert ask(venue.port, "/api/v3/order", again, method="POST", secret=SECRET)[0] == 200
        assert len(venue.exchange.orders) == 2


def test_web_pages_are_turned_away(venue: VenueThread) -> None:
    for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Host": "evil.example:80"}):
        assert ask(venue.port, "/venue/v1/clock", headers=headers)[0] == 403
    assert ask(venue.port, "/venue/v1/clock", headers={"Host": f"localhost:{venue.port}"})[0] == 200


def test_paths_that_are_not_served(venue: VenueThread) -> None:
    assert ask(venue.port, "/api/v3/nothing")[0] == 404
    assert ask(venue.port, "/api/v3/klines", method="POST")[0] == 405


# The clock


def test_the_operator_steps_a_manual_venue() -> None:
    with serve(exchange(start=3, pace="manual")) as venue:
        status, reply = ask(venue.port, "/venue/v1/step", {"ticks": 4}, method="POST", secret=SECRET)
        assert (status, reply["moved"], reply["clock"], reply["remaining"]) == (200, 4, day(7), 3)
        assert ask(venue.port, "/venue/v1/step", method="POST", secret=SECRET)[1]["moved"] == 1
        assert ask(venue.port, "/venue/v1/step", {"ticks": 9}, method="POST", secret=SECRET)[1]["finished"] is True
        assert ask(venue.port, "/venue/v1/step", method="POST", secret="wrong")[1]["code"] == -1022


def test_a_polled_venue_is_not_stepped_by_hand(venue: VenueThread) -> None:
    assert ask(venue.port, "/venue/v1/step", method="POST", secret=SECRET)[1]["code"] == -1020
    assert venue.exchange.clock == day(3)


def test_a_venue_in_real_time_steps_by_itself() -> None:
    with serve(exchange(start=3, pace="real"), seconds_per_bar=0.02) as venue:
        until = time.monotonic() + 5.0
        while not ask(venue.port, "/venue/v1/clock")[1]["finished"]:
            assert time.monotonic() < until
            time.sleep(0.02)


# Starting and stopping


def test_a_busy_port_is_named() -> None:
    with serve(exchange()) as venue:
        with pytest.raises(VenueError, match=f"port {venue.port} on 127.0.0.1 is busy.*choose another"):
            serve(exchange(), port=venue.port).__enter__()
        assert ask(venue.port, "/api/v3/ping") == (200, {})
    with serve(exchange(), port=venue.port) as again:
        assert again.port == venue.port


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"host": "0.0.0.0"}, "host '0.0.0.0' is refused: the paper venue listens on 127.0.0.1 only"),
        ({"host": "192.168.0.1"}, "never on a network"),
        ({"port": 70_000}, "port 70000 does not exist"),
        ({"key": ""}, "an API key and a secret"),
        ({"seconds_per_bar": 1.0}, "seconds_per_bar is 1.0 with pace 'poll'"),
    ],
)
def test_servers_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(VenueError, match=message):
        VenueServer(exchange(), **{"key": KEY, "secret": SECRET, **options})


def test_real_time_needs_its_scale() -> None:
    for seconds in (None, 0.0, float("inf")):
        with pytest.raises(VenueError, match="pace 'real' needs a positive number"):
            VenueServer(exchange(pace="real"), key=KEY, secret=SECRET, seconds_per_bar=seconds)


def test_several_markets_share_the_cash() -> None:
    both = PaperExchange([market(), market(recorded(seed=2), "BTC/USDT", lots_per_unit=1000.0)], start="2018-01-04")
    with serve(both) as venue:
        spot = client(venue.url)
        assert set(spot.load_markets()) == {"SPX/USDT", "BTC/USDT"}
        spot.create_order("BTC/USDT", "market", "buy", 0.123)
        spot.create_order(SPX, "market", "buy", 1.0)
        balance = spot.fetch_balance()
        assert (balance["BTC"]["free"], balance["SPX"]["free"]) == (0.123, 1.0)
        assert balance["USDT"]["free"] == both.cash
        assert [row["symbol"] for row in ask(venue.port, "/api/v3/ticker/price")[1]] == ["SPXUSDT", "BTCUSDT"]


def test_importing_the_venue_loads_no_client_and_no_research() -> None:
    program = (
        "import sys, tradelib.venue as v; light = set(sys.modules); v.run_venue; "
        "print([m for m in ('aiohttp', 'pandas', 'ccxt') if m in light], "
        "[m for m in ('ccxt', 'numba', 'exchange_calendars', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[] []"
