"""The tables behind every report: drawdowns, years, tails, trades by kind, costs and turnover by period.

Each is computed here once and shown by the page, the PDF and the workbook alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from tradelib.backtest.metrics import drawdown_series, information_ratio, profit_factor, summary_metrics
from tradelib.backtest.plots import buy_and_hold, monthly_returns
from tradelib.backtest.result import Result
from tradelib.errors import ParameterError
from tradelib.risk.value_at_risk import historical_risk

__all__ = [
    "benchmark_returns",
    "costs_by_year",
    "covering",
    "daily_returns",
    "drawdown_table",
    "metrics_table",
    "monthly_returns",
    "monthly_turnover",
    "rolling_table",
    "rolling_window",
    "settings_table",
    "stamp",
    "symbol_table",
    "tail_table",
    "trade_groups",
    "yearly_table",
]


def benchmark_returns(result: Result, benchmark: pd.Series[float] | str | None) -> pd.Series[float] | None:
    """Simple returns of a benchmark on the bars of `result`.

    "hold": the traded symbols in equal parts bought at the first open and held, no costs; or a Series of returns; or
    None. `ParameterError` for anything else and where a bar has no return.
    """
    if benchmark is None:
        return None
    if isinstance(benchmark, str):
        if benchmark != "hold":
            raise ParameterError(f"benchmark must be a Series of returns, 'hold' or None, got {benchmark!r}")
        value = buy_and_hold(result)
        before = np.concatenate([[result.initial_cash], value.to_numpy()[:-1]])
        return pd.Series(value.to_numpy() / before - 1.0, value.index, name="buy and hold")
    if not isinstance(benchmark, pd.Series):
        raise ParameterError(f"benchmark must be a Series of returns, 'hold' or None, got {type(benchmark).__name__}")
    return covering(benchmark, result).rename(str(benchmark.name or "benchmark"))


def covering(benchmark: pd.Series[float], result: Result) -> pd.Series[float]:
    """The returns of `benchmark` on the bars of `result`; `ParameterError` names the first bar without one."""
    missing = result.index.difference(pd.Index(benchmark.dropna().index))
    if len(missing):
        raise ParameterError(
            f"the benchmark has no return at {missing[0]} ({len(missing)} of {len(result.index)} bars)"
        )
    return benchmark.loc[result.index]


def daily_returns(returns: pd.Series[float]) -> pd.Series[float]:
    """Returns compounded to UTC days that have a bar; the same Series where bars are days or longer."""
    index = pd.DatetimeIndex(returns.index)
    days = index.normalize()
    if days.is_unique:
        return returns
    return ((1.0 + returns).groupby(days).prod() - 1.0).rename(str(returns.name))


def drawdown_table(returns: pd.Series[float], most: int | None = 10) -> pd.DataFrame:
    """The `most` deepest drawdowns (None: all), deepest first.

    `start`: first bar below the last peak; `bottom`; `recovered`: first bar at or above the peak again, NaT where that
    is still to come. `depth`: a negative fraction of the peak. `bars`: from `start` to the bar before `recovered`, or
    to the end; `bars_to_bottom`, `bars_to_recover`: the two parts of it. The wealth of 1 at the start is a peak.
    """
    depth = drawdown_series(returns).to_numpy()
    under = np.concatenate([[False], depth < 0.0, [False]])
    starts, ends = np.flatnonzero(~under[:-1] & under[1:]), np.flatnonzero(under[:-1] & ~under[1:])
    bottoms = np.array([a + int(np.argmin(depth[a:b])) for a, b in zip(starts, ends, strict=True)], dtype=np.int64)
    order = np.argsort(depth[bottoms], kind="stable")[:most]
    starts, bottoms, ends = starts[order], bottoms[order], ends[order]
    index, back = pd.DatetimeIndex(returns.index), ends < len(depth)
    columns = {
        "start": index[starts],
        "bottom": index[bottoms],
        "recovered": index[np.minimum(ends, len(depth) - 1)].where(back),
        "depth": depth[bottoms],
        "bars": ends - starts,
        "bars_to_bottom": bottoms - starts + 1,
        "bars_to_recover": ends - bottoms - 1,
    }
    return pd.DataFrame(columns, index=pd.RangeIndex(1, len(order) + 1, name="rank"))


def yearly_table(returns: pd.Series[float], benchmark: pd.Series[float] | None = None) -> pd.DataFrame:
    """By calendar year (UTC): `strategy`, `maximum_drawdown` within the year, and beside a benchmark `excess`."""
    year = pd.DatetimeIndex(returns.index).year
    table = pd.DataFrame({"strategy": (1.0 + returns).groupby(year).prod() - 1.0})
    table["maximum_drawdown"] = [float(drawdown_series(part).min()) for _, part in returns.groupby(year)]
    if benchmark is not None:
        table["benchmark"] = (1.0 + benchmark).groupby(year).prod() - 1.0
        table["excess"] = table["strategy"] - table["benchmark"]
    return table.rename_axis("year")


def rolling_table(returns: pd.Series[float], periods_per_year: float, window: int) -> pd.DataFrame:
    """Annualised Sharpe ratio and volatility of the last `window` returns at each bar; NaN where undefined."""
    deviation = returns.rolling(window).std(ddof=1)
    flat = returns.rolling(window).max() == returns.rolling(window).min()
    deviation = deviation.where(~flat, 0.0)
    sharpe = returns.rolling(window).mean() / deviation.where(deviation > 0.0) * math.sqrt(periods_per_year)
    return pd.DataFrame({"sharpe_ratio": sharpe, "annual_volatility": deviation * math.sqrt(periods_per_year)})


def rolling_window(result: Result) -> int:
    """Bars of a rolling figure: half a year, at most a third of the run, at least 20."""
    return max(20, min(round(result.periods_per_year / 2), len(result.index) // 3))


def tail_table(returns: pd.Series[float], alphas: tuple[float, ...] = (0.05, 0.01)) -> pd.DataFrame:
    """Historical value at risk and expected shortfall of one bar by tail probability; losses are positive.

    Quantile of type 7 and mean of the tail. A probability that fewer than one return stands for is left out.
    """
    rows = {}
    for alpha in alphas:
        if len(returns) * alpha >= 1.0:
            var, es = historical_risk(returns.to_numpy()[:, None], alpha)
            rows[alpha] = {"value_at_risk": float(var[0]), "expected_shortfall": float(es[0])}
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["value_at_risk", "expected_shortfall"])
    return table.rename_axis("alpha")


def metrics_table(result: Result, benchmark: pd.Series[float] | None = None) -> dict[str, dict[str, float]]:
    """Figures of the strategy and, beside it, of the benchmark: name -> metric -> value."""
    columns = {"strategy": dict(result.metrics)}
    if benchmark is not None:
        periods = result.periods_per_year
        columns[str(benchmark.name)] = summary_metrics(benchmark, periods)
        columns["strategy"]["information_ratio"] = information_ratio(result.returns, benchmark, periods)
    return columns


def trade_groups(trades: pd.DataFrame, by: str) -> pd.DataFrame:
    """Trades by a column of the trade table: how many, won, earned, and how long held; `all` last.

    `by`: "side", "reason" or "symbol". `profit` net of fees, `return` its mean on the entry value, `bars` the mean.
    """
    named = trades.assign(reason=trades["reason"].where(~trades["open"], "still open"))
    groups = dict(list(named.groupby(by, sort=False))) | {"all": trades}
    rows = {str(name): _trade_group(part) for name, part in groups.items()}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(by)


def _trade_group(trades: pd.DataFrame) -> dict[str, float]:
    profit = trades["profit"]
    decided = int((profit != 0.0).sum())
    return {
        "trades": len(trades),
        "win_rate": float((profit > 0.0).sum() / decided) if decided else math.nan,
        "profit": float(profit.sum()),
        "profit_factor": profit_factor(profit) if len(trades) else math.nan,
        "return": float(trades["return"].mean()) if len(trades) else math.nan,
        "best": float(profit.max()) if len(trades) else math.nan,
        "worst": float(profit.min()) if len(trades) else math.nan,
        "bars": float(trades["bars"].mean()) if len(trades) else math.nan,
    }


def symbol_table(result: Result) -> pd.DataFrame:
    """By symbol, largest profit first: trades and their net profit, costs, traded value, weight and time held."""
    trades, fills, weights = result.trades, result.fills, result.weights
    traded = (fills["quantity"].abs() * fills["price"]).groupby(fills["symbol"]).sum()
    paid = fills[["fee", "slippage_cost"]].groupby(fills["symbol"]).sum()
    table = pd.DataFrame(index=pd.Index(list(result.symbols), name="symbol"))
    table["trades"] = trades.groupby("symbol").size()
    table["win_rate"] = [_trade_group(trades[trades["symbol"] == name])["win_rate"] for name in table.index]
    table["profit"] = trades.groupby("symbol")["profit"].sum()
    table["fees"], table["slippage"], table["traded_value"] = paid["fee"], paid["slippage_cost"], traded
    table["mean_weight"], table["exposure"] = weights.mean(), (weights != 0.0).mean()
    counted = ["trades", "profit", "fees", "slippage", "traded_value"]
    table[counted] = table[counted].fillna(0.0)
    return table.sort_values("profit", ascending=False, kind="stable").astype({"trades": "int64"})


def costs_by_year(result: Result) -> pd.DataFrame:
    """What was paid in each calendar year (UTC) in quote currency, by kind; what was received is negative.

    Columns: fees, slippage (with spread and impact), then funding, borrow, interest and liquidation fees where any.
    """
    fills, book = result.fills, result.cash_book
    years = pd.DatetimeIndex(fills["time"]).year
    table = fills[["fee", "slippage_cost"]].groupby(years).sum()
    table = table.rename(columns={"fee": "fees", "slippage_cost": "slippage"})
    moved = book[book["amount"] != 0.0]
    if len(moved):
        others = (-moved["amount"]).groupby([pd.DatetimeIndex(moved["time"]).year, moved["kind"]]).sum().unstack()
        table = table.join(others, how="outer")
    return table.fillna(0.0).rename_axis(index="year", columns=None)


def monthly_turnover(result: Result) -> pd.Series[float]:
    """Value of all fills of a month (UTC) over the mean equity of its closes; 0 where nothing was traded."""
    month = pd.DatetimeIndex(result.index).tz_localize(None).to_period("M")
    equity = result.equity.groupby(month).mean()
    fills = result.fills
    value = (fills["quantity"].abs() * fills["price"]).to_numpy()
    when = pd.DatetimeIndex(fills["time"]).tz_localize(None).to_period("M")
    traded = pd.Series(value, index=when).groupby(level=0).sum().reindex(equity.index, fill_value=0.0)
    return (traded / equity).rename("turnover").rename_axis("month")


def settings_table(result: Result) -> dict[str, str]:
    """Every setting of the run as text by its path, the window and the data included."""
    settings: dict[str, str] = {}
    config: Mapping[str, Any] = {"run with": result.name} if result.rule is None else result.rule.to_config()
    _flatten(config, "", settings)
    _flatten(result.costs.model_dump(mode="json"), "costs.", settings)
    _flatten(result.market.model_dump(mode="json"), "market.", settings)
    panel, index = result.panel, result.index
    symbols = ", ".join(panel.symbols[:20]) + (
        f" and {len(panel.symbols) - 20} more" if len(panel.symbols) > 20 else ""
    )
    return settings | {
        "initial cash": f"{result.initial_cash:,.2f} {result.currency}".strip(),
        "symbols": symbols,
        "timeframe": panel.timeframe,
        "calendar": panel.calendar,
        "periods per year": f"{result.periods_per_year:,.0f}",
        "first bar": stamp(index[0]),
        "last bar": stamp(index[-1]),
        "bars": f"{len(index):,}",
        "digest of the data": panel.digest,
    }


def _flatten(config: Mapping[str, Any], above: str, settings: dict[str, str]) -> None:
    for name, value in config.items():
        if isinstance(value, Mapping) and set(value) == {"name", "params"}:
            settings[f"{above}{name}"] = str(value["name"])
            _flatten(value["params"], f"{above}{name}.", settings)
        elif isinstance(value, Mapping):
            _flatten(value, f"{above}{name}.", settings)
        else:
            settings[f"{above}{name}"] = "–" if value is None else str(value)


def stamp(time: pd.Timestamp) -> str:
    """A bar's UTC time in ISO form without what is zero anyway."""
    return f"{time:%Y-%m-%d}" if time == time.normalize() else f"{time:%Y-%m-%d %H:%M}"
