"""The ledger of promotions: which bundle stood where, since when, on whose word, and why.

Append-only and hash-chained as every ledger here, and each entry is signed by the key of whoever made it, together
with the hash of the entry before: rewriting the chain takes the keys of everybody in it. What stands now is not stored
anywhere; it follows from the entries, so it cannot disagree with them. An entry that the rules do not allow at its
place (a stage skipped, a bundle advanced that was never admitted) makes the whole history untrustworthy.

One strategy has at most one live bundle, its champion, and at most one canary, which takes its share of the capital
from the champion. Any number may be on paper.
"""

from __future__ import annotations

import base64
import getpass
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tradelib.bundle import Bundle, TrustStore
from tradelib.bundle.attestation import pre_authentication
from tradelib.bundle.keys import key_id
from tradelib.errors import LedgerError, PromotionError
from tradelib.home import project_home
from tradelib.ledger import Entry, Ledger, canonical
from tradelib.promotion.gates import GateResult, verdict
from tradelib.promotion.stages import PAPER, Stage, Stages, TrackRecord, breaches, may_enter

__all__ = ["Book", "PromotionLedger", "Standing"]

ADMIT = "admit"
APPROVE = "approve"
ADVANCE = "advance"
ROLLBACK = "rollback"
_COMMON = frozenset({"name", "bundle", "by", "why", "after", "key_id", "signature"})
VOCABULARY: Mapping[str, frozenset[str]] = {
    ADMIT: _COMMON | {"stage", "folder", "permission", "champion", "gates"},
    APPROVE: _COMMON | {"stage"},
    ADVANCE: _COMMON | {"stage", "gates"},
    ROLLBACK: _COMMON | {"stage", "restored", "gates"},
}
_SIGNED = "application/vnd.tradelib.promotion+json"


@dataclass(frozen=True)
class Standing:
    """Where a bundle stands: `stage` since the entry `sequence` at `time`; `capital_share` of its strategy now."""

    name: str
    bundle: str
    folder: str
    permission: str
    stage: str
    capital_share: float
    sequence: int
    time: str
    approvals: tuple[tuple[str, str], ...] = ()
    """Key id of the approver and the stage that was approved."""


@dataclass(frozen=True)
class Book:
    """The bundles of one strategy. `champion` is live, `canary` on its way; `retired` were live, latest last."""

    name: str
    champion: Standing | None = None
    canary: Standing | None = None
    paper: tuple[Standing, ...] = ()
    retired: tuple[Standing, ...] = ()
    withdrawn: frozenset[str] = field(default=frozenset())

    @property
    def active(self) -> tuple[Standing, ...]:
        """All that a runner may run: champion, canary, and those on paper, oldest first."""
        return tuple(one for one in (self.champion, self.canary, *self.paper) if one is not None)

    def find(self, bundle: str) -> Standing:
        """The active standing of the bundle whose digest begins with `bundle`; `PromotionError` for none or several."""
        found = [one for one in self.active if one.bundle.startswith(bundle)] if bundle else []
        if len(found) != 1:
            known = ", ".join(f"{one.bundle[:12]} ({one.stage})" for one in self.active) or "none"
            what = f"{len(found)} active bundles begin" if found else "no active bundle begins"
            raise PromotionError(f"{self.name}: {what} with {bundle!r}; there are {known}.")
        return found[0]


