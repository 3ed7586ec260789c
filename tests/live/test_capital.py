"""Whose money is where: what retired bundles left behind, and what operators account for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.live.mirrors import GOLDEN as MIRRORED
from tests.live.mirrors import market
from tests.live.support import GOLDEN, HASTE, Sealed, read, seal, synthetic_bars, venue
from tests.live.test_control import TOKENS, Served
from tests.live.test_fleet import exchange, settings, trade
from tests.live.test_policies import COUNT, bundle_of, paper
from tradelib.bundle import Bundle
from tradelib.bundle.trading.purse import Purse
from tradelib.errors import RunnerError
from tradelib.ledger import journal, open_journal
from tradelib.live.audited import PurseCheck
from tradelib.live.fleet import Fleet
from tradelib.live.journals import journal_path
from tradelib.live.retired import Retired, retired_purse
from tradelib.live.settings import BundleSettings, ControlSettings
from tradelib.live.summary import FleetSummary
from tradelib.risk.exits import Distance, Exits, ScaleIn

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Sealed, Sealed]:
    """Two bundles of one market, of lots that tell them apart."""
    bars = synthetic_bars(seed=3)
    first, second = (
        seal(tmp_path_factory.mktemp(name), bars, lots_per_unit=lots) for name, lots in (("a", 1024.0), ("b", 512.0))
    )
    return first, second


def test_the_next_bundle_is_given_what_the_last_one_left(two: tuple[Sealed, Sealed], tmp_path: Path) -> None:
    """The first bundle is taken out of the settings while it holds coins: its cash is what there is to trade with."""
    first, second = two
    paper = exchange([first])
    with venue(paper) as served:
        trade([first], settings([first], tmp_path, served.url, (1.0,)), GOLDEN + 1)
        cash, held = paper.cash, paper.positions["BTC"]
        assert held > 0.0
        trade([second], settings([second], tmp_path, served.url, (1.0,)), GOLDEN + 6)
    (given,) = read(journal_path(tmp_path, second.bundle), journal.PURSE)
    assert given["cash"] == pytest.approx(cash, abs=1e-6)
    assert read(tmp_path / "operations.sqlite", journal.LATCH) == []
    (told,) = [body for body in read(tmp_path / "operations.sqlite", journal.INCIDENT) if body["what"] == "retired"]
    assert f"holds {held:g}" in told["detail"]


PYRAMID: dict[str, Any] = {"fraction": 0.3, "scale_in": ScaleIn(orders=2, step=Distance(value=6.0, unit="price"))}
STOP: dict[str, Any] = {"exits": Exits(stop_loss=Distance(value=3.0, unit="price"))}


FIRST = MIRRORED - 1
"""The last golden bar of those markets."""


class Folder:
    """Two bundles of one market, one account, and runs of either or both."""

    def __init__(self, sealed: Sealed, folder: Path, **policies: Any) -> None:
        self.bars, self.sealed, self.folder = market(3, COUNT, silent=0.0), sealed, folder
        self.first = bundle_of(sealed, self.bars, **policies)
        self.second = replace(bundle_of(sealed, self.bars, exits=Exits(time_exit=6)), name="other", digest="d" * 64)
        self.exchange = paper(self.first, self.bars)

    def run(self, url: str, last: int, *bundles: Bundle) -> FleetSummary:
        given = tuple(BundleSettings(path=Path(bundle.digest), share=0.4) for bundle in bundles)
        told = settings([self.sealed], self.folder, url, (0.4,)).replace(bundles=given)
        until = self.bars.index[last].isoformat()
        return asyncio.run(Fleet(bundles, told, until=until, patience=HASTE, reconcile_seconds=0.0).run())

    def until(self, url: str, true: Callable[[], bool], last: int, *bundles: Bundle) -> int:
        """Run bar by bar until it is true; the last bar decided."""
        while not true():
            last += 1
            assert last < COUNT - 10, "it never was"
            assert self.run(url, last, *bundles).halted == {}
        return last

    def of_first(self, kind: str) -> list[dict[str, Any]]:
        return read(journal_path(self.folder, self.first), kind)

    def of_account(self, kind: str) -> list[dict[str, Any]]:
        return read(self.folder / "operations.sqlite", kind)

    def rests(self, side: str) -> list[str]:
        """Orders of the first bundle that rest at the venue, and buy or sell."""
        if not self.opened:
            return []
        ours = {body["client_order_id"] for body in self.of_first(journal.INTENT) if body["side"] == side}
        return [one.client_order_id for one in self.exchange.open_orders() if one.client_order_id in ours]

    @property
    def opened(self) -> bool:
        return journal_path(self.folder, self.first).exists()


def test_an_entry_of_a_retired_bundle_is_cancelled_and_its_return_goes_on(sealed: Sealed, tmp_path: Path) -> None:
    """Nobody would look after what it opened: it is withdrawn at the start, and nobody else is halted for it."""
    it = Folder(sealed, tmp_path / "runner", **PYRAMID)
    with venue(it.exchange) as served:
        last = it.until(served.url, lambda: bool(it.rests("buy")), FIRST, it.first, it.second)
        entries = it.rests("buy")
        summary = it.run(served.url, last + 5, it.second)
        assert (summary.halted, it.of_account(journal.LATCH)) == ({}, [])
        assert it.rests("buy") == []
        ended = {body["client_order_id"]: body["status"] for body in it.of_first(journal.ORDER)}
        assert {ended[name] for name in entries} == {"canceled"}
        reasons = {body["client_order_id"]: body["reason"] for body in it.of_first(journal.CANCEL)}
        assert {reasons[name] for name in entries} == {"its bundle is traded no more"}
        summary = it.run(served.url, last + 25, it.first, it.second)
    assert (summary.halted, it.of_account(journal.LATCH), it.of_account(journal.FOREIGN)) == ({}, [], [])
    assert it.of_first(journal.DECISION)[-1]["time"] == it.bars.index[last + 25].isoformat()
    assert len(it.of_first(journal.BAR)) == len({body["time"] for body in it.of_first(journal.BAR)})


def test_a_stop_of_a_retired_bundle_goes_on_protecting_and_its_fill_is_known(sealed: Sealed, tmp_path: Path) -> None:
    """It stays at the venue and people are told; it fills while nobody trades its bundle, which is booked where it
    belongs; when the bundle comes back it is flat and goes on."""
    it = Folder(sealed, tmp_path / "runner", **STOP)
    with venue(it.exchange) as served:
        last = it.until(served.url, lambda: bool(it.rests("sell")), FIRST, it.first, it.second)
        (stop,) = it.rests("sell")
        before = len(it.of_first(journal.FILL))
        last = it.until(served.url, lambda: not it.rests("sell"), last, it.second)
        told = [body["detail"] for body in it.of_account(journal.INCIDENT) if body["what"] == "retired"]
        assert any(
            f"its order {stop} (sell" in detail and "rests at the venue and protects" in detail for detail in told
        )
        fills = it.of_first(journal.FILL)[before:]
        assert {body["client_order_id"] for body in fills} == {stop}
        assert it.of_first(journal.DECISION)[-1]["time"] < fills[0]["filled_at"]
        summary = it.run(served.url, last + 8, it.first, it.second)
    assert (summary.halted, it.of_account(journal.LATCH), it.of_account(journal.FOREIGN)) == ({}, [], [])
    returned = [body for body in it.of_first(journal.EQUITY) if body["time"] >= it.bars.index[last].isoformat()]
    assert returned[0]["position"] == 0.0
    assert it.of_first(journal.DECISION)[-1]["time"] == it.bars.index[last + 8].isoformat()


def test_a_retired_purse_is_what_its_journal_adds_up_to(tmp_path: Path) -> None:
    """100 given; 2 bought at 10 for a fee of 0.5 and 0.1 of a coin; the last close is 12."""
    with open_journal(tmp_path / "j.sqlite") as log:
        start = {"bundle_digest": "d", "name": "trend", "symbol": "BTC/USDT", "timeframe": "1d", "mode": "paper"}
        log.append(journal.START, {**dict.fromkeys(journal.VOCABULARY[journal.START], ""), **start})
        purse = {"cash": 100.0, "position": 0.0, "capital": 100.0, "share": 1.0, "reason": "opened"}
        journal.record(log, journal.PURSE, **purse)
        fill: dict[str, Any] = dict.fromkeys(journal.VOCABULARY[journal.FILL], "1")
        fill |= {
            "symbol": "BTC/USDT",
            "quantity": 2.0,
            "price": 10.0,
            "fee": 1.5,
            "fee_paid": {"USDT": "0.5", "BTC": "0.1"},
        }
        log.append(journal.FILL, fill)
        bar = {"time": "t", "open": 1.0, "high": 1.0, "low": 1.0, "close": 12.0, "volume": 1.0}
        journal.record(log, journal.BAR, **bar)
        found = retired_purse(log)
    assert found == Retired("trend", "BTC/USDT", 79.5, 1.9, 100.0, 12.0)
    assert (found.result, found.held) == (-20.5, 1.9 * 12.0)


def test_an_operator_accounts_for_a_deposit_and_reconciliation_agrees(
    two: tuple[Sealed, Sealed], tmp_path: Path
) -> None:
    """500 USDT come in by hand: unexplained they halt the symbol, accounted for they are what is expected."""
    paper = exchange([two[0]])
    with venue(paper) as served:
        told = settings([two[0]], tmp_path, served.url, (0.5,))
        trade([two[0]], told, GOLDEN + 1)
        paper.cash += 500.0
        fleet = Fleet([two[0].bundle], told, until=two[0].bars.index[GOLDEN + 4].isoformat(), patience=HASTE)
        waited = fleet._begin_helpers

        async def helpers() -> None:
            real = fleet.guardian.reconcile

            async def after_the_act(reconciler: Any) -> Any:
                await fleet.adjust("USDT", Decimal(500), "anna", "deposit of 3 March")
                with pytest.raises(RunnerError, match="'EUR' is not traded here: name one of BTC, USDT"):
                    await fleet.adjust("EUR", Decimal(1), "anna", "a slip")
                fleet.guardian.reconcile = real  # type: ignore[method-assign]
                return await real(reconciler)

            fleet.guardian.reconcile = after_the_act  # type: ignore[method-assign]
            await waited()

        fleet._begin_helpers = helpers  # type: ignore[method-assign]
        asyncio.run(fleet.run())
    path = tmp_path / "operations.sqlite"
    (body,) = read(path, journal.ADJUSTMENT)
    assert body == {"asset": "USDT", "amount": "500", "by": "anna", "reason": "deposit of 3 March"}
    assert read(path, journal.LATCH) == []
    assert read(path, journal.RECONCILED) == []


def test_an_adjustment_is_approved_and_written_down_before_it_is_done(tmp_path: Path) -> None:
    with Served(tmp_path, ControlSettings(port=0)) as served:
        asked = {"asset": "BTC", "amount": "-0.25", "why": "moved to the vault"}
        assert served.ask("POST", "/v1/adjust", TOKENS["olga"][0], asked)[0] == 403
        for wrong in ("much", "0", "nan", "1e999999999999"):
            status, told = served.ask("POST", "/v1/adjust", TOKENS["anna"][0], {**asked, "amount": wrong})
            assert (status, "'amount' must be a decimal number" in told["error"]) == (400, True), wrong
        done = served.client("anna").post("/v1/adjust", **asked)
        assert done["result"] == {"BTC": "-0.25"}
        assert served.runner.did == [("adjust", "BTC", Decimal("-0.25"), "anna")]
        outcomes = [(act["act"], act["reason"], act["outcome"]) for act in served.acts()]
        assert outcomes == [("adjust", "moved to the vault (-0.25 BTC)", outcome) for outcome in ("asked", "done")]


def test_a_purse_that_is_not_what_its_journal_says_is_told_apart(two: tuple[Sealed, Sealed], tmp_path: Path) -> None:
    """A fill that only one of them counted: reconciliation of venue and journals would not see it."""
    paper = exchange([two[0]])
    with venue(paper) as served:
        trade([two[0]], settings([two[0]], tmp_path, served.url, (0.5,)), GOLDEN + 8)
    path, terms = journal_path(tmp_path, two[0].bundle), two[0].bundle.execution
    equity, fills = read(path, journal.EQUITY)[-1], read(path, journal.FILL)
    newest = [fill for fill in fills if fill["filled_at"] > equity["time"]]
    with open_journal(path, read_only=True) as log:
        check = PurseCheck(log, terms)
        held = sum(fill["quantity"] for fill in fills)
        cash = 50_000.0 - sum(fill["quantity"] * fill["price"] + fill["fee"] for fill in fills)
        assert len(newest) < len(fills)
        assert check.difference(Purse(cash, held, 1024.0)) == ""
        twice = check.difference(Purse(cash, held + fills[0]["quantity"], 1024.0))
        assert twice.startswith(f"the purse holds {held + fills[0]['quantity']:g}, its journal adds up to")
        assert "in cash, its journal adds up to" in check.difference(Purse(cash - 1.0, held, 1024.0))
