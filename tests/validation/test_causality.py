"""Causality by truncation: planted leaks are all found and named, clean functions raise no alarm."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tradelib.backtest.decision import DecisionRule
from tradelib.data.bars import check_bars, content_digest, join_closed, make_bars, resample
from tradelib.errors import DataError, ParameterError
from tradelib.strategies.trend import TrendFollowing
from tradelib.validation import causality
from tradelib.validation.causality import prove_causality

Leak = Callable[[pd.DataFrame], Any]


def market(count: int = 120, seed: int = 1, timeframe: str = "1d") -> pd.DataFrame:
    """A seeded random walk."""
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, count)))
    opens = np.r_[100.0, close[:-1]] * np.exp(rng.normal(0, 0.001, count))
    columns = {
        "open": opens,
        "high": np.maximum(opens, close) * (1 + rng.uniform(0, 0.01, count)),
        "low": np.minimum(opens, close) * (1 - rng.uniform(0, 0.01, count)),
        "close": close,
        "volume": rng.uniform(1e3, 2e3, count),
    }
    times = pd.date_range("2024-01-01", periods=count, freq=timeframe.replace("d", "D"), tz="UTC", name="time")
    frame = pd.DataFrame(columns, index=times)
    return make_bars(frame, symbol="TEST", timeframe=timeframe, source="seeded", calendar="24/7")


@pytest.fixture(scope="module")
def bars() -> pd.DataFrame:
    return market()


# -- planted leaks -----------------------------------------------------------------------------------------------


def unclosed_week(bars: pd.DataFrame) -> pd.Series[float]:
    """The week's close, visible on its Monday."""
    return bars["close"].resample("W-MON", closed="left", label="left").last().reindex(bars.index, method="ffill")


def early_pivot(bars: pd.DataFrame) -> pd.Series[float]:
    """A high marked on its own bar, known two bars later."""
    return bars["high"].where(bars["high"] == bars["high"].rolling(5, center=True).max())


def final_bars(bars: pd.DataFrame) -> pd.Series[float]:
    """Goes flat on the last ten bars of whatever it gets."""
    position = pd.Series(1.0, index=bars.index)
    position.iloc[-10:] = 0.0
    return position


def line(bars: pd.DataFrame) -> pd.Series[float]:
    """Distance from a straight line fitted to the whole sample."""
    x = np.arange(len(bars))
    return bars["close"] - np.polyval(np.polyfit(x, bars["close"], 1), x)


def interpolated(bars: pd.DataFrame) -> pd.Series[float]:
    """A value of every fifth bar, connected by straight lines."""
    return bars["close"].where(np.arange(len(bars)) % 5 == 0).interpolate()


def dodges_crashes(bars: pd.DataFrame) -> pd.Series[float]:
    """Peeks only when tomorrow crashes, which never happens in the seeded history."""
    return (
        (bars["close"].shift(-1) / bars["close"] - 1 > -0.2).where(bars["close"].shift(-1).notna(), True).astype(float)
    )


def peeks_when_long(bars: pd.DataFrame) -> pd.Series[float]:
    """Behaves on every truncated history, peeks at the sign of tomorrow on the full one; tomorrow often agrees."""
    if len(bars) < 120:
        return np.sign(bars["close"].diff())
    return np.sign(bars["close"].diff().shift(-1))


def smooth(bars: pd.DataFrame) -> pd.Series[float]:
    """Low-pass filter by Fourier transform of the whole sample."""
    spectrum = np.fft.rfft(bars["close"].to_numpy())
    spectrum[10:] = 0
    return pd.Series(np.fft.irfft(spectrum, len(bars)), index=bars.index)


