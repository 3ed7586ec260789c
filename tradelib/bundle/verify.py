"""Nothing in a bundle is believed before the signature over its manifest and the hash of every file are right.

The folder is read once into memory, without following links; what is checked is what is used. A bundle is verified from
the outside in: folder, manifest, signature, files, and only then the meaning of the files.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from cryptography.exceptions import InvalidSignature

from tradelib.backtest.decision import DecisionRule
from tradelib.bundle import layout
from tradelib.bundle.account import check_tables
from tradelib.bundle.attestation import Envelope, pre_authentication, read_envelope, statement, subject_of
from tradelib.bundle.execution import Execution, needs_of
from tradelib.bundle.keys import TrustStore
from tradelib.bundle.layout import Bundle, FileRecord, check_gates, parse_json, sha256
from tradelib.bundle.runtime import wheel_digest
from tradelib.data.files import read_bars
from tradelib.errors import BundleError, TradelibError
from tradelib.ledger.chain import canonical

__all__ = ["Problem", "Verification", "load_bundle", "verify_bundle"]

_DEEPEST = 4
_MOST_FILES = 64


class Problem(NamedTuple):
    """Something that keeps a folder from being a bundle; `file` is its path in the bundle ("" = the folder itself).

    Codes: missing, extra, altered, format, manifest, signature, unknown-key, revoked-key, trust, link, path, size,
    unreadable, content.
    """

    code: str
    file: str
    message: str


@dataclass(frozen=True)
class Verification:
    """What `verify_bundle` found; the first problem is the one to solve first."""

    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """True when there is no problem."""
        return not self.problems


class _Refused(Exception):
    """Ends the examination: what follows would rest on something that is already wrong."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__(problems)
        self.problems = problems


def verify_bundle(path: str | os.PathLike[str], trust: TrustStore) -> Verification:
    """Examine a bundle and list what is wrong with it; never raises for what is in the folder."""
    try:
        _examine(Path(path), trust)
    except _Refused as refused:
        return Verification(refused.problems)
    return Verification(())


def load_bundle(path: str | os.PathLike[str], trust: TrustStore) -> Bundle:
    """The verified bundle at `path`, or `BundleError` with the first problem in plain words."""
    try:
        return _examine(Path(path), trust)
    except _Refused as refused:
        others = len(refused.problems) - 1
        more = f" ({others} more problem{'s' if others > 1 else ''}: see verify_bundle)" if others else ""
        raise BundleError(f"Bundle {Path(path).name}: {refused.problems[0].message}{more}") from None


def _examine(path: Path, trust: TrustStore) -> Bundle:
    files = _read_folder(path)
    for name in (layout.MANIFEST, layout.ATTESTATION):
        if name not in files:
            raise _Refused(Problem("missing", name, f"{name} is missing: this is not a whole bundle."))
    manifest = _check_manifest(files[layout.MANIFEST])
    envelope = _check_signature(files, trust)
    records = _check_records(manifest["files"])
    _check_files(files, records)
    try:
        return _understand(path.resolve(), envelope, manifest, records, files)
    except (TradelibError, KeyError, TypeError, ValueError) as error:
        raise _Refused(Problem("content", "", str(error))) from None


# The folder -----------------------------------------------------------------------------------------------------------


def _read_folder(root: Path) -> dict[str, bytes]:
    """Every file of the folder by its path; refuses links, devices, depth and size before it reads."""
    files: dict[str, bytes] = {}
    total = 0
    try:
        if not root.is_dir():
            raise _Refused(Problem("missing", "", f"there is no bundle folder at {root}."))
        for name, path in _walk(root, root, 0):
            if len(files) >= _MOST_FILES:
                raise _Refused(Problem("extra", "", f"the folder holds more than {_MOST_FILES} files."))
            files[name] = _read_file(name, path)
            total += len(files[name])
            if total > layout.LARGEST_BUNDLE:
                raise _Refused(Problem("size", "", "the folder is larger than any bundle."))
    except OSError as error:
        raise _Refused(Problem("unreadable", "", f"the folder cannot be read: {error}.")) from None
    return files


def _walk(root: Path, folder: Path, depth: int) -> Iterator[tuple[str, Path]]:
    for entry in sorted(os.scandir(folder), key=lambda item: item.name):
        path = Path(entry.path)
        name = path.relative_to(root).as_posix()
        shown = ascii(name)[1:-1]
        if entry.is_symlink():
            raise _Refused(Problem("link", shown, f"{shown} is a symbolic link: a bundle holds plain files only."))
        if not entry.is_dir(follow_symlinks=False):
            yield name, path
        elif depth >= _DEEPEST:
            raise _Refused(Problem("extra", shown, f"{shown} lies deeper than anything in a bundle."))
        else:
            yield from _walk(root, path, depth + 1)


