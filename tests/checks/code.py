"""Figures of the package's code: lengths of functions and files, and documentation of the public names."""

from __future__ import annotations

import ast
import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Measured:
    """One function and how many lines of code it has, its docstring and blank lines left out."""

    where: str
    lines: int


def functions(path: Path) -> Iterator[Measured]:
    """Every function of a file, methods and inner ones included."""
    text = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, Function):
            yield Measured(f"{path}:{node.lineno} {node.name}", code_lines(node, text.splitlines()))


def code_lines(node: Function, lines: list[str]) -> int:
    """Lines from `def` to the end, without the docstring and without blank lines."""
    numbers = set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    if ast.get_docstring(node) is not None:
        doc = node.body[0]
        numbers -= set(range(doc.lineno, (doc.end_lineno or doc.lineno) + 1))
    return sum(1 for number in numbers if lines[number - 1].strip())


def quantile(values: Iterable[int], share: float) -> int:
    """The smallest value that at least `share` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


def long_functions(measured: list[Measured], *, median: int = 10, p90: int = 35, most: int = 80) -> list[str]:
    """What breaks the limits: the median, the ninetieth percentile, or single functions."""
    if not measured:
        return []
    lengths = [item.lines for item in measured]
    problems = [f"{item.where}: {item.lines} lines, at most {most}" for item in measured if item.lines > most]
    if (typical := statistics.median(lengths)) > median:
        problems.append(f"median function: {typical} lines, at most {median}")
    if (upper := quantile(lengths, 0.9)) > p90:
        problems.append(f"90th percentile of functions: {upper} lines, at most {p90}")
    return problems


def long_files(paths: Iterable[Path], limit: int = 800) -> list[str]:
    """Files with more than `limit` lines."""
    counted = ((path, path.read_text(encoding="utf-8").count("\n")) for path in paths)
    return [f"{path}: {lines} lines, at most {limit}" for path, lines in counted if lines > limit]


def public_names(path: Path) -> list[str]:
    """The module's `__all__`, read without importing it; empty when there is no literal list."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if (
            any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets)
            and node.value is not None
        ):
            try:
                return list(ast.literal_eval(node.value))
            except ValueError:  # computed at run time: no editor, type checker or reader can see it
                return []
    return []


def unexported(paths: Iterable[Path]) -> list[str]:
    """Modules without a literal `__all__`: nobody decided what they offer. (That it is sorted is ruff's business.)"""
    return [f"{path}: no literal __all__" for path in paths if not public_names(path)]


def undocumented(path: Path) -> list[str]:
    """Public functions, classes and methods of a module that have no docstring."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    public = set(public_names(path))
    problems = [] if ast.get_docstring(tree) else [f"{path}: no module docstring"]
    for node in tree.body:
        if isinstance(node, Function | ast.ClassDef) and node.name in public:
            problems += [
                f"{path}:{item.lineno} {item.name}: no docstring"
                for item in _documented(node)
                if not ast.get_docstring(item)
            ]
    return problems


def _documented(node: Function | ast.ClassDef) -> Iterator[Function | ast.ClassDef]:
    if isinstance(node, ast.ClassDef) or not _signature_only(node):
        yield node
    if isinstance(node, ast.ClassDef):
        for item in node.body:
            if isinstance(item, Function) and not item.name.startswith("_") and not _signature_only(item):
                yield item


def _signature_only(node: Function) -> bool:
    """Overloads, protocol members and property setters: the documentation stands beside them."""
    empty = (
        isinstance(node.body[-1], ast.Expr)
        and isinstance(node.body[-1].value, ast.Constant)
        and node.body[-1].value.value is ...
    )
    return empty or any(ast.unparse(mark).endswith(".setter") for mark in node.decorator_list)
