"""Order statistics in place, compiled: what is smallest, largest, or at a place of the sorted values."""

from __future__ import annotations

import math

import numpy as np

from tradelib._jit import jit

__all__ = ["maximum", "minimum", "partition", "select"]

_kernel = jit(nogil=True, _nrt=False, error_model="numpy")
_inlined = jit(nogil=True, _nrt=False, error_model="numpy", inline="always")


@_inlined
def partition(values: np.ndarray, left: int, right: int, pivot: float, equal: bool) -> int:
    """Bring what is smaller than `pivot` (or `equal` to it) to the left of the rest; returns where the rest starts.

    Without a branch that a processor could guess wrongly.
    """
    at = left
    for i in range(left, right):
        value = values[i]
        values[i] = values[at]
        values[at] = value
        at += 1 if (value <= pivot if equal else value < pivot) else 0
    return at


@_kernel
def select(values: np.ndarray, left: int, right: int, place: int) -> float:
    """The value that would stand at `place` if `values[left:right]` were sorted; they are rearranged around it.

    Quickselect (Hoare (1961), Algorithm 65, Communications of the ACM 4) in three parts, since returns of zero come in
    masses. nan if it meets one.
    """
    while right - left > 1:
        pivot = values[place]
        if math.isnan(pivot):
            return pivot
        smaller = partition(values, left, right, pivot, False)
        if place < smaller:
            right = smaller
        else:
            left = partition(values, smaller, right, pivot, True)
            if place < left:
                return pivot
    return values[place]


@_kernel
def minimum(values: np.ndarray, start: int, stop: int) -> float:
    """The smallest of `values[start:stop]`."""
    found = values[start]
    for i in range(start + 1, stop):
        found = values[i] if values[i] < found else found
    return found


@_kernel
def maximum(values: np.ndarray, start: int, stop: int) -> float:
    """The largest of `values[start:stop]`."""
    found = values[start]
    for i in range(start + 1, stop):
        found = values[i] if values[i] > found else found
    return found
