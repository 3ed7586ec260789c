"""The warm-up, one core and two, the runner's lock, a bundle built twice: a planted fault fails, a good case passes."""

from __future__ import annotations

from collections.abc import Callable
from email.message import Message
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipelines.params import load
from tests.promotion.support import (
    EXECUTION,
    LOCK,
    CountingCoresForTest,
    CrashingForTest,
    HashingForTest,
    QuickerHereForTest,
    WaitingForTest,
    rule_of,
    trend,
)
from tradelib.bundle import BundleContents, write_bundle
from tradelib.errors import ParameterError
from tradelib.promotion.gates import Thresholds
from tradelib.promotion.licences import is_allowed, licence_of
from tradelib.promotion.promote import Promotion
from tradelib.promotion.safety_gates import bundle_reproducible, core_determinism, dependency_audit, warm_up

# -- warm-up -----------------------------------------------------------------------------------------------------------


def test_the_measured_warm_up_is_enough_and_one_bar_less_is_not(bars: pd.DataFrame) -> None:
    passed = warm_up(trend(3, 8), bars, {"warmup": 8})
    assert passed.passed
    assert passed.evidence["warmup"] == 8  # the slow average of 8 closes
    assert passed.explanation == (
        "The rule needs 8 bars: on 12 stretches of the history it decides with 8 and not with 7."
    )
    decided = trend(3, 8).decisions(bars.iloc[:8])["target_weight"].to_numpy()
    assert list(np.isfinite(decided)) == [False] * 7 + [True]


def test_a_rule_that_waits_for_a_price_has_no_warm_up_that_can_be_measured(bars: pd.DataFrame) -> None:
    failed = warm_up(rule_of(WaitingForTest()), bars)
    assert not failed.passed
    assert "give no decision" in failed.explanation
    assert failed.evidence["wrong"]


def test_a_rule_that_decides_a_bar_early_is_refused(bars: pd.DataFrame) -> None:
    failed = warm_up(rule_of(QuickerHereForTest()), bars)
    assert not failed.passed
    assert failed.evidence["wrong"] == [f"19 bars are enough on all {failed.evidence['stretches']} stretches"]


def test_an_account_that_is_told_another_warm_up_is_refused(bars: pd.DataFrame) -> None:
    failed = warm_up(trend(3, 8), bars, {"warmup": 7})
    assert not failed.passed
    assert "told a warm-up of 7 bars" in failed.explanation


def test_too_little_history_leaves_the_warm_up_unanswered(bars: pd.DataFrame) -> None:
    failed = warm_up(trend(50, 200), bars.iloc[:150])
    assert (failed.passed, failed.figure) == (False, None)
    assert "needs 200 bars, and there are 150" in failed.explanation


# -- cores -------------------------------------------------------------------------------------------------------------


def test_a_rule_of_bars_alone_is_the_same_on_one_core_and_on_two(bars: pd.DataFrame) -> None:
    passed = core_determinism(trend(), bars, EXECUTION)
    assert passed.passed, passed.explanation
    assert passed.evidence["parts"] == sorted(["signal", "target_weight", "equity", "orders", "fills", "entries"])


@pytest.mark.parametrize("strategy", [CountingCoresForTest, HashingForTest])
def test_a_rule_that_depends_on_where_it_runs_is_refused(bars: pd.DataFrame, strategy: Any) -> None:
    failed = core_determinism(rule_of(strategy()), bars)
    assert not failed.passed
    assert "signal" in failed.evidence["differing"]
    assert "may not ask where it runs" in failed.explanation


def test_a_rule_that_no_other_process_can_run_is_refused(bars: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Exception, match="ZeroDivisionError: planted"):
        core_determinism(rule_of(CrashingForTest()), bars)
    monkeypatch.setattr(CrashingForTest, "__module__", "__main__")
    failed = core_determinism(rule_of(CrashingForTest()), bars)
    assert (failed.passed, failed.figure) == (False, None)
    assert "export it from a notebook" in failed.explanation


# -- the runner's lock -------------------------------------------------------------------------------------------------

DENIED = {"Requests": ["2.32.0"], "ctx": ["*"]}
HASH = f"--hash=sha256:{'12' * 32}"


