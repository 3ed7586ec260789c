"""Limits of risk as an audit understands them: what trips at a close, and what may not be entered.

Each limit is a comparison of two decimals; where they are so close that rounding decides, the answer is None, and the
account may have done either. A day is a UTC day and begins with the equity of the close before it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple

from tradelib.backtest.auditing_market import ONE, TOLERANCE, ZERO, exceeds, number
from tradelib.risk.limits import Limits, Protection

__all__ = ["Book", "Closed", "LimitWatch", "Refusal", "first_refusals"]

Refusal = tuple[str, bool | None]
"""A limit by its cause in words, and whether it forbids; None where rounding decides."""


_TINY = Decimal("1e-3")
"""Size of a trade's result that its rounding is measured against."""
_BARRED = {
    "losing_trades": "limit: barred after losing trades",
    "stopped_trades": "limit: barred after stopped trades",
    "total_loss": "limit: barred after the loss of its trades",
    "drawdown": "limit: barred after the drawdown of its trades",
}


class Closed(NamedTuple):
    """A closed trade: its bar, its profit after costs over the value entered, and whether a stop closed it."""

    bar: int
    result: Decimal
    stopped: bool


class Book(NamedTuple):
    """What an order would make of an account: signed values before and after it, the loss if all stops are hit."""

    before: Decimal
    after: Decimal
    heat: Decimal
    equity: Decimal


def first_refusals(found: Iterator[Refusal]) -> tuple[str, set[str]]:
    """The first cause that surely forbids ("" for none), and the causes before it of which nobody can be sure."""
    unsure = set[str]()
    for cause, forbids in found:
        if forbids:
            return cause, unsure
        if forbids is None:
            unsure.add(cause)
    return "", unsure


