"""Commands for research: what there is, and the stages of the pipeline for one candidate."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from tradelib.cli.base import AsJson, app, say, show, tabulate
from tradelib.errors import ParameterError, TradelibError

__all__ = ["gate", "refresh", "register", "reproduce", "research", "strategies"]

_PANEL = "Research"
_STDERR = 2  # what DVC says must not stand between the lines of --json
Candidate = Annotated[str, typer.Argument(help="Name of the candidate in params.yaml.")]


@app.command(rich_help_panel=_PANEL)
def strategies(as_json: AsJson = False) -> None:
    """List the strategies that are installed, with their parameters and defaults."""
    from tradelib.strategies import available, describe

    found = {name: describe(name)["properties"] for name in available()}
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    rows = [
        (name if number == 0 else "", parameter, about.get("default"), about.get("description"))
        for name, parameters in found.items()
        for number, (parameter, about) in enumerate(parameters.items())
    ]
    tabulate(["strategy", "parameter", "default", "meaning"], rows)


@app.command(rich_help_panel=_PANEL)
def research(candidate: Candidate, as_json: AsJson = False) -> None:
    """Re-run the research of a candidate, as far as something changed, and show its figures.

    The same as `dvc repro evaluate@CANDIDATE report@CANDIDATE`.
    """
    root = reproduce(candidate, "evaluate", "report")
    windows = _read(root / "artifacts" / "evaluate" / candidate / "metrics.json")
    if as_json:
        typer.echo(json.dumps(windows, indent=1))
        return
    names = [name for name, figures in windows.items() if isinstance(figures, dict)]
    rows = [[name.replace("_", " "), *(_figure(windows[one].get(name)) for one in names)] for name in windows[names[0]]]
    tabulate(["figure", *names], rows, candidate)


@app.command(rich_help_panel=_PANEL)
def gate(candidate: Candidate, as_json: AsJson = False) -> None:
    """Hold a candidate against every gate. Exit code 1 where it may not even trade on paper."""
    root = reproduce(candidate, "gates")
    found = _read(root / "artifacts" / "gates" / candidate / "gates.json")
    if as_json:
        typer.echo(json.dumps(found, indent=1))
    else:
        tabulate(
            ["", "gate", "tier", "figure", "asked for", "in words"], map(_gate_row, found["gates"]), found["summary"]
        )
    if found["permission"] == "none":
        raise typer.Exit(1)


@app.command(rich_help_panel=_PANEL)
def register(candidate: Candidate, as_json: AsJson = False) -> None:
    """Log the run of a candidate in MLflow and register it as a challenger."""
    root = reproduce(candidate, "register")
    from tradelib.promotion import Registered, Registry

    registered = Registered(**_read(root / "runs" / "register" / f"{candidate}.json"))
    links = Registry(root).deep_links(registered)
    show({**registered.to_dict(), **links}, "registered; `make mlflow` serves the links", as_json)


def reproduce(candidate: str, *stages: str) -> Path:
    """Run the stages of a candidate with DVC, as far as something changed; the project's folder.

    `ParameterError` outside of a project or for an unknown candidate, `TradelibError` where a stage refused.
    """
    root = project()
    known = _candidates(root)
    if candidate not in known:
        from tradelib.parameters import nearest

        raise ParameterError(
            f"params.yaml has no candidate {candidate!r}{nearest(candidate, known)}: {', '.join(known)}"
        )
    _dvc(root, "repro", *(f"{stage}@{candidate}" for stage in stages))
    return root


def refresh(candidate: str) -> Path:
    """Read the data of a candidate's market anew, then run everything up to its bundle; the project's folder."""
    root = project()
    market = _candidates(root).get(candidate, {}).get("market")
    if market is not None:
        _dvc(root, "repro", "--force", "--single-item", f"ingest@{market}")
    return reproduce(candidate, "promote")


def project() -> Path:
    """The folder of the project around the working directory; `ParameterError` where there is none."""
    from tradelib.home import project_root

    root = project_root()
    if not (root / "dvc.yaml").is_file():
        raise ParameterError(f"there is no pipeline (dvc.yaml) at {root}: go into a project of tradelib")
    return root


def _dvc(root: Path, *arguments: str) -> None:
    say(f"dvc {' '.join(arguments)}", aside=True)
    if subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=root, stdout=_STDERR, check=False).returncode:
        raise TradelibError(f"{arguments[-1]} was not reproduced: the reason is above")


def _candidates(root: Path) -> dict[str, Any]:
    import yaml

    content = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8")) or {}
    return dict(sorted(content.get("strategies", {}).items()))


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TradelibError(f"{path} cannot be read: {error}") from None


def _gate_row(one: dict[str, Any]) -> list[Any]:
    mark = Text("✓", "green") if one["passed"] else Text("✗", "red")
    asked = f"{one['comparison']} {_figure(one['threshold'])}"
    return [mark, one["name"], one["tier"], _figure(one["figure"]), asked, one["explanation"]]


def _figure(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
