"""What a caller hands in, looked at once: numbers that are numbers, and bars that run forward in time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from tradelib.errors import DataError, ParameterError

__all__ = ["as_numbers", "check_alpha", "check_clock", "check_number", "check_whole"]


def as_numbers(given: Any, what: str, *, copy: bool = True) -> np.ndarray:
    """`given` as a float64 array, a new one unless `copy` is off; `DataError` for text, dates and truth values."""
    try:
        kind = np.asarray(given).dtype
        if kind.kind in "iufO":
            return np.array(given, dtype=np.float64) if copy else np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{what} must be numbers: {error}") from None
    raise DataError(f"{what} must be numbers, not of type {kind}")


def check_clock(given: Any, what: str) -> None:
    """`DataError` where a pandas object with times does not run forward through them, each once."""
    index = getattr(given, "index", None)
    if isinstance(index, pd.DatetimeIndex) and not (index.is_monotonic_increasing and index.is_unique):
        step = int(np.argmin(index[1:] > index[:-1])) + 1
        raise DataError(
            f"{what} must run forward in time, each bar once: {index[step]} comes after {index[step - 1]}; "
            "sort_index() first"
        )


def check_number(value: Any, name: str) -> float:
    """`value` as a finite float, or `ParameterError`."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        raise ParameterError(f"{name} must be a number; got {value!r}")
    if not math.isfinite(value):
        raise ParameterError(f"{name} must be finite; got {value}")
    return float(value)


def check_whole(value: Any, name: str, least: int, most: float = math.inf) -> int:
    """`value` as a whole number from `least` to `most`, or `ParameterError`."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer) or not least <= value <= most:
        span = f"at least {least}" if math.isinf(most) else f"from {least} to {most:g}"
        raise ParameterError(f"{name} must be a whole number, {span}; got {value!r}")
    return int(value)


def check_alpha(alpha: Any) -> float:
    """A tail probability strictly between 0 and 0.5, or `ParameterError`."""
    if isinstance(alpha, bool) or not isinstance(alpha, int | float | np.floating) or not 0.0 < alpha < 0.5:
        raise ParameterError(f"alpha is the tail probability, between 0 and 0.5; got {alpha!r}")
    return float(alpha)
