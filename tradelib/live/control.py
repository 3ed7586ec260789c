"""The operators' way in: HTTP on 127.0.0.1, one token per person, three roles, everything they do in the journal.

| | view | operate | approve |
|---|---|---|---|
| `GET /v1/status`, `/v1/orders`, `/v1/positions`, `/v1/halts`, `/v1/alerts`, `/metrics` | yes | yes | yes |
| `POST /v1/halt`, `/v1/flatten`, `/v1/stop`, `/v1/acknowledge` | | yes | yes |
| `POST /v1/arm`, `/v1/adjust` | | | yes |

`GET /healthz` and `/readyz` need no token and tell nothing but yes or no. What makes the account safer (halt, flatten,
stop) is done even where the journal cannot be written; what makes it less safe (arm) is not.

Who has which role comes from `tradelib.live.users`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from tradelib.errors import LedgerError, RunnerError, TradelibError
from tradelib.ledger import Ledger
from tradelib.ledger.journal import OPERATOR
from tradelib.live.latch import Halt, Level, Scope
from tradelib.live.logs import lines_lost
from tradelib.live.sdnotify import keep_notifying
from tradelib.live.settings import ControlSettings, Policy
from tradelib.live.users import Role, User, Users
from tradelib.live.watchdog import HEARTBEAT

if TYPE_CHECKING:
    from aiohttp import web

    from tradelib.live.alerts import Alerter
    from tradelib.live.metrics import Metrics

__all__ = ["ENDPOINTS", "ControlServer", "Endpoint", "Operable", "RunnerStatus", "TraderStatus"]

HOST = "127.0.0.1"

logger = logging.getLogger(__name__)

Phase = Literal["starting", "running", "degraded", "stopping"]


@dataclass(frozen=True)
class TraderStatus:
    """One bundle in one symbol. Times are ISO-8601 UTC; `last_bar` is the open time of the newest closed bar.

    `age`: seconds since anything was heard from its feed. `open_orders`: at the venue. `held`: the orders, in words,
    that the runner holds itself because the venue cannot: they do nothing while it is down. `problem`: why it does not
    trade, "" where it does.
    """

    bundle: str
    symbol: str
    timeframe: str
    journal: str
    last_bar: str | None = None
    last_decision: str | None = None
    age: float | None = None
    cash: float | None = None
    position: float | None = None
    equity: float | None = None
    open_orders: int = 0
    unknown_orders: int = 0
    problem: str = ""
    held: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunnerStatus:
    """What the runner knows of itself, from memory: asking costs no request and no disk.

    phase: "degraded" is read-only, no order leaves. `heartbeat`: seconds since the slowest supervised task last showed
    life. `problems`: of the runner as a whole.
    """

    phase: Phase
    mode: str
    exchange: str
    started: str
    heartbeat: float
    equity: float | None = None
    traders: tuple[TraderStatus, ...] = ()
    halts: tuple[Halt, ...] = ()
    problems: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for a reply."""
        return {**asdict(self), "halts": [halt.as_dict() for halt in self.halts]}


class Operable(Protocol):
    """What a runner lets its operators see and do.

    The control server has checked token and role and has written the act into the journal when it calls; `who` is the
    name of the token. All of it happens in the runner's own event loop. The first three answer from memory. A refusal
    is a `TradelibError`, whose sentence goes to the operator.
    """

    def status(self) -> RunnerStatus:
        """The runner as it is."""
        ...

    def orders(self) -> Sequence[Mapping[str, Any]]:
        """Orders that are not final: bundle, symbol, client_order_id, status, side, kind, quantity, filled, prices,
        and whether the venue or the runner holds it."""
        ...

    def positions(self) -> Sequence[Mapping[str, Any]]:
        """Holdings: bundle, symbol, position, price, value, cash, equity."""
        ...

    async def halt(self, scope: Scope, who: str, why: str, level: Level) -> Halt:
        """Halt `scope` (`Latch.halt`) and cancel its resting orders that add to a position."""
        ...

    async def arm(self, scope: Scope, who: str, role: str, why: str, numbers: Sequence[int]) -> Sequence[Halt]:
        """Lift the halts of `scope` with these numbers (`Latch.arm`)."""
        ...

    async def adjust(self, asset: str, amount: Decimal, who: str, why: str) -> Mapping[str, str]:
        """Account for `amount` that came to the account (negative: left it) and was no trade: a deposit, a gift."""
        ...

    async def flatten(self, scope: Scope, who: str, why: str) -> Mapping[str, Any]:
        """Halt `scope` (level "reduce"), cancel its orders, and close its positions; returns what was sent."""
        ...

    async def stop(self, policy: Policy | None, who: str, why: str) -> None:
        """Ask for an orderly end under `policy`, None for that of the settings; returns before it has come."""
        ...


