"""The ledger keeps what it was given, in order, for ever; and says who touched it."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tradelib.errors import LedgerError
from tradelib.ledger import GENESIS, Ledger, canonical, digest
from tradelib.ledger.chain import _SCHEMA

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def ledger_at(path: Path, entries: int = 0) -> Ledger:
    ledger = Ledger(path, clock=lambda: NOON)
    ledger.extend([("note", {"number": number}, f"n{number}") for number in range(1, entries + 1)])
    return ledger


def tamper(path: Path, *statements: str) -> None:
    """What somebody with write access to the file does: lift the triggers, change rows, put the triggers back."""
    connection = sqlite3.connect(path)
    triggers = [name for name, sql in _SCHEMA.items() if "TRIGGER" in sql]
    for name in triggers:
        connection.execute(f"DROP TRIGGER {name}")
    for statement in statements:
        connection.execute(statement)
    for name in triggers:
        connection.execute(_SCHEMA[name])
    connection.commit()
    connection.close()


# What is written is what is read


def test_an_entry_is_chained_to_its_predecessor_and_hashes_its_content(tmp_path: Path) -> None:
    with ledger_at(tmp_path / "l.sqlite") as ledger:
        first = ledger.append("note", {"b": 1.5, "a": None}, key="k")
        second = ledger.append("note", {})
        assert (first.sequence, first.previous, first.time) == (1, GENESIS, "2026-01-02T12:00:00.000000+00:00")
        assert (second.sequence, second.previous) == (2, first.hash)
        fields = ("sequence", "time", "kind", "key", "body", "previous")
        assert first.hash == digest({name: getattr(first, name) for name in fields})
        assert second.hash == digest({name: getattr(second, name) for name in fields})
        assert ledger.head() == (2, second.hash)
        assert list(ledger.entries()) == [first, second]


def test_the_hash_of_a_known_entry_never_changes_between_versions(tmp_path: Path) -> None:
    with ledger_at(tmp_path / "l.sqlite") as ledger:
        entry = ledger.append("note", {"price": 0.1, "text": "é"}, key="k")
    # printf '%s' '{"body":{"price":0.1,"text":"\\u00e9"},"key":"k","kind":"note","previous":"000...","sequence":1,
    # "time":"2026-01-02T12:00:00.000000+00:00"}' | sha256sum, with 64 zeros and on one line
    assert entry.hash == "55d61f017cfa77e2a2ecdf58710ca3d105e846b5bae2850e35cd62bfb26f92eb"


def test_reading_by_kind_key_and_position(tmp_path: Path) -> None:
    with ledger_at(tmp_path / "l.sqlite") as ledger:
        ledger.extend([("a", {"n": n}, None) if n % 2 else ("b", {"n": n}, f"b{n}") for n in range(2_500)])
        assert [entry.body["n"] for entry in ledger.entries("a")] == list(range(1, 2_500, 2))
        assert [entry.body["n"] for entry in ledger.entries(after=2_497)] == [2_497, 2_498, 2_499]
        assert (ledger.count(), ledger.count("b"), ledger.count("c")) == (2_500, 1_250, 0)
        newest, of_b = ledger.last(), ledger.last("b")
        assert newest is not None
        assert newest.body == {"n": 2_499}
        assert of_b is not None
        assert of_b.body == {"n": 2_498}
        assert ledger.last("c") is None
        assert ledger.get("b3") is None
        found = ledger.get("b4")
        assert found is not None
        assert found.body == {"n": 4}


def test_entries_appended_while_reading_are_not_part_of_the_reading(tmp_path: Path) -> None:
    with ledger_at(tmp_path / "l.sqlite", 3) as ledger:
        seen = [ledger.append("echo", {}).sequence for _ in ledger.entries()]
        assert seen == [4, 5, 6]


def test_an_empty_ledger(tmp_path: Path) -> None:
    with ledger_at(tmp_path / "deep" / "er" / "l.sqlite") as ledger:
        assert (ledger.head(), ledger.count(), ledger.last(), list(ledger.entries())) == ((0, GENESIS), 0, None, [])
        assert ledger.verify().ok
        assert ledger.verify(expected_head=(0, GENESIS)).ok
        assert ledger.extend([]) == []


def test_times_are_written_in_utc_and_naive_clocks_are_refused(tmp_path: Path) -> None:
    east = datetime(2026, 1, 2, 1, 30, tzinfo=timezone(timedelta(hours=2)))
    with Ledger(tmp_path / "l.sqlite", clock=lambda: east) as ledger:
        assert ledger.append("note", {}).time == "2026-01-01T23:30:00.000000+00:00"
    with Ledger(tmp_path / "l.sqlite", clock=lambda: datetime(2026, 1, 2)) as ledger:
        with pytest.raises(LedgerError, match="naive"):
            ledger.append("note", {})
        assert ledger.count() == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_canonical_text_reads_back_and_does_not_depend_on_order(body: dict[str, object]) -> None:
    text = canonical(body)
    assert canonical(json.loads(text)) == text
    assert canonical(dict(reversed(body.items()))) == text
    assert text.isascii()


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), st.dictionaries(st.text(), JSON, max_size=3)), max_size=8))
def test_whatever_is_appended_is_read_back_and_verifies(items: list[tuple[str, dict[str, object]]]) -> None:
    with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder) / "l.sqlite") as ledger:
        singles = [ledger.append(kind, body) for kind, body in items[:3]]
        rest = ledger.extend([(kind, body, None) for kind, body in items[3:]])
        assert list(ledger.entries()) == singles + rest
        assert [canonical(entry.body) for entry in ledger.entries()] == [canonical(body) for _, body in items]
        assert ledger.verify(ledger.head()).ok


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"a": {"b": [1.0, float("nan")]}}, r"'a\.b\[1\]' is nan"),
        ({"price": float("inf")}, "'price' is inf"),
        ({"when": NOON}, "'when' is a datetime.datetime"),
        ({"n": object()}, "'n' is a builtins.object"),
        ({"raw": b"x"}, "'raw' is a builtins.bytes"),
        ({1: 2}, "keys must be text"),
        ({"big": 10**5_000}, "cannot be written as JSON"),
    ],
)
def test_what_is_not_json_is_refused_by_the_name_of_its_field(
    tmp_path: Path, body: dict[str, object], message: str
) -> None:
    with ledger_at(tmp_path / "l.sqlite") as ledger:
        with pytest.raises(LedgerError, match=message):
            ledger.append("note", body)
        assert ledger.count() == 0


def test_a_body_that_contains_itself_is_refused() -> None:
    body: dict[str, object] = {}
    body["self"] = body
    with pytest.raises(LedgerError, match="contains itself"):
        canonical(body)


@pytest.mark.parametrize("kind", ["", "a\nb", "\ud800", "nul\0", 3, None])
def test_kinds_and_keys_are_printable_text(tmp_path: Path, kind: object) -> None:
    with ledger_at(tmp_path / "l.sqlite") as ledger:
        with pytest.raises(LedgerError, match="kind of an entry"):
            ledger.append(kind, {})  # type: ignore[arg-type]
        if kind is not None:
            with pytest.raises(LedgerError, match="key of an entry"):
                ledger.append("note", {}, key=kind)  # type: ignore[arg-type]


# Keys: saying it again changes nothing


def test_a_known_key_writes_nothing_and_returns_the_old_entry(tmp_path: Path) -> None:
    with ledger_at(tmp_path / "l.sqlite") as ledger:
        first = ledger.append("note", {"a": 1, "b": (1, 2)}, key="k")
        again = ledger.append("note", {"b": [1, 2], "a": 1}, key="k")
        assert again.duplicate
        assert not first.duplicate
        assert (again.sequence, again.hash, ledger.count()) == (1, first.hash, 1)


@pytest.mark.parametrize(("kind", "body"), [("note", {"a": 2}), ("other", {"a": 1}), ("note", {"a": 1.0})])
def test_a_known_key_with_another_content_is_refused(tmp_path: Path, kind: str, body: dict[str, float]) -> None:
    with ledger_at(tmp_path / "l.sqlite") as ledger:
        ledger.append("note", {"a": 1}, key="k")
        with pytest.raises(LedgerError, match="Key 'k' is taken: entry 1"):
            ledger.append(kind, body, key="k")
        assert ledger.count() == 1


def test_extend_is_all_or_nothing(tmp_path: Path) -> None:
    with ledger_at(tmp_path / "l.sqlite", 1) as ledger:
        before = ledger.head()
        with pytest.raises(LedgerError, match="is taken"):
            ledger.extend([("note", {"x": 1}, "new"), ("note", {"x": 2}, "n1")])
        assert ledger.head() == before
        entries = ledger.extend([("note", {"x": 1}, "new"), ("note", {"x": 1}, "new"), ("note", {"number": 1}, "n1")])
        assert [(entry.sequence, entry.duplicate) for entry in entries] == [(2, False), (2, True), (1, True)]
        assert ledger.verify().ok


def test_the_vocabulary_is_enforced(tmp_path: Path) -> None:
    with Ledger(tmp_path / "l.sqlite", vocabulary={"trial": frozenset({"sharpe", "params"})}) as ledger:
        ledger.append("trial", {"sharpe": 1.0, "params": {}, "extra": 1})
        with pytest.raises(LedgerError, match=r"Unknown kind 'trail'\. Did you mean 'trial'"):
            ledger.append("trail", {})
        with pytest.raises(LedgerError, match="lacks 'params'"):
            ledger.append("trial", {"sharpe": 1.0})


# Tampering is seen and named

FORGED = "INSERT INTO entry SELECT {0}, time, kind, 'forged', '{{}}', previous, hash FROM entry WHERE sequence = 1"


def shifted(where: str, by: int) -> list[str]:
    return [
        f"UPDATE entry SET sequence = sequence + 1000 WHERE sequence {where}",
        f"UPDATE entry SET sequence = sequence - 1000 + {by} WHERE sequence > 1000",
    ]


@pytest.mark.parametrize(
    ("statements", "sequence", "words"),
    [
        (["""UPDATE entry SET body = '{"number":7}' WHERE sequence = 3"""], 3, "entry 3 was edited"),
        (["""UPDATE entry SET body = '{"number": 3}' WHERE sequence = 3"""], 3, "entry 3 was edited"),
        (["""UPDATE entry SET body = '[' WHERE sequence = 3"""], 3, "entry 3 was edited"),
        (["UPDATE entry SET body = cast(x'ff' AS TEXT) WHERE sequence = 3"], 3, "entry 3 was edited"),
        (["UPDATE entry SET time = '2026' WHERE sequence = 1"], 1, "entry 1 was edited"),
        (["UPDATE entry SET kind = 'other' WHERE sequence = 5"], 5, "entry 5 was edited"),
        (["UPDATE entry SET key = NULL WHERE sequence = 2"], 2, "entry 2 was edited"),
        (["UPDATE entry SET previous = hash WHERE sequence = 2"], 2, "entry 2 was edited"),
        (["UPDATE entry SET hash = previous WHERE sequence = 4"], 4, "entry 4 was edited"),
        (["DELETE FROM entry WHERE sequence = 1"], 1, "entry 1 is missing"),
        (["DELETE FROM entry WHERE sequence IN (3, 4)"], 3, "entry 3 is missing"),
        (["DELETE FROM entry WHERE sequence = 3", *shifted("> 3", -1)], 3, "entry 3 is missing"),
        (["DELETE FROM entry WHERE sequence = 1", *shifted("> 1", -1)], 1, "entry 1 is missing"),
        (
            [
                "UPDATE entry SET sequence = 99 WHERE sequence = 2",
                "UPDATE entry SET sequence = 2 WHERE sequence = 4",
                "UPDATE entry SET sequence = 4 WHERE sequence = 99",
            ],
            2,
            "reordered: what stands at 2 was written as entry 4",
        ),
        ([*shifted("> 2", 1), FORGED.format(3)], 3, "entry 3 was inserted"),
        ([FORGED.format(6)], 6, "entry 6 was edited"),
        ([FORGED.format(9)], 6, "entry 6 is missing"),
        (["PRAGMA ignore_check_constraints=1", FORGED.format(-4)], -4, "entry -4 was inserted"),
        (["UPDATE entry SET key = NULL", *shifted("> 2", 1), FORGED.format(3)], 1, "entry 1 was edited"),
    ],
)
def test_tampering_is_named(tmp_path: Path, statements: list[str], sequence: int, words: str) -> None:
    path = tmp_path / "l.sqlite"
    ledger_at(path, 5).close()
    tamper(path, *statements)
    with Ledger(path, read_only=True) as ledger:
        verification = ledger.verify()
    assert not verification.ok
    assert (verification.sequence, verification.entries) == (sequence, max(sequence - 1, 0))
    assert words in verification.problem


def rehashed(path: Path, place: int, body: str) -> None:
    """A forger who knows the format: the entry is replaced together with its hash."""
    connection = sqlite3.connect(path)
    row = connection.execute("SELECT * FROM entry WHERE sequence = ?", (place,)).fetchone()
    names = ("sequence", "time", "kind", "key", "body", "previous")
    forged = digest(dict(zip(names, row, strict=False)) | {"body": json.loads(body)})
    connection.close()
    tamper(path, f"UPDATE entry SET body = '{body}', hash = '{forged}' WHERE sequence = {place}")


def test_an_entry_replaced_together_with_its_hash_is_named_by_its_successor(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    ledger_at(path, 5).close()
    rehashed(path, 3, '{"number":7}')
    with Ledger(path, read_only=True) as ledger:
        verification = ledger.verify()
    assert (verification.ok, verification.sequence) == (False, 3)
    assert "entry 3 was replaced" in verification.problem


def test_a_copy_of_an_entry_is_an_insertion(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    with ledger_at(path) as ledger:
        ledger.extend([("note", {"number": number}, None) for number in range(5)])
    copy = "INSERT INTO entry SELECT 4, time, kind, key, body, previous, hash FROM entry WHERE sequence = 3"
    tamper(path, *shifted("> 3", 1), copy)
    with Ledger(path, read_only=True) as ledger:
        verification = ledger.verify()
    assert verification.sequence == 4
    assert "inserted" in verification.problem


def test_a_cut_tail_is_seen_by_who_kept_the_head(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    with ledger_at(path, 5) as ledger:
        kept = ledger.head()
    tamper(path, "DELETE FROM entry WHERE sequence > 3")
    with Ledger(path, read_only=True) as ledger:
        assert ledger.verify().ok  # the chain alone cannot know
        verification = ledger.verify(expected_head=kept)
    assert (verification.ok, verification.sequence) == (False, 4)
    assert "the tail up to entry 5 was cut off" in verification.problem


def test_a_rewritten_tail_is_seen_by_who_kept_the_head_and_growth_is_not_a_rewrite(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    with ledger_at(path, 5) as ledger:
        kept = ledger.head()
        ledger.append("note", {})
        assert ledger.verify(expected_head=kept).ok
    tamper(path, "DELETE FROM entry WHERE sequence > 4")
    with Ledger(path) as ledger:
        ledger.extend([("note", {"number": 55}, None), ("note", {}, None)])
        assert ledger.verify().ok
        verification = ledger.verify(expected_head=kept)
    assert (verification.ok, verification.sequence) == (False, 5)
    assert "rewritten" in verification.problem


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entry SET body = '{}'",
        "DELETE FROM entry",
        "DELETE FROM entry WHERE sequence = 3",
        "INSERT OR REPLACE INTO entry VALUES (2, '', '', NULL, '{}', '', '')",
        "INSERT OR REPLACE INTO entry VALUES (4, '', '', 'n1', '{}', '', '')",
        "INSERT INTO entry VALUES (9, '', '', NULL, '{}', '', '')",
        "INSERT INTO entry VALUES (NULL, '', '', NULL, '{}', '', '')",
        "REPLACE INTO entry SELECT 1, time, kind, key, '{}', previous, hash FROM entry WHERE sequence = 1",
    ],
)
def test_plain_sql_cannot_change_the_past(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "l.sqlite"
    ledger_at(path, 3).close()
    connection = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute(statement)
    connection.close()
    with Ledger(path) as ledger:
        assert ledger.verify().ok
        assert ledger.count() == 3


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TRIGGER entry_stays",
        "DROP INDEX entry_key",
        "CREATE TRIGGER spy AFTER INSERT ON entry BEGIN SELECT 1; END",
        "CREATE TABLE extra (x)",
    ],
)
def test_an_altered_schema_may_be_read_but_not_written(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "l.sqlite"
    ledger_at(path, 3).close()
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.close()
    with pytest.raises(LedgerError, match=r"schema of .* was altered"):
        Ledger(path)
    with Ledger(path, read_only=True) as ledger:
        verification = ledger.verify()
    assert (verification.ok, verification.entries, verification.sequence) == (False, 3, None)


def test_a_flipped_byte_anywhere_in_the_entries_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    ledger_at(path, 5).close()
    whole = path.read_bytes()
    copy = tmp_path / "copy.sqlite"
    for text in (b'"number":4', b"2026-01-02T12", b"note", b"n5"):
        start = whole.index(text)
        for position in range(start, start + len(text)):
            altered = bytearray(whole)
            altered[position] ^= 1
            copy.write_bytes(altered)
            with Ledger(copy, read_only=True) as ledger:
                assert not ledger.verify().ok, (text, position)


# Bad files end in one clear sentence


def test_a_file_that_is_not_a_ledger_is_refused_and_left_alone(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("these are my notes, not a database" * 50)
    foreign = tmp_path / "foreign.sqlite"
    with sqlite3.connect(foreign) as connection:
        connection.execute("CREATE TABLE entry (a)")
    connection.close()
    for path in (text, foreign):
        before = path.read_bytes()
        for read_only in (False, True):
            with pytest.raises(LedgerError, match="is not a ledger"):
                Ledger(path, read_only=read_only)
        assert path.read_bytes() == before
        assert sorted(tmp_path.iterdir()) == [foreign, text]


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    ledger_at(path, 1).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version=2")
    connection.close()
    with pytest.raises(LedgerError, match="format 2"):
        Ledger(path)


def test_missing_and_impossible_paths(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="There is no ledger"):
        Ledger(tmp_path / "none.sqlite", read_only=True)
    assert not (tmp_path / "none.sqlite").exists()
    with pytest.raises(LedgerError, match="is a folder"):
        Ledger(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(LedgerError, match="cannot be opened"):
        Ledger(tmp_path / "file" / "l.sqlite")
    (tmp_path / "empty.sqlite").touch()
    with pytest.raises(LedgerError, match="not a ledger"):
        Ledger(tmp_path / "empty.sqlite", read_only=True)


@pytest.mark.parametrize("start", [4_096, 8_192, 60_000])
def test_a_damaged_file_is_reported_not_believed(tmp_path: Path, start: int) -> None:
    path = tmp_path / "l.sqlite"
    ledger_at(path, 500).close()
    whole = bytearray(path.read_bytes())
    whole[start : start + 4_096] = b"\xa5" * 4_096
    path.write_bytes(whole)
    with Ledger(path, read_only=True) as ledger:
        verification = ledger.verify()
    assert not verification.ok
    assert "damaged" in verification.problem or "altered" in verification.problem


def test_a_locked_ledger_says_so(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    ledger_at(path, 1).close()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with Ledger(path, timeout=0.05) as ledger:
        with pytest.raises(LedgerError, match="another process holds it"):
            ledger.append("note", {})
        other.execute("ROLLBACK")
        assert ledger.append("note", {}).sequence == 2
    other.close()


def test_a_full_disk_writes_nothing_and_the_ledger_goes_on_afterwards(tmp_path: Path) -> None:
    with ledger_at(tmp_path / "l.sqlite", 1) as ledger:
        connection = ledger._open
        assert connection is not None
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count={pages}")
        with pytest.raises(LedgerError, match="disk is full and nothing was written"):
            ledger.extend([("note", {"text": "x" * 5_000}, None) for _ in range(10)])
        assert ledger.count() == 1
        connection.execute("PRAGMA max_page_count=100000")
        assert ledger.append("note", {}).sequence == 2
        assert ledger.verify().ok


def test_a_closed_a_read_only_and_a_forked_ledger_refuse(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    ledger = ledger_at(path, 1)
    with Ledger(path, read_only=True) as auditor, pytest.raises(LedgerError, match="read-only"):
        auditor.append("note", {})
    ledger._owner += 1
    with pytest.raises(LedgerError, match="another process"):
        ledger.count()
    ledger._owner -= 1
    failures: list[str] = []

    def from_a_thread() -> None:
        try:
            ledger.count()
        except LedgerError as error:
            failures.append(str(error))

    thread = threading.Thread(target=from_a_thread)
    thread.start()
    thread.join()
    assert len(failures) == 1
    assert "thread" in failures[0]
    ledger.close()
    ledger.close()
    with pytest.raises(LedgerError, match="is closed"):
        ledger.append("note", {})


def test_an_auditor_reads_an_archived_copy_without_write_access(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "l.sqlite"
    ledger_at(path, 3).close()
    monkeypatch.setattr(os, "access", lambda *_: False)
    with Ledger(path, read_only=True) as ledger:
        assert ledger.verify().ok
    assert list(tmp_path.iterdir()) == [path]


def test_paths_with_odd_characters_are_taken_literally(tmp_path: Path) -> None:
    path = tmp_path / "a ? mode=memory & #1 %41.sqlite"
    ledger_at(path, 1).close()
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


# Several processes, and death in the middle


def append_many(path: Path, name: str, ready: Callable[[], object]) -> None:
    ready()
    with Ledger(path) as ledger:
        for number in range(60):
            ledger.append("note", {"from": name, "number": number}, key=f"{name}-{number}")
            ledger.append("shared", {"number": number}, key=f"shared-{number}")


def test_processes_append_at_once(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(3)
    workers = [context.Process(target=append_many, args=(path, name, barrier.wait)) for name in "abc"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    with Ledger(path, read_only=True) as ledger:
        assert ledger.verify(ledger.head()).ok
        assert (ledger.count("note"), ledger.count("shared")) == (180, 60)
        for name in "abc":
            mine = [entry.body["number"] for entry in ledger.entries("note") if entry.body["from"] == name]
            assert mine == list(range(60))


WRITER = """
import sys
from tradelib.ledger import Ledger
ledger = Ledger(sys.argv[1])
for number in range(100_000):
    if number % 3 == 2:
        ledger.extend([("batch", {"number": number, "part": part}, None) for part in range(4)])
    else:
        ledger.append("note", {"number": number}, key=str(number))
    print(ledger.head()[0], flush=True)
"""


def test_a_killed_writer_leaves_a_valid_chain_with_all_that_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    for pause in (0.0, 0.013, 0.031):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WRITER), str(path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(pause)
        process.send_signal(signal.SIGKILL)
        acknowledged = [line for line in process.stdout.read().split("\n")[:-1] if line]
        process.wait()
        with Ledger(path) as ledger:
            assert ledger.verify(ledger.head()).ok
            assert ledger.head()[0] >= int(acknowledged[-1] if acknowledged else 1)
            assert ledger.count("batch") % 4 == 0
            ledger.append("resumed", {})
