"""What is measured, who takes part at which size, what must be equal, and what tradelib has promised."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from benchmarks.setting import FULL_SIZES

__all__ = ["CONTESTANTS", "KNOWN_DIFFERENCES", "OURS", "QUICK_SIZES", "WORKLOADS", "Contestant", "Workload"]


@dataclass(frozen=True)
class Workload:
    """`unit`: what size counts, with `items` in one. `must`, `aim`: times as fast as the best peer (and vectorbt).

    `equal`: relative difference up to which figures are the same; `against_numpy`: numpy counts as a peer.
    """

    key: str
    title: str
    unit: str
    items: int
    item: str
    must: float
    aim: float
    must_vectorbt: float = 0.0
    equal: float = 1e-9
    against_numpy: bool = False

    @property
    def data(self) -> str:
        """Whose data it reads: the key without its variant; each risk workload has data of its own."""
        return self.key if self.key in FULL_SIZES else self.key.partition("-")[0]

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
        Workload(
            "w6-pairs", "Engle-Granger tests of all pairs of 100 assets, 1,250 days", "pairs", 1, "pair", 200, 600
        ),
        Workload("w6-hrp", "Hierarchical risk parity, 500 assets, 2,500 days", "assets", 1, "asset", 20, 70),
        Workload("w6-covariance", "Ledoit-Wolf covariance, 1,000 assets, 2,500 days", "assets", 1, "asset", 1, 2),
        Workload("w6-garch", "GARCH(1,1) fitted to 5,000 returns", "returns", 1, "return", 1, 10, equal=1e-6),
        Workload(
            "w6-bootstrap",
            "Bootstrap: final wealth and drawdown of paths of 252 days",
            "paths",
            252,
            "path and day",
            5,
            15,
            equal=0.05,
            against_numpy=True,
        ),
        Workload(
            "w6-var",
            "Historical value at risk and expected shortfall, 2,500 days",
            "assets",
            1,
            "asset",
            1,
            2,
            against_numpy=True,
        ),
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
_ACCOUNTS = ("w2", "w3", "w4", *_STOPS, "w7")
_SLOW = {"w2": 100_000, "w3": 100, "w5": 100_000, "w5-trailing": 100_000}
CONTESTANTS = (
    Contestant(OURS, "tradelib", "", tuple(WORKLOADS)),
    Contestant("numpy", "numpy", "", ("w4", "w6-bootstrap", "w6-var", "w7")),
    Contestant("raptorbt", "raptorbt", "raptorbt", ("w2", "w3", *_STOPS)),
    Contestant("vectorbt (Rust)", "vectorbt", "vectorbt", _ACCOUNTS, "rust"),
    Contestant("vectorbt (numba)", "vectorbt", "vectorbt", _ACCOUNTS, "numba"),
    Contestant("backtesting.py", "backtesting", "backtesting", ("w2", "w3", *_STOPS), sizes=_SLOW),
    Contestant("bt", "bt", "bt", ("w2", "w4"), sizes={"w2": 10_000, "w4": 1_000}),
    Contestant("backtrader", "backtrader", "backtrader", ("w2", "w3", "w4"), sizes={"w2": 20_000, "w3": 20, "w4": 120}),
    Contestant("statsmodels", "statsmodels", "", ("w6-pairs",), sizes={"w6-pairs": 40}),
    Contestant("skfolio", "skfolio", "", ("w6-hrp",)),
    Contestant("PyPortfolioOpt", "pyportfolioopt", "pyportfolioopt", ("w6-hrp",)),
    Contestant("riskfolio", "riskfolio", "riskfolio", ("w6-hrp",)),
    Contestant("scikit-learn", "sklearn", "", ("w6-covariance",)),
    Contestant("arch", "arch", "", ("w6-garch", "w6-bootstrap"), sizes={"w6-bootstrap": 1_000}),
    Contestant("empyrical", "empyrical", "metrics", ("w6-var", "w7"), sizes={"w7": 200}),
    Contestant("quantstats", "quantstats", "metrics", ("w7",), sizes={"w7": 20}),
)

QUICK_SIZES = {
    "w2": 10_000, "w3": 100, "w4": 250, "w5": 10_000, "w6-pairs": 10, "w6-hrp": 40, "w6-covariance": 60,
    "w6-garch": 2_000, "w6-bootstrap": 1_000, "w6-var": 50, "w7": 200,
}  # fmt: skip
"""By the data: `SIZE=quick` asks nobody for more."""

_NO_REENTRY = "its signal runner cleans the entries before it simulates: after the first stop it never enters again"
_ROUNDED = "its own growth moves by this much with the initial cash: it rounds small differences of cash to zero"
_FIRST_CLOSE = "its drawdown is measured from the first close, not from the money before it"
_HALF_TRIP = "its fee stands for fee and slippage of a whole round trip, and positions that are open have paid half"
_FEE_INSIDE = "an order includes its own fee there: it buys a little less than the target weight"

_NUMERICAL = "its gradient is numerical, so its optimum is flat in the fifth digit; the likelihoods are equal"

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
    **{("arch", "w6-garch", name): (1e-4, _NUMERICAL) for name in ("mu", "omega", "alpha", "beta")},
}
"""(contestant, workload, figure) -> how far it may be from tradelib's, and why. Any other difference is a fault."""