# The server


class Refused(Exception):
    """A request that is turned away, and the sentence that says why."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Endpoint(NamedTuple):
    """A path of the server: who may use it (None: everybody), and the name of the method that answers."""

    method: str
    path: str
    role: Role | None
    answer: str


ENDPOINTS = (
    Endpoint("GET", "/healthz", None, "_healthz"),
    Endpoint("GET", "/readyz", None, "_readyz"),
    Endpoint("GET", "/metrics", Role.VIEW, "_metrics"),
    Endpoint("GET", "/v1/status", Role.VIEW, "_status"),
    Endpoint("GET", "/v1/orders", Role.VIEW, "_orders"),
    Endpoint("GET", "/v1/positions", Role.VIEW, "_positions"),
    Endpoint("GET", "/v1/halts", Role.VIEW, "_halts"),
    Endpoint("GET", "/v1/alerts", Role.VIEW, "_alerts"),
    Endpoint("POST", "/v1/halt", Role.OPERATE, "_halt"),
    Endpoint("POST", "/v1/flatten", Role.OPERATE, "_flatten"),
    Endpoint("POST", "/v1/stop", Role.OPERATE, "_stop"),
    Endpoint("POST", "/v1/acknowledge", Role.OPERATE, "_acknowledge"),
    Endpoint("POST", "/v1/arm", Role.APPROVE, "_arm"),
    Endpoint("POST", "/v1/adjust", Role.APPROVE, "_adjust"),
)

_DIGITS = 20
"""Of an amount, before and behind the point."""
_LONGEST = 500
"""Characters of a reason."""


class ControlServer:
    """Lets operators see and steer `runner`: `async with ControlServer(runner, log, users) as server`.

    log: the journal of operations, written in the thread of the event loop. port 0 takes a free one; `url` tells which.
    Without users only health and readiness answer. Raises `RunnerError` where it cannot listen.
    """

    def __init__(
        self,
        runner: Operable,
        log: Ledger,
        users: Users,
        settings: ControlSettings | None = None,
        *,
        metrics: Metrics | None = None,
        alerts: Alerter | None = None,
    ) -> None:
        self.runner, self.log, self.users = runner, log, users
        self.settings = settings or ControlSettings()
        self.metrics, self.alerts = metrics, alerts
        self.port = self.settings.port or 0
        self._server: web.AppRunner | None = None
        self._notifying: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Where operators find it."""
        return f"http://{HOST}:{self.port}"

    async def __aenter__(self) -> ControlServer:
        from aiohttp import web

        application = web.Application(client_max_size=65_536)
        for endpoint in ENDPOINTS:
            application.router.add_route(endpoint.method, endpoint.path, self._handler(endpoint))
        server = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await server.setup()
        try:
            await web.TCPSite(server, HOST, self.port).start()
        except OSError as error:
            await server.cleanup()
            raise RunnerError(
                f"the control server cannot listen on {HOST}:{self.port} ({error.strerror}): another runner may use "
                "the port; give this one its own under [control], or 0 for a free one"
            ) from error
        self._server, self.port = server, server.addresses[0][1]
        told = f"{len(self.users)} operators" if len(self.users) else "no operators, see `tradelib token --help`"
        logger.info("control server on %s: %s", self.url, told)
        self._notifying = asyncio.create_task(keep_notifying(self._is_ready, self._is_alive))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._notifying is not None:
            self._notifying.cancel()
            await asyncio.gather(self._notifying, return_exceptions=True)
        if self._server is not None:
            await self._server.cleanup()
            self._server = None

    def _is_alive(self) -> bool:
        return self.runner.status().heartbeat < HEARTBEAT

    def _is_ready(self) -> bool:
        return self.runner.status().phase == "running" and self._is_alive()

    def _handler(self, endpoint: Endpoint) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        answer = getattr(self, endpoint.answer)

        async def handle(request: web.Request) -> web.StreamResponse:
            try:
                _check_local(request)
                user = self._admit(request, endpoint.role)
                asked = await _asked(request) if endpoint.method == "POST" else {}
                response = _reply(await answer(user, asked))
            except Refused as refused:
                response = _reply({"error": str(refused)}, refused.status)
            except TradelibError as error:
                response = _reply({"error": str(error)}, 409)
            if self.metrics is not None:
                self.metrics.control_requests.labels(endpoint.path, str(response.status)).inc()
            return response

        return handle

    def _admit(self, request: web.Request, role: Role | None) -> User | None:
        if role is None:
            return None
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        user = self.users.find(token) if scheme.lower() == "bearer" and token else None
        if user is None:
            logger.warning("a request to %s came without a valid token", request.path, extra={"alert": "control:token"})
            raise Refused(401, "this needs a token that the runner knows, as 'Authorization: Bearer TOKEN'")
        if user.role < role:
            logger.warning("%s may not %s %s", user.name, request.method, request.path)
            raise Refused(403, f"{user.name} has the role {user.role.name.lower()}, this needs {role.name.lower()}")
        return user

    # What anybody may ask

    async def _healthz(self, *_: object) -> Any:
        alive = self._is_alive()
        return _Reply({"alive": alive}, 200 if alive else 503)

    async def _readyz(self, *_: object) -> Any:
        ready = self._is_ready()
        return _Reply({"ready": ready}, 200 if ready else 503)

    # What viewers may see

    async def _metrics(self, *_: object) -> Any:
        if self.metrics is None:
            raise Refused(404, "this runner keeps no metrics")
        return await self.metrics.render(self.runner.status(), self._own_figures())

    async def _status(self, *_: object) -> Any:
        return {**self.runner.status().as_dict(), "open_alerts": list(self._open_alerts())}

    async def _orders(self, *_: object) -> Any:
        return {"orders": [dict(order) for order in self.runner.orders()]}

    async def _positions(self, *_: object) -> Any:
        return {"positions": [dict(position) for position in self.runner.positions()]}

    async def _halts(self, *_: object) -> Any:
        return {"halts": [halt.as_dict() for halt in self.runner.status().halts]}

    async def _alerts(self, *_: object) -> Any:
        counts = dict(self.alerts.counts) if self.alerts is not None else {}
        return {"open": list(self._open_alerts()), "counts": counts}

    # What operators may do

    async def _halt(self, user: User, asked: _Asked) -> Any:
        scope, why, level = asked.scope(), asked.why(), asked.level()
        asked.check_all_read()
        return await self._act(user, "halt", scope, why, lambda: self.runner.halt(scope, user.name, why, level))

    async def _flatten(self, user: User, asked: _Asked) -> Any:
        scope, why = asked.scope(), asked.why()
        asked.check_all_read()
        return await self._act(user, "flatten", scope, why, lambda: self.runner.flatten(scope, user.name, why))

    async def _stop(self, user: User, asked: _Asked) -> Any:
        policy, why = asked.policy(), asked.why()
        asked.check_all_read()
        return await self._act(user, "stop", None, why, lambda: self.runner.stop(policy, user.name, why))

    async def _acknowledge(self, user: User, asked: _Asked) -> Any:
        keys, why = asked.alerts(), asked.why()
        asked.check_all_read()

        async def acknowledge() -> Any:
            return list(self.alerts.acknowledge(keys)) if self.alerts is not None else []

        return await self._act(user, "acknowledge", None, why, acknowledge)

    # What approvers may do

    async def _arm(self, user: User, asked: _Asked) -> Any:
        scope, why, numbers = asked.scope(), asked.why(), asked.numbers()
        asked.check_all_read()
        lifted = [halt for halt in self.runner.status().halts if halt.scope == scope and halt.number in numbers]
        if self.settings.four_eyes and any(halt.who == user.name for halt in lifted):
            raise Refused(403, f"{user.name} halted {scope}: somebody else must look at it and arm it (four_eyes)")
        role = user.role.name.lower()

        async def arm() -> list[dict[str, Any]]:
            return [halt.as_dict() for halt in await self.runner.arm(scope, user.name, role, why, numbers)]

        return await self._act(user, "arm", scope, why, arm, must_be_written=True)

    async def _adjust(self, user: User, asked: _Asked) -> Any:
        asset, amount, why = asked.text("asset"), asked.amount(), asked.why()
        asked.check_all_read()

        async def adjust() -> Any:
            return await self.runner.adjust(asset, amount, user.name, why)

        told = f"{why} ({amount:+f} {asset})"
        return await self._act(user, "adjust", None, told, adjust, must_be_written=True)

    async def _act(
        self,
        user: User,
        act: str,
        scope: Scope | None,
        why: str,
        do: Callable[[], Awaitable[Any]],
        *,
        must_be_written: bool = False,
    ) -> Any:
        """Write what is asked, do it, write what came of it."""
        body = {"act": act, "subject": str(scope or ""), "reason": why, "by": user.name, "role": user.role.name.lower()}
        self._note({**body, "outcome": "asked"}, must_be_written)
        what = f"{act} {scope}" if scope is not None else act
        level = logging.INFO if act == "acknowledge" else logging.WARNING
        logger.log(level, "%s asks to %s: %s", user.name, what, why, extra={"alert": f"operator:{act}"})
        try:
            done = await do()
        except TradelibError as error:
            self._note({**body, "outcome": f"refused: {error}"}, False)
            raise
        self._note({**body, "outcome": "done"}, False)
        return {"done": act, "by": user.name, "result": done.as_dict() if isinstance(done, Halt) else done}

    def _note(self, body: dict[str, Any], must_be_written: bool) -> None:
        try:
            self.log.append(OPERATOR, body)
        except LedgerError as error:
            if must_be_written:
                raise
            logger.error("an operator's act could not be journalled: %s", error, extra={"alert": "journal"})

    def _open_alerts(self) -> tuple[str, ...]:
        return self.alerts.open if self.alerts is not None else ()

    def _own_figures(self) -> dict[str, dict[tuple[str, ...], float]]:
        counts = self.alerts.counts if self.alerts is not None else {}
        return {
            "tradelib_open_alerts": {(): float(len(self._open_alerts()))},
            "tradelib_log_lines_lost": {(): float(lines_lost())},
            "tradelib_alerts": {(outcome,): float(count) for outcome, count in counts.items()},
        }