def _read_file(name: str, path: Path) -> bytes:
    limit = layout.LARGEST_MANIFEST if name in (layout.MANIFEST, layout.ATTESTATION) else layout.LARGEST_FILE
    shown = ascii(name)[1:-1]
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _Refused(Problem("link", shown, f"{shown} is a pipe or a device: a bundle holds plain files only."))
        content = file.read(limit + 1)
    if len(content) > limit:
        raise _Refused(Problem("size", shown, f"{shown} is larger than the {limit} bytes it may have."))
    return content


# Manifest and signature -----------------------------------------------------------------------------------------------


def _check_manifest(raw: bytes) -> dict[str, Any]:
    """The manifest, strictly parsed; nothing in it is trusted yet."""
    name = layout.MANIFEST
    try:
        manifest = parse_json(raw, name)
    except BundleError as error:
        raise _Refused(Problem("manifest", name, str(error))) from None
    if not isinstance(manifest, dict) or "format" not in manifest:
        raise _Refused(Problem("manifest", name, f"{name} is not the manifest of a bundle."))
    if manifest["format"] != layout.FORMAT:
        text = f"it has the format {manifest['format']!r}, this tradelib reads {layout.FORMAT!r}."
        raise _Refused(Problem("format", name, text))
    texts = ("name", "package_digest", "permission")
    whole = set(manifest) == {"files", "format", "needs", *texts}
    if not whole or not all(isinstance(manifest[key], str) for key in texts):
        raise _Refused(Problem("manifest", name, f"{name} does not have exactly the fields of its format."))
    if _line(manifest) != raw:
        raise _Refused(Problem("manifest", name, f"{name} was altered: it is not in canonical form."))
    return manifest


def _check_signature(files: Mapping[str, bytes], trust: TrustStore) -> Envelope:
    """The attestation of this manifest by a trusted key."""
    name = layout.ATTESTATION
    try:
        envelope = read_envelope(files[name])
    except BundleError as error:
        raise _Refused(Problem("signature", name, str(error))) from None
    identity = envelope.key_id
    try:
        revoked, known = trust.revoked(), trust.keys()
    except BundleError as error:
        raise _Refused(Problem("trust", "", str(error))) from None
    if identity in revoked:
        raise _Refused(
            Problem("revoked-key", name, f"it is signed with the revoked key {identity}: {revoked[identity]}")
        )
    if identity not in known:
        hint = f"add its public key to {trust.folder} if you trust it"
        raise _Refused(
            Problem("unknown-key", name, f"it is signed with the key {identity}, which is not trusted: {hint}.")
        )
    try:
        known[identity].verify(envelope.signature, pre_authentication(envelope.payload))
        if subject_of(envelope.payload) == sha256(files[layout.MANIFEST]):
            return envelope
        text = f"the attestation of key {identity} is about another manifest: this one was altered or exchanged."
    except InvalidSignature:
        text = f"the signature of key {identity} does not fit: the attestation was altered."
    except BundleError as error:
        text = f"the attestation of key {identity} does not fit: {error}."
    raise _Refused(Problem("signature", name, text)) from None


def _line(value: Any) -> bytes:
    return (canonical(value) + "\n").encode("ascii")


# Files ----------------------------------------------------------------------------------------------------------------


def _check_records(listed: Any) -> dict[str, FileRecord]:
    """The manifest's files: exactly the paths of a bundle, so none that could lead elsewhere."""
    name = layout.MANIFEST
    if not isinstance(listed, dict) or not all(layout.is_record(record) for record in listed.values()):
        raise _Refused(Problem("manifest", name, f"{name} does not list files with sha256 and bytes."))
    wheels = [path for path in listed if layout.WHEEL.fullmatch(path)]
    strange = sorted(set(listed) - layout.PAYLOAD - set(wheels))
    if strange:
        raise _Refused(Problem("path", name, f"{name} lists {strange[0]!a}, which does not belong into a bundle."))
    absent = sorted(layout.PAYLOAD - set(listed)) or (["package/<wheel>"] if not wheels else [])
    if absent or len(wheels) > 1:
        text = f"{name} lists no {absent[0]}." if absent else f"{name} lists {len(wheels)} wheels instead of one."
        raise _Refused(Problem("manifest", name, text))
    return {path: FileRecord(**record) for path, record in listed.items()}


def _check_files(files: Mapping[str, bytes], records: Mapping[str, FileRecord]) -> None:
    problems = []
    for name in sorted(records.keys() | files.keys() - {layout.MANIFEST, layout.ATTESTATION}):
        shown = ascii(name)[1:-1]
        if name not in files:
            problems.append(Problem("missing", shown, f"the file {shown} is missing."))
        elif name not in records:
            problems.append(Problem("extra", shown, f"the file {shown} is not part of the bundle: remove it."))
        elif FileRecord(sha256(files[name]), len(files[name])) != records[name]:
            problems.append(Problem("altered", shown, f"the file {shown} was altered after it was signed."))
    if problems:
        raise _Refused(*problems)


# Meaning --------------------------------------------------------------------------------------------------------------


