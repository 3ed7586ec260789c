"""Metrics: every figure is the journal's own, every name is known, and nothing is read in the thread that trades."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.live.operable import TRADER
from tradelib.ledger import Ledger, journal, open_journal
from tradelib.live.control import RunnerStatus
from tradelib.live.latch import Latch, Scope
from tradelib.live.metrics import NAMES, Metrics

STATUS = RunnerStatus("running", "paper", "binance", "2026-01-01T00:00:00+00:00", 0.1, 1_100.0, (TRADER,))


def bar(i: int) -> dict[str, Any]:
    return {
        "time": f"2020-01-01T{i:02d}:00:00+00:00",
        "open": 1.0,
        "high": 1.0,
        "low": 1.0,
        "close": 1.0,
        "volume": 1.0,
    }


def write(log: Ledger, random: np.random.Generator, first: int, count: int) -> None:
    """Some bars of a runner's life: decisions, orders that fill in parts or are refused, incidents."""
    for i in range(first, first + count):
        time, name = bar(i)["time"], f"order-{i}"
        journal.record(log, journal.BAR, **bar(i))
        told = dict.fromkeys(("signal", "target_weight", "position", "equity", "quantity"), 0.0)
        journal.record(log, journal.DECISION, time=time, **told)
        journal.record(log, journal.INTENT, time=time, client_order_id=name, symbol="B", side="buy", quantity="1")
        order = {
            "client_order_id": name,
            "quantity": 1.0,
            "price": 2.0,
            "fee": 0.1,
            "reason": "",
            "venue_order_id": "1",
        }
        for status in random.choice(
            ["open filled", "unknown filled", "rejected", "unknown", "open canceled", "expired filled"]
        ).split():
            journal.record(log, journal.ORDER, status=status, **order)
        for part in range(random.integers(0, 3)):
            journal.record(log, journal.FILL, client_order_id=name, trade_id=str(part), venue_order_id="1", symbol="B",
                           quantity=float(random.choice([-0.5, 0.5])), price=2.0, fee=0.1, fee_paid={}, filled_at=time,
                           maker=False)  # fmt: skip
        journal.record(log, journal.REFUSAL, time=time, symbol="B", leg="x", rule=random.choice(["stale", "collar"]),
                       reason="")  # fmt: skip


