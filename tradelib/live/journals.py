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
from pathlib import Path
from typing import Any

from tradelib.bundle import Bundle
from tradelib.errors import RunnerError
from tradelib.ledger import Entry, journal
from tradelib.ledger.segments import SegmentedLedger

__all__ = ["ACCOUNT", "Item", "TraderJournal", "journal_path", "room_for"]

Item = tuple[str, Mapping[str, Any], str | None]

ACCOUNT = "operations.sqlite"
"""The account's own journal: settings, operators' acts, halts, incidents."""

_CACHE = 256
"""Kilobytes of pages that each open journal keeps; SQLite's own choice is 2,000, and there may be hundreds of them."""
_FILES = 8
"""Files that one journal may hold open: itself, its write-ahead log, shared memory, lock, readers of the metrics."""

_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")


class TraderJournal(SegmentedLedger):
    """A runner's journal that may be written by one thread and read by another, one at a time."""

    _one_thread = False

    def __init__(self, path: Path, **options: Any) -> None:
        self._turn = threading.RLock()
        super().__init__(path, vocabulary=journal.VOCABULARY, **options)

    def _prepare(self) -> None:
        super()._prepare()
        with self._database() as connection:
            connection.execute(f"PRAGMA cache_size=-{_CACHE}")

    def extend(self, items: Iterable[Item]) -> list[Entry]:
        """As `SegmentedLedger.extend`."""
        with self._turn:
            return super().extend(items)

    def get(self, key: str) -> Entry | None:
        """As `SegmentedLedger.get`; what is being written by another thread is waited for."""
        with self._turn:
            return super().get(key)

    def last(self, kind: str | None = None) -> Entry | None:
        """As `SegmentedLedger.last`."""
        with self._turn:
            return super().last(kind)

    def head(self) -> tuple[int, str]:
        """As `SegmentedLedger.head`."""
        with self._turn:
            return super().head()

    def rotate(self) -> Path:
        """As `SegmentedLedger.rotate`."""
        with self._turn:
            return super().rotate()

    def entries(self, kind: str | None = None, after: int = 0) -> Iterator[Entry]:
        """As `SegmentedLedger.entries`; read at once, so that a file may be continued meanwhile."""
        with self._turn:
            return iter(list(super().entries(kind, after)))

    def starting(self, prefix: str) -> list[Entry]:
        """As `SegmentedLedger.starting`."""
        with self._turn:
            return super().starting(prefix)

    def count(self, kind: str | None = None) -> int:
        """As `SegmentedLedger.count`."""
        with self._turn:
            return super().count(kind)

    async def write(self, items: Iterable[Item], executor: Executor | None = None) -> list[Entry]:
        """`extend` in a thread of `executor`: returns when everything is on the disk, and lets others go on meanwhile.

        Not to be cancelled half-way: a write that was begun is waited for.
        """
        drafts = list(items)
        if executor is None:
            return self.extend(drafts)
        work = asyncio.get_running_loop().run_in_executor(executor, self.extend, drafts)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            await asyncio.wait({work})
            raise


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
