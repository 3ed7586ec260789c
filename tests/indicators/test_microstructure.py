"""Microstructure: formulas quote by quote, and estimates of spreads that were planted."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tradelib._jit import interpreted
from tradelib.errors import DataError, ParameterError
from tradelib.indicators import (
    amihud_illiquidity,
    corwin_schultz,
    kyle_lambda,
    microprice,
    order_book_imbalance,
    order_flow_imbalance,
    quoted_spread,
    relative_spread,
    roll_spread,
)
from tradelib.indicators.microstructure import _moments


def quotes_of(n: int, seed: int) -> list[np.ndarray]:
    """Bid, ask and their sizes on a grid of ticks, so that prices repeat; some sizes are zero."""
    rng = np.random.default_rng(seed)
    bid = 1_000.0 + np.cumsum(rng.integers(-1, 2, n))
    return [
        bid,
        bid + rng.integers(1, 3, n),
        rng.integers(0, 30, n).astype(float),
        rng.integers(0, 30, n).astype(float),
    ]


def walk(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Closes, some of them unchanged, and volumes, some of them zero."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(0.0, 0.01, n) * (rng.random(n) > 0.1)
    volume = rng.integers(1, 1_000, n) * (rng.random(n) > 0.1).astype(float)
    return 50.0 * np.exp(np.cumsum(steps)), volume


def planted(spread: float, days: int, daily: float, seed: int = 0, gap: float = 0.0) -> list[np.ndarray]:
    """High, low, close of 390 trades a day at half a relative spread from an efficient price; `gap`: std overnight."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(0.0, daily / math.sqrt(390), (days, 390))
    steps[:, 0] += rng.normal(0.0, gap, days) if gap else 0.0
    trades = 100.0 * np.exp(steps.ravel().cumsum().reshape(days, 390))
    trades = trades * (1.0 + 0.5 * spread * rng.choice([-1.0, 1.0], trades.shape))
    return [trades.max(axis=1), trades.min(axis=1), trades[:, -1]]


# -- quotes ------------------------------------------------------------------------------------------------------------


def test_the_book_by_hand() -> None:
    """Three times as much is bid as asked: imbalance a half, and the price three quarters of the way to the ask."""
    bid, ask, bid_size, ask_size = (np.array([value]) for value in (99.0, 101.0, 30.0, 10.0))
    assert order_book_imbalance(bid_size, ask_size)[0] == 0.5
    assert microprice(bid, ask, bid_size, ask_size)[0] == 100.5
    assert quoted_spread(bid, ask)[0] == 2.0
    assert relative_spread(bid, ask)[0] == 0.02


@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-6, 1.0, 1e6]))
@settings(max_examples=50, deadline=None)
def test_quotes_keep_their_bounds_and_scales(seed: int, scale: float) -> None:
    bid, ask, bid_size, ask_size = quotes_of(40, seed)
    imbalance, price = order_book_imbalance(bid_size, ask_size), microprice(bid, ask, bid_size, ask_size)
    assert (np.abs(imbalance) <= 1.0).all()
    assert ((bid <= price) & (price <= ask)).all()
    np.testing.assert_allclose(price, (ask + bid) / 2 + imbalance * (ask - bid) / 2, rtol=1e-14)
    np.testing.assert_allclose(order_book_imbalance(bid_size * scale, ask_size * scale), imbalance, rtol=1e-13)
    np.testing.assert_allclose(relative_spread(bid * scale, ask * scale), relative_spread(bid, ask), rtol=1e-9)


def test_an_empty_book_leans_nowhere_and_crossed_quotes_are_shown() -> None:
    zero, bid, ask = np.zeros(2), np.array([100.0, 102.0]), np.array([101.0, 101.0])
    assert order_book_imbalance(zero, zero).tolist() == [0.0, 0.0]
    assert microprice(bid, ask, zero, zero).tolist() == [100.5, 101.5]
    assert quoted_spread(bid, ask).tolist() == [1.0, -1.0]
    assert relative_spread(bid, ask)[1] == pytest.approx(-1.0 / 101.5)


