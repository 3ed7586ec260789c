"""A runner that only lets itself be operated: what the control server's tests steer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from tradelib.live.control import RunnerStatus, TraderStatus
from tradelib.live.latch import Halt, Latch, Level, Scope

TRADER = TraderStatus(
    "trend",
    "BTC/USDT",
    "1d",
    "trend.sqlite",
    last_bar="2020-05-01T00:00:00+00:00",
    age=1.5,
    cash=900.0,
    position=2.0,
    equity=1_100.0,
    open_orders=1,
    held=("sell 2 stop 95",),
)


class OperableRunner:
    """An `Operable` with a real latch; `did` lists what it was asked to do."""

    def __init__(self, latch: Latch) -> None:
        self.latch = latch
        self.did: list[tuple[Any, ...]] = []
        self.state = RunnerStatus("running", "paper", "binance", "2026-01-01T00:00:00+00:00", 0.1, 1_100.0, (TRADER,))

    def status(self) -> RunnerStatus:
        return replace(self.state, halts=self.latch.halts)

    def orders(self) -> Sequence[Mapping[str, Any]]:
        return [{"bundle": "trend", "symbol": "BTC/USDT", "client_order_id": "c1", "status": "open", "quantity": 2.0}]

    def positions(self) -> Sequence[Mapping[str, Any]]:
        return [{"bundle": "trend", "symbol": "BTC/USDT", "position": 2.0, "price": 100.0, "value": 200.0}]

    async def halt(self, scope: Scope, who: str, why: str, level: Level) -> Halt:
        self.did.append(("halt", str(scope), who))
        return self.latch.halt(scope, who, why, level=level)

    async def arm(self, scope: Scope, who: str, role: str, why: str, numbers: Sequence[int]) -> Sequence[Halt]:
        self.did.append(("arm", str(scope), who, numbers))
        return self.latch.arm(scope, who, role, why, numbers=numbers)

    async def adjust(self, asset: str, amount: Decimal, who: str, why: str) -> Mapping[str, str]:
        self.did.append(("adjust", asset, amount, who))
        return {asset: format(amount, "f")}

    async def flatten(self, scope: Scope, who: str, why: str) -> Mapping[str, Any]:
        self.did.append(("flatten", str(scope), who))
        self.latch.halt(scope, who, why)
        return {"sent": 1}

    async def stop(self, policy: str | None, who: str, why: str) -> None:
        self.did.append(("stop", policy, who))
