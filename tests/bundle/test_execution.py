"""The terms of trading: stated in full, in numbers and in exact decimals, with what a runner must be able to do."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from tradelib.backtest.costs import Costs, FeeTier, Market
from tradelib.bundle import Execution, needs_of
from tradelib.bundle.execution import NEEDS
from tradelib.errors import BundleError
from tradelib.risk import Exits, Limits, ScaleIn

PLAIN: dict[str, Any] = {
    "symbol": "BTC/USDT",
    "timeframe": "1h",
    "calendar": "24/7",
    "lots_per_unit": 1000.0,
    "minimum_notional": 5.0,
    "maximum_leverage": 1.0,
    "fee_rate": 0.001,
    "slippage": 0.0005,
    "cash": 10_000.0,
    "warmup": 20,
}
COSTS = Costs(
    fee_rate=0.0008,
    slippage=0.0003,
    maker_fee_rate=0.0002,
    spread=0.0004,
    impact=0.1,
    borrow_rate=0.05,
    interest_rate=0.06,
    fee_tiers=(FeeTier(volume=1e5, maker=0.0001, taker=0.0006), FeeTier(volume=1e6, maker=0.0, taker=0.0005)),
    tier_bars=720,
)
MARKET = Market(
    lots_per_unit=1e5,
    minimum_notional=5.5,
    maximum_leverage=3.0,
    insufficient_cash="reduce",
    maintenance_margin=0.05,
    liquidation_fee_rate=0.01,
)


def test_everything_that_research_assumed_goes_in_and_comes_back_through_json() -> None:
    """Given every cost and every term of the market away from its default, none is lost."""
    given = {**PLAIN, **COSTS.model_dump(), **MARKET.model_dump()}
    sealed = Execution.from_config(given)
    read = Execution.from_config(json.loads(json.dumps(sealed.to_config())))
    assert read == sealed
    assert (read.costs, read.market, read.cash) == (COSTS, MARKET, 10_000.0)
    for known in (Costs, Market):
        assert set(known.model_fields) <= set(read.to_config())


@pytest.mark.parametrize(
    ("lots_per_unit", "minimum_notional", "lot", "smallest"),
    [
        (1000.0, 5.0, "0.001", "5"),
        (1e8, 0.0, "0.00000001", "0"),
        (0.1, 0.30000000000000004, "10", "0.30000000000000004"),
        (1024.0, 1e-7, "0.0009765625", "0.0000001"),
        (1.0, 1e17, "1", "100000000000000000"),
        (0.0, 10.5, None, "10.5"),
        (3.0, 10.5, None, "10.5"),
    ],
)
def test_precision_is_said_in_exact_decimals(
    lots_per_unit: float, minimum_notional: float, lot: str | None, smallest: str
) -> None:
    terms = Execution(**{**PLAIN, "lots_per_unit": lots_per_unit, "minimum_notional": minimum_notional}, tick="0.01")
    assert terms.precision == {"tick": "0.01", "lot": lot, "minimum_notional": smallest}
    assert Execution.from_config(terms.to_config()) == terms


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"maker_fee_rate": "0.001"}, "maker_fee_rate must be a number from 0 to 0.5"),
        ({"spread": -0.001}, "spread must be a number"),
        ({"impact": True}, "impact must be a number"),
        ({"borrow_rate": float("nan")}, "borrow_rate must be a number"),
        ({"interest_rate": 11.0}, "interest_rate must be a number from 0 to 10"),
        ({"tier_bars": 0}, "tier_bars must be a whole number of bars"),
        ({"tier_bars": True}, "tier_bars must be a whole number of bars"),
        ({"insufficient_cash": "borrow"}, "insufficient_cash"),
        ({"maintenance_margin": 0.6, "maximum_leverage": 2.0}, "liquidates at once"),
        ({"liquidation_fee_rate": None}, "liquidation_fee_rate must be a number"),
        ({"fee_tiers": "none"}, "fee_tiers must be a list"),
        ({"fee_tiers": [{"volume": 1.0, "maker": 0.0}]}, "a fee tier must have exactly the fields"),
        ({"fee_tiers": [{"volume": 1.0, "maker": "0", "taker": 0.0}]}, "fee_tiers maker must be a number"),
        ({"fee_tiers": [{"volume": v, "maker": 0.0, "taker": 0.0} for v in (2.0, 1.0)]}, "must rise by volume"),
        ({"precision": {"tick": "0.010"}}, "tick must be a positive decimal text"),
        ({"precision": {"tick": "1e-2"}}, "tick must be a positive decimal text"),
        ({"precision": {"tick": "0"}}, "tick must be a positive decimal text"),
        ({"precision": {"tick": "Infinity"}}, "tick must be a positive decimal text"),
        ({"precision": {"tick": "NaN"}}, "tick must be a positive decimal text"),
        ({"precision": {"tick": 0.01}}, "tick must be a positive decimal text"),
        ({"precision": {"tick": None, "lot": "0.01", "minimum_notional": "5"}}, "is not that of its numbers"),
        ({"precision": []}, "is not that of its numbers"),
        ({"tick": "0.01"}, "must be exactly"),
        ({"fee": 0.001}, "must be exactly"),
        ({"warmup": 20.0}, "warmup must be a whole number"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(BundleError, match=told):
        Execution.from_config(PLAIN | changes)


def test_what_nobody_may_assume_must_be_given() -> None:
    for name in PLAIN:
        with pytest.raises(BundleError, match="must be exactly"):
            Execution.from_config({key: value for key, value in PLAIN.items() if key != name})


@pytest.mark.parametrize(
    ("policies", "terms", "needs"),
    [
        ({}, {}, ()),
        ({"exits": Exits(stop_loss=0.05)}, {}, ("exits",)),
        ({"exits": Exits(take_profit=0.05)}, {}, ("exits", "maker_orders")),
        ({"scale_in": ScaleIn()}, {}, ("scale_in",)),
        ({"scale_in": ScaleIn(direction="against")}, {}, ("scale_in", "maker_orders")),
        ({"limits": Limits(daily_loss=0.05)}, {}, ("limits",)),
        ({}, {}, ("short",)),
        ({}, {"maximum_leverage": 2.0}, ("leverage",)),
        ({}, {"insufficient_cash": "reduce"}, ("order_reduction",)),
        (
            {"exits": Exits(take_profit=0.1), "scale_in": ScaleIn(), "limits": Limits(cooldown=3)},
            {"maximum_leverage": 2.0, "insufficient_cash": "reduce"},
            tuple(NEEDS),
        ),
    ],
)
def test_what_a_runner_must_be_able_to_do(
    workshop: Any, policies: dict[str, Any], terms: dict[str, Any], needs: tuple[str, ...]
) -> None:
    rule = workshop.contents.rule.replace(rebalance_band=None, **policies)
    decisions = [{"target_weight": weight} for weight in (None, 0.5, -0.5 if "short" in needs else 0.0)]
    assert needs_of(rule, replace(workshop.contents.execution, **terms), decisions) == needs
