"""What the mirror's tests share: seeded markets under every policy, their backtest, and a venue that fills like it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from tradelib.backtest import book
from tradelib.backtest.costs import Costs, FeeTier, Market
from tradelib.backtest.decision import DecisionRule
from tradelib.backtest.engine import replay
from tradelib.backtest.result import Result
from tradelib.bundle.execution import Execution
from tradelib.bundle.trading.instructions import Ending, Fill, Instruction, Plan
from tradelib.bundle.trading.mirror import Mirror
from tradelib.bundle.trading.mirror_account import MirrorAccount
from tradelib.data.bars import COLUMNS, make_bars
from tradelib.risk.exits import Distance, Exits, ScaleIn
from tradelib.risk.limits import Limits, Protection
from tradelib.risk.sizing import FixedFraction
from tradelib.strategies.base import Strategy

GOLDEN = 40
CASH = 10_000.0
SYMBOL = "BTC/USDT"
NO_VALUE = (book.NEXT,)


class Stretches(Strategy):
    """Signals that anybody can compute from a close alone and nobody can predict: held for some bars, then another."""

    short: bool = False

    def signals(self, bars: pd.DataFrame) -> pd.Series:
        """-1 (only with `short`), 0, 0.5 or 1, by the day's number and the price's last digits."""
        stretch = pd.DatetimeIndex(bars.index).asi8 // (5 * 3_600_000_000_000)
        choices = np.array([0.0, 1.0, 1.0, 0.5] + [-1.0] * self.short)
        return pd.Series(choices[(stretch * 2_654_435_761 >> 11) % len(choices)], bars.index)


@dataclass(frozen=True)
class World:
    """A bundle as a mirror reads it, its whole market, and what research made of it."""

    bundle: Any
    bars: pd.DataFrame
    result: Result


def market(seed: int, count: int, *, timeframe: str = "1h", symbol: str = SYMBOL, silent: float = 0.05) -> pd.DataFrame:
    """Bars on a coarse grid: levels are touched exactly, opens gap, a share of bars is `silent`: without volume."""
    rng = np.random.default_rng(seed)
    path = 100.0 * np.exp(np.cumsum(rng.normal(0.0, 0.012, count)))
    close = np.round(path / 0.25) * 0.25
    gaps = np.exp(rng.normal(0.0, 0.01, count) * (rng.random(count) < 0.25))
    opened = np.round(np.r_[100.0, close[:-1]] * gaps / 0.25) * 0.25
    spread = np.round(rng.exponential(0.7, (2, count)) / 0.25) * 0.25
    columns = {
        "open": opened,
        "high": np.maximum(opened, close) + spread[0],
        "low": np.minimum(opened, close) - spread[1],
        "close": close,
        "volume": rng.choice([0.0, 500.0, 5_000.0], count, p=[silent, 0.5 - silent, 0.5]),
    }
    index = pd.date_range("2021-01-01", periods=count, freq="h", tz="UTC", name="time")
    return make_bars(
        pd.DataFrame(columns, index=index), symbol=symbol, timeframe=timeframe, source="synthetic", calendar="24/7"
    )


def rule(**policies: Any) -> DecisionRule:
    """A rule of seeded signals with `policies`."""
    short = policies.pop("short", False)
    given = {"strategy": Stretches(short=short), "sizing": FixedFraction(fraction=policies.pop("fraction", 0.6))}
    return DecisionRule(**{**given, "rebalance_band": None, **policies})


def bundle(decides: DecisionRule, bars: pd.DataFrame, **terms: Any) -> Any:
    """What a mirror reads of a bundle."""
    plain = {"lots_per_unit": 1024.0, "minimum_notional": 5.0, "maximum_leverage": 1.0, "fee_rate": 0.001}
    about = {name: bars.attrs[name] for name in ("symbol", "timeframe", "calendar")}
    execution = Execution(**about, cash=CASH, warmup=1, **{**plain, "slippage": 0.0005, **terms})
    return SimpleNamespace(rule=decides, execution=execution, golden_bars=bars.iloc[:GOLDEN], digest="d" * 64)


def world(decides: DecisionRule, bars: pd.DataFrame, **terms: Any) -> World:
    """The bundle and its backtest: the account begins after the golden bars."""
    sealed = bundle(decides, bars, **terms)
    run = sealed.execution
    result = replay(decides, bars, costs=run.costs, market=run.market, cash=CASH, start=bars.index[GOLDEN])
    return World(sealed, bars, result)


# Policies by seed -----------------------------------------------------------------------------------------------------


def _length(rng: np.random.Generator, low: float, high: float) -> Distance:
    value, unit = float(rng.choice(np.linspace(low, high, 4))), str(rng.choice(["fraction", "price", "atr"]))
    return Distance(value=value * {"fraction": 1.0, "price": 100.0, "atr": 50.0}[unit], unit=unit)


def exits(rng: np.random.Generator) -> Exits:
    """Exits of any kind and combination."""
    given: dict[str, Any] = {"atr_window": 5, "reentry": str(rng.choice(["any_time", "new_signal"]))}
    if rng.random() < 0.7:
        given["stop_loss"] = _length(rng, 0.01, 0.04)
    if rng.random() < 0.6:
        whole, ladder = ((_length(rng, 0.01, 0.05), 1.0),), ((0.01, 0.5), (0.02, 0.3), (0.04, 0.2))
        given["take_profit"] = [whole, ladder, ladder[:2]][int(rng.integers(3))]
    if rng.random() < 0.5:
        given["trailing_stop"] = _length(rng, 0.01, 0.05)
        given["trailing_activation"] = _length(rng, 0.01, 0.03) if rng.random() < 0.5 else None
    if rng.random() < 0.4:
        given |= {"break_even": 0.01, "break_even_offset": float(rng.choice([0.0, 0.002]))}
    if rng.random() < 0.4:
        given["time_exit"] = int(rng.integers(1, 8))
    return Exits(**given)


def scale_in(rng: np.random.Generator) -> ScaleIn:
    """Further entries, with the move or against it."""
    direction = str(rng.choice(["with", "against"]))
    return ScaleIn(orders=int(rng.integers(1, 4)), step=_length(rng, 0.005, 0.02), factor=0.7, direction=direction)


LIMITS: dict[str, dict[str, Any]] = {
    "positions": {"maximum_positions": 1},
    "exposure": {"maximum_exposure": 0.8},
    "heat": {"maximum_heat": 0.01},
    "daily_loss": {"daily_loss": 0.01},
    "daily_profit": {"daily_profit": 0.01},
    "daily_orders": {"daily_orders": 3},
    "drawdown": {"maximum_drawdown": 0.02, "drawdown_pause": 6},
    "losses": {"consecutive_losses": 2, "loss_pause": 4},
    "cooldown": {"cooldown": 3},
    "blacklist": {"blacklist": (SYMBOL,)},
    "net": {"maximum_net_exposure": 0.7},
    "share": {"maximum_symbol_exposure": 0.7},
    "cluster": {"maximum_cluster_exposure": 0.7, "cluster_window": 10, "cluster_every": 4},
    "tail": {"maximum_value_at_risk": 0.012, "maximum_expected_shortfall": 0.03, "risk_window": 20},
    "volatility": {"target_volatility": 0.5, "volatility_window": 8},
    "losing": {"protections": (Protection(measure="losing_trades", window=20, trades=2, pause=7),)},
    "stopped": {"protections": (Protection(measure="stopped_trades", scope="account", window=20, trades=2, pause=7),)},
    "total": {"protections": (Protection(measure="total_loss", window=30, trades=1, loss=0.01, pause=5),)},
    "trade_drawdown": {"protections": (Protection(measure="drawdown", window=30, trades=1, loss=0.01, pause=5),)},
}
"""Every limit, by itself."""


def limits(rng: np.random.Generator) -> Limits:
    """Two or three limits at once."""
    chosen = rng.choice([name for name in LIMITS if name != "blacklist"], int(rng.integers(1, 4)), replace=False)
    given: dict[str, Any] = {}
    for name in chosen:
        both = given.get("protections", ()) + LIMITS[name].get("protections", ())
        given |= LIMITS[name] | ({"protections": both} if both else {})
    return Limits(**given)


def drawn(seed: int, count: int = 220) -> World:
    """A market and policies of every kind, by seed."""
    rng = np.random.default_rng([seed, 1])
    policies: dict[str, Any] = {"short": bool(rng.random() < 0.3), "fraction": float(rng.choice([0.3, 0.6, 0.97]))}
    policies["exits"] = exits(rng) if rng.random() < 0.8 else None
    policies["scale_in"] = scale_in(rng) if rng.random() < 0.5 else None
    policies["limits"] = limits(rng) if rng.random() < 0.5 else None
    partial = policies["scale_in"] is not None or (policies["exits"] is not None and policies["exits"].is_partial)
    policies["rebalance_band"] = None if partial or rng.random() < 0.5 else 0.03
    terms: dict[str, Any] = {"lots_per_unit": float(rng.choice([0.0, 1024.0, 100_000.0]))}
    terms["insufficient_cash"] = str(rng.choice(["reject", "reduce"]))
    if rng.random() < 0.3:
        terms |= {"impact": 0.02, "spread": 0.001, "maker_fee_rate": 0.0004}
    if rng.random() < 0.2:
        terms["fee_tiers"] = (FeeTier(volume=5_000.0, maker=0.0001, taker=0.0005),)
        terms["tier_bars"] = 12
    moves = policies["exits"] is not None and (policies["exits"].trailing_stop or policies["exits"].break_even)
    return world(rule(**policies), market(seed, count, silent=0.0 if moves else 0.05), **terms)


# A venue that fills as the backtest did -------------------------------------------------------------------------------


class Witness(Mirror):
    """A mirror that keeps what it would forget."""

    def _begin(self, bundle: Any, cash: float, margin: bool) -> None:
        self.orders: dict[int, list[float]] = {}
        self.fills: list[list[float]] = []
        self.entries: list[list[float]] = []
        super()._begin(bundle, cash, margin)

    def _keep(self, account: MirrorAccount, t: int) -> None:
        m = account.machine
        for row in range(int(m.counts[book.ORDERS])):
            self.orders[account.serial(row)] = m.orders[row].tolist()
        for fill in m.fills[: m.counts[book.FILLS]].tolist():
            fill[book.FILL_ORDER] = account.serial(int(fill[book.FILL_ORDER]))
            self.fills.append(fill)
        self.entries += m.entries[: m.counts[book.ENTRIES]].tolist()
        super()._keep(account, t)


@dataclass
class Trace:
    """What a mirror told, close by close. `gap`: the bar of a further entry at a price where limits or cash decide
    otherwise than at the order's own (beyond a gap, or with the impact of a volume that nobody knew yet); from there on
    the accounts part."""

    mirror: Witness
    plans: list[Plan] = field(default_factory=list)
    gap: int | None = None
    live: dict[str, float] = field(default_factory=dict)

    def heard(self, plan: Plan, fills: Sequence[Fill] = (), endings: Sequence[Ending] = ()) -> None:
        """Do at the venue what `plan` says: what is live there is what the plan says shall stand, no more, no less."""
        for fill in fills:
            self.live[fill.leg] -= abs(fill.quantity)
        done = {leg for leg, left in self.live.items() if left <= 1e-9} | {ending.leg for ending in endings}
        for leg in plan.cancel:
            assert leg in self.live.keys() - done, f"{leg} is to be cancelled and is not there"
        self.live = {leg: left for leg, left in self.live.items() if leg not in {*done, *plan.cancel}}
        self.live |= {found.leg: found.quantity for found in plan.place}
        assert set(self.live) == {found.leg for found in plan.instructions}


class Otherwise(AssertionError):
    """The mirror's instructions would not have brought the backtest's fill about."""


def bar_of(bars: pd.DataFrame, row: int) -> Any:
    """A closed bar as the runner has it."""
    values = bars[list(COLUMNS)].iloc[row].tolist()
    milliseconds = bars.index[row].value // 1_000_000
    return SimpleNamespace(milliseconds=milliseconds, **dict(zip(COLUMNS, values, strict=True)))


def mirrored(told: World, *, stop: int | None = None, mirror: Witness | None = None) -> Trace:
    """Step a mirror over the market; the venue makes the backtest's fills, of what stands and nothing else."""
    trace = Trace(mirror or Witness(told.bundle, CASH, margin=True))
    targets, signals, simulation = decided(told)
    at = simulation.fills[:, book.FILL_AT]
    for t in range(GOLDEN - 1, len(told.bars) if stop is None else stop):
        endings: list[Ending] = []
        if refused := rejected_at_open(told, trace.mirror, t):
            trace.heard(trace.mirror.book(refused), (), refused)
        for fill in simulation.fills[at == t]:
            found = standing_for(told, trace.mirror, fill)
            if found is None:
                trace.gap = t
                return trace
            fills = [filled(found, fill)]
            trace.heard(trace.mirror.book(fills), fills)
            endings = [Ending(found.leg, "expired")] if found.quantity > abs(fill[book.FILL_QUANTITY]) else []
        decision = float(signals[t, 0]), float(targets[t, 0])
        trace.plans.append(trace.mirror.close(bar_of(told.bars, t), None, endings, decision=decision))
        trace.heard(trace.plans[-1], (), endings)
    return trace


