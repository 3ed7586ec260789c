"""Two clean clones, two users, two machines as far as one machine can be two: the same bytes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tradelib.bundle import TrustStore, load_bundle, verify_bundle

pytestmark = [pytest.mark.integration, pytest.mark.slow]

NEEDED = ("tradelib/", "requirements/runner.lock", "pyproject.toml", "setup.py", "README.md", "LICENSE")
HELPERS = ("tests/promotion/sealing.py", "tests/promotion/support.py")
USERS = {
    "one": {"umask": 0o022, "TZ": "UTC", "LC_ALL": "C", "PYTHONHASHSEED": "1", "PYTHONUTF8": "0"},
    "another user": {"umask": 0o077, "TZ": "Asia/Kathmandu", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "4242"},
}


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false", "-c", "gc.auto=0")
    done = subprocess.run(["git", *who, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.fixture(scope="module")
def origin(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with what a commit of the project as it is now would hold of the package and its lock."""
    if (project / ".git").exists():
        names = git(project, "ls-files", "-coz", "--exclude-standard").split("\0")
    else:
        found = (path for path in project.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        names = [path.relative_to(project).as_posix() for path in found]
    root = tmp_path_factory.mktemp("origin")
    for name in names:
        if name.startswith(NEEDED) or name in HELPERS:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(project / name, root / name)
    git(root, "init", "--quiet")
    git(root, "add", "--all", "--force", ".")
    git(root, "commit", "--quiet", "-m", "As it is")
    return root


def start(origin: Path, home: Path, user: str) -> subprocess.Popen[str]:
    """Clone as `user`, and promote from the clone with nothing of this process's environment but the path."""
    settings = {name: str(value) for name, value in USERS[user].items() if name != "umask"}
    umask = USERS[user]["umask"]
    assert isinstance(umask, int)
    home.mkdir()
    subprocess.run(["git", "clone", "--quiet", str(origin), str(home / "clone")], check=True, umask=umask)
    for number, path in enumerate(sorted((home / "clone").rglob("*"))):
        os.utime(path, (1_000_000_000 + number * len(user), 1_000_000_000 + number * len(user)))
    inside = {"PATH": os.environ["PATH"], "HOME": str(home), "TRADELIB_HOME": str(home / "home")}
    environment = inside | {"PYTHONPATH": str(home / "clone"), "TRADELIB_JIT": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "tests.promotion.sealing", str(home)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=home / "clone", env=environment | settings, umask=umask, text=True, **pipes)


def test_two_clean_clones_seal_the_same_bytes(origin: Path, tmp_path: Path) -> None:
    """Other path, user, umask, clock, locale, hash seed and file times: all files equal, signature and modes too."""
    homes = {user: tmp_path / f"home of {user} – é" for user in USERS}
    children = {}
    for user in USERS:
        children[user] = start(origin, homes[user], user)
        time.sleep(3.0)  # zip archives know times to two seconds: the second clone is built later
    folders = {}
    for user, child in children.items():
        out, told = child.communicate(timeout=240)
        assert child.returncode == 0, told
        folder, package = out.splitlines()
        assert Path(package) == homes[user] / "clone", "it ran another package than the clone's"
        assert git(homes[user] / "clone", "status", "--porcelain") == "", "promotion changed the clone"
        folders[user] = Path(folder)
    one, other = ({p.relative_to(f): p for p in sorted(f.rglob("*")) if p.is_file()} for f in folders.values())
    assert list(one) == list(other)
    assert len(one) == 16
    for name, path in one.items():
        assert path.read_bytes() == other[name].read_bytes(), f"{name} differs"
        assert path.stat().st_mode == other[name].stat().st_mode, f"{name} has another mode"
    first, second = folders.values()
    assert first.name == second.name
    assert verify_bundle(second, TrustStore(homes["one"] / "trust")).ok
    assert load_bundle(first, TrustStore(homes["another user"] / "trust")).needs == ("exits", "limits", "maker_orders")
