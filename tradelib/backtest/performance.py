"""Performance figures of return series, compiled once: one series, the points of a sweep, a matrix of strategies.

Conventions as in `tradelib.backtest.metrics`, which is the public face of these kernels: simple returns per period,
ddof 1, annualised by the root of periods per year, downside over all n, wealth that starts at 1 before the first return
and stays where it is once everything is lost; nan where a figure is not defined.

Sums run in 64 lanes that are folded in a fixed order: the compiler turns a lane loop into vector instructions without
being allowed to reorder anything, so compiled and interpreted kernels give the same bits. Wealth is multiplied in the
order of time, as `numpy.cumprod` does.
"""

from __future__ import annotations

import math

import numpy as np

from tradelib._jit import jit

__all__ = [
    "CORE",
    "LANES",
    "PERFORMANCE",
    "SERIES_ROWS",
    "STRATEGY_ROWS",
    "columns_performance",
    "equity_returns",
    "performance",
    "rows_performance",
    "rows_tail_ratio",
]

PERFORMANCE = (
    "observations",
    "periods_per_year",
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
    "win_rate",
    "skewness",
    "kurtosis",
)
"""Columns of `performance`. The tail ratio is not among them: it needs order statistics (`rows_tail_ratio`)."""

(OBSERVATIONS, PERIODS, TOTAL, GROWTH, VOLATILITY, SHARPE, SORTINO, CALMAR, SHARPE_PER_PERIOD, DRAWDOWN, ULCER, OMEGA,
 WINS, SKEWNESS, KURTOSIS) = range(len(PERFORMANCE))  # fmt: skip

CORE = PERFORMANCE[:ULCER]
"""What one pass over a matrix can give (`columns_performance`): no third moment, no sum over the drawdowns."""

LANES = 64
SERIES_ROWS = 7
"""A workspace of `performance` is a float64 array `(SERIES_ROWS, LANES)`."""
STRATEGY_ROWS = 7
"""A workspace of `columns_performance` is a float64 array `(STRATEGY_ROWS, columns)`."""

_LARGEST_LOG = 709.0
"""The logarithm of the largest float, rounded down: beyond it a power is infinite, and raises when interpreted."""
_TAIL = 0.05
_SAMPLE = 2048


@jit(nogil=True, _nrt=False, error_model="numpy")
def equity_returns(equity: np.ndarray, initial_cash: float, out: np.ndarray) -> None:
    """Simple returns `(n,)` of an equity curve `(n,)` into `out`, the first one on `initial_cash`.

    On an account without anything left there is no return: 0.0 after an equity of exactly zero.
    """
    before = initial_cash
    for t in range(equity.shape[0]):
        out[t] = equity[t] / before - 1.0 if before != 0.0 else 0.0
        before = equity[t]


# -- one series --------------------------------------------------------------------------------------------------------


@jit(nogil=True, _nrt=False, error_model="numpy")
def _fold(lanes: np.ndarray, row: int) -> float:
    """Sum of one row of lanes, halved until one is left; the order never changes."""
    width = LANES
    while width > 1:
        width //= 2
        for j in range(width):
            lanes[row, j] += lanes[row, width + j]
    return lanes[row, 0]


@jit(nogil=True, _nrt=False, error_model="numpy")
def _lowest(lanes: np.ndarray, row: int) -> float:
    lowest = lanes[row, 0]
    for j in range(1, LANES):
        lowest = lanes[row, j] if lanes[row, j] < lowest else lowest
    return lowest


@jit(nogil=True, _nrt=False, error_model="numpy")
def _clear(lanes: np.ndarray) -> None:
    for row in range(SERIES_ROWS):
        for j in range(LANES):
            lanes[row, j] = 0.0


@jit(nogil=True, _nrt=False, error_model="numpy")
def _add_return(lanes: np.ndarray, j: int, value: float, first: float, threshold: float) -> None:
    """One return into lane `j`: its distance from the first, gain or loss beyond the threshold, the lowest so far.

    Distances from the first return add up to exactly zero for a constant series: its deviation is 0.0, not 1e-17.
    """
    excess = value - threshold
    loss = excess if excess < 0.0 else 0.0
    lanes[0, j] += value - first
    lanes[1, j] += excess if excess > 0.0 else 0.0
    lanes[2, j] += loss
    lanes[3, j] += loss * loss
    lanes[4, j] += 1.0 if excess > 0.0 else 0.0
    lanes[5, j] += 1.0 if excess < 0.0 else 0.0
    lanes[6, j] = value if value < lanes[6, j] else lanes[6, j]


