"""The same chain in PostgreSQL, for several runners that keep their journals in one place.

Each journal is a schema of its own with one table `entry`: the same columns, the same canonical text, the same hashes
as in an SQLite file, so entries can be compared across both. Triggers refuse every change that is not an append; a
commit returns when it is on the server's disk. Writers of one journal take turns.

The address is PostgreSQL's own with the journal's name added: `postgresql://runner@host/trading?journal=trend_btc`.
The password belongs into PostgreSQL's own places (`PGPASSWORD`, `.pgpass`), never into an address.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, NoReturn
from urllib.parse import parse_qsl, urlencode, urlsplit

from tradelib.errors import LedgerError, require
from tradelib.ledger.chain import Ledger

__all__ = ["PostgresLedger", "is_address"]

_NAME = re.compile(r"[a-z][a-z0-9_]{0,49}")
_SCHEMES = ("postgresql", "postgres")

_TABLE = """CREATE TABLE entry (
  sequence BIGINT PRIMARY KEY CHECK (sequence > 0),
  time TEXT NOT NULL,
  kind TEXT NOT NULL,
  key TEXT COLLATE "C",
  body TEXT NOT NULL,
  previous TEXT NOT NULL,
  hash TEXT NOT NULL
)"""
_GUARD = """CREATE FUNCTION entry_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'INSERT' AND NEW.sequence = (SELECT coalesce(max(sequence), 0) + 1 FROM entry) THEN RETURN NEW; END IF;
  RAISE EXCEPTION 'the ledger is append-only: % is refused', TG_OP;
END $$"""
_SCHEMA = (
    _TABLE,
    "CREATE UNIQUE INDEX entry_key ON entry (key) WHERE key IS NOT NULL",
    "CREATE INDEX entry_kind ON entry (kind, sequence)",
    _GUARD,
    "CREATE TRIGGER entry_is_final BEFORE INSERT OR UPDATE OR DELETE ON entry "
    "FOR EACH ROW EXECUTE FUNCTION entry_guard()",
    "CREATE TRIGGER entry_stays BEFORE TRUNCATE ON entry FOR EACH STATEMENT EXECUTE FUNCTION entry_guard()",
)
_TRIGGERS = ("entry_is_final", "entry_stays")


class _Connection:
    """A connection that takes the queries of `Ledger`, which write `?` for a value."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def execute(self, query: str, values: Any = ()) -> Any:
        return self._connection.execute(query.replace("?", "%s"), tuple(values) or None)


