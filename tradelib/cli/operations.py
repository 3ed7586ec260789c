"""Commands for whoever runs a bundle: the venue, the runner, and the audit of what they wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tradelib.cli.base import AsJson, app, say, show

__all__ = ["audit", "run", "venue"]


@app.command(rich_help_panel="Operations")
def venue(
    bars: Annotated[list[Path], typer.Argument(help="Recorded bars, one file per market (.parquet or .csv).")],
    start: Annotated[
        str | None, typer.Option(help="Open time of the first bar to trade; earlier ones are history.")
    ] = None,
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.")] = 8787,
    cash: Annotated[float, typer.Option(help="Initial cash in quote currency.")] = 100_000.0,
    fee_rate: Annotated[float, typer.Option(help="Fee as a fraction of traded value.")] = 0.001,
    slippage: Annotated[float, typer.Option(help="Slippage of market orders as a fraction of the open.")] = 0.0005,
    lots_per_unit: Annotated[float, typer.Option(help="Lots in one unit of the asset.")] = 10_000.0,
    minimum_notional: Annotated[float, typer.Option(help="Smallest order in quote currency.")] = 10.0,
) -> None:
    """Serve recorded bars as a paper exchange on this machine (Binance spot's REST dialect).

    The key pair that clients must sign with comes from TRADELIB_API_KEY and TRADELIB_API_SECRET.
    """
    from tradelib.venue import run_venue

    run_venue(
        bars,
        port=port,
        cash=cash,
        fee_rate=fee_rate,
        slippage=slippage,
        lots_per_unit=lots_per_unit,
        minimum_notional=minimum_notional,
        start=start,
        announce=say,
    )


@app.command(rich_help_panel="Operations")
def run(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle.")],
    venue: Annotated[str | None, typer.Option(help="URL of the paper venue on this machine.")] = None,
    mode: Annotated[
        str, typer.Option(help="paper, or live (needs a bundle that passed its evidence gates).")
    ] = "paper",
    journal: Annotated[Path, typer.Option(help="Journal of everything seen, decided and sent.")] = Path(
        "journal.sqlite"
    ),
    until: Annotated[str | None, typer.Option(help="Open time of the last bar to decide on.")] = None,
    poll_seconds: Annotated[float, typer.Option(help="Pause between two questions for new bars.")] = 0.0,
    confirm_live: Annotated[bool, typer.Option("--confirm-live", help="Yes, this trades real money.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No line per order.")] = False,
    as_json: AsJson = False,
) -> None:
    """Trade a bundle: verify it, reproduce its golden decisions, then decide bar by bar.

    Keys come from TRADELIB_API_KEY and TRADELIB_API_SECRET. Ctrl-C finishes the current bar and stops in order; the
    same command goes on where the journal ends.
    """
    from tradelib.home import project_home
    from tradelib.live import Step, run_bundle

    if mode != "paper" or (project_home(create=False) / "promotions.sqlite").exists():
        from tradelib.bundle import TrustStore, load_bundle
        from tradelib.promotion import PromotionLedger

        PromotionLedger().check_may_run(load_bundle(bundle, TrustStore()), mode)

    def report(step: Step) -> None:
        if step.quantity and not quiet:
            say(
                f"{step.time[:10]}  {step.quantity:+,.4f} at close {step.close:,.2f}"
                f"  equity {step.equity:,.2f}  {step.status}"
            )

    summary = run_bundle(
        bundle,
        venue_url=venue,
        mode=mode,
        journal_path=journal,
        until=until,
        poll_seconds=poll_seconds,
        confirm_live=confirm_live,
        on_progress=None if as_json else report,
    )
    show(summary.as_dict(), "run", as_json)
    if summary.stopped.startswith("signal"):
        raise typer.Exit(130)


@app.command(rich_help_panel="Operations")
def audit(
    journal: Annotated[Path, typer.Argument(help="Journal or ledger (.sqlite).")],
    as_json: AsJson = False,
) -> None:
    """Check the hash chain of a journal or ledger: has any entry been edited, deleted, inserted or reordered?"""
    from tradelib.errors import LedgerError
    from tradelib.ledger import Ledger

    if not journal.is_file():
        raise LedgerError(f"{journal} does not exist")
    with Ledger(journal, read_only=True) as ledger:
        found = ledger.verify()
    if not found.ok:
        raise LedgerError(f"{journal}: entry {found.sequence}: {found.problem}")
    if not found.entries:
        raise LedgerError(f"{journal} holds no entry: it is not a journal that a runner wrote")
    show({"entries": found.entries, "head": found.head}, "the chain is whole", as_json)
