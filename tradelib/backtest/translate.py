"""From the objects that people write to the numbers that the trading machine reads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from tradelib.backtest import book
from tradelib.backtest.costs import Costs, Market
from tradelib.errors import DataError, ParameterError
from tradelib.risk import judging
from tradelib.risk.exits import Distance, Exits, ScaleIn
from tradelib.risk.limits import Limits

__all__ = ["account_rules", "fee_tiers", "funding_rates", "policy_row", "policy_table", "trading_terms"]


def trading_terms(costs: Costs, market: Market, assets: int, periods_per_year: float) -> np.ndarray:
    """Terms of every symbol, `(a, TERM_COLUMNS)`; yearly rates become rates per bar (simple)."""
    return book.term_rows(
        assets,
        maker_rate=costs.fee_rate if costs.maker_fee_rate is None else costs.maker_fee_rate,
        taker_rate=costs.fee_rate,
        slippage=costs.slippage,
        half_spread=costs.spread / 2.0,
        impact=costs.impact,
        lots=market.lots_per_unit,
        minimum=market.minimum_notional,
        borrow_rate=costs.borrow_rate / periods_per_year,
    )


def fee_tiers(costs: Costs) -> np.ndarray:
    """Tiers as rows (volume, maker, taker)."""
    return np.array([[t.volume, t.maker, t.taker] for t in costs.fee_tiers], float).reshape(-1, 3)


def account_rules(
    costs: Costs, market: Market, limits: Limits | None, band: float | None, periods_per_year: float
) -> np.ndarray:
    """Rules of the account; `band` None trades entries, exits and flips only."""
    rules = book.rule_vector(
        leverage=market.maximum_leverage,
        maintenance=market.maintenance_margin,
        liquidation_rate=market.liquidation_fee_rate,
        interest_rate=costs.interest_rate / periods_per_year,
        band=math.inf if band is None else band,
        fit_to_cash=float(market.insufficient_cash == "reduce"),
        tier_bars=costs.tier_bars,
    )
    if limits is not None:
        rules[: judging.LIMIT_COLUMNS] = limits.thresholds
    return rules


def policy_row(exits: Exits | None, scale_in: ScaleIn | None = None) -> np.ndarray:
    """One policy, `(POLICY_COLUMNS,)`."""
    row = book.policy_rows(1)[0]
    if exits is not None:
        _set_distance(row, book.STOP_AT, exits.stop_loss)
        _set_distance(row, book.TRAIL_BY, exits.trailing_stop)
        _set_distance(row, book.TRAIL_FROM, exits.trailing_activation)
        _set_distance(row, book.EVEN_AT, exits.break_even)
        row[book.EVEN_OFFSET] = exits.break_even_offset
        row[book.EXIT_AFTER] = math.inf if exits.time_exit is None else exits.time_exit
        row[book.REENTERS] = float(exits.reentry == "any_time")
        row[book.PROTECTS] = float(bool(exits.distances))
        row[book.RUNGS] = len(exits.take_profit)
        for rung, target in enumerate(exits.take_profit):
            _set_distance(row, book.RUNG + 3 * rung, target.distance)
            row[book.RUNG + 3 * rung + 2] = target.share
    if scale_in is not None:
        _set_distance(row, book.SCALE_STEP, scale_in.step)
        row[book.SCALE_ORDERS], row[book.SCALE_FACTOR] = scale_in.orders, scale_in.factor
        row[book.SCALE_AGAINST] = float(scale_in.direction == "against")
    return row


def _set_distance(row: np.ndarray, column: int, distance: Distance | None) -> None:
    if distance is not None:
        row[column], row[column + 1] = distance.value, float(book.UNITS.index(distance.unit))


def policy_table(
    symbols: Sequence[str], exits: Exits | None, scale_in: ScaleIn | None, limits: Limits | None
) -> np.ndarray:
    """One policy per symbol, `(a, POLICY_COLUMNS)`: the blacklist refuses entries, names decide whose turn it is."""
    table = np.repeat(policy_row(exits, scale_in)[None, :], len(symbols), axis=0)
    banned = set(limits.blacklist) if limits is not None else set()
    unknown = sorted(banned - set(symbols))
    if unknown and len(symbols) > 1:
        raise ParameterError(f"blacklist names {', '.join(unknown)}, the bars hold {', '.join(symbols[:10])}")
    table[[symbol in banned for symbol in symbols], book.REFUSED] = 1.0
    table[:, book.TURN] = sorted(range(len(symbols)), key=lambda a: symbols[a])
    return table


def funding_rates(funding: Any, index: pd.DatetimeIndex, symbols: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Rates due at each bar's open, and summed over the rest of the bar, both `(n, a)`; positive: longs pay.

    `funding`: Series of rates by UTC time for one symbol, or a DataFrame with a column per symbol. Times before the
    first bar are left out; a time after the last bar's open counts to the last bar.
    """
    frame = funding.to_frame(symbols[0]) if isinstance(funding, pd.Series) else funding
    if not isinstance(frame, pd.DataFrame) or not isinstance(frame.index, pd.DatetimeIndex) or frame.index.tz is None:
        raise DataError(
            "funding must be a Series or DataFrame of rates on a tz-aware time index; got "
            f"{type(funding).__name__}: for example pd.Series(0.0001, bars.index)"
        )
    absent = [symbol for symbol in symbols if symbol not in frame.columns]
    if absent:
        raise DataError(f"funding lacks the symbols {', '.join(absent)}")
    try:
        rates = frame[list(symbols)].to_numpy(dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"funding must be rates, fractions of the position's value: {error}") from None
    if not np.isfinite(rates).all():
        row, column = np.argwhere(~np.isfinite(rates))[0]
        raise DataError(f"funding of {symbols[column]} at {frame.index[row]} is {rates[row, column]}")
    bar = index.searchsorted(frame.index, side="right") - 1
    at_open, inside = np.zeros((2, len(index), len(symbols)))
    known = bar >= 0
    due = known & (np.asarray(frame.index) == np.asarray(index)[np.maximum(bar, 0)])
    np.add.at(at_open, bar[due], rates[due])
    np.add.at(inside, bar[known & ~due], rates[known & ~due])
    return at_open, inside
