"""The runner's vocabulary: safe to say twice, impossible to say differently."""

from __future__ import annotations

from pathlib import Path

import pytest

from tradelib.errors import LedgerError
from tradelib.ledger import Ledger, open_journal
from tradelib.ledger import journal as j

TIME = "2018-01-02T00:00:00+00:00"
BAR = {"time": TIME, "open": 1.0, "high": 2.0, "low": 0.5, "close": 1.5, "volume": 10.0}
INTENT = {"time": TIME, "client_order_id": "c1", "symbol": "SPX/USD", "side": "buy", "quantity": "0.5"}
ORDER = {
    "client_order_id": "c1",
    "status": "unknown",
    "quantity": 0.0,
    "price": None,
    "fee": 0.0,
    "reason": "timeout",
    "venue_order_id": None,
}


def test_each_kind_happens_once_under_its_key(tmp_path: Path) -> None:
    with open_journal(tmp_path / "j.sqlite") as journal:
        assert j.record(journal, j.BAR, **BAR).key == f"bar:{TIME}"
        assert j.record(journal, j.INTENT, **INTENT).key == "intent:c1"
        assert j.record(journal, j.ORDER, **ORDER).key == "order:c1:unknown"
        assert j.record(journal, j.HALT, reason="test").key is None
        assert j.record(journal, j.BAR, **BAR).duplicate
        with pytest.raises(LedgerError, match="is taken"):
            j.record(journal, j.BAR, **BAR | {"close": 1.6})
        assert j.bars(journal) == [BAR]
        assert j.halts(journal) == [{"reason": "test"}]
        assert journal.count() == 4
        assert journal.verify().ok


def test_an_intent_stays_unresolved_until_a_final_status(tmp_path: Path) -> None:
    with open_journal(tmp_path / "j.sqlite") as journal:
        j.record(journal, j.INTENT, **INTENT)
        assert j.unresolved(journal) == [INTENT]
        j.record(journal, j.ORDER, **ORDER)
        j.record(journal, j.ORDER, **ORDER | {"status": "open"})
        assert j.unresolved(journal) == [INTENT]
        j.record(journal, j.ORDER, **ORDER | {"status": "filled", "quantity": 0.5, "price": 1.5})
        assert j.unresolved(journal) == []
        assert [order["status"] for order in j.orders(journal)] == ["unknown", "open", "filled"]


def test_what_is_not_in_the_vocabulary_is_refused(tmp_path: Path) -> None:
    with open_journal(tmp_path / "j.sqlite") as journal:
        with pytest.raises(LedgerError, match="cannot have the status 'done'"):
            j.record(journal, j.ORDER, **ORDER | {"status": "done"})
        with pytest.raises(LedgerError, match="lacks 'client_order_id'"):
            j.record(journal, j.INTENT, time=TIME)
        with pytest.raises(LedgerError, match="lacks 'reason'"):
            j.record(journal, j.STOP)
        with pytest.raises(LedgerError, match="Did you mean 'decision'"):
            j.record(journal, "decison", time=TIME)
        assert journal.count() == 0


def test_every_kind_can_be_read_back_as_plain_dicts(tmp_path: Path) -> None:
    readers = {
        j.START: j.starts,
        j.BAR: j.bars,
        j.DECISION: j.decisions,
        j.INTENT: j.intents,
        j.ORDER: j.orders,
        j.EQUITY: j.equities,
        j.HALT: j.halts,
    }
    with open_journal(tmp_path / "j.sqlite") as journal:
        for kind, fields in j.VOCABULARY.items():
            j.record(journal, kind, **dict.fromkeys(fields, None) | ({"status": "open"} if kind == j.ORDER else {}))
            if kind in readers:
                assert [set(body) for body in readers[kind](journal)] == [set(fields)]
    with open_journal(tmp_path / "j.sqlite", read_only=True) as auditor:
        assert auditor.verify().ok
        assert auditor.count() == len(j.VOCABULARY)


def test_how_an_order_stands_is_its_final_word_or_else_its_newest(tmp_path: Path) -> None:
    with open_journal(tmp_path / "j.sqlite") as journal:
        for name, told in {
            "a": ["open", "partially_filled"],
            "b": ["unknown", "filled"],
            "c": ["open", "canceled"],
        }.items():
            j.record(journal, j.INTENT, **INTENT | {"client_order_id": name})
            for status in told:
                j.record(journal, j.ORDER, **ORDER | {"client_order_id": name, "status": status})
        j.record(journal, j.INTENT, **INTENT | {"client_order_id": "d"})
        standing = j.standing(journal)
        assert {name: body["status"] for name, body in standing.items()} == {
            "a": "partially_filled",
            "b": "filled",
            "c": "canceled",
        }
        assert all(j.standing_of(journal, name) == standing.get(name) for name in "abcd")
        assert [intent["client_order_id"] for intent in j.working(journal)] == ["a"]
        assert [intent["client_order_id"] for intent in j.unresolved(journal)] == ["a", "d"]


def test_a_fill_is_written_once_however_often_it_is_told(tmp_path: Path) -> None:
    fill = dict.fromkeys(j.VOCABULARY[j.FILL], None) | {"client_order_id": "c1", "trade_id": "7", "quantity": 0.5}
    with open_journal(tmp_path / "j.sqlite") as journal:
        assert j.record(journal, j.FILL, **fill).key == "fill:c1:7"
        assert j.record(journal, j.FILL, **fill).duplicate
        j.record(journal, j.FILL, **fill | {"client_order_id": "c10"})  # another order of the same trade, by ourselves
        assert [entry.body["client_order_id"] for entry in journal.starting("fill:c1:")] == ["c1"]
        assert len(j.fills(journal)) == 2


def test_the_newest_word_about_a_latch_holds(tmp_path: Path) -> None:
    latch = {"scope": "symbol", "subject": "BTC/USDT", "engaged": True, "reason": "test", "by": "reconciliation"}
    with open_journal(tmp_path / "j.sqlite") as journal:
        j.record(journal, j.LATCH, **latch)
        j.record(journal, j.LATCH, **latch | {"scope": "account", "subject": ""})
        j.record(journal, j.LATCH, **latch | {"engaged": False, "by": "somebody"})
        engaged = {place: body["engaged"] for place, body in j.latches(journal).items()}
        assert engaged == {("symbol", "BTC/USDT"): False, ("account", ""): True}


def test_a_journal_of_an_older_version_is_read_and_continued(tmp_path: Path) -> None:
    """Its orders have no `filled_at`, its fills stand in its orders, its intents are market orders."""
    old = {
        name: j.VOCABULARY[name] for name in (j.START, j.BAR, j.DECISION, j.INTENT, j.ORDER, j.EQUITY, j.HALT, j.STOP)
    }
    with Ledger(tmp_path / "j.sqlite", vocabulary=old) as journal:
        journal.append(j.BAR, BAR, f"bar:{TIME}")
        journal.append(j.INTENT, INTENT, "intent:c1")
        journal.append(j.ORDER, ORDER, "order:c1:unknown")
        head = journal.head()
    with open_journal(tmp_path / "j.sqlite") as journal:
        assert j.unresolved(journal) == [INTENT]
        assert j.record(journal, j.INTENT, **INTENT).duplicate
        j.record(journal, j.CANCEL, client_order_id="c1", reason="test")
        j.record(journal, j.ORDER, **ORDER | {"status": "canceled", "filled_at": TIME})
        assert journal.verify(head).ok
        assert j.unresolved(journal) == []
