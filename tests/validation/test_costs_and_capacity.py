"""Cost and capacity curves: the engine's own figures at each point, roots in closed form, and nothing counted."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tradelib.backtest import (
    Costs,
    DecisionRule,
    Market,
    Order,
    Result,
    TrialLedger,
    run,
    run_orders,
    run_positions,
    run_signals,
    run_weights,
)
from tradelib.data import make_bars
from tradelib.errors import DataError, ParameterError
from tradelib.risk import Distance, Exits, Limits
from tradelib.strategies import TrendFollowing
from tradelib.validation import break_even_cost, capacity_curve, costs_and_capacity

COSTS = Costs(fee_rate=0.0004, slippage=0.0002, spread=0.0002)


def swings(bars: int = 400, seed: int = 0, drift: float = 0.0, volume: float = 1e6) -> pd.DataFrame:
    """A price that swings slowly, so that going along with it earns."""
    rng = np.random.default_rng(seed)
    close = 100.0 * np.exp(np.sin(np.arange(bars) / 5.0) * 0.02 + rng.normal(drift, 0.002, bars).cumsum() * 0.2)
    index = pd.date_range("2022-01-01", periods=bars, freq="D", tz="UTC", name="time")
    open_ = np.concatenate([close[:1], close[:-1]])
    frame = pd.DataFrame(
        {"open": open_, "high": np.maximum(open_, close), "low": np.minimum(open_, close), "close": close}, index
    )
    return make_bars(frame.assign(volume=volume), symbol="A/USDT", timeframe="1d", source="test", calendar="24/7")


def follow(bars: pd.DataFrame, costs: Costs = COSTS, **options: Any) -> Result:
    close = bars["close"]
    high, low = close > close.rolling(15).quantile(0.7), close < close.rolling(15).quantile(0.3)
    return run_signals(high, low, bars, size=0.5, costs=costs, **options)


RUNS: dict[str, Any] = {
    "signals": follow,
    "rule": lambda bars, costs=COSTS: run(
        DecisionRule(
            strategy=TrendFollowing(fast=3, slow=12),
            rebalance_band=0.05,
            exits=Exits(stop_loss=Distance(value=2.0, unit="atr"), atr_window=7),
            limits=Limits(daily_loss=0.02, maximum_drawdown=0.2),
        ),
        bars,
        costs=costs,
    ),
    "weights": lambda bars, costs=COSTS: run_weights(
        pd.Series(np.sin(np.arange(len(bars)) / 7.0) * 0.5, bars.index), bars, costs=costs, band=0.02
    ),
    "atr stops without a rule": lambda bars, costs=COSTS: follow(
        bars, costs, exits_policy=Exits(stop_loss=Distance(value=1.0, unit="atr"))
    ),
    "a daily loss without a rule": lambda bars, costs=COSTS: follow(bars, costs, limits=Limits(daily_loss=0.002)),
    "borrowing": lambda bars, costs=COSTS: run_weights(
        pd.Series(-0.5, bars.index), bars, costs=costs.replace(borrow_rate=0.1, interest_rate=0.1)
    ),
}


@pytest.mark.parametrize("kind", RUNS)
def test_a_multiple_is_what_the_engine_gives_for_it(kind: str) -> None:
    """Given a run of any kind, when its costs are tripled, then every figure is that of a run with triple costs."""
    bars = swings()
    result = RUNS[kind](bars)
    again = costs_and_capacity._run_again(result, result.costs.times(3.0), result.initial_cash)
    anew = RUNS[kind](bars, COSTS.times(3.0)) if kind != "borrowing" else None
    if anew is not None:
        assert again.equity.tolist() == anew.equity.tolist()
        assert again.metrics == pytest.approx(anew.metrics, rel=0, nan_ok=True)
    assert break_even_cost(result, [0.0, 1.0]).curve.loc[1.0, "sharpe_ratio"] == result.metrics["sharpe_ratio"]


@pytest.mark.parametrize(("weight", "kind"), [(-0.5, "borrow"), (1.5, "interest")])
def test_interest_and_borrowing_are_multiplied_too(weight: float, kind: str) -> None:
    """Sold short, the asset is borrowed; with leverage, the cash is."""
    bars, market = swings(), Market(maximum_leverage=2.0)
    costs = Costs(fee_rate=0.0, slippage=0.0, borrow_rate=0.1, interest_rate=0.1)
    runs = [
        run_weights(pd.Series(weight, bars.index), bars, costs=costs.times(times), market=market, band=None)
        for times in (1.0, 2.0)
    ]
    curve = break_even_cost(runs[0], [0.0, 1.0, 2.0]).curve
    assert curve["paid"].tolist() == [0.0, runs[0].costs_by_kind[kind], runs[1].costs_by_kind[kind]]
    assert curve["total_return"].iloc[2] == runs[1].metrics["total_return"] < curve["total_return"].iloc[0]


def test_the_break_even_of_one_trade_in_closed_form() -> None:
    """Buy at 100, sell at 110, fee f each way: nothing is left where 110 (1 - mf) = 100 (1 + mf): m = 10 / 210 f."""
    index = pd.date_range("2024-01-01", periods=5, freq="D", tz="UTC", name="time")
    price = pd.Series([100.0, 100.0, 110.0, 110.0, 110.0], index)
    open_ = price.shift(1, fill_value=100.0)
    frame = pd.DataFrame(
        {"open": open_, "high": np.maximum(open_, price), "low": np.minimum(open_, price), "close": price}
    )
    bars = make_bars(frame.assign(volume=1.0), symbol="A/USDT", timeframe="1d", source="test", calendar="24/7")
    positions = pd.Series([1.0, 1.0, 0.0, 0.0, 0.0], index)
    result = run_positions(positions, bars, costs=Costs(fee_rate=0.001, slippage=0.0), cash=1_000.0)
    found = break_even_cost(result, tolerance=1e-9)
    assert found.total_return.multiple == pytest.approx(10 / 210 / 0.001, rel=1e-8)
    assert found.total_return.basis_points == pytest.approx(1e4 * 10 / 210, rel=1e-8)
    assert found.total_return.crossings == (found.total_return.multiple,)
    assert found.basis_points == pytest.approx(10.0)


def test_nothing_is_counted() -> None:
    """A stress of the chosen rule chooses nothing: the ledger stays as it was."""
    bars = swings()
    result = follow(bars)
    before = TrialLedger().families()
    break_even_cost(result)
    capacity_curve(result)
    assert sum(before.values()) == 1
    assert TrialLedger().families() == before


def test_what_a_result_does_not_hold_must_be_passed() -> None:
    bars = swings()
    rates = pd.Series(0.001, bars.index)
    result = follow(bars, funding=rates)
    with pytest.raises(ParameterError, match="pass the finer bars and the funding"):
        break_even_cost(result)
    assert (
        break_even_cost(result, [1.0], funding=rates).curve.loc[1.0, "total_return"] == result.metrics["total_return"]
    )


def test_a_run_from_orders_is_run_again_by_its_owner() -> None:
    bars = swings()
    sides = ("buy", "sell")
    orders = [Order(time=bars.index[10 + 20 * i], side=sides[i % 2], quantity=50) for i in range(19)]

    def again(costs: Costs, cash: float) -> Result:
        return run_orders(orders, bars, costs=costs, cash=cash, ledger=TrialLedger(None))

    result = again(COSTS, 100_000.0)
    with pytest.raises(ParameterError, match="given orders"):
        break_even_cost(result)
    found = break_even_cost(result, [0.0, 2.0], rerun=again)
    assert found.curve.loc[2.0, "total_return"] == again(COSTS.times(2.0), 100_000.0).metrics["total_return"]
    with pytest.raises(ParameterError, match="under its own costs"):
        break_even_cost(result, rerun=lambda costs, cash: again(costs.times(1.5), cash))


def test_a_curve_that_falls_rises_and_falls() -> None:
    """All crossings are found, and the first downward one is the break-even."""
    wave = {m / 2: math.cos(m / 2 * math.pi) for m in range(9)}

    def value(multiple: float) -> float:
        return wave.get(multiple, math.cos(multiple * math.pi))

    grid = sorted(wave)
    assert costs_and_capacity._crossings(value, grid[::2], 1e-9) == pytest.approx([0.5, 1.5, 2.5, 3.5], rel=1e-6)
    assert costs_and_capacity._first_fall(value, grid, [0.5, 1.5, 2.5]) == 0.5


def test_words_for_every_outcome() -> None:
    bars = swings()
    earns, loses = break_even_cost(follow(bars)), break_even_cost(RUNS["borrowing"](swings(drift=0.01)))
    assert earns.sharpe_ratio.multiple > 1
    assert "Nothing is left at" in earns.interpretation
    assert loses.sharpe_ratio.multiple == 0.0
    assert "even without costs" in loses.interpretation
    tight = break_even_cost(follow(bars, COSTS.times(1.05 * earns.sharpe_ratio.multiple)))
    assert tight.sharpe_ratio.multiple < 1
    assert "That is too much" in tight.interpretation
    cheap = break_even_cost(follow(bars), [0.0, 1.0])
    assert cheap.sharpe_ratio.multiple == math.inf
    assert "every cost that was tried" in cheap.interpretation
    assert len(earns.plot().data) == 2
    assert "<table" in earns._repr_html_()
    assert "basis points" in earns.summary()


def test_what_break_even_refuses() -> None:
    bars = swings()
    result = follow(bars)
    for call, told in (
        (lambda: break_even_cost(follow(bars, Costs(fee_rate=0, slippage=0))), "all costs are zero"),
        (lambda: break_even_cost(bars), "not DataFrame"),  # type: ignore[arg-type]
        (lambda: break_even_cost(result, [-1.0]), "multiples must lie"),
        (lambda: break_even_cost(result, [1e6]), "meets its bound"),
        (lambda: break_even_cost(result, tolerance=2.0), "tolerance is 2.0"),
        (lambda: break_even_cost(run_weights(pd.Series(0.0, bars.index), bars)), "never traded"),
    ):
        with pytest.raises(ParameterError, match=told):
            call()


# Capacity -------------------------------------------------------------------------------------------------------------


def test_a_capital_is_what_the_engine_gives_for_it() -> None:
    """A row of the curve is a run with that capital and that impact, to the bit."""
    bars = swings()
    found = capacity_curve(follow(bars), [1e5, 1e7, 1e8], impact=0.02)
    anew = follow(bars, COSTS.replace(impact=0.02), cash=1e7)
    row = found.curve.loc[1e7]
    assert row["sharpe_ratio"] == anew.metrics["sharpe_ratio"]
    assert row["impact_paid"] == anew.costs_by_kind["impact"] > 0
    share = np.abs(anew.fills["quantity"]) / 1e6
    assert row["median_participation"] == pytest.approx(share.median())
    assert row["largest_participation"] == pytest.approx(share.max())
    assert row["profit_per_year"] == pytest.approx(1e7 * anew.metrics["annual_return"])


def test_the_square_root_law_scales_capacity() -> None:
    """Impact Y sigma sqrt(Q / V): twice the coefficient a quarter of the capital, twice the volume twice of it."""
    result = follow(swings())
    once, twice = capacity_curve(result, impact=0.01), capacity_curve(result, impact=0.02)
    liquid = capacity_curve(follow(swings(volume=2e6)), impact=0.01)
    assert 0.0 < once.capacity < math.inf
    assert twice.sharpe_capacity == pytest.approx(once.sharpe_capacity / 4, rel=0.01)
    assert liquid.sharpe_capacity == pytest.approx(once.sharpe_capacity * 2, rel=0.01)
    at = follow(swings(), COSTS.replace(impact=0.01), cash=once.sharpe_capacity)
    assert at.metrics["sharpe_ratio"] == pytest.approx(once.reference / 2, abs=0.02)
    assert once.reference == result.metrics["sharpe_ratio"]


def test_the_benchmark_ends_it_earlier() -> None:
    result = follow(swings())
    low, high = (capacity_curve(result, impact=0.01, benchmark=rate) for rate in (0.0, 0.08))
    assert high.return_capacity < low.return_capacity
    at = follow(swings(), COSTS.replace(impact=0.01), cash=high.return_capacity)
    assert at.metrics["annual_return"] == pytest.approx(0.08, abs=0.002)
    assert "benchmark" in high.interpretation or "halved" in high.interpretation


def test_the_usual_impact_is_the_volatility_of_the_bars() -> None:
    bars = swings()
    usual = capacity_curve(follow(bars), [1e5, 1e6])
    assert usual.impact["A/USDT"] == pytest.approx(bars["close"].pct_change().std())
    own = capacity_curve(follow(bars, COSTS.replace(impact=0.05)), [1e5, 1e6])
    assert own.impact["A/USDT"] == 0.05


def test_no_capacity_and_no_end_are_said() -> None:
    loses = capacity_curve(RUNS["borrowing"](swings(drift=0.01)))
    assert loses.capacity == 0.0
    assert "has no capacity" in loses.interpretation
    endless = capacity_curve(follow(swings()), [1e3, 1e4])
    assert endless.capacity == math.inf
    assert "bears all that was tried" in endless.interpretation
    found = capacity_curve(follow(swings()))
    assert len(found.plot().data) == 3
    assert "<table" in found._repr_html_()
    assert found.most_profitable in found.curve.index


def test_a_caller_runs_its_own_orders_with_impact() -> None:
    bars = swings()
    result = follow(bars)
    found = capacity_curve(
        result, [1e5, 1e7], impact=0.02, rerun=lambda costs, cash: follow(bars, costs, cash=cash, name="signals")
    )
    assert found.curve.equals(capacity_curve(result, [1e5, 1e7], impact=0.02).curve)


def test_what_capacity_refuses() -> None:
    bars = swings()
    result = follow(bars)
    with pytest.raises(DataError, match="the bars of A/USDT have no volume"):
        capacity_curve(follow(swings(volume=0.0)))
    with pytest.raises(ParameterError, match="do not grow with capital"):
        capacity_curve(run_positions(pd.Series(1.0, bars.index), bars))
    with pytest.raises(ParameterError, match="above 0 and below 10"):
        capacity_curve(result, impact=0.0)
    with pytest.raises(ParameterError, match="lacks A/USDT"):
        capacity_curve(result, impact=pd.Series({"B": 0.1}))
    with pytest.raises(ParameterError, match="two positive amounts"):
        capacity_curve(result, [1e5])
    with pytest.raises(ParameterError, match="not DataFrame"):
        capacity_curve(bars)  # type: ignore[arg-type]


def test_leverage_and_reduced_orders_survive_the_second_run() -> None:
    bars = swings()
    market = Market(maximum_leverage=2.0, insufficient_cash="reduce", lots_per_unit=100.0, minimum_notional=10.0)
    weights = pd.Series(np.where(np.arange(len(bars)) % 20 < 10, 1.9, -1.9), bars.index)
    result = run_weights(weights, bars, costs=COSTS.replace(impact=0.01), market=market, start=bars.index[50])
    assert break_even_cost(result, [1.0]).curve.loc[1.0, "total_return"] == result.metrics["total_return"]