def test_a_lock_of_exact_releases_with_hashes_passes(project: Path) -> None:
    own = (project / "requirements" / "runner.lock").read_text(encoding="utf-8")
    for lock in (LOCK, own):
        passed = dependency_audit(lock, DENIED)
        assert passed.passed, passed.explanation
    assert dependency_audit(LOCK).evidence["requirements"] == 2


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (f"attrs>=24.1 {HASH}", "'attrs>=24.1' is not pinned"),
        (f"attrs {HASH}", "'attrs' is not pinned"),
        (f"attrs==24.* {HASH}", "is not pinned"),
        ("attrs==24.1", "has no SHA-256"),
        ("attrs==24.1 --hash=md5:0123", "has no SHA-256"),
        (f"attrs==24.1 {HASH[:-1]}", "has no SHA-256"),
        ("attrs @ git+https://example.org/attrs.git@main", "a place of its own"),
        ("git+https://example.org/attrs.git", "a place of its own"),
        (f"attrs @ https://example.org/attrs-24.1-py3-none-any.whl {HASH}", "a place of its own"),
        ("./vendored/attrs", "a place of its own"),
        ("/srv/wheels/attrs-24.1-py3-none-any.whl", "a place of its own"),
        ("file:///srv/attrs", "a place of its own"),
        ("-e .", "lets it install something else"),
        ("--extra-index-url https://example.org/simple", "lets it install something else"),
        ("--trusted-host example.org", "lets it install something else"),
        (f"requests==2.32.0 {HASH}", "requests 2.32.0 is denied"),
        (f"ctx==0.1.2 ; python_version > '3' {HASH}", "ctx 0.1.2 is denied"),
        (f"NumPy==2.3.2 {HASH}", "numpy is required twice"),
    ],
)
def test_a_line_that_could_install_something_else_is_named(line: str, words: str) -> None:
    failed = dependency_audit(f"{LOCK}{line}\n", DENIED)
    assert (failed.passed, failed.figure) == (False, 1)
    assert words in failed.explanation


ALLOWED = ("MIT", "BSD-3-Clause")


def told(**licences: str) -> Callable[[str, str], str | None]:
    return lambda package, version: {"ccxt": "MIT", "numpy": "BSD-3-Clause AND MIT", **licences}.get(package)


def test_licences_that_are_all_allowed_pass() -> None:
    passed = dependency_audit(LOCK, DENIED, ALLOWED, told())
    assert passed.passed, passed.explanation
    assert passed.evidence["licences"] == {"ccxt": "MIT", "numpy": "BSD-3-Clause AND MIT"}
    assert "each licence is allowed" in passed.explanation


@pytest.mark.parametrize(
    ("licence", "words"),
    [
        ("GPL-3.0-only", "numpy has the licence GPL-3.0-only, which is not allowed"),
        ("MIT AND GPL-3.0-only", "which is not allowed"),
        ("some words of our own", "which nobody can read"),
        ("MIT (", "which nobody can read"),
        (None, "the licence of numpy is not known"),
    ],
)
def test_a_licence_that_is_not_allowed_or_not_known_is_named(licence: Any, words: str) -> None:
    failed = dependency_audit(LOCK, DENIED, ALLOWED, told(numpy=licence))
    assert (failed.passed, failed.figure) == (False, 1)
    assert words in failed.explanation


@pytest.mark.parametrize(
    ("expression", "allowed"),
    [
        ("MIT", True),
        ("GPL-3.0-only OR MIT", True),
        ("GPL-3.0-only AND MIT", False),
        ("MIT AND (GPL-3.0-only OR BSD-3-Clause)", True),
        ("MIT OR GPL-3.0-only AND GPL-2.0-only", True),  # AND binds closer (SPDX specification, annex D)
        ("(MIT OR GPL-3.0-only) AND GPL-2.0-only", False),
        ("MIT WITH Some-exception", False),
    ],
)
def test_an_expression_is_allowed_as_spdx_means_it(expression: str, allowed: bool) -> None:
    assert is_allowed(expression, ALLOWED) is allowed