def decided(told: World) -> tuple[np.ndarray, np.ndarray, Any]:
    """The backtest's target weights and signals `(n, 1)`, and its tables."""
    targets, signals = told.result.targets, told.result.signals
    assert targets is not None
    assert signals is not None
    return targets, signals, told.result.simulation


def rejected_at_open(told: World, mirror: Mirror, t: int) -> list[Ending]:
    """Market orders that the backtest's account could not carry at the open of bar `t`: a venue refuses them."""
    orders = told.result.simulation.orders
    there = (orders[:, book.STATUS] == book.REJECTED) & (orders[:, book.FILL_BAR] == t) & (orders[:, book.PLACED] < t)
    serials = {int(row) for row in np.flatnonzero(there)}
    standing = [one for one in mirror.instructions if one.kind == "market" and serial_of(one) in serials]
    return [Ending(one.leg, "rejected", "not enough balance") for one in standing]


def serial_of(instruction: Instruction) -> int:
    """The backtest's row of the order."""
    return int(instruction.leg.rpartition("-")[2].partition(".")[0])


def filled(instruction: Instruction, fill: np.ndarray, **changes: Any) -> Fill:
    """The backtest's fill as the venue's report."""
    quantity, price, fee = (float(fill[c]) for c in (book.FILL_QUANTITY, book.FILL_PRICE, book.FILL_FEE))
    name = f"{instruction.leg}@{fill[book.FILL_SEQUENCE]:.0f}"
    given = {"quantity": quantity, "price": price, "fee": fee, "maker": bool(fill[book.FILL_MAKER])}
    return Fill(client_order_id=name, time_ms=0, leg=instruction.leg, **{"trade_id": name, **given, **changes})


