"""The engine's machine of one bundle, stepped bar by bar, with the venue's own fills in place of simulated ones.

Exits, further entries and limits of risk act between decisions. What they do is in the engine's code, and a `Mirror`
runs that very code, interpreted: it holds the machine's tables, tells after every close and after every fill which
orders shall stand at the venue (`Plan`), and books what the venue says was traded.

**The account follows the venue.** At a close the bar is played once more by the engine, from the close before. Where it
fills what the venue filled, for the same money, its tables are taken, and account and research stay equal to the last
bit, down to the rejections. Where the venue did something else (another price, a part, nothing, something at another
time), the venue's fills stand, in the order in which they were told, and the plan names the deviations.

**What rests.** Of two stops that both close the position only the nearer one is told: it acts first. Targets are cut to
what is held, and all exits to what closing orders of the same plan leave over: a venue takes one offer for one holding,
so the exits that stand in the way are withdrawn before such an order is sent. An order that adds to a position is told
only while limits and cash would let it fill at its own price; the engine asks at the fill, which a venue does not. At a
gap beyond the price, or with the impact of a volume that nobody knows yet, the two verdicts may differ.

**Exits are stubborn.** A protective or closing order that the venue refuses or ends is asked for again at the next
close; an entry is not, the rule decides anew.

**Memory** is flat: orders that are over, fills, entries and rows of the market that nothing asks for are forgotten at
each close. **Restart**: the same bars, decisions and fills, in their sequence, give the same mirror; so does `restored`
from what `state` told.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from tradelib._jit import interpreted
from tradelib.backtest import book
from tradelib.backtest.execution import finish, new_order, refresh_window, take_fill, wanted
from tradelib.backtest.guards import is_adding
from tradelib.backtest.kernel import equity, position_after
from tradelib.backtest.stepping import Conduct, conduct_of, decide_bar, pass_bar, roomy, value_bar
from tradelib.backtest.walk import follow
from tradelib.bundle.execution import NEEDS
from tradelib.bundle.layout import Bundle
from tradelib.bundle.trading.instructions import Deviation, Fill, Instruction, News, Plan, Refusal
from tradelib.bundle.trading.mirror_account import MirrorAccount, new_account
from tradelib.bundle.trading.mirror_market import BarLike, MarketMemory, Rows
from tradelib.bundle.trading.purse import NO_SHORT
from tradelib.bundle.trading.standing import Standing, Wish, fitting, wishes
from tradelib.data.bars import COLUMNS
from tradelib.data.timeframes import parse_timeframe
from tradelib.errors import RunnerError
from tradelib.risk import judging

__all__ = ["CARRIES", "Mirror"]

CARRIES = frozenset(NEEDS) - {"short", "leverage"}
"""What a bundle may need of a runner that a mirror brings along; money and assets on loan it does not."""
_REMEMBERED = 4096
"""Trades by which a fill that is told twice is known."""
_HALTS = (book.DAY_STOP, book.DRAWDOWN_STOP, book.LOSS_STOP, book.PROFIT_STOP, book.PROTECTION)
_ENDINGS = {"rejected": book.REJECTED, "cancelled": book.CANCELLED, "expired": book.EXPIRED}
_FOREIGN, _ANY_STOP = -1, -2
_WITHDRAWN = "withdrawn"
_LAYOUT = 1
"""Of `state`; another number is another layout."""


@dataclass(frozen=True)
class _Row:
    """A bar of a frame."""

    milliseconds: int
    open: float
    high: float
    low: float
    close: float
    volume: float


@dataclass(frozen=True)
class _Trade:
    """What was filled of order `serial`, net of what the venue kept."""

    serial: int
    leg: str
    quantity: float
    price: float
    fee: float
    maker: bool


@dataclass(frozen=True)
class _End:
    """Order `serial` will not be filled any further, says the venue."""

    serial: int
    status: str


@dataclass(frozen=True)
class _Met:
    """The price has passed order `serial` while it was kept back for `cause`: the engine asked it then, and refused."""

    serial: int
    cause: float


_Event = _Trade | _End | _Met


class Mirror:
    """The account of `bundle`, beginning with `cash` in quote currency at the first `close`.

    The bundle's golden bars are its past; bars between them and the first close come from that call's history, or from
    `see`. Every closed bar has to be told. margin: whether the account may borrow money and assets; on a spot venue it
    may not, and a bundle that would is refused. Raises `RunnerError` for that, for a bar out of order and for what
    cannot be booked.
    """

    def __init__(self, bundle: Bundle, cash: float, *, margin: bool = False) -> None:
        if not (math.isfinite(cash) and cash > 0.0):
            raise RunnerError(f"cash is {cash!r}: a mirror begins with a positive amount")
        self._begin(bundle, cash, margin)
        self.see(bundle.golden_bars)

    def _begin(self, bundle: Bundle, cash: float, margin: bool) -> None:
        rule, terms = bundle.rule, bundle.execution
        if terms.maximum_leverage > 1.0 and not margin:
            raise RunnerError(
                f"this bundle was researched with {terms.maximum_leverage:g} times its equity: a spot account lends "
                "nothing, so its orders would be refused when it counts"
            )
        self.bundle, self._margin = bundle, margin
        self._step = parse_timeframe(terms.timeframe).milliseconds if terms.calendar == "24/7" else None
        self._market = MarketMemory(terms, rule.exits, rule.scale_in, rule.limits)
        self._target = Rows(1, 3)
        self._held = self._now = new_account(rule, terms, cash)
        with interpreted():
            self._conduct: Conduct = conduct_of(self._held.machine, self._market.tape)
        self._begun = False
        self._events: list[_Event] = []
        self._unproven: list[tuple[float, float]] = []
        self._standing: dict[int, Standing] = {}
        self._revisions: dict[int, int] = {}
        self._withheld: dict[int, float] = {}
        self._paused: set[int] = set()
        self._over: set[str] = set()
        self._trades: deque[str] = deque(maxlen=_REMEMBERED)

    # What happened --------------------------------------------------------------------------------------------------

    def see(self, bars: pd.DataFrame) -> None:
        """Take closed bars that come before the account begins, in order; those that it has seen are passed over."""
        if self._begun:
            raise RunnerError("the account has begun: every closed bar is told to close(), those that passed too")
        for row in _rows_of(bars):
            if row.milliseconds > self._market.milliseconds:
                self._market.see(row)

    def close(
        self,
        bar: BarLike,
        history: pd.DataFrame | None,
        news: Sequence[News] = (),
        *,
        decision: tuple[float, float] | None = None,
        decides: bool = True,
        later: Sequence[News] = (),
    ) -> Plan:
        """`bar` has closed; `news`: what was told since the last call, in its sequence.

        history: the bars that the rule decides on, the last one `bar`; None where `decision`, the journalled (signal,
        weight), is given. `decides=False`: a bar that passed while nobody was there to decide; positions, limits and
        exits are kept up with. later: what is known already of the bar after it, as `book` takes it: it is no part of
        the figures, but the plan asks for nothing that it made needless. Raises `RunnerError` for a bar that is not the
        next one.
        """
        stood = dict(self._standing)
        with interpreted():
            late = self._take(news)
            t = self._enter(bar, history)
            account, deviations = self._settled(t, bar)
            account.machine = roomy(account.machine, self._conduct)
            worth = value_bar(account.machine, self._market.tape, t, self._conduct) if self._begun else account.cash
            signal, weight = self._decision(t, history, decision) if decides else (math.nan, math.nan)
            self._target.put(t, (weight,))
            decide_bar(account.machine, self._market.tape, self._target, t, worth, self._conduct)  # type: ignore[arg-type]
            refusals, halts = late + self._refusals(account), self._tripped(account)
            figures = account.cash, account.position, worth
            self._keep(account, t)
            refusals += self._stand() + self._take(later)
        time = _iso(bar.milliseconds)
        told: dict[str, Any] = {"signal": _known(signal), "weight": _known(weight), "halts": halts}
        return self._plan(time, figures, stood, refusals, deviations=deviations, **told)

    def book(self, news: Sequence[News] = ()) -> Plan:
        """What the venue told inside of the bar that is forming: exits of a new position stand from now on, not from
        the next close. The plan's account is that of this moment, valued at the last close."""
        if not self._begun:
            raise RunnerError("nothing can be booked before the first close")
        stood = dict(self._standing)
        with interpreted():
            refusals = self._take(news)
            close = self._market.tape.close[self._market.count - 1, 0]
            worth = float(equity(self._now.cash, self._now.position, close))
        figures = self._now.cash, self._now.position, worth
        return self._plan(_iso(self._market.milliseconds), figures, stood, refusals, signal=None, weight=None)

    def fund(self, amount: float) -> None:
        """Put cash in (negative: take it out). It is no profit: limits measure from the new level."""
        for account in (self._held, self._now) if self._now is not self._held else (self._held,):
            columns = (book.CASH, judging.PEAK, judging.EQUITY, judging.DAY_EQUITY)
            account.machine.account[list(columns)] += amount

    def fitted(self, leg: str, price: float) -> float:
        """How much of a leg (positive) the account can carry now at `price`, slippage and fee added as the bundle
        assumes them; 0.0 for nothing. Of a leg that does not `fits` it is everything or nothing."""
        row = self._now.row(_serial_of(leg))
        if not self._now.is_working(row):
            return 0.0
        with interpreted():
            return abs(fitting(self._now, self._market.tape, self._market.count, row, price))

    @property
    def account(self) -> tuple[float, float]:
        """Cash and position at this moment."""
        return self._now.cash, self._now.position

    @property
    def instructions(self) -> tuple[Instruction, ...]:
        """What shall stand at the venue at this moment."""
        return tuple(standing.instruction for standing in self._standing.values())

    # Fills and endings ----------------------------------------------------------------------------------------------

    def _take(self, news: Sequence[News]) -> tuple[Refusal, ...]:
        """Take them one by one, so that it makes no difference in which portions they come."""
        refusals: tuple[Refusal, ...] = ()
        for event in self._events_of(news):
            if isinstance(event, _Trade):
                self._events += self._met_before(event)
            self._note(event)
            if not (isinstance(event, _End) and event.status == _WITHDRAWN):
                self._events.append(event)
                self._now = self._replayed()
            refusals += self._stand()
        return refusals

    def _events_of(self, news: Sequence[News]) -> Iterator[_Trade | _End]:
        """Trades that were not booked before, and endings of what shall stand: of other ones nobody needs to know."""
        for told in news:
            if isinstance(told, Fill):
                yield from self._trade_of(told)
                continue
            standing = self._standing.get(_serial_of(told.leg))
            if standing is not None and standing.instruction.leg == told.leg:
                yield _End(standing.serial, told.status)

    def _trade_of(self, fill: Fill) -> Iterator[_Trade]:
        if not (math.isfinite(fill.quantity * fill.price * fill.fee) and fill.quantity and fill.price > 0.0):
            raise RunnerError(f"trade {fill.trade_id} cannot be booked: {fill}")
        name = f"{fill.client_order_id}/{fill.trade_id}"
        if name not in self._trades:
            self._trades.append(name)
            yield _trade_of(fill, self._lots)

    def _note(self, event: _Trade | _End) -> None:
        """What it means for the instruction that stands."""
        if isinstance(event, _End):
            self._over.add(self._standing.pop(event.serial).instruction.leg)
            if event.status != _WITHDRAWN:
                self._paused.add(event.serial)
            return
        standing = self._standing.get(event.serial)
        if standing is not None and standing.instruction.leg == event.leg.rstrip("+"):  # "+": see `_serial_of`
            standing = replace(standing, filled=float(position_after(standing.filled, event.quantity, self._lots)))
            self._standing[event.serial] = standing
            if standing.left(self._lots) * event.quantity <= 0.0:
                self._over.add(standing.instruction.leg)

    def _met_before(self, trade: _Trade) -> list[_Met]:
        """What was kept back and lies before the price of the order that was filled now."""
        now, row = self._now, self._now.row(trade.serial)
        orders = now.machine.orders
        if not now.is_working(row) or orders[row, book.KIND] == book.MARKET:
            return []
        found, level = [], orders[row, book.LEVEL]
        for serial, cause in self._withheld.items():
            other = now.row(serial)
            passed = now.is_working(other) and (level - orders[other, book.LEVEL]) * orders[other, book.UP] > 0.0
            found += [_Met(serial, cause)] if passed else []
        return found

    @property
    def _lots(self) -> float:
        return float(self._held.machine.terms[0, book.LOTS])

    def _replayed(self) -> MirrorAccount:
        """The account of the last close after all that happened since."""
        account, t, self._unproven = self._held.copy(), self._market.count, []
        for event in _merged(self._events, self._lots):
            account.machine = roomy(account.machine, self._conduct)
            if isinstance(event, _Trade):
                self._book_trade(account, t, event)
            elif isinstance(event, _End):
                _book_end(account, t, event)
            else:
                finish(account.machine, account.row(event.serial), t, book.REJECTED, event.cause)
            account.requeue()
        _expect(account)
        return account

    def _book_trade(self, account: MirrorAccount, t: int, trade: _Trade) -> None:
        """A trade of an order that no longer works, or of nobody's, is booked all the same."""
        m, row = account.machine, account.row(trade.serial)
        if not account.is_working(row):
            row = new_order(m, 0, book.MARKET, trade.quantity, book.EXPLICIT, t - 1)
        if m.orders[row, book.KIND] == book.LIMIT and is_adding(account.position, trade.quantity):
            self._unproven.append((float(m.counts[book.ORDERS]), trade.price))
        take_fill(m, self._market.tape, t, row, trade.quantity, trade.price, trade.fee, trade.maker)

    # The close ------------------------------------------------------------------------------------------------------

    def _enter(self, bar: BarLike, history: pd.DataFrame | None) -> int:
        """Take the bar into the market's memory; its number."""
        last = self._market.milliseconds
        if history is not None and _milliseconds(history.index[-1]) != bar.milliseconds:
            raise RunnerError(f"the history ends at {history.index[-1]}, the closed bar is {_iso(bar.milliseconds)}")
        if not self._begun and history is not None and bar.milliseconds > last:
            self._see_before(bar, history)
            last = self._market.milliseconds
        if not self._begun and bar.milliseconds == last:
            return self._market.count - 1
        if bar.milliseconds <= last or (self._step and bar.milliseconds != last + self._step):
            raise RunnerError(f"the bar {_iso(bar.milliseconds)} does not follow {_iso(last)}: tell every closed bar")
        return self._market.see(bar)

    def _see_before(self, bar: BarLike, history: pd.DataFrame) -> None:
        """What of `history` came before the first close."""
        if _milliseconds(history.index[0]) > self._market.milliseconds + (self._step or 0):
            raise RunnerError(
                f"the history begins at {history.index[0]}, the mirror has seen bars up to "
                f"{_iso(self._market.milliseconds)}: give the bars between them to see() first"
            )
        self.see(history.iloc[:-1])

    def _settled(self, t: int, bar: BarLike) -> tuple[MirrorAccount, tuple[Deviation, ...]]:
        """The account at the close of bar `t`, before it is valued: the engine's where the venue did the same."""
        idle = not self._events and not self._held.queued() and not self._held.linked()
        if idle or not self._begun:
            return self._held, ()
        engine = self._held.copy()
        engine.machine = roomy(engine.machine, self._conduct)
        pass_bar(engine.machine, self._market.tape, t, self._conduct)
        venue = self._now if self._events else self._held.copy()
        trades, ends = _split(_merged(self._events, self._lots))
        if _agree(engine, venue, trades, ends, self._standing):
            return engine, ()
        deviations = tuple(_deviations(engine, venue, trades, ends))
        self._pass(venue, t, bar)
        return venue, deviations

    def _pass(self, venue: MirrorAccount, t: int, bar: BarLike) -> None:
        """The bar goes by what still rests: it ends what was kept back from it, and moves the levels that follow.

        Of a bar in which a limit order enlarged the position nobody knows what came after: orders that it left behind
        see the close only, unless it was filled at the open.
        """
        m = venue.machine
        for row in venue.linked():
            level, cause = m.orders[row, book.LEVEL], self._withheld.get(venue.serial(row), book.ALLOWED)
            if cause != book.ALLOWED and bar.low <= level <= bar.high:
                finish(m, row, t, book.REJECTED, cause)
        if m.assets[0, book.MOVING] > 0.0:
            unproven = min((row for row, price in self._unproven if price != bar.open), default=math.inf)
            follow(m.orders, m.assets, 0, float(bar.high), float(bar.low), float(bar.close), unproven)
        refresh_window(m.orders, m.assets, 0)

    def _decision(
        self, t: int, history: pd.DataFrame | None, decision: tuple[float, float] | None
    ) -> tuple[float, float]:
        """Signal and target weight; on the first close the weight of the bar before is remembered too."""
        if decision is not None:
            signal, weight = float(decision[0]), float(decision[1])
        elif history is None:
            raise RunnerError("close() needs the history that the rule decides on, or the decision that was journalled")
        else:
            rows = self.bundle.rule.decisions(history).tail(2).to_numpy(dtype=np.float64)
            if not self._begun and len(rows) > 1:
                self._target.put(t - 1, (float(rows[0, 1]),))
            signal, weight = float(rows[-1, 0]), float(rows[-1, 1])
        if weight < 0.0 and not self._margin:
            raise RunnerError(NO_SHORT.format(weight=weight, time=_iso(self._market.milliseconds)))
        return signal, weight

    def _keep(self, account: MirrorAccount, t: int) -> None:
        """From here on the next bar is forming."""
        account.forget(t)
        self._held = self._now = account
        self._events, self._begun, self._unproven = [], True, []
        self._paused.clear()
        known = {account.serial(row) for row in (*account.queued(), *account.linked())}
        self._revisions = {serial: number for serial, number in self._revisions.items() if serial in known}
        self._withheld = {serial: cause for serial, cause in self._withheld.items() if serial in known}
        self._market.expect()

    def _refusals(self, account: MirrorAccount) -> tuple[Refusal, ...]:
        """Orders that were rejected since the close before."""
        m, told = account.machine, []
        for row in m.orders[: m.counts[book.ORDERS]].tolist():
            if row[book.STATUS] == book.REJECTED:
                quantity = 0.0 if math.isnan(row[book.QUANTITY]) else row[book.QUANTITY]
                told.append(self._refusal(quantity, row[book.REASON], row[book.CAUSE]))
        return tuple(told)

    def _refusal(self, quantity: float, reason: float, cause: float) -> Refusal:
        time, side = _iso(self._market.milliseconds), "buy" if quantity > 0.0 else "sell"
        return Refusal(time, side, abs(quantity), book.REASONS[int(reason)], book.CAUSES[int(cause)])  # type: ignore[arg-type]

    @staticmethod
    def _tripped(account: MirrorAccount) -> tuple[str, ...]:
        kinds = account.machine.entries[: account.machine.counts[book.ENTRIES], book.ENTRY_KIND].tolist()
        return tuple(book.ENTRY_KINDS[int(kind)] for kind in kinds if kind in _HALTS)

    # What shall stand -----------------------------------------------------------------------------------------------

    def _stand(self) -> tuple[Refusal, ...]:
        """Bring what stands in line with the account; refusals of what may not rest any more."""
        found: dict[int, Standing] = {}
        refusals = []
        for wish in wishes(self._now, self._market.tape, self._market.count, self._paused):
            if wish.cause != book.ALLOWED:
                if self._withheld.get(wish.serial) != wish.cause:
                    reason = float(book.REASONS.index(wish.terms.reason))
                    refusals.append(self._refusal(wish.terms.signed, reason, wish.cause))
                self._withheld[wish.serial] = wish.cause
            else:
                self._withheld.pop(wish.serial, None)
                found[wish.serial] = self._standing_of(wish)
        self._standing = found
        return tuple(refusals)

    def _standing_of(self, wish: Wish) -> Standing:
        """What stands already, if its terms are still those of `wish`; else a new revision of it."""
        before = self._standing.get(wish.serial)
        if before is not None and before.is_still(wish.terms, self._lots):
            return before
        number = self._revisions.get(wish.serial, -1) + 1
        self._revisions[wish.serial] = number
        leg = f"{wish.terms.reason}-{wish.serial}" + (f".{number}" if number else "")
        return Standing(wish.serial, replace(wish.terms, leg=leg, time=_iso(self._market.milliseconds)))

    def _plan(
        self,
        time: str,
        figures: tuple[float, float, float],
        stood: dict[int, Standing],
        refusals: tuple[Refusal, ...],
        **told: Any,
    ) -> Plan:
        now = {standing.instruction.leg: standing.instruction for standing in self._standing.values()}
        then = [standing.instruction.leg for standing in stood.values()]
        place = tuple(instruction for leg, instruction in now.items() if leg not in then)
        cancel = tuple(leg for leg in then if leg not in now and leg not in self._over)
        self._over.clear()
        cash, position, worth = figures
        account: dict[str, Any] = {"cash": cash, "position": position, "equity": worth}
        return Plan(time=time, **account, instructions=tuple(now.values()), place=place, cancel=cancel,
                    refusals=refusals, **told)  # fmt: skip

    # What survives a restart ----------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Everything that is remembered, as JSON can hold it: for a journal that has been rotated."""
        return {
            "layout": _LAYOUT,
            "bundle": self.bundle.digest,
            "margin": self._margin,
            "begun": self._begun,
            "market": _told(self._market.state()),
            "held": self._held.state(),
            "target": _told(self._target.items()),
            "events": [_told(vars(event)) for event in self._events],
            "standing": [{**vars(held), "instruction": vars(held.instruction)} for held in self._standing.values()],
            "revisions": [list(pair) for pair in self._revisions.items()],
            "withheld": [list(pair) for pair in self._withheld.items()],
            "paused": sorted(self._paused),
            "trades": list(self._trades),
        }

    @classmethod
    def restored(cls, bundle: Bundle, state: dict[str, Any]) -> Mirror:
        """The mirror of `bundle` that `state` was taken of. Raises `RunnerError` for that of another bundle."""
        if state.get("layout") != _LAYOUT or state.get("bundle") != bundle.digest:
            raise RunnerError("this state belongs to another bundle, or to another version: replay the journal instead")
        made = cls.__new__(cls)
        made._begin(bundle, 1.0, bool(state["margin"]))
        made._market.restore(state["market"])
        made._held.restore(state["held"])
        for t, row in state["target"]:
            made._target.put(int(t), [float(value) for value in row])
        made._begun = bool(state["begun"])
        made._events = [_event_of(body) for body in state["events"]]
        made._standing = {held["serial"]: _standing_from(held) for held in state["standing"]}
        made._revisions = {int(serial): int(number) for serial, number in state["revisions"]}
        made._withheld = {int(serial): float(cause) for serial, cause in state["withheld"]}
        made._paused, made._trades = set(state["paused"]), deque(state["trades"], maxlen=_REMEMBERED)
        with interpreted():
            made._now = made._replayed() if made._events else made._held
            made._market.expect()
        return made


