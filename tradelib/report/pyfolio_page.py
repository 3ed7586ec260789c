"""The pyfolio report of a result: that library's figures and tables, with its known faults put right.

pyfolio (pyfolio-reloaded 0.10.1) is what many desks read. Taken as it is, it
- annualises everything by 252 days, also the 365 days of a market that never closes, and takes bars for days;
- rebuilds round trips from transactions in whole units: 0.3 of a coin disappears, a million shares become a list of a
  million prices; and it leaves fees out of them;
- reseeds the global random numbers, prints its tables, and warns of what other libraries plan to change.

Here its functions draw on axes of their own from one `Result`: returns compounded to days, positions in quote currency
at the last close of a day, every fill, and the round trips that the account really made, net of fees. The report is one
page (.html) or one document (.pdf) without a date of its making: the same result gives the same bytes.
"""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tradelib.data.files import replace_file
from tradelib.data.timeframes import parse_timeframe, periods_per_year
from tradelib.errors import DataError, ParameterError, require
from tradelib.report.page import Markup, card, page, table, tag
from tradelib.report.paper import Paper, look
from tradelib.report.tables import covering, daily_returns, stamp

if TYPE_CHECKING:
    from tradelib.backtest.result import Result

__all__ = ["pyfolio_report", "pyfolio_statistics"]

_LEAST_DAYS = 60


def pyfolio_report(
    result: Result, path: str | Path, benchmark: pd.Series[float] | None = None, *, title: str | None = None
) -> Path:
    """Write pyfolio's report of `result` to `path` (.html or .pdf) in one step; returns the path.

    `benchmark`: simple returns covering the bars of the result, or None. Takes several seconds. `ParameterError` for
    another ending, an account that never moved, or a benchmark that does not fit; `DataError` for fewer than 60 days.
    """
    ending = Path(path).suffix.lower()
    if ending not in (".html", ".pdf"):
        raise ParameterError(f"{path}: a pyfolio report is saved as .html or .pdf; choose one of these endings")
    told = _Told(result, None if benchmark is None else covering(benchmark, result), title or result.title)
    _check(told)
    with _repaired(told.periods):
        return replace_file(path, _as_html(told) if ending == ".html" else _as_pdf(told))


def pyfolio_statistics(result: Result, benchmark: pd.Series[float] | None = None) -> pd.Series[float]:
    """The figures of the report's first table, as pyfolio computes them from daily returns; by its names."""
    told = _Told(result, None if benchmark is None else covering(benchmark, result), "")
    _check(told)
    with _repaired(told.periods):
        return _statistics(told)


def _check(told: _Told) -> None:
    if not (told.returns != 0.0).any():
        raise ParameterError("the account never moved: there is nothing for pyfolio to draw")
    if len(told.returns) < _LEAST_DAYS:
        raise DataError(f"{len(told.returns)} days are too few for pyfolio's report: at least {_LEAST_DAYS}")


