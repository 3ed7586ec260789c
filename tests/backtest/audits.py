"""Worlds for audits: seeded markets, policies, costs and terms of every kind, and accounts with one fault."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from tests.live import mirrors
from tradelib.backtest import book
from tradelib.backtest.costs import Costs, FeeTier, Market
from tradelib.backtest.engine import replay
from tradelib.backtest.result import Result
from tradelib.risk.exits import Distance, Exits

CASH = 10_000.0


def costs(rng: np.random.Generator) -> Costs:
    """Costs of any kind and combination."""
    given: dict[str, Any] = {"fee_rate": float(rng.choice([0.0, 0.001])), "slippage": float(rng.choice([0.0, 0.0005]))}
    if rng.random() < 0.5:
        given |= {"spread": 0.001, "maker_fee_rate": 0.0004}
    if rng.random() < 0.3:
        given["impact"] = 0.02
    if rng.random() < 0.5:
        given |= {"borrow_rate": 0.2, "interest_rate": 0.1}
    if rng.random() < 0.3:
        tiers = (FeeTier(volume=5_000.0, maker=0.0002, taker=0.0006), FeeTier(volume=40_000.0, maker=0.0, taker=0.0003))
        given |= {"fee_tiers": tiers, "tier_bars": int(rng.integers(1, 20))}
    return Costs(**given)


def terms(rng: np.random.Generator) -> Market:
    """Lots, minimum, leverage and margin of any kind."""
    leverage = float(rng.choice([1.0, 3.0, 8.0]))
    given: dict[str, Any] = {"lots_per_unit": float(rng.choice([0.0, 10.0, 1024.0])), "maximum_leverage": leverage}
    given["minimum_notional"] = float(rng.choice([0.0, 5.0, 500.0]))
    given["insufficient_cash"] = str(rng.choice(["reject", "reduce"]))
    if rng.random() < 0.7:
        given |= {
            "maintenance_margin": float(rng.choice([0.4, 0.9])) / leverage,
            "liquidation_fee_rate": float(rng.choice([0.0, 0.01, 0.01])),
        }
    return Market(**given)


def policies(rng: np.random.Generator) -> dict[str, Any]:
    """Exits, further entries and limits of any kind, and how often the drift is traded."""
    given: dict[str, Any] = {"short": bool(rng.random() < 0.5)}
    given["exits"] = mirrors.exits(rng) if rng.random() < 0.6 else None
    if given["exits"] is None and rng.random() < 0.3:
        given["exits"] = Exits(
            stop_loss=Distance(value=92.0, unit="level"), take_profit=Distance(value=4.0, unit="price")
        )
    given["scale_in"] = mirrors.scale_in(rng) if rng.random() < 0.4 else None
    given["limits"] = mirrors.limits(rng) if rng.random() < 0.6 else None
    partial = given["scale_in"] is not None or (given["exits"] is not None and given["exits"].is_partial)
    return given | {"rebalance_band": None if partial or rng.random() < 0.3 else float(rng.choice([0.0, 0.03]))}


def funded(rng: np.random.Generator, bars: pd.DataFrame) -> pd.Series | None:
    """Funding every eight hours, at a bar's open or inside of it."""
    if rng.random() < 0.6:
        return None
    times = pd.DatetimeIndex(bars.index[::8]) + pd.Timedelta(minutes=int(rng.choice([0, 20])))
    return pd.Series(rng.normal(0.0, 0.001, len(times)), times)


def drawn(seed: int, count: int = 260) -> tuple[Result, pd.Series | None]:
    """An account by seed, and the funding that it was charged."""
    rng = np.random.default_rng([seed, 7])
    leverage = terms(rng)
    most = leverage.maximum_leverage
    rule = mirrors.rule(**policies(rng), fraction=float(rng.choice([0.3, 0.97, 0.97 * most])))
    bars = mirrors.market(seed, count, silent=float(rng.choice([0.0, 0.05])))
    funding = funded(rng, bars)
    start = bars.index[int(rng.choice([0, 1, 40]))]
    given: dict[str, Any] = {"costs": costs(rng), "market": leverage, "funding": funding, "start": start}
    return replay(rule, bars, cash=CASH, **given), funding


def changed(result: Result, table: str, row: int, **columns: float) -> Result:
    """The account with other values in one row of a table; names of columns are those of `tradelib.backtest.book`."""
    values = getattr(result.simulation, table).copy()
    for name, value in columns.items():
        values[row, getattr(book, name.upper())] = value
    return with_table(result, table, values)


def with_table(result: Result, table: str, values: np.ndarray) -> Result:
    """The account with another table."""
    given: dict[str, Any] = {table: values}
    return replace(result, simulation=result.simulation._replace(**given))
