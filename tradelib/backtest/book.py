"""What the trading machine remembers: tables of numbers with named columns, for compiled and interpreted code alike.

Every table is a float64 array; a row is an order, a fill, an entry of the cash book or a symbol, a column is one of the
constants below. Whole numbers (bars, symbols, codes) are stored as floats, exact up to 2**53. NaN means "does not
apply". Prices and amounts are in quote currency, quantities in units of the asset (signed: a sale is negative).
"""

from __future__ import annotations

import math
import sys
from typing import NamedTuple

import numpy as np

from tradelib._memory import empty
from tradelib.risk import judging

__all__ = [
    "CAUSES",
    "ENTRY_KINDS",
    "ORDER_KINDS",
    "REASONS",
    "STATUSES",
    "UNITS",
    "Machine",
    "Tape",
    "empty_machine",
    "grown",
    "policy_rows",
    "rule_vector",
    "term_rows",
]

NONE = -1.0
"""No order, no symbol, no row."""
_BARS_PER_ROW = 64
"""A row of room at the start for so many bars: most long runs never have to move their tables."""
_LARGE_TABLE = 1 << 16
"""Rows from which on a full table is only doubled."""

# What an order is.
MARKET, LIMIT, STOP, STOP_LIMIT, TRAILING, LIQUIDATING = (float(code) for code in range(6))
ORDER_KINDS = ("market", "limit", "stop", "stop_limit", "trailing_stop", "liquidation")

# What became of it.
FILLED, REJECTED, WORKING, CANCELLED, EXPIRED = (float(code) for code in range(5))
STATUSES = ("filled", "rejected", "pending", "cancelled", "expired")

# Why it was placed.
(SIGNAL, EXPLICIT, STOP_LOSS, TAKE_PROFIT, TRAILING_STOP, BREAK_EVEN, TIME_EXIT, SCALING, LIQUIDATION, DAY_LIMIT,
 DRAWDOWN_LIMIT, GRID, DAY_PROFIT) = (float(code) for code in range(13))  # fmt: skip
REASONS = (
    "signal",
    "order",
    "stop_loss",
    "take_profit",
    "trailing_stop",
    "break_even",
    "time_exit",
    "scale_in",
    "liquidation",
    "daily_loss",
    "drawdown",
    "grid",
    "daily_profit",
)

# Why it was refused or withdrawn: by the engine; the causes of limits come from `judging`.
ALLOWED, NO_CASH, BELOW_MINIMUM, BELOW_LOT = judging.ALLOWED, 1.0, 2.0, 3.0
(NO_DISTANCE, NOTHING_TO_REDUCE, SIBLING_FILLED, POSITION_CLOSED, REPLACED, NO_NEXT_OPEN, NO_VOLUME, TIME_OVER,
 WRONG_SIDE) = (float(code) for code in range(12, 21))  # fmt: skip
ENDED_BY_VENUE = 34.0
"""Of an account that trades: see `tradelib.bundle.trading.mirror`."""
_CAUSES = judging.CAUSES | {
    ALLOWED: "",
    NO_CASH: "not enough equity for this exposure at the fill price",
    BELOW_MINIMUM: "below the market's minimum notional",
    BELOW_LOT: "less than one lot",
    NO_DISTANCE: "the protective distance is not known yet",
    NOTHING_TO_REDUCE: "there is no position to reduce",
    SIBLING_FILLED: "another order of its group was filled",
    POSITION_CLOSED: "its position was closed",
    REPLACED: "replaced: the average entry price changed",
    NO_NEXT_OPEN: "placed on the last bar: there is no next open",
    NO_VOLUME: "the bar has no volume to trade against",
    TIME_OVER: "its time was over",
    WRONG_SIDE: "a protective level lies on the wrong side of the entry price",
    ENDED_BY_VENUE: "the venue ended it",
}
CAUSES = tuple(_CAUSES[float(code)] for code in range(len(_CAUSES)))

# Distances of protective levels: of the entry price, in quote currency, in multiples of the ATR, or a price itself.
FRACTION, PRICE, ATR, LEVEL_ITSELF = (float(code) for code in range(4))
UNITS = ("fraction", "price", "atr", "level")

# The cash book: what moved cash without a trade (the first four), and what happened to the account.
(FUNDING, BORROWING, INTEREST, LIQUIDATION_FEE, MARGIN_CALL, DAY_STOP, DRAWDOWN_STOP, LOSS_STOP, PROFIT_STOP,
 PROTECTION) = (float(code) for code in range(10))  # fmt: skip
ENTRY_KINDS = (
    "funding",
    "borrow",
    "interest",
    "liquidation_fee",
    "margin_call",
    "daily_loss_halt",
    "drawdown_halt",
    "loss_halt",
    "daily_profit_halt",
    "protection",
)

