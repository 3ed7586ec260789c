"""How a dialect plugs into the venue's server: routes for REST, streams for WebSocket, both free of sockets.

A dialect translates. It never touches a socket, never sleeps and keeps no time of its own: the server hands it a
`Request` and sends its `Reply`, opens a `Stream` for each WebSocket connection, gives that the client's messages and
the exchange's events, and sends what it returns. Faults, rate limits and the loopback guard are the server's and
act alike on every dialect.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from tradelib.venue.orders import Event

__all__ = ["Credentials", "Dialect", "Reply", "Request", "Role", "Route", "Stream", "StreamRoute"]

Role = Literal["place", "cancel", "query", "account", "trades", "bars", "market", "clock", "operator"]
"""What a route is for, in no exchange's words: fault plans name it, so one plan works on every dialect."""


@dataclass(frozen=True)
class Credentials:
    """What a client must prove to have; `passphrase` where the exchange has one. None shows in a repr."""

    key: str = field(repr=False)
    secret: str = field(repr=False)
    passphrase: str = field(default="", repr=False)


@dataclass(frozen=True)
class Request:
    """One HTTP request, exactly as it came: `query` and `body` are not decoded, because signatures cover them so.

    now: the server's real clock in epoch milliseconds, which signatures and windows are checked against.
    """

    method: str
    path: str
    query: str
    body: str
    headers: Mapping[str, str]
    now: int


@dataclass(frozen=True)
class Reply:
    """What goes back: `body` is sent as JSON."""

    body: Any
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Route:
    """One path of the dialect. `answer` returns the JSON body, or a `Reply`; it may raise what `refusal` understands.

    signed: `Dialect.authenticate` is asked first. weight: what a call counts against the rate limit. orders: how many
    orders it counts against the order rate.
    """

    method: str
    path: str
    role: Role
    answer: Callable[[Request], Any]
    signed: bool = False
    weight: int = 1
    orders: int = 0


class Stream(Protocol):
    """The dialect's side of one WebSocket connection; returned texts are sent in this order."""

    def received(self, text: str, now: int) -> Sequence[str]:
        """Answer a message of the client. `now`: real clock, epoch milliseconds."""

    def happened(self, event: Event) -> Sequence[str]:
        """Tell the client of an event, if it has asked for such."""


@dataclass(frozen=True)
class StreamRoute:
    """A path that is upgraded to a WebSocket, and what makes the stream of one connection from its request."""

    path: str
    open: Callable[[Request], Stream]


class Dialect(Protocol):
    """One exchange's language over one `PaperExchange`."""

    name: str

    def routes(self) -> Sequence[Route]:
        """Every REST path it serves."""

    def streams(self) -> Sequence[StreamRoute]:
        """Every WebSocket path it serves; the server opens one `Stream` per connection."""

    def authenticate(self, request: Request) -> None:
        """Check key, signature, nonce and time window; raises what `refusal` understands."""

    def refusal(self, error: Exception) -> Reply | None:
        """What this exchange says to `error` (a `Refusal` or an error of the dialect's own); None: not its business."""

    def limited(self, retry_after: int, *, banned: bool) -> Reply:
        """What it says to a client above the rate limit, or to one that is banned for not stopping."""