class PromotionLedger:
    """The history in `path` (default: `promotions.sqlite` in the project's home).

    `stages`: the way up. `trust`: who may admit, advance and roll back; `approvers`: who may approve, a store of its
    own, so that nobody is both by accident (defaults: the folders `trust` and `approvers` in the project's home).
    Everything that reads checks the chain, every signature and every step, and raises `LedgerError` for the first entry
    that does not stand.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        stages: Stages | None = None,
        trust: TrustStore | None = None,
        approvers: TrustStore | None = None,
    ) -> None:
        self.path = Path(path) if path is not None else project_home() / "promotions.sqlite"
        self.stages = stages or Stages()
        self.trust = trust or TrustStore()
        self.approvers = approvers or TrustStore(project_home() / "approvers")

    # Writing ---------------------------------------------------------------------------------------------------------

    def admit(
        self,
        bundle: Bundle,
        *,
        key: Ed25519PrivateKey,
        why: str,
        by: str | None = None,
        gates: Iterable[GateResult | Mapping[str, Any]] | None = None,
    ) -> Standing:
        """Let a sealed bundle trade on paper. `gates` default to those sealed in it. Twice is once."""
        with self._turn() as (ledger, books, head):
            book = books.get(bundle.name, Book(bundle.name))
            for one in book.active:
                if one.bundle == bundle.digest:
                    return one
            if bundle.digest in book.withdrawn:
                raise PromotionError(f"Bundle {bundle.digest[:12]} was withdrawn: research it again, and seal anew.")
            results = [dict(gate) for gate in bundle.gates] if gates is None else [_plain(gate) for gate in gates]
            champion = None if book.champion is None else book.champion.bundle
            facts = {"stage": PAPER, "folder": bundle.path.name, "permission": bundle.permission}
            said = {"name": bundle.name, "bundle": bundle.digest, **facts, "champion": champion, "gates": results}
            self._append(ledger, head, ADMIT, said, key, why, by)
        return self.book(bundle.name).find(bundle.digest)

    def approve(
        self, name: str, bundle: str, stage: str, *, key: Ed25519PrivateKey, why: str, by: str | None = None
    ) -> Standing:
        """Sign that the bundle may enter `stage`. The key must be an approver's, and not the one that sealed it up."""
        with self._turn() as (ledger, books, head):
            one = _book(books, name).find(bundle)
            self.stages.get(stage)
            if (key_id(key.public_key()), stage) in one.approvals:
                return one
            said = {"name": name, "bundle": one.bundle, "stage": stage}
            self._append(ledger, head, APPROVE, said, key, why, by)
        return self.book(name).find(one.bundle)

    def advance(
        self,
        name: str,
        bundle: str,
        record: TrackRecord | None,
        *,
        key: Ed25519PrivateKey,
        why: str,
        by: str | None = None,
    ) -> Standing:
        """Move a bundle one stage up. `PromotionError` names the first gate that says no; nothing is written then."""
        with self._turn() as (ledger, books, head):
            book = _book(books, name)
            one = book.find(bundle)
            stage = self.stages.after(one.stage)
            _check_permission(one, stage)
            if book.canary is not None and book.canary.bundle != one.bundle:
                raise PromotionError(
                    f"{name}: bundle {book.canary.bundle[:12]} is the canary ({book.canary.stage}): roll it back, "
                    "or let it go live first."
                )
            granted = len({who for who, what in one.approvals if what == stage.name})
            results = may_enter(stage, record, granted, bundle=one.bundle, before=one.stage)
            found = verdict(results, required=())
            if found.permission != "live":
                raise PromotionError(f"{name} {one.bundle[:12]} stays in {one.stage}. {found.failing[0].explanation}")
            gates = [result.to_dict() for result in results]
            said = {"name": name, "bundle": one.bundle, "stage": stage.name, "gates": gates}
            self._append(ledger, head, ADVANCE, said, key, why, by)
        return self.book(name).find(one.bundle)

    def roll_back(
        self,
        name: str,
        *,
        key: Ed25519PrivateKey,
        why: str,
        by: str | None = None,
        to: str | None = None,
        gates: Iterable[GateResult] = (),
    ) -> Book:
        """Withdraw the canary or, where there is none, the champion, for the bundle that was live before.

        `to`: digest of any bundle that was live once, by its first digits. `gates`: the breaches that were the reason.
        Without a bundle to go back to, the strategy has no live bundle afterwards.
        """
        with self._turn() as (ledger, books, head):
            book = _book(books, name)
            leaving, restored = _way_back(book, to)
            said: dict[str, Any] = {"name": name, "bundle": leaving.bundle, "stage": leaving.stage}
            said |= {"restored": restored, "gates": [result.to_dict() for result in gates]}
            self._append(ledger, head, ROLLBACK, said, key, why, by)
        return self.book(name)

    def check(
        self, name: str, record: TrackRecord, *, key: Ed25519PrivateKey, by: str | None = None
    ) -> list[GateResult]:
        """Hold a record against the rules of its stage; a breach rolls the bundle back at once. Returns breaches."""
        book = self.book(name)
        one = book.find(record.bundle)
        if one.stage != record.stage:
            raise PromotionError(f"{name} {record.bundle[:12]} is in {one.stage}, the record is of {record.stage}.")
        found = [result for result in breaches(self.stages.get(one.stage), record) if not result.passed]
        if found and one == book.champion and book.canary is not None:
            self.roll_back(name, key=key, why="The live bundle that it shares the capital with is rolled back.", by=by)
        if found and one in (book.canary, book.champion):
            self.roll_back(name, key=key, why=found[0].explanation, by=by, gates=found)
        return found

    # Reading ---------------------------------------------------------------------------------------------------------

    def books(self) -> dict[str, Book]:
        """Every strategy by name: who is champion, canary, on paper."""
        if not self._begun():
            return {}
        with self._open(read_only=True) as ledger:
            return self._fold(ledger)

    def book(self, name: str) -> Book:
        """The bundles of one strategy; `PromotionError` where it was never promoted."""
        return _book(self.books(), name)

    def check_may_run(self, bundle: Bundle, mode: str = PAPER) -> None:
        """`PromotionError` where the bundle was rolled back, or would move money ("live") in a stage without any.

        On paper a bundle may run before anybody admitted it.
        """
        book = self.books().get(bundle.name, Book(bundle.name))
        if bundle.digest in book.withdrawn:
            last = next(one for one in reversed(self.entries()) if one.body.get("bundle") == bundle.digest)
            raise PromotionError(
                f"{bundle.name} {bundle.digest[:12]} was withdrawn on {last.time[:10]}: {last.body['why']}"
            )
        share = max((one.capital_share for one in book.active if one.bundle == bundle.digest), default=0.0)
        if mode != PAPER and share == 0.0:
            raise PromotionError(
                f"{bundle.name} {bundle.digest[:12]} has no share of the capital: only a canary or the live bundle may "
                "trade money (tradelib stages)."
            )

    def entries(self) -> list[Entry]:
        """The checked entries, oldest first."""
        if not self._begun():
            return []
        with self._open(read_only=True) as ledger:
            self._fold(ledger)
            return list(ledger.entries())

    def log(self) -> pd.DataFrame:
        """One row per entry: time, what was done, strategy, bundle, stage, by whom, why."""
        rows = [
            [one.time, one.kind, body["name"], body["bundle"][:12], body["stage"], body["by"], body["why"]]
            for one in self.entries()
            for body in [one.body]
        ]
        columns = ["time", "act", "name", "bundle", "stage", "by", "why"]
        index = pd.RangeIndex(1, len(rows) + 1, name="entry")
        return pd.DataFrame(rows, columns=columns, index=index)

    def __repr__(self) -> str:
        return f"PromotionLedger({str(self.path)!r})"

    def _repr_html_(self) -> str:
        return f"<p><b>Promotions</b> <code>{escape(str(self.path))}</code></p>{self.log().to_html(border=0)}"

    def _begun(self) -> bool:
        """False before the first entry, and where a full disk left an empty file of it."""
        return self.path.exists() and self.path.stat().st_size > 0

    # The chain -------------------------------------------------------------------------------------------------------

    def _open(self, read_only: bool = False) -> Ledger:
        return Ledger(self.path, vocabulary=VOCABULARY, read_only=read_only)

    @contextmanager
    def _turn(self) -> Iterator[tuple[Ledger, dict[str, Book], str]]:
        """The ledger, what stands, and the head that the next entry must follow: of two acts at once, one cannot."""
        with self._open() as ledger:
            books = self._fold(ledger)
            yield ledger, books, ledger.head()[1]

    def _append(
        self,
        ledger: Ledger,
        head: str,
        kind: str,
        said: Mapping[str, Any],
        key: Ed25519PrivateKey,
        why: str,
        by: str | None,
    ) -> None:
        if not why.strip():
            raise PromotionError("Say why: a history without reasons explains nothing.")
        body = {**said, "by": by or getpass.getuser(), "why": why, "after": head, "key_id": key_id(key.public_key())}
        self._check_key(kind, body)
        signature = base64.b64encode(key.sign(_payload(kind, body))).decode("ascii")
        try:
            ledger.append(kind, {**body, "signature": signature}, key=f"after:{head}")
        except LedgerError as error:
            if ledger.head()[1] != head:
                raise PromotionError(
                    "Somebody else promoted at the same time: look at the log, then try again."
                ) from None
            raise error

    def _check_key(self, kind: str, body: Mapping[str, Any]) -> None:
        """The store that must know the key of an act; `PromotionError` where it does not."""
        store = self.approvers if kind == APPROVE else self.trust
        if body["key_id"] in store.revoked() or body["key_id"] not in dict(store.keys()):
            who = "an approver" if kind == APPROVE else "one who may promote"
            raise PromotionError(f"Key {body['key_id']} is not that of {who}: it is not trusted in {store.folder}.")

    def _fold(self, ledger: Ledger) -> dict[str, Book]:
        """What stands after all entries, each checked at its place."""
        sound = ledger.verify()
        if not sound.ok:
            raise LedgerError(f"{self.path}: entry {sound.sequence}: {sound.problem}")
        keys = {ADMIT: self.trust.keys(), APPROVE: self.approvers.keys()}
        books: dict[str, Book] = {}
        for entry in ledger.entries():
            try:
                _check_signature(entry, keys[APPROVE if entry.kind == APPROVE else ADMIT])
                book = books.get(entry.body["name"], Book(entry.body["name"]))
                books[book.name] = self._step(book, entry)
            except (PromotionError, KeyError) as error:
                raise LedgerError(f"{self.path}: entry {entry.sequence} does not stand: {error}") from None
        return books

    def _step(self, book: Book, entry: Entry) -> Book:
        body, stage = entry.body, entry.body["stage"]
        if entry.kind == ADMIT:
            if stage != PAPER or body["bundle"] in {one.bundle for one in book.active} | book.withdrawn:
                raise PromotionError("a bundle is admitted once, to paper")
            told = (body["bundle"], body["folder"], body["permission"])
            one = Standing(book.name, *told, PAPER, 0.0, entry.sequence, entry.time)
            return replace(book, paper=(*book.paper, one))
        if entry.kind == APPROVE:
            one = book.find(body["bundle"])
            return _put(book, replace(one, approvals=(*one.approvals, (body["key_id"], stage))))
        if entry.kind == ADVANCE:
            return self._advanced(book, entry)
        leaving, restored = _way_back(book, body["restored"])
        if (leaving.bundle, leaving.stage, restored) != (body["bundle"], stage, body["restored"]):
            raise PromotionError("it rolls back another bundle than the one that stood there")
        return self._rolled_back(book, leaving, restored, entry)

    def _advanced(self, book: Book, entry: Entry) -> Book:
        one = book.find(entry.body["bundle"])
        stage = self.stages.after(one.stage)
        if stage.name != entry.body["stage"] or (book.canary is not None and book.canary.bundle != one.bundle):
            raise PromotionError(f"from {one.stage} the way leads to {stage.name}, one bundle at a time")
        _check_permission(one, stage)
        if not all(gate["passed"] for gate in entry.body["gates"]):
            raise PromotionError(f"not every gate of {stage.name} was passed")
        moved = replace(one, stage=stage.name, sequence=entry.sequence, time=entry.time)
        rest = replace(book, canary=None, paper=tuple(each for each in book.paper if each.bundle != one.bundle))
        if stage.name == self.stages.last:
            retired = (
                rest.retired if rest.champion is None else (*rest.retired, replace(rest.champion, capital_share=0.0))
            )
            return replace(rest, champion=replace(moved, capital_share=1.0), retired=retired)
        return self._shared(replace(rest, canary=replace(moved, capital_share=stage.capital_share)))

    def _rolled_back(self, book: Book, leaving: Standing, restored: str | None, entry: Entry) -> Book:
        gone = replace(book, withdrawn=book.withdrawn | {leaving.bundle}, canary=None)
        if book.canary is not None:
            return self._shared(gone)
        again = next((one for one in book.retired if one.bundle == restored), None)
        kept = tuple(one for one in book.retired if one.bundle != restored)
        back = None if again is None else replace(again, capital_share=1.0, sequence=entry.sequence, time=entry.time)
        return replace(gone, champion=back, retired=kept)

    def _shared(self, book: Book) -> Book:
        """The champion has what the canary leaves."""
        taken = 0.0 if book.canary is None else book.canary.capital_share
        champion = None if book.champion is None else replace(book.champion, capital_share=1.0 - taken)
        return replace(book, champion=champion)


