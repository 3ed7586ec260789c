"""Information bars: each rule against a plain loop, nothing lost on the way, and times that keep the contract."""

import gzip
import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tradelib._jit import interpreted
from tradelib.errors import DataError, ParameterError
from tradelib.features import (
    dollar_bars,
    imbalance_bars,
    probe_trades,
    run_bars,
    tick_bars,
    tick_rule,
    volume_bars,
)

TRADES = probe_trades(2_000, seed=7)
STANDARD = {"tick": (tick_bars, 37), "volume": (volume_bars, 500.0), "dollar": (dollar_bars, 60_000.0)}
EXPECTED = {"tick": 0.4, "volume": 4.0, "dollar": 400.0}


def table(size, price=None, side=None, seconds=None):
    """Trades a second apart."""
    n = len(size)
    time = pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(range(n) if seconds is None else seconds, unit="s")
    trades = pd.DataFrame({"time": time, "price": np.full(n, 10.0) if price is None else price, "size": size})
    return trades if side is None else trades.assign(side=side)


def amounts_of(trades, measure):
    kinds = {"tick": np.ones(len(trades)), "volume": trades["size"], "dollar": trades["size"] * trades["price"]}
    return np.asarray(kinds[measure], dtype=float)


def ends_by_threshold(amounts, threshold):
    """The rule as it is written: add until the threshold is reached, then begin anew from nothing."""
    ends, held = [], 0.0
    for row, amount in enumerate(amounts):
        held += amount
        if held >= threshold * (1 - 1e-12):
            ends.append(row)
            held = 0.0
    return ends


def bars_by_hand(trades, ends):
    """Each bar out of its own slice of the trades."""
    price, size = trades["price"].to_numpy(), trades["size"].to_numpy()
    rows, start = [], 0
    for end in ends:
        p, s = price[start : end + 1], size[start : end + 1]
        value = float(p @ s)
        rows.append((p[0], p.max(), p.min(), p[-1], s.sum(), len(p), value, value / s.sum()))
        start = end + 1
    return pd.DataFrame(rows, columns=["open", "high", "low", "close", "volume", "trades", "dollar_value", "vwap"])


def assert_bars(bars, trades, ends):
    expected = bars_by_hand(trades, ends)
    assert len(bars) == len(expected) > 1
    np.testing.assert_allclose(bars[expected.columns].to_numpy(), expected.to_numpy(), rtol=1e-12)
    assert bars.attrs["partial_trades"] == len(trades) - ends[-1] - 1


# -- tick, volume, dollar ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("measure", STANDARD)
def test_bars_equal_the_loop(measure):
    function, threshold = STANDARD[measure]
    assert_bars(function(TRADES, threshold), TRADES, ends_by_threshold(amounts_of(TRADES, measure), threshold))


def test_reaching_the_threshold_is_enough_and_nothing_is_carried_over():
    """3 + 1 reaches 4; 3 + 3 is 6, and the 2 too much are not in the next bar; the last 3 are no bar."""
    bars = volume_bars(table([3.0, 1.0, 3.0, 3.0, 3.0, 1.0, 3.0]), 4.0)
    assert bars["volume"].tolist() == [4.0, 6.0, 4.0]
    assert bars["trades"].tolist() == [2, 2, 2]
    assert bars.attrs == {"rule": "volume >= 4", "partial_trades": 1}


def test_one_trade_above_the_threshold_is_one_bar():
    assert volume_bars(table([9.0, 1.0, 3.0]), 4.0)["volume"].tolist() == [9.0, 4.0]


@pytest.mark.parametrize("size", [0.1, 0.3, 0.7, 1.1])
def test_a_sum_of_decimals_reaches_its_decimal(size):
    """0.1 + 0.1 + ... ten times is 0.9999999999999999 in floating point."""
    assert volume_bars(table([size] * 30), round(10 * size, 10))["trades"].tolist() == [10, 10, 10]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=150), st.integers(1, 120))
@settings(max_examples=60, deadline=None)
def test_volume_in_is_volume_out_and_the_partial_last_bar(sizes, threshold):
    trades = table(np.array(sizes, dtype=float))
    bars = volume_bars(trades, threshold)
    left = trades.tail(bars.attrs["partial_trades"])
    assert bars["volume"].sum() + left["size"].sum() == sum(sizes)
    assert bars["trades"].sum() + len(left) == len(sizes)
    assert left["size"].sum() < threshold
    assert (bars["volume"] >= threshold).all()
    assert (bars["volume"] - threshold < max(sizes)).all()


