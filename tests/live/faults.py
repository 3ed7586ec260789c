"""A faulty wire: a real HTTP server in front of a real venue that loses, delays, breaks or replaces replies."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web
from yarl import URL

Reply = Callable[[web.Request, bytes], Awaitable[web.StreamResponse]]
Plan = Callable[[str, str], "Fault | None"]


@dataclass(frozen=True)
class Fault:
    """What happens to one request: whether (and after how many seconds) it reaches the venue, and what comes back."""

    name: str
    reply: Reply = field(repr=False)
    delivered: bool = False
    after: float = 0.0


def status(code: int, body: bytes = b"", **headers: str) -> Reply:
    """Answer with this status and body."""

    async def reply(_: web.Request, __: bytes) -> web.StreamResponse:
        return web.Response(status=code, body=body, headers=headers, content_type="application/json")

    return reply


def refusal(code: int, message: str, http: int = 400) -> Reply:
    """An error in Binance's words."""
    return status(http, json.dumps({"code": code, "msg": message}).encode())


def hang(seconds: float) -> Reply:
    """No answer for so long."""

    async def reply(_: web.Request, __: bytes) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return web.Response(status=500)

    return reply


async def drop(request: web.Request, _: bytes) -> web.StreamResponse:
    """Cut the connection without a word."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def cut(request: web.Request, payload: bytes) -> web.StreamResponse:
    """Cut the connection in the middle of the body."""
    content = payload or b'{"symbol":"BTCUSDT"}'
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": str(len(content))})
    await response.prepare(request)
    await response.write(content[: len(content) // 2])
    assert request.transport is not None
    request.transport.close()
    return response


async def truncated(_: web.Request, payload: bytes) -> web.StreamResponse:
    """A whole reply whose JSON ends too early."""
    content = payload or b'{"symbol":"BTCUSDT","orderId":1,'
    return web.Response(body=content[: len(content) // 2], content_type="application/json")


async def malformed(_: web.Request, payload: bytes) -> web.StreamResponse:
    """Valid JSON whose fields have the wrong types."""
    said = json.loads(payload or b"{}")
    return web.json_response({**said, "orderId": 1, "fills": [5], "status": ["FILLED"], "executedQty": {}})


class FaultProxy:
    """Forwards every request to `upstream` unless `plan` names a fault for it; keeps a log of (method, path)."""

    def __init__(self, upstream: str, plan: Plan) -> None:
        self.upstream = upstream
        self.plan = plan
        self.seen: list[tuple[str, str]] = []
        self.url = ""
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def __enter__(self) -> FaultProxy:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def count(self, method: str, path: str) -> int:
        """How often a request was seen."""
        return self.seen.count((method, path))

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._handle)
        async with aiohttp.ClientSession() as self._session:
            runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            self._ready.set()
            await self._stop.wait()
            await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.seen.append((request.method, request.path))
        fault, body = self.plan(request.method, request.path), await request.read()
        if fault is None:
            code, payload = await self._forward(request, body)
            return web.Response(status=code, body=payload, content_type="application/json")
        payload = b""
        if fault.delivered:
            await asyncio.sleep(fault.after)
            _, payload = await self._forward(request, body)
        return await fault.reply(request, payload)

    async def _forward(self, request: web.Request, body: bytes) -> tuple[int, bytes]:
        own = ("host", "content-length", "connection", "accept-encoding", "transfer-encoding")
        headers: dict[str, Any] = {name: text for name, text in request.headers.items() if name.lower() not in own}
        target = URL(self.upstream + request.raw_path, encoded=True)
        async with self._session.request(request.method, target, data=body or None, headers=headers) as answer:
            return answer.status, await answer.read()


ORDER_PATHS = {
    "binance": "/api/v3/order",
    "kraken": "/0/private/AddOrder",
    "bitget": "/api/v2/spot/trade/place-order",
}


def first_order(fault: Fault, exchange: str = "binance") -> Plan:
    """The first order that is placed meets `fault`; everything else passes."""
    pending = [fault]

    def plan(method: str, path: str) -> Fault | None:
        return pending.pop() if pending and (method, path) == ("POST", ORDER_PATHS[exchange]) else None

    return plan
