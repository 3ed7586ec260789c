"""The look of every page: one self-contained HTML file, readable on a phone, in the dark and on paper.

No template engine: small functions return `Markup`, and whatever is not `Markup` is escaped on its way in. Status is
always said in words and by a sign, never by colour alone. Nothing is requested from any network.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["Markup", "badge", "card", "join", "page", "stacked", "table", "tag", "text", "tiles"]


class Markup(str):
    """HTML that is finished: it is not escaped again."""

    __slots__ = ()

    def __add__(self, other: str) -> Markup:
        return Markup(str.__add__(self, text(other)))


def text(value: Any) -> Markup:
    """`value` as safe HTML; `Markup` passes through."""
    return value if isinstance(value, Markup) else Markup(html.escape(str(value)))


def join(parts: Iterable[Any], separator: str = "") -> Markup:
    """Parts one after the other, each escaped unless it is `Markup`."""
    return Markup(separator.join(text(part) for part in parts))


_VOID = frozenset({"br", "line", "rect", "path"})


def tag(name: str, *content: Any, **attributes: Any) -> Markup:
    """`<name ...>content</name>`; `class_` becomes `class`, underscores hyphens; None or False leaves one out."""
    told = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    return Markup(f"<{name}{told}/>" if name in _VOID else f"<{name}{told}>{join(content)}</{name}>")


_SIGNS = {"good": "✓", "bad": "✗", "warn": "◐", "none": "–"}


def badge(kind: str, label: str) -> Markup:
    """A status: sign, words and colour; `kind` is good, bad, warn or none."""
    return tag("span", tag("span", _SIGNS[kind], aria_hidden="true"), " ", label, class_=f"badge {kind}")


def tiles(items: Iterable[tuple[str, str, str]]) -> Markup:
    """Figures in large type: (label, figure, note) each."""
    cells = (
        tag("div", tag("dt", label), tag("dd", figure), tag("small", note) if note else Markup(""), class_="tile")
        for label, figure, note in items
    )
    return tag("dl", *cells, class_="tiles")


def card(title: str, *content: Any, note: str = "", wide: bool = True) -> Markup:
    """A section with a heading, and a line that says how to read it."""
    told = tag("p", note, class_="note") if note else Markup("")
    return tag("section", tag("h3", title), told, *content, class_="card" if wide else "card half")


def table(
    head: Sequence[Any], rows: Iterable[Sequence[Any]], *, numbers: Sequence[int] = (), label: str = ""
) -> Markup:
    """A table that scrolls sideways on a narrow screen; `numbers` are the columns set flush right."""
    cells = [tag("th", name, class_="number" if i in numbers else None, scope="col") for i, name in enumerate(head)]
    body = [
        tag("tr", *(tag("td", cell, class_="number" if i in numbers else None) for i, cell in enumerate(row)))
        for row in rows
    ]
    names = tag("thead", tag("tr", *cells)) if any(head) else Markup("")
    inner = tag("table", names, tag("tbody", *body), aria_label=label or None)
    return tag("div", inner, class_="scroll", tabindex="0")


def stacked(
    head: Sequence[str], rows: Iterable[Sequence[Any]], *, named: Sequence[int] = (2, 3), label: str = ""
) -> Markup:
    """A table of five columns whose rows become small cards on a narrow screen: four short cells, then words.

    The names of the columns `named` are repeated before their cells there.
    """
    body = [
        tag("tr", *(tag("td", cell, data_name=head[i] if i in named else None) for i, cell in enumerate(row)))
        for row in rows
    ]
    names = tag("thead", tag("tr", *(tag("th", name, scope="col") for name in head)))
    inner = tag("table", names, tag("tbody", *body), class_="stack", aria_label=label or None)
    return tag("div", inner, class_="scroll")


def page(title: str, *content: Any, scripts: Iterable[str] = (), libraries: Iterable[str] = ()) -> str:
    """The whole document. `libraries` are JavaScript sources set inline before the content, `scripts` after it."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style>{_inline(libraries)}</head>"
        f"<body><main>{join(content)}</main>{_inline(scripts)}</body></html>\n"
    )


def _inline(scripts: Iterable[str]) -> str:
    sources = (script.replace("</script", "<\\/script") for script in scripts)
    return "".join(f"<script>{source}</script>" for source in sources)


