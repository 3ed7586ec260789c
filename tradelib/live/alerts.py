"""Messages to people: few enough to be read, and louder where nobody reacts.

`AlertRules` decides, without clock or socket, what is said when: the same thing is not said again for a while, a flood
is held back and counted, and a critical alert that nobody acknowledges goes on to those behind. `Alerter` is the thread
that carries it out through Apprise (Telegram, e-mail, Discord, webhooks, a hundred more). `send` only puts the alert on
a queue: no decision waits for a mail server.

Where the messages go is a secret, for the addresses carry passwords: `TRADELIB_ALERT_URLS`, and for what is escalated
`TRADELIB_ESCALATION_URLS`, both separated by spaces.
"""

from __future__ import annotations

import logging
import math
import os
import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from tradelib.errors import RunnerError, require
from tradelib.live.logs import Redactor, secrets_of
from tradelib.live.settings import AlertSettings

__all__ = ["Alert", "AlertHandler", "AlertRules", "Alerter", "Message", "alerter_from_environment"]

URLS_VARIABLE = "TRADELIB_ALERT_URLS"
ESCALATION_VARIABLE = "TRADELIB_ESCALATION_URLS"

Severity = Literal["info", "warning", "critical"]
_RANK: dict[str, int] = {"info": 0, "warning": 1, "critical": 2}
_WINDOW = 60.0
_QUEUE = 1_000
_ATTEMPTS = 3

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Alert:
    """Something that somebody should know. `key` says what it is about: alerts of one key repeat each other."""

    severity: Severity
    key: str
    title: str
    text: str = ""


@dataclass(frozen=True)
class Message:
    """What is sent: an alert as it goes out; `escalated` ones go to those behind."""

    severity: Severity
    title: str
    text: str
    escalated: bool = False


@dataclass
class _Subject:
    """What was said about one key."""

    alert: Alert
    said_at: float
    held_back: int = 0
    escalate_at: float | None = None
    escalations: int = 0


@dataclass
class AlertRules:
    """Which alert becomes a message, and when. Times are seconds of any clock that only goes forward.

    Warnings and infos share an allowance per minute, critical alerts have one of the same size for themselves: a flood
    of small things never hides the fire.
    """

    settings: AlertSettings
    _subjects: dict[str, _Subject] = field(default_factory=dict)
    _sent: tuple[deque[float], deque[float]] = field(default_factory=lambda: (deque(), deque()))
    _flooded: int = 0

    @property
    def open(self) -> tuple[str, ...]:
        """Keys of the critical alerts that nobody has acknowledged."""
        return tuple(key for key, subject in self._subjects.items() if subject.escalate_at is not None)

    def offer(self, alert: Alert, now: float) -> list[Message]:
        """The messages to send at once for `alert`: one, or none."""
        if _RANK[alert.severity] < _RANK[self.settings.minimum]:
            return []
        subject = self._subjects.get(alert.key)
        louder = subject is not None and _RANK[alert.severity] > _RANK[subject.alert.severity]
        if subject is not None and not louder and now < subject.said_at + self.settings.repeat_seconds:
            subject.held_back += 1
            return []
        repeated = subject.held_back if subject is not None else 0
        opened = self._opened(alert, subject, now)
        if not self._may_send(alert.severity, now):
            self._flooded += 1
            if opened.escalate_at is not None:  # unsaid, but it will be escalated
                self._subjects[alert.key] = replace(opened, said_at=-math.inf)
            return []
        self._subjects[alert.key] = opened
        again = f"\n({repeated} more of these since the last message)" if repeated else ""
        return [Message(alert.severity, alert.title, alert.text + again)]

    def due(self, now: float) -> list[Message]:
        """What has become due by `now`: escalations, and what was held back and is not to be lost."""
        messages = [message for subject in self._subjects.values() for message in self._escalation(subject, now)]
        if self._flooded and self._may_send("critical", now):
            count, self._flooded = self._flooded, 0
            messages.append(Message("warning", f"{count} alerts were held back", "Too many at once: see the log."))
        self._forget(now)
        return messages

    def next_due(self, now: float) -> float:
        """Seconds until `due` may have something to say."""
        times = [subject.escalate_at for subject in self._subjects.values() if subject.escalate_at is not None]
        wait = min(times, default=now + _WINDOW) - now
        return max(0.0, min(wait, 1.0 if self._flooded else _WINDOW))

    def acknowledge(self, keys: Iterable[str]) -> tuple[str, ...]:
        """Somebody has seen the alerts of these `keys`: they are not escalated further. Returns which were open."""
        wanted = set(keys)
        seen = tuple(name for name in self.open if name in wanted)
        for name in seen:
            self._subjects[name].escalate_at = None
        return seen

    def _opened(self, alert: Alert, subject: _Subject | None, now: float) -> _Subject:
        """A critical alert that repeats goes on with the escalation that it began."""
        if alert.severity != "critical" or not self.settings.escalations:
            return _Subject(alert, now)
        if subject is not None and subject.escalate_at is not None:
            return _Subject(alert, now, 0, subject.escalate_at, subject.escalations)
        return _Subject(alert, now, 0, now + self.settings.escalate_seconds)

    def _escalation(self, subject: _Subject, now: float) -> list[Message]:
        if subject.escalate_at is None or now < subject.escalate_at:
            return []
        subject.escalations += 1
        last = subject.escalations >= self.settings.escalations
        subject.escalate_at = None if last else now + self.settings.escalate_seconds
        told = f"{subject.alert.text}\nNobody has acknowledged this (call {subject.escalations})."
        return [Message("critical", f"UNANSWERED: {subject.alert.title}", told, escalated=True)]

    def _may_send(self, severity: str, now: float) -> bool:
        sent = self._sent[severity == "critical"]
        while sent and sent[0] <= now - _WINDOW:
            sent.popleft()
        if len(sent) >= self.settings.per_minute:
            return False
        sent.append(now)
        return True

    def _forget(self, now: float) -> None:
        """Subjects that have nothing more to say, so that a runner of months does not remember every key."""
        oldest = now - max(self.settings.repeat_seconds, _WINDOW)
        self._subjects = {
            key: subject
            for key, subject in self._subjects.items()
            if subject.escalate_at is not None or subject.said_at > oldest
        }


