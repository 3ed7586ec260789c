"""What to tell people of an error that nobody foresaw: its kind, its words and its place, without secrets.

Verdicts of this package are written for people, and a venue's own words are known (`describe_error`); what a library
for the network says may hold an address with a signature, so of that only the kind is told. Everything else is a fault
in a program: whoever is called needs to know which line.
"""

from __future__ import annotations

import os
import traceback
from pathlib import Path

from tradelib.errors import TradelibError
from tradelib.live.connection import describe_error, venue_reply
from tradelib.live.logs import Redactor, secrets_of

__all__ = ["explain", "is_unforeseen"]

_LONGEST = 300
"""Characters of an error's own words."""
_PACKAGE = Path(__file__).resolve().parents[1]
_NETWORK = ("ccxt", "aiohttp", "asyncio")


def is_unforeseen(error: BaseException) -> bool:
    """Whether an error is a fault in a program: no verdict, nothing that a venue said, nothing of the network."""
    foreseen = isinstance(error, TradelibError | OSError) or venue_reply(error) is not None
    return not foreseen and type(error).__module__.partition(".")[0] not in _NETWORK


def explain(error: BaseException) -> str:
    """One line: as `describe_error`; of a fault also what it says and where, "TypeError: ... (live/trader.py:12)"."""
    if not is_unforeseen(error):
        return describe_error(error)
    said = " ".join(Redactor(secrets_of(os.environ))(str(error)).split())[:_LONGEST]
    told = f"{type(error).__name__}: {said}" if said else type(error).__name__
    place = _place(error)
    return f"{told} ({place})" if place else told


def _place(error: BaseException) -> str:
    """File and line: the innermost of this package, and where it happened if that is not in it."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if _PACKAGE in Path(frame.filename).parents]
    told = [f"{Path(frame.filename).relative_to(_PACKAGE)}:{frame.lineno}" for frame in own[-1:]]
    told += [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames[-1:] if frame not in own]
    return ", ".join(told)
