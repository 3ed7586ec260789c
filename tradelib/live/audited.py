"""What a purse should hold by its own journal: a check that is added up apart from the book that trades.

Reconciliation proves that the journals explain the account; this proves that a purse is what its journal says. Together
they compare the venue with the sum of the purses.
"""

from __future__ import annotations

from decimal import Decimal

from tradelib.bundle.execution import Execution
from tradelib.bundle.trading.purse import Purse
from tradelib.bundle.trading.retelling import fill_of
from tradelib.bundle.trading.terms import exact
from tradelib.ledger import Ledger, journal

__all__ = ["PurseCheck"]

_CENT = Decimal("0.01")
_RELATIVE = Decimal("1e-9")
"""Of the turnover: what sums of floats may lose."""


class PurseCheck:
    """Adds up what the journal of one bundle says of its purse; each entry is read once."""

    def __init__(self, log: Ledger, terms: Execution) -> None:
        self._log, self._terms, self._read = log, terms, 0
        self._cash = self._position = self._turnover = self._left_out = Decimal(0)
        self._lot = 1 / exact(terms.lots_per_unit) if terms.lots_per_unit > 0.0 else Decimal(0)

    def difference(self, purse: Purse) -> str:
        """What `purse` has otherwise than the journal, in words; "" where they agree.

        A mirror leaves out the part of a lot that a fee in base units cut off: it may hold less by so much.
        """
        self._add_up()
        short, cash = self._position - exact(purse.position), self._cash - exact(purse.cash)
        room = max(self._lot / 2, abs(self._position) * _RELATIVE)
        if not -room <= short <= room + self._left_out:
            return f"the purse holds {purse.position:g}, its journal adds up to {self._position:f}"
        if abs(cash) > _CENT + self._turnover * _RELATIVE:
            return f"the purse has {purse.cash:.2f} in cash, its journal adds up to {self._cash:.2f}"
        return ""

    def _add_up(self) -> None:
        head = self._log.head()[0]
        for kind in (journal.PURSE, journal.FILL) if head > self._read else ():
            for entry in self._log.entries(kind, self._read):
                if kind == journal.PURSE:
                    self._cash += exact(float(entry.body["cash"]))
                    self._position += exact(float(entry.body["position"]))
                    continue
                fill = fill_of(entry.body, "", self._terms)
                worth = exact(fill.quantity) * exact(fill.price)
                self._cash -= worth + exact(fill.fee)
                self._position += exact(fill.quantity) - exact(fill.fee_base)
                self._turnover += abs(worth)
                self._left_out += self._lot if fill.fee_base else 0
        self._read = head