# Events ---------------------------------------------------------------------------------------------------------------


def _serial_of(leg: str) -> int:
    """The number of the order that a leg is of; `_FOREIGN` where it is none of a mirror's."""
    reason, _, number = leg.rpartition("-")
    number = number.partition(".")[0].rstrip("+")  # "+": the runner's own copy of a stop, see `tradelib.live.held`
    return int(number) if reason in book.REASONS and number.isdecimal() else _FOREIGN


def _trade_of(fill: Fill, lots: float) -> _Trade:
    """A fill as the account has it. What the venue kept in base units was not received: fewer units, for the same
    money. Of a lot that is not whole any more nothing can be sold: it is left out."""
    quantity, price = fill.quantity, fill.price
    if fill.fee_base:
        net = abs(quantity) - fill.fee_base if quantity > 0.0 else abs(quantity) + fill.fee_base
        if lots > 0.0:
            net = (math.floor if quantity > 0.0 else math.ceil)(round(net * lots, 6)) / lots
        quantity = math.copysign(net, quantity)
        price = fill.price * fill.quantity / quantity if net else fill.price
    return _Trade(_serial_of(fill.leg), fill.leg, quantity, price, fill.fee, fill.maker)


def _merged(events: Sequence[_Event], lots: float) -> list[_Event]:
    """Parts of one order that were filled one right after the other are one fill, at their mean price."""
    found: list[_Event] = []
    for event in events:
        last = found[-1] if found else None
        if isinstance(event, _Trade) and isinstance(last, _Trade) and _continues(last, event):
            found[-1] = _joined(last, event, lots)
        else:
            found.append(event)
    return found


