"""Executes one notebook in this process, without a kernel: `python -m tests.checks.execution IN OUT`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.environment import project_environment


def execute(source: Path, target: Path) -> bool:
    """Run every cell in the notebook's own folder and write the result; False, with the traceback, at an error."""
    from execnb.nbio import read_nb, write_nb
    from execnb.shell import CaptureShell

    notebook = read_nb(source)
    shell = CaptureShell(source, mpl_format="png")
    os.chdir(source.parent)
    try:
        shell.run_all(notebook, exc_stop=True)
    except Exception:  # noqa: BLE001 -- whatever the notebook raises is the result
        print(shell.prettytb(fname=source), file=sys.stderr)
        return False
    write_nb(notebook, target)
    return True


if __name__ == "__main__":
    os.environ.update(project_environment())
    os.environ["IN_TEST"] = "1"
    sys.exit(0 if execute(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()) else 1)
