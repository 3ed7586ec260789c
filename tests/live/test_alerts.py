"""Alerts: few enough to be read, louder where nobody reacts, and never waited for."""

from __future__ import annotations

import json
import logging
import queue
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tradelib.errors import MissingExtraError, RunnerError
from tradelib.live.alerts import Alert, Alerter, AlertHandler, AlertRules, Message, alerter_from_environment
from tradelib.live.settings import AlertSettings

SETTINGS = AlertSettings(repeat_seconds=100.0, per_minute=3, escalate_seconds=30.0, escalations=2)
FIRE = Alert("critical", "halt:account", "account is halted", "drawdown of 21 %")
SMOKE = Alert("warning", "feed:BTC/USDT", "feed is silent")


def titles(messages: list[Message]) -> list[str]:
    return [message.title for message in messages]


# The rules, without clock or socket


def test_the_same_thing_is_said_once_and_then_with_what_was_held_back() -> None:
    rules = AlertRules(SETTINGS)

    said = [rules.offer(SMOKE, now) for now in (0.0, 10.0, 99.0, 100.0)]

    assert [len(messages) for messages in said] == [1, 0, 0, 1]
    assert "(2 more of these" in said[-1][0].text


def test_what_gets_worse_is_said_at_once() -> None:
    rules = AlertRules(SETTINGS)
    rules.offer(SMOKE, 0.0)

    assert rules.offer(Alert("critical", SMOKE.key, "feed is dead"), 1.0)


def test_a_flood_is_held_back_counted_and_does_not_hide_the_fire() -> None:
    rules = AlertRules(SETTINGS)

    said = [rules.offer(Alert("warning", f"small:{i}", "small"), 0.0) for i in range(50)]

    assert sum(map(len, said)) == 3
    assert titles(rules.offer(FIRE, 0.0)) == ["account is halted"]
    assert titles(rules.due(1.0)) == ["47 alerts were held back"]
    assert rules.due(2.0) == []


def test_a_critical_alert_goes_on_until_somebody_acknowledges() -> None:
    rules = AlertRules(SETTINGS)
    rules.offer(FIRE, 0.0)

    assert rules.due(29.9) == []
    (first,) = rules.due(30.0)
    (second,) = rules.due(60.0)
    assert rules.due(1_000.0) == []
    assert (first.escalated, first.title) == (True, "UNANSWERED: account is halted")
    assert "call 2" in second.text


def test_acknowledged_is_acknowledged() -> None:
    rules = AlertRules(SETTINGS)
    rules.offer(FIRE, 0.0)
    assert rules.open == ("halt:account",)

    assert rules.acknowledge(["something else"]) == ()
    assert rules.acknowledge(["halt:account"]) == ("halt:account",)

    assert rules.open == ()
    assert rules.due(1_000.0) == []


def test_a_repeated_fire_does_not_begin_its_escalation_anew() -> None:
    rules = AlertRules(SETTINGS.replace(repeat_seconds=0.0))
    for now in (0.0, 10.0, 20.0):
        rules.offer(FIRE, now)

    assert len(rules.due(30.0)) == 1


def test_a_critical_alert_that_a_flood_held_back_is_escalated() -> None:
    rules = AlertRules(SETTINGS)
    for i in range(5):
        rules.offer(Alert("critical", f"fire:{i}", f"fire {i}"), 0.0)

    assert "UNANSWERED: fire 4" in titles(rules.due(30.0))


def test_what_is_below_the_minimum_is_not_said() -> None:
    assert AlertRules(SETTINGS).offer(Alert("info", "start", "started"), 0.0) == []


def test_months_of_different_alerts_take_no_memory() -> None:
    rules = AlertRules(SETTINGS)
    for i in range(20_000):
        rules.offer(Alert("warning", f"key:{i}", "x"), float(i))
        rules.due(float(i))

    assert len(rules._subjects) <= 101


# The thread


def wait_until(true: Any) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_sending_never_waits_even_where_delivery_hangs() -> None:
    hung, release = threading.Event(), threading.Event()

    def stuck(_: Message) -> bool:
        hung.set()
        return release.wait(10)

    with Alerter(SETTINGS, [stuck]) as alerter:
        alerter.send(SMOKE)
        assert hung.wait(10)
        for i in range(2_000):
            alerter.send(Alert("critical", f"key:{i}", "x"))  # returns although nothing can be delivered
        assert alerter.counts["lost"] == 1_000
        assert not release.is_set()
        release.set()


