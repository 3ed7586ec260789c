"""Orders that a schedule works: through a real venue, judged one by one, cut off by the next decision, restarted."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.live.support import GOLDEN, HASTE, Sealed, exchange, read, venue
from tests.live.test_fleet import settings
from tradelib.errors import ParameterError
from tradelib.ledger import journal, open_journal
from tradelib.live.execution import tickets
from tradelib.live.fleet import Fleet
from tradelib.live.journals import journal_path
from tradelib.live.orders import OrderDesk
from tradelib.live.quality import PARTS, execution_quality
from tradelib.live.settings import BundleSettings, GateSettings, RunnerSettings

pytestmark = pytest.mark.integration

LAST = GOLDEN + 25
DAY = 86_400
TWAP = {"name": "TWAP", "params": {"duration_seconds": 3600, "slices": 4}}


def told(sealed: Sealed, folder: Path, url: str, execution: dict[str, Any], **options: Any) -> RunnerSettings:
    """A runner of one bundle on the whole account, whose orders are worked as `execution` says."""
    made = settings([sealed], folder, url, (1.0,), **options)
    return made.replace(bundles=(BundleSettings(path=sealed.bundle.path, share=1.0, execution=execution),))


def run(sealed: Sealed, given: RunnerSettings, last: int = LAST) -> Path:
    """Trade until bar `last` is decided; the journal."""
    until = sealed.bars.index[last].isoformat()
    asyncio.run(Fleet([sealed.bundle], given, until=until, patience=HASTE).run())
    return journal_path(given.folder, sealed.bundle)


def children(path: Path) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """The intents of each instruction."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for intent in read(path, journal.INTENT):
        found[intent["time"], intent["leg"].partition("/")[0]].append(intent)
    return found


def held(path: Path) -> float:
    return float(sum(Decimal(repr(fill["quantity"])) for fill in read(path, journal.FILL)))


SCHEDULES: dict[str, dict[str, Any]] = {
    "TWAP": TWAP,
    "VWAP": {"name": "VWAP", "params": {"duration_seconds": 3600, "profile": [1.0, 2.0, 1.0]}},
    "POV": {"name": "POV", "params": {"duration_seconds": 3600, "rate": 0.5}},
    "MarketableLimit": {"name": "MarketableLimit", "params": {"allowance_bps": 50.0, "at_end": "cross"}},
    "Iceberg": {"name": "Iceberg", "params": {"duration_seconds": DAY / 2, "display": 0.25, "offset_bps": 20.0}},
    "PostOnly": {"name": "PostOnly", "params": {"duration_seconds": DAY / 2}},
}


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_schedule_fills_what_was_decided_and_the_books_stay_equal(
    sealed: Sealed, tmp_path: Path, schedule: str
) -> None:
    paper = exchange(sealed)
    with venue(paper) as served:
        path = run(sealed, told(sealed, tmp_path, served.url, SCHEDULES[schedule]))
    instructions = {(one["time"], one["leg"]): one for one in read(path, journal.INSTRUCTION)}
    worked = children(path)
    assert len(instructions) > 5
    for name, intents in worked.items():
        assert [one["leg"] for one in intents] == [f"{name[1]}/{number + 1}" for number in range(len(intents))]
    endings = read(path, journal.ENDING)
    assert [(one["time"], one["leg"]) for one in endings] == list(instructions)
    assert {one["status"] for one in endings} == {"filled"}
    for name, order in instructions.items():
        fills = [one for one in read(path, journal.FILL) if one["client_order_id"] in
                 {intent["client_order_id"] for intent in worked[name]}]  # fmt: skip
        assert abs(sum(Decimal(repr(fill["quantity"])) for fill in fills)) == Decimal(repr(order["quantity"]))
    assert held(path) == next(iter(paper.positions.values()))
    assert len(read(path, journal.ARRIVAL)) == sum(map(len, worked.values()))