Send = Callable[[Message], bool]
"""Delivers a message to one address; False where it did not get there."""


class Alerter:
    """The thread that sends. `with Alerter(...) as alerter: alerter.send(Alert(...))`.

    `targets` and `escalation` deliver; where `escalation` is empty, escalated messages go to `targets`. A delivery that
    fails is tried again twice; a critical message that reaches nobody goes to `escalation` at once. `counts` tells
    what became of everything: offered, sent, failed, lost (queue full).
    """

    def __init__(
        self,
        settings: AlertSettings,
        targets: Sequence[Send],
        escalation: Sequence[Send] = (),
        *,
        clock: Callable[[], float] = time.monotonic,
        pause: float = 1.0,
    ) -> None:
        self.rules = AlertRules(settings)
        self.counts: Counter[str] = Counter()
        self._targets, self._escalation = tuple(targets), tuple(escalation)
        self._clock, self._pause = clock, pause
        self._inbox: queue.Queue[Alert | None] = queue.Queue(_QUEUE)
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._work, name="alerts", daemon=True)

    def __enter__(self) -> Alerter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def open(self) -> tuple[str, ...]:
        """Keys of the critical alerts that nobody has acknowledged."""
        with self._lock:
            return self.rules.open

    def send(self, alert: Alert) -> None:
        """Take `alert` and return at once; one that finds the queue full is counted as lost."""
        try:
            self._inbox.put_nowait(alert)
        except queue.Full:
            self.counts["lost"] += 1

    def acknowledge(self, keys: Iterable[str]) -> tuple[str, ...]:
        """Stop the escalation of `keys`; returns what of them was open."""
        with self._lock:
            return self.rules.acknowledge(keys)

    def close(self, seconds: float = 10.0) -> None:
        """Send what is queued, for at most so long, and end."""
        self._ending.set()
        with suppress(queue.Full):
            self._inbox.put_nowait(None)  # wakes the thread; where the queue is full it is awake
        if self._thread.is_alive():
            self._thread.join(seconds)

    def _work(self) -> None:
        while not (self._ending.is_set() and self._inbox.empty()):
            messages = self._take(self._inbox_wait())
            self._deliver(messages + self._due())

    def _inbox_wait(self) -> float:
        with self._lock:
            return max(self.rules.next_due(self._clock()), 0.01)

    def _take(self, seconds: float) -> list[Message]:
        """What the next alert asks to be said; nothing where none comes in time."""
        try:
            alert = self._inbox.get(timeout=seconds)
        except queue.Empty:
            return []
        if alert is None:
            return []
        self.counts["offered"] += 1
        with self._lock:
            return self.rules.offer(alert, self._clock())

    def _due(self) -> list[Message]:
        with self._lock:
            return self.rules.due(self._clock())

    def _deliver(self, messages: list[Message]) -> None:
        for message in messages:
            targets = (self._escalation or self._targets) if message.escalated else self._targets
            reached = [self._try(target, message) for target in targets]
            if not any(reached) and message.severity == "critical" and not message.escalated:
                reached = [self._try(target, message) for target in self._escalation]
            self.counts["sent" if any(reached) else "failed"] += 1
            if not any(reached):
                logger.error("an alert reached nobody: %s", message.title)

    def _try(self, target: Send, message: Message) -> bool:
        for attempt in range(_ATTEMPTS):
            if _delivered(target, message):
                return True
            if self._ending.wait(self._pause * 2.0**attempt):
                return _delivered(target, message)
        return False


