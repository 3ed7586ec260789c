"""One append-only, hash-chained log in one SQLite file.

Each entry carries the SHA-256 of its own content and of its predecessor's hash, so nobody can edit, delete, reorder
or insert an entry without breaking every hash after it. `Ledger.verify` walks the chain and names the first entry
that does not stand.

What a chain cannot see by itself: a tail that was cut off, or a file rewritten from some entry to its end. For that,
keep `Ledger.head()` somewhere else (a signed bundle, a report) and pass it to `verify(expected_head=...)`.

`append` returns when the entry is on the disk (write-ahead log, `synchronous=FULL`). A second append with a key that
exists writes nothing and returns the old entry, so a program that was killed may simply say everything again.

Opening and closing a file costs ten times the append between them. `shared` is for callers that append one entry now
and the next one soon: it keeps the ledgers of a process open. What is durable, and when, is the same.
"""

from __future__ import annotations

import atexit
import difflib
import hashlib
import json
import math
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, NoReturn, Self

from tradelib.errors import LedgerError

__all__ = ["GENESIS", "Entry", "Ledger", "Verification", "canonical", "digest", "release", "shared"]

GENESIS = "0" * 64
"""The hash that the first entry names as its predecessor, and the head of an empty ledger."""

_APPLICATION = 0x74726C67  # "trlg" in the SQLite header: this file is a tradelib ledger
_FORMAT = 1
_PAGE = 1_000  # rows per read: no read transaction stays open while the caller works
_BEFORE_ALL = -(2**63)

_SCHEMA = {
    "entry": """CREATE TABLE entry (
  sequence INTEGER PRIMARY KEY CHECK (sequence > 0),
  time TEXT NOT NULL,
  kind TEXT NOT NULL,
  key TEXT,
  body TEXT NOT NULL,
  previous TEXT NOT NULL,
  hash TEXT NOT NULL
) STRICT""",
    "entry_key": "CREATE UNIQUE INDEX entry_key ON entry (key) WHERE key IS NOT NULL",
    "entry_kind": "CREATE INDEX entry_kind ON entry (kind, sequence)",
    "entry_is_final": """CREATE TRIGGER entry_is_final BEFORE UPDATE ON entry
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: an entry cannot be changed'); END""",
    "entry_stays": """CREATE TRIGGER entry_stays BEFORE DELETE ON entry
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: an entry cannot be deleted'); END""",
    # INSERT OR REPLACE deletes without firing the trigger above: refuse every insert that is not a plain append.
    "entry_comes_last": """CREATE TRIGGER entry_comes_last BEFORE INSERT ON entry
WHEN NEW.sequence <> (SELECT coalesce(max(sequence), 0) + 1 FROM entry)
  OR EXISTS (SELECT 1 FROM entry WHERE key = NEW.key)
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: an entry can only be added at the end'); END""",
}

_EXPLANATIONS = {
    "SQLITE_BUSY": "another process holds it: wait for that process, or end it, and try again",
    "SQLITE_CANTOPEN": "the file cannot be opened: check that the folder exists and may be read and written",
    "SQLITE_CORRUPT": "the file is damaged: keep it, restore a copy, and verify that",
    "SQLITE_FULL": "the disk is full and nothing was written: free some space and try again",
    "SQLITE_IOERR": "the disk failed to read or write: check it before going on",
    "SQLITE_LOCKED": "another process holds it: wait for that process, or end it, and try again",
    "SQLITE_NOTADB": "it is not a ledger (not an SQLite file): choose another path",
    "SQLITE_READONLY": "the file may not be written: check its permissions, or open it with read_only=True",
}


class _Row(NamedTuple):
    sequence: int
    time: str
    kind: str
    key: str | None
    body: str
    previous: str
    hash: str


@dataclass(frozen=True)
class Entry:
    """One line of history. `duplicate` is True when an append found its key already there and wrote nothing."""

    sequence: int
    time: str
    kind: str
    key: str | None
    body: dict[str, Any]
    previous: str
    hash: str
    duplicate: bool = False


@dataclass(frozen=True)
class Verification:
    """What `Ledger.verify` found: `entries` proven in order, `head` the hash of the last of them.

    Where `ok` is False, `sequence` is the first entry that does not stand (None: the file, not an entry) and `problem`
    says what happened to it.
    """

    ok: bool
    entries: int
    head: str
    sequence: int | None
    problem: str