def test_without_a_schedule_an_instruction_is_one_order(sealed: Sealed, tmp_path: Path) -> None:
    with venue(exchange(sealed)) as served:
        path = run(sealed, told(sealed, tmp_path, served.url, {}))
    assert [one["quantity"] for one in read(path, journal.INSTRUCTION)] == [
        float(one["quantity"]) for one in read(path, journal.INTENT)
    ]
    assert [one["client_order_id"] for one in read(path, journal.ARRIVAL)] == [
        one["client_order_id"] for one in read(path, journal.INTENT)
    ]
    assert read(path, journal.ENDING) == []


def test_the_next_decision_cuts_off_what_is_still_worked(sealed: Sealed, tmp_path: Path) -> None:
    """Six slices over twelve days, bars of one day: one slice is sent, the rest is decided anew."""
    slow = {"name": "TWAP", "params": {"duration_seconds": 6 * DAY, "slices": 3}}
    paper = exchange(sealed)
    with venue(paper) as served:
        path = run(sealed, told(sealed, tmp_path, served.url, slow))
    reasons = {one["reason"] for one in read(path, journal.ENDING) if one["status"] == "cancelled"}
    assert reasons == {"the next decision"}
    assert all(len(intents) == 1 for intents in children(path).values())
    assert held(path) == next(iter(paper.positions.values()))
    decided = {one["time"]: one["position"] for one in read(path, journal.DECISION)}
    assert max(decided.values()) > 0.0


@pytest.mark.parametrize("schedule", ["TWAP", "PostOnly"])
def test_a_restart_at_every_bar_goes_on_as_one_run(sealed: Sealed, tmp_path: Path, schedule: str) -> None:
    last = GOLDEN + 10
    with venue(exchange(sealed)) as served:
        whole = run(sealed, told(sealed, tmp_path / "whole", served.url, SCHEDULES[schedule]), last)
    with venue(exchange(sealed)) as served:
        given = told(sealed, tmp_path / "parts", served.url, SCHEDULES[schedule])
        for stop in range(GOLDEN - 1, last + 1):
            run(sealed, given, stop)
    parts = journal_path(given.folder, sealed.bundle)
    for kind in (journal.BAR, journal.DECISION, journal.INSTRUCTION, journal.INTENT, journal.FILL, journal.ENDING):
        assert read(parts, kind) == read(whole, kind), kind


class Died(BaseException):
    """The process ended here."""


