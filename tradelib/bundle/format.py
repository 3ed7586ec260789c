"""Sealing: from what research decided to a signed folder that needs nothing else.

The same contents and key give the same bytes. A bundle appears under its name whole or not at all: it is built in a
hidden folder beside it and renamed; what a killed build left there, the next one removes.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tradelib._jit import interpreted
from tradelib.backtest.decision import DecisionRule
from tradelib.bundle import layout
from tradelib.bundle.account import Rows, check_tables, golden_account
from tradelib.bundle.attestation import seal, statement
from tradelib.bundle.execution import Execution, needs_of
from tradelib.bundle.golden import check_account, check_golden
from tradelib.bundle.keys import TrustStore, key_id
from tradelib.bundle.layout import Bundle, FileRecord, check_gates, pretty, sha256
from tradelib.bundle.page import readme
from tradelib.bundle.runtime import wheel_digest
from tradelib.bundle.verify import check_decisions, check_market, load_bundle
from tradelib.data.files import write_bars
from tradelib.errors import BundleError, LedgerError
from tradelib.ledger.chain import canonical

__all__ = ["BundleContents", "write_bundle"]

_PARTIAL = ".partial-"


@dataclass(frozen=True, eq=False)
class BundleContents:
    """Everything that is sealed. `golden_bars` and `golden_decisions` come from `make_golden`.

    `golden_account`: what research's backtest made of the golden bars, from the function of that name; None: it is
    computed. `gates` are dicts with at least tier ("safety" or "evidence"), name and passed, usually figure and
    threshold too. `figures`, `data` and `provenance` are JSON-able; only `provenance` may differ between commits of
    equal content. What a runner must be able to do (`Bundle.needs`) follows from rule and execution.
    """

    name: str
    permission: str
    rule: DecisionRule
    execution: Execution
    golden_bars: pd.DataFrame
    golden_decisions: Sequence[dict[str, Any]]
    gates: Sequence[dict[str, Any]]
    figures: Mapping[str, Any]
    data: Mapping[str, Any]
    provenance: Mapping[str, Any]
    wheel: Path
    lock: Path
    golden_account: Mapping[str, Rows] | None = None


def write_bundle(root: str | os.PathLike[str], contents: BundleContents, private_key: Ed25519PrivateKey) -> Bundle:
    """Seal `contents` into `<root>/<name>-<first 12 of digest>/` and return it, verified from the disk.

    An identical bundle that exists already is returned as it is. Raises `BundleError` when the gates do not carry the
    permission, the golden decisions or the golden account are not the rule's, the strategy is not in the sealed
    package, the folder is taken by something else, or the disk refuses; then nothing is left behind.
    """
    contents = _check(contents)
    root = Path(root)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _alone_in(root), _partial(root) as folder:
            digest = _fill(folder, contents, private_key)
            target = root / f"{contents.name}-{digest[:12]}"
            return _place(folder, target, private_key)
    except OSError as error:
        raise BundleError(f"The bundle cannot be written to {root}: {error.strerror or error}.") from error


def _check(contents: BundleContents) -> BundleContents:
    """Refuse to sign what the loader would refuse, and what cannot be reproduced from the bundle alone.

    Returns the contents with their golden account.
    """
    if not layout.BUNDLE_NAME.fullmatch(contents.name):
        raise BundleError(f"A bundle cannot be called {contents.name!r}: use letters, digits, '-' and '_', at most 64.")
    check_gates(list(contents.gates), contents.permission)
    rule = contents.rule
    for part in (rule, rule.strategy, rule.sizing):
        if type(part).__module__.split(".")[0] != "tradelib":
            raise BundleError(
                f"{type(part).__name__} is defined in {type(part).__module__}, outside of the sealed package tradelib: "
                "export it from a notebook of the project first."
            )
    if DecisionRule.from_config(rule.to_config()) != rule:
        raise BundleError("The rule does not come back from its own configuration: it cannot be sealed.")
    with interpreted():
        warmup = rule.warmup_on(contents.execution.timeframe)
    if contents.execution.warmup != warmup:
        raise BundleError(f"execution: warmup is {contents.execution.warmup}, the rule needs {warmup} bars.")
    check_market(contents.execution, contents.golden_bars)
    decisions = check_decisions(list(contents.golden_decisions), contents.golden_bars)
    check = check_golden(rule, contents.golden_bars, decisions)
    if not check.equal:
        raise BundleError(f"The golden decisions are not what the rule decides: {check.first_difference}.")
    return replace(contents, golden_account=_account(contents))


def _account(contents: BundleContents) -> dict[str, Rows]:
    """The golden account as interpreted kernels compute it, which must be what research says of it."""
    given = (contents.rule, contents.execution, contents.golden_bars)
    if contents.golden_account is None:
        with interpreted():
            return golden_account(*given)
    stated = check_tables(contents.golden_account, contents.golden_bars)
    difference = check_account(*given, stated)
    if difference is not None:
        raise BundleError(f"The golden account is not what the rule does: {difference}.")
    return stated


@contextmanager
def _alone_in(root: Path) -> Iterator[None]:
    """Hold the folder: one build at a time, so that a hidden folder found here belongs to nobody who is alive."""
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        for stale in root.glob(f"{_PARTIAL}*"):
            shutil.rmtree(stale, ignore_errors=True)
        yield
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _partial(root: Path) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(dir=root, prefix=_PARTIAL))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _fill(folder: Path, contents: BundleContents, private_key: Ed25519PrivateKey) -> str:
    """Write all files, manifest and attestation; returns the digest of the bundle."""
    wheel = _read(contents.wheel, "wheel")
    path = f"package/{contents.wheel.name}"
    if not layout.WHEEL.fullmatch(path):
        raise BundleError(f"{contents.wheel.name} is not the name of a wheel of tradelib: build it with pip wheel.")
    payload = {path: wheel, layout.LOCK: _read(contents.lock, "lock"), **_documents(contents)}
    for name, content in payload.items():
        _write(folder / name, content)
    write_bars(contents.golden_bars, folder / layout.GOLDEN_BARS)
    payload[layout.GOLDEN_BARS] = (folder / layout.GOLDEN_BARS).read_bytes()
    manifest = {
        "format": layout.FORMAT,
        "name": contents.name,
        "needs": list(needs_of(contents.rule, contents.execution, contents.golden_decisions)),
        "permission": contents.permission,
        "package_digest": wheel_digest(wheel),
        "files": {name: asdict(FileRecord(sha256(content), len(content))) for name, content in payload.items()},
    }
    raw = (canonical(manifest) + "\n").encode("ascii")
    _write(folder / layout.MANIFEST, raw)
    _write(folder / layout.ATTESTATION, seal(statement(raw, contents.provenance), private_key))
    return sha256(raw)


def _documents(contents: BundleContents) -> dict[str, bytes]:
    gates = [dict(gate) for gate in contents.gates]
    account = contents.golden_account or {}
    given = contents.rule, contents.execution
    page = readme(
        contents.name, contents.permission, *given, needs_of(*given, contents.golden_decisions), gates, account
    )
    return {
        layout.RULE: pretty(contents.rule.to_config(), "rule"),
        layout.EXECUTION: pretty(contents.execution.to_config(), "execution"),
        layout.DATA: pretty(dict(contents.data), "data"),
        layout.GATES: pretty(gates, "gates"),
        layout.FIGURES: pretty(dict(contents.figures), "figures"),
        layout.GOLDEN_DECISIONS: _lines(contents.golden_decisions),
        **{layout.GOLDEN_TABLES[name]: _lines(rows) for name, rows in account.items()},
        layout.PROVENANCE: pretty(dict(contents.provenance), "provenance"),
        layout.README: page.encode(),
    }


def _lines(rows: Sequence[dict[str, Any]]) -> bytes:
    """A JSON list with one row per line, for people who compare."""
    if not rows:
        return b"[]\n"
    try:
        return ("[\n" + ",\n".join(map(canonical, rows)) + "\n]\n").encode("ascii")
    except LedgerError as error:
        raise BundleError(f"golden rows: {error}") from error


def _read(path: Path, what: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BundleError(f"The {what} {path} cannot be read: {error.strerror}.") from error
    if len(content) > layout.LARGEST_FILE:
        raise BundleError(f"The {what} {path} is larger than the {layout.LARGEST_FILE} bytes it may have.")
    return content


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _place(folder: Path, target: Path, private_key: Ed25519PrivateKey) -> Bundle:
    """Give a finished folder its name, or return the identical bundle that has it already."""
    own = _Own(private_key)
    load_bundle(folder, own)  # what is about to appear would be accepted
    if not target.exists():
        _settle(folder)
        folder.rename(target)
    elif not _identical(folder, target):
        raise BundleError(f"{target} exists and is not this bundle: somebody altered it. Look at it, then remove it.")
    return load_bundle(target, own)


def _settle(folder: Path) -> None:
    """Modes that do not depend on who seals, readable for whoever runs it; folders durable before the name is."""
    for path in (*folder.rglob("*"), folder):
        path.chmod(0o755 if path.is_dir() else 0o644)
        if path.is_dir():
            _sync(path)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _identical(one: Path, other: Path) -> bool:
    def content(root: Path) -> dict[str, bytes | None]:
        paths = sorted(root.rglob("*"))
        plain = [path for path in paths if not path.is_dir() or path.is_symlink()]
        return {path.relative_to(root).as_posix(): None if path.is_symlink() else path.read_bytes() for path in plain}

    return content(one) == content(other)


class _Own(TrustStore):
    """Trusts exactly the key that is signing."""

    def __init__(self, private_key: Ed25519PrivateKey) -> None:
        super().__init__("the signing key")
        self._public = private_key.public_key()

    def keys(self) -> dict[str, Any]:
        return {key_id(self._public): self._public}

    def revoked(self) -> dict[str, str]:
        return {}
