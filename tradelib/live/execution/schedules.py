"""What every schedule has in common, and the two that act at once: the market order and the marketable limit."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from decimal import Decimal
from typing import ClassVar, Literal

from pydantic import Field

from tradelib.live.execution.children import NOTHING, Action, MarketView, Work
from tradelib.parameters import Parameters

__all__ = ["AsItIs", "MarketOrder", "MarketableLimit", "Schedule"]

BASIS_POINT = Decimal("0.0001")


class Schedule(Parameters):
    """How a parent is worked. `step` and `moments` are pure: the same work and the same moment, the same answer.

    rejections: children that the venue may refuse in a row before the ticket gives up.
    """

    rejections: int = Field(3, ge=1, le=1000)
    takes: ClassVar[frozenset[str]] = frozenset({"market"})
    """Kinds of parents that it may work; any other goes to the venue as it is."""

    @abstractmethod
    def step(self, work: Work, view: MarketView) -> tuple[Action, ...]:
        """What to place and to cancel now, before the end of the schedule."""

    def moments(self, work: Work) -> Iterable[int]:
        """Times (epoch ms) at which something may be due though neither market nor children change."""
        return ()

    def ends(self, work: Work) -> int | None:
        """When the schedule is over (epoch ms), None for never."""
        return None

    def finish(self, work: Work, view: MarketView) -> tuple[Action, ...]:
        """What to do from the end on."""
        return work.cancels()

    def over(self, work: Work, view: MarketView) -> bool:
        """Whether nothing more will come, given that no child is out and none is wanted now."""
        return True

    def gives_up(self, work: Work) -> bool:
        """Whether the venue refused too often."""
        return work.rejections() >= self.rejections


class AsItIs(Schedule):
    """The parent itself as its one child: for resting and protective orders, which the venue holds."""

    takes: ClassVar[frozenset[str]] = frozenset({"market", "limit", "stop", "stop_limit"})

    def step(self, work: Work, view: MarketView) -> tuple[Action, ...]:
        """One child, once."""
        if work.standings or not work.total:
            return ()
        more = {"price": work.price, "stop_price": work.stop_price, "group": work.group}
        return (work.child(work.total, work.kind, **more),)


class MarketOrder(Schedule):
    """Everything at once, at any price. With one attempt, what the venue leaves unfilled is left to the next decision.

    This is what research assumes, and the default.
    """

    attempts: int = Field(1, ge=1, le=100)

    def step(self, work: Work, view: MarketView) -> tuple[Action, ...]:
        """The rest, while attempts are left and no child is out."""
        quantity = work.piece(work.rest, view.last)
        if work.alive or len(work.standings) >= self.attempts or not quantity:
            return ()
        return (work.child(quantity),)


class Timed(Schedule):
    """A schedule with an end: then the rest crosses as a market order, or is left.

    duration_seconds: from the ticket's opening. at_end: "cross" or "leave". retry_seconds: least pause between two
    children where the one before was not filled.
    """

    duration_seconds: float = Field(60.0, gt=0, le=7 * 86400)
    at_end: Literal["cross", "leave"] = "cross"
    retry_seconds: float = Field(1.0, gt=0, le=3600)

    def ends(self, work: Work) -> int | None:
        """The opening and the duration."""
        return work.arrival.time_ms + round(self.duration_seconds * 1000)

    def moments(self, work: Work) -> Iterable[int]:
        """The next attempt."""
        return (self.retry(work),)

    def retry(self, work: Work) -> int:
        """When the next child may be placed (epoch ms): at once after one that was filled in full."""
        last = work.last
        if last is None or last.filled == last.child.quantity:
            return work.arrival.time_ms
        return last.placed_ms + round(self.retry_seconds * 1000)

    def finish(self, work: Work, view: MarketView) -> tuple[Action, ...]:
        """Take back what rests; when it is proved gone, cross with the rest."""
        if self.at_end == "leave" or work.alive or view.time_ms < self.retry(work):
            return work.cancels()
        quantity = work.piece(work.rest, view.last)
        return (work.child(quantity),) if quantity else ()

    def over(self, work: Work, view: MarketView) -> bool:
        """The end has come, and the rest is left."""
        ends = self.ends(work)
        return ends is not None and view.time_ms >= ends and self.at_end == "leave"

    def gives_up(self, work: Work) -> bool:
        """Whether the venue refused too often, or so many market orders at the end did not fill the rest."""
        ends = self.ends(work)
        crossed = sum(ends is not None and item.placed_ms >= ends for item in work.standings)
        return super().gives_up(work) or crossed >= self.rejections


class MarketableLimit(Timed):
    """Takes what the other side offers, but never beyond a bound: immediate-or-cancel limits until filled, or the end.

    allowance_bps: how far the bound lies beyond the other side's best price at arrival.
    """

    allowance_bps: float = Field(10.0, ge=0, le=1000)
    at_end: Literal["cross", "leave"] = "leave"

    def step(self, work: Work, view: MarketView) -> tuple[Action, ...]:
        """The rest at the bound, if the market is within it and the pause has passed."""
        bound, offer = self.bound(work), view.far(work.side)
        outside = offer > bound if work.side == "buy" else offer < bound
        quantity = work.piece(work.rest, bound)
        if work.alive or outside or not quantity or view.time_ms < self.retry(work):
            return ()
        return (work.child(quantity, "limit", price=bound, time_in_force="IOC"),)

    def bound(self, work: Work) -> Decimal:
        """The worst price that any child may have."""
        return beyond(work, work.arrival.far(work.side), self.allowance_bps)


def beyond(work: Work, price: Decimal, basis_points: float) -> Decimal:
    """`price` moved by so much against the parent's side of the money (a buy higher), on a tick."""
    share = Decimal(repr(basis_points)) * BASIS_POINT
    moved = price * (1 + share if work.side == "buy" else 1 - share)
    return max(work.rules.limit(work.side, moved), work.rules.tick)


def gap(work: Work, target: Decimal, price: Decimal) -> Decimal:
    """What a child must carry so that filled and working reach `target` of the total; 0 for nothing sendable."""
    wanted = min(target, work.total) - (work.total - work.rest)
    return work.piece(wanted, price) if wanted > 0 else NOTHING