def test_quotes_that_cannot_be_are_named() -> None:
    bid, ask, bid_size, ask_size = quotes_of(10, 1)
    bid_size[4] = -3.0
    with pytest.raises(DataError, match=r"bid_size is -3.0 at row 4"):
        order_book_imbalance(bid_size, ask_size)
    with pytest.raises(DataError, match=r"bid_size is -3.0 at row 4"):
        microprice(bid, ask, bid_size, ask_size)
    with pytest.raises(DataError, match=r"ask_size is -3.0 at row 4"):
        order_flow_imbalance(bid, ask, ask_size, bid_size)
    with pytest.raises(DataError, match=r"ask_price is 0.0 at row 2: it has to be above zero"):
        relative_spread(bid, np.where(np.arange(10) == 2, 0.0, ask))


@pytest.mark.parametrize("window", [1, 2, 10, 33])
def test_order_flow_equals_its_formula_quote_by_quote(window: int) -> None:
    """Cont, Kukanov and Stoikov (2014), with all four indicator functions."""
    bid, ask, bid_size, ask_size = quotes_of(200, seed=window)
    events = np.zeros(200)
    for n in range(1, 200):
        events[n] = (
            (bid[n] >= bid[n - 1]) * bid_size[n]
            - (bid[n] <= bid[n - 1]) * bid_size[n - 1]
            - (ask[n] <= ask[n - 1]) * ask_size[n]
            + (ask[n] >= ask[n - 1]) * ask_size[n - 1]
        )
    expected = [math.nan if n < window else events[n - window + 1 : n + 1].sum() for n in range(200)]
    np.testing.assert_array_equal(order_flow_imbalance(bid, ask, bid_size, ask_size, window), expected)


def test_buying_and_selling_are_mirror_images() -> None:
    bid, ask, bid_size, ask_size = quotes_of(100, 3)
    flow = order_flow_imbalance(bid, ask, bid_size, ask_size)
    np.testing.assert_array_equal(order_flow_imbalance(-ask, -bid, ask_size, bid_size), -flow)
    np.testing.assert_array_equal(order_book_imbalance(ask_size, bid_size), -order_book_imbalance(bid_size, ask_size))


def recorded_quotes(folder: Path) -> pd.DataFrame:
    """Best quotes of a recorded websocket, six minutes of BTCUSDT."""
    rows = []
    with gzip.open(folder / "microstructure" / "binance_usdm_btcusdt_20240808.gz", "rt") as lines:
        for text in lines:
            if '"btcusdt@bookTicker"' in text:
                quote = json.loads(text.partition(" ")[2])["data"]
                rows.append([float(quote[key]) for key in ("b", "a", "B", "A")])
    return pd.DataFrame(rows, columns=["bid_price", "ask_price", "bid_size", "ask_size"])


@pytest.mark.real_data
def test_on_recorded_quotes_imbalance_and_microprice_tell_the_next_move(real_data: Path) -> None:
    """Given the 2,026 quotes right before the mid moves, then a heavy side was right six times out of seven."""
    book = recorded_quotes(real_data)
    quotes = [book[name] for name in book]
    mid, price = (book["bid_price"] + book["ask_price"]) / 2, microprice(*quotes)
    assert len(book) == 66_089
    assert (price >= book["bid_price"]).all()
    assert (price <= book["ask_price"]).all()
    assert (quoted_spread(*quotes[:2]) > 0).all()
    move = mid.shift(-1) - mid  # looked up afterwards
    last, imbalance = move.fillna(0.0) != 0.0, order_book_imbalance(*quotes[2:])
    heavy = last & (imbalance.abs() > 0.5)
    assert last.sum() == 2_026
    assert (np.sign(imbalance) == np.sign(move))[heavy].mean() > 0.85
    assert (np.sign(price - mid) == np.sign(imbalance)).all()


@pytest.mark.real_data
def test_on_recorded_quotes_order_flow_explains_price_changes(real_data: Path) -> None:
    """As in the paper, at the same time: the correlation over a hundred quotes is high, and above zero."""
    book = recorded_quotes(real_data)
    flow = order_flow_imbalance(*(book[name] for name in book), window=100)
    change = ((book["bid_price"] + book["ask_price"]) / 2).diff(100)
    assert flow.iloc[100::100].corr(change.iloc[100::100]) > 0.5