@pytest.mark.parametrize("measure", STANDARD)
@pytest.mark.parametrize("cut", [1, 36, 37, 38, 1_000, 1_999])
def test_bars_of_the_past_do_not_change(measure, cut):
    function, threshold = STANDARD[measure]
    bars, early = function(TRADES, threshold), function(TRADES.head(cut), threshold)
    pd.testing.assert_frame_equal(early, bars.head(len(early)), check_exact=True)
    assert len(early) == bars["trades"].cumsum().searchsorted(cut, side="right")


# -- times -------------------------------------------------------------------------------------------------------------


def test_bars_that_begin_together_are_told_apart_by_nanoseconds():
    """Seconds of the trades: 0 0 0 0 0 1; a bar each. Closes are never before the stamp."""
    bars = tick_bars(table(np.ones(6), seconds=[0, 0, 0, 0, 0, 1]), 1)
    start = pd.Timestamp("2024-01-01", tz="UTC").value
    assert (bars.index.asi8 - start).tolist() == [0, 1, 2, 3, 4, 1_000_000_000]
    assert (pd.DatetimeIndex(bars["close_time"]).asi8 - start).tolist() == [0, 1, 2, 3, 4, 1_000_000_000]


def test_the_index_keeps_the_contract_of_bars():
    bars = volume_bars(TRADES, 60.0)
    assert TRADES["time"].duplicated().any()
    assert bars.index.is_monotonic_increasing
    assert bars.index.is_unique
    assert (str(bars.index.tz), bars.index.name) == ("UTC", "time")
    assert (bars["close_time"] >= bars.index).all()
    assert bars["close_time"].is_monotonic_increasing
    assert list(bars.columns[:5]) == ["open", "high", "low", "close", "volume"]
    assert (bars.dtypes.iloc[:5] == np.float64).all()
    assert (bars["high"] >= bars[["open", "close"]].max(axis=1)).all()
    assert (bars["low"] <= bars[["open", "close"]].min(axis=1)).all()


def test_times_may_stand_in_the_index_and_in_another_zone():
    given_times = TRADES.assign(time=TRADES["time"].dt.tz_convert("Asia/Tokyo").dt.as_unit("us")).set_index("time")
    pd.testing.assert_frame_equal(tick_bars(given_times, 40), tick_bars(TRADES, 40), check_exact=True)


def test_symbol_and_source_travel():
    trades = TRADES.copy()
    trades.attrs = {"symbol": "XBT", "source": "probe", "other": 1}
    attrs = dollar_bars(trades, 1e5).attrs
    assert (attrs["symbol"], attrs["source"], attrs["rule"]) == ("XBT", "probe", "dollar >= 100000")
    assert "other" not in attrs


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_trades_are_no_bar(count):
    for bars in (
        tick_bars(TRADES.head(count), 2),
        imbalance_bars(TRADES.head(count), expected_trades=10, expected_imbalance=10.0),
        run_bars(TRADES.head(count), expected_trades=10, expected_buy=9.0, expected_sell=9.0),
    ):
        assert len(bars) == 0
        assert bars.attrs["partial_trades"] == count


# -- who was in a hurry ------------------------------------------------------------------------------------------------


def test_the_tick_rule_of_a_worked_path():
    """Unknown until the first move; an unchanged price keeps the sign."""
    price = pd.Series([10.0, 10.0, 10.1, 10.1, 10.0, 10.0, 10.0, 10.3])
    assert tick_rule(price).tolist() == [0, 0, 1, 1, -1, -1, -1, 1]
    assert np.isnan(tick_rule(np.array([np.nan, 1.0, 2.0]))[0])
    assert tick_rule(np.array([np.nan, 1.0, 2.0]))[1:].tolist() == [0, 1]


def test_the_tick_rule_is_the_last_sign_that_was_not_zero():
    price = TRADES["price"]
    expected = np.sign(price.diff()).replace(0.0, np.nan).ffill().fillna(0.0)
    np.testing.assert_array_equal(tick_rule(price), expected)


def by_imbalance(trades, signs, measure, expected_trades, expected_imbalance, bars_span, trades_span, bounds):
    """AFML 2.3.2.1 in lists: EWMA of bar lengths, EWMA of signed amounts, both as of the end of the bar before."""
    signed = signs * amounts_of(trades, measure)
    length, mean, ends, found, since, theta = expected_trades, expected_imbalance, [], [], 0, 0.0
    threshold = length * abs(mean)
    for row, amount in enumerate(signed):
        theta += amount
        since += 1
        mean = mean + 2 / (trades_span + 1) * (amount - mean)
        if abs(theta) >= threshold:
            ends.append(row)
            found.append((theta, threshold))
            length = min(max(length + 2 / (bars_span + 1) * (since - length), bounds[0]), bounds[1])
            threshold, since, theta = length * abs(mean), 0, 0.0
    return ends, np.array(found)


