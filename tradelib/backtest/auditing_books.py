"""An account as its tables book it: every fill and every entry of the cash book asked whether it should be so.

What was booked is taken for what happened, so that one fault is told once, and what follows from it is judged by the
account as it then was. What a fill does to a position, and which orders it leaves beside it, is here as well.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from tradelib.backtest import book
from tradelib.backtest.auditing_limits import Closed, LimitWatch
from tradelib.backtest.auditing_market import (
    ONE,
    TOLERANCE,
    ZERO,
    Candle,
    Terms,
    exceeds,
    near,
    number,
    sign,
    whole_lots,
)
from tradelib.backtest.auditing_orders import (
    Resting,
    exits_of,
    scaling_of,
)

if TYPE_CHECKING:
    from tradelib.risk.exits import Exits, ScaleIn

__all__ = ["Ask", "Books", "Event", "Finding", "Given", "Waiting"]

_PROTECTIVE = ("stop_loss", "take_profit", "trailing_stop", "break_even", "time_exit", "liquidation")
_STOPPED = ("stop_loss", "trailing_stop", "break_even", "liquidation")


class Finding(NamedTuple):
    """What is wrong: bar (row), a word for the kind, the sentence, and the order (row) it is about; -1 for none."""

    bar: int
    what: str
    words: str
    order: int = -1


class Event(NamedTuple):
    """A row of the fills (`order` >= 0) or of the cash book, in the sequence in which cash moved."""

    row: list[float]
    order: int

    @property
    def kind(self) -> str:
        """What the cash book calls it; "fill" for a fill."""
        return "fill" if self.order >= 0 else book.ENTRY_KINDS[int(self.row[book.ENTRY_KIND])]


@dataclass(frozen=True)
class Given:
    """Everything that an account was given, and the tables that it left, as lists."""

    bars: Sequence[Candle]
    ranges: Sequence[Decimal | None]
    targets: Sequence[Decimal | None]
    funding: Sequence[tuple[Decimal, Decimal]]
    terms: Terms
    band: Decimal | None
    exits: Exits | None
    scale_in: ScaleIn | None
    watch: LimitWatch | None
    cash: Decimal
    first: int
    equity: Sequence[float]
    orders: Sequence[list[float]]
    events: Sequence[tuple[int, Event]]


class Waiting(NamedTuple):
    """A market order of a close: its row, why, and the signed quantities it may ask for; none for whatever is held."""

    row: int
    reason: str
    asked: tuple[Decimal, ...] = ()


class Ask(NamedTuple):
    """What is asked of a fill: quantities, reference prices, whether it slips, whether it rested, what forbids it."""

    quantities: tuple[Decimal, ...]
    references: tuple[Decimal, ...]
    slips: bool
    maker: bool
    forbidden: tuple[str, frozenset[str]] = ("", frozenset())


@dataclass
class Books:
    """State of the account, and what was found wrong with its bookings."""

    given: Given
    found: list[Finding] = field(default_factory=list)
    cash: Decimal = ZERO
    position: Decimal = ZERO
    average: Decimal = ZERO
    entered: Decimal = ZERO
    profit: Decimal = ZERO
    opened: int = -1
    blocked: Decimal = ZERO
    called: bool | None = False
    born: int = 0
    traded: Decimal = ZERO
    resting: list[Resting] = field(default_factory=list)
    waiting: list[Waiting] = field(default_factory=list)
    events: deque[Event] = field(default_factory=deque)
    values: dict[int, Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    checked: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.cash = self.given.cash
        self.by_bar: dict[int, deque[Event]] = defaultdict(deque)
        for bar, event in self.given.events:
            self.by_bar[bar].append(event)
        self.placed: dict[int, list[int]] = defaultdict(list)
        self.ended: dict[int, list[int]] = defaultdict(list)
        for row, order in enumerate(self.given.orders):
            self.placed[int(order[book.PLACED])].append(row)
            if order[book.STATUS] == book.REJECTED:
                self.ended[int(order[book.FILL_BAR])].append(row)

    def _fault(self, bar: int, what: str, words: str, order: int = -1) -> None:
        self.found.append(Finding(bar, what, words, order))

    def _size(self, price: Decimal) -> Decimal:
        """What rounding is measured against: everything that the account has moved at once."""
        return abs(self.cash) + abs(self.position) * price

    def _is_silent(self, bar: int) -> bool:
        """True for a bar without volume where size moves the price: nobody is there to trade with."""
        return bool(self.given.terms.impact) and not self.given.bars[bar].volume

    # -- the cash book ----------------------------------------------------------------------------------------------

    def _pay(self, kind: str, bar: int, amount: Decimal, scale: Decimal = ZERO) -> None:
        """An entry of the cash book over `amount`, where that is not zero."""
        due = bool(self.events) and self.events[0].kind == kind
        if not amount and not due:
            return
        told = number(self.events[0].row[book.ENTRY_AMOUNT]) if due else ZERO
        if not due and near(amount, ZERO, scale):
            return
        if not near(told, amount, scale * TOLERANCE):
            self._fault(bar, kind, f"{kind} of {told:.10g} was booked, {amount:.10g} is due")
        if due:
            self._enter(bar, self.events.popleft())

    def _enter(self, bar: int, event: Event) -> None:
        """Book an entry; its cash must be the cash before and its amount."""
        self.cash += number(event.row[book.ENTRY_AMOUNT])
        self._compare_cash(bar, number(event.row[book.ENTRY_CASH]), event.kind, -1, ZERO)

    def _compare_cash(self, bar: int, told: Decimal, after: str, order: int, moved: Decimal) -> None:
        if not near(told, self.cash, self._size(self.given.bars[bar].close) + moved):
            self._fault(bar, "cash", f"after {after} the cash is {told:f}; the bookings make {self.cash:f}", order)
            self.cash = told

    def _note(self, kind: str, bar: int, expected: bool | None) -> bool:
        """An event of the cash book without an amount; returns whether it is there."""
        there = bool(self.events) and self.events[0].kind == kind
        if expected is not None and expected != there:
            words = "is due and was not recorded" if expected else "was recorded without a reason"
            self._fault(bar, kind, f"the {kind.replace('_', ' ')} {words}")
        if there:
            self._enter(bar, self.events.popleft())
        return there

    # -- fills ------------------------------------------------------------------------------------------------------

    def _judge_fill(self, bar: int, event: Event, ask: Ask) -> None:
        """A fill against what was asked: quantity, reference, price, fee, the words of its order; then book it."""
        quantity, price, reference = (
            number(event.row[c]) for c in (book.FILL_QUANTITY, book.FILL_PRICE, book.FILL_REFERENCE)
        )
        terms, volume, row = self.given.terms, self.given.bars[bar].volume, event.order
        if not any(near(reference, level) for level in ask.references):
            wanted = " or ".join(f"{level:.10g}" for level in ask.references)
            self._fault(bar, "reference", f"fills from {reference:.10g}; its convention gives {wanted}", row)
        paid = terms.price(reference, quantity, volume) if ask.slips else reference
        if not near(price, paid):
            self._fault(bar, "price", f"fills at {price:.10g}; from {reference:.10g} its costs give {paid:.10g}", row)
        self._judge_quantity(bar, event, ask, quantity, reference)
        fee, maker = number(event.row[book.FILL_FEE]), event.row[book.FILL_MAKER] == 1.0
        fees = [rate * abs(quantity) * price for rate in terms.rates(ask.maker, self.traded)]
        if maker != ask.maker or not any(near(fee, due) for due in fees):
            side = "maker" if ask.maker else "taker"
            self._fault(bar, "fee", f"pays {fee:.10g}; the {side}'s rate makes {fees[-1]:.10g}", row)
        worse = number(event.row[book.FILL_SLIPPAGE])
        if not near(worse, abs(quantity) * abs(price - reference), abs(quantity) * price):
            self._fault(bar, "slippage cost", f"says that slippage cost {worse:.10g}", row)
        self._book(bar, event)

    def _judge_quantity(self, bar: int, event: Event, ask: Ask, quantity: Decimal, reference: Decimal) -> None:
        """The quantity asked for, or the part of it that limits and the account's means allow."""
        row, scale = event.order, abs(self.position)
        whole = next((asked for asked in ask.quantities if near(quantity, asked, scale)), None)
        asked = whole if whole is not None else ask.quantities[0]
        told = f"fills {quantity:.12g} where {asked:.12g} was asked for"
        if self._reduces(asked) or quantity * asked <= 0 or exceeds(abs(quantity), abs(asked), scale):
            if whole is None:
                self._fault(bar, "quantity", told, row)
            return
        cause, unsure = ask.forbidden
        closes = asked * self.position < 0 and near(quantity, -self.position)
        if cause and not closes:
            self._fault(bar, "limit", f"fills although a halt forbids it ({cause})", row)
        if whole is not None:
            self._judge_means(bar, row, quantity, reference, ask)
        elif closes and not (cause or unsure):
            self._judge_shortage(bar, row, asked, reference, ask)
        elif not closes and self.given.terms.reduces:
            self._judge_part(bar, row, asked, quantity, reference, ask)
        elif not closes:
            self._fault(bar, "quantity", f"{told}, and orders are not reduced here", row)

    def _reduces(self, quantity: Decimal) -> bool:
        """True when `quantity` makes the position smaller, and does not flip it."""
        after = self.given.terms.settled(self.position, quantity)
        return after * self.position >= 0 and abs(after) <= abs(self.position)

    def _room(self, bar: int, quantity: Decimal, reference: Decimal, ask: Ask) -> Decimal:
        """The part of the exposure that is left after a fill of `quantity`; negative where it is not carried."""
        terms, volume = self.given.terms, self.given.bars[bar].volume
        price = terms.price(reference, quantity, volume) if ask.slips else reference
        rate = terms.rates(ask.maker, self.traded)[-1]
        return terms.room(self.cash, self.position, quantity, price, rate) if price > 0 else -ONE

    def _judge_means(self, bar: int, row: int, quantity: Decimal, reference: Decimal, ask: Ask) -> None:
        if self._room(bar, quantity, reference, ask) < -3 * TOLERANCE:
            self._fault(bar, "leverage", "fills beyond what the account carries at its price", row)

    def _judge_part(self, bar: int, row: int, asked: Decimal, quantity: Decimal, reference: Decimal, ask: Ask) -> None:
        """A reduced fill: the largest quantity in whole lots that the account carries."""
        lots = self.given.terms.lots
        self._judge_means(bar, row, quantity, reference, ask)
        more = abs(quantity) + (ONE / lots if lots else abs(quantity) * Decimal("1e-6"))
        if more <= abs(asked) and self._room(bar, sign(asked) * more, reference, ask) > TOLERANCE:
            self._fault(bar, "quantity", f"fills {quantity:.12g}; the account carries {sign(asked) * more:.12g}", row)
        if lots and all(not near(quantity, part) for part in whole_lots(quantity, lots)):
            self._fault(bar, "lots", f"fills {quantity:.12g}, which is no whole number of lots", row)

    def _judge_shortage(self, bar: int, row: int, asked: Decimal, reference: Decimal, ask: Ask) -> None:
        """An order that was refused, or a flip that only closed, for want of means: is that so?"""
        terms = self.given.terms
        if not terms.reduces:
            if self._room(bar, asked, reference, ask) > 0:
                self._fault(bar, "refusal", "was refused for want of equity, and the account carries it", row)
            return
        closing = abs(self.position) if asked * self.position < 0 else ZERO
        least = max(abs(asked) * Decimal("1e-6"), closing * 2 * TOLERANCE)
        if terms.lots:
            least = max(least, 2 / terms.lots)
        least = max(
            closing + least, terms.minimum / reference * Decimal("1.001") + (ONE / terms.lots if terms.lots else ZERO)
        )
        if least < abs(asked) and self._room(bar, sign(asked) * least, reference, ask) > TOLERANCE:
            self._fault(bar, "refusal", f"was refused for want of equity, and {least:.12g} would fit", row)

    def _judge_refusal(self, bar: int, row: int, ask: Ask) -> None:
        """An order that was rejected where it should have filled: its cause must hold."""
        cause = self.given.orders[row][book.CAUSE]
        words, (sure, unsure) = book.CAUSES[int(cause)], ask.forbidden
        if cause == book.NO_CASH:
            self._judge_shortage(bar, row, ask.quantities[0], ask.references[0], ask)
        elif cause == book.NO_VOLUME:
            if not self._is_silent(bar):
                self._fault(bar, "refusal", "was refused for want of volume, and the bar has some", row)
        elif words != sure and words not in unsure:
            self._fault(bar, "refusal", f"was refused ({words}), and that does not hold", row)

    def _book(self, bar: int, event: Event) -> None:
        """Cash, position and trade after a fill as it was booked, and the words that its order has for it."""
        quantity, price, fee = (number(event.row[c]) for c in (book.FILL_QUANTITY, book.FILL_PRICE, book.FILL_FEE))
        self._judge_record(bar, event)
        before, after = self.position, self.given.terms.settled(self.position, quantity)
        self.cash -= quantity * price + fee
        moved = abs(quantity) * price
        self._compare_cash(bar, number(event.row[book.FILL_CASH]), "the fill", event.order, moved)
        told = number(event.row[book.FILL_POSITION])
        if not near(told, after, abs(quantity)):
            self._fault(bar, "position", f"leaves a position of {told:.12g}; the fills make {after:.12g}", event.order)
            after = told
        self.traded += moved
        self.values[bar] += moved
        self.position = after
        self._settle(bar, before, quantity, price, fee, book.REASONS[int(event.row[book.FILL_REASON])])

    def _judge_record(self, bar: int, event: Event) -> None:
        """The order that a fill belongs to says the same: once, this bar, this quantity, price, fee and reason."""
        order, fill, row = self.given.orders[event.order], event.row, event.order
        pairs = [
            (book.QUANTITY, book.FILL_QUANTITY),
            (book.PAID_PRICE, book.FILL_PRICE),
            (book.ORDER_FEE, book.FILL_FEE),
        ]
        pairs += [(book.REASON, book.FILL_REASON), (book.FILL_BAR, book.FILL_AT)]
        differing = [(order[one], fill[two]) for one, two in pairs if order[one] != fill[two]]
        if row in self.checked:
            self._fault(bar, "second fill", "fills once more", row)
        elif order[book.STATUS] != book.FILLED or differing:
            self._fault(bar, "record", f"the order and its fill tell different things: {differing}", row)
        self.checked.add(row)

    def _settle(self, bar: int, before: Decimal, quantity: Decimal, price: Decimal, fee: Decimal, reason: str) -> None:
        """The trade: average price, profit, what dies and what is born with the position."""
        after = self.position
        opening = abs(quantity)
        if before * quantity < 0:
            closed = min(abs(before), abs(quantity))
            opening -= closed
            self.profit += (price - self.average) * closed * sign(before) - fee * closed / abs(quantity)
            if before * after <= 0:
                self._close_trade(bar, before, reason)
        if after and before * after <= 0:
            self._open_trade(bar, price, fee * abs(after) / abs(quantity))
        elif after and opening and before * quantity > 0:
            self.average = (self.average * abs(before) + price * opening) / abs(after)
            self.entered += opening
            self.profit -= fee
            self._protect(bar)

    def _close_trade(self, bar: int, before: Decimal, reason: str) -> None:
        value, watch = self.average * self.entered, self.given.watch
        lost = self.profit < -Decimal("1e-14") * value
        if watch is not None and value:
            watch.closed.append(Closed(bar, self.profit / value, reason in _STOPPED))
            watch.closed_at, watch.losing = bar, watch.losing + 1 if lost else 0
        self.resting, self.average, self.entered, self.profit = [], ZERO, ZERO, ZERO
        exits = self.given.exits
        if reason in _PROTECTIVE and not (exits is not None and exits.reentry == "any_time"):
            self.blocked = sign(before)

    def _open_trade(self, bar: int, price: Decimal, fee: Decimal) -> None:
        self.average, self.entered, self.opened, self.profit = price, abs(self.position), bar, -fee
        self.blocked, self.resting = ZERO, []
        self._protect(bar)
        if self.given.scale_in is not None:
            known = self._range(bar)
            self._rest(bar, scaling_of(self.given.scale_in, self.position, price, known, self.given.terms, self.born))

    def _protect(self, bar: int) -> None:
        """Exits around the average price; a stop that trails already stays."""
        exits = self.given.exits
        if exits is None or not exits.distances:
            return
        kept = [order for order in self.resting if order.scales or order.trails]
        trails = any(order.trails for order in kept)
        fresh = exits_of(exits, self.position, self.average, self._range(bar), self.given.terms, self.born)
        self.resting = kept
        self._rest(bar, [order for order in fresh if not (trails and order.follows is not None)])

    def _rest(self, bar: int, orders: Sequence[Resting]) -> None:
        """Orders that begin to rest; a level that the account tells alike, but for rounding, is taken from there."""
        rows = [self.given.orders[row] for row in self.placed.get(bar, [])]
        told = [(book.REASONS[int(row[book.REASON])], number(row[book.LEVEL])) for row in rows if row[book.LEVEL] > 0.0]
        for order in orders:
            same = [] if order.level is None or order.follows else [y for x, y in told if x == order.reason]
            for level in same:
                if order.level is not None and near(level, order.level):
                    order.level, order.exact = level, True
        self.resting += orders
        self.born = max([self.born, *(order.born for order in self.resting)]) + 1

    def _range(self, bar: int) -> Decimal | None:
        """The average true range that was known before a bar began."""
        return self.given.ranges[bar - 1] if bar > 0 and self.given.ranges else None
