"""Kernels of the Engle-Granger test: least squares of two series, then a Dickey-Fuller test of the residuals.

Everything here runs on time-reversed series: row 0 is the latest value. A lag is then a step forward, and the sums over
all lags are one pass over memory that lies in order.

Of the differences d, the cross products of lags i and j over a sample are a Toeplitz matrix but for its ends: the entry
below and to the right differs by one product that enters and one that leaves. So `lags + 1` sums give the whole Gram
matrix, the products with the level follow from them, and one Cholesky factor of it holds the fit at every lag.

Tables: MacKinnon, J. G. (1994), "Approximate asymptotic distribution functions for unit-root and cointegration tests",
Journal of Business & Economic Statistics 12, 167-176, tables 3 and 4, as in statsmodels 0.15 `tsa.adfvalues`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from tradelib._jit import jit

__all__ = [
    "AIC",
    "BIC",
    "COLLINEAR",
    "CONSTANT",
    "FIXED",
    "OK",
    "SINGULAR",
    "UNTESTED",
    "Workspace",
    "dickey_fuller",
    "engle_granger",
    "engle_granger_pvalue",
    "most_lags",
    "scan",
    "workspace",
]

FIXED = 0
AIC = 1
BIC = 2
"""How the number of lagged differences is chosen."""
OK = 0
COLLINEAR = 1
SINGULAR = 2
CONSTANT = 3
UNTESTED = 4
"""What became of a test."""

_ALMOST_ONE = 1.0 - 100.0 * math.sqrt(float(np.finfo(np.float64).eps))
"""R squared from which statsmodels calls two series (almost) perfectly collinear."""
_LEAST_PIVOT = 1e-13

_STAR, _LEAST, _MOST = -2.62, -18.86, 0.92
_SMALL_0, _SMALL_1, _SMALL_2 = 2.92, 1.5012, 3.9796 * 1e-2
_LARGE_0, _LARGE_1, _LARGE_2, _LARGE_3 = 2.1945, 6.4695 * 1e-1, -2.9198 * 1e-1, -4.2377 * 1e-2


class Workspace(NamedTuple):
    """Room for one test: residuals, differences, sums over lags, the Gram matrix, its factor, a vector, results."""

    residuals: np.ndarray
    differences: np.ndarray
    sums: np.ndarray
    gram: np.ndarray
    factor: np.ndarray
    vector: np.ndarray
    result: np.ndarray


def workspace(rows: int, lags: int) -> Workspace:
    """Room for tests of `rows` values with at most `lags` lags."""
    square = (lags + 2, lags + 2)
    vectors = np.empty(rows), np.empty(rows), np.empty(lags + 1)
    return Workspace(*vectors, np.empty(square), np.empty(square), np.empty(lags + 2), np.empty(5))


def most_lags(rows: int) -> int:
    """Schwert's rule, ceil(12 (n / 100)^(1/4)), at most n // 2 - 1: the most lags of an automatic choice."""
    return min(rows // 2 - 1, math.ceil(12.0 * (rows / 100.0) ** 0.25))


@jit(nogil=True, error_model="numpy", _nrt=False)
def _dot(x: np.ndarray, y: np.ndarray, start: int, stop: int) -> float:
    """Sum of x[i] y[i], in four interleaved parts."""
    a = b = c = d = 0.0
    whole = start + (stop - start) // 4 * 4
    for i in range(start, whole, 4):
        a += x[i] * y[i]
        b += x[i + 1] * y[i + 1]
        c += x[i + 2] * y[i + 2]
        d += x[i + 3] * y[i + 3]
    for i in range(whole, stop):
        a += x[i] * y[i]
    return (a + b) + (c + d)


@jit(nogil=True, error_model="numpy", _nrt=False)
def _lag_sums(d: np.ndarray, start: int, stop: int, lags: int, sums: np.ndarray) -> None:
    """Add, for every lag, the sum over rows start .. stop of d[u] d[u + lag]; four rows at a time."""
    whole = start + (stop - start) // 4 * 4
    for u in range(start, whole, 4):
        p, q, r, s = d[u], d[u + 1], d[u + 2], d[u + 3]
        for i in range(lags + 1):
            sums[i] += (p * d[u + i] + q * d[u + 1 + i]) + (r * d[u + 2 + i] + s * d[u + 3 + i])
    for u in range(whole, stop):
        p = d[u]
        for i in range(lags + 1):
            sums[i] += p * d[u + i]


@jit(nogil=True, error_model="numpy", _nrt=False)
def _fill_gram(
    x: np.ndarray, d: np.ndarray, rows: int, lags: int, level_square: float, level_step: float, work: Workspace
) -> None:
    """Upper triangle of the cross products of [level, lag 1 .. lag `lags`, difference] over the latest `rows` rows.

    `gram` takes those of the differences alone, lag i in row and column i, and `factor` the whole.
    """
    c, g = work.gram, work.factor
    for i in range(lags + 1):
        c[0, i] = work.sums[i]
    for i in range(lags):
        enters, leaves = d[rows + i], d[i]
        for j in range(i, lags):
            c[i + 1, j + 1] = c[i, j] + enters * d[rows + j] - leaves * d[j]
    last = lags + 1
    g[0, 0], g[0, last], g[last, last] = level_square, level_step, c[0, 0]
    shifted = level_step
    for i in range(1, lags + 1):
        shifted += x[rows + i] * d[rows + i - 1] - x[i] * d[i - 1]
        level = shifted
        for j in range(1, i + 1):
            level += c[j, i]
        g[0, i], g[i, last] = level, c[0, i]
        for j in range(i, lags + 1):
            g[i, j] = c[i, j]


@jit(nogil=True, error_model="numpy", _nrt=False)
def _factorise(size: int, u: np.ndarray) -> bool:
    """Replace the upper triangle of a Gram matrix by its Cholesky factor; False where a pivot vanishes."""
    for k in range(size):
        u[k, 0] = u[k, k]  # what the pivot was at first, in the first column, which nobody reads below the diagonal
    for k in range(size):
        if not u[k, k] > _LEAST_PIVOT * u[k, 0]:
            return False
        root = math.sqrt(u[k, k])
        for j in range(k, size):
            u[k, j] /= root
        for i in range(k + 1, size):
            share = u[k, i]
            for j in range(i, size):
                u[i, j] -= share * u[k, j]
    return True


@jit(nogil=True, error_model="numpy", _nrt=False)
def _best_lags(rows: int, lags: int, penalty: float, u: np.ndarray) -> int:
    """The number of lags with the least information criterion, rows log(SSR / rows) + penalty (lags + 1)."""
    last = lags + 1
    left = u[last, last] * u[last, last]
    best, least = lags, rows * math.log(left / rows) + penalty * (lags + 1)
    for k in range(lags - 1, -1, -1):
        left += u[k + 1, last] * u[k + 1, last]
        value = rows * math.log(left / rows) + penalty * (k + 1)
        if value <= least:
            best, least = k, value
    return best


@jit(nogil=True, error_model="numpy", _nrt=False)
def _statistic(rows: int, lags: int, u: np.ndarray, z: np.ndarray) -> float:
    """t of the level: with U'z = e0, its coefficient is z'w and its variance s2 z'z, w the last column of U."""
    last = lags + 1
    for i in range(lags + 1):
        total = 1.0 if i == 0 else 0.0
        for j in range(i):
            total -= u[j, i] * z[j]
        z[i] = total / u[i, i]
    coefficient = size = 0.0
    for i in range(lags + 1):
        coefficient += z[i] * u[i, last]
        size += z[i] * z[i]
    deviation = u[last, last] / math.sqrt(rows - lags - 1.0)
    return coefficient / (deviation * math.sqrt(size))


@jit(nogil=True, error_model="numpy", _nrt=False)
def dickey_fuller(x: np.ndarray, n: int, lags: int, rule: int, work: Workspace) -> int:
    """Augmented Dickey-Fuller test without constant of the reversed series `x` of `n` values.

    Writes t and the number of lags to `work.result[1]` and `[3]`; gives `OK` or `SINGULAR`. With a rule other than
    `FIXED` the fits with 0 .. `lags` lags are compared on one sample, then the best is fitted on all of its own.
    """
    d, sums, m = work.differences, work.sums, n - 1
    for i in range(m):
        d[i] = x[i] - x[i + 1]
    for i in range(lags + 1):
        sums[i] = 0.0
    rows, chosen = m - lags, lags
    _lag_sums(d, 0, rows, lags, sums)
    square, step = _dot(x, x, 1, rows + 1), 0.0
    for i in range(rows):
        step += x[i + 1] * d[i]
    _fill_gram(x, d, rows, lags, square, step, work)
    if not _factorise(lags + 2, work.factor):
        return SINGULAR
    if rule != FIXED:
        chosen = _best_lags(rows, lags, 2.0 if rule == AIC else math.log(rows), work.factor)
        if chosen < lags:
            _lag_sums(d, rows, m - chosen, chosen, sums)
            for i in range(rows, m - chosen):
                square += x[i + 1] * x[i + 1]
                step += x[i + 1] * d[i]
            rows = m - chosen
            _fill_gram(x, d, rows, chosen, square, step, work)
            if not _factorise(chosen + 2, work.factor):
                return SINGULAR
    work.result[1], work.result[3] = _statistic(rows, chosen, work.factor, work.vector), chosen
    return OK


@jit(nogil=True, error_model="numpy", _nrt=False)
def engle_granger_pvalue(t: float) -> float:
    """MacKinnon's (1994) asymptotic p-value of the Engle-Granger t: two series, a constant in their relation."""
    if t > _MOST:
        return 1.0
    if t < _LEAST:
        return 0.0
    if t <= _STAR:
        quantile = (_SMALL_2 * t + _SMALL_1) * t + _SMALL_0
    else:
        quantile = ((_LARGE_3 * t + _LARGE_2) * t + _LARGE_1) * t + _LARGE_0
    return 0.5 * math.erfc(-quantile / math.sqrt(2.0))


@jit(nogil=True, error_model="numpy", _nrt=False)
def engle_granger(
    values: np.ndarray, dependent: int, other: int, lags: int, rule: int, squares: np.ndarray, work: Workspace
) -> int:
    """Engle-Granger test of row `dependent` on row `other` of `values`, reversed series less their means.

    `squares`: sum of squares of each row. Writes hedge ratio, t, p-value, lags and R squared to `work.result`.
    """
    n, e, result = values.shape[1], work.residuals, work.result
    if not (squares[dependent] > 0.0 and squares[other] > 0.0):
        result[0] = result[4] = math.nan
        return CONSTANT
    a = b = 0.0
    whole = n // 2 * 2
    for i in range(0, whole, 2):
        a += values[dependent, i] * values[other, i]
        b += values[dependent, i + 1] * values[other, i + 1]
    for i in range(whole, n):
        a += values[dependent, i] * values[other, i]
    slope = (a + b) / squares[other]
    for i in range(n):
        e[i] = values[dependent, i] - slope * values[other, i]
    result[0], result[4] = slope, 1.0 - _dot(e, e, 0, n) / squares[dependent]
    if not result[4] < _ALMOST_ONE:
        return COLLINEAR
    status = dickey_fuller(e, n, lags, rule, work)
    if status == OK:
        result[2] = engle_granger_pvalue(result[1])
    return status


@jit(nogil=True, error_model="numpy", _nrt=False)
def scan(
    values: np.ndarray,
    pairs: np.ndarray,
    lags: int,
    rule: int,
    squares: np.ndarray,
    work: Workspace,
    start: int,
    stop: int,
    out: np.ndarray,
    status: np.ndarray,
) -> None:
    """Test `pairs[start:stop]` (p, 2): five numbers of each into `out` (p, 5), what became of it into `status` (p,).

    A test that could not be made leaves NaN for t, p-value and lags, and where a series is constant for all five.
    """
    for row in range(start, stop):
        work.result[1] = work.result[2] = work.result[3] = math.nan
        status[row] = engle_granger(values, pairs[row, 0], pairs[row, 1], lags, rule, squares, work)
        for i in range(5):
            out[row, i] = work.result[i]
