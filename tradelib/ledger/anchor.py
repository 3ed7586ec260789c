"""The head of a ledger, kept somewhere else: what proves later that nothing was taken away.

A hash chain protects what stands before its end. Whoever deletes the file, cuts off its tail or starts a new one in
its place leaves a chain that is sound, and shorter. An anchor is one line of text, written where the ledger is not: in
the tags of an MLflow run, in a sealed bundle, in a mail. A ledger that does not pass through it is not that ledger.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from tradelib.errors import LedgerError

__all__ = ["Anchor"]

_TEXT = re.compile(r"([0-9]+):([0-9a-f]{64}):([0-9]+)")


@dataclass(frozen=True)
class Anchor:
    """Number and hash of the newest entry at some time, and how many `trials` the ledger counted then."""

    sequence: int
    hash: str
    trials: int

    def __str__(self) -> str:
        return f"{self.sequence}:{self.hash}:{self.trials}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """What `str` wrote; `LedgerError` for anything else."""
        found = _TEXT.fullmatch(text)
        if found is None:
            raise LedgerError(f"{text!r} is no anchor of a ledger: it reads '<entry>:<hash>:<trials>'")
        return cls(int(found[1]), found[2], int(found[3]))

    @property
    def head(self) -> tuple[int, str]:
        """`(sequence, hash)`, as `Ledger.head` gives it."""
        return self.sequence, self.hash
