"""Resting orders on the venue: filled as the engine fills them, in parts where there is not enough to trade."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.venue.support import DAY, FIRST, exchange, market, recorded
from tradelib.backtest import Costs, Market, kernel, run_orders
from tradelib.backtest import Order as EngineOrder
from tradelib.data.bars import make_bars
from tradelib.venue.exchange import PaperExchange
from tradelib.venue.faults import Fault, FaultPlan
from tradelib.venue.orders import NewOrder, Order, Reason, Refusal, Row
from tradelib.venue.sources import BookTape, LiveTape, TradeTape

SPX = "SPXUSDT"
KINDS = ("market", "limit", "stop", "stop_limit", "oco")


def dec(value: float) -> Decimal:
    """The decimal that reads back as the same float."""
    return Decimal(repr(float(value)))


def bars_of(*rows: tuple[float, float, float, float, float]) -> pd.DataFrame:
    """Daily bars written out: open, high, low, close, volume."""
    index = pd.date_range("2018-01-01", periods=len(rows), freq="D", tz="UTC", name="time")
    frame = pd.DataFrame(rows, columns=["open", "high", "low", "close", "volume"], index=index, dtype="float64")
    return make_bars(frame, symbol="SPX", timeframe="1d", source="written out", calendar="24/7")


def venue_of(*rows: tuple[float, float, float, float, float], **terms: Any) -> PaperExchange:
    """A venue without costs; the second bar forms."""
    free = {"fee_rate": 0.0, "slippage": 0.0, "pace": "manual", "start": 1, "holdings": {"SPX": 10.0}}
    return exchange(bars_of(*rows), **{**free, **terms})


def new(kind: Any, side: int, quantity: float = 1.0, **more: Any) -> NewOrder:
    prices = {name: dec(more.pop(name)) for name in ("price", "stop_price") if name in more}
    return NewOrder(SPX, side, kind, dec(quantity), **prices, **more)


# As the engine


def scripted(bars: pd.DataFrame, seed: int) -> list[tuple[int, list[tuple[NewOrder, EngineOrder]]]]:
    """Random orders decided on the closes of `bars`: (bar, one order or the two of an OCO pair)."""
    random = np.random.default_rng(seed)
    found: list[tuple[int, list[tuple[NewOrder, EngineOrder]]]] = []
    for t in range(4, len(bars) - 1):
        close, following = bars["close"].iloc[t], bars["open"].iloc[t + 1]
        kind, side = str(random.choice(KINDS)), int(random.choice((1, -1)))
        quantity, near, far = int(random.integers(10, 500)) / 100, *sorted(random.uniform(0.003, 0.03, 2))
        time, word = bars.index[t], "buy" if side > 0 else "sell"

        def pair(
            kind: Any,
            t: int = t,
            side: int = side,
            quantity: float = quantity,
            word: Any = word,
            time: Any = time,
            **at: Any,
        ) -> tuple[NewOrder, EngineOrder]:
            group = at.pop("group", None)
            named = {"limit": at.get("price"), "stop": at.get("stop_price")}
            sent = new(kind, side, quantity, trigger_at_once=True, client_order_id=f"{t}-{kind}", **at)
            return sent, EngineOrder(time=time, side=word, kind=kind, quantity=quantity, group=group, **named)

        if kind == "market":
            found.append((t, [pair("market")]))
        elif kind == "limit":
            found.append((t, [pair("limit", price=close * (1 - side * float(random.uniform(-0.01, 0.03))))]))
        elif kind == "stop":
            found.append((t, [pair("stop", stop_price=close * (1 + side * float(random.uniform(-0.005, 0.03))))]))
        elif kind == "stop_limit":
            found.append(
                (t, [pair("stop_limit", stop_price=close * (1 + side * near), price=close * (1 + side * far))])
            )
        else:
            stop, limit = following * (1 + side * near), following * (1 - side * far)
            legs = [pair("limit", price=limit, group=f"g{t}"), pair("stop", stop_price=stop, group=f"g{t}")]
            found.append((t, legs))
    return found


@pytest.mark.parametrize("seed", range(12))
def test_market_limit_stop_stop_limit_and_oco_orders_fill_as_in_the_backtest(seed: int) -> None:
    """The same orders, at the venue tick by tick and in the engine at once: the same fills to the last bit."""
    bars, lots = recorded(60, seed=seed), 64.0
    entry = EngineOrder(time=bars.index[2], side="buy", kind="market", quantity=400.0)
    rounded = [
        (
            t,
            [
                (_lots(sent, lots), engine.model_copy(update={"quantity": _quantity(sent, lots)}))
                for sent, engine in pairs
            ],
        )
        for t, pairs in scripted(bars, seed)
    ]
    research = run_orders(
        [entry, *(engine for _, pairs in rounded for _, engine in pairs)],
        bars,
        costs=Costs(fee_rate=0.001, slippage=0.0005, maker_fee_rate=0.0002),
        market=Market(lots_per_unit=lots, minimum_notional=0.0),
        cash=100_000.0,
    )
    terms = {"fee_rate": 0.001, "maker_rate": 0.0002, "slippage": 0.0005, "lots_per_unit": lots}
    venue = exchange(bars, start=3, pace="manual", minimum_notional=0.0, price_decimals=18, **terms)
    venue.place(new("market", 1, 400.0))
    for t, pairs in rounded:
        while venue.clock < FIRST + (t + 1) * DAY:
            venue.step()
        sent = [one for one, _ in pairs]
        if len(sent) == 2:
            venue.place_oco(sent[0], sent[1])
        else:
            venue.place(sent[0])
    venue.step(99)
    mine = sorted(
        ((fill.time - FIRST) // DAY, order.side * fill.quantity, fill.price, fill.fee, fill.maker)
        for order, fill in venue.trades()
    )
    theirs = sorted(
        ((row.time - bars.index[0]).days, row.quantity, row.price, row.fee, row.liquidity == "maker")
        for row in research.fills.itertuples()
    )
    assert mine == theirs
    assert len(mine) > 20
    assert venue.equity() == pytest.approx(research.equity.iloc[-1], rel=1e-12)


def _quantity(sent: NewOrder, lots: float) -> float:
    assert sent.quantity is not None
    return max(round(float(sent.quantity) * lots), 1) / lots


def _lots(sent: NewOrder, lots: float) -> NewOrder:
    return NewOrder(**{**vars(sent), "quantity": dec(_quantity(sent, lots))})


def test_between_two_orders_inside_a_bar_the_stop_comes_first() -> None:
    """Both legs lie inside of the bar: the convention is open, adverse extreme, favourable extreme, close."""
    venue = venue_of((100, 100, 100, 100, 9), (100, 110, 90, 105, 9), (105, 105, 105, 105, 9))
    stop, target = venue.place_oco(new("stop", -1, stop_price=95), new("limit", -1, price=108))
    venue.step()
    stop, target = (venue.order(SPX, order.order_id) for order in (stop, target))
    assert [(fill.price, fill.maker) for fill in stop.fills] == [(95.0, False)]
    assert (stop.status, target.status, target.fills) == ("FILLED", "EXPIRED", ())


@pytest.mark.parametrize(
    ("order", "price", "maker"),
    [
        (new("limit", 1, price=97), 96.0, True),  # the open gaps below a resting buy: filled at the better open
        (new("stop", -1, stop_price=97), 96.0, False),  # and through a stop: at the worse open
        (new("limit", 1, price=94), 94.0, True),
        (new("stop", -1, stop_price=94), 94.0, False),
        (new("take_profit", -1, stop_price=104), 104.0, False),
        (new("take_profit_limit", -1, stop_price=104, price=103), 104.0, False),
        (new("stop_limit", -1, stop_price=97, price=97.5), 97.5, True),  # released at the open, filled on the way back
        (new("limit", 1, price=92), None, None),
    ],
)
def test_the_price_at_which_a_resting_order_fills(order: NewOrder, price: float | None, maker: bool | None) -> None:
    venue = venue_of((100, 100, 100, 100, 9), (100, 101, 99, 100, 9), (96, 105, 93, 100, 9), (100, 100, 100, 100, 9))
    placed = venue.place(order)
    venue.step(2)
    found = venue.order(SPX, placed.order_id)
    assert [(fill.price, fill.maker) for fill in found.fills] == ([] if price is None else [(price, maker)])
    assert found.status == ("NEW" if price is None else "FILLED")


def test_the_walk_itself_ends_the_other_leg_of_a_pair() -> None:
    """What the filled leg leaves to trade is not used up by the leg that it ended."""
    rows = (100, 100, 100, 100, 10), (100, 110, 90, 105, 10), (105, 105, 105, 105, 10)
    venue = venue_of(*rows, participation=0.5)
    venue.place_oco(new("stop", -1, 2.0, stop_price=95), new("limit", -1, 2.0, price=108))
    last = venue.place(new("limit", -1, 3.0, price=109))
    venue.step()
    assert venue.order(SPX, last.order_id).executed == 3.0


# On arrival

FLAT = ((100, 100, 100, 100, 9), (100, 101, 99, 100, 9), (100, 100, 100, 100, 9))


def test_a_marketable_limit_order_takes_at_the_open_and_never_slips() -> None:
    venue = venue_of(*FLAT, slippage=0.01)
    order = venue.place(new("limit", 1, price=105))
    assert (order.status, [(fill.price, fill.maker) for fill in order.fills]) == ("FILLED", [(100.0, False)])


@pytest.mark.parametrize(
    ("order", "status", "executed"),
    [
        (new("limit", 1, 4.0, price=100, time_in_force="IOC"), "EXPIRED", 2.0),
        (new("limit", 1, 4.0, price=100, time_in_force="FOK"), "EXPIRED", 0.0),
        (new("limit", 1, 2.0, price=100, time_in_force="FOK"), "FILLED", 2.0),
        (new("limit", 1, 4.0, price=100), "PARTIALLY_FILLED", 2.0),
        (new("market", 1, 4.0), "EXPIRED", 2.0),
        (new("limit", 1, 4.0, price=99, time_in_force="IOC"), "EXPIRED", 0.0),
    ],
)
def test_time_in_force_with_two_units_to_trade(order: NewOrder, status: str, executed: float) -> None:
    """A fifth of a volume of ten may be taken."""
    venue = venue_of((100, 100, 100, 100, 10), (100, 101, 100, 100, 10), (101, 101, 101, 101, 10), participation=0.2)
    found = venue.place(order)
    assert (found.status, found.executed) == (status, executed)


def test_a_resting_order_fills_in_parts_bar_by_bar() -> None:
    rows = [(100.0, 101.0, 94.0, 100.0, volume) for volume in (10.0, 10.0, 30.0, 50.0, 50.0)]
    venue = venue_of(*rows, participation=0.1)
    order = venue.place(new("limit", 1, 6.0, price=95))
    parts = []
    for _ in range(3):
        venue.step()
        order = venue.order(SPX, order.order_id)
        parts.append((order.status, order.executed))
    assert parts == [("PARTIALLY_FILLED", 1.0), ("PARTIALLY_FILLED", 4.0), ("FILLED", 6.0)]
    assert venue.balances()["SPX"] == (16.0, 0.0)


def test_what_was_taken_at_the_open_is_gone_for_the_rest_of_the_bar() -> None:
    rows = (100, 100, 100, 100, 10), (100, 101, 94, 100, 10), (100, 101, 94, 100, 10), (100, 100, 100, 100, 10)
    venue = venue_of(*rows, participation=0.5)
    venue.place(new("market", 1, 3.0))
    limit = venue.place(new("limit", 1, 9.0, price=95))
    parts = [(venue.step(), venue.order(SPX, limit.order_id).executed)[1] for _ in range(2)]
    assert parts == [2.0, 7.0]


def test_two_orders_share_what_a_bar_has_to_trade() -> None:
    venue = venue_of((100, 100, 100, 100, 10), (100, 101, 94, 100, 10), (100, 100, 100, 100, 10), participation=0.5)
    far, near = venue.place(new("limit", 1, 4.0, price=95)), venue.place(new("limit", 1, 4.0, price=96))
    venue.step()
    assert venue.order(SPX, near.order_id).executed == 4.0  # the nearer level is met first
    assert venue.order(SPX, far.order_id).executed == 1.0


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        (new("stop", -1, stop_price=100), Reason.WOULD_TRIGGER),
        (new("stop", 1, stop_price=99), Reason.WOULD_TRIGGER),
        (new("take_profit", -1, stop_price=99), Reason.WOULD_TRIGGER),
        (new("limit", 1, price=100, post_only=True), Reason.WOULD_TAKE),
        (new("limit", 1, price=99.123456789), Reason.PRICE_FILTER),
        (new("limit", 1, 0.01, price=99), Reason.MINIMUM_NOTIONAL),
        (new("limit", -1, 10.01, price=101), Reason.BALANCE),
        (new("limit", 1, 1001.0, price=99.99), Reason.BALANCE),
        (new("limit", 1), Reason.BAD_TERMS),
        (new("market", 1, price=99), Reason.BAD_TERMS),
    ],
)
def test_orders_that_the_venue_refuses(order: NewOrder, reason: Reason) -> None:
    venue = venue_of(*FLAT)
    with pytest.raises(Refusal) as refused:
        venue.place(order)
    assert refused.value.reason is reason
    assert (venue.orders, venue.cash) == ([], 100_000.0)


def test_a_stop_whose_price_is_reached_is_executed_where_the_exchange_does_that() -> None:
    venue = venue_of(*FLAT, slippage=0.01)
    order = venue.place(new("stop", -1, stop_price=105, trigger_at_once=True))
    assert (order.status, order.fills[0].price) == ("FILLED", kernel.fill_price(100.0, -1.0, 0.01))


# Locks


def test_open_orders_lock_what_they_may_spend_and_a_cancel_frees_it() -> None:
    venue = venue_of(*FLAT, cash=1_000.0, fee_rate=0.001)
    buy = venue.place(new("limit", 1, 5.0, price=90))
    venue.place(new("limit", -1, 4.0, price=110))
    assert venue.balances() == {"USDT": (1_000.0 - 450.45, 450.45), "SPX": (6.0, 4.0)}
    with pytest.raises(Refusal, match="not enough balance"):
        venue.place(new("market", 1, 6.0))
    assert venue.cancel(SPX, buy.order_id).status == "CANCELED"
    assert venue.balances()["USDT"] == (1_000.0, 0.0)
    assert venue.place(new("market", 1, 6.0)).status == "FILLED"
    with pytest.raises(Refusal, match="not open"):
        venue.cancel(SPX, buy.order_id)


def test_a_pair_locks_once_and_is_cancelled_as_one() -> None:
    venue = venue_of(*FLAT)
    stop, target = venue.place_oco(new("stop", -1, 4.0, stop_price=95), new("limit", -1, 4.0, price=108))
    assert venue.balances()["SPX"] == (6.0, 4.0)
    venue.cancel(SPX, target.order_id)
    assert [order.status for order in venue.orders] == ["CANCELED", "CANCELED"]
    assert venue.balances()["SPX"] == (10.0, 0.0)
    assert stop.group == target.group == 1


@pytest.mark.parametrize(
    "legs",
    [
        (new("stop", -1, stop_price=95), new("limit", -1, price=99)),
        (new("stop", -1, stop_price=101), new("limit", -1, price=108)),
        (new("stop", -1, stop_price=95), new("stop", -1, stop_price=94)),
        (new("stop", -1, stop_price=95), new("limit", -1, 2.0, price=108)),
        (new("stop", -1, stop_price=95), new("limit", 1, price=90)),
        (new("stop", -1, stop_price=95), new("market", -1)),
    ],
)
def test_pairs_that_are_none(legs: tuple[NewOrder, NewOrder]) -> None:
    venue = venue_of(*FLAT)
    with pytest.raises(Refusal) as refused:
        venue.place_oco(*legs)
    assert refused.value.reason is Reason.OCO_PRICES
    assert venue.orders == []


def test_a_buy_may_pay_its_fee_in_what_it_receives() -> None:
    venue = venue_of(*FLAT, fee_rate=0.001, fee_in="received", cash=1_000.0)
    bought = venue.place(new("market", 1, 10.0))
    assert [(fill.fee, fill.fee_asset) for fill in bought.fills] == [(0.01, "SPX")]
    assert (venue.cash, venue.positions["SPX"]) == (0.0, 19.99)
    with pytest.raises(Refusal, match="not enough balance"):  # the gross amount is not there
        venue.place(new("market", -1, 20.0))
    sold = venue.place(new("market", -1, 19.99))
    assert [(fill.fee, fill.fee_asset) for fill in sold.fills] == [(0.001 * 19.99 * 100, "USDT")]


def test_parts_of_a_lot_that_fees_leave_behind_stay_and_cannot_be_sold() -> None:
    venue = venue_of(*FLAT, fee_rate=0.0005, fee_in="received", holdings={}, lots_per_unit=100.0)
    venue.place(new("market", 1, 10.0))
    assert venue.positions["SPX"] == 9.995
    with pytest.raises(Refusal, match="not enough balance"):  # 9.995 is not 10.00
        venue.place(new("market", -1, 10.0))
    venue.place(new("market", -1, 9.99))
    assert venue.positions["SPX"] == pytest.approx(0.005)


def test_a_stop_is_not_bounded_by_the_volume_and_leaves_the_less_to_limits() -> None:
    venue = venue_of((100, 100, 100, 100, 10), (100, 101, 94, 100, 10), (100, 100, 100, 100, 10), participation=0.5)
    stop, limit = venue.place(new("stop", -1, 4.5, stop_price=98)), venue.place(new("limit", 1, 4.0, price=95))
    venue.step()
    assert [venue.order(SPX, order.order_id).executed for order in (stop, limit)] == [4.5, 0.5]


@pytest.mark.parametrize("force", ["IOC", "FOK"])
def test_a_released_stop_limit_that_may_not_rest_expires(force: Any) -> None:
    venue = venue_of((100, 100, 100, 100, 9), (96, 96, 96, 96, 9), (96, 96, 96, 96, 9), (96, 96, 96, 96, 9), start=0)
    order = venue.place(new("stop_limit", -1, stop_price=98, price=97, time_in_force=force))
    venue.step(3)
    assert (venue.order(SPX, order.order_id).status, venue.order(SPX, order.order_id).fills) == ("EXPIRED", ())


def test_an_amount_of_quote_currency_buys_whole_lots() -> None:
    venue = venue_of(*FLAT)
    order = venue.place(NewOrder(SPX, 1, "market", quote_quantity=Decimal("250.999")))
    assert (order.executed, order.status) == (2.5, "FILLED")


# Recorded trades and books

MINUTE = 60_000


def trades(*rows: tuple[int, float, float], fine: bool = True, **terms: Any) -> PaperExchange:
    """A venue of trades (second, price, quantity) with bars of one minute; the clock stops at each."""
    frame = pd.DataFrame([(FIRST + 1_000 * s, p, q) for s, p, q in rows], columns=["time", "price", "quantity"])
    free = {"fee_rate": 0.0, "slippage": 0.0, "lots_per_unit": 100.0, "minimum_notional": 0.0}
    tape = TradeTape(frame, "1m", fine=fine)
    return PaperExchange([market(tape, **{**free, **terms})], pace="manual", start=FIRST_TIME, holdings={"SPX": 10.0})


FIRST_TIME = pd.Timestamp(FIRST, unit="ms", tz="UTC")


def test_bars_of_trades_grow_with_the_trades() -> None:
    venue = trades((0, 100.0, 1.0), (20, 102.0, 2.0), (59, 99.0, 1.0), (60, 98.0, 5.0))
    seen = []
    while not venue.finished:
        seen.append(tuple(venue.klines(SPX)[-1].row))
        venue.step()
    assert seen == [(100, 100, 100, 100, 1), (100, 102, 100, 102, 3), (100, 102, 99, 99, 4), (98, 98, 98, 98, 5)]
    assert [row.row.volume for row in venue.klines(SPX)] == [4.0, 5.0, 0.0]


def test_a_limit_order_gets_what_the_trades_at_its_price_leave_it() -> None:
    venue = trades((0, 100.0, 1.0), (10, 99.0, 2.0), (20, 98.5, 1.5), (30, 100.0, 9.0), (40, 99.0, 9.0))
    order = venue.place(new("limit", 1, 4.0, price=99))
    parts = []
    while not venue.finished:
        venue.step()
        parts.append(venue.order(SPX, order.order_id).executed)
    assert parts == [0.0, 2.0, 3.5, 3.5, 4.0]
    assert {fill.price for fill in venue.order(SPX, order.order_id).fills} == {99.0}


def test_two_orders_share_the_quantity_of_a_trade() -> None:
    venue = trades((0, 100.0, 1.0), (10, 98.0, 3.0), (20, 98.0, 0.5))
    near, far = venue.place(new("limit", 1, 2.0, price=99)), venue.place(new("limit", 1, 2.0, price=98))
    venue.step(2)
    assert [venue.order(SPX, order.order_id).executed for order in (near, far)] == [2.0, 1.0]


def test_a_stop_is_released_by_the_trade_that_reaches_it_and_pays_that_price() -> None:
    venue = trades((0, 100.0, 1.0), (10, 97.0, 0.5), (20, 96.0, 9.0), slippage=0.01)
    order = venue.place(new("stop", -1, 4.0, stop_price=98))
    venue.step(2)
    found = venue.order(SPX, order.order_id)
    assert [(fill.quantity, fill.price) for fill in found.fills] == [(4.0, kernel.fill_price(97.0, -1.0, 0.01))]


def books(*rows: tuple[int, str, float, float], **terms: Any) -> PaperExchange:
    frame = pd.DataFrame(
        [(FIRST + 1_000 * s, *rest) for s, *rest in rows], columns=["time", "side", "price", "quantity"]
    )
    free = {"fee_rate": 0.0, "slippage": 0.01, "lots_per_unit": 100.0, "minimum_notional": 0.0}
    tape = BookTape(frame, "1m", fine=True)
    return PaperExchange([market(tape, **{**free, **terms})], pace="manual", start=FIRST_TIME, holdings={"SPX": 10.0})


OPENING = ((0, "bid", 99.0, 3.0), (0, "bid", 98.0, 5.0), (0, "ask", 101.0, 2.0), (0, "ask", 102.0, 4.0))


def test_a_market_order_takes_the_levels_of_a_recorded_book_without_slippage() -> None:
    venue = books(*OPENING, (30, "ask", 101.0, 7.0))
    order = venue.place(new("market", 1, 5.0))
    assert [(fill.quantity, fill.price) for fill in order.fills] == [(2.0, 101.0), (3.0, 102.0)]
    again = venue.place(new("market", 1, 5.0))  # what was taken is gone until the recording changes the level
    assert ([(fill.quantity, fill.price) for fill in again.fills], again.status) == ([(1.0, 102.0)], "EXPIRED")
    venue.step()
    assert [fill.price for fill in venue.place(new("market", 1, 7.0)).fills] == [101.0]


def test_a_resting_order_fills_at_its_limit_when_the_other_side_comes_to_it() -> None:
    venue = books(*OPENING, (10, "ask", 100.0, 1.5), (20, "ask", 101.0, 1.0), (30, "ask", 100.0, 9.0))
    order = venue.place(new("limit", 1, 4.0, price=100))
    assert order.status == "NEW"
    parts = []
    while not venue.finished:
        venue.step()
        parts.append(venue.order(SPX, order.order_id).executed)
    assert parts == [0.0, 1.5, 1.5, 4.0]


def test_a_stop_takes_the_book_once_the_best_price_has_reached_it() -> None:
    venue = books(*OPENING, (10, "bid", 99.0, 0.0), (20, "bid", 97.0, 9.0))
    order = venue.place(new("stop", -1, 6.0, stop_price=98))
    venue.step(3)
    assert [(f.quantity, f.price) for f in venue.order(SPX, order.order_id).fills] == [(5.0, 98.0)]
    assert venue.order(SPX, order.order_id).status == "EXPIRED"  # nothing else stood in the book


# What is told, and what survives a restart


def test_events_tell_what_happened_in_its_sequence() -> None:
    venue = venue_of(*FLAT, (94, 94, 94, 94, 9))
    order = venue.place(new("limit", 1, price=95))
    seen = venue.events()[-1].sequence
    venue.step(3)
    told = [(event.kind, event.order.status if event.order else None) for event in venue.events(seen)]
    assert told == [("trade", "FILLED"), ("balance", None)]
    assert [event.sequence for event in venue.events()] == list(range(1, seen + 3))
    assert venue.events(seen)[0].fill == venue.order(SPX, order.order_id).fills[0]


def test_a_stop_that_acts_and_gets_nothing_ends_its_pair() -> None:
    """What a fault leaves of one lot is none: the stop expires, and its target with it, as on Binance."""
    venue = exchange(recorded(14, seed=0), start=2, cash=3_000.0, pace="manual", minimum_notional=0.0)
    venue.faults = FaultPlan.of(Fault("partial_fill", probability=1.0), seed=0).start()
    price = venue.last_price(SPX)
    stop, limit = round(price * 1.0001, 6), round(price * 0.9, 6)
    venue.place_oco(new("stop", 1, 0.01, stop_price=stop), new("limit", 1, 0.01, price=limit))
    venue.step(8)
    assert [(order.kind, order.status, order.fills) for order in venue.orders] == [
        ("stop", "EXPIRED", ()),
        ("limit", "EXPIRED", ()),
    ]
    assert venue.balances()["USDT"] == (3_000.0, 0.0)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_whatever_clients_do_the_account_balances(data: Any) -> None:
    """Nothing is created or lost; nobody holds less than nothing or locks more than there is."""
    share = data.draw(st.sampled_from([None, 0.00001, 0.5]))
    received = data.draw(st.booleans())
    venue = exchange(
        recorded(14, seed=data.draw(st.integers(0, 9))),
        start=2,
        cash=3_000.0,
        pace="manual",
        participation=share,
        fee_in="received" if received else "quote",
        holdings={"SPX": 20.0},
        minimum_notional=0.0,
    )
    if data.draw(st.booleans()):
        faults = [Fault("partial_fill", probability=0.3), Fault("reject_cancel", probability=0.3)]
        venue.faults = FaultPlan.of(*faults, seed=data.draw(st.integers(0, 99))).start()
    while not venue.finished:
        for _ in range(data.draw(st.integers(0, 3))):
            _do_something(venue, data)
        _check_account(venue)
        venue.step()
    _check_account(venue)
    restored = json.loads(json.dumps(venue.snapshot()))
    before = venue.snapshot()
    venue.restore(restored)
    assert venue.snapshot() == before


def _do_something(venue: PaperExchange, data: Any) -> None:
    price = venue.last_price(SPX)
    near = round(price * data.draw(st.floats(0.95, 1.05)), 6)
    far = round(price * data.draw(st.floats(0.95, 1.05)), 6)
    side, quantity = data.draw(st.sampled_from((1, -1))), data.draw(st.integers(1, 1_500)) / 100
    kind = data.draw(st.sampled_from(["market", "limit", "stop", "stop_limit", "take_profit", "oco", "cancel"]))
    force = data.draw(st.sampled_from(["GTC", "GTC", "IOC", "FOK"]))
    prices = {"price": near} if "limit" in kind else {}
    if kind in ("stop", "stop_limit", "take_profit"):
        prices["stop_price"] = far
    try:
        if kind == "cancel":
            venue.cancel(SPX, data.draw(st.integers(1, len(venue.orders) + 1)))
        elif kind == "oco":
            legs = new("stop", side, quantity, stop_price=far), new("limit", side, quantity, price=near)
            venue.place_oco(*legs)
        else:
            venue.place(new(kind, side, quantity, time_in_force=force, **prices))
    except Refusal:
        pass


def _check_account(venue: PaperExchange) -> None:
    fills = venue.trades()
    paid = sum(fill.fee for _, fill in fills if fill.fee_asset == "USDT")
    spent = sum(order.side * fill.quantity * fill.price for order, fill in fills)
    got = sum(order.side * fill.quantity - (fill.fee if fill.fee_asset == "SPX" else 0.0) for order, fill in fills)
    assert venue.cash == pytest.approx(3_000.0 - paid - spent, rel=1e-9, abs=1e-6)
    assert venue.positions["SPX"] == pytest.approx(20.0 + got, abs=1e-9)
    assert venue.cash >= -1e-6 * 3_000.0
    assert venue.positions["SPX"] >= -1e-9
    for free, locked in venue.balances().values():
        assert locked >= 0.0
        assert free >= -1e-6 * 3_000.0
    assert [fill.trade_id for _, fill in fills] == list(range(1, len(fills) + 1))
    for order in venue.orders:
        assert order.executed <= order.quantity + 1e-9
        assert (order.status == "FILLED") == (abs(order.executed - order.quantity) < 1e-9)
        assert (order.status == "PARTIALLY_FILLED") == (order.is_open and order.executed > 0.0)
    pairs = {order.group for order in venue.orders if order.group is not None}
    for group in pairs:
        legs = [order for order in venue.orders if order.group == group]
        assert sum(bool(order.fills) for order in legs) <= 1
        assert len({order.is_open for order in legs}) == 1 or any(order.fills for order in legs)


def test_a_restart_from_a_snapshot_changes_nothing() -> None:
    def placed(venue: PaperExchange) -> None:
        venue.place(new("market", 1, 2.0, client_order_id="a"))
        venue.place(new("limit", 1, 1.0, price=95, client_order_id="b"))
        venue.place_oco(new("stop", -1, 2.0, stop_price=96), new("limit", -1, 2.0, price=130))
        venue.step(2)

    whole, halves = (exchange(recorded(30), start=3, pace="manual") for _ in range(2))
    placed(whole)
    placed(halves)
    fresh = exchange(recorded(30), start=3, pace="manual")
    fresh.restore(json.loads(json.dumps(halves.snapshot())))
    for venue in (whole, fresh):
        venue.step(10)
        venue.place(new("market", 1, 1.0))
    assert fresh.snapshot() == whole.snapshot()
    assert [order.client_order_id for order in fresh.orders][:2] == ["a", "b"]
    assert any(isinstance(order, Order) and order.fills for order in fresh.orders)


def test_of_a_live_bar_that_grows_orders_meet_the_way_and_new_extremes_only() -> None:
    tape = LiveTape(recorded(3))
    day = FIRST + 3 * DAY
    tape.push([(day, Row(100.0, 105.0, 99.0, 102.0, 5.0))])
    (grown,) = tape.push([(day, Row(100.0, 105.0, 97.0, 98.0, 8.0))])
    assert grown.bar == Row(102.0, 102.0, 97.0, 98.0, 3.0)  # the high of 105 was there before
    (higher,) = tape.push([(day, Row(100.0, 107.0, 97.0, 101.0, 9.0))])
    assert higher.bar == Row(98.0, 107.0, 98.0, 101.0, 1.0)
    assert tape.push([(day, Row(100.0, 107.0, 97.0, 101.0, 9.0))]) == []
