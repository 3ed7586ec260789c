"""What the verdict page is told: plain, typed, JSON-able data that any stage of the pipeline can fill.

A dictionary of this form is checked when the page is made; an unknown or misspelt key is refused by name. Numbers that
are undefined are None. Times are ISO-8601 text, UTC, the open times of bars.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from tradelib.parameters import Parameters

__all__ = [
    "BundleRow",
    "CandidateData",
    "DataRow",
    "GateRow",
    "Number",
    "ParityRow",
    "RegistryRow",
    "SeriesData",
    "SweepData",
    "VerdictData",
    "WindowData",
    "WindowName",
]

WindowName = Literal["in_sample", "out_of_sample", "paper"]
Number = float | None


class WindowData(Parameters):
    """A stretch of history: first and last bar (ISO dates or times, UTC)."""

    name: WindowName
    start: str
    end: str


class SeriesData(Parameters):
    """Account value per bar in one window: `times` ISO UTC (bars' open times), `equity` in quote currency.

    `role`: "research" (backtest), "paper" (the paper account) or "benchmark" (any window: one series over all of them).
    `initial`: account value before the first bar; the first value of `equity` when left out.
    """

    role: Literal["research", "paper", "benchmark"]
    window: WindowName | None = None
    label: str = ""
    times: list[str]
    equity: list[Number]
    initial: Number = None


class SweepData(Parameters):
    """In-sample figures of a grid: `values[row][column]` over `rows` and `columns`; `chosen` is (row, column)."""

    row_name: str
    column_name: str
    rows: list[float | str]
    columns: list[float | str]
    values: list[list[Number]]
    chosen: tuple[float | str, float | str] | None = None
    figure: str = "sharpe_ratio"


class GateRow(Parameters):
    """A gate's result, as `GateResult.to_dict()` writes it."""

    name: str
    tier: Literal["safety", "evidence"]
    figure: float | str | None
    threshold: float | str | None
    comparison: str
    passed: bool
    explanation: str
    evidence: dict[str, Any] = Field(default_factory=dict)


class DataRow(Parameters):
    """What the quality suite said about the bars."""

    passed: bool
    summary: str
    digest: str | None = None
    checks: int | None = None


class RegistryRow(Parameters):
    """Where the model registry keeps it."""

    name: str
    version: int | str
    alias: str | None = None


class BundleRow(Parameters):
    """The sealed bundle: SHA-256 of its manifest, file name, id of the signing key."""

    digest: str
    path: str | None = None
    key: str | None = None


class ParityRow(Parameters):
    """Whether the paper account did what research says; `first_difference` in words when it did not."""

    equal: bool
    summary: str
    first_difference: str | None = None


class CandidateData(Parameters):
    """Everything the page says about one candidate; what is left out is shown as not done."""

    name: str
    strategy: str
    parameters: dict[str, Any] = Field(default_factory=dict)
    symbol: str
    timeframe: str
    periods_per_year: float = Field(gt=0)
    permission: Literal["live", "paper", "none"]
    summary: str
    windows: list[WindowData] = Field(default_factory=list)
    data: DataRow | None = None
    trials: int | None = None
    figures: dict[WindowName, dict[str, Number]] = Field(default_factory=dict)
    sharpe: dict[str, Any] | None = None
    gates: list[GateRow] = Field(default_factory=list)
    registry: RegistryRow | None = None
    bundle: BundleRow | None = None
    parity: ParityRow | None = None
    series: list[SeriesData] = Field(default_factory=list)
    sweep: SweepData | None = None


class VerdictData(Parameters):
    """The whole page: `provenance` is shown as label and value (commit, params digest, lock digest, ...)."""

    title: str = "Verdict"
    lead: str = ""
    provenance: dict[str, str] = Field(default_factory=dict)
    candidates: list[CandidateData]
