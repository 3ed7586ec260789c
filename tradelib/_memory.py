"""Large arrays whose memory is used again.

A new array of a million numbers can cost more than filling it: the system hands out zeroed pages one by one, and takes
them back when the array goes. Results that are made over and over (an average, a signal, a weight) take their memory
from a small store instead. It returns there when the last view of them is gone, as the memory under any array does.
"""

from __future__ import annotations

import math

import numpy as np

__all__ = ["KEPT", "LARGE", "empty", "shared"]

LARGE = 1 << 17
"""Numbers from which on memory is kept (a mebibyte). Below, the system's allocator does it by itself."""

KEPT = 1 << 24
"""Numbers in the store, at most: 128 mebibytes."""

_GRAIN = 1 << 18  # two mebibytes: a large page
_store: dict[int, list[np.ndarray]] = {}


def _give_back(buffer: np.ndarray, store: dict[int, list[np.ndarray]] = _store) -> None:
    """Into the store; where that gets too large, other sizes leave it first. Every step is atomic: there is no lock."""
    mine = store.setdefault(len(buffer), [])
    mine.append(buffer)
    if sum(size * len(held) for size, held in list(store.items())) > KEPT:
        for held in list(store.values()):
            if held is not mine:
                held.clear()
        del mine[KEPT // len(buffer) :]


class _Lease:
    """A borrowed buffer. The arrays made of it keep it alive; with the last of them the buffer goes back."""

    __slots__ = ("__array_interface__", "_buffer")

    def __init__(self, buffer: np.ndarray, shape: tuple[int, ...]) -> None:
        self._buffer = buffer
        self.__array_interface__ = {**buffer.__array_interface__, "shape": shape, "strides": None}

    def __del__(self, give_back=_give_back) -> None:  # type: ignore[no-untyped-def]  # bound: at exit the module may be gone
        give_back(self._buffer)


def empty(*shape: int) -> np.ndarray:
    """Like `numpy.empty(shape)` of float64, out of used memory where there is some; the caller fills all of it."""
    size = math.prod(shape)
    if size < LARGE:
        return np.empty(shape)
    room = -(-size // _GRAIN) * _GRAIN
    try:
        buffer = _store[room].pop()
    except (KeyError, IndexError):
        buffer = np.empty(room)
    return np.asarray(_Lease(buffer, shape))


def shared(array: np.ndarray) -> np.ndarray:
    """A read-only, contiguous view: one type for the compiler, whoever asks, and nobody writes through it."""
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view
