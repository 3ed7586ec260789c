"""The kill switch: it stays down until somebody who may do so lifts it, with a reason, in writing.

A halt is kept in memory before it is written, and written before it is answered: where the disk fails, trading is
halted all the same. Lifting goes the other way round: written first. What stands in the journal is what holds after
`kill -9`, after a restart, and for every process that shares the journal (`refresh`).

Three scopes halt independently of each other: the account, one bundle, one symbol. An order passes only where none of
the three forbids it, and lifting the account's halt lifts no other.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from tradelib.errors import LedgerError, RunnerError
from tradelib.ledger import Entry, Ledger
from tradelib.ledger.journal import LATCH

__all__ = ["Halt", "Latch", "Level", "Scope"]


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
    """A halt that holds: who caused it and why; `number` and `time` are of its newest entry in the journal.

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

    Raises `RunnerError` for a journal whose chain is broken: nobody knows then what was halted.
    """

    def __init__(self, log: Ledger) -> None:
        self.log = log
        self._halts: dict[Scope, Halt] = {}
        self._unwritten: set[Scope] = set()
        self._seen = 0
        verdict = log.verify()
        if not verdict.ok:
            raise RunnerError(
                f"{log.path}: {verdict.problem}; what was halted cannot be known, so nothing may trade. "
                "Keep the file as evidence and restore a backup"
            )
        self.refresh()

    @property
    def halts(self) -> tuple[Halt, ...]:
        """The halts that hold now, those that another process wrote included; the account's first."""
        self.refresh()
        return tuple(self._halts[scope] for scope in sorted(self._halts))

    def halted(self, bundle: str, symbol: str) -> Halt | None:
        """The strictest halt over orders of `bundle` in `symbol`, or None: what to ask before each order.

        Raises `LedgerError` where the journal cannot be read: then nobody knows, and no order may pass.
        """
        found = [halt for halt in self.halts if halt.scope.covers(bundle, symbol)]
        return next((halt for halt in found if halt.level is Level.STOP), found[0] if found else None)

    def halt(self, scope: Scope, who: str, why: str, *, level: Level = Level.REDUCE, cause: str = "operator") -> Halt:
        """Halt `scope`; returns when it is on the disk. A second halt only ever makes it stricter.

        `cause`: what kind of thing halts ("operator", a limit's name, "reconciliation"). Raises `LedgerError` where the
        journal cannot be written: the halt holds in this process even then.
        """
        _check_told(who, why)
        known = self._halts.get(scope)
        if known is not None and known.level is Level.STOP:
            level = Level.STOP
        if known is not None and known.number and known.level is level:
            return known
        self._halts[scope] = Halt(scope, level, who, why, cause, 0, "")
        self._unwritten.add(scope)
        self._write_halt(scope)
        self.refresh()
        return self._halts[scope]

    def arm(self, scope: Scope, who: str, role: str, why: str, *, number: int | None = None) -> Halt:
        """Lift the halt of `scope`; returns the halt that held.

        `number`: the halt that was looked at; one that came since is not lifted unseen. Who may do this is the caller's
        to check, `role` says as what it was done. `RunnerError` where nothing is halted, or it is another halt by now.
        """
        _check_told(who, why)
        self.refresh()
        known = self._halts.get(scope)
        if known is None:
            raise RunnerError(f"{scope} is not halted: {self._told()}")
        if number is not None and number != known.number:
            raise RunnerError(
                f"{scope} was halted anew (entry {known.number}, not {number}): {known.why}. Look at it, then arm again"
            )
        self._write(known, engaged=False, by=who, role=role, reason=why)
        self._unwritten.discard(scope)
        self._halts.pop(scope, None)
        self.refresh()
        return known

    def refresh(self) -> bool:
        """Take in what other processes wrote since; True where the halts changed. Costs one read of the head."""
        before = dict(self._halts)
        self._write_belatedly()
        if self.log.head()[0] != self._seen:
            self._take(self.log.entries(LATCH, after=self._seen))
        return before != self._halts

    def _take(self, entries: Iterable[Entry]) -> None:
        newest = self.log.head()[0]
        for entry in entries:
            scope = Scope(entry.body["scope"], entry.body["subject"])
            if entry.body["engaged"]:
                self._halts[scope] = _halt(entry, scope)
            elif scope not in self._unwritten:
                self._halts.pop(scope, None)
            newest = max(newest, entry.sequence)
        self._seen = newest

    def _write(self, halt: Halt, *, engaged: bool, by: str, role: str, reason: str) -> None:
        names = {"scope": halt.scope.kind, "subject": halt.scope.name, "engaged": engaged, "by": by, "reason": reason}
        self.log.append(LATCH, {**names, "role": role, "level": halt.level.value, "cause": halt.cause})

    def _write_halt(self, scope: Scope) -> None:
        halt = self._halts[scope]
        self._write(halt, engaged=True, by=halt.who, role="", reason=halt.why)
        self._unwritten.discard(scope)

    def _write_belatedly(self) -> None:
        """Halts that the disk refused, tried once more; they hold in this process whether it works now or not."""
        for scope in sorted(self._unwritten):
            with suppress(LedgerError):
                self._write_halt(scope)

    def _told(self) -> str:
        return f"halted are {', '.join(map(str, sorted(self._halts)))}" if self._halts else "nothing is"


def _halt(entry: Entry, scope: Scope) -> Halt:
    """The halt that an entry tells of; one that names no level stops everything."""
    body = entry.body
    level = Level(body.get("level", Level.STOP))
    return Halt(scope, level, body["by"], body["reason"], body.get("cause", ""), entry.sequence, entry.time)


def _check_told(who: str, why: str) -> None:
    for name, text in (("who", who), ("why", why)):
        if not text.strip():
            raise RunnerError(f"{name} is empty: whoever reads the journal later must see who did this, and why")
