"""Commands for whoever runs a bundle: the venue, the runner, and the audit of what they wrote."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from tradelib.cli.base import AsJson, app, say, show, tabulate
from tradelib.cli.shares import by_stage
from tradelib.errors import RunnerError

__all__ = ["audit", "backup", "restore", "run", "settings", "venue"]


@app.command(rich_help_panel="Operations")
def venue(
    bars: Annotated[
        list[Path] | None, typer.Argument(help="Recorded bars, one file per market (.parquet or .csv).")
    ] = None,
    start: Annotated[
        str | None, typer.Option(help="Open time of the first bar to trade; earlier ones are history.")
    ] = None,
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.")] = 8787,
    cash: Annotated[float, typer.Option(help="Initial cash in quote currency.")] = 100_000.0,
    fee_rate: Annotated[float, typer.Option(help="Fee as a fraction of traded value.")] = 0.001,
    slippage: Annotated[float, typer.Option(help="Slippage of market orders as a fraction of the open.")] = 0.0005,
    lots_per_unit: Annotated[float, typer.Option(help="Lots in one unit of the asset.")] = 10_000.0,
    minimum_notional: Annotated[float, typer.Option(help="Smallest order in quote currency.")] = 10.0,
    symbol: Annotated[list[str] | None, typer.Option(help="Market of each file as BASE/QUOTE, in their order.")] = None,
    dialect: Annotated[str, typer.Option(help="Language it speaks: binance, kraken or bitget.")] = "binance",
    pace: Annotated[str, typer.Option(help="What moves the clock: poll (the client), manual, or real time.")] = "poll",
    seconds_per_bar: Annotated[
        float | None, typer.Option(help="Real seconds per bar, for --pace real: 60 is real for 1m, 0.01 is faster.")
    ] = None,
    participation: Annotated[
        float | None, typer.Option(help="Share of a bar's volume that orders may take; large ones fill in parts.")
    ] = None,
    faults: Annotated[Path | None, typer.Option(help="Fault plan (.json): what goes wrong on purpose.")] = None,
    rate_limits: Annotated[bool, typer.Option("--rate-limits", help="Refuse who asks too often (429, 418).")] = False,
    state: Annotated[Path | None, typer.Option(help="File that keeps the account over restarts.")] = None,
    live: Annotated[
        str | None, typer.Option(help="Instead of files: public data of this exchange, needs --symbol.")
    ] = None,
    timeframe: Annotated[
        str | None, typer.Option(help="Bars to make of --live data, or of files of trades or order-book events.")
    ] = None,
    tick_by_tick: Annotated[
        bool, typer.Option("--tick-by-tick", help="Stop the clock at every recorded trade or order-book event.")
    ] = False,
) -> None:
    """Serve recorded bars, trades or books, or live public data, as a paper exchange on this machine.

    The key pair that clients must sign with comes from TRADELIB_API_KEY and TRADELIB_API_SECRET.
    """
    from tradelib.venue import run_venue

    run_venue(
        bars or [],
        symbols=symbol or None,
        dialect=dialect,
        pace=pace,
        seconds_per_bar=seconds_per_bar,
        participation=participation,
        faults=faults,
        rate_limits=rate_limits,
        state=state,
        live=live,
        timeframe=timeframe,
        tick_by_tick=tick_by_tick,
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
    bundle: Annotated[Path | None, typer.Argument(help="Folder of the bundle; several: --settings.")] = None,
    settings: Annotated[
        Path | None, typer.Option(help="Settings (.toml) of a runner of one or more bundles: see `tradelib settings`.")
    ] = None,
    venue: Annotated[str | None, typer.Option(help="URL of the paper venue on this machine.")] = None,
    mode: Annotated[
        str, typer.Option(help="paper. Live trading needs somebody who can halt it: --settings.")
    ] = "paper",
    exchange: Annotated[str, typer.Option(help="Dialect of the venue: binance, kraken or bitget.")] = "binance",
    journal: Annotated[Path, typer.Option(help="Journal of everything seen, decided and sent.")] = Path(
        "journal.sqlite"
    ),
    until: Annotated[str | None, typer.Option(help="Open time of the last bar to decide on.")] = None,
    poll_seconds: Annotated[float, typer.Option(help="Pause between two questions for new bars.")] = 0.0,
    shutdown: Annotated[
        str, typer.Option(help="At Ctrl-C: keep orders and position, cancel orders, or flatten the position too.")
    ] = "keep",
    emulate_exits: Annotated[
        bool,
        typer.Option(
            "--emulate-exits",
            help="The runner itself holds stops and targets that the exchange cannot: no protection while it is down.",
        ),
    ] = False,
    confirm_live: Annotated[bool, typer.Option("--confirm-live", help="Yes, this trades real money.")] = False,
    log: Annotated[str, typer.Option(help="plain, json (one object per line), or off; to stderr.")] = "plain",
    quiet: Annotated[bool, typer.Option("--quiet", help="No line per order.")] = False,
    as_json: AsJson = False,
) -> None:
    """Trade bundles: verify them, reproduce their golden decisions, then decide bar by bar.

    One bundle on the whole account, nothing else needed:

    [cyan]tradelib run bundles/NAME --venue http://127.0.0.1:8787[/cyan]

    Several bundles with shares, limits of the account, operators, alerts and metrics:

    [cyan]tradelib settings bundles/A bundles/B > runner.toml[/cyan]

    [cyan]tradelib run --settings runner.toml[/cyan]

    Keys come from TRADELIB_API_KEY and TRADELIB_API_SECRET. Ctrl-C finishes the current bar and stops in order; the
    same command goes on where the journal ends.
    """
    from tradelib.live.logs import configure_logging

    if (bundle is None) == (settings is None):
        raise RunnerError("name one bundle, or --settings FILE for several: tradelib run --help shows both")
    if log not in ("plain", "json", "off"):
        raise RunnerError(f"there is no log {log!r}: use plain, json or off")
    if settings is not None and emulate_exits:
        raise RunnerError("--emulate-exits is chosen for each bundle in the settings: emulate_exits = true there")
    pipe = None if log == "off" else configure_logging("INFO", as_json=log == "json")
    try:
        if settings is not None:
            stopped = _run_settings(settings, until, confirm_live, quiet, as_json)
        else:
            options: dict[str, Any] = {
                "venue_url": venue,
                "mode": mode,
                "exchange": exchange,
                "journal_path": journal,
                "until": until,
            }
            options |= {"poll_seconds": poll_seconds, "shutdown": shutdown, "confirm_live": confirm_live}
            options["emulate_exits"] = emulate_exits
            stopped = _run_bundle(bundle, options, quiet, as_json)
    finally:
        if pipe is not None:
            pipe.close()
    if stopped.startswith("signal"):
        raise typer.Exit(130)


def _run_bundle(bundle: Any, options: dict[str, Any], quiet: bool, as_json: bool) -> str:
    from tradelib.live import run_bundle

    _check_may_run([bundle], options["mode"])
    report = _reporter(quiet, as_json)
    told = None if report is None else lambda step: report("", step)
    summary = run_bundle(bundle, on_progress=told, **options)
    show(summary.as_dict(), "run", as_json)
    return summary.stopped


def _run_settings(path: Path, until: str | None, confirm_live: bool, quiet: bool, as_json: bool) -> str:
    from tradelib.live.fleet import run_bundles
    from tradelib.live.settings import load_settings

    settings = by_stage(load_settings(path))
    report = _reporter(quiet, as_json)
    summary = run_bundles(settings, until=until, on_progress=report, confirm_live=confirm_live)
    if as_json:
        show(summary.as_dict(), "", True)
        return summary.stopped
    columns = ["bundle", "symbol", "decisions", "orders", "filled", "final_equity", "halted"]
    rows = [[run.name, *(_shown(getattr(run, name)) for name in columns[1:])] for run in summary.runs]
    tabulate(columns, rows, f"stopped: {summary.stopped}")
    return summary.stopped


def _shown(value: Any) -> Any:
    return f"{value:,.2f}" if isinstance(value, float) else value


def _check_may_run(bundles: Sequence[Path], mode: str) -> None:
    """The ledger of promotions has the last word on what may run; on paper only where there is one."""
    from tradelib.home import project_home

    if mode == "paper" and not (project_home(create=False) / "promotions.sqlite").exists():
        return
    from tradelib.bundle import TrustStore, load_bundle
    from tradelib.promotion import PromotionLedger

    for bundle in bundles:
        PromotionLedger().check_may_run(load_bundle(bundle, TrustStore()), mode)


def _reporter(quiet: bool, as_json: bool) -> Callable[[str, Any], None] | None:
    """A line per order, for a person who watches."""
    if quiet or as_json:
        return None

    def report(name: str, step: Any) -> None:
        if step.quantity:
            trade = f"{step.quantity:+,.4f} at close {step.close:,.2f}  equity {step.equity:,.2f}"
            say(f"{step.time[:16].replace('T', ' ')}  {name}{'  ' if name else ''}{trade}  {step.status or 'not sent'}")

    return report


@app.command(rich_help_panel="Operations")
def settings(
    bundles: Annotated[list[Path], typer.Argument(help="Folders of the bundles to trade.")],
    venue: Annotated[str, typer.Option(help="URL of the paper venue.")] = "http://127.0.0.1:8787",
) -> None:
    """Print settings for a runner of these bundles, every one with its default and what it means.

    [cyan]tradelib settings bundles/A bundles/B > runner.toml[/cyan]

    Edit what differs, and delete the rest. Keys, tokens and addresses of alerts are secrets and come from the
    environment, never from this file.
    """
    from tradelib.live.settings import settings_template

    typer.echo(settings_template(bundles, venue), nl=False)


@app.command(rich_help_panel="Operations")
def backup(
    journal: Annotated[Path, typer.Argument(help="Journal, or the folder of a runner for all of its journals.")],
    into: Annotated[Path, typer.Argument(help="Folder for the copies.")],
    as_json: AsJson = False,
) -> None:
    """Copy journals while the runner writes them; each copy is verified before it replaces an older one.

    [cyan]tradelib backup runner backups/2026-01-31[/cyan]
    """
    from tradelib.errors import LedgerError
    from tradelib.ledger import backup_journal

    journals = sorted(journal.glob("*.sqlite")) if journal.is_dir() else [journal]
    if not journals or not all(path.is_file() for path in journals):
        raise LedgerError(f"{journal} is no journal, and no folder with journals (*.sqlite)")
    made = {path.name: backup_journal(path, into) for path in journals}
    show({name: f"{copy.sequence} entries, head {copy.hash[:16]}" for name, copy in made.items()}, str(into), as_json)


@app.command(rich_help_panel="Operations")
def restore(
    folder: Annotated[Path, typer.Argument(help="Folder of the backup.")],
    journal: Annotated[Path, typer.Argument(help="Where the journal shall be, under the name that it had.")],
    as_json: AsJson = False,
) -> None:
    """Put a journal that was backed up into place, verified whole. The one that it replaces must be moved away first.

    [cyan]tradelib restore backups/2026-01-31 runner/operations.sqlite[/cyan]

    What the backup lacks is not lost at the venue: the runner finds it at its start, and halts what it cannot explain.
    """
    from tradelib.ledger import restore_journal

    made = restore_journal(folder, journal)
    show({"entries": made.sequence, "head": made.hash}, f"restored to {journal}", as_json)


@app.command(rich_help_panel="Operations")
def audit(
    journal: Annotated[
        str,
        typer.Argument(help="Journal or ledger (.sqlite), the folder of a runner for all of its journals, or a URL."),
    ],
    head: Annotated[
        str | None, typer.Option(help="ENTRY:HASH of an earlier audit: shows whether the end was cut off since.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check the hash chain of a journal or ledger: has any entry been edited, deleted, inserted or reordered?

    [cyan]tradelib audit runner[/cyan]

    Keep what it prints somewhere else: with --head, the next audit proves that nothing was cut off since.
    """
    from tradelib.errors import LedgerError

    folder = Path(journal)
    names = sorted(map(str, folder.glob("*.sqlite"))) if folder.is_dir() else [journal]
    if not names:
        raise LedgerError(f"{journal} holds no journal (*.sqlite)")
    found = {name: _audited(name, head) for name in names}
    if len(found) == 1:
        entries, digest = found[names[0]]
        show({"entries": entries, "head": digest}, "the chain is whole", as_json)
    else:
        told = {Path(name).name: f"{entries}:{digest}" for name, (entries, digest) in found.items()}
        show(told, "the chains are whole", as_json)


def _audited(name: str, head: str | None) -> tuple[int, str]:
    """Entries and head of a ledger that stands; `LedgerError` names the first entry that does not."""
    from tradelib.errors import LedgerError
    from tradelib.ledger import open_journal

    if "://" not in name and not Path(name).is_file():
        raise LedgerError(f"{name} does not exist")
    with open_journal(name, read_only=True) as ledger:
        found = ledger.verify(_head(head))
    if not found.ok:
        raise LedgerError(f"{name}: entry {found.sequence}: {found.problem}")
    if not found.entries:
        raise LedgerError(f"{name} holds no entry: it is not a journal that a runner wrote")
    return found.entries, found.head


def _head(text: str | None) -> tuple[int, str] | None:
    if text is None:
        return None
    sequence, _, digest = text.partition(":")
    if not sequence.isdigit() or not re.fullmatch("[0-9a-f]{64}", digest):
        raise RunnerError(f"{text!r} is no head: it reads ENTRY:HASH, as an audit printed it")
    return int(sequence), digest
