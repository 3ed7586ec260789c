"""Logs for machines: one JSON object per line, no secret in it, and nobody ever waits for the disk.

A log call puts its line on a queue; a thread writes it. Where the writer cannot keep up, lines are dropped and counted
(`LogPipe.dropped`): a full disk costs lines, never a decision.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import os
import queue
import re
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TextIO

__all__ = ["JsonFormatter", "LogPipe", "Redactor", "configure_logging", "lines_lost", "secrets_of"]

_SECRET_NAMES = re.compile(r"TRADELIB_\w*(KEY|SECRET|TOKEN|PASS|URLS?)\w*")
"""Environment variables whose values never appear in a log."""
_PATTERNS = (
    re.compile(
        r"(?i)(signature|listenkey|token|secret|apikey|api_key|passphrase|password)([\"']?\s*[=:]\s*[\"']?)[^\s&\"',}]+"
    ),
    re.compile(r"(?i)(bearer)(\s+)\S+"),
    re.compile(r"(://)([^\s/:@]*:)[^\s/@]+(?=@)"),
)
_SHORTEST = 6
"""Shorter values are no secrets, and would blank out ordinary words."""
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def secrets_of(environment: Mapping[str, str]) -> frozenset[str]:
    """The values in `environment` that must not be shown: keys, secrets, tokens, addresses that carry a password."""
    found: set[str] = set()
    for name, value in environment.items():
        if _SECRET_NAMES.fullmatch(name) and not _is_loopback(value):
            found |= {value, *re.split(r"[\s,]+", value), *re.split(r"[\s,:/@?&=]+", value)}
    return frozenset(text for text in found if len(text) >= _SHORTEST and not text.isalpha())


def _is_loopback(value: str) -> bool:
    return re.fullmatch(r"https?://(127\.0\.0\.1|localhost)(:\d+)?/?", value) is not None


class Redactor:
    """Replaces secrets in a text by `***`: those that are known, and what looks like a signature, token or password."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        known = sorted(secrets, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, known))) if known else None

    def __call__(self, text: str) -> str:
        for pattern in _PATTERNS:
            text = pattern.sub(r"\1\2***", text)
        return text if self._known is None else self._known.sub("***", text)


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON: time, level, logger, message, what `extra=` gave, and the error if there is one."""

    def __init__(self, redact: Redactor) -> None:
        super().__init__()
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        row: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        row |= {name: value for name, value in vars(record).items() if name not in _STANDARD}
        if record.exc_info:
            row["error"] = self.formatException(record.exc_info)
        return self._redact(json.dumps(row, default=str, ensure_ascii=False))


class _Lossy(logging.handlers.QueueHandler):
    """A queue handler that would rather lose a line than wait."""

    dropped = 0

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """The record as it is: formatting is the writer's work, not the caller's."""
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        """Put it on the queue, or count it."""
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self.dropped += 1


class _Writer(logging.handlers.QueueListener):
    """The writing thread, which is waited for at the end, and not for ever."""

    patience = 5.0

    def stop(self) -> None:
        """Write what is queued and end; a stream that hangs is left behind with its thread."""
        thread, self._thread = self._thread, None
        if thread is not None:
            with suppress(queue.Full):
                self.queue.put(None, timeout=self.patience)  # type: ignore[attr-defined]  # what ends its loop
                thread.join(self.patience)


class LogPipe:
    """Logging as `configure_logging` set it up; `close` writes what is queued and puts back what was before."""

    def __init__(self, handler: logging.Handler, loggers: Mapping[str, int], length: int = 10_000) -> None:
        self._entry = _Lossy(queue.Queue(length))
        self._writer = _Writer(self._entry.queue, handler)
        self._before = {name: logging.getLogger(name).level for name in loggers}
        self._writer.start()
        logging.getLogger().addHandler(self._entry)
        for name, level in loggers.items():
            logging.getLogger(name).setLevel(level)

    @property
    def dropped(self) -> int:
        """Lines that were lost because the writer could not keep up."""
        return self._entry.dropped

    def close(self) -> None:
        """Stop; a second call does nothing."""
        logging.getLogger().removeHandler(self._entry)
        for name, level in self._before.items():
            logging.getLogger(name).setLevel(level)
        self._before = {}
        self._writer.stop()


def lines_lost() -> int:
    """Lines that this process wanted to log and lost."""
    return sum(handler.dropped for handler in logging.getLogger().handlers if isinstance(handler, _Lossy))


def configure_logging(
    level: str = "INFO",
    *,
    stream: TextIO | None = None,
    as_json: bool = True,
    environment: Mapping[str, str] | None = None,
) -> LogPipe:
    """Write what tradelib logs from `level` on, and other packages from WARNING on, to `stream` (default: stderr).

    `as_json=False` writes plain lines for a terminal. Secrets of `environment` (default: the process's) are blanked.
    """
    redact = Redactor(secrets_of(os.environ if environment is None else environment))
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(JsonFormatter(redact) if as_json else _Plain(redact))
    return LogPipe(handler, {"": logging.WARNING, "tradelib": logging.getLevelNamesMapping()[level.upper()]})


class _Plain(logging.Formatter):
    """One line for a person."""

    def __init__(self, redact: Redactor) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        return self._redact(super().format(record))