# Columns of an order.
(ASSET, KIND, QUANTITY, LEVEL, UP, LIMIT_PRICE, TRAIL, TRAIL_UNIT, EXTREME, ACTIVATION, BREAK_AT, BREAK_TO, PLACED,
 EXPIRES, STATUS, CAUSE, REASON, GROUP, NEXT, REDUCES, ATTACHED, SPACING, POLICY, FILL_BAR, PAID_PRICE, ORDER_FEE,
 ORDER_SLIPPAGE, TAG, WEIGHT) = range(29)  # fmt: skip
ORDER_COLUMNS = 29

# Columns of a fill.
(FILL_AT, FILL_ROW, FILL_ASSET, FILL_ORDER, FILL_QUANTITY, FILL_PRICE, FILL_REFERENCE, FILL_FEE, FILL_SLIPPAGE,
 FILL_REASON, FILL_MAKER, FILL_CASH, FILL_POSITION, FILL_SEQUENCE) = range(14)  # fmt: skip
FILL_COLUMNS = 14

# Columns of an entry of the cash book.
ENTRY_BAR, ENTRY_ASSET, ENTRY_KIND, ENTRY_AMOUNT, ENTRY_CASH, ENTRY_SEQUENCE = range(6)
ENTRY_COLUMNS = 6

# Columns of a symbol after those of `judging`: its position, and the prices between which none of its orders acts.
(POSITION, AVERAGE, ENTERED, OPENED_AT, PROFIT, BLOCKED, FIRST, FLOOR, CEILING, HIGHEST, LOWEST, MOVING, TIMED,
 HELD_POLICY, LIQUIDATOR, INSIDE, NEXT_TURN, EXPECTED) = range(
    judging.SYMBOL_COLUMNS, judging.SYMBOL_COLUMNS + 18
)  # fmt: skip
ASSET_COLUMNS = judging.SYMBOL_COLUMNS + 18
"""`EXPECTED`: the position that is left when the market orders that wait for the next open have been filled."""

# The account, after the columns of `judging`.
CASH, TRADED, CALLED, IN_MARKET, LIMITED = range(judging.ACCOUNT_COLUMNS, judging.ACCOUNT_COLUMNS + 5)
ACCOUNT_COLUMNS = judging.ACCOUNT_COLUMNS + 5

# Counters; `WALKED`: finer bars of the next bar that are done already.
ORDERS, FILLS, ENTRIES, NEXT_BAR, QUEUED, LINKED, SCRIPTED, WALKED, CLOSED = range(9)
COUNTERS = 9

# Terms of trading a symbol.
(MAKER_RATE, TAKER_RATE, SLIPPAGE, HALF_SPREAD, IMPACT, LOTS, MINIMUM, BORROW_RATE) = range(8)  # fmt: skip
TERM_COLUMNS = 8

# Rules of the account, after the limits of risk, whose columns are those of `judging`.
(LEVERAGE, MAINTENANCE, LIQUIDATION_RATE, INTEREST_RATE, BAND, IN_UNITS, FIT_TO_CASH, TIER_BARS, EVENTS) = range(
    judging.LIMIT_COLUMNS, judging.LIMIT_COLUMNS + 9
)  # fmt: skip
RULE_COLUMNS = judging.LIMIT_COLUMNS + 9
"""`EVENTS`: a target is asked for anew by every bar that has one (events), not one and the same until it changes."""

LADDER = 8
"""Rungs of the longest take-profit ladder."""

# Columns of a policy: exits and scale-in of one symbol, or of one explicit order.
(STOP_AT, STOP_UNIT, TRAIL_BY, TRAIL_BY_UNIT, TRAIL_FROM, TRAIL_FROM_UNIT, EVEN_AT, EVEN_UNIT, EVEN_OFFSET, EXIT_AFTER,
 REENTERS, REFUSED, SCALE_ORDERS, SCALE_STEP, SCALE_UNIT, SCALE_FACTOR, SCALE_AGAINST, PROTECTS, RUNGS, TURN,
 RUNG) = range(21)  # fmt: skip
POLICY_COLUMNS = RUNG + 3 * LADDER
"""From `RUNG` on three columns per rung: distance, unit, share of the entered quantity.

`TURN` of row i: the symbol whose turn is i-th, so that the order of columns decides nothing.
"""


class Tape(NamedTuple):
    """Market data of a run, read-only. `open` ... `volume`: `(n, a)`; what is not used has the shape `(0, a)`.

    `atr`: distance per bar known at its close. `fine_*`: finer bars, those of bar t in the rows `fine_first[t]` to
    `fine_first[t + 1]`. `funding_open`, `funding_inside`: sum of the rates that fall due at the bar's open, and later
    inside of it. `past`: what limits look back on, with the columns of `judging`. `*_line`: prices of a single symbol
    `(n,)`, empty for several.
    """

    open: np.ndarray
    high: np.ndarray
    low: np.ndarray
    close: np.ndarray
    volume: np.ndarray
    atr: np.ndarray
    fine_open: np.ndarray
    fine_high: np.ndarray
    fine_low: np.ndarray
    fine_close: np.ndarray
    fine_first: np.ndarray
    funding_open: np.ndarray
    funding_inside: np.ndarray
    past: np.ndarray
    high_line: np.ndarray
    low_line: np.ndarray
    close_line: np.ndarray


