"""Asking: what went wrong is a value, and only who is told to end ends."""

from __future__ import annotations

import asyncio

import pytest

from tradelib.live.patience import Failure, attempt


def test_a_connection_that_drops_who_waits_on_it_does_not_end_the_task_that_asked() -> None:
    """ccxt cancels the futures of a connection that it closes; the streams' tasks would end without a word."""

    async def ask() -> object:
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.cancel)
        return await attempt(future)

    found = asyncio.run(ask())
    assert isinstance(found, Failure)
    assert "gave the request up" in str(found.error)


def test_a_task_that_is_told_to_end_ends() -> None:
    async def run() -> None:
        task = asyncio.create_task(attempt(asyncio.Event().wait()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
