"""Every library notebook runs from top to bottom, and shows again what it has stored."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.checks.notebooks import alike, read
from tests.environment import PROJECT

NOTEBOOKS = sorted(path.relative_to(PROJECT) for path in PROJECT.glob("nbs/*/*.ipynb"))


PROCESSORS_DIFFER = {
    "nbs/models/00_saved.ipynb": 0.02,  # bytes of a file whose numbers have a digit more or less
    "nbs/risk/06_var_backtests.ipynb": 0.02,  # statistics at the end of a chain of likelihoods that were maximised
}
"""How far numbers may be from the stored ones, as a fraction: functions like exp and log end on another last digit on
another processor, and some results carry that far."""


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
    tolerance = PROCESSORS_DIFFER.get(path.as_posix(), 1e-9)
    assert {number: output for number, output in fresh.items() if not alike(output, stored[number], tolerance)} == {}


def test_only_the_last_digits_of_numbers_may_differ() -> None:
    """The planted faults: another word, another number, a number more, another value inside a drawn curve."""
    curve = "{'bdata': 'AAAAAAAA8D8AAAAAAAAAQA==', 'dtype': 'f8'}"  # 1.0, 2.0
    close = "{'bdata': 'AQAAAAAA8D8AAAAAAAAAQA==', 'dtype': 'f8'}"  # 1.0 and a bit
    other = "{'bdata': 'AAAAAAAA8D8AAAAAAAAIQA==', 'dtype': 'f8'}"  # 1.0, 3.0
    assert alike("a 0.1, -2e-17", "a 0.10000000000000003, 1e-16", 1e-9)
    assert alike(curve, close, 1e-9)
    for one, two in (("a 0.1", "b 0.1"), ("a 0.1", "a 0.1001"), ("1 2", "1 2 3"), ("-1", "1"), (curve, other)):
        assert not alike(one, two, 1e-9)
    assert alike("213 bytes", "212 bytes", 0.02)
    assert not alike("213 bytes", "203 bytes", 0.02)


def test_a_failing_notebook_is_named_with_its_cell(tmp_path: Path) -> None:
    broken = tmp_path / "00_broken.ipynb"
    cell = {"cell_type": "code", "source": "assert 1 == 2, 'one is not two'", "metadata": {}, "outputs": []}
    cells = [cell | {"id": "c1", "execution_count": None}]
    broken.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))

    with pytest.raises(AssertionError, match="one is not two"):
        executed(broken, tmp_path / "home", tmp_path)
