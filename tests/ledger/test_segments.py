"""A journal in several files is one journal: rotated, backed up, restored, and nothing can be taken out of it."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from tradelib.errors import LedgerError
from tradelib.ledger import Ledger, SegmentedLedger, backup_journal, journal, open_journal, restore_journal
from tradelib.ledger.segments import segment_files


def bar(number: int) -> dict[str, object]:
    """A bar that says which one it is."""
    return {
        "time": f"2020-01-{number:02d}T00:00:00+00:00",
        **dict.fromkeys(("open", "high", "low", "close"), 1.0),
        "volume": 1.0,
    }


def write(path: Path, bars: range, *, rotate_after: tuple[int, ...] = ()) -> tuple[int, str]:
    """Bars into the journal at `path`, which goes on in a new file after some of them; its head."""
    with open_journal(path) as log:
        assert isinstance(log, SegmentedLedger)
        for number in bars:
            journal.record(log, journal.BAR, **bar(number))
            if number in rotate_after:
                log.rotate()
        return log.head()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal of nine bars in three files."""
    write(tmp_path / "j.sqlite", range(1, 10), rotate_after=(3, 6))
    return tmp_path / "j.sqlite"


def test_a_rotated_journal_reads_as_one(path: Path) -> None:
    assert [file.name for file in segment_files(path)] == ["j.sqlite", "j.sqlite.0002", "j.sqlite.0003"]
    with open_journal(path, read_only=True) as log:
        assert [body["time"][8:10] for body in journal.bars(log)] == [f"{number:02d}" for number in range(1, 10)]
        assert [entry.sequence for entry in log.entries()] == list(range(1, 12))
        assert [entry.sequence for entry in log.entries(after=4)] == list(range(5, 12))
        assert (log.count(), log.count(journal.BAR), log.head()[0]) == (11, 9, 11)
        first = log.get("bar:2020-01-02T00:00:00+00:00")
        assert first is not None
        assert first.sequence == 2
        assert len(log.starting("bar:2020")) == 9
        assert log.verify().ok
        assert log.verify().entries == 11


def test_what_stands_in_an_older_file_cannot_be_said_again_otherwise(path: Path) -> None:
    with open_journal(path) as log:
        again = journal.record(log, journal.BAR, **bar(2))
        assert (again.duplicate, again.sequence) == (True, 2)
        with pytest.raises(LedgerError, match="is taken"):
            journal.record(log, journal.BAR, **bar(2) | {"close": 2.0})
        assert log.count() == 11


def test_every_earlier_head_is_still_passed(tmp_path: Path) -> None:
    heads = [write(tmp_path / "j", range(number, number + 1), rotate_after=(number,)) for number in range(1, 5)]
    with open_journal(tmp_path / "j", read_only=True) as log:
        assert all(log.passes(head) and log.verify(head).ok for head in heads)
        assert log.passes((0, "0" * 64))
        assert not log.passes((2, "f" * 64))
        assert not log.verify((99, "f" * 64)).ok


def test_a_second_writer_is_led_into_the_new_file(path: Path) -> None:
    with open_journal(path) as one, open_journal(path) as other:
        assert isinstance(one, SegmentedLedger)
        one.rotate()
        journal.record(other, journal.BAR, **bar(20))
        journal.record(one, journal.BAR, **bar(21))
        assert one.head() == other.head()
        assert one.verify().ok
    with sqlite3.connect(path.with_name("j.sqlite.0004")) as newest:
        assert newest.execute("SELECT count(*) FROM entry").fetchone() == (3,)


def test_a_rotation_that_was_killed_half_way_changes_nothing(path: Path) -> None:
    (path.parent / "j.sqlite.0004.partial").write_bytes(b"half of a file")
    with open_journal(path) as log:
        assert isinstance(log, SegmentedLedger)
        assert log.count() == 11
        log.rotate()
        assert log.verify().ok
    assert not (path.parent / "j.sqlite.0004.partial").exists()


