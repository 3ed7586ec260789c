"""Hidden states behind returns: a Gaussian Markov-switching model that travels, and what it says of each bar.

A fitted model is a handful of plain numbers. `filtered` uses the returns up to each bar, so a signal may use it;
`smoothed` and `viterbi` use the whole series and are for looking back. Where numba is not installed the same source
runs interpreted and gives the same bits. Fitting lives in `tradelib.risk.regimes`.

Sources: Hamilton, J. D. (1994), Time Series Analysis, chapter 22 (filter, forecast, stationary start); Kim, C.-J.
(1994), "Dynamic linear models with Markov-switching", Journal of Econometrics 60, 1-22 (smoother); Rabiner, L. R.
(1989), "A tutorial on hidden Markov models", Proceedings of the IEEE 77, 257-286, section III.B (Viterbi); Grassmann,
Taksar & Heyman (1985), Operations Research 33, 1107-1116 (stationary distribution without subtractions); Atar &
Zeitouni (1997), "Exponential stability for nonlinear filtering", Annales de l'IHP 33, 697-725 (how fast the start is
forgotten).
"""

from __future__ import annotations

import html
import math
from functools import cached_property
from itertools import product
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from tradelib._jit import jit
from tradelib.errors import DataError, ParameterError
from tradelib.indicators.core import first_valid
from tradelib.ledger import digest
from tradelib.parameters import Parameters

__all__ = [
    "GaussianStates",
    "RegimeModel",
    "RegimeTraining",
    "Switching",
    "checked_returns",
    "hamilton_filter",
    "kim_smoother",
    "stationary_distribution",
    "viterbi_path",
]

Switching = Literal["mean", "variance", "mean_and_variance"]
"""What differs between the states; the other is common to all."""
_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)
_LARGEST = 1e100
"""A return beyond it would overflow when it is squared."""


class GaussianStates(NamedTuple):
    """What the kernels need: means, deviations and start `(k,)`; transition `(k, k)`, from the row to the column."""

    means: np.ndarray
    deviations: np.ndarray
    transition: np.ndarray
    start: np.ndarray


@jit(nogil=True)
def hamilton_filter(
    x: np.ndarray,
    means: np.ndarray,
    deviations: np.ndarray,
    transition: np.ndarray,
    start: np.ndarray,
    predicted: np.ndarray,
    filtered: np.ndarray,
) -> float:
    """Probabilities of the states before (`predicted`) and after (`filtered`) each value, `(n, k)`; the log-likelihood.

    The densities are scaled by the largest one that is possible, so that no observation, however far out, gives 0 / 0.
    Hamilton (1994), equations 22.4.5 and 22.4.6.
    """
    k, likelihood = means.shape[0], 0.0
    for t in range(x.shape[0]):
        top = -math.inf
        for j in range(k):
            p = start[j]
            if t > 0:
                p = 0.0
                for i in range(k):
                    p += filtered[t - 1, i] * transition[i, j]
            z = (x[t] - means[j]) / deviations[j]
            predicted[t, j], filtered[t, j] = p, -0.5 * z * z - math.log(deviations[j])
            if p > 0.0 and filtered[t, j] > top:
                top = filtered[t, j]
        total = 0.0
        for j in range(k):
            p = predicted[t, j]
            filtered[t, j] = p * math.exp(filtered[t, j] - top) if p > 0.0 else 0.0
            total += filtered[t, j]
        for j in range(k):
            filtered[t, j] /= total
        likelihood += math.log(total) + top - _HALF_LOG_2PI
    return likelihood


@jit(nogil=True)
def kim_smoother(transition: np.ndarray, predicted: np.ndarray, filtered: np.ndarray, smoothed: np.ndarray) -> None:
    """Probabilities of the states given the whole series, `(n, k)`, from those of the filter. Kim (1994)."""
    n, k = filtered.shape[0], filtered.shape[1]
    for j in range(k):
        smoothed[n - 1, j] = filtered[n - 1, j]
    for t in range(n - 2, -1, -1):
        for i in range(k):
            ahead = 0.0
            for j in range(k):
                if predicted[t + 1, j] > 0.0:
                    ahead += transition[i, j] * smoothed[t + 1, j] / predicted[t + 1, j]
            smoothed[t, i] = filtered[t, i] * ahead


