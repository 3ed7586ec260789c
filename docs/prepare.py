"""Readies the notebooks and the index of the reference for the site: `make docs` calls it before sphinx.

What steers nbdev is not for readers: directives are cut off, hidden cells and bare imports are left out, and each
chapter says which module it becomes. Interactive figures are stored as data: the pages draw them with the installed
plotly.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import nbformat

from docs import catalogue
from tests.checks.code import public_names
from tests.checks.notebooks import Cell, read
from tests.environment import PROJECT

FIGURE = "application/vnd.plotly.v1+json"
ROOMS = {
    "data": "Data: bars, files, sources, quality",
    "indicators": "Indicators",
    "features": "Features: information bars, labels, pipelines",
    "strategies": "Strategies",
    "risk": "Risk: sizing, exits, limits, value at risk, pairs, regimes",
    "portfolio": "Portfolio: covariances, optimisers, hierarchies, rebalancing",
    "models": "Models: saved without pickle, traded without their library",
    "backtest": "Backtest: decisions, engine, portfolios, orders, sweeps, trials",
    "validation": "Validation: overfitting, causality, walk-forward, stress, attribution, capacity",
    "report": "Reports",
    "promotion": "Promotion: gates, registry, stages, replay, lineage",
}
PLAIN = {
    "ledger": "Ledger: one append-only, hash-chained history",
    "bundle": "Bundle: what promotion seals and the runner trades",
    "venue": "Venue: a local exchange for paper trading",
    "live": "Live: the runner",
}
FOUNDATIONS = {
    "errors": "Errors",
    "parameters": "Parameter objects",
    "home": "Where state is kept",
    "cli": "Command line",
}


def main() -> None:
    """Write `docs/_nbs` anew."""
    target = PROJECT / "docs/_nbs"
    shutil.rmtree(target, ignore_errors=True)
    for path in sorted(PROJECT.glob("nbs/*/*.ipynb")):
        chapter = target / path.relative_to(PROJECT / "nbs")
        chapter.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(readable(path), chapter)
    catalogue.write(target)
    (target / "index.md").write_text(contents(target), encoding="utf-8")
    (target / "reference.md").write_text(reference(), encoding="utf-8")


def readable(path: Path) -> nbformat.NotebookNode:
    """A notebook as its readers want it."""
    notebook = nbformat.read(path, as_version=4)
    cells = read(path)
    modules = (re.search(r"^#\|\s*default_exp\s+(\S+)", cell.source, re.MULTILINE) for cell in cells)
    module = next((found[1] for found in modules if found), None)
    for cell, raw in zip(cells, notebook.cells, strict=True):
        if cell.exported:
            raw.outputs = []  # the description of a constant, said twice
    notebook.cells = [raw for cell, raw in zip(cells, notebook.cells, strict=True) if not left_out(cell)]
    for raw in notebook.cells:
        raw.source = re.sub(r"^#\|.*\n?", "", raw.source, flags=re.MULTILINE).strip()
    figures = [o for raw in notebook.cells for o in raw.get("outputs", []) if FIGURE in o.get("data", {})]
    for number, output in enumerate(figures):
        output.data = {"text/html": drawn(output.data[FIGURE], f"figure-{number}", first=number == 0)}
    title, _, rest = notebook.cells[0].source.partition("\n")
    told = "" if module is None else f"\n\nModule: {{py:mod}}`tradelib.{module}`"
    notebook.cells[0].source = f"{title}\n{rest}{told}"
    return notebook


def drawn(figure: dict[str, Any], name: str, first: bool) -> str:
    """A plotly figure as HTML for a page two folders below the site's root; the `first` one of a page brings plotly."""
    library = '<script src="../../_static/plotly.min.js"></script>' if first else ""
    parts = (json.dumps(figure[part]).replace("</", "<\\/") for part in ("data", "layout"))
    call = f"Plotly.newPlot({json.dumps(name)}, {', '.join(parts)}, {{responsive: true}})"
    return f'{library}<div id="{name}" class="figure"></div><script>{call}</script>'


def left_out(cell: Cell) -> bool:
    """Cells that steer nbdev, hide from the reader, or only import for the package."""
    if cell.kind != "code":
        return not cell.source.strip()
    return "default_exp" in cell.directives or cell.hidden or (cell.exported and cell.only_imports)


def contents(target: Path) -> str:
    """The lessons, room by room from the ground up."""
    parts = ["# The lessons", "Each chapter is a notebook; the package is exported from it.", ""]
    for room, title in ROOMS.items():
        chapters = [f"{room}/{path.stem}" for path in sorted((target / room).glob("*.ipynb"))]
        if chapters:
            parts += ["```{toctree}", f":caption: {title}", ":maxdepth: 1", *chapters, "```", ""]
    return "\n".join(parts)


def reference() -> str:
    """Every room with the names that it offers, each a link to its description."""
    parts = [
        "# Reference",
        "",
        "What each room offers. The pages below tell parameters, units, errors and sources.",
        "",
    ]
    whole = (path for path in sorted(PROJECT.glob("tradelib/*/**/*.py")) if path.name != "__init__.py")
    anywhere = {public: module for module in whole for public in public_names(module)}
    for name, title in {**ROOMS, **PLAIN, **FOUNDATIONS}.items():
        package = PROJECT / "tradelib" / name
        modules = sorted(package.glob("*.py")) if package.is_dir() else [package.with_suffix(".py")]
        rooms = (module for module in modules if module.exists() and module.name != "__init__.py")
        own = {public: module for module in rooms for public in public_names(module)}
        names = public_names(package / "__init__.py") if package.is_dir() else own
        homes = anywhere | own
        links = [f"{{py:obj}}`{public} <{dotted(homes[public])}.{public}>`" for public in names if public in homes]
        if links:
            parts += [f"## {title}", "", f"`from tradelib.{name} import` …", "", ", ".join(links), ""]
    rest = "Everything, module by module: {doc}`the package </_reference/tradelib/tradelib>`."
    return "\n".join([*parts, rest, ""])


def dotted(module: Path) -> str:
    """The import name of a module's file."""
    return ".".join(module.relative_to(PROJECT).with_suffix("").parts)


if __name__ == "__main__":
    main()