@pytest.mark.parametrize("expression", ["", "MIT MIT", "MIT AND", "(MIT", "MIT)", "OR MIT", "MIT; GPL"])
def test_what_is_no_expression_is_refused(expression: str) -> None:
    with pytest.raises(ParameterError):
        is_allowed(expression, ALLOWED)


class Package:
    """A package as `importlib.metadata` describes it."""

    def __init__(self, version: str, *fields: tuple[str, str]) -> None:
        self.version, self.metadata = version, Message()
        for name, value in fields:
            self.metadata[name] = value


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([("License-Expression", "MIT OR Apache-2.0"), ("License", "x")], "MIT OR Apache-2.0"),
        ([("License", "Apache License 2.0")], "Apache-2.0"),
        ([("License", "MIT")], "MIT"),
        ([("License", "Dual License"), ("Classifier", "License :: OSI Approved :: MIT License")], "MIT"),
        (
            [("Classifier", f"License :: OSI Approved :: {n}") for n in ("MIT License", "BSD License")]
            + [("Classifier", "Typing :: Typed")],
            "BSD AND MIT",
        ),
        ([], None),
    ],
    ids=["expression", "word", "identifier", "vague word", "classifiers", "nothing"],
)
def test_a_package_says_its_licence_in_one_of_three_ways(
    fields: list[tuple[str, str]], expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metadata, "distribution", lambda name: Package("1.0", *fields))
    assert licence_of("thing", "1.0") == expected
    assert licence_of("thing", "1.1") is None  # another version is installed: its licence may be another


def test_the_runner_of_this_project_uses_allowed_licences_only(project: Path) -> None:
    lock = (project / "requirements" / "runner.lock").read_text(encoding="utf-8")
    allowed = load(project, ("gates",)).gates.allowed_licences
    assert allowed
    passed = dependency_audit(lock, {}, allowed)
    assert passed.passed, passed.evidence["problems"]
    assert not dependency_audit(lock, {}, [one for one in allowed if one != "MPL-2.0"]).passed


def test_without_a_lock_there_is_no_answer() -> None:
    failed = dependency_audit("# nothing\n")
    assert (failed.passed, failed.figure) == (False, None)


def test_what_is_denied_stands_in_the_parameters(project: Path) -> None:
    from pipelines.params import load

    limits = load(project, ("gates",)).gates
    assert isinstance(limits, Thresholds)
    lock = f"requests==2.32.1 {HASH}\n"
    assert not dependency_audit(lock, limits.denied_versions).passed
    assert dependency_audit(lock).passed


# -- the bundle, built twice -------------------------------------------------------------------------------------------


@pytest.fixture
def sealing(promotion: Promotion, keys: tuple[Any, Any]) -> Callable[[Path], Any]:
    """Seals the session's bundle again into a folder."""
    made = promotion.bundle
    names = ("name", "permission", "rule", "execution", "golden_bars", "golden_decisions", "gates", "figures", "data")
    parts = {name: getattr(made, name) for name in (*names, "provenance", "wheel", "lock")}
    return lambda folder: write_bundle(folder, BundleContents(**parts), keys[0])


def test_the_same_contents_give_the_same_bytes(sealing: Callable[[Path], Any], promotion: Promotion) -> None:
    passed = bundle_reproducible(sealing)
    assert passed.passed, passed.explanation
    assert passed.evidence["files"] == len(promotion.bundle.files) + 2  # manifest and attestation


def test_a_build_that_writes_something_of_its_own_is_refused(sealing: Callable[[Path], Any]) -> None:
    def drifting(folder: Path) -> Path:
        path: Path = sealing(folder).path
        (path / "data.json").write_text((path / "data.json").read_text() + " " * (folder.name == "second"))
        return path

    failed = bundle_reproducible(drifting)
    assert (failed.passed, failed.figure) == (False, 1)
    assert "data.json" in failed.explanation


def test_a_build_under_another_name_or_with_a_file_more_is_refused(tmp_path: Path) -> None:
    def build(folder: Path) -> Path:
        place = folder / f"bundle-{folder.name}"
        place.mkdir(parents=True)
        (place / "rule.json").write_text("{}")
        return place

    assert bundle_reproducible(build).figure == 2  # each name has a file that the other has not
    assert bundle_reproducible(lambda folder: folder).figure is None
