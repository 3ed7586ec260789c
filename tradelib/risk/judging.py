"""Limits of risk as pure functions on rows of numbers: the engine compiles them, the runner interprets the same source.

Three tables hold all they know: `limits`, the thresholds, `(LIMIT_COLUMNS,)`; `account`, what is remembered from bar
to bar, whose first `ACCOUNT_COLUMNS` columns are named here; `symbols`, one row each, whose first `SYMBOL_COLUMNS` are.
Wider tables are welcome: those of the engine begin with the same columns. Values are signed and in quote currency,
bars are numbers that count up by one, an infinite threshold is no limit. Nothing here reads a clock or a price that
was not known yet: `past` comes from `tradelib.risk.past_risk`, one row per close.
"""

from __future__ import annotations

import math

import numpy as np

from tradelib._jit import jit

__all__ = [
    "CAUSES",
    "add_to_plan",
    "admit",
    "barred",
    "begin_plan",
    "close_bar",
    "day_halt",
    "imagine",
    "judge",
    "leverage_cap",
    "limit_rows",
    "new_account",
    "new_symbols",
    "protect",
    "replan",
    "tail_loss",
]

NEVER = -1.0
"""A bar before all bars."""
SLACK = 1.0 + 1e-9
"""What arithmetic may add to a figure that lies on its threshold."""

GUARDS_MOST = 8
"""Protections that one account can have."""
GUARD_WIDTH = 6

# Thresholds. From `GUARD` on six columns per protection: measure, scope, window, trades, loss, pause.
(MAX_POSITIONS, MAX_EXPOSURE, MAX_HEAT, MAX_DAY_LOSS, MAX_DAY_PROFIT, MAX_DAY_ORDERS, MAX_DRAWDOWN, DRAWDOWN_BARS,
 MAX_LOSSES, LOSS_BARS, COOLDOWN, MAX_SHARE, MAX_NET, MAX_CLUSTER, MAX_VAR, MAX_SHORTFALL, SCENARIOS, TAIL,
 TARGET_VOLATILITY, LEVERAGE_BASE, LEVERAGE_FLOOR, LEVERAGE_CEILING, GUARDS, GUARD) = range(24)  # fmt: skip
LIMIT_COLUMNS = GUARD + GUARD_WIDTH * GUARDS_MOST
MEASURE, SCOPE, WINDOW, TRADES, LOSS, PAUSE = range(GUARD_WIDTH)

# What is remembered of the account. `PLANNED_*`: the book as it will be when the orders of this close have filled.
(PEAK, EQUITY, DAY, DAY_EQUITY, DAY_HALTED, DAY_ORDERS, STREAK, LOSS_UNTIL, DRAWDOWN_UNTIL, BARRED_UNTIL, BARRED_BY,
 BARRED_SINCE, JUDGED, PLANNED_AT, PLANNED_COUNT, PLANNED_EXPOSURE, PLANNED_HEAT, PLANNED_NET, FIGURE,
 THRESHOLD) = range(20)  # fmt: skip
ACCOUNT_COLUMNS = 20
"""`FIGURE`, `THRESHOLD`: of the last judgement, for whoever wants to tell why. `JUDGED`: closed trades looked at."""

# What is remembered of a symbol. `PLANNED`: its signed value in the planned book.
CLOSED_AT, SYMBOL_BARRED_UNTIL, SYMBOL_BARRED_BY, SYMBOL_BARRED_SINCE, PLANNED = range(5)
SYMBOL_COLUMNS = 5

# A closed trade: symbol, bar of the fill that closed it, net profit over the value entered, 1.0 if a stop closed it.
CLOSED_SYMBOL, CLOSED_BAR, CLOSED_RETURN, CLOSED_BY_STOP = range(4)
CLOSED_COLUMNS = 4

# What is known of the past at a close: number of the UTC day, volatility, then a return and a cluster per symbol.
PAST_DAY, PAST_VOLATILITY, PAST_RETURN = range(3)
"""From `PAST_RETURN` on the returns of all symbols, then their clusters."""

# What a protection measures, and of whom.
LOSING_TRADES, STOPPED_TRADES, TOTAL_LOSS, TRADE_DRAWDOWN = (float(code) for code in range(4))
MEASURES = ("losing_trades", "stopped_trades", "total_loss", "drawdown")
OF_SYMBOL, OF_ACCOUNT = 0.0, 1.0
SCOPES = ("symbol", "account")

