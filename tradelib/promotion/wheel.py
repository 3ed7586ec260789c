"""The exact package as a wheel: the same sources and the same locked environment give the same bytes.

Built from a copy of the sources in a temporary folder, so that the project stays as it is; times, modes and order in
the archive do not depend on the checkout.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tradelib.errors import BundleError, require

__all__ = ["build_wheel"]

_FILES = ("pyproject.toml", "setup.py", "README.md", "LICENSE")
_EPOCH = "315532800"
"""1980-01-01, the earliest time that a zip archive can hold: stamped on every file of the wheel."""
_PATIENCE = 300.0  # seconds


def build_wheel(root: str | os.PathLike[str], destination: str | os.PathLike[str]) -> Path:
    """Build the wheel of the project at `root` into the folder `destination`; returns its path.

    Raises `BundleError` when `root` is not the project's folder or
    the build fails, and `MissingExtraError` without the package `build`.
    """
    require("build", "research")
    root, destination = Path(root), Path(destination)
    missing = [name for name in ("tradelib/__init__.py", *_FILES) if not (root / name).is_file()]
    if missing:
        raise BundleError(f"{root} is not the project's folder: {', '.join(missing)} is missing there.")
    with tempfile.TemporaryDirectory(prefix="tradelib-wheel-") as folder:
        sources, built = Path(folder) / "sources", Path(folder) / "built"
        _copy_sources(root, sources)
        _run_build(sources, built)
        wheels = list(built.glob("tradelib-*.whl"))
        if len(wheels) != 1:
            raise BundleError(f"The build left {len(wheels)} wheels instead of one.")
        return _place(wheels[0], destination)


def _copy_sources(root: Path, sources: Path) -> None:
    code = [path for path in root.glob("tradelib/**/*") if path.is_file() and "__pycache__" not in path.parts]
    for path in sorted([*code, *(root / name for name in _FILES)]):
        copy = sources / path.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
        copy.chmod(0o644)


def _run_build(sources: Path, built: Path) -> None:
    command = [sys.executable, "-P", "-m", "build", "--wheel", "--no-isolation", "--outdir", str(built), str(sources)]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": _EPOCH, "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command, cwd=sources, env=environment, umask=0o022, capture_output=True, text=True, timeout=_PATIENCE
        )
    except subprocess.TimeoutExpired:
        raise BundleError(f"The wheel was not built within {_PATIENCE:.0f} seconds.") from None
    if done.returncode != 0:
        told = (done.stderr.strip() or done.stdout.strip()).splitlines()[-5:]
        raise BundleError(f"The wheel cannot be built: {' | '.join(told) or 'no message'}")


def _place(wheel: Path, destination: Path) -> Path:
    """Copy the finished wheel to its folder; it appears there whole."""
    destination.mkdir(parents=True, exist_ok=True)
    partial = destination / f".{wheel.name}.{os.getpid()}"
    try:
        shutil.copyfile(wheel, partial)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, destination / wheel.name)
    finally:
        partial.unlink(missing_ok=True)
    return destination / wheel.name
