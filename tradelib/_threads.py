"""A second core for one long array: kernels release the interpreter lock, so two halves take half the time."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tradelib._jit import compiling

__all__ = ["WORTHWHILE", "ahead", "both"]

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
