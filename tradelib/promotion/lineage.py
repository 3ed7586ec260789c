"""From an order back to the cell of the notebook that wanted it, each link checked.

An order has an intent, the intent a decision, the decision a bar; a bundle decided, which holds a rule and a package;
both came from a model version, a run, a commit, a state of the pipeline, and a notebook. A stop, a target or a further
entry was asked for by a policy of the rule, because of a position: its chain leads over the policy and the order that
opened that position to the decision behind it. Every link names what it was checked against. A link that cannot be
checked here (no registry, no git) says so: it is not proved, and not broken.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import yaml

from tradelib.bundle import Bundle, package_digest
from tradelib.bundle.trading.retelling import leg_of
from tradelib.bundle.trading.terms import exact
from tradelib.errors import LedgerError
from tradelib.home import project_root
from tradelib.ledger import Entry, Ledger, digest, journal
from tradelib.promotion.registry import Registry
from tradelib.promotion.replay import ReplayReport, journal_of, replay_journal

__all__ = ["Lineage", "Link", "research_lock_digest", "trace_order"]

_SEALED = ("register", "promote", "paper")
"""Stages that come after the research: what they wrote is no part of what a candidate is made of."""
_CELL = re.compile(r"# %% (?:\.\./)*(?P<notebook>nbs/\S+\.ipynb) #(?P<cell>\S+)")
_MOST_COMMITS = 500
_EXITS = ("stop_loss", "take_profit", "trailing_stop", "break_even", "time_exit")
_POLICIES = {
    **{name: ("exits", name) for name in _EXITS},
    "scale_in": ("scale_in", "step"),
    "daily_loss": ("limits", "daily_loss"),
    "daily_profit": ("limits", "daily_profit"),
    "drawdown": ("limits", "maximum_drawdown"),
}
"""Reason of an order -> the part of the rule and its parameter that ask for such orders."""
_ASKED_BY_POLICIES = re.compile(rf" of ({'|'.join(_POLICIES)})-\d+(\.\d+)?$")
_MARKS = {True: "proved", False: "BROKEN", None: "not checked"}


class Link(NamedTuple):
    """One step: `identity` of the thing, what it says, and whether it holds (None: could not be checked here)."""

    kind: str
    identity: str
    fact: str
    holds: bool | None
    check: str


@dataclass(frozen=True)
class Lineage:
    """The links of one order, from the order to the notebook."""

    order: str
    links: tuple[Link, ...]

    @property
    def proved(self) -> bool:
        """True when every link was checked and holds."""
        return all(link.holds for link in self.links)

    @property
    def broken(self) -> tuple[Link, ...]:
        """Links that do not hold."""
        return tuple(link for link in self.links if link.holds is False)

    def summary(self) -> str:
        """One sentence: how many links hold, and the first that does not."""
        open_ones = [link.kind for link in self.links if link.holds is None]
        if self.broken:
            first = self.broken[0]
            return f"The lineage of {self.order} is broken at {first.kind} {first.identity}: {first.check}."
        told = f", {', '.join(open_ones)} could not be checked here" if open_ones else ""
        return f"{len(self.links) - len(open_ones)} of {len(self.links)} links of {self.order} are proved{told}."

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {"order": self.order, "links": [link._asdict() for link in self.links], "summary": self.summary()}

    def to_frame(self) -> pd.DataFrame:
        """One row per link."""
        rows = [[*link[:3], _MARKS[link.holds], link.check] for link in self.links]
        return pd.DataFrame(rows, columns=["link", "identity", "fact", "status", "check"])

    def _repr_html_(self) -> str:
        return f"<p><b>{escape(self.summary())}</b></p>{self.to_frame().to_html(index=False, border=0)}"


def trace_order(
    order: str,
    journal_path: str | os.PathLike[str],
    bundle: Bundle,
    *,
    root: str | os.PathLike[str] | None = None,
    registry: Registry | None = None,
) -> Lineage:
    """The lineage of the order with this client or venue order id.

    `root`: the project with its git history (default: the one around the working directory). `registry`: its MLflow
    store (default: that of `root`, where there is one). Raises `LedgerError` for a journal that is missing, altered or
    of another bundle, and for an order that is not in it.
    """
    project = project_root() if root is None else Path(root)
    store = registry or (Registry(project) if Registry(project).exists else None)
    links = [*_in_journal(order, Path(journal_path), bundle), *_in_bundle(bundle), *_in_registry(bundle, store)]
    return Lineage(order, (*links, *_in_git(bundle, project), _notebook(bundle, project)))


def research_lock_digest(lock: Mapping[str, Any], candidate: str, markets: tuple[str, ...]) -> str:
    """SHA-256 of what a `dvc.lock` says about the research stages of `candidate` and of the markets."""
    stages: Mapping[str, Any] = lock.get("stages", {})
    mine = {
        name: body
        for name, body in stages.items()
        if name.partition("@")[0] not in _SEALED and name.partition("@")[2] in ("", candidate, *markets)
    }
    return digest(mine)


# The journal ----------------------------------------------------------------------------------------------------------


def _in_journal(order: str, path: Path, bundle: Bundle) -> Iterator[Link]:
    """Order, intent, decision and bar; the decision is made again."""
    report = replay_journal(path, bundle)  # refuses an altered journal, or one of another bundle
    with journal_of(path, bundle) as (log, _):
        found = _entries_of(log, order)
        opening = _opening(log, found[journal.INTENT])
        found |= _decided(log, (opening or found[journal.INTENT]).body["time"])
    done, intent, decision, bar = (
        found[kind] for kind in (journal.ORDER, journal.INTENT, journal.DECISION, journal.BAR)
    )
    chained = f"entry of the journal whose head is {report.journal_head[:12]}, every hash of it right"
    if done is None:
        yield Link("order", order, "the venue's answer is unknown", None, "no answer was journalled")
    else:
        body = done.body
        told = f"{body['status']}: {body['quantity']:g} at {body['price']}, venue's id {body['venue_order_id']}"
        yield Link("order", body["client_order_id"], told, True, f"{_place(done)}, {chained}")
    said = f"{intent.body['side']} {intent.body['quantity']} {intent.body['symbol']}"
    yield Link(
        "intent", intent.body["client_order_id"], said, True, f"{_place(intent)}, written before the order was sent"
    )
    if opening is not None:
        yield _policy(bundle, intent, report)
        said = f"{opening.body['side']} {opening.body['quantity']} {opening.body['symbol']}"
        yield Link("entry", opening.body["client_order_id"], said, True, f"{_place(opening)}, it opened the position")
    yield _decision(decision, report)
    prices = f"open {bar.body['open']:g}, close {bar.body['close']:g}"
    yield Link("bar", bar.body["time"], prices, True, f"{_place(bar)}, {chained}")


def _decision(decision: Entry, report: ReplayReport) -> Link:
    """The decision, made again; what exits and limits asked for in the same bar has a link of its own."""
    body = decision.body
    differs = [
        one for one in report.deviations if one.time == body["time"] and not _ASKED_BY_POLICIES.search(one.field)
    ]
    weight = f"signal {body['signal']}, weight {body['target_weight']}, {body['quantity']:+g}"
    check = str(differs[0]) if differs else f"{_place(decision)}, decided again with the bundle: equal to the last bit"
    return Link("decision", body["time"], weight, not differs, check)


def _policy(bundle: Bundle, intent: Entry, report: ReplayReport) -> Link:
    """What asked for an order that no signal asked for."""
    reason, leg = str(intent.body["reason"]), leg_of(intent.body)
    if leg.startswith("flatten-"):
        return Link("operator", leg, reason, True, f"{_place(intent)}, all of the position and nothing else")
    part, name = _POLICIES.get(reason, ("rule", reason))
    policy = getattr(bundle.rule, part, None)
    told = f"{name} {getattr(policy, name, policy)}"
    differs = [one for one in report.deviations if one.field.endswith(f" of {leg}")]
    check = str(differs[0]) if differs else f"{leg}, asked for again by the bundle: equal to the last bit"
    return Link("policy", f"{part}.{name}", told, not differs, check)


def _opening(log: Ledger, intent: Entry) -> Entry | None:
    """The intent of the order that opened the position which this one is about; None for an order of the signal."""
    if not intent.body.get("reason"):
        return None
    held, opened = Decimal(0), ""
    for fill in log.entries(journal.FILL):
        if fill.sequence > intent.sequence:
            break
        opened = fill.body["client_order_id"] if held == 0 else opened
        held += exact(fill.body["quantity"])
    return log.get(f"intent:{opened}")


def _entries_of(log: Ledger, order: str) -> dict[str, Any]:
    """The last word on the order, and the entries it rests on."""
    answers = [
        one for one in log.entries(journal.ORDER) if order in (one.body["client_order_id"], one.body["venue_order_id"])
    ]
    name = answers[-1].body["client_order_id"] if answers else order
    intent = next((one for one in log.entries(journal.INTENT) if one.body["client_order_id"] == name), None)
    if intent is None:
        raise LedgerError(
            f"Journal {log.path} knows no order {order!r}: give a client or venue order id that is in it."
        )
    return {journal.ORDER: answers[-1] if answers else None, journal.INTENT: intent}


def _decided(log: Ledger, time: str) -> dict[str, Entry]:
    """The decision of a bar, and the bar."""
    found = {kind: log.get(f"{kind}:{time}") for kind in (journal.DECISION, journal.BAR)}
    there = {kind: entry for kind, entry in found.items() if entry is not None}
    if len(there) < len(found):
        raise LedgerError(f"Journal {log.path} holds an order of {time} without a decision on that bar.")
    return there


def _place(entry: Entry) -> str:
    return f"entry {entry.sequence} ({entry.hash[:12]})"


# The bundle -----------------------------------------------------------------------------------------------------------


def _in_bundle(bundle: Bundle) -> Iterator[Link]:
    told = f"{bundle.name}, for {bundle.permission}"
    check = f"every byte is what key {bundle.key_id} signed; the journal names this digest"
    yield Link("bundle", bundle.digest, told, True, check)
    here = package_digest()
    same = here == bundle.package_digest
    check = "the installed package is the sealed one" if same else f"the installed package is another one ({here[:12]})"
    yield Link("package", bundle.package_digest, bundle.wheel.name, True if same else None, check)


# The registry ---------------------------------------------------------------------------------------------------------


def _in_registry(bundle: Bundle, store: Registry | None) -> Iterator[Link]:
    """Model version and run: what they were tagged with is what was sealed."""
    registered = bundle.provenance.get("registered")
    if not isinstance(registered, dict):
        yield Link("model version", "none", "the bundle names none", None, "sealed without a registry")
        return
    name, version, run = registered["name"], int(registered["version"]), str(registered["run_id"])
    sealed = {
        "rule_digest": bundle.rule.digest,
        "data_digest": str(bundle.data.get("research", {}).get("digest")),
        "package_digest": bundle.package_digest,
    }
    for kind, identity, read in (
        ("model version", f"{name} {version}", lambda registry: registry.version_tags(name, version)),
        ("run", run, lambda registry: registry.run_tags(run)),
    ):
        yield _tagged(kind, identity, sealed, None if store is None else read(store))


def _tagged(kind: str, identity: str, sealed: Mapping[str, str], tags: Mapping[str, str] | None) -> Link:
    told = ", ".join(f"{name} {value[:12]}" for name, value in sealed.items())
    if tags is None:
        return Link(kind, identity, told, None, "there is no MLflow store here that knows it")
    other = [name for name, value in sealed.items() if tags.get(name) != value]
    if other:
        return Link(kind, identity, told, False, f"MLflow says {other[0]} {tags.get(other[0])}")
    return Link(kind, identity, told, True, f"MLflow has the same {', '.join(sealed)}")


# Commit and pipeline --------------------------------------------------------------------------------------------------


def _in_git(bundle: Bundle, root: Path) -> Iterator[Link]:
    commit, _, changed = str(bundle.provenance.get("commit", "unknown")).partition("+")
    known = _git(root, "log", "-1", "--format=%s", commit) if re.fullmatch(r"[0-9a-f]{40}", commit) else None
    if known is None:
        yield Link("commit", commit, "", None, "git does not know it here")
    else:
        check = "sealed from a working tree with changes that no commit holds" if changed else "git knows it"
        yield Link("commit", commit, known.strip(), None if changed else True, check)
    wanted = str(bundle.provenance.get("dvc_lock_digest", "none"))
    found = next((place for place, lock in _locks(root, bundle) if lock == wanted), None)
    check = f"the research stages of dvc.lock have this digest {found}" if found else "no state of dvc.lock here has it"
    yield Link("dvc.lock", wanted, str(bundle.provenance.get("candidate", "")), True if found else None, check)


def _locks(root: Path, bundle: Bundle) -> Iterator[tuple[str, str]]:
    """Digest of `dvc.lock` in the working tree, then in each commit that changed it, newest first."""
    candidate = str(bundle.provenance.get("candidate", bundle.name))

    def of(read: Callable[[str], str | None]) -> str | None:
        lock, params = read("dvc.lock"), read("params.yaml")
        if lock is None or params is None:
            return None
        try:
            markets = tuple((yaml.safe_load(params) or {}).get("markets", {}))
            return research_lock_digest(yaml.safe_load(lock) or {}, candidate, markets)
        except (yaml.YAMLError, AttributeError):
            return None

    commits = (_git(root, "log", f"-{_MOST_COMMITS}", "--format=%H", "--", "dvc.lock") or "").split()
    for place, read in (
        ("in the working tree", lambda name: _text(root / name)),
        *((f"in commit {one[:12]}", lambda name, one=one: _git(root, "show", f"{one}:{name}")) for one in commits),
    ):
        found = of(read)
        if found is not None:
            yield place, found


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout


# The notebook ---------------------------------------------------------------------------------------------------------


def _notebook(bundle: Bundle, root: Path) -> Link:
    """The cell that defines the strategy, found in the sealed package and compared with the notebook."""
    kind = type(bundle.rule.strategy)
    member = f"{kind.__module__.replace('.', '/')}.py"
    with zipfile.ZipFile(bundle.wheel) as archive:
        source = archive.read(member).decode("utf-8") if member in archive.namelist() else ""
    found = _cell_of(source, kind.__name__)
    if found is None:
        return Link("notebook cell", member, kind.__name__, None, "the module was not exported from a notebook")
    notebook, cell, sealed = found
    identity, commit = f"{notebook} #{cell}", str(bundle.provenance.get("commit", "")).partition("+")[0]
    places = (
        ("at that commit", _git(root, "show", f"{commit}:{notebook}") if commit else None),
        ("in the working tree", _text(root / notebook)),
    )
    there = {place: _same_cell(text, cell, sealed) for place, text in places if text is not None}
    for place, same in there.items():
        if same:
            return Link(
                "notebook cell", identity, f"class {kind.__name__}", True, f"the cell {place} is what was sealed"
            )
    if there:
        return Link("notebook cell", identity, f"class {kind.__name__}", False, "the cell does not say what was sealed")
    return Link("notebook cell", identity, f"class {kind.__name__}", None, "the notebook is not here")


def _cell_of(source: str, name: str) -> tuple[str, str, str] | None:
    """Notebook, cell id and text of the exported cell that defines the class `name`."""
    lines = source.splitlines()
    line = next(
        (node.lineno - 1 for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == name),
        None,
    )
    marks = {number: found for number, text in enumerate(lines) if (found := _CELL.match(text))}
    before = [number for number in marks if line is not None and number < line]
    if not before:
        return None
    start = max(before)
    end = min((number for number in marks if number > start), default=len(lines))
    return marks[start]["notebook"], marks[start]["cell"], "\n".join(lines[start + 1 : end]).strip()


def _same_cell(notebook: str, cell: str, sealed: str) -> bool:
    try:
        cells = {one.get("id"): "".join(one["source"]) for one in json.loads(notebook)["cells"]}
    except (ValueError, KeyError, TypeError):
        return False
    text = "\n".join(line for line in cells.get(cell, "").splitlines() if not line.startswith("#|"))
    return text.strip() == sealed
