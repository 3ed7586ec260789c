"""Performance figures, computed once for everybody: a return series, an equity curve, each point of a sweep, a matrix.

Conventions as in `tradelib.backtest.metrics`, which is the public face of these kernels: simple returns per period,
ddof 1, annualised by the root of periods per year, downside over all n, wealth that starts at 1 before the first return
and stays where it is once everything is lost; nan where a figure is not defined.

One order of arithmetic holds for every layout, so that a figure has the same bits however it was reached. Sums run over
distances from the first return, in 64 lanes that are folded in a fixed order: the compiler turns a loop over lanes into
vector instructions without being allowed to reorder anything. Return t > 0 belongs to lane (t - 1) % 64. Returns are
multiplied in the order of time, as `numpy.cumprod` does; an equity curve is wealth already, so its growth and drawdowns
are read off it, and agree with those of its returns to rounding. Everything is read once.

Sums of distances from the first return lose little: n values with that one among them have a variance of at least its
squared distance from their mean over n, so the relative rounding error stays below a few n x 2.2e-16 even where the
first return is the one outlier of the series, and is some 1e-15 elsewhere (shifted data: Chan, Golub and LeVeque,
"Algorithms for computing the sample variance", The American Statistician 37 (1983)). A constant series adds up to
exactly 0.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from tradelib._jit import compiling, jit
from tradelib._memory import shared
from tradelib.backtest.selection import maximum, minimum, partition, select

__all__ = [
    "CORE",
    "CORE_ONLY",
    "PERFORMANCE",
    "SUMMARY",
    "equity_figures",
    "equity_returns",
    "matrix_figures",
    "performance",
    "return_figures",
    "workspace",
]

PERFORMANCE = (
    "total_return",
    "annual_return",
    "annual_volatility",
    "sharpe_ratio",
    "sortino_ratio",
    "calmar_ratio",
    "sharpe_ratio_per_period",
    "maximum_drawdown",
    "ulcer_index",
    "omega_ratio",
    "tail_ratio",
    "win_rate",
    "skewness",
    "kurtosis",
)
"""Columns that `performance` writes."""

(TOTAL, GROWTH, VOLATILITY, SHARPE, SORTINO, CALMAR, SHARPE_PER_PERIOD, DRAWDOWN,
 ULCER, OMEGA, TAIL, WINS, SKEWNESS, KURTOSIS) = range(len(PERFORMANCE))  # fmt: skip

CORE = PERFORMANCE[:ULCER]
"""What three sums, the last wealth and the deepest drawdown are enough for."""

SUMMARY = ("observations", "periods_per_year", *PERFORMANCE)
"""Every figure of a series, in the order in which it is shown: the first two say what the others stand on."""

CORE_ONLY = 0
WITHOUT_TAILS = 1
EVERYTHING = 2
"""How much `performance` computes: the figures of `CORE`, all but the tail ratio, all."""

LANES = 64
(_RETURN, _WEALTH, _PEAK, _LOWEST, _DISTANCE, _POWERS, _OUTCOMES, _DEPTHS, _LOW,
 _LANE_ROWS) = 0, 1, 2, 3, 4, 7, 9, 13, 14, 15  # fmt: skip
"""Rows of a workspace: the block at hand, then what is kept per lane; three sums begin at `_DISTANCE`, two at
`_POWERS`, four at `_OUTCOMES`."""

WIDTH = 250
"""Columns of a matrix that one state holds: its 196 rows, 390 kB, stay in the second-level cache of a core."""
_COLUMN_SUMS, _SUMS = 4, 3

_LARGEST_LOG = 709.0
"""The logarithm of the largest float, rounded down: beyond it a power is infinite, and raises when interpreted."""
_TAIL = 0.05
_SAMPLE = 8192

_kernel = jit(nogil=True, _nrt=False, error_model="numpy")
_inlined = jit(nogil=True, _nrt=False, error_model="numpy", inline="always")


@_kernel
def equity_returns(equity: np.ndarray, initial_cash: float, out: np.ndarray) -> None:
    """Simple returns `(n,)` of an equity curve `(n,)` into `out`, the first one on `initial_cash`.

    On an account without anything left there is no return: 0.0 after an equity of exactly zero.
    """
    out[0] = equity[0] / initial_cash - 1.0
    for t in range(equity.shape[0] - 1):
        before = equity[t]
        out[t + 1] = equity[t + 1] / before - 1.0 if before != 0.0 else 0.0


# -- sums: the same lines for lanes of time and for columns of a matrix ------------------------------------------------


@_inlined
def _add_core(state: np.ndarray, at: int, stride: int, value: float, first: float, threshold: float) -> None:
    """One return into three sums, `stride` apart: distance from `first`, its square, squared loss under `threshold`."""
    distance = value - first
    excess = value - threshold
    loss = excess if excess < 0.0 else 0.0
    state[at] += distance
    state[at + stride] += distance * distance
    state[at + 2 * stride] += loss * loss


@_inlined
def _add_powers(state: np.ndarray, at: int, stride: int, value: float, first: float) -> None:
    """One return into two sums: third and fourth powers of its distance from `first`."""
    distance = value - first
    square = distance * distance
    state[at] += square * distance
    state[at + stride] += square * square


@_inlined
def _add_outcome(state: np.ndarray, at: int, stride: int, value: float, threshold: float) -> None:
    """One return into four sums: gain and loss beyond the threshold, number of gains and of losses."""
    excess = value - threshold
    state[at] += excess if excess > 0.0 else 0.0
    state[at + stride] -= excess if excess < 0.0 else 0.0
    state[at + 2 * stride] += 1.0 if excess > 0.0 else 0.0
    state[at + 3 * stride] += 1.0 if excess < 0.0 else 0.0


@_inlined
def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator != 0.0 else math.nan


@_inlined
def _growth(wealth: float, exponent: float) -> float:
    """Compound growth `wealth ** exponent - 1`: -1.0 when everything was lost, infinite beyond the largest float."""
    if not wealth > 0.0:
        return -1.0
    return wealth**exponent - 1.0 if math.log(wealth) * exponent < _LARGEST_LOG else math.inf


@_kernel
def _write_core(
    out: np.ndarray,
    row: int,
    n: int,
    periods: float,
    risk_free: float,
    threshold: float,
    first: float,
    distance: float,
    squares: float,
    below: float,
    wealth: float,
    drawdown: float,
) -> float:
    """The figures of `CORE` from the sums of `_add_core`, last wealth and deepest drawdown; returns the mean."""
    mean = first + distance / n
    around_mean = max(squares - distance * distance / n, 0.0)
    deviation = math.sqrt(around_mean / (n - 1)) if n > 1 else math.nan
    sharpe, root = _ratio(mean - risk_free, deviation), math.sqrt(periods)
    growth = _growth(wealth, periods / n)
    out[row, TOTAL] = wealth - 1.0
    out[row, GROWTH] = growth
    out[row, VOLATILITY] = deviation * root
    out[row, SHARPE] = sharpe * root
    out[row, SORTINO] = _ratio(mean - threshold, math.sqrt(below / n)) * root
    out[row, CALMAR] = _ratio(growth, -drawdown)
    out[row, SHARPE_PER_PERIOD] = sharpe
    out[row, DRAWDOWN] = drawdown
    return mean


# -- one series after the other ----------------------------------------------------------------------------------------


@_inlined
def _return_at(values: np.ndarray, at: int, t: int, initial_cash: float) -> float:
    """Return `t` of the series that begins at `at`; see `performance` for `initial_cash`."""
    if not initial_cash > 0.0:
        return values[at + t] + 0.0
    before = initial_cash if t == 0 else values[at + t - 1]
    return values[at + t] / before - 1.0 if before != 0.0 else 0.0


@_inlined
def _is_flat(values: np.ndarray, start: int, count: int) -> bool:
    """Do the `count` equities after the one at `start` equal it, as those of an account without a position do?"""
    same = 0
    for j in range(count):
        same += 1 if values[start + j + 1] == values[start] else 0
    return same == count


@_inlined
def _load(values: np.ndarray, start: int, count: int, initial_cash: float, flat: bool, lanes: np.ndarray) -> None:
    """The `count` returns that follow the one at `start` to the first row of `lanes`; `flat` ones are not divided.

    Adding 0.0 keeps the compiler from calling a library to copy each short block, which takes longer than copying.
    """
    if flat:
        for j in range(count):
            lanes[j] = 0.0
    elif initial_cash > 0.0:
        for j in range(count):
            before = values[start + j]
            lanes[j] = values[start + j + 1] / before - 1.0 if before != 0.0 else 0.0
    else:
        for j in range(count):
            lanes[j] = values[start + j + 1] + 0.0


@_inlined
def _takes_everything(lanes: np.ndarray, count: int) -> bool:
    """Is there a return of -1 or less in the block?"""
    ruins = 0
    for j in range(count):
        ruins += 1 if lanes[j] <= -1.0 else 0
    return ruins > 0


@_inlined
def _walk(
    lanes: np.ndarray, count: int, middle: float, reach: float, kept: np.ndarray, found: int, wealth: float, peak: float
) -> tuple[int, float, float]:
    """Multiply a block out in the order of time, note wealth and peak after each return; returns the last ones.

    To ask after each return whether something is left would double the time of the chain: most blocks need no asking.
    While a processor waits for one product after the other, it also appends the returns at least `reach` from `middle`
    to `kept`; `found` is how many there are. Nothing is as far as nan.
    """
    if wealth > 0.0 and not _takes_everything(lanes, count):
        for j in range(count):
            wealth = wealth * (1.0 + lanes[j])
            peak = wealth if wealth > peak else peak
            lanes[_WEALTH * LANES + j] = wealth
            lanes[_PEAK * LANES + j] = peak
            kept[found] = lanes[j]
            found += 1 if abs(lanes[j] - middle) >= reach else 0
    else:
        for j in range(count):
            wealth = wealth * (1.0 + lanes[j]) if wealth > 0.0 else wealth
            peak = wealth if wealth > peak else peak
            lanes[_WEALTH * LANES + j] = wealth
            lanes[_PEAK * LANES + j] = peak
            kept[found] = lanes[j]
            found += 1 if abs(lanes[j] - middle) >= reach else 0
    return found, wealth, peak


@_inlined
def _mark(values: np.ndarray, start: int, count: int, peak: float, detail: int, lanes: np.ndarray) -> float:
    """Drawdowns of `count` equities from `start` on; returns the highest so far. Most blocks hold no new one.

    Where only the deepest is asked for, the lowest equities below a peak are kept, and divided by it when it is passed.
    """
    higher = 0
    for j in range(count):
        higher += 1 if values[start + j] > peak else 0
    if higher > 0:
        if lanes[_LOW * LANES] < math.inf:
            _settle(lanes, peak)
        for j in range(count):
            peak = values[start + j] if values[start + j] > peak else peak
            _deepen(lanes, j, values[start + j] / peak - 1.0)
    elif detail == CORE_ONLY:
        for j in range(count):
            low = lanes[_LOW * LANES + j]
            lanes[_LOW * LANES + j] = values[start + j] if values[start + j] < low else low
    else:
        for j in range(count):
            _deepen(lanes, j, values[start + j] / peak - 1.0)
    return peak


@_inlined
def _settle(lanes: np.ndarray, peak: float) -> None:
    """Turn the lowest equities of the lanes, all below `peak`, into drawdowns."""
    for j in range(LANES):
        drawdown, lowest = lanes[_LOW * LANES + j] / peak - 1.0, lanes[_LOWEST * LANES + j]
        lanes[_LOWEST * LANES + j] = drawdown if drawdown < lowest else lowest
        lanes[_LOW * LANES + j] = math.inf


@_inlined
def _collect(lanes: np.ndarray, count: int, middle: float, reach: float, kept: np.ndarray, found: int) -> int:
    """Append the returns of a block that are at least `reach` from `middle` to `kept`, as `_walk` does."""
    for j in range(count):
        kept[found] = lanes[j]
        found += 1 if abs(lanes[j] - middle) >= reach else 0
    return found


@_inlined
def _deepen(lanes: np.ndarray, j: int, drawdown: float) -> None:
    """A drawdown into the deepest of lane j and the sum of squares."""
    lowest = lanes[_LOWEST * LANES + j]
    lanes[_LOWEST * LANES + j] = drawdown if drawdown < lowest else lowest
    lanes[_DEPTHS * LANES + j] += drawdown * drawdown


@_inlined
def _add_drawdowns(lanes: np.ndarray, count: int) -> None:
    """The deepest per lane and the sum of squares, from the wealth and peaks that `_walk` has noted."""
    for j in range(count):
        _deepen(lanes, j, lanes[_WEALTH * LANES + j] / lanes[_PEAK * LANES + j] - 1.0)


@_inlined
def _add_returns(lanes: np.ndarray, count: int, first: float, threshold: float, detail: int) -> None:
    """The block into the sums; several short loops, because the compiler gives up on long ones."""
    for j in range(count):
        _add_core(lanes, _DISTANCE * LANES + j, LANES, lanes[j], first, threshold)
    if detail > CORE_ONLY:
        for j in range(count):
            _add_powers(lanes, _POWERS * LANES + j, LANES, lanes[j], first)
        for j in range(count):
            _add_outcome(lanes, _OUTCOMES * LANES + j, LANES, lanes[j], threshold)


@_inlined
def _add_flat(lanes: np.ndarray, count: int, first: float, threshold: float, level: float) -> None:
    """What `_add_returns` and `_mark` do with returns of zero at an equity of `level`, which is no new peak.

    Where the first return is zero, too, their distances from it add nothing; and one lane may remember the level for
    all, because the lowest of them is looked for in the end.
    """
    if first != 0.0 or threshold > 0.0:
        for j in range(count):
            _add_core(lanes, _DISTANCE * LANES + j, LANES, 0.0, first, threshold)
    lanes[_LOW * LANES] = level if level < lanes[_LOW * LANES] else lanes[_LOW * LANES]


@_inlined
def _add_block(
    values: np.ndarray,
    start: int,
    count: int,
    initial_cash: float,
    first: float,
    threshold: float,
    detail: int,
    middle: float,
    reach: float,
    lanes: np.ndarray,
    kept: np.ndarray,
    found: int,
    wealth: float,
    peak: float,
    unit: float,
) -> tuple[int, float, float, float]:
    """The `count` returns that follow the one at `start` into everything.

    Wealth and peak are in units of `unit`: an equity curve is wealth already. Returns, and a curve that has come to
    zero, where it has to stay (`unit` 0), are multiplied out. Then drawdowns are those of the block before, all of it:
    a processor cannot load eight neighbours at once while they are on their way to memory one by one.
    """
    flat = initial_cash > 0.0 and _is_flat(values, start, count)
    if flat and unit > 0.0 and detail == CORE_ONLY:
        _add_flat(lanes, count, first, threshold, values[start])
        return found, values[start], peak, unit
    _load(values, start, count, initial_cash, flat, lanes)
    _add_returns(lanes, count, first, threshold, detail)
    if unit > 0.0 and not _takes_everything(lanes, count):
        peak, wealth = _mark(values, start + 1, count, peak, detail, lanes), values[start + count]
        if detail == EVERYTHING:
            found = _collect(lanes, count, middle, reach, kept, found)
    else:
        if unit > 0.0:
            _settle(lanes, peak)
            wealth, peak, unit = wealth / unit, peak / unit, 0.0
        _add_drawdowns(lanes, LANES)
        found, wealth, peak = _walk(lanes, count, middle, reach, kept, found, wealth, peak)
    return found, wealth, peak, unit


@_kernel
def _start(lanes: np.ndarray, first: float, threshold: float, detail: int) -> None:
    """Lanes with the first return in them; nothing lies under water yet."""
    for i in range(_LANE_ROWS * LANES):
        lanes[i] = 0.0
    for i in range(_WEALTH * LANES, _LOWEST * LANES):
        lanes[i] = 1.0
    for i in range(_LOW * LANES, (_LOW + 1) * LANES):
        lanes[i] = math.inf
    lanes[0] = first
    _add_returns(lanes, 1, first, threshold, detail)


@_kernel
def _fold(lanes: np.ndarray, row: int) -> float:
    """Sum of one row of lanes, halved until one is left; the order never changes."""
    start, width = row * LANES, LANES
    while width > 1:
        width //= 2
        for j in range(start, start + width):
            lanes[j] += lanes[j + width]
    return lanes[start]


@_kernel
def _write_rest(out: np.ndarray, row: int, n: int, distance: float, squares: float, lanes: np.ndarray) -> None:
    """What is not in `CORE`, without the tail ratio; powers around the first return are moved to the mean."""
    cubes, fourths = _fold(lanes, _POWERS) / n, _fold(lanes, _POWERS + 1) / n
    gains, losses = _fold(lanes, _OUTCOMES), _fold(lanes, _OUTCOMES + 1)
    won, lost = _fold(lanes, _OUTCOMES + 2), _fold(lanes, _OUTCOMES + 3)
    mean, second = distance / n, squares / n
    variance = max(second - mean * mean, 0.0)
    third = cubes - 3.0 * mean * second + 2.0 * mean * mean * mean
    fourth = fourths - 4.0 * mean * cubes + 6.0 * mean * mean * second - 3.0 * mean * mean * (mean * mean)
    out[row, ULCER] = math.sqrt(_fold(lanes, _DEPTHS) / n)
    out[row, OMEGA] = _ratio(gains, losses)
    out[row, WINS] = _ratio(won, won + lost)
    out[row, SKEWNESS] = _ratio(third, variance * math.sqrt(variance))
    out[row, KURTOSIS] = _ratio(fourth, variance * variance)


@_kernel
def _one_performance(
    values: np.ndarray,
    at: int,
    n: int,
    initial_cash: float,
    periods: float,
    risk_free: float,
    threshold: float,
    detail: int,
    lanes: np.ndarray,
    kept: np.ndarray,
    out: np.ndarray,
    to: int,
) -> float:
    """`performance` of the `n` values from `at` on, written to `out[to]`; returns the mean of the returns."""
    at = max(at, 0)  # says that no index is negative: the compiler vectorises only then
    middle, reach, lowest, highest = 0.0, math.nan, 0.0, 0.0
    if detail == EVERYTHING:
        middle, reach, lowest, highest = _tail_limits(values, at, n, initial_cash, kept)
    first = _return_at(values, at, 0, initial_cash)
    _start(lanes, first, threshold, detail)
    found, wealth, peak = _walk(lanes, 1, middle, reach, kept, 0, 1.0, 1.0)
    unit = initial_cash if initial_cash > 0.0 and wealth > 0.0 else 0.0
    if unit > 0.0:
        wealth, peak = values[at], max(values[at], unit)
    full, rest = (n - 1) // LANES, (n - 1) % LANES
    for block in range(full):
        found, wealth, peak, unit = _add_block(
            values, at + block * LANES, LANES, initial_cash, first, threshold, detail, middle, reach, lanes, kept,
            found, wealth, peak, unit,
        )  # fmt: skip
    if rest > 0:
        found, wealth, peak, unit = _add_block(
            values, at + full * LANES, rest, initial_cash, first, threshold, detail, middle, reach, lanes, kept,
            found, wealth, peak, unit,
        )  # fmt: skip
    _add_drawdowns(lanes, rest if rest > 0 and unit == 0.0 else LANES)
    if unit > 0.0:
        _settle(lanes, peak)
        wealth = wealth / unit
    distance, squares, below = _fold(lanes, _DISTANCE), _fold(lanes, _DISTANCE + 1), _fold(lanes, _DISTANCE + 2)
    if detail > CORE_ONLY:
        _write_rest(out, to, n, distance, squares, lanes)
    if detail == EVERYTHING:
        out[to, TAIL] = _tail_ratio(values, at, n, initial_cash, middle, lowest, highest, kept, found)
    drawdown = minimum(lanes, _LOWEST * LANES, (_LOWEST + 1) * LANES)
    return _write_core(out, to, n, periods, risk_free, threshold, first, distance, squares, below, wealth, drawdown)


@_kernel
def performance(
    values: np.ndarray,
    n: int,
    initial_cash: float,
    periods_per_year: float,
    risk_free: float,
    threshold: float,
    detail: int,
    lanes: np.ndarray,
    kept: np.ndarray,
    out: np.ndarray,
    to: int,
) -> int:
    """Write figures of each series of `n` >= 1 in `values` `(k * n,)` to the rows of `out` from `to` on.

    `values`: equity curves that started from `initial_cash`, or, where that is 0.0, returns. `risk_free` (per period)
    enters the Sharpe ratios; `threshold` (per period) is the minimum acceptable return of Sortino, the threshold of
    Omega and what a win exceeds. `detail`: `CORE_ONLY` writes the first columns of `PERFORMANCE`, `WITHOUT_TAILS` and
    `EVERYTHING` more; nan where one is undefined. `lanes`, `kept`: of `workspace`.

    Returns the first series whose mean is not finite, or -1: one of its values is not, and its figures mean nothing.
    """
    bad = -1
    for i in range(values.shape[0] // n):
        mean = _one_performance(
            values, i * n, n, initial_cash, periods_per_year, risk_free, threshold, detail, lanes, kept, out, to + i
        )
        if bad < 0 and not math.isfinite(mean):
            bad = i
    return bad


# -- tails -------------------------------------------------------------------------------------------------------------


@_kernel
def _tail_limits(
    values: np.ndarray, at: int, n: int, initial_cash: float, kept: np.ndarray
) -> tuple[float, float, float, float]:
    """Where the 5th and the 95th percentile almost surely are, from an even sample: it saves sorting.

    Middle and half-width of an interval that lies between them, and what is below the one and above the other: four
    standard deviations of the sample's rank to either side of the expected ones. A wrong guess costs time, not
    correctness. A short series gets nan: nothing is kept.
    """
    stride, count = n // _SAMPLE, 0
    if stride < 4:
        return 0.0, math.nan, 0.0, 0.0
    for t in range(1, n, stride):
        kept[count] = _return_at(values, at, t, initial_cash)
        count += 1
    expected = _TAIL * count
    spread = 4.0 * math.sqrt(expected) + 1.0
    inner, outer = int(expected + spread), int(expected - spread)
    low, high = select(kept, 0, count, inner), select(kept, 0, count, count - 1 - inner)
    lowest, highest = select(kept, 0, count, outer), select(kept, 0, count, count - 1 - outer)
    return 0.5 * (low + high), 0.5 * (high - low), lowest, highest


@_kernel
def _tail_ratio(
    values: np.ndarray,
    at: int,
    n: int,
    initial_cash: float,
    middle: float,
    lowest: float,
    highest: float,
    kept: np.ndarray,
    found: int,
) -> float:
    """Size of the 95th over the size of the 5th percentile, linear between order statistics (type 7).

    The returns far from the `middle` are the `found` in `kept`, and few of them lie beyond the percentiles but within
    `lowest` and `highest`; if they are too few, `kept` is filled with all.
    """
    position = _TAIL * (n - 1)
    rank = int(position)
    split = partition(kept, 0, found, middle, True)
    if min(split, found - split) < rank + 2:
        for t in range(n):
            kept[t] = _return_at(values, at, t, initial_cash)
        start, low_stop, high_start, stop, found = 0, n, rank, n, n
    else:
        start, low_stop, high_start = partition(kept, 0, split, lowest, False), split, split
        stop = partition(kept, split, found, highest, True)
    low = select(kept, start if start <= rank else 0, low_stop, rank)
    high = select(kept, high_start, stop if stop >= found - rank else found, found - 1 - rank)
    if position > rank:
        low += (minimum(kept, rank + 1, low_stop) - low) * (position - rank)
        high -= (high - maximum(kept, high_start, found - 1 - rank)) * (position - rank)
    return _ratio(abs(high), abs(low))


# -- a matrix, a strategy per column, in one pass over the rows --------------------------------------------------------


@_inlined
def _advance_columns(matrix: np.ndarray, t: int, first: int, count: int, threshold: float, state: np.ndarray) -> None:
    """Row `t` of the matrix into the state of its columns: the first four rows, and the sums of one lane."""
    lane = (_COLUMN_SUMS + _SUMS * ((t - 1) % LANES)) * WIDTH if t > 0 else _COLUMN_SUMS * WIDTH
    for j in range(count):
        value = matrix[t, first + j]
        _add_core(state, lane + j, WIDTH, value, state[j], threshold)
        wealth, peak = state[_WEALTH * WIDTH + j], state[_PEAK * WIDTH + j]
        wealth = wealth * (1.0 + value) if wealth > 0.0 else wealth
        peak = wealth if wealth > peak else peak
        share, lowest = wealth / peak, state[_LOWEST * WIDTH + j]
        state[_WEALTH * WIDTH + j] = wealth
        state[_PEAK * WIDTH + j] = peak
        state[_LOWEST * WIDTH + j] = share if share < lowest else lowest


@_inlined
def _start_columns(matrix: np.ndarray, first: int, count: int, state: np.ndarray) -> None:
    """Before the first return: wealth, peak and lowest share of a peak are 1, the sums 0."""
    for i in range(state.shape[0]):
        state[i] = 0.0
    for j in range(count):
        state[j] = matrix[0, first + j]
        state[_WEALTH * WIDTH + j] = 1.0
        state[_PEAK * WIDTH + j] = 1.0
        state[_LOWEST * WIDTH + j] = 1.0


@_inlined
def _fold_columns(state: np.ndarray, count: int) -> None:
    """`_fold` of every sum of every column."""
    width = LANES
    while width > 1:
        width //= 2
        for row in range(_COLUMN_SUMS, _COLUMN_SUMS + _SUMS * width):
            for j in range(row * WIDTH, row * WIDTH + count):
                state[j] += state[j + _SUMS * width * WIDTH]


@_kernel
def _columns_performance(
    matrix: np.ndarray,
    first: int,
    count: int,
    periods_per_year: float,
    risk_free: float,
    threshold: float,
    state: np.ndarray,
    out: np.ndarray,
) -> int:
    """The figures of `CORE` of `count` <= `WIDTH` columns of `matrix` `(n, k)` from `first` on, as of `performance`.

    `state`: a workspace of `WIDTH * (4 + 3 * LANES)` floats. Figures go to the first rows of `out`.
    Returns the first column with a value that is not finite, or -1.
    """
    n, bad = matrix.shape[0], -1
    _start_columns(matrix, first, count, state)
    for t in range(n):
        _advance_columns(matrix, t, first, count, threshold, state)
    _fold_columns(state, count)
    for j in range(count):
        sums = _COLUMN_SUMS * WIDTH + j
        mean = _write_core(
            out, j, n, periods_per_year, risk_free, threshold, state[j], state[sums], state[sums + WIDTH],
            state[sums + 2 * WIDTH], state[_WEALTH * WIDTH + j], state[_LOWEST * WIDTH + j] - 1.0,
        )  # fmt: skip
        if bad < 0 and not math.isfinite(mean):
            bad = first + j
    return bad


# -- from Python -------------------------------------------------------------------------------------------------------

_Floats = npt.NDArray[np.float64]
_LAID_OUT = 2**20
"""Values that are laid out as series at a time: 8 MB; 8 to 64 columns, since memory is read in lines of eight."""
_THREADED = 100_000
"""Values from which on a matrix is worth a thread per core."""


def workspace(n: int, detail: int = EVERYTHING) -> tuple[_Floats, _Floats]:
    """`lanes` and `kept` for `performance` of series of n values; a series at a time may use them."""
    return np.empty(_LANE_ROWS * LANES), np.empty(n if detail == EVERYTHING else 1)


def _detail(figures: Sequence[str]) -> int:
    """How much of `PERFORMANCE` has to be computed for `figures`."""
    if "tail_ratio" in figures:
        return EVERYTHING
    return WITHOUT_TAILS if set(figures) & set(PERFORMANCE[ULCER:]) else CORE_ONLY


def return_figures(
    returns: _Floats,
    periods_per_year: float,
    risk_free: float = 0.0,
    threshold: float = 0.0,
    figures: Sequence[str] = SUMMARY,
) -> tuple[dict[str, float], bool]:
    """`figures` of a return series `(n,)`, n >= 1, in the order of `SUMMARY`, and whether its mean is finite."""
    return _series_figures(returns, 0.0, (periods_per_year, risk_free, threshold), figures)


def equity_figures(
    equity: _Floats, initial_cash: float, periods_per_year: float, figures: Sequence[str] = SUMMARY
) -> dict[str, float]:
    """`figures` of an equity curve `(n,)`, n >= 1; as `return_figures` of its returns, to rounding."""
    return _series_figures(equity, initial_cash, (periods_per_year, 0.0, 0.0), figures)[0]


_Settings = tuple[float, float, float]
"""Periods per year, risk-free rate and threshold per period."""


def _series_figures(
    values: _Floats, initial_cash: float, settings: _Settings, figures: Sequence[str]
) -> tuple[dict[str, float], bool]:
    detail, out = _detail(figures), np.empty((1, len(PERFORMANCE)))
    n = values.shape[0]
    bad = performance(
        shared(np.asarray(values, dtype=np.float64)), n, initial_cash, *settings, detail, *workspace(n, detail), out, 0
    )
    found = dict(zip(SUMMARY, (float(n), settings[0], *out[0].tolist()), strict=True))
    return {name: found[name] for name in SUMMARY if name in figures}, bad < 0


def matrix_figures(
    returns: _Floats, periods_per_year: float, risk_free: float, threshold: float, figures: Sequence[str]
) -> tuple[_Floats, int]:
    """`figures` `(k, len(figures))` of the columns of `returns` `(n, k)`, and the first column with a mean that is not
    finite, or -1.

    The figures of `CORE` of a matrix in C order need one pass over it as it lies in memory, many columns side by side;
    otherwise columns are taken out as series, a few at a time. Blocks of columns share the cores.
    """
    n, k = returns.shape
    settings, detail = (float(periods_per_year), float(risk_free), float(threshold)), _detail(figures)
    table = np.empty((k, len(SUMMARY)))
    table[:, 0], table[:, 1] = n, settings[0]
    by_column = detail == CORE_ONLY and returns.flags.c_contiguous and k > 1
    work = (_columns_work if by_column else _rows_work)(returns, settings, detail, table[:, 2:])
    width = WIDTH if by_column else min(max(_LAID_OUT // n, 8), 64)
    bad = _in_threads(work, _blocks(k, width), returns.size)
    return table[:, [SUMMARY.index(name) for name in figures]], min((b for b in bad if b >= 0), default=-1)


def _blocks(count: int, width: int) -> list[slice]:
    """`count` columns cut into near-equal slices of at most `width`, a multiple of the cores where possible."""
    pieces = min(-(-count // (width * _cores())) * _cores(), count)
    edges = [count * piece // pieces for piece in range(pieces + 1)]
    return [slice(start, stop) for start, stop in itertools.pairwise(edges)]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _in_threads(work: Callable[[slice], int], blocks: list[slice], size: int) -> list[int]:
    """Results of `work` on each block; small tables and interpreted kernels are not worth a thread."""
    if size < _THREADED or len(blocks) == 1 or not compiling():
        return [work(block) for block in blocks]
    with ThreadPoolExecutor(_cores()) as pool:
        return list(pool.map(work, blocks))


def _columns_work(returns: _Floats, settings: _Settings, detail: int, out: _Floats) -> Callable[[slice], int]:
    """What to do with a block of columns of a matrix in C order: it returns the first bad column or -1."""
    table = shared(returns)

    def work(block: slice) -> int:
        state, count = np.empty(WIDTH * (_COLUMN_SUMS + _SUMS * LANES)), block.stop - block.start
        found = np.empty((count, len(CORE)))
        bad = _columns_performance(table, block.start, count, *settings, state, found)
        out[block, : len(CORE)] = found
        return int(bad)

    return work


def _rows_work(returns: _Floats, settings: _Settings, detail: int, out: _Floats) -> Callable[[slice], int]:
    """The same for whole series, one after the other."""

    def work(block: slice) -> int:
        series, n = shared(returns[:, block].T), len(returns)
        found = np.empty((len(series), len(PERFORMANCE)))
        bad = performance(series.reshape(-1), n, 0.0, *settings, detail, *workspace(n, detail), found, 0)
        out[block] = found
        return block.start + int(bad) if bad >= 0 else -1

    return work
