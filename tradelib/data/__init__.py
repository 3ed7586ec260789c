"""Market data: bars and their contract, calendars, files, sources, quality and repairs."""

from tradelib.data.bars import (
    COLUMNS,
    check_bars,
    close_times,
    content_digest,
    join_closed,
    make_bars,
    resample,
    window,
)
from tradelib.data.files import import_csv, read_bars, write_bars
from tradelib.data.sources import embedded, list_embedded
from tradelib.data.timeframes import Timeframe, expected_times, parse_timeframe, periods_per_year, utc_timestamp

__all__ = [
    "COLUMNS",
    "Timeframe",
    "check_bars",
    "close_times",
    "content_digest",
    "embedded",
    "expected_times",
    "import_csv",
    "join_closed",
    "list_embedded",
    "make_bars",
    "parse_timeframe",
    "periods_per_year",
    "read_bars",
    "resample",
    "utc_timestamp",
    "window",
    "write_bars",
]
