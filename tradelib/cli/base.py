"""The command line: `tradelib --help`.

Exit codes of every command: 0 done, 1 refused or failed with one clear line, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tradelib.errors import TradelibError

__all__ = ["AsJson", "app", "keys_app", "main", "say", "show", "tabulate"]

app = typer.Typer(
    name="tradelib",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="""From notebook to live order, with nothing lost in between.

Research happens in notebooks (`make lab`) and in the pipeline (`make demo`).
These commands are for what comes after.

[bold]A first session, after `make demo`:[/bold]

1. May it trade, and why (not)?

[cyan]tradelib gate trend_sp500[/cyan]

2. Seal it and admit it to paper. Is the bundle whole, signed, reproducible here?

[cyan]tradelib promote trend_sp500 --why 'first try'[/cyan]

[cyan]tradelib verify bundles/NAME[/cyan]

3. Serve recorded bars as a paper exchange, in a shell of its own. Both shells
need the same TRADELIB_API_KEY and TRADELIB_API_SECRET; any pair will do.

[cyan]tradelib venue artifacts/data/sp500/tape.parquet --start 2018-01-02[/cyan]

4. Trade the bundle there, bar by bar; then decide everything once more.

[cyan]tradelib run bundles/NAME --venue http://127.0.0.1:8787[/cyan]

[cyan]tradelib replay journal.sqlite bundles/NAME[/cyan]

Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 130 interrupted.
""",
)
keys_app = typer.Typer(no_args_is_help=True, help="Signing keys and the keys that this machine trusts.")
app.add_typer(keys_app, name="keys")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def say(text: str, *, aside: bool = False) -> None:
    """One line to the terminal, at once, whole words kept; `aside` from the output, to stderr."""
    Console(soft_wrap=True, highlight=False, stderr=aside).print(text, markup=False)


def show(rows: dict[str, Any], title: str, as_json: bool) -> None:
    """A table of names and values, or JSON."""
    if as_json:
        typer.echo(json.dumps(rows, indent=1, default=str))
    else:
        listed = [[name.replace("_", " "), value] for name, value in rows.items()]
        tabulate([], listed, title)


def tabulate(columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str = "") -> None:
    """A table under a line of its own; a cell that holds rich text keeps its colours."""
    if title:
        say(title)
    table = Table(*(name.replace("_", " ") for name in columns), show_header=bool(columns))
    for row in rows:
        table.add_row(*("" if value is None else value if isinstance(value, Text) else str(value) for value in row))
    Console(highlight=False).print(table, markup=False)


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
