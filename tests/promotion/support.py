"""What the tests of promotion share: bars, a rule, good figures, and strategies with planted faults."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from tradelib._jit import interpreted
from tradelib.backtest import kernel
from tradelib.backtest.decision import DecisionRule
from tradelib.bundle import Bundle
from tradelib.data.bars import make_bars
from tradelib.ledger import journal, open_journal
from tradelib.promotion.gates import EVIDENCE_GATES, SAFETY_GATES, GateResult
from tradelib.risk import FixedFraction
from tradelib.strategies import Strategy, TrendFollowing

GATES = (*((name, "safety") for name in SAFETY_GATES), *((name, "evidence") for name in EVIDENCE_GATES))

FIGURES = {
    "in_sample_sharpe": 1.4,
    "out_of_sample_sharpe": 0.9,
    "deflated_sharpe": 0.97,
    "trials": 30,
    "trades": 41,
    "maximum_drawdown": -0.18,
    "stressed_sharpe": 0.4,
    "cost_stress_multiple": 2.0,
    "win_rate": 0.45,
    "profit_factor": 1.6,
    "walk_forward_sharpe": 0.7,
    "walk_forward_efficiency": 0.8,
    "overfitting_probability": 0.1,
    "snooping_p_value": 0.01,
    "haircut_sharpe": 0.5,
    "break_even_multiple": 6.0,
    "capacity_multiple": 50.0,
    "stress_loss": 0.3,
    "stress_scenario": "gap of 10% against",
    "var_p_value": 0.2,
    "worst_regime_sharpe": 0.1,
    "worst_regime": "turbulent market",
    "neighbours_keep": 0.9,
}

LOCK = f"""# a lock as `make lock` writes it
ccxt==4.5.9 ; sys_platform != 'win32' \\
    --hash=sha256:{"ab" * 32} \\
    --hash=sha256:{"cd" * 32}
    # via tradelib
numpy==2.3.3 \\
    --hash=sha256:{"ef" * 32}
"""

EXECUTION: dict[str, Any] = {
    "symbol": "BTC/USDT",
    "timeframe": "1d",
    "calendar": "24/7",
    "lots_per_unit": 1000.0,
    "minimum_notional": 5.0,
    "maximum_leverage": 1.0,
    "fee_rate": 0.001,
    "slippage": 0.0005,
    "cash": 100_000.0,
}


class PeekingForTest(Strategy):
    """Knows tomorrow's close."""

    def signals(self, bars: pd.DataFrame) -> pd.Series:
        return (bars["close"].shift(-1).ffill() > bars["close"]).astype(float).rename("signal")


class ForgetfulForTest(Strategy):
    """Remembers how often it was asked, so no two answers are equal."""

    asked: ClassVar[list[int]] = []

    def signals(self, bars: pd.DataFrame) -> pd.Series:
        self.asked.append(len(bars))
        return pd.Series(1.0 / len(self.asked), index=bars.index, name="signal")


class ChangingForTest(Strategy):
    """Writes into the bars that it was given."""

    def signals(self, bars: pd.DataFrame) -> pd.Series:
        bars.iloc[-1, bars.columns.get_loc("close")] *= 1.01
        return pd.Series(1.0, index=bars.index, name="signal")


class CrashingForTest(Strategy):
    """Cannot be asked at all."""

    def signals(self, bars: pd.DataFrame) -> pd.Series:
        raise ZeroDivisionError("planted")


class HesitantForTest(Strategy):
    """Decides otherwise where kernels are interpreted, as the runner has them."""

    def signals(self, bars: pd.DataFrame) -> pd.Series:
        from tradelib._jit import compiling

        return pd.Series(1.0 if compiling() else 0.5, index=bars.index, name="signal")


class WaitingForTest(Strategy):
    """Decides once a bar closed above 110, however long that takes."""

    def signals(self, bars: pd.DataFrame) -> pd.Series:
        reached = (bars["close"] > 110.0).cummax()
        return pd.Series(np.where(reached, 1.0, np.nan), index=bars.index, name="signal")


class QuickerHereForTest(Strategy):
    """Claims a longer warm-up on probe bars than it has on any other."""

    def signals(self, bars: pd.DataFrame) -> pd.Series:
        needed = 20 if bars.attrs.get("symbol") == "PROBE" else 10
        return pd.Series(np.where(np.arange(len(bars)) >= needed - 1, 1.0, np.nan), index=bars.index, name="signal")


class CountingCoresForTest(Strategy):
    """Holds less where there are more cores."""

    def signals(self, bars: pd.DataFrame) -> pd.Series:
        return pd.Series(1.0 / (os.cpu_count() or 1), index=bars.index, name="signal")


class HashingForTest(Strategy):
    """Takes what comes first out of a set, which Python's hashes decide."""

    def signals(self, bars: pd.DataFrame) -> pd.Series:
        first = next(iter({f"feature {number}" for number in range(40)}))
        return pd.Series(float(first.split()[1]) / 40.0, index=bars.index, name="signal")


