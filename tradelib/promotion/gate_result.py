"""What one gate found: a figure, the threshold it is held against, and a sentence that a person can act on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np

from tradelib.errors import ParameterError

__all__ = ["Comparison", "Figure", "GateResult", "Tier", "failed", "figure_of", "judge", "plain", "sentence"]

Tier = Literal["safety", "evidence"]
Comparison = Literal[">=", "<=", "=="]
Figure = float | str | None


@dataclass(frozen=True)
class GateResult:
    """What one gate found: `figure` `comparison` `threshold`, and the same in plain words.

    `figure` is None where it is undefined. A result that claims to have passed although its figure does not meet its
    threshold is refused (`ParameterError`), so no gate can wave a candidate through; the one exception is a waiver.
    """

    name: str
    tier: Tier
    figure: Figure
    threshold: Figure
    comparison: Comparison
    passed: bool
    explanation: str
    evidence: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.tier not in ("safety", "evidence"):
            raise ParameterError(f"gate {self.name!r}: tier {self.tier!r} is neither 'safety' nor 'evidence'")
        waived = self.waived and self.tier == "evidence" and self.figure is None
        if self.passed and not waived and not _meets(self.figure, self.comparison, self.threshold):
            told = f"{self.figure!r} {self.comparison} {self.threshold!r}"
            raise ParameterError(f"gate {self.name!r} says it passed, but {told} does not hold")

    @property
    def waived(self) -> str:
        """Why nobody asks for an answer, in the words of `params.yaml`; empty where the gate was not waived."""
        return str(self.evidence.get("waived") or "")

    def waive(self, reason: str) -> GateResult:
        """This result, passed for a stated reason: for evidence that cannot be had, never for a figure that is bad.

        `ParameterError` for a safety gate, a figure that is known, and no reason.
        """
        if self.tier != "evidence" or self.figure is not None or not reason.strip():
            raise ParameterError(
                f"gate {self.name!r} cannot be waived: only evidence that is undefined can, and for a stated reason"
            )
        words = f"Waived: {reason.strip()} (what is missing: {self.explanation})"
        return replace(self, passed=True, explanation=words, evidence={**self.evidence, "waived": reason.strip()})

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; what is not a finite number becomes None."""
        result: dict[str, Any] = plain(asdict(self))
        return result

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> GateResult:
        """The result that `to_dict` wrote; `ParameterError` when fields are missing or unknown."""
        try:
            return cls(**data)
        except TypeError as error:
            raise ParameterError(f"this is not a gate result: {error}") from None


def judge(
    name: str,
    tier: Tier,
    figure: Figure,
    comparison: Comparison,
    threshold: Figure,
    explanation: str,
    evidence: Mapping[str, Any] | None = None,
) -> GateResult:
    """A result whose verdict follows from the comparison alone; an undefined figure fails."""
    passed = _meets(figure, comparison, threshold)
    shown = figure if _defined(figure) else None
    return GateResult(name, tier, shown, threshold, comparison, passed, explanation, dict(evidence or {}))


def _defined(figure: Any) -> bool:
    if isinstance(figure, str):
        return True
    return isinstance(figure, int | float | np.number) and not isinstance(figure, bool) and math.isfinite(figure)


def _meets(figure: Any, comparison: str, threshold: Any) -> bool:
    if not _defined(figure) or not _defined(threshold) or isinstance(figure, str) != isinstance(threshold, str):
        return False
    if comparison == "==":
        return bool(figure == threshold)
    if isinstance(figure, str) or comparison not in (">=", "<="):
        return False
    return bool(figure >= threshold if comparison == ">=" else figure <= threshold)


def plain(value: Any) -> Any:
    """`value` as JSON-able data: numpy scalars unwrapped, times as ISO text, non-finite numbers as None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in (sorted(value) if isinstance(value, set | frozenset) else value)]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else _text(value)


def _text(value: Any) -> str:
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def failed(name: str, tier: Tier, explanation: str) -> GateResult:
    """The result of a gate that was not answered."""
    return GateResult(name, tier, None, None, "==", False, explanation)


def figure_of(figures: Mapping[str, Any], name: str) -> float | None:
    """The figure called `name` as a float, None where it is missing, not a number, NaN or infinite."""
    value = figures.get(name)
    return float(value) if value is not None and not isinstance(value, str) and _defined(value) else None


def sentence(figure: float | None, defined: Callable[[float], str], undefined: str) -> str:
    """Words for a figure, or `undefined` where there is none."""
    return undefined if figure is None else defined(figure)
