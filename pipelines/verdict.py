"""The end of the road: what each candidate came to, as a table in the terminal and as one page to keep.

Nothing is judged here; everything was written by the stages, the registry and the runner's journal.
`python -m pipelines.verdict` shows the verdict of the last run again.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from pipelines import params
from pipelines.artifacts import artifact, local_state, plain, read_json, root, write_json
from pipelines.params import Params
from pipelines.provenance import commit, params_digest
from pipelines.setting import chosen_rule
from tradelib.backtest.costs import Market
from tradelib.backtest.engine import replay
from tradelib.backtest.metrics import summary_metrics
from tradelib.bundle.keys import TrustStore
from tradelib.bundle.verify import load_bundle
from tradelib.data.bars import window
from tradelib.data.files import read_bars
from tradelib.data.timeframes import periods_per_year
from tradelib.errors import TradelibError
from tradelib.ledger import Ledger, journal
from tradelib.report.verdict import save_verdict_page

__all__ = ["collect", "main", "show"]

_WINDOWS = ("in_sample", "out_of_sample", "paper")
_PERMISSIONS = {"live": "may trade live", "paper": "paper only", "none": "may not trade"}
_SHOWN = ("sharpe_ratio", "annual_return", "annual_volatility", "maximum_drawdown", "trades", "total_return")


def collect(settings: Params) -> dict[str, Any]:
    """The verdict of all candidates as plain data; see `tradelib.report.verdict_data.VerdictData`."""
    return {
        "title": "Verdict",
        "provenance": {"commit": commit(), "params.yaml": params_digest()},
        "candidates": [_candidate(settings, name) for name in settings.strategies],
    }


def _candidate(settings: Params, name: str) -> dict[str, Any]:
    entry, gates = settings.strategies[name], read_json(artifact("gates", name, "gates.json"))
    tape = read_bars(artifact("data", entry.market, "tape.parquet"))
    rule = chosen_rule(name)
    sealed = artifact("promote", name, "promotion.json").exists()
    paper = _paper_equity(name) if sealed else None
    return {
        "name": name,
        "strategy": type(rule.strategy).__name__,
        "parameters": rule.strategy.model_dump() | {f"sizing {key}": v for key, v in rule.sizing.model_dump().items()},
        "symbol": tape.attrs["symbol"],
        "timeframe": tape.attrs["timeframe"],
        "periods_per_year": periods_per_year(tape),
        "permission": gates["permission"],
        "summary": gates["summary"],
        "windows": [{"name": each, **getattr(settings.windows, each).model_dump()} for each in _WINDOWS],
        "data": _data(entry.market),
        "trials": gates["figures"]["trials"],
        "figures": _figures(name, tape, paper),
        "sharpe": gates["sharpe"],
        "gates": read_json(artifact("promote", name, "promotion.json"))["gates"] if sealed else gates["gates"],
        "registry": _registry(name),
        "bundle": _bundle(name) if sealed else None,
        "parity": _parity(name) if sealed else None,
        "series": _series(settings, name, tape, paper),
        "sweep": _sweep(name),
    }


def _data(market: str) -> dict[str, Any]:
    quality = read_json(artifact("quality", market, "quality.json"))
    failed = [item["name"] for item in quality["findings"] if not item["passed"]]
    told = f"{quality['bars']:,} bars, {len(quality['findings'])} checks, " + (
        f"failed: {', '.join(failed)}" if failed else "all hold"
    )
    return {
        "passed": quality["success"],
        "summary": told,
        "digest": quality["digest"],
        "checks": len(quality["findings"]),
    }


def _registry(name: str) -> dict[str, Any]:
    entry = read_json(local_state("register", f"{name}.json"))
    return {key: entry[key] for key in ("name", "version", "alias")}


def _bundle(name: str) -> dict[str, Any]:
    folder = read_json(local_state("promote", f"{name}.json"))["folder"]
    sealed = load_bundle(root() / "bundles" / folder, TrustStore())
    return {"digest": sealed.digest, "path": f"bundles/{folder}", "key": sealed.key_id}


def _parity(name: str) -> dict[str, Any]:
    report = read_json(artifact("paper", name, "paper.json"))
    first = report["first_differences"][0] if report["first_differences"] else None
    return {
        "equal": report["equal"],
        "summary": report["summary"],
        "first_difference": None if first is None else str(first),
    }


def _paper_equity(name: str) -> pd.Series:
    """Equity per bar as the venue stated it, from the runner's journal; the first value is the initial cash."""
    path = root() / read_json(local_state("paper", f"{name}.json"))["journal"]
    with Ledger(path) as log:
        stated = journal.equities(log)
    times = pd.DatetimeIndex([pd.Timestamp(item["time"]) for item in stated])
    return pd.Series([item["equity"] for item in stated], times, name="equity")


def _figures(name: str, tape: pd.DataFrame, paper: pd.Series | None) -> dict[str, Any]:
    windows = read_json(artifact("evaluate", name, "metrics.json"))
    found = {each: windows[each] for each in ("in_sample", "out_of_sample")}
    if paper is not None:
        found["paper"] = summary_metrics(paper.pct_change().dropna(), periods_per_year(tape))
    return {each: {key: figures.get(key) for key in _SHOWN if key in figures} for each, figures in found.items()}