# What a close may trip; the numbers add up.
TRIPPED_LOSS, TRIPPED_DRAWDOWN, TRIPPED_STREAK, TRIPPED_PROFIT = 1, 2, 4, 8

# Why an order is forbidden.
ALLOWED = 0.0
(TOO_MANY_POSITIONS, TOO_MUCH_EXPOSURE, TOO_MUCH_HEAT, DAY_HALT, DRAWDOWN_HALT, LOSS_HALT, COOLING_DOWN,
 BLACKLISTED) = (float(code) for code in range(4, 12))  # fmt: skip
(DAY_LOCK, TOO_MANY_ORDERS, TOO_VOLATILE, TOO_MUCH_NET, TOO_CONCENTRATED, TOO_CORRELATED, TOO_MUCH_VAR,
 TOO_MUCH_SHORTFALL, NOT_MEASURED, BARRED_LOSING, BARRED_STOPPED, BARRED_TOTAL,
 BARRED_DRAWDOWN) = (float(code) for code in range(21, 34))  # fmt: skip
CAUSES = {
    TOO_MANY_POSITIONS: "limit: too many open positions",
    TOO_MUCH_EXPOSURE: "limit: too much gross exposure",
    TOO_MUCH_HEAT: "limit: too much portfolio heat",
    DAY_HALT: "limit: halted for the day after the daily loss",
    DRAWDOWN_HALT: "limit: halted after the drawdown",
    LOSS_HALT: "limit: halted after consecutive losses",
    COOLING_DOWN: "limit: the symbol is cooling down",
    BLACKLISTED: "limit: the symbol is blacklisted",
    DAY_LOCK: "limit: halted for the day after the daily profit",
    TOO_MANY_ORDERS: "limit: too many orders on one day",
    TOO_VOLATILE: "limit: more exposure than the volatility allows",
    TOO_MUCH_NET: "limit: too much net exposure",
    TOO_CONCENTRATED: "limit: too much of one symbol",
    TOO_CORRELATED: "limit: too much of one cluster of correlated symbols",
    TOO_MUCH_VAR: "limit: too much value at risk",
    TOO_MUCH_SHORTFALL: "limit: too much expected shortfall",
    NOT_MEASURED: "limit: too few bars so far to measure it",
    BARRED_LOSING: "limit: barred after losing trades",
    BARRED_STOPPED: "limit: barred after stopped trades",
    BARRED_TOTAL: "limit: barred after the loss of its trades",
    BARRED_DRAWDOWN: "limit: barred after the drawdown of its trades",
}
"""Causes in words. Their numbers are those of `tradelib.backtest.book.CAUSES`, which has the engine's own as well."""


def limit_rows() -> np.ndarray:
    """Thresholds that allow everything, `(LIMIT_COLUMNS,)`."""
    limits = np.zeros(LIMIT_COLUMNS)
    limits[MAX_POSITIONS : LOSS_BARS + 1] = math.inf
    limits[LOSS_BARS] = 0.0
    limits[MAX_SHARE : MAX_SHORTFALL + 1] = math.inf
    limits[[TARGET_VOLATILITY, LEVERAGE_CEILING]] = math.inf
    return limits


def new_account(cash: float) -> np.ndarray:
    """An account with `cash` that nothing has happened to, `(ACCOUNT_COLUMNS,)`."""
    account = np.zeros(ACCOUNT_COLUMNS)
    account[[PEAK, EQUITY, DAY_EQUITY]] = cash
    account[[DAY, LOSS_UNTIL, DRAWDOWN_UNTIL, BARRED_UNTIL, BARRED_SINCE, PLANNED_AT]] = NEVER
    return account


def new_symbols(count: int) -> np.ndarray:
    """`count` symbols that were never traded, `(count, SYMBOL_COLUMNS)`."""
    symbols = np.zeros((count, SYMBOL_COLUMNS))
    symbols[:, CLOSED_AT] = -math.inf
    symbols[:, [SYMBOL_BARRED_UNTIL, SYMBOL_BARRED_SINCE]] = NEVER
    return symbols


# What the close of a bar changes ------------------------------------------------------------------------------------