@pytest.mark.parametrize("number", [2, 3, 6])
def test_a_process_that_dies_between_two_children_is_continued_by_the_next_one(
    sealed: Sealed, tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child is durable and was not sent: the next process asks the venue, then sends it under the same id."""
    last, sent = GOLDEN + 8, []
    execute = OrderDesk.execute

    async def dies(self: OrderDesk, intent: Any, **options: Any) -> Any:
        sent.append(intent.client_order_id)
        if len(sent) == number:
            raise Died
        return await execute(self, intent, **options)

    with venue(exchange(sealed)) as served:
        clean = run(sealed, told(sealed, tmp_path / "clean", served.url, TWAP), last)
    paper = exchange(sealed)
    with venue(paper) as served:
        given = told(sealed, tmp_path / "dies", served.url, TWAP)
        monkeypatch.setattr(OrderDesk, "execute", dies)
        with pytest.raises(Died):
            run(sealed, given, last)
        monkeypatch.setattr(OrderDesk, "execute", execute)
        path = journal_path(given.folder, sealed.bundle)
        with open_journal(path, read_only=True) as log:
            assert [one["client_order_id"] for one in journal.unresolved(log)] == [sent[-1]]
            assert tickets(log)
        run(sealed, given, last)
    names = [order.client_order_id for order in paper.orders]
    assert len(names) == len(set(names))
    for kind in (journal.DECISION, journal.INSTRUCTION, journal.INTENT, journal.ENDING):
        assert read(path, kind) == read(clean, kind), kind
    assert held(path) == next(iter(paper.positions.values()))


def test_the_gate_judges_each_child_and_a_refused_one_ends_the_order(sealed: Sealed, tmp_path: Path) -> None:
    """Two orders a minute: of four slices the third is refused, and the rest is left to the next decision."""
    paper = exchange(sealed)
    with venue(paper) as served:
        path = run(sealed, told(sealed, tmp_path, served.url, TWAP, gate=GateSettings(orders_per_minute=2)))
    refusals = [one for one in read(path, journal.REFUSAL) if one["rule"] == "order_rate"]
    assert refusals[0]["leg"] == "0/3"
    ended = next(one for one in read(path, journal.ENDING) if one["time"] == refusals[0]["time"])
    assert ended["status"] == "cancelled"
    assert "orders within the last minute" in ended["reason"]
    assert held(path) == next(iter(paper.positions.values()))


def test_the_report_of_a_run_counts_every_order_once_and_its_parts_add_up(sealed: Sealed, tmp_path: Path) -> None:
    with venue(exchange(sealed)) as served:
        plain = run(sealed, told(sealed, tmp_path / "plain", served.url, {}))
    with venue(exchange(sealed)) as served:
        worked = run(sealed, told(sealed, tmp_path / "worked", served.url, TWAP))
    costs = sealed.bundle.execution.costs
    for path, benchmark in ((plain, "last"), (worked, "book")):
        found = execution_quality(path, costs)
        assert len(found.orders) == len(read(path, journal.INSTRUCTION))
        assert set(found.orders["benchmark"]) == {benchmark}
        assert set(found.orders["status"]) == {"filled"}
        parts = found.orders[list(PARTS)].sum(axis=1)
        assert parts.to_numpy() == pytest.approx(found.orders["shortfall"].to_numpy())
        assert found.orders["fees"].sum() == pytest.approx(sum(fill["fee"] for fill in read(path, journal.FILL)))
    told_ = execution_quality(plain, costs).summary()
    assert told_["paid_bps"] == pytest.approx(told_["assumed_bps"], rel=1e-3)  # the venue charges what research assumes


def test_a_schedule_that_does_not_exist_is_refused_with_the_settings(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="'TWAPP' is unknown; did you mean 'TWAP'"):
        BundleSettings(path=tmp_path, execution={"name": "TWAPP"})


def test_an_order_that_ended_without_its_trades_asks_for_them_before_anything_else(
    sealed: Sealed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The venue calls orders filled and is silent about their trades for a while: the run is the same."""
    from tradelib.live.dialects import BinanceDialect

    fills, asked = BinanceDialect.fills, []

    async def late(
        self: Any, client: Any, symbol: str, *, order_id: str | None = None, since: int | None = None
    ) -> Any:
        asked.append(order_id)
        silent = order_id is not None and asked.count(order_id) <= 4
        return [] if silent else await fills(self, client, symbol, order_id=order_id, since=since)

    with venue(exchange(sealed)) as served:
        clean = run(sealed, told(sealed, tmp_path / "clean", served.url, {}))
    find = BinanceDialect.find
    place = BinanceDialect.place

    async def bare(self: Any, *given: Any, **options: Any) -> Any:
        return _without_trades(await place(self, *given, **options))

    async def bare_find(self: Any, *given: Any, **options: Any) -> Any:
        return _without_trades(await find(self, *given, **options))

    monkeypatch.setattr(BinanceDialect, "fills", late)
    monkeypatch.setattr(BinanceDialect, "place", bare)
    monkeypatch.setattr(BinanceDialect, "find", bare_find)
    with venue(exchange(sealed)) as served:
        path = run(sealed, told(sealed, tmp_path / "late", served.url, {}))
    for kind in (journal.DECISION, journal.INTENT, journal.EQUITY):
        assert read(path, kind) == read(clean, kind), kind
    traded = [[(one["trade_id"], one["quantity"]) for one in read(each, journal.FILL)] for each in (path, clean)]
    assert traded[0] == traded[1]
    assert max(asked.count(name) for name in set(asked) - {None}) >= 5


def _without_trades(said: Any) -> Any:
    return None if said is None else {**said, "trades": []}
