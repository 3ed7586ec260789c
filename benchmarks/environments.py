"""A virtual environment per peer, in `.cache/benchmarks/environments`, from the pinned files in `benchmarks/peers`."""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["LEAN", "PEERS", "NotInstalled", "environment", "requirements"]

PEERS = Path(__file__).parent / "peers"
LEAN = "runner"
"""The environment with the lock of the runner, and nothing of research."""


class NotInstalled(Exception):
    """A peer's environment could not be made; the message says why."""


def requirements(name: str) -> str:
    """The pinned packages of one environment; of the project's own (an empty name) nothing."""
    return _pins(name).read_text(encoding="utf-8") if name else ""


def environment(name: str, folder: Path) -> Path:
    """The Python of environment `name`, made if it is missing or its pins have changed; `NotInstalled` where it cannot.

    Where packages come from is the business of each machine's own settings.
    """
    if not name:
        return Path(sys.executable)
    place, wanted = folder / name, f"{platform.python_version()} {_digest(name)}"
    python, mark = place / "bin" / "python", place / ".made-from"
    if not (mark.exists() and mark.read_text(encoding="utf-8") == wanted):
        shutil.rmtree(place, ignore_errors=True)
        _uv("venv", "--python", sys.executable, str(place))
        _uv("pip", "install", "--python", str(python), "--requirement", str(_pins(name)))
        mark.write_text(wanted, encoding="utf-8")
    return python


def _pins(name: str) -> Path:
    return PEERS.parents[1] / "requirements" / "runner.lock" if name == LEAN else PEERS / f"{name}.txt"


def _digest(name: str) -> str:
    return hashlib.sha256(requirements(name).encode()).hexdigest()


def _uv(*arguments: str) -> None:
    tool = Path(sys.executable).with_name("uv")
    try:
        subprocess.run([tool, *arguments, "--quiet"], check=True, capture_output=True, text=True, timeout=600)
    except subprocess.CalledProcessError as error:
        raise NotInstalled(error.stderr.strip()[-400:]) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInstalled(str(error)) from error
