"""The code on the pages of the site runs, from top to bottom of each page, and prints what the page says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.checks.files import code_blocks
from tests.environment import PROJECT

PAGES = {path.stem: path.read_text(encoding="utf-8") for path in PROJECT.glob("docs/*.md")}
GUIDES = {name: code_blocks(page, "python") for name, page in PAGES.items()}


@pytest.mark.parametrize("guide", sorted(name for name, blocks in GUIDES.items() if blocks))
def test_a_guide_runs_as_it_stands(guide: str, home: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(GUIDES[guide])],
        cwd=tmp_path,
        env=os.environ | {"TRADELIB_HOME": str(home)},
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    assert lines(done.stdout) == lines("".join(code_blocks(PAGES[guide], "text")))


def lines(printed: str) -> list[str]:
    return [line.rstrip() for line in printed.splitlines()]