STYLE = """
:root { color-scheme: light dark;
  --paper: #f6f6f3; --card: #ffffff; --ink: #1c1e21; --soft: #62666d; --line: #dfe0dc; --band: rgba(60, 90, 160, .07);
  --c1: #2457c5; --c2: #c2570c; --c3: #0c7a5b; --c4: #8a8f98; --good: #0b7a45; --bad: #b42318; --warn: #8f5b00;
  --gain: #2457c5; --loss: #c2570c; }
@media (prefers-color-scheme: dark) { :root {
  --paper: #131518; --card: #1c1f24; --ink: #e8e9eb; --soft: #a0a5ad; --line: #32363d; --band: rgba(140, 170, 255, .08);
  --c1: #7aa7ff; --c2: #ff9f5a; --c3: #4cc9a0; --c4: #7d838c; --good: #4cc98a; --bad: #ff8a80; --warn: #f0b44c;
  --gain: #7aa7ff; --loss: #ff9f5a; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: clamp(1rem, 3vw, 2.5rem); }
h1 { font-size: clamp(1.6rem, 4vw, 2.2rem); line-height: 1.15; margin: 0 0 .3rem; letter-spacing: -.02em; }
h2 { font-size: clamp(1.3rem, 3vw, 1.6rem); margin: 0 .6rem 0 0; letter-spacing: -.01em; display: inline-block; }
h3 { font-size: 1.05rem; margin: 0 0 .25rem; }
p { margin: .4rem 0; max-width: 48rem; } a { color: var(--c1); }
.lead { font-size: 1.1rem; color: var(--soft); } .note, small { color: var(--soft); font-size: .88rem; }
.candidate { margin-top: 2.5rem; padding-top: 1.5rem; border-top: 1px solid var(--line); }
.grid { display: flex; flex-wrap: wrap; gap: 1rem; margin: 1rem 0; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .7rem; padding: 1rem 1.2rem;
  flex: 1 1 100%; min-width: 0; }
.half { flex: 1 1 26rem; } .column { display: flex; flex-direction: column; gap: 1rem; min-width: 0; }
.column .card { flex: 0 0 auto; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .7rem; margin: 1rem 0; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: .7rem; padding: .7rem .9rem; }
.tile dt { color: var(--soft); font-size: .85rem; } .tile dd { margin: 0; font-size: 1.5rem; font-weight: 600;
  font-variant-numeric: tabular-nums; letter-spacing: -.01em; }
.scroll { overflow-x: auto; max-width: 100%; } .tall { max-height: 26rem; overflow-y: auto; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .4rem .8rem .4rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
thead th { vertical-align: bottom; color: var(--soft); font-weight: 500; font-size: .85rem; white-space: nowrap; }
thead small { font-size: .75rem; font-weight: 400; }
tbody tr:last-child td { border-bottom: 0; } .number { text-align: right; white-space: nowrap; }
.tall thead th { position: sticky; top: 0; background: var(--card); }
code, .digest { font: .85em ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
.badge { display: inline-block; white-space: nowrap; font-size: .85rem; font-weight: 600; padding: .1rem .55rem;
  border-radius: 1rem; border: 1px solid currentColor; vertical-align: .12em; }
.good { color: var(--good); } .bad { color: var(--bad); } .warn { color: var(--warn); } .none { color: var(--soft); }
.plot { position: relative; margin: .6rem 0 1.6rem 3.4rem; }
.plot svg { position: absolute; inset: 0; width: 100%; height: 100%; overflow: visible; }
.plot span { position: absolute; font-size: .75rem; color: var(--soft); white-space: nowrap; line-height: 1;
  font-variant-numeric: tabular-nums; }
.plot .y { right: calc(100% + .4rem); transform: translateY(-50%); }
.plot .x { top: calc(100% + .4rem); transform: translateX(-50%); }
.plot .band { top: .35rem; padding-left: .35rem; overflow: hidden; text-overflow: ellipsis; }
.plot .mark { color: var(--ink); padding: 0 .4rem; } .plot .before { transform: translateX(-100%); }
.plot .read { top: .35rem; right: .35rem; background: var(--card); border: 1px solid var(--line); border-radius: .4rem;
  padding: .35rem .5rem; display: none; color: var(--ink); white-space: pre; line-height: 1.4; z-index: 1; }
.plot path, .plot line { vector-effect: non-scaling-stroke; fill: none; }
.key { font-size: .85rem; color: var(--soft); display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; }
.key i { display: inline-block; width: 1.4rem; border-top: 2px solid; vertical-align: .25rem; margin-right: .4rem; }
.key .dashed { border-top-style: dashed; }
.heat table { width: auto; }
.heat td, .heat thead th, .heat tbody th { padding: .3rem .5rem; text-align: center; border: 0; }
.heat td { border: 2px solid var(--card); border-radius: .3rem; min-width: 2.9rem; }
.heat tbody th { color: var(--soft); font-weight: 500; font-size: .85rem; white-space: nowrap; text-align: right; }
.heat .chosen { outline: 2px solid var(--ink); outline-offset: -2px; font-weight: 700; }
.glance { margin: 0; } .glance dt { color: var(--soft); font-size: .88rem; margin-top: .5rem; }
.glance dd { margin: .2rem 0 0; line-height: 2.1; } .chip { text-decoration: none; }
.glance .badge { font-weight: 500; white-space: normal; line-height: 1.35; }
.stack td:first-child { white-space: nowrap; }
details > summary { cursor: pointer; color: var(--soft); margin: .5rem 0; }
@media (max-width: 40rem) { .plot { margin-left: 2.7rem; } .card { padding: .8rem .9rem; }
  .stack thead { display: none; } .stack tr { display: block; padding: .5rem 0; border-bottom: 1px solid var(--line); }
  .stack td { display: block; border: 0; padding: .1rem 0; text-align: left; white-space: normal; }
  .stack td:nth-child(-n+4) { display: inline-block; margin-right: .8rem; } .stack td br { display: none; }
  .stack td[data-name]::before { content: attr(data-name) " "; color: var(--soft); font-size: .85rem; } }
@media print { :root { color-scheme: light; --paper: #fff; --card: #fff; --ink: #000; --soft: #444; --line: #bbb;
  --c1: #2457c5; --c2: #c2570c; --c3: #0c7a5b; --c4: #8a8f98; --good: #0b7a45; --bad: #b42318; --warn: #8f5b00;
  --gain: #2457c5; --loss: #c2570c; --band: rgba(60, 90, 160, .07); }
  html { font-size: 72%; } body { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  main { max-width: none; padding: 0; }
  .card, .tile, tr { break-inside: avoid; } .tall { max-height: none; } h2, h3 { break-after: avoid; }
  .candidate + .candidate { break-before: page; } }
"""
