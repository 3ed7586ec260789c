"""Child orders and the market that they are placed in; every quantity and price a `Decimal` on the venue's own grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from enum import StrEnum
from typing import Any, Literal

from tradelib.bundle.trading.instructions import Kind, Side
from tradelib.errors import RunnerError

__all__ = ["Action", "Cancel", "Child", "MarketRules", "MarketView", "Place", "Standing", "Status", "Work"]

NOTHING = Decimal(0)


@dataclass(frozen=True)
class MarketRules:
    """The venue's grid: `lot` and `tick` are the steps of quantity and price, the minima are of one order."""

    lot: Decimal
    tick: Decimal
    minimum_quantity: Decimal = NOTHING
    minimum_notional: Decimal = NOTHING

    def __post_init__(self) -> None:
        for name in ("lot", "tick"):
            if not getattr(self, name) > 0:
                raise RunnerError(f"the venue's {name} is {getattr(self, name)}: it must be positive")

    def lots(self, quantity: Decimal) -> Decimal:
        """`quantity` in whole lots, rounded toward zero."""
        return (quantity / self.lot).to_integral_value(ROUND_FLOOR) * self.lot

    def limit(self, side: Side, price: Decimal) -> Decimal:
        """`price` on a tick: a buy never dearer, a sell never cheaper than asked, and a stop never later."""
        rounding = ROUND_FLOOR if side == "buy" else ROUND_CEILING
        return (price / self.tick).to_integral_value(rounding) * self.tick

    def sendable(self, quantity: Decimal, price: Decimal) -> bool:
        """Whether the venue takes an order of `quantity` at `price`."""
        return quantity > 0 and quantity >= self.minimum_quantity and quantity * price >= self.minimum_notional


@dataclass(frozen=True)
class MarketView:
    """One moment: `time_ms` since the epoch, `last` traded price, the touch where it is known.

    `traded`: what the market has traded in base units, counted from any moment, but from the same one for the whole
    life of a ticket; this account's own fills included where the venue counts them.
    """

    time_ms: int
    last: Decimal
    bid: Decimal | None = None
    ask: Decimal | None = None
    traded: Decimal = NOTHING

    def near(self, side: Side) -> Decimal:
        """The best price of the own side, at which an order rests: the bid of a buy; `last` without a book."""
        price = self.bid if side == "buy" else self.ask
        return self.last if price is None else price

    def far(self, side: Side) -> Decimal:
        """The best price of the other side, which an order takes: the ask of a buy; `last` without a book."""
        return self.near("sell" if side == "buy" else "buy")

    def body(self) -> dict[str, Any]:
        """Plain data for the journal."""
        plain = {name: getattr(self, name) for name in ("last", "bid", "ask", "traded")}
        texts = {name: None if value is None else format(value, "f") for name, value in plain.items()}
        return {"time_ms": self.time_ms, **texts}

    @classmethod
    def from_body(cls, body: dict[str, Any]) -> MarketView:
        """What `body` was written from."""
        bid, ask = (None if body[name] is None else Decimal(body[name]) for name in ("bid", "ask"))
        return cls(body["time_ms"], Decimal(body["last"]), bid, ask, Decimal(body["traded"]))


@dataclass(frozen=True)
class Child:
    """One order of a parent. `leg` is "<leg of the parent>/<number>", from 1: the same in every process."""

    leg: str
    parent: str
    kind: Kind
    side: Side
    quantity: Decimal
    price: Decimal | None = None
    stop_price: Decimal | None = None
    time_in_force: Literal["GTC", "IOC"] = "GTC"
    post_only: bool = False
    reduces: bool = False
    group: str | None = None


class Status(StrEnum):
    """What a ticket knows of a child. Only the venue's word, or the proof that it never arrived, ends one."""

    WORKING = "working"
    CANCELLING = "cancelling"
    FILLED = "filled"
    CANCELLED = "cancelled"
    REJECTED = "rejected"

    @classmethod
    def of(cls, word: str) -> Status:
        """The status behind a word of the journal or of the order desk; what is not known for sure is WORKING."""
        return _WORDS.get(word) or cls(word)