@jit(_nrt=False)
def close_bar(limits: np.ndarray, account: np.ndarray, t: int, day: float, worth: float) -> int:
    """Look at equity `worth` at the close of bar `t`: what trips is remembered and returned, numbers that add up.

    `day`: number of the UTC day, negative where days are not told apart. A day begins with the equity of the close
    before it. Daily loss, daily profit and drawdown ask the caller to close everything.
    """
    tripped = 0
    account[PEAK] = max(account[PEAK], worth)
    if day >= 0.0 and account[DAY] != day:
        account[DAY], account[DAY_EQUITY] = day, account[EQUITY]
        account[DAY_HALTED] = account[DAY_ORDERS] = 0.0
    begun = account[DAY_EQUITY]
    if account[DAY_HALTED] == 0.0 and worth <= begun * (1.0 - limits[MAX_DAY_LOSS]):
        account[DAY_HALTED] = 1.0
        tripped += TRIPPED_LOSS
    elif account[DAY_HALTED] == 0.0 and worth >= begun + abs(begun) * limits[MAX_DAY_PROFIT]:
        account[DAY_HALTED] = 2.0
        tripped += TRIPPED_PROFIT
    if t >= account[DRAWDOWN_UNTIL] and worth <= account[PEAK] * (1.0 - limits[MAX_DRAWDOWN]):
        account[DRAWDOWN_UNTIL] = t + limits[DRAWDOWN_BARS]
        account[PEAK] = worth
        tripped += TRIPPED_DRAWDOWN
    if account[STREAK] >= limits[MAX_LOSSES]:
        account[LOSS_UNTIL] = t + limits[LOSS_BARS]
        account[STREAK] = 0.0
        tripped += TRIPPED_STREAK
    return tripped


@jit(_nrt=False)
def protect(
    limits: np.ndarray, account: np.ndarray, symbols: np.ndarray, closed: np.ndarray, count: int, t: int
) -> bool:
    """Look at the `count` trades in `closed` at the close of bar `t`, if some are new; True where they bar entries.

    Whom it bars has `t` in `BARRED_SINCE`, and until when and by what beside it. Of two protections that bar the same
    the longer one counts.
    """
    first, found = int(account[JUDGED]), False
    account[JUDGED] = float(count)
    for g in range(int(limits[GUARDS]) if count > first else 0):
        column = GUARD + GUARD_WIDTH * g
        until, cause = t + limits[column + PAUSE], BARRED_LOSING + limits[column + MEASURE]
        if limits[column + SCOPE] == OF_ACCOUNT:
            if until > account[BARRED_UNTIL] and _is_beyond(limits, column, closed, count, t, -1):
                account[BARRED_UNTIL], account[BARRED_BY], account[BARRED_SINCE] = until, cause, float(t)
                found = True
            continue
        for i in range(first, count):
            a = int(closed[i, CLOSED_SYMBOL])
            if until > symbols[a, SYMBOL_BARRED_UNTIL] and _is_beyond(limits, column, closed, count, t, a):
                symbols[a, SYMBOL_BARRED_UNTIL], symbols[a, SYMBOL_BARRED_BY] = until, cause
                symbols[a, SYMBOL_BARRED_SINCE] = float(t)
                found = True
    return found


@jit(_nrt=False)
def _is_beyond(limits: np.ndarray, column: int, closed: np.ndarray, count: int, t: int, a: int) -> bool:
    """True when the trades of symbol `a` (-1: all) within the protection's window are as bad as it names.

    Read backwards, so that only the window is looked at. The drawdown is the deepest fall of the running sum of
    returns, the first trade's own loss included: going back, the worst sum from here on is `min(0, return + worst)`.
    """
    measure, loss = limits[column + MEASURE], limits[column + LOSS]
    trades, total, worst, deepest, i = 0, 0.0, 0.0, 0.0, count - 1
    while i >= 0 and closed[i, CLOSED_BAR] > t - limits[column + WINDOW]:
        mine = a < 0 or closed[i, CLOSED_SYMBOL] == a
        counted = measure >= TOTAL_LOSS or closed[i, CLOSED_RETURN] < -loss
        if mine and counted and (measure != STOPPED_TRADES or closed[i, CLOSED_BY_STOP] == 1.0):
            trades += 1
            total += closed[i, CLOSED_RETURN]
            worst = min(0.0, worst + closed[i, CLOSED_RETURN])
            deepest = max(deepest, -worst)
        i -= 1
    if trades < limits[column + TRADES]:
        return False
    if measure == TOTAL_LOSS:
        return total < -loss
    return measure != TRADE_DRAWDOWN or deepest > loss