def _book(books: Mapping[str, Book], name: str) -> Book:
    if name not in books:
        known = ", ".join(sorted(books)) or "nothing was promoted yet"
        raise PromotionError(f"No bundle of {name!r} was ever promoted; there are: {known}.")
    return books[name]


def _check_permission(one: Standing, stage: Stage) -> None:
    if stage.capital_share > 0.0 and one.permission != "live":
        raise PromotionError(
            f"{one.name} {one.bundle[:12]} was sealed for paper only: its evidence gates were not all passed."
        )


def _way_back(book: Book, to: str | None) -> tuple[Standing, str | None]:
    """The bundle that leaves, and the digest of the one that is live afterwards."""
    leaving = book.canary or book.champion
    if leaving is None:
        raise PromotionError(f"{book.name} has neither a canary nor a live bundle: there is nothing to roll back.")
    if book.canary is not None:
        stays = None if book.champion is None else book.champion.bundle
        if to is not None and (stays is None or not stays.startswith(to)):
            raise PromotionError(
                f"{book.name}: roll back the canary {leaving.bundle[:12]} first, then the live bundle."
            )
        return leaving, stays
    earlier = [one.bundle for one in book.retired if one.bundle not in book.withdrawn]
    if to is None:
        return leaving, earlier[-1] if earlier else None
    found = [bundle for bundle in earlier if bundle.startswith(to)]
    if len(found) != 1:
        known = ", ".join(bundle[:12] for bundle in earlier) or "none"
        raise PromotionError(
            f"{book.name}: {to!r} names {len(found)} bundles that were live before; there are {known}."
        )
    return leaving, found[0]


