"""Limits of an account that lives bar by bar: what the runner asks before every order, and writes into its journal.

The engine judges whole histories with the functions of `tradelib.risk.judging`; a `LimitMonitor` feeds the same ones
from the last bars, so that a limit trips on the same bar in a backtest and in an account that trades.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from tradelib.data.timeframes import parse_timeframe, periods_per_year
from tradelib.errors import DataError, ParameterError
from tradelib.risk import judging
from tradelib.risk.judging import add_to_plan, admit, begin_plan, close_bar, imagine, protect, replan, tail_loss
from tradelib.risk.limits import Limits
from tradelib.risk.past_risk import past_risk, past_table

__all__ = ["ClosedTrade", "LimitMonitor", "Verdict"]

_DUST = 1e-12
"""What is left of a position after an order of one unit, and is nothing."""
_NANOSECONDS_PER_DAY = 86_400_000_000_000

_LIMITS = {
    judging.TOO_MANY_POSITIONS: "maximum_positions",
    judging.TOO_MUCH_EXPOSURE: "maximum_exposure",
    judging.TOO_MUCH_HEAT: "maximum_heat",
    judging.DAY_HALT: "daily_loss",
    judging.DRAWDOWN_HALT: "maximum_drawdown",
    judging.LOSS_HALT: "consecutive_losses",
    judging.COOLING_DOWN: "cooldown",
    judging.BLACKLISTED: "blacklist",
    judging.DAY_LOCK: "daily_profit",
    judging.TOO_MANY_ORDERS: "daily_orders",
    judging.TOO_VOLATILE: "target_volatility",
    judging.TOO_MUCH_NET: "maximum_net_exposure",
    judging.TOO_CONCENTRATED: "maximum_symbol_exposure",
    judging.TOO_CORRELATED: "maximum_cluster_exposure",
    judging.TOO_MUCH_VAR: "maximum_value_at_risk",
    judging.TOO_MUCH_SHORTFALL: "maximum_expected_shortfall",
    judging.NOT_MEASURED: "past",
    judging.BARRED_LOSING: "protections",
    judging.BARRED_STOPPED: "protections",
    judging.BARRED_TOTAL: "protections",
    judging.BARRED_DRAWDOWN: "protections",
}
"""Fields of `Limits` by the cause; "past": the limit looks further back than there are bars."""

_IN_BARS = {"maximum_drawdown", "consecutive_losses", "cooldown", "protections"}


@dataclass(frozen=True)
class ClosedTrade:
    """A trade that was closed: profit after costs over the value entered, and whether a stop or liquidation did it."""

    symbol: str
    profit: float
    stopped: bool = False


@dataclass(frozen=True)
class Verdict:
    """What the limits say of an order, or of a close: the `limit` that forbids or tripped, its figure and threshold.

    `symbol`: "" for the account. `close_all`: every position has to be closed at the next open. Figures are in quote
    currency, in positions or orders, or numbers of bars where a halt says until when.
    """

    allowed: bool
    symbol: str = ""
    limit: str = ""
    figure: float = math.nan
    threshold: float = math.nan
    reason: str = ""
    close_all: bool = False

    def summary(self) -> str:
        """One sentence."""
        whom = self.symbol or "the account"
        if not self.limit:
            return f"{whom}: allowed"
        if math.isnan(self.figure):
            return f"{whom}: {self.reason}"
        if math.isnan(self.threshold):  # it tripped at a close
            return f"{whom}: {self.reason}, at an equity of {self.figure:,.2f}"
        if self.limit in _IN_BARS:
            return f"{whom}: {self.reason} (bar {self.figure:.0f}, until bar {self.threshold:g})"
        return f"{whom}: {self.reason} ({self.figure:,.6g}, threshold {self.threshold:,.6g})"

    def to_dict(self) -> dict[str, Any]:
        """The verdict as plain data, for a journal."""
        return asdict(self)


class LimitMonitor:
    """Limits of one account, one bar at a time: `close` once per closed bar, then `judge` per order, in their sequence.

    Bars are counted by the calls of `close`: a bar that was missed has to be closed belatedly. Fills change nothing
    here until the next `close` tells of them. Raises `ParameterError` for a blacklist that names unknown symbols.
    """

    def __init__(
        self, limits: Limits, symbols: Sequence[str], cash: float, *, timeframe: str = "1d", calendar: str = "24/7"
    ) -> None:
        self.limits, self.symbols, self.timeframe, self.calendar = limits, tuple(symbols), timeframe, calendar
        unknown = sorted(set(limits.blacklist) - set(self.symbols))
        if unknown and len(self.symbols) > 1:
            raise ParameterError(f"blacklist names {', '.join(unknown)}, the account trades {', '.join(self.symbols)}")
        if not self.symbols or not cash > 0:
            raise ParameterError(f"a monitor needs symbols and cash; got {self.symbols} and {cash}")
        self._rules = limits.thresholds
        self._account = judging.new_account(float(cash))
        self._table = judging.new_symbols(len(self.symbols))
        self._scenarios = np.zeros(2 * limits.past.scenarios)
        self._closed = np.empty((0, judging.CLOSED_COLUMNS))
        self._bar, self._worth = -1, float(cash)
        self._held, self._price, self._risk = np.zeros((3, len(self.symbols)))
        self._past, self._row = np.empty((0, judging.PAST_RETURN)), -1

    # The close of a bar

    def close(
        self,
        history: pd.DataFrame,
        equity: float,
        positions: Mapping[str, float] | None = None,
        trades: Iterable[ClosedTrade] = (),
        risks: Mapping[str, float] | None = None,
    ) -> tuple[Verdict, ...]:
        """Take the close of one more bar; returns what tripped on it.

        `history`: closes of the last bars, this one included, a column per symbol, by UTC open time; `bars_needed` of
        them are enough. `positions`: units held at the close, `trades`: those closed within the bar, in their sequence.
        `risks`: loss per unit down to the nearest stop; without one all of the price is at risk.
        """
        self._read(history, equity)
        self._held[:] = self._by_symbol(positions, "positions", 0.0)
        self._risk[:] = np.minimum(self._by_symbol(risks, "risks", math.inf), self._price)
        self._bar += 1
        self._count(trades)
        day = history.index[-1].value // _NANOSECONDS_PER_DAY if self.limits.needs_days else judging.NEVER
        tripped = close_bar(self._rules, self._account, self._bar, float(day), self._worth)
        verdicts = [self._tripped(flag) for flag in _TRIPS if tripped & flag]
        if protect(self._rules, self._account, self._table, self._closed, len(self._closed), self._bar):
            verdicts += self._protected()
        self._account[judging.EQUITY] = self._worth
        if any(verdict.close_all for verdict in verdicts):
            self._held[:] = 0.0
        self._plan()
        return tuple(verdicts)

    @property
    def bars_needed(self) -> int:
        """Bars of history that `close` has to be given, where the market leaves none out."""
        return self.limits.past.bars

    def _read(self, history: pd.DataFrame, equity: float) -> None:
        absent = [symbol for symbol in self.symbols if symbol not in history.columns]
        if absent or not len(history) or not math.isfinite(equity):
            raise DataError(f"a close needs bars of all symbols and an equity; absent: {absent}, equity {equity}")
        closes = history[list(self.symbols)].to_numpy(np.float64, copy=True)
        if not (closes[-1] > 0.0).all():
            worst = self.symbols[int(np.argmin(closes[-1] > 0.0))]
            raise DataError(f"the close of {worst} at {history.index[-1]} is not a positive price")
        self._worth, self._price[:] = float(equity), closes[-1]
        step = parse_timeframe(self.timeframe).nanoseconds
        times = pd.DatetimeIndex(history.index).as_unit("ns").asi8
        years = periods_per_year(self.calendar, self.timeframe)
        rows = past_risk(closes, times, step, years, self.limits.past)
        self._past, self._row = past_table(rows, None, len(closes)), len(closes) - 1

    def _by_symbol(self, given: Mapping[str, float] | None, what: str, default: float) -> np.ndarray:
        given = given or {}
        unknown = sorted(set(given) - set(self.symbols))
        if unknown:
            raise ParameterError(f"{what} names {', '.join(unknown)}, the account trades {', '.join(self.symbols)}")
        return np.array([float(given.get(symbol, default)) for symbol in self.symbols])

    def _count(self, trades: Iterable[ClosedTrade]) -> None:
        """Note the trades closed on this bar; what lies outside every window is forgotten."""
        account, rows = self._account, []
        for trade in trades:
            a = self._number(trade.symbol)
            account[judging.STREAK] = account[judging.STREAK] + 1.0 if trade.profit < 0.0 else 0.0
            self._table[a, judging.CLOSED_AT] = self._bar
            rows.append([a, self._bar, trade.profit, float(trade.stopped)])
        longest = max((protection.window for protection in self.limits.protections), default=0)
        kept = self._closed[self._closed[:, judging.CLOSED_BAR] > self._bar - longest]
        account[judging.JUDGED] = len(kept)
        new = np.array(rows, np.float64).reshape(-1, judging.CLOSED_COLUMNS)
        self._closed = np.vstack([kept, new]) if self.limits.protections else self._closed

    def _tripped(self, flag: int) -> Verdict:
        limit, reason, closes = _TRIPS[flag]
        return Verdict(False, "", limit, self._worth, math.nan, reason, closes)

    def _protected(self) -> list[Verdict]:
        account, table, found = self._account, self._table, []
        if account[judging.BARRED_SINCE] == self._bar:
            found.append(self._barred("", account[judging.BARRED_BY], account[judging.BARRED_UNTIL]))
        for a in np.flatnonzero(table[:, judging.SYMBOL_BARRED_SINCE] == self._bar):
            row = table[a]
            found.append(self._barred(self.symbols[a], row[judging.SYMBOL_BARRED_BY], row[judging.SYMBOL_BARRED_UNTIL]))
        return found

    def _barred(self, symbol: str, cause: float, until: float) -> Verdict:
        return Verdict(False, symbol, "protections", float(self._bar), float(until), judging.CAUSES[float(cause)])

    def _plan(self) -> None:
        """The book as it is, for the orders of this close to be judged against."""
        begin_plan(self._account, float(self._bar))
        for a, held in enumerate(self._held.tolist()):
            add_to_plan(self._account, self._table, a, held * self._price[a], abs(held) * self._risk[a])
        imagine(self._rules, self._table, len(self.symbols), self._scenarios, self._past, self._row)

    # Orders of that close

    def judge(self, symbol: str, quantity: float, *, risk: float | None = None) -> Verdict:
        """May this order be placed? `quantity`: signed units. An order that only reduces is always allowed.

        `risk`: loss per unit down to the stop that a new position will have; without one all of the price is at risk.
        An allowed order is part of the book that the next one is judged against: ask in the sequence of placing; the
        engine asks reducing orders first. Raises `ParameterError` for an unknown symbol, a quantity that is no number,
        or before the first close.
        """
        a = self._number(symbol)
        before = float(self._held[a])
        if self._bar < 0 or not math.isfinite(quantity):
            raise ParameterError(f"{symbol}: {quantity} units cannot be judged: give a number, after a close")
        after = before + quantity if abs(before + quantity) > _DUST * abs(quantity) else 0.0
        if after * before < 0.0 or abs(after) > abs(before):
            cause = self._ask(a, before, before + quantity, risk)
        else:
            cause = judging.ALLOWED
            self._replan(a, after * self._price[a], (abs(after) - abs(before)) * self._risk[a])
        if cause != judging.ALLOWED:
            figure, threshold = float(self._account[judging.FIGURE]), float(self._account[judging.THRESHOLD])
            named = cause != judging.BLACKLISTED
            figure, threshold = (figure, threshold) if named else (math.nan, math.nan)
            return Verdict(False, symbol, _LIMITS[cause], figure, threshold, judging.CAUSES[cause])
        self._held[a] = after
        return Verdict(True, symbol)

    def _ask(self, a: int, before: float, after: float, risk: float | None) -> float:
        if self.symbols[a] in self.limits.blacklist:
            return judging.BLACKLISTED
        price, stop = self._price[a], self._risk[a]
        new = price if risk is None else min(risk, price)
        enlarges = before * (after - before) > 0.0
        heat = abs(after) * (stop if enlarges else new) - abs(before) * stop
        past = self._past
        cause: float = admit(
            self._rules, self._account, self._table, self._scenarios, past,
            self._row, a, after * price, heat, self._worth, self._bar + 1,
        )  # fmt: skip
        return cause

    def _replan(self, a: int, value: float, heat_change: float) -> None:
        past = self._past
        replan(self._rules, self._account, self._table, self._scenarios, past, self._row, a, value, heat_change)

    def value_at_risk(self, values: Sequence[float] | None = None) -> float:
        """Value at risk of a book, in quote currency, as the limit measures it: of `values` per symbol, or as planned.

        NaN while the history is too short; `ParameterError` where no limit asks for it.
        """
        n = self.limits.past.scenarios
        if n == 0:
            raise ParameterError("these limits have no maximum_value_at_risk and no maximum_expected_shortfall")
        table, room = self._table.copy(), np.zeros(2 * n)
        if values is not None:
            table[:, judging.PLANNED] = values
        imagine(self._rules, table, len(table), room, self._past, self._row)
        tail = int(self._rules[judging.TAIL])
        return float(tail_loss(room, n, tail, self._past, self._row, 0, 0.0, False))

    # What survives a restart

    def state(self) -> dict[str, Any]:
        """All that is remembered, as plain data; `restore` goes on from it. Taken between two closes."""
        tables = {"account": self._account, "symbols": self._table, "closed": self._closed}
        return {"bar": self._bar, "names": list(self.symbols), **{name: _plain(t) for name, t in tables.items()}}

    def restore(self, state: Mapping[str, Any]) -> LimitMonitor:
        """Take over what `state` told, in a new monitor of the same symbols; returns itself. The next call is `close`.

        Raises `DataError` for a state of other symbols or another layout.
        """
        account, symbols = _numbers(state["account"]), _numbers(state["symbols"]).reshape(-1, judging.SYMBOL_COLUMNS)
        if list(state["names"]) != list(self.symbols) or account.shape != self._account.shape:
            raise DataError(f"the state belongs to {state['names']} of {len(account)} columns, not to {self.symbols}")
        self._account[:], self._table[:], self._bar = account, symbols, int(state["bar"])
        self._closed = _numbers(state["closed"]).reshape(-1, judging.CLOSED_COLUMNS)
        return self

    def resume(
        self,
        history: pd.DataFrame,
        equity: float,
        positions: Mapping[str, float] | None = None,
        risks: Mapping[str, float] | None = None,
        *,
        orders: int = 0,
    ) -> None:
        """After `restore`: stand at the close that was taken last, so that its orders can be judged; the rest as there.

        `orders`: those that add to a position and were placed at that close already. Nothing is counted or trips.
        """
        self._read(history, equity)
        self._held[:] = self._by_symbol(positions, "positions", 0.0)
        self._risk[:] = np.minimum(self._by_symbol(risks, "risks", math.inf), self._price)
        self._account[judging.DAY_ORDERS] += orders
        self._plan()

    def _number(self, symbol: str) -> int:
        if symbol not in self.symbols:
            raise ParameterError(f"{symbol} is unknown here: the account trades {', '.join(self.symbols)}")
        return self.symbols.index(symbol)


_TRIPS = {
    judging.TRIPPED_LOSS: ("daily_loss", judging.CAUSES[judging.DAY_HALT], True),
    judging.TRIPPED_PROFIT: ("daily_profit", judging.CAUSES[judging.DAY_LOCK], True),
    judging.TRIPPED_DRAWDOWN: ("maximum_drawdown", judging.CAUSES[judging.DRAWDOWN_HALT], True),
    judging.TRIPPED_STREAK: ("consecutive_losses", judging.CAUSES[judging.LOSS_HALT], False),
}
"""Limit, words, and whether everything has to be closed, by what a close tripped."""


def _plain(table: np.ndarray) -> list[Any]:
    """Numbers as JSON can hold them: infinities and NaN as text."""
    return [value if math.isfinite(value) else repr(value) for value in table.reshape(-1).tolist()]


def _numbers(values: Sequence[Any]) -> np.ndarray:
    return np.array([float(value) for value in values], np.float64)
