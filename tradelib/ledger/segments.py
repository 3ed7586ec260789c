"""A journal that goes on in further files: rotated while it is written, backed up while it is open, restored whole.

The first file keeps the journal's own name, the next ones append a number: `journal.sqlite`, `journal.sqlite.0002`, ...
Only the last one is written. Each is a ledger of its own; the first entry of each but the first is a `segment` that
names file and head of the one before, so the whole is one chain: nothing can be taken out of the middle. Sequences,
keys, heads and verification are those of the whole. A key in an older file is as taken as one in the newest.

No file is ever renamed or changed once it was continued, so a reader never finds another file under a name it has open.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from tradelib.errors import LedgerError
from tradelib.ledger.chain import GENESIS, Entry, Ledger, Verification

__all__ = ["Backup", "SegmentedLedger", "backup_journal", "restore_journal", "segment_files"]

_SEGMENT = "segment"


class _ContinuedError(Exception):
    """The file that was about to be written has been continued in another one by another process."""


class _AnyThread(Ledger):
    """An older file of a ledger that several threads take in turns."""

    _one_thread = False


class SegmentedLedger(Ledger):
    """A ledger at `path` and in the files that continue it; everything as in `Ledger`.

    Raises `LedgerError` where a file is missing between the first and the last.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        clock: Callable[[], datetime] | None = None,
        vocabulary: Mapping[str, frozenset[str]] | None = None,
        read_only: bool = False,
        timeout: float = 30.0,
    ) -> None:
        self.base = Path(path)
        self._older: list[Ledger] = []
        self._offsets: list[int] = [0]
        self._options: dict[str, Any] = {"vocabulary": vocabulary, "timeout": timeout}
        segment_files(path)
        super().__init__(path, clock=clock, vocabulary=vocabulary, read_only=read_only, timeout=timeout)
        self._follow()

    def close(self) -> None:
        """Close all files."""
        super().close()
        for ledger in getattr(self, "_older", []):
            ledger.close()

    # Writing ----------------------------------------------------------------------------------------------------------

    def extend(self, items: Iterable[tuple[str, Mapping[str, Any], str | None]]) -> list[Entry]:
        """Write several `(kind, body, key)` in one transaction: all of them, or none."""
        given = list(items)
        while True:
            self._follow()
            try:
                return [self._placed(entry) for entry in super().extend(given)]
            except _ContinuedError:
                continue

    def rotate(self) -> Path:
        """Go on in a new file; its path. Whoever writes the old one at the same time is led to the new one."""
        self._follow()
        if self.read_only:
            raise LedgerError(f"Ledger {self.path} was opened read-only: it cannot be rotated.")
        target = _numbered(self.base, len(self._older) + 2)
        with super()._transaction():
            if target.exists():
                raise LedgerError(f"{target} is there already: another process rotated the journal at the same time.")
            self._begin(target)
        self._follow()
        return target

    def size(self) -> int:
        """Bytes of the file that is written."""
        return self.path.stat().st_size

    def _begin(self, target: Path) -> None:
        """A file whose first entry names the head of this one, complete before it appears under its name."""
        sequence, head = super().head()
        partial = target.with_name(target.name + ".partial")
        _remove(partial)
        body = {"number": len(self._older) + 2, "file": self.path.name, "sequence": sequence, "hash": head}
        with Ledger(partial, clock=self._clock, **self._options) as fresh:
            fresh.append(_SEGMENT, body, f"segment:{body['number']}")
        os.replace(partial, target)
        _synchronise(target.parent)

    def _follow(self) -> None:
        """Open what continues the file that is open."""
        while (following := _numbered(self.base, len(self._older) + 2)).exists():
            count = super().head()[0]
            super().close()
            kind = Ledger if self._one_thread else _AnyThread
            self._older.append(kind(self.path, read_only=True, **self._options))
            self._offsets.append(self._offsets[-1] + count)
            self.path = following
            self._connect()
            self._prepare()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with super()._transaction() as connection:
            if _numbered(self.base, len(self._older) + 2).exists():
                raise _ContinuedError
            yield connection

    def _known(self, connection: Any, kind: str, text: str, key: str | None) -> Entry | None:
        for ledger in reversed(self._older) if key is not None else ():
            with ledger._database() as older:
                found = ledger._known(older, kind, text, key)
            if found is not None:
                return replace(found, sequence=found.sequence - self._offsets[-1] + self._offset_of(ledger))
        return super()._known(connection, kind, text, key)

    # Reading ----------------------------------------------------------------------------------------------------------

    def entries(self, kind: str | None = None, after: int = 0) -> Iterator[Entry]:
        """The entries with a sequence greater than `after`, oldest first; of one `kind` where it is given."""
        self._follow()
        for ledger in list(self._older):
            offset = self._offset_of(ledger)
            for entry in ledger.entries(kind, max(after - offset, 0)):
                yield replace(entry, sequence=entry.sequence + offset)
        for entry in super().entries(kind, max(after - self._offsets[-1], 0)):
            yield self._placed(entry)

    def last(self, kind: str | None = None) -> Entry | None:
        """The newest entry (of `kind`), or None."""
        self._follow()
        found = super().last(kind)
        return self._placed(found) if found is not None else self._in_older(lambda ledger: ledger.last(kind))

    def newest(self, kind: str, count: int) -> list[Entry]:
        """The last `count` entries of `kind`, oldest first; no others are read."""
        self._follow()
        found = [self._placed(entry) for entry in super().newest(kind, count)]
        for ledger in reversed(self._older):
            if len(found) >= count:
                break
            offset, missing = self._offset_of(ledger), count - len(found)
            found = [replace(one, sequence=one.sequence + offset) for one in ledger.newest(kind, missing)] + found
        return found

    def get(self, key: str) -> Entry | None:
        """The entry written under `key`, or None."""
        self._follow()
        found = super().get(key)
        return self._placed(found) if found is not None else self._in_older(lambda ledger: ledger.get(key))

    def starting(self, prefix: str) -> list[Entry]:
        """The entries whose key starts with `prefix`, oldest first."""
        self._follow()
        found = []
        for ledger in self._older:
            offset = self._offset_of(ledger)
            found += [replace(entry, sequence=entry.sequence + offset) for entry in ledger.starting(prefix)]
        return found + [self._placed(entry) for entry in super().starting(prefix)]

    def count(self, kind: str | None = None) -> int:
        """How many entries there are (of `kind`)."""
        self._follow()
        return super().count(kind) + sum(ledger.count(kind) for ledger in self._older)

    def head(self) -> tuple[int, str]:
        """`(sequence, hash)` of the newest entry; `(0, GENESIS)` when there is none."""
        self._follow()
        sequence, head = super().head()
        return sequence + self._offsets[-1], head

    def passes(self, head: tuple[int, str]) -> bool:
        """True where the entry that was the `head()` then still stands in its place, with the same hash."""
        self._follow()
        place = sum(offset < head[0] for offset in self._offsets[1:])
        ledger = [*self._older, None][place]
        inside = (head[0] - self._offsets[place], head[1])
        return super().passes(inside) if ledger is None else ledger.passes(inside)

    def verify(self, expected_head: tuple[int, str] | None = None) -> Verification:
        """Verify every file, and that each continues the one before."""
        try:
            self._follow()
            return self._verify_files(expected_head)
        except LedgerError as error:
            return Verification(False, 0, GENESIS, None, str(error))

    def verify_newest(self) -> Verification:
        """Verify the file that is written, and that the files before it end as their successors say.

        That costs no more than one file. What an older one holds was verified when it was closed, and is when somebody
        audits the whole with `verify`.
        """
        try:
            self._follow()
            if not self._older:
                return super().verify()
            return self._verify_links()
        except LedgerError as error:
            return Verification(False, 0, GENESIS, None, str(error))

    def _verify_links(self) -> Verification:
        for number, ledger in enumerate(self._older):
            follower = self._older[number + 1] if number + 1 < len(self._older) else None
            first = next(iter(super().entries() if follower is None else follower.entries()), None)
            sequence, head = ledger.head()
            if first is None or (first.body.get("sequence"), first.body.get("hash")) != (sequence, head):
                place = self._offsets[number + 1]
                problem = f"{_numbered(self.base, number + 2).name} does not continue the file before it"
                return Verification(False, place, head, place + 1, problem)
        found, offset = super().verify(), self._offsets[-1]
        harmed = None if found.sequence is None else found.sequence + offset
        problem = f"{self.path.name}: {found.problem}" if not found.ok else ""
        return replace(found, entries=found.entries + offset, sequence=harmed, problem=problem)

    def _verify_files(self, expected: tuple[int, str] | None) -> Verification:
        previous: Verification | None = None
        for number in range(len(self._older) + 1):
            older = self._older[number] if number < len(self._older) else None
            offset = self._offsets[number]
            inside = None
            if (
                expected is not None
                and offset < expected[0]
                and (older is None or expected[0] <= self._offsets[number + 1])
            ):
                inside = (expected[0] - offset, expected[1])
            found = super().verify(inside) if older is None else older.verify(inside)
            place = None if found.sequence is None else found.sequence + offset
            found = replace(found, entries=found.entries + offset, sequence=place)
            if not found.ok:
                name = self.path.name if older is None else older.path.name
                return replace(found, problem=f"{name}: {found.problem}" if self._older else found.problem)
            first = next(super().entries() if older is None else older.entries(), None)
            if previous is not None and (first is None or not _continues(first, previous, self._offsets[number - 1])):
                problem = f"{_numbered(self.base, number + 1).name} does not continue the file before it"
                return Verification(False, previous.entries, previous.head, previous.entries + 1, problem)
            previous = found
        assert previous is not None
        return previous

    def _placed(self, entry: Entry) -> Entry:
        offset = self._offsets[-1]
        return replace(entry, sequence=entry.sequence + offset) if offset else entry

    def _in_older(self, ask: Callable[[Ledger], Entry | None]) -> Entry | None:
        for ledger in reversed(self._older):
            found = ask(ledger)
            if found is not None:
                return replace(found, sequence=found.sequence + self._offset_of(ledger))
        return None

    def _offset_of(self, ledger: Ledger) -> int:
        return self._offsets[self._older.index(ledger)]