# What forbids an entry, whatever its size ---------------------------------------------------------------------------


@jit(_nrt=False)
def barred(limits: np.ndarray, account: np.ndarray, symbols: np.ndarray, a: int, bar: int) -> float:
    """The halt that forbids an entry into symbol `a` that would fill on `bar`, or ALLOWED; of the day `day_halt` knows.

    `FIGURE` becomes the bar, `THRESHOLD` the last bar that is barred.
    """
    cause, until = ALLOWED, NEVER
    if bar <= account[DRAWDOWN_UNTIL]:
        cause, until = DRAWDOWN_HALT, account[DRAWDOWN_UNTIL]
    elif bar <= account[LOSS_UNTIL]:
        cause, until = LOSS_HALT, account[LOSS_UNTIL]
    elif limits[COOLDOWN] > 0.0 and bar - symbols[a, CLOSED_AT] <= limits[COOLDOWN]:
        cause, until = COOLING_DOWN, symbols[a, CLOSED_AT] + limits[COOLDOWN]
    elif bar <= account[BARRED_UNTIL]:
        cause, until = account[BARRED_BY], account[BARRED_UNTIL]
    elif bar <= symbols[a, SYMBOL_BARRED_UNTIL]:
        cause, until = symbols[a, SYMBOL_BARRED_BY], symbols[a, SYMBOL_BARRED_UNTIL]
    if cause != ALLOWED:
        account[FIGURE], account[THRESHOLD] = float(bar), until
    return cause


@jit(_nrt=False)
def day_halt(account: np.ndarray) -> float:
    """The halt of the day, or ALLOWED."""
    if account[DAY_HALTED] == 0.0:
        return ALLOWED
    account[FIGURE], account[THRESHOLD] = account[EQUITY], account[DAY_EQUITY]
    return DAY_HALT if account[DAY_HALTED] == 1.0 else DAY_LOCK


# The planned book ---------------------------------------------------------------------------------------------------


@jit(_nrt=False)
def begin_plan(account: np.ndarray, t: float) -> None:
    """Start an empty planned book; `t` says for which close, so that it is made once."""
    account[PLANNED_AT] = t
    account[PLANNED_COUNT] = account[PLANNED_EXPOSURE] = account[PLANNED_HEAT] = account[PLANNED_NET] = 0.0


@jit(_nrt=False)
def add_to_plan(account: np.ndarray, symbols: np.ndarray, a: int, value: float, heat: float) -> None:
    """Put symbol `a` with its signed `value` into a new plan; `heat`: loss if its stop is hit. Every symbol once."""
    symbols[a, PLANNED] = value
    account[PLANNED_COUNT] += 1.0 if value != 0.0 else 0.0
    account[PLANNED_EXPOSURE] += abs(value)
    account[PLANNED_HEAT] += heat
    account[PLANNED_NET] += value


@jit(_nrt=False)
def imagine(
    limits: np.ndarray, symbols: np.ndarray, count: int, scenarios: np.ndarray, past: np.ndarray, row: int
) -> None:
    """Profit of the planned book of `count` symbols in each of the last `SCENARIOS` bars up to `row`, into `scenarios`.

    NaN where the past is too short. A symbol that is not held may lack returns.
    """
    n = int(limits[SCENARIOS])
    for j in range(n):
        scenarios[j] = 0.0 if row >= n else math.nan
    for a in range(count if row >= n else 0):
        value = symbols[a, PLANNED]
        for j in range(n if value != 0.0 else 0):
            scenarios[j] += value * past[row - n + 1 + j, PAST_RETURN + a]


@jit(_nrt=False)
def replan(
    limits: np.ndarray,
    account: np.ndarray,
    symbols: np.ndarray,
    scenarios: np.ndarray,
    past: np.ndarray,
    row: int,
    a: int,
    value: float,
    heat_change: float,
) -> None:
    """Give symbol `a` another `value` in the plan: an order was allowed, or a position will be reduced."""
    before, n = symbols[a, PLANNED], int(limits[SCENARIOS])
    account[PLANNED_COUNT] += (1.0 if value != 0.0 else 0.0) - (1.0 if before != 0.0 else 0.0)
    account[PLANNED_EXPOSURE] += abs(value) - abs(before)
    account[PLANNED_HEAT] += heat_change
    account[PLANNED_NET] += value - before
    symbols[a, PLANNED] = value
    for j in range(n if row >= n else 0):
        scenarios[j] += (value - before) * past[row - n + 1 + j, PAST_RETURN + a]


