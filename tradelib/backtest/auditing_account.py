"""An account gone through bar by bar, with its tables in one hand and the conventions in the other.

The sequence of a bar: funding at the open, market orders of the close before, resting orders along the way, financing,
the close with margin and limits, decisions. What should have happened and was not booked is found here.
"""

from __future__ import annotations

from collections import deque
from decimal import Decimal

from tradelib.backtest import book
from tradelib.backtest.auditing_books import Ask, Books, Event, Finding, Waiting
from tradelib.backtest.auditing_limits import Book, first_refusals
from tradelib.backtest.auditing_market import (
    TOLERANCE,
    ZERO,
    Candle,
    exceeds,
    near,
    number,
    sign,
    whole_lots,
)
from tradelib.backtest.auditing_orders import (
    Key,
    Path,
    Place,
    Resting,
    contradicts,
    liquidation_level,
    needs_range,
    risk_of_policy,
)

__all__ = ["Auditor"]

_HALTS = {"daily_loss_halt": "daily_loss", "daily_profit_halt": "daily_profit", "drawdown_halt": "drawdown"}
_SMALL = (book.BELOW_LOT, book.BELOW_MINIMUM)


class Auditor(Books):
    """The audit of one account; `run` returns what it found."""

    def run(self) -> list[Finding]:
        """Every bar of the account, in time."""
        for bar in range(max(self.given.first - 1, 0), len(self.given.bars)):
            equity = self.cash
            leaving: list[str] = []
            if bar >= self.given.first:
                equity, leaving = self._live(bar)
            self._decide(bar, equity, leaving)
        for row, order in enumerate(self.given.orders):
            if order[book.STATUS] == book.FILLED and row not in self.checked:
                ended = order[book.FILL_BAR]
                bar = int(ended if ended == ended else order[book.PLACED])
                self._fault(bar, "missing fill", "is said to be filled, and no fill is told", row)
        return sorted(self.found, key=lambda finding: finding.bar)

    # -- a bar ------------------------------------------------------------------------------------------------------

    def _live(self, bar: int) -> tuple[Decimal, list[str]]:
        """From the open of a bar to its close: the equity there, and for which reasons all is to be closed."""
        self.events = self.by_bar.pop(bar, deque())
        candle = self.given.bars[bar]
        if self.given.funding[bar][0] or self._is_funded_early():
            self._pay("funding", bar, -self.position * candle.open * self.given.funding[bar][0])
        self._open(bar)
        path = Path.through(candle, self.position)
        if not self._is_silent(bar):
            self._walk(bar, path)
            self._follow(candle, path)
        self._pay("funding", bar, -self.position * candle.close * self.given.funding[bar][1])
        self._pay("borrow", bar, min(self.position, ZERO) * candle.close * self.given.terms.borrow)
        self._pay("interest", bar, min(self.cash, ZERO) * self.given.terms.interest, self._size(candle.close))
        self._margin(bar)
        equity = self.cash + self.position * candle.close
        leaving = self._limits(bar, equity)
        self._leftovers(bar)
        self._compare_equity(bar, equity)
        self.traded -= self.values.pop(bar - self.given.terms.tier_bars, ZERO)
        return equity, leaving

    def _is_funded_early(self) -> bool:
        """True where funding was booked ahead of a fill of the open, or of the way through the bar."""
        rows = [self.given.orders[event.order] for event in self.events if event.order >= 0]
        liquidating = [row[book.REASON] == book.LIQUIDATION and row[book.KIND] == book.MARKET for row in rows]
        return bool(self.events) and self.events[0].kind == "funding" and not all(liquidating)

    def _compare_equity(self, bar: int, equity: Decimal) -> None:
        told = number(self.given.equity[bar - self.given.first])
        if not near(told, equity, self._size(self.given.bars[bar].close)):
            self._fault(bar, "equity", f"the equity is {told:f}; cash and position at the close make {equity:f}")

    def _leftovers(self, bar: int) -> None:
        """What was booked on a bar and has no place in it."""
        while self.events:
            event = self.events.popleft()
            if event.order >= 0:
                self._unexplained(bar, event)
                continue
            self._fault(bar, "cash book", f"{event.kind} of {event.row[book.ENTRY_AMOUNT]:.10g} that nothing explains")
            self.cash = number(event.row[book.ENTRY_CASH])

    def _unexplained(self, bar: int, event: Event) -> None:
        self._fault(bar, "unexplained fill", self._why_unexplained(bar, event.order), event.order)
        self._book(bar, event)

    def _why_unexplained(self, bar: int, row: int) -> str:
        """What can be said of a fill that no order of this moment explains."""
        order = self.given.orders[row]
        placed, market = int(order[book.PLACED]), order[book.KIND] == book.MARKET
        if placed >= bar and market:
            return "fills before, or on, the bar whose close it was decided on"
        if market and placed != bar - 1:
            return f"fills at the open of bar {bar}, and was decided on the close of bar {placed}"
        return "fills, and no decision, level or halt asks for it at this moment"

    # -- market orders at the open ----------------------------------------------------------------------------------

    def _open(self, bar: int) -> None:
        """What was decided on the close before meets the open: what leaves first."""
        waiting, self.waiting = self.waiting, []
        for order in waiting:
            asked = order.asked or (-self.position,)
            status = self.given.orders[order.row][book.STATUS]
            sure, unsure = self._halts(bar, asked[0])
            ask = Ask(asked, (self.given.bars[bar].open,), True, False, (sure, frozenset(unsure)))
            if status == book.FILLED:
                self._meet(bar, order.row, ask)
            elif status == book.REJECTED:
                self._judge_refusal(bar, order.row, ask)
            elif status != book.CANCELLED or (self.position and not order.asked):
                self._fault(bar, "open", f"waits for this open, and is {book.STATUSES[int(status)]}", order.row)
        while self.events and self._is_stray(self.events[0]):
            self._unexplained(bar, self.events.popleft())

    def _is_stray(self, event: Event) -> bool:
        """True for a market fill that no decision waited for: at the open already, not where margins are looked at."""
        return event.order >= 0 and self._is_market(event.order)

    def _halts(self, bar: int, quantity: Decimal) -> tuple[str, set[str]]:
        watch = self.given.watch
        if watch is None or self._reduces(quantity):
            return "", set()
        return first_refusals(watch.halts(bar))

    def _meet(self, bar: int, row: int, ask: Ask) -> None:
        if self.events and self.events[0].order == row:
            self._judge_fill(bar, self.events.popleft(), ask)
            return
        others = [event.order for event in self.events]
        if row not in others:
            self._fault(bar, "missing fill", "is said to have filled at this open, and no fill is told", row)
            self.checked.add(row)
        else:
            self._fault(bar, "sequence", "fills out of its turn", row)
            event = self.events[others.index(row)]
            self.events.remove(event)
            self._judge_fill(bar, event, ask)

    # -- resting orders ---------------------------------------------------------------------------------------------

    def _walk(self, bar: int, path: Path) -> None:
        """Resting fills in the order in which the price meets their levels, and none left out."""
        self._watch_margin()
        while True:
            event = self.events[0] if self.events and self._rests(self.events[0]) else None
            order = None if event is None else self._order_of(event, path)
            mine = None if order is None else path.meets(order, TOLERANCE)
            met = [
                (key, each) for each in self.resting if each is not order and (key := self._must_meet(bar, each, path))
            ]
            missed = [pair for pair in met if mine is None or pair[0] < mine]
            if missed:
                self._miss(bar, min(missed, key=lambda pair: pair[0])[1], path)
            elif event is None or order is None or mine is None:
                return
            else:
                self._act(bar, self.events.popleft(), order, path)

    def _must_meet(self, bar: int, order: Resting, path: Path) -> Key | None:
        """Where the price surely meets an order, or perhaps, where the account says that it then refused it."""
        refused = order.scales and self._refused(bar, order) is not None
        if order.doubtful and not refused:
            return None
        return path.meets(order, TOLERANCE if refused else (ZERO if order.exact else -TOLERANCE))

    def _rests(self, event: Event) -> bool:
        return event.order >= 0 and self.given.orders[event.order][book.KIND] != book.MARKET

    def _order_of(self, event: Event, path: Path) -> Resting | None:
        """The order that a fill belongs to: of its reason, the one at the level it names, else the first to be met."""
        reason, named = book.REASONS[int(event.row[book.FILL_REASON])], self.given.orders[event.order][book.LEVEL]
        met = [(key, each) for each in self.resting if each.reason == reason and (key := path.meets(each, TOLERANCE))]
        exact = [each for _, each in met if each.level is not None and near(number(named), each.level)]
        return exact[0] if exact else min(met, key=lambda pair: pair[0])[1] if met else None

    def _act(self, bar: int, event: Event, order: Resting, path: Path) -> None:
        """An order fills where the price meets it."""
        key = path.meets(order, TOLERANCE) or (0, ZERO)
        references = path.references(order, key)
        reference = number(event.row[book.FILL_REFERENCE])
        asked, before = self._asked(order), self.position
        self.resting.remove(order)
        ask = Ask(
            asked, tuple(references), not order.limit, order.limit, self._forbidden(bar, order, asked[0], reference)
        )
        path.place = Place(key[0], references[0] if key[0] >= 0 else path.bar.open)
        growing = self.born
        self._judge_fill(bar, event, ask)
        if order.limit and key[0] >= 0 and abs(self.position) > abs(before):
            path.unproven = growing if path.unproven is None else min(path.unproven, growing)
        if order.reason == "liquidation":
            self._pay_liquidation(bar, event)
        self._watch_margin()

    def _asked(self, order: Resting) -> tuple[Decimal, ...]:
        """What an order wants now: never more than is held, unless it enlarges the position."""
        if order.scales or not order.quantities:
            return order.quantities or (-self.position,)
        held = abs(self.position)
        return tuple(sign(quantity) * min(abs(quantity), held) for quantity in order.quantities)

    def _forbidden(self, bar: int, order: Resting, quantity: Decimal, price: Decimal) -> tuple[str, frozenset[str]]:
        """The limits that forbid a further entry at `price`."""
        watch = self.given.watch
        if watch is None or not order.scales:
            return "", frozenset()
        after = self.position + quantity
        heat = abs(after) * self._risk_held(price)
        plan = Book(self.position * price, after * price, heat, self.cash + self.position * price)
        sure, unsure = first_refusals(watch.fills(bar, plan))
        return sure, frozenset(unsure)

    def _miss(self, bar: int, order: Resting, path: Path) -> None:
        """The price met an order that did not fill: it was refused for a reason, or that is a fault."""
        self.resting.remove(order)
        refused = self._refused(bar, order) if order.scales else None
        key = path.meets(order, TOLERANCE) or (0, ZERO)
        if refused is None:
            level = f"{order.level:.10g}" if order.level is not None else "?"
            words = f"the {order.reason.replace('_', ' ')} at {level} was met and did not fill when it should"
            self._fault(bar, "missing fill", words)
            return
        references, asked = path.references(order, key), self._asked(order)
        forbidden = self._forbidden(bar, order, asked[0], references[0])
        self._judge_refusal(bar, refused, Ask(asked, tuple(references), not order.limit, order.limit, forbidden))

    def _refused(self, bar: int, order: Resting) -> int | None:
        """The row of a further entry that was rejected on a bar."""
        scaling = book.REASONS.index("scale_in")
        for row in self.ended.get(bar, []):
            one = self.given.orders[row]
            mine = one[book.REASON] == scaling and one[book.CAUSE] not in _SMALL
            if mine and order.level is not None and near(number(one[book.LEVEL]), order.level):
                return row
        return None

    def _follow(self, candle: Candle, path: Path) -> None:
        """After a bar levels follow its best price; of what was born inside of it the close alone is known."""
        for order in self.resting:
            best = candle.low if order.up > 0 else candle.high
            order.follow(candle.close if path.is_new(order) else best)

    # -- margin -----------------------------------------------------------------------------------------------------

    def _watch_margin(self) -> None:
        """Keep the order that liquidates the position at its maintenance margin."""
        self.resting = [order for order in self.resting if order.reason != "liquidation"]
        if self.given.terms.maintenance and self.position:
            level = liquidation_level(self.cash, self.position, self.given.terms.maintenance)
            self.resting.append(Resting("liquidation", level, -sign(self.position), self.born))
            self.born += 1

    def _pay_liquidation(self, bar: int, event: Event) -> None:
        value = number(event.row[book.FILL_PRICE]) * abs(number(event.row[book.FILL_QUANTITY]))
        self._pay("liquidation_fee", bar, -self.given.terms.liquidation * value)

    def _margin(self, bar: int) -> None:
        """At the close: a margin call, and the liquidation where only that is left."""
        terms, close = self.given.terms, self.given.bars[bar].close
        if not terms.maintenance:
            return
        exposure, equity = abs(self.position) * close, self.cash + self.position * close
        short = exceeds(exposure / terms.leverage, equity, exposure) if exposure else False
        self._call(bar, short)
        if not exposure or exceeds(terms.maintenance * exposure, equity, exposure) is False:
            return
        event = self.events[0] if self.events else None
        liquidates = event is not None and event.order >= 0
        if event is not None and liquidates:
            order = self.given.orders[event.order]
            if order[book.PLACED] != bar or order[book.REASON] != book.LIQUIDATION:
                return
            self._judge_fill(bar, self.events.popleft(), Ask((-self.position,), (close,), True, False))
            self._pay_liquidation(bar, event)
        elif exceeds(terms.maintenance * exposure, equity, exposure) and not self._is_silent(bar):
            self._fault(bar, "liquidation", "the equity is below its maintenance margin, and nothing is liquidated")

    def _call(self, bar: int, short: bool | None) -> None:
        """A call is recorded once, until the shortage has ended; `called` is None where rounding decided that."""
        due = short if self.called is False else (None if self.called is None and short else False)
        there = self._note("margin_call", bar, due)
        if short is not None:
            self.called = short
        elif there or self.called is not False:
            self.called = True if there else None

    # -- limits at the close ----------------------------------------------------------------------------------------

    def _limits(self, bar: int, equity: Decimal) -> list[str]:
        """Halts that begin here; returns why everything is to be closed at the next open, the first reason only."""
        watch, leaving = self.given.watch, list[str]()
        if watch is not None:
            watch.begin_close(bar, equity)
            due = watch.trips(bar, equity)
            for kind in ("daily_loss_halt", "daily_profit_halt", "drawdown_halt", "loss_halt"):
                if self._note(kind, bar, due.get(kind, False)):
                    watch.halt(kind, bar, equity)
                    leaving += [_HALTS[kind]] if kind in _HALTS else []
            for scope, until, cause, sure in watch.protections(bar):
                if self._note("protection", bar, sure):
                    watch.barred[scope] = until, cause
            watch.equity = equity
        held = self.given.exits.time_exit if self.given.exits is not None else None
        if held is not None and bar - self.opened + 1 >= held:
            leaving.append("time_exit")
        return leaving[:1] if self.position else []

    # -- decisions --------------------------------------------------------------------------------------------------

    def _decide(self, bar: int, equity: Decimal, leaving: list[str]) -> None:
        """The market orders of a close: what leaves, and what the target weight asks for."""
        rows = [row for row in self.placed.get(bar, []) if self._is_market(row)]
        for reason in leaving:
            mine = [row for row in rows if book.REASONS[int(self.given.orders[row][book.REASON])] == reason]
            if not mine:
                self._fault(
                    bar, "missing order", f"the position is to leave ({reason.replace('_', ' ')}) and no order says so"
                )
            self.waiting += [Waiting(row, reason) for row in mine[:1]]
            rows = [row for row in rows if row not in mine[:1]]
        expected = ZERO if leaving else self.position
        wanted = self._wanted(bar, equity, expected, bool(leaving))
        signals = [row for row in rows if self.given.orders[row][book.REASON] == book.SIGNAL]
        for row in (row for row in rows if row not in signals):
            self._fault(bar, "order", "is a market order that nothing asks for", row)
        self._match(bar, equity, expected, wanted, signals)

    def _is_market(self, row: int) -> bool:
        order = self.given.orders[row]
        return order[book.KIND] == book.MARKET and order[book.REASON] != book.LIQUIDATION

    def _wanted(self, bar: int, equity: Decimal, position: Decimal, leaves: bool) -> tuple[Decimal, ...]:
        """Quantities that the target of this close may ask for; 0 where it asks for nothing."""
        aim, nothing = self.given.targets[bar], (ZERO,)
        if aim is None or (aim * self.blocked > 0 and equity > 0):
            return nothing
        if aim * self.blocked > 0:
            return nothing
        self.blocked = ZERO
        if leaves and aim * self.position > 0:
            return nothing
        if self.given.band is None and equity > 0 and aim * position > 0:
            return nothing
        return self._quantities(aim, equity, self.given.bars[bar].close, position)

    def _quantities(self, aim: Decimal, equity: Decimal, close: Decimal, position: Decimal) -> tuple[Decimal, ...]:
        """From `position` to `aim` of `equity`, in whole lots, 0 below the minimum or within the band."""
        found, goal = list[Decimal](), ZERO
        if aim and equity > 0:
            present, goal = position * close / equity, aim * equity / close
            if present * aim > 0:
                beyond = exceeds(abs(aim - present), self.given.band or ZERO, abs(aim))
                if beyond is False:
                    return (ZERO,)
                found += [ZERO] if beyond is None else []
        for lots in whole_lots(goal, self.given.terms.lots):
            quantity = lots - position
            small = exceeds(self.given.terms.minimum, abs(quantity) * close) if self.given.terms.minimum else False
            dust = near(lots, position)
            found += [ZERO] if small is not False or dust else []
            found += [quantity] if small is not True and quantity else []
        return tuple(dict.fromkeys(found)) or (ZERO,)

    def _match(
        self, bar: int, equity: Decimal, position: Decimal, wanted: tuple[Decimal, ...], rows: list[int]
    ) -> None:
        """The orders of a signal against the quantities it may ask for."""
        at_once = [row for row in rows if self._ended_at(row) == (book.REJECTED, bar)]
        small = [row for row in at_once if self.given.orders[row][book.CAUSE] in _SMALL]
        refused = [row for row in at_once if row not in small]
        sent = [row for row in rows if row not in at_once and not self._is_rest(row, rows)]
        if small and ZERO not in wanted:
            self._fault(bar, "refusal", "was refused as too small, and is not", small[0])
        asked = self._as_told((refused or sent)[:1], tuple(quantity for quantity in wanted if quantity))
        if refused and asked:
            self._judge_entry(bar, equity, position, asked[0], refused[0], True)
            asked = (-position,) if asked[0] * position < 0 and self._is_limit(refused[0]) else ()
        elif asked and not sent and ZERO not in wanted:
            self._fault(bar, "missing order", f"the decision asks for {asked[0]:.12g} and no order was sent")
        elif sent and asked:
            self._judge_entry(bar, equity, position, asked[0], sent[0], False)
        for row in [*refused[1:], *sent[1:], *(() if asked else sent[:1])]:
            self._fault(bar, "order", "is an order that no decision of its bar asks for", row)
        self.waiting += [Waiting(row, "signal", asked) for row in sent[:1] if asked]

    def _as_told(self, rows: list[int], asked: tuple[Decimal, ...]) -> tuple[Decimal, ...]:
        """The order's own quantity where it is dust that a decision asks for: a rounding chose it, and its sign."""
        dust = TOLERANCE * abs(self.position)
        told = [self.given.orders[row][book.QUANTITY] for row in rows]
        own = tuple(number(quantity) for quantity in told if abs(quantity) <= dust)
        return own if own and any(abs(quantity) <= dust for quantity in asked) else asked

    def _ended_at(self, row: int) -> tuple[float, float]:
        order = self.given.orders[row]
        return order[book.STATUS], order[book.FILL_BAR]

    def _is_rest(self, row: int, rows: list[int]) -> bool:
        """True for the record of that half of a flip that was refused when the other half filled."""
        status, ended = self._ended_at(row)
        return status == book.REJECTED and any((book.FILLED, ended) == self._ended_at(other) for other in rows)

    def _is_limit(self, row: int) -> bool:
        return book.CAUSES[int(self.given.orders[row][book.CAUSE])].startswith("limit:")

    def _judge_entry(
        self, bar: int, equity: Decimal, position: Decimal, quantity: Decimal, row: int, refused: bool
    ) -> None:
        """An order that opens, enlarges or flips: sent or refused as policies and limits say."""
        close, after = self.given.bars[bar].close, position + quantity
        if after * position >= 0 and abs(after) <= abs(position):
            if refused:
                self._fault(bar, "refusal", "only reduces the position, and was refused", row)
            return
        sure, unsure = self._refusals(bar, equity, position, quantity)
        cause = book.CAUSES[int(self.given.orders[row][book.CAUSE])]
        if refused and cause != sure and cause not in unsure:
            self._fault(bar, "refusal", f"was refused ({cause}), and that does not hold", row)
        elif not refused and sure:
            what = "limit" if sure.startswith("limit") else "policy"
            self._fault(bar, what, f"was sent to reach {after * close:.10g}, which is forbidden ({sure})", row)
        elif not refused and self.given.watch is not None:
            self.given.watch.day_orders += 1

    def _refusals(self, bar: int, equity: Decimal, position: Decimal, quantity: Decimal) -> tuple[str, set[str]]:
        """Why an order may not be sent: a distance that nobody knows yet, a contradiction, a limit."""
        given, close = self.given, self.given.bars[bar].close
        known = given.ranges[bar] if given.ranges else None
        if known is None and needs_range(given.exits, given.scale_in):
            return book.CAUSES[int(book.NO_DISTANCE)], set()
        if contradicts(given.exits, sign(quantity), close, known):
            return book.CAUSES[int(book.WRONG_SIDE)], set()
        if given.watch is None:
            return "", set()
        after, held = position + quantity, self._risk_held(close)
        risk = held if position * quantity > 0 else risk_of_policy(given.exits, close, known)
        return first_refusals(given.watch.admits(bar, Book(position * close, after * close, abs(after) * risk, equity)))

    def _risk_held(self, price: Decimal) -> Decimal:
        """Loss per unit from `price` to the nearest stop of the position, else the price."""
        side = sign(self.position)
        stops = [order for order in self.resting if order.protects and order.reason != "liquidation" and order.level]
        losses = [max((price - (order.level or ZERO)) * side, ZERO) for order in stops]
        return min([price, *losses])
