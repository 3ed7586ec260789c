"""Checks of what the repository says: leftovers, machine paths, package hosts, lengths of texts, state of the locks."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

_LEFTOVER = re.compile(r"\b(?:TO[D]O|FIX[M]E|XX[X]|HAC[K])\b")
_MACHINE_PATH = re.compile(r"(?<![\w.}/])/(?:tmp|work|root|home|Users|mnt|private)/\w")
_PACKAGE_HOST = re.compile(
    r"\bpypi\.org|pythonhosted\.org|npmjs\.(?:com|org)|anaconda\.org|proxy\.golang\.org|crates\.io"
)
_PICTURE = re.compile(r'(?<="image/png": ")[A-Za-z0-9+/=]+')
_BINARY = {".png", ".gz", ".parquet", ".ico", ".woff", ".woff2"}
_LOCKED = re.compile(r"^([A-Za-z0-9][\w.-]*)==([^\s;\\]+)(?:\s*;\s*([^\\]+?))?\s*\\?$", re.MULTILINE)
_SKIPPED = {".git", ".venv", ".cache", "__pycache__", "mlruns", ".tradelib", "_build", "_nbs"}


def tracked(project: Path) -> list[Path]:
    """Files that belong to the project: what git tracks or would add; without git, all but the ignored folders."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=project,
        capture_output=True,
        text=True,
    )
    if listed.returncode == 0:
        paths = [project / name for name in listed.stdout.split("\0") if name]
    else:
        paths = [path for path in project.rglob("*") if not _SKIPPED & set(path.relative_to(project).parts)]
    return sorted(path for path in paths if path.is_file())


def texts(paths: Iterable[Path]) -> Iterator[tuple[Path, str]]:
    """The readable ones among `paths`, with their contents."""
    for path in paths:
        if path.suffix not in _BINARY:
            yield path, _PICTURE.sub("", path.read_text(encoding="utf-8", errors="replace"))


def found(pattern: re.Pattern[str], paths: Iterable[Path]) -> list[str]:
    """`path:line: match` for each place where `pattern` occurs."""
    return [
        f"{path}:{text.count(chr(10), 0, match.start()) + 1}: {match.group()}"
        for path, text in texts(paths)
        for match in pattern.finditer(text)
    ]


def leftovers(paths: Iterable[Path]) -> list[str]:
    """Marks of unfinished work."""
    return found(_LEFTOVER, paths)


def machine_paths(paths: Iterable[Path]) -> list[str]:
    """Absolute paths of somebody's machine."""
    return found(_MACHINE_PATH, (path for path in paths if path.suffix != ".lock"))


def package_hosts(paths: Iterable[Path]) -> list[str]:
    """Hosts of package registries: which one is used is the business of each machine's own settings."""
    return found(_PACKAGE_HOST, paths)


def sections(markdown: str, level: int = 2) -> dict[str, list[str]]:
    """Heading -> its non-empty lines, for the headings of one level."""
    parts = re.split(rf"^{'#' * level} (.+)$", markdown, flags=re.MULTILINE)
    return {
        title.strip(): [line for line in body.splitlines() if line.strip()]
        for title, body in zip(parts[1::2], parts[2::2], strict=True)
    }


def long_sections(markdown: str, titles: Iterable[str], limit: int) -> list[str]:
    """Of the how-tos named by `titles`, those that are missing or have `limit` lines or more."""
    known = sections(markdown)
    missing = [f"{title}: missing" for title in titles if title not in known]
    return missing + [
        f"{title}: {len(known[title])} lines" for title in titles if title in known and len(known[title]) >= limit
    ]


def code_blocks(markdown: str, language: str) -> list[str]:
    """The fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", markdown, flags=re.MULTILINE | re.DOTALL)


def locked(lock: str) -> dict[str, list[Version]]:
    """Package -> versions that a lock pins (more than one where markers choose)."""
    pins: dict[str, list[Version]] = {}
    for name, version, _ in _LOCKED.findall(lock):
        pins.setdefault(canonicalize_name(name), []).append(Version(version))
    return pins


def requirements(pyproject: str, extras: bool) -> list[Requirement]:
    """What `pyproject.toml` asks for: the core, and with `extras` every optional set as well."""
    project = tomllib.loads(pyproject)["project"]
    optional = project["optional-dependencies"].values() if extras else []
    return [Requirement(line) for group in (project["dependencies"], *optional) for line in group]


def unmet(wanted: Iterable[Requirement], lock: str) -> list[str]:
    """Requirements that the lock does not pin, or pins to a version that they exclude."""
    pins = locked(lock)
    return [
        f"{requirement}: locked {', '.join(map(str, versions)) or 'nowhere'}"
        for requirement in wanted
        if not (versions := pins.get(canonicalize_name(requirement.name), []))
        or not all(requirement.specifier.contains(version, prereleases=True) for version in versions)
    ]


def unhashed(lock: str) -> list[str]:
    """Pins without a hash: the installer would refuse them, or worse, trust them."""
    return [
        match.group(1)
        for match in _LOCKED.finditer(lock)
        if not lock[match.end() :].lstrip("\n").lstrip().startswith("--hash=sha256:")
    ]


def requirements_digest(project: Path) -> str:
    """SHA-256 of everything that a lock is resolved from: the requirements, the Python versions, the overrides."""
    settings = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    asked = {
        "python": settings["project"]["requires-python"],
        "core": settings["project"]["dependencies"],
        "extras": settings["project"]["optional-dependencies"],
        "uv": settings["tool"]["uv"],
        "overrides": (project / "requirements/overrides.txt").read_text(encoding="utf-8").splitlines(),
        "bootstrap": (project / "requirements/bootstrap.in").read_text(encoding="utf-8").splitlines(),
    }
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def recorded_digest(lock: str) -> str | None:
    """The digest that `make lock` wrote into the first line of a lock."""
    match = re.match(r"# resolved by `make lock` from requirements with sha256 ([0-9a-f]{64})\n", lock)
    return match.group(1) if match else None