@pytest.mark.parametrize("harm", ["missing", "cut", "exchanged"])
def test_no_file_can_be_taken_out_or_exchanged(path: Path, harm: str) -> None:
    middle = path.with_name("j.sqlite.0002")
    if harm == "missing":
        middle.unlink()
        with pytest.raises(LedgerError, match=r"lacks its file j\.sqlite\.0002"):
            open_journal(path)
    elif harm == "cut":
        with sqlite3.connect(middle) as file:
            file.execute("DROP TRIGGER entry_stays")
            file.execute("DELETE FROM entry WHERE sequence = 4")
            file.execute(
                "CREATE TRIGGER entry_stays BEFORE DELETE ON entry\n"
                "BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: an entry cannot be deleted'); END"
            )
        with open_journal(path, read_only=True) as log:
            assert "does not continue" in log.verify().problem
    else:
        middle.unlink()
        with Ledger(middle) as forged:
            forged.append("segment", {"number": 2, "file": "j.sqlite", "sequence": 3, "hash": "0" * 64})
        with open_journal(path, read_only=True) as log:
            assert not log.verify().ok


def test_a_backup_of_an_open_journal_is_restored_to_its_head(path: Path, tmp_path: Path) -> None:
    with open_journal(path) as log:
        journal.record(log, journal.HALT, reason="in the write-ahead log only")
        made = backup_journal(path, tmp_path / "backup")
        assert (made.sequence, made.hash) == log.head()
        journal.record(log, journal.HALT, reason="after the backup")
        again = backup_journal(path, tmp_path / "backup")
        assert (again.sequence, again.hash) == log.head()
    home = tmp_path / "home" / "j.sqlite"
    restored = restore_journal(tmp_path / "backup", home, expected_head=(made.sequence, made.hash))
    with open_journal(home) as log:
        assert log.head() == (restored.sequence, restored.hash) == (again.sequence, again.hash)
        journal.record(log, journal.HALT, reason="life goes on")
        assert log.verify((made.sequence, made.hash)).ok


def test_a_restore_refuses_what_is_there_and_what_is_broken(path: Path, tmp_path: Path) -> None:
    backup_journal(path, tmp_path / "backup")
    with pytest.raises(LedgerError, match="There is a journal"):
        restore_journal(tmp_path / "backup", path)
    with pytest.raises(LedgerError, match="does not stand"):
        restore_journal(tmp_path / "backup", tmp_path / "new" / "j.sqlite", expected_head=(12, "0" * 64))
    with sqlite3.connect(tmp_path / "backup" / "j.sqlite") as file:
        file.execute("DROP TRIGGER entry_is_final")
        file.execute("UPDATE entry SET body = replace(body, '1.0', '2.0') WHERE sequence = 2")
    with pytest.raises(LedgerError, match="does not stand"):
        restore_journal(tmp_path / "backup", tmp_path / "new" / "j.sqlite")
    assert not (tmp_path / "new" / "j.sqlite").exists()


def test_a_backup_of_a_broken_journal_does_not_replace_a_good_one(path: Path, tmp_path: Path) -> None:
    backup_journal(path, tmp_path / "backup")
    shutil.copy(tmp_path / "backup" / "j.sqlite", tmp_path / "good")
    with sqlite3.connect(path) as file:
        file.execute("DROP TRIGGER entry_is_final")
        file.execute("UPDATE entry SET body = replace(body, '1.0', '2.0') WHERE sequence = 2")
    with pytest.raises(LedgerError, match=r"the copy of .* does not stand"):
        backup_journal(path, tmp_path / "backup")
    assert (tmp_path / "backup" / "j.sqlite").read_bytes() == (tmp_path / "good").read_bytes()


@pytest.mark.parametrize("count", [0, 1, 3, 4, 7, 100])
def test_the_newest_entries_of_a_kind_are_found_across_files(tmp_path: Path, count: int) -> None:
    with SegmentedLedger(tmp_path / "j.sqlite") as log:
        for number in range(12):
            if number in (4, 8):
                log.rotate()
            log.append("odd" if number % 2 else "even", {"number": number})
        told = [(entry.sequence, entry.body["number"]) for entry in log.entries("even")]
        assert [(one.sequence, one.body["number"]) for one in log.newest("even", count)] == (
            told[-count:] if count else []
        )
