"""Figures for Prometheus. Whatever is counted is counted in the journals themselves, so the two cannot disagree.

Counters are read from the journals when somebody scrapes, in a thread of their own and from where the last scrape
ended; nothing that trades has to remember to count. Gauges come from the runner's status, which is memory. Only what no
journal holds is measured on the way: how long decisions and requests take.

`NAMES` is all there is: dashboards and alert rules are checked against it.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector, disable_created_metrics, generate_latest
from prometheus_client import Counter as PrometheusCounter
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tradelib.data.timeframes import parse_timeframe
from tradelib.ledger import Entry, Ledger, journal, open_journal
from tradelib.live.control import RunnerStatus, TraderStatus

__all__ = ["CONTENT_TYPE", "COUNTERS", "GAUGES", "HISTOGRAMS", "NAMES", "JournalCounts", "Metrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_TRADER = ("bundle", "symbol")

COUNTERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "tradelib_bars": ("Closed bars taken", _TRADER),
    "tradelib_decisions": ("Decisions made", _TRADER),
    "tradelib_intents": ("Orders that were made durable before they were sent", _TRADER),
    "tradelib_orders": ("Orders by their final status", (*_TRADER, "status")),
    "tradelib_fills": ("Trades of the venue", _TRADER),
    "tradelib_traded_quote": ("Value traded, quote currency", _TRADER),
    "tradelib_fees_quote": ("Fees paid, quote currency", _TRADER),
    "tradelib_refusals": ("Orders that the gate or a limit refused", (*_TRADER, "rule")),
    "tradelib_incidents": ("What went wrong around trading", (*_TRADER, "what")),
    "tradelib_foreign_trades": ("Trades on the account that the runner did not make", _TRADER),
    "tradelib_reconciliations": ("Comparisons with the venue that found something, or nothing", (*_TRADER, "outcome")),
    "tradelib_journal_entries": ("Entries of the journal", _TRADER),
    "tradelib_starts": ("Starts of a run", _TRADER),
    "tradelib_halts": ("Halts by scope, since ever", ("scope",)),
    "tradelib_operator_acts": ("What operators asked for", ("act",)),
    "tradelib_alerts": ("What became of alerts", ("outcome",)),
}
"""Counted in the journals (alerts: where they are sent); each carries `_total` behind its name."""

GAUGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "tradelib_up": ("1 while the runner trades or would, 0 while it starts, stops or is read-only", ()),
    "tradelib_info": ("1; what runs here", ("mode", "exchange")),
    "tradelib_heartbeat_seconds": ("Since the slowest task last showed life", ()),
    "tradelib_account_equity_quote": ("Equity of the account, quote currency", ()),
    "tradelib_equity_quote": ("Equity of the purse, quote currency", _TRADER),
    "tradelib_cash_quote": ("Cash of the purse, quote currency", _TRADER),
    "tradelib_position_base": ("Position, base units", _TRADER),
    "tradelib_open_orders": ("Orders that rest at the venue", _TRADER),
    "tradelib_held_orders": ("Orders that the runner holds itself, because the venue cannot", _TRADER),
    "tradelib_unknown_orders": ("Orders whose outcome nobody knows yet", _TRADER),
    "tradelib_feed_age_seconds": ("Since the feed last said anything", _TRADER),
    "tradelib_last_bar_timestamp_seconds": ("Open time of the newest closed bar", _TRADER),
    "tradelib_bar_seconds": ("Length of a bar", _TRADER),
    "tradelib_trader_problem": ("1 where a trader does not trade", _TRADER),
    "tradelib_halted": ("1 for every halt that holds", ("scope", "level")),
    "tradelib_open_alerts": ("Critical alerts that nobody acknowledged", ()),
    "tradelib_log_lines_lost": ("Log lines that could not be written", ()),
}

HISTOGRAMS: dict[str, tuple[str, tuple[str, ...], tuple[float, ...]]] = {
    "tradelib_decision_seconds": (
        "Time of one decision",
        (),
        (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0),
    ),
    "tradelib_request_seconds": (
        "Time of one request to the venue",
        ("endpoint",),
        (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
    ),
}

_OWN = {
    "tradelib_request_failures": ("Requests to the venue that failed", ("endpoint", "error")),
    "tradelib_control_requests": ("Requests to the control server", ("endpoint", "status")),
}
"""Counters of things that no journal holds."""

_PROCESS = (
    "process_cpu_seconds_total", "process_max_fds", "process_open_fds", "process_resident_memory_bytes",
    "process_start_time_seconds", "process_virtual_memory_bytes",
)  # fmt: skip

NAMES = frozenset(
    [f"{name}_total" for name in (*COUNTERS, *_OWN)]
    + list(GAUGES)
    + [f"{name}_{end}" for name in HISTOGRAMS for end in ("bucket", "sum", "count")]
    + list(_PROCESS)
)
"""Every name that a scrape can show."""

_PLAIN = {journal.BAR: "tradelib_bars", journal.DECISION: "tradelib_decisions", journal.INTENT: "tradelib_intents"}
"""Kinds of which only the number matters: their bodies are not read."""


_REMEMBERED = 10_000
"""Final orders whose second final entry is known to be one; to remember all would take memory for ever."""

Values = dict[str, dict[tuple[str, ...], float]]
"""Name of a metric -> its label values -> figure."""


Extra = Mapping[str, Mapping[tuple[str, ...], float]]


@dataclass
class JournalCounts:
    """The counters of one journal; `read` goes on where it ended before."""

    path: Path
    labels: tuple[str, str]
    values: Values = field(default_factory=lambda: defaultdict(lambda: defaultdict(float)))
    _seen: int = 0
    _final: dict[str, None] = field(default_factory=dict)
    _log: Ledger | None = None

    def read(self) -> None:
        """Count what was appended since. A journal that does not exist yet is empty."""
        if not self.path.exists():
            return
        self._log = self._log or open_journal(self.path, read_only=True)
        newest = self._log.head()[0]
        if self._seen == 0:
            self._read_all(self._log, newest)
        elif newest > self._seen:
            self._count(self._log.entries(after=self._seen), newest)
        self._seen = newest
        self.values["tradelib_journal_entries"][self.labels] = newest

    def close(self) -> None:
        """Close the file; the next `read` opens it again."""
        if self._log is not None:
            self._log.close()
            self._log = None

    def add(self, name: str, amount: float = 1, *labels: str) -> None:
        """Count `amount` under this journal's own labels and `labels`."""
        self.values[name][(*self.labels, *labels)] += amount

    def _read_all(self, log: Ledger, newest: int) -> None:
        """The first look at a journal that may be long: entries that are only counted are not read."""
        for kind, name in _PLAIN.items():
            count = log.count(kind) - sum(1 for _ in log.entries(kind, after=newest))
            if count:
                self.add(name, count)
        for kind in _READERS:
            self._count(log.entries(kind), newest)

    def _count(self, entries: Iterable[Entry], newest: int) -> None:
        for entry in entries:
            if entry.sequence > newest:
                return
            if entry.kind in _PLAIN:
                self.add(_PLAIN[entry.kind])
            elif entry.kind in _READERS:
                _READERS[entry.kind](self, entry)

    def _order(self, entry: Entry) -> None:
        """An order counts once, when it is final, whatever is written about it afterwards."""
        name, status = entry.body["client_order_id"], entry.body["status"]
        if status in journal.FINAL_STATUSES and name not in self._final:
            self._final[name] = None
            if len(self._final) > _REMEMBERED:
                del self._final[next(iter(self._final))]
            self.add("tradelib_orders", 1, status)

    def _fill(self, entry: Entry) -> None:
        body = entry.body
        self.add("tradelib_fills")
        self.add("tradelib_traded_quote", abs(body["quantity"]) * body["price"])
        self.add("tradelib_fees_quote", body["fee"] or 0.0)

    def _latch(self, entry: Entry) -> None:
        if entry.body["engaged"]:
            self.values["tradelib_halts"][(entry.body["scope"],)] += 1

    def _act(self, entry: Entry) -> None:
        """An act is written when it is asked for and again when it is done: it counts once."""
        if entry.body.get("outcome", "asked") == "asked":
            self.values["tradelib_operator_acts"][(entry.body["act"],)] += 1

    def _reconciled(self, entry: Entry) -> None:
        body = entry.body
        outcome = "halted" if body["halted"] else "healed" if body["healed"] else "equal"
        self.add("tradelib_reconciliations", 1, outcome)