class Machine(NamedTuple):
    """The whole state of an account and the rules that move it. A copy of its arrays is a checkpoint.

    `closed`: closed trades, for protections; `scenarios`: room to imagine the planned book in. Both are empty where the
    rules do not need them.
    """

    account: np.ndarray
    assets: np.ndarray
    orders: np.ndarray
    queue: np.ndarray
    fills: np.ndarray
    entries: np.ndarray
    counts: np.ndarray
    terms: np.ndarray
    rules: np.ndarray
    policies: np.ndarray
    tiers: np.ndarray
    traded: np.ndarray
    closed: np.ndarray
    scenarios: np.ndarray


def rule_vector(**values: float) -> np.ndarray:
    """Rules of an account that allows everything with its own money, with `values` by (lower-case) column name."""
    rules = np.concatenate([judging.limit_rows(), np.zeros(RULE_COLUMNS - judging.LIMIT_COLUMNS)])
    rules[LEVERAGE] = 1.0
    for name, value in values.items():
        known = judging if hasattr(judging, name.upper()) else sys.modules[__name__]
        rules[getattr(known, name.upper())] = value
    return rules


def term_rows(assets: int, **values: float | np.ndarray) -> np.ndarray:
    """Terms of trading, `(a, TERM_COLUMNS)`, free of charge but for `values` by (lower-case) column name."""
    terms = np.zeros((assets, TERM_COLUMNS))
    for name, value in values.items():
        terms[:, globals()[name.upper()]] = value
    return terms


def policy_rows(count: int) -> np.ndarray:
    """`count` policies that do nothing."""
    policies = np.full((count, POLICY_COLUMNS), math.nan)
    policies[:, [REENTERS, REFUSED, SCALE_ORDERS, PROTECTS, RUNGS]] = 0.0
    policies[:, EXIT_AFTER] = math.inf
    policies[:, TURN] = np.arange(count)
    return policies


def empty_machine(
    assets: int,
    bars: int,
    *,
    cash: float,
    first: int = 0,
    terms: np.ndarray,
    rules: np.ndarray,
    policies: np.ndarray | None = None,
    tiers: np.ndarray | None = None,
    capacity: int = 256,
) -> Machine:
    """An account with `cash` before bar `first`, without positions or orders; room for `capacity` rows and some more.

    The decision on the bar before `first` is its first one.
    """
    capacity += 128 * assets + bars // _BARS_PER_ROW
    account = np.zeros(ACCOUNT_COLUMNS)
    account[: judging.ACCOUNT_COLUMNS] = judging.new_account(cash)
    account[CASH] = cash
    table = np.zeros((assets, ASSET_COLUMNS))
    table[:, : judging.SYMBOL_COLUMNS] = judging.new_symbols(assets)
    table[:, [FIRST, LIQUIDATOR, INSIDE]] = NONE
    table[:, [FLOOR, LOWEST]] = -math.inf
    table[:, [CEILING, HIGHEST]] = math.inf
    table[:, HELD_POLICY] = np.arange(assets)
    counts = np.zeros(COUNTERS, np.int64)
    counts[NEXT_BAR] = max(first - 1, 0)
    tiers = np.zeros((0, 3)) if tiers is None else tiers
    return Machine(
        account,
        table,
        empty(capacity, ORDER_COLUMNS),
        np.empty(capacity, np.int64),
        empty(capacity, FILL_COLUMNS),
        empty(capacity, ENTRY_COLUMNS),
        counts,
        terms,
        rules,
        policy_rows(assets) if policies is None else policies,
        tiers,
        np.zeros(bars if len(tiers) else 0),
        np.empty((capacity if rules[judging.GUARDS] > 0.0 else 0, judging.CLOSED_COLUMNS)),
        np.zeros(2 * int(rules[judging.SCENARIOS])),
    )


def grown(machine: Machine) -> Machine:
    """The same state with more room in its tables: four times as much, twice where they are large already."""
    times = 4 if len(machine.orders) < _LARGE_TABLE else 2

    def more(table: np.ndarray) -> np.ndarray:
        shape = (times * len(table), *table.shape[1:])
        larger = empty(*shape) if table.dtype == np.float64 else np.empty(shape, table.dtype)
        larger[: len(table)] = table
        return larger

    names = ("orders", "queue", "fills", "entries", "closed")
    return machine._replace(**{name: more(getattr(machine, name)) for name in names})
