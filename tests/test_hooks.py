"""What `make hooks` sets up for a clone: notebooks are cleaned on their way into git, and differ readably."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.environment import PROJECT

NOTEBOOK = PROJECT / "nbs/strategies/01_trend.ipynb"


def clean(text: str) -> subprocess.CompletedProcess[str]:
    """Run the filter as git does."""
    command = [sys.executable, "-m", "tests.clean"]
    return subprocess.run(command, cwd=PROJECT, input=text, capture_output=True, text=True)


def test_a_clean_notebook_passes_unchanged() -> None:
    text = NOTEBOOK.read_text(encoding="utf-8")

    assert clean(text).stdout == text


def test_counts_and_foreign_metadata_are_taken_off() -> None:
    text = NOTEBOOK.read_text(encoding="utf-8")
    notebook = json.loads(text)
    for number, cell in enumerate(notebook["cells"]):
        cell["metadata"] = {"collapsed": True}
        if cell["cell_type"] == "code":
            cell["execution_count"] = number

    assert clean(json.dumps(notebook)).stdout == text


def test_what_is_no_notebook_is_refused() -> None:
    done = clean("<<<<<<< not a notebook")

    assert done.returncode != 0
    assert done.stdout == ""


@pytest.mark.integration
def test_the_hooks_of_the_makefile_call_what_exists() -> None:
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")

    for tool in ("jupytext", "nbdev_merge"):
        assert f".venv/bin/{tool}" in makefile
        assert Path(sys.executable).with_name(tool).exists()
    assert ".venv/bin/python -m tests.clean'" in makefile
