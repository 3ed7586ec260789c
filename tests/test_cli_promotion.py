"""The commands of promotion, as a person types them: stages, approvals, rollback, replay, lineage, differences."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tests.live.support import Sealed, seal, synthetic_bars
from tests.promotion.support import paper_entries, write_journal
from tradelib.bundle import Bundle, TrustStore, generate_key, load_private_key
from tradelib.cli import app
from tradelib.data.files import write_bars
from tradelib.errors import BundleError, ParameterError, PromotionError, TradelibError
from tradelib.ledger import journal
from tradelib.promotion import PromotionLedger


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Sealed:
    return seal(tmp_path_factory.mktemp("sealed"), synthetic_bars(160), permission="live")


@pytest.fixture
def desk(sealed: Sealed, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder whose store holds the bundle, with the keys of an owner and of an approver."""
    (tmp_path / "settings.ini").touch()
    shutil.copytree(sealed.bundle.path, tmp_path / "bundles" / sealed.bundle.path.name)
    shutil.copytree(sealed.trust.folder, home / "trust")
    TrustStore().add(generate_key("local").public_path)
    TrustStore(home / "approvers").add(generate_key("boss").public_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


@pytest.fixture
def said(desk: Path) -> Callable[..., Result]:
    """Run a command in this process; what it raises is raised."""

    def run(*arguments: Any) -> Result:
        return CliRunner().invoke(app, [str(one) for one in arguments], catch_exceptions=False)

    return run


@pytest.fixture
def admitted(desk: Path, sealed: Sealed) -> str:
    """The digest of a bundle on paper."""
    PromotionLedger().admit(sealed.bundle, key=load_private_key("local"), why="passed research")
    return sealed.bundle.digest


def written(desk: Path, sealed: Sealed, count: int = 160, **changes: Any) -> Path:
    """The journal of a faultless runner; with `changes`, of one whose every decision is changed."""
    entries = paper_entries(sealed.bundle, sealed.bars.iloc[:count])
    bad = [(kind, body | changes if kind == journal.DECISION else body) for kind, body in entries]
    return write_journal(desk / "journal.sqlite", bad)


def test_an_empty_desk_says_what_to_do(said: Callable[..., Result]) -> None:
    assert "tradelib promote CANDIDATE" in said("stages").stdout
    assert json.loads(said("log", "--json").stdout) == []
    with pytest.raises(PromotionError, match="was ever promoted"):
        said("rollback", "trend", "--why", "x")


def test_from_paper_to_a_canary_and_back(
    said: Callable[..., Result], desk: Path, sealed: Sealed, admitted: str
) -> None:
    path, tape = written(desk, sealed), write_bars(sealed.bars, desk / "tape.parquet")
    asked = ("advance", "trend", admitted[:8], "--journal", path, "--bars", tape, "--why", "40 equal bars")
    with pytest.raises(PromotionError, match="0 approvers signed"):
        said(*asked)
    approved = said("approve", "trend", admitted[:8], "--stage", "canary_5", "--why", "read it", "--key", "boss")
    assert "may enter canary_5" in approved.stdout
    assert "moves up" in said(*asked).stdout
    (one,) = json.loads(said("stages", "--json").stdout)
    assert (one["stage"], one["capital"], one["bundle"]) == ("canary_5", "5%", admitted[:12])
    assert "live bundle" in said("rollback", "trend", "--why", "enough").stdout
    acts = [entry["act"] for entry in json.loads(said("log", "--json").stdout)]
    assert acts == ["admit", "approve", "advance", "rollback"]
    assert "read it" in said("log").stdout


def test_a_breach_rolls_back_instead_of_moving_up(
    said: Callable[..., Result], desk: Path, sealed: Sealed, admitted: str
) -> None:
    said("approve", "trend", admitted[:8], "--stage", "canary_5", "--why", "read it", "--key", "boss")
    said("advance", "trend", admitted[:8], "--journal", written(desk, sealed), "--why", "good")
    (desk / "journal.sqlite").unlink()
    path = written(desk, sealed, target_weight=0.123)
    with pytest.raises(PromotionError, match="leaves canary_5: 0 of 60 decisions in canary_5 are those of research"):
        said("advance", "trend", admitted[:8], "--journal", path, "--why", "more")
    assert json.loads(said("stages", "--json").stdout) == []


def test_replay_says_equal_or_shows_both_sides(said: Callable[..., Result], desk: Path, sealed: Sealed) -> None:
    path = written(desk, sealed)
    done = said("replay", path, sealed.bundle.digest[:12])
    assert done.exit_code == 0
    assert "Replay equals the journal: 60 decisions" in done.stdout
    (desk / "journal.sqlite").unlink()
    done = said("replay", written(desk, sealed, signal=0.5), sealed.bundle.path, "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["first_deviations"][0]["recorded"] == 0.5


def test_the_difference_from_research_is_split(said: Callable[..., Result], desk: Path, sealed: Sealed) -> None:
    path, tape = written(desk, sealed), write_bars(sealed.bars, desk / "tape.parquet")
    done = said("attribute", path, sealed.bundle.path, "--bars", tape, "--json")
    assert set(json.loads(done.stdout)["parts"].values()) == {0.0}
    assert "exactly what research says" in said("attribute", path, sealed.bundle.path, "--bars", tape).stdout


class Shelf:
    """A registry that knows one run, and what was shown in it."""

    def __init__(self) -> None:
        self.shown: dict[str, Any] = {}

    def run_tags(self, run_id: str) -> dict[str, str] | None:
        return {} if run_id == "known" else None

    def log_metrics(self, run_id: str, metrics: dict[str, float]) -> None:
        self.shown |= metrics

    def log_plots(self, run_id: str, plots: dict[str, Any]) -> None:
        self.shown |= plots


@pytest.mark.parametrize(("run_id", "kept"), [("known", True), ("of another clone", False)])
def test_replay_and_attribution_are_shown_in_the_run_that_the_bundle_came_from(
    said: Callable[..., Result], desk: Path, sealed: Sealed, monkeypatch: pytest.MonkeyPatch, run_id: str, kept: bool
) -> None:
    from tradelib.cli import promotion as commands

    shelf, find = Shelf(), commands.find_bundle

    def registered(text: str) -> Bundle:
        found = find(text)
        return replace(found, provenance=found.provenance | {"registered": {"run_id": run_id}})

    monkeypatch.setattr(commands, "_registry", lambda: shelf)
    monkeypatch.setattr(commands, "find_bundle", registered)
    path, tape = written(desk, sealed), write_bars(sealed.bars, desk / "tape.parquet")
    said("replay", path, sealed.bundle.path)
    said("attribute", path, sealed.bundle.path, "--bars", tape)

    names = {"replay.equal_share", "live_difference"}
    assert (names <= set(shelf.shown)) is kept
    assert kept or not shelf.shown


def test_a_bundle_that_was_rolled_back_is_not_run(
    said: Callable[..., Result], desk: Path, sealed: Sealed, admitted: str
) -> None:
    """Promote A, promote B, the canary fails: A has the capital again, and no runner takes B any more."""
    said("approve", "trend", admitted[:8], "--stage", "canary_5", "--why", "read it", "--key", "boss")
    said("advance", "trend", admitted[:8], "--journal", written(desk, sealed), "--why", "good")
    said("rollback", "trend", "--why", "it lost too much")
    with pytest.raises(PromotionError, match=r"was withdrawn on 20\d\d-\d\d-\d\d: it lost too much"):
        said("run", sealed.bundle.path, "--venue", "http://127.0.0.1:1")


def test_a_bundle_on_paper_moves_no_money(said: Callable[..., Result], sealed: Sealed, admitted: str) -> None:
    with pytest.raises(PromotionError, match="has no share of the capital"):
        said("run", sealed.bundle.path, "--mode", "live", "--confirm-live")


def test_lineage_prints_the_chain(said: Callable[..., Result], desk: Path, sealed: Sealed) -> None:
    path = written(desk, sealed)
    order = next(
        body["client_order_id"] for kind, body in paper_entries(sealed.bundle, sealed.bars) if kind == journal.ORDER
    )
    done = said("lineage", order, path, sealed.bundle.path)
    assert done.exit_code == 0
    for word in ("order", "intent", "decision", "bar", "bundle", "package", "notebook cell", "proved"):
        assert word in done.stdout


def test_a_bundle_does_not_differ_from_itself(said: Callable[..., Result], sealed: Sealed) -> None:
    assert "have the same content" in said("diff", sealed.bundle.path, sealed.bundle.digest[:10]).stdout
    with pytest.raises(BundleError, match="no such folder, and 0 bundles"):
        said("diff", sealed.bundle.path, "ffff")


def test_what_needs_a_project_says_so(said: Callable[..., Result], desk: Path) -> None:
    with pytest.raises(ParameterError, match=r"no pipeline \(dvc.yaml\)"):
        said("gate", "trend")
    (desk / "dvc.yaml").write_text("stages: {}\n")
    (desk / "params.yaml").write_text("strategies: {trend_sp500: {}}\n")
    with pytest.raises(ParameterError, match="no candidate 'trend_sp50'; did you mean 'trend_sp500'"):
        said("promote", "trend_sp50", "--why", "x")
    with pytest.raises(TradelibError, match="gates@trend_sp500 was not reproduced"):
        said("gate", "trend_sp500")
