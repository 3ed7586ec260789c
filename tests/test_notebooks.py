"""Every library notebook runs from top to bottom, and shows again what it has stored."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.checks.notebooks import read
from tests.environment import PROJECT

NOTEBOOKS = sorted(path.relative_to(PROJECT) for path in PROJECT.glob("nbs/*/*.ipynb"))


def executed(path: Path, home: Path, tmp_path: Path) -> dict[int, str]:
    """Run a notebook in a process of its own, as nbdev does; cell number -> what it shows."""
    target = tmp_path / "executed.ipynb"
    runner = [sys.executable, "-m", "tests.checks.execution", str(path), str(target)]
    done = subprocess.run(
        runner, cwd=PROJECT, env=os.environ | {"TRADELIB_HOME": str(home)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return {cell.number: cell.shown for cell in read(target)}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=str)
def test_a_notebook_runs_and_shows_what_it_has_stored(path: Path, home: Path, tmp_path: Path) -> None:
    fresh = executed(path, home, tmp_path)

    stored = {cell.number: cell.shown for cell in read(path)}
    assert {number: output for number, output in fresh.items() if output != stored[number]} == {}


def test_a_failing_notebook_is_named_with_its_cell(tmp_path: Path) -> None:
    broken = tmp_path / "00_broken.ipynb"
    cell = {"cell_type": "code", "source": "assert 1 == 2, 'one is not two'", "metadata": {}, "outputs": []}
    cells = [cell | {"id": "c1", "execution_count": None}]
    broken.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))

    with pytest.raises(AssertionError, match="one is not two"):
        executed(broken, tmp_path / "home", tmp_path)
