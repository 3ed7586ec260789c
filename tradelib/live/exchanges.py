"""The client class of one exchange, without the hundred others.

`import ccxt` loads every exchange that it knows, and `ccxt.async_support` each a second time: some 80 MB and seconds of
which a runner uses one class. Here the packages are put in place unloaded, so that a module inside of them can be
imported by itself. Whoever then asks such a package for something else, `ccxt.NetworkError` say, has it loaded as a
whole at that moment and notices nothing but the time it takes.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
from types import ModuleType
from typing import Any

__all__ = ["client_class"]

_LOADING = threading.RLock()


class _Deferred(ModuleType):
    """A package that is there for its submodules, and loads the rest of itself when it is asked for it."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name not in ("__all__", "__version__"):
            raise AttributeError(name)  # what the import system and inspection look for needs no exchanges
        with _LOADING:
            if vars(self).get("_is_loading"):
                raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
            if type(self) is _Deferred:
                self._load()
        return getattr(self, name)

    def _load(self) -> None:
        assert self.__spec__ is not None
        assert self.__spec__.loader is not None
        self._is_loading = True
        try:
            self.__spec__.loader.exec_module(self)
        finally:
            del self._is_loading
        self.__class__ = ModuleType  # type: ignore[assignment]  # it is an ordinary one from here on


def client_class(exchange: str, *, streams: bool = False) -> Any:
    """ccxt's asynchronous client of `exchange`; with `streams` that of ccxt.pro, which speaks WebSocket too."""
    _give_the_basics(_deferred("ccxt"))
    found = _class_of("ccxt.async_support", exchange)
    return _class_of("ccxt.pro", exchange) if streams else found


def _give_the_basics(package: ModuleType) -> None:
    """The errors and the base class, which ccxt's own modules take from the package: for them it need not be loaded."""
    errors = importlib.import_module("ccxt.base.errors")
    vars(package).update({name: getattr(errors, name) for name in errors.__all__})
    vars(package)["Exchange"] = importlib.import_module("ccxt.base.exchange").Exchange


def _class_of(package: str, exchange: str) -> Any:
    place = _deferred(package)
    found = getattr(importlib.import_module(f"{package}.{exchange}"), exchange)
    setattr(place, exchange, found)  # as the package itself does: the import alone leaves the module under that name
    return found


def _deferred(name: str) -> ModuleType:
    """The package `name`, as it is loaded already, or unloaded."""
    with _LOADING:
        if name in sys.modules:
            return sys.modules[name]
        spec = importlib.util.find_spec(name)
        if spec is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        module = importlib.util.module_from_spec(spec)
        module.__class__ = _Deferred
        sys.modules[name] = module
        parent, _, short = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], short, module)
        return module
