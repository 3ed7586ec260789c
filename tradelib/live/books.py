"""Opening a bundle's book from its journal: where it stood after the last entry, whatever ended the process.

A bundle of market orders is opened from its newest `equity` and the fills since. One that needs more is a `Mirror`,
which steps the engine: it goes on from its newest snapshot, and is told what came after it (`Retelling`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tradelib.bundle import Bundle
from tradelib.bundle.trading.instructions import Fill
from tradelib.bundle.trading.mirror import Mirror
from tradelib.bundle.trading.purse import Book, MarketBook, Purse
from tradelib.bundle.trading.retelling import Retelling, fill_of, new_book, told_decisions
from tradelib.ledger import Ledger, journal

__all__ = ["open_book"]


class _Intents(Mapping[str, Mapping[str, Any]]):
    """The journal's intents by client order id, each read when it is asked for."""

    def __init__(self, log: Ledger) -> None:
        self._log = log

    def __getitem__(self, client_order_id: str) -> Mapping[str, Any]:
        entry = self._log.get(f"intent:{client_order_id}")
        if entry is None:
            raise KeyError(client_order_id)
        return entry.body

    def __iter__(self) -> Iterator[str]:
        return (body["client_order_id"] for body in journal.intents(self._log))

    def __len__(self) -> int:
        return self._log.count(journal.INTENT)


def open_book(bundle: Bundle, log: Ledger) -> Book:
    """The book of `bundle` as `log` tells it."""
    return _mirror(bundle, log) if bundle.needs else MarketBook(bundle, *_purse(bundle, log))


def _purse(bundle: Bundle, log: Ledger) -> tuple[Purse, list[Fill]]:
    """The last valued account with what was given and filled since, and those fills."""
    booked: list[Fill] = []
    last = log.last(journal.EQUITY)
    known = {"cash": 0.0, "position": 0.0} if last is None else last.body
    purse = Purse(known["cash"], known["position"], float(bundle.execution.lots_per_unit))
    for entry in log.entries(after=0 if last is None else last.sequence):
        if entry.kind == journal.PURSE:
            purse = purse.given(entry.body["cash"], entry.body["position"])
        elif entry.kind == journal.FILL:
            booked.append(fill_of(entry.body, "0", bundle.execution))
            purse = purse.after(booked[-1])
    return purse, booked


def _mirror(bundle: Bundle, log: Ledger) -> Book:
    """The mirror after everything in the journal."""
    snapshot = log.last(journal.SNAPSHOT)
    if snapshot is not None:
        book: Book = Mirror.restored(bundle, snapshot.body["state"])
        after = snapshot.sequence
    else:
        given = next(iter(log.entries(journal.PURSE)))
        book = new_book(bundle, given.body["cash"], given.body["position"])
        after = given.sequence
    decisions = told_decisions(log.entries(journal.DECISION, after=after))
    telling = Retelling(bundle, book, _Intents(log), decisions, begun=snapshot is not None)
    for entry in log.entries(after=after):
        telling.tell(entry)
    telling.flush()
    return book
