"""A ledger that stays open: as durable, as strict and as honest about its file as one that is opened each time."""

from __future__ import annotations

import multiprocessing
import shutil
import sqlite3
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from tradelib.errors import LedgerError
from tradelib.ledger.chain import Ledger, _Shared, release, shared


def count(path: Path) -> int:
    with Ledger(path, read_only=True) as ledger:
        assert ledger.verify().ok
        return ledger.count()


def test_one_process_has_one_open_ledger_per_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "l.sqlite"
    with shared(path) as first:
        first.append("note", {})
    monkeypatch.chdir(tmp_path)
    with shared("l.sqlite") as second:
        assert second is first
    release(path)
    release(path)
    with shared(path) as third:
        assert third is not first
        assert third.count() == 1


def test_what_is_written_is_in_the_file_itself_for_whoever_copies_it(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    for number in range(3):
        with shared(path) as ledger:
            ledger.append("note", {"number": number})
        shutil.copy(path, tmp_path / f"copy{number}.sqlite")
        assert count(tmp_path / f"copy{number}.sqlite") == number + 1


def test_writing_stays_fully_synchronous(tmp_path: Path) -> None:
    with shared(tmp_path / "l.sqlite") as ledger:
        assert ledger._open is not None
        assert ledger._open.execute("PRAGMA synchronous").fetchone() == (2,)  # 2 = FULL


def test_a_deleted_or_replaced_file_is_opened_anew(tmp_path: Path) -> None:
    path, other = tmp_path / "l.sqlite", tmp_path / "other.sqlite"
    with shared(path) as ledger:
        ledger.append("note", {})
        ledger.append("note", {})
    path.unlink()  # the write-ahead log of the old file stays behind
    with shared(path) as ledger:
        assert ledger.count() == 0
        ledger.append("note", {})
    assert count(path) == 1
    with Ledger(other) as ledger:
        ledger.extend([("note", {}, None)] * 5)
    release(path)
    other.replace(path)
    with shared(path) as ledger:
        assert ledger.count() == 5


def test_a_whole_folder_may_go_away(tmp_path: Path) -> None:
    path = tmp_path / "home" / "l.sqlite"
    for _ in range(2):
        with shared(path) as ledger:
            ledger.append("note", {})
            assert ledger.count() == 1
        shutil.rmtree(path.parent)


def test_a_ledger_closed_by_its_user_is_opened_again(tmp_path: Path) -> None:
    with shared(tmp_path / "l.sqlite") as ledger:
        ledger.close()
    with shared(tmp_path / "l.sqlite") as ledger:
        assert ledger.count() == 0


def test_a_guard_that_is_lifted_while_the_ledger_is_open_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    with shared(path) as ledger:
        ledger.append("note", {})
    connection = sqlite3.connect(path)
    connection.execute("DROP TRIGGER entry_stays")
    connection.close()
    for _ in range(2):
        with pytest.raises(LedgerError, match="entry_stays"), shared(path):
            pass


def test_threads_take_turns(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"

    def append() -> None:
        for _ in range(20):
            with shared(path) as ledger:
                ledger.append("note", {})

    threads = [threading.Thread(target=append) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count(path) == 80


def append_in_child(path: Path, number: int) -> None:
    with shared(path) as ledger:
        ledger.append("note", {"child": number}, f"child-{number}")


def test_a_forked_child_opens_its_own(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    context = multiprocessing.get_context("fork")
    with shared(path) as ledger:  # forked while the lock is held: a child must not wait for it for ever
        ledger.append("note", {})
        children = [context.Process(target=append_in_child, args=(path, number)) for number in range(3)]
        for child in children:
            child.start()
        for child in children:
            child.join(30)
        assert [child.exitcode for child in children] == [0, 0, 0]
        ledger.append("note", {})
    assert count(path) == 5


def test_no_more_than_eight_files_are_kept_open(tmp_path: Path) -> None:
    pool = _Shared()
    ledgers = [pool.at(tmp_path / f"{number}.sqlite") for number in range(8)]
    assert pool.at(tmp_path / "0.sqlite") is ledgers[0]  # used again: the least recent is now number 1
    pool.at(tmp_path / "8.sqlite")
    assert [ledger._open is None for ledger in ledgers] == [False, True] + [False] * 6
    pool.release_all()
    assert all(ledger._open is None for ledger in ledgers)


def test_the_end_of_the_process_closes_the_file(tmp_path: Path) -> None:
    program = """
        import sys
        from tradelib.ledger.chain import shared
        with shared(sys.argv[1]) as ledger:
            ledger.append("note", {})
    """
    path = tmp_path / "l.sqlite"
    subprocess.run([sys.executable, "-W", "error", "-c", textwrap.dedent(program), str(path)], check=True)
    assert list(tmp_path.iterdir()) == [path]
    assert count(path) == 1
