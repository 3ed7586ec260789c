"""The ledger of promotions: a way up in steps, a way back at once, and no way around."""

from __future__ import annotations

import base64
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tradelib.bundle import TrustStore
from tradelib.bundle.keys import key_id
from tradelib.errors import LedgerError, ParameterError, PromotionError
from tradelib.ledger import Ledger
from tradelib.promotion import history
from tradelib.promotion.history import PromotionLedger, Standing
from tradelib.promotion.stages import Stage, Stages, TrackRecord, breaches, may_enter

OWNER, APPROVER, STRANGER = (Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in (1, 2, 3))
A, B, C = ("a" * 64, "b" * 64, "c" * 64)
WAY = ("paper", "canary_5", "canary_50", "canary_100", "live")


def sealed(digest: str, permission: str = "live", name: str = "trend") -> Any:
    """What the ledger reads of a bundle."""
    gates = [{"tier": "safety", "name": "causality", "passed": True}]
    return SimpleNamespace(
        name=name, digest=digest, permission=permission, path=Path(f"trend-{digest[:12]}"), gates=gates
    )


def record(bundle: str, stage: str, **changes: Any) -> TrackRecord:
    """A good record: forty bars, all equal, nothing lost."""
    good: dict[str, Any] = {"bars": 40, "equal_bars": 40, "days": 40.0, "drawdown": 0.01}
    good |= {"total_return": 0.02, "research_return": 0.021}
    return TrackRecord(bundle, stage, **(good | changes))


@dataclass(frozen=True)
class Office:
    """A ledger with its people."""

    ledger: PromotionLedger

    def admit(self, digest: str, **changes: Any) -> Standing:
        return self.ledger.admit(sealed(digest, **changes), key=OWNER, why="passed research")

    def approve(self, digest: str, stage: str, key: Ed25519PrivateKey = APPROVER) -> Standing:
        return self.ledger.approve("trend", digest, stage, key=key, why="read the evidence")

    def advance(self, digest: str, given: TrackRecord | None = None) -> Standing:
        before = self.ledger.book("trend").find(digest).stage
        return self.ledger.advance("trend", digest, given or record(digest, before), key=OWNER, why="record is good")

    def climb(self, digest: str, to: str) -> Standing:
        """From nothing to a stage, with every approval."""
        one = self.admit(digest)
        for stage in WAY[1 : WAY.index(to) + 1]:
            self.approve(digest, stage)
            one = self.advance(digest)
        return one


@pytest.fixture
def office(tmp_path: Path) -> Office:
    trust, approvers = TrustStore(tmp_path / "trust"), TrustStore(tmp_path / "approvers")
    trust.add(OWNER.public_key())
    approvers.add(APPROVER.public_key())
    return Office(PromotionLedger(tmp_path / "promotions.sqlite", trust=trust, approvers=approvers))


def shares(office: Office) -> dict[str, float]:
    return {one.bundle[0]: one.capital_share for one in office.ledger.book("trend").active}


# -- the way up and the way back ---------------------------------------------------------------------------------------


def test_nothing_was_promoted_yet(office: Office) -> None:
    assert office.ledger.books() == {}
    assert office.ledger.log().empty
    with pytest.raises(PromotionError, match="No bundle of 'trend' was ever promoted; there are: nothing"):
        office.ledger.book("trend")


def test_a_file_that_a_full_disk_left_empty_is_no_history(office: Office) -> None:
    office.ledger.path.touch()
    assert office.ledger.books() == {}
    assert office.ledger.entries() == []
    assert office.admit(A).stage == "paper"


def test_the_first_bundle_climbs_to_live(office: Office) -> None:
    assert office.climb(A, "live").capital_share == 1.0
    book = office.ledger.book("trend")
    assert (book.champion.bundle, book.canary, book.paper) == (A, None, ())
    assert office.ledger.log()["act"].tolist() == ["admit", *["approve", "advance"] * 4]


def test_a_canary_takes_its_share_from_the_champion(office: Office) -> None:
    office.climb(A, "live")
    office.climb(B, "canary_5")
    assert shares(office) == {"a": pytest.approx(0.95), "b": 0.05}
    office.advance(B)
    assert shares(office) == {"a": 0.5, "b": 0.5}
    office.advance(B)
    assert shares(office) == {"a": 0.0, "b": 1.0}
    office.approve(B, "live")
    office.advance(B)
    book = office.ledger.book("trend")
    assert shares(office) == {"b": 1.0}
    assert [one.bundle for one in book.retired] == [A]


