"""The same chain in a real PostgreSQL: same hashes, same guards, many runners at once."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.promotion.servers import postgres
from tradelib.errors import LedgerError
from tradelib.ledger import Ledger, journal, open_journal
from tradelib.ledger.postgres import PostgresLedger

pytestmark = [pytest.mark.integration, pytest.mark.slow]

TIME = "2018-01-02T00:00:00+00:00"
BAR = {"time": TIME, "open": 1.0, "high": 2.0, "low": 0.5, "close": 1.5, "volume": 10.0}
NOON = datetime(2020, 1, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a database on a server of its own."""
    with postgres() as address:
        yield address.replace("+psycopg", "")


@pytest.fixture
def address(server: str, request: pytest.FixtureRequest) -> str:
    """A journal that nobody has used."""
    name = "".join(letter for letter in request.node.name.lower() if letter.isalnum())[-40:]
    return f"{server}&journal=j{name}"


def raw(address: str, statement: str) -> Any:
    """Somebody with a database client of his own."""
    import psycopg

    server, _, name = address.partition("&journal=")
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'SET search_path TO "journal_{name}"')
        return connection.execute(statement)


def test_the_chain_is_the_one_that_a_file_would_hold(address: str, tmp_path: Path) -> None:
    said: list[tuple[str, dict[str, Any]]] = [
        (journal.BAR, BAR),
        (journal.HALT, {"reason": "ümläut 'quoted' \x00 %s ?"}),
        (journal.STOP, {"reason": ""}),
    ]
    with open_journal(address, clock=lambda: NOON) as log, open_journal(tmp_path / "j", clock=lambda: NOON) as file:
        for kind, body in said:
            journal.record(log, kind, **body)
            journal.record(file, kind, **body)
        assert isinstance(log, PostgresLedger)
        assert list(log.entries()) == list(file.entries())
        assert log.head() == file.head()
        assert journal.record(log, journal.BAR, **BAR).duplicate
        with pytest.raises(LedgerError, match="is taken"):
            journal.record(log, journal.BAR, **BAR | {"close": 1.6})
        assert (log.count(), log.count(journal.BAR), log.last(journal.HALT)) == (3, 1, file.last(journal.HALT))
        assert log.starting("bar:") == file.starting("bar:")
        assert log.verify(file.head()).ok


def test_an_entry_can_neither_be_changed_nor_taken_away(address: str) -> None:
    import psycopg

    with open_journal(address) as log:
        journal.record(log, journal.HALT, reason="test")
    for statement in (
        "UPDATE entry SET body = '{}'",
        "DELETE FROM entry",
        "TRUNCATE entry",
        "INSERT INTO entry VALUES (7, '', '', NULL, '{}', '', '')",
    ):
        with pytest.raises(psycopg.Error, match="append-only"):
            raw(address, statement)


def test_who_takes_the_guards_away_is_found_out(address: str) -> None:
    with open_journal(address) as log:
        for reason in ("one", "two", "three"):
            journal.record(log, journal.HALT, reason=reason)
    raw(address, "ALTER TABLE entry DISABLE TRIGGER ALL")
    raw(address, "UPDATE entry SET body = replace(body, 'two', 'six') WHERE sequence = 2")
    with pytest.raises(LedgerError, match=r"was altered \(entry_is_final, entry_stays\)"):
        open_journal(address)
    with open_journal(address, read_only=True) as auditor:
        assert auditor.verify().sequence == 2
        assert auditor.verify().problem == "entry 2 was edited: its content does not match its hash"


def _append(address: str, writer: int, count: int) -> None:
    with open_journal(address) as log:
        for number in range(count):
            journal.record(log, journal.HALT, reason=f"{writer}/{number}")


def test_many_processes_append_to_one_chain(address: str) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_append, args=(address, writer, 20)) for writer in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    with open_journal(address, read_only=True) as log:
        told = [body["reason"] for body in journal.halts(log)]
        assert sorted(told) == sorted(f"{writer}/{number}" for writer in range(3) for number in range(20))
        assert log.verify().ok


def test_journals_of_one_database_do_not_mix_and_one_runner_holds_each(address: str) -> None:
    with open_journal(address) as one, open_journal(address + "_other") as other:
        journal.record(one, journal.HALT, reason="one")
        assert (one.count(), other.count()) == (1, 0)
        assert isinstance(one, PostgresLedger)
        one.hold()
        with open_journal(address) as second:
            assert isinstance(second, PostgresLedger)
            with pytest.raises(LedgerError, match="Another runner writes"):
                second.hold()
    with open_journal(address) as later:
        assert isinstance(later, PostgresLedger)
        later.hold()


def test_a_server_that_went_away_is_a_refusal(address: str) -> None:
    with open_journal(address) as log:
        log.append(journal.HALT, {"reason": "before"})
        assert log._open is not None
        raw(address, f"SELECT pg_terminate_backend({log._open.info.backend_pid})")  # type: ignore[attr-defined]
        with pytest.raises(LedgerError, match="in PostgreSQL"):
            log.append(journal.HALT, {"reason": "after"})
    with open_journal(address) as log:
        assert [body["reason"] for body in journal.halts(log)] == ["before"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("postgresql://host/db", "reads postgresql://"),
        ("postgresql://host/db?journal=Upper", "reads postgresql://"),
        ("postgresql://user:secret@host/db?journal=a", "holds a password"),
        ("postgresql:///db?host=/nowhere&journal=a", "in PostgreSQL: OperationalError"),
    ],
)
def test_an_address_that_leads_nowhere_is_refused_without_telling_secrets(wrong: str, said: str) -> None:
    with pytest.raises(LedgerError, match=said) as caught:
        open_journal(wrong)
    assert "secret" not in str(caught.value)


def test_a_missing_journal_is_not_made_by_a_reader(address: str) -> None:
    with pytest.raises(LedgerError, match="There is no journal"):
        open_journal(address, read_only=True)


def test_a_plain_path_is_a_file(tmp_path: Path) -> None:
    with open_journal(tmp_path / "postgres") as log:
        assert not isinstance(log, PostgresLedger)
        assert isinstance(log, Ledger)
