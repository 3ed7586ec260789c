"""One append-only, hash-chained log: trials, promotions and the runner's journal are its vocabularies."""

from __future__ import annotations

from tradelib.ledger.anchor import Anchor
from tradelib.ledger.chain import GENESIS, Entry, Ledger, Verification, canonical, digest
from tradelib.ledger.journal import open_journal
from tradelib.ledger.segments import Backup, SegmentedLedger, backup_journal, restore_journal

__all__ = [
    "GENESIS",
    "Anchor",
    "Backup",
    "Entry",
    "Ledger",
    "SegmentedLedger",
    "Verification",
    "backup_journal",
    "canonical",
    "digest",
    "open_journal",
    "restore_journal",
]