@dataclass
class LimitWatch:
    """What is remembered of an account so that its `limits` can be judged.

    `days`: UTC day of each bar; `closes` up to now; `stretches`: number of the stretch that clusters are estimated in.
    """

    limits: Limits
    symbol: str
    days: Sequence[int]
    stretches: Sequence[int]
    closes: Sequence[Decimal]
    periods_per_year: float
    equity: Decimal
    peak: Decimal = ZERO
    day: int = -1
    day_equity: Decimal = ZERO
    day_halt: str = ""
    day_orders: int = 0
    drawdown_until: float = -1
    losses_until: float = -1
    closed_at: float = -math.inf
    losing: int = 0
    closed: list[Closed] = field(default_factory=list)
    judged: int = 0
    barred: dict[str, tuple[float, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.peak = self.day_equity = self.equity

    # -- a close ----------------------------------------------------------------------------------------------------

    def begin_close(self, bar: int, equity: Decimal) -> None:
        """A day that begins, and the highest equity."""
        self.peak = max(self.peak, equity)
        if self.limits.needs_days and self.day != self.days[bar]:
            self.day, self.day_equity, self.day_halt, self.day_orders = self.days[bar], self.equity, "", 0

    def trips(self, bar: int, equity: Decimal) -> dict[str, bool | None]:
        """Halts that begin at this close, as the cash book calls them; None where rounding decides."""
        limits, begun, found = self.limits, self.day_equity, dict[str, bool | None]()
        if limits.daily_loss is not None and not self.day_halt:
            found["daily_loss_halt"] = _reaches(begun * (ONE - number(limits.daily_loss)), equity)
        if limits.daily_profit is not None and not self.day_halt and not found.get("daily_loss_halt"):
            found["daily_profit_halt"] = _reaches(equity, begun + abs(begun) * number(limits.daily_profit))
        if limits.maximum_drawdown is not None and bar >= self.drawdown_until:
            found["drawdown_halt"] = _reaches(self.peak * (ONE - number(limits.maximum_drawdown)), equity)
        if limits.consecutive_losses is not None and self.losing >= limits.consecutive_losses:
            found["loss_halt"] = True
        return found

    def halt(self, kind: str, bar: int, equity: Decimal) -> None:
        """Remember a halt that the cash book records."""
        if kind in ("daily_loss_halt", "daily_profit_halt"):
            self.day_halt = f"limit: halted for the day after the {kind.removesuffix('_halt').replace('_', ' ')}"
        elif kind == "drawdown_halt":
            self.drawdown_until, self.peak = bar + (self.limits.drawdown_pause or math.inf), equity
        elif kind == "loss_halt":
            self.losses_until, self.losing = bar + self.limits.loss_pause, 0

    def protections(self, bar: int) -> Iterator[tuple[str, float, str, bool | None]]:
        """What bars entries from this close on: scope, last bar, cause, and whether that is sure; the longest of each
        scope, the account's first, as the cash book has them. A bar that has to be sure is remembered by the caller."""
        new, self.judged = len(self.closed) > self.judged, len(self.closed)
        for scope in ("account", "symbol") if new else ():
            best: tuple[float, str, bool | None] = (self.barred.get(scope, (-1.0, ""))[0], "", False)
            for protection in (each for each in self.limits.protections if each.scope == scope):
                until, bad = bar + protection.pause, self._is_bad(protection, bar)
                if bad is not False and until > best[0]:
                    best = until, _BARRED[protection.measure], bad
            if best[1]:
                yield scope, *best

    def _is_bad(self, protection: Protection, bar: int) -> bool | None:
        """Whether the trades within the window are as bad as the protection names; None where rounding decides."""
        loss, measure = number(protection.loss), protection.measure
        recent = [trade for trade in self.closed if trade.bar > bar - protection.window]
        if measure in ("losing_trades", "stopped_trades"):
            counted = [trade for trade in recent if trade.stopped or measure == "losing_trades"]
            lost = [exceeds(-trade.result, loss, _TINY) for trade in counted]
            sure, perhaps = lost.count(True), len(lost) - lost.count(False)
            return True if sure >= protection.trades else (None if perhaps >= protection.trades else False)
        if len(recent) < protection.trades:
            return False
        if measure == "total_loss":
            return exceeds(-sum((trade.result for trade in recent), ZERO), loss, _TINY)
        total = best = deepest = ZERO
        for trade in recent:
            total += trade.result
            best, deepest = max(best, total), max(deepest, best - total)
        return exceeds(deepest, loss, _TINY)

    # -- an entry ---------------------------------------------------------------------------------------------------

    def halts(self, bar: int) -> Iterator[Refusal]:
        """What forbids any entry that fills on `bar`, in the order in which an account tells it; not the day's halt."""
        yield "limit: the symbol is blacklisted", self.symbol in self.limits.blacklist
        yield "limit: halted after the drawdown", bar <= self.drawdown_until
        yield "limit: halted after consecutive losses", bar <= self.losses_until
        yield "limit: the symbol is cooling down", 0 < self.limits.cooldown >= bar - self.closed_at
        for scope in ("account", "symbol"):
            until, cause = self.barred.get(scope, (-1.0, ""))
            yield cause, bar <= until

    def admits(self, bar: int, book: Book) -> Iterator[Refusal]:
        """What forbids an order decided at the close of `bar`."""
        first, *others = self.halts(bar + 1)
        yield from (first, (self.day_halt, bool(self.day_halt)), *others)
        most = self.limits.daily_orders
        yield "limit: too many orders on one day", most is not None and self.day_orders + 1 > most
        yield from self.sizes(bar, book)

    def fills(self, bar: int, book: Book) -> Iterator[Refusal]:
        """What forbids a resting order that would add to a position on `bar`, of what was known before it began."""
        yield from self.halts(bar)
        yield self.day_halt, bool(self.day_halt) and self.day == self.days[bar]
        yield from self.sizes(bar - 1, book)

    def sizes(self, row: int, book: Book) -> Iterator[Refusal]:
        """What forbids the exposure that an order leads to; `row`: last bar of which the past is known."""
        value, equity, limits = abs(book.after), book.equity, self.limits
        larger = value > abs(book.before) * (ONE + TOLERANCE)
        shares = {
            "limit: too much gross exposure": (value, limits.maximum_exposure, True),
            "limit: too much portfolio heat": (book.heat, limits.maximum_heat, True),
            "limit: too much net exposure": (value, limits.maximum_net_exposure, larger),
            "limit: too much of one symbol": (value, limits.maximum_symbol_exposure, True),
        }
        for cause, (figure, most, counts) in shares.items():
            if most is not None and counts:
                yield cause, exceeds(figure, number(most) * equity, abs(equity) * number(most))
        yield from self._past(row, value, equity)
        yield from self._tail(row, book)

    def _past(self, row: int, value: Decimal, equity: Decimal) -> Iterator[Refusal]:
        limits = self.limits
        if limits.target_volatility is not None:
            volatility = self._volatility(row)
            yield "limit: too few bars so far to measure it", volatility is None
            if volatility is not None and (most := self._leverage(volatility)) is not None:
                yield "limit: more exposure than the volatility allows", exceeds(value, most * equity)
        if limits.maximum_cluster_exposure is not None:
            most = number(limits.maximum_cluster_exposure)
            yield "limit: too few bars so far to measure it", not self._has_clusters(row)
            yield "limit: too much of one cluster of correlated symbols", exceeds(value, most * equity)

    def _volatility(self, row: int) -> Decimal | None:
        """Annual sample deviation of the last returns."""
        window = self.limits.volatility_window
        if row < window:
            return None
        returns = self._returns(row, window)
        mean = sum(returns, ZERO) / window
        squares = sum(((value - mean) ** 2 for value in returns), ZERO)
        return (squares / (window - 1) * number(self.periods_per_year)).sqrt()

    def _returns(self, row: int, count: int) -> list[Decimal]:
        return [self.closes[j] / self.closes[j - 1] - ONE for j in range(row - count + 1, row + 1)]

    def _leverage(self, volatility: Decimal) -> Decimal | None:
        """Gross exposure that the volatility allows: base x target / realised, between floor and ceiling."""
        limits = self.limits
        ceiling = None if limits.leverage_ceiling is None else number(limits.leverage_ceiling)
        if not volatility:
            return ceiling
        most = number(limits.leverage_base) * number(limits.target_volatility or 0.0) / volatility
        most = max(most, number(limits.leverage_floor))
        return most if ceiling is None else min(most, ceiling)

    def _has_clusters(self, row: int) -> bool:
        """Whether a stretch began since there were enough bars: then a single symbol is a cluster of its own."""
        window = self.limits.cluster_window
        return any(self.stretches[j] != self.stretches[j - 1] for j in range(window, row + 1))

    def _tail(self, row: int, book: Book) -> Iterator[Refusal]:
        """Value at risk and expected shortfall by history: the ceil(n alpha) worst of the last n returns."""
        limits, n = self.limits, self.limits.risk_window
        wanted = {
            "value at risk": limits.maximum_value_at_risk,
            "expected shortfall": limits.maximum_expected_shortfall,
        }
        for name, most in wanted.items():
            if most is None:
                continue
            yield "limit: too few bars so far to measure it", row < n
            if row < n:
                return
            before, after = (self._loss(row, value, name) for value in (book.before, book.after))
            forbids = exceeds(after, number(most) * book.equity)
            yield f"limit: too much {name}", forbids and (None if abs(after - before) <= TOLERANCE else after > before)

    def _loss(self, row: int, value: Decimal, measure: str) -> Decimal:
        n, tail = self.limits.risk_window, math.ceil(self.limits.risk_window * self.limits.risk_alpha - 1e-9)
        worst = sorted(value * change for change in self._returns(row, n))[:tail]
        return -worst[-1] if measure == "value at risk" else -sum(worst, ZERO) / tail


def _reaches(figure: Decimal, threshold: Decimal) -> bool | None:
    """Whether `figure` is at `threshold` or beyond; None where rounding decides."""
    slack = TOLERANCE * abs(threshold)
    if figure >= threshold + slack:
        return True
    return False if figure < threshold - slack else None
