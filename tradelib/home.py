"""Where tradelib keeps its own state: one folder per project, never the user's home.

`TRADELIB_HOME` names it; otherwise it is `.tradelib/` beside the nearest `settings.ini` above the working directory,
so that a notebook under `nbs/` and a stage at the root count their trials in the same ledger. So does an experiment
that DVC runs in a copy of the project (`dvc exp run --temp`, `--queue`): the copy is deleted, what it tried is not.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["project_home", "project_root"]

_EXPERIMENTS = (".dvc", "tmp", "exps")
"""Where DVC keeps the copies in which it runs experiments, below the project."""


def project_root(start: Path | None = None) -> Path:
    """The nearest folder at or above `start` (default: working directory) that holds `settings.ini`, else `start`."""
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "settings.ini").is_file():
            return folder
    return here


def project_home(*, create: bool = True) -> Path:
    """The folder of trial ledger, keys and trust store; made on first use."""
    named = os.environ.get("TRADELIB_HOME")
    home = Path(named).expanduser().resolve() if named else _original(project_root()) / ".tradelib"
    if create:
        home.mkdir(parents=True, exist_ok=True)
    return home


def _original(root: Path) -> Path:
    """The project of which `root` is the copy of a DVC experiment; `root` itself where it is none."""
    parts = root.parts
    for place in range(len(parts) - len(_EXPERIMENTS)):
        folder = Path(*parts[:place])
        if parts[place : place + len(_EXPERIMENTS)] == _EXPERIMENTS and (folder / "settings.ini").is_file():
            return folder
    return root
