"""Killed, out of disk, or two at once: store, ledger and registry are whole afterwards, and the next one succeeds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.promotion.crash import STEPS
from tests.promotion.support import trend
from tradelib.bundle import TrustStore, generate_key, verify_bundle
from tradelib.promotion.history import PromotionLedger
from tradelib.promotion.reconciliation import reconcile
from tradelib.promotion.registry import Registry

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@dataclass(frozen=True)
class Company:
    """A registry with two versions, a key, and a process that promotes in children."""

    root: Path
    process: subprocess.Popen[str]

    @property
    def trust(self) -> TrustStore:
        return TrustStore(self.root / "trust")

    def run(self, folder: Path, *runs: dict[str, Any]) -> list[dict[str, Any]]:
        """Promotions into the store and the ledger in `folder`, all at once."""
        folder.mkdir(exist_ok=True)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        places = {"store": str(folder / "store"), "ledger": str(folder / "promotions.sqlite"), "fast": 3}
        print(json.dumps({"runs": [places | run for run in runs]}), file=self.process.stdin, flush=True)
        answers: list[dict[str, Any]] = json.loads(self.process.stdout.readline())
        return answers

    def ledger(self, folder: Path) -> PromotionLedger:
        approvers = TrustStore(self.root / "approvers")
        return PromotionLedger(folder / "promotions.sqlite", trust=self.trust, approvers=approvers)

    def consistent(self, folder: Path) -> list[str]:
        """The visible bundles of the store, each of them whole; and a ledger that agrees with store and registry."""
        shown = sorted(path.name for path in (folder / "store").glob("[!.]*"))
        assert all(verify_bundle(folder / "store" / name, self.trust).ok for name in shown)
        found = reconcile(self.ledger(folder), folder / "store", Registry(self.root), trust=self.trust, repair=True)
        assert found.agreed, found.summary()
        return shown


@pytest.fixture(scope="module")
def company(wheel: Path, project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    root = tmp_path_factory.mktemp("company")
    key = generate_key("tests", root)
    TrustStore(root / "trust").add(key.public_path)
    for fast in (3, 4):
        rule = trend(fast)
        Registry(root).log_candidate(
            name="trend",
            params={"fast": fast},
            metrics={},
            tags={"rule_digest": rule.digest, "data_digest": "d" * 64, "package_digest": "a" * 64},
            rule_config=rule.to_config(),
            market={"symbol": "BTC/USDT", "timeframe": "1d", "calendar": "24/7"},
        )
    command = [sys.executable, "-m", "tests.promotion.crash", str(root), str(wheel)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=project)
    yield Company(root, process)
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(10) == 0


@pytest.fixture(autouse=True)
def without_an_alias(company: Company) -> None:
    """The registry as before any promotion."""
    registry = Registry(company.root)
    if "paper" in registry.aliases("trend"):
        registry.remove_alias("trend", "paper")


STRIDE = int(os.environ.get("TRADELIB_CRASH_STRIDE", "15"))
PLACED = ("it has its place", "the ledger has its entry", "the alias is set")


@pytest.mark.parametrize("step", STEPS)
def test_killed_after_any_step_everything_agrees_and_the_next_promotion_succeeds(
    company: Company, tmp_path: Path, step: str
) -> None:
    (killed,) = company.run(tmp_path, {"die_at": step})
    assert killed == {"code": -9, "told": None}
    shown = company.consistent(tmp_path)
    assert len(shown) == (step in PLACED)
    assert len(company.ledger(tmp_path).entries()) == (step in PLACED[1:])

    (done,) = company.run(tmp_path, {})
    assert done["code"] == 0
    assert done["told"] == done["told"] | {"created": step not in PLACED, "agreed": True}
    (name,) = company.consistent(tmp_path)
    assert [path.name for path in (tmp_path / "store").iterdir()] == [name], "a staging folder was left"
    (entry,) = company.ledger(tmp_path).entries()
    assert (entry.body["folder"], entry.body["bundle"]) == (name, done["told"]["bundle"])
    assert Registry(company.root).aliases("trend")["paper"] == 1


def test_killed_before_any_file_operation_no_half_bundle_is_seen(company: Company, tmp_path: Path) -> None:
    """Every so many of what a promotion does to files in the store; TRADELIB_CRASH_STRIDE=1 tries all."""
    (whole,) = company.run(tmp_path / "whole", {})
    (name,) = company.consistent(tmp_path / "whole")
    operations = whole["told"]["operations"]
    assert operations > 60
    for place in range(operations, 0, -STRIDE):
        folder = tmp_path / f"killed-{place}"
        assert company.run(folder, {"die_before": place})[0]["code"] == -9
        shown = list((folder / "store").glob("[!.]*"))
        assert all(verify_bundle(path, company.trust).ok for path in shown), f"before operation {place}"
        assert [path.name for path in shown] in ([], [name])
    assert company.run(folder, {})[0]["told"]["agreed"]
    assert [path.name for path in (folder / "store").iterdir()] == [name]


@pytest.mark.parametrize("limit", [0, 3_000, 400_000])
def test_a_disk_that_is_full_leaves_nothing_half_written(company: Company, tmp_path: Path, limit: int) -> None:
    """Given room for no file larger than `limit`, the promotion says so; with room again, it succeeds."""
    (refused,) = company.run(tmp_path, {"limit": limit})
    assert refused["code"] == 0
    assert refused["told"]["refused"] == "BundleError"
    assert "File too large" in refused["told"]["words"]
    assert list((tmp_path / "store").iterdir()) == []
    assert company.ledger(tmp_path).entries() == []
    (done,) = company.run(tmp_path, {})
    assert done["told"]["agreed"]
    assert len(company.consistent(tmp_path)) == 1


@pytest.mark.parametrize("place", ["ledger", "registry"])
def test_a_disk_that_fills_after_the_bundle_has_its_place(company: Company, tmp_path: Path, place: str) -> None:
    """Given a history, what was written stays whole, what could not be is not there, and the next one completes it."""
    company.run(tmp_path, {"fast": 4})
    (refused,) = company.run(tmp_path, {"full_before": place})
    assert refused["code"] == 0
    assert refused["told"]["refused"] in ("LedgerError", "TradelibError")
    written = 2 if place == "registry" else 1
    assert len(company.ledger(tmp_path).entries()) == written
    assert Registry(company.root).aliases("trend")["paper"] == 2
    assert len(company.consistent(tmp_path)) == 2
    assert Registry(company.root).aliases("trend")["paper"] == (1 if place == "registry" else 2)
    (done,) = company.run(tmp_path, {})
    assert done["told"] == done["told"] | {"created": False, "agreed": True}
    assert len(company.ledger(tmp_path).entries()) == 2
    assert Registry(company.root).aliases("trend")["paper"] == 1


def test_a_disk_that_is_full_before_the_first_entry_does_not_stop_the_next(company: Company, tmp_path: Path) -> None:
    (refused,) = company.run(tmp_path, {"full_before": "ledger"})
    assert refused["told"]["refused"] == "LedgerError"
    (done,) = company.run(tmp_path, {})
    assert done["told"] == done["told"] | {"created": False, "agreed": True}
    assert len(company.ledger(tmp_path).entries()) == 1


def test_two_promotions_of_one_candidate_at_once_are_one(company: Company, tmp_path: Path) -> None:
    answers = company.run(tmp_path, {}, {})
    assert [answer["code"] for answer in answers] == [0, 0]
    _admitted(answers)
    (name,) = company.consistent(tmp_path)
    assert [path.name for path in (tmp_path / "store").iterdir()] == [name]
    assert len(company.ledger(tmp_path).entries()) == 1


def test_whoever_comes_second_leaves_the_work_of_the_first_alone(company: Company, tmp_path: Path) -> None:
    """One stands still with a half-built bundle; the other must not take it for what a killed process left."""
    held = str(tmp_path / "held")
    first = {"fast": 3, "hold_at": "the bundle has its name in the staging folder", "held": held}
    answers = company.run(tmp_path, first, {"fast": 4, "after": held})
    assert [answer["told"].get("created") for answer in answers] == [True, True]
    assert len(company.consistent(tmp_path)) == 2


def test_two_candidates_at_once_are_two_bundles_in_one_history(company: Company, tmp_path: Path) -> None:
    """The one who comes second in the ledger waits or is told; told, it tries again."""
    answers = company.run(tmp_path, {"fast": 3}, {"fast": 4})
    assert [answer["code"] for answer in answers] == [0, 0]
    _admitted(answers)
    assert len(list((tmp_path / "store").iterdir())) == 2
    for fast, answer in zip((3, 4), answers, strict=True):
        if "refused" in answer["told"]:
            assert company.run(tmp_path, {"fast": fast})[0]["told"]["agreed"]
    shown = company.consistent(tmp_path)
    entries = company.ledger(tmp_path).entries()
    assert sorted(entry.body["folder"] for entry in entries) == shown
    assert len(shown) == 2


def _admitted(answers: list[dict[str, Any]]) -> None:
    """At least one was admitted; whoever was not was told that another was faster."""
    refused = [answer["told"] for answer in answers if "refused" in answer["told"]]
    assert len(refused) < len(answers)
    assert all("Somebody else promoted at the same time" in told["words"] for told in refused)
