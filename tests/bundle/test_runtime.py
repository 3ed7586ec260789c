"""The running package and the sealed wheel are compared file by file."""

from __future__ import annotations

import shutil
import stat
import sys
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tradelib
from tradelib.bundle import Bundle, load_bundle, package_digest, verify_runtime, wheel_digest
from tradelib.bundle.runtime import package_files, wheel_files
from tradelib.errors import BundleError

INSTALLED = Path(tradelib.__path__[0])


@pytest.fixture
def current(workshop: Any, make_wheel: Callable[..., Path], tmp_path: Path) -> Bundle:
    """A bundle that seals the package as it is at this moment."""
    wheel = make_wheel(tmp_path / "tradelib-0.1.0-py3-none-any.whl")
    bundle: Bundle = workshop.reseal(tmp_path / "current", wheel=wheel)
    return bundle


def test_the_wheel_of_this_package_is_this_package(current: Bundle) -> None:
    assert package_files() == wheel_files(current.wheel)
    assert package_digest() == wheel_digest(current.wheel) == current.package_digest
    assert wheel_digest(current.wheel.read_bytes()) == package_digest()
    assert {"tradelib/py.typed", "tradelib/errors.py", "tradelib/bundle/runtime.py"} <= set(package_files())
    verify_runtime(current)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tradelib/errors.py": b"# changed"}, r"tradelib/errors\.py differs"),
        ({"tradelib/errors.py": None}, r"tradelib/errors\.py is in the running package and not in the sealed"),
        ({"tradelib/zzz.py": b""}, r"tradelib/zzz\.py is in the sealed package and not in the running"),
        ({"tradelib/py.typed": None}, r"tradelib/py\.typed is in the running"),
        ({"tradelib/aaa.so": b"\x7fELF"}, r"tradelib/aaa\.so is in the sealed"),
    ],
)
def test_the_first_difference_is_named(
    workshop: Any, make_wheel: Callable[..., Path], tmp_path: Path, changes: dict[str, bytes | None], message: str
) -> None:
    wheel = make_wheel(tmp_path / "tradelib-0.1.0-py3-none-any.whl", changes)
    bundle = workshop.reseal(tmp_path / "bundles", wheel=wheel)
    with pytest.raises(BundleError, match=message + r".*Install it: pip install --no-deps"):
        verify_runtime(bundle)


def test_a_wheel_altered_after_the_bundle_was_loaded_is_refused(workshop: Any, tmp_path: Path) -> None:
    bundle = load_bundle(workshop.copy(tmp_path), workshop.trust)
    bundle.wheel.write_bytes(bundle.wheel.read_bytes() + b"\0")
    with pytest.raises(BundleError, match="altered after the bundle was verified"):
        verify_runtime(bundle)


def test_a_module_loaded_from_elsewhere_is_refused(current: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    stranger = types.ModuleType("tradelib.stranger")
    stranger.__file__ = "/somewhere/else/stranger.py"
    monkeypatch.setitem(sys.modules, "tradelib.stranger", stranger)
    with pytest.raises(BundleError, match=r"tradelib\.stranger was loaded from /somewhere/else"):
        verify_runtime(current)


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("new.py", True),
        ("new.pyc", True),
        ("errors.cpython-311-x86_64-linux-gnu.so", True),
        ("strategies/new/__init__.py", True),
        ("folder/without_init.py", True),
        ("notes.txt", False),
        ("__pycache__/errors.cpython-311.pyc", False),
        (".ipynb_checkpoints/x.py", False),
    ],
)
def test_whatever_python_could_import_counts(tmp_path: Path, name: str, counts: bool) -> None:
    copy = Path(shutil.copytree(INSTALLED, tmp_path / "tradelib", ignore=shutil.ignore_patterns("__pycache__")))
    assert package_digest(copy) == package_digest()
    (copy / name).parent.mkdir(parents=True, exist_ok=True)
    (copy / name).write_bytes(b"x")
    assert (package_digest(copy) != package_digest()) is counts


def test_the_digest_is_of_names_and_contents(tmp_path: Path) -> None:
    copy = Path(shutil.copytree(INSTALLED, tmp_path / "tradelib", ignore=shutil.ignore_patterns("__pycache__")))
    (copy / "errors.py").rename(copy / "mistakes.py")
    assert package_digest(copy) != package_digest()
    (copy / "mistakes.py").rename(copy / "errors.py")
    (copy / "linked").symlink_to(copy / "ledger")
    with pytest.raises(BundleError, match="tradelib/linked is a link"):
        package_digest(copy)
    with pytest.raises(BundleError, match=r"tradelib/__init__\.py is missing"):
        package_digest(tmp_path / "tradelib" / "ledger" / "none")


def archive(path: Path, members: dict[str, bytes], mode: int = 0) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            opened.writestr(info, content)
    return path


PACKAGE = {"tradelib/__init__.py": b""}


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"../x.py": b""}, "path that leaves it"),
        ({"tradelib/../../x.py": b""}, "path that leaves it"),
        ({"/etc/x.py": b""}, "path that leaves it"),
        ({"tradelib\\x.py": b""}, "path that leaves it"),
        ({"C:x.py": b""}, "path that leaves it"),
        ({"tradelib/big.py": bytes(17 * 2**20)}, "larger than any of tradelib"),
        ({"tradelib/A.py": b"", "tradelib/a.py": b""}, "two files of one name"),
        ({f"{number}.txt": b"" for number in range(5_001)}, "larger than any wheel"),
    ],
)
def test_a_dangerous_wheel_is_refused(tmp_path: Path, members: dict[str, bytes], message: str) -> None:
    with pytest.raises(BundleError, match=message):
        wheel_digest(archive(tmp_path / "x.whl", PACKAGE | members))


def test_a_bomb_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.whl", PACKAGE | {f"tradelib/{number}.py": bytes(15 * 2**20) for number in range(9)})
    assert path.stat().st_size < 200_000
    with pytest.raises(BundleError, match="larger than any wheel"):
        wheel_digest(path)


def test_a_bomb_that_lies_about_its_size_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.whl", PACKAGE | {"tradelib/x.py": bytes(15 * 2**20)})
    content = path.read_bytes().replace((15 * 2**20).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    with pytest.raises(BundleError, match="not a whole zip archive"):
        wheel_digest(content)


def test_links_copies_and_damage_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="a link"):
        wheel_digest(archive(tmp_path / "link.whl", PACKAGE, mode=stat.S_IFLNK | 0o777))
    with zipfile.ZipFile(tmp_path / "twice.whl", "w") as twice:
        twice.writestr("tradelib/__init__.py", "1")
        with pytest.warns(UserWarning, match="Duplicate name"):
            twice.writestr("tradelib/__init__.py", "2")
    with pytest.raises(BundleError, match="two files of one name"):
        wheel_digest(tmp_path / "twice.whl")
    with pytest.raises(BundleError, match=r"tradelib/__init__\.py is missing"):
        wheel_digest(archive(tmp_path / "other.whl", {"other/x.py": b""}))
    with pytest.raises(BundleError, match="cannot be read"):
        wheel_digest(tmp_path / "none.whl")
    whole = archive(tmp_path / "whole.whl", {"tradelib/__init__.py": bytes(range(256)) * 20}).read_bytes()
    for cut in (0, 10, len(whole) // 2, len(whole) - 5):
        with pytest.raises(BundleError, match="not a whole zip archive"):
            wheel_digest(whole[:cut])
    damaged = bytearray(whole)
    damaged[60] ^= 0xFF
    with pytest.raises(BundleError, match="not a whole zip archive"):
        wheel_digest(bytes(damaged))
