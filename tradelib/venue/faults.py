"""What goes wrong at the venue, on purpose: a seeded plan of faults, the same again for the same seed.

A `FaultPlan` is a list of `Fault` rules, written in Python or JSON:

    {"seed": 7, "faults": [
      {"kind": "drop_after", "on": "place", "probability": 0.2},
      {"kind": "status", "on": "any", "status": 429, "after": 10, "times": 3},
      {"kind": "silent", "on": "stream", "after": 100, "times": 1}
    ]}

A rule looks at the occasions that its `on` names (requests by the role of their route, whatever the dialect; messages
of streams; fills), leaves the first `after` alone, and strikes the others with `probability`, at most `times` times.
Whether occasion *n* of a rule is struck depends on seed, rule and *n* alone, not on time and not on what else happens:
the same requests in the same order meet the same faults.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

from tradelib.errors import VenueError

__all__ = [
    "BAR_FAULTS",
    "EXCHANGE_FAULTS",
    "FAULTS",
    "OCCASIONS",
    "REQUEST_FAULTS",
    "STREAM_FAULTS",
    "Fault",
    "FaultPlan",
    "FaultState",
    "Strike",
]

REQUEST_FAULTS: dict[str, str] = {
    "delay": "the request is executed `seconds` late",
    "hang": "executed; the answer comes `seconds` late",
    "drop_before": "the connection is cut before the request is executed",
    "drop_after": "the connection is cut after the request was executed",
    "duplicate": "executed twice, as by a proxy that tries again; answered once",
    "reorder": "held until the next request has been executed, at most `seconds`",
    "truncate": "executed; the answer is valid HTTP, its JSON ends half-way",
    "cut": "executed; the connection breaks in the middle of the body",
    "empty": "executed; 200 without a body",
    "status": "not executed; HTTP `status` (429 and 418 in the dialect's own words, others as a proxy's page)",
    "status_after": "executed; HTTP `status` all the same",
    "clock_skew": "the server's clock is `seconds` ahead (negative: behind) for this request",
    "restart": "the venue is restarted: connections break, nothing answers for `seconds`; the account survives",
}
BAR_FAULTS: dict[str, str] = {
    "stale_bars": "the newest `bars` rows are not there yet",
    "revised_bar": "the close of a closed bar differs by `share` of itself",
    "missing_bar": "a closed bar is left out",
    "duplicate_bar": "a closed bar comes twice",
    "unordered_bars": "two closed bars come in the wrong order",
}
STREAM_FAULTS: dict[str, str] = {
    "silent": "this connection sends no more data, while pings are answered",
    "disconnect": "the connection is closed (many `times`: a reconnect storm)",
    "refuse_stream": "the connection is refused with HTTP `status`",
    "drop_message": "the message is lost",
    "duplicate_message": "the message comes twice",
    "reorder_message": "the message comes after the next one",
    "late_message": "the message comes again after `bars` more messages, as old news",
    "truncate_message": "the message ends half-way",
}
EXCHANGE_FAULTS: dict[str, str] = {
    "partial_fill": "only `share` of the quantity is filled now (a market order expires with the rest)",
    "reject_cancel": "the exchange does not cancel",
}
FAULTS: dict[str, str] = REQUEST_FAULTS | BAR_FAULTS | STREAM_FAULTS | EXCHANGE_FAULTS
"""Every kind of fault, and what it does."""

ROLES = ("place", "cancel", "query", "account", "trades", "bars", "market", "clock")
OCCASIONS = (*ROLES, "any", "stream", "connect", "fill")
"""What `Fault.on` may name: the role of a route, `any` of them, a message of a `stream`, a stream that `connect`s, a
`fill`. Left out it is what the kind allows: bars, stream, connect, fill, cancel, or any."""

_HOME = dict.fromkeys(STREAM_FAULTS, "stream") | dict.fromkeys(BAR_FAULTS, "bars")
_HOME |= {"refuse_stream": "connect", "partial_fill": "fill", "reject_cancel": "cancel"}


@dataclass(frozen=True)
class Fault:
    """One rule of a plan; see the module. Raises `VenueError` for what no rule can mean."""

    kind: str
    on: str = ""
    probability: float = 1.0
    after: int = 0
    times: int | None = None
    seconds: float = 0.05
    status: int = 503
    bars: int = 1
    share: float = 0.5

    def __post_init__(self) -> None:
        if self.kind not in FAULTS:
            raise VenueError(f"fault {self.kind!r} is unknown: use one of {', '.join(FAULTS)}")
        if not self.on:
            object.__setattr__(self, "on", _HOME.get(self.kind, "any"))
        allowed = (_HOME[self.kind],) if self.kind in _HOME else (*ROLES, "any")
        if self.on not in allowed:
            raise VenueError(f"fault {self.kind!r} cannot happen on {self.on!r}: use {', '.join(allowed)}")
        if not 0.0 <= self.probability <= 1.0:
            raise VenueError(f"fault {self.kind!r}: probability is {self.probability!r}, give a number from 0 to 1")
        if self.after < 0 or (self.times is not None and self.times < 1) or self.bars < 1:
            raise VenueError(f"fault {self.kind!r}: after, times and bars are counts, got {self!r}")


class Strike(NamedTuple):
    """A fault that happened: its kind, the occasion, and which one of its rule's occasions it was (from 1)."""

    kind: str
    on: str
    occasion: int