class _Reply(NamedTuple):
    body: Any
    status: int


class _Asked(dict[str, Any]):
    """The body of a request; every value is asked for once, and nothing may be left over."""

    def text(self, name: str, default: str | None = None) -> str:
        value = self.pop(name, default)
        if not isinstance(value, str) or len(value) > _LONGEST or not (value.isprintable() or value == ""):
            raise Refused(400, f"{name!r} must be given as one line of text, at most {_LONGEST} characters")
        return value

    def why(self) -> str:
        value = self.text("why").strip()
        if not value:
            raise Refused(400, "'why' is empty: say why, for whoever reads the journal later")
        return value

    def scope(self) -> Scope:
        try:
            return Scope.parse(self.text("scope"))
        except RunnerError as error:
            raise Refused(400, str(error)) from None

    def level(self) -> Level:
        value = self.text("level", Level.REDUCE.value)
        if value not in list(Level):
            raise Refused(400, f"'level' is {value!r}: use 'reduce' (exits pass) or 'stop' (nothing passes)")
        return Level(value)

    def amount(self) -> Decimal:
        try:
            value = Decimal(self.text("amount"))
        except InvalidOperation:
            value = Decimal("nan")
        if not value.is_finite() or not value or not -_DIGITS < value.adjusted() < _DIGITS:
            raise Refused(400, "'amount' must be a decimal number as text, positive for what came in, such as '-12.5'")
        return value

    def policy(self) -> Policy | None:
        value = self.text("policy", "")
        if value not in ("", "keep", "cancel", "flatten"):
            raise Refused(400, f"'policy' is {value!r}: use 'keep', 'cancel' or 'flatten'")
        return value or None  # type: ignore[return-value]  # checked above

    def numbers(self) -> tuple[int, ...]:
        value = self.pop("numbers", None)
        there = isinstance(value, list) and bool(value)
        if not there or not all(isinstance(one, int) and not isinstance(one, bool) for one in value):
            raise Refused(400, "'numbers' must list the entries of the halts that were looked at, as status shows them")
        return tuple(value)

    def alerts(self) -> tuple[str, ...]:
        value = self.pop("alerts", None)
        if not isinstance(value, list) or not value or not all(isinstance(one, str) for one in value):
            raise Refused(400, "'alerts' must list the keys of the alerts that were seen, as status shows them")
        return tuple(value)

    def check_all_read(self) -> None:
        if self:
            raise Refused(400, f"unknown field {', '.join(sorted(map(repr, self)))}: nothing was done")


async def _asked(request: web.Request) -> _Asked:
    if request.content_type != "application/json":
        raise Refused(415, "send the request as application/json")
    try:
        body = json.loads(await request.read())
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise Refused(400, "the body must be one JSON object")
    return _Asked(body)


def _check_local(request: web.Request) -> None:
    """Turn away web pages: a foreign Host is DNS rebinding, an Origin or fetch metadata is a browser's script."""
    browser = "Origin" in request.headers or "Sec-Fetch-Site" in request.headers
    if browser or request.host.rpartition(":")[0] not in (HOST, "localhost"):
        raise Refused(403, "the control server answers programs on this machine only")


def _reply(answer: Any, status: int = 200) -> web.Response:
    from aiohttp import web

    body, status = answer if isinstance(answer, _Reply) else (answer, status)
    if isinstance(body, bytes):
        return web.Response(body=body, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    return web.json_response(body, status=status, headers=headers, dumps=_dumps)


def _dumps(value: Any) -> str:
    return json.dumps(_finite(value), default=str, allow_nan=False)


def _finite(value: Any) -> Any:
    """`value` with None for the numbers that JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): _finite(item) for name, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