class PostgresLedger(Ledger):
    """A ledger in the database at `address`; everything else as in `Ledger`. Needs the extra `server` (psycopg).

    `timeout`: seconds to wait for the server, and for another writer. Raises `LedgerError` where the address names no
    journal, the server cannot be reached, or the schema has lost a guard.
    """

    def __init__(
        self,
        address: str,
        *,
        clock: Callable[[], datetime] | None = None,
        vocabulary: Mapping[str, frozenset[str]] | None = None,
        read_only: bool = False,
        timeout: float = 30.0,
    ) -> None:
        self._address, self.name = _read_address(address)
        self._psycopg = require("psycopg", "server")
        super().__init__(
            f"postgresql:{self.name}", clock=clock, vocabulary=vocabulary, read_only=read_only, timeout=timeout
        )

    def __repr__(self) -> str:
        return f"PostgresLedger({self.name!r})"

    def hold(self) -> None:
        """Keep this journal for this connection alone until it is closed; `LedgerError` where another one holds it."""
        with self._database() as connection:
            key = f"tradelib.journal.{self.name}"
            held = connection.execute("SELECT pg_try_advisory_lock(hashtextextended(?, 0))", (key,)).fetchone()[0]
        if not held:
            raise LedgerError(f"Another runner writes the journal {self.name}: stop it, or give this one its own.")

    def _connect(self) -> None:
        options = f"-c statement_timeout={round(self._timeout * 1000)} -c synchronous_commit=on"
        try:
            self._open = self._psycopg.connect(
                self._address,
                autocommit=True,
                connect_timeout=max(1, round(self._timeout)),
                options=options,
                application_name="tradelib",
            )
        except self._psycopg.Error as error:
            self._fail(error)

    def _prepare(self) -> None:
        with self._database() as connection:
            there = connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = ?", (self._schema,)).fetchone()
            if there is None and self.read_only:
                raise LedgerError(f"There is no journal {self.name} in this database.")
            if there is None:
                self._create_schema(connection)
            connection.execute(f'SET search_path TO "{self._schema}"')
            if self.read_only:
                connection.execute("SET default_transaction_read_only TO on")
            altered = self._lost_guards(connection)
        if altered and not self.read_only:
            raise LedgerError(
                f"The schema of the journal {self.name} was altered ({', '.join(altered)}): its history is not "
                "protected. Open it with read_only=True and verify() before you trust it."
            )

    @property
    def _schema(self) -> str:
        return f"journal_{self.name}"

    def _create_schema(self, connection: Any) -> None:
        """Make schema and table; several runners may be about to."""
        connection.execute("BEGIN")
        try:
            connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('tradelib.journal', 0))")
            if connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = ?", (self._schema,)).fetchone() is None:
                connection.execute(f'CREATE SCHEMA "{self._schema}"')
                connection.execute(f'SET LOCAL search_path TO "{self._schema}"')
                for statement in _SCHEMA:
                    connection.execute(statement)
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise

    def _lost_guards(self, connection: Any) -> list[str]:
        query = "SELECT tgname FROM pg_trigger WHERE tgrelid = 'entry'::regclass AND tgenabled IN ('O', 'A')"
        there = {name for (name,) in connection.execute(query).fetchall()}
        return [name for name in _TRIGGERS if name not in there]

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        with self._database() as connection:
            connection.execute("BEGIN")
            try:
                connection.execute("LOCK TABLE entry IN SHARE ROW EXCLUSIVE MODE")  # one writer, any reader
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if not self._open_closed():
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _database(self) -> Iterator[Any]:
        """The open connection; what the driver raises inside the block becomes a `LedgerError`."""
        if os.getpid() != self._owner:
            raise LedgerError(f"Journal {self.name} was opened by another process: open it again in this one.")
        if self._open is None:
            raise LedgerError(f"Journal {self.name} is closed: open it again.")
        try:
            yield _Connection(self._open)
        except self._psycopg.Error as error:
            self._fail(error)

    def _open_closed(self) -> bool:
        connection: Any = self._open
        return connection is None or bool(connection.closed)

    def _fail(self, error: Exception) -> NoReturn:
        said = str(error).strip().splitlines()
        what = f"{type(error).__name__}: {said[0]}" if said else type(error).__name__
        raise LedgerError(f"Journal {self.name} in PostgreSQL: {what}") from error

    def _integrity(self) -> str:
        with self._database() as connection:
            altered = self._lost_guards(connection)
        return f"the schema was altered ({', '.join(altered)}): history was unprotected" if altered else ""


def is_address(place: object) -> bool:
    """Whether `place` is an address of PostgreSQL and no path."""
    return isinstance(place, str) and place.partition("://")[0] in _SCHEMES


def _read_address(address: str) -> tuple[str, str]:
    """PostgreSQL's own part of an address, and the journal's name."""
    parts = urlsplit(address)
    fields = parse_qsl(parts.query, keep_blank_values=True)
    names = [value for field, value in fields if field == "journal"]
    if not is_address(address) or len(names) != 1 or not _NAME.fullmatch(names[0]):
        raise LedgerError(
            "The address of a journal in PostgreSQL reads postgresql://user@host/database?journal=NAME; "
            "NAME begins with a letter and is made of a to z, 0 to 9 and _, at most 50 of them."
        )
    if parts.password:
        raise LedgerError("The address of a journal holds a password: put it into PGPASSWORD or ~/.pgpass instead.")
    rest = urlencode([(field, value) for field, value in fields if field != "journal"])
    return f"postgresql://{parts.netloc}{parts.path}" + (f"?{rest}" if rest else ""), names[0]
