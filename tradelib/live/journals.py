"""The journals of one runner: a file for each bundle, one for the account, and a disk that one waits for alone.

A decision is written by a thread while others decide: `TraderJournal.write` returns when the entries are on the disk,
and whoever awaits it is the only one who waited.
"""

from __future__ import annotations

import asyncio
import re
import resource
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tradelib.bundle import Bundle
from tradelib.errors import LedgerError, RunnerError
from tradelib.ledger import Entry, journal
from tradelib.ledger.segments import SegmentedLedger

__all__ = ["ACCOUNT", "Item", "TraderJournal", "journal_path", "room_for"]

Item = tuple[str, Mapping[str, Any], str | None]

ACCOUNT = "operations.sqlite"
"""The account's own journal: settings, operators' acts, halts, incidents."""

_CACHE = 256
"""Kilobytes of pages that each open journal keeps; SQLite's own choice is 2,000, and there may be hundreds of them."""
_FILES = 10
"""Files that one journal may hold open: itself, its write-ahead log, shared memory, lock, its own reader, that of the
metrics."""

_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")


class _Reader(SegmentedLedger):
    """The same journal, read beside whoever writes it: a commit that takes long keeps no reader waiting."""

    _one_thread = False

    def _prepare(self) -> None:
        super()._prepare()
        with self._database() as connection:
            connection.execute(f"PRAGMA cache_size=-{_CACHE // 4}")


class TraderJournal(SegmentedLedger):
    """A runner's journal that may be written by one thread and read by another.

    `write` is for event loops: it writes in a thread of `executor`, in the sequence of the calls. Readers have a
    connection of their own and see what is on the disk, so nobody who reads waits for somebody else's commit.
    """

    _one_thread = False

    def __init__(self, path: Path, *, executor: Executor | None = None, **options: Any) -> None:
        self._turn, self._reading = threading.RLock(), threading.RLock()
        self._line = asyncio.Lock()
        self._reader: SegmentedLedger | None = None
        self.executor = executor
        super().__init__(path, vocabulary=journal.VOCABULARY, **options)
        self._reader = _Reader(path, vocabulary=journal.VOCABULARY, **options | {"read_only": True})

    def _prepare(self) -> None:
        super()._prepare()
        with self._database() as connection:
            connection.execute(f"PRAGMA cache_size=-{_CACHE}")

    def close(self) -> None:
        """As `SegmentedLedger.close`; the writer goes last: it brings the write-ahead log into the file."""
        if self._reader is not None:
            self._reader.close()
        super().close()

    def extend(self, items: Iterable[Item]) -> list[Entry]:
        """As `SegmentedLedger.extend`; whoever calls it in an event loop makes everybody there wait for the disk."""
        with self._turn:
            return super().extend(items)

    def get(self, key: str) -> Entry | None:
        """As `SegmentedLedger.get`."""
        with self._open_reader() as reader:
            return reader.get(key)

    def last(self, kind: str | None = None) -> Entry | None:
        """As `SegmentedLedger.last`."""
        with self._open_reader() as reader:
            return reader.last(kind)

    def newest(self, kind: str, count: int) -> list[Entry]:
        """As `SegmentedLedger.newest`."""
        with self._open_reader() as reader:
            return reader.newest(kind, count)

    def head(self) -> tuple[int, str]:
        """As `SegmentedLedger.head`."""
        with self._open_reader() as reader:
            return reader.head()

    def rotate(self) -> Path:
        """As `SegmentedLedger.rotate`."""
        with self._turn:
            return super().rotate()

    def entries(self, kind: str | None = None, after: int = 0) -> Iterator[Entry]:
        """As `SegmentedLedger.entries`; read at once, so that a file may be continued meanwhile."""
        with self._open_reader() as reader:
            return iter(list(reader.entries(kind, after)))

    def starting(self, prefix: str) -> list[Entry]:
        """As `SegmentedLedger.starting`."""
        with self._open_reader() as reader:
            return reader.starting(prefix)

    def count(self, kind: str | None = None) -> int:
        """As `SegmentedLedger.count`."""
        with self._open_reader() as reader:
            return reader.count(kind)

    @contextmanager
    def _open_reader(self) -> Iterator[SegmentedLedger]:
        if self._reader is None:
            raise LedgerError(f"Ledger {self.path} is not open yet.")
        with self._reading:
            yield self._reader

    async def write(
        self, items: Iterable[Item], executor: Executor | None = None, *, keep: bool = False
    ) -> list[Entry]:
        """`extend` in a thread of `executor` (or the journal's own): returns when everything is on the disk, and lets
        others go on meanwhile. Calls are written one after the other, in their sequence.

        keep: a key that is there already stays as it is, whatever is said now. Without any executor it is written at
        once: for a runner of one bundle, which has nobody else to delay. Not to be cancelled half-way: what was begun
        is done when this raises.
        """
        drafts, executor = list(items), executor or self.executor
        if executor is None:
            return self._extended(drafts, keep)
        work = asyncio.create_task(self._written(drafts, keep, executor))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            await asyncio.wait({work})
            if work.exception() is not None:
                return work.result()
            raise

    async def checkpoint(self) -> None:
        """Write down what is not over, so that the next start need not read what came before; as `write` does it."""
        if self.executor is None:
            self._checkpoint()
            return
        async with self._line:
            await asyncio.get_running_loop().run_in_executor(self.executor, self._checkpoint)

    def _checkpoint(self) -> None:
        with self._turn:
            self.append(journal.CHECKPOINT, journal.checkpoint(self))

    async def _written(self, drafts: list[Item], keep: bool, executor: Executor) -> list[Entry]:
        async with self._line:
            return await asyncio.get_running_loop().run_in_executor(executor, self._extended, drafts, keep)

    def _extended(self, drafts: list[Item], keep: bool) -> list[Entry]:
        with self._turn:
            return self.extend([one for one in drafts if not keep or one[2] is None or self.get(one[2]) is None])


def room_for(journals: int) -> None:
    """Let this process open the files of so many journals; `RunnerError` where the system forbids it."""
    needed = journals * _FILES + 256
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise RunnerError(
            f"{journals} journals need {needed} open files, this system allows {hard}: raise it (LimitNOFILE= in the "
            "systemd unit, ulimit -n in a shell), or run fewer bundles in one process"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def journal_path(folder: Path, bundle: Bundle) -> Path:
    """Where the journal of a bundle lies: named after bundle, symbol and digest, so that no two ever share one."""
    told = f"{bundle.name}-{bundle.execution.symbol}-{bundle.digest[:12]}"
    return folder / f"{_UNSAFE.sub('-', told)}.sqlite"
