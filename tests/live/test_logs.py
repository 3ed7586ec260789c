"""Logs: one JSON object a line, no secret in it, and a writer that hangs makes nobody wait."""

from __future__ import annotations

import io
import json
import logging
import threading
from typing import Any

import pytest

from tradelib.live.logs import Redactor, configure_logging, lines_lost, secrets_of

ENVIRONMENT = {
    "TRADELIB_API_KEY": "vmPUZE6mv9SD5VNHk4",
    "TRADELIB_API_SECRET": "NhqPtmdSJYdKjVHjA7PZj4Mge3R5",
    "TRADELIB_API_PASSPHRASE": "correct-horse-7",
    "TRADELIB_CONTROL_TOKEN": "b64tokenb64token_-",
    "TRADELIB_ALERT_URLS": "tgram://12345:bottoken99/chat mailto://me:pa55word@example.org",
    "TRADELIB_JOURNAL_URL": "postgresql://runner:s3cretpw@db/journal",
    "TRADELIB_CONTROL_URL": "http://127.0.0.1:8790",
    "PATH": "/usr/bin:/bin",
}
logger = logging.getLogger("tradelib.tests.logs")


def logged(*calls: Any, **options: Any) -> list[str]:
    stream = io.StringIO()
    pipe = configure_logging("DEBUG", stream=stream, environment=ENVIRONMENT, **options)
    try:
        for call in calls:
            call()
    finally:
        pipe.close()
    return stream.getvalue().splitlines()


def test_a_line_is_json_with_what_was_given() -> None:
    (line,) = logged(
        lambda: logger.warning("bar of %s is late", "BTC/USDT", extra={"symbol": "BTC/USDT", "seconds": 3})
    )

    row = json.loads(line)
    assert {name: row[name] for name in ("level", "logger", "message", "symbol", "seconds")} == {
        "level": "warning", "logger": "tradelib.tests.logs", "message": "bar of BTC/USDT is late",
        "symbol": "BTC/USDT", "seconds": 3,
    }  # fmt: skip
    assert row["time"].endswith("+00:00")


def test_an_exception_stays_in_its_line() -> None:
    def fails() -> None:
        try:
            raise ValueError(f"signed with {ENVIRONMENT['TRADELIB_API_SECRET']}")
        except ValueError:
            logger.exception("broke")

    (line,) = logged(fails)

    assert "ValueError: signed with ***" in json.loads(line)["error"]


SECRETS = [
    ENVIRONMENT["TRADELIB_API_KEY"],
    ENVIRONMENT["TRADELIB_API_SECRET"],
    "correct-horse-7",
    "b64tokenb64token_-",
    "tgram://12345:bottoken99/chat",
    "bottoken99",
    "pa55word",
    "s3cretpw",
]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("as_json", [True, False])
def test_no_secret_of_the_environment_gets_out(secret: str, as_json: bool) -> None:
    lines = logged(
        lambda: logger.info("asked with %s", secret),
        lambda: logger.info(f"https://api.binance.com/api?x={secret}&y=1"),
        lambda: logger.info("extra", extra={"headers": {"X-MBX-APIKEY": secret}}),
        as_json=as_json,
    )

    assert len(lines) == 3
    assert secret not in "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("order?symbol=BTCUSDT&signature=c8db56825ae71d6d79&x=1", "order?symbol=BTCUSDT&signature=***&x=1"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ('{"listenKey": "pqia91ma19a5s61cv6a81", "x": 1}', '{"listenKey": "***", "x": 1}'),
        ("postgresql://user:hunter2@host/db", "postgresql://user:***@host/db"),
        ("2018-01-02T00:00:00+00:00 BTC/USDT +1.5 at 101.25", "2018-01-02T00:00:00+00:00 BTC/USDT +1.5 at 101.25"),
    ],
)
def test_what_looks_like_a_secret_is_blanked_and_nothing_else(text: str, shown: str) -> None:
    assert Redactor()(text) == shown


def test_ordinary_words_and_addresses_are_no_secrets() -> None:
    found = secrets_of(
        {"TRADELIB_API_KEY": "k", "TRADELIB_CONTROL_URL": "http://127.0.0.1:8790", "HOME": "/srv/me1234"}
    )

    assert found == frozenset()


def test_a_writer_that_hangs_costs_lines_and_nobody_waits() -> None:
    release, begun = threading.Event(), threading.Event()

    class Stuck(io.StringIO):
        def write(self, text: str) -> int:
            begun.set()
            release.wait(10)
            return super().write(text)

    pipe = configure_logging(stream=Stuck(), environment={})
    logger.warning("first")
    assert begun.wait(10)
    for _ in range(10_050):
        logger.warning("line")

    assert lines_lost() == pipe.dropped == 50
    release.set()
    pipe.close()


def test_other_packages_are_heard_from_warnings_on_and_logging_is_put_back() -> None:
    before = logging.getLogger().handlers[:], logging.getLogger("tradelib").level
    lines = logged(
        lambda: logging.getLogger("ccxt").debug("signed request"),
        lambda: logging.getLogger("ccxt").warning("slow"),
        lambda: logger.debug("ours"),
    )

    assert [json.loads(line)["message"] for line in lines] == ["slow", "ours"]
    assert (logging.getLogger().handlers, logging.getLogger("tradelib").level) == before
