"""What the runner's tests share: synthetic bars, a really sealed bundle, a real venue."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tradelib.backtest.decision import DecisionRule
from tradelib.bundle import (
    Bundle,
    BundleContents,
    Execution,
    TrustStore,
    generate_key,
    load_private_key,
    make_golden,
    write_bundle,
)
from tradelib.bundle.runtime import package_files
from tradelib.data.bars import make_bars
from tradelib.ledger import journal, open_journal
from tradelib.live.patience import Patience
from tradelib.risk.sizing import VolatilityTarget
from tradelib.strategies.trend import TrendFollowing
from tradelib.venue import PaperExchange, VenueMarket, VenueThread

SYMBOL = "BTC/USDT"
KEY, SECRET = "test-key", "test-secret"
GOLDEN = 100
HASTE = Patience(backoff=0.002, backoff_ceiling=0.01, receive_window=0.5, request_timeout=2.0)


def synthetic_bars(count: int = 180, *, seed: int = 7, calendar: str = "24/7", symbol: str = SYMBOL) -> pd.DataFrame:
    """Daily bars of a seeded random walk; on an exchange calendar without weekends."""
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
    index = pd.date_range("2020-01-01", periods=count, freq="D" if calendar == "24/7" else "B", tz="UTC", name="time")
    frame = pd.DataFrame(columns, index=index)
    return make_bars(frame, symbol=symbol, timeframe="1d", source="synthetic", calendar=calendar)


def rule() -> DecisionRule:
    """A trend follower that trades often enough to be tested."""
    sizing = VolatilityTarget(annual_volatility=0.2, window=10)
    return DecisionRule(strategy=TrendFollowing(fast=3, slow=8), sizing=sizing, rebalance_band=0.02)


@dataclass(frozen=True)
class Sealed:
    """A bundle on disk and the keys that trust it."""

    bundle: Bundle
    trust: TrustStore
    bars: pd.DataFrame


def seal(
    folder: Path,
    bars: pd.DataFrame,
    *,
    lots_per_unit: float = 1024.0,
    permission: str = "paper",
    decides: DecisionRule | None = None,
) -> Sealed:
    """Seal the rule (or `decides`) with the first bars as its golden window, exactly as promotion does."""
    key = generate_key("tests", folder / "keys")
    private = load_private_key("tests", folder / "keys")
    trust = TrustStore(folder / "trust")
    trust.add(private.public_key())
    decides = rule() if decides is None else decides
    golden, decisions = make_golden(decides, bars.iloc[:GOLDEN], GOLDEN)
    contents = BundleContents(
        name="trend",
        permission=permission,
        rule=decides,
        execution=_execution(bars, lots_per_unit),
        golden_bars=golden,
        golden_decisions=decisions,
        gates=_gates(permission),
        figures={},
        data={"digest": bars.attrs["digest"]},
        provenance={"key": str(key)},
        wheel=_wheel(folder),
        lock=_lock(folder),
    )
    return Sealed(write_bundle(folder / "bundles", contents, private), trust, bars)


def _execution(bars: pd.DataFrame, lots_per_unit: float) -> Execution:
    return Execution(
        symbol=bars.attrs["symbol"],
        timeframe=bars.attrs["timeframe"],
        calendar=bars.attrs["calendar"],
        lots_per_unit=lots_per_unit,
        minimum_notional=5.0,
        maximum_leverage=1.0,
        fee_rate=0.001,
        slippage=0.0005,
        cash=100_000.0,
        warmup=rule().warmup,
    )


def _gates(permission: str) -> list[dict[str, Any]]:
    good = permission == "live"
    return [
        {"tier": "safety", "name": "causality", "passed": True},
        {"tier": "evidence", "name": "out_of_sample_sharpe", "passed": good},
    ]


def _wheel(folder: Path) -> Path:
    """The running package as a wheel; a stored zip of its code is all that a bundle looks at."""
    import tradelib

    root, path = Path(next(iter(tradelib.__path__))).parent, folder / "tradelib-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name in sorted(package_files()):
            archive.write(root / name, name)
    return path


def _lock(folder: Path) -> Path:
    path = folder / "runner.lock"
    path.write_text("numpy==2.4.6\n", encoding="ascii")
    return path


def exchange(
    sealed: Sealed, *, start: int = GOLDEN, pace: str = "poll", bars: pd.DataFrame | None = None
) -> PaperExchange:
    """The paper exchange on the terms of the bundle; bar `start` is forming."""
    terms = sealed.bundle.execution
    tape = sealed.bars if bars is None else bars
    market = VenueMarket(
        terms.symbol,
        tape,
        fee_rate=terms.fee_rate,
        slippage=terms.slippage,
        lots_per_unit=terms.lots_per_unit,
        minimum_notional=terms.minimum_notional,
    )
    return PaperExchange([market], cash=terms.cash, start=tape.index[start], pace=pace)


def venue(paper: PaperExchange) -> VenueThread:
    """`paper` behind a real socket, in a thread."""
    return VenueThread(paper, key=KEY, secret=SECRET)


def read(path: Path, kind: str) -> list[dict[str, Any]]:
    """The bodies of one kind in a journal."""
    with open_journal(path, read_only=True) as log:
        return journal.bodies(log, kind)


def forged(sealed: Sealed, **changes: Any) -> Bundle:
    """The bundle object with fields changed after it was verified: for what no signature would let through."""
    return replace(sealed.bundle, **changes)