def _continues(last: _Trade, trade: _Trade) -> bool:
    return last.serial == trade.serial != _FOREIGN and last.quantity * trade.quantity > 0.0


def _joined(one: _Trade, other: _Trade, lots: float) -> _Trade:
    quantity = float(position_after(one.quantity, other.quantity, lots))
    price = one.price
    if other.price != price:
        price = (one.quantity * one.price + other.quantity * other.price) / (one.quantity + other.quantity)
    return replace(one, quantity=quantity, price=price, fee=one.fee + other.fee, maker=one.maker and other.maker)


def _book_end(account: MirrorAccount, t: int, end: _End) -> None:
    """An entry is over. What closes or protects a position goes on working: it is asked for again."""
    m, row = account.machine, account.row(end.serial)
    if account.is_working(row):
        stubborn = m.orders[row, book.ATTACHED] == 1.0 or math.isnan(m.orders[row, book.QUANTITY])
        if not stubborn:
            finish(m, row, t, _ENDINGS[end.status], book.ENDED_BY_VENUE)


def _expect(account: MirrorAccount) -> None:
    """The position that is left when what waits has been filled."""
    m, after = account.machine, account.position
    for row in account.queued():
        after = float(position_after(after, wanted(m, row, after), m.terms[0, book.LOTS]))
    m.assets[0, book.EXPECTED] = after


