"""Commands for promotion: from a sealed bundle to live money, step by step, and back at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tradelib.cli.base import AsJson, app, say, show, tabulate
from tradelib.cli.research import Candidate, refresh, reproduce
from tradelib.cli.shares import SettingsOption, tell_runner
from tradelib.errors import BundleError, PromotionError

if TYPE_CHECKING:
    import pandas as pd

    from tradelib.bundle import Bundle
    from tradelib.promotion import PromotionLedger, Reconciliation, Registry

__all__ = [
    "advance",
    "approve",
    "attribute",
    "challenge",
    "diff",
    "find_bundle",
    "lineage",
    "log",
    "promote",
    "reconcile",
    "replay",
    "rollback",
    "stages",
    "verify",
]

_PANEL = "Promotion"
BundleName = Annotated[str, typer.Argument(help="Folder of the bundle, or the first digits of its digest.")]
Name = Annotated[str, typer.Argument(help="Name of the strategy, as `tradelib stages` lists it.")]
Why = Annotated[str, typer.Option(help="The reason; it stays in the ledger for ever.")]
KeyName = Annotated[str, typer.Option("--key", help="Name of the signing key.")]
Journal = Annotated[Path, typer.Argument(help="Journal that a runner wrote (.sqlite).")]


@app.command(rich_help_panel=_PANEL)
def promote(candidate: Candidate, why: Why, key: KeyName = "local", as_json: AsJson = False) -> None:
    """Seal a candidate into a signed bundle and admit it to paper trading.

    Runs the pipeline as far as something changed. Refused where a safety gate fails.
    """
    from tradelib.bundle import load_private_key
    from tradelib.promotion import PromotionLedger

    root, ledger = reproduce(candidate, "promote"), PromotionLedger()
    one = ledger.admit(_sealed(root, candidate), key=load_private_key(key), why=why)
    show(_standing(one), f"{candidate} may trade on paper", as_json)
    _agree(ledger, repair=True)


@app.command(rich_help_panel=_PANEL)
def verify(bundle: BundleName, as_json: AsJson = False) -> None:
    """Check a bundle: every byte, its signature, the installed package, and its golden decisions."""
    from tradelib.bundle import reproduce_golden, verify_runtime

    sealed = find_bundle(bundle)
    verify_runtime(sealed)
    golden = reproduce_golden(sealed)
    if not golden.equal:
        raise BundleError(f"{bundle}: golden decisions are not reproduced here: {golden.first_difference}")
    rows = {
        "bundle": sealed.name,
        "digest": sealed.digest,
        "permission": sealed.permission,
        "signed_by": sealed.key_id,
        "symbol": f"{sealed.execution.symbol} {sealed.execution.timeframe}",
        "golden_decisions": f"{golden.count} reproduced bit for bit",
        "package": f"installed code equals the sealed wheel ({sealed.package_digest[:12]})",
    }
    show(rows, "verified", as_json)


@app.command(rich_help_panel=_PANEL)
def approve(
    name: Name,
    bundle: Annotated[str, typer.Argument(help="First digits of the bundle's digest.")],
    stage: Annotated[str, typer.Option(help="Stage that it may enter, such as canary_5 or live.")],
    why: Why,
    key: KeyName,
    as_json: AsJson = False,
) -> None:
    """Sign, as an approver, that a bundle may enter a stage. The key must be trusted with `keys trust --approver`."""
    from tradelib.bundle import load_private_key
    from tradelib.promotion import PromotionLedger

    one = PromotionLedger().approve(name, bundle, stage, key=load_private_key(key), why=why)
    show(_standing(one), f"{name} {one.bundle[:12]} may enter {stage}", as_json)


@app.command(rich_help_panel=_PANEL)
def advance(
    name: Name,
    bundle: Annotated[str, typer.Argument(help="First digits of the bundle's digest.")],
    journal: Annotated[Path, typer.Option(help="What its runner wrote in the stage it is in.")],
    why: Why,
    bars: Annotated[Path | None, typer.Option(help="Bars of the same market, to set research beside.")] = None,
    runner: SettingsOption = None,
    key: KeyName = "local",
    as_json: AsJson = False,
) -> None:
    """Move a bundle one stage up, on the record that its runner made. A breach of its stage rolls it back instead."""
    from tradelib.bundle import load_private_key
    from tradelib.data.files import read_bars
    from tradelib.promotion import PromotionLedger, track_record

    ledger, private = PromotionLedger(), load_private_key(key)
    one = ledger.book(name).find(bundle)
    given = None if bars is None else read_bars(bars)
    record = track_record(journal, find_bundle(one.bundle), one.stage, given)
    breached = ledger.check(name, record, key=private)
    if breached:
        _agree(ledger, repair=True)
        _tell(runner, breached[0].explanation)
        raise PromotionError(f"{name} {one.bundle[:12]} leaves {one.stage}: {breached[0].explanation}")
    moved = ledger.advance(name, one.bundle, record, key=private, why=why)
    show(_standing(moved), f"{name} moves up", as_json)
    _agree(ledger, repair=True)
    _tell(runner, why)


@app.command(rich_help_panel=_PANEL)
def rollback(
    name: Name,
    why: Why,
    to: Annotated[str | None, typer.Option(help="A bundle that was live before; default: the one before this.")] = None,
    runner: SettingsOption = None,
    key: KeyName = "local",
    as_json: AsJson = False,
) -> None:
    """Withdraw the canary or, without one, the live bundle, for the one that was live before."""
    from tradelib.bundle import load_private_key
    from tradelib.promotion import PromotionLedger

    ledger = PromotionLedger()
    book = ledger.roll_back(name, key=load_private_key(key), why=why, to=to)
    champion = "none" if book.champion is None else book.champion.bundle
    show({"strategy": name, "live_bundle": champion}, "rolled back", as_json)
    _agree(ledger, repair=True)
    _tell(runner, why)


@app.command(rich_help_panel=_PANEL)
def stages(as_json: AsJson = False) -> None:
    """Which bundle stands where: live, canary, on paper, and with which share of the capital."""
    from tradelib.promotion import PromotionLedger

    books = PromotionLedger().books()
    rows = [_standing(one) for book in books.values() for one in book.active]
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
    elif not rows:
        say("nothing was promoted yet: tradelib promote CANDIDATE --why '...'")
    else:
        tabulate(list(rows[0]), [list(row.values()) for row in rows])


@app.command(rich_help_panel=_PANEL)
def log(as_json: AsJson = False) -> None:
    """The ledger of promotions: who did what, when and why. Every hash and every signature is checked."""
    from tradelib.promotion import PromotionLedger

    ledger = PromotionLedger()
    if as_json:
        entries = [
            {"sequence": one.sequence, "time": one.time, "act": one.kind, **one.body} for one in ledger.entries()
        ]
        typer.echo(json.dumps(entries, indent=1))
    else:
        _frame(ledger.log().reset_index())


@app.command(rich_help_panel=_PANEL)
def reconcile(
    repair: Annotated[bool, typer.Option("--repair", help="Set the aliases in MLflow right.")] = False,
    as_json: AsJson = False,
) -> None:
    """Do ledger, bundle store and registry agree? Exit code 1 where they do not."""
    from tradelib.promotion import PromotionLedger

    found = _agree(PromotionLedger(), repair)
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=1))
    else:
        say(found.summary())
    if not found.agreed:
        raise typer.Exit(1)


@app.command(rich_help_panel=_PANEL)
def challenge(
    candidate: Candidate,
    margin: Annotated[float, typer.Option(help="By how much its Sharpe ratio must be higher, out of sample.")] = 0.0,
    key: KeyName = "local",
    as_json: AsJson = False,
) -> None:
    """Research a candidate anew on fresh data, and propose it for paper where it beats what trades.

    Made for cron: never asks, never goes beyond paper.
    """
    from tradelib import promotion
    from tradelib.bundle import load_private_key

    root = refresh(candidate)
    bundle, ledger = _sealed(root, candidate), promotion.PromotionLedger()
    book = ledger.books().get(bundle.name)
    standing = None if book is None else next(iter(book.active), None)
    champion = None if standing is None else find_bundle(str(root / "bundles" / standing.folder))
    found = promotion.challenge(ledger, bundle, champion, key=load_private_key(key), margin=margin)
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=1))
    else:
        say(found.summary())


@app.command(rich_help_panel=_PANEL)
def diff(
    before: BundleName,
    after: BundleName,
    code: Annotated[bool, typer.Option("--code", help="Print the lines of code that differ.")] = False,
    as_json: AsJson = False,
) -> None:
    """What changed between two bundles: parameters, terms, data, figures, gates, code, origin."""
    from tradelib.promotion import compare_bundles

    found = compare_bundles(find_bundle(before), find_bundle(after))
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=1))
        return
    say(found.summary())
    if found.changes:
        _frame(found.to_frame())
    for text in found.code.values() if code else ():
        say(text)


@app.command(rich_help_panel=_PANEL)
def replay(journal: Journal, bundle: BundleName, as_json: AsJson = False) -> None:
    """Decide again everything in a runner's journal; kept in the MLflow run. Exit code 1 where a single bit differs."""
    from tradelib.promotion import replay_journal

    sealed = find_bundle(bundle)
    report = replay_journal(journal, sealed)
    if as_json:
        typer.echo(json.dumps(report.to_dict(), indent=1))
    else:
        say(report.summary())
        if not report.equal:
            _frame(report.to_frame().head(20))
    _show_in_run(sealed, report.to_metrics(), {})
    if not report.equal:
        raise typer.Exit(1)