@dataclass(frozen=True)
class FaultPlan:
    """Rules and the seed that decides where those with a probability strike."""

    faults: tuple[Fault, ...] = ()
    seed: int = 0

    @classmethod
    def of(cls, *faults: Fault, seed: int = 0) -> FaultPlan:
        """A plan of these rules."""
        return cls(faults, seed)

    @classmethod
    def from_json(cls, text: str) -> FaultPlan:
        """Read a plan; `VenueError` names the rule and the field that is wrong."""
        try:
            given = json.loads(text)
            return cls(tuple(_rule(n, rule) for n, rule in enumerate(given["faults"])), int(given.get("seed", 0)))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise VenueError(
                f'the fault plan is no JSON object {{"seed": 0, "faults": [{{"kind": ...}}]}}: {error}'
            ) from None

    @classmethod
    def read(cls, path: str | Path) -> FaultPlan:
        """Read a plan from a file."""
        try:
            return cls.from_json(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise VenueError(f"fault plan {path}: {error.strerror}") from error

    def to_json(self) -> str:
        """The plan as `from_json` reads it."""
        return json.dumps({"seed": self.seed, "faults": [asdict(fault) for fault in self.faults]})

    def start(self) -> FaultState:
        """The plan at work, nothing has happened yet."""
        return FaultState(self)


def _rule(number: int, given: Mapping[str, Any]) -> Fault:
    unknown = set(given) - {field.name for field in fields(Fault)}
    if unknown:
        raise VenueError(f"fault {number} of the plan has no {', '.join(sorted(unknown))}")
    try:
        return Fault(**given)
    except TypeError as error:
        raise VenueError(f"fault {number} of the plan: {error}") from None


@dataclass
class FaultState:
    """A plan at work: counts the occasions of each rule and keeps the log of what struck."""

    plan: FaultPlan
    log: list[Strike] = field(default_factory=list)
    occasions: list[int] = field(default_factory=list)
    struck: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.occasions = self.occasions or [0] * len(self.plan.faults)
        self.struck = self.struck or [0] * len(self.plan.faults)

    def strikes(self, on: str, kinds: Iterable[str]) -> list[Fault]:
        """The faults of these `kinds` that strike this occasion, in the plan's order; every rule counts it."""
        return [fault for number, fault in enumerate(self.plan.faults) if self._strikes(number, fault, on, kinds)]

    def first(self, on: str, kinds: Iterable[str]) -> Fault | None:
        """The first of `strikes`, or None."""
        return next(iter(self.strikes(on, kinds)), None)

    def count(self, kind: str) -> int:
        """How often a kind of fault has struck."""
        return sum(strike.kind == kind for strike in self.log)

    def _strikes(self, number: int, fault: Fault, on: str, kinds: Iterable[str]) -> bool:
        if fault.kind not in kinds or fault.on not in (on, "any") or on == "operator":
            return False
        self.occasions[number] += 1
        occasion = self.occasions[number]
        spent = fault.times is not None and self.struck[number] >= fault.times
        if occasion <= fault.after or spent or not self._draw(number, occasion, fault.probability):
            return False
        self.struck[number] += 1
        self.log.append(Strike(fault.kind, on, occasion))
        return True

    def _draw(self, number: int, occasion: int, probability: float) -> bool:
        """Decided by seed, rule and occasion alone."""
        if probability >= 1.0:
            return True
        return random.Random(f"{self.plan.seed}/{number}/{occasion}").random() < probability
