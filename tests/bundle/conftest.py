"""A small sealed bundle that the tests of this room copy and attack."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import tradelib
from tradelib._jit import interpreted
from tradelib.backtest.decision import DecisionRule
from tradelib.bundle import Bundle, BundleContents, Execution, TrustStore, make_golden, write_bundle
from tradelib.data.bars import make_bars
from tradelib.indicators.core import probe_bars
from tradelib.risk.sizing import VolatilityTarget
from tradelib.strategies import TrendFollowing

GATES = [
    {"tier": "safety", "name": "causality", "passed": True, "figure": 0, "threshold": 0},
    {"tier": "safety", "name": "parity", "passed": True, "figure": None, "threshold": None},
    {"tier": "evidence", "name": "deflated sharpe", "passed": False, "figure": 0.41, "threshold": 0.95},
]


@dataclass(frozen=True)
class Workshop:
    """A sealed bundle with everything that made it."""

    root: Path
    contents: BundleContents
    key: Ed25519PrivateKey
    trust: TrustStore
    bundle: Bundle

    def copy(self, folder: Path) -> Path:
        """A copy of the sealed folder to be attacked."""
        return Path(shutil.copytree(self.bundle.path, folder / self.bundle.path.name))

    def reseal(self, root: Path, **changes: Any) -> Bundle:
        """Another bundle of the same contents, with some changed."""
        return write_bundle(root, replace(self.contents, **changes), self.key)


def package_wheel(path: Path, changes: dict[str, bytes | None] | None = None) -> Path:
    """A wheel of the installed package; `changes` replaces, adds or (None) leaves out members."""
    root = Path(tradelib.__path__[0])
    files = {f"tradelib/{file.relative_to(root).as_posix()}": file.read_bytes() for file in sorted(root.rglob("*.py"))}
    members: dict[str, bytes | None] = {**files, "tradelib/py.typed": b"", "tradelib-0.1.0.dist-info/METADATA": b"x"}
    members.update(changes or {})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            if content is not None:
                archive.writestr(zipfile.ZipInfo(name), content)
    return path


@pytest.fixture(scope="session")
def make_wheel() -> Callable[..., Path]:
    return package_wheel


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    root = tmp_path_factory.mktemp("bundles")
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    trust = TrustStore(root / "trust")
    trust.add(key.public_key())
    rule = DecisionRule(strategy=TrendFollowing(fast=5, slow=20), sizing=VolatilityTarget(), rebalance_band=0.02)
    bars = make_bars(probe_bars(300), symbol="PROBE/USDT")
    with interpreted():
        golden_bars, golden_decisions = make_golden(rule, bars, 80)
        warmup = rule.warmup
    lock = root / "runner.lock"
    lock.write_text("numpy==2.4.6\n")
    contents = BundleContents(
        name="trend-probe",
        permission="paper",
        rule=rule,
        execution=Execution("PROBE/USDT", "1d", "24/7", 1e5, 10.0, 1.0, 0.001, 0.0005, 100_000.0, warmup),
        golden_bars=golden_bars,
        golden_decisions=golden_decisions,
        gates=GATES,
        figures={"sharpe": 0.41, "trials": 12},
        data={"digest": bars.attrs["digest"], "end": "2000-10-26"},
        provenance={"commit": "a" * 40},
        wheel=package_wheel(root / "tradelib-0.1.0-py3-none-any.whl"),
        lock=lock,
    )
    return Workshop(root, contents, key, trust, write_bundle(root / "sealed", contents, key))