def test_a_failing_canary_gives_its_share_back_by_itself(office: Office) -> None:
    office.climb(A, "live")
    office.climb(B, "canary_50")
    found = office.ledger.check("trend", record(B, "canary_50", drawdown=0.16), key=OWNER)
    assert [result.name for result in found] == ["stage_drawdown"]
    book = office.ledger.book("trend")
    assert (book.champion.bundle, book.champion.capital_share, book.canary) == (A, 1.0, None)
    assert B in book.withdrawn
    last = office.ledger.entries()[-1].body
    assert last["why"] == "The account fell 16.0% from its highest equity in canary_50; at most 15.0% is allowed."
    assert (last["bundle"], last["restored"], last["gates"][0]["figure"]) == (B, A, 0.16)


def test_a_good_record_changes_nothing(office: Office) -> None:
    office.climb(A, "canary_5")
    assert office.ledger.check("trend", record(A, "canary_5"), key=OWNER) == []
    assert office.ledger.book("trend").canary is not None


def test_the_live_bundle_goes_back_to_the_one_before(office: Office) -> None:
    office.climb(A, "live")
    office.climb(B, "live")
    book = office.ledger.roll_back("trend", key=OWNER, why="the venue changed its rules")
    assert (book.champion.bundle, book.champion.capital_share, book.retired) == (A, 1.0, ())
    with pytest.raises(PromotionError, match="was withdrawn: research it again"):
        office.admit(B)


def test_any_bundle_that_was_live_can_come_back(office: Office) -> None:
    for digest in (A, B, C):
        office.climb(digest, "live")
    assert office.ledger.roll_back("trend", key=OWNER, why="try the oldest", to="aaaa").champion.bundle == A
    assert [one.bundle for one in office.ledger.book("trend").retired] == [B]


def test_a_failing_champion_takes_its_canary_with_it(office: Office) -> None:
    office.climb(A, "live")
    office.climb(B, "live")
    office.climb(C, "canary_5")
    office.ledger.check("trend", record(B, "live", equal_bars=39), key=OWNER)
    book = office.ledger.book("trend")
    assert (book.champion.bundle, book.canary) == (A, None)
    assert book.withdrawn == {B, C}


def test_without_an_earlier_bundle_nothing_is_live(office: Office) -> None:
    office.climb(A, "live")
    assert office.ledger.roll_back("trend", key=OWNER, why="it lost").active == ()
    with pytest.raises(PromotionError, match="neither a canary nor a live bundle"):
        office.ledger.roll_back("trend", key=OWNER, why="again")


def test_admitting_twice_is_once(office: Office) -> None:
    assert office.admit(A) == office.admit(A)
    assert len(office.ledger.entries()) == 1


# -- what is refused, and writes nothing -------------------------------------------------------------------------------

