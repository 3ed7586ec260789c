"""What is measured, who takes part at which size, what must be equal, and what tradelib has promised."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from benchmarks.setting import FULL_SIZES

__all__ = ["CONTESTANTS", "EQUAL", "KNOWN_DIFFERENCES", "OURS", "QUICK_SIZES", "WORKLOADS", "Contestant", "Workload"]


@dataclass(frozen=True)
class Workload:
    """`unit`: what size counts, with `items` in one. `must`, `aim`: times as fast as the best peer (and vectorbt)."""

    key: str
    title: str
    unit: str
    items: int
    item: str
    must: float
    aim: float
    must_vectorbt: float = 0.0

    @property
    def data(self) -> str:
        """Whose data it reads: the key without its variant."""
        return self.key.partition("-")[0]

    @property
    def size(self) -> int:
        """The full size, in units."""
        return FULL_SIZES[self.data]


WORKLOADS = {
    workload.key: workload
    for workload in (
        Workload("w2", "One backtest with equity curve, trades and figures", "bars", 1, "bar", 8, 20, 40),
        Workload("w3", "Sweep of pairs of windows, 5,000 bars each", "pairs", 5_000, "pair and bar", 10, 30, 60),
        Workload("w4", "Monthly rebalancing of 500 assets", "days", 500, "asset and day", 30, 80),
        Workload("w5", "Stop-loss and take-profit", "bars", 1, "bar", 8, 15),
        Workload("w5-trailing", "Trailing stop and take-profit", "bars", 1, "bar", 8, 15),
        Workload("w7", "Four figures of many strategies, 2,500 days each", "strategies", 1, "strategy", 6, 15),
    )
}


@dataclass(frozen=True, eq=False)
class Contestant:
    """`module` of `benchmarks.contestants`, run in `environment`: a file of `benchmarks/peers`, or the project's own.

    `sizes`: workload -> size that it can be asked for in a few seconds; the rest is extrapolated in proportion.
    """

    name: str
    module: str
    environment: str
    workloads: tuple[str, ...]
    engine: str = ""
    sizes: dict[str, int] = field(default_factory=dict)


OURS = "tradelib"
_STOPS = ("w5", "w5-trailing")
_SLOW = {"w2": 100_000, "w3": 100, "w5": 100_000, "w5-trailing": 100_000}
CONTESTANTS = (
    Contestant(OURS, "tradelib", "", tuple(WORKLOADS)),
    Contestant("numpy", "numpy", "", ("w4", "w7")),
    Contestant("raptorbt", "raptorbt", "raptorbt", ("w2", "w3", *_STOPS)),
    Contestant("vectorbt (Rust)", "vectorbt", "vectorbt", tuple(WORKLOADS), "rust"),
    Contestant("vectorbt (numba)", "vectorbt", "vectorbt", tuple(WORKLOADS), "numba"),
    Contestant("backtesting.py", "backtesting", "backtesting", ("w2", "w3", *_STOPS), sizes=_SLOW),
    Contestant("bt", "bt", "bt", ("w2", "w4"), sizes={"w2": 10_000, "w4": 1_000}),
    Contestant("backtrader", "backtrader", "backtrader", ("w2", "w3", "w4"), sizes={"w2": 20_000, "w3": 20, "w4": 120}),
    Contestant("empyrical", "empyrical", "metrics", ("w7",), sizes={"w7": 200}),
    Contestant("quantstats", "quantstats", "metrics", ("w7",), sizes={"w7": 20}),
)

QUICK_SIZES = {"w2": 10_000, "w3": 100, "w4": 250, "w5": 10_000, "w7": 200}
"""By the data: `SIZE=quick` asks nobody for more."""

EQUAL = 1e-9
"""Relative difference up to which figures are the same."""

_NO_REENTRY = "its signal runner cleans the entries before it simulates: after the first stop it never enters again"
_ROUNDED = "its own growth moves by this much with the initial cash: it rounds small differences of cash to zero"
_FIRST_CLOSE = "its drawdown is measured from the first close, not from the money before it"
_HALF_TRIP = "its fee stands for fee and slippage of a whole round trip, and positions that are open have paid half"
_FEE_INSIDE = "an order includes its own fee there: it buys a little less than the target weight"

KNOWN_DIFFERENCES: dict[tuple[str, str, str], tuple[float, str]] = {
    ("raptorbt", "w5", "growth_if_targets_slip"): (math.inf, _NO_REENTRY),
    ("raptorbt", "w5", "trades"): (math.inf, _NO_REENTRY),
    ("raptorbt", "w5-trailing", "growth_if_targets_slip"): (math.inf, _NO_REENTRY),
    ("raptorbt", "w5-trailing", "trades"): (math.inf, _NO_REENTRY),
    ("vectorbt (Rust)", "w5-trailing", "growth_if_targets_slip"): (2e-7, _ROUNDED),
    ("vectorbt (numba)", "w5-trailing", "growth_if_targets_slip"): (2e-7, _ROUNDED),
    ("vectorbt (Rust)", "w7", "maximum_drawdown"): (0.2, _FIRST_CLOSE),
    ("vectorbt (numba)", "w7", "maximum_drawdown"): (0.2, _FIRST_CLOSE),
    ("vectorbt (Rust)", "w7", "calmar_ratio"): (0.2, _FIRST_CLOSE),
    ("vectorbt (numba)", "w7", "calmar_ratio"): (0.2, _FIRST_CLOSE),
    ("backtesting.py", "w3", "total_return"): (1e-5, _HALF_TRIP),
    ("bt", "w4", "growth"): (1e-4, _FEE_INSIDE),
}
"""(contestant, workload, figure) -> how far it may be from tradelib's, and why. Any other difference is a fault."""