def standing_for(told: World, mirror: Mirror, fill: np.ndarray) -> Instruction | None:
    """The instruction that brings `fill` about; None at a gap beyond its price. `Otherwise` where there is none."""
    order = told.result.simulation.orders[int(fill[book.FILL_ORDER])]
    there = {serial_of(found): found for found in mirror.instructions}
    found = there.get(int(fill[book.FILL_ORDER]))
    stops = [one for one in mirror.instructions if one.kind == "stop" and one.reduces]
    if found is None and order[book.ATTACHED] == 1.0 and order[book.KIND] != book.LIMIT and stops:
        found = stops[0]
    reference = float(fill[book.FILL_REFERENCE])
    level = None if found is None else (found.price or found.stop_price)
    gap = order[book.ATTACHED] == 2.0 and (reference != order[book.LEVEL] or told.bundle.execution.impact > 0.0)
    if gap and (found is None or found.fits):
        return None
    if found is None:
        raise Otherwise(f"nothing stands for the fill of order {fill[book.FILL_ORDER]:.0f} ({order[book.REASON]})")
    _check_terms(told, mirror, found, fill, reference, level)
    return found


def _check_terms(
    told: World, mirror: Mirror, found: Instruction, fill: np.ndarray, reference: float, level: float | None
) -> None:
    """What the venue was asked for is what it filled: side, quantity, and a price that meets the level."""
    quantity, row = float(fill[book.FILL_QUANTITY]), int(fill[book.FILL_AT])
    asked = found.quantity
    if found.fits and not told.bundle.execution.impact:
        asked = mirror.fitted(found.leg, reference)
    flips = abs(quantity) == abs(mirror.account[1]) and asked > abs(quantity)
    if (found.side == "buy") != (quantity > 0.0) or not (asked == abs(quantity) or flips or found.fits):
        raise Otherwise(f"bar {row}: {found} was filled with {quantity}, asked were {asked}")
    above = (reference > level if found.side == "buy" else reference < level) if level is not None else False
    if level is not None and reference != level and above != (found.kind == "stop"):
        raise Otherwise(f"bar {row}: {found} was filled at {reference}")