@dataclass(frozen=True)
class Backup:
    """A copy of a journal: its folder, and the head that it ends with."""

    folder: Path
    sequence: int
    hash: str


def segment_files(path: str | os.PathLike[str]) -> list[Path]:
    """The files of the journal at `path`, oldest first; `LedgerError` where one is missing between two others."""
    base = Path(path)
    numbers = sorted(_number(base, found) for found in base.parent.glob(base.name + ".[0-9]*") if _number(base, found))
    if numbers != list(range(2, len(numbers) + 2)):
        missing = next(number for number in range(2, numbers[-1]) if number not in numbers)
        raise LedgerError(
            f"The journal {base} lacks its file {_numbered(base, missing).name}: restore it from a backup."
        )
    return [base, *(_numbered(base, number) for number in numbers)]


def backup_journal(path: str | os.PathLike[str], folder: str | os.PathLike[str]) -> Backup:
    """Copy the journal at `path` into `folder`, while others may write it; verified before it replaces an older copy.

    `LedgerError` for a journal or a copy whose chain does not stand.
    """
    base, target = Path(path), Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    files = segment_files(base)
    for number, file in enumerate(files):
        if number + 1 < len(files) and _is_copied(file, target / file.name):
            continue
        partial = target / (file.name + ".partial")
        _remove(partial)
        _copy_database(file, partial)
        with Ledger(partial, read_only=True) as copy:
            _must_stand(copy, f"the copy of {file}")
        os.replace(partial, target / file.name)
    _synchronise(target)
    with SegmentedLedger(target / base.name, read_only=True) as copy:
        verdict = copy.verify_newest()
        if not verdict.ok:
            raise LedgerError(f"the backup in {target} does not stand: {verdict.problem}")
        return Backup(target, *copy.head())