@pytest.mark.parametrize("measure", EXPECTED)
@pytest.mark.parametrize("bounds", [None, (20, 200)])
@pytest.mark.parametrize("spans", [(20, 1_000), (3, 50), (math.inf, math.inf)])
def test_imbalance_bars_equal_the_loop(measure, bounds, spans):
    settings_ = {"expected_trades": 30, "expected_imbalance": EXPECTED[measure]}
    settings_ |= {"bars_span": spans[0], "trades_span": spans[1]}
    for trades, signs in (
        (TRADES, TRADES["side"].to_numpy()),
        (TRADES.drop(columns="side"), tick_rule(TRADES["price"].to_numpy())),
    ):
        bars = imbalance_bars(trades, measure, **settings_, bounds=bounds)
        ends, found = by_imbalance(trades, signs, measure, **settings_, bounds=bounds or (0, math.inf))
        assert_bars(bars, trades, ends)
        np.testing.assert_allclose(bars[["imbalance", "threshold"]].to_numpy(), found, rtol=1e-9, atol=1e-9)


def test_constant_expectations_are_a_constant_threshold():
    """Bought 2, 2, sold 1, bought 2: 5 of 5 on the fourth trade; then sold 5 at once."""
    trades = table([2.0, 2.0, 1.0, 2.0, 5.0, 1.0], side=[1, 1, -1, 1, -1, 1])
    forever = {"bars_span": math.inf, "trades_span": math.inf}
    bars = imbalance_bars(trades, expected_trades=10, expected_imbalance=0.5, **forever)
    assert bars["imbalance"].tolist() == [5.0, -5.0]
    assert bars["threshold"].tolist() == [5.0, 5.0]


def by_runs(trades, signs, measure, expected_trades, expected_buy, expected_sell, bars_span, trades_span):
    """AFML 2.3.2.3: the larger of bought and sold against E[T] times the larger of their means per trade."""
    amounts = amounts_of(trades, measure)
    length, means, sums, ends, since = expected_trades, [expected_buy, expected_sell], [0.0, 0.0], [], 0
    threshold = length * max(means)
    for row, (amount, sign) in enumerate(zip(amounts, signs, strict=True)):
        new = [amount if sign > 0 else 0.0, amount if sign < 0 else 0.0]
        sums = [held + more for held, more in zip(sums, new, strict=True)]
        means = [mean + 2 / (trades_span + 1) * (more - mean) for mean, more in zip(means, new, strict=True)]
        since += 1
        if max(sums) >= threshold:
            ends.append(row)
            length += 2 / (bars_span + 1) * (since - length)
            threshold, since, sums = length * max(means), 0, [0.0, 0.0]
    return ends


@pytest.mark.parametrize("measure", EXPECTED)
@pytest.mark.parametrize("spans", [(20, 1_000), (math.inf, math.inf)])
def test_run_bars_equal_the_loop(measure, spans):
    settings_ = {"expected_trades": 60, "expected_buy": EXPECTED[measure], "expected_sell": 0.9 * EXPECTED[measure]}
    settings_ |= {"bars_span": spans[0], "trades_span": spans[1]}
    bars = run_bars(TRADES, measure, **settings_)
    assert_bars(bars, TRADES, by_runs(TRADES, TRADES["side"], measure, **settings_))
    assert (bars["run"] >= bars["threshold"]).all()


@pytest.mark.parametrize("cut", [1, 500, 1_555])
def test_bars_of_what_was_bought_do_not_change_either(cut):
    for function, more in (
        (imbalance_bars, {"expected_imbalance": 4.0}),
        (run_bars, {"expected_buy": 4.0, "expected_sell": 4.0}),
    ):
        bars, early = (function(trades, expected_trades=60, **more) for trades in (TRADES, TRADES.head(cut)))
        pd.testing.assert_frame_equal(early, bars.head(len(early)), check_exact=True)


# -- interpreted, and refused ------------------------------------------------------------------------------------------


def everything(trades):
    return [
        *(function(trades, threshold) for function, threshold in STANDARD.values()),
        *(imbalance_bars(trades, measure, expected_trades=60, expected_imbalance=1.0) for measure in EXPECTED),
        *(run_bars(trades, measure, expected_trades=60, expected_buy=1.0, expected_sell=1.0) for measure in EXPECTED),
        tick_rule(trades["price"]).to_frame(),
    ]


