"""Slow disks: whoever writes waits for its own, and nobody else does; what is told is on the disk, in its sequence."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.live.support import GOLDEN, HASTE, Sealed, read, seal, synthetic_bars, venue
from tests.live.test_fleet import exchange, settings
from tradelib.errors import LedgerError
from tradelib.ledger import journal
from tradelib.live.fleet import Fleet
from tradelib.live.journals import TraderJournal, journal_path
from tradelib.live.settings import FeedSettings
from tradelib.live.supervisor import Seat

STUCK = 20.0
"""Seconds after which a commit goes on although nobody else did: then the test has failed."""


class Disk:
    """An SQLite connection whose commits wait until they may; `begun` is set when one waits."""

    def __init__(self, connection: Any, may: Any) -> None:
        self._connection, self._may = connection, may

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, query: str, *values: Any) -> Any:
        if query == "COMMIT":
            self._may()
        return self._connection.execute(query, *values)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[Sealed]:
    return [
        seal(tmp_path_factory.mktemp(symbol[:3]), synthetic_bars(seed=seed, symbol=symbol))
        for seed, symbol in ((3, "BTC/USDT"), (4, "ETH/USDT"))
    ]


class Slow(Fleet):
    """The first bundle's disk is slow: each of its commits waits for a decision of the second one."""

    def prepare(self) -> None:
        self.decided = threading.Condition()
        self.count, self.over, self.commits = 0, False, 0
        self.stuck: list[int] = []

    def _seat(self, *given: Any, **named: Any) -> Seat:
        seat = super()._seat(*given, **named)
        if not self.seats and not hasattr(self, "slow"):
            self.slow: Any = seat.log
            seat.log._open = Disk(seat.log._open, self._wait)
        return seat

    def _wait(self) -> None:
        """In the thread that commits."""
        if not hasattr(self, "supervisor") or self._phase != "running":
            return  # before anybody decides, and after
        with self.decided:
            self.commits += 1
            before = self.count
            if not self.decided.wait_for(lambda: self.over or self.count > before, STUCK):
                self.stuck.append(self.commits)
                self.over = True

    def told(self, name: str, step: Any) -> None:
        if name.endswith("ETH/USDT"):
            with self.decided:
                self.count += 1
                self.over = self.over or self.count > 25
                self.decided.notify_all()


@pytest.mark.integration
def test_a_bundle_decides_while_the_disk_of_another_one_is_slow(two: list[Sealed], tmp_path: Path) -> None:
    """Given a disk that does not commit before another bundle has decided again, when orders are sent, filled and
    reconciled on it, then the other one does decide, every time."""
    with venue(exchange(two)) as served:
        told = settings(two, tmp_path, served.url, (0.5, 0.5))
        told = told.replace(feed=FeedSettings(poll_seconds=0.0, turns="free"))
        until = two[0].bars.index[GOLDEN + 40].isoformat()
        fleet = Slow([one.bundle for one in two], told, until=until, patience=HASTE, reconcile_seconds=0.02)
        fleet.prepare()
        fleet._progress = fleet.told
        summary = asyncio.run(fleet.run())
    assert fleet.stuck == []
    assert summary.halted == {}
    assert fleet.commits > 10
    slow = read(journal_path(tmp_path, two[0].bundle), journal.FILL)
    assert len(slow) > 3
    assert read(tmp_path / "operations.sqlite", journal.LATCH) == []


# The journal of a trader ----------------------------------------------------------------------------------------------


class Held:
    """A journal whose commits wait until they are let go."""

    def __init__(self, path: Path, executor: ThreadPoolExecutor) -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        self.log = TraderJournal(path, executor=executor)
        self.log._open = Disk(self.log._open, self._wait)  # type: ignore[assignment]

    def _wait(self) -> None:
        self.begun.set()
        assert self.go.wait(STUCK)

    async def until_begun(self) -> None:
        await asyncio.to_thread(self.begun.wait, STUCK)


@contextmanager
def held(path: Path) -> Iterator[Held]:
    with ThreadPoolExecutor(4) as executor:
        made = Held(path, executor)
        with made.log:
            yield made


def stop(reason: str, key: str | None = None) -> Any:
    return journal.STOP, {"reason": reason}, key


def reasons(path: Path) -> list[str]:
    return [body["reason"] for body in read(path, journal.STOP)]


def test_whoever_reads_does_not_wait_for_a_commit(tmp_path: Path) -> None:
    async def work(disk: Held) -> None:
        writing = asyncio.create_task(disk.log.write([stop("one", "k")]))
        await disk.until_begun()
        assert disk.log.get("k") is None
        assert (disk.log.last(), disk.log.head()[0], disk.log.count(), list(disk.log.entries())) == (None, 0, 0, [])
        assert not writing.done()
        disk.go.set()
        await writing
        assert disk.log.get("k") is not None

    with held(tmp_path / "j") as disk:
        asyncio.run(work(disk))


def test_entries_are_written_in_the_sequence_in_which_they_were_given(tmp_path: Path) -> None:
    async def work(disk: Held) -> None:
        writing = [asyncio.create_task(disk.log.write([stop(str(number))])) for number in range(20)]
        await disk.until_begun()
        disk.go.set()
        await asyncio.gather(*writing)

    with held(tmp_path / "j") as disk:
        asyncio.run(work(disk))
    assert reasons(tmp_path / "j") == [str(number) for number in range(20)]


def test_what_is_there_already_stays_where_that_is_wanted(tmp_path: Path) -> None:
    async def work(disk: Held) -> None:
        disk.go.set()
        one = disk.log.write([stop("first", "k")], keep=True)
        await asyncio.gather(one, disk.log.write([stop("second", "k"), stop("third", "l")], keep=True))
        with pytest.raises(LedgerError, match="is taken"):
            await disk.log.write([stop("second", "k")])

    with held(tmp_path / "j") as disk:
        asyncio.run(work(disk))
    assert reasons(tmp_path / "j") == ["first", "third"]


def test_a_write_that_is_cancelled_is_done_when_it_ends(tmp_path: Path) -> None:
    async def work(disk: Held) -> None:
        first = asyncio.create_task(disk.log.write([stop("one")]))
        await disk.until_begun()
        second = asyncio.create_task(disk.log.write([stop("two")]))  # waits for its turn
        await asyncio.sleep(0)
        first.cancel()
        second.cancel()
        await asyncio.sleep(0)
        assert not first.done()
        disk.go.set()
        ended = await asyncio.gather(first, second, return_exceptions=True)
        assert [type(one) for one in ended] == [asyncio.CancelledError] * 2

    with held(tmp_path / "j") as disk:
        asyncio.run(work(disk))
    assert reasons(tmp_path / "j") == ["one", "two"]


def test_a_write_that_is_cancelled_and_fails_says_so(tmp_path: Path) -> None:
    async def work(disk: Held) -> None:
        writing = asyncio.create_task(disk.log.write([("unknown kind", {}, None)]))
        await asyncio.sleep(0)
        writing.cancel()
        with pytest.raises(LedgerError, match="Unknown kind"):
            await writing

    with held(tmp_path / "j") as disk:
        asyncio.run(work(disk))
