"""A paper run from end to end: a sealed bundle, the real client, a real venue, and the backtest beside it."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from pathlib import Path

import pytest

from tests.live.faults import Fault, FaultProxy
from tests.live.shapes import AMBIGUOUS
from tests.live.support import GOLDEN, HASTE, Sealed, exchange, read, seal, synthetic_bars, venue
from tradelib.backtest.costs import Costs, Market
from tradelib.backtest.engine import evaluate
from tradelib.errors import RunnerError
from tradelib.live import Runner, RunSummary, Step, run_bundle
from tradelib.live.dialects import DIALECTS

pytestmark = pytest.mark.integration

BARS = 60


def trade(sealed: Sealed, url: str, path: Path, last: int, **options: object) -> RunSummary:
    """Run until bar `last` of the tape is decided."""
    until = sealed.bars.index[last].isoformat()
    settings = {"trust": sealed.trust, "until": until, "patience": HASTE, **options}
    return run_bundle(sealed.bundle.path, venue_url=url, journal_path=path, **settings)


@pytest.mark.parametrize("lots_per_unit", [1024.0, 100_000.0])
@pytest.mark.parametrize("calendar", ["24/7", "XNYS"])
def test_a_paper_run_equals_the_backtest_to_the_last_bit(tmp_path: Path, calendar: str, lots_per_unit: float) -> None:
    sealed = seal(tmp_path, synthetic_bars(calendar=calendar), lots_per_unit=lots_per_unit)
    terms = sealed.bundle.execution
    with venue(exchange(sealed)) as served:
        summary = trade(sealed, served.url, tmp_path / "journal.sqlite", GOLDEN + BARS - 1)
    result = evaluate(
        sealed.bundle.rule,
        sealed.bars.iloc[: GOLDEN + BARS],
        costs=Costs(fee_rate=terms.fee_rate, slippage=terms.slippage),
        market=Market(lots_per_unit=lots_per_unit, minimum_notional=terms.minimum_notional),
        cash=terms.cash,
        start=sealed.bars.index[GOLDEN],
    )
    equities = read(tmp_path / "journal.sqlite", "equity")
    assert (equities[0]["equity"], equities[0]["position"]) == (terms.cash, 0.0)
    assert [row["equity"] for row in equities[1:]] == result.equity.tolist()
    assert [row["time"] for row in equities[1:]] == [time.isoformat() for time in result.equity.index]
    decisions = read(tmp_path / "journal.sqlite", "decision")
    weights = result.decisions["target_weight"].iloc[GOLDEN - 1 :]
    assert [row["target_weight"] for row in decisions] == weights.tolist()
    filled = result.orders[result.orders["status"] == "filled"]
    orders = read(tmp_path / "journal.sqlite", "order")[: len(filled)]
    assert len(filled) > 10
    assert [row["quantity"] for row in orders] == filled["quantity"].tolist()
    assert [row["price"] for row in orders] == filled["price"].tolist()
    assert [row["fee"] for row in orders] == filled["fee"].tolist()
    assert (summary.decisions, summary.bars, summary.halted) == (BARS + 1, BARS + 1, None)


def test_a_restart_at_every_bar_decides_as_one_run(sealed: Sealed, tmp_path: Path) -> None:
    last = GOLDEN + 29
    with venue(exchange(sealed)) as served:
        trade(sealed, served.url, tmp_path / "whole", last)
    with venue(exchange(sealed)) as served:
        for stop in range(GOLDEN - 1, last + 1):
            until = sealed.bars.index[stop].isoformat()
            part = Runner(sealed.bundle, venue_url=served.url, journal_path=tmp_path / "parts", until=until)
            asyncio.run(part.run())
    for kind in ("bar", "decision", "intent", "order", "equity"):
        assert read(tmp_path / "parts", kind) == read(tmp_path / "whole", kind)
    assert len(read(tmp_path / "parts", "start")) == 31


def test_a_run_that_is_already_over_does_nothing(sealed: Sealed, tmp_path: Path) -> None:
    with venue(exchange(sealed)) as served:
        first = trade(sealed, served.url, tmp_path / "j", GOLDEN + 5)
        again = trade(sealed, served.url, tmp_path / "j", GOLDEN + 3)
    assert replace(again, head=first.head, stopped="", decision_ms_median=None, decision_ms_p99=None) == replace(
        first, stopped="", decision_ms_median=None, decision_ms_p99=None
    )


def test_a_position_that_is_not_what_the_journal_ended_with_is_not_traded_on(sealed: Sealed, tmp_path: Path) -> None:
    with venue(exchange(sealed)) as served:
        trade(sealed, served.url, tmp_path / "whole", GOLDEN + 40)
    held = [row["position"] for row in read(tmp_path / "whole", "equity")]
    stop = GOLDEN - 1 + next(number for number in range(10, 40) if held[number] > 0.0 and held[number + 1] > 0.0)
    with venue(exchange(sealed)) as served:
        trade(sealed, served.url, tmp_path / "j", stop)
    with venue(exchange(sealed, start=stop + 2)) as served, pytest.raises(RunnerError, match="the venue holds 0"):
        trade(sealed, served.url, tmp_path / "j", GOLDEN + 40)


def test_without_until_a_paper_run_ends_with_the_recording(sealed: Sealed, tmp_path: Path) -> None:
    with venue(exchange(sealed, start=len(sealed.bars) - 10)) as served:
        summary = trade(sealed, served.url, tmp_path / "j", -1, until=None)
    assert summary.stopped == "the venue closed the market"
    assert summary.last_decision == sealed.bars.index[-1].isoformat()


def test_bars_that_closed_while_the_runner_was_away_are_kept_but_not_traded(sealed: Sealed, tmp_path: Path) -> None:
    paper = exchange(sealed)
    with venue(paper) as served:
        trade(sealed, served.url, tmp_path / "j", GOLDEN + 5)
        paper.step(4)
        trade(sealed, served.url, tmp_path / "j", GOLDEN + 15)
    bars = [row["time"] for row in read(tmp_path / "j", "bar")]
    decided = [row["time"] for row in read(tmp_path / "j", "decision")]
    assert bars == [time.isoformat() for time in sealed.bars.index[GOLDEN - 1 : GOLDEN + 16]]
    missed = {time.isoformat() for time in sealed.bars.index[GOLDEN + 6 : GOLDEN + 9]}
    assert set(bars) - set(decided) == missed


def test_a_run_that_starts_late_journals_the_bars_since_the_golden_window(sealed: Sealed, tmp_path: Path) -> None:
    with venue(exchange(sealed, start=GOLDEN + 20)) as served:
        summary = trade(sealed, served.url, tmp_path / "j", GOLDEN + 25)
    assert (summary.bars, summary.decisions) == (26, 7)
    assert summary.first_decision == sealed.bars.index[GOLDEN + 19].isoformat()


def test_progress_is_told_bar_by_bar(sealed: Sealed, tmp_path: Path) -> None:
    steps: list[Step] = []
    with venue(exchange(sealed)) as served:
        summary = trade(sealed, served.url, tmp_path / "j", GOLDEN + 9, on_progress=steps.append)
    assert [step.time for step in steps] == [row["time"] for row in read(tmp_path / "j", "decision")]
    assert {step.status for step in steps} == {None, "filled"}
    assert summary.as_dict()["final_equity"] == steps[-1].equity
    assert summary.stopped.startswith("until 2020-04-19")


def test_a_bar_that_changed_since_the_last_run_is_not_traded_on(sealed: Sealed, tmp_path: Path) -> None:
    with venue(exchange(sealed)) as served:
        trade(sealed, served.url, tmp_path / "j", GOLDEN + 5)
    revised = sealed.bars.copy()
    revised.attrs = dict(sealed.bars.attrs)
    revised.iloc[GOLDEN + 2, 4] += 1.0
    with (
        venue(exchange(sealed, start=GOLDEN + 6, bars=revised)) as served,
        pytest.raises(RunnerError, match=r"2020-04-12.* was journalled as"),
    ):
        trade(sealed, served.url, tmp_path / "j", GOLDEN + 9)
    assert "was journalled as" in read(tmp_path / "j", "halt")[0]["reason"]


def test_market_data_that_differs_from_the_golden_bars_is_refused(sealed: Sealed, tmp_path: Path) -> None:
    other = synthetic_bars(seed=8)
    with (
        venue(exchange(sealed, bars=other)) as served,
        pytest.raises(RunnerError, match=r"the venue says open .*, the bundle says"),
    ):
        trade(sealed, served.url, tmp_path / "j", GOLDEN + 9)


def test_orders_that_the_venue_rejects_are_booked_and_the_run_goes_on(sealed: Sealed, tmp_path: Path) -> None:
    paper = exchange(sealed)
    paper.cash = 0.0
    with venue(paper) as served:
        poor = trade(sealed, served.url, tmp_path / "poor", GOLDEN + 9)
    assert (poor.decisions, poor.orders, poor.final_equity) == (11, 0, 0.0)
    paper = exchange(sealed)
    paper.markets["BTCUSDT"] = replace(paper.markets["BTCUSDT"], minimum_notional=1e9)
    with venue(paper) as served:
        summary = trade(sealed, served.url, tmp_path / "j", GOLDEN + 9)
    assert (summary.decisions, summary.filled) == (11, 0)
    assert summary.rejected == summary.orders > 0
    assert "-1013" in read(tmp_path / "j", "order")[0]["reason"]


def test_random_faults_change_nothing_but_the_time(
    sealed: Sealed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DIALECTS, "binance", replace(DIALECTS["binance"], clock_margin=0.0))
    with venue(exchange(sealed)) as served:
        trade(sealed, served.url, tmp_path / "clean", GOLDEN + 39)
    numbers = random.Random(11)
    shapes = [shape for name, shape in AMBIGUOUS.items() if name not in ("hang", "redirect")]

    def plan(_: str, path: str) -> Fault | None:
        if numbers.random() > 0.15 or path == "/api/v3/exchangeInfo":
            return None
        return Fault("random", numbers.choice(shapes), delivered=numbers.random() < 0.5)

    haste = replace(HASTE, attempts=12, sends=6, receive_window=0.05)
    paper = exchange(sealed)
    with venue(paper) as served, FaultProxy(served.url, plan) as proxy:
        trade(sealed, proxy.url, tmp_path / "faulty", GOLDEN + 39, patience=haste)
    for kind in ("bar", "decision", "intent", "equity"):
        assert read(tmp_path / "faulty", kind) == read(tmp_path / "clean", kind)
    names = [order.client_order_id for order in paper.orders]
    assert len(set(names)) == len(names) == len(read(tmp_path / "clean", "intent"))
    final = [row for row in read(tmp_path / "faulty", "order") if row["status"] != "unknown"]
    plain = ("client_order_id", "status", "quantity", "price")
    assert [[row[name] for name in plain] for row in final] == [
        [row[name] for name in plain] for row in read(tmp_path / "clean", "order")
    ]
    assert len(read(tmp_path / "faulty", "order")) > len(final)


def test_a_notebook_whose_loop_is_running_may_call_it(sealed: Sealed, tmp_path: Path) -> None:
    async def cell(url: str) -> RunSummary:
        return trade(sealed, url, tmp_path / "j", GOLDEN + 3)

    with venue(exchange(sealed)) as served:
        assert asyncio.run(cell(served.url)).decisions == 5
