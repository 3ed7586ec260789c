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
import sys
import time
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
        self._part: Callable[..., Any] | None = None

    def __call__(self, *args: Any) -> Any:
        if compiling():
            return self.compiled(*args)
        return self.python(*map(_plain, args))

    @property
    def compiled(self) -> Callable[..., Any]:
        """The numba dispatcher, made at first use; kernels that it calls are compiled with it."""
        if self._compiled is None:
            self._compiled = self._dispatcher("", no_cfunc_wrapper=True)
        return self._compiled

    @property
    def _called(self) -> Callable[..., Any]:
        """The dispatcher for other kernels: nobody calls it from Python, so it is spared what that would need."""
        if self._part is None:
            self._part = self._dispatcher("_part", no_cpython_wrapper=True, no_cfunc_wrapper=True)
        return self._part

    def _dispatcher(self, suffix: str, **options: Any) -> Callable[..., Any]:
        import numba

        _announce()
        code = self.python.__code__
        namespace = {
            name: value._called if isinstance(value, Kernel) and value is not self else value
            for name, value in self.python.__globals__.items()
            if name in code.co_names or name.startswith("__")
        }
        twin = types.FunctionType(
            code, namespace, self.python.__name__, self.python.__defaults__, self.python.__closure__
        )
        twin.__qualname__ = self.python.__qualname__ + suffix  # a name of its own in the cache on disk
        dispatcher: Callable[..., Any] = numba.njit(cache=True, **self.options, **options)(twin)
        _stamp(dispatcher, _sources(self.python, {}))
        _once_per_type(dispatcher)
        return dispatcher


class Announcement:
    """One line, once, to whoever sits at a terminal or a notebook while kernels compile for longer than `patience`.

    A listener of numba's events: it hears of every compilation that the cache on disk could not spare, nested ones
    too. A call that compiles nothing comes nowhere near. `clock`: seconds.
    """

    def __init__(self, patience: float = 2.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._patience, self._clock = patience, clock
        self._spent, self._since, self._depth = 0.0, 0.0, 0

    def notify(self, event: Any) -> None:
        """Hear of the start or the end of a compilation."""
        compiled = getattr(event.data["dispatcher"], "py_func", None)
        if not str(getattr(compiled, "__module__", "")).startswith("tradelib."):
            return
        now = self._clock()
        if self._depth:
            self._spent += now - self._since
        self._since, self._depth = now, self._depth + (1 if event.is_start else -1)
        if event.is_start and self._spent > self._patience:
            self._patience = float("inf")
            if _is_watched(sys.stderr):
                sys.stderr.write(_COMPILES)
                sys.stderr.flush()


_COMPILES = "tradelib: compiling the engine, once per installation, about half a minute\n"


def _is_watched(stream: Any) -> bool:
    """True for a terminal and for the output of a notebook's cell."""
    return type(stream).__module__.startswith("ipykernel.") or bool(stream is not None and stream.isatty())


@functools.cache
def _announce() -> None:
    """Let an announcement hear of compilations from now on; `TRADELIB_ANNOUNCE=0` for none."""
    from numba.core import event

    if os.environ.get("TRADELIB_ANNOUNCE") == "0":
        return

    event.Listener.register(Announcement)
    event.register("numba:compile", Announcement())


def _plain(value: Any) -> Any:
    """Arrays, also those inside a named tuple, as memoryviews."""
    if isinstance(value, np.ndarray):
        return memoryview(value)  # type: ignore[arg-type]
    if isinstance(value, tuple) and hasattr(value, "_fields") and any(isinstance(v, np.ndarray) for v in value):
        return type(value)(*map(_plain, value))
    return value


def _sources(function: Callable[..., Any], seen: dict[Callable[..., Any], None]) -> set[str]:
    """Files whose content decides what `function` compiles to: its own, its kernels' and its modules of constants."""
    seen[function] = None
    files = {function.__code__.co_filename}
    for name in function.__code__.co_names:
        value = function.__globals__.get(name)
        if isinstance(value, Kernel) and value.python not in seen:
            files |= _sources(value.python, seen)
        elif isinstance(value, types.ModuleType) and value.__name__.startswith("tradelib."):
            files.add(str(value.__file__))
    return files


def _stamp(dispatcher: Any, files: set[str]) -> None:
    """Let the cache on disk depend on all of `files`: numba itself looks at the file of the outermost function only."""
    stats = [os.stat(file) for file in sorted(files) if os.path.exists(file)]
    cache_file = getattr(getattr(dispatcher, "_cache", None), "_cache_file", None)
    if cache_file is not None:
        cache_file._source_stamp = (cache_file._source_stamp, tuple((s.st_mtime, s.st_size) for s in stats))


def _once_per_type(dispatcher: Any) -> None:
    """Compile one version of a kernel for all constants that others pass: numba makes one for each (0, True, ...)."""
    from numba.core import types as kinds

    choose = dispatcher.get_call_template

    def without_values(args: Any, kws: Any) -> Any:
        return choose(tuple(map(kinds.unliteral, args)), {name: kinds.unliteral(kind) for name, kind in kws.items()})

    dispatcher.get_call_template = without_values


def jit(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Decorate a numeric kernel; `options` (such as `nogil=True`) go to numba."""
    if function is None:
        return lambda wrapped: Kernel(wrapped, options)
    return Kernel(function, options)
