"""Kernels: readable Python that numba compiles when it is there and allowed.

`@jit` wraps a numeric function. In research its first call compiles it; the runner, where numba is not installed,
executes the same source interpreted. No fastmath: both give the same bits.

numba is imported at the first compiled call, never at import time, so that `import tradelib` stays light. Interpreted,
array arguments arrive as memoryviews: same indexing and shape, but elements are Python floats, with which the same
double arithmetic is two to three times faster than with numpy scalars.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

__all__ = ["Kernel", "compiling", "interpreted", "jit"]

_compile: ContextVar[bool] = ContextVar("compile", default=os.environ.get("TRADELIB_JIT", "1") != "0")
"""Per thread and task: a venue that interprets in its own thread does not switch anybody else."""


def compiling() -> bool:
    """True where kernels are compiled: numba is installed and nobody switched it off (`TRADELIB_JIT=0`)."""
    return _compile.get() and _numba_installed()


@functools.cache
def _numba_installed() -> bool:
    return importlib.util.find_spec("numba") is not None


@contextmanager
def interpreted() -> Iterator[None]:
    """Run kernels as plain Python inside the block: what the runner does, and what tests compare with."""
    token = _compile.set(False)
    try:
        yield
    finally:
        _compile.reset(token)


class Kernel:
    """A numeric function with two executions of one source: `compiled` and `python`."""

    def __init__(self, function: Callable[..., Any], options: dict[str, Any]) -> None:
        functools.update_wrapper(self, function)
        self.python = function
        self.options = options
        self._compiled: Callable[..., Any] | None = None

    def __call__(self, *args: Any) -> Any:
        if compiling():
            return self.compiled(*args)
        plain: Any = memoryview
        return self.python(*(plain(a) if isinstance(a, np.ndarray) else a for a in args))

    @property
    def compiled(self) -> Callable[..., Any]:
        """The numba dispatcher, made at first use; kernels that it calls are compiled with it."""
        if self._compiled is None:
            import numba

            namespace = {
                name: value.compiled if isinstance(value, Kernel) and value is not self else value
                for name, value in self.python.__globals__.items()
                if name in self.python.__code__.co_names or name.startswith("__")
            }
            twin = types.FunctionType(
                self.python.__code__, namespace, self.python.__name__, self.python.__defaults__, self.python.__closure__
            )
            self._compiled = numba.njit(cache=True, **self.options)(twin)
        return self._compiled


def jit(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Decorate a numeric kernel; `options` (such as `nogil=True`) go to numba."""
    if function is None:
        return lambda wrapped: Kernel(wrapped, options)
    return Kernel(function, options)
