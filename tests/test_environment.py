"""Tools find their settings in `project.env`: they are silent, and write inside the project alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.environment import PROJECT, project_environment

NOTEBOOK = """
import nbformat as n
cell = n.v4.new_code_cell("import matplotlib.pyplot as plt; plt.plot([1]); print(1)")
n.write(n.v4.new_notebook(cells=[cell]), "in.ipynb")
import papermill
papermill.execute_notebook("in.ipynb", "out.ipynb", kernel_name="python3", progress_bar=False)
"""
STORE = """
import mlflow
mlflow.set_tracking_uri("sqlite:///mlflow.db")
with mlflow.start_run(experiment_id=mlflow.create_experiment("one", artifact_location="artifacts")):
    mlflow.log_metric("sharpe", 1.0)
"""
QUALITY = "import great_expectations as gx; gx.get_context(mode='ephemeral'); gx.get_context(mode='file')"


def environment(home: Path) -> dict[str, str]:
    """The environment that make gives to tools, in the home of somebody who has never used any of them."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return (
        os.environ
        | project_environment()
        | {"HOME": str(home), "PATH": path, "TRADELIB_HOME": str(home.parent / "state")}
    )


def test_the_makefile_and_the_tests_read_the_same_values() -> None:
    script = 'set -a; . ./project.env; set +a; "$0" -c "import json, os; print(json.dumps(dict(os.environ)))"'
    clean = {"PROJECT": str(PROJECT), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        ["sh", "-c", script, sys.executable], cwd=PROJECT, env=clean, capture_output=True, text=True, check=True
    )

    seen = json.loads(done.stdout)
    assert {name: seen.get(name) for name in project_environment()} == project_environment()


def test_every_folder_lies_inside_the_project() -> None:
    folders = [value for value in project_environment().values() if "/" in value]

    assert len(folders) >= 15
    assert all(Path(folder).is_relative_to(PROJECT) for folder in folders)


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.parametrize(
    "command",
    [
        ["python", "-c", NOTEBOOK],
        ["python", "-c", STORE],
        ["python", "-c", QUALITY],
        ["python", "-c", "import arch, prophet, quantstats, xgboost; from tradelib._jit import jit; jit(abs)"],
        ["sh", "-c", "git init -q . && dvc init -q && touch data && dvc add -q data && dvc status -q"],
        ["sh", "-c", "ipython -c 1; jupyter lab --version; jupyter kernelspec list; nbdev_clean --help"],
    ],
    ids=["papermill", "mlflow", "great expectations", "libraries", "dvc", "jupyter"],
)
def test_no_tool_writes_into_the_home_of_the_user(command: list[str], tmp_path: Path) -> None:
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()

    done = subprocess.run(command, cwd=work, env=environment(home), capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert [str(path.relative_to(home)) for path in home.rglob("*")] == []


@pytest.mark.parametrize(("in_ci", "outcome"), [("", "1 skipped"), ("true", "1 error")])
def test_missing_market_data_skips_a_test_but_fails_the_build(in_ci: str, outcome: str, tmp_path: Path) -> None:
    asking = PROJECT / "tests/checks/asks_for_real_data.py"
    missing = {"CI": in_ci, "TRADELIB_REAL_DATA": str(tmp_path / "nowhere")}
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", str(asking)]

    done = subprocess.run(command, cwd=PROJECT, env=os.environ | missing, capture_output=True, text=True)

    assert outcome in done.stdout
    assert "name its folder in TRADELIB_REAL_DATA" in done.stdout
