"""Figures of a library notebook: is it still a lesson, or has it become a script?"""

from __future__ import annotations

import ast
import base64
import json
import math
import re
import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

MOST_CELLS, MOST_BYTES, MOST_HIDDEN = 120, 250 * 1024, 3
MEDIAN_LINES, MOST_LINES, EXAMPLE_WITHIN = 15, 60, 3

_DIRECTIVE = re.compile(r"^#\|\s*([\w-]+)", re.MULTILINE)
_CHECK = re.compile(r"\bassert\b|\btest_(?:eq|ne|close|fail|is|sig|stdout|warns|eq_type|all)\w*\(")
_FAILURE = re.compile(r"\btest_fail\(|\bexcept\b|\bpytest\.raises\(|\bExceptionExpected\(")
_NOISE = {
    "object id": re.compile(r"\bat 0x[0-9a-f]{6,}|<[^<>]*0x[0-9a-f]{8,}[^<>]*>"),
    "machine path": re.compile(r"(?<![\w.}/])/(?:tmp|work|root|home|Users|var|private)/[\w.]"),
    "duration": re.compile(r"\bit/s\b|\bs/it\b|\bWall time\b|\b\d+(?:\.\d+)? (?:ms|µs|us|ns) (?:±|per loop)"),
    "warning": re.compile(r"\b\w*Warning: "),
}


@dataclass(frozen=True)
class Cell:
    """One cell of a notebook."""

    number: int
    kind: str
    source: str
    raw: dict[str, Any]

    @cached_property
    def directives(self) -> set[str]:
        """Names of the `#|` lines."""
        return set(_DIRECTIVE.findall(self.source)) if self.kind == "code" else set()

    @property
    def exported(self) -> bool:
        """Does it become part of the package?"""
        return bool(self.directives & {"export", "exports", "exporti"})

    @property
    def hidden(self) -> bool:
        """Does the site leave it out?"""
        return bool(self.directives & {"hide", "hide_input", "hide-input"})

    @property
    def visible_example(self) -> bool:
        """Code that a reader sees and that is not part of the package."""
        return self.kind == "code" and not self.exported and not self.hidden and "default_exp" not in self.directives

    @cached_property
    def statements(self) -> list[ast.stmt]:
        """The parsed code; a cell that is not plain Python has none."""
        try:
            return ast.parse(self.source).body
        except SyntaxError:
            return []

    @property
    def imports(self) -> int:
        """How many of its statements are imports."""
        return sum(isinstance(statement, ast.Import | ast.ImportFrom) for statement in self.statements)

    @property
    def only_imports(self) -> bool:
        """Nothing but imports."""
        return bool(self.statements) and self.imports == len(self.statements)

    @property
    def lines(self) -> int:
        """Lines of code and comment; directives and blank lines are not counted."""
        return sum(1 for line in self.source.splitlines() if line.strip() and not line.startswith("#|"))

    @property
    def output(self) -> str:
        """What is stored of its output as text."""
        return "\n".join(_output_texts(self.raw.get("outputs", [])))

    @property
    def shown(self) -> str:
        """What a reader of the site sees of its output: where there is HTML, the plain twin is left out.

        How a kernel cuts its stream of text into pieces depends on the moment; here the pieces are joined. Whether a
        drawn figure comes before or after the value of the cell depends on the kernel; here it comes after.
        """
        outputs = sorted(map(_rich, self.raw.get("outputs", [])), key=lambda o: "image/png" in o.get("data", {}))
        streams = ["".join(output["text"]) for output in outputs if output["output_type"] == "stream"]
        rest = (output for output in outputs if output["output_type"] != "stream")
        return "\n".join(["".join(streams).strip(), *_output_texts(rest)]).strip()


def _rich(output: dict[str, Any]) -> dict[str, Any]:
    data = output.get("data", {})
    return output | {"data": {kind: data[kind] for kind in data if kind != "text/plain" or "text/html" not in data}}


def _output_texts(outputs: Iterable[dict[str, Any]]) -> Iterator[str]:
    for output in outputs:
        yield "".join(output.get("text", []))
        yield "\n".join(output.get("traceback", []))
        for kind, content in output.get("data", {}).items():
            if not kind.startswith("image/") or kind == "image/svg+xml":
                yield "".join(content) if isinstance(content, list) else str(content)


