"""Promotion: what passed is sealed and proved on the disk; what did not leaves nothing behind."""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.promotion.support import EXECUTION, FIGURES, results, rule_of, trend
from tradelib.backtest.costs import Costs
from tradelib.backtest.decision import DecisionRule
from tradelib.bundle import (
    BundleContents,
    Execution,
    TrustStore,
    golden_account,
    load_bundle,
    package_digest,
    write_bundle,
)
from tradelib.data.bars import window
from tradelib.errors import BundleError
from tradelib.promotion import promote as promoting
from tradelib.promotion.gates import GateResult
from tradelib.promotion.promote import Promotion, golden_history, golden_reproduction, golden_trades, promote
from tradelib.risk import Exits, Limits
from tradelib.strategies import Strategy, TrendFollowing

Request = Callable[..., dict[str, Any]]


@pytest.fixture
def child_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fresh process of this test is not started: its good answer is taken for granted."""
    monkeypatch.setattr(promoting, "_ask", lambda *_: {"count": 200, "equal": True, "sealed": True})


def test_a_candidate_with_failing_evidence_becomes_a_paper_bundle(
    promotion: Promotion, keys: tuple[Any, TrustStore], bars: pd.DataFrame
) -> None:
    bundle = load_bundle(promotion.bundle.path, keys[1])
    assert promotion.created
    assert (promotion.permission, bundle.permission) == ("paper", "paper")
    assert bundle.path.name == f"trend-{bundle.digest[:12]}"
    assert bundle.package_digest == package_digest()
    assert bundle.execution == Execution(**EXECUTION, warmup=trend().warmup)
    assert bundle.figures == FIGURES
    assert bundle.data["golden"]["bars"] == 200
    assert bundle.data["research"]["last"] == bars.index[199].isoformat()
    assert [gate["name"] for gate in bundle.gates if not gate["passed"]] == ["deflated_sharpe"]
    assert "paper only (failing: deflated_sharpe)" in promotion.summary()


def test_the_finished_bundle_was_proved(promotion: Promotion) -> None:
    assert [(check.name, check.passed) for check in promotion.checks] == [
        ("bundle_integrity", True),
        ("bundle_reproducible", True),
        ("golden_decisions", True),
    ]
    answer = {"count": 200, "orders": len(promotion.bundle.golden_account["orders"])}
    assert promotion.checks[2].evidence == answer | {"difference": "", "equal": True, "sealed": True}
    told = json.loads(json.dumps(promotion.to_dict(), allow_nan=False))
    last = ["golden_history", "golden_trades", "bundle_integrity", "bundle_reproducible", "golden_decisions"]
    assert [gate["name"] for gate in told["results"]][-5:] == last
    assert promotion.bundle.digest in promotion._repr_html_()


def test_only_the_bundle_stays(promotion: Promotion) -> None:
    assert [path.name for path in promotion.bundle.path.parent.iterdir()] == [promotion.bundle.path.name]


@pytest.mark.usefixtures("built_once")
def test_the_same_content_is_the_same_bundle(promotion: Promotion, request_of: Request) -> None:
    again = promote(**request_of(promotion.bundle.path.parent))
    assert (again.created, again.bundle.digest, again.bundle.path) == (
        False,
        promotion.bundle.digest,
        promotion.bundle.path,
    )
    assert "existed already" in again.summary()


@pytest.mark.usefixtures("built_once")
def test_all_evidence_good_makes_a_live_bundle(request_of: Request, tmp_path: Path) -> None:
    gates = [result.to_dict() for result in results()]
    live = promote(**request_of(tmp_path, gates=gates, golden_length=None))
    assert live.permission == "live"
    assert live.bundle.permission == "live"
    assert "may trade live" in live.summary()


@pytest.mark.usefixtures("built_once")
def test_policies_costs_and_precision_are_promoted_and_proved(request_of: Request, tmp_path: Path) -> None:
    """Given a rule with exits and limits and full costs, the bundle carries them, and a fresh process trades alike."""
    rule = trend().replace(
        rebalance_band=None,
        exits=Exits(stop_loss={"value": 2.0, "unit": "atr"}, take_profit=[(0.02, 0.5), (0.05, 0.5)]),
        limits=Limits(daily_loss=0.02, cooldown=1),
    )
    costs = Costs(
        maker_fee_rate=0.0002, spread=0.0004, impact=0.1, fee_tiers=({"volume": 1e5, "maker": 0, "taker": 0},)
    )
    terms = {**EXECUTION, **costs.model_dump(), "precision": {"tick": "0.01", "lot": "0.001", "minimum_notional": "5"}}
    done = promote(**request_of(tmp_path, rule=rule, execution=terms))
    assert done.bundle.needs == ("exits", "limits", "maker_orders")
    assert done.bundle.rule == rule
    assert done.bundle.execution.costs == costs
    assert done.bundle.execution.precision["tick"] == "0.01"
    origins = {row["origin"] for row in done.bundle.golden_account["orders"]}
    assert {"signal", "stop_loss", "take_profit"} <= origins
    assert done.checks[2].evidence["orders"] == len(done.bundle.golden_account["orders"])


# -- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("built_once")
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"gates": results("causality")}, "causality was bad"),
        ({"gates": results()[1:]}, "data quality no answer"),
        ({"gates": [{"name": "causality"}]}, "not a gate result"),
        ({"golden_length": 201}, "there are 200"),
        ({"golden_length": 5}, "holds no decision"),
        ({"execution": {**EXECUTION, "symbol": "ETH/USDT"}}, "ETH/USDT"),
        ({"execution": {**EXECUTION, "fee": 0.1}}, "fields must be exactly"),
        ({"execution": {**EXECUTION, "minimum_notional": 1e9}}, "golden trades 2, needs == 0"),
        ({"name": "../trend"}, "cannot be called"),
        ({"trust": None}, "is not trusted"),
        ({"root": None}, "runner.lock is missing"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_refusal_names_the_reason_and_leaves_nothing(
    request_of: Request, tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    places = {"trust": TrustStore(tmp_path / "nobody"), "root": tmp_path}
    changes = {name: places[name] if value is None else value for name, value in changes.items()}
    with pytest.raises((BundleError, ValueError), match=told):
        promote(**request_of(tmp_path / "bundles", **changes))
    assert not list((tmp_path / "bundles").glob("*"))
    assert not list((tmp_path / "bundles").glob(".*"))


@pytest.mark.usefixtures("built_once")
def test_sources_that_are_not_the_running_package_are_refused(
    request_of: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(promoting, "package_digest", lambda: "0" * 64)
    with pytest.raises(BundleError, match="are not the package that is running"):
        promote(**request_of(tmp_path))
    assert not list(tmp_path.iterdir())


def test_a_golden_window_shorter_than_the_memory_of_the_rule_is_refused(
    request_of: Request, bars: pd.DataFrame, tmp_path: Path
) -> None:
    slow = rule_of(TrendFollowing(fast=20, slow=100, average="ema"))
    found = golden_history(slow, bars, 110)
    assert not found.passed
    assert "Promote with a longer golden window" in found.explanation
    assert golden_history(slow, bars, len(bars)).passed
    with pytest.raises(BundleError, match="golden history 9, needs == 0"):
        promote(**request_of(tmp_path / "bundles", rule=slow, research_bars=bars, golden_length=110))
    assert not (tmp_path / "bundles").exists()


def test_a_window_that_does_not_trade_is_told_from_a_rule_that_never_leaves(bars: pd.DataFrame) -> None:
    """What no order was compared on is not proved; a rule that holds for good is excused, and it is said."""
    terms = Execution(**EXECUTION, warmup=trend().warmup)

    def found(rule: DecisionRule, length: int, last: int = 319, **changes: Any) -> GateResult:
        execution, part = replace(terms, **changes), window(bars, bars.index[last + 1 - length], bars.index[last])
        return golden_trades(rule, execution, bars, golden_account(rule, execution, part)["fills"])

    good = found(trend(), 200)
    assert (good.passed, good.evidence["never_exits"]) == (True, False)
    assert f"enters {good.evidence['entries']} and leaves {good.evidence['exits']} positions" in good.explanation
    holding = found(rule_of(HoldingForTest()), 50)
    assert (holding.passed, holding.evidence) == (True, {"entries": 1, "exits": 0, "never_exits": True})
    assert "The rule left none on all 320 research bars: it never exits." in holding.explanation
    idle = found(trend(), 200, minimum_notional=1e9)
    assert (idle.passed, idle.figure) == (False, 2)
    short = found(trend(), 20, last=60)
    assert (short.passed, short.figure, short.evidence["entries"], short.evidence["exits"]) == (False, 1, 1, 0)
    assert "look at cash, lots and costs" in idle.explanation
    told = re.search(r"about (\d+) bars would hold an entry and an exit", short.explanation)
    assert told is not None
    assert found(trend(), int(told[1])).passed, "as many bars as it says, at the end of the research, are enough"
    assert not found(trend(), int(told[1]) - trend().warmup - 3).passed


class HoldingForTest(Strategy):
    """Buys once and keeps it."""

    def signals(self, bars: pd.DataFrame) -> pd.Series:
        return pd.Series(1.0, index=bars.index, name="signal")


@pytest.mark.usefixtures("built_once", "child_agrees")
def test_a_second_build_with_other_bytes_is_not_promoted(
    request_of: Request, wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock that changes while it is sealed (planted): the first build is not what a second one gives."""
    locks = []

    def drifting(root: Path) -> Path:
        locks.append(tmp_path / f"{len(locks)}.lock")
        locks[-1].write_text("numpy==2.4.6\n" * len(locks))
        return locks[-1]

    monkeypatch.setattr(promoting, "_lock", drifting)
    with pytest.raises(BundleError, match=r"bundle reproducible .* files differ, first"):
        promote(**request_of(tmp_path / "bundles"))
    assert list((tmp_path / "bundles").iterdir()) == []


