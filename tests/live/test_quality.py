"""Implementation shortfall against a published example, against its own definition, and from a journal as it is."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from tradelib.backtest.costs import Costs
from tradelib.errors import LedgerError, ParameterError
from tradelib.ledger import Ledger, journal, open_journal
from tradelib.live.quality import PARTS, ExecutionQuality, execution_quality

SYMBOL = "BTC/USDT"
DAYS = [f"2020-01-0{day}T00:00:00+00:00" for day in range(1, 8)]
DIGEST = "d" * 64


class Journal:
    """Writes what a runner would."""

    def __init__(self, log: Ledger) -> None:
        self.log = log
        self.trades = 0

    def bars(self, *closes: float, opens: tuple[float, ...] | None = None, volume: float = 100.0) -> None:
        for time, opened, close in zip(DAYS, opens or closes, closes, strict=False):
            high, low = max(opened, close), min(opened, close)
            body = {"time": time, "open": opened, "high": high, "low": low, "close": close, "volume": volume}
            journal.record(self.log, journal.BAR, **body)

    def instruction(self, quantity: float, side: str = "buy", leg: str = "t1", day: int = 0, **more: Any) -> None:
        terms = {"kind": "market", "price": None, "stop_price": None, "group": None, "reduces": False}
        base = {"time": DAYS[day], "symbol": SYMBOL, "leg": leg, "side": side, "quantity": quantity, "reason": "signal"}
        journal.record(self.log, journal.INSTRUCTION, **{**terms, **base, **more})

    def child(self, quantity: str, leg: str = "t1/1", side: str = "buy", day: int = 0, **more: Any) -> str:
        name = f"id-{leg}-{day}"
        base = {"time": DAYS[day], "client_order_id": name, "symbol": SYMBOL, "side": side, "quantity": quantity}
        journal.record(self.log, journal.INTENT, **base, leg=leg, **more)
        return name

    def arrival(self, name: str, price: float, at: str, bid: float | None = None, ask: float | None = None) -> None:
        journal.record(self.log, journal.ARRIVAL, client_order_id=name, at=at, bid=bid, ask=ask, price=price)

    def fill(self, name: str, quantity: float, price: float, fee: float | None, **more: Any) -> None:
        self.trades += 1
        base: dict[str, Any] = {
            "venue_order_id": "1",
            "symbol": SYMBOL,
            "fee_paid": {},
            "maker": None,
            "filled_at": DAYS[1],
        }
        told = {"client_order_id": name, "trade_id": str(self.trades), "quantity": quantity, "price": price, "fee": fee}
        journal.record(self.log, journal.FILL, **{**base, **told, **more})

    def ends(self, name: str, status: str, quantity: float = 0.0, price: float | None = None, **more: Any) -> None:
        base = {"fee": None, "reason": "", "venue_order_id": "1", **more}
        body = {"client_order_id": name, "status": status, "quantity": quantity, "price": price}
        journal.record(self.log, journal.ORDER, **body, **base)


@pytest.fixture
def book(tmp_path: Path) -> Any:
    with open_journal(tmp_path / "j") as log:
        yield Journal(log)


def only(quality: ExecutionQuality) -> dict[str, Any]:
    assert len(quality.orders) == 1
    return dict(quality.orders.iloc[0])


def test_the_example_of_the_textbook(book: Journal) -> None:
    # Maginn, Tuttle, McLeavey, Pinto, "Managing Investment Portfolios", ch. 10: 1,000 shares decided at 20.00 are
    # bought the day after, when they stood at 20.05: 800 at 20.07, then the order is cancelled at a close of 20.08; the
    # commission is 20. Of the 20,000 decided: delay 0.20 %, price 0.08 %, missed 0.08 %, commission 0.10 %: 0.46 %.
    book.bars(20.00, 20.08)
    book.instruction(1000.0)
    name = book.child("1000")
    book.arrival(name, 20.05, DAYS[1])
    book.fill(name, 800.0, 20.07, 20.0)
    book.ends(name, "canceled", 800.0, 20.07)

    row = only(execution_quality(book.log))

    assert {part: row[part] / 20_000 for part in PARTS} == pytest.approx(
        {"delay": 0.0020, "trading": 0.0008, "opportunity": 0.0008, "fees": 0.0010}
    )
    assert row["shortfall_bps"] == pytest.approx(46.0)
    assert (row["status"], row["benchmark"]) == ("partly filled", "last")


@pytest.mark.parametrize("seed", range(10))
def test_the_parts_sum_to_what_a_portfolio_without_costs_earns_more(book: Journal, seed: int) -> None:
    source = random.Random(seed)
    closes = [100.0 + source.uniform(-5, 5) for _ in DAYS]
    book.bars(*closes)
    side = source.choice(["buy", "sell"])
    sign = 1 if side == "buy" else -1
    fills = [(source.randrange(1, 9), 100.0 + source.uniform(-5, 5), source.uniform(0, 1)) for _ in range(4)]
    ordered = 40.0
    book.instruction(ordered, side)
    for number, (quantity, price, fee) in enumerate(fills, start=1):
        name = book.child(str(quantity), f"t1/{number}", side)
        book.arrival(name, 100.0 + source.uniform(-5, 5), DAYS[1])
        book.fill(name, sign * quantity, price, fee)
        book.ends(name, "filled", sign * quantity, price)

    row = only(execution_quality(book.log))

    on_paper = sign * ordered * (closes[1] - closes[0])
    really = sum(sign * quantity * (closes[1] - price) - fee for quantity, price, fee in fills)
    assert row["shortfall"] == pytest.approx(on_paper - really)
    assert row["shortfall"] == pytest.approx(sum(row[part] for part in PARTS))
    assert row["children"] == 4


def test_arrival_is_the_middle_of_the_book_else_the_last_price_else_the_next_open(book: Journal) -> None:
    book.bars(100.0, 101.0, 102.0, 103.0, opens=(99.0, 100.5, 101.5, 102.5))
    for day, (bid, ask) in enumerate([(100.2, 100.4), (None, None)]):
        book.instruction(1.0, leg=f"t{day}", day=day)
        name = book.child("1", f"t{day}/1", day=day)
        book.arrival(name, 100.9, DAYS[day + 1], bid, ask)
        book.fill(name, 1.0, 101.0, 0.0)
        book.ends(name, "filled", 1.0, 101.0)
    book.instruction(1.0, leg="t2", day=2)
    book.ends(book.child("1", "t2/1", day=2), "filled", 1.0, 101.0, fee=0.0)

    orders = execution_quality(book.log).orders

    assert list(orders["benchmark"]) == ["book", "last", "open"]
    assert list(orders["arrival_price"]) == pytest.approx([100.3, 100.9, 102.5])


def test_an_order_that_rests_is_measured_at_its_own_price_and_misses_nothing(book: Journal) -> None:
    book.bars(100.0, 90.0)
    book.instruction(2.0, "sell", "stop", kind="stop", stop_price=95.0, reason="stop_loss", reduces=True)
    book.instruction(2.0, "sell", "target", kind="limit", price=110.0, reason="take_profit", reduces=True)
    name = book.child("2", "stop/1", "sell", kind="stop", stop_price="95")
    book.fill(name, -2.0, 94.5, 0.2)
    book.ends(name, "filled", -2.0, 94.5)
    book.ends(book.child("2", "target/1", "sell", kind="limit", price="110"), "canceled")

    orders = execution_quality(book.log).orders.set_index("leg")

    assert orders.loc["stop", "trading"] == pytest.approx(1.0)  # two units, half a unit of money below the stop
    assert orders.loc["stop", "delay"] == 0.0
    assert orders.loc["target", "shortfall"] == 0.0
    assert orders.loc["target", "status"] == "unfilled"


def test_what_the_gate_refused_is_a_missed_opportunity(book: Journal) -> None:
    book.bars(100.0, 103.0)
    book.instruction(2.0)
    journal.record(book.log, journal.REFUSAL, time=DAYS[0], symbol=SYMBOL, leg="t1", rule="collar", reason="too far")

    row = only(execution_quality(book.log))

    assert (row["status"], row["opportunity"], row["shortfall"]) == ("refused", 6.0, 6.0)


def test_an_order_that_still_works_has_missed_nothing_yet(book: Journal) -> None:
    book.bars(100.0, 103.0)
    book.instruction(2.0)
    name = book.child("2")
    book.fill(name, 1.0, 100.0, 0.0)
    book.ends(name, "partially_filled", 1.0, 100.0)

    row = only(execution_quality(book.log))

    assert (row["status"], row["opportunity"]) == ("working", 0.0)


def test_a_fee_that_is_not_known_is_said_and_not_taken_for_none(book: Journal) -> None:
    book.bars(100.0, 100.0)
    for leg, fee in (("t1", 0.5), ("t2", None)):
        book.instruction(1.0, leg=leg)
        name = book.child("1", f"{leg}/1")
        book.fill(name, 1.0, 100.0, fee)
        book.ends(name, "filled", 1.0, 100.0)

    quality = execution_quality(book.log)

    told = quality.summary()
    assert (told["orders"], told["fee_unknown"], told["fees"]) == (2, 1, 0.5)
    assert told["shortfall_bps"] == pytest.approx(50.0)  # of the one order whose fee is known
    assert "Of 1 orders the fee is not known." in quality.sentence()


def test_beside_the_cost_stands_what_research_assumes(book: Journal) -> None:
    book.bars(100.0, 100.0, volume=400.0)
    book.instruction(8.0)
    for number, maker in ((1, False), (2, True)):
        name = book.child("4", f"t1/{number}")
        book.fill(name, 4.0, 100.0, 0.0, maker=maker)
        book.ends(name, "filled", 4.0, 100.0)
    costs = Costs(fee_rate=0.001, maker_fee_rate=0.0002, slippage=0.0005, spread=0.0002, impact=0.02)

    quality = execution_quality(book.log, costs)

    # taker: 400 x (0.0005 + 0.0001 + 0.02 sqrt(4 / 400) + 0.001), maker: 400 x 0.0002
    assert only(quality)["assumed"] == pytest.approx(400 * 0.0036 + 400 * 0.0002)
    assert quality.summary()["assumed_bps"] == pytest.approx(19.0)
    assert quality.summary()["paid_bps"] == 0.0
    assert "Trading and fees took 0.0 of what was filled; research assumes 19.0." in quality.sentence()
    assert quality.summary()["maker_share"] == 0.5


def test_a_journal_without_instructions_and_fills_is_read_too(book: Journal) -> None:
    book.bars(100.0, 102.0, opens=(100.0, 101.0))
    base = {"time": DAYS[0], "client_order_id": "old", "symbol": SYMBOL, "side": "buy", "quantity": "2"}
    journal.record(book.log, journal.INTENT, **base)
    book.ends("old", "filled", 2.0, 101.5, fee=0.3)

    row = only(execution_quality(book.log))

    assert (row["delay"], row["trading"], row["fees"]) == pytest.approx((2.0, 1.0, 0.3))
    assert (row["leg"], row["reason"]) == ("old", "signal")


def test_sums_per_group_and_a_page(book: Journal) -> None:
    book.bars(100.0, 100.0)
    for leg, side, sign in (("a", "buy", 1.0), ("b", "sell", -1.0)):
        book.instruction(1.0, side, leg)
        name = book.child("1", f"{leg}/1", side)
        book.fill(name, sign, 101.0, 0.1)
        book.ends(name, "filled", sign, 101.0)

    quality = execution_quality(book.log)

    assert dict(quality.by("side")["trading"]) == {"buy": 1.0, "sell": -1.0}
    assert quality.summary()["shortfall"] == pytest.approx(0.2)
    page = quality._repr_html_()
    assert quality.sentence() in page
    assert "<td>2</td>" in page
    with pytest.raises(ParameterError, match="cannot be grouped by 'colour'"):
        quality.by("colour")


def test_a_journal_without_orders_says_so(book: Journal) -> None:
    book.bars(100.0)
    quality = execution_quality(book.log)

    assert quality.sentence() == "No order yet."
    assert quality.summary()["shortfall_bps"] is None


def test_an_order_on_a_bar_that_the_journal_does_not_show_is_refused(book: Journal) -> None:
    book.child("1")

    with pytest.raises(LedgerError, match="but not the bar"):
        execution_quality(book.log)


def test_an_altered_journal_is_not_measured(tmp_path: Path) -> None:
    import sqlite3

    with open_journal(tmp_path / "j") as log:
        Journal(log).bars(100.0, 101.0)
    with sqlite3.connect(tmp_path / "j") as raw:
        raw.executescript("DROP TRIGGER entry_is_final; UPDATE entry SET body = replace(body, '101.0', '100.0')")

    with pytest.raises(LedgerError, match="journal"):
        execution_quality(tmp_path / "j")
