"""What the venue says of the account's orders by itself: a fill is known when it happens, not when it is asked for.

A stream repeats, reorders and loses, so its word is never the last one: a desk takes what is newer than what it knows
(`OrderDesk.hear`), and whoever trades is woken and asks over REST. After a connection was lost everybody asks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from tradelib.live.connection import describe_error
from tradelib.live.feeds import Tell
from tradelib.live.patience import Failure, Insistence, attempt
from tradelib.live.trader import Trader

__all__ = ["AccountStream"]


class AccountStream:
    """Orders and trades of the account from a ccxt.pro client, told to the traders that they belong to.

    `traders()`: everybody who trades at this moment. `tell` hears of lost connections.
    """

    def __init__(
        self, client: Any, insistence: Insistence, traders: Callable[[], Sequence[Trader]], tell: Tell
    ) -> None:
        self.heard = 0
        """Orders and trades that belonged to somebody."""
        self._client, self._insistence, self._traders, self._tell = client, insistence, traders, tell
        self._lost: set[str] = set()

    async def keep(self) -> None:
        """Listen until cancelled."""
        await asyncio.gather(
            self._watch("orders", self._client.watch_orders, self._take_order),
            self._watch("trades", self._client.watch_my_trades, self._take_trade),
        )

    async def _watch(
        self, name: str, question: Callable[[], Awaitable[list[Any]]], take: Callable[[dict[str, Any]], Awaitable[bool]]
    ) -> None:
        failed = 0
        while True:
            answer = await attempt(question())
            if isinstance(answer, Failure):
                self._lose(name, describe_error(answer.error))
                await self._insistence.sleep(self._insistence.pause(failed))
                failed += 1
                continue
            if failed:
                failed = 0
                self._find(name)
            for said in answer:
                self.heard += isinstance(said, dict) and await take(said)

    async def _take_order(self, said: dict[str, Any]) -> bool:
        return any([await trader.hear(said) for trader in self._traders_of(said)])

    async def _take_trade(self, said: dict[str, Any]) -> bool:
        return any([await trader.hear_trade(said) for trader in self._traders_of(said)])

    def _traders_of(self, said: dict[str, Any]) -> list[Trader]:
        return [trader for trader in self._traders() if trader.started and trader.symbol == said.get("symbol")]

    def _lose(self, name: str, why: str) -> None:
        if name not in self._lost:
            self._lost.add(name)
            self._tell("account stream", f"{name}: {why}; they are asked for instead")
        self._look_all()

    def _find(self, name: str) -> None:
        self._lost.discard(name)
        self._tell("account stream", f"{name}: back")
        self._look_all()

    def _look_all(self) -> None:
        for trader in self._traders():
            trader.look_again()
