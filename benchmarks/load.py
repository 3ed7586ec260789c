"""How much one runner carries: `python -m benchmarks.load` measures many symbols, several bundles, minute after minute.

A real paper venue in a process of its own, the real client over real HTTP with real signatures, real journals on the
disk: nothing is left out but the verification of the bundles, which happens once at a start. The venue's clock moves as
fast as the runner asks. Two cases: `load` is many traders for some hundred minutes (how long a decision takes, how long
a minute takes), `month` is few traders for 43,200 minutes (does memory grow, does a decision become slower).
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import deque
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.harness import peak_memory
from tradelib._jit import interpreted
from tradelib.backtest.decision import DecisionRule
from tradelib.bundle import Bundle, Execution, needs_of
from tradelib.data.bars import make_bars, window
from tradelib.risk.sizing import VolatilityTarget
from tradelib.strategies.trend import TrendFollowing

__all__ = ["CASES", "Load", "bundles", "decisions", "measure", "minutes", "rule"]

GOLDEN = 500
TERMS: dict[str, Any] = {"fee_rate": 0.001, "slippage": 0.0005, "lots_per_unit": 100_000.0, "minimum_notional": 5.0}
KEYS = {"TRADELIB_API_KEY": "load", "TRADELIB_API_SECRET": "load"}
MONTH = 43_200
CASES = {"load": (200, 3, 60), "month": (1, 2, MONTH), "quick": (5, 2, 30)}
"""Symbols, bundles on each, minutes."""


@dataclass(frozen=True)
class Load:
    """What was found. Milliseconds of one decision; `round_ms`: one minute of everybody; memory in MB.

    `speed`: simulated over real time. `first`, `last`: the first and the last tenth of the run.
    """

    symbols: int
    bundles: int
    minutes: int
    decisions: int
    orders: int
    seconds: float
    speed: float
    decision_p50: float
    decision_p99: float
    decision_first: float
    decision_last: float
    memory_first: float
    memory_last: float
    memory_peak: float
    journals_mb: float


def minutes(symbol: int, count: int) -> pd.DataFrame:
    """The first `count` one-minute bars of a seeded random walk of a month and more."""
    bars = _month(symbol)
    return window(bars, end=bars.index[count - 1])


@functools.lru_cache(maxsize=2)
def _month(symbol: int) -> pd.DataFrame:
    random, count = np.random.default_rng(symbol), GOLDEN + MONTH
    close = 100.0 * np.exp(np.cumsum(random.normal(0.0, 0.0006, count)))
    opened = np.r_[100.0, close[:-1]] * np.exp(random.normal(0.0, 0.0001, count))
    spread = np.exp(np.abs(random.normal(0.0, 0.0002, (2, count))))
    columns = {
        "open": opened,
        "high": np.maximum(opened, close) * spread[0],
        "low": np.minimum(opened, close) / spread[1],
        "close": close,
        "volume": random.uniform(1e3, 1e6, count),
    }
    index = pd.date_range("2026-01-01", periods=count, freq="min", tz="UTC", name="time")
    return make_bars(
        pd.DataFrame(columns, index=index), symbol=_name(symbol), timeframe="1m", source="synthetic", calendar="24/7"
    )


def bundles(symbols: int, count: int) -> list[Bundle]:
    """`count` bundles of each symbol, as they would be after their verification."""
    return [_bundle(symbol, number) for symbol in range(symbols) for number in range(count)]


def rule(number: int) -> DecisionRule:
    """A trend follower; a slower one for each `number`."""
    strategy = TrendFollowing(fast=10 + 5 * number, slow=40 + 20 * number)
    sizing = VolatilityTarget(annual_volatility=0.3, window=60)
    return DecisionRule(strategy=strategy, sizing=sizing, rebalance_band=0.1)


def _bundle(symbol: int, number: int) -> Bundle:
    made = rule(number)
    golden = minutes(symbol, GOLDEN)
    terms = Execution(
        symbol=_name(symbol), timeframe="1m", calendar="24/7", maximum_leverage=1.0, cash=1e6, warmup=120, **TERMS
    )
    digest = sha256(f"{symbol} {number}".encode()).hexdigest()
    empty: dict[str, Any] = dict.fromkeys(
        ("golden_decisions", "golden_account", "gates", "figures", "data", "provenance", "files")
    )
    empty |= {"golden_decisions": [], "gates": []}
    return Bundle(
        path=Path(f"bundle-{symbol}-{number}"), name=f"trend-{number}", permission="paper", key_id="", digest=digest,
        payload_digest=digest, package_digest=digest, rule=made, execution=terms, needs=needs_of(made, terms),
        golden_bars=golden, **empty,
    )  # fmt: skip


def measure(symbols: int, count: int, length: int, folder: Path) -> Load:
    """Trade `length` minutes with `count` bundles on each of `symbols`, journals in `folder`."""
    os.environ.update(KEYS)
    command = [sys.executable, "-m", "benchmarks.load", "--venue", str(symbols), str(length)]
    venue = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ})
    try:
        assert venue.stdout is not None
        url = venue.stdout.readline().strip()
        with interpreted():  # as where a runner is installed: no compiler
            return _traded(bundles(symbols, count), url, length, folder, symbols, count)
    finally:
        venue.terminate()
        venue.wait()


def _traded(made: list[Bundle], url: str, length: int, folder: Path, symbols: int, count: int) -> Load:
    from tradelib.live.fleet import Fleet
    from tradelib.live.settings import BundleSettings, ControlSettings, FeedSettings, RunnerSettings

    settings = RunnerSettings(
        venue=url,
        folder=folder,
        bundles=tuple(BundleSettings(path=bundle.path) for bundle in made),
        control=ControlSettings(port=None),
        feed=FeedSettings(poll_seconds=0.0),
    )
    told = _Told(len(made) * length)
    last = minutes(0, GOLDEN + length).index[GOLDEN + length - 2]
    fleet = Fleet(made, settings, until=last.isoformat(), on_progress=told.step, reconcile_seconds=3_600.0)
    began = time.perf_counter()
    summary = asyncio.run(fleet.run())
    seconds = time.perf_counter() - began
    assert not summary.halted, summary.halted
    size = sum(path.stat().st_size for path in folder.iterdir()) / 2**20
    return Load(
        symbols=symbols,
        bundles=count,
        minutes=length,
        decisions=summary.decisions,
        orders=sum(run.orders for run in summary.runs),
        seconds=seconds,
        speed=60.0 * summary.decisions / len(made) / (told.ended - told.began),
        decision_p50=told.percentile(50),
        decision_p99=told.percentile(99),
        decision_first=float(np.median(told.tenth(0)) * 1e3),
        decision_last=float(np.median(told.tenth(9)) * 1e3),
        memory_first=told.memory[0],
        memory_last=told.memory[-1],
        memory_peak=peak_memory(),
        journals_mb=size,
    )


class _Told:
    """Collects what the runner tells of each decision, without growing while it is measured."""

    def __init__(self, expected: int) -> None:
        self.seconds = np.zeros(expected + 1_000, np.float32)
        self.count = 0
        self.began = self.ended = 0.0
        self.memory: deque[float] = deque(maxlen=1_000)
        self._every = max(1, expected // 500)

    def step(self, _: str, step: Any) -> None:
        """One decision."""
        self.seconds[self.count] = step.seconds
        self.count += 1
        self.ended = time.perf_counter()
        self.began = self.began or self.ended
        if self.count % self._every == 0 and self.count > len(self.seconds) // 20:
            self.memory.append(_resident())

    def percentile(self, rank: float) -> float:
        """Milliseconds."""
        return float(np.percentile(self.seconds[: self.count], rank) * 1e3)

    def tenth(self, number: int) -> np.ndarray:
        """The decisions of one tenth of the run."""
        return self.seconds[self.count * number // 10 : self.count * (number + 1) // 10]


def _resident() -> float:
    """Resident memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def decisions(rows: int = 500, calls: int = 300) -> tuple[float, float]:
    """p50 and p99 of one decision with seven indicators on `rows` bars without a compiler, in milliseconds."""
    from tradelib import indicators

    bars = minutes(0, rows)
    high, low, close = (bars[name].to_numpy() for name in ("high", "low", "close"))

    def decide() -> None:
        indicators.sma(close, 20)
        indicators.ema(close, 20)
        indicators.rsi(close, 14)
        indicators.macd(close, 12, 26, 9)
        indicators.bollinger_bands(close, 20, 2.0)
        indicators.atr(high, low, close, 14)
        indicators.adx(high, low, close, 14)

    seconds = []
    with interpreted():
        for _ in range(calls):
            began = time.perf_counter()
            decide()
            seconds.append(time.perf_counter() - began)
    return float(np.percentile(seconds, 50) * 1e3), float(np.percentile(seconds, 99) * 1e3)