# The venue and the engine ---------------------------------------------------------------------------------------------


def _split(events: Sequence[_Event]) -> tuple[list[_Trade], list[_End]]:
    trades = [event for event in events if isinstance(event, _Trade)]
    return trades, [event for event in events if isinstance(event, _End)]


def _filled(engine: MirrorAccount) -> list[tuple[int, float, float, float]]:
    """Serial, quantity, price and fee of what the engine filled on its bar."""
    columns = [book.FILL_ORDER, book.FILL_QUANTITY, book.FILL_PRICE, book.FILL_FEE]
    rows = engine.machine.fills[: engine.machine.counts[book.FILLS], columns].tolist()
    return [(engine.serial(int(order)), quantity, price, fee) for order, quantity, price, fee in rows]


def _agree(
    engine: MirrorAccount,
    venue: MirrorAccount,
    trades: Sequence[_Trade],
    ends: Sequence[_End],
    standing: dict[int, Standing],
) -> bool:
    """True where the engine filled and ended what the venue did, and what stands means the same order in both."""
    ours = [(_same(engine, serial), *money) for serial, *money in _filled(engine)]
    if ours != [(_same(venue, trade.serial), trade.quantity, trade.price, trade.fee) for trade in trades]:
        return False
    if any(engine.is_working(engine.row(end.serial)) for end in ends):
        return False
    columns = [book.KIND, book.ATTACHED, book.PLACED, book.UP]
    for serial in standing:
        row = engine.row(serial)
        if row < 0 or not np.array_equal(
            engine.machine.orders[row, columns], venue.machine.orders[row, columns], equal_nan=True
        ):
            return False
    return True


