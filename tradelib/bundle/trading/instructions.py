"""What passes between what decides, what checks, what sends and what books: instructions, fills, and a step's plan.

`Mirror` makes a `Plan` after every closed bar and after every fill: the `Instruction`s that shall stand at the venue
from now on, those of them that are new, and the legs that shall stand no longer. What the venue did comes back as
`Fill`s and `Ending`s that name the leg. Quantities and prices here are floats, the engine's own numbers; whoever talks
to a venue turns them into its decimals and never sends more than they say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Deviation", "Ending", "Fill", "Instruction", "Kind", "News", "Plan", "Refusal", "Side"]

Kind = Literal["market", "limit", "stop", "stop_limit"]
Side = Literal["buy", "sell"]


@dataclass(frozen=True)
class Instruction:
    """One order that shall act or rest at the venue. Its terms never change: other terms are another leg.

    leg: its name, unique in the life of a mirror, the same after every replay. kind: what it is; a stop is a market
    order once `stop_price` is reached, at once where the market is there already: if a venue refuses it for that, it is
    a market order under the same leg. quantity: base units, positive. price: of a limit; stop_price: of a stop. group:
    instructions of one group live off one position, which together they never exceed: what closes it ends them all (a
    stop and a target of one group are an OCO pair). reduces: it only takes from a position, so it may always be sent
    and never be made to wait. reason: "signal", "stop_loss", ... as in `tradelib.backtest.book.REASONS`. time: open
    time (ISO) of the bar at whose close it was decided. fits: for a purchase that the account cannot pay at the price
    of the moment, send `Mirror.fitted(leg, price)` instead, and tell of an `Ending` once that is filled.
    """

    leg: str
    kind: Kind
    side: Side
    quantity: float
    price: float | None = None
    stop_price: float | None = None
    group: str | None = None
    reduces: bool = False
    reason: str = "signal"
    time: str = ""
    fits: bool = False

    @property
    def signed(self) -> float:
        """The quantity, negative for a sale."""
        return self.quantity if self.side == "buy" else -self.quantity


@dataclass(frozen=True)
class Fill:
    """One execution at the venue. quantity: signed base units, gross. price, fee: quote currency. leg: the instruction
    that it belongs to; empty for a trade that is none of ours. fee_base: what the venue kept in base units instead of
    a fee in quote currency. worked: its order was worked until a decision, before which it counts. A fill whose
    `trade_id` was booked before is not booked again.
    """

    client_order_id: str
    trade_id: str
    quantity: float
    price: float
    fee: float
    time_ms: int
    maker: bool = False
    leg: str = ""
    fee_base: float = 0.0
    worked: bool = False


@dataclass(frozen=True)
class Ending:
    """The last word on a leg that will not be filled any further, and why: refused, cancelled or expired at the venue.

    "withdrawn": the runner took it back itself for a moment, to make room for a sale; what shall still stand is told
    again at once, under another leg. None is needed for a leg that was filled completely.
    """

    leg: str
    status: Literal["rejected", "cancelled", "expired", "withdrawn"]
    reason: str = ""


News = Fill | Ending
"""What a book is told, in the sequence in which it happened."""


@dataclass(frozen=True)
class Refusal:
    """An order that the engine did not let through on this step, or does not let rest now, and its cause in words."""

    time: str
    side: Side
    quantity: float
    reason: str
    cause: str


@dataclass(frozen=True)
class Deviation:
    """Where the venue did something else than the engine's convention says for this bar; the account follows the venue.

    what: "price", "quantity", "fee", "missed" (the engine would have filled), "unexpected" (it would not have),
    "ended" (the venue ended what the engine would have left to work).
    """

    what: str
    reason: str
    venue: float | None
    engine: float | None


@dataclass(frozen=True)
class Plan:
    """A step's outcome. time: the last closed bar. signal, weight: the decision on it, None while warming up or where
    none was made. cash, position, equity: the account at its close, before anything of this plan.

    instructions: everything that shall stand at the venue now, market orders first and in the order in which they must
    be sent. place: those of them that are new. cancel: legs that stood before and shall no longer; to be withdrawn
    before `place` is sent. refusals: what was not let through, with its cause. halts: limits that tripped on this
    close, in the words of the cash book ("daily_loss_halt"). deviations: of the bar from the engine's convention.
    """

    time: str
    signal: float | None
    weight: float | None
    cash: float
    position: float
    equity: float
    instructions: tuple[Instruction, ...] = ()
    place: tuple[Instruction, ...] = ()
    cancel: tuple[str, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    halts: tuple[str, ...] = ()
    deviations: tuple[Deviation, ...] = ()