# What forbids an entry of this size ---------------------------------------------------------------------------------


@jit(_nrt=False)
def tail_loss(
    scenarios: np.ndarray, n: int, tail: int, past: np.ndarray, row: int, a: int, change: float, mean: bool
) -> float:
    """The loss that is exceeded in `tail` - 1 of `n` scenarios when symbol `a` gets `change` more, or the `mean` of the
    `tail` worst. Positive is a loss; NaN where one scenario is unknown.

    Historical simulation with the order-statistic quantile: `tail` = ceil(n alpha). The worst are kept sorted behind
    the scenarios themselves, in `scenarios[n : n + tail]`.
    """
    for j in range(n):
        profit = scenarios[j]
        if change != 0.0:
            profit += change * past[row - n + 1 + j, PAST_RETURN + a] if row >= n else math.nan
        if profit != profit:
            return math.nan
        place = min(j, tail)
        while place > 0 and scenarios[n + place - 1] > profit:
            if place < tail:
                scenarios[n + place] = scenarios[n + place - 1]
            place -= 1
        if place < tail:
            scenarios[n + place] = profit
    if not mean:
        return -scenarios[n + tail - 1]
    total = 0.0
    for j in range(tail):
        total += scenarios[n + j]
    return -total / tail


@jit(_nrt=False)
def leverage_cap(limits: np.ndarray, volatility: float) -> float:
    """Gross exposure that the annual `volatility` allows, multiple of equity: base x target / realised, bounded."""
    if volatility == 0.0:
        return limits[LEVERAGE_CEILING]
    cap = limits[LEVERAGE_BASE] * limits[TARGET_VOLATILITY] / volatility
    return min(max(cap, limits[LEVERAGE_FLOOR]), limits[LEVERAGE_CEILING])


@jit(_nrt=False)
def _side_of_cluster(symbols: np.ndarray, past: np.ndarray, row: int, a: int, value: float) -> float:
    """Value of the cluster of `a` on the side of `value`, with `value` for `a` itself."""
    total, first = abs(value), PAST_RETURN + symbols.shape[0]
    for i in range(symbols.shape[0]):
        if i != a and past[row, first + i] == past[row, first + a] and symbols[i, PLANNED] * value > 0.0:
            total += abs(symbols[i, PLANNED])
    return total


@jit(_nrt=False)
def _exceeds(account: np.ndarray, figure: float, threshold: float) -> bool:
    """True when `figure` lies beyond `threshold`; both are remembered."""
    account[FIGURE], account[THRESHOLD] = figure, threshold
    return figure > threshold + abs(threshold) * (SLACK - 1.0)


@jit(_nrt=False)
def _judge_tail(
    limits: np.ndarray,
    account: np.ndarray,
    scenarios: np.ndarray,
    past: np.ndarray,
    row: int,
    a: int,
    change: float,
    worth: float,
) -> float:
    """Value at risk and expected shortfall with `change` more of symbol `a`. What lowers a figure is not forbidden."""
    n, tail = int(limits[SCENARIOS]), int(limits[TAIL])
    for mean in range(2):
        threshold = limits[MAX_SHORTFALL] if mean == 1 else limits[MAX_VAR]
        if threshold == math.inf:
            continue
        figure = tail_loss(scenarios, n, tail, past, row, a, change, mean == 1)
        if figure != figure:
            account[FIGURE], account[THRESHOLD] = float(max(row, 0)), float(n)
            return NOT_MEASURED
        beyond = _exceeds(account, figure, threshold * worth)
        if beyond and figure > tail_loss(scenarios, n, tail, past, row, a, 0.0, mean == 1):
            return TOO_MUCH_SHORTFALL if mean == 1 else TOO_MUCH_VAR
    return ALLOWED