@jit(nogil=True, _nrt=False, error_model="numpy")
def _sum_returns(returns: np.ndarray, threshold: float, lanes: np.ndarray) -> None:
    """`_add_return` of every return; whole blocks first, because only a loop of fixed length becomes vector code."""
    _clear(lanes)
    n, first = returns.shape[0], returns[0]
    for block in range(n // LANES):
        for j in range(LANES):
            _add_return(lanes, j, returns[block * LANES + j], first, threshold)
    for t in range(n - n % LANES, n):
        _add_return(lanes, t % LANES, returns[t], first, threshold)


@jit(nogil=True, _nrt=False, error_model="numpy")
def _add_moments(lanes: np.ndarray, j: int, deviation: float) -> None:
    square = deviation * deviation
    lanes[0, j] += square
    lanes[1, j] += square * deviation
    lanes[2, j] += square * square


@jit(nogil=True, _nrt=False, error_model="numpy")
def _sum_moments(returns: np.ndarray, mean: float, lanes: np.ndarray) -> None:
    """Per lane: second, third and fourth powers of the deviations from `mean`."""
    _clear(lanes)
    n = returns.shape[0]
    for block in range(n // LANES):
        for j in range(LANES):
            _add_moments(lanes, j, returns[block * LANES + j] - mean)
    for t in range(n - n % LANES, n):
        _add_moments(lanes, t % LANES, returns[t] - mean)


@jit(nogil=True, _nrt=False, error_model="numpy")
def _walk_wealth(returns: np.ndarray, bars: int, lanes: np.ndarray) -> float:
    """Wealth after the first `bars` returns. Per lane: squares (row 2) and the deepest (row 3) of the drawdowns.

    A block of wealth and peaks (rows 0, 1) is multiplied out in the order of time, then divided all at once.
    """
    _clear(lanes)
    wealth, peak = 1.0, 1.0
    for start in range(0, bars, LANES):
        count = min(LANES, bars - start)
        for j in range(count):
            wealth = wealth * (1.0 + returns[start + j])
            peak = wealth if wealth > peak else peak
            lanes[0, j] = wealth
            lanes[1, j] = peak
        for j in range(count):
            drawdown = lanes[0, j] / lanes[1, j] - 1.0
            lanes[2, j] += drawdown * drawdown
            lanes[3, j] = drawdown if drawdown < lanes[3, j] else lanes[3, j]
    return wealth


@jit(nogil=True, _nrt=False, error_model="numpy")
def _bars_until_ruin(returns: np.ndarray) -> int:
    """Returns up to and with the first one that takes everything; all of them if none does."""
    for t in range(returns.shape[0]):
        if returns[t] <= -1.0:
            return t + 1
    return returns.shape[0]


@jit(nogil=True, _nrt=False, error_model="numpy")
def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator != 0.0 else math.nan


@jit(nogil=True, _nrt=False, error_model="numpy")
def _growth(wealth: float, exponent: float) -> float:
    """Compound growth `wealth ** exponent - 1`: -1.0 when everything was lost, infinite beyond the largest float."""
    if not wealth > 0.0:
        return -1.0
    return wealth**exponent - 1.0 if math.log(wealth) * exponent < _LARGEST_LOG else math.inf


@jit(nogil=True, _nrt=False, error_model="numpy")
def _write_core(
    out: np.ndarray,
    row: int,
    n: int,
    periods: float,
    excess: float,
    shortfall: float,
    squares: float,
    below: float,
    wealth: float,
    drawdown: float,
) -> None:
    """The figures of `CORE` from the sums of a series.

    `excess`: mean over the risk-free rate; `shortfall`: mean over the minimum acceptable return; `squares`: sum of
    squared deviations; `below`: sum of squared shortfalls; `wealth`: at the end; `drawdown`: the deepest.
    """
    deviation = math.sqrt(squares / (n - 1)) if n > 1 else math.nan
    sharpe, root = _ratio(excess, deviation), math.sqrt(periods)
    growth = _growth(wealth, periods / n)
    out[row, OBSERVATIONS] = n
    out[row, PERIODS] = periods
    out[row, TOTAL] = wealth - 1.0
    out[row, GROWTH] = growth
    out[row, VOLATILITY] = deviation * root
    out[row, SHARPE] = sharpe * root
    out[row, SORTINO] = _ratio(shortfall, math.sqrt(below / n)) * root
    out[row, CALMAR] = _ratio(growth, -drawdown)
    out[row, SHARPE_PER_PERIOD] = sharpe
    out[row, DRAWDOWN] = drawdown


@jit(nogil=True, _nrt=False, error_model="numpy")
def performance(
    returns: np.ndarray,
    periods_per_year: float,
    risk_free: float,
    threshold: float,
    lanes: np.ndarray,
    out: np.ndarray,
    row: int,
) -> float:
    """Write the figures named in `PERFORMANCE` of `returns` `(n,)`, n >= 1, to `out[row]`; nan where undefined.

    `risk_free` (per period) enters the Sharpe ratios; `threshold` (per period) is the minimum acceptable return of
    Sortino, the threshold of Omega and what a win exceeds. `lanes`: a workspace. Returns the mean of the returns: when
    it is not finite, one of them is not, and the figures mean nothing.
    """
    n = returns.shape[0]
    _sum_returns(returns, threshold, lanes)
    mean = returns[0] + _fold(lanes, 0) / n
    gains, losses, below = _fold(lanes, 1), _fold(lanes, 2), _fold(lanes, 3)
    won, lost, lowest = _fold(lanes, 4), _fold(lanes, 5), _lowest(lanes, 6)
    out[row, OMEGA] = _ratio(gains, -losses)
    out[row, WINS] = _ratio(won, won + lost)
    bars = n if lowest > -1.0 else _bars_until_ruin(returns)
    wealth = _walk_wealth(returns, bars, lanes)
    drawdown, last = _lowest(lanes, 3), (bars - 1) % LANES
    stays = lanes[0, last] / lanes[1, last] - 1.0
    out[row, ULCER] = math.sqrt((_fold(lanes, 2) + (n - bars) * (stays * stays)) / n)
    _sum_moments(returns, mean, lanes)
    squares, cubes, fourths = _fold(lanes, 0), _fold(lanes, 1), _fold(lanes, 2)
    variance = squares / n
    out[row, SKEWNESS] = _ratio(cubes / n, variance * math.sqrt(variance))
    out[row, KURTOSIS] = _ratio(fourths / n, variance * variance)
    _write_core(out, row, n, periods_per_year, mean - risk_free, mean - threshold, squares, below, wealth, drawdown)
    return mean


# -- many strategies ---------------------------------------------------------------------------------------------------


@jit(nogil=True, _nrt=False, error_model="numpy")
def rows_performance(
    matrix: np.ndarray,
    periods_per_year: float,
    risk_free: float,
    threshold: float,
    series: np.ndarray,
    lanes: np.ndarray,
    out: np.ndarray,
) -> int:
    """`performance` of each row of `matrix` `(k, n)`, C order, into `out` `(k, len(PERFORMANCE))`.

    `series`: workspace `(n,)`. Returns the first row with a value that is not finite, or -1.
    """
    bad = -1
    for i in range(matrix.shape[0]):
        for t in range(matrix.shape[1]):
            series[t] = matrix[i, t]
        mean = performance(series, periods_per_year, risk_free, threshold, lanes, out, i)
        if bad < 0 and not math.isfinite(mean):
            bad = i
    return bad


@jit(nogil=True, _nrt=False, error_model="numpy")
def _start_columns(matrix: np.ndarray, first: int, state: np.ndarray) -> None:
    """State of each strategy before its first return; row 0 holds the return that distances are taken from."""
    for j in range(state.shape[1]):
        state[0, j] = matrix[0, first + j]
        state[1, j] = 0.0
        state[2, j] = 0.0
        state[3, j] = 0.0
        state[4, j] = 1.0
        state[5, j] = 1.0
        state[6, j] = 1.0


@jit(nogil=True, _nrt=False, error_model="numpy")
def _advance_columns(matrix: np.ndarray, t: int, first: int, threshold: float, state: np.ndarray) -> None:
    """Row `t` of the matrix into the state: sums, wealth (row 4), peak (5) and the lowest share of a peak (6)."""
    for j in range(state.shape[1]):
        value = matrix[t, first + j]
        distance = value - state[0, j]
        excess = value - threshold
        loss = excess if excess < 0.0 else 0.0
        state[1, j] += distance
        state[2, j] += distance * distance
        state[3, j] += loss * loss
        wealth = state[4, j]
        wealth = wealth * (1.0 + value) if wealth > 0.0 else wealth
        peak = wealth if wealth > state[5, j] else state[5, j]
        share = wealth / peak
        state[4, j] = wealth
        state[5, j] = peak
        state[6, j] = share if share < state[6, j] else state[6, j]


@jit(nogil=True, _nrt=False, error_model="numpy")
def columns_performance(
    matrix: np.ndarray,
    first: int,
    periods_per_year: float,
    risk_free: float,
    threshold: float,
    state: np.ndarray,
    out: np.ndarray,
) -> int:
    """The figures of `CORE` for columns `first`, `first + 1`, ... of `matrix` `(n, k)`, C order, in one pass.

    `state`: a workspace, as wide as the number of columns to do; they are written to the same rows of `out`
    `(k, len(CORE))`. Returns the first column with a value that is not finite, or -1.

    The variance comes from distances to the first return: its relative rounding error is below n x 2.2e-16 even where
    the first return is the one outlier of the series (Chan, Golub and LeVeque (1983), "Algorithms for computing the
    sample variance", The American Statistician 37, on shifted data), and some 1e-15 elsewhere.
    """
    n, bad = matrix.shape[0], -1
    _start_columns(matrix, first, state)
    for t in range(n):
        _advance_columns(matrix, t, first, threshold, state)
    for j in range(state.shape[1]):
        mean = state[0, j] + state[1, j] / n
        squares = max(state[2, j] - state[1, j] * state[1, j] / n, 0.0)
        drawdown = state[6, j] - 1.0
        _write_core(
            out, first + j, n, periods_per_year, mean - risk_free, mean - threshold, squares, state[3, j], state[4, j],
            drawdown,
        )  # fmt: skip
        if bad < 0 and not math.isfinite(mean):
            bad = first + j
    return bad


# -- tails -------------------------------------------------------------------------------------------------------------


@jit(nogil=True, _nrt=False, error_model="numpy")
def _select(values: np.ndarray, count: int, rank: int) -> float:
    """The `rank`-th smallest (from 0) of the first `count` values, which are rearranged around it.

    Source: Hoare (1961), Algorithm 65 "Find", Communications of the ACM 4, in Wirth's form.
    """
    left, right = 0, count - 1
    while left < right:
        pivot, i, j = values[rank], left, right
        while i <= j:
            while values[i] < pivot:
                i += 1
            while pivot < values[j]:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i, j = i + 1, j - 1
        left, right = (i if j < rank else left), (j if rank < i else right)
    return values[rank]


@jit(nogil=True, _nrt=False, error_model="numpy")
def _keep_lowest(matrix: np.ndarray, row: int, sign: float, limit: float, kept: np.ndarray) -> int:
    """Copy the values of `sign` x row that do not exceed `limit` to `kept`; returns how many."""
    count = 0
    for t in range(matrix.shape[1]):
        value = sign * matrix[row, t]
        kept[count] = value
        count += 1 if value <= limit else 0
    return count


@jit(nogil=True, _nrt=False, error_model="numpy")
def _likely_limit(matrix: np.ndarray, row: int, sign: float, needed: int, kept: np.ndarray) -> float:
    """A value that almost surely has `needed` values of `sign` x row below it, from an even sample: it saves sorting.

    Five standard deviations of the sample's rank above the expected one; a wrong guess costs time, not correctness.
    """
    n = matrix.shape[1]
    stride = n // _SAMPLE
    if stride < 2:
        return math.inf
    count = 0
    for t in range(0, n, stride):
        kept[count] = sign * matrix[row, t]
        count += 1
    expected = needed / n * count
    return _select(kept, count, min(int(expected + 5.0 * math.sqrt(expected) + 1.0), count - 1))


@jit(nogil=True, _nrt=False, error_model="numpy")
def _low_percentile(matrix: np.ndarray, row: int, sign: float, kept: np.ndarray) -> float:
    """The 5th percentile of `sign` x row, interpolated linearly between order statistics (type 7)."""
    position = _TAIL * (matrix.shape[1] - 1)
    rank = int(position)
    count = _keep_lowest(matrix, row, sign, _likely_limit(matrix, row, sign, rank + 2, kept), kept)
    if count < rank + 2:
        count = _keep_lowest(matrix, row, sign, math.inf, kept)
    low = _select(kept, count, rank)
    if rank + 1 >= count:
        return low
    high = kept[rank + 1]
    for i in range(rank + 2, count):
        high = kept[i] if kept[i] < high else high
    return low + (high - low) * (position - rank)


@jit(nogil=True, _nrt=False, error_model="numpy")
def rows_tail_ratio(matrix: np.ndarray, kept: np.ndarray, out: np.ndarray) -> None:
    """Size of the 95th percentile over the size of the 5th of each row of `matrix` `(k, n)` into `out` `(k,)`.

    Values must be finite. `kept`: workspace `(n,)`. The 95th percentile is the 5th of the negated returns.
    """
    for i in range(matrix.shape[0]):
        high = _low_percentile(matrix, i, -1.0, kept)
        out[i] = _ratio(abs(high), abs(_low_percentile(matrix, i, 1.0, kept)))