def restore_journal(
    folder: str | os.PathLike[str], path: str | os.PathLike[str], *, expected_head: tuple[int, str] | None = None
) -> Backup:
    """Put the journal that was backed up in `folder` back to `path`, where none may be; what was put back.

    `expected_head` is a head that was kept elsewhere: the copy must pass through it. What was written after the backup
    is lost here, not at the venue: reconciliation finds the orders of that time and refuses to trade on without them.
    """
    source, base = Path(folder) / Path(path).name, Path(path)
    if any(file.exists() for file in segment_files(base)):
        raise LedgerError(f"There is a journal at {base}: move it away first, it may know what the backup does not.")
    with SegmentedLedger(source, read_only=True) as copy:
        _must_stand(copy, f"the backup in {folder}", expected_head)
        head = copy.head()
    base.parent.mkdir(parents=True, exist_ok=True)
    for file in reversed(segment_files(source)):  # the first file last: without it there is no journal
        shutil.copyfile(file, base.parent / file.name)
    _synchronise(base.parent)
    with SegmentedLedger(base, read_only=True) as restored:
        _must_stand(restored, f"the restored journal {base}", head)
    return Backup(Path(folder), *head)


def _is_copied(file: Path, copy: Path) -> bool:
    """Whether a file that was continued, and so never changes any more, lies in the backup already, unchanged since."""
    parts = (file, file.with_name(file.name + "-wal"))
    changed = max(part.stat().st_mtime_ns for part in parts if part.exists())
    if not copy.is_file() or copy.stat().st_mtime_ns < changed:
        return False
    with Ledger(file, read_only=True) as one, Ledger(copy, read_only=True) as other:
        return one.head() == other.head()


def _must_stand(ledger: Ledger, what: str, head: tuple[int, str] | None = None) -> None:
    verdict = ledger.verify(head)
    if not verdict.ok:
        raise LedgerError(f"{what} does not stand: {verdict.problem}")


def _copy_database(source: Path, target: Path) -> None:
    """SQLite's online backup: a consistent copy of what is committed, whoever writes meanwhile."""
    try:
        address = f"{source.resolve().as_uri()}?mode=ro"
        with closing(sqlite3.connect(address, uri=True)) as reading, closing(sqlite3.connect(target)) as writing:
            reading.backup(writing)
            writing.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.Error as error:
        raise LedgerError(f"Journal {source} cannot be copied to {target}: {error}.") from error
    with open(target, "rb") as copied:
        os.fsync(copied.fileno())


def _continues(first: Entry, previous: Verification, offset: int) -> bool:
    named = first.body.get("sequence"), first.body.get("hash")
    return first.kind == _SEGMENT and named == (previous.entries - offset, previous.head)


def _numbered(base: Path, number: int) -> Path:
    return base.with_name(f"{base.name}.{number:04d}")


def _number(base: Path, path: Path) -> int:
    """The number of a continuing file; 0 for files that are something else."""
    tail = path.name.removeprefix(base.name + ".")
    return int(tail) if tail.isdigit() and path == _numbered(base, int(tail)) else 0


def _remove(path: Path) -> None:
    for tail in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + tail).unlink(missing_ok=True)


def _synchronise(folder: Path) -> None:
    """Make names durable, where the system lets folders be synchronised."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
