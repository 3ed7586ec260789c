"""Is the code that runs the code that was promoted?

The installed package and the sealed wheel are reduced to the same thing: the sorted list of (path, SHA-256) of every
file that Python could import, and the marker of types. Equal lists, equal digest. A wheel is read in memory and never
unpacked; what is strange in it is refused.

What this cannot see: a changed interpreter or dependency, and byte code planted in `__pycache__` by somebody who may
write there. The golden decisions are the check on what the code computes.
"""

from __future__ import annotations

import io
import os
import stat
import sys
import zipfile
import zlib
from collections.abc import Mapping
from importlib.machinery import all_suffixes
from pathlib import Path, PurePosixPath

import tradelib
from tradelib.bundle.layout import Bundle, sha256
from tradelib.errors import BundleError
from tradelib.ledger.chain import digest

__all__ = ["package_digest", "package_files", "verify_runtime", "wheel_digest", "wheel_files"]

_MOST_FILES = 5_000
_LARGEST = 16 * 2**20
_LARGEST_TOTAL = 128 * 2**20


def package_files(root: Path | None = None) -> dict[str, str]:
    """SHA-256 of each file of code under `root` (default: the imported tradelib), keyed "tradelib/home.py"."""
    root = (root or _installed()).resolve()
    found = {}
    for folder, subfolders, names in os.walk(root):
        here = Path(folder)
        subfolders[:] = [name for name in subfolders if _is_code(f"tradelib/{name}/py.typed")]
        for name in (*subfolders, *names):
            path = here / name
            inside = f"tradelib/{path.relative_to(root).as_posix()}"
            if name in subfolders and path.is_symlink():
                raise BundleError(f"{inside} is a link to another folder: what it holds cannot be sealed.")
            if name in names and _is_code(inside):
                found[inside] = sha256(path.read_bytes())
    return found


def wheel_files(wheel: Path | bytes) -> dict[str, str]:
    """The same for a wheel, given as a path or as its bytes; `BundleError` when it is damaged or dangerous."""
    try:
        content = wheel.read_bytes() if isinstance(wheel, Path) else wheel
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            _check_members(members)
            return {info.filename: _member_digest(archive, info) for info in members if _is_code(info.filename)}
    except OSError as error:
        raise BundleError(f"The wheel cannot be read: {error}.") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise BundleError(f"The wheel is not a whole zip archive: {error}.") from error


def package_digest(root: Path | None = None) -> str:
    """One SHA-256 for the code of the installed package."""
    return _digest_of(package_files(root))


def wheel_digest(wheel: Path | bytes) -> str:
    """One SHA-256 for the code in a wheel; equal to `package_digest` of its installation."""
    return _digest_of(wheel_files(wheel))


def verify_runtime(bundle: Bundle) -> None:
    """Raise `BundleError` naming the first file in which the running package differs from the sealed one."""
    content = bundle.wheel.read_bytes()
    if sha256(content) != bundle.files[f"package/{bundle.wheel.name}"].sha256:
        raise BundleError(f"{bundle.wheel.name} was altered after the bundle was verified: load the bundle again.")
    sealed, running = wheel_files(content), package_files()
    for name in sorted(sealed.keys() | running.keys()):
        if sealed.get(name) != running.get(name):
            raise BundleError(_difference(name, sealed, running, bundle))
    _check_loaded_from(_installed())


def _installed() -> Path:
    return Path(next(iter(tradelib.__path__))).resolve()


def _difference(name: str, sealed: Mapping[str, str], running: Mapping[str, str], bundle: Bundle) -> str:
    what = "differs between the running package and the sealed one"
    if name not in running:
        what = "is in the sealed package and not in the running one"
    elif name not in sealed:
        what = "is in the running package and not in the sealed one"
    return (
        f"{name} {what}: this is not the code that was promoted. "
        f"Install it: pip install --no-deps --force-reinstall {bundle.wheel}"
    )


def _check_loaded_from(root: Path) -> None:
    """Every module of tradelib in this process comes from the folder that was compared."""
    for name, module in sorted(sys.modules.items()):
        origin = getattr(module, "__file__", None)
        if name.split(".")[0] == "tradelib" and origin and not Path(origin).resolve().is_relative_to(root):
            raise BundleError(f"The module {name} was loaded from {origin}, outside of the package in {root}.")


def _is_code(name: str) -> bool:
    parts = PurePosixPath(name).parts
    if parts[:1] != ("tradelib",) or "__pycache__" in parts or any(part.startswith(".") for part in parts):
        return False
    return name.endswith(tuple(all_suffixes())) or parts[-1] == "py.typed"


def _digest_of(files: Mapping[str, str]) -> str:
    if "tradelib/__init__.py" not in files:
        raise BundleError("There is no tradelib package in it: tradelib/__init__.py is missing.")
    return digest(sorted(files.items()))


def _check_members(members: list[zipfile.ZipInfo]) -> None:
    """Refuse an archive that would overflow, leave its folder, hide a link, or say two things under one name."""
    names = [info.filename for info in members]
    if len(members) > _MOST_FILES or sum(info.file_size for info in members) > _LARGEST_TOTAL:
        raise BundleError("The wheel is larger than any wheel of tradelib.")
    if len({name.casefold() for name in names}) != len(names):
        raise BundleError("The wheel holds two files of one name.")
    for info in members:
        path = PurePosixPath(info.filename)
        if path.is_absolute() or ".." in path.parts or "\\" in info.filename or ":" in info.filename:
            raise BundleError(f"The wheel holds a path that leaves it: {info.filename!r}.")
        if stat.S_ISLNK(info.external_attr >> 16) or info.flag_bits & 0x1:
            raise BundleError(f"The wheel holds a link or an encrypted file: {info.filename!r}.")
        if info.file_size > _LARGEST:
            raise BundleError(f"The wheel holds a file larger than any of tradelib: {info.filename!r}.")


def _member_digest(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> str:
    with archive.open(info) as member:  # never yields more than the size that was checked
        return sha256(member.read(_LARGEST))
