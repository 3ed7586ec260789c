"""`params.yaml`: the only place where the pipeline's parameters are written, checked before anything runs.

Each top-level section has a typed owner. A stage loads the sections that it names and nothing else, so that what it
depends on is what `dvc.yaml` says. An unknown or misspelt key, anywhere, is refused with the one probably meant.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from importlib import import_module
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import Field, field_validator, model_validator

from tradelib.errors import ParameterError
from tradelib.parameters import Parameters, nearest

__all__ = ["SECTIONS", "Causality", "Named", "Params", "Promotion", "Span", "Windows", "load", "read_yaml"]

SECTIONS = {
    "windows": "pipelines.params:Windows",
    "markets": "pipelines.sources:MarketSource*",
    "quality": "tradelib.data.quality:QualityRules",
    "costs": "tradelib.backtest.costs:Costs",
    "account": "pipelines.setting:Account",
    "strategies": "pipelines.candidates:Candidate*",
    "causality": "pipelines.params:Causality",
    "evidence": "tradelib.promotion.evidence:EvidenceSettings",
    "gates": "tradelib.promotion.gates:Thresholds",
    "promotion": "pipelines.params:Promotion",
}
"""Section -> where its type lives, resolved when loaded; a star marks a mapping of names to such objects."""


class Span(Parameters):
    """First and last bar of a window by open date, both included, `YYYY-MM-DD`."""

    start: str
    end: str

    @field_validator("start", "end")
    @classmethod
    def _is_a_date(cls, text: str) -> str:
        try:
            return date.fromisoformat(text).isoformat()
        except ValueError:
            raise ValueError("write a date as 2018-12-31, in quotes") from None

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.start > self.end:
            raise ValueError(f"start {self.start} lies after end {self.end}")
        return self


class Windows(Parameters):
    """What research may look at, and what it may not: in sample, then out of sample, then paper."""

    in_sample: Span
    out_of_sample: Span
    paper: Span

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if not self.in_sample.end < self.out_of_sample.start:
            raise ValueError("in_sample must end before out_of_sample starts")
        if not self.out_of_sample.end < self.paper.start:
            raise ValueError("out_of_sample must end before paper starts")
        return self


class Causality(Parameters):
    """How closely look-ahead is searched for."""

    every: int | None = Field(
        1, ge=1, le=20, description="one truncated history per so many bars; null for about a thousand in all"
    )


class Promotion(Parameters):
    """What a bundle carries, and who signs it."""

    golden_length: int = Field(500, ge=10, description="bars of the reference window sealed in the bundle")
    signing_key: str = Field("local", pattern=r"^[A-Za-z0-9_-]{1,40}$", description="name of the signing key")


@dataclass(frozen=True)
class Params:
    """The sections that were asked for, by name; asking for another one is a mistake in the stage."""

    sections: dict[str, Any]

    def __getattr__(self, name: str) -> Any:
        sections = self.__dict__["sections"]
        if name not in sections:
            raise AttributeError(f"section {name!r} was not loaded; this stage loaded {', '.join(sections)}")
        return sections[name]


class Named(dict[str, Any]):
    """Entries of a section by name; asking for an unknown one names those that there are."""

    def __missing__(self, name: str) -> Any:
        raise ParameterError(f"params.yaml: there is no entry {name!r}{nearest(name, self)}")


class _StrictLoader(yaml.SafeLoader):
    """YAML without surprises: a key that stands twice is refused."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping of `node`; `ParameterError` naming line and key when one stands twice."""
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str | int | float | bool | None):
                raise ParameterError(f"line {key_node.start_mark.line + 1}: a key must be text, not {key!r}")
            if key in seen:
                raise ParameterError(f"line {key_node.start_mark.line + 1}: the key {key!r} stands twice")
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; `ParameterError` with file, line and cause when there is none."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)
    except FileNotFoundError:
        raise ParameterError(f"{path} does not exist: run this from the project's folder") from None
    except UnicodeDecodeError as error:
        raise ParameterError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}") from None
    except yaml.YAMLError as error:
        raise ParameterError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    except ParameterError as error:
        raise ParameterError(f"{path}, {error}") from None
    if not isinstance(content, dict):
        raise ParameterError(f"{path} must hold sections: {', '.join(SECTIONS)}")
    return content


def load(root: Path, names: Iterable[str] = tuple(SECTIONS)) -> Params:
    """The sections `names` of `params.yaml` under `root` (all of them by default), typed and checked.

    Raises `ParameterError` naming section, parameter, value and remedy; every top-level key is checked in any case.
    """
    path = root / "params.yaml"
    content = read_yaml(path)
    for key in content:
        if key not in SECTIONS:
            raise ParameterError(f"{path.name} has no section {key!r}{nearest(str(key), SECTIONS)}")
    sections = {}
    for name in names:
        if name not in content:
            raise ParameterError(f"{path.name} lacks the section {name!r}")
        try:
            sections[name] = _section(name, content[name])
        except ParameterError as error:
            raise ParameterError(f"{path.name}, section {name!r}: {error}") from None
    _check_markets(sections)
    _check_waivers(sections)
    return Params(sections)


def _section(name: str, value: Any) -> Any:
    module, _, type_name = SECTIONS[name].partition(":")
    kind = getattr(import_module(module), type_name.rstrip("*"))
    if not isinstance(value, dict):
        raise ParameterError(f"must be a mapping of parameters, not {value!r}")
    if not type_name.endswith("*"):
        return kind(**value)
    if not value:
        raise ParameterError("must name at least one entry")
    return Named({key: _entry(kind, key, entry) for key, entry in value.items()})


def _entry(kind: Any, key: Any, entry: Any) -> Any:
    if not isinstance(key, str) or not key.replace("_", "").isalnum():
        raise ParameterError(f"the name {key!r} may hold letters, digits and underscores only")
    if not isinstance(entry, dict):
        raise ParameterError(f"{key} must be a mapping of parameters, not {entry!r}")
    try:
        return kind(**entry)
    except ParameterError as error:
        raise ParameterError(f"{key}: {error}") from None


def _check_markets(sections: dict[str, Any]) -> None:
    if "markets" in sections and "strategies" in sections:
        for key, candidate in sections["strategies"].items():
            if candidate.market not in sections["markets"]:
                raise ParameterError(
                    f"params.yaml, section 'strategies': {key}: there is no market {candidate.market!r}"
                    f"{nearest(candidate.market, sections['markets'])}"
                )


def _check_waivers(sections: dict[str, Any]) -> None:
    if "gates" in sections and "strategies" in sections:
        for gate, reasons in sections["gates"].waived.items():
            for key in reasons if isinstance(reasons, dict) else ():
                if key not in sections["strategies"]:
                    raise ParameterError(
                        f"params.yaml, section 'gates': {gate} is waived for {key!r}, which is no strategy"
                        f"{nearest(key, sections['strategies'])}"
                    )
