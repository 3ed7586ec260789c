"""The kill switch: it stays down until somebody who may do so lifts it, with a reason, in writing.

A halt is kept in memory before it is written, and written before it is answered: where the disk fails, trading is
halted all the same. Lifting goes the other way round: written first. What stands in the journal is what holds after
`kill -9`, after a restart, and for every process that shares the journal (`refresh`).

Three scopes halt independently of each other: the account, one bundle, one symbol. An order passes only where none of
the three forbids it, and lifting the account's halt lifts no other. Within a scope every halt counts for itself: who
lifts one has seen that one, and the others hold on.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from tradelib.errors import LedgerError, RunnerError
from tradelib.ledger import Entry, Ledger
from tradelib.ledger.journal import LATCH
from tradelib.ledger.segments import SegmentedLedger

__all__ = ["Halt", "Latch", "Level", "Scope"]

_FIGURES = re.compile(r"[-+]?\d[\d.,:e+-]*")
"""Numbers and times in a reason."""


class Level(StrEnum):
    """What a halt leaves: REDUCE lets orders pass that only reduce a position, STOP lets nothing pass."""

    REDUCE = "reduce"
    STOP = "stop"


@dataclass(frozen=True, order=True)
class Scope:
    """What a halt holds for: `account`, `bundle:<name>` or `symbol:<name>`."""

    kind: str
    name: str = ""

    def __post_init__(self) -> None:
        if self.kind not in ("account", "bundle", "symbol"):
            raise RunnerError(f"a halt holds for account, bundle:<name> or symbol:<name>, not for {self.kind!r}")
        if (self.kind == "account") != (self.name == "") or not self.name.isprintable() or len(self.name) > 100:
            raise RunnerError(f"{self.kind}:{self.name[:100]!r} is no scope: write account, bundle:NAME or symbol:NAME")

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}" if self.name else self.kind

    @classmethod
    def parse(cls, text: str) -> Self:
        """`Scope.parse("symbol:BTC/USDT")`; `RunnerError` says what can be written."""
        kind, _, name = text.strip().partition(":")
        return cls(kind, name)

    def covers(self, bundle: str, symbol: str) -> bool:
        """True where an order of `bundle` in `symbol` falls under this scope."""
        return self.kind == "account" or self.name == {"bundle": bundle, "symbol": symbol}[self.kind]


@dataclass(frozen=True)
class Halt:
    """A halt that holds: who caused it and why; `number` and `time` are of its entry in the journal.

    `number` is 0 where the disk refused to take it: it holds in this process, and nobody else knows of it.
    """

    scope: Scope
    level: Level
    who: str
    why: str
    cause: str
    number: int
    time: str

    def as_dict(self) -> dict[str, Any]:
        """Plain data for a reply."""
        return {**vars(self), "scope": str(self.scope), "level": self.level.value}


class Latch:
    """The halts of one account, durable in `log`: the journal of the runner's operations.

    Every halt is kept until it is lifted by its own number: a second one for the same scope stands beside the first.
    Raises `RunnerError` for a journal whose chain is broken: nobody knows then what was halted.
    """

    def __init__(self, log: Ledger) -> None:
        self.log = log
        self._halts: list[Halt] = []
        self._unwritten: list[Halt] = []
        self._seen = 0
        verdict = log.verify_newest() if isinstance(log, SegmentedLedger) else log.verify()
        if not verdict.ok:
            raise RunnerError(
                f"{log.path}: {verdict.problem}; what was halted cannot be known, so nothing may trade. "
                "Keep the file as evidence and restore a backup"
            )
        self.refresh()

    @property
    def halts(self) -> tuple[Halt, ...]:
        """The halts that hold now, those that another process wrote included; the account's first, the oldest first."""
        self.refresh()
        return tuple(sorted([*self._halts, *self._unwritten], key=lambda halt: (halt.scope, halt.number or math.inf)))

    def of(self, scope: Scope) -> tuple[Halt, ...]:
        """The halts that hold for exactly this scope."""
        return tuple(halt for halt in self.halts if halt.scope == scope)

    def halted(self, bundle: str, symbol: str) -> Halt | None:
        """The strictest halt over orders of `bundle` in `symbol`, or None: what to ask before each order.

        Raises `LedgerError` where the journal cannot be read: then nobody knows, and no order may pass.
        """
        found = [halt for halt in self.halts if halt.scope.covers(bundle, symbol)]
        return next((halt for halt in found if halt.level is Level.STOP), found[0] if found else None)

    def halt(self, scope: Scope, who: str, why: str, *, level: Level = Level.REDUCE, cause: str = "operator") -> Halt:
        """Halt `scope`; returns when it is on the disk. What was halted before stays so, for its own reason.

        `cause`: what kind of thing halts ("operator", a limit's name, "reconciliation"). Said again in the same words,
        figures aside, it is the same halt. Raises `LedgerError` where the journal cannot be written: the halt holds in
        this process even then.
        """
        _check_told(who, why)
        halt = Halt(scope, level, who, why, cause, 0, "")
        known = next((other for other in self.of(scope) if _same(other, halt)), None)
        if known is not None and known.number:
            return known
        if known is None:
            self._unwritten.append(halt)
        return self._write_halt(known or halt)

    def arm(self, scope: Scope, who: str, role: str, why: str, *, numbers: Iterable[int]) -> tuple[Halt, ...]:
        """Lift the halts of `scope` that have these `numbers`; returns them.

        The numbers are those that were looked at: a halt that came since is not lifted unseen. Who may do this is the
        caller's to check, `role` says as what it was done. `RunnerError` where one of them does not hold.
        """
        _check_told(who, why)
        holding, wanted = self.of(scope), sorted(set(numbers))
        if not holding:
            raise RunnerError(f"{scope} is not halted: {self._told()}")
        lifted = tuple(halt for halt in holding if halt.number in wanted)
        if not wanted or len({halt.number for halt in lifted}) < len(wanted):
            there = "; ".join(f"entry {halt.number} by {halt.who}: {halt.why}" for halt in holding)
            asked = ", ".join(map(str, wanted)) or "none"
            raise RunnerError(f"{scope} is halted by {there}. Asked for was {asked}: look at them, then arm by number")
        if 0 in wanted:
            raise LedgerError(
                f"a halt of {scope} is not on the disk yet: it holds until it can be written, then lifted"
            )
        levels = {halt.level for halt in lifted}
        strictest = Level.STOP if Level.STOP in levels else Level.REDUCE
        causes = ", ".join(dict.fromkeys(halt.cause for halt in lifted))
        names = {"scope": scope.kind, "subject": scope.name, "engaged": False, "by": who, "reason": why, "role": role}
        self.log.append(LATCH, {**names, "level": strictest.value, "cause": causes, "lifts": wanted})
        self.refresh()
        return lifted

    def refresh(self) -> bool:
        """Take in what other processes wrote since; True where the halts changed. Costs one read of the head."""
        before = [*self._halts, *self._unwritten]
        self._write_belatedly()
        if self.log.head()[0] != self._seen:
            self._take(self.log.entries(LATCH, after=self._seen))
        return before != [*self._halts, *self._unwritten]

    def _take(self, entries: Iterable[Entry]) -> None:
        newest = self.log.head()[0]
        for entry in entries:
            scope = Scope(entry.body["scope"], entry.body["subject"])
            if entry.body["engaged"]:
                self._halts.append(_halt(entry, scope))
            else:
                lifts = entry.body.get("lifts")  # an entry of an older version lifts all that held for its scope
                self._halts = [
                    halt for halt in self._halts
                    if halt.scope != scope or not (lifts is None or halt.number in lifts)
                ]  # fmt: skip
            newest = max(newest, entry.sequence)
        self._seen = newest

    def _write_halt(self, halt: Halt) -> Halt:
        names = {"scope": halt.scope.kind, "subject": halt.scope.name, "engaged": True, "by": halt.who}
        told = {"reason": halt.why, "role": "", "level": halt.level.value, "cause": halt.cause}
        entry = self.log.append(LATCH, {**names, **told})
        self._unwritten.remove(halt)
        self.refresh()
        return _halt(entry, halt.scope)

    def _write_belatedly(self) -> None:
        """Halts that the disk refused, tried once more; they hold in this process whether it works now or not."""
        for halt in list(self._unwritten):
            if halt in self._unwritten:
                with suppress(LedgerError):
                    self._write_halt(halt)

    def _told(self) -> str:
        scopes = dict.fromkeys(str(halt.scope) for halt in self.halts)
        return f"halted are {', '.join(scopes)}" if scopes else "nothing is"


def _same(halt: Halt, other: Halt) -> bool:
    """Whether one halt is the other told again: by the same, for the same reason but for its figures."""

    def told(one: Halt) -> tuple[str, ...]:
        return (str(one.scope), one.level.value, one.who, one.cause, _FIGURES.sub("#", one.why))

    return told(halt) == told(other)


def _halt(entry: Entry, scope: Scope) -> Halt:
    """The halt that an entry tells of; one that names no level stops everything."""
    body = entry.body
    level = Level(body.get("level", Level.STOP))
    return Halt(scope, level, body["by"], body["reason"], body.get("cause", ""), entry.sequence, entry.time)


def _check_told(who: str, why: str) -> None:
    for name, text in (("who", who), ("why", why)):
        if not text.strip():
            raise RunnerError(f"{name} is empty: whoever reads the journal later must see who did this, and why")