@jit(nogil=True)
def viterbi_path(
    x: np.ndarray,
    means: np.ndarray,
    deviations: np.ndarray,
    log_transition: np.ndarray,
    log_start: np.ndarray,
    score: np.ndarray,
    origin: np.ndarray,
    path: np.ndarray,
) -> None:
    """The single most likely sequence of states, `path` `(n,)`. Room to work: `score` `(2, k)`, `origin` `(n, k)`."""
    n, k = x.shape[0], means.shape[0]
    for t in range(n):
        now, before = t % 2, (t + 1) % 2
        for j in range(k):
            z, best, source = (x[t] - means[j]) / deviations[j], log_start[j], 0
            if t > 0:
                best = score[before, 0] + log_transition[0, j]
                for i in range(1, k):
                    if score[before, i] + log_transition[i, j] > best:
                        best, source = score[before, i] + log_transition[i, j], i
            score[now, j], origin[t, j] = best - 0.5 * z * z - math.log(deviations[j]), source
    last = 0
    for j in range(1, k):
        if score[(n - 1) % 2, j] > score[(n - 1) % 2, last]:
            last = j
    for t in range(n - 1, -1, -1):
        path[t] = last
        last = origin[t, last]


def stationary_distribution(transition: Any) -> tuple[float, ...]:
    """Share of time that a chain with these transition probabilities spends in each state, in the long run.

    `ParameterError` where a state is left for good or never entered: there is no long run then. Grassmann, Taksar and
    Heyman's elimination in plain floats, the same bits everywhere.
    """
    rows = [[float(p) for p in row] for row in transition]
    for last in range(len(rows) - 1, 0, -1):
        leaving = sum(rows[last][:last])
        if leaving <= 0.0:
            raise ParameterError(f"state {last} is never left for a calmer one: that is a break, not a regime")
        for i in range(last):
            rows[i][last] /= leaving
            for j in range(last):
                rows[i][j] += rows[i][last] * rows[last][j]
    shares = [1.0]
    for j in range(1, len(rows)):
        shares.append(sum(shares[i] * rows[i][j] for i in range(j)))
    if min(shares) <= 0.0:
        raise ParameterError(f"state {shares.index(min(shares))} is never entered again: fit fewer states")
    return tuple(share / sum(shares) for share in shares)


def checked_returns(returns: Any, least: int) -> tuple[np.ndarray, int]:
    """`returns` as float64 `(n,)`, and the row of the first known one; `DataError` for a hole or infinity after it."""
    values = np.ascontiguousarray(returns, dtype=np.float64)
    if values.ndim != 1:
        raise DataError(f"returns have shape {values.shape}: one column is needed")
    begin = first_valid(values)
    with np.errstate(invalid="ignore"):
        bad = ~(np.abs(values[begin:]) < _LARGEST)
    if bad.any():
        row = begin + int(np.argmax(bad))
        where = returns.index[row] if isinstance(returns, pd.Series) else f"row {row}"
        raise DataError(f"the return at {where} is {values[row]}: cut the sample or repair it; nothing is filled here")
    if len(values) - begin < least:
        raise DataError(f"{len(values) - begin} returns are too few: at least {least} are needed")
    return values, begin


class RegimeTraining(Parameters):
    """How a model was fitted: on what, and how sure one can be that no better fit was missed."""

    first: str = Field(description="label of the first return")
    last: str = Field(description="label of the last return: before its close the model could not be known")
    observations: int
    switching: Switching
    log_likelihood: float
    free_parameters: int
    seed: int
    starts: int = Field(description="starting points tried")
    agreeing: int = Field(description="of those followed to the end, how many reached this optimum within 1e-4")
    followed: int = Field(description="starting points followed to the end")
    collapsed: int = Field(description="starting points lost because a state shrank onto a few values")

    @property
    def aic(self) -> float:
        """Akaike's information criterion, -2 log L + 2 p."""
        return 2.0 * self.free_parameters - 2.0 * self.log_likelihood

    @property
    def bic(self) -> float:
        """Schwarz's information criterion, -2 log L + p log n."""
        return self.free_parameters * math.log(self.observations) - 2.0 * self.log_likelihood