_READERS: dict[str, Callable[[JournalCounts, Entry], None]] = {
    journal.ORDER: JournalCounts._order,
    journal.FILL: JournalCounts._fill,
    journal.LATCH: JournalCounts._latch,
    journal.RECONCILED: JournalCounts._reconciled,
    journal.START: lambda counts, _: counts.add("tradelib_starts"),
    journal.FOREIGN: lambda counts, _: counts.add("tradelib_foreign_trades"),
    journal.REFUSAL: lambda counts, entry: counts.add("tradelib_refusals", 1, entry.body["rule"]),
    journal.INCIDENT: lambda counts, entry: counts.add("tradelib_incidents", 1, entry.body["what"]),
    journal.OPERATOR: JournalCounts._act,
}


class Metrics:
    """The runner's figures: `follow` each journal, `await render(status)` per scrape, `close` at the end.

    `decision_seconds.observe(0.002)` costs a microsecond, and so does what `watch` puts around a client.
    """

    def __init__(self) -> None:
        disable_created_metrics()  # a second series per counter, which nobody looks at
        self.registry = CollectorRegistry()
        self.decision_seconds = self._histogram("tradelib_decision_seconds")
        self.request_seconds = self._histogram("tradelib_request_seconds")
        made = {name: PrometheusCounter(name, *told, registry=self.registry) for name, told in _OWN.items()}
        self.request_failures, self.control_requests = made.values()
        ProcessCollector(registry=self.registry)
        self._snapshot = _Snapshot()
        self.registry.register(self._snapshot)
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="metrics")

    def follow(self, path: Path, bundle: str = "", symbol: str = "") -> None:
        """Count the journal at `path`, which may not exist yet, under these labels."""
        self._snapshot.journals.append(JournalCounts(path, (bundle, symbol)))

    def watch(self, client: Any) -> None:
        """Time every request of a ccxt client, and count those that fail; to be called before breakers guard it."""
        fetch = client.fetch

        async def timed(url: str, method: str = "GET", headers: Any = None, body: Any = None) -> Any:
            endpoint, begun = f"{method} {urlsplit(url).path}", time.perf_counter()
            try:
                return await fetch(url, method, headers, body)
            except Exception as error:
                self.request_failures.labels(endpoint, type(error).__name__).inc()
                raise
            finally:
                self.request_seconds.labels(endpoint).observe(time.perf_counter() - begun)

        client.fetch = timed

    async def render(self, status: RunnerStatus, extra: Extra | None = None) -> bytes:
        """The exposition as it stands, read in the metrics' own thread; `extra` adds figures that neither tells."""
        return await asyncio.get_running_loop().run_in_executor(self._reader, self._rendered, status, extra or {})

    def text(self, status: RunnerStatus, extra: Extra | None = None) -> str:
        """`render`, for whoever has no event loop."""
        return self._reader.submit(self._rendered, status, extra or {}).result().decode()

    def close(self) -> None:
        """Close the journals."""
        self._reader.submit(self._snapshot.close).result()
        self._reader.shutdown()

    def _rendered(self, status: RunnerStatus, extra: Extra) -> bytes:
        self._snapshot.status, self._snapshot.extra = status, extra
        return generate_latest(self.registry)

    def _histogram(self, name: str) -> Histogram:
        told, labels, buckets = HISTOGRAMS[name]
        return Histogram(name, told, labels, buckets=buckets, registry=self.registry)


