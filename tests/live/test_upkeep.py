"""Journals of a runner that grow: rotated between decisions, backed up while they are written, restored whole."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from tests.live.support import GOLDEN, KEY, SECRET, Sealed, read
from tests.live.test_fleet import exchange, settings, trade
from tradelib.errors import RunnerError
from tradelib.ledger import journal, open_journal, restore_journal
from tradelib.ledger.segments import SegmentedLedger, segment_files
from tradelib.live.admission import admit_journal
from tradelib.live.guardian import Guardian
from tradelib.live.journals import journal_path
from tradelib.live.latch import Latch, Scope
from tradelib.live.settings import JournalSettings
from tradelib.venue import VenueThread

pytestmark = pytest.mark.integration

LAST = GOLDEN + 20
KINDS = (journal.BAR, journal.DECISION, journal.INTENT, journal.FILL, journal.EQUITY)


def test_a_journal_that_is_rotated_at_every_occasion_tells_the_same_run(sealed: Sealed, tmp_path: Path) -> None:
    with VenueThread(exchange([sealed]), key=KEY, secret=SECRET) as served:
        trade([sealed], settings([sealed], tmp_path / "one", served.url, (1.0,)), LAST)
    with VenueThread(exchange([sealed]), key=KEY, secret=SECRET) as served:
        small = JournalSettings(rotate_megabytes=0.001)
        given = settings([sealed], tmp_path / "many", served.url, (1.0,), journal=small)
        for stop in range(LAST - 6, LAST + 1):
            trade([sealed], given, stop, rotation_seconds=0.0)
    one, many = (journal_path(tmp_path / name, sealed.bundle) for name in ("one", "many"))
    assert len(segment_files(many)) > 3
    for kind in KINDS:
        assert read(many, kind) == read(one, kind), kind
    with open_journal(many, read_only=True) as log:
        assert log.verify().ok


def test_a_backup_that_was_made_while_trading_is_restored_and_traded_on(sealed: Sealed, tmp_path: Path) -> None:
    """Everything is lost but the backup and the venue: the restored runner goes on as the one that was never lost."""
    with VenueThread(exchange([sealed]), key=KEY, secret=SECRET) as served:
        trade([sealed], settings([sealed], tmp_path / "whole", served.url, (1.0,)), LAST)
    kept = JournalSettings(rotate_megabytes=0.001, backup=tmp_path / "backup", backup_hours=1e-9)
    with VenueThread(exchange([sealed]), key=KEY, secret=SECRET) as served:
        given = settings([sealed], tmp_path / "lost", served.url, (1.0,), journal=kept)
        for stop in (LAST - 12, LAST - 8, LAST - 4):
            trade([sealed], given, stop, rotation_seconds=0.0)
        trade([sealed], given, LAST - 4)  # nothing left to decide: what the last backup has is all there is
        lost, back = (journal_path(tmp_path / name, sealed.bundle) for name in ("lost", "restored"))
        for path in (back, tmp_path / "restored" / "operations.sqlite"):
            restore_journal(tmp_path / "backup", path)
        assert len(segment_files(back)) in (len(segment_files(lost)) - 1, len(segment_files(lost)))
        trade([sealed], settings([sealed], tmp_path / "restored", served.url, (1.0,)), LAST)
    whole = journal_path(tmp_path / "whole", sealed.bundle)
    for kind in KINDS:
        assert read(back, kind) == read(whole, kind), kind
    assert read(tmp_path / "lost" / "operations.sqlite", journal.BACKUP)


def test_the_journal_of_operations_rotates_and_is_backed_up_whole(sealed: Sealed, tmp_path: Path) -> None:
    """Given a halt in a file that was closed since, when a runner starts on the journal or on its restored backup, then
    the halt holds."""
    kept = JournalSettings(rotate_megabytes=0.001, backup=tmp_path / "backup", backup_hours=1e-9)
    with VenueThread(exchange([sealed]), key=KEY, secret=SECRET) as served:
        given = settings([sealed], tmp_path / "runner", served.url, (1.0,), journal=kept)
        trade([sealed], given, LAST - 12)
        with open_journal(given.operations_path) as log:
            Latch(log).halt(Scope("account"), "anna", "looks odd")
        before = entries(given.folder, sealed)
        for stop in (LAST - 8, LAST - 4, LAST):
            trade([sealed], given, stop, rotation_seconds=0.0)
    assert len(segment_files(given.operations_path)) > 2
    assert entries(given.folder, sealed) == before
    assert read(journal_path(given.folder, sealed.bundle), journal.REFUSAL)
    back = tmp_path / "restored" / "operations.sqlite"
    restore_journal(tmp_path / "backup", back)
    for path in (given.operations_path, back):
        with open_journal(path) as log:
            assert log.verify().ok
            assert [halt.why for halt in Latch(log).halts] == ["looks odd"]
    assert len(segment_files(back)) > 1


def entries(folder: Path, sealed: Sealed) -> list[str]:
    """Orders that add to a position."""
    sent = read(journal_path(folder, sealed.bundle), journal.INTENT)
    return [body["client_order_id"] for body in sent if not body.get("reduces", False)]


def rotated(path: Path) -> None:
    """Three files of ten entries."""
    with SegmentedLedger(path) as log:
        for number in range(30):
            if number in (10, 20):
                log.rotate()
            log.append("note", {"number": number})


def harm(path: Path, number: int) -> None:
    """Change an entry as somebody with the file in hands can."""
    with sqlite3.connect(path) as database:
        database.execute("DROP TRIGGER entry_is_final")
        database.execute("UPDATE entry SET body = replace(body, ?, ?)", (f":{number}}}", ":99}"))
        database.execute(
            """CREATE TRIGGER entry_is_final BEFORE UPDATE ON entry
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: an entry cannot be changed'); END"""
        )