# -- covariances of a window -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [2, 3, 20, 64, 101])
@pytest.mark.parametrize("level", [0.0, 1e6])
def test_no_digits_cancel_in_a_covariance(window: int, level: float) -> None:
    x, y = level + np.random.default_rng(window).normal(0.0, 0.01, (2, 1_500))
    covariance, variance = _moments(x, y, window, 0)
    wx, wy = (np.lib.stride_tricks.sliding_window_view(z.astype(np.longdouble), window) for z in (x, y))
    dx, dy = wx - wx.mean(axis=1, keepdims=True), wy - wy.mean(axis=1, keepdims=True)
    exact, scale = (dx * dy).sum(axis=1) / (window - 1), 1e-4
    assert np.abs(covariance[window - 1 :] - exact).max() < 1e-13 * scale
    assert np.abs(variance[window - 1 :] / ((dy * dy).sum(axis=1) / (window - 1)) - 1).max() < 1e-13


@pytest.mark.parametrize("length", [0, 1, 19, 20, 21, 1_043, 1_044, 1_045, 5_000])
def test_a_covariance_is_blank_until_its_window_is_full(length: int) -> None:
    x = np.random.default_rng(0).normal(size=length)
    known = np.isfinite(_moments(x, x, 20, 0)[0])
    np.testing.assert_array_equal(known, np.arange(length) >= 19)


