"""Bars as a faulty venue tells them: pure functions on a list of klines."""

from __future__ import annotations

from collections.abc import Sequence

from tradelib.venue.faults import Fault
from tradelib.venue.orders import Kline

__all__ = ["tampered"]


def tampered(rows: list[Kline], faults: Sequence[Fault]) -> list[Kline]:
    """`rows` (the last one forms) as `faults` change them, one after the other; too few rows for a fault stay."""
    for fault in faults:
        rows = _ONE[fault.kind](list(rows), fault)
    return rows


def _stale(rows: list[Kline], fault: Fault) -> list[Kline]:
    return rows[: -fault.bars] if len(rows) > fault.bars else rows


def _revised(rows: list[Kline], fault: Fault) -> list[Kline]:
    if len(rows) < 2:
        return rows
    row = rows[-2].row
    close = row.close * (1.0 + fault.share)
    rows[-2] = rows[-2]._replace(row=row._replace(close=close, high=max(row.high, close), low=min(row.low, close)))
    return rows


def _missing(rows: list[Kline], _: Fault) -> list[Kline]:
    return rows[:-2] + rows[-1:] if len(rows) > 2 else rows


def _duplicate(rows: list[Kline], _: Fault) -> list[Kline]:
    return rows[:-1] + rows[-2:] if len(rows) > 1 else rows


def _unordered(rows: list[Kline], _: Fault) -> list[Kline]:
    if len(rows) > 2:
        rows[-3], rows[-2] = rows[-2], rows[-3]
    return rows


_ONE = {
    "stale_bars": _stale,
    "revised_bar": _revised,
    "missing_bar": _missing,
    "duplicate_bar": _duplicate,
    "unordered_bars": _unordered,
}
