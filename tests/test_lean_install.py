"""The runner where research is not installed: the bundle's own lock and wheel, in an environment of their own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.live.support import GOLDEN, rule, synthetic_bars
from tradelib.bundle import (
    BundleContents,
    Execution,
    TrustStore,
    generate_key,
    load_private_key,
    make_golden,
    write_bundle,
)
from tradelib.data.files import write_bars
from tradelib.promotion.parity import compare_paper
from tradelib.promotion.wheel import build_wheel

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(600)]

TERMS = {"lots_per_unit": 10_000.0, "minimum_notional": 10.0, "fee_rate": 0.001, "slippage": 0.0005, "cash": 100_000.0}
RESEARCH = (
    "arch dvc mlflow numba matplotlib plotly pyarrow scipy sklearn statsmodels xgboost nbdev papermill jupyterlab"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("lean")


@pytest.fixture(scope="module")
def bars():
    return synthetic_bars(160)


@pytest.fixture(scope="module")
def bundle(project, folder, bars):
    key = generate_key("lean", folder / "home")
    TrustStore(folder / "home" / "trust").add(key.public_path)
    golden, decisions = make_golden(rule(), bars.iloc[:GOLDEN], GOLDEN)
    identity = {name: bars.attrs[name] for name in ("symbol", "timeframe", "calendar")}
    gate = {"tier": "safety", "name": "data_quality", "figure": 0, "comparison": "==", "threshold": 0, "passed": True}
    contents = BundleContents(
        name="lean",
        permission="paper",
        rule=rule(),
        execution=Execution(**identity, **TERMS, maximum_leverage=1.0, warmup=rule().warmup),
        golden_bars=golden,
        golden_decisions=decisions,
        gates=[{**gate, "explanation": "synthetic"}],
        figures={},
        data={},
        provenance={},
        wheel=build_wheel(project, folder / "wheel"),
        lock=project / "requirements" / "runner.lock",
    )
    return write_bundle(folder / "bundles", contents, load_private_key("lean", folder / "home"))


@pytest.fixture(scope="module")
def lean(bundle, folder):
    """The `bin` folder of an environment with exactly what the bundle seals."""
    home = folder / "venv"
    uv = [sys.executable, "-m", "uv"]
    if subprocess.run([*uv, "--version"], capture_output=True).returncode != 0:
        uv = [str(Path(sys.executable).with_name("uv"))]
    python = home / "bin" / "python"
    wheel = next((bundle.path / "package").glob("*.whl"))
    lock = bundle.path / "package" / "runner.lock"
    for command in (
        ["venv", "-q", "--python", sys.executable, str(home)],
        ["pip", "sync", "-q", "--require-hashes", "--python", str(python), str(lock)],
        ["pip", "install", "-q", "--no-deps", "--python", str(python), str(wheel)],
    ):
        subprocess.run([*uv, *command], check=True, cwd=folder)
    return home / "bin"


@pytest.fixture(scope="module")
def environment(folder):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "TRADELIB_"))}
    return kept | {
        "TRADELIB_HOME": str(folder / "home"),
        "TRADELIB_API_KEY": "lean-key",
        "TRADELIB_API_SECRET": "lean-secret",
        "NO_COLOR": "1",
    }


def run(environment, folder, *command):
    return subprocess.run([str(part) for part in command], env=environment, cwd=folder, capture_output=True, text=True)


def test_no_research_package_is_there(lean, environment, folder):
    code = f"from importlib.util import find_spec; print([n for n in '{RESEARCH}'.split() if find_spec(n)])"
    assert run(environment, folder, lean / "python", "-c", code).stdout.strip() == "[]"


def test_the_bundle_verifies_and_its_golden_decisions_are_reproduced(lean, environment, folder, bundle):
    done = run(environment, folder, lean / "tradelib", "verify", bundle.path)
    assert done.returncode == 0, done.stderr
    assert f"{GOLDEN} reproduced bit for bit" in done.stdout


def test_a_paper_run_equals_the_backtest_made_with_compiled_kernels(lean, environment, folder, bundle, bars):
    write_bars(bars, folder / "tape.csv")
    options = [f"--{name.replace('_', '-')}={value}" for name, value in TERMS.items()]
    command = [
        lean / "tradelib",
        "venue",
        "tape.csv",
        f"--start={bars.index[GOLDEN].isoformat()}",
        "--port=0",
        *options,
    ]
    with subprocess.Popen(
        [str(part) for part in command], env=environment, cwd=folder, stdout=subprocess.PIPE, text=True
    ) as venue:
        assert venue.stdout is not None
        url = re.search(r"http://127\.0\.0\.1:\d+", venue.stdout.readline())
        assert url is not None
        until = f"--until={bars.index[-1].isoformat()}"
        trade = [
            lean / "tradelib",
            "run",
            bundle.path,
            f"--venue={url[0]}",
            "--journal=journal.sqlite",
            until,
            "--json",
        ]
        done = run(environment, folder, *trade)
        venue.terminate()
    assert done.returncode == 0, done.stderr
    report = compare_paper(folder / "journal.sqlite", bundle, bars)
    assert report.equal, report.summary()
    assert report.compared["fills"] > 5
    assert run(environment, folder, lean / "tradelib", "audit", "journal.sqlite").returncode == 0


def test_what_belongs_to_research_names_the_extra(lean, environment, folder):
    code = "from tradelib.data import embedded; embedded('sp500')"
    done = run(environment, folder, lean / "python", "-c", code)
    assert "pip install 'tradelib[research]'" in done.stderr