def canonical(obj: Any) -> str:
    """The one JSON text of `obj`: keys sorted, no spaces, ASCII, floats by `repr`; equal content, equal text.

    Takes dicts with text keys, lists, tuples, text, int, float, bool and None. Raises `LedgerError` naming the field
    for anything else: NaN and infinities (write None), numpy integers, times, other objects.
    """
    try:
        _check_plain(obj, "")
        return json.dumps(obj, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    except RecursionError:
        raise LedgerError("The value is nested too deeply, or contains itself: it cannot be written as JSON.") from None
    except (TypeError, ValueError) as error:
        raise LedgerError(f"The value cannot be written as JSON: {error}") from error


def digest(obj: Any) -> str:
    """SHA-256, as 64 hex digits, of `canonical(obj)`."""
    return hashlib.sha256(canonical(obj).encode("ascii")).hexdigest()


def _check_plain(value: Any, field: str) -> None:
    if value is None or isinstance(value, str | int):
        return
    if isinstance(value, float):
        if not math.isfinite(value):
            raise LedgerError(f"{_called(field)} is {float(value)!r}: JSON has no such number. Write None instead.")
    elif isinstance(value, dict):
        for name, item in value.items():
            if not isinstance(name, str):
                raise LedgerError(f"{_called(field)} has the key {name!r}: keys must be text.")
            _check_plain(item, f"{field}.{name}" if field else name)
    elif isinstance(value, list | tuple):
        for position, item in enumerate(value):
            _check_plain(item, f"{field}[{position}]")
    else:
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        raise LedgerError(f"{_called(field)} is a {kind}: convert it to text, int, float, bool, list or dict first.")


def _called(field: str) -> str:
    return f"Field {field!r}" if field else "The value"


def _content(sequence: int, stamp: str, kind: str, key: str | None, body: str, previous: str) -> str:
    """`canonical` of an entry without its hash, given the canonical text of its body (one pass instead of two)."""
    dumps = json.dumps
    return (
        f'{{"body":{body},"key":{dumps(key)},"kind":{dumps(kind)},"previous":{dumps(previous)},'
        f'"sequence":{sequence},"time":{dumps(stamp)}}}'
    )


def _hash(row: _Row, sequence: int | None = None) -> str:
    """The hash that `row` should carry, were it written at `sequence` (default: where it stands)."""
    place = row.sequence if sequence is None else sequence
    content = _content(place, row.time, row.kind, row.key, row.body, row.previous)
    return hashlib.sha256(content.encode("ascii", "backslashreplace")).hexdigest()


def _sound(row: _Row) -> bool:
    """True where the body is the canonical text of a dict and the hash is the hash of the content."""
    try:
        body = json.loads(row.body)
        return isinstance(body, dict) and canonical(body) == row.body and _hash(row) == row.hash
    except (TypeError, ValueError, RecursionError, LedgerError):
        return False


def _entry(row: _Row, *, duplicate: bool = False) -> Entry:
    try:
        body = json.loads(row.body)
    except (TypeError, ValueError, RecursionError):
        raise LedgerError(f"Entry {row.sequence} cannot be read: it was altered. Run verify().") from None
    return Entry(row.sequence, row.time, row.kind, row.key, body, row.previous, row.hash, duplicate)


def _lenient_text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")  # altered bytes must reach verify(), not stop it


def _now() -> datetime:
    return datetime.now(UTC)


class Ledger:
    """An append-only history in the SQLite file `path`, made at the first write-open.

    `clock` returns the time written into entries (timezone-aware; default: the system's UTC time). `vocabulary` maps
    each kind that may be appended to the fields its body must have. `read_only` opens an existing ledger for an
    auditor. `timeout` is how long to wait, in seconds, for another process that is writing.

    Raises `LedgerError` where the file is missing (read-only), locked, damaged, or not a ledger. A ledger belongs to
    the thread and the process that opened it; several processes may append to one file, each with its own.
    """

    _one_thread = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        clock: Callable[[], datetime] | None = None,
        vocabulary: Mapping[str, frozenset[str]] | None = None,
        read_only: bool = False,
        timeout: float = 30.0,
    ) -> None:
        self.path = Path(path)
        self.read_only = read_only
        self.vocabulary = vocabulary
        self._clock = clock or _now
        self._timeout = timeout
        self._owner = os.getpid()
        self._open: sqlite3.Connection | None = None
        try:
            self._connect()
            self._prepare()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Ledger({str(self.path)!r})"

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        connection, self._open = self._open, None
        if connection is not None and os.getpid() == self._owner:
            connection.close()

    # Writing ----------------------------------------------------------------------------------------------------------

    def append(self, kind: str, body: Mapping[str, Any], key: str | None = None) -> Entry:
        """Write one entry and return it when it is on the disk.

        A `key` that exists already writes nothing: the old entry comes back with `duplicate=True`. Raises `LedgerError`
        when the old entry says something else, when kind or body break the vocabulary, or when the file cannot be
        written; then nothing was.
        """
        return self.extend([(kind, body, key)])[0]

    def extend(self, items: Iterable[tuple[str, Mapping[str, Any], str | None]]) -> list[Entry]:
        """Write several `(kind, body, key)` in one transaction: all of them, or none."""
        drafts = [self._draft(kind, body, key) for kind, body, key in items]
        if self.read_only:
            raise LedgerError(f"Ledger {self.path} was opened read-only: nothing can be appended.")
        with self._transaction() as connection:
            sequence, previous = _head(connection)
            entries = []
            for kind, text, key in drafts:
                entry = self._known(connection, kind, text, key)
                if entry is None:
                    sequence += 1
                    entry = self._insert(connection, sequence, previous, kind, text, key)
                    previous = entry.hash
                entries.append(entry)
        return entries

    def _draft(self, kind: str, body: Mapping[str, Any], key: str | None) -> tuple[str, str, str | None]:
        for name, value in (("kind", kind), ("key", key)):
            if value is None and name == "key":
                continue
            if not isinstance(value, str) or not value or not value.isprintable():
                raise LedgerError(f"The {name} of an entry must be non-empty printable text, not {value!r}.")
        if not isinstance(body, Mapping):
            raise LedgerError(f"The body of an entry must be a dict of fields, not {type(body).__name__}.")
        self._check_vocabulary(kind, body)
        return kind, canonical(dict(body)), key

    def _check_vocabulary(self, kind: str, body: Mapping[str, Any]) -> None:
        if self.vocabulary is None:
            return
        if kind not in self.vocabulary:
            near = difflib.get_close_matches(kind, self.vocabulary, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise LedgerError(f"Unknown kind {kind!r}.{hint} This ledger knows: {', '.join(sorted(self.vocabulary))}.")
        missing = sorted(self.vocabulary[kind] - body.keys())
        if missing:
            raise LedgerError(
                f"An entry of kind {kind!r} lacks {', '.join(map(repr, missing))}: it has {sorted(body)}."
            )

    def _known(self, connection: sqlite3.Connection, kind: str, text: str, key: str | None) -> Entry | None:
        row = None if key is None else _by_key(connection, key)
        if row is None:
            return None
        if (row.kind, row.body) != (kind, text):
            raise LedgerError(
                f"Key {key!r} is taken: entry {row.sequence} ({row.kind}) says {row.body}, now {kind} says {text}. "
                "The past cannot be changed: use another key."
            )
        return _entry(row, duplicate=True)

    def _insert(
        self, connection: sqlite3.Connection, sequence: int, previous: str, kind: str, text: str, key: str | None
    ) -> Entry:
        row = _Row(sequence, self._stamp(), kind, key, text, previous, "")
        row = row._replace(hash=_hash(row))
        connection.execute("INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        return _entry(row)

    def _stamp(self) -> str:
        moment = self._clock()
        if moment.tzinfo is None:
            raise LedgerError(f"The ledger's clock returned the naive time {moment}: it must be timezone-aware.")
        return moment.astimezone(UTC).isoformat(timespec="microseconds")

    # Reading ----------------------------------------------------------------------------------------------------------

    def entries(self, kind: str | None = None, after: int = 0) -> Iterator[Entry]:
        """The entries with a sequence greater than `after`, oldest first; of one `kind` where it is given.

        Entries appended while the iterator is in use are not part of it.
        """
        for row in self._rows(after, kind):
            yield _entry(row)

    def last(self, kind: str | None = None) -> Entry | None:
        """The newest entry (of `kind`), or None."""
        where, values = ("WHERE kind = ?", (kind,)) if kind is not None else ("", ())
        with self._database() as connection:
            found = connection.execute(f"SELECT * FROM entry {where} ORDER BY sequence DESC LIMIT 1", values).fetchone()
        return None if found is None else _entry(_Row(*found))

    def newest(self, kind: str, count: int) -> list[Entry]:
        """The last `count` entries of `kind`, oldest first; no others are read."""
        query = "SELECT * FROM entry WHERE kind = ? ORDER BY sequence DESC LIMIT ?"
        with self._database() as connection:
            found = connection.execute(query, (kind, count)).fetchall()
        return [_entry(_Row(*row)) for row in reversed(found)]

    def get(self, key: str) -> Entry | None:
        """The entry written under `key`, or None."""
        with self._database() as connection:
            row = _by_key(connection, key)
        return None if row is None else _entry(row)

    def starting(self, prefix: str) -> list[Entry]:
        """The entries whose key starts with `prefix`, oldest first."""
        query = "SELECT * FROM entry WHERE key >= ? AND key < ? ORDER BY sequence"
        with self._database() as connection:
            found = connection.execute(query, (prefix, prefix + "\U0010ffff")).fetchall()
        return [_entry(_Row(*row)) for row in found]

    def count(self, kind: str | None = None) -> int:
        """How many entries there are (of `kind`)."""
        where, values = ("WHERE kind = ?", (kind,)) if kind is not None else ("", ())
        with self._database() as connection:
            return int(connection.execute(f"SELECT count(*) FROM entry {where}", values).fetchone()[0])

    def head(self) -> tuple[int, str]:
        """`(sequence, hash)` of the newest entry; `(0, GENESIS)` when there is none. Keep it elsewhere for auditors."""
        with self._database() as connection:
            return _head(connection)

    def passes(self, head: tuple[int, str]) -> bool:
        """True where the entry that was the `head()` then still stands in its place, with the same hash."""
        if head[0] == 0:
            return head[1] == GENESIS
        with self._database() as connection:
            found = connection.execute("SELECT hash FROM entry WHERE sequence = ?", (head[0],)).fetchone()
        return found is not None and found[0] == head[1]

    def _newest(self) -> int:
        with self._database() as connection:
            return _head(connection)[0]

    def _rows(self, after: int, kind: str | None = None) -> Iterator[_Row]:
        where, values = ("AND kind = ?", (kind,)) if kind is not None else ("", ())
        newest = self._newest()
        query = f"SELECT * FROM entry WHERE sequence > ? AND sequence <= ? {where} ORDER BY sequence LIMIT {_PAGE}"
        while True:
            with self._database() as connection:
                page = connection.execute(query, (after, newest, *values)).fetchall()
            yield from map(_Row._make, page)
            if len(page) < _PAGE:
                return
            after = page[-1][0]

    # Verification -----------------------------------------------------------------------------------------------------

    def verify(self, expected_head: tuple[int, str] | None = None) -> Verification:
        """Recompute the whole chain and name the first entry that was edited, deleted, reordered or inserted.

        `expected_head` is an earlier `head()` kept elsewhere: the chain must still pass through it. Without it a cut
        tail, or a rewrite of everything from some entry on, cannot be seen. Also runs SQLite's own integrity check, so
        that the index behind the keys is known to agree with the entries. Never raises for altered content.
        """
        try:
            return self._walk(expected_head)
        except LedgerError as error:
            return Verification(False, 0, GENESIS, None, str(error))

    def _walk(self, expected_head: tuple[int, str] | None) -> Verification:
        proven, head, passed = 0, GENESIS, {0: GENESIS}
        for row in self._rows(_BEFORE_ALL):
            if row.sequence != proven + 1 or row.previous != head or not _sound(row):
                return Verification(False, proven, head, *self._diagnose(row, proven + 1))
            proven, head = row.sequence, row.hash
            if expected_head is not None and proven == expected_head[0]:
                passed[proven] = head
        sequence, problem = _against(expected_head, proven, passed)
        if not problem:
            problem = self._integrity()
        return Verification(not problem, proven, head, sequence, problem)

    def _diagnose(self, row: _Row, place: int) -> tuple[int, str]:
        """Which entry was harmed and how, given the first row that does not continue the chain at `place`."""
        if row.sequence < place:
            return row.sequence, f"entry {row.sequence} was inserted: a ledger starts at entry 1"
        if row.sequence > place:
            return place, f"entry {place} is missing: it was deleted (the next one is entry {row.sequence})"
        origin = self._origin(row)
        if origin == place:
            return self._diagnose_predecessor(row, place)
        if origin is None:
            following = next(self._rows(place), None)
            if following is not None and self._origin(following) == place:
                return place, f"entry {place} was inserted: the entry written there now stands at {place + 1}"
            return place, f"entry {place} was edited: its content does not match its hash"
        if origin < place:
            return place, f"entry {place} was inserted, or written before as entry {origin} and moved here"
        if any(_hash(later, place) == later.hash for later in self._rows(place)):
            return place, f"entries were reordered: what stands at {place} was written as entry {origin}"
        return place, f"entry {place} is missing: it was deleted and entry {origin} moved into its place"

    def _diagnose_predecessor(self, row: _Row, place: int) -> tuple[int, str]:
        if not _sound(row):
            return place, f"entry {place} was edited: its body is not canonical JSON"
        if place == 1:
            return 1, "entry 1 was replaced: it does not start from the genesis hash"
        return place - 1, f"entry {place - 1} was replaced: entry {place}, written after it, names another predecessor"

    def _origin(self, row: _Row) -> int | None:
        """The sequence under which `row` was hashed, or None when its content itself was altered."""
        newest = self._newest()
        nearest = sorted(range(1, newest + 1_000), key=lambda sequence: abs(sequence - row.sequence))
        return next((sequence for sequence in nearest if _hash(row, sequence) == row.hash), None)

    def _integrity(self) -> str:
        with self._database() as connection:
            found = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
            altered = _altered_objects(connection)
        if found != "ok":
            return f"the file is damaged: {found}"
        return f"the schema was altered ({', '.join(altered)}): history was unprotected" if altered else ""

    # The file ---------------------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        self._check_file()
        mode = "ro" if self.read_only else "rwc"
        if self.read_only and self._is_archived():
            mode += "&immutable=1"
        try:
            self._open = sqlite3.connect(
                f"{self.path.resolve().as_uri()}?mode={mode}",
                uri=True,
                timeout=self._timeout,
                isolation_level=None,
                check_same_thread=self._one_thread,
            )
            self._open.text_factory = _lenient_text
        except sqlite3.Error as error:
            self._refuse(error)

    def _check_file(self) -> None:
        try:
            if not self.read_only:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            elif not self.path.exists():
                raise LedgerError(f"There is no ledger at {self.path}.")
            if self.path.is_dir():
                raise LedgerError(f"{self.path} is a folder: a ledger is one file.")
        except OSError as error:
            raise LedgerError(f"Ledger {self.path} cannot be opened: {error.strerror}.") from error

    def _is_archived(self) -> bool:
        """A closed ledger in a folder that may not be written: SQLite must not look for its write-ahead log there."""
        log = self.path.with_name(self.path.name + "-wal")
        return not os.access(self.path.parent, os.W_OK) and not log.exists()

    def _prepare(self) -> None:
        with self._database() as connection:
            if not _objects(connection) and not self.read_only:
                self._create(connection)
            self._check_identity(connection)
            if not self.read_only:
                connection.execute("PRAGMA synchronous=FULL")
                connection.execute("PRAGMA fullfsync=ON")  # macOS: wait for the disk itself

    def _create(self, connection: sqlite3.Connection) -> None:
        self._write_ahead(connection)
        with self._transaction():
            if _objects(connection):
                return  # another process was faster
            for statement in _SCHEMA.values():
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id={_APPLICATION}")
            connection.execute(f"PRAGMA user_version={_FORMAT}")

    def _write_ahead(self, connection: sqlite3.Connection) -> None:
        """Switch to the write-ahead log; SQLite does not wait by itself for another process that does the same."""
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                connection.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                if not _name(error).startswith("SQLITE_BUSY") or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def _check_identity(self, connection: sqlite3.Connection) -> None:
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if application != _APPLICATION or "entry" not in _objects(connection):
            raise LedgerError(f"{self.path} is not a ledger: it holds something else. Choose another path.")
        if version != _FORMAT:
            raise LedgerError(
                f"{self.path} has ledger format {version}, this tradelib reads format {_FORMAT}: upgrade."
            )
        altered = _altered_objects(connection)
        if altered and not self.read_only:
            raise LedgerError(
                f"The schema of {self.path} was altered ({', '.join(altered)}): its history is not protected. "
                "Open it with read_only=True and verify() before you trust it."
            )

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._database() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        """The open connection; what SQLite raises inside the block becomes a `LedgerError`."""
        if os.getpid() != self._owner:
            raise LedgerError(f"Ledger {self.path} was opened by another process: open it again in this one.")
        if self._open is None:
            raise LedgerError(f"Ledger {self.path} is closed: open it again.")
        try:
            yield self._open
        except sqlite3.Error as error:
            self._refuse(error)

    def _refuse(self, error: sqlite3.Error) -> NoReturn:
        name = _name(error)
        known = next((text for code, text in _EXPLANATIONS.items() if name.startswith(code)), str(error))
        raise LedgerError(f"Ledger {self.path}: {known}.") from error


def _name(error: sqlite3.Error) -> str:
    return getattr(error, "sqlite_errorname", "") or ""


def _objects(connection: sqlite3.Connection) -> dict[str, str]:
    return dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall())


def _altered_objects(connection: sqlite3.Connection) -> list[str]:
    found = _objects(connection)
    return sorted(name for name in found.keys() | _SCHEMA.keys() if found.get(name) != _SCHEMA.get(name))


def _head(connection: sqlite3.Connection) -> tuple[int, str]:
    found = connection.execute("SELECT sequence, hash FROM entry ORDER BY sequence DESC LIMIT 1").fetchone()
    return (0, GENESIS) if found is None else (found[0], found[1])


def _by_key(connection: sqlite3.Connection, key: str) -> _Row | None:
    found = connection.execute("SELECT * FROM entry WHERE key = ?", (key,)).fetchone()
    return None if found is None else _Row(*found)


def _against(expected: tuple[int, str] | None, proven: int, passed: Mapping[int, str]) -> tuple[int | None, str]:
    """Compare a proven chain with a head that was kept elsewhere."""
    if expected is None:
        return None, ""
    sequence, known = expected
    if sequence > proven:
        return proven + 1, f"entry {proven + 1} is missing: the tail up to entry {sequence} was cut off"
    if passed.get(sequence) != known:
        return sequence, f"entry {sequence} is not the one that was there before: history was rewritten up to it"
    return None, ""


# Ledgers that stay open -----------------------------------------------------------------------------------------------


class _SharedLedger(Ledger):
    """A ledger that the threads of a process take in turns, under the lock of `_Shared`."""

    _one_thread = False

    def _prepare(self) -> None:
        super()._prepare()
        # Whoever copies the file while it is open finds all of it there: nothing waits in the write-ahead log.
        self._connected().execute("PRAGMA wal_autocheckpoint=1")
        self._file = _file_at(self.path)

    def _connected(self) -> sqlite3.Connection:
        with self._database() as connection:
            return connection

    def stands(self) -> bool:
        """True while the file that was opened is the file at the path; raises where its schema has lost a guard."""
        if self._open is None or self._file != _file_at(self.path):
            return False
        self._check_identity(self._connected())
        return True


class _Shared:
    """The ledgers that a process keeps open, the least recently used first."""

    limit = 8

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._ledgers: dict[Path, _SharedLedger] = {}

    def at(self, path: Path) -> _SharedLedger:
        ledger = self._standing(path) or _SharedLedger(path)
        self._ledgers[path] = ledger
        for oldest in list(self._ledgers)[: -self.limit]:
            self.release(oldest)
        return ledger

    def _standing(self, path: Path) -> _SharedLedger | None:
        ledger = self._ledgers.pop(path, None)
        if ledger is None:
            return None
        stands = False
        try:
            stands = ledger.stands()
        finally:
            if not stands:
                ledger.close()
        return ledger if stands else None

    def release(self, path: Path) -> None:
        ledger = self._ledgers.pop(path, None)
        if ledger is not None:
            ledger.close()

    def release_all(self) -> None:
        for path in list(self._ledgers):
            self.release(path)


_shared = _Shared()
_inherited: list[_Shared] = []


def _after_fork() -> None:
    """SQLite forbids a child to use, or even to close, what its parent opened: keep it untouched and start afresh."""
    global _shared
    _inherited.append(_shared)
    _shared = _Shared()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(lambda: _shared.release_all())


@contextmanager
def shared(path: str | os.PathLike[str]) -> Iterator[Ledger]:
    """The one open ledger of this process at `path`, for the length of a `with` block; made where there is none.

    Threads wait for each other; a forked child opens its own; a file that was deleted or replaced since is opened
    anew. It is closed when the process ends, by `release`, or when eight others were used since. Durability is that
    of `Ledger`. Do not keep it beyond the block.
    """
    pool = _shared
    with pool.lock:
        yield pool.at(Path(os.path.abspath(path)))


def release(path: str | os.PathLike[str]) -> None:
    """Close the shared ledger at `path`, before its file is moved, overwritten or deleted; none open: nothing done."""
    pool = _shared
    with pool.lock:
        pool.release(Path(os.path.abspath(path)))


def _file_at(path: Path) -> tuple[int, int] | None:
    """What tells one file from another, whatever their names; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
