"""The floors of the house hold: imports go down, and what trades carries no research package."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from tests.checks.files import locked
from tests.environment import PROJECT

RUNNER_ROOMS = ("live", "venue", "bundle", "ledger")
# In a fresh process where only the runner's packages can be found, imports every module of the rooms.
LEAN = """
import importlib, pkgutil, sys

class Lean:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"{{name}} is not installed with the runner", name=name)

sys.meta_path.insert(0, Lean())
for room in {rooms!r}:
    package = importlib.import_module(f"tradelib.{{room}}")
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
{more}
print(*sorted(name for name in sys.modules if "." not in name))
"""


def lean(rooms: tuple[str, ...], more: str = "") -> subprocess.CompletedProcess[str]:
    """Import rooms as if only `runner.lock` were installed."""
    kept = set(locked((PROJECT / "requirements/runner.lock").read_text(encoding="utf-8"))) | {"tradelib"}
    owners = importlib.metadata.packages_distributions()
    absent = {name for name, names in owners.items() if not kept & {canonicalize_name(owner) for owner in names}}
    script = LEAN.format(absent=absent, rooms=rooms, more=more)
    return subprocess.run([sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True)


def test_the_runner_needs_only_what_its_lock_installs() -> None:
    done = lean(RUNNER_ROOMS)

    assert done.returncode == 0, done.stderr
    assert {"numpy", "pandas", "tradelib"} <= set(done.stdout.split())


def test_a_research_package_in_the_runner_would_be_seen() -> None:
    done = lean(("ledger",), more="import pyarrow")

    assert "pyarrow is not installed with the runner" in done.stderr


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
