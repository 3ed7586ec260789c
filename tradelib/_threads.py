"""Cores: a second one for one long array, and one alone where the bits of a sum of products must not depend on them.

Kernels release the interpreter lock, so two halves of an array take half the time.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tradelib._jit import compiling
from tradelib.errors import require

__all__ = ["WORTHWHILE", "ahead", "both", "one_core"]

WORTHWHILE = 1 << 18
"""Values from which on a second thread is worth being woken up."""


@functools.cache
def _pool(process: int) -> ThreadPoolExecutor:
    """The thread that waits for work; a forked process has none of its parent's."""
    return ThreadPoolExecutor(1, thread_name_prefix=f"second-{process}")


def both(one: Callable[[], Any], other: Callable[[], Any], size: int) -> None:
    """Call both; at the same time where there are two cores, kernels are compiled, and `size` values are worth it."""
    if size < WORTHWHILE or not compiling() or (os.cpu_count() or 1) < 2:
        one()
        other()
        return
    under_way = _pool(os.getpid()).submit(other)
    try:
        one()
    finally:
        under_way.result()


def ahead(work: Callable[[], Any], size: int) -> None:
    """Begin `work`, which keeps its result, on the second core, where that is worth it; errors are left for later."""
    if size >= WORTHWHILE and compiling() and (os.cpu_count() or 1) > 1:
        _pool(os.getpid()).submit(work)


class _OneCore:
    """Linear algebra on one core while anybody of this process is inside: the first to enter narrows, the last widens.

    OpenBLAS has one pool per process, and threadpoolctl lets one thread at a time set its size: control is taken here,
    and given back, because who leaves last need not be who came first.
    """

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0
        self._limit: Any = None

    @functools.cached_property
    def _libraries(self) -> Any:
        """The libraries of numpy and scipy; found once, because a search takes a millisecond."""
        require("scipy.linalg", "research")
        return require("threadpoolctl", "research").ThreadpoolController()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._set(lambda: self._libraries.limit(limits=1, user_api="blas"))
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._set(self._limit.restore_original_limits)

    def _set(self, change: Callable[[], Any]) -> None:
        control = require("threadpoolctl", "research").OpenBLASController.clear_controlling_thread
        control(force=True)
        self._limit = change()
        control(force=True)


one_core = _OneCore()
"""`with one_core:` gives sums of products the same bits on every machine: OpenBLAS adds in an order that depends on
the number of cores."""
