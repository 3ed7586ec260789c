"""Paper against research: equal to the last bit, or the first difference is named with its cause."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.promotion.support import Entries, paper_entries, synthetic_bars, write_journal
from tradelib.data.bars import make_bars
from tradelib.errors import DataError, LedgerError
from tradelib.ledger import journal
from tradelib.promotion.parity import compare_paper
from tradelib.promotion.promote import Promotion


@pytest.fixture(scope="module")
def entries(promotion: Promotion, bars: pd.DataFrame) -> Entries:
    return paper_entries(promotion.bundle, bars)


def change_one(entries: Entries, kind: str, number: int, **changes: Any) -> tuple[Entries, dict[str, Any]]:
    """`entries` with one body of `kind` changed; and that body as it was."""
    place = [index for index, (found, _) in enumerate(entries) if found == kind][number]
    before = entries[place][1]
    return [*entries[:place], (kind, {**before, **changes}), *entries[place + 1 :]], before


def without(entries: Entries, kind: str, number: int) -> tuple[Entries, dict[str, Any]]:
    place = [index for index, (found, _) in enumerate(entries) if found == kind][number]
    return [*entries[:place], *entries[place + 1 :]], entries[place][1]


def decided_by(entries: Entries, order: dict[str, Any]) -> str:
    """Time of the bar that decided an order."""
    return next(
        body["time"]
        for kind, body in entries
        if kind == journal.INTENT and body["client_order_id"] == order["client_order_id"]
    )


def test_a_faultless_runner_equals_research(
    promotion: Promotion, bars: pd.DataFrame, entries: Entries, tmp_path: Path
) -> None:
    report = compare_paper(write_journal(tmp_path / "paper.sqlite", entries), promotion.bundle, bars)
    assert report.equal, report.summary()
    assert report.first_difference is None
    assert report.compared["decisions"] == report.compared["bars"] == 120
    assert report.compared["fills"] == report.compared["orders"] > 10
    assert (report.first, report.last) == (bars.index[199].isoformat(), bars.index[318].isoformat())
    assert report.paper_equity == report.research_equity
    assert report.summary().startswith("Paper equals research: 120 bars, 120 decisions")
    told = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert (told["equal"], told["differences"]) == (True, 0)
    shown = report.to_metrics()
    assert (shown["paper.equal"], shown["paper.differences"], shown["paper.bars"]) == (1.0, 0.0, 120.0)
    assert shown["paper.equity"] == shown["paper.research_equity"] == report.paper_equity


def test_no_trial_is_counted_and_the_journal_is_not_touched(
    promotion: Promotion, bars: pd.DataFrame, entries: Entries, tmp_path: Path, home: Path
) -> None:
    path = write_journal(tmp_path / "paper.sqlite", entries)
    before = path.read_bytes()
    compare_paper(path, promotion.bundle, bars)
    assert path.read_bytes() == before
    assert not (home / "trials.sqlite").exists()


PLANTED = {
    "data": (journal.BAR, "close", 123.25),
    "decision": (journal.DECISION, "target_weight", 0.25),
    "order": (journal.DECISION, "quantity", 17.5),
    "fill": (journal.ORDER, "price", 99.125),
    "fee": (journal.ORDER, "fee", 0.5),
    "account": (journal.EQUITY, "cash", 1.0),
}
FIELDS = {"order": "decided quantity", "fill": "fill price"}


@pytest.mark.parametrize("category", PLANTED)
def test_one_planted_deviation_is_named(
    category: str, promotion: Promotion, bars: pd.DataFrame, entries: Entries, tmp_path: Path
) -> None:
    kind, field, value = PLANTED[category]
    changed, before = change_one(entries, kind, 6, **{field: value})
    report = compare_paper(write_journal(tmp_path / "paper.sqlite", changed), promotion.bundle, bars)
    time = decided_by(entries, before) if kind == journal.ORDER else before["time"]
    assert not report.equal
    assert report.differences == ((time, category, FIELDS.get(category, field), value, before[field]),)
    assert report.by_category[category] == 1
    assert (report.to_metrics()["paper.equal"], report.to_metrics()[f"paper.differences.{category}"]) == (0.0, 1.0)
    assert f"at {time} ({category}): paper {value!r}, research {before[field]!r}" in report.summary()
    assert list(report.to_frame()["category"]) == [category]
    assert time in report._repr_html_()


def test_the_last_bit_counts(promotion: Promotion, bars: pd.DataFrame, entries: Entries, tmp_path: Path) -> None:
    _, before = change_one(entries, journal.EQUITY, 50)
    nearly = float(pd.Series([before["equity"]]).map(lambda value: value * (1 + 2**-52)).iloc[0])
    changed, _ = change_one(entries, journal.EQUITY, 50, equity=nearly)
    report = compare_paper(write_journal(tmp_path / "paper.sqlite", changed), promotion.bundle, bars)
    assert nearly != before["equity"]
    assert len(report.differences) == 1


@pytest.mark.parametrize(
    ("kind", "category", "field", "paper", "research"),
    [
        (journal.BAR, "data", "bar", "missing", "there"),
        (journal.DECISION, "decision", "decision", "missing", "there"),
        (journal.EQUITY, "account", "account", "missing", "there"),
        (journal.ORDER, "fill", "status", "no answer", "filled"),
    ],
)
def test_what_is_missing_is_a_difference(
    kind: str,
    category: str,
    field: str,
    paper: str,
    research: str,
    promotion: Promotion,
    bars: pd.DataFrame,
    entries: Entries,
    tmp_path: Path,
) -> None:
    changed, gone = without(entries, kind, 7)
    report = compare_paper(write_journal(tmp_path / "paper.sqlite", changed), promotion.bundle, bars)
    time = decided_by(entries, gone) if kind == journal.ORDER else gone["time"]
    assert report.first_difference == (time, category, field, paper, research)


def test_an_order_that_was_never_sent_or_rejected_is_a_difference(
    promotion: Promotion, bars: pd.DataFrame, entries: Entries, tmp_path: Path
) -> None:
    unsent, intent = without(entries, journal.INTENT, 3)
    first = compare_paper(write_journal(tmp_path / "a.sqlite", unsent), promotion.bundle, bars).first_difference
    assert first is not None
    assert (first.time, first.category, first.field, first.paper) == (intent["time"], "order", "sent quantity", 0.0)
    rejected, order = change_one(entries, journal.ORDER, 3, status="rejected", quantity=0.0, price=None, fee=0.0)
    report = compare_paper(write_journal(tmp_path / "b.sqlite", rejected), promotion.bundle, bars)
    assert report.first_difference == (decided_by(entries, order), "fill", "status", "rejected", "filled")


def test_a_bar_that_research_does_not_have_is_a_difference(
    promotion: Promotion, bars: pd.DataFrame, entries: Entries, tmp_path: Path
) -> None:
    extra = {**bars.iloc[250].to_dict(), "time": "2020-09-07T12:00:00+00:00"}
    changed = [
        *entries,
        (journal.BAR, extra),
        (journal.EQUITY, {"time": extra["time"], "cash": 1.0, "position": 0.0, "equity": 1.0}),
    ]
    report = compare_paper(write_journal(tmp_path / "paper.sqlite", changed), promotion.bundle, bars)
    assert report.differences == (
        (extra["time"], "data", "bar", "there", "missing"),
        (extra["time"], "decision", "decision", "there", "missing"),
    )


def test_the_first_difference_is_the_cause_not_a_consequence(
    promotion: Promotion, bars: pd.DataFrame, tmp_path: Path
) -> None:
    """Given a market in which one close differs, the runner goes its own way from there; the close is named."""
    frame = bars.copy()
    frame.iloc[230, frame.columns.get_loc("close")] *= 1.2
    frame.iloc[230, frame.columns.get_loc("high")] *= 1.3
    other = make_bars(frame)
    entries = paper_entries(promotion.bundle, other)
    report = compare_paper(write_journal(tmp_path / "paper.sqlite", entries), promotion.bundle, bars)
    assert report.first_difference is not None
    assert report.first_difference[:3] == (bars.index[230].isoformat(), "data", "high")
    assert sum(report.by_category.values()) == len(report.differences) > 10


def test_golden_bars_that_differ_from_the_data_are_named(
    promotion: Promotion, bars: pd.DataFrame, entries: Entries, tmp_path: Path
) -> None:
    frame = bars.copy()
    frame.iloc[150, frame.columns.get_loc("volume")] += 1.0
    report = compare_paper(write_journal(tmp_path / "p.sqlite", entries), promotion.bundle, make_bars(frame))
    assert report.first_difference is not None
    assert report.first_difference[:3] == (bars.index[150].isoformat(), "data", "volume")


@pytest.mark.parametrize("known", [319, 320], ids=["no bar after the last decision", "one bar after it"])
def test_the_last_order_is_compared_as_far_as_the_bars_reach(
    known: int, promotion: Promotion, bars: pd.DataFrame, entries: Entries, tmp_path: Path
) -> None:
    upto = _up_to_an_order(entries)
    path = write_journal(tmp_path / "paper.sqlite", upto)
    last = max(body["time"] for kind, body in upto if kind == journal.DECISION)
    reach = bars.loc[: pd.Timestamp(last) + pd.Timedelta(days=known - 319)]
    report = compare_paper(path, promotion.bundle, make_bars(reach))
    assert report.equal == (known == 319)  # the open order is pending in both, or filled in research only
    if known == 320:
        assert [found.category for found in report.differences] == ["fill"]


def _up_to_an_order(entries: Entries) -> Entries:
    """The journal of a runner that stopped with an order in the air."""
    intents = [index for index, (kind, body) in enumerate(entries) if kind == journal.INTENT]
    return entries[: intents[-1] + 1]


# -- journals that cannot be compared ------------------------------------------------------------------------------


def test_a_broken_chain_is_refused(promotion: Promotion, bars: pd.DataFrame, entries: Entries, tmp_path: Path) -> None:
    path = write_journal(tmp_path / "paper.sqlite", entries)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TRIGGER entry_is_final")
        connection.execute("UPDATE entry SET body = replace(body, '\"cash\":1', '\"cash\":2') WHERE sequence = 3")
    with pytest.raises(LedgerError, match="entry 3 was edited"):
        compare_paper(path, promotion.bundle, bars)


def test_journals_that_say_nothing_about_this_bundle_are_refused(
    promotion: Promotion, bars: pd.DataFrame, entries: Entries, tmp_path: Path
) -> None:
    strange, _ = change_one(entries, journal.START, 0, bundle_digest="f" * 64)
    with pytest.raises(LedgerError, match="belongs to the bundle ffffffffffff"):
        compare_paper(write_journal(tmp_path / "a.sqlite", strange), promotion.bundle, bars)
    with pytest.raises(LedgerError, match="names no bundle"):
        compare_paper(write_journal(tmp_path / "b.sqlite", entries[1:]), promotion.bundle, bars)
    with pytest.raises(LedgerError, match="holds no decision"):
        compare_paper(write_journal(tmp_path / "c.sqlite", entries[:1]), promotion.bundle, bars)
    with pytest.raises(LedgerError, match="There is no ledger"):
        compare_paper(tmp_path / "d.sqlite", promotion.bundle, bars)


def test_bars_that_do_not_cover_the_window_are_refused(
    promotion: Promotion, bars: pd.DataFrame, entries: Entries, tmp_path: Path
) -> None:
    path = write_journal(tmp_path / "paper.sqlite", entries)
    with pytest.raises(DataError, match="the runner's history at 2020-01-01"):
        compare_paper(path, promotion.bundle, bars.iloc[1:])
    with pytest.raises(DataError, match="no bar at the first decision"):
        compare_paper(path, promotion.bundle, bars.iloc[:199])
    with pytest.raises(DataError, match="columns must be"):
        compare_paper(path, promotion.bundle, synthetic_bars(320)[["open"]])
