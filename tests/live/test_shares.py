"""Shares by stage: promoted, promoted again, rolled back by itself, and shown in the ledger and at the runner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.live.support import GOLDEN, KEY, SECRET, Sealed, read, seal, synthetic_bars
from tests.live.test_fleet import exchange, settings, steered, trade
from tradelib.bundle import TrustStore, generate_key, load_private_key
from tradelib.cli.shares import stage_shares
from tradelib.errors import PromotionError
from tradelib.ledger import journal, open_journal
from tradelib.live.fleet import Fleet
from tradelib.live.journals import journal_path
from tradelib.live.shares import share_of, write_shares
from tradelib.promotion import PromotionLedger
from tradelib.promotion.stages import Stage, Stages, TrackRecord
from tradelib.venue import VenueThread

pytestmark = pytest.mark.integration

STAGES = Stages(
    stages=(
        Stage(name="paper", capital_share=0.0),
        Stage(name="canary_5", capital_share=0.05, maximum_drawdown=0.001),
        Stage(name="live", capital_share=1.0),
    )
)


class Strategy:
    """Two bundles of one strategy, and the ledger that promotes them."""

    def __init__(self, folder: Path) -> None:
        bars = synthetic_bars(seed=3)
        self.a, self.b = (
            seal(folder / name, bars, lots_per_unit=lots, permission="live")
            for name, lots in (("a", 1024.0), ("b", 2048.0))
        )
        generate_key("promoter", folder / "keys")
        self.key = load_private_key("promoter", folder / "keys")
        trust = TrustStore(folder / "trust")
        trust.add(self.key.public_key())
        self.ledger = PromotionLedger(folder / "p.sqlite", stages=STAGES, trust=trust, approvers=trust)

    def up(self, sealed: Sealed, to: str) -> None:
        """Admit a bundle and advance it to a stage."""
        digest = sealed.bundle.digest
        self.ledger.admit(sealed.bundle, key=self.key, why="research")
        while (stage := self.ledger.book("trend").find(digest).stage) != to:
            record = TrackRecord(digest, stage, bars=1, equal_bars=1, days=1.0)
            self.ledger.advance("trend", digest, record, key=self.key, why="it decided as research")

    def shares(self, mode: str = "live") -> dict[str, float]:
        """What the runner of both is told."""
        return stage_shares(self.ledger, [self.a.bundle, self.b.bundle], (0.5, 0.5), mode)


@pytest.fixture
def strategy(tmp_path: Path) -> Strategy:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    return Strategy(tmp_path)


def test_a_stage_gives_its_part_of_what_the_strategy_has(strategy: Strategy) -> None:
    a, b = strategy.a.bundle.digest, strategy.b.bundle.digest
    strategy.up(strategy.a, "live")
    with pytest.raises(PromotionError, match="has no share of the capital"):
        strategy.shares()
    strategy.up(strategy.b, "canary_5")
    assert strategy.shares() == {a: 0.95, b: 0.05}
    strategy.ledger.roll_back("trend", key=strategy.key, why="it lost")
    assert strategy.shares() == {a: 1.0, b: 0.0}


def test_on_paper_without_champion_and_canary_the_settings_hold(strategy: Strategy) -> None:
    strategy.ledger.admit(strategy.a.bundle, key=strategy.key, why="research")
    assert list(strategy.shares("paper").values()) == [0.5, 0.5]


def test_a_canary_that_fails_is_rolled_back_in_the_ledger_and_at_the_runner(strategy: Strategy, tmp_path: Path) -> None:
    """Promote A, promote B, B falls: the ledger rolls back by itself, the running runner winds B up, A has it all."""
    a, b = strategy.a, strategy.b
    folder, paper = tmp_path / "runner", exchange([strategy.b])
    paths = [journal_path(folder, one.bundle) for one in (a, b)]
    strategy.up(a, "live")
    with VenueThread(paper, key=KEY, secret=SECRET) as served:
        trade([a], settings([a], folder, served.url, (1.0,)), GOLDEN + 10)
        strategy.up(b, "canary_5")
        given = strategy.shares()
        seen: dict[str, Any] = {}

        async def falls(fleet: Fleet) -> None:
            """The record of the canary breaches its stage while the runner trades."""
            seen["held"] = fleet.seats[1].trader.purse.position
            seen["cash"] = [read(path, journal.PURSE)[-1]["share"] for path in paths]
            record = TrackRecord(b.bundle.digest, "canary_5", bars=20, equal_bars=20, days=20.0, drawdown=0.01)
            seen["breached"] = strategy.ledger.check("trend", record, key=strategy.key)
            with open_journal(fleet.settings.operations_path) as log:
                write_shares(log, strategy.shares(), by="cron", reason=seen["breached"][0].explanation)

        told = settings([a, b], folder, served.url, (given[a.bundle.digest], given[b.bundle.digest]))
        steered([a, b], told, 6, falls, GOLDEN + 30)
    assert seen["held"] > 0.0
    assert seen["cash"] == [0.95, 0.05]
    book = strategy.ledger.book("trend")
    assert (book.champion and book.champion.bundle, book.canary, book.withdrawn) == (
        a.bundle.digest,
        None,
        {b.bundle.digest},
    )
    assert strategy.ledger.log()["act"].tolist()[-1] == "rollback"
    assert [read(path, journal.PURSE)[-1]["share"] for path in paths] == [1.0, 0.0]
    assert "fell 1.0%" in read(paths[1], journal.PURSE)[-1]["reason"]
    with open_journal(paths[1], read_only=True) as log:
        assert share_of(log) == 0.0
    last = read(paths[1], journal.EQUITY)[-1]
    assert (last["position"], last["equity"]) == (0.0, pytest.approx(0.0, abs=1e-6))
    with open_journal(paths[1], read_only=True) as log:
        end = next(entry for entry in log.entries(journal.PURSE) if entry.body["share"] == 0.0).sequence
        assert list(log.entries(journal.INTENT, after=end)) == []
        assert len(list(log.entries(journal.DECISION, after=end))) > 3
    gained = -sum(one["quantity"] * one["price"] + one["fee"] for one in read(paths[1], journal.FILL))
    assert sum(body["cash"] for body in read(paths[1], journal.PURSE)) == pytest.approx(-gained, abs=1e-6)
    assert read(folder / "operations.sqlite", journal.RECONCILED) == []


def test_nothing_but_exits_leaves_a_bundle_that_is_withdrawn_though_it_could_pay(
    strategy: Strategy, tmp_path: Path
) -> None:
    """Given a bundle whose share is gone and whose purse is not emptied yet, when it goes on deciding, then what adds
    to a position is refused by that name and what reduces it is sent."""
    folder, a = tmp_path / "runner", strategy.a

    async def withdrawn(fleet: Fleet) -> None:
        fleet.shares._seats.clear()  # nobody empties its purse
        fleet.seats[0].trader.withdrawn = True

    with VenueThread(exchange([a]), key=KEY, secret=SECRET) as served:
        steered([a], settings([a], folder, served.url, (1.0,)), 4, withdrawn, GOLDEN + 40)
    with open_journal(journal_path(folder, a.bundle), read_only=True) as log:
        refused = list(log.entries(journal.REFUSAL))
        assert {entry.body["rule"] for entry in refused} == {"withdrawn"}
        assert all(entry.body["quantity"] > 0.0 for entry in refused)
        later = list(log.entries(journal.INTENT, after=refused[0].sequence))
        assert later
        assert all(entry.body.get("reduces") for entry in later)


def test_a_word_is_written_once(strategy: Strategy, tmp_path: Path) -> None:
    with open_journal(tmp_path / "operations.sqlite") as log:
        assert write_shares(log, {"x": 1.0}, by="anna", reason="because") is not None
        assert write_shares(log, {"x": 1.0}, by="anna", reason="again") is None


def test_a_restart_takes_up_a_withdrawal_that_was_not_finished(strategy: Strategy, tmp_path: Path) -> None:
    a, b = strategy.a, strategy.b
    folder, paper = tmp_path / "runner", exchange([strategy.b])
    with VenueThread(paper, key=KEY, secret=SECRET) as served:
        trade([a, b], settings([a, b], folder, served.url, (0.5, 0.5)), GOLDEN + 10)
        assert all(read(journal_path(folder, one.bundle), journal.EQUITY)[-1]["position"] > 0.0 for one in (a, b))
        trade([a, b], settings([a, b], folder, served.url, (1.0, 0.0)), GOLDEN + 14)
    found = [read(journal_path(folder, one.bundle), journal.PURSE) for one in (a, b)]
    assert [one[-1]["share"] for one in found] == [1.0, 0.0]
    assert read(journal_path(folder, b.bundle), journal.EQUITY)[-1]["position"] == 0.0
