"""The sealed package: the same sources give the same bytes, and the project stays as it was."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

import pytest

from tradelib.bundle import wheel_digest
from tradelib.errors import BundleError
from tradelib.promotion.wheel import build_wheel

SOURCES = ("pyproject.toml", "setup.py", "README.md", "LICENSE")


@pytest.fixture
def clone(project: Path, tmp_path: Path) -> Path:
    """A checkout of the sources."""
    copy = tmp_path / "clone"
    shutil.copytree(project / "tradelib", copy / "tradelib", ignore=shutil.ignore_patterns("__pycache__"))
    for name in SOURCES:
        shutil.copyfile(project / name, copy / name)
    return copy


def test_two_checkouts_give_the_same_bytes(clone: Path, tmp_path: Path) -> None:
    """Given the same sources at another place, with other times and modes, written under another umask."""
    other = Path(shutil.copytree(clone, tmp_path / "elsewhere" / "other"))
    for path in other.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
        path.chmod(0o700)
    before = sorted(path.relative_to(other) for path in other.rglob("*"))
    first = build_wheel(clone, tmp_path / "first")
    old = os.umask(0o077)
    try:
        second = build_wheel(other, tmp_path / "second")
    finally:
        os.umask(old)
    assert first.name == second.name == "tradelib-0.1.0-py3-none-any.whl"
    assert first.read_bytes() == second.read_bytes()
    assert sorted(path.relative_to(other) for path in other.rglob("*")) == before
    assert [path.name for path in second.parent.iterdir()] == [second.name]


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert "tradelib/py.typed" in archive.namelist()
    assert tops == {"tradelib", "tradelib-0.1.0.dist-info"}
    assert len(wheel_digest(wheel)) == 64


def test_what_is_not_the_project_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is not the project's folder"):
        build_wheel(tmp_path, tmp_path / "built")
    assert not (tmp_path / "built").exists()


def test_a_failing_build_says_why(clone: Path, tmp_path: Path) -> None:
    (clone / "pyproject.toml").write_text("[project]\nname = 'tradelib'\n")
    with pytest.raises(BundleError, match="The wheel cannot be built"):
        build_wheel(clone, tmp_path / "built")
    assert not (tmp_path / "built").exists()