GIVEN = partial(record, A, "paper")
REFUSED: dict[str, tuple[Callable[[Office], Any], str]] = {
    "no record": (
        lambda office: office.ledger.advance("trend", A, None, key=OWNER, why="x"),
        "There is no decision in paper to compare",
    ),
    "a record of another bundle": (
        lambda office: office.advance(A, record(B, "paper")),
        "There is no decision in paper",
    ),
    "a record of another stage": (lambda office: office.advance(A, record(A, "live")), "There is no decision in paper"),
    "one decision differs": (lambda office: office.advance(A, GIVEN(equal_bars=39)), "39 of 40 decisions in paper"),
    "too few bars": (lambda office: office.advance(A, GIVEN(bars=19, equal_bars=19)), "19 bars were decided in paper"),
    "no approval": (lambda office: office.advance(A), "0 approvers signed that this bundle may enter canary_5"),
    "no reason": (lambda office: office.ledger.admit(sealed(B), key=OWNER, why=" "), "Say why"),
    "a stranger admits": (
        lambda office: office.ledger.admit(sealed(B), key=STRANGER, why="x"),
        "not that of one who may promote",
    ),
    "the owner approves": (lambda office: office.approve(A, "canary_5", OWNER), "not that of an approver"),
    "an approver admits": (
        lambda office: office.ledger.admit(sealed(B), key=APPROVER, why="x"),
        "not that of one who may promote",
    ),
    "an unknown stage": (lambda office: office.approve(A, "canery_5"), "no stage 'canery_5'; did you mean 'canary_5'"),
    "an unknown bundle": (lambda office: office.approve(C, "canary_5"), "no active bundle begins with 'cccc"),
    "no bundle at all": (lambda office: office.approve("", "canary_5"), "no active bundle begins with ''"),
    "another strategy": (
        lambda office: office.ledger.roll_back("momentum", key=OWNER, why="x"),
        "'momentum' was ever promoted; there are: trend",
    ),
    "nothing to roll back": (
        lambda office: office.ledger.roll_back("trend", key=OWNER, why="x"),
        "neither a canary nor a live bundle",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_writes_nothing(office: Office, case: str) -> None:
    office.admit(A)
    act, words = REFUSED[case]
    with pytest.raises((PromotionError, ParameterError), match=words):
        act(office)
    assert [entry.kind for entry in office.ledger.entries()] == ["admit"]


def test_an_approval_for_one_bundle_or_stage_is_none_for_another(office: Office) -> None:
    office.admit(A)
    office.admit(B)
    office.approve(A, "canary_5")
    office.approve(B, "live")
    with pytest.raises(PromotionError, match="0 approvers signed"):
        office.advance(B)
    office.advance(A)


def test_one_approver_counts_once(office: Office) -> None:
    office.admit(A)
    for _ in range(3):
        office.approve(A, "canary_5")
    assert office.ledger.book("trend").find(A).approvals == ((key_id(APPROVER.public_key()), "canary_5"),)


def test_a_bundle_for_paper_never_moves_money(office: Office) -> None:
    office.admit(A, permission="paper")
    office.approve(A, "canary_5")
    with pytest.raises(PromotionError, match="sealed for paper only"):
        office.advance(A)


def test_two_canaries_are_one_too_many(office: Office) -> None:
    office.climb(A, "live")
    office.climb(B, "canary_5")
    office.admit(C)
    office.approve(C, "canary_5")
    with pytest.raises(PromotionError, match="bundle bbbbbbbbbbbb is the canary"):
        office.advance(C)


def test_a_revoked_key_acts_no_more_and_its_past_stays(office: Office) -> None:
    office.admit(A)
    office.ledger.trust.revoke(key_id(OWNER.public_key()), "laptop stolen")
    with pytest.raises(PromotionError, match="is not trusted"):
        office.admit(B)
    assert office.ledger.book("trend").paper[0].bundle == A


def test_of_two_promotions_at_once_one_waits_or_is_told(office: Office, tmp_path: Path) -> None:
    told, ready = [], threading.Barrier(2)

    def act(digest: str) -> None:
        ledger = PromotionLedger(office.ledger.path, trust=office.ledger.trust, approvers=office.ledger.approvers)
        ready.wait()
        try:
            ledger.admit(sealed(digest), key=OWNER, why="now")
        except PromotionError as error:
            told.append(str(error))

    threads = [threading.Thread(target=act, args=(digest,)) for digest in (A, B)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    entries = office.ledger.entries()
    assert len(entries) + len(told) == 2
    assert all("Somebody else promoted at the same time" in words for words in told)


def test_the_slower_of_two_is_told(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one writes between the look and the act."""
    append = PromotionLedger._append

    def late(self: PromotionLedger, *given: Any) -> None:
        monkeypatch.setattr(PromotionLedger, "_append", append)
        office.admit(B)
        append(self, *given)

    monkeypatch.setattr(PromotionLedger, "_append", late)
    with pytest.raises(PromotionError, match="Somebody else promoted at the same time"):
        office.admit(A)
    assert [entry.body["bundle"] for entry in office.ledger.entries()] == [B]


# -- attacks on the file -----------------------------------------------------------------------------------------------


def rewritten(path: Path, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    """The whole chain written anew with other bodies: sound hashes, for whoever has the file and no key."""
    with Ledger(path, read_only=True) as ledger:
        entries = [{"kind": entry.kind, "body": entry.body} for entry in ledger.entries()]
    path.unlink()
    for aside in path.parent.glob(f"{path.name}-*"):
        aside.unlink()
    with Ledger(path) as ledger:
        for entry in change(entries):
            ledger.append(entry["kind"], entry["body"])


def edited(place: int, **changes: Any) -> Callable[[list[dict[str, Any]]], list[dict[str, Any]]]:
    def change(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        entries[place]["body"] |= changes
        return entries

    return change


def forged(kind: str, **said: Any) -> Callable[[list[dict[str, Any]]], list[dict[str, Any]]]:
    """One more entry, signed by a stranger."""

    def change(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        body = {"name": "trend", "bundle": A, "by": "me", "why": "x", "after": "0" * 64} | said
        body["key_id"] = key_id(STRANGER.public_key())
        signature = base64.b64encode(STRANGER.sign(history._payload(kind, body))).decode()
        return [*entries, {"kind": kind, "body": body | {"signature": signature}}]

    return change


ATTACKS: dict[str, tuple[Callable[[list[dict[str, Any]]], list[dict[str, Any]]], str]] = {
    "an entry is edited": (edited(0, permission="live2"), "entry 1 does not stand: the signature of key"),
    "the reason is edited": (edited(2, why="because"), "entry 2 does not stand: it was signed to follow another entry"),
    "another bundle is approved": (edited(1, bundle=B), "entry 2 does not stand"),
    "an entry is deleted": (lambda entries: [entries[0], *entries[2:]], "entry 2 .* signed to follow another entry"),
    "two entries change places": (lambda entries: [entries[1], entries[0], *entries[2:]], "follow another entry"),
    "an entry is repeated": (lambda entries: [*entries, entries[-1]], "follow another entry"),
    "a stranger adds one": (forged("approve", stage="live"), "signed to follow another entry"),
    "a field is missing": (lambda entries: [{**entries[0], "body": {"name": "trend"}}], "does not stand"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_rewritten_history_is_seen(office: Office, attack: str) -> None:
    office.climb(A, "canary_50")
    change, words = ATTACKS[attack]
    rewritten(office.ledger.path, change)
    with pytest.raises(LedgerError, match=words):
        office.ledger.books()


def test_a_plain_edit_of_the_file_is_seen(office: Office) -> None:
    office.climb(A, "canary_5")
    connection = sqlite3.connect(office.ledger.path)
    connection.execute("DROP TRIGGER entry_is_final")
    connection.execute("UPDATE entry SET body = replace(body, 'passed research', 'because') WHERE sequence = 1")
    connection.commit()
    connection.close()
    with pytest.raises(LedgerError):
        office.ledger.books()


def test_an_act_that_the_rules_forbid_does_not_stand_even_when_signed(office: Office) -> None:
    """An insider with a key writes past the ledger: a stage skipped, a failed gate, a paper bundle moving money."""
    office.admit(A, permission="paper")
    office.admit(B)
    failed = [{"name": "approvals", "tier": "evidence", "passed": False}]
    for bundle, stage, gates, words in (
        (B, "live", [], "the way leads to canary_5"),
        (A, "canary_5", [], "sealed for paper only"),
        (B, "canary_5", failed, "not every gate of canary_5 was passed"),
    ):
        copy = PromotionLedger(office.ledger.path.with_name(f"{stage}{len(gates)}.sqlite"), trust=office.ledger.trust)
        copy.path.write_bytes(office.ledger.path.read_bytes())
        with Ledger(copy.path) as ledger:
            said = {"name": "trend", "bundle": bundle, "stage": stage, "gates": gates}
            copy._append(ledger, ledger.head()[1], "advance", said, OWNER, "I may", None)
        with pytest.raises(LedgerError, match=words):
            copy.books()


def test_an_untrusted_ledger_is_no_history(office: Office, tmp_path: Path) -> None:
    office.admit(A)
    stranger = PromotionLedger(office.ledger.path, trust=TrustStore(tmp_path / "nobody"))
    with pytest.raises(LedgerError, match="which is not trusted for that"):
        stranger.books()


# -- stages ------------------------------------------------------------------------------------------------------------


def test_the_default_way() -> None:
    stages = Stages()
    assert stages.names == WAY
    assert [stage.capital_share for stage in stages.stages] == [0.0, 0.05, 0.5, 1.0, 1.0]
    with pytest.raises(ParameterError, match="live is the last stage"):
        stages.after("live")


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        ([("paper", 0.0)], "two or more stages"),
        ([("paper", 0.0), ("paper", 1.0)], "a name of its own"),
        ([("canary", 0.1), ("live", 1.0)], "the first stage is paper"),
        ([("paper", 0.0), ("live", 0.9)], "the last one has a share of 1"),
        ([("paper", 0.0), ("big", 1.0), ("small", 0.5), ("live", 1.0)], "small has a smaller share than big"),
    ],
)
def test_a_way_that_leads_nowhere_is_refused(stages: list[tuple[str, float]], words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        Stages(stages=tuple(Stage(name=name, capital_share=share) for name, share in stages))


def test_the_gates_of_a_stage_by_hand() -> None:
    stage = Stage(name="canary", capital_share=0.1, minimum_bars=30, minimum_days=45, approvals=2)
    results = {one.name: one for one in may_enter(stage, record(A, "paper"), 1, bundle=A, before="paper")}
    assert {name: one.passed for name, one in results.items()} == {
        "track_record": True,
        "track_record_bars": True,
        "track_record_days": False,
        "stage_parity": True,
        "approvals": False,
    }
    assert results["track_record_days"].explanation == "They span 40 days; canary asks for 45."


def test_the_breaches_of_a_stage_by_hand() -> None:
    stage = Stage(name="canary", capital_share=0.1, maximum_drawdown=0.05, maximum_shortfall=0.01)
    given = record(A, "canary", drawdown=0.04, total_return=0.01, research_return=0.03)
    assert {one.name: one.passed for one in breaches(stage, given)} == {
        "stage_parity": True,
        "stage_drawdown": True,
        "stage_shortfall": False,
    }
    assert [one.name for one in breaches(stage, record(A, "canary", drawdown=None, total_return=None))] == [
        "stage_parity"
    ]
