"""What changed between two bundles: parameters, terms, data, figures, gates, code, and where they came from."""

from __future__ import annotations

import difflib
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from tradelib.bundle import Bundle

__all__ = ["BundleDifferences", "Change", "compare_bundles"]

SECTIONS = ("parameters", "execution", "data", "figures", "gates", "code", "provenance")
_ABSENT = "—"


class Change(NamedTuple):
    """One field that differs; a side that does not have it says —."""

    section: str
    field: str
    before: Any
    after: Any


@dataclass(frozen=True)
class BundleDifferences:
    """`changes` from one bundle (digest `before`) to another; `code`: a unified diff of each module that differs."""

    before: str
    after: str
    changes: tuple[Change, ...]
    code: Mapping[str, str]

    @property
    def by_section(self) -> dict[str, int]:
        """How many fields differ, by section."""
        return {name: sum(change.section == name for change in self.changes) for name in SECTIONS}

    def summary(self) -> str:
        """One sentence: what kinds of things changed."""
        told = ", ".join(f"{count} in {name}" for name, count in self.by_section.items() if count)
        pair = f"{self.before[:12]} and {self.after[:12]}"
        return f"{pair} differ: {told}." if told else f"{pair} have the same content."

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        changes = [change._asdict() for change in self.changes]
        return {"before": self.before, "after": self.after, "changes": changes, "summary": self.summary()}

    def to_frame(self) -> pd.DataFrame:
        """One row per field that differs."""
        return pd.DataFrame(self.changes, columns=list(Change._fields))

    def _repr_html_(self) -> str:
        return f"<p><b>{escape(self.summary())}</b></p>{self.to_frame().to_html(index=False, border=0)}"


def compare_bundles(before: Bundle, after: Bundle) -> BundleDifferences:
    """Everything that differs between two verified bundles."""
    code = _code(before.wheel, after.wheel)
    changes = [*_changes(before, after), *(Change("code", name, *_lines(text)) for name, text in code.items())]
    changes.sort(key=lambda change: (SECTIONS.index(change.section), change.field))
    return BundleDifferences(before.digest, after.digest, tuple(changes), code)


def _changes(before: Bundle, after: Bundle) -> Iterator[Change]:
    for section in SECTIONS:
        one, other = _facts(before, section), _facts(after, section)
        for field in sorted({*one, *other}):
            values = one.get(field, _ABSENT), other.get(field, _ABSENT)
            if values[0] != values[1]:
                yield Change(section, field, *values)


def _facts(bundle: Bundle, section: str) -> dict[str, Any]:
    """The fields of one section, flat."""
    if section == "parameters":
        return {"permission": bundle.permission, **_flat(bundle.rule.to_config())}
    if section == "execution":
        return bundle.execution.to_config()
    if section == "gates":
        return {gate["name"]: "passed" if gate["passed"] else "failed" for gate in bundle.gates}
    if section == "code":
        return {}
    named = {"data": bundle.data, "figures": bundle.figures, "provenance": bundle.provenance | {"key": bundle.key_id}}
    return _flat(named[section])


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts as dotted names; a policy with name and parameters keeps both."""
    found: dict[str, Any] = {}
    for name, item in value.items():
        if isinstance(item, Mapping):
            found |= _flat(item, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = item
    return found


def _code(before: Path, after: Path) -> dict[str, str]:
    """A unified diff of each module that differs between two wheels."""
    one, other = _modules(before), _modules(after)
    return {
        name: "\n".join(
            difflib.unified_diff(
                one.get(name, "").splitlines(), other.get(name, "").splitlines(), f"a/{name}", f"b/{name}", lineterm=""
            )
        )
        for name in sorted({*one, *other})
        if one.get(name) != other.get(name)
    }


def _modules(wheel: Path) -> dict[str, str]:
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.endswith(".py")]
        return {name: archive.read(name).decode("utf-8") for name in names}


def _lines(diff: str) -> tuple[str, str]:
    """How many lines a diff takes away and adds."""
    lines = diff.splitlines()[2:]
    counts = [sum(line.startswith(mark) for line in lines) for mark in "-+"]
    return f"-{counts[0]} lines", f"+{counts[1]} lines"
