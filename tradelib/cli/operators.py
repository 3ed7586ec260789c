"""Commands for whoever minds a runner: see what it does, stop it, and let it go on."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from tradelib.cli.base import AsJson, app, say, show, tabulate
from tradelib.errors import RunnerError

__all__ = [
    "acknowledge",
    "adjust",
    "arm",
    "flatten",
    "halt",
    "health",
    "orders",
    "positions",
    "quality",
    "status",
    "stop",
    "token",
]

_PANEL = "Operators"
Url = Annotated[
    str | None, typer.Option(help="Control server of the runner.", envvar="TRADELIB_CONTROL_URL", show_envvar=True)
]
Why = Annotated[str | None, typer.Option(help="The reason, for the journal; asked for where it is missing.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask back.")]
ScopeArgument = Annotated[str, typer.Argument(help="account, bundle:NAME or symbol:BASE/QUOTE.")]


def _client(url: str | None) -> Any:
    from tradelib.live.remote import ControlClient

    return ControlClient(url)


def _reason(why: str | None, act: str) -> str:
    """The reason for an act; asked for at a terminal, refused elsewhere."""
    if why is None and sys.stdin.isatty():
        why = typer.prompt(f"Why {act}?")
    if not (why or "").strip():
        raise RunnerError(f"say why, for whoever reads the journal later: tradelib {act} --why 'the reason'")
    return str(why)


def _confirm(question: str, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise RunnerError("nobody is there to be asked back: add --yes to a command in a script")
    if not typer.confirm(question):
        raise typer.Exit(1)


@app.command(rich_help_panel=_PANEL)
def status(url: Url = None, as_json: AsJson = False) -> None:
    """What the runner does: traders, positions, halts, problems. Needs a token with the role view.

    [cyan]export TRADELIB_CONTROL_TOKEN=...[/cyan]  (from `tradelib token`)

    [cyan]tradelib status[/cyan]
    """
    found = _client(url).get("/v1/status")
    if as_json:
        show(found, "", True)
        return
    equity = "" if found["equity"] is None else f", equity {found['equity']:,.2f}"
    say(f"{found['phase']}, {found['mode']} on {found['exchange']}{equity}, since {_minute(found['started'])}")
    for halted in found["halts"]:
        say(f"HALTED {_halt_line(halted)}")
    problems = [f"{_trader(trader)}: {trader['problem']}" for trader in found["traders"] if trader["problem"]]
    for problem in [*found["problems"], *problems]:
        say(f"PROBLEM {problem}")
    for trader in found["traders"]:
        for order in trader["held"]:
            say(f"HELD BY THE RUNNER {_trader(trader)}: {order}; it does nothing while the runner is down")
    for key in found["open_alerts"]:
        say(f"ALERT {key}, not acknowledged: tradelib acknowledge --why ...")
    tabulate(["trader", "last_bar", "position", "equity", "orders"], [_trader_row(each) for each in found["traders"]])


def _trader(trader: dict[str, Any]) -> str:
    return f"{trader['bundle']} {trader['symbol']} {trader['timeframe']}"


def _trader_row(trader: dict[str, Any]) -> list[Any]:
    equity = None if trader["equity"] is None else f"{trader['equity']:,.2f}"
    unknown = f", {trader['unknown_orders']} unknown" if trader["unknown_orders"] else ""
    held = f", {len(trader['held'])} held by the runner" if trader["held"] else ""
    orders = f"{trader['open_orders']} open{held}{unknown}"
    return [_trader(trader), _minute(trader["last_bar"]), _number(trader["position"]), equity, orders]


def _minute(time: str | None) -> str:
    return "" if time is None else time[:16].replace("T", " ")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.8g}"


def _halt_line(halt: dict[str, Any]) -> str:
    passes = "exits pass" if halt["level"] == "reduce" else "nothing passes"
    told = f"{halt['scope']} ({passes}) by {halt['who']} at {_minute(halt['time'])}: {halt['why']}"
    return f"{told}  [entry {halt['number']}]"


@app.command(rich_help_panel=_PANEL)
def orders(url: Url = None, as_json: AsJson = False) -> None:
    """Orders that are not final: resting at the venue, or of unknown outcome. Role view."""
    _listing(_client(url).get("/v1/orders")["orders"], "no order is open", as_json)


@app.command(rich_help_panel=_PANEL)
def positions(url: Url = None, as_json: AsJson = False) -> None:
    """Holdings of each bundle in each symbol. Role view."""
    _listing(_client(url).get("/v1/positions")["positions"], "nothing is held", as_json)


def _listing(rows: list[dict[str, Any]], nothing: str, as_json: bool) -> None:
    if as_json:
        show({"rows": rows}, "", True)
    elif not rows:
        say(nothing)
    else:
        cells = [[_number(value) if isinstance(value, float) else value for value in row.values()] for row in rows]
        tabulate(list(rows[0]), cells)


@app.command(rich_help_panel=_PANEL)
def halt(
    scope: ScopeArgument = "account",
    why: Why = None,
    level: Annotated[str, typer.Option(help="reduce: exits still pass. stop: nothing passes.")] = "reduce",
    folder: Annotated[
        Path | None, typer.Option(help="Folder of the runner: halts through its journal if nobody answers.")
    ] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """The kill switch. Stays down through restarts and kill -9, until an approver arms it again. Role operate.

    [cyan]tradelib halt --why 'prices look wrong'[/cyan]                  everything

    [cyan]tradelib halt symbol:BTC/USDT --why 'venue maintenance'[/cyan]  one symbol

    Positions stay as they are: `tradelib flatten` closes them. With --folder it works without a token and without a
    runner that answers; a runner that lives sees it before its next order.
    """
    from tradelib.live.remote import NoToken, Unreachable

    reason = _reason(why, "halt")
    try:
        done = _client(url).post("/v1/halt", scope=scope, why=reason, level=level)
    except (Unreachable, NoToken) as error:
        if folder is None:
            raise RunnerError(f"{error}. To halt it all the same, name its folder: --folder FOLDER") from None
        done = {"result": _halt_in_journal(folder, scope, reason, level)}
        say("written into the journal, where the runner finds it before its next order", aside=as_json)
    _tell(done, f"HALTED {_halt_line(done['result'])}", as_json)


def _halt_in_journal(folder: Path, scope: str, why: str, level: str) -> dict[str, Any]:
    from tradelib.ledger import open_journal
    from tradelib.live.latch import Latch, Level, Scope

    path = folder / "operations.sqlite"
    if not path.is_file():
        raise RunnerError(f"{folder} is not the folder of a runner: it has no operations.sqlite")
    wanted, traded = Scope.parse(scope), _traded(folder)
    if traded and not any(wanted.covers(*one) for one in traded):
        told = ", ".join(f"bundle:{name} in symbol:{symbol}" for name, symbol in traded)
        raise RunnerError(f"{wanted} covers nobody there, nothing was done; traded are {told}")
    with open_journal(path) as log:
        return Latch(log).halt(wanted, f"{getpass.getuser()}@shell", why, level=Level(level)).as_dict()


def _traded(folder: Path) -> list[tuple[str, str]]:
    """Bundle and symbol of every journal in the folder of a runner."""
    from tradelib.ledger import journal, open_journal

    found = []
    for path in sorted(folder.glob("*.sqlite")):
        with open_journal(path, read_only=True) as log:
            start = log.last(journal.START)
        if start is not None:
            found.append((start.body["name"], start.body["symbol"]))
    return found


def _tell(done: dict[str, Any], line: str, as_json: bool) -> None:
    if as_json:
        show(done, "", True)
    else:
        say(line)


@app.command(rich_help_panel=_PANEL)
def adjust(
    asset: Annotated[str, typer.Argument(help="Currency or coin, as the venue names it: USDT, BTC.")],
    amount: Annotated[str, typer.Argument(help="What came in; negative (after --) for what went out.")],
    why: Why = None,
    yes: Yes = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Account for a deposit, a withdrawal or a gift, so that account and journals agree again. Role approve.

    [cyan]tradelib adjust USDT 500 --why 'deposit of 3 March'[/cyan]

    [cyan]tradelib adjust --why 'moved to the vault' -- BTC -0.25[/cyan]

    No bundle is given it to trade with. A halt that the difference caused is lifted apart: tradelib arm.
    """
    reason = _reason(why, "adjust")
    _confirm(f"Account for {amount} {asset}?", yes)
    done = _client(url).post("/v1/adjust", asset=asset, amount=amount, why=reason)
    _tell(done, f"{amount} {asset} is accounted for", as_json)


