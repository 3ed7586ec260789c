"""What systemd hears, on a socket like its own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tradelib.live.sdnotify import keep_notifying, notify, watchdog_seconds


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[tuple[socket.socket, dict[str, str]]]:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(address)
        receiver.settimeout(5)
        yield receiver, {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "60000000"}


def test_ready_is_said_once_and_signs_of_life_only_while_it_lives(listener) -> None:
    receiver, environment = listener
    rounds = 0

    async def sleep(_: float) -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 4:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(keep_notifying(lambda: rounds >= 1, lambda: rounds != 2, environment, sleep))
    heard = [receiver.recv(100).decode() for _ in range(6)]

    assert heard == [
        "STATUS=starting", "WATCHDOG=1", "READY=1\nSTATUS=trading", "WATCHDOG=1", "WATCHDOG=1", "STOPPING=1",
    ]  # fmt: skip


def test_without_systemd_nothing_is_said(tmp_path: Path) -> None:
    asyncio.run(keep_notifying(lambda: True, lambda: True, {}))
    assert not notify("READY=1", {"NOTIFY_SOCKET": str(tmp_path / "nobody")})


@pytest.mark.parametrize(("told", "seconds"), [("60000000", 60.0), ("", None), ("0", None), ("x", None)])
def test_the_watchdog_period_is_read(told: str, seconds: float | None) -> None:
    assert watchdog_seconds({"WATCHDOG_USEC": told}) == seconds
