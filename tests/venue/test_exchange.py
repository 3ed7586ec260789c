"""The paper exchange without a socket: what is visible, what an order does, what moves the clock."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.backtest.support import simulate
from tests.venue.support import DAY, FIRST, exchange, market, recorded
from tradelib.backtest import book, kernel
from tradelib.errors import DataError, ParameterError, VenueError
from tradelib.venue.exchange import Kline, NewOrder, PaperExchange, Reason, Refusal

SPX = "SPXUSDT"


def day(number: int) -> int:
    return FIRST + number * DAY


def shown(rows: list[Kline]) -> list[int]:
    """Day numbers of the rows."""
    return [(row.open_time - FIRST) // DAY for row in rows]


# What is visible


def test_a_closed_bar_is_served_as_recorded_and_the_forming_one_as_at_its_first_trade() -> None:
    bars = recorded()
    venue = exchange(bars, start=3)
    rows = venue.klines(SPX)
    assert shown(rows) == [0, 1, 2, 3]
    assert [tuple(row.row) for row in rows[:3]] == [tuple(values) for values in bars.to_numpy()[:3].tolist()]
    opened = bars["open"].iloc[3]
    assert tuple(rows[3].row) == (opened, opened, opened, opened, 0.0)
    assert [row.close_time for row in rows] == [day(number + 1) - 1 for number in range(4)]


def test_the_last_bar_is_followed_by_a_bar_without_trades() -> None:
    bars = recorded(5)
    venue = exchange(bars, start=4, pace="manual")
    assert not venue.finished
    assert venue.step() == 1
    assert venue.finished
    assert venue.step() == 0
    *_, last, flat = venue.klines(SPX)
    assert tuple(last.row) == tuple(bars.to_numpy()[4].tolist())
    close = bars["close"].iloc[4]
    assert flat.open_time == day(5)
    assert tuple(flat.row) == (close, close, close, close, 0.0)
    assert not venue.is_trading(SPX)
    assert venue.last_price(SPX) == close


@pytest.mark.parametrize(
    ("start", "end", "limit", "expected"),
    [
        (None, None, 500, [0, 1, 2, 3, 4, 5]),
        (None, None, 2, [4, 5]),  # without bounds the newest rows
        (day(1), None, 2, [1, 2]),  # from a start the first rows
        (day(1) + 1, None, 2, [2, 3]),
        (None, day(3), 2, [2, 3]),  # up to an end the last rows, the end included
        (None, day(3) - 1, 2, [1, 2]),
        (day(1), day(3), 500, [1, 2, 3]),
        (day(1), day(3), 2, [1, 2]),
        (day(3), day(1), 500, []),
        (day(6), None, 500, []),
        (0, None, 1, [0]),
    ],
)
def test_klines_select_as_binance_does(start: int | None, end: int | None, limit: int, expected: list[int]) -> None:
    assert shown(exchange(start=5).klines(SPX, start, end, limit)) == expected


def test_start_is_the_first_bar_to_trade_and_a_day_without_a_bar_means_the_next() -> None:
    bars = recorded(10, skip=(5, 6))
    assert PaperExchange([market(bars)], start="2018-01-06").clock == day(7)
    assert PaperExchange([market(bars)]).clock == day(1)
    assert PaperExchange([market(recorded(1))]).clock == day(0)
    with pytest.raises(VenueError, match=r"start is 2018-02-01.*after the last bar.*2018-01-10"):
        PaperExchange([market(bars)], start="2018-02-01")
    with pytest.raises(ParameterError, match="start 'soon'"):
        PaperExchange([market(bars)], start="soon")


# What moves the clock


def restarted(venue: PaperExchange) -> None:
    """A client that has read history in pages that end on a closed bar, and has not seen the forming one since."""
    venue.klines(SPX)
    venue.klines(SPX, day(0), None, 3)


@pytest.mark.parametrize(
    ("before", "start", "end", "steps"),
    [
        # the forming bar (day 3) was served before: who asks what comes after day 2 gets it
        ("seen", day(2) + 1, None, True),
        ("seen", day(3), None, True),
        ("seen", day(2) + 1, day(9), True),
        # it was not served yet: the request shows it first
        ("fresh", day(2) + 1, None, False),
        ("fresh", day(3), None, False),
        # history, the newest rows, or a request that would not return the forming bar
        ("seen", None, None, False),
        ("seen", day(0), None, False),
        ("seen", day(2), None, False),
        ("seen", day(3) + 1, None, False),
        ("seen", day(4), None, False),
        ("seen", day(2) + 1, day(3) - 1, False),
        # a restart that reads history in pages sees the forming bar once more before its polls count
        ("restarted", day(2) + 1, None, False),
        ("restarted", day(3), None, False),
    ],
)
def test_which_requests_step(before: str, start: int | None, end: int | None, steps: bool) -> None:
    venue = exchange(start=3)
    if before == "seen":
        venue.klines(SPX)
    if before == "restarted":
        restarted(venue)
    rows = venue.klines(SPX, start, end)
    assert venue.clock == day(4 if steps else 3)
    if steps:
        assert shown(rows) == ([3, 4] if start is not None and start <= day(3) else [])


def test_polling_for_what_comes_next_walks_through_every_bar_once() -> None:
    venue = exchange(start=3)
    closed, polls = [], 0
    last = shown(venue.klines(SPX, day(0), None, 1000))[-2]
    while not venue.finished:
        rows = venue.klines(SPX, day(last) + 1, None, 1000)
        fresh = shown(rows)[:-1]  # the last row is the one that has not closed
        closed += fresh
        last, polls = max([last, *fresh]), polls + 1
    assert closed == list(range(3, 10))
    assert polls == 7
    assert shown(venue.klines(SPX, day(last) + 1)) == [10]


def test_a_poll_whose_answer_was_lost_can_be_sent_again() -> None:
    venue = exchange(start=3)
    venue.klines(SPX)
    answer = venue.klines(SPX, day(2) + 1)
    assert venue.clock == day(4)
    assert venue.klines(SPX, day(2) + 1) == answer
    assert venue.klines(SPX, day(2) + 1) == answer
    assert venue.clock == day(4)


@settings(max_examples=80, deadline=None)
@given(
    events=st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(2, 9), st.integers(0, 3)), max_size=40),
    page=st.integers(1, 9),
)
def test_a_client_that_crashes_and_loses_answers_still_gets_every_bar_in_time(
    events: list[tuple[bool, bool, int, int]], page: int
) -> None:
    """Whatever happens between, a bar reaches the client while the next one forms: its order fills at that open."""
    venue = exchange(recorded(20), start=4)
    last = 3  # the newest bar in the client's journal
    for restarts, lost, limit, back in [*events, *[(False, False, 9, 0)] * 40]:
        start, rows = day(last) + 1, []
        if restarts:
            start = day(max(0, last - back))
            while found := venue.klines(SPX, start, None, page):
                rows, start = rows + found, found[-1].open_time + 1
        else:
            rows = venue.klines(SPX, start, None, limit)
        fresh = [number for number in shown(rows)[:-1] if number > last]
        if fresh and not lost:
            assert fresh == [last + 1]
            last = fresh[0]
            assert venue.clock == day(last + 1)
        if last == 19:
            break
    assert last == 19


@pytest.mark.parametrize("page", [1, 2, 3, 4, 7, 1000])
def test_a_restart_reads_history_in_pages_of_any_size_without_moving_the_clock(page: int) -> None:
    venue = exchange(start=6)
    for _ in range(3):
        start, seen = day(0), []
        while rows := venue.klines(SPX, start, None, page):
            seen += shown(rows)
            start = rows[-1].open_time + 1
        assert seen == [0, 1, 2, 3, 4, 5, 6]
        assert venue.clock == day(6)


def test_one_client_polls_two_markets_in_turn_and_each_round_is_one_tick() -> None:
    gapped = market(recorded(12, skip=(5, 6)), "SPX/USDT")
    full = market(recorded(12, seed=2), "BTC/USDT")
    venue = PaperExchange([gapped, full], start="2018-01-04")
    last = {SPX: day(2), "BTCUSDT": day(2)}
    closed: dict[str, list[int]] = {SPX: [], "BTCUSDT": []}
    clocks = []
    while not venue.finished:
        for name in last:
            rows = venue.klines(name, last[name] + 1)
            closed[name] += shown(rows)[:-1]
            last[name] = max([last[name], *(row.open_time for row in rows[:-1])])
        clocks.append(venue.clock)
    assert clocks == [day(number) for number in range(3, 13)]
    assert closed["BTCUSDT"] == list(range(3, 12))
    assert closed[SPX] == [3, 4, *range(7, 12)]


def test_a_client_of_a_market_with_gaps_is_not_stuck_in_the_gap() -> None:
    venue = PaperExchange(
        [market(recorded(12, skip=(5, 6))), market(recorded(12, seed=2), "BTC/USDT")], start="2018-01-05"
    )
    last, polls = day(3), 0
    while last < day(10) and polls < 40:
        rows = venue.klines(SPX, last + 1)
        last, polls = max([last, *(row.open_time for row in rows[:-1])]), polls + 1
    assert last == day(10)


@pytest.mark.parametrize("pace", ["manual", "real"])
def test_only_poll_pace_lets_a_client_move_the_clock(pace: str) -> None:
    venue = exchange(start=3, pace=pace)
    for _ in range(3):
        venue.klines(SPX)
        venue.klines(SPX, day(2) + 1)
    assert venue.clock == day(3)
    assert venue.step(2) == 2
    assert venue.clock == day(5)


# What an order does


def test_a_buy_and_a_sell_are_the_kernels_numbers() -> None:
    bars = recorded()
    venue = exchange(bars, start=3, fee_rate=0.0013, slippage=0.0007, cash=10_000.0)
    bought = venue.place_market_order(SPX, 1, Decimal("12.34"), "one")
    price = kernel.fill_price(bars["open"].iloc[3], 1.0, 0.0007)
    paid = kernel.fee(12.34, price, 0.0013)
    (fill,) = bought.fills
    assert (bought.status, fill.price, fill.fee, fill.time) == ("FILLED", price, paid, day(3))
    assert venue.cash == kernel.cash_after(10_000.0, 12.34, price, paid)
    venue.klines(SPX)
    venue.klines(SPX, day(2) + 1)
    cash, price = venue.cash, kernel.fill_price(bars["open"].iloc[4], -1.0, 0.0007)
    venue.place_market_order(SPX, -1, Decimal("2.3"), "two")
    assert venue.cash == kernel.cash_after(cash, -2.3, price, kernel.fee(-2.3, price, 0.0013))
    assert venue.positions["SPX"] == 10.04  # 12.34 - 2.3 is 10.040000000000001
    assert venue.equity() == kernel.equity(venue.cash, 10.04, bars["close"].iloc[3])
    assert venue.quotes(SPX) == (price, kernel.fill_price(bars["open"].iloc[4], 1.0, 0.0007))


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_sequence_of_orders_leaves_what_a_replay_through_the_kernel_leaves(data: Any) -> None:
    bars = recorded(12, seed=data.draw(st.integers(0, 5)))
    fee_rate, slippage = data.draw(st.floats(0.0, 0.01)), data.draw(st.floats(0.0, 0.01))
    venue = exchange(bars, start=1, fee_rate=fee_rate, slippage=slippage, cash=5_000.0, pace="manual")
    cash, position, fees, spent = 5_000.0, 0.0, 0.0, 0.0
    for t in range(1, 12):
        for _ in range(data.draw(st.integers(0, 2))):
            side, lots = data.draw(st.sampled_from((1, -1))), data.draw(st.integers(1, 9_000))
            quantity = side * (lots / 100.0)
            price = kernel.fill_price(bars["open"].iloc[t], float(side), slippage)
            paid = kernel.fee(quantity, price, fee_rate)
            admitted = kernel.admissible(cash, position, quantity, price, paid, 1.0) == kernel.FILLED
            below = abs(quantity) * bars["close"].iloc[t - 1] < 5.0
            holds = round(position * 100) >= lots or side > 0
            if below or not admitted or not holds:
                with pytest.raises(Refusal) as refused:
                    venue.place_market_order(SPX, side, Decimal(lots) / 100)
                assert refused.value.reason is (Reason.MINIMUM_NOTIONAL if below else Reason.BALANCE)
                continue
            (fill,) = venue.place_market_order(SPX, side, Decimal(lots) / 100).fills
            assert (fill.price, fill.fee) == (price, paid)
            cash, position = kernel.cash_after(cash, quantity, price, paid), round(position + quantity, 2)
            fees, spent = fees + paid, spent + quantity * price
        assert (venue.cash, venue.positions["SPX"]) == (cash, position)
        assert venue.equity() == kernel.equity(cash, position, bars["close"].iloc[t - 1])
        venue.step()
    assert venue.cash + fees + spent == pytest.approx(5_000.0, rel=1e-12)
    assert venue.cash >= -1e-6
    assert position >= 0.0


def test_a_run_of_targets_on_the_venue_is_the_engines_run() -> None:
    lots = 64.0  # lots that floats hold exactly
    bars = recorded(60, seed=7)
    random = np.random.default_rng(3)
    weights = np.where(random.random(60) < 0.3, 0.0, random.uniform(0.0, 0.9, 60))
    terms = {"fee_rate": 0.001, "slippage": 0.0005, "lots_per_unit": lots, "minimum_notional": 5.0}
    research = simulate(
        bars["open"].to_numpy(), bars["close"].to_numpy(), weights, first=5, cash=10_000.0, rebalance_band=0.05, **terms
    )
    venue = exchange(bars, start=5, cash=10_000.0, pace="manual", **terms)
    equities = []
    while not venue.finished:
        close = venue.market(SPX).tape.last_close(venue.clock)
        t = (venue.clock - FIRST) // DAY - 1
        quantity = kernel.order_quantity(weights[t], 0.05, venue.equity(), close, venue.positions["SPX"], lots, 5.0)
        if quantity:
            venue.place_market_order(SPX, 1 if quantity > 0 else -1, Decimal(repr(abs(quantity))))
        venue.step()
        equities.append(venue.equity())
    assert equities == research.equity.tolist()
    filled = research.order_quantity[research.order_status == book.FILLED]
    assert [order.side * order.quantity for order in venue.orders] == filled.tolist()
    assert len(filled) > 20


def test_cash_runs_out_exactly_where_the_kernel_says() -> None:
    bars = recorded()
    price = kernel.fill_price(bars["open"].iloc[3], 1.0, 0.0005)
    need = 10.0 * price + kernel.fee(10.0, price, 0.001)
    assert exchange(bars, cash=need).place_market_order(SPX, 1, Decimal(10)).status == "FILLED"
    poor = exchange(bars, cash=need * (1.0 - 1e-6))
    with pytest.raises(Refusal) as refused:
        poor.place_market_order(SPX, 1, Decimal(10))
    assert refused.value.reason is Reason.BALANCE
    assert (poor.cash, poor.positions, poor.orders) == (need * (1.0 - 1e-6), {"SPX": 0.0}, [])


def test_nobody_sells_what_he_does_not_hold() -> None:
    venue = exchange()
    venue.place_market_order(SPX, 1, Decimal("0.1"))
    venue.place_market_order(SPX, 1, Decimal("0.2"))  # 0.1 + 0.2 is 0.30000000000000004
    with pytest.raises(Refusal, match="not enough balance"):
        venue.place_market_order(SPX, -1, Decimal("0.31"))
    venue.place_market_order(SPX, -1, Decimal("0.3"))
    with pytest.raises(Refusal, match="not enough balance"):
        venue.place_market_order(SPX, -1, Decimal("0.05"))


def test_after_the_last_bar_an_order_expires_unfilled() -> None:
    venue = exchange(recorded(5), start=4, pace="manual")
    venue.step()
    order = venue.place_market_order(SPX, 1, Decimal(1))
    assert (order.status, order.fills, venue.cash, venue.positions) == ("EXPIRED", (), 100_000.0, {"SPX": 0.0})


def test_between_two_bars_of_a_market_an_order_expires_unfilled() -> None:
    venue = PaperExchange(
        [market(recorded(12, skip=(5, 6))), market(recorded(12, seed=2), "BTC/USDT")], start="2018-01-06"
    )
    assert venue.place_market_order(SPX, 1, Decimal(1)).status == "EXPIRED"
    assert venue.place_market_order("BTCUSDT", 1, Decimal(1)).status == "FILLED"


@pytest.mark.parametrize(
    ("quantity", "reason"),
    [
        ("0.001", Reason.LOT_SIZE),
        ("1.005", Reason.LOT_SIZE),
        ("1e13", Reason.LOT_SIZE),
        ("0.04", Reason.MINIMUM_NOTIONAL),
    ],
)
def test_filters(quantity: str, reason: Reason) -> None:
    with pytest.raises(Refusal) as refused:
        exchange(minimum_notional=5.0).place_market_order(SPX, 1, Decimal(quantity))
    assert refused.value.reason is reason


def test_the_minimum_notional_is_valued_at_the_last_close_as_the_engine_does() -> None:
    bars = recorded()
    close = bars["close"].iloc[2]
    assert exchange(bars, minimum_notional=close).place_market_order(SPX, 1, Decimal(1)).status == "FILLED"
    with pytest.raises(Refusal, match="minimum notional"):
        exchange(bars, minimum_notional=np.nextafter(close, np.inf)).place_market_order(SPX, 1, Decimal(1))


def test_a_client_order_id_is_unique_among_open_orders_only() -> None:
    venue = exchange()
    first = venue.place_market_order(SPX, 1, Decimal(1), "mine")
    second = venue.place_market_order(SPX, 1, Decimal(1), "mine")
    assert venue.order(SPX, client_order_id="mine") == second
    assert venue.order(SPX, order_id=first.order_id) == first
    venue.place(NewOrder(SPX, 1, "limit", Decimal(1), Decimal(50), client_order_id="resting"))
    with pytest.raises(Refusal, match="open order"):
        venue.place_market_order(SPX, 1, Decimal(1), "resting")


def test_unknown_orders_and_symbols_are_refused() -> None:
    venue = PaperExchange([market(), market(recorded(seed=2), "BTC/USDT")])
    order = venue.place_market_order(SPX, 1, Decimal(1), "mine")
    for symbol, number, name in [
        (SPX, 2, None),
        (SPX, 0, None),
        (SPX, None, "other"),
        (SPX, 1, "other"),
        ("BTCUSDT", 1, None),
    ]:
        with pytest.raises(Refusal, match="unknown order"):
            venue.order(symbol, number, name)
    with pytest.raises(Refusal, match="unknown symbol"):
        venue.klines("ETHUSDT")
    twin = venue.place_market_order("BTCUSDT", 1, Decimal(1), "mine")
    assert venue.order("BTCUSDT", client_order_id="mine") == twin
    assert venue.order(SPX, client_order_id="mine") == order
    with pytest.raises(Refusal, match="not open"):
        venue.cancel(SPX, order.order_id)


# What cannot be served


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"symbol": "SPX"}, "symbol 'SPX' names no market: write BASE/QUOTE"),
        ({"fee_rate": -0.1}, "fee_rate is -0.1"),
        ({"slippage": 5.0}, "slippage is 5.0: it is a fraction"),
        ({"lots_per_unit": 0.0}, "lots_per_unit is 0.0 for SPX/USDT"),
        ({"lots_per_unit": 3.0}, "lots_per_unit is 3.0"),
        ({"lots_per_unit": 0.1}, "lots_per_unit is 0.1"),
        ({"lots_per_unit": float("nan")}, "lots_per_unit is nan"),
        ({"minimum_notional": float("inf")}, "minimum_notional is inf"),
        ({"price_decimals": 30}, "price_decimals is 30"),
    ],
)
def test_markets_that_no_exchange_could_announce(terms: dict[str, Any], message: str) -> None:
    with pytest.raises(VenueError, match=message):
        market(**terms)


def test_bars_that_break_the_contract_are_refused() -> None:
    with pytest.raises(DataError):
        market(pd.DataFrame({"open": [1.0]}))


def test_venues_that_cannot_be() -> None:
    daily = recorded(3)
    hourly = recorded(3)
    hourly.attrs["timeframe"] = "1h"
    cases: list[tuple[list[Any], dict[str, Any], str]] = [
        ([], {}, "at least one market"),
        ([market(), market()], {}, "SPX/USDT is given twice"),
        ([market(), market(symbol="SPX/EUR")], {}, "different currencies"),
        ([market(daily), market(hourly, "BTC/USDT")], {}, "1h bars and SPX/USDT 1d bars"),
        ([market()], {"pace": "fast"}, "pace 'fast' is unknown: use one of poll, manual, real, live"),
        ([market()], {"cash": float("nan")}, "cash is nan"),
    ]
    for markets, options, message in cases:
        with pytest.raises(VenueError, match=message):
            PaperExchange(markets, **options)