@app.command(rich_help_panel=_PANEL)
def attribute(
    journal: Journal,
    bundle: BundleName,
    bars: Annotated[Path, typer.Option(help="Bars of the same market, from the bundle's first golden bar on.")],
    as_json: AsJson = False,
) -> None:
    """Split the difference between the account and research into parts that sum to it; kept in the MLflow run."""
    from tradelib.data.files import read_bars
    from tradelib.promotion import attribute_live

    sealed = find_bundle(bundle)
    found = attribute_live(journal, sealed, read_bars(bars))
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=1))
    else:
        _frame(found.to_frame().round(6).reset_index(), found.summary())
    _show_in_run(sealed, found.to_metrics(), {"live_difference": found.plot()})


@app.command(rich_help_panel=_PANEL)
def lineage(
    order: Annotated[str, typer.Argument(help="Client order id, or the venue's.")],
    journal: Journal,
    bundle: BundleName,
    as_json: AsJson = False,
) -> None:
    """From an order back to the notebook: every link, and whether it holds. Exit code 1 where one is broken."""
    from tradelib.promotion import trace_order

    found = trace_order(order, journal, find_bundle(bundle))
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=1))
    else:
        _frame(found.to_frame(), found.summary())
    if found.broken:
        raise typer.Exit(1)


