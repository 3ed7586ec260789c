"""Schedules that rest in the book: the iceberg, and the maker that follows the touch."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import ClassVar

from pydantic import Field

from tradelib.live.execution.children import Action, Cancel, MarketView, Status, Work
from tradelib.live.execution.schedules import Timed, beyond

__all__ = ["Iceberg", "PostOnly"]


class Iceberg(Timed):
    """One limit order at a time, each a small part of the whole: nobody sees more than `display` of it.

    A limit parent rests at its own price and has no end. A market parent rests at the own side's best price at
    arrival, moved by `offset_bps` toward the other side.
    """

    display: float = Field(0.1, gt=0, le=1)
    offset_bps: float = Field(0.0, ge=0, le=1000)
    takes: ClassVar[frozenset[str]] = frozenset({"market", "limit"})

    def step(self, work: Work, view: MarketView) -> tuple[Action, ...]:
        """The next part when the one before has ended."""
        price = work.price or beyond(work, work.arrival.near(work.side), self.offset_bps)
        shown = max(work.total * Decimal(repr(self.display)), work.rules.lot, work.rules.minimum_quantity)
        quantity = work.piece(max(shown, _lots_for(work, price)), price)
        if work.alive or not quantity or view.time_ms < self.retry(work):
            return ()
        return (work.child(quantity, "limit", price=price),)

    def ends(self, work: Work) -> int | None:
        """Never for a limit parent: it is good till cancelled."""
        return super().ends(work) if work.kind == "market" else None


class PostOnly(Timed):
    """A maker: one post-only limit at the own side's best price, moved after it when the market runs away.

    It is moved when the best price is `chase_ticks` or more away, at most every `retry_seconds`, and never beyond
    `limit_bps` from the best price at arrival. The old order must be proved gone before a new one is placed. Each
    refusal in a row (it would have taken) places the next one a tick further back.
    """

    chase_ticks: int = Field(1, ge=1, le=10_000)
    limit_bps: float = Field(50.0, ge=0, le=10_000)
    rejections: int = Field(10, ge=1, le=1000)

    def step(self, work: Work, view: MarketView) -> tuple[Action, ...]:
        """Place, follow, or wait."""
        price = self.quote(work, view)
        if work.alive:
            return self._follow(work, view, price)
        quantity = work.piece(work.rest, price)
        if not quantity or view.time_ms < self.retry(work):
            return ()
        return (work.child(quantity, "limit", price=price, post_only=True),)

    def moments(self, work: Work) -> Iterable[int]:
        """When the newest child may be moved besides."""
        moved = (work.last.placed_ms + round(self.retry_seconds * 1000),) if work.last else ()
        return (*super().moments(work), *moved)

    def quote(self, work: Work, view: MarketView) -> Decimal:
        """Where the next child rests."""
        back = work.rejections() * work.rules.tick
        bound = beyond(work, work.arrival.near(work.side), self.limit_bps)
        if work.side == "buy":
            return max(work.rules.limit("buy", min(view.near("buy") - back, bound)), work.rules.tick)
        return work.rules.limit("sell", max(view.near("sell") + back, bound))

    def _follow(self, work: Work, view: MarketView, price: Decimal) -> tuple[Action, ...]:
        resting = work.alive[-1]
        away = abs(price - (resting.child.price or price)) >= self.chase_ticks * work.rules.tick
        early = view.time_ms < resting.placed_ms + round(self.retry_seconds * 1000)
        if not away or early or resting.status is Status.CANCELLING:
            return ()
        return (Cancel(resting.child.leg),)


def _lots_for(work: Work, price: Decimal) -> Decimal:
    """The least quantity whose notional the venue takes, in whole lots."""
    lots = -(-work.rules.minimum_notional // (price * work.rules.lot))
    return lots * work.rules.lot