# Compared to the last bit ---------------------------------------------------------------------------------------------


def compare(told: World, trace: Trace) -> None:
    """`AssertionError` unless figures, orders, fills, cash book and tables are the backtest's, bit for bit."""
    plans, mirror, simulation = trace.plans, trace.mirror, told.result.simulation
    count, last = len(plans) - 1, GOLDEN - 2 + len(plans)
    np.testing.assert_array_equal([plan.equity for plan in plans[1:]], told.result.equity.to_numpy()[:count])
    np.testing.assert_array_equal([plan.cash for plan in plans[1:]], told.result.cash.to_numpy()[:count])
    held = told.result.positions["quantity"].to_numpy()[:count]
    np.testing.assert_array_equal([plan.position for plan in plans[1:]], held)
    assert not [plan.deviations for plan in plans if plan.deviations]
    told_fills = simulation.fills[simulation.fills[:, book.FILL_AT] <= last][:, : book.FILL_SEQUENCE]
    np.testing.assert_array_equal(_table(mirror.fills, book.FILL_COLUMNS)[:, : book.FILL_SEQUENCE], told_fills)
    told_entries = simulation.entries[simulation.entries[:, book.ENTRY_BAR] <= last][:, : book.ENTRY_SEQUENCE]
    np.testing.assert_array_equal(_table(mirror.entries, book.ENTRY_COLUMNS)[:, : book.ENTRY_SEQUENCE], told_entries)
    if trace.gap is None:
        orders = np.delete(simulation.orders, NO_VALUE, axis=1)
        assert sorted(mirror.orders) == list(range(len(orders)))
        rows = np.array([mirror.orders[serial] for serial in sorted(mirror.orders)]).reshape(-1, book.ORDER_COLUMNS)
        np.testing.assert_array_equal(np.delete(rows, NO_VALUE, axis=1), orders)


def _table(rows: list[list[float]], columns: int) -> np.ndarray:
    return np.array(rows).reshape(-1, columns)


def known(value: float | None) -> float:
    """None as NaN."""
    return math.nan if value is None else value


__all__ = [
    "CASH", "GOLDEN", "LIMITS", "Costs", "Market", "Otherwise", "Trace", "Witness", "World", "bar_of", "bundle",
    "compare", "drawn", "exits", "filled", "known", "limits", "market", "mirrored", "rule", "scale_in", "standing_for",
    "world",
]  # fmt: skip
