"""Sealing is reproducible, complete or nothing, and refuses what may not be sealed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tradelib.backtest.decision import DecisionRule
from tradelib.bundle import Execution, load_bundle, make_golden, reproduce_golden, verify_bundle, write_bundle
from tradelib.bundle import format as sealing
from tradelib.data.sources import embedded
from tradelib.errors import BundleError
from tradelib.risk import FixedFraction
from tradelib.strategies import Strategy, TrendFollowing


def tree(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_what_is_sealed_is_what_is_loaded(workshop: Any) -> None:
    bundle, contents = load_bundle(workshop.bundle.path, workshop.trust), workshop.contents
    assert bundle.path.name == f"trend-probe-{bundle.digest[:12]}"
    assert (bundle.name, bundle.permission) == ("trend-probe", "paper")
    assert bundle.rule == contents.rule
    assert bundle.execution == contents.execution
    assert (bundle.gates, bundle.figures, bundle.data) == (contents.gates, contents.figures, contents.data)
    assert bundle.provenance == contents.provenance
    assert bundle.golden_decisions == contents.golden_decisions
    pd.testing.assert_frame_equal(bundle.golden_bars, contents.golden_bars, check_exact=True)
    assert bundle.golden_bars.attrs == contents.golden_bars.attrs
    assert bundle.wheel.read_bytes() == contents.wheel.read_bytes()
    assert bundle.lock.read_text() == contents.lock.read_text()
    assert repr(bundle).startswith("Bundle('trend-probe', 'paper', digest=")


def test_the_folder_has_exactly_these_files_and_a_page_for_people(workshop: Any) -> None:
    files = tree(workshop.bundle.path)
    assert sorted(files) == [
        "README.md",
        "attestation.json",
        "data.json",
        "evidence/figures.json",
        "evidence/gates.json",
        "execution.json",
        "golden/bars.csv",
        "golden/decisions.json",
        "golden/equity.json",
        "golden/fills.json",
        "golden/orders.json",
        "manifest.json",
        "package/runner.lock",
        "package/tradelib-0.1.0-py3-none-any.whl",
        "provenance.json",
        "rule.json",
    ]
    page = files["README.md"].decode()
    assert "TrendFollowing(fast=5, slow=20, average='sma', direction='long')" in page
    assert "| evidence | deflated sharpe | 0.41 | 0.95 | **failed** |" in page
    assert "a" * 40 not in page
    manifest = json.loads(files["manifest.json"])
    assert files["manifest.json"].endswith(b"}\n")
    assert set(manifest["files"]) == set(files) - {"manifest.json", "attestation.json"}


def test_two_builds_are_byte_identical_and_the_second_finds_the_first(workshop: Any, tmp_path: Path) -> None:
    first = workshop.reseal(tmp_path / "one")
    second = workshop.reseal(tmp_path / "two")
    assert tree(first.path) == tree(second.path) == tree(workshop.bundle.path)
    before = first.path.stat().st_ino
    assert workshop.reseal(tmp_path / "one").path.stat().st_ino == before
    assert [path.name for path in (tmp_path / "one").iterdir()] == [first.path.name]


def test_another_commit_gives_another_bundle_with_the_same_payload(workshop: Any, tmp_path: Path) -> None:
    other = workshop.reseal(tmp_path, provenance={"commit": "b" * 40})
    assert other.digest != workshop.bundle.digest
    assert other.payload_digest == workshop.bundle.payload_digest
    changed = workshop.reseal(tmp_path, figures={"sharpe": 0.42})
    assert changed.payload_digest != workshop.bundle.payload_digest


def test_a_folder_that_is_something_else_is_not_touched(workshop: Any, tmp_path: Path) -> None:
    bundle = workshop.reseal(tmp_path)
    (bundle.path / "extra.txt").write_text("x")
    before = tree(tmp_path)
    with pytest.raises(BundleError, match="exists and is not this bundle"):
        workshop.reseal(tmp_path)
    assert tree(tmp_path) == before
    with pytest.raises(BundleError, match="exists and is not this bundle"):
        write_bundle(tmp_path, workshop.contents, Ed25519PrivateKey.generate())
    assert tree(tmp_path) == before


class Foreign(Strategy):
    """Not in the package, so not in the wheel."""

    def signals(self, bars: pd.DataFrame) -> pd.Series:
        return pd.Series(1.0, index=bars.index, name="signal")


def altered_decisions(workshop: Any, **changes: Any) -> list[dict[str, Any]]:
    rows = [dict(row) for row in workshop.contents.golden_decisions]
    rows[-1].update(changes)
    return rows


REFUSED: dict[str, tuple[Callable[[Any], dict[str, Any]], str]] = {
    "name with a path": (lambda w: {"name": "../x"}, "cannot be called"),
    "empty name": (lambda w: {"name": ""}, "cannot be called"),
    "unknown permission": (lambda w: {"permission": "root"}, "must be one of paper, live"),
    "live without evidence": (lambda w: {"permission": "live"}, "every evidence gate; failed: deflated sharpe"),
    "live without evidence gates": (
        lambda w: {"permission": "live", "gates": w.contents.gates[:2]},
        "needs evidence gates, and none was evaluated",
    ),
    "no gates": (lambda w: {"gates": []}, "needs safety gates"),
    "failed safety gate": (lambda w: {"gates": [{**w.contents.gates[0], "passed": False}]}, "failed: causality"),
    "gate that fails in one of two entries": (
        lambda w: {"gates": [{**w.contents.gates[0], "passed": False}, w.contents.gates[0]]},
        "failed: causality",
    ),
    "gate passed by a truthy text": (
        lambda w: {"gates": [{**w.contents.gates[0], "passed": "no"}]},
        "A gate result needs",
    ),
    "gate of an unknown tier": (lambda w: {"gates": [{**w.contents.gates[0], "tier": "nice"}]}, "A gate result needs"),
    "strategy outside of the package": (
        lambda w: {"rule": DecisionRule(strategy=Foreign(), sizing=FixedFraction())},
        "outside of the sealed package",
    ),
    "wrong warm-up": (
        lambda w: {"execution": replace(w.contents.execution, warmup=3)},
        "warmup is 3, the rule needs 21 bars",
    ),
    "another market": (
        lambda w: {"execution": replace(w.contents.execution, symbol="OTHER/USDT")},
        "trades symbol 'OTHER/USDT', but its golden bars have symbol 'PROBE/USDT'",
    ),
    "another timeframe": (
        lambda w: {"execution": replace(w.contents.execution, timeframe="1h")},
        "trades timeframe '1h'",
    ),
    "golden decision changed": (
        lambda w: {"golden_decisions": altered_decisions(w, target_weight=0.5)},
        "not what the rule decides: target_weight at 2000-10-26",
    ),
    "golden decisions cut": (
        lambda w: {"golden_decisions": w.contents.golden_decisions[1:]},
        "do not belong to the 80 golden bars",
    ),
    "NaN among the figures": (lambda w: {"figures": {"sharpe": float("nan")}}, "figures: Field 'sharpe' is nan"),
    "object in the provenance": (lambda w: {"provenance": {"at": Path("/")}}, "provenance: Field 'at'"),
    "wheel of something else": (lambda w: {"wheel": w.contents.lock}, "not the name of a wheel"),
    "missing wheel": (lambda w: {"wheel": Path("/nowhere/tradelib-1.whl")}, "The wheel .* cannot be read"),
    "missing lock": (lambda w: {"lock": Path("/nowhere/runner.lock")}, "The lock .* cannot be read"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_may_not_be_sealed_leaves_nothing(workshop: Any, tmp_path: Path, case: str) -> None:
    changes, message = REFUSED[case]
    with pytest.raises(BundleError, match=message):
        workshop.reseal(tmp_path / "root", **changes(workshop))
    assert not (tmp_path / "root").exists() or list((tmp_path / "root").iterdir()) == []


def test_live_is_sealed_when_every_gate_is_passed(workshop: Any, tmp_path: Path) -> None:
    gates = [{**gate, "passed": True} for gate in workshop.contents.gates]
    bundle = workshop.reseal(tmp_path, permission="live", gates=gates)
    assert bundle.permission == "live"
    assert "It may trade money" in (bundle.path / "README.md").read_text()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("symbol", ""),
        ("symbol", None),
        ("timeframe", "1M"),
        ("calendar", "a\nb"),
        ("lots_per_unit", -1.0),
        ("minimum_notional", float("inf")),
        ("maximum_leverage", 0.0),
        ("fee_rate", float("nan")),
        ("fee_rate", 10.0),
        ("slippage", "0"),
        ("cash", True),
        ("cash", 0),
        ("warmup", 0),
        ("warmup", 1.0),
    ],
)
def test_execution_refuses_by_the_name_of_the_field(workshop: Any, field: str, value: object) -> None:
    with pytest.raises(BundleError, match=field if field != "timeframe" else "month"):
        replace(workshop.contents.execution, **{field: value})


def test_execution_reads_back_and_is_closed(workshop: Any) -> None:
    execution = replace(workshop.contents.execution, cash=100_000)
    assert execution == workshop.contents.execution
    assert type(execution.cash) is float
    assert Execution.from_config(execution.to_config()) == execution
    for config in (execution.to_config() | {"extra": 1}, {}, None, []):
        with pytest.raises(BundleError, match="must be exactly"):
            Execution.from_config(config)


def test_an_interrupt_leaves_nothing(workshop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    for step in ("_documents", "seal", "load_bundle", "write_bars", "_sync"):
        with monkeypatch.context() as patched:
            patched.setattr(sealing, step, interrupt)
            with pytest.raises(KeyboardInterrupt):
                workshop.reseal(tmp_path)
        assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_said_and_leaves_nothing(workshop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sealing, "_write", full)
    with pytest.raises(BundleError, match="No space left on device"):
        workshop.reseal(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_killed_build_shows_no_bundle_and_the_next_one_cleans_up(workshop: Any, tmp_path: Path) -> None:
    for step in ("_sync", "seal", "write_bars"):
        ready, said = os.pipe()
        child = os.fork()
        if child == 0:  # stops inside the build and waits there to be killed
            setattr(sealing, step, lambda *_, said=said: (os.write(said, b"x"), time.sleep(60)))
            workshop.reseal(tmp_path)
            os._exit(0)
        assert os.read(ready, 1) == b"x"
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        left = list(tmp_path.iterdir())
        assert len(left) == 1
        assert left[0].name.startswith(".partial-")
    bundle = workshop.reseal(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [bundle.path.name]
    assert verify_bundle(bundle.path, workshop.trust).ok


def test_builds_at_once_end_in_one_bundle(workshop: Any, tmp_path: Path) -> None:
    children = []
    for _ in range(3):
        child = os.fork()
        if child == 0:
            try:
                workshop.reseal(tmp_path)
                os._exit(0)
            finally:
                os._exit(1)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    assert [path.name for path in tmp_path.iterdir()] == [workshop.bundle.path.name]
    assert verify_bundle(tmp_path / workshop.bundle.path.name, workshop.trust).ok


def test_a_bundle_of_the_embedded_data(workshop: Any, tmp_path: Path) -> None:
    bars = embedded("sp500")
    rule = DecisionRule(strategy=TrendFollowing(), sizing=FixedFraction())
    golden_bars, golden_decisions = make_golden(rule, bars, 500)
    market = {"symbol": bars.attrs["symbol"], "calendar": "XNYS", "warmup": rule.warmup}
    bundle = workshop.reseal(
        tmp_path,
        name="sp500",
        rule=rule,
        execution=replace(workshop.contents.execution, **market),
        golden_bars=golden_bars,
        golden_decisions=golden_decisions,
    )
    check = reproduce_golden(bundle)
    assert (check.count, check.equal, check.first_difference) == (500, True, None)
    assert [row["target_weight"] for row in bundle.golden_decisions[197:201]] == [None, None, 0.95, 0.95]


def test_nothing_of_research_is_imported() -> None:
    code = (
        "import sys, tradelib.bundle, tradelib.ledger;"
        "heavy = {'numba', 'scipy', 'sklearn', 'matplotlib', 'mlflow', 'arch', 'statsmodels', 'plotly'};"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