def _same(account: MirrorAccount, serial: int) -> int:
    """`serial`; one number for the stops of a position: at a gap beyond two of them the venue fills the one it has."""
    row, m = account.row(serial), account.machine
    stops = row >= 0 and m.orders[row, book.ATTACHED] == 1.0 and m.orders[row, book.KIND] in (book.STOP, book.TRAILING)
    return _ANY_STOP if stops else serial


def _deviations(
    engine: MirrorAccount, venue: MirrorAccount, trades: Sequence[_Trade], ends: Sequence[_End]
) -> Iterator[Deviation]:
    """Order by order what the venue filled and what the engine would have."""
    there = _sums((trade.serial, trade.quantity, trade.price, trade.fee) for trade in trades)
    here = _sums(_filled(engine))
    for serial in sorted({*there, *here}):
        reason = _reason(engine, serial) or _reason(venue, serial) or "order"
        yield from _differences(reason, there.get(serial), here.get(serial))
    for end in ends:
        if engine.is_working(engine.row(end.serial)):
            yield Deviation("ended", _reason(engine, end.serial), None, None)


_Sum = tuple[float, float, float]


def _sums(fills: Iterable[tuple[int, float, float, float]]) -> dict[int, _Sum]:
    """Quantity, mean price and fee by order."""
    found: dict[int, _Sum] = {}
    for serial, quantity, price, fee in fills:
        before = found.get(serial)
        if before is not None:
            total = before[0] + quantity
            price = (before[0] * before[1] + quantity * price) / total if total else price
            quantity, fee = total, before[2] + fee
        found[serial] = quantity, price, fee
    return found