@jit(_nrt=False)
def _judge_past(
    limits: np.ndarray,
    account: np.ndarray,
    symbols: np.ndarray,
    past: np.ndarray,
    row: int,
    a: int,
    value: float,
    exposure: float,
    worth: float,
) -> float:
    """Volatility and correlation of the past against the exposure that is planned. What is not known yet forbids."""
    if limits[TARGET_VOLATILITY] != math.inf:
        account[FIGURE], account[THRESHOLD] = float(max(row, 0)), math.nan
        if row < 0 or past[row, PAST_VOLATILITY] != past[row, PAST_VOLATILITY]:
            return NOT_MEASURED
        if _exceeds(account, exposure, leverage_cap(limits, past[row, PAST_VOLATILITY]) * worth):
            return TOO_VOLATILE
    if limits[MAX_CLUSTER] != math.inf:
        mine = PAST_RETURN + symbols.shape[0] + a
        account[FIGURE], account[THRESHOLD] = float(max(row, 0)), math.nan
        if row < 0 or past[row, mine] != past[row, mine]:
            return NOT_MEASURED
        if _exceeds(account, _side_of_cluster(symbols, past, row, a, value), limits[MAX_CLUSTER] * worth):
            return TOO_CORRELATED
    return ALLOWED


@jit(_nrt=False)
def judge(
    limits: np.ndarray,
    account: np.ndarray,
    symbols: np.ndarray,
    scenarios: np.ndarray,
    past: np.ndarray,
    row: int,
    a: int,
    value: float,
    heat_change: float,
    worth: float,
) -> float:
    """The limit that forbids symbol `a` the signed `value` in the planned book of an account of `worth`, or ALLOWED.

    Asked only of orders that open, enlarge or flip a position. `heat_change`: what the loss at the stops gains by it.
    `row`: last row of the past that is known. The plan stays as it is: `replan` when the order is placed. With what it
    does not enlarge, an order is not refused: one that lowers the net exposure or the value at risk may pass.
    """
    before, net = symbols[a, PLANNED], account[PLANNED_NET]
    count = account[PLANNED_COUNT] + (1.0 if before == 0.0 else 0.0)
    exposure, after = account[PLANNED_EXPOSURE] + (abs(value) - abs(before)), net + (value - before)
    if _exceeds(account, count, limits[MAX_POSITIONS]):
        return TOO_MANY_POSITIONS
    if limits[MAX_EXPOSURE] != math.inf and _exceeds(account, exposure, limits[MAX_EXPOSURE] * worth):
        return TOO_MUCH_EXPOSURE
    heat = account[PLANNED_HEAT] + heat_change
    if limits[MAX_HEAT] != math.inf and _exceeds(account, heat, limits[MAX_HEAT] * worth):
        return TOO_MUCH_HEAT
    if limits[MAX_NET] != math.inf and _exceeds(account, abs(after), limits[MAX_NET] * worth) and abs(after) > abs(net):
        return TOO_MUCH_NET
    if limits[MAX_SHARE] != math.inf and _exceeds(account, abs(value), limits[MAX_SHARE] * worth):
        return TOO_CONCENTRATED
    cause = _judge_past(limits, account, symbols, past, row, a, value, exposure, worth)
    if cause == ALLOWED and limits[SCENARIOS] > 0.0:
        cause = _judge_tail(limits, account, scenarios, past, row, a, value - before, worth)
    return cause


@jit(_nrt=False)
def admit(
    limits: np.ndarray,
    account: np.ndarray,
    symbols: np.ndarray,
    scenarios: np.ndarray,
    past: np.ndarray,
    row: int,
    a: int,
    value: float,
    heat_change: float,
    worth: float,
    bar: int,
) -> float:
    """Judge an order decided at a close by all limits, halts first; allowed, it enters the plan.

    Arguments as `judge`. The order would fill on `bar`, the next one, and counts to the day of the close.
    """
    cause = day_halt(account)
    if cause == ALLOWED:
        cause = barred(limits, account, symbols, a, bar)
    if cause == ALLOWED and _exceeds(account, account[DAY_ORDERS] + 1.0, limits[MAX_DAY_ORDERS]):
        cause = TOO_MANY_ORDERS
    if cause == ALLOWED:
        cause = judge(limits, account, symbols, scenarios, past, row, a, value, heat_change, worth)
    if cause == ALLOWED:
        account[DAY_ORDERS] += 1.0
        replan(limits, account, symbols, scenarios, past, row, a, value, heat_change)
    return cause
