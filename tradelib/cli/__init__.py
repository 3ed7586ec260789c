"""The command line: `tradelib --help`."""

from importlib import import_module

from tradelib.cli.base import app, main

__all__ = ["app", "main"]

for _module in ("research", "promotion", "operations", "operators", "keys"):  # the order in which the help shows them
    import_module(f"tradelib.cli.{_module}")
