"""Journals in a runner's folder whose bundles are traded no more: what they left on the account is still part of it.

A bundle that is taken out of the settings leaves its journal, and perhaps a position, behind. What it lost is not there
for the next bundle, what it holds belongs to it, and its trades explain what the account holds.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

from tradelib.bundle.trading.terms import exact
from tradelib.ledger import Ledger, journal
from tradelib.live.journals import ACCOUNT

__all__ = ["Retired", "retired_journals", "retired_purse"]


class Retired(NamedTuple):
    """A purse that nobody trades. `allotted`: what it was given; `price`: the close of its last bar."""

    name: str
    symbol: str
    cash: float
    position: float
    allotted: float
    price: float

    @property
    def result(self) -> float:
        """What the account has more (or less) in cash because of it."""
        return self.cash - self.allotted

    @property
    def held(self) -> float:
        """What its position was worth."""
        return self.position * self.price


def retired_journals(folder: Path, current: Iterable[Path]) -> list[Path]:
    """The journals in `folder` that are neither the account's nor one of `current`."""
    known = {ACCOUNT, *(path.name for path in current)}
    return sorted(path for path in folder.glob("*.sqlite") if path.name not in known)


def retired_purse(log: Ledger) -> Retired | None:
    """The purse that a journal ends with; None for one that was never given any. Summed in decimals: the lots of its
    bundle are not known here. A fee in a third currency is not counted: it was paid with what no purse holds."""
    given = journal.bodies(log, journal.PURSE)
    start, bar = log.last(journal.START), log.last(journal.BAR)
    if not given or start is None:
        return None
    allotted = sum((exact(float(body["cash"])) for body in given), Decimal(0))
    cash, position = allotted, sum((exact(float(body["position"])) for body in given), Decimal(0))
    base = str(start.body["symbol"]).partition("/")[0]
    for body in journal.fills(log):
        quantity, kept = exact(body["quantity"]), Decimal(body["fee_paid"].get(base, "0"))
        fee = exact(body["fee"] or 0.0) - kept * exact(body["price"])
        cash -= quantity * exact(body["price"]) + max(fee, Decimal(0))
        position += quantity - kept
    price = 0.0 if bar is None else float(bar.body["close"])
    told = str(start.body["name"]), str(start.body["symbol"])
    return Retired(*told, float(cash), float(position), float(allotted), price)