def _differences(reason: str, venue: _Sum | None, engine: _Sum | None) -> Iterator[Deviation]:
    if venue is None or engine is None:
        what = "missed" if venue is None else "unexpected"
        yield Deviation(what, reason, None if venue is None else venue[0], None if engine is None else engine[0])
        return
    for what, one, other in zip(("quantity", "price", "fee"), venue, engine, strict=True):
        if one != other:
            yield Deviation(what, reason, one, other)


def _reason(account: MirrorAccount, serial: int) -> str:
    row = account.row(serial)
    return book.REASONS[int(account.machine.orders[row, book.REASON])] if row >= 0 else ""


# Bars and plain data --------------------------------------------------------------------------------------------------


def _rows_of(bars: pd.DataFrame) -> Iterator[_Row]:
    times = pd.DatetimeIndex(bars.index).as_unit("ns").asi8 // 1_000_000
    for time, values in zip(times.tolist(), bars[list(COLUMNS)].to_numpy(dtype=np.float64).tolist(), strict=True):
        yield _Row(time, *values)


def _milliseconds(time: Any) -> int:
    return int(pd.Timestamp(time).as_unit("ns").value) // 1_000_000


def _iso(milliseconds: int) -> str:
    return pd.Timestamp(milliseconds, unit="ms", tz="UTC").isoformat()


def _known(value: float) -> float | None:
    """A number for the journal; NaN (warming up, or not asked) is None."""
    return None if math.isnan(value) else value


def _told(value: Any) -> Any:
    """Plain data with NaN and infinities as text, which `float` reads."""
    if isinstance(value, dict):
        return {name: _told(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_told(item) for item in value]
    return repr(value) if isinstance(value, float) and not math.isfinite(value) else value


def _event_of(body: dict[str, Any]) -> _Event:
    if "quantity" in body:
        return _Trade(**body)
    return _End(**body) if "status" in body else _Met(int(body["serial"]), float(body["cause"]))


def _standing_from(body: dict[str, Any]) -> Standing:
    return Standing(body["serial"], Instruction(**body["instruction"]), float(body["filled"]))