_WORDS = {
    **dict.fromkeys(("intended", "sent", "unknown", "open", "partially_filled"), Status.WORKING),
    "pending_cancel": Status.CANCELLING,
    **dict.fromkeys(("canceled", "expired"), Status.CANCELLED),
}
ENDED = frozenset({Status.FILLED, Status.CANCELLED, Status.REJECTED})


@dataclass(frozen=True)
class Standing:
    """A child and what became of it so far; `placed_ms` is when the ticket asked for it.

    traded: the sum of its `trades`; reported: what the venue says is filled. The one may be known before the other.
    """

    child: Child
    placed_ms: int
    traded: Decimal = NOTHING
    reported: Decimal = NOTHING
    status: Status = Status.WORKING
    trades: frozenset[str] = field(default=frozenset(), repr=False)

    @property
    def filled(self) -> Decimal:
        """The larger of both, so that a fill of which only one of them knows is never bought again."""
        return max(self.traded, self.reported)

    @property
    def ended(self) -> bool:
        """No more fills can come."""
        return self.status in ENDED

    @property
    def committed(self) -> Decimal:
        """Filled, and what may still fill: all of it until the venue says that it ended, cancelled or not."""
        return self.filled if self.ended else self.child.quantity


@dataclass(frozen=True)
class Place:
    """Send this child."""

    child: Child


@dataclass(frozen=True)
class Cancel:
    """Take this child back; it may still fill until the venue confirms."""

    leg: str


Action = Place | Cancel
"""What a ticket asks for."""


@dataclass(frozen=True)
class Work:
    """A parent and its children so far: all that a schedule decides on. `total`: whole lots, never above the parent."""

    leg: str
    kind: Kind
    side: Side
    total: Decimal
    rules: MarketRules
    arrival: MarketView
    price: Decimal | None = None
    stop_price: Decimal | None = None
    group: str | None = None
    reduces: bool = False
    standings: tuple[Standing, ...] = ()

    @property
    def filled(self) -> Decimal:
        """Base units filled by all children."""
        return sum((standing.filled for standing in self.standings), NOTHING)

    @property
    def rest(self) -> Decimal:
        """What no child has filled or may still fill."""
        return self.total - sum((standing.committed for standing in self.standings), NOTHING)

    @property
    def alive(self) -> tuple[Standing, ...]:
        """Children that may still fill."""
        return tuple(standing for standing in self.standings if not standing.ended)

    @property
    def last(self) -> Standing | None:
        """The newest child."""
        return self.standings[-1] if self.standings else None

    def rejections(self) -> int:
        """How many of the newest children were refused in a row."""
        count = 0
        for standing in reversed(self.standings):
            if standing.status is not Status.REJECTED:
                break
            count += 1
        return count

    def child(self, quantity: Decimal, kind: Kind = "market", **more: Any) -> Place:
        """The next child."""
        leg = f"{self.leg}/{len(self.standings) + 1}"
        return Place(Child(leg, self.leg, kind, self.side, quantity, reduces=self.reduces, **more))

    def piece(self, wanted: Decimal, price: Decimal) -> Decimal:
        """`wanted` in whole lots such that the venue takes it, and takes what is left after it; 0 for not yet.

        A leftover too small for an order of its own goes along with this one.
        """
        quantity = min(self.rules.lots(wanted), self.rest)
        left = self.rest - quantity
        if left > 0 and not self.rules.sendable(left, price):
            quantity = self.rest if self.rules.sendable(quantity, price) else NOTHING
        return quantity if self.rules.sendable(quantity, price) else NOTHING

    def cancels(self) -> tuple[Action, ...]:
        """Take back every child that rests and is not being taken back already; a market order cannot be."""
        resting = (item for item in self.alive if item.child.kind != "market")
        return tuple(Cancel(item.child.leg) for item in resting if item.status is not Status.CANCELLING)


def noted(standings: Sequence[Standing], leg: str, **changes: Any) -> tuple[Standing, ...]:
    """`standings` with the one of `leg` changed; `RunnerError` for a leg that is none of them."""
    if all(standing.child.leg != leg for standing in standings):
        raise RunnerError(f"no child has the leg {leg!r}: known are {[item.child.leg for item in standings]}")
    return tuple(replace(item, **changes) if item.child.leg == leg else item for item in standings)