def synthetic_bars(count: int = 320, seed: int = 7) -> pd.DataFrame:
    """Daily bars of a seeded random walk, every day of the week."""
    random = np.random.default_rng(seed)
    close = 100.0 * np.exp(np.cumsum(random.normal(0.0, 0.02, count)))
    opened = np.r_[100.0, close[:-1]] * np.exp(random.normal(0.0, 0.003, count))
    columns = {
        "open": opened,
        "high": np.maximum(opened, close) * 1.005,
        "low": np.minimum(opened, close) * 0.995,
        "close": close,
        "volume": random.uniform(1.0, 1e6, count),
    }
    index = pd.date_range("2020-01-01", periods=count, freq="D", tz="UTC", name="time")
    frame = pd.DataFrame(columns, index=index)
    return make_bars(frame, symbol="BTC/USDT", timeframe="1d", source="synthetic", calendar="24/7")


def rule_of(strategy: Strategy) -> DecisionRule:
    return DecisionRule(strategy=strategy, sizing=FixedFraction(fraction=0.9), rebalance_band=0.02)


def trend(fast: int = 3, slow: int = 8) -> DecisionRule:
    return rule_of(TrendFollowing(fast=fast, slow=slow))


def result(name: str, tier: Any, passed: bool = True) -> GateResult:
    return GateResult(
        name, tier, 1.0 if passed else 0.0, 1.0, "==", passed, f"{name} was {'good' if passed else 'bad'}."
    )


def results(*failing: str) -> list[GateResult]:
    """One result per gate, all passed but those that are named."""
    return [result(name, tier, name not in failing) for name, tier in GATES]


Entries = list[tuple[str, dict[str, Any]]]


def paper_entries(bundle: Bundle, bars: pd.DataFrame) -> Entries:
    """What a faultless runner would journal: from the last golden bar on, one bar at a time, kernels interpreted."""
    terms, entries = bundle.execution, [(journal.START, _start(bundle))]
    cash, position = terms.cash, 0.0
    first = len(bundle.golden_bars) - 1
    with interpreted():
        for row in range(first, len(bars) - 1):
            time, bar = bars.index[row].isoformat(), bars.iloc[row]
            decided = bundle.rule.decisions(bars.iloc[: row + 1]).iloc[-1]
            worth = kernel.equity(cash, position, bar["close"])
            quantity = kernel.order_quantity(
                decided["target_weight"],
                bundle.rule.rebalance_band,
                worth,
                bar["close"],
                position,
                terms.lots_per_unit,
                terms.minimum_notional,
            )
            account = {"position": position, "equity": float(worth)}
            known = {name: float(decided[name]) for name in ("signal", "target_weight")}
            entries += [
                (journal.BAR, {"time": time, **{name: float(value) for name, value in bar.items()}}),
                (journal.EQUITY, {"time": time, "cash": cash, **account}),
                (journal.DECISION, {"time": time, **known, **account, "quantity": float(quantity)}),
            ]
            if quantity != 0.0:
                cash, position = _trade(
                    entries, bundle, time, float(quantity), bars["open"].iloc[row + 1], cash, position
                )
    return entries


def _start(bundle: Bundle) -> dict[str, Any]:
    names = {"symbol": "BTC/USDT", "timeframe": "1d", "venue": "binance", "mode": "paper", "name": bundle.name}
    digests = {"bundle_digest": bundle.digest, "package_digest": bundle.package_digest}
    return {**names, **digests, "golden_decisions": len(bundle.golden_decisions)}


def _trade(
    entries: Entries, bundle: Bundle, time: str, quantity: float, opened: float, cash: float, position: float
) -> tuple[float, float]:
    """Intent and fill of one order at the next open; cash and position afterwards."""
    terms, name, side = bundle.execution, f"order-{time[:10]}", "buy" if quantity > 0 else "sell"
    price = float(kernel.fill_price(opened, 1.0 if quantity > 0 else -1.0, terms.slippage))
    paid = float(kernel.fee(quantity, price, terms.fee_rate))
    status = kernel.admissible(cash, position, quantity, price, paid, terms.maximum_leverage)
    intent = {"time": time, "client_order_id": name, "symbol": "BTC/USDT", "side": side, "quantity": str(abs(quantity))}
    filled = status == kernel.FILLED
    done = (
        {"quantity": quantity, "price": price, "fee": paid} if filled else {"quantity": 0.0, "price": None, "fee": 0.0}
    )
    status_name = "filled" if filled else "rejected"
    told = {"client_order_id": name, "status": status_name, "reason": "", "venue_order_id": "1"}
    entries += [(journal.INTENT, intent), (journal.ORDER, {**told, **done})]
    return (float(kernel.cash_after(cash, quantity, price, paid)), position + quantity) if filled else (cash, position)


def write_journal(path: Path, entries: Entries, change: Callable[[Entries], Entries] = lambda entries: entries) -> Path:
    """Journal `entries`, after a planted `change`."""
    with open_journal(path) as log:
        log.extend((kind, body, journal.entry_key(kind, body)) for kind, body in change(entries))
    return path