@pytest.mark.usefixtures("built_once")
def test_research_and_runner_that_trade_otherwise_are_caught(
    request_of: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compiled and interpreted accounts that differ in one bit (planted) are not sealed."""

    def other(*given: Any) -> Any:
        account = golden_account(*given)
        account["fills"][3]["price"] = float(np.nextafter(account["fills"][3]["price"], 0.0))
        return account

    monkeypatch.setattr(promoting, "golden_account", other)
    with pytest.raises(BundleError, match="golden account is not what the rule does: price of fills at"):
        promote(**request_of(tmp_path / "bundles"))
    assert list((tmp_path / "bundles").iterdir()) == []


def test_a_sealed_package_that_decides_otherwise_is_caught(
    promotion: Promotion, wheel: Path, keys: tuple[Any, TrustStore], tmp_path: Path
) -> None:
    altered = _altered(wheel, tmp_path / "tradelib-0.1.0-py3-none-any.whl", b"if one > other", b"if one < other")
    sealed = promotion.bundle
    names = BundleContents.__dataclass_fields__.keys() - {"wheel", "lock"}
    kept = {name: getattr(sealed, name) for name in names}
    other = write_bundle(tmp_path / "bundles", BundleContents(**kept, wheel=altered, lock=sealed.lock), keys[0])
    found = golden_reproduction(other.path, keys[1])
    assert not found.passed
    assert "target_weight" in found.explanation or "signal" in found.explanation


def _altered(wheel: Path, target: Path, old: bytes, new: bytes) -> Path:
    """The wheel with one line of its trend strategy changed."""
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(target, "w") as copy:
        for name in source.namelist():
            content = source.read(name)
            if name.endswith("strategies/trend.py"):
                assert old in content
                content = content.replace(old, new)
            copy.writestr(name, content)
    return target


def test_a_bundle_that_is_not_trusted_cannot_prove_itself(promotion: Promotion, tmp_path: Path) -> None:
    found = golden_reproduction(promotion.bundle.path, TrustStore(tmp_path))
    assert not found.passed
    assert "is not trusted" in found.explanation


@pytest.mark.usefixtures("built_once", "child_agrees")
def test_an_altered_bundle_in_the_same_place_is_never_overwritten(
    promotion: Promotion, request_of: Request, tmp_path: Path
) -> None:
    place = Path(shutil.copytree(promotion.bundle.path, tmp_path / promotion.bundle.path.name))
    (place / "attestation.json").write_text("{}")
    with pytest.raises(BundleError, match="altered or signed with another key"):
        promote(**request_of(tmp_path))
    assert (place / "attestation.json").read_text() == "{}"
    shutil.copy(promotion.bundle.path / "attestation.json", place / "attestation.json")
    (place / "rule.json").write_text("{}")
    with pytest.raises(BundleError, match=r"rule\.json was altered"):
        promote(**request_of(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == [place.name]


# -- interruptions -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("built_once", "child_agrees")
@pytest.mark.parametrize(
    "step", ["_sealed_wheel", "_lock", "write_bundle", "bundle_integrity", "golden_reproduction", "_place"]
)
@pytest.mark.parametrize("moment", ["before", "after"])
def test_ctrl_c_leaves_no_half_bundle(
    request_of: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, moment: str
) -> None:
    real = getattr(promoting, step)

    def interrupted(*arguments: Any) -> Any:
        if moment == "after":
            real(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(promoting, step, interrupted)
    request = request_of(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        promote(**request)
    left = list(tmp_path.iterdir())
    whole = [load_bundle(path, request["trust"]).path for path in left]
    assert whole == left
    assert bool(left) == (step == "_place" and moment == "after")


@pytest.mark.usefixtures("built_once", "child_agrees")
def test_what_a_killed_promotion_left_is_removed_by_the_next(request_of: Request, tmp_path: Path) -> None:
    (tmp_path / ".promotion-killed" / "bundle").mkdir(parents=True)
    done = promote(**request_of(tmp_path))
    assert list(tmp_path.iterdir()) == [done.bundle.path]