class _Snapshot(Collector):
    """Journals and status, turned into what prometheus_client collects. Lives in the thread that renders."""

    def __init__(self) -> None:
        self.journals: list[JournalCounts] = []
        self.status: RunnerStatus | None = None
        self.extra: Extra = {}

    def describe(self) -> Iterable[Metric]:
        """Nothing: names are checked by a test, and reading journals in order to register would be slow."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Counters of all journals, then the gauges of the status."""
        totals: Values = defaultdict(lambda: defaultdict(float))
        for counts in self.journals:
            counts.read()
        for values in (self.extra, *(counts.values for counts in self.journals)):
            for name, labels, value in _flat(values):
                totals[name][labels] += value
        for name, (told, names) in COUNTERS.items():
            family = CounterMetricFamily(name, told, labels=names)
            for given, value in sorted(totals[name].items()):
                family.add_metric(given, value)
            yield family
        if self.status is not None:
            yield from _gauges(self.status, self.extra)

    def close(self) -> None:
        for counts in self.journals:
            counts.close()


def _flat(values: Extra) -> Iterator[tuple[str, tuple[str, ...], float]]:
    for name, figures in values.items():
        for labels, value in figures.items():
            yield name, labels, value


def _gauges(status: RunnerStatus, extra: Extra) -> Iterator[Metric]:
    values = _account_values(status, extra)
    for trader in status.traders:
        for name, value in _trader_values(trader).items():
            values[name][(trader.bundle, trader.symbol)] = value
    for name, (told, labels) in GAUGES.items():
        family = GaugeMetricFamily(name, told, labels=labels)
        for given, value in values[name].items():
            if value is not None:
                family.add_metric(given, value)
        yield family


def _account_values(status: RunnerStatus, extra: Extra) -> dict[str, dict[tuple[str, ...], float | None]]:
    values: dict[str, dict[tuple[str, ...], float | None]] = defaultdict(dict)
    values["tradelib_up"][()] = float(status.phase == "running")
    values["tradelib_info"][(status.mode, status.exchange)] = 1.0
    values["tradelib_heartbeat_seconds"][()] = status.heartbeat
    values["tradelib_account_equity_quote"][()] = status.equity
    for halt in status.halts:
        values["tradelib_halted"][(str(halt.scope), halt.level.value)] = 1.0
    for name, figures in extra.items():
        values[name].update(figures)
    return values


def _trader_values(trader: TraderStatus) -> dict[str, float | None]:
    return {
        "tradelib_equity_quote": trader.equity,
        "tradelib_cash_quote": trader.cash,
        "tradelib_position_base": trader.position,
        "tradelib_open_orders": trader.open_orders,
        "tradelib_held_orders": float(len(trader.held)),
        "tradelib_unknown_orders": trader.unknown_orders,
        "tradelib_feed_age_seconds": trader.age,
        "tradelib_last_bar_timestamp_seconds": _epoch(trader.last_bar),
        "tradelib_bar_seconds": parse_timeframe(trader.timeframe).milliseconds / 1e3,
        "tradelib_trader_problem": float(bool(trader.problem)),
    }


def _epoch(time: str | None) -> float | None:
    return None if time is None else datetime.fromisoformat(time).timestamp()