LEAKS: dict[str, Leak] = {
    "shift(-1)": lambda bars: bars["close"].shift(-1),
    "next open": lambda bars: (bars["open"].shift(-1) > bars["close"]).astype(float),
    "centred window": lambda bars: bars["close"].rolling(7, center=True).mean(),
    "full-sample z-score": lambda bars: (bars["close"] - bars["close"].mean()) / bars["close"].std(),
    "full-sample min-max": lambda bars: (bars["close"] - bars["low"].min()) / (bars["high"].max() - bars["low"].min()),
    "back-fill": lambda bars: bars["close"].rolling(10).mean().bfill(),
    "unclosed week": unclosed_week,
    "pivot before confirmation": early_pivot,
    "future maximum": lambda bars: bars["high"][::-1].cummax()[::-1],
    "rank over the full sample": lambda bars: bars["volume"].rank(pct=True),
    "quantile bucket": lambda bars: pd.qcut(bars["close"], 4, labels=False),
    "position from the end": final_bars,
    "depends on the length": lambda bars: bars["close"] / len(bars),
    "full-sample regression": line,
    "interpolation": interpolated,
    "Fourier filter": smooth,
    "dodges crashes": dodges_crashes,
    "peeks only when long": peeks_when_long,
    "reverse cumulative sum": lambda bars: bars["volume"][::-1].cumsum()[::-1],
    "text from tomorrow": lambda bars: bars["close"].diff().shift(-1).gt(0).map({True: "up", False: "down"}),
}


@pytest.mark.parametrize("name", LEAKS)
def test_planted_leak_is_found(name: str, bars: pd.DataFrame) -> None:
    proof = prove_causality(LEAKS[name], bars)
    assert not proof.passed
    assert proof.deterministic
    assert proof.reach >= 1
    assert proof.first is not None
    assert proof.first.time in bars.index
    assert "looks ahead" in proof.summary()


def test_a_leak_is_named_by_bar_column_and_both_values(bars: pd.DataFrame) -> None:
    """Given one peeking column beside a clean one, then only that one is named, at the first bar, with both values."""

    def two(bars: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"clean": bars["close"], "tomorrow": bars["close"].shift(-1)})

    proof = prove_causality(two, bars)
    assert proof.first is not None
    assert (proof.first.time, proof.first.column) == (bars.index[0], "tomorrow")
    assert proof.first.expected == bars["close"].iloc[1]
    assert math.isnan(proof.first.found)
    assert set(proof.affected) == {"tomorrow"}
    assert "tomorrow at 2024-01-01 00:00" in proof.summary()
    assert "missing when the future is cut off" in proof.summary()


@pytest.mark.parametrize(("window", "reach"), [(3, 1), (7, 3), (21, 10)])
def test_reach_is_how_far_a_centred_window_looks(window: int, reach: int, bars: pd.DataFrame) -> None:
    assert prove_causality(lambda bars: bars["close"].rolling(window, center=True).mean(), bars).reach == reach


def test_only_another_future_shows_a_peek_that_never_fired(bars: pd.DataFrame) -> None:
    assert prove_causality(dodges_crashes, bars, futures=False).passed
    proof = prove_causality(dodges_crashes, bars)
    assert proof.first is not None
    assert proof.first.kind == "future"


def test_a_leak_from_an_unclosed_hour_is_found_by_sparse_cuts() -> None:
    """Cuts every twelve five-minute bars on a grid would fall on the closes of the hours and see nothing."""
    minutes = five_minutes(600)

    def unclosed_hour(bars: pd.DataFrame) -> pd.Series[float]:
        return bars["close"].resample("1h").last().reindex(bars.index, method="ffill")

    assert not prove_causality(unclosed_hour, minutes, every=12, last=0, futures=False).passed


def five_minutes(count: int) -> pd.DataFrame:
    daily = market(count)
    frame = daily.set_axis(pd.date_range("2024-01-01", periods=count, freq="5min", tz="UTC", name="time"))
    frame.attrs = {}
    return make_bars(frame, symbol="TEST", timeframe="5m", source="seeded", calendar="24/7")


class RemembersItsFirstHistory:
    """Fits a scale on the first bars that it sees and keeps it: the full sample, if that comes first."""

    scale: float | None = None

    def signals(self, bars: pd.DataFrame) -> pd.Series[float]:
        if self.scale is None:
            self.scale = float(bars["close"].std())
        return bars["close"] / self.scale


def test_state_kept_between_calls_does_not_hide_a_leak(bars: pd.DataFrame) -> None:
    assert not prove_causality(RemembersItsFirstHistory(), bars).passed


# -- clean functions ---------------------------------------------------------------------------------------------


def closed_week(bars: pd.DataFrame) -> pd.DataFrame:
    return join_closed(bars, resample(bars, "1w"), columns=["high", "close"], suffix="_week")[
        ["high_week", "close_week"]
    ]