def figures(text: str, **labels: str) -> dict[str, float]:
    """name{other labels} -> value, of the samples that carry `labels`."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if labels.items() <= sample.labels.items():
                rest = sorted(f"{k}={v}" for k, v in sample.labels.items() if k not in labels)
                found[",".join([sample.name, *rest])] = sample.value
    return found


@pytest.fixture
def metrics():
    made = Metrics()
    yield made
    made.close()


@pytest.mark.parametrize("scrapes", [1, 3, 12])
def test_counters_are_what_the_journal_says_however_often_one_looks(tmp_path: Path, metrics: Metrics, scrapes) -> None:
    random, path = np.random.default_rng(5), tmp_path / "trend.sqlite"
    metrics.follow(path, "trend", "BTC/USDT")
    metrics.text(STATUS)  # before there is a journal
    with open_journal(path) as log:
        for scrape in range(scrapes):
            write(log, random, scrape * (12 // scrapes), 12 // scrapes)
            seen = figures(metrics.text(STATUS), bundle="trend", symbol="BTC/USDT")

        final = Counter(order["status"] for order in journal.standing(log).values())
        fills = journal.fills(log)
        expected = {
            "tradelib_bars_total": 12,
            "tradelib_decisions_total": 12,
            "tradelib_intents_total": 12,
            "tradelib_fills_total": len(fills),
            "tradelib_traded_quote_total": sum(abs(fill["quantity"]) * fill["price"] for fill in fills),
            "tradelib_fees_quote_total": sum(fill["fee"] for fill in fills),
            "tradelib_journal_entries_total": log.count(),
        }
        expected |= {f"tradelib_orders_total,status={s}": n for s, n in final.items() if s in journal.FINAL_STATUSES}
        rules = Counter(refusal["rule"] for refusal in journal.bodies(log, journal.REFUSAL))
        expected |= {f"tradelib_refusals_total,rule={rule}": count for rule, count in rules.items()}

    counted = {name: value for name, value in seen.items() if name.split(",")[0].endswith("_total")}
    assert counted == pytest.approx(expected)


def test_a_runner_that_starts_again_counts_on(tmp_path: Path, metrics: Metrics) -> None:
    path = tmp_path / "trend.sqlite"
    with open_journal(path) as log:
        write(log, np.random.default_rng(1), 0, 6)
    metrics.follow(path, "trend", "BTC/USDT")
    before = figures(metrics.text(STATUS))
    again = Metrics()
    again.follow(path, "trend", "BTC/USDT")

    after = figures(again.text(STATUS))

    again.close()
    assert after["tradelib_bars_total,bundle=trend,symbol=BTC/USDT"] == 6
    same = {name for name in before if "tradelib" in name}
    assert {name: after[name] for name in same} == {name: before[name] for name in same}


def test_halts_and_acts_are_counted_once(tmp_path: Path, metrics: Metrics) -> None:
    path = tmp_path / "operations.sqlite"
    metrics.follow(path)
    act = {"act": "halt", "subject": "account", "reason": "x", "by": "olga", "role": "operate"}
    with open_journal(path) as log:
        latch = Latch(log)
        halt = latch.halt(Scope("account"), "olga", "x")
        latch.arm(Scope("account"), "anna", "approve", "y", numbers=[halt.number])
        for outcome in ("asked", "done"):
            journal.record(log, journal.OPERATOR, **act, outcome=outcome)

        seen = figures(metrics.text(STATUS))

    assert seen["tradelib_halts_total,scope=account"] == 1
    assert seen["tradelib_operator_acts_total,act=halt"] == 1


def test_gauges_are_the_status(metrics: Metrics) -> None:
    seen = figures(metrics.text(STATUS, {"tradelib_open_alerts": {(): 2.0}}), bundle="trend", symbol="BTC/USDT")

    assert seen["tradelib_equity_quote"] == 1_100.0
    assert seen["tradelib_position_base"] == 2.0
    assert seen["tradelib_last_bar_timestamp_seconds"] == 1_588_291_200.0  # 2020-05-01 00:00 UTC
    assert figures(metrics.text(STATUS, {"tradelib_open_alerts": {(): 2.0}}))["tradelib_open_alerts"] == 2.0


def test_every_name_is_known_and_every_known_name_can_be_seen(tmp_path: Path, metrics: Metrics) -> None:
    path = tmp_path / "a.sqlite"
    with open_journal(path) as log:
        write(log, np.random.default_rng(1), 0, 6)
        journal.record(log, journal.INCIDENT, what="silent_stream", detail="")
        journal.record(log, journal.RECONCILED, cycles=1, differences=[], healed=[], halted=[])
        journal.record(log, journal.FOREIGN, symbol="B", trade_id="1", venue_order_id="1", quantity=1.0, price=1.0,
                       fee_paid={}, filled_at="")  # fmt: skip
        journal.record(log, journal.START, **dict.fromkeys(journal.VOCABULARY[journal.START], ""))
        latch = Latch(log)
        latch.halt(Scope("account"), "olga", "x")
        journal.record(log, journal.OPERATOR, act="halt", subject="account", reason="x", by="olga", role="operate")
        metrics.follow(path, "trend", "BTC/USDT")
        metrics.request_seconds.labels("create_order").observe(0.1)
        metrics.request_failures.labels("create_order", "RequestTimeout").inc()
        metrics.control_requests.labels("/metrics", "200").inc()
        told = {name: {(): 0.0} for name in ("tradelib_open_alerts", "tradelib_log_lines_lost")}
        told["tradelib_alerts"] = {("sent",): 1.0}
        status = RunnerStatus("running", "paper", "binance", "", 0.1, 1.0, (TRADER,), latch.halts)
        text = metrics.text(status, told)

    assert {name.partition(",")[0] for name in figures(text)} == NAMES


def test_journals_are_read_in_a_thread_of_their_own(tmp_path: Path, metrics: Metrics, monkeypatch) -> None:
    path, threads = tmp_path / "a.sqlite", set()
    with open_journal(path) as log:
        write(log, np.random.default_rng(1), 0, 2)
    metrics.follow(path, "trend", "BTC/USDT")
    entries = Ledger.entries

    def watched(self: Ledger, *arguments: Any, **named: Any) -> Any:
        threads.add(threading.get_ident())
        return entries(self, *arguments, **named)

    monkeypatch.setattr(Ledger, "entries", watched)
    asyncio.run(metrics.render(STATUS))

    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_requests_of_a_client_are_timed_and_their_failures_counted(metrics: Metrics) -> None:
    class Client:
        async def fetch(self, url: str, method: str, headers: Any, body: Any) -> str:
            if method == "DELETE":
                raise TimeoutError("no answer")
            return f"{method} {url}"

    client: Any = Client()
    metrics.watch(client)

    assert asyncio.run(client.fetch("https://host/api/v3/order?signature=abc", "POST")) == (
        "POST https://host/api/v3/order?signature=abc"
    )
    with pytest.raises(TimeoutError):
        asyncio.run(client.fetch("https://host/api/v3/order?x=1", "DELETE"))

    seen = figures(metrics.text(STATUS))
    assert seen["tradelib_request_seconds_count,endpoint=POST /api/v3/order"] == 1
    assert seen["tradelib_request_seconds_count,endpoint=DELETE /api/v3/order"] == 1
    failed = {name: value for name, value in seen.items() if "failures" in name}
    assert failed == {"tradelib_request_failures_total,endpoint=DELETE /api/v3/order,error=TimeoutError": 1.0}
