"""Every attack on a promotion in one table: where it is refused, and which test shows it.

Below the table, the attacks on a bundle that stands in the ledger are made once more from end to end: the runner does
not trade it, and `reconcile` does not call it agreement. Nothing that the runner would trade can differ from what the
ledger says.
"""

from __future__ import annotations

import ast
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.bundle.test_verify import insider
from tests.promotion.conftest import copied
from tests.promotion.support import trend
from tradelib.bundle import Bundle, TrustStore, load_bundle, runtime, wheel_digest
from tradelib.errors import BundleError, PromotionError
from tradelib.live.admission import admit_bundle
from tradelib.promotion.history import PromotionLedger
from tradelib.promotion.promote import promote
from tradelib.promotion.reconciliation import reconcile


class Shown(NamedTuple):
    """Where an attack is refused or survived, and the test that shows it: "file::test" or "file::test[row]"."""

    where: str
    test: str


HERE, BUNDLE = "promotion/test_attacks.py", "bundle/test_verify.py"
HISTORY, SAME = "promotion/test_history.py", "promotion/test_reconciliation.py"
CRASH, SEEN = "promotion/test_crash.py", "test_an_attack_is_seen_and_named"
TABLE: dict[str, list[Shown]] = {
    "an alias is moved by hand in the UI": [
        Shown("reconcile", f"{SAME}::test_an_alias_moved_by_hand_is_named_and_moved_back")
    ],
    "the manifest is edited": [
        Shown("load_bundle", f"{BUNDLE}::test_every_flipped_byte_is_seen"),
        Shown("load_bundle", f"{BUNDLE}::{SEEN}[permission raised]"),
        Shown("load_bundle", f"{BUNDLE}::{SEEN}[a need that nothing asks for]"),
        Shown("the runner, reconcile", f"{HERE}::test_the_door_stays_shut[the manifest is edited]"),
    ],
    "the model is swapped": [
        Shown("load_bundle", f"{BUNDLE}::{SEEN}[file of another bundle]"),
        Shown("the runner, reconcile", f"{HERE}::test_the_door_stays_shut[the model is swapped]"),
        Shown(
            "the runner, reconcile", f"{HERE}::test_the_door_stays_shut[the model is swapped by somebody with a key]"
        ),
        Shown("reconcile", f"{HERE}::test_another_bundle_under_an_admitted_name_is_not_the_admitted_one"),
    ],
    "the wheel is replaced": [
        Shown("load_bundle", f"{BUNDLE}::{SEEN}[wheel with one more module]"),
        Shown("verify_runtime", "bundle/test_runtime.py::test_the_first_difference_is_named"),
        Shown("promote", "promotion/test_promote.py::test_a_sealed_package_that_decides_otherwise_is_caught"),
        Shown("the runner, reconcile", f"{HERE}::test_the_door_stays_shut[the wheel is replaced]"),
        Shown(
            "the runner, reconcile", f"{HERE}::test_the_door_stays_shut[the wheel is replaced by somebody with a key]"
        ),
    ],
    "an older signature on a newer content": [
        Shown("load_bundle", f"{BUNDLE}::{SEEN}[attestation of another bundle]"),
        Shown("the runner, reconcile", f"{HERE}::test_the_door_stays_shut[an older signature on a newer content]"),
    ],
    "a key is revoked": [
        Shown("load_bundle", f"{BUNDLE}::test_trust_decides"),
        Shown("the ledger", f"{HISTORY}::test_a_revoked_key_acts_no_more_and_its_past_stays"),
        Shown("the runner, reconcile", f"{HERE}::test_the_door_stays_shut[a key is revoked]"),
        Shown("promote", f"{HERE}::test_with_a_revoked_key_nothing_is_promoted"),
    ],
    "evidence is missing": [
        Shown("load_bundle", f"{BUNDLE}::{SEEN}[no gates]"),
        Shown("load_bundle", f"{BUNDLE}::{SEEN}[permission without evidence]"),
        Shown("promote", "promotion/test_promote.py::test_a_refusal_names_the_reason_and_leaves_nothing"),
        Shown("the ledger", f"{HISTORY}::test_a_bundle_for_paper_never_moves_money"),
        Shown("the runner, reconcile", f"{HERE}::test_the_door_stays_shut[evidence is missing]"),
    ],
    "an approval is for another digest": [
        Shown("the ledger", f"{HISTORY}::test_an_approval_for_one_bundle_or_stage_is_none_for_another"),
        Shown("the ledger", f"{HISTORY}::test_a_rewritten_history_is_seen[another bundle is approved]"),
    ],
    "an entry of the ledger is edited": [
        Shown("the ledger", f"{HISTORY}::test_a_rewritten_history_is_seen[an entry is edited]"),
        Shown("the ledger", f"{HISTORY}::test_a_plain_edit_of_the_file_is_seen"),
    ],
    "an entry of the ledger is deleted": [
        Shown("the ledger", f"{HISTORY}::test_a_rewritten_history_is_seen[an entry is deleted]")
    ],
    "entries of the ledger are reordered": [
        Shown("the ledger", f"{HISTORY}::test_a_rewritten_history_is_seen[two entries change places]")
    ],
    "the disk is full": [
        Shown("write_bundle", "bundle/test_format.py::test_a_full_disk_is_said_and_leaves_nothing"),
        Shown("promote", f"{CRASH}::test_a_disk_that_is_full_leaves_nothing_half_written"),
        Shown("ledger, registry", f"{CRASH}::test_a_disk_that_fills_after_the_bundle_has_its_place"),
    ],
    "a kill in the middle": [
        Shown("write_bundle", "bundle/test_format.py::test_a_killed_build_shows_no_bundle_and_the_next_one_cleans_up"),
        Shown("promote", f"{CRASH}::test_killed_after_any_step_everything_agrees_and_the_next_promotion_succeeds"),
        Shown("reconcile", f"{SAME}::test_a_killed_promotion_is_made_good"),
    ],
    "two promotions at once": [
        Shown("write_bundle", "bundle/test_format.py::test_builds_at_once_end_in_one_bundle"),
        Shown("promote", f"{CRASH}::test_two_promotions_of_one_candidate_at_once_are_one"),
        Shown("promote", f"{CRASH}::test_two_candidates_at_once_are_two_bundles_in_one_history"),
        Shown("the ledger", f"{HISTORY}::test_of_two_promotions_at_once_one_waits_or_is_told"),
    ],
}


