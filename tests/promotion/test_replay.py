"""Replay: what a runner decided is decided again from its journal, bit for bit, or the first deviation is named."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.promotion.support import Entries, paper_entries, write_journal
from tradelib.errors import LedgerError
from tradelib.ledger import journal
from tradelib.promotion.promote import Promotion
from tradelib.promotion.replay import replay_equality, replay_journal


@pytest.fixture(scope="module")
def entries(promotion: Promotion, bars: pd.DataFrame) -> Entries:
    return paper_entries(promotion.bundle, bars)


def bodies(entries: Entries, kind: str) -> list[dict[str, Any]]:
    return [body for found, body in entries if found == kind]


def changed(kind: str, number: int, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Entries], Entries]:
    def plant(entries: Entries) -> Entries:
        place = [index for index, (found, _) in enumerate(entries) if found == kind][number]
        return [*entries[:place], (kind, {**entries[place][1], **change(entries[place][1])}), *entries[place + 1 :]]

    return plant


def test_a_faultless_journal_is_decided_again(promotion: Promotion, entries: Entries, tmp_path: Path) -> None:
    report = replay_journal(write_journal(tmp_path / "journal.sqlite", entries), promotion.bundle)
    assert report.equal, report.summary()
    assert (report.share, report.decisions, report.first_deviation) == (1.0, 120, None)
    assert report.summary().startswith("Replay equals the journal: 120 decisions and 16 orders from 2020-07-18")
    assert replay_equality(report).passed
    assert report.to_metrics() == {"replay.decisions": 120.0, "replay.equal_share": 1.0}
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False))["share"] == 1.0
    assert sum(body["quantity"] != 0.0 for body in bodies(entries, journal.DECISION)) > 10


def test_a_runner_that_was_interrupted_and_went_on_is_replayed_as_one(
    promotion: Promotion, entries: Entries, tmp_path: Path
) -> None:
    (start,) = [entry for entry in entries if entry[0] == journal.START]
    middle = [index for index, (kind, _) in enumerate(entries) if kind == journal.BAR][60]
    stopped = [*entries[:middle], (journal.STOP, {"reason": "signal SIGTERM"}), start, *entries[middle:]]
    assert replay_journal(write_journal(tmp_path / "journal.sqlite", stopped), promotion.bundle).equal


def up(value: float) -> float:
    return math.nextafter(value, math.inf)


PLANTED: dict[str, tuple[str, Callable[[dict[str, Any]], dict[str, Any]], str]] = {
    "one bit of a weight": (
        journal.DECISION,
        lambda body: {"target_weight": up(body["target_weight"])},
        "target_weight",
    ),
    "another signal": (journal.DECISION, lambda body: {"signal": 1.0 - body["signal"]}, "signal"),
    "no signal where there was one": (journal.DECISION, lambda body: {"signal": None}, "signal"),
    "another quantity": (journal.DECISION, lambda body: {"quantity": body["quantity"] + 0.001}, "quantity"),
    "another equity": (journal.DECISION, lambda body: {"equity": body["equity"] * 1.5}, "equity"),
    "another account": (journal.EQUITY, lambda body: {"cash": body["cash"] * 1.5}, "equity"),
    "more was sent than decided": (journal.INTENT, lambda body: {"quantity": "999"}, "quantity sent"),
    "sold instead of bought": (
        journal.INTENT,
        lambda body: {"side": "sell" if body["side"] == "buy" else "buy"},
        "quantity sent",
    ),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_named_with_both_sides(
    promotion: Promotion, entries: Entries, tmp_path: Path, fault: str
) -> None:
    kind, change, field = PLANTED[fault]
    traded = [body["time"] for body in bodies(entries, journal.INTENT) if body["side"] == "buy"][2]
    number = [body["time"] for body in bodies(entries, kind)].index(traded)
    path = write_journal(tmp_path / "journal.sqlite", entries, changed(kind, number, change))
    report = replay_journal(path, promotion.bundle)
    assert not report.equal
    assert report.first_deviation is not None
    assert (report.first_deviation.time, report.first_deviation.field) == (traded, field)
    assert report.equal_decisions == 119
    gate = replay_equality(report)
    assert not gate.passed
    assert f"It began with {field} at {traded}: " in gate.explanation


def test_a_changed_bar_changes_a_decision(promotion: Promotion, entries: Entries, tmp_path: Path) -> None:
    """A journal whose bars were exchanged does not explain its decisions."""
    plant = changed(journal.BAR, 30, lambda body: {"close": body["close"] / 2})
    report = replay_journal(write_journal(tmp_path / "journal.sqlite", entries, plant), promotion.bundle)
    assert not report.equal
    assert report.first_deviation is not None
    assert report.first_deviation.time >= bodies(entries, journal.BAR)[30]["time"]


def test_an_order_without_a_decision_is_seen(promotion: Promotion, entries: Entries, tmp_path: Path) -> None:
    stray = (journal.INTENT, {**bodies(entries, journal.INTENT)[0], "time": "2031-01-01T00:00:00+00:00"})
    stray[1]["client_order_id"] = "by-hand"
    report = replay_journal(write_journal(tmp_path / "journal.sqlite", [*entries, stray]), promotion.bundle)
    assert str(report.first_deviation) == (
        "order at 2031-01-01T00:00:00+00:00: 'there' in the journal, 'missing' when decided again"
    )
    assert report.share == 1.0
    assert not replay_equality(report).passed


def dropped(kind: str, number: int) -> Callable[[Entries], Entries]:
    def plant(entries: Entries) -> Entries:
        place = [index for index, (found, _) in enumerate(entries) if found == kind][number]
        return [*entries[:place], *entries[place + 1 :]]

    return plant


def only(kind: str) -> Callable[[Entries], Entries]:
    return lambda entries: [entry for entry in entries if entry[0] == kind]


REFUSED: dict[str, tuple[Callable[[Entries], Entries], str]] = {
    "of another bundle": (
        changed(journal.START, 0, lambda body: {"bundle_digest": "f" * 64}),
        "belongs to the bundle ffffffff",
    ),
    "of no bundle": (dropped(journal.START, 0), "names no bundle"),
    "without decisions": (only(journal.START), "holds no decision"),
    "a decision without its bar": (dropped(journal.BAR, 50), "holds a decision on 2020-09-06.* without its bar"),
    "another golden bar": (
        changed(journal.BAR, 0, lambda body: {"close": 1.0}),
        "not that of the bundle's golden window",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_replayed_is_refused(promotion: Promotion, entries: Entries, tmp_path: Path, case: str) -> None:
    plant, words = REFUSED[case]
    path = write_journal(tmp_path / "journal.sqlite", entries, plant)
    with pytest.raises(LedgerError, match=words):
        replay_journal(path, promotion.bundle)


def test_an_altered_journal_is_refused(promotion: Promotion, entries: Entries, tmp_path: Path) -> None:
    path = write_journal(tmp_path / "journal.sqlite", entries)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TRIGGER entry_is_final")
        connection.execute("UPDATE entry SET body = replace(body, 'buy', 'sell') WHERE kind = 'intent'")
    with pytest.raises(LedgerError, match="is not trustworthy"):
        replay_journal(path, promotion.bundle)
    with pytest.raises(LedgerError):
        replay_journal(tmp_path / "none.sqlite", promotion.bundle)