# -- Roll --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [2, 3, 20, 60])
def test_roll_equals_its_formula(window: int) -> None:
    close, _ = walk(300, seed=window)
    returns, expected = pd.Series(close).pct_change(), np.full(300, np.nan)
    for t in range(window + 1, 300):
        pairs = np.array([(returns[i], returns[i - 1]) for i in range(t - window + 1, t + 1)])
        covariance = np.cov(pairs.T, ddof=1)[0, 1]
        expected[t] = 2 * math.sqrt(-covariance) if covariance < 0 else 0.0
    np.testing.assert_allclose(roll_spread(close, window), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("spread", [0.002, 0.01, 0.03])
def test_roll_recovers_a_planted_spread(spread: float) -> None:
    """Given 20,000 trades that bounce around a quiet price, then within 3 % of the spread."""
    rng = np.random.default_rng(7)
    efficient = 100.0 * np.exp(np.cumsum(rng.normal(0.0, 0.0003, 20_000)))
    trades = efficient * (1.0 + 0.5 * spread * rng.choice([-1.0, 1.0], 20_000))
    assert roll_spread(trades, 19_000)[-1] == pytest.approx(spread, rel=0.03)


def test_where_prices_go_on_there_is_no_bounce() -> None:
    """A trend whose steps grow: positive covariance; a price that stands still: none."""
    trending = np.exp(np.cumsum(np.linspace(0.0, 0.02, 60)))
    assert (roll_spread(trending, 20)[21:] == 0.0).all()
    assert np.isnan(roll_spread(trending, 20, positive_covariance="nan")).all()
    assert (roll_spread(np.full(60, 3.0), 20)[21:] == 0.0).all()
    assert roll_spread(trending * 7.0, 20)[30] == roll_spread(trending, 20)[30]


def test_roll_does_not_depend_on_the_unit_of_the_price() -> None:
    close, _ = walk(200, 5)
    np.testing.assert_array_equal(roll_spread(close * 1024.0), roll_spread(close))


# -- Corwin and Schultz ------------------------------------------------------------------------------------------------


def by_the_paper(high: np.ndarray, low: np.ndarray, close: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two-day spread and volatility with the constants as printed, and gaps between days taken out, bar by bar."""
    spread, sigma = np.full(len(close), np.nan), np.full(len(close), np.nan)
    k2, denominator = math.sqrt(8 / math.pi), 3 - 2 * math.sqrt(2)
    for t in range(1, len(close)):
        top, bottom = high[t], low[t]
        if bottom > close[t - 1]:
            top, bottom = top - (bottom - close[t - 1]), close[t - 1]
        elif top < close[t - 1]:
            top, bottom = close[t - 1], bottom + (close[t - 1] - top)
        beta = math.log(high[t - 1] / low[t - 1]) ** 2 + math.log(top / bottom) ** 2
        gamma = math.log(max(high[t - 1], top) / min(low[t - 1], bottom)) ** 2
        alpha = (math.sqrt(2 * beta) - math.sqrt(beta)) / denominator - math.sqrt(gamma / denominator)
        spread[t] = 2 * (math.exp(alpha) - 1) / (1 + math.exp(alpha))
        sigma[t] = (2**-0.5 - 1) * math.sqrt(beta) / (k2 * denominator) + math.sqrt(gamma / (k2**2 * denominator))
    return spread, sigma


@pytest.mark.parametrize("window", [1, 2, 20])
def test_corwin_schultz_equals_the_equations_of_the_paper(window: int) -> None:
    bars = planted(0.01, 250, 0.02, seed=window, gap=0.02)
    for rule, ours in (
        (rule, corwin_schultz(*bars, window, negative=rule)) for rule in ("zero", "zero_average", "keep")
    ):
        for printed, found in zip(by_the_paper(*bars), ours, strict=True):
            values = np.maximum(printed, 0.0) if rule == "zero" else printed
            expected = pd.Series(values).rolling(window).mean().to_numpy()
            expected = np.maximum(expected, 0.0) if rule == "zero_average" else expected
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("spread", [0.005, 0.01, 0.03, 0.05, 0.08])
def test_corwin_schultz_recovers_a_planted_spread_and_volatility(spread: float) -> None:
    """Without a rule for negative values: within 0.2 percentage points and 5 % (3,000 days of 390 trades)."""
    found = corwin_schultz(*planted(spread, 3_000, 0.02), 2_999, negative="keep")
    assert found.spread[-1] == pytest.approx(spread, abs=0.002)
    assert found.volatility[-1] == pytest.approx(0.02, rel=0.05)


def test_setting_negative_estimates_to_zero_biases_small_spreads_upwards() -> None:
    bars = planted(0.0, 1_500, 0.02)
    found = {rule: corwin_schultz(*bars, 1_499, negative=rule).spread[-1] for rule in ("zero", "zero_average", "keep")}
    assert found["zero"] > 0.005
    assert found["keep"] <= found["zero_average"] < 0.002


def test_most_of_what_happens_overnight_is_taken_out() -> None:
    """Given gaps of 10 % between days: left in, they put the estimate off by 17 %; taken out, by less than 2 %."""
    bars = planted(0.01, 3_000, 0.01, gap=0.10)
    adjusted = corwin_schultz(*bars, 2_999, negative="keep").spread[-1]
    raw = corwin_schultz(*bars, 2_999, negative="keep", overnight=False).spread[-1]
    assert raw < -0.15
    assert adjusted == pytest.approx(0.01, abs=0.02)


def test_bars_without_a_range_have_neither_spread_nor_volatility() -> None:
    flat = np.full(30, 5.0)
    assert [values[-1] for values in corwin_schultz(flat, flat, flat)] == [0.0, 0.0]
    stepping = 5.0 + np.arange(30.0)  # every move is a gap
    assert [values[-1] for values in corwin_schultz(stepping, stepping, stepping)] == [0.0, 0.0]


@pytest.mark.parametrize(
    ("function", "parameters", "match"),
    [
        (roll_spread, {"positive_covariance": "abs"}, "'zero' or 'nan'"),
        (roll_spread, {"window": 1}, "at least 2"),
        (kyle_lambda, {"window": 1}, "at least 2"),
        (corwin_schultz, {"negative": "drop"}, "'zero', 'zero_average' or 'keep'"),
        (amihud_illiquidity, {"window": 0}, "window"),
    ],
)
def test_parameters_are_refused_in_words(function: Any, parameters: dict[str, Any], match: str) -> None:
    inputs = {roll_spread: 1, kyle_lambda: 2, amihud_illiquidity: 2, corwin_schultz: 3}[function]
    with pytest.raises(ParameterError, match=match):
        function(*(np.ones(10) for _ in range(inputs)), **parameters)


@pytest.mark.parametrize("function", [roll_spread, corwin_schultz, amihud_illiquidity])
@pytest.mark.parametrize("price", [0.0, -1.0])
def test_a_return_needs_prices_above_zero(function: Any, price: float) -> None:
    inputs = {roll_spread: 1, amihud_illiquidity: 2, corwin_schultz: 3}[function]
    columns = [np.full(40, 2.0) for _ in range(inputs)]
    columns[0][7] = price
    with pytest.raises(DataError, match=f"is {price} at row 7: it has to be above zero"):
        function(*columns)


# -- Amihud and Kyle ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [1, 2, 20, 45])
def test_amihud_equals_its_formula(window: int) -> None:
    """Amihud (2002), equation 1: the mean over the days on which something was traded."""
    close, volume = walk(250, seed=window)
    expected = np.full(250, np.nan)
    for t in range(window, 250):
        days = [i for i in range(t - window + 1, t + 1) if volume[i] > 0]
        ratios = [abs(close[i] / close[i - 1] - 1) / (close[i] * volume[i]) for i in days]
        expected[t] = np.mean(ratios) if ratios else math.nan
    np.testing.assert_allclose(amihud_illiquidity(close, volume, window), expected, rtol=1e-12)


def test_amihud_by_hand() -> None:
    """1 % on 1,010 traded, 1 % on 1,999.80, nothing traded, 5 % on 524.95."""
    close, volume = np.array([100.0, 101.0, 99.99, 99.99, 104.9895]), np.array([50.0, 10.0, 20.0, 0.0, 5.0])
    expected = (0.01 / 1_010.0 + 0.01 / 1_999.8 + 0.05 / 524.9475) / 3
    assert amihud_illiquidity(close, volume, 4)[-1] == pytest.approx(expected, rel=1e-12)
    assert np.isnan(amihud_illiquidity(close, volume * 0.0, 2)).all()


def test_twice_the_money_halves_illiquidity() -> None:
    close, volume = walk(100, 2)
    np.testing.assert_array_equal(amihud_illiquidity(close, volume * 2.0), amihud_illiquidity(close, volume) / 2.0)


@pytest.mark.parametrize("window", [2, 3, 20])
def test_lambda_is_the_slope_of_a_regression(window: int) -> None:
    close, volume = walk(250, seed=window)
    change = np.diff(close, prepend=np.nan)
    signed, expected = np.sign(change) * volume, np.full(250, np.nan)
    for t in range(window, 250):
        x, y = signed[t - window + 1 : t + 1], change[t - window + 1 : t + 1]
        if np.ptp(x) > 0:
            expected[t] = np.polyfit(x, y, 1)[0]
    np.testing.assert_allclose(kyle_lambda(close, volume, window), expected, rtol=1e-7, atol=1e-12)


def test_lambda_recovers_a_planted_impact() -> None:
    """Given prices that move 0.002 per unit of net demand and by noise, then within 1 %."""
    rng = np.random.default_rng(5)
    demand = rng.normal(0.0, 1_000.0, 5_000)
    close = 1e4 + np.cumsum(0.002 * demand + rng.normal(0.0, 0.05, 5_000))
    assert np.nanmean(kyle_lambda(close, np.abs(demand), 250)) == pytest.approx(0.002, rel=0.01)
    assert np.isnan(kyle_lambda(close, np.zeros(5_000), 250)).all()


# -- all of them -------------------------------------------------------------------------------------------------------

ALL = {
    "order_flow_imbalance": lambda n: order_flow_imbalance(*quotes_of(n, 4), 25),
    "microprice": lambda n: microprice(*quotes_of(n, 4)),
    "roll_spread": lambda n: roll_spread(walk(n, 4)[0], 25),
    "spread": lambda n: corwin_schultz(*planted(0.01, n, 0.02), 25).spread,
    "volatility": lambda n: corwin_schultz(*planted(0.01, n, 0.02), 25).volatility,
    "amihud_illiquidity": lambda n: amihud_illiquidity(*walk(n, 4), 25),
    "kyle_lambda": lambda n: kyle_lambda(*walk(n, 4), 25),
}


@pytest.mark.parametrize("name", ALL)
def test_interpreted_as_compiled_across_blocks(name: str) -> None:
    compiled = ALL[name](1_300)
    with interpreted():
        np.testing.assert_array_equal(ALL[name](1_300), compiled)


@pytest.mark.parametrize(
    ("function", "inputs"),
    [(roll_spread, 1), (amihud_illiquidity, 2), (kyle_lambda, 2), (lambda *c: corwin_schultz(*c)[0], 3)],
)
def test_a_window_knows_nothing_of_what_was_before_it(function: Any, inputs: int) -> None:
    close, volume = walk(3_000, 8)
    columns = [[close], [close, volume], [close * 1.01, close * 0.99, close]][inputs - 1]
    late = function(*(column[1_234:] for column in columns))
    np.testing.assert_array_equal(late[22:], function(*columns)[1_234 + 22 :])