@pytest.mark.parametrize("attack", TABLE)
def test_every_attack_of_the_table_is_shown_by_a_test_that_exists(project: Path, attack: str) -> None:
    for shown in TABLE[attack]:
        file, _, name = shown.test.partition("::")
        name, _, row = name.removesuffix("]").partition("[")
        tree = ast.parse((project / "tests" / file).read_text(encoding="utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, shown
        if row:  # of a table: a key of a dict that the test is given
            keys = {key.value for node in ast.walk(tree) if isinstance(node, ast.Dict) for key in _constants(node)}
            assert row in keys, shown


def _constants(node: ast.Dict) -> list[ast.Constant]:
    return [key for key in node.keys if isinstance(key, ast.Constant)]


# -- from end to end ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Desk:
    """A store with an admitted bundle and another one, the ledger, and the key of whoever seals."""

    store: Path
    bundle: Bundle
    other: Bundle
    ledger: PromotionLedger
    trust: TrustStore
    key: Any

    @property
    def folder(self) -> Path:
        return self.store / self.bundle.path.name

    def sign(self, contents: dict[str, bytes] | None = None, /, **fields: Any) -> None:
        """Somebody who holds the key makes the manifest fit again."""
        insider(self.folder, self.key, contents, **fields)


@pytest.fixture(scope="module")
def sealed(
    request_of: Callable[..., dict[str, Any]], wheel: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Bundle, Bundle]:
    """Two bundles of one strategy, the first with other parameters than the second."""
    root = tmp_path_factory.mktemp("attacked")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tradelib.promotion.promote.build_wheel", lambda _, destination: copied(wheel, destination))
        patch.setattr("tradelib.promotion.promote.package_digest", lambda: wheel_digest(wheel))
        patch.setattr("tradelib.promotion.promote._ask", lambda *_: {"count": 200, "equal": True, "sealed": True})
        one, other = (promote(**request_of(root, rule=trend(fast))).bundle for fast in (3, 4))
    return one, other


@pytest.fixture
def desk(
    sealed: tuple[Bundle, Bundle], keys: tuple[Any, TrustStore], wheel: Path, tmp_path: Path, monkeypatch: Any
) -> Desk:
    """A copy of the store; the package that runs is the one in the wheel, whatever is edited meanwhile."""
    store = Path(shutil.copytree(sealed[0].path.parent, tmp_path / "store"))
    trust = TrustStore(tmp_path / "trust")
    trust.add(keys[0].public_key())
    ledger = PromotionLedger(tmp_path / "ledger.sqlite", trust=trust, approvers=TrustStore(tmp_path / "approvers"))
    ledger.admit(sealed[0], key=keys[0], why="passed research")
    running = runtime.wheel_files(wheel)
    monkeypatch.setattr(runtime, "package_files", lambda: running)
    return Desk(store, sealed[0], sealed[1], ledger, trust, keys[0])


def edit_manifest(desk: Desk) -> None:
    path = desk.folder / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b'"permission":"paper"', b'"permission":"live"'))


def swap_model(desk: Desk) -> None:
    shutil.copy(desk.store / desk.other.path.name / "rule.json", desk.folder)