@dataclass(frozen=True, eq=False)
class _Told:
    """A result in the words of pyfolio: UTC times without a zone, bars compounded to days."""

    result: Result
    benchmark_bars: pd.Series[float] | None
    title: str

    @property
    def periods(self) -> float:
        """Days (or longer bars) in a year."""
        frame = parse_timeframe(self.result.panel.timeframe)
        daily = frame.nanoseconds < 86_400_000_000_000
        return periods_per_year(self.result.panel.calendar, "1d") if daily else self.result.periods_per_year

    @cached_property
    def returns(self) -> pd.Series[float]:
        return _naive(daily_returns(self.result.returns))

    @cached_property
    def benchmark(self) -> pd.Series[float] | None:
        return None if self.benchmark_bars is None else _naive(daily_returns(self.benchmark_bars))

    @cached_property
    def positions(self) -> pd.DataFrame:
        """Held value by symbol, and cash, at the last close of each day."""
        result, symbols = self.result, list(self.result.symbols)
        held = result.positions[["quantity"]] if len(symbols) == 1 else result.positions
        values = pd.DataFrame(held.to_numpy() * result.panel.close[result.first :], result.index, symbols)
        values["cash"] = result.cash
        return _naive(values.groupby(pd.DatetimeIndex(result.index).normalize()).last())

    @cached_property
    def transactions(self) -> pd.DataFrame:
        """Every fill: amount, price, symbol."""
        fills = self.result.fills.set_index("time")[["quantity", "price", "symbol"]]
        return _naive(fills.rename(columns={"quantity": "amount"}))

    @cached_property
    def round_trips(self) -> pd.DataFrame:
        """The account's own round trips, net of fees; `returns` on the equity at the start of the last day."""
        trades = self.result.trades
        opened, closed = (pd.DatetimeIndex(trades[name]).tz_localize(None) for name in ("entry_time", "exit_time"))
        start = (self.positions.sum(axis=1) / (1.0 + self.returns)).reindex(closed.normalize()).to_numpy()
        columns = {"pnl": trades["profit"].to_numpy(), "open_dt": opened, "close_dt": closed}
        columns |= {"long": (trades["side"] == "long").to_numpy(), "rt_returns": trades["return"].to_numpy()}
        columns |= {"symbol": trades["symbol"].to_numpy(), "duration": closed - opened}
        return pd.DataFrame(columns | {"returns": trades["profit"].to_numpy() / start})


def _naive(values: Any) -> Any:
    index = pd.DatetimeIndex(values.index)
    return values.set_axis(index.tz_localize(None) if index.tz is not None else index, axis=0)


@contextmanager
def _repaired(periods: float) -> Iterator[None]:
    """pyfolio with the days of this calendar, quiet, and without a trace in the global random numbers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        series, factors = require("pyfolio.timeseries", "research"), require("empyrical.periods", "research")
        known, days = dict(factors.ANNUALIZATION_FACTORS), series.APPROX_BDAYS_PER_YEAR
        state = np.random.get_state()  # pyfolio seeds the global generator: it is put back
        factors.ANNUALIZATION_FACTORS[factors.DAILY], series.APPROX_BDAYS_PER_YEAR = periods, periods
        try:
            with look({"svg.hashsalt": "tradelib"}):
                yield
        finally:
            np.random.set_state(state)
            factors.ANNUALIZATION_FACTORS.update(known)
            series.APPROX_BDAYS_PER_YEAR = days


def _statistics(told: _Told) -> pd.Series[float]:
    series = require("pyfolio.timeseries", "research")
    found: pd.Series[float] = series.perf_stats(told.returns, told.benchmark, told.positions, told.transactions)
    return found


# Tables ---------------------------------------------------------------------------------------------------------------

_SHARES = (
    "Annual return",
    "Cumulative returns",
    "Annual volatility",
    "Max drawdown",
    "Daily value at risk",
    "Daily turnover",
)
Table = tuple[str, list[str], list[list[str]]]


def _tables(told: _Told) -> list[Table]:
    """Title, heading and rows of every table, as text."""
    found = [_statistics_table(told), _drawdown_table(told), *_stress_table(told)]
    return found + (_trip_tables(told) if len(told.round_trips) else [])


def _statistics_table(told: _Told) -> Table:
    rows = [[str(k), f"{v:.3%}" if k in _SHARES else f"{v:.4f}"] for k, v in _statistics(told).items()]
    return f"Performance, at {told.periods:g} days a year", ["", "strategy"], rows


def _drawdown_table(told: _Told) -> Table:
    worst = require("pyfolio.timeseries", "research").gen_drawdown_table(told.returns, 5)
    worst = worst.dropna(subset=["Peak date"]).sort_values("Net drawdown in %", ascending=False)
    rows = [[_cell(value) for value in row] for row in worst.to_numpy(dtype=object)]
    return "Worst drawdown periods", [str(name) for name in worst.columns], rows


def _cell(value: Any) -> str:
    if value is None or value is pd.NaT or (isinstance(value, float) and value != value):
        return "–"
    if isinstance(value, pd.Timestamp):
        return stamp(value)
    return f"{value:,.2f}" if isinstance(value, float) else str(value)


def _stress_table(told: _Told) -> list[Table]:
    """pyfolio's episodes of the past that lie within the run."""
    series = require("pyfolio.timeseries", "research")
    found = series.extract_interesting_date_ranges(told.returns.tz_localize("UTC"))
    rows = [[name, *(f"{v:.2%}" for v in (part.mean(), part.min(), part.max()))] for name, part in found.items()]
    return [("Stress events: daily returns", ["", "mean", "worst", "best"], rows)] if rows else []