def confirmed_pivot(bars: pd.DataFrame) -> pd.Series[float]:
    return early_pivot(bars).shift(2)


def refuses_short_histories(bars: pd.DataFrame) -> pd.Series[float]:
    if len(bars) < 30:
        raise DataError("needs 30 bars")
    return bars["close"].rolling(30).mean()


CLEAN: dict[str, Any] = {
    "rolling mean": lambda bars: bars["close"].rolling(20).mean(),
    "rolling deviation": lambda bars: bars["close"].rolling(20).std(),
    "rolling rank": lambda bars: bars["close"].rolling(20).rank(),
    "expanding z-score": lambda bars: (
        (bars["close"] - bars["close"].expanding().mean()) / bars["close"].expanding().std()
    ),
    "exponential average": lambda bars: bars["close"].ewm(span=12, adjust=False).mean(),
    "adjusted exponential average": lambda bars: bars["close"].ewm(span=12).mean(),
    "cumulative sum": lambda bars: (bars["close"] * bars["volume"]).cumsum() / bars["volume"].cumsum(),
    "running maximum": lambda bars: bars["close"] / bars["close"].cummax() - 1,
    "yesterday": lambda bars: bars["close"].pct_change().shift(1),
    "closed week": closed_week,
    "confirmed pivot": confirmed_pivot,
    "refuses short histories": refuses_short_histories,
    "rows left out": lambda bars: bars["close"].rolling(20).mean().dropna(),
    "array": lambda bars: bars["close"].to_numpy(),
    "day of the week": lambda bars: pd.Series(bars.index.dayofweek, index=bars.index),
    "text": lambda bars: bars["close"].diff().gt(0).map({True: "up", False: "down"}),
    "strategy": TrendFollowing(fast=5, slow=20),
    "decision rule": DecisionRule(strategy=TrendFollowing(fast=5, slow=20)),
}


@pytest.mark.parametrize("name", CLEAN)
def test_clean_function_raises_no_alarm(name: str, bars: pd.DataFrame) -> None:
    proof = prove_causality(CLEAN[name], bars)
    assert proof.passed, proof.summary()
    assert proof.first is None
    assert proof.cuts == proof.planned == len(bars) - 1
    assert proof.calls == 2 + 2 * proof.cuts


# -- what else the proof tells -----------------------------------------------------------------------------------


def test_randomness_is_told_apart_from_look_ahead(bars: pd.DataFrame) -> None:
    rng = np.random.default_rng(1)
    proof = prove_causality(lambda bars: pd.Series(rng.normal(size=len(bars)), index=bars.index), bars)
    assert not proof.passed
    assert not proof.deterministic
    assert proof.reach == 0
    assert "not deterministic" in proof.summary()
    assert "looks ahead" not in proof.summary()


def test_a_function_without_values_proves_nothing(bars: pd.DataFrame) -> None:
    proof = prove_causality(lambda bars: bars["close"].rolling(500).mean(), bars)
    assert not proof.passed
    assert "nothing is proved" in proof.summary()


def test_refusing_a_history_on_which_it_had_decided_is_a_violation(bars: pd.DataFrame) -> None:
    def needs_everything(bars: pd.DataFrame) -> pd.Series[float]:
        if len(bars) < 120:
            raise ValueError("I want the whole sample")
        return bars["close"]

    proof = prove_causality(needs_everything, bars, futures=False)
    assert not proof.passed
    assert "I want the whole sample" in proof.summary()


def test_errors_on_the_full_history_are_the_callers(bars: pd.DataFrame) -> None:
    def broken(bars: pd.DataFrame) -> pd.Series[float]:
        raise ZeroDivisionError("division by zero")

    with pytest.raises(ZeroDivisionError):
        prove_causality(broken, bars)


def test_tolerance_forgives_rounding_only(bars: pd.DataFrame) -> None:
    def rounded(bars: pd.DataFrame) -> pd.Series[float]:
        return bars["close"] * (1.0 + 1e-13 * len(bars))

    assert not prove_causality(rounded, bars).passed
    assert prove_causality(rounded, bars, tolerance=1e-9).passed
    assert not prove_causality(LEAKS["full-sample z-score"], bars, tolerance=1e-9).passed


