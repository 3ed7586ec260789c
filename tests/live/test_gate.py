"""The gate: what it refuses, in which order it asks, and what only reduces passes where refusing would leave risk."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from tradelib.bundle.trading.instructions import Instruction
from tradelib.live.gate import CAUSES, AccountLimits, GateView, OrderRate, judge
from tradelib.live.latch import Halt, Level, Scope
from tradelib.live.operations import refusal_body
from tradelib.live.settings import GateSettings
from tradelib.risk import Limits
from tradelib.risk.monitor import Verdict

SETTINGS = GateSettings(collar=0.05, maximum_notional=1_000.0, orders_per_minute=3, stale_bars=1.0, skew_seconds=1.0)
BUY = Instruction("entry", "market", "buy", 2.0)
SELL = Instruction("exit", "market", "sell", 2.0, reduces=True)
VIEW = GateView("trend", "BTC/USDT", close=100.0, price=101.0, step_seconds=60.0, age=5.0, skew=0.1, live=True)


def halt(level: Level) -> Halt:
    return Halt(Scope("account"), level, "alice", "looks wrong", "operator", 1, "")


def test_an_order_that_nothing_speaks_against_passes() -> None:
    assert judge(BUY, VIEW, SETTINGS).allowed
    assert judge(SELL, VIEW, SETTINGS).allowed


@pytest.mark.parametrize(
    ("order", "view", "cause", "figure", "threshold"),
    [
        (BUY, {"halt": halt(Level.REDUCE)}, "halted", math.nan, math.nan),
        (SELL, {"halt": halt(Level.STOP)}, "halted", math.nan, math.nan),
        (replace(BUY, quantity=math.nan), {}, "malformed", math.nan, 0.0),
        (replace(BUY, quantity=0.0), {}, "malformed", 0.0, 0.0),
        (replace(BUY, kind="limit"), {}, "malformed", math.nan, 0.0),
        (replace(BUY, kind="stop_limit", price=100.0, stop_price=-1.0), {}, "malformed", -1.0, 0.0),
        (BUY, {"price": math.inf}, "malformed", math.inf, 0.0),
        (BUY, {"age": 60.5}, "stale", 60.5, 60.0),
        (BUY, {"age": None}, "stale", math.nan, math.nan),
        (BUY, {"skew": -1.5}, "skewed", 1.5, 1.0),
        (BUY, {"skew": None}, "skewed", math.nan, math.nan),
        (BUY, {"price": 106.0}, "collar", 0.06, 0.05),
        (BUY, {"price": 94.0}, "collar", 0.06, 0.05),
        (replace(BUY, kind="limit", price=107.06), {}, "collar", 0.06, 0.05),
        (replace(SELL, kind="limit", price=94.94), {}, "collar", 0.06, 0.05),
        (replace(SELL, kind="stop_limit", stop_price=90.0, price=84.6), {}, "collar", 0.06, 0.05),
        (replace(BUY, quantity=10.0), {}, "notional", 1_010.0, 1_000.0),
        (BUY, {"sent": (3, 0)}, "order_rate", 3.0, 3.0),
        (SELL, {"sent": (0, 3)}, "order_rate", 3.0, 3.0),
    ],
)
def test_it_refuses_and_says_by_how_much(order, view, cause, figure, threshold) -> None:
    verdict = judge(order, replace(VIEW, **view), SETTINGS)

    assert not verdict.allowed
    assert verdict.cause == cause
    assert verdict.reason
    assert (verdict.figure, verdict.threshold) == pytest.approx((figure, threshold), nan_ok=True)


@pytest.mark.parametrize(
    ("order", "view"),
    [
        (SELL, {"halt": halt(Level.REDUCE)}),
        (SELL, {"age": 1e6}),
        (SELL, {"age": None, "skew": None}),
        (SELL, {"skew": 30.0}),
        (SELL, {"price": 50.0}),
        (replace(SELL, quantity=1e6), {}),
        (SELL, {"sent": (99, 0)}),
        (BUY, {"sent": (0, 99)}),
        (replace(BUY, kind="limit", price=50.0), {}),  # far below the market: it will not fill, and harms nobody
        (replace(SELL, kind="limit", price=500.0), {}),
        (replace(SELL, kind="stop", stop_price=20.0), {}),  # a protective stop may be as far away as it likes
    ],
)
def test_what_reduces_or_harms_nobody_passes(order, view) -> None:
    assert judge(order, replace(VIEW, **view), SETTINGS).allowed


def test_on_paper_a_recorded_market_has_no_age_and_no_skew() -> None:
    assert judge(BUY, replace(VIEW, age=None, skew=None, live=False), SETTINGS).allowed


def test_the_first_objection_is_told() -> None:
    everything = replace(VIEW, halt=halt(Level.STOP), age=1e6, skew=9.0, price=200.0, sent=(99, 99))

    assert judge(BUY, everything, SETTINGS).cause == "halted"
    assert judge(BUY, replace(everything, halt=None), SETTINGS).cause == "stale"
    assert CAUSES[0] == "halted"


def test_the_limits_are_asked_last_with_the_signed_quantity() -> None:
    asked = []

    def limits(quantity: float) -> Verdict:
        asked.append(quantity)
        return Verdict(False, "BTC/USDT", "maximum_exposure", 1.2, 1.0, "too much exposure")

    assert judge(BUY, replace(VIEW, age=1e6), SETTINGS, limits).cause == "stale"
    assert asked == []
    verdict = judge(BUY, VIEW, SETTINGS, limits)
    assert asked == [2.0]
    assert (verdict.cause, verdict.figure, verdict.threshold) == ("limits", 1.2, 1.0)
    assert verdict.reason == "BTC/USDT: too much exposure (1.2, threshold 1)"


def test_no_order_that_adds_passes_a_violated_threshold() -> None:
    """Given 5,000 seeded orders and views, whatever passes violates nothing, recomputed here by hand."""
    random, passed = np.random.default_rng(11), 0
    for _ in range(5_000):
        kind = random.choice(["market", "limit", "stop", "stop_limit"])
        price, stop = random.uniform(90, 110, 2)
        order = Instruction("x", kind, random.choice(["buy", "sell"]), random.uniform(0, 12), price, stop)
        view = replace(
            VIEW, price=random.uniform(90, 110), age=random.uniform(0, 80), skew=random.uniform(-1.3, 1.3),
            sent=(int(random.integers(0, 5)), 0), halt=halt(Level.REDUCE) if random.random() < 0.1 else None,
        )  # fmt: skip
        if not judge(order, view, SETTINGS).allowed:
            continue
        passed += 1
        sign = 1.0 if order.side == "buy" else -1.0
        reference = {"limit": view.price, "stop_limit": stop}.get(kind)
        assert view.halt is None
        assert view.age <= 60.0
        assert abs(view.skew) <= 1.0
        assert view.sent[0] < 3
        assert order.quantity * view.price <= 1_000.0
        assert kind != "market" or abs(view.price - 100.0) <= 5.0 + 1e-9
        assert reference is None or sign * (price - reference) <= 0.05 * reference + 1e-9
    assert passed > 500


def test_the_rate_counts_one_minute_adding_and_reducing_apart() -> None:
    rate = OrderRate()
    for second in (0.0, 10.0, 59.0):
        rate.note(second, reduces=False)
    rate.note(59.0, reduces=True)

    assert rate.sent(59.5) == (3, 1)
    assert rate.sent(60.0) == (2, 1)
    assert rate.sent(200.0) == (0, 0)


def test_a_refusal_reads_in_the_journal() -> None:
    body = refusal_body(BUY, "BTC/USDT", "2020-01-01T00:00:00+00:00", judge(BUY, replace(VIEW, age=None), SETTINGS))

    assert body == {
        "time": "2020-01-01T00:00:00+00:00", "symbol": "BTC/USDT", "leg": "entry", "rule": "stale",
        "reason": "how old its bar is was not measured", "figure": None, "threshold": None, "quantity": 2.0,
    }  # fmt: skip


# The account over all bundles

SYMBOLS = ("BTC/USDT", "ETH/USDT")


def closes(*rows: tuple[float, float]) -> pd.DataFrame:
    index = pd.date_range("2020-01-01", periods=len(rows), freq="h", tz="UTC")
    return pd.DataFrame(list(rows), columns=list(SYMBOLS), index=index)


def test_the_limits_of_the_account_see_what_all_bundles_hold() -> None:
    account = AccountLimits(Limits(maximum_exposure=0.5), SYMBOLS, 1_000.0, timeframe="1h")
    account.close(closes((100.0, 10.0)), 1_000.0, {"BTC/USDT": 3.0})

    ethereum, bitcoin = (replace(VIEW, symbol=symbol, close=price, price=price) for symbol, price in
                         (("ETH/USDT", 10.0), ("BTC/USDT", 100.0)))  # fmt: skip
    twenty = replace(BUY, quantity=20.0)

    assert judge(twenty, ethereum, SETTINGS, account.asks("ETH/USDT")).allowed  # 300 + 200 of 500
    assert judge(twenty, ethereum, SETTINGS, account.asks("ETH/USDT")).cause == "limits"  # the first one counts
    assert judge(replace(SELL, quantity=3.0), bitcoin, SETTINGS, account.asks("BTC/USDT")).allowed


def test_a_drawdown_of_the_account_trips_on_the_bar_that_makes_it() -> None:
    account = AccountLimits(Limits(maximum_drawdown=0.1), SYMBOLS, 1_000.0, timeframe="1h")
    equities = [1_000.0, 1_050.0, 960.0, 945.0, 940.0]  # 10 % below 1,050 is 945: reached, not passed

    tripped = [bool(account.close(closes((100.0, 10.0)), equity, {"BTC/USDT": 1.0})) for equity in equities]

    assert tripped == [False, False, False, True, False]
    assert judge(BUY, VIEW, SETTINGS, account.asks("BTC/USDT")).cause == "limits"
