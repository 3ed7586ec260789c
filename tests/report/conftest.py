"""Results and pages that the tests of this room share: small, seeded, made with the real engine."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tradelib.backtest.decision import DecisionRule
from tradelib.backtest.engine import evaluate
from tradelib.backtest.result import Result
from tradelib.backtest.trials import TrialSummary
from tradelib.data.bars import make_bars
from tradelib.strategies.trend import TrendFollowing
from tradelib.validation.sharpe import deflated_sharpe

VOID = {"meta", "link", "br", "path", "line", "rect", "img", "hr"}


class Page(HTMLParser):
    """Reads a page: its visible text, what it asks the network for, and tags that do not close."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.words: list[str] = []
        self.requests: list[str] = []
        self.unbalanced: list[str] = []
        self.open: list[str] = []
        self.feed(source)
        self.unbalanced += self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.requests += [v for name, v in attrs if name in ("src", "href") and v and not v.startswith(("#", "data:"))]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.requests += [v for name, v in attrs if name in ("src", "href") and v and not v.startswith(("#", "data:"))]

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def market(count: int = 900, timeframe: str = "1d", seed: int = 2) -> pd.DataFrame:
    """A seeded random walk with volume, on the 24/7 calendar."""
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0.0004, 0.02, count)))
    opens = np.r_[100.0, close[:-1]]
    columns = {
        "open": opens,
        "high": np.maximum(opens, close) * 1.004,
        "low": np.minimum(opens, close) * 0.996,
        "close": close,
        "volume": rng.uniform(1e3, 2e3, count),
    }
    frequency = {"1d": "D", "1h": "h"}[timeframe]
    times = pd.date_range("2021-01-01", periods=count, freq=frequency, tz="UTC", name="time")
    return make_bars(
        pd.DataFrame(columns, index=times), symbol="TEST", timeframe=timeframe, source="seeded", calendar="24/7"
    )


def backtest(bars: pd.DataFrame, **window: Any) -> Result:
    """Trend following on `bars`."""
    return evaluate(DecisionRule.from_config(RULE), bars, **window)


RULE = {"strategy": {"name": TrendFollowing.__name__, "params": {"fast": 5, "slow": 20}}, "rebalance_band": 0.0}


@pytest.fixture(scope="session")
def bars() -> pd.DataFrame:
    return market()


@pytest.fixture(scope="session")
def result(bars: pd.DataFrame) -> Result:
    return backtest(bars)


def series(role: str, window: str | None, result: Result) -> dict[str, Any]:
    """A result's equity as the verdict page takes it."""
    times = [time.isoformat() for time in result.index]
    told = {"role": role, "times": times, "equity": result.equity.tolist(), "initial": result.initial_cash}
    return told if window is None else told | {"window": window}


@pytest.fixture
def candidate(bars: pd.DataFrame) -> dict[str, Any]:
    """Everything that can be said about one candidate."""
    spans = {
        "in_sample": ("2021-02-01", "2022-06-30"),
        "out_of_sample": ("2022-07-01", "2022-12-31"),
        "paper": ("2023-01-01", "2023-06-01"),
    }
    runs = {name: backtest(bars, start=start, end=end) for name, (start, end) in spans.items()}
    trials = TrialSummary("family", 6, (0.01, 0.03, -0.02, 0.05, 0.02, 0.0))
    evidence = deflated_sharpe(runs["in_sample"].returns, trials, periods_per_year=365)
    gates = [
        gate("causality", "safety", 0, "==", 0, True, "No decision changes when the future is cut off."),
        gate("deflated_sharpe", "evidence", evidence.deflated, ">=", 0.95, False, "Not convincing after 6 trials."),
    ]
    return {
        "name": "trend_test",
        "strategy": "TrendFollowing",
        "parameters": {"fast": 5, "slow": 20},
        "symbol": "TEST",
        "timeframe": "1d",
        "periods_per_year": 365,
        "permission": "paper",
        "summary": "Paper only: deflated Sharpe ratio too low.",
        "windows": [{"name": name, "start": start, "end": end} for name, (start, end) in spans.items()],
        "data": {"passed": True, "summary": "14 checks passed", "digest": bars.attrs["digest"], "checks": 14},
        "trials": 6,
        "figures": {name: finite(run.metrics) for name, run in runs.items()},
        "sharpe": evidence.to_dict(),
        "gates": gates,
        "registry": {"name": "trend_test", "version": 3, "alias": "challenger"},
        "bundle": {"digest": "ab" * 32, "path": "trend_test.bundle", "key": "local"},
        "parity": {"equal": True, "summary": "All 151 decisions are equal."},
        "series": [
            *(series("research", name, run) for name, run in runs.items()),
            series("paper", "paper", runs["paper"]),
        ],
        "sweep": {
            "row_name": "fast",
            "column_name": "slow",
            "rows": [5, 10],
            "columns": [20, 50, 100],
            "values": [[0.4, -0.2, None], [0.1, 0.3, 0.2]],
            "chosen": (5, 20),
        },
    }


def gate(
    name: str, tier: str, figure: Any, comparison: str, threshold: Any, passed: bool, words: str
) -> dict[str, Any]:
    """A gate's result as plain data."""
    told = {"name": name, "tier": tier, "figure": figure, "threshold": threshold, "comparison": comparison}
    return told | {"passed": passed, "explanation": words, "evidence": {}}


def finite(figures: dict[str, float]) -> dict[str, float | None]:
    return {name: value if np.isfinite(value) else None for name, value in figures.items()}
