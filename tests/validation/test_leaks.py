"""Leaks as they are found in real notebooks, each beside its repair: the first must be found, the second must pass.

A detector that cries at everything would find all leaks too; so every pair shows both answers on the same bars.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter1d
from scipy.signal import detrend, filtfilt, lfilter, savgol_filter
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.preprocessing import MinMaxScaler, QuantileTransformer, StandardScaler
from statsmodels.tsa.filters.hp_filter import hpfilter
from statsmodels.tsa.seasonal import seasonal_decompose

from tradelib.data.bars import join_closed, resample
from tradelib.indicators import probe_bars
from tradelib.validation.causality import prove_causality

Function = Callable[[pd.DataFrame], Any]
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:sklearn")  # of very short histories
TRAINED = 90
"""Bars from which the repaired models and scalers learn; they speak afterwards only."""


class Pair(NamedTuple):
    leak: Function
    repair: Function
    timeframe: str = "1d"


def features(bars: pd.DataFrame) -> pd.DataFrame:
    """Three causal features of a bar."""
    change = bars["close"].pct_change()
    columns = {"change": change, "mean": change.rolling(5).mean(), "range": bars["high"] / bars["low"] - 1}
    return pd.DataFrame(columns).fillna(0.0)


def up_tomorrow(bars: pd.DataFrame) -> pd.Series:
    return (bars["close"].shift(-1) > bars["close"]).astype(int)


def series(values: Any, bars: pd.DataFrame) -> pd.Series:
    return pd.Series(values, index=bars.index, dtype=float)


def only_after_training(values: pd.Series) -> pd.Series:
    return values.where(np.arange(len(values)) >= TRAINED)


# -- models and scalers that have seen the future ----------------------------------------------------------------------


def trained_on_everything(bars: pd.DataFrame) -> pd.Series:
    model = LogisticRegression().fit(features(bars), up_tomorrow(bars))
    return series(model.predict_proba(features(bars))[:, 1], bars)


def trained_on_the_past(bars: pd.DataFrame) -> pd.Series:
    if len(bars) <= TRAINED:
        return series(np.nan, bars)
    known = slice(0, TRAINED - 1)  # the label of the last training bar is known one bar later
    model = LogisticRegression().fit(features(bars)[known], up_tomorrow(bars)[known])
    return only_after_training(series(model.predict_proba(features(bars))[:, 1], bars))


def shuffled_folds(bars: pd.DataFrame) -> pd.Series:
    """Out-of-fold predictions look honest, but most folds train on later bars."""
    model = RandomForestClassifier(n_estimators=5, random_state=0)
    return series(cross_val_predict(model, features(bars), up_tomorrow(bars), cv=3), bars)


def forest_on_the_past(bars: pd.DataFrame) -> pd.Series:
    if len(bars) <= TRAINED:
        return series(np.nan, bars)
    known = slice(0, TRAINED - 1)
    model = RandomForestClassifier(n_estimators=5, random_state=0).fit(features(bars)[known], up_tomorrow(bars)[known])
    return only_after_training(series(model.predict(features(bars)), bars))


def scaled(scaler: Callable[[], Any]) -> Pair:
    def on_everything(bars: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame(scaler().fit_transform(features(bars)), index=bars.index)

    def on_the_past(bars: pd.DataFrame) -> pd.DataFrame:
        fitted = scaler().fit(features(bars)[:TRAINED])
        values = pd.DataFrame(fitted.transform(features(bars)), index=bars.index)
        values[:TRAINED] = np.nan
        return values

    return Pair(on_everything, on_the_past)


def hedge_ratio_of_everything(bars: pd.DataFrame) -> pd.Series:
    x, y = bars[["open"]], bars["high"]
    return y - LinearRegression().fit(x, y).predict(x)


def hedge_ratio_so_far(bars: pd.DataFrame) -> pd.Series:
    beta = bars["high"].rolling(40).cov(bars["open"]) / bars["open"].rolling(40).var()
    return bars["high"] - beta * bars["open"]


def best_window(bars: pd.DataFrame) -> pd.Series:
    """The average that would have worked best, chosen after the fact."""
    change = bars["close"].pct_change()
    positions = {w: (bars["close"] > bars["close"].rolling(w).mean()).astype(float) for w in (5, 10, 20, 40)}
    return positions[max(positions, key=lambda w: (positions[w].shift(1) * change).sum())]


def best_window_so_far(bars: pd.DataFrame) -> pd.Series:
    change = bars["close"].pct_change()
    positions = pd.DataFrame({w: (bars["close"] > bars["close"].rolling(w).mean()) * 1.0 for w in (5, 10, 20, 40)})
    earned = positions.shift(1).mul(change, axis=0).cumsum().fillna(0.0).to_numpy()
    return series(positions.to_numpy()[np.arange(len(bars)), earned.argmax(axis=1)], bars)


def clipped_at_quantiles(bars: pd.DataFrame) -> pd.Series:
    change = bars["close"].pct_change()
    return change.clip(change.quantile(0.05), change.quantile(0.95))


def clipped_at_quantiles_so_far(bars: pd.DataFrame) -> pd.Series:
    change = bars["close"].pct_change()
    return change.clip(change.expanding(20).quantile(0.05), change.expanding(20).quantile(0.95))


def mean_encoding(bars: pd.DataFrame) -> pd.Series:
    """What each weekday earned on average, over all weeks, those to come included."""
    change = bars["close"].pct_change()
    return change.groupby(bars.index.dayofweek).transform("mean")


def mean_encoding_so_far(bars: pd.DataFrame) -> pd.Series:
    change = bars["close"].pct_change()
    return change.groupby(bars.index.dayofweek, group_keys=False).apply(lambda day: day.expanding().mean()).sort_index()


# -- filters that run both ways ----------------------------------------------------------------------------------------


def both_ways(bars: pd.DataFrame) -> pd.Series:
    return series(filtfilt([0.2], [1, -0.8], bars["close"].to_numpy()), bars)


def one_way(bars: pd.DataFrame) -> pd.Series:
    return series(lfilter([0.2], [1, -0.8], bars["close"].to_numpy()), bars)


def local_level_smoothed(bars: pd.DataFrame) -> pd.Series:
    """The smoothed state of a Kalman filter: a backward pass over what was filtered."""
    level = local_level_filtered(bars).to_numpy().copy()
    for t in range(len(level) - 2, -1, -1):
        level[t] += 0.5 * (level[t + 1] - level[t])
    return series(level, bars)


def local_level_filtered(bars: pd.DataFrame) -> pd.Series:
    return bars["close"].ewm(alpha=0.3, adjust=False).mean()


def viterbi(bars: pd.DataFrame) -> pd.Series:
    """The most likely path of two regimes through the whole sample: later bars decide earlier states."""
    calm, wild = (-0.5 * (bars["close"].pct_change().fillna(0.0) / s) ** 2 - np.log(s) for s in (0.006, 0.014))
    score, came_from = np.array([calm.iloc[0], wild.iloc[0]]), []
    for a, b in zip(calm.to_numpy()[1:], wild.to_numpy()[1:], strict=True):
        moves = score[:, None] + np.log([[0.95, 0.05], [0.05, 0.95]])
        came_from.append(moves.argmax(axis=0))
        score = moves.max(axis=0) + np.array([a, b])
    states = [int(score.argmax())]
    for origin in reversed(came_from):
        states.append(int(origin[states[-1]]))
    return series(states[::-1], bars)


def filtered_regime(bars: pd.DataFrame) -> pd.Series:
    change = bars["close"].pct_change().fillna(0.0).to_numpy()
    wild, found = 0.5, []
    for r in change:
        wild = 0.95 * wild + 0.05 * (1 - wild)
        calm_here, wild_here = (np.exp(-0.5 * (r / s) ** 2) / s + 1e-300 for s in (0.006, 0.014))
        wild = wild * wild_here / (wild * wild_here + (1 - wild) * calm_here)
        found.append(wild)
    return series(found, bars)


# -- clocks: higher bars, sessions, joins ------------------------------------------------------------------------------


def hour_of(bars: pd.DataFrame) -> Any:
    return bars["close"].resample("1h")


def hour_joined_when_closed(bars: pd.DataFrame) -> pd.Series:
    return join_closed(bars, resample(bars, "1h"), columns=["close"], suffix="_hour")["close_hour"]


def forecast_merged_nearest(bars: pd.DataFrame) -> pd.Series:
    """A sparse series joined to the nearest stamp, which may lie ahead."""
    sparse = bars[["volume"]].iloc[::12].rename(columns={"volume": "sparse"})
    return pd.merge_asof(bars, sparse, left_index=True, right_index=True, direction="nearest")["sparse"]


def forecast_merged_backward(bars: pd.DataFrame) -> pd.Series:
    sparse = bars[["volume"]].iloc[::12].rename(columns={"volume": "sparse"})
    return pd.merge_asof(bars, sparse, left_index=True, right_index=True)["sparse"]


def day_of(bars: pd.DataFrame) -> Any:
    return bars.index.floor("D")


def vwap_of_the_whole_day(bars: pd.DataFrame) -> pd.Series:
    value = (bars["close"] * bars["volume"]).groupby(day_of(bars)).transform("sum")
    return value / bars["volume"].groupby(day_of(bars)).transform("sum")


def vwap_so_far(bars: pd.DataFrame) -> pd.Series:
    value = (bars["close"] * bars["volume"]).groupby(day_of(bars)).cumsum()
    return value / bars["volume"].groupby(day_of(bars)).cumsum()


def share_of_the_days_volume(bars: pd.DataFrame) -> pd.Series:
    return bars["volume"].groupby(day_of(bars)).cumsum() / bars["volume"].groupby(day_of(bars)).transform("sum")


def share_of_yesterdays_volume(bars: pd.DataFrame) -> pd.Series:
    by_day = bars["volume"].groupby(day_of(bars))
    return by_day.cumsum() / by_day.sum().reindex(day_of(bars) - pd.Timedelta(days=1)).to_numpy()


def monday_of(bars: pd.DataFrame) -> Any:
    return day_of(bars) - pd.to_timedelta(bars.index.dayofweek, unit="D")


def sunday_known_on_monday(bars: pd.DataFrame) -> pd.Series:
    """Weekly highs, stamped by their Monday."""
    return bars["high"].groupby(monday_of(bars)).transform("max")


def high_of_the_week_so_far(bars: pd.DataFrame) -> pd.Series:
    return bars["high"].groupby(monday_of(bars)).cummax()


# -- patterns and stops that know how they end -------------------------------------------------------------------------


def swing_highs(bars: pd.DataFrame, confirmed: bool) -> pd.Series:
    swings = bars["high"].where(bars["high"] == bars["high"].rolling(7, center=True).max())
    return (swings.shift(3) if confirmed else swings).ffill()


def zigzag(bars: pd.DataFrame, known: bool) -> pd.Series:
    """The leg of a 3 % zigzag: drawn from the extreme on, or from the bar that confirmed it."""
    close, up, extreme = bars["close"].to_numpy(), True, 0
    leg = np.ones(len(close))
    for t in range(1, len(close)):
        better = close[t] > close[extreme] if up else close[t] < close[extreme]
        extreme = t if better else extreme
        turned = close[t] < close[extreme] * 0.97 if up else close[t] > close[extreme] * 1.03
        if turned:
            leg[t if known else extreme :] = -1.0 if up else 1.0
            up, extreme = not up, t
    return series(leg, bars)


def stopped_at_the_best_price(bars: pd.DataFrame) -> pd.Series:
    """Leaves at the high of the next ten bars."""
    return bars["high"][::-1].rolling(10, min_periods=1).max()[::-1]


def trade_outcome(bars: pd.DataFrame) -> pd.Series:
    """What a trade opened now will have earned in five bars: a label among the features."""
    return bars["close"].shift(-5) / bars["close"] - 1


def drawdown_from_the_all_time_high(bars: pd.DataFrame) -> pd.Series:
    return bars["close"] / bars["close"].max() - 1


def survivors(bars: pd.DataFrame) -> pd.Series:
    """Trades only what ends above where it began."""
    return series(float(bars["close"].iloc[-1] > bars["close"].iloc[0]), bars)


def normalised_by_the_last_price(bars: pd.DataFrame) -> pd.Series:
    return bars["close"] / bars["close"].iloc[-1]


def adjusted_backwards(bars: pd.DataFrame) -> pd.Series:
    """Back-adjusted prices: the whole history is shifted at every later jump."""
    jumps = (bars["open"] - bars["close"].shift(1)).fillna(0.0)
    return bars["close"] - jumps[::-1].cumsum()[::-1] + jumps


def adjusted_forwards(bars: pd.DataFrame) -> pd.Series:
    return bars["close"] - (bars["open"] - bars["close"].shift(1)).fillna(0.0).cumsum()


def without_outliers(bars: pd.DataFrame) -> pd.Series:
    change = bars["close"].pct_change()
    return change.where((change - change.mean()).abs() < 2 * change.std())


def without_outliers_so_far(bars: pd.DataFrame) -> pd.Series:
    change = bars["close"].pct_change()
    return change.where((change - change.expanding().mean()).abs() < 2 * change.expanding().std())


def averaged(bars: pd.DataFrame) -> pd.Series:
    return bars["close"].rolling(20).mean()


PAIRS: dict[str, Pair] = {
    "model trained on everything": Pair(trained_on_everything, trained_on_the_past),
    "predictions of shuffled folds": Pair(shuffled_folds, forest_on_the_past),
    "standard scaler": scaled(StandardScaler),
    "min-max scaler": scaled(MinMaxScaler),
    "quantile transformer": scaled(lambda: QuantileTransformer(n_quantiles=2)),
    "principal components": scaled(lambda: PCA(n_components=2)),
    "hedge ratio of the whole sample": Pair(hedge_ratio_of_everything, hedge_ratio_so_far),
    "parameter chosen afterwards": Pair(best_window, best_window_so_far),
    "clipped at quantiles of everything": Pair(clipped_at_quantiles, clipped_at_quantiles_so_far),
    "mean by weekday": Pair(mean_encoding, mean_encoding_so_far),
    "outliers of the whole sample": Pair(without_outliers, without_outliers_so_far),
    "filter both ways": Pair(both_ways, one_way),
    "Savitzky-Golay": Pair(lambda bars: series(savgol_filter(bars["close"], 9, 2), bars), averaged),
    "Gaussian kernel": Pair(lambda bars: series(gaussian_filter1d(bars["close"].to_numpy(), 2), bars), averaged),
    "Hodrick-Prescott": Pair(lambda bars: hpfilter(bars["close"])[1], averaged),
    "seasonal decomposition": Pair(
        lambda bars: seasonal_decompose(bars["close"], period=7).trend if len(bars) > 14 else series(np.nan, bars),
        lambda bars: bars["close"].rolling(7).mean(),
    ),
    "linear detrending": Pair(lambda bars: series(detrend(bars["close"].to_numpy()), bars), averaged),
    "smoothed state": Pair(local_level_smoothed, local_level_filtered),
    "most likely path of regimes": Pair(viterbi, filtered_regime),
    "hour before its close": Pair(
        lambda bars: hour_of(bars).last().reindex(bars.index, method="ffill"), hour_joined_when_closed, "5m"
    ),
    "hour labelled left, shifted by a bar": Pair(
        lambda bars: hour_of(bars).last().reindex(bars.index, method="ffill").shift(1), hour_joined_when_closed, "5m"
    ),
    "high of the hour on all its bars": Pair(
        lambda bars: bars["high"].groupby(bars.index.floor("h")).transform("max"),
        lambda bars: bars["high"].groupby(bars.index.floor("h")).cummax(),
        "5m",
    ),
    "joined to the nearest stamp": Pair(forecast_merged_nearest, forecast_merged_backward, "5m"),
    "VWAP of the whole day": Pair(vwap_of_the_whole_day, vwap_so_far, "1h"),
    "share of the day's volume": Pair(share_of_the_days_volume, share_of_yesterdays_volume, "1h"),
    "week on its Monday": Pair(sunday_known_on_monday, high_of_the_week_so_far),
    "pivot before its confirmation": Pair(
        lambda bars: swing_highs(bars, confirmed=False), lambda bars: swing_highs(bars, confirmed=True)
    ),
    "zigzag from the extreme": Pair(lambda bars: zigzag(bars, known=False), lambda bars: zigzag(bars, known=True)),
    "best price of the next bars": Pair(
        stopped_at_the_best_price, lambda bars: bars["high"].rolling(10, min_periods=1).max()
    ),
    "label among the features": Pair(trade_outcome, lambda bars: bars["close"] / bars["close"].shift(5) - 1),
    "drawdown from a later high": Pair(
        drawdown_from_the_all_time_high, lambda bars: bars["close"] / bars["close"].cummax() - 1
    ),
    "only what survives": Pair(
        survivors, lambda bars: (bars["close"] > bars["close"].iloc[0]).astype(float)
    ),
    "normalised by the last price": Pair(
        normalised_by_the_last_price, lambda bars: bars["close"] / bars["close"].iloc[0]
    ),
    "back-adjusted prices": Pair(adjusted_backwards, adjusted_forwards),
    "Ichimoku's lagging span": Pair(
        lambda bars: bars["close"].shift(-26), lambda bars: bars["close"] / bars["close"].shift(26) - 1
    ),
    "filled backwards": Pair(
        lambda bars: bars["close"].where(bars.index.dayofweek == 4).bfill(),
        lambda bars: bars["close"].where(bars.index.dayofweek == 4).ffill(),
    ),
    "interpolated": Pair(
        lambda bars: bars["close"].where(bars.index.dayofweek == 4).interpolate(),
        lambda bars: bars["close"].where(bars.index.dayofweek == 4).ffill(),
    ),
    "signal acts on its own bar's open": Pair(
        lambda bars: (bars["close"] > bars["open"]).shift(-1).astype(float),
        lambda bars: (bars["close"] > bars["open"]).astype(float),
    ),
}  # fmt: skip


def probe(pair: Pair) -> pd.DataFrame:
    return probe_bars(150, seed=4, timeframe=pair.timeframe)


def test_the_corpus_is_large_enough() -> None:
    assert len(PAIRS) >= 30


@pytest.mark.parametrize("name", PAIRS)
def test_leak_is_found(name: str) -> None:
    proof = prove_causality(PAIRS[name].leak, probe(PAIRS[name]))
    assert proof.violations, proof.summary()
    assert proof.deterministic
    assert proof.reach >= 1


@pytest.mark.parametrize("name", PAIRS)
def test_its_repair_raises_no_alarm(name: str) -> None:
    proof = prove_causality(PAIRS[name].repair, probe(PAIRS[name]))
    assert proof.passed, proof.summary()


@pytest.mark.real_data
@pytest.mark.parametrize("name", PAIRS)
def test_leak_is_found_on_real_bars(name: str, real_data: Any) -> None:
    """Bitcoin against the dollar: five-minute bars, and hours and days made of them."""
    leak, _, timeframe = PAIRS[name]
    bars = pd.read_parquet(real_data / "crypto/binance_spot_5m/BTC_USDT.parquet").set_index("time")
    if timeframe != "5m":
        how = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
        bars = bars.resample({"1d": "1D", "1h": "1h"}[timeframe]).agg(how)
    assert prove_causality(leak, bars.iloc[:150], every=3, last=30).violations
