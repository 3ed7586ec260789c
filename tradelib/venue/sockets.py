"""WebSocket connections of the venue: one `Stream` of the dialect each, and the faults of streams.

The exchange may be moved from another thread (tests do), so its events reach the connections through the server's
loop. Every connection has its own queue and sender: a slow client delays nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

from aiohttp import WSMsgType, web

from tradelib.venue.dialect import Request, Stream, StreamRoute
from tradelib.venue.exchange import PaperExchange
from tradelib.venue.faults import STREAM_FAULTS, FaultState
from tradelib.venue.orders import Event

__all__ = ["Sockets"]

_MESSAGE_FAULTS = frozenset(STREAM_FAULTS) - {"refuse_stream"}


class _Connection:
    """One client: its stream, what waits to be sent, and what faults have done to it."""

    def __init__(self, socket: web.WebSocketResponse, stream: Stream, faults: FaultState | None) -> None:
        self.socket, self.stream, self._faults = socket, stream, faults
        self._outbox: asyncio.Queue[tuple[str, str] | None] = asyncio.Queue()
        self._silent = False
        self._held: list[str] = []
        self._late: list[tuple[int, str]] = []

    def put(self, texts: Sequence[str], sort: Literal["answer", "event", "beat"]) -> None:
        """Queue messages. Events may be struck by faults; repeated news (`beat`) only keep silent where the stream
        does, so that real time does not decide where faults strike."""
        for text in texts:
            self._outbox.put_nowait((text, sort))

    def end(self) -> None:
        """No more messages."""
        self._outbox.put_nowait(None)

    async def run(self) -> None:
        """Send until the end."""
        while (waiting := await self._outbox.get()) is not None:
            text, sort = waiting
            silent = sort == "beat" and self._silent
            for message in self._struck(text) if sort == "event" else [text] * (not silent):
                if message is None:
                    await self.socket.close(code=1001)
                    return
                with contextlib.suppress(ConnectionError):
                    await self.socket.send_str(message)

    def _struck(self, text: str) -> list[str | None]:
        """What really goes out instead of `text`; None closes the connection."""
        fault = self._faults.first("stream", _MESSAGE_FAULTS) if self._faults is not None else None
        kind = fault.kind if fault is not None else ""
        if kind == "disconnect":
            return [None]
        self._silent = self._silent or kind == "silent"
        if self._silent or kind == "drop_message":
            return []
        if kind == "reorder_message":
            self._held.append(text)
            return []
        out: list[str | None] = [text[: len(text) // 2] if kind == "truncate_message" else text]
        if kind == "duplicate_message":
            out.append(text)
        out.extend(self._held)
        self._held.clear()
        out.extend(again for left, again in self._late if left <= 1)
        self._late = [(left - 1, again) for left, again in self._late if left > 1]
        if kind == "late_message" and fault is not None:
            self._late.append((fault.bars, text))
        return out


class Sockets:
    """Every WebSocket connection of a server."""

    def __init__(
        self, exchange: PaperExchange, faults: FaultState | None, now: Callable[[], int], kline_seconds: float
    ) -> None:
        self._exchange, self._faults, self._now = exchange, faults, now
        self._kline_seconds = kline_seconds
        self._beating: asyncio.Task[None] | None = None
        self._connections: set[_Connection] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Begin; the exchange is listened to while anybody is connected."""
        self._loop = asyncio.get_running_loop()
        self._beating = asyncio.create_task(self._beat())

    async def stop(self) -> None:
        """Close every connection."""
        if self._beating is not None:
            self._beating.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._beating
        await self.drop_all()
        self._listen()

    async def drop_all(self) -> None:
        """Close every connection; clients may come again."""
        for connection in list(self._connections):
            connection.end()
            await connection.socket.close(code=1001)

    def handler(self, route: StreamRoute) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """What aiohttp calls for a request to `route`."""

        async def handle(request: web.Request) -> web.StreamResponse:
            fault = self._faults.first("connect", ("refuse_stream",)) if self._faults is not None else None
            if fault is not None:
                return web.Response(status=fault.status)
            path, _, query = request.raw_path.partition("?")
            stream = route.open(Request("GET", path, query, "", request.headers, self._now()))
            socket = web.WebSocketResponse(max_msg_size=2**20)
            await socket.prepare(request)
            await self._serve(_Connection(socket, stream, self._faults))
            return socket

        return handle

    async def _serve(self, connection: _Connection) -> None:
        self._connections.add(connection)
        self._listen()
        sender = asyncio.create_task(connection.run())
        try:
            async for message in connection.socket:
                if message.type is WSMsgType.TEXT:
                    connection.put(connection.stream.received(message.data, self._now()), "answer")
        finally:
            self._connections.discard(connection)
            self._listen()
            connection.end()
            await sender

    def _listen(self) -> None:
        listens = self._hear in self._exchange.listeners
        if self._connections and not listens:
            self._exchange.listeners.append(self._hear)
        elif listens and not self._connections:
            self._exchange.listeners.remove(self._hear)

    async def _beat(self) -> None:
        """Tell the bars that form again and again, as exchanges do: a client may have missed the last time."""
        while True:
            await asyncio.sleep(self._kline_seconds)
            if self._connections:
                for event in self._exchange.forming():
                    self._tell(event, "beat")

    def _hear(self, event: Event) -> None:
        """An event of the exchange, from whatever thread."""
        assert self._loop is not None
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is self._loop:
            self._tell(event)
        else:
            self._loop.call_soon_threadsafe(self._tell, event)

    def _tell(self, event: Event, sort: Literal["event", "beat"] = "event") -> None:
        for connection in self._connections:
            connection.put(connection.stream.happened(event), sort)