def _put(book: Book, one: Standing) -> Book:
    """`book` with the standing of one bundle exchanged."""
    if book.champion is not None and book.champion.bundle == one.bundle:
        return replace(book, champion=one)
    if book.canary is not None and book.canary.bundle == one.bundle:
        return replace(book, canary=one)
    return replace(book, paper=tuple(one if each.bundle == one.bundle else each for each in book.paper))


def _plain(gate: GateResult | Mapping[str, Any]) -> dict[str, Any]:
    return gate.to_dict() if isinstance(gate, GateResult) else dict(gate)


def _payload(kind: str, body: Mapping[str, Any]) -> bytes:
    said = {name: value for name, value in body.items() if name != "signature"}
    return pre_authentication(canonical({"kind": kind, "body": said}).encode("ascii"), _SIGNED)


def _check_signature(entry: Entry, keys: Mapping[str, Any]) -> None:
    body = entry.body
    if body["after"] != entry.previous:
        raise PromotionError("it was signed to follow another entry")
    if body["key_id"] not in keys:
        raise PromotionError(f"it is signed with the key {body['key_id']}, which is not trusted for that")
    try:
        keys[body["key_id"]].verify(base64.b64decode(body["signature"], validate=True), _payload(entry.kind, body))
    except (InvalidSignature, ValueError):
        raise PromotionError(f"the signature of key {body['key_id']} does not fit: it was altered") from None