class RegimeModel(Parameters):
    """Returns whose mean and volatility depend on a hidden state that follows a Markov chain; states by volatility.

    Immutable and made of plain numbers: it travels inside a strategy's configuration. State 0 is the calmest.
    """

    means: tuple[float, ...] = Field(min_length=1, max_length=10, description="of the returns per bar, by state")
    volatilities: tuple[float, ...] = Field(description="standard deviations of the returns per bar, ascending")
    transition: tuple[tuple[float, ...], ...] = Field(description="probabilities from a state (row) to the next bar's")
    training: RegimeTraining | None = Field(None, description="how it was fitted; None: written down by hand")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        k = len(self.means)
        if len(self.volatilities) != k or [len(row) for row in self.transition] != [k] * k:
            raise ValueError(f"{k} means need {k} volatilities and {k} x {k} transition probabilities")
        if min(self.volatilities) < 1.0 / _LARGEST or list(self.volatilities) != sorted(self.volatilities):
            raise ValueError(f"volatilities must be positive and ascending, got {self.volatilities}")
        for row in self.transition:
            if min(row) < 0.0 or abs(sum(row) - 1.0) > 1e-9:
                raise ValueError(f"each row of transition must be probabilities that sum to 1, got {row}")
        _ = self.stationary
        return self

    @property
    def states(self) -> int:
        """How many states there are."""
        return len(self.means)

    @cached_property
    def stationary(self) -> tuple[float, ...]:
        """Share of time in each state in the long run; the filter starts from it."""
        return stationary_distribution(self.transition)

    @property
    def expected_durations(self) -> tuple[float, ...]:
        """Bars that a visit to each state lasts on average, 1 / (1 - p_ii)."""
        leaving = (sum(p for j, p in enumerate(row) if j != i) for i, row in enumerate(self.transition))
        return tuple(1.0 / p if p > 0.0 else math.inf for p in leaving)

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of everything that decides its numbers."""
        return digest(self.model_dump(mode="json", exclude={"training"}))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, and enough to build the model again."""
        return self.model_dump(mode="json")

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> RegimeModel:
        """The model that `to_dict` wrote; `ParameterError` for anything else."""
        return cls(**content)

    def filtered(self, returns: Any) -> pd.DataFrame:
        """P(state at t | returns up to t), a column per state: what a signal may use. Leading NaN stay NaN."""
        return self._table(returns, self._run(returns).filtered)

    def predicted(self, returns: Any) -> pd.DataFrame:
        """P(state at t + 1 | returns up to t), a column per state: of the bar that a decision at t will earn."""
        filtered = self._run(returns).filtered
        return self._table(returns, _ahead(filtered, np.array(self.transition)))

    def smoothed(self, returns: Any) -> pd.DataFrame:
        """P(state at t | all returns), a column per state: for looking back, never for a signal."""
        checked_returns(returns, 1)
        run = self._run(returns)
        smoothed = np.empty_like(run.filtered)
        kim_smoother(np.array(self.transition), run.predicted, run.filtered, smoothed)
        return self._table(returns, smoothed)

    def filtered_states(self, returns: Any) -> pd.Series:
        """The likeliest state of each bar by what was known at its close (Int64; a tie goes to the calmer)."""
        return self._series(returns, np.argmax(self._run(returns).filtered, axis=1))

    def viterbi(self, returns: Any) -> pd.Series:
        """The most likely path of states through all returns (Int64): for looking back, never for a signal."""
        values, begin = checked_returns(returns, 1)
        gaussian, n = self._arrays(), len(values) - begin
        path, origin = np.empty(n, dtype=np.int64), np.empty((n, self.states), dtype=np.int64)
        with np.errstate(divide="ignore"):
            logs = np.log(gaussian.transition), np.log(gaussian.start)
        room = np.empty((2, self.states))
        viterbi_path(values[begin:].copy(), gaussian.means, gaussian.deviations, *logs, room, origin, path)
        return self._series(returns, path)

    def log_likelihood(self, returns: Any) -> float:
        """Log-likelihood of `returns`, of any sample: compare models on one that none of them was fitted to."""
        return self._run(returns).log_likelihood

    def simulate(self, periods: int, *, seed: int = 0) -> pd.DataFrame:
        """A path of `periods` bars drawn from the model: columns return and state; begins in the long run."""
        if isinstance(periods, bool) or not isinstance(periods, int | np.integer) or periods < 1:
            raise ParameterError(f"periods must be a whole number of bars, at least 1; got {periods!r}")
        random = np.random.default_rng(seed)
        draws, noise = random.random(periods), random.standard_normal(periods)
        shares, rows = np.cumsum(self.stationary), np.cumsum(self.transition, axis=1)
        state = np.empty(periods, dtype=np.int64)
        for t in range(periods):
            chances = shares if t == 0 else rows[state[t - 1]]
            state[t] = min(int(np.searchsorted(chances, draws[t], side="right")), self.states - 1)
        values = np.array(self.means)[state] + np.array(self.volatilities)[state] * noise
        return pd.DataFrame({"return": values, "state": state})

    def memory(self, tolerance: float = 0.01) -> int | None:
        """Bars after which no filtered probability can still depend on its start by more than `tolerance`.

        A bound for any data whatever, by Birkhoff's contraction of Hilbert's distance; None where a transition is
        impossible and there is no such bound. In practice the start is forgotten sooner. Atar & Zeitouni (1997).
        """
        if not 0.0 < tolerance < 1.0:
            raise ParameterError(f"tolerance must lie strictly between 0 and 1; got {tolerance!r}")
        rows, k = self.transition, range(self.states)
        if min(min(row) for row in rows) <= 0.0:
            return None
        ratios = (rows[i][m] * rows[j][n] / (rows[j][m] * rows[i][n]) for i, j, m, n in product(k, k, k, k))
        distance = math.log(max(ratios))
        shrinks, wanted = math.tanh(distance / 4.0), 4.0 * math.atanh(tolerance)
        if distance <= wanted:
            return 2
        return 2 + math.ceil(math.log(wanted / distance) / math.log(shrinks)) if shrinks < 1.0 else None

    def to_frame(self) -> pd.DataFrame:
        """A row per state: mean, volatility, share of time, expected_duration, and the transition probabilities."""
        table = {
            "mean": self.means,
            "volatility": self.volatilities,
            "share": self.stationary,
            "expected_duration": self.expected_durations,
        }
        ahead = {f"to_{j}": [row[j] for row in self.transition] for j in range(self.states)}
        return pd.DataFrame(table | ahead, index=pd.RangeIndex(self.states, name="state"))

    def summary(self) -> str:
        """The states in a table, and how the model was fitted."""
        return f"{self.to_frame().to_string(float_format='{:.5g}'.format)}\n{self._told()}"

    def _told(self) -> str:
        t = self.training
        if t is None:
            return "Written down by hand: fitted to nothing."
        found = f"{t.agreeing} of {t.followed} starting points followed to the end agree"
        lost = f"; {t.collapsed} of {t.starts} collapsed" if t.collapsed else ""
        fit = f"log-likelihood {t.log_likelihood:.2f}, BIC {t.bic:.1f}"
        return f"Fitted to {t.observations:,} returns, {t.first[:10]} to {t.last[:10]}: {fit}. {found}{lost}."

    def _repr_html_(self) -> str:
        table = self.to_frame().to_html(float_format="{:.5g}".format)
        return f"{table}<p>{html.escape(self._told())}</p>"

    def _arrays(self) -> GaussianStates:
        return GaussianStates(*map(np.array, (self.means, self.volatilities, self.transition, self.stationary)))

    def _run(self, returns: Any) -> _Run:
        values, begin = checked_returns(returns, 0)
        filtered = np.empty((len(values) - begin, self.states))
        predicted = np.empty_like(filtered)
        likelihood = hamilton_filter(values[begin:].copy(), *self._arrays(), predicted, filtered)
        return _Run(predicted, filtered, float(likelihood))

    def _table(self, returns: Any, known: np.ndarray) -> pd.DataFrame:
        table = np.full((len(returns), self.states), np.nan)
        table[len(returns) - len(known) :] = known
        index = returns.index if isinstance(returns, pd.Series) else None
        return pd.DataFrame(table, index, pd.RangeIndex(self.states, name="state"))

    def _series(self, returns: Any, known: np.ndarray) -> pd.Series:
        states = pd.array([pd.NA] * (len(returns) - len(known)) + known.tolist(), dtype="Int64")
        return pd.Series(states, returns.index if isinstance(returns, pd.Series) else None, name="state")


class _Run(NamedTuple):
    predicted: np.ndarray
    filtered: np.ndarray
    log_likelihood: float


@jit(nogil=True)
def _propagate(filtered: np.ndarray, transition: np.ndarray, ahead: np.ndarray) -> None:
    """One step of the chain after each row; a loop, because a matrix product may round differently elsewhere."""
    for t in range(filtered.shape[0]):
        for j in range(transition.shape[0]):
            p = 0.0
            for i in range(transition.shape[0]):
                p += filtered[t, i] * transition[i, j]
            ahead[t, j] = p


def _ahead(filtered: np.ndarray, transition: np.ndarray) -> np.ndarray:
    ahead = np.empty_like(filtered)
    _propagate(filtered, transition, ahead)
    return ahead