def _delivered(target: Send, message: Message) -> bool:
    try:
        return target(message)
    except Exception as error:  # noqa: BLE001 - a hundred services fail in a hundred ways; none may end this thread
        logger.warning("an alert could not be sent: %s", type(error).__name__)
        return False


class AlertHandler(logging.Handler):
    """Turns log records into alerts: errors are critical, warnings warnings; below that, what carries `alert=`.

    `extra={"alert": "feed:BTC/USDT"}` names the key; without it, records of one call repeat each other.
    """

    def __init__(self, alerter: Alerter) -> None:
        super().__init__(logging.INFO)
        self._alerter = alerter
        self._redact = Redactor(secrets_of(os.environ))

    def emit(self, record: logging.LogRecord) -> None:
        """Send, unless it comes from sending itself."""
        key = getattr(record, "alert", None)
        if record.name == __name__ or (key is None and record.levelno < logging.WARNING):
            return
        severity: Severity = "critical" if record.levelno >= logging.ERROR else "warning"
        severity = "info" if record.levelno < logging.WARNING else severity
        text = self._redact(record.getMessage())
        title = text.partition(": ")[0]
        self._alerter.send(Alert(severity, str(key or f"{record.name}:{record.lineno}"), title, text))


def alerter_from_environment(settings: AlertSettings, environment: Mapping[str, str] | None = None) -> Alerter | None:
    """The alerter for the addresses in the environment; None where there are none.

    Raises `MissingExtraError` without Apprise, `RunnerError` for an address that it cannot read (which is not shown).
    """
    environment = os.environ if environment is None else environment
    urls = {name: environment.get(name, "").split() for name in (URLS_VARIABLE, ESCALATION_VARIABLE)}
    if not urls[URLS_VARIABLE]:
        if urls[ESCALATION_VARIABLE]:
            raise RunnerError(
                f"{ESCALATION_VARIABLE} is set and {URLS_VARIABLE} is not: name who hears of things first"
            )
        return None
    made = [[_target(url, name, i, settings.name) for i, url in enumerate(found)] for name, found in urls.items()]
    return Alerter(settings, *made)


def _target(url: str, variable: str, position: int, source: str) -> Send:
    apprise = require("apprise", "alerts")
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)  # it logs addresses, with what they carry
    service: Any = apprise.Apprise()
    if not service.add(url):
        raise RunnerError(f"address {position + 1} of {variable} is none that Apprise knows: see `apprise --details`")
    kinds = {"info": "info", "warning": "warning", "critical": "failure"}

    def send(message: Message) -> bool:
        title, text = f"[{source}] {message.title}", message.text or message.title
        return bool(service.notify(title=title, body=text, notify_type=kinds[message.severity]))

    return send