def find_bundle(text: str) -> Bundle:
    """The verified bundle in the folder `text`, or the one in the project's store whose digest begins so."""
    from tradelib.bundle import TrustStore, load_bundle
    from tradelib.home import project_root

    if Path(text).is_dir():
        return load_bundle(text, TrustStore())
    store = project_root() / "bundles"
    found = sorted(store.glob(f"*-{text[:12]}*")) if text.isalnum() else []
    if len(found) != 1:
        raise BundleError(f"{text}: there is no such folder, and {len(found)} bundles in {store} have such a digest")
    return load_bundle(found[0], TrustStore())


def _tell(runner: Path | None, why: str) -> None:
    if runner is not None:
        tell_runner(runner, why)


def _sealed(root: Path, candidate: str) -> Bundle:
    """The bundle that the pipeline sealed last."""
    told = json.loads((root / "runs" / "promote" / f"{candidate}.json").read_text(encoding="utf-8"))
    return find_bundle(str(root / "bundles" / told["folder"]))


def _agree(ledger: PromotionLedger, repair: bool) -> Reconciliation:
    """Compare ledger, store and registry; with `repair` the registry follows the ledger."""
    from tradelib.home import project_root
    from tradelib.promotion import reconcile

    return reconcile(ledger, project_root() / "bundles", _registry(), repair=repair)


def _show_in_run(sealed: Bundle, metrics: dict[str, float], plots: dict[str, Any]) -> None:
    """Add figures to the MLflow run that a bundle came from, where this project has its registry."""
    registry, registered = _registry(), sealed.provenance.get("registered")
    if registry is None or not isinstance(registered, dict) or registry.run_tags(registered["run_id"]) is None:
        return
    registry.log_metrics(registered["run_id"], metrics)
    registry.log_plots(registered["run_id"], plots)


def _registry() -> Registry | None:
    """The project's registry, where there is one."""
    from tradelib.home import project_root
    from tradelib.promotion import Registry

    registry = Registry(project_root())
    return registry if registry.exists else None


def _standing(one: Any) -> dict[str, Any]:
    share = f"{one.capital_share:.0%}"
    return {
        "strategy": one.name,
        "bundle": one.bundle[:12],
        "stage": one.stage,
        "capital": share,
        "since": one.time[:19],
    }


def _frame(frame: pd.DataFrame, title: str = "") -> None:
    tabulate(list(frame.columns), frame.to_numpy().tolist(), title)