def test_interpreted_as_compiled():
    compiled = everything(TRADES.head(800))
    with interpreted():
        for one, other in zip(everything(TRADES.head(800)), compiled, strict=True):
            pd.testing.assert_frame_equal(one, other, check_exact=True)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda t: t.iloc[::-1], "comes after"),
        (lambda t: t.drop(columns="price"), "trades lack price"),
        (lambda t: t.assign(time=t["time"].dt.tz_localize(None)), "tz-aware"),
        (lambda t: t.assign(time=t["time"].where(t["time"] != t["time"].iloc[5])), "trade 5 has no time"),
        (lambda t: t.assign(price=t["price"].where(t.index != 3)), "trade 3 at .* a price must be positive, it is nan"),
        (lambda t: t.assign(size=t["size"].where(t.index != 3, 0.0)), "trade 3 at .* a size must be positive"),
        (lambda t: t.assign(size=t["size"].where(t.index != 3, np.inf)), "a size must be positive, it is inf"),
        (lambda t: t.assign(side=t["side"].where(t.index != 3, 0.0)), r"trade 3 at .* a side is \+1 or -1, it is 0.0"),
        (lambda t: t["price"], "must be a DataFrame"),
    ],
)
def test_bad_trades_are_refused_by_row(change, what):
    with pytest.raises(DataError, match=what):
        tick_bars(change(TRADES.head(20)), 5)


@pytest.mark.parametrize("threshold", [0, -1.0, math.nan, math.inf, True, "5", None])
def test_a_threshold_that_is_no_amount_is_refused(threshold):
    for function in (tick_bars, volume_bars, dollar_bars):
        with pytest.raises(ParameterError, match="threshold"):
            function(TRADES, threshold)


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ({"expected_trades": 0.5}, "expected_trades must be at least 1"),
        ({"bars_span": math.nan}, "bars_span must be at least 1"),
        ({"trades_span": 0.0}, "trades_span must be at least 1"),
        ({"bounds": (20, 30)}, "outside of the bounds 20 to 30"),
        ({"expected_imbalance": math.inf}, "expected_imbalance must be finite"),
        ({"measure": "money"}, "no measure 'money'"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(wrong, what):
    with pytest.raises(ParameterError, match=what):
        imbalance_bars(TRADES, **({"expected_trades": 10, "expected_imbalance": 1.0} | wrong))


# -- real trades -------------------------------------------------------------------------------------------------------


@pytest.mark.real_data
def test_real_trades_of_two_days(real_data):
    """XRP/ETH on Binance, 12,477 trades, a fifth of them in the same millisecond as the one before."""
    trades = pd.read_parquet(real_data / "crypto/trades/XRP_ETH.parquet").rename(columns={"amount": "size"})
    trades["side"] = trades["side"].map({"buy": 1.0, "sell": -1.0})
    for measure, threshold in (("tick", 50), ("volume", 10_000.0), ("dollar", 10.0)):
        bars = STANDARD[measure][0](trades, threshold)
        assert_bars(bars, trades, ends_by_threshold(amounts_of(trades, measure), threshold))
        assert bars.index.is_unique
        assert bars.index.is_monotonic_increasing
        left = bars.attrs["partial_trades"]
        cost = trades["cost"].iloc[: len(trades) - left].sum()  # what the exchange itself says was paid
        assert bars["dollar_value"].sum() == pytest.approx(cost, rel=1e-9)
    settings_ = {"expected_trades": 50, "expected_imbalance": 100.0, "bars_span": 20, "trades_span": 1_000}
    ends, _ = by_imbalance(trades, trades["side"], "volume", **settings_, bounds=(0, math.inf))
    assert_bars(imbalance_bars(trades, "volume", **settings_), trades, ends)


@pytest.mark.real_data
def test_the_tick_rule_guesses_most_sides_of_real_trades(real_data):
    trades = pd.read_parquet(real_data / "crypto/trades/XRP_ETH.parquet")
    right = (tick_rule(trades["price"]) == trades["side"].map({"buy": 1.0, "sell": -1.0})).mean()
    assert 0.80 < right < 0.90


@pytest.mark.real_data
def test_a_recorded_stream_of_six_minutes(real_data):
    """BTCUSDT perpetual: 21,313 trades, three quarters of which share their millisecond with another."""
    rows = []
    with gzip.open(real_data / "microstructure/binance_usdm_btcusdt_20240808.gz", "rt") as stream:
        for line in stream:
            if "@trade" in line:
                rows.append(json.loads(line.partition(" ")[2])["data"])
    raw = pd.DataFrame(rows)
    time = pd.to_datetime(raw["T"], unit="ms", utc=True)
    trades = pd.DataFrame({"time": time, "price": raw["p"].astype(float), "size": raw["q"].astype(float)})
    bars = dollar_bars(trades, 100_000.0)
    assert_bars(bars, trades, ends_by_threshold(amounts_of(trades, "dollar"), 100_000.0))
    assert bars.index.is_unique
    assert (bars["close_time"] >= bars.index).all()
    assert (bars.index - bars.index.floor("ms")).max() < pd.Timedelta("1us")  # stamps moved by nanoseconds only