def swap_model_and_sign(desk: Desk) -> None:
    desk.sign({"rule.json": (desk.store / desk.other.path.name / "rule.json").read_bytes()})


def replace_wheel(desk: Desk) -> None:
    wheel = next((desk.folder / "package").glob("*.whl"))
    wheel.write_bytes(wheel.read_bytes() + b"\0")


def replace_wheel_and_sign(desk: Desk) -> None:
    """One module exchanged, the package digest of the manifest made to fit."""
    import zipfile

    wheel = next((desk.folder / "package").glob("*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content + b"\n# one more line\n" * (name == "tradelib/errors.py"))
    desk.sign({f"package/{wheel.name}": wheel.read_bytes()}, package_digest=wheel_digest(wheel))


def older_signature(desk: Desk) -> None:
    """The newer bundle's files under the older one's attestation."""
    attestation = (desk.folder / "attestation.json").read_bytes()
    shutil.rmtree(desk.folder)
    shutil.copytree(desk.store / desk.other.path.name, desk.folder)
    (desk.folder / "attestation.json").write_bytes(attestation)


def revoke_key(desk: Desk) -> None:
    desk.trust.revoke(desk.bundle.key_id, "laptop stolen")


def lose_evidence(desk: Desk) -> None:
    (desk.folder / "evidence" / "gates.json").unlink()


ATTACKS: dict[str, tuple[Callable[[Desk], None], str]] = {
    "the manifest is edited": (edit_manifest, "about another manifest"),
    "the model is swapped": (swap_model, "rule.json was altered"),
    "the model is swapped by somebody with a key": (swap_model_and_sign, "does not decide as research did"),
    "the wheel is replaced": (replace_wheel, "whl was altered"),
    "the wheel is replaced by somebody with a key": (replace_wheel_and_sign, r"tradelib/errors\.py differs"),
    "an older signature on a newer content": (older_signature, "about another manifest"),
    "a key is revoked": (revoke_key, "revoked key .*: laptop stolen"),
    "evidence is missing": (lose_evidence, r"gates\.json is missing"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_door_stays_shut(desk: Desk, attack: str) -> None:
    """Given an admitted bundle that the runner would trade, after the attack neither door is open."""
    assert admit_bundle(desk.folder, "paper", trust=desk.trust).digest == desk.bundle.digest
    assert reconcile(desk.ledger, desk.store, trust=desk.trust).agreed
    act, words = ATTACKS[attack]
    act(desk)
    with pytest.raises(BundleError, match=words):
        admit_bundle(desk.folder, "paper", trust=desk.trust)
    (finding,) = reconcile(desk.ledger, desk.store, trust=desk.trust, repair=True).findings
    assert (finding.repaired, finding.strategy) == (False, "trend")
    assert desk.bundle.digest[:12] in f"{finding.subject} {finding.expected}"


def test_another_bundle_under_an_admitted_name_is_not_the_admitted_one(desk: Desk) -> None:
    """A whole, signed bundle in the place of another: the runner may verify it, the ledger does not know it."""
    shutil.rmtree(desk.folder)
    shutil.copytree(desk.store / desk.other.path.name, desk.folder)
    assert load_bundle(desk.folder, desk.trust).digest == desk.other.digest
    (finding,) = reconcile(desk.ledger, desk.store, trust=desk.trust, repair=True).findings
    assert (finding.found, finding.expected, finding.repaired) == (
        desk.other.digest[:12],
        desk.bundle.digest[:12],
        False,
    )
    with pytest.raises(PromotionError, match="no active bundle begins with"):
        desk.ledger.book("trend").find(desk.other.digest)


def test_with_a_revoked_key_nothing_is_promoted(
    desk: Desk, request_of: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch, wheel: Path
) -> None:
    monkeypatch.setattr("tradelib.promotion.promote.build_wheel", lambda _, destination: copied(wheel, destination))
    monkeypatch.setattr("tradelib.promotion.promote.package_digest", lambda: wheel_digest(wheel))
    revoke_key(desk)
    before = sorted(desk.store.iterdir())
    with pytest.raises(BundleError, match="revoked key .*: laptop stolen"):
        promote(**request_of(desk.store, rule=trend(5), trust=desk.trust))
    assert sorted(desk.store.iterdir()) == before


def test_the_table_of_the_manifest_is_whole(desk: Desk) -> None:
    """The manifest that the attacks above edit names every file and every need, so that nothing is outside of it."""
    manifest = json.loads((desk.folder / "manifest.json").read_bytes())
    inside = {path.relative_to(desk.folder).as_posix() for path in desk.folder.rglob("*") if path.is_file()}
    assert set(manifest["files"]) == inside - {"manifest.json", "attestation.json"}
    assert manifest["needs"] == []
