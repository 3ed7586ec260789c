"""Every library notebook runs from top to bottom, and shows again what it has stored."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
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


_ARRAY = re.compile(r"\{'bdata': '([^']*)', 'dtype': '(\w+)'(?:, 'shape': '[^']*')?\}")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")


def alike(one: str, other: str) -> bool:
    """The same text, and the same numbers but for their last digit: optimisers and BLAS do not promise that one."""
    if one == other:
        return True
    one, other = (_ARRAY.sub(_written_out, text) for text in (one, other))
    if _NUMBER.sub("#", one) != _NUMBER.sub("#", other):
        return False
    return all(map(_close, _NUMBER.findall(one), _NUMBER.findall(other)))


def _written_out(array: re.Match[str]) -> str:
    """The numbers of an array that plotly has packed."""
    values = np.frombuffer(base64.b64decode(array[1]), dtype=array[2])
    return ", ".join(f"{value + 0.0:.9e}" for value in values.tolist())


def _close(one: str, other: str) -> bool:
    decimals = min(len(text.partition("e")[0].partition(".")[2]) for text in (one, other))
    x, y = float(one), float(other)
    return abs(x - y) <= 1e-6 * max(abs(x), abs(y)) + (1.01 * 10.0**-decimals if decimals else 0.0)


def test_only_a_last_digit_may_differ() -> None:
    assert alike("p = 0.470, hits 38", "p = 0.471, hits 38")
    assert not alike("p = 0.470, hits 38", "p = 0.473, hits 38")
    assert not alike("p = 0.470, hits 38", "p = 0.470, hits 39")
    assert not alike("p = 0.470", "q = 0.470")
    packed = [base64.b64encode(np.array([1.0, value]).tobytes()).decode() for value in (2.0, 2.0 + 1e-9, 2.1)]
    shown = [f"{{'bdata': '{text}', 'dtype': 'f8'}}" for text in packed]
    assert alike(shown[0], shown[1])
    assert not alike(shown[0], shown[2])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=str)
def test_a_notebook_runs_and_shows_what_it_has_stored(path: Path, home: Path, tmp_path: Path) -> None:
    fresh = executed(path, home, tmp_path)

    stored = {cell.number: cell.shown for cell in read(path)}
    assert {number: output for number, output in fresh.items() if not alike(output, stored[number])} == {}


def test_a_failing_notebook_is_named_with_its_cell(tmp_path: Path) -> None:
    broken = tmp_path / "00_broken.ipynb"
    cell = {"cell_type": "code", "source": "assert 1 == 2, 'one is not two'", "metadata": {}, "outputs": []}
    cells = [cell | {"id": "c1", "execution_count": None}]
    broken.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))

    with pytest.raises(AssertionError, match="one is not two"):
        executed(broken, tmp_path / "home", tmp_path)