def test_a_delivery_that_fails_is_tried_again_and_then_goes_to_those_behind() -> None:
    tried: list[str] = []
    behind: queue.Queue[Message] = queue.Queue()

    def failing(_: Message) -> bool:
        tried.append("x")
        raise OSError("no route")

    def escalation(message: Message) -> bool:
        behind.put(message)
        return True

    with Alerter(SETTINGS, [failing], [escalation], pause=0.001) as alerter:
        alerter.send(FIRE)
        assert behind.get(timeout=10).title == "account is halted"
        wait_until(lambda: alerter.counts["sent"])

    assert len(tried) == 3


def test_what_reaches_nobody_is_logged_and_counted(caplog) -> None:
    with Alerter(SETTINGS, [lambda _: False], pause=0.001) as alerter:
        alerter.send(SMOKE)
        wait_until(lambda: alerter.counts["failed"])

    assert "reached nobody: feed is silent" in caplog.text


def test_the_thread_escalates_by_itself() -> None:
    said: queue.Queue[Message] = queue.Queue()
    seconds = SETTINGS.replace(escalate_seconds=0.02, escalations=1)
    with Alerter(seconds, [lambda _: True], [lambda message: said.put(message) or True]) as alerter:
        alerter.send(FIRE)
        assert said.get(timeout=10).escalated


def test_log_records_become_alerts(caplog) -> None:
    said: queue.Queue[Message] = queue.Queue()
    logger = logging.getLogger("tradelib.tests.alerts")
    with Alerter(SETTINGS.replace(minimum="info"), [lambda message: said.put(message) or True]) as alerter:
        handler = AlertHandler(alerter)
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.info("nothing to see")
        logger.error("the venue %s: no answer", "is gone", extra={"alert": "venue"})
        logger.error("the venue %s", "is still gone", extra={"alert": "venue"})
        logger.info("started", extra={"alert": "start"})
        logger.removeHandler(handler)

    assert [(message.severity, message.title) for message in said.queue] == [
        ("critical", "the venue is gone"), ("info", "started"),
    ]  # fmt: skip


# Apprise, for real


class _Inbox(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.inbox.put((self.path, json.loads(body)))
        self.send_response(self.server.answer)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def inbox() -> Iterator[ThreadingHTTPServer]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), _Inbox)
    server.inbox, server.answer = queue.Queue(), 200
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_alert_arrives_at_a_webhook(inbox: Any) -> None:
    pytest.importorskip("apprise")
    host = f"127.0.0.1:{inbox.server_port}"
    urls = {"TRADELIB_ALERT_URLS": f"json://{host}/desk", "TRADELIB_ESCALATION_URLS": f"json://{host}/boss"}
    alerter = alerter_from_environment(SETTINGS.replace(escalate_seconds=0.05, escalations=1, name="desk 1"), urls)
    assert alerter is not None
    with alerter:
        alerter.send(FIRE)
        path, message = inbox.inbox.get(timeout=20)
        assert (path, message["title"], message["type"]) == ("/desk", "[desk 1] account is halted", "failure")
        assert message["message"] == "drawdown of 21 %"
        path, message = inbox.inbox.get(timeout=20)
        assert (path, message["title"]) == ("/boss", "[desk 1] UNANSWERED: account is halted")


def test_a_webhook_that_refuses_is_a_failure(inbox: Any) -> None:
    pytest.importorskip("apprise")
    inbox.answer = 500
    urls = {"TRADELIB_ALERT_URLS": f"json://127.0.0.1:{inbox.server_port}/"}
    alerter = alerter_from_environment(SETTINGS, urls)
    assert alerter is not None
    alerter._pause = 0.001
    with alerter:
        alerter.send(SMOKE)
        wait_until(lambda: alerter.counts["failed"])

    assert inbox.inbox.qsize() == 3


def test_addresses_are_secret_even_where_they_are_wrong() -> None:
    pytest.importorskip("apprise")
    with pytest.raises(RunnerError, match="address 2 of TRADELIB_ALERT_URLS") as refused:
        alerter_from_environment(SETTINGS, {"TRADELIB_ALERT_URLS": "json://localhost nothing://hunter2"})
    assert "hunter2" not in str(refused.value)
    with pytest.raises(RunnerError, match="TRADELIB_ALERT_URLS is not"):
        alerter_from_environment(SETTINGS, {"TRADELIB_ESCALATION_URLS": "json://localhost"})
    assert alerter_from_environment(SETTINGS, {}) is None


def test_without_apprise_the_extra_is_named(monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "apprise", None)
    with pytest.raises(MissingExtraError, match=r"tradelib\[alerts\]"):
        alerter_from_environment(SETTINGS, {"TRADELIB_ALERT_URLS": "json://localhost"})