_TRIP_TITLES = {
    "summary": "Round trips",
    "pnl": "Profit per round trip",
    "returns": "Return of equity per round trip",
    "duration": "Duration of round trips",
}


def _trip_tables(told: _Told) -> list[Table]:
    stats = require("pyfolio.round_trips", "research").gen_round_trip_stats(told.round_trips)
    found = []
    for key, title in _TRIP_TITLES.items():
        frame = stats[key]
        values = zip(frame.index, frame.to_numpy(dtype=object), strict=True)
        rows = [[str(name), *(_trip_cell(key, value) for value in row)] for name, row in values]
        found.append((title, ["", *(str(name) for name in frame.columns)], rows))
    return found


def _trip_cell(key: str, value: Any) -> str:
    if pd.isna(value):
        return "–"
    if key == "duration":
        return str(pd.Timedelta(value).round("min"))
    return f"{value:.3%}" if key == "returns" else f"{value:,.2f}"


# Figures --------------------------------------------------------------------------------------------------------------

Draw = Callable[[Any], Any]
_HEAT_MAP = "Returns by month (%)"


def _figures(told: _Told) -> list[tuple[str, Draw]]:
    """Title and painter of every figure."""
    drawn = _return_figures(told) + _position_figures(told)
    return drawn + (_trip_figures(told) if len(told.round_trips) else [])


