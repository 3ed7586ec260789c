"""The floors of the house hold: imports go down, and what trades carries no research package."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.checks.files import locked
from tests.environment import PROJECT

RUNNER_ROOMS = ("live", "venue", "bundle", "ledger")
# Imports every module of the rooms in one fresh process and prints what was loaded from elsewhere.
LOADED = """
import importlib, json, pkgutil, sys
before = set(sys.modules)
for room in {rooms!r}:
    package = importlib.import_module(f"tradelib.{{room}}")
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
print(json.dumps(sorted({{name.partition(".")[0] for name in set(sys.modules) - before}})))
"""


def loaded_by(*rooms: str) -> set[str]:
    """Top-level names of all modules that importing the rooms brings in."""
    script = LOADED.format(rooms=rooms)
    done = subprocess.run([sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_the_runner_loads_only_what_its_lock_installs() -> None:
    locked_names = set(locked((PROJECT / "requirements/runner.lock").read_text(encoding="utf-8")))
    owners = importlib.metadata.packages_distributions()
    loaded = loaded_by(*RUNNER_ROOMS)

    strangers = {
        name: owners[name]
        for name in loaded & owners.keys()
        if name != "tradelib" and not locked_names & {owner.lower().replace("_", "-") for owner in owners[name]}
    }

    assert strangers == {}
    assert "numpy" in loaded


def test_importing_tradelib_loads_no_heavy_package() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys, tradelib; print(*sys.modules)"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )

    heavy = {
        "arch",
        "ccxt",
        "great_expectations",
        "matplotlib",
        "mlflow",
        "numba",
        "plotly",
        "pyarrow",
        "scipy",
        "sklearn",
    }
    assert heavy & set(done.stdout.split()) == set()


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A copy of the package and its contracts, free to be damaged."""
    shutil.copytree(PROJECT / "tradelib", tmp_path / "tradelib", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(PROJECT / "pyproject.toml", tmp_path)
    return tmp_path


def contracts(house: Path) -> subprocess.CompletedProcess[str]:
    """Check the contracts of a copy."""
    tool = Path(sys.executable).with_name("lint-imports")
    return subprocess.run([tool, "--no-logo", "--no-cache"], cwd=house, capture_output=True, text=True)


def test_the_house_keeps_its_contracts(house: Path) -> None:
    done = contracts(house)

    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("planted", "line", "said"),
    [
        ("data/planted.py", "from tradelib.backtest import kernel", "tradelib.data.planted -> tradelib.backtest"),
        ("data/planted.py", "def late():\n    import tradelib.live", "tradelib.data.planted -> tradelib.live"),
        ("risk/planted.py", "from ..strategies import base", "tradelib.risk.planted -> tradelib.strategies"),
        ("live/planted.py", "import mlflow", "tradelib.live.planted -> mlflow"),
        ("ledger/planted.py", "def late():\n    import pyarrow", "tradelib.ledger.planted -> pyarrow"),
        ("garage/__init__.py", "", "- tradelib.garage"),
    ],
    ids=[
        "upwards",
        "upwards inside a function",
        "to a neighbour",
        "research in the runner",
        "research later",
        "a room on no floor",
    ],
)
def test_a_broken_contract_is_named(house: Path, planted: str, line: str, said: str) -> None:
    path = house / "tradelib" / planted
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"{line}\n", encoding="utf-8")

    done = contracts(house)

    assert done.returncode == 1
    assert said in done.stdout
