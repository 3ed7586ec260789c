"""Kraken and Bitget over real sockets, through the real ccxt clients: what is traded, told and refused."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.venue.dialects import (
    CREDENTIALS,
    HOUR,
    PASSPHRASE,
    SECRET,
    Wire,
    bitget,
    client,
    exchange,
    hourly,
    kraken,
    now,
    serve,
)
from tests.venue.support import FIRST
from tests.venue.support import exchange as days
from tradelib.errors import VenueError
from tradelib.live.dialects import Placement, VenueReply, dialect_of
from tradelib.venue import PaperExchange, VenueMarket
from tradelib.venue.bitget import BitgetDialect
from tradelib.venue.bitget_streams import BitgetStream
from tradelib.venue.dialect import Credentials, Dialect, Request
from tradelib.venue.kraken import KrakenDialect, bare, dressed
from tradelib.venue.orders import Reason, Refusal

NAMES = ("kraken", "bitget")
BTC = "BTC/USDT"
ID = "tl-" + "0123456789abcdef" * 2
WINDOW = 5_000


def made(name: str, paper: PaperExchange) -> Dialect:
    """The dialect without a server."""
    return {"kraken": KrakenDialect, "bitget": BitgetDialect}[name](paper, CREDENTIALS)


def talk(name: str, paper: PaperExchange, work: Callable[[Any], Awaitable[Any]], **options: Any) -> Any:
    """Serve `paper` and give `work` a client that has loaded the markets."""

    async def run(url: str) -> Any:
        speaker = client(url, name, **options)
        try:
            await speaker.load_markets()
            return await work(speaker)
        finally:
            await speaker.close()

    with serve(paper, name) as venue:
        return asyncio.run(run(venue.url))


def order(side: Any, kind: Any, quantity: str, name: str = ID, **terms: Any) -> Placement:
    """An order of bitcoin; prices as texts."""
    exact = {
        key: Decimal(value) if isinstance(value, str) and key != "time_in_force" else value
        for key, value in terms.items()
    }
    return Placement(BTC, side, kind, Decimal(quantity), name, **exact)


@pytest.mark.parametrize("name", NAMES)
def test_markets_clock_and_balances_are_what_the_exchange_has(name: str) -> None:
    async def work(speaker: Any) -> Any:
        return speaker.markets[BTC], await speaker.fetch_time(), await speaker.fetch_balance()

    market, moment, balance = talk(name, exchange(), work)
    assert (market["precision"]["amount"], market["precision"]["price"]) == (1e-8, 1e-5)
    assert (market["taker"], market["limits"]["cost"]["min"], market["active"]) == (0.001, 1.0, True)
    assert abs(now() - moment) < 5_000
    assert (balance["USDT"]["total"], balance["BTC"]["total"], balance["LTC"]["total"]) == (100_000.0, 1.0, 100.0)


@pytest.mark.parametrize("name", NAMES)
def test_bars_are_served_to_the_last_bit_and_a_poll_moves_the_clock(name: str) -> None:
    paper = exchange(pace="poll")
    limit = dialect_of(name).maximum_bars

    async def work(speaker: Any) -> Any:
        first = await speaker.fetch_ohlcv(BTC, "1h", FIRST, limit)
        later = await speaker.fetch_ohlcv(BTC, "1h", first[-2][0] + 1, limit)
        return first, later

    first, later = talk(name, paper, work)
    rows = paper.markets["BTCUSDT"].tape.rows
    assert [row[0] for row in first] == [FIRST, FIRST + HOUR]
    assert first[0][1:] == list(rows[0])  # closed, as recorded
    assert first[1][1:] == [rows[1].open] * 4 + [0.0]  # forming, as at its first trade
    assert [row[0] for row in later] == [FIRST + HOUR, FIRST + 2 * HOUR]  # asking for the next bar closed one


@pytest.mark.parametrize("name", NAMES)
def test_a_market_order_fills_at_the_open_and_is_found_under_its_id(name: str) -> None:
    paper, rules = exchange(), dialect_of(name)

    async def work(speaker: Any) -> Any:
        placed = await rules.place(speaker, order("buy", "market", "0.5"), WINDOW)
        found = await rules.find(speaker, BTC, ID)
        assert found is not None
        return placed, found, await rules.fills(speaker, BTC, order_id=found["id"])

    placed, found, (fill,) = talk(name, paper, work)
    (true,) = paper.orders[0].fills
    open_, slippage = paper.markets["BTCUSDT"].tape.rows[1].open, paper.markets["BTCUSDT"].slippage
    assert true.price == open_ * (1.0 + slippage)
    assert placed["status"] is None  # an acknowledgement says nothing of fills
    assert (found["clientOrderId"], found["status"], found["filled"]) == (ID, "closed", 0.5)
    assert (found["average"], float(found["fee"]["cost"]), found["fee"]["currency"]) == (true.price, true.fee, "USDT")
    assert (fill["order"], fill["price"], fill["amount"], fill["fee"]["cost"]) == (
        found["id"],
        true.price,
        0.5,
        true.fee,
    )
    assert (fill["takerOrMaker"], fill["timestamp"], fill["side"]) == ("taker", paper.clock, "buy")


@pytest.mark.parametrize("name", NAMES)
def test_a_limit_order_rests_locks_what_it_sells_and_can_be_cancelled(name: str) -> None:
    rules = dialect_of(name)

    async def work(speaker: Any) -> Any:
        await rules.place(speaker, order("sell", "limit", "0.25", price="39000"), WINDOW)
        resting, balance = await rules.open_orders(speaker, BTC), await speaker.fetch_balance()
        await rules.cancel(speaker, BTC, ID)
        return resting, balance["BTC"], await rules.find(speaker, BTC, ID), await rules.open_orders(speaker, BTC)

    (resting,), balance, cancelled, rest = talk(name, exchange(), work)
    assert (resting["clientOrderId"], resting["status"], resting["price"]) == (ID, "open", 39_000.0)
    assert (resting["amount"], resting["filled"]) == (0.25, 0.0)
    assert (balance["free"], balance["used"]) == (0.75, 0.25)
    assert (cancelled["status"], cancelled["filled"], rest) == ("canceled", 0.0, [])


def test_kraken_holds_stops_which_sell_when_the_price_falls_to_them() -> None:
    rules = dialect_of("kraken")
    paper = exchange()

    async def work(speaker: Any) -> Any:
        stop = paper.markets["BTCUSDT"].tape.rows[1].open * 0.999
        await rules.place(speaker, order("sell", "stop", "0.25", stop_price=f"{stop:.5f}"), WINDOW)
        waiting = await rules.find(speaker, BTC, ID)
        paper.step()
        return waiting, await rules.find(speaker, BTC, ID)

    waiting, done = talk("kraken", paper, work)
    assert (waiting["status"], waiting["filled"], done["status"], done["filled"]) == ("open", 0.0, "closed", 0.25)
    assert done["average"] < waiting["stopLossPrice"]  # slipped


@pytest.mark.parametrize("name", NAMES)
def test_only_one_order_may_be_open_under_one_id_and_a_done_id_may_be_used_again(name: str) -> None:
    """Kraken documents uniqueness among open orders; so a blind resend can fill twice on every one of the three."""
    rules = dialect_of(name)
    paper = exchange()

    async def work(speaker: Any) -> str:
        resting = order("sell", "limit", "0.25", price="39000")
        await rules.place(speaker, resting, WINDOW)
        with pytest.raises(Exception, match=r"cl_ord_id|Duplicate clientOid") as refused:
            await rules.place(speaker, resting, WINDOW)
        await rules.cancel(speaker, BTC, ID)
        for _ in range(2):
            await rules.place(speaker, order("sell", "market", "0.1"), WINDOW)
        return str(rules.verdict(getattr(refused.value, "venue_reply", None)))

    assert talk(name, paper, work) == "duplicate"
    assert [placed.status for placed in paper.orders] == ["CANCELED", "FILLED", "FILLED"]


@pytest.mark.parametrize(
    ("kind", "terms"), [("market", {}), ("limit", {"price": "41000", "time_in_force": "IOC"})], ids=["market", "taker"]
)
def test_bitgets_market_buy_pays_what_a_market_order_pays(kind: Any, terms: dict[str, str]) -> None:
    rules, prices = dialect_of("bitget"), list[float]()

    async def work(speaker: Any) -> None:
        await rules.place(speaker, order("buy", kind, "0.5", **terms), WINDOW)
        prices.append(paper.orders[0].fills[0].price)

    paper = exchange()
    talk("bitget", paper, work)
    assert prices == [paper.markets["BTCUSDT"].tape.rows[1].open * 1.0005]
    assert (paper.orders[0].kind, paper.orders[0].time_in_force) == ("limit", "IOC")


# Who may ask


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_secret_is_refused_and_changes_nothing(name: str) -> None:
    paper = exchange()
    wrong = base64.b64encode(b"another secret").decode()

    async def work(speaker: Any) -> Any:
        with pytest.raises(Exception, match=r"Invalid signature|sign signature error") as refused:
            await dialect_of(name).place(speaker, order("sell", "market", "0.1"), WINDOW)
        return dialect_of(name).verdict(getattr(refused.value, "venue_reply", None))

    assert talk(name, paper, work, secret=wrong) == "key"
    assert paper.orders == []


def test_kraken_refuses_a_request_that_is_sent_twice() -> None:
    paper = exchange()
    wire = Wire(made("kraken", paper))
    request = kraken("AddOrder", pair="XBTUSDT", type="sell", ordertype="market", volume="0.1")
    assert wire.ask(request)["error"] == []
    assert wire.ask(request) == {"error": ["EAPI:Invalid nonce"]}
    assert len(paper.orders) == 1


def test_kraken_takes_nonces_in_rising_order_only_and_a_forged_one_uses_none_up() -> None:
    wire = Wire(made("kraken", exchange()))
    assert wire.ask(kraken("BalanceEx", nonce=100))["error"] == []
    forged = kraken("BalanceEx", nonce=10**18)
    assert wire.ask(Request(*[*vars(forged).values()][:4], {**forged.headers, "API-Sign": "AAAA"}, now())) == {
        "error": ["EAPI:Invalid signature"]
    }
    assert wire.ask(kraken("BalanceEx", nonce=100)) == {"error": ["EAPI:Invalid nonce"]}
    assert wire.ask(kraken("BalanceEx", nonce=101))["error"] == []


@pytest.mark.parametrize(
    ("ahead", "words"),
    [(5_000, []), (-1, ["EService:Deadline elapsed"]), (61_000, ["EGeneral:Invalid arguments:deadline"])],
)
def test_kraken_refuses_an_order_after_its_deadline(ahead: int, words: list[str]) -> None:
    paper = exchange()
    moment = datetime.fromtimestamp(now() / 1000, UTC) + timedelta(milliseconds=ahead)
    fields = {"pair": "XBTUSDT", "type": "sell", "ordertype": "market", "volume": "0.1", "deadline": moment.isoformat()}
    assert Wire(made("kraken", paper)).ask(kraken("AddOrder", **fields))["error"] == words
    assert len(paper.orders) == (not words)


@pytest.mark.parametrize(
    ("at", "fields", "code"),
    [
        (0, {}, "00000"),
        (-29_000, {}, "00000"),
        (-31_000, {}, "40008"),
        (+31_000, {}, "40008"),
        (0, {"receiveWindow": "5000", "requestTime": -4_000}, "00000"),
        (0, {"receiveWindow": "5000", "requestTime": -6_000}, "40008"),
        (0, {"receiveWindow": "60001", "requestTime": 0}, "40020"),
    ],
)
def test_bitget_refuses_what_comes_too_late(at: int, fields: dict[str, Any], code: str) -> None:
    paper, moment = exchange(), now()
    if "requestTime" in fields:
        fields = {**fields, "requestTime": str(moment + fields["requestTime"])}
    sold = {"symbol": "BTCUSDT", "side": "sell", "orderType": "market", "size": "0.1", **fields}
    request = bitget("POST", "spot/trade/place-order", sold, at=moment + at)
    assert Wire(made("bitget", paper)).ask(request)["code"] == code
    assert len(paper.orders) == (code == "00000")


@pytest.mark.parametrize(
    ("header", "value", "code"),
    [
        ("ACCESS-KEY", "", "40001"),
        ("ACCESS-KEY", "somebody", "40037"),
        ("ACCESS-PASSPHRASE", "guess", "40012"),
        ("ACCESS-TIMESTAMP", "today", "40005"),
        ("ACCESS-SIGN", "AAAA", "40009"),
    ],
)
def test_bitget_asks_for_key_passphrase_time_and_signature(header: str, value: str, code: str) -> None:
    good = bitget("GET", "spot/account/assets")
    bad = Request(good.method, good.path, good.query, good.body, {**good.headers, header: value}, good.now)
    wire = Wire(made("bitget", exchange()))
    assert (wire.ask(good)["code"], wire.ask(bad)["code"]) == ("00000", code)


def test_a_secret_that_is_not_base64_is_no_kraken_secret() -> None:
    with pytest.raises(VenueError, match="base64"):
        KrakenDialect(exchange(), Credentials("k", "not base64!"))


def test_bitgets_keys_have_a_passphrase() -> None:
    with pytest.raises(VenueError, match="set TRADELIB_API_PASSPHRASE"):
        BitgetDialect(exchange(), Credentials("k", SECRET))


# Words and numbers


@pytest.mark.parametrize("name", NAMES)
def test_every_reason_has_words_whose_meaning_the_runner_knows(name: str) -> None:
    rules, dialect = dialect_of(name), made(name, exchange())
    unproved = {Reason.CANCEL_REJECTED, Reason.DUPLICATE}
    for reason in Reason:
        reply = dialect.refusal(Refusal(reason))
        assert reply is not None
        code, message = rules.read(json.loads(json.dumps(reply.body)))
        assert code is not None
        verdict = rules.verdict(_reply(reply.status, code, message))
        if reason in (Reason.UNKNOWN_ORDER, Reason.NOT_OPEN):
            assert verdict == "absent"
        elif reason not in unproved:
            assert verdict == "refused", reason
    assert dialect.refusal(ValueError("not the dialect's")) is None


def _reply(status: int, code: Any, message: str | None) -> VenueReply:
    return VenueReply(status, code, message, None)


@pytest.mark.parametrize("name", NAMES)
def test_a_client_above_the_rate_limit_proves_nothing_by_what_it_is_told(name: str) -> None:
    rules, dialect = dialect_of(name), made(name, exchange())
    for banned in (False, True):
        reply = dialect.limited(3, banned=banned)
        assert rules.verdict(_reply(reply.status, *rules.read(reply.body))) == "busy"


def test_krakens_ids_are_reversible_and_never_meet() -> None:
    numbers = [1, 31, 32, 12_345, 32**5, 10**12]
    found = [dressed("O", value) for value in numbers]
    assert found[0] == "OAAAAA-AAAAA-AAAABX"
    assert [bare("O", name) for name in found] == numbers
    assert len(set(found)) == len(numbers)
    assert [bare("O", text) for text in ("", "TAAAAA-AAAAA-AAAABX", "OAAAA1-AAAAA-AAAABX")] == [-1, -1, -1]


@pytest.mark.parametrize(
    ("sent", "good"),
    [
        ("0123456789abcdef" * 2, True),
        ("6d1b345e-2821-40e2-ad83-4ecb18a06876", True),
        ("eighteen-letters-x", True),
        ("nineteen-letters-xx", False),
        ("tl-" + "0123456789abcdef" * 2, False),
        ("", False),
    ],
)
def test_kraken_takes_uuids_and_short_texts_as_client_order_ids(sent: str, good: bool) -> None:
    fields = {"pair": "XBTUSDT", "type": "sell", "ordertype": "market", "volume": "0.1", "cl_ord_id": sent}
    answer = Wire(made("kraken", exchange())).ask(kraken("AddOrder", **fields))
    assert answer["error"] == ([] if good else ["EGeneral:Invalid arguments:cl_ord_id"])


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"pair": "XBTEUR"}, "EQuery:Unknown asset pair"),
        ({"type": "hold"}, "EGeneral:Invalid arguments:type"),
        ({"ordertype": "iceberg"}, "EGeneral:Invalid arguments:ordertype"),
        ({"volume": "1e3"}, "EGeneral:Invalid arguments:volume"),
        ({"volume": "5"}, "EOrder:Insufficient funds"),
        ({"timeinforce": "GTD"}, "EGeneral:Invalid arguments:timeinforce"),
        ({"leverage": "2"}, "EGeneral:Invalid arguments"),
        ({"ordertype": "limit", "price": "+5%"}, "EGeneral:Invalid arguments:price"),
        ({"ordertype": "limit", "price": "20", "oflags": "post"}, "EOrder:Post only order"),
        ({"validate": "true"}, "EGeneral:Invalid arguments:validate"),
    ],
)
def test_kraken_names_what_is_wrong(fields: dict[str, str], words: str) -> None:
    paper = exchange()
    sold = {"pair": "XBTUSDT", "type": "sell", "ordertype": "market", "volume": "0.1", **fields}
    assert Wire(made("kraken", paper)).ask(kraken("AddOrder", **sold)) == {"error": [words]}
    assert paper.orders == []


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"symbol": "BTCEUR"}, "40034"),
        ({"side": "hold"}, "40020"),
        ({"orderType": "iceberg"}, "40020"),
        ({"size": "1e3"}, "40020"),
        ({"size": ""}, "40019"),
        ({"size": "5"}, "43012"),
        ({"force": "gtd"}, "40020"),
        ({"triggerPrice": "1"}, "40017"),
        ({"orderType": "limit", "price": "20", "force": "post_only"}, "43011"),
        ({"clientOid": "é"}, "40020"),
    ],
)
def test_bitget_names_what_is_wrong(fields: dict[str, str], code: str) -> None:
    paper = exchange()
    sold = {"symbol": "BTCUSDT", "side": "sell", "orderType": "market", "size": "0.1", **fields}
    assert Wire(made("bitget", paper)).ask(bitget("POST", "spot/trade/place-order", sold))["code"] == code
    assert paper.orders == []


def test_krakens_history_holds_the_720_newest_bars_at_most() -> None:
    bars = hourly(38_000.0, 800, symbol=BTC)
    paper = PaperExchange([VenueMarket(BTC, bars)], start=bars.index[-1], pace="manual")
    ask = Request("GET", "/0/public/OHLC", f"pair=XBTUSDT&interval=60&since={FIRST // 1000 - 1}", "", {}, now())
    rows = Wire(made("kraken", paper)).ask(ask)["result"]["XBTUSDT"]
    assert (len(rows), rows[-1][0]) == (720, FIRST // 1000 + 799 * 3600)


def test_krakens_since_is_exclusive() -> None:
    paper = exchange()
    ask = Request("GET", "/0/public/OHLC", f"pair=XBTUSDT&interval=60&since={FIRST // 1000}", "", {}, now())
    rows = Wire(made("kraken", paper)).ask(ask)["result"]["XBTUSDT"]
    assert [row[0] for row in rows] == [FIRST // 1000 + 3600]


def test_bitget_finds_an_order_by_its_client_id_only_while_nothing_of_it_is_filled() -> None:
    """As documented for `orderInfo`; afterwards history is the only place, and its pages must all be read."""
    paper = exchange()
    wire = Wire(made("bitget", paper))
    sold = {"symbol": "BTCUSDT", "side": "sell", "orderType": "market", "size": "0.001"}
    for n in range(101):
        assert wire.ask(bitget("POST", "spot/trade/place-order", {**sold, "clientOid": f"n{n}"}))["code"] == "00000"
    assert wire.ask(bitget("GET", "spot/trade/orderInfo", {"clientOid": "n0"}))["data"] == []
    page = wire.ask(bitget("GET", "spot/trade/history-orders", {"symbol": "BTCUSDT", "limit": "100"}))["data"]
    assert (len(page), page[0]["clientOid"], page[-1]["clientOid"]) == (100, "n100", "n1")
    request = {"symbol": "BTCUSDT", "limit": "100", "idLessThan": page[-1]["orderId"]}
    assert [row["clientOid"] for row in wire.ask(bitget("GET", "spot/trade/history-orders", request))["data"]] == ["n0"]


# The dead-man switch


def test_kraken_cancels_everything_when_it_is_not_told_otherwise_in_time() -> None:
    paper = exchange()
    dialect = made("kraken", paper)
    wire = Wire(dialect)
    sold = {"pair": "XBTUSDT", "type": "sell", "ordertype": "limit", "price": "39000", "volume": "0.1"}
    assert wire.ask(kraken("AddOrder", **sold))["error"] == []
    assert wire.ask(kraken("CancelAllOrdersAfter", timeout=60))["error"] == []
    assert isinstance(dialect, KrakenDialect)
    dialect.expire(now() + 59_000)
    assert len(paper.open_orders()) == 1
    dialect.expire(now() + 61_000)
    assert paper.orders[0].status == "CANCELED"


def test_a_dead_man_switch_that_is_disarmed_does_nothing() -> None:
    paper, rules = exchange(), dialect_of("kraken")

    async def work(speaker: Any) -> None:
        await rules.place(speaker, order("sell", "limit", "0.1", price="39000"), WINDOW)
        await rules.keep_alive(speaker, 5_000)
        await rules.keep_alive(speaker, 0)

    talk("kraken", paper, work)
    assert len(paper.open_orders()) == 1


# Streams


async def told(watch: Any, *arguments: Any) -> Any:
    """The next thing that a stream tells."""
    return await asyncio.wait_for(watch(*arguments), 5.0)


@pytest.mark.parametrize("name", NAMES)
def test_candles_come_with_a_snapshot_and_then_as_they_close(name: str) -> None:
    paper = exchange()

    async def work(speaker: Any) -> Any:
        snapshot = list(await told(speaker.watch_ohlcv, BTC, "1h"))
        seen = {row[0]: row for row in snapshot}
        waiting = asyncio.ensure_future(told(speaker.watch_ohlcv, BTC, "1h"))
        await asyncio.sleep(0)
        paper.step()
        while FIRST + 2 * HOUR not in seen:
            seen |= {row[0]: row for row in await waiting}
            waiting = asyncio.ensure_future(told(speaker.watch_ohlcv, BTC, "1h"))
        waiting.cancel()
        return snapshot, seen

    snapshot, seen = talk(name, paper, work, streams=True)
    rows = paper.markets["BTCUSDT"].tape.rows
    assert [row[0] for row in snapshot] == [FIRST, FIRST + HOUR]
    assert seen[FIRST + HOUR][1:] == list(rows[1])  # closed: revised from its first trade to what was recorded
    assert seen[FIRST + 2 * HOUR][1:5] == [rows[2].open] * 4


@pytest.mark.parametrize("name", NAMES)
def test_orders_and_fills_are_told_under_the_runners_own_ids(name: str) -> None:
    paper, rules = exchange(), dialect_of(name)
    other = "tl-" + "f" * 32

    async def work(speaker: Any) -> Any:
        orders = asyncio.ensure_future(told(speaker.watch_orders, BTC))
        trades = asyncio.ensure_future(told(speaker.watch_my_trades, BTC, None, None, {}))
        await until(lambda: subscribed(speaker))
        await rules.place(speaker, order("sell", "limit", "0.1", other, price="39000"), WINDOW)
        resting = rules.named((await orders)[-1])
        await rules.place(speaker, order("sell", "market", "0.2"), WINDOW)
        fill = (await trades)[-1]
        await until(
            lambda: any(rules.named(o)["clientOrderId"] == ID and o["status"] == "closed" for o in speaker.orders)
        )
        return resting, fill

    resting, fill = talk(name, paper, work, streams=True)
    assert (resting["clientOrderId"], resting["status"], resting["price"]) == (other, "open", 39_000.0)
    (true,) = paper.orders[1].fills
    assert (fill["price"], fill["amount"], fill["side"], fill["symbol"]) == (true.price, 0.2, "sell", BTC)
    assert (fill["fee"]["cost"], fill["fee"]["currency"], fill["takerOrMaker"]) == (true.fee, "USDT", "taker")


def subscribed(speaker: Any) -> bool:
    """Whether both private channels are asked for and the login, if any, is through."""
    wanted = {"kraken": {"executions"}, "bitget": {"authenticated", "order:trades:BTC/USDT:SPOT", "fill:SPOT"}}[
        speaker.id
    ]
    return any(wanted <= set(found.subscriptions) for found in speaker.clients.values())


async def until(reached: Callable[[], bool]) -> None:
    """Wait for something that has no event, at most five seconds."""
    end = time.monotonic() + 5.0
    while not reached():
        assert time.monotonic() < end, "waited for nothing"
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)


@pytest.mark.parametrize(("channel", "answer"), [("candle1Dutc", "subscribe"), ("candle1D", "error")])
def test_bitgets_days_of_hong_kong_are_not_those_of_the_venue(channel: str, answer: str) -> None:
    """ "Candlestick Channel" and "Get Candlestick Data": `candle1D` and `1day` begin at 16:00 UTC."""
    stream = BitgetStream(days(), None)
    wanted = {"instType": "SPOT", "channel": channel, "instId": "SPXUSDT"}
    first, *_ = stream.received(json.dumps({"op": "subscribe", "args": [wanted]}), now())
    assert json.loads(first)["event"] == answer
    dialect = BitgetDialect(days(), CREDENTIALS)
    asked = {"symbol": "SPXUSDT", "granularity": {"candle1D": "1day", "candle1Dutc": "1Dutc"}[channel]}
    said = Wire(dialect).ask(bitget("GET", "spot/market/candles", asked))
    assert said["code"] == {"subscribe": "00000", "error": "40020"}[answer]


@pytest.mark.parametrize("name", NAMES)
def test_private_streams_are_closed_to_a_wrong_secret(name: str) -> None:
    wrong = base64.b64encode(b"another secret").decode()

    async def work(speaker: Any) -> None:
        with pytest.raises(Exception, match=r"Invalid signature|Invalid sign"):
            await told(speaker.watch_orders, BTC)

    talk(name, exchange(), work, streams=True, secret=wrong)


def test_a_kraken_token_opens_the_private_channels_for_fifteen_minutes() -> None:
    dialect = KrakenDialect(exchange(), CREDENTIALS)
    token = Wire(dialect).ask(kraken("GetWebSocketsToken"))["result"]["token"]
    assert dialect.is_token(token, now() + 899_000)
    assert not dialect.is_token(token, now() + 901_000)
    (stream,) = dialect.streams()
    asked = {"method": "subscribe", "params": {"channel": "executions", "token": "guess"}, "req_id": 7}
    opened = stream.open(Request("GET", "/v2", "", "", {}, now()))
    (answer,) = opened.received(json.dumps(asked), now())
    assert (json.loads(answer)["success"], json.loads(answer)["req_id"]) == (False, 7)


def test_credentials_appear_in_no_repr() -> None:
    shown = repr(CREDENTIALS)
    assert SECRET not in shown
    assert PASSPHRASE not in shown
