"""The faults of requests, between the socket and the dialect. What each one does is listed in
`tradelib.venue.faults`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace

from aiohttp import web

from tradelib.venue.dialect import Dialect, Reply, Request, Route
from tradelib.venue.faults import REQUEST_FAULTS, Fault, FaultState

__all__ = ["FaultyWire"]

Execute = Callable[[Request], Reply]
_ENDING = frozenset(REQUEST_FAULTS) - {"clock_skew"}


class FaultyWire:
    """Executes requests and sends their replies, or what the plan makes of them."""

    def __init__(self, faults: FaultState | None, dialect: Dialect, restart: Callable[[], Awaitable[None]]) -> None:
        self._faults = faults
        self._dialect = dialect
        self._restart = restart
        self._held: asyncio.Event | None = None
        self._down_until = 0.0

    async def answer(self, wire: web.Request, request: Request, route: Route, execute: Execute) -> web.StreamResponse:
        """Execute `request` and answer on `wire`."""
        if self._faults is None:
            return _sent(execute(request))
        if asyncio.get_running_loop().time() < self._down_until:
            return _dropped(wire)
        for skew in self._faults.strikes(route.role, ("clock_skew",)):
            request = replace(request, now=request.now + round(1_000 * skew.seconds))
        fault = self._faults.first(route.role, _ENDING)
        try:
            if fault is None:
                return _sent(execute(request))
            return await self._struck(fault, wire, request, execute)
        finally:
            if fault is None or fault.kind != "reorder":
                self._release()

    def _release(self) -> None:
        """Let the request go that waited for this one."""
        if self._held is not None:
            self._held.set()

    async def _struck(self, fault: Fault, wire: web.Request, request: Request, execute: Execute) -> web.StreamResponse:
        kind = fault.kind
        if kind == "drop_before":
            return _dropped(wire)
        if kind == "status":
            return _sent(self._status(fault))
        if kind == "restart":
            return await self._go_down(fault, wire)
        if kind == "delay":
            await asyncio.sleep(fault.seconds)
        if kind == "reorder":
            await self._hold(fault)
        reply = execute(request)
        if kind == "duplicate":
            execute(request)
        if kind == "hang":
            await asyncio.sleep(fault.seconds)
        if kind == "drop_after":
            return _dropped(wire)
        if kind == "cut":
            return await _cut(wire, reply)
        if kind == "empty":
            return web.Response(status=200)
        if kind == "truncate":
            text = _text(reply)
            return web.Response(text=text[: len(text) // 2], content_type="application/json")
        return _sent(self._status(fault) if kind == "status_after" else reply)

    async def _hold(self, fault: Fault) -> None:
        self._held = asyncio.Event()
        try:
            await asyncio.wait_for(self._held.wait(), fault.seconds)
        except TimeoutError:
            pass
        finally:
            self._held = None

    async def _go_down(self, fault: Fault, wire: web.Request) -> web.StreamResponse:
        self._down_until = asyncio.get_running_loop().time() + fault.seconds
        await self._restart()
        return _dropped(wire)

    def _status(self, fault: Fault) -> Reply:
        if fault.status in (418, 429):
            return self._dialect.limited(max(1, round(fault.seconds)), banned=fault.status == 418)
        return Reply(f"<html><h1>{fault.status}</h1></html>", fault.status, {"Content-Type": "text/html"})


def _text(reply: Reply) -> str:
    return json.dumps(reply.body)


def _sent(reply: Reply) -> web.Response:
    headers = dict(reply.headers)
    if headers.get("Content-Type") == "text/html":
        return web.Response(text=str(reply.body), status=reply.status, headers=headers)
    return web.Response(text=_text(reply), status=reply.status, headers=headers, content_type="application/json")


def _dropped(wire: web.Request) -> web.Response:
    """Cut the connection without a word."""
    if wire.transport is not None:
        wire.transport.abort()
    return web.Response()


async def _cut(wire: web.Request, reply: Reply) -> web.StreamResponse:
    """Cut the connection in the middle of the body."""
    content = _text(reply).encode()
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": str(len(content))})
    await response.prepare(wire)
    await response.write(content[: len(content) // 2])
    if wire.transport is not None:
        wire.transport.close()
    return response