def read(path: Path) -> list[Cell]:
    """The cells of a notebook, numbered from 1 as a reader counts them."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [Cell(number, raw["cell_type"], "".join(raw["source"]), raw) for number, raw in enumerate(cells, 1)]


def problems(path: Path) -> list[str]:
    """Every way in which a notebook breaks the rules of style, as `path: what`."""
    cells = read(path)
    said = [
        *opening(cells),
        *exported_lengths(cells),
        *examples(cells),
        *amounts(cells, path.stat().st_size),
        *lessons(cells),
        *outputs(cells),
        *bookkeeping(cells, path),
    ]
    return [f"{path}: {problem}" for problem in said]


def opening(cells: list[Cell]) -> Iterator[str]:
    """Title, `>` subtitle, and a paragraph that says which question is answered, and for whom."""
    first = next((cell for cell in cells if cell.kind == "markdown"), None)
    lines = [] if first is None else [line for line in first.source.splitlines() if line.strip()]
    if not lines or not lines[0].startswith("# "):
        yield "the first markdown cell has no '# Title'"
    if not any(line.startswith("> ") for line in lines):
        yield "no '> subtitle' under the title"
    prose = [cell.source for cell in cells[:4] if cell.kind == "markdown"]
    words = " ".join(line for text in prose for line in text.splitlines() if not line.startswith(("#", ">"))).split()
    if len(words) < 15:
        yield "no opening paragraph: which question does it answer, and for whom?"


def exported_lengths(cells: list[Cell]) -> Iterator[str]:
    """Exported cells are short, and exported imports stand alone."""
    exported = [cell for cell in cells if cell.exported]
    if exported and (typical := statistics.median(cell.lines for cell in exported)) > MEDIAN_LINES:
        yield f"median exported cell has {typical} lines, at most {MEDIAN_LINES}"
    for cell in exported:
        if cell.lines > MOST_LINES:
            yield f"exported cell {cell.number} has {cell.lines} lines, at most {MOST_LINES}"
        if cell.imports and not cell.only_imports:
            yield f"exported cell {cell.number} mixes imports with code"


def examples(cells: list[Cell]) -> Iterator[str]:
    """After each exported definition a visible example follows soon."""
    for cell in cells:
        if cell.exported and not cell.only_imports:
            following = cells[cell.number : cell.number + EXAMPLE_WITHIN]
            if not any(near.visible_example for near in following):
                yield f"exported cell {cell.number} has no visible example within {EXAMPLE_WITHIN} cells"


def amounts(cells: list[Cell], size: int) -> Iterator[str]:
    """Number of cells, hidden cells and bytes."""
    hidden = [cell.number for cell in cells if cell.hidden and not cell.only_imports]
    if len(hidden) > MOST_HIDDEN:
        yield f"{len(hidden)} hidden cells besides imports ({hidden}), at most {MOST_HIDDEN}"
    if len(cells) > MOST_CELLS:
        yield f"{len(cells)} cells, at most {MOST_CELLS}"
    if size > MOST_BYTES:
        yield f"{size / 1024:.0f} KB, at most {MOST_BYTES // 1024}"


def lessons(cells: list[Cell]) -> Iterator[str]:
    """Claims are kept true by checks, results are stored, and failures are shown."""
    shown = [cell for cell in cells if cell.visible_example]
    if not any(_CHECK.search(cell.source) for cell in shown):
        yield "no visible cell asserts anything"
    if not any(cell.raw.get("outputs") for cell in shown):
        yield "no visible cell stores a result"
    raising = any(isinstance(node, ast.Raise) for cell in cells if cell.exported for node in _nodes(cell))
    if raising and not any(_FAILURE.search(cell.source) for cell in shown):
        yield "the exported code raises, but no visible cell shows how"


def _nodes(cell: Cell) -> Iterator[ast.AST]:
    for statement in cell.statements:
        yield from ast.walk(statement)


def outputs(cells: list[Cell]) -> Iterator[str]:
    """Stored outputs hold no errors and nothing that changes from run to run."""
    for cell in cells:
        if any(output.get("output_type") == "error" for output in cell.raw.get("outputs", [])):
            yield f"cell {cell.number} stores an error"
        for what, pattern in _NOISE.items():
            if match := pattern.search(cell.output):
                yield f"the output of cell {cell.number} holds a {what}: {match.group()!r}"
        if cell.raw.get("execution_count") is not None:
            yield f"cell {cell.number} stores an execution count"


def bookkeeping(cells: list[Cell], path: Path) -> Iterator[str]:
    """Stable ids, a number in the name, and a module that mirrors the folder; a pure lesson has no module."""
    ids = [cell.raw.get("id") for cell in cells]
    if None in ids or len(set(ids)) < len(ids):
        yield "cells without an id of their own"
    if not re.match(r"\d\d_[a-z0-9_]+\.ipynb$", path.name):
        yield "the name is not NN_name.ipynb"
    named = [match for cell in cells for match in re.findall(r"^#\|\s*default_exp\s+(\S+)", cell.source, re.MULTILINE)]
    exports = any(cell.exported for cell in cells)
    if len(named) > 1 or (exports and not named):
        yield f"{len(named)} default_exp lines, exactly one is needed to export"
    elif named and named[0].split(".")[0] != path.parent.name:
        yield f"default_exp {named[0]} does not mirror the folder {path.parent.name!r}"


_ARRAY = re.compile(r"'bdata': '([^']*)', 'dtype': '([fiu][1248])'")
_NUMBER = re.compile(r"([-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)")


def alike(output: str, stored: str, tolerance: float) -> bool:
    """Do two outputs say the same, but for numbers that differ by a fraction of `tolerance`, or by 1e-12?"""
    if output == stored:
        return True
    told, kept = (_NUMBER.split(_ARRAY.sub(_numbers, text)) for text in (output, stored))
    if told[::2] != kept[::2]:
        return False
    pairs = zip(map(float, told[1::2]), map(float, kept[1::2]), strict=True)
    return all(math.isclose(one, other, rel_tol=tolerance, abs_tol=1e-12) for one, other in pairs)


def _numbers(found: re.Match[str]) -> str:
    """The values of an array that plotly has written as bytes."""
    return " ".join(map(repr, np.frombuffer(base64.b64decode(found[1]), np.dtype(found[2])).tolist()))
