"""The command line: `tradelib --help`.

Exit codes of every command: 0 done, 1 refused or failed with one clear line, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from tradelib.errors import TradelibError

__all__ = ["app", "main"]

app = typer.Typer(
    name="tradelib",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="""From notebook to live order, with nothing lost in between.

Research happens in notebooks (`make lab`) and in the pipeline (`make demo`).
These commands are for what comes after: a signed bundle, a venue, the runner.

[bold]A first session, after `make demo`:[/bold]

1. Is this bundle whole, signed, and reproducible here?

[cyan]tradelib verify bundles/NAME[/cyan]

2. Serve recorded bars as a paper exchange, in a shell of its own. Both shells
need the same TRADELIB_API_KEY and TRADELIB_API_SECRET; any pair will do.

[cyan]tradelib venue artifacts/data/sp500/tape.parquet --start 2018-01-02[/cyan]

3. Trade the bundle there, bar by bar, and check what was written down:

[cyan]tradelib run bundles/NAME --venue http://127.0.0.1:8787[/cyan]

[cyan]tradelib audit journal.sqlite[/cyan]
""",
)
keys_app = typer.Typer(no_args_is_help=True, help="Signing keys and the keys that this machine trusts.")
app.add_typer(keys_app, name="keys")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def _say(text: str) -> None:
    """One line to the terminal, at once, whole words kept."""
    Console(soft_wrap=True, highlight=False).print(text, markup=False)


def _show(rows: dict[str, Any], title: str, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(rows, indent=1, default=str))
        return
    table = Table(title=title, show_header=False, title_justify="left")
    for name, value in rows.items():
        table.add_row(name.replace("_", " "), "" if value is None else f"{value}")
    Console().print(table)


def _version(value: bool) -> None:
    if value:
        from tradelib import __version__

        typer.echo(f"tradelib {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    del version


@app.command()
def strategies(as_json: AsJson = False) -> None:
    """List the strategies that are installed, with their parameters and defaults."""
    from tradelib.strategies import available, describe

    found = {name: describe(name)["properties"] for name in available()}
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    table = Table("strategy", "parameter", "default", "meaning")
    for name, parameters in found.items():
        for number, (parameter, about) in enumerate(parameters.items()):
            row = (name if number == 0 else "", parameter, f"{about.get('default')}", about.get("description", ""))
            table.add_row(*row)
    Console().print(table)


@app.command()
def verify(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle.")],
    as_json: AsJson = False,
) -> None:
    """Check a bundle: every byte, its signature, the installed package, and its golden decisions."""
    from tradelib.bundle import TrustStore, load_bundle, reproduce_golden, verify_runtime
    from tradelib.errors import BundleError

    sealed = load_bundle(bundle, TrustStore())
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
    _show(rows, "verified", as_json)


@app.command()
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
        announce=_say,
    )


@app.command()
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
    from tradelib.live import Step, run_bundle

    def report(step: Step) -> None:
        if step.quantity and not quiet:
            _say(
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
    _show(summary.as_dict(), "run", as_json)
    if summary.stopped.startswith("signal"):
        raise typer.Exit(130)


@app.command()
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
    _show({"entries": found.entries, "head": found.head}, "the chain is whole", as_json)


KeyName = Annotated[str, typer.Argument(help="Name of the key, such as your own.")]
InKeyring = Annotated[
    bool, typer.Option("--keyring", help="Encrypt with a new passphrase in the keyring of this machine.")
]


@keys_app.command("generate")
def keys_generate(name: KeyName, keyring: InKeyring = False) -> None:
    """Make an Ed25519 signing key and trust it on this machine.

    With TRADELIB_KEY_PASSPHRASE set, the private half is encrypted with it.
    """
    from tradelib.bundle import TrustStore, generate_key

    key = generate_key(name, keyring=keyring)
    TrustStore().add(key.public_path)
    _say(f"key {name} ({key.key_id}) is in {key.public_path.parent}; this machine trusts it")


@keys_app.command("rotate")
def keys_rotate(name: KeyName, keyring: InKeyring = False) -> None:
    """Replace a signing key by a new one of the same name.

    The old private half is destroyed; what it signed is still trusted. Was it stolen? Then revoke it, too.
    """
    from tradelib.bundle import TrustStore, rotate_key

    old, new = rotate_key(name, TrustStore(), keyring=keyring)
    _say(f"key {name} is {new.key_id} now, and trusted; {old.key_id} signs no more, and what it signed still counts")


@keys_app.command("trust")
def keys_trust(
    public: Annotated[Path, typer.Argument(help="Public key of somebody else (.pub), got by a way that you trust.")],
    approver: Annotated[bool, typer.Option("--approver", help="Trust it to approve promotions, not to sign.")] = False,
) -> None:
    """Trust the public key of somebody else on this machine."""
    from tradelib.bundle import TrustStore
    from tradelib.home import project_home

    store = TrustStore(project_home() / "approvers") if approver else TrustStore()
    _say(f"key {store.add(public)} may {'approve' if approver else 'sign'} from now on ({store.folder})")


@keys_app.command("revoke")
def keys_revoke(
    identity: Annotated[str, typer.Argument(help="Id of the key, as `tradelib keys list` shows it.")],
    reason: Annotated[str, typer.Option(help="Why; it is shown to whoever meets the key again.")],
) -> None:
    """Refuse a key for ever: no bundle that it signed loads on this machine any more."""
    from tradelib.bundle import TrustStore

    TrustStore().revoke(identity, reason)
    _say(f"key {identity} is revoked: {reason}")


@keys_app.command("list")
def keys_list(as_json: AsJson = False) -> None:
    """List signing keys and whether this machine trusts them."""
    from tradelib.bundle import TrustStore, list_keys

    store = TrustStore()
    trusted, revoked = store.keys(), store.revoked()
    names = {key.key_id: key.name for key in list_keys()}
    rows = {
        identity: f"{names.get(identity, 'of somebody else')}, "
        + ("revoked" if identity in revoked else "trusted" if identity in trusted else "not trusted")
        for identity in sorted({*names, *trusted})
    }
    if not rows and not as_json:
        _say("no keys yet: tradelib keys generate NAME")
        return
    _show(rows, "keys", as_json)


def main() -> None:
    """Entry point: refusals become one line on stderr and exit code 1."""
    try:
        app()
    except TradelibError as error:
        Console(stderr=True, soft_wrap=True, highlight=False).print(f"tradelib: {error}", markup=False)
        sys.exit(1)
    except OSError as error:
        Console(stderr=True, soft_wrap=True, highlight=False).print(
            f"tradelib: {error.strerror or error}: {error.filename or 'a file'}", markup=False
        )
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
