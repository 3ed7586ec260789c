"""Which orders shall stand at a venue, read from the engine's tables: the queue for the next open, and what rests."""

from __future__ import annotations

import math
from collections.abc import Container
from dataclasses import dataclass
from typing import Any

from tradelib.backtest import book
from tradelib.backtest.book import Tape
from tradelib.backtest.execution import execute, wanted
from tradelib.backtest.guards import is_adding
from tradelib.backtest.kernel import position_after
from tradelib.bundle.trading.instructions import Instruction
from tradelib.bundle.trading.mirror_account import MirrorAccount

__all__ = ["Standing", "Wish", "fitting", "wishes"]


@dataclass
class Standing:
    """An instruction that was given, and what was filled of it so far (signed)."""

    serial: int
    instruction: Instruction
    filled: float = 0.0

    def left(self, lots: float) -> float:
        """The signed quantity that may still fill."""
        return float(position_after(self.instruction.signed, -self.filled, lots))

    def is_still(self, terms: Instruction, lots: float) -> bool:
        """True where what is left of it is what `terms` ask for."""
        names = ("kind", "side", "price", "stop_price", "group")
        same = all(getattr(self.instruction, name) == getattr(terms, name) for name in names)
        return same and self.left(lots) == terms.signed


@dataclass(frozen=True)
class Wish:
    """What order `serial` shall be at the venue; with a `cause` (a code of `book`) it must not stand there now."""

    serial: int
    terms: Instruction
    cause: float = book.ALLOWED


def wishes(account: MirrorAccount, tape: Tape, t: int, paused: Container[int] = ()) -> list[Wish]:
    """Every order that works in `account`, as it shall stand during bar `t`: market orders first, as they are sent.

    Exits are for what market orders that stand will leave over: a venue lets the same holding be offered once only.
    Without those that are `paused`.
    """
    market = [wish for wish in _market(account) if wish.serial not in paused]
    left, lots = account.position, account.machine.terms[0, book.LOTS]
    for wish in market:
        left = float(position_after(left, wish.terms.signed, lots)) if wish.terms.reduces else left
    found = [*market, *_stops(account, left), *_targets(account, left), *_entries(account, tape, t)]
    return [wish for wish in found if wish.serial not in paused]


def _market(account: MirrorAccount) -> list[Wish]:
    """Orders for the next open in the engine's sequence: what reduces, then what closes the rest, then by size."""
    m, position, found = account.machine, account.position, []
    for row in account.queued():
        quantity = float(m.orders[row, book.QUANTITY])
        again = m.orders[row, book.REASON] == book.SIGNAL and m.assets[0, book.EXPECTED] * position < 0.0
        reduces = math.isnan(quantity) or not (again or is_adding(position, quantity))
        rank = (-0.5 if math.isnan(quantity) else -1.0) if reduces else abs(quantity)
        found.append((rank, row, reduces))
    told = []
    for _, row, reduces in sorted(found):
        quantity = float(wanted(m, row, position))
        if quantity != 0.0:
            told.append(_wish(account, row, "market", quantity, reduces=reduces))
    return told


def _stops(account: MirrorAccount, left: float) -> list[Wish]:
    """The stop that acts first, for all that is `left`; the position's other ones are behind it."""
    m = account.machine
    rows = [row for row in _attached(account, 1.0) if m.orders[row, book.KIND] in (book.STOP, book.TRAILING)]
    rows = [row for row in rows if not math.isnan(m.orders[row, book.LEVEL])]
    nearest = sorted(rows, key=lambda row: (_way(account, row), row))[:1]
    return [_wish(account, row, "stop", -left) for row in nearest if left != 0.0]


def _targets(account: MirrorAccount, left: float) -> list[Wish]:
    """Rungs as the price meets them, cut to what is `left`; one of NaN takes the rest."""
    m, told = account.machine, []
    rows = [row for row in _attached(account, 1.0) if m.orders[row, book.KIND] == book.LIMIT]
    for row in sorted(rows, key=lambda row: (_way(account, row), row)):
        quantity = float(wanted(m, row, left))
        if quantity != 0.0:
            told.append(_wish(account, row, "limit", quantity))
            left = float(position_after(left, quantity, m.terms[0, book.LOTS]))
    return told


def _entries(account: MirrorAccount, tape: Tape, t: int) -> list[Wish]:
    """Further entries, as far as limits and cash let them fill one after the other, each at its own price."""
    rows = _attached(account, 2.0)
    scratch, told = account.copy() if rows else account, []
    for row in sorted(rows, key=lambda row: (_way(account, row), row)):
        kind = "limit" if account.machine.orders[row, book.KIND] == book.LIMIT else "stop"
        if scratch.is_working(row):
            price = float(account.machine.orders[row, book.LEVEL])
            quantity, cause = _tried(scratch, tape, t, row, price, slips=kind == "stop")
            asked = quantity or float(account.machine.orders[row, book.QUANTITY])
            told.append(_wish(account, row, kind, asked, reduces=False, cause=cause))
    return told


def fitting(account: MirrorAccount, tape: Tape, t: int, row: int, price: float) -> float:
    """The signed part of order `row` that the engine would fill at `price` (before slippage) now; 0.0 for none."""
    slips = account.machine.orders[row, book.KIND] != book.LIMIT
    return _tried(account.copy(), tape, t, row, price, slips=bool(slips))[0]


def _tried(scratch: MirrorAccount, tape: Tape, t: int, row: int, price: float, *, slips: bool) -> tuple[float, float]:
    """Fill order `row` in `scratch`; the quantity, 0.0 with the cause where it may not be."""
    m = scratch.machine
    if execute(m, tape, t, -1, row, price, slips, not slips, 0.0, 0.0):
        return float(m.orders[row, book.QUANTITY]), book.ALLOWED
    return 0.0, float(m.orders[row, book.CAUSE])


def _attached(account: MirrorAccount, kind: float) -> list[int]:
    """Resting orders that belong to the position: 1.0 its exits, 2.0 what scales it in."""
    return [row for row in account.linked() if account.machine.orders[row, book.ATTACHED] == kind]


def _way(account: MirrorAccount, row: int) -> float:
    """Orders that wait on one side, by this, are in the sequence in which a price meets them."""
    return float(account.machine.orders[row, book.UP] * account.machine.orders[row, book.LEVEL])


def _wish(
    account: MirrorAccount, row: int, kind: Any, quantity: float, *, reduces: bool = True, cause: float = book.ALLOWED
) -> Wish:
    m = account.machine
    level = None if kind == "market" else float(m.orders[row, book.LEVEL])
    exits = bool(m.orders[row, book.ATTACHED] == 1.0)
    terms = Instruction(
        leg="",
        kind=kind,
        side="buy" if quantity > 0.0 else "sell",
        quantity=abs(quantity),
        price=level if kind == "limit" else None,
        stop_price=level if kind == "stop" else None,
        group=f"position-{m.assets[0, book.OPENED_AT]:.0f}" if exits else None,
        reduces=reduces,
        reason=book.REASONS[int(m.orders[row, book.REASON])],
        fits=bool(m.rules[book.FIT_TO_CASH] == 1.0 and not reduces),
    )
    return Wish(account.serial(row), terms, cause)
