"""What systemd wants to hear from a service: that it is ready, that it still lives, that it is ending.

One datagram to the socket that `NOTIFY_SOCKET` names (sd_notify(3)); without one, nothing. With `WatchdogSec=` in the
unit, systemd kills and restarts a runner whose event loop hangs: what a process cannot do for itself.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Mapping

from tradelib.live.patience import Sleep

__all__ = ["keep_notifying", "notify", "watchdog_seconds"]


def notify(state: str, environment: Mapping[str, str] | None = None) -> bool:
    """Send `state` ("READY=1", "WATCHDOG=1", "STOPPING=1"); False where nobody listens."""
    address = (os.environ if environment is None else environment).get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as sender:
        try:
            sender.sendto(state.encode(), address.replace("@", "\0", 1))
        except OSError:
            return False  # systemd's own timeout says so, louder
    return True


def watchdog_seconds(environment: Mapping[str, str] | None = None) -> float | None:
    """How often systemd wants to hear a sign of life at the latest; None where it does not ask for any."""
    told = (os.environ if environment is None else environment).get("WATCHDOG_USEC", "")
    return int(told) / 1e6 if told.isdigit() and int(told) else None


async def keep_notifying(
    ready: Callable[[], bool],
    alive: Callable[[], bool],
    environment: Mapping[str, str] | None = None,
    sleep: Sleep = asyncio.sleep,
) -> None:
    """READY once `ready()`, WATCHDOG while `alive()`, STOPPING when cancelled; ends at once without systemd."""
    if not notify("STATUS=starting", environment):
        return
    interval, said_ready = min((watchdog_seconds(environment) or 2.0) / 2.0, 1.0), False
    try:
        while True:
            if not said_ready and ready():
                said_ready = notify("READY=1\nSTATUS=trading", environment)
            if alive():
                notify("WATCHDOG=1", environment)
            await sleep(interval)
    finally:
        notify("STOPPING=1", environment)
