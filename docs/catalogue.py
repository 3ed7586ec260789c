"""The catalogue of indicators, made from the register: a table and a picture per family. `docs.prepare` calls it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from tradelib.data import embedded
from tradelib.indicators import find, gallery
from tradelib.indicators.registry import FAMILIES, get, probe_inputs

__all__ = ["write"]

INTRODUCTION = """# The catalogue of indicators

{count} indicators, as the register knows them: `find("words")` searches it, `get("rsi")(bars, window=14)` calls one
with whole bars, and the function of the same name takes columns or arrays. The pictures show the S&P 500 in 2008 and
each indicator with its defaults; the close is grey, and * marks an axis of its own. Order books and second markets come
from a seeded probe. [The lesson](indicators/20_catalogue.ipynb) draws them on bars of your own.
"""


def write(target: Path) -> None:
    """`catalogue.md` and its pictures into the folder `target`."""
    table, pictures = find(), target / "catalogue"
    pictures.mkdir(parents=True, exist_ok=True)
    parts = [INTRODUCTION.format(count=len(table))]
    for family in FAMILIES:
        figure = gallery(_bars(family), family)
        figure.savefig(pictures / f"{family}.png", dpi=110, metadata={"Software": None})
        members = table[table["family"] == family]
        parts += [f"## {family.capitalize()}", f"![every indicator of the family {family}](catalogue/{family}.png)"]
        parts += [_list(members)]
    (target / "catalogue.md").write_text("\n\n".join(parts), encoding="utf-8")


def _bars(family: str) -> pd.DataFrame:
    """Real daily bars, or a probe for what they do not hold."""
    return probe_inputs(250, seed=4) if family in ("microstructure", "cross-section") else embedded("sp500").loc["2008"]


def _list(members: pd.DataFrame) -> str:
    """One entry per indicator: how it is called, what it is, and the bars that it needs."""
    lines = []
    for name, row in members.iterrows():
        entry = get(str(name))
        module = entry.function.__module__
        call = ", ".join(part for part in (row["inputs"], row["parameters"]) if part)
        gives = "" if len(entry.outputs) == 1 else f" Gives {row['outputs']}."
        lines.append(
            f"{{py:obj}}`{name} <{module}.{name}>` `({call})`\n"
            f": {row['summary']}{gives} First value after {entry.warmup():,} bars."
        )
    return "\n\n".join(lines)