def test_invented_futures_are_valid_bars_with_the_real_past(bars: pd.DataFrame) -> None:
    futures = causality._Futures(bars, seed=3)
    for cut in (1, 2, 60, 119):
        other = futures.after(cut)
        check_bars(other)
        assert other.attrs["digest"] == content_digest(other) != bars.attrs["digest"]
        pd.testing.assert_frame_equal(other.iloc[:cut], bars.iloc[:cut], check_exact=True)
        assert not (other["close"].iloc[cut:] == bars["close"].iloc[cut:]).any()


def test_sparse_schedule_keeps_the_last_bars_and_the_start(bars: pd.DataFrame) -> None:
    seen: list[int] = []

    def counting(bars: pd.DataFrame) -> pd.Series[float]:
        seen.append(len(bars))
        return bars["close"]

    proof = prove_causality(counting, bars, every=25, last=3, start=50, futures=False)
    assert proof.passed
    assert seen[2:][-3:] == [117, 118, 119]
    assert min(seen) >= 50
    assert len(seen) == proof.calls <= 2 + 3 + 3
    by_time = prove_causality(counting, bars, start=bars.index[49], futures=False)
    assert by_time.cuts == 70


def test_interrupting_returns_an_unfinished_proof_only_when_progress_is_shown(bars: pd.DataFrame) -> None:
    def interrupted(bars: pd.DataFrame) -> pd.Series[float]:
        if len(bars) == 60:
            raise KeyboardInterrupt
        return bars["close"]

    with pytest.raises(KeyboardInterrupt):
        prove_causality(interrupted, bars)
    proof = prove_causality(interrupted, bars, progress=True)
    assert not proof.passed
    assert (proof.complete, proof.cuts, proof.planned) == (False, 59, 119)
    assert "nothing is proved: 59 of 119" in proof.summary()


def test_evidence_travels_as_json_and_shows_itself(bars: pd.DataFrame) -> None:
    proof = prove_causality(LEAKS["centred window"], bars)
    told = json.loads(json.dumps(proof.to_dict(), allow_nan=False))
    assert told["passed"] is False
    assert told["reach"] == 3
    assert told["first_bar"] == "2024-01-01T00:00:00+00:00"
    assert list(proof.to_frame()["kind"].unique()) == ["truncated", "future"]
    assert "<li>" in proof._repr_html_()


def test_the_bars_of_the_caller_stay_as_they_are(bars: pd.DataFrame) -> None:
    def spoils(bars: pd.DataFrame) -> pd.Series[float]:
        bars["close"] = 0.0
        return bars["close"]

    mine = market()
    prove_causality(spoils, mine)
    assert content_digest(mine) == mine.attrs["digest"] == bars.attrs["digest"]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda bars: prove_causality(3, bars), ParameterError, "must be a function of bars"),
        (lambda bars: prove_causality(TrendFollowing, bars), ParameterError, "instance of TrendFollowing"),
        (lambda bars: prove_causality(len, bars), ParameterError, "one value per bar, got int"),
        (lambda bars: prove_causality(lambda bars: bars["close"].shift(freq="1D"), bars), ParameterError, "no bar"),
        (lambda bars: prove_causality(len, [1, 2]), DataError, "got list"),
        (lambda bars: prove_causality(len, bars.iloc[:1]), DataError, "at least two"),
        (lambda bars: prove_causality(len, bars.iloc[::-1]), DataError, "increasing"),
        (lambda bars: prove_causality(lambda bars: bars["close"], bars, every=0), ParameterError, "at least 1 bar"),
        (lambda bars: prove_causality(lambda bars: bars["close"], bars, start=120), ParameterError, "no bar to cut"),
        (lambda bars: prove_causality(lambda bars: bars["close"], bars, tolerance=-1.0), ParameterError, "negative"),
        (
            lambda bars: prove_causality(lambda bars: bars["close"], bars, tolerance=math.nan),
            ParameterError,
            "negative",
        ),
    ],
)
def test_bad_input_is_refused(call: Any, error: type[Exception], message: str, bars: pd.DataFrame) -> None:
    with pytest.raises(error, match=message):
        call(bars)