def test_a_start_verifies_the_newest_file_and_an_audit_all_of_them(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    rotated(path)
    with SegmentedLedger(path, read_only=True) as log:
        assert log.verify_newest() == log.verify()
    harm(tmp_path / "j.sqlite.0003", 25)
    with SegmentedLedger(path, read_only=True) as log:
        assert "0003" in log.verify_newest().problem
        assert not log.verify().ok


def test_harm_in_a_closed_file_is_found_by_an_audit(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    rotated(path)
    harm(path, 5)
    with SegmentedLedger(path, read_only=True) as log:
        assert log.verify_newest().ok
        assert log.verify().sequence == 6


def test_a_file_in_place_of_another_is_found_at_the_start(tmp_path: Path, sealed: Sealed) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        rotated(tmp_path / name / "j.sqlite")
    (tmp_path / "two" / "j.sqlite.0002").replace(tmp_path / "one" / "j.sqlite.0002")
    with SegmentedLedger(tmp_path / "one" / "j.sqlite", read_only=True) as log:
        assert "does not continue the file before it" in log.verify_newest().problem
        with pytest.raises(RunnerError, match="not trustworthy"):
            admit_journal(log, sealed.bundle, "paper")


def test_the_orders_of_the_last_minute_count_after_a_restart(
    sealed: Sealed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []
    made = Guardian.__init__

    def told(self: Guardian, *given: object, **options: object) -> None:
        made(self, *given, **options)  # type: ignore[arg-type]
        import time

        seen.append(self._rate.sent(time.monotonic()))

    monkeypatch.setattr(Guardian, "__init__", told)
    with VenueThread(exchange([sealed]), key=KEY, secret=SECRET) as served:
        given = settings([sealed], tmp_path, served.url, (1.0,))
        trade([sealed], given, LAST)
        trade([sealed], given, LAST + 1)
    sent = read(journal_path(tmp_path, sealed.bundle), journal.INTENT)
    adding = sum(not one.get("reduces", False) for one in sent)
    assert seen[0] == (0, 0)
    assert sum(seen[1]) > 5
    assert seen[1][0] <= adding
