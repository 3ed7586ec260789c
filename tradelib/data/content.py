"""Recognise content that was met before at the speed of memory, so that slow work is done once per content.

SHA-256 of a million bars takes 24 ms, their checks 10 ms; a backtest of them takes less. What is recorded stays
SHA-256: a fingerprint, which takes 1 ms, only finds the one that was computed before for the same content.

The fingerprint of an array is the sum, over its places, of a mix of place and value: the finalizer of SplitMix64
(Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014, figure 16). The mix is a bijection
of 64 bits: one changed value always changes the sum; of several changes a share of 2^-64 would go unnoticed. It is no
defence against somebody who constructs such changes.
"""

from __future__ import annotations

import hashlib
import math
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

import numpy as np

from tradelib._jit import compiling, jit

__all__ = [
    "WORTHWHILE",
    "Fingerprint",
    "Memory",
    "are_bars",
    "count_bad",
    "digest_of",
    "fingerprint",
    "is_private",
    "make_private",
    "mixed_sum",
]

WORTHWHILE = 32_768
"""Rows from which on a fingerprint pays: below, the slow work is quicker than loading the compiler."""

Fingerprint = tuple[int, ...]
"""Length and 64-bit sum of each array."""

Value = TypeVar("Value")

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
FIRST, SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
BY_30, BY_27, BY_31 = np.uint64(30), np.uint64(27), np.uint64(31)


@jit(nogil=True)
def mixed_sum(words: np.ndarray) -> np.uint64:
    """Sum modulo 2^64 of the mix of every place and its word, uint64 `(n,)`."""
    total = np.uint64(0)
    for i in range(words.shape[0]):
        mixed = words[i] + np.uint64(i) * GOLDEN
        mixed = (mixed ^ (mixed >> BY_30)) * FIRST
        mixed = (mixed ^ (mixed >> BY_27)) * SECOND
        total += mixed ^ (mixed >> BY_31)
    return total


def fingerprint(arrays: Sequence[np.ndarray]) -> Fingerprint | None:
    """What tells contiguous arrays of 64-bit values apart; None where computing it would not pay.

    That is below `WORTHWHILE` values in all, and where kernels are interpreted.
    """
    if not compiling() or sum(array.size for array in arrays) < 6 * WORTHWHILE:
        return None
    sums: list[int] = []
    for array in arrays:
        words = array.reshape(-1).view(np.uint64)
        words.flags.writeable = False
        sums += (array.size, int(mixed_sum(words)))
    return tuple(sums)


@jit(nogil=True)
def count_bad(open_: np.ndarray, high: np.ndarray, low: np.ndarray, close: np.ndarray, volume: np.ndarray) -> int:
    """At how many places five arrays `(n,)` hold no bar; see `are_bars`. A NaN fails every comparison."""
    bad = 0
    for i in range(close.shape[0]):
        below = (low[i] > 0.0) & (low[i] <= open_[i]) & (low[i] <= close[i])
        above = (high[i] < math.inf) & (high[i] >= open_[i]) & (high[i] >= close[i])
        bad += 0 if below & above & (volume[i] >= 0.0) & (volume[i] < math.inf) else 1
    return bad


def are_bars(columns: Sequence[np.ndarray]) -> bool:
    """Do open, high, low, close and volume hold a bar at every place?

    Prices are finite and positive, low and high enclose open and close, volume is finite and not negative. One pass:
    who wants to know what is wrong looks again.
    """
    flat = [np.ascontiguousarray(column).reshape(-1) for column in columns]
    if compiling() and flat[0].size >= WORTHWHILE:
        for one in flat:
            one.flags.writeable = False
        return bool(count_bad(*flat) == 0)
    opens, highs, lows, closes, volumes = flat
    good = (lows > 0.0) & (lows <= np.minimum(opens, closes)) & (highs >= np.maximum(opens, closes))
    return bool((good & (highs < np.inf) & (volumes >= 0.0) & (volumes < np.inf)).all())


class Memory(Generic[Value]):
    """The `size` values that were used last, by key. Threads may share it."""

    def __init__(self, size: int = 4096) -> None:
        self._size, self._values, self._lock = size, OrderedDict[Hashable, Value](), threading.Lock()

    def get(self, key: Hashable) -> Value | None:
        """The value of `key`, None where it is not known."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def put(self, key: Hashable, value: Value) -> None:
        """Remember `value`; the one that was not used for longest may be forgotten."""
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            if len(self._values) > self._size:
                self._values.popitem(last=False)


_digests: Memory[str] = Memory()


def digest_of(head: str, arrays: Sequence[np.ndarray], seen: Fingerprint | None = None) -> str:
    """SHA-256 (hex) over `head` and the bytes of contiguous arrays of 64-bit values, little endian.

    `seen`: their fingerprint, where somebody has it already.
    """
    seen = fingerprint(arrays) if seen is None else seen
    known = None if seen is None else _digests.get((head, seen))
    if known is not None:
        return known
    content = hashlib.sha256(head.encode())
    for array in arrays:
        content.update(array.astype(array.dtype.newbyteorder("<"), copy=False).data)
    if seen is not None:
        _digests.put((head, seen), content.hexdigest())
    return content.hexdigest()


_private: dict[int, weakref.ref[np.ndarray]] = {}


def _owner(array: np.ndarray) -> np.ndarray:
    """The array that has the memory of `array`."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def make_private(array: np.ndarray) -> None:
    """Note that nobody else has the memory of `array`: only pandas, which copies before it writes to what is shared."""
    owner = _owner(array)
    if owner.flags.owndata:
        _private[id(owner)] = weakref.ref(owner, _forgetter(id(owner)))


def _forgetter(key: int) -> Callable[[object], None]:
    def forget(_: object) -> None:
        _private.pop(key, None)

    return forget


def is_private(array: np.ndarray) -> bool:
    """Was the memory of `array` noted as private?"""
    owner = _owner(array)
    noted = _private.get(id(owner))
    return noted is not None and noted() is owner
