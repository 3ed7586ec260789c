"""What the README shows is what happens."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.checks.files import code_blocks
from tests.environment import PROJECT


def test_the_example_prints_the_verdict_that_stands_below_it(home: Path, tmp_path: Path) -> None:
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    (example,) = code_blocks(readme, "python")
    (shown,) = code_blocks(readme, "text")

    done = subprocess.run(
        [sys.executable, "-c", example],
        cwd=tmp_path,
        env=os.environ | {"TRADELIB_HOME": str(home)},
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout == shown


def test_the_two_commands_exist() -> None:
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")

    for command in ("demo", "test"):
        assert f"make {command}" in readme
        assert f"\n{command}: $(SYNCED)" in makefile


def test_the_makefile_teaches_every_target() -> None:
    done = subprocess.run(["make", "help"], cwd=PROJECT, capture_output=True, text=True, check=True)

    for target in ("demo", "test", "lint", "format", "lab", "docs", "bench", "hooks", "lock", "clean", "help"):
        assert f"make {target}" in done.stdout