def _serve(symbols: int, length: int) -> None:
    """The venue, until it is terminated."""
    from tradelib.venue import PaperExchange, VenueMarket, VenueServer

    markets = [VenueMarket(_name(symbol), minutes(symbol, GOLDEN + length), **TERMS) for symbol in range(symbols)]
    start = minutes(0, GOLDEN + 1).index[-1]
    exchange = PaperExchange(markets, cash=1e6 * symbols, start=start, pace="poll")

    async def serve() -> None:
        async with VenueServer(exchange, key=KEYS["TRADELIB_API_KEY"], secret=KEYS["TRADELIB_API_SECRET"]) as server:
            print(server.url, flush=True)
            await asyncio.Event().wait()

    with interpreted():
        asyncio.run(serve())


def _name(symbol: int) -> str:
    return f"C{symbol:03d}/USDT"


def main(arguments: list[str]) -> int:
    """Measure one case, or several; prints JSON."""
    if arguments[:1] == ["--venue"]:
        _serve(*map(int, arguments[1:]))
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", nargs="*", default=["load"], help=f"{', '.join(CASES)}, decision, or S,B,M numbers")
    for case in parser.parse_args(arguments).case:
        if case == "decision":
            print(json.dumps(dict(zip(("p50_ms", "p99_ms"), decisions(), strict=True))))
            continue
        symbols, count, length = CASES.get(case) or map(int, case.split(","))
        folder = Path(tempfile.mkdtemp(prefix="load-"))
        try:
            print(json.dumps(asdict(measure(symbols, count, length, folder))), flush=True)
        finally:
            shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
