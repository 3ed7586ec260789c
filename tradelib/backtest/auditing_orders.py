"""The orders that protect or enlarge a position, as an audit expects them, and the way of a price through a bar.

Levels are derived from the policies, the fills and the bars, never from the account's own tables. The way of a bar that
is known by four prices: what lies beyond the open comes first, then open, adverse extreme, favourable extreme, close.
What a limit fill inside of the bar leaves behind meets the way from the adverse extreme to the close only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from tradelib.backtest.auditing_market import ONE, TOLERANCE, ZERO, Candle, Terms, near, number, sign, whole_lots
from tradelib.risk.exits import Distance, Exits, ScaleIn

__all__ = [
    "Key",
    "Path",
    "Place",
    "Resting",
    "contradicts",
    "exits_of",
    "level_of",
    "liquidation_level",
    "needs_range",
    "risk_of_policy",
    "scaling_of",
]

Key = tuple[int, Decimal] | tuple[int, int, int]
"""Where on its way a price meets an order: beyond the open (-1, rank, age), or on which leg and how far along."""


@dataclass
class Resting:
    """An order that rests beside a position. `up`: 1 where a rising price triggers it, -1 where a falling one does.

    `quantities`: signed, all that lots admit; empty for whatever is held. `follows`: distance of a trailing level and
    whether it is a fraction of the extreme. `doubtful`: whether it stands depends on a rounding. `exact`: the account
    tells the same level, so that a price that touches it touches it.
    """

    reason: str
    level: Decimal | None
    up: Decimal
    born: int
    limit: bool = False
    quantities: tuple[Decimal, ...] = ()
    scales: bool = False
    follows: tuple[Decimal, bool] | None = None
    extreme: Decimal = ZERO
    activation: Decimal | None = None
    trigger: Decimal | None = None
    even: Decimal = ZERO
    doubtful: bool = False
    exact: bool = False

    @property
    def protects(self) -> bool:
        """True for a stop of the position: it goes before what else the same price meets."""
        return not self.limit and not self.scales

    @property
    def trails(self) -> bool:
        """True for a trailing stop that has been activated."""
        return self.follows is not None and self.level is not None

    def trail(self, extreme: Decimal) -> None:
        """Follow the best price to `extreme`, once that has reached the activation."""
        if self.follows is None:
            return
        self.extreme, (value, is_fraction) = extreme, self.follows
        if self.activation is not None and not near(extreme, self.activation):
            if (extreme - self.activation) * self.up > 0:
                return
            self.doubtful = False
        elif self.activation is not None and self.level is None:
            self.doubtful = True
        self.level = extreme + self.up * value * (extreme if is_fraction else ONE)

    def follow(self, extreme: Decimal) -> None:
        """After a bar whose best price for the position was `extreme`: trail, and move to break even."""
        if self.follows is not None and (self.extreme - extreme) * self.up > 0:
            self.trail(extreme)
        if self.trigger is not None and (extreme - self.trigger) * self.up <= TOLERANCE * self.trigger:
            self.trigger = None
            if self.level is None or (self.even - self.level) * self.up < 0:
                self.level, self.reason, self.exact = self.even, "break_even", False


def level_of(distance: Distance | None, price: Decimal, range_: Decimal | None, way: Decimal) -> Decimal | None:
    """The price `distance` away from `price`; None where there is no distance, or its ATR is not known."""
    if distance is None:
        return None
    if distance.unit == "level":
        return number(distance.value)
    length = _length(distance, price, range_)
    return None if length is None else price + way * length


def _length(distance: Distance, price: Decimal, range_: Decimal | None) -> Decimal | None:
    value = number(distance.value)
    if distance.unit == "fraction":
        return value * price
    if distance.unit == "price":
        return value
    return None if range_ is None else value * range_


def needs_range(exits: Exits | None, scale_in: ScaleIn | None) -> bool:
    """True where a policy measures in ATRs."""
    used = [*(exits.distances if exits else ()), *([scale_in.step] if scale_in else ())]
    return any(distance.unit == "atr" for distance in used)


def exits_of(
    exits: Exits, position: Decimal, entry: Decimal, range_: Decimal | None, terms: Terms, born: int
) -> list[Resting]:
    """Protective orders around the average `entry` price of `position`."""
    side = sign(position)
    found: list[Resting] = []
    stop, trigger = level_of(exits.stop_loss, entry, range_, -side), level_of(exits.break_even, entry, range_, side)
    if stop is not None or trigger is not None:
        even = entry * (ONE + side * number(exits.break_even_offset))
        found.append(Resting("stop_loss", stop, -side, born, trigger=trigger, even=even))
    if exits.trailing_stop is not None and (value := _length(exits.trailing_stop, entry, range_)) is not None:
        is_fraction = exits.trailing_stop.unit == "fraction"
        by = number(exits.trailing_stop.value) if is_fraction else value
        activation = level_of(exits.trailing_activation, entry, range_, side)
        trailing = Resting("trailing_stop", None, -side, born + 1, follows=(by, is_fraction), activation=activation)
        trailing.trail(entry)
        found.append(trailing)
    return found + list(_rungs(exits, position, entry, range_, terms, born + 2))


def _rungs(
    exits: Exits, position: Decimal, entry: Decimal, range_: Decimal | None, terms: Terms, born: int
) -> Iterator[Resting]:
    """Take-profit orders; where the shares sum to one, the last takes what is left. Of no lot, or too small: none."""
    side, total = sign(position), ZERO
    for rung, target in enumerate(exits.take_profit):
        share, level = number(target.share), level_of(target.distance, entry, range_, side)
        total += share
        takes_all = rung == len(exits.take_profit) - 1 and total >= ONE - Decimal("1e-12")
        quantities = () if takes_all else whole_lots(-side * share * abs(position), terms.lots)
        order = Resting("take_profit", level, side, born + rung, limit=True, quantities=quantities)
        if level is not None and (takes_all or _is_taken(order, terms)):
            yield order


def _is_taken(order: Resting, terms: Terms) -> bool:
    """False where the market would refuse the order for its size; where rounding decides, the order is doubtful."""
    level = order.level or ZERO
    edges = [abs(quantity) * level - terms.minimum for quantity in order.quantities]
    slack = TOLERANCE * terms.minimum
    sure = all(quantity and edge > slack for quantity, edge in zip(order.quantities, edges, strict=True))
    order.doubtful = order.doubtful or (not sure and bool(terms.minimum or terms.lots))
    return any(quantity and edge >= -slack for quantity, edge in zip(order.quantities, edges, strict=True))


def scaling_of(
    scale_in: ScaleIn, position: Decimal, price: Decimal, range_: Decimal | None, terms: Terms, born: int
) -> list[Resting]:
    """Further entries into `position`, which was entered at `price`."""
    step, found, size = _length(scale_in.step, price, range_), list[Resting](), position
    side, against = sign(position), scale_in.direction == "against"
    for place in range(scale_in.orders if step is not None else 0):
        size *= number(scale_in.factor)
        way = -side if against else side
        level = price + way * (step or ZERO) * (place + 1)
        quantities = whole_lots(size, terms.lots)
        order = Resting("scale_in", level, way, born + place, against, quantities, scales=True)
        if _is_taken(order, terms):
            found.append(order)
    return found


def risk_of_policy(exits: Exits | None, price: Decimal, range_: Decimal | None) -> Decimal:
    """Loss per unit from an entry at `price` to the nearest stop that `exits` attach, else the price."""
    risks = [price]
    for distance in (exits.stop_loss, exits.trailing_stop) if exits is not None else ():
        if distance is not None and distance.unit == "level":
            risks.append(abs(price - number(distance.value)))
        elif distance is not None and (length := _length(distance, price, range_)) is not None:
            risks.append(length)
    return min(risks)


def contradicts(exits: Exits | None, side: Decimal, price: Decimal, range_: Decimal | None) -> bool:
    """True where a stop at a fixed price is no loss, such a target no gain, or break-even lies beyond its trigger."""
    if exits is None:
        return False
    trigger = level_of(exits.break_even, price, range_, side)
    if trigger is not None and (trigger - price * (ONE + side * number(exits.break_even_offset))) * side <= 0:
        return True
    stop = exits.stop_loss
    if stop is not None and stop.unit == "level" and (number(stop.value) - price) * side >= 0:
        return True
    fixed = [target.distance for target in exits.take_profit if target.distance.unit == "level"]
    return any((number(distance.value) - price) * side <= 0 for distance in fixed)


def liquidation_level(cash: Decimal, position: Decimal, maintenance: Decimal) -> Decimal | None:
    """Price at which equity falls to `maintenance` of the exposure: cash + position p = maintenance |position| p."""
    slope = position - maintenance * abs(position)
    level = -cash / slope if slope else ZERO
    return level if level > 0 else None


class Place(NamedTuple):
    """Where on its way through a bar a price is: the leg (-1 at the open) and the price."""

    leg: int
    price: Decimal


@dataclass
class Path:
    """One bar as a price goes through it for a position on `side`. `unproven`: age from which on orders were born at
    an unknown moment inside of the bar."""

    bar: Candle
    side: Decimal
    place: Place
    unproven: int | None = None

    @classmethod
    def through(cls, bar: Candle, position: Decimal) -> Path:
        """At the open of `bar`."""
        return cls(bar, sign(position), Place(-1, bar.open))

    def is_new(self, order: Resting) -> bool:
        """True for an order that a limit fill inside of the bar left behind."""
        return self.unproven is not None and order.born >= self.unproven

    def _legs(self) -> list[tuple[Decimal, Decimal]]:
        """Start and end of the legs: adverse; favourable; adverse extreme to close for the new; to the close."""
        one, two = (self.bar.low, self.bar.high) if self.side >= 0 else (self.bar.high, self.bar.low)
        return [(self.bar.open, one), (one, two), (one, self.bar.close), (two, self.bar.close)]

    def meets(self, order: Resting, slack: Decimal) -> Key | None:
        """Where the price meets `order` from here on; None where it does not. `slack`: lets the level be met by so
        much earlier, as a part of it (later where it is negative)."""
        if order.level is None:
            return None
        level = order.level - order.up * slack * order.level
        if self.place.leg < 0 and (self.bar.open - level) * order.up >= 0:
            return (-1, 0 if order.protects else 1, order.born)
        legs, hidden = self._legs(), 1 if self.is_new(order) else 2
        for leg in range(max(self.place.leg, 0), len(legs)):
            start, end = legs[leg]
            start = self.place.price if leg == self.place.leg else start
            reached = (end - start) * order.up > 0 and (end - level) * order.up >= 0
            if (reached or level == start == end) and leg != hidden:
                return (leg, max((level - start) * order.up, ZERO))
        return None

    def references(self, order: Resting, key: Key) -> list[Decimal]:
        """Prices at which an order that is met at `key` may fill, before it slips: its level, or where the price is."""
        level, leg = order.level or ZERO, key[0]
        if leg < 0:
            return [self.bar.open]
        start = self.place.price if leg == max(self.place.leg, 0) else self._legs()[leg][0]
        passed = (start - level) * order.up >= -TOLERANCE * level
        return [level, start] if passed and near(start, level) else [start if passed else level]
