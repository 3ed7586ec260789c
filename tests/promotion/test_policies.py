"""Bundles whose exits, limits and entries act between decisions: recorded by a real run, then held against everything.

Each policy of `tests.live.test_policies` trades once over the paper venue, through the real client. Its journal is then
decided again, compared with research, split into parts, and traced; and spoiled, one entry at a time.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.live.mirrors import GOLDEN, market
from tests.live.support import HASTE, KEY, SECRET, Sealed, seal, synthetic_bars, venue
from tests.live.test_policies import COUNT, POLICIES, TICKS, bundle_of, paper, run
from tests.promotion.support import Entries, write_journal
from tradelib.bundle import Bundle
from tradelib.ledger import journal, open_journal
from tradelib.live import Runner
from tradelib.live.summary import Step
from tradelib.promotion.attribution import PARTS, LiveAttribution, attribute_live
from tradelib.promotion.lineage import trace_order
from tradelib.promotion.parity import compare_paper
from tradelib.promotion.replay import replay_equality, replay_journal
from tradelib.risk.exits import Distance, Exits
from tradelib.risk.limits import Limits

pytestmark = pytest.mark.integration

RECORDED = {**POLICIES, "daily loss": {"limits": Limits(daily_loss=0.005), "fraction": 0.9}}


@dataclass(frozen=True)
class Recorded:
    """A bundle, its market, and the journal of its run."""

    bundle: Bundle
    bars: pd.DataFrame
    path: Path

    def entries(self) -> Entries:
        with open_journal(self.path, read_only=True) as log:
            return [(entry.kind, entry.body) for entry in log.entries()]


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Sealed:
    return seal(tmp_path_factory.mktemp("sealed"), synthetic_bars())


@pytest.fixture(scope="module")
def record(sealed: Sealed, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Recorded]:
    """The run of a policy, made when it is first asked for."""
    folder, known = tmp_path_factory.mktemp("runs"), {}

    def recorded(policy: str) -> Recorded:
        if policy not in known:
            bars, path = market(3, COUNT, silent=0.0), folder / f"{len(known)}.sqlite"
            bundle = bundle_of(sealed, bars, **RECORDED[policy])
            with pytest.MonkeyPatch.context() as patch, venue(paper(bundle, bars)) as served:
                patch.setenv("TRADELIB_API_KEY", KEY)
                patch.setenv("TRADELIB_API_SECRET", SECRET)
                run(bundle, served.url, path, bars)
            known[policy] = Recorded(bundle, bars, path)
        return known[policy]

    return recorded


def bodies(entries: Entries, kind: str) -> list[dict[str, Any]]:
    return [body for found, body in entries if found == kind]


# Replay ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", RECORDED)
def test_everything_that_was_decided_is_decided_again(record: Callable[[str], Recorded], policy: str) -> None:
    recorded = record(policy)
    report = replay_journal(recorded.path, recorded.bundle)
    assert report.equal, report.summary()
    assert report.share == 1.0
    assert replay_equality(report).passed
    assert report.orders == len(bodies(recorded.entries(), journal.INTENT)) > 5
    assert report.explained == ()
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False))["orders"] == report.orders


@pytest.mark.parametrize("policy", ["stop and target", "trailing stop", "averaging down"])
def test_a_run_with_many_restarts_is_decided_again(sealed: Sealed, tmp_path: Path, policy: str) -> None:
    bars, path = market(3, COUNT, silent=0.0), tmp_path / "journal.sqlite"
    bundle = bundle_of(sealed, bars, **RECORDED[policy])
    with pytest.MonkeyPatch.context() as patch, venue(paper(bundle, bars)) as served:
        patch.setenv("TRADELIB_API_KEY", KEY)
        patch.setenv("TRADELIB_API_SECRET", SECRET)
        for last in range(GOLDEN - 1, COUNT - 1, 6):
            run(bundle, served.url, path, bars, last)
    report = replay_journal(path, bundle)
    assert report.equal, report.summary()
    assert report.orders > 5


Plant = Callable[[Entries], Entries]


def changed(kind: str, which: Callable[[dict[str, Any]], bool], /, **changes: Callable[[Any], Any]) -> Plant:
    """The first entry of a kind for which `which` holds, with fields changed."""

    def plant(entries: Entries) -> Entries:
        place = next(index for index, (found, body) in enumerate(entries) if found == kind and which(body))
        body = entries[place][1]
        told = {name: change(body[name]) for name, change in changes.items()}
        return [*entries[:place], (kind, {**body, **told}), *entries[place + 1 :]]

    return plant


def dropped(kind: str, which: Callable[[dict[str, Any]], bool]) -> Plant:
    def plant(entries: Entries) -> Entries:
        place = next(index for index, (found, body) in enumerate(entries) if found == kind and which(body))
        return [*entries[:place], *entries[place + 1 :]]

    return plant


def doubled(entries: Entries) -> Entries:
    """An order that nobody decided."""
    place, body = next((index, body) for index, (kind, body) in enumerate(entries) if kind == journal.INTENT)
    stray = {**body, "client_order_id": "tl-" + "0" * 32, "leg": "stop_loss-99"}
    return [*entries[: place + 1], (journal.INTENT, stray), *entries[place + 1 :]]


def kept(entries: Entries) -> Entries:
    """Neither the first cancel that the plan asked for, nor what became of the order, was written down."""
    name = next(body["client_order_id"] for kind, body in entries if kind == journal.CANCEL)
    gone = {"canceled", "pending_cancel"}
    return [
        (kind, body)
        for kind, body in entries
        if body.get("client_order_id") != name or not (kind == journal.CANCEL or body.get("status") in gone)
    ]


def up(value: float) -> float:
    return math.nextafter(value, math.inf)


def is_stop(body: dict[str, Any]) -> bool:
    return body.get("reason") == "trailing_stop"


SPOILED: dict[str, tuple[str, Plant, str]] = {
    "one bit of a fill's price": (
        "trailing stop",
        changed(journal.FILL, lambda body: True, price=up),
        "price of the fills of signal-0",
    ),
    "a fill of another quantity": (
        "trailing stop",
        changed(journal.FILL, lambda body: True, quantity=lambda value: value + 1.0),
        "quantity of the fills of signal-0",
    ),
    "a fill's fee": ("ladder", changed(journal.FILL, lambda body: True, fee=up), "fee of the fills of signal-0"),
    "a fill is missing": ("stop", dropped(journal.FILL, lambda body: True), "quantity of the fills of signal-0"),
    "a bar's close": (
        "trailing stop",
        changed(journal.BAR, lambda body: body["time"] > "2021-01-03", close=lambda value: value + 0.25),
        "",
    ),
    "a stop at another price": (
        "trailing stop",
        changed(journal.INTENT, is_stop, stop_price=lambda price: f"{float(price) + 0.25:.2f}"),
        "stop_price sent of trailing_stop-",
    ),
    "a stop of another size": (
        "stop",
        changed(journal.INTENT, lambda body: body.get("reason") == "stop_loss", quantity=lambda _: "1"),
        "quantity sent of stop_loss-",
    ),
    "a stop that became a limit": (
        "averaging down",
        changed(journal.INTENT, lambda body: body.get("kind") == "limit", kind=lambda _: "stop_limit"),
        "kind sent of scale_in-",
    ),
    "a target that was never sent": (
        "target",
        dropped(journal.INTENT, lambda body: body.get("reason") == "take_profit"),
        "",
    ),
    "an instruction at another price": (
        "trailing stop",
        changed(journal.INSTRUCTION, is_stop, stop_price=up),
        "stop_price of trailing_stop-",
    ),
    "an order that nobody decided": ("stop", doubled, "order of stop_loss-99"),
    "a stop that was never withdrawn": ("trailing stop", kept, "cancel of trailing_stop-"),
    "a limit that did not trip": (
        "daily loss",
        changed(journal.DECISION, lambda body: "halts" in body, halts=lambda _: []),
        "halts",
    ),
    "one bit of a weight": (
        "limits",
        changed(journal.DECISION, lambda body: body["target_weight"] == 0.6, target_weight=up),
        "target_weight",
    ),
    "cash from nowhere": (
        "time",
        changed(journal.EQUITY, lambda body: body["time"] > "2021-01-04", cash=lambda cash: cash + 1.0),
        "cash",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", SPOILED)
def test_one_planted_change_is_found_and_named(record: Callable[[str], Recorded], tmp_path: Path, fault: str) -> None:
    policy, plant, field = SPOILED[fault]
    recorded = record(policy)
    path = write_journal(tmp_path / "journal.sqlite", recorded.entries(), plant)
    report = replay_journal(path, recorded.bundle)
    assert not report.equal
    assert not replay_equality(report).passed
    fields = [deviation.field for deviation in report.deviations]
    assert any(found.startswith(field) for found in fields), fields
    first = report.first_deviation
    assert first is not None
    assert first.recorded != first.decided_again


def test_another_rule_parameter_is_found_at_the_first_stop(record: Callable[[str], Recorded]) -> None:
    """The stop was two ticks of price away; research says three: the first stop lies elsewhere."""
    recorded = record("stop")
    exits = recorded.bundle.rule.exits
    assert exits is not None
    wider = exits.replace(stop_loss=Distance(value=3.0, **TICKS))
    other = replace(recorded.bundle, rule=recorded.bundle.rule.replace(exits=wider))
    report = replay_journal(recorded.path, other)
    first = report.first_deviation
    assert first is not None
    assert first.field.startswith("stop_price of stop_loss-")
    assert first.recorded == first.decided_again + 1.0


# What the rule does not decide ----------------------------------------------------------------------------------------


def test_a_position_that_an_end_closes_is_explained_and_not_a_deviation(sealed: Sealed, tmp_path: Path) -> None:
    """Given a run that is stopped while it holds a position, and told to flatten: its orders go, and one is sent."""
    bars, path = market(3, COUNT, silent=0.0), tmp_path / "journal.sqlite"
    bundle = bundle_of(sealed, bars, exits=Exits(stop_loss=Distance(value=20.0, **TICKS)))

    def look(step: Step) -> None:
        if step.time > bars.index[GOLDEN + 10].isoformat() and step.position:
            runner.stop("enough")

    with pytest.MonkeyPatch.context() as patch, venue(paper(bundle, bars)) as served:
        patch.setenv("TRADELIB_API_KEY", KEY)
        patch.setenv("TRADELIB_API_SECRET", SECRET)
        terms: dict[str, Any] = {"venue_url": served.url, "journal_path": path, "patience": HASTE}
        runner = Runner(bundle, shutdown="flatten", on_progress=look, **terms)
        asyncio.run(runner.run())
    report = replay_journal(path, bundle)
    assert report.equal, report.summary()
    assert report.explained_by == {"operator": 2}
    assert [one.what.split()[0] for one in report.explained] == ["cancel", "flatten"]
    other = write_journal(tmp_path / "other.sqlite", Recorded(bundle, bars, path).entries(), half_flattened)
    assert next(one.field for one in replay_journal(other, bundle).deviations) == "quantity to flatten"


def half_flattened(entries: Entries) -> Entries:
    return [
        (kind, {**body, "quantity": str(float(body["quantity"]) / 2)})
        if kind == journal.INTENT and str(body.get("leg")).startswith("flatten-")
        else (kind, body)
        for kind, body in entries
    ]


def refused(entries: Entries) -> Entries:
    """The last order was turned down by the gate, and the run ended there."""
    place = max(index for index, (kind, _) in enumerate(entries) if kind == journal.INTENT)
    body = entries[place][1]
    signed = float(body["quantity"]) * (1.0 if body["side"] == "buy" else -1.0)
    told = {"rule": "collar", "reason": "too far from the market", "figure": 0.2, "threshold": 0.1, "quantity": signed}
    named = {"time": body["time"], "symbol": body["symbol"], "leg": body["leg"]}
    return [*entries[:place], (journal.REFUSAL, named | told)]


def test_what_the_gate_refuses_is_explained_with_its_figures(record: Callable[[str], Recorded], tmp_path: Path) -> None:
    recorded = record("time")
    path = write_journal(tmp_path / "journal.sqlite", recorded.entries(), refused)
    report = replay_journal(path, recorded.bundle)
    assert report.equal, report.summary()
    (one,) = report.explained
    assert (one.by, "refused by collar (0.2 against 0.1): too far from the market" in one.what) == ("gate", True)


def funded(entries: Entries) -> Entries:
    """A thousand more come in after the last decision but one, and the account is worth so much more."""
    bars = [index for index, (kind, _) in enumerate(entries) if kind == journal.BAR]
    given = {"cash": 1_000.0, "position": 0.0, "capital": 11_000.0, "share": 1.0, "reason": "more to trade with"}
    return [*entries[: bars[-1]], (journal.PURSE, given), *(_richer(kind, body) for kind, body in entries[bars[-1] :])]


def _richer(kind: str, body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    names = {journal.EQUITY: ("cash", "equity"), journal.DECISION: ("equity",)}.get(kind, ())
    return kind, {**body, **{name: body[name] + 1_000.0 for name in names}}


def test_cash_that_comes_in_is_explained_and_counted_from_its_place(
    record: Callable[[str], Recorded], tmp_path: Path
) -> None:
    recorded = record("target")
    path = write_journal(tmp_path / "journal.sqlite", recorded.entries(), funded)
    report = replay_journal(path, recorded.bundle)
    assert [one.by for one in report.explained] == ["funding"]
    assert not [one for one in report.deviations if one.field in ("cash", "equity")], report.summary()


# Research -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", RECORDED)
def test_paper_equals_research_with_every_policy(record: Callable[[str], Recorded], policy: str) -> None:
    recorded = record(policy)
    report = compare_paper(recorded.path, recorded.bundle, recorded.bars)
    assert report.equal, report.summary()
    assert report.compared["fills"] == len(bodies(recorded.entries(), journal.FILL)) > 5
    assert report.paper_equity == report.research_equity


UNEQUAL: dict[str, tuple[str, Plant, str, str]] = {
    "a fill's price": (
        "stop", changed(journal.FILL, lambda body: True, price=up), "fill", "price of signal"),
    "a fill's fee": ("stop", changed(journal.FILL, lambda body: True, fee=up), "fee", "fee of signal"),
    "a fill's quantity": (
        "ladder", changed(journal.FILL, lambda body: body["quantity"] < 0.0, quantity=lambda _: -1.0), "fill",
        "quantity of take_profit"),
    "a fill too few": ("time", dropped(journal.FILL, lambda body: body["quantity"] < 0.0), "fill", "fill of "),
    "another reason": (
        "time", changed(journal.INTENT, lambda body: body.get("reason") == "time_exit", reason=lambda _: "stop_loss"),
        "order", "reason"),
    "a halt too few": (
        "daily loss", changed(journal.DECISION, lambda body: "halts" in body, halts=lambda _: []), "decision", "halts"),
    "an equity": ("limits", changed(journal.EQUITY, lambda body: True, equity=up), "account", "equity"),
}  # fmt: skip


@pytest.mark.parametrize("fault", UNEQUAL)
def test_one_difference_from_research_is_named(record: Callable[[str], Recorded], tmp_path: Path, fault: str) -> None:
    policy, plant, category, field = UNEQUAL[fault]
    recorded = record(policy)
    path = write_journal(tmp_path / "journal.sqlite", recorded.entries(), plant)
    report = compare_paper(path, recorded.bundle, recorded.bars)
    assert len(report.differences) == 1, report.to_frame().to_string()
    assert report.differences[0].category == category
    assert report.differences[0].field.startswith(field)


# Attribution ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", RECORDED)
def test_a_faultless_run_with_policies_earned_what_research_says(
    record: Callable[[str], Recorded], policy: str
) -> None:
    recorded = record(policy)
    found = attribute_live(recorded.path, recorded.bundle, recorded.bars)
    assert set(found.parts.values()) == {0.0}
    assert found.live_profit == found.research_profit != 0.0


def on_other_terms(recorded: Recorded, folder: Path, **terms: float) -> LiveAttribution:
    """A run on a venue with other terms than research assumed, held against research."""
    elsewhere = replace(recorded.bundle, execution=replace(recorded.bundle.execution, **terms))
    with pytest.MonkeyPatch.context() as patch, venue(paper(elsewhere, recorded.bars)) as served:
        patch.setenv("TRADELIB_API_KEY", KEY)
        patch.setenv("TRADELIB_API_SECRET", SECRET)
        run(recorded.bundle, served.url, folder / "journal.sqlite", recorded.bars)
    assert replay_journal(folder / "journal.sqlite", recorded.bundle).equal
    return attribute_live(folder / "journal.sqlite", recorded.bundle, recorded.bars)


@pytest.mark.parametrize(
    ("part", "terms"), [("price", {"slippage": 0.004}), ("fee", {"fee_rate": 0.004}), ("missed fill", {})]
)
@pytest.mark.parametrize("policy", ["stop and target", "trailing stop"])
def test_other_terms_have_the_largest_part_and_the_parts_sum_to_the_whole(
    record: Callable[[str], Recorded], tmp_path: Path, policy: str, part: str, terms: dict[str, float]
) -> None:
    """Given a venue that slips, charges, or (missed fill) a journal of which one whole trade is gone.

    A stop that hangs on the price of the entry acts elsewhere when that slipped: this is no small part of it.
    """
    recorded = record(policy)
    if terms:
        found = on_other_terms(recorded, tmp_path, **terms)
    else:
        found = attribute_live(one_trade_less(recorded, tmp_path), recorded.bundle, recorded.bars)
    assert tuple(found.parts) == PARTS
    assert sum(found.parts.values()) == pytest.approx(found.total, abs=1e-9 * found.initial_equity)
    assert found.largest == part


def one_trade_less(recorded: Recorded, folder: Path) -> Path:
    """The first entry and its exit were never filled: the account stayed in cash meanwhile."""
    entries = recorded.entries()
    one, other = [body for kind, body in entries if kind == journal.FILL][:2]
    lost = sum(-body["quantity"] * body["price"] - body["fee"] for body in (one, other))
    names = {one["client_order_id"], other["client_order_id"]}
    gone = {journal.FILL, journal.ORDER}
    told = [(kind, body) for kind, body in entries if not (kind in gone and body["client_order_id"] in names)]
    last = max(index for index, (kind, _) in enumerate(told) if kind == journal.EQUITY)
    account = {name: told[last][1][name] - lost for name in ("cash", "equity")}
    told[last] = (journal.EQUITY, {**told[last][1], **account})
    return write_journal(folder / "journal.sqlite", told)


# Lineage --------------------------------------------------------------------------------------------------------------

TRACED = {
    "stop": ("stop_loss", "exits.stop_loss"),
    "target": ("take_profit", "exits.take_profit"),
    "trailing stop": ("trailing_stop", "exits.trailing_stop"),
    "time": ("time_exit", "exits.time_exit"),
    "averaging down": ("scale_in", "scale_in.step"),
    "daily loss": ("daily_loss", "limits.daily_loss"),
}


@pytest.mark.parametrize("policy", TRACED)
def test_an_order_of_a_policy_leads_to_the_decision_that_opened_its_position(
    record: Callable[[str], Recorded], tmp_path: Path, policy: str
) -> None:
    recorded, (reason, identity) = record(policy), TRACED[policy]
    entries = recorded.entries()
    filled = {body["client_order_id"] for body in bodies(entries, journal.FILL)}
    intents = bodies(entries, journal.INTENT)
    order = next(one for one in intents if one.get("reason") == reason and one["client_order_id"] in filled)
    found = trace_order(order["client_order_id"], recorded.path, recorded.bundle, root=tmp_path)
    assert found.broken == ()
    links = {link.kind: link for link in found.links}
    assert list(links)[:7] == ["order", "intent", "policy", "entry", "decision", "bar", "bundle"]
    assert all(links[kind].holds for kind in list(links)[:7])
    assert links["policy"].identity == identity
    opened = next(one for one in intents if one["client_order_id"] == links["entry"].identity)
    assert (opened["side"], opened.get("reason", "")) == ("buy", "")
    assert links["decision"].identity == links["bar"].identity == opened["time"] <= order["time"]


def test_a_stop_at_another_price_breaks_the_chain_at_its_policy(
    record: Callable[[str], Recorded], tmp_path: Path
) -> None:
    recorded = record("trailing stop")
    _, plant, _ = SPOILED["a stop at another price"]
    path = write_journal(tmp_path / "journal.sqlite", recorded.entries(), plant)
    order = next(body for body in bodies(recorded.entries(), journal.INTENT) if is_stop(body))
    found = trace_order(order["client_order_id"], path, recorded.bundle, root=tmp_path)
    assert [link.kind for link in found.broken] == ["policy"]
    assert "stop_price sent of trailing_stop-" in found.broken[0].check
