"""From an order to the notebook's cell: every link checked, and every planted break named."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.promotion.conftest import copied
from tests.promotion.support import paper_entries, trend, write_journal
from tradelib.bundle import Bundle, wheel_digest
from tradelib.errors import LedgerError
from tradelib.ledger import journal
from tradelib.promotion.lineage import Lineage, research_lock_digest, trace_order
from tradelib.promotion.promote import promote
from tradelib.promotion.registry import Registry

NOTEBOOK = Path("nbs") / "strategies" / "01_trend.ipynb"
LOCK = "stages:\n  research@trend:\n    cmd: research\n  promote@trend:\n    cmd: promote\n"
RESEARCH = {"stages": {"research@trend": {"cmd": "research"}}}


@dataclass(frozen=True)
class Estate:
    """A project with git, pipeline state and registry, and a journal of a bundle that came from it."""

    root: Path
    registry: Registry
    bundle: Bundle
    journal: Path
    order: str

    def trace(self, order: str | None = None, **changes: Any) -> Lineage:
        given: dict[str, Any] = {"root": self.root, "registry": self.registry} | changes
        return trace_order(order or self.order, self.journal, self.bundle, **given)


def git(root: Path, *arguments: str) -> str:
    who = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *who, *arguments], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture(scope="module")
def estate(
    request_of: Callable[..., dict[str, Any]],
    bars: pd.DataFrame,
    wheel: Path,
    project: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Estate]:
    root = tmp_path_factory.mktemp("estate")
    (root / NOTEBOOK).parent.mkdir(parents=True)
    shutil.copy(project / NOTEBOOK, root / NOTEBOOK)
    (root / "dvc.lock").write_text(LOCK)
    (root / "params.yaml").write_text("markets: {btc: {}}\n")
    git(root, "init", "--quiet")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "-m", "Research the trend")
    research = bars.iloc[:200].copy()
    digests = {"rule_digest": trend().digest, "package_digest": wheel_digest(wheel)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tradelib.promotion.promote.build_wheel", lambda _, destination: copied(wheel, destination))
        patch.setattr("tradelib.promotion.promote.package_digest", lambda: wheel_digest(wheel))
        patch.setattr("tradelib.promotion.lineage.package_digest", lambda: wheel_digest(wheel))
        asked = request_of(root / "bundles")
        data = asked["research_bars"].attrs["digest"]
        registry = Registry(root)
        registered = registry.log_candidate(
            name="trend",
            params={"fast": 3},
            metrics={},
            tags=digests | {"data_digest": data},
            rule_config=trend().to_config(),
            market={"symbol": "BTC/USDT", "timeframe": "1d", "calendar": "24/7"},
        )
        origin = {"commit": git(root, "rev-parse", "HEAD"), "candidate": "trend", "registered": registered.to_dict()}
        sealed = promote(
            **asked | {"provenance": origin | {"dvc_lock_digest": research_lock_digest(RESEARCH, "trend", ())}}
        )
        entries = paper_entries(sealed.bundle, bars)
        path = write_journal(root / "journal.sqlite", entries)
        order = [body["client_order_id"] for kind, body in entries if kind == journal.ORDER][3]
        assert len(research) == 200
        yield Estate(root, registry, sealed.bundle, path, order)


KINDS = ("order", "intent", "decision", "bar", "bundle", "package", "model version", "run", "commit", "dvc.lock")


def test_every_link_of_an_order_is_proved(estate: Estate) -> None:
    found = estate.trace()
    assert found.proved, found.to_frame().to_string()
    assert tuple(link.kind for link in found.links) == (*KINDS, "notebook cell")
    assert found.summary() == f"11 of 11 links of {estate.order} are proved."
    by_kind = {link.kind: link for link in found.links}
    assert by_kind["decision"].identity == by_kind["bar"].identity
    assert by_kind["bundle"].identity == estate.bundle.digest
    assert by_kind["commit"].fact == "Research the trend"
    assert by_kind["notebook cell"].identity.startswith("nbs/strategies/01_trend.ipynb #")
    assert by_kind["notebook cell"].check == "the cell at that commit is what was sealed"
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["order"] == estate.order
    assert "proved" in found._repr_html_()


def test_an_order_is_found_by_the_venues_id_too(estate: Estate) -> None:
    assert estate.trace("1").links[0].kind == "order"
    with pytest.raises(LedgerError, match="knows no order 'nobody'"):
        estate.trace("nobody")


def test_what_cannot_be_checked_is_not_proved_and_not_broken(estate: Estate, tmp_path: Path) -> None:
    """On a machine without the project: neither git, nor registry, nor notebooks."""
    found = trace_order(estate.order, estate.journal, estate.bundle, root=tmp_path)
    assert not found.proved
    assert found.broken == ()
    assert [link.kind for link in found.links if link.holds is None] == [*KINDS[6:], "notebook cell"]
    assert "could not be checked here" in found.summary()


def test_another_package_is_seen(estate: Estate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tradelib.promotion.lineage.package_digest", lambda: "f" * 64)
    link = next(link for link in estate.trace().links if link.kind == "package")
    assert (link.holds, link.check) == (None, "the installed package is another one (ffffffffffff)")


def test_a_tag_changed_by_hand_breaks_the_chain(estate: Estate) -> None:
    run = estate.bundle.provenance["registered"]["run_id"]
    before = estate.registry.run_tags(run)
    assert before is not None
    with estate.registry._client() as client:
        client.set_tag(run, "data_digest", "f" * 64)
    try:
        found = estate.trace()
        assert [link.kind for link in found.broken] == ["run"]
        assert found.summary().endswith(f"is broken at run {run}: MLflow says data_digest {'f' * 64}.")
    finally:
        with estate.registry._client() as client:
            client.set_tag(run, "data_digest", before["data_digest"])


def test_a_cell_that_says_something_else_breaks_the_chain(estate: Estate, tmp_path: Path) -> None:
    """The history was rewritten: neither the commit nor the working tree holds the cell that was sealed."""
    root = Path(shutil.copytree(estate.root, tmp_path / "copy"))
    shutil.rmtree(root / ".git")
    notebook = root / NOTEBOOK
    notebook.write_text(notebook.read_text().replace("Long while a fast average", "Short while a fast average"))
    link = trace_order(estate.order, estate.journal, estate.bundle, root=root, registry=estate.registry).links[-1]
    assert (link.holds, link.check) == (False, "the cell does not say what was sealed")


def test_a_state_of_the_pipeline_is_found_in_history(estate: Estate) -> None:
    (estate.root / "dvc.lock").write_text("stages: {}\n")
    try:
        link = next(link for link in estate.trace().links if link.kind == "dvc.lock")
        assert link.holds
        assert "in commit" in link.check
    finally:
        (estate.root / "dvc.lock").write_text(LOCK)


def test_a_deviating_decision_breaks_the_chain(estate: Estate, bars: pd.DataFrame, tmp_path: Path) -> None:
    entries = paper_entries(estate.bundle, bars)
    name = [body["client_order_id"] for kind, body in entries if kind == journal.ORDER][3]
    time = next(body["time"] for kind, body in entries if kind == journal.INTENT and body["client_order_id"] == name)
    changed = [
        (kind, body | {"target_weight": 0.123} if kind == journal.DECISION and body["time"] == time else body)
        for kind, body in entries
    ]
    path = write_journal(tmp_path / "journal.sqlite", changed)
    found = trace_order(name, path, estate.bundle, root=estate.root, registry=estate.registry)
    assert [link.kind for link in found.broken] == ["decision"]
    assert "0.123 in the journal" in found.broken[0].check
