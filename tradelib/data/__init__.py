"""Market data: bars and their contract, calendars, files, sources, exchange history, quality and repairs."""

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
from tradelib.data.exchange import GapReport, download_history, report_gaps
from tradelib.data.files import import_csv, read_bars, write_bars
from tradelib.data.panel import Panel, as_panel
from tradelib.data.quality import QualityReport, QualityRules, check_quality
from tradelib.data.repair import RepairReport, repair
from tradelib.data.sources import embedded, list_embedded
from tradelib.data.timeframes import Timeframe, expected_times, parse_timeframe, periods_per_year, utc_timestamp

__all__ = [
    "COLUMNS",
    "GapReport",
    "Panel",
    "QualityReport",
    "QualityRules",
    "RepairReport",
    "Timeframe",
    "as_panel",
    "check_bars",
    "check_quality",
    "close_times",
    "content_digest",
    "download_history",
    "embedded",
    "expected_times",
    "import_csv",
    "join_closed",
    "list_embedded",
    "make_bars",
    "parse_timeframe",
    "periods_per_year",
    "read_bars",
    "repair",
    "report_gaps",
    "resample",
    "utc_timestamp",
    "window",
    "write_bars",
]
