"""A bundle's own money: the kernel's numbers, fill by fill, whatever the account does."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

import pytest

from tradelib.backtest import kernel
from tradelib.bundle.trading.instructions import Fill
from tradelib.errors import RunnerError
from tradelib.ledger import journal
from tradelib.live.journals import TraderJournal
from tradelib.live.purse import MarketBook, Purse, check_shares


def fill(quantity: float, price: float, fee: float, trade: str = "1", **more: float) -> Fill:
    return Fill("tl-1", trade, quantity, price, fee, 0, **more)


def test_a_purse_is_what_the_kernel_makes_of_its_fills() -> None:
    """1,000 - 3 x 100.1 - 0.3003 = 699.3997; then + 1 x 110 - 0.11."""
    purse = Purse(1_000.0, 0.0, 100.0).after(fill(3.0, 100.1, 0.3003))
    assert (purse.cash, purse.position) == (kernel.cash_after.python(1_000.0, 3.0, 100.1, 0.3003), 3.0)
    assert purse.cash == pytest.approx(699.3997)
    purse = purse.after(fill(-1.0, 110.0, 0.11))
    assert (purse.position, purse.cash) == (2.0, pytest.approx(809.2897))
    assert purse.equity(105.0) == purse.cash + 2.0 * 105.0


def test_lots_do_not_drift() -> None:
    """0.1 + 0.2 - 0.3 leaves nothing, where float sums leave 5.6e-17."""
    purse = Purse(1_000.0, 0.0, 10.0)
    for number, quantity in enumerate((0.1, 0.2, -0.3)):
        purse = purse.after(fill(quantity, 10.0, 0.0, str(number)))
    assert purse.position == 0.0


def test_a_fee_taken_in_base_units_makes_the_position_smaller_and_leaves_the_cash() -> None:
    purse = Purse(1_000.0, 0.0, 100.0).after(fill(3.0, 100.0, 0.0, fee_base=0.003))
    assert (purse.cash, purse.position) == (700.0, 2.997)


def test_more_money_is_added_and_a_trade_is_booked_once() -> None:
    book = MarketBook(None, Purse(100.0).given(50.0, 1.0))  # type: ignore[arg-type]
    for _ in range(3):
        book.book([fill(1.0, 10.0, 0.5), fill(1.0, 10.0, 0.5, "2")])
    assert book.account == (129.0, 3.0)


@pytest.mark.parametrize("shares", [(0.0,), (1.1,), (-0.1, 0.2), (0.6, 0.5), (float("nan"),)])
def test_shares_that_cannot_be_cut_are_refused(shares: tuple[float, ...]) -> None:
    with pytest.raises(RunnerError, match="share"):
        check_shares(shares)


def test_shares_may_leave_something_and_may_take_everything() -> None:
    check_shares((0.1, 0.2))
    check_shares((1 / 3, 1 / 3, 1 / 3))


def test_a_journal_is_written_by_a_thread_read_by_another_and_rotated_in_between(tmp_path: Path) -> None:
    async def work(log: TraderJournal, threads: Executor) -> None:
        for number in range(6):
            body = {"what": str(number), "detail": ""}
            await log.write([(journal.INCIDENT, body, f"incident:{number}")], threads)
            entry = log.get(f"incident:{number}")
            assert entry is not None
            assert entry.body == body
            if number == 3:
                log.rotate()
        again = await log.write([(journal.INCIDENT, {"what": "1", "detail": ""}, "incident:1")], threads)
        assert again[0].duplicate

    with ThreadPoolExecutor(2) as threads, TraderJournal(tmp_path / "j.sqlite") as log:
        asyncio.run(work(log, threads))
        assert [entry.body["what"] for entry in log.entries(journal.INCIDENT)] == list("012345")
        assert log.verify().ok