@app.command(rich_help_panel=_PANEL)
def arm(
    scope: ScopeArgument = "account",
    why: Why = None,
    entry: Annotated[
        list[int] | None, typer.Option(help="Only this halt of the scope, by its entry; may be repeated.")
    ] = None,
    yes: Yes = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Lift the halts of a scope, after a look at what caused them: those that it shows, and no other. Role approve.

    [cyan]tradelib arm account --why 'fixed the feed, checked positions'[/cyan]

    [cyan]tradelib arm account --entry 17 --why 'balance explained'[/cyan]  one of several
    """
    client = _client(url)
    halts = client.get("/v1/halts")["halts"]
    holding = [found for found in halts if found["scope"] == scope]
    if not holding:
        told = ", ".join(dict.fromkeys(found["scope"] for found in halts))
        raise RunnerError(f"{scope} is not halted: {f'halted are {told}' if told else 'nothing is halted'}")
    lifted = [found for found in holding if not entry or found["number"] in entry]
    for found in lifted:
        say(_halt_line(found), aside=as_json)
    reason = _reason(why, "arm")
    _confirm(f"Let {scope} trade again?", yes)
    numbers = entry or [found["number"] for found in lifted]
    done = client.post("/v1/arm", scope=scope, why=reason, numbers=numbers)
    left = dict.fromkeys(found["scope"] for found in halts if found not in lifted)
    also = f"; still halted: {', '.join(left)}" if left else ""
    verb = f"{scope} is lifted of entry {', '.join(map(str, numbers))}" if scope in left else f"{scope} may trade again"
    _tell(done, verb + also, as_json)


@app.command(rich_help_panel=_PANEL)
def flatten(
    scope: ScopeArgument = "account", why: Why = None, yes: Yes = False, url: Url = None, as_json: AsJson = False
) -> None:
    """Emergency: cancel the orders, close the positions at the market, and leave the scope halted. Role operate.

    [cyan]tradelib flatten --why 'exchange announces a halt'[/cyan]

    Sells at any price the market gives. Afterwards nothing opens again until an approver arms it.
    """
    reason = _reason(why, "flatten")
    _confirm(f"Close every position of {scope} at the market, now?", yes)
    done = _client(url).post("/v1/flatten", scope=scope, why=reason)
    if as_json:
        show(done, "", True)
    else:
        say(f"{scope} is being closed, and is halted")
        for name, value in (done["result"] or {}).items():
            say(f"  {name}: {value}")


@app.command(rich_help_panel=_PANEL)
def stop(
    policy: Annotated[
        str | None, typer.Option(help="keep orders and positions, cancel orders, or flatten positions too.")
    ] = None,
    why: Why = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """End the runner in order, under its own policy or this one; its next start goes on from there. Role operate."""
    done = _client(url).post("/v1/stop", policy=policy, why=_reason(why, "stop"))
    _tell(done, "the runner is ending", as_json)


@app.command(rich_help_panel=_PANEL)
def acknowledge(
    alert: Annotated[str, typer.Argument(help="Key of the alert, as status shows it; none: those that are open.")] = "",
    why: Why = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Say that somebody is looking after an alert, so that it is not escalated further. Role operate.

    Without a key: those that are open now, which it shows.
    """
    client, reason = _client(url), _reason(why, "acknowledge")
    seen = [alert] if alert else client.get("/v1/alerts")["open"]
    done = client.post("/v1/acknowledge", alerts=seen, why=reason) if seen else {"result": []}
    _tell(done, f"acknowledged: {', '.join(done['result']) or 'nothing was open'}", as_json)


@app.command(rich_help_panel=_PANEL)
def health(url: Url = None, as_json: AsJson = False) -> None:
    """Exit code 0 where the runner is alive and ready, 1 where not. Needs no token: for containers and cron."""
    found = _client(url).health()
    show(found, "", True) if as_json else say(", ".join(name if yes else f"not {name}" for name, yes in found.items()))
    if not all(found.values()):
        raise typer.Exit(1)


@app.command(rich_help_panel=_PANEL)
def token(
    name: Annotated[str, typer.Argument(help="Who it is for: the name that the journal will show.")],
    role: Annotated[str, typer.Option(help="view, operate (halt, flatten, stop) or approve (arm as well).")] = "view",
    as_json: AsJson = False,
) -> None:
    """Make a token for an operator. The runner gets its hash, the operator the token; nobody else gets either.

    [cyan]tradelib token alice --role operate[/cyan]
    """
    from tradelib.live.users import Role, new_token

    if role not in ("view", "operate", "approve"):
        raise RunnerError(f"there is no role {role!r}: use view, operate or approve")
    secret, entry = new_token(name, Role[role.upper()])
    if as_json:
        show({"token": secret, "user": entry}, "", True)
        return
    say(f"for {name}, who keeps it to themselves (it is not shown again):")
    say(f"  export TRADELIB_CONTROL_TOKEN={secret}")
    say("for the environment of the runner, beside the entries of the others:")
    say(f"  TRADELIB_CONTROL_USERS='{entry}'")


@app.command(rich_help_panel=_PANEL)
def quality(
    journal: Annotated[Path, typer.Argument(help="Journal of a bundle that a runner wrote (.sqlite).")],
    by: Annotated[
        str, typer.Option(help="symbol, side, kind, reason, status or benchmark; orders for every one of them.")
    ] = "reason",
    bundle: Annotated[
        str | None, typer.Option(help="Folder or digest of its bundle: what research assumed beside what was paid.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """What carrying out the decisions cost: delay, trading, missed orders and fees, which sum to the shortfall.

    [cyan]tradelib quality runner/trend-BTC-USDT-0123456789ab.sqlite[/cyan]

    Reads the journal while the runner writes it. Positive figures are lost money.
    """
    from tradelib.live.quality import execution_quality

    costs = None
    if bundle is not None:
        from tradelib.cli.promotion import find_bundle

        costs = find_bundle(bundle).execution.costs
    found = execution_quality(journal, costs)
    if as_json:
        rows = found.orders.astype(object).where(found.orders.notna(), None).to_dict("records")
        show({"summary": found.summary(), "orders": rows}, "", True)
        return
    say(found.sentence())
    if len(found.orders):
        frame = found.orders[list(_SHOWN)] if by == "orders" else found.by(by).reset_index()
        tabulate(list(frame.columns), [[_cell(value) for value in row] for row in frame.to_numpy().tolist()])


_SHOWN = ("time", "side", "reason", "status", "children", "filled", "arrival_price", "average_price", "shortfall_bps")


def _cell(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return "" if value != value else f"{value:,.6g}"