def _series(settings: Params, name: str, tape: pd.DataFrame, paper: pd.Series | None) -> list[dict[str, Any]]:
    table = pd.read_csv(artifact("evaluate", name, "series.csv"))
    cash = settings.account.cash
    series = [
        {
            "role": "research",
            "window": each,
            "times": list(part["time"]),
            "equity": list(part["equity"]),
            "initial": cash,
        }
        for each, part in table.groupby("window")
    ]
    expected = replay(chosen_rule(name), tape, start=settings.windows.paper.start, **_account(settings)).equity
    series.append(_as_series(expected) | {"role": "research", "window": "paper", "initial": cash})
    if paper is not None:
        account = {"role": "paper", "window": "paper", "initial": float(paper.iloc[0])}
        series.append(_as_series(paper.iloc[1:]) | account)
    lived = window(tape, table["time"].iloc[0], settings.windows.paper.end)["close"]
    return [*series, _as_series(lived) | {"role": "benchmark", "label": f"{tape.attrs['symbol']} bought and held"}]


def _account(settings: Params) -> dict[str, Any]:
    """Costs, market and cash, as `replay` takes them."""
    account = settings.account.model_dump()
    cash = account.pop("cash")
    return {"costs": settings.costs, "market": Market(**account), "cash": cash}


def _as_series(values: pd.Series) -> dict[str, Any]:
    return {"times": [time.isoformat() for time in values.index], "equity": [float(value) for value in values]}


def _sweep(name: str) -> dict[str, Any] | None:
    """The grid of the first two parameters; None for a sweep of one."""
    found, config = read_json(artifact("research", name, "sweep.json")), chosen_rule(name).to_config()
    if len(found["axes"]) < 2:
        return None
    row, column = found["axes"][:2]
    table = pd.DataFrame(found["points"]).pivot_table("sharpe_ratio", row, column, aggfunc="max")
    chosen = [
        config[path.partition(".")[0]]["params"][path.partition(".")[2]] if "." in path else config[path]
        for path in (row, column)
    ]
    return {
        "row_name": row,
        "column_name": column,
        "rows": table.index.tolist(),
        "columns": table.columns.tolist(),
        "values": plain(table.to_numpy().tolist()),
        "chosen": tuple(chosen),
    }


def show(console: Console) -> Path:
    """Write `verdict.json` and `verdict.html`, print the tables and where the page is; returns the page's path."""
    verdict = plain(collect(params.load(root())))
    write_json(local_state("verdict", "verdict.json"), verdict)
    page = save_verdict_page(verdict, local_state("verdict", "verdict.html"))
    for candidate in verdict["candidates"]:
        console.print()
        console.print(_table(candidate))
    console.print(f"\nThe whole story on one page: {page}", markup=False)
    console.print(f"Tear sheets, data checks, executed notebooks: {artifact('report').parent}", markup=False)
    console.print("Compare the candidates in MLflow: make mlflow")
    return page


def _table(candidate: dict[str, Any]) -> Table:
    table = Table(
        title=f"{candidate['name']}: {_PERMISSIONS[candidate['permission']]}", title_justify="left", width=110
    )
    table.add_column("", width=24)
    table.add_column("figure")
    table.add_column("threshold")
    table.add_column("", width=8)
    figures = candidate["figures"]
    table.add_row("data", candidate["data"]["summary"], "", _mark(candidate["data"]["passed"]))
    table.add_row("trials counted", f"{candidate['trials']}, all that was tried on the market", "", "")
    for each in figures:
        table.add_row(f"{each.replace('_', ' ')}", _in_words(figures[each]), "", "")
    table.add_section()
    for gate in candidate["gates"]:
        shown = [_number(gate[key]) for key in ("figure", "threshold")]
        table.add_row(gate["name"].replace("_", " "), shown[0], f"{gate['comparison']} {shown[1]}", _mark_of(gate))
    table.add_section()
    registry, bundle, parity = candidate["registry"], candidate["bundle"], candidate["parity"]
    table.add_row("registered", f"{registry['name']} version {registry['version']}, alias {registry['alias']}", "", "")
    if bundle is None:
        table.add_row("bundle", "none: a safety gate refused the promotion", "", _mark(False))
        return table
    table.add_row("bundle", f"sha256 {bundle['digest'][:16]}…, signed by {bundle['key']}", "", "")
    table.add_row("paper equals research", parity["summary"], "", _mark(parity["equal"]))
    return table


def _in_words(figures: dict[str, Any]) -> str:
    names = {"sharpe_ratio": "Sharpe {:.2f}", "annual_return": "{:.1%} a year", "maximum_drawdown": "drawdown {:.1%}"}
    return ", ".join(form.format(figures[key]) for key, form in names.items() if figures.get(key) is not None)


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else "undefined" if value is None else str(value)


def _mark_of(gate: dict[str, Any]) -> str:
    return "[yellow]– waived[/]" if gate["evidence"].get("waived") else _mark(gate["passed"])


def _mark(passed: bool) -> str:
    return "[green]✓ yes[/]" if passed else "[red]✗ no[/]"


def main() -> int:
    """Show the verdict of the last run; exit code 1 with one line when there is none yet."""
    try:
        show(Console(highlight=False, soft_wrap=True))
    except TradelibError as error:
        print(f"verdict: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