def _return_figures(told: _Told) -> list[tuple[str, Draw]]:
    p, returns, other = require("pyfolio.plotting", "research"), told.returns, told.benchmark
    half = max(20, min(round(told.periods / 2), len(returns) // 3))
    beta = [("Rolling beta", lambda ax: p.plot_rolling_beta(returns, other, ax=ax))] if other is not None else []
    against, window = {"factor_returns": other}, {"rolling_window": half}
    return [
        ("Cumulative returns", lambda ax: p.plot_rolling_returns(returns, **against, ax=ax)),
        ("Cumulative returns, logarithmic", lambda ax: p.plot_rolling_returns(returns, **against, logy=True, ax=ax)),
        ("Returns", lambda ax: p.plot_returns(returns, ax=ax)),
        *beta,
        (f"Rolling volatility, {half} days", lambda ax: p.plot_rolling_volatility(returns, other, **window, ax=ax)),
        (f"Rolling Sharpe ratio, {half} days", lambda ax: p.plot_rolling_sharpe(returns, **window, ax=ax)),
        ("The five deepest drawdowns", lambda ax: p.plot_drawdown_periods(returns, top=5, ax=ax)),
        ("Underwater", lambda ax: p.plot_drawdown_underwater(returns, ax=ax)),
        (_HEAT_MAP, lambda ax: p.plot_monthly_returns_heatmap(returns, ax=ax)),
        ("Returns by year", lambda ax: p.plot_annual_returns(returns, ax=ax)),
        ("Distribution of monthly returns", lambda ax: p.plot_monthly_returns_dist(returns, ax=ax)),
        ("Quantiles of returns", lambda ax: p.plot_return_quantiles(returns, ax=ax)),
    ]


def _position_figures(told: _Told) -> list[tuple[str, Draw]]:
    p, returns, held, traded = require("pyfolio.plotting", "research"), told.returns, told.positions, told.transactions
    share = require("pyfolio.pos", "research").get_percent_alloc(held)
    largest = {"show_and_plot": 0, "legend_loc": "best"}
    found: list[tuple[str, Draw]] = [
        ("Exposure", lambda ax: p.plot_exposures(returns, held, ax=ax)),
        ("The ten largest holdings", lambda ax: p.show_and_plot_top_positions(returns, share, **largest, ax=ax)),
        ("Largest and median positions", lambda ax: p.plot_max_median_position_concentration(held, ax=ax)),
        ("Holdings, long and short", lambda ax: p.plot_long_short_holdings(returns, share, ax=ax)),
        ("Gross leverage", lambda ax: p.plot_gross_leverage(returns, held, ax=ax)),
    ]
    if len(traded):
        found.append(("Daily turnover", lambda ax: p.plot_turnover(returns, traded, held, ax=ax)))
        found.append(("Daily volume", lambda ax: p.plot_daily_volume(returns, traded, ax=ax)))
    return found


def _trip_figures(told: _Told) -> list[tuple[str, Draw]]:
    p, trips = require("pyfolio.plotting", "research"), told.round_trips
    found: list[tuple[str, Draw]] = [
        ("Round trips", lambda ax: p.plot_round_trip_lifetimes(trips, lsize=8, ax=ax)),
    ]
    if (trips["pnl"] > 0).any() and (trips["pnl"] <= 0).any():
        found.append(
            ("Probability of a profitable round trip", lambda ax: p.plot_prob_profit_trade(trips.copy(), ax=ax))
        )
    return found


def _height(told: _Told, name: str) -> float:
    """Inches on paper; the heat map needs a line for each year."""
    years = told.returns.index[-1].year - told.returns.index[0].year + 1
    return max(2.0, 0.19 * years + 0.6) if name == _HEAT_MAP else 2.0


def _finish(axes: Any) -> None:
    """The title stands above the figure already; names of axes that say nothing, and frames of legends, go."""
    axes.set_title("")
    legend = axes.get_legend()
    if legend is not None:
        legend.set_frame_on(False)
        axes.legend_.set_title(None)


# Forms ----------------------------------------------------------------------------------------------------------------


def _as_html(told: _Told) -> bytes:
    head = tag("header", tag("h1", told.title), tag("p", f"{_span(told)} The figures are pyfolio's.", class_="lead"))
    listed = [card(name, table(heads, rows, numbers=range(1, len(heads)))) for name, heads, rows in _tables(told)]
    drawn = [card(name, _image(name, draw, _height(told, name))) for name, draw in _figures(told)]
    return page(f"{told.title}: pyfolio", head, tag("div", *listed[:2], *drawn, *listed[2:], class_="grid")).encode()


def _span(told: _Told) -> str:
    return f"{stamp(told.returns.index[0])} to {stamp(told.returns.index[-1])}, {len(told.returns):,} days."


def _image(name: str, draw: Draw, height: float) -> Markup:
    """The figure as an image inside the page; an image of its own keeps the names inside it apart from others."""
    figure = require("matplotlib.figure", "research").Figure(figsize=(9.4, 1.6 * height), layout="constrained")
    axes = figure.add_subplot()
    draw(axes)
    _finish(axes)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    source = base64.b64encode(buffer.getvalue()).decode()
    style = "width:100%;background:#fff;border-radius:.4rem"
    return Markup(f'<img alt="{tag("i", name)[3:-4]}" style="{style}" src="data:image/svg+xml;base64,{source}"/>')


def _as_pdf(told: _Told) -> bytes:
    with Paper(f"{told.title}: pyfolio", f"{told.title} · pyfolio · data {told.result.panel.digest[:12]}") as paper:
        paper.headline(told.title, [f"{_span(told)} The figures are pyfolio's."])
        for name, heads, rows in _tables(told):
            paper.heading(name, keep=0.17 * min(len(rows) + 2, 12))
            paper.table(heads, rows, [1.6] + [1.0] * (len(heads) - 1))
        for name, draw in _figures(told):
            height = _height(told, name)
            paper.heading(name, keep=height + 0.1)
            (axes,) = paper.charts(height, inner=0.5, below=0.3)
            draw(axes)
            _finish(axes)
    return paper.content
