"""Ledger, store and registry: where they disagree it is named, and what can be set right is."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.promotion.conftest import copied
from tests.promotion.support import trend
from tradelib.bundle import Bundle, TrustStore, wheel_digest
from tradelib.promotion.history import PromotionLedger
from tradelib.promotion.promote import promote
from tradelib.promotion.reconciliation import reconcile
from tradelib.promotion.registry import Registry


@dataclass(frozen=True)
class Company:
    """Two registered versions, sealed into two bundles."""

    registry: Registry
    store: Path
    bundles: tuple[Bundle, Bundle]


@pytest.fixture(scope="module")
def company(
    request_of: Callable[..., dict[str, Any]], wheel: Path, tmp_path_factory: pytest.TempPathFactory
) -> Company:
    root = tmp_path_factory.mktemp("company")
    registry, bundles = Registry(root), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tradelib.promotion.promote.build_wheel", lambda _, destination: copied(wheel, destination))
        patch.setattr("tradelib.promotion.promote.package_digest", lambda: wheel_digest(wheel))
        for fast in (3, 4):
            rule = trend(fast)
            registered = registry.log_candidate(
                name="trend",
                params={"fast": fast},
                metrics={},
                tags={"rule_digest": rule.digest, "data_digest": "d" * 64, "package_digest": "a" * 64},
                rule_config=rule.to_config(),
                market={"symbol": "BTC/USDT", "timeframe": "1d", "calendar": "24/7"},
            )
            origin = {"commit": "0" * 40, "registered": registered.to_dict()}
            asked = request_of(root / "bundles", rule=rule, provenance=origin)
            bundles.append(promote(**asked).bundle)
    return Company(registry, root / "bundles", (bundles[0], bundles[1]))


@pytest.fixture
def ledger(company: Company, keys: tuple[Any, TrustStore], tmp_path: Path) -> PromotionLedger:
    made = PromotionLedger(tmp_path / "promotions.sqlite", trust=keys[1], approvers=TrustStore(tmp_path / "approvers"))
    made.admit(company.bundles[0], key=keys[0], why="first")
    return made


def test_aliases_follow_the_ledger(company: Company, ledger: PromotionLedger, keys: tuple[Any, TrustStore]) -> None:
    found = reconcile(ledger, company.store, company.registry, trust=keys[1])
    assert [str(finding) for finding in found.findings] == ["trend: alias paper is nowhere, the ledger says version 1"]
    assert not found.agreed
    assert reconcile(ledger, company.store, company.registry, trust=keys[1], repair=True).agreed
    assert company.registry.aliases("trend") == {"challenger": 2, "paper": 1}
    assert reconcile(ledger, company.store, company.registry, trust=keys[1]).findings == ()
    ledger.admit(company.bundles[1], key=keys[0], why="second")
    reconcile(ledger, company.store, company.registry, trust=keys[1], repair=True)
    assert company.registry.aliases("trend")["paper"] == 2


def test_an_alias_moved_by_hand_is_named_and_moved_back(
    company: Company, ledger: PromotionLedger, keys: tuple[Any, TrustStore]
) -> None:
    reconcile(ledger, company.store, company.registry, trust=keys[1], repair=True)
    company.registry.set_alias("trend", "champion", 2)
    company.registry.set_alias("trend", "paper", 2)
    found = reconcile(ledger, company.store, company.registry, trust=keys[1], repair=True)
    assert found.summary() == (
        "2 disagreements: trend: alias champion is version 2, the ledger says nowhere (set right); "
        "trend: alias paper is version 2, the ledger says version 1 (set right)"
    )
    assert company.registry.aliases("trend") == {"challenger": 2, "paper": 1}


def test_a_bundle_that_is_gone_or_altered_is_named(
    company: Company, ledger: PromotionLedger, keys: tuple[Any, TrustStore], tmp_path: Path
) -> None:
    store = Path(shutil.copytree(company.store, tmp_path / "store"))
    folder = store / company.bundles[0].path.name
    (folder / "rule.json").write_text("{}")
    (finding,) = reconcile(ledger, store, trust=keys[1]).findings
    assert "rule.json was altered" in finding.found
    shutil.rmtree(folder)
    (finding,) = reconcile(ledger, store, trust=keys[1], repair=True).findings
    assert "no bundle folder" in finding.found
    assert not finding.repaired
    shutil.copytree(store / company.bundles[1].path.name, folder)
    (finding,) = reconcile(ledger, store, trust=keys[1]).findings
    assert (finding.found, finding.expected) == (company.bundles[1].digest[:12], company.bundles[0].digest[:12])


def test_a_killed_promotion_is_made_good(
    company: Company, ledger: PromotionLedger, keys: tuple[Any, TrustStore]
) -> None:
    """The process died after the ledger's entry and before the registry's alias: the next look completes it."""
    for alias in ("paper", "champion"):
        if alias in company.registry.aliases("trend"):
            company.registry.remove_alias("trend", alias)
    assert reconcile(ledger, company.store, company.registry, trust=keys[1], repair=True).agreed
    assert company.registry.aliases("trend")["paper"] == 1