def _understand(
    path: Path, envelope: Envelope, manifest: dict[str, Any], records: dict[str, FileRecord], files: Mapping[str, bytes]
) -> Bundle:
    """The bundle that the verified files describe; a signature does not make them consistent."""
    provenance = _object(files, layout.PROVENANCE)
    if statement(files[layout.MANIFEST], provenance) != envelope.payload:
        raise BundleError("the attestation says something else than manifest.json and provenance.json.")
    if not layout.BUNDLE_NAME.fullmatch(manifest["name"]):
        raise BundleError(f"A bundle cannot be called {manifest['name']!r}.")
    wheel = next(files[name] for name in records if layout.WHEEL.fullmatch(name))
    if wheel_digest(wheel) != manifest["package_digest"]:
        raise BundleError("the sealed wheel does not hold the package that the manifest names.")
    execution = _execution(files)
    bars = _golden_bars(files[layout.GOLDEN_BARS])
    check_market(execution, bars)
    rule = DecisionRule.from_config(_object(files, layout.RULE))
    tables = {name: parse_json(files[place], place) for name, place in layout.GOLDEN_TABLES.items()}
    decisions = check_decisions(parse_json(files[layout.GOLDEN_DECISIONS], layout.GOLDEN_DECISIONS), bars)
    return Bundle(
        path=path,
        name=manifest["name"],
        permission=manifest["permission"],
        key_id=envelope.key_id,
        digest=sha256(files[layout.MANIFEST]),
        payload_digest=layout.payload_digest(records),
        package_digest=manifest["package_digest"],
        rule=rule,
        execution=execution,
        needs=_needs(manifest, rule, execution, decisions),
        golden_bars=bars,
        golden_decisions=decisions,
        golden_account=check_tables(tables, bars),
        gates=check_gates(parse_json(files[layout.GATES], layout.GATES), manifest["permission"]),
        figures=_object(files, layout.FIGURES),
        data=_object(files, layout.DATA),
        provenance=provenance,
        files=records,
    )


def _object(files: Mapping[str, bytes], name: str) -> dict[str, Any]:
    value = parse_json(files[name], name)
    if not isinstance(value, dict):
        raise BundleError(f"{name} must hold an object, not a {type(value).__name__}.")
    return value


def _execution(files: Mapping[str, bytes]) -> Execution:
    """The terms of trading, all of them written out: nothing is left to a default of the reader."""
    stated = parse_json(files[layout.EXECUTION], layout.EXECUTION)
    execution = Execution.from_config(stated)
    if execution.to_config() != stated:
        absent = sorted(set(execution.to_config()) - set(stated))
        raise BundleError(f"{layout.EXECUTION} does not state {', '.join(absent) or 'its fields in full'}.")
    return execution


def _needs(
    manifest: Mapping[str, Any], rule: DecisionRule, execution: Execution, decisions: Iterable[Mapping[str, Any]]
) -> tuple[str, ...]:
    """What the manifest says that a runner must be able to do: exactly what rule, terms and decisions ask for."""
    needed = needs_of(rule, execution, decisions)
    if manifest["needs"] != list(needed):
        raise BundleError(f"{layout.MANIFEST} needs {manifest['needs']!r}, but rule and execution need {list(needed)}.")
    return needed


def _golden_bars(content: bytes) -> pd.DataFrame:
    """Bars from the verified bytes, not from the folder, which may have changed since."""
    with tempfile.TemporaryDirectory(prefix="tradelib-") as folder:
        copy = Path(folder) / "bars.csv"
        copy.write_bytes(content)
        return read_bars(copy)


def check_market(execution: Execution, bars: pd.DataFrame) -> None:
    """`BundleError` unless the golden bars are of the market that the bundle trades."""
    for name in ("symbol", "timeframe", "calendar"):
        traded, golden = getattr(execution, name), bars.attrs[name]
        if traded != golden:
            raise BundleError(f"the bundle trades {name} {traded!r}, but its golden bars have {name} {golden!r}.")


def check_decisions(rows: Any, bars: pd.DataFrame) -> list[dict[str, Any]]:
    """Golden decisions: one per golden bar, at least one of them a target weight; else `BundleError`."""
    if not isinstance(rows, list) or not all(map(_is_decision, rows)):
        raise BundleError("the golden decisions are not a list of time, signal and target_weight.")
    times = [time.isoformat() for time in bars.index]
    if [row["time"] for row in rows] != times:
        raise BundleError(f"the golden decisions do not belong to the {len(times)} golden bars, one each, in order.")
    if all(row["target_weight"] is None for row in rows):
        raise BundleError("the golden decisions hold no target weight: they prove nothing.")
    return rows


def _is_decision(row: Any) -> bool:
    if not isinstance(row, dict) or set(row) != {"time", "signal", "target_weight"}:
        return False
    return all(row[name] is None or type(row[name]) is float for name in ("signal", "target_weight"))
