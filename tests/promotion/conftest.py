"""One bundle, sealed once, for every test that needs one; and a wheel that is built once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.promotion.support import EXECUTION, FIGURES, results, synthetic_bars, trend
from tradelib.bundle import TrustStore, generate_key, load_private_key, wheel_digest
from tradelib.promotion.promote import Promotion, promote
from tradelib.promotion.wheel import build_wheel

GOLDEN = 200


@pytest.fixture(scope="session")
def bars() -> pd.DataFrame:
    return synthetic_bars()


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory, project: Path) -> Path:
    return build_wheel(project, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, TrustStore]:
    """A private key, and a store that trusts it."""
    folder = tmp_path_factory.mktemp("keys")
    generate_key("tests", folder)
    private = load_private_key("tests", folder)
    trust = TrustStore(folder / "trust")
    trust.add(private.public_key())
    return private, trust


@pytest.fixture
def built_once(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promotions of this test seal the wheel that was built already."""
    monkeypatch.setattr("tradelib.promotion.promote.build_wheel", lambda root, destination: copied(wheel, destination))
    monkeypatch.setattr("tradelib.promotion.promote.package_digest", lambda: wheel_digest(wheel))


def copied(wheel: Path, destination: Path) -> Path:
    destination.mkdir(parents=True)
    return Path(shutil.copy(wheel, destination))


@pytest.fixture(scope="session")
def request_of(bars: pd.DataFrame, keys: tuple[Any, TrustStore], project: Path) -> Callable[..., dict[str, Any]]:
    """The arguments of a good promotion into a folder, with changes."""

    def arguments(folder: Path, **changes: Any) -> dict[str, Any]:
        good: dict[str, Any] = {
            "name": "trend",
            "rule": trend(),
            "execution": EXECUTION,
            "research_bars": bars.iloc[:GOLDEN].copy(),
            "gates": results("deflated_sharpe"),
            "figures": FIGURES,
            "provenance": {"commit": "0" * 40},
            "root": project,
            "bundles_dir": folder,
            "golden_length": GOLDEN,
            "private_key": keys[0],
            "trust": keys[1],
        }
        return good | changes

    return arguments


@pytest.fixture(scope="session")
def promotion(request_of: Callable[..., dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Promotion:
    """A promotion with nothing replaced: real wheel, real child process."""
    return promote(**request_of(tmp_path_factory.mktemp("bundles")))
