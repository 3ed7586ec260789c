"""A pipeline gives the same numbers in research, from a file, and live; and learns from its training rows alone."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import SplineTransformer

from tests.environment import PROJECT
from tradelib.data import embedded, make_bars, resample
from tradelib.errors import DataError, ParameterError
from tradelib.features import (
    PCA,
    Feature,
    FeaturePipeline,
    QuantileTransformer,
    ScikitTransformer,
    StandardScaler,
    Winsorizer,
)
from tradelib.indicators import atr, bollinger_bands, ema, probe_bars, registry, rolling_max, sma
from tradelib.indicators.registry import Indicator
from tradelib.validation import prove_causality

SP500 = embedded("sp500")
HOURS = probe_bars(1_500, seed=4, timeframe="1h")


def pipeline(**changes) -> FeaturePipeline:
    """Finite and recursive memory, two timeframes, a chain, a transform, a lag, two scalers."""
    settings = {
        "features": [
            Feature(name="momentum", indicator="close", transform="log_return"),
            Feature(name="channel", indicator="bollinger_bands", parameters={"window": 10}, output="percent_b"),
            Feature(name="range", indicator="atr", transform="log"),
            Feature(name="range_trend", indicator="ema", parameters={"window": 5}, inputs={"close": "range"}),
            Feature(name="week", indicator="rolling_max", parameters={"window": 4}, timeframe="1w", lag=1),
            Feature(name="week_trend", indicator="ema", parameters={"window": 4}, timeframe="1w", transform="return"),
        ],
        "scaling": [Winsorizer(), StandardScaler()],
    }
    return FeaturePipeline(**{**settings, **changes})


def hourly() -> FeaturePipeline:
    return FeaturePipeline(
        timeframe="1h",
        features=[
            Feature(name="fast", indicator="sma", parameters={"window": 8}, transform="return"),
            Feature(name="middle", indicator="rolling_max", parameters={"window": 3}, timeframe="4h"),
            Feature(name="slow", indicator="close", timeframe="1d", transform="difference", lag=2),
        ],
        scaling=[QuantileTransformer(n_quantiles=64), PCA(columns=("fast", "middle"))],
    )


# -- what it computes --------------------------------------------------------------------------------------------------


def test_features_are_the_indicators_that_they_name() -> None:
    high, low, close = SP500["high"], SP500["low"], SP500["close"]
    expected = {
        "momentum": np.log(close / close.shift()),
        "channel": bollinger_bands(close, 10).percent_b,
        "range": np.log(atr(high, low, close)),
        "range_trend": ema(np.log(atr(high, low, close)), 5),
    }

    found = pipeline().transform(SP500, scaled=False)
    assert list(found) == ["momentum", "channel", "range", "range_trend", "week", "week_trend"]
    assert (found.dtypes == np.float64).all()
    assert found.index.equals(SP500.index)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-14, err_msg=name)


def test_a_higher_timeframe_is_known_at_its_close_and_not_before() -> None:
    """24/7 hours: the day's close is known with the row that opens at 23:00, and stays until 22:00 of the next day."""
    days = resample(HOURS, "1d")
    one = FeaturePipeline(timeframe="1h", features=[Feature(name="day", indicator="close", timeframe="1d")])

    found = one.transform(HOURS)["day"]
    for day in days.index[:20]:
        known = found.loc[day + pd.Timedelta(hours=23) : day + pd.Timedelta(hours=46)]
        assert (known == days["close"][day]).all()
        assert len(known) == 24
    assert found.iloc[: 23 + (24 - HOURS.index[0].hour) % 24].isna().all()


def test_lag_and_transform_count_bars_of_the_features_own_timeframe() -> None:
    """The weekly highs and closes written out; a lag of one week is the week before the last closed one."""
    weeks = resample(SP500, "1w")
    found = pipeline().transform(SP500, scaled=False)
    monday = pd.Timestamp("2010-03-15", tz="UTC")  # knows the weeks of March 1st and 8th
    closed = weeks.loc[: monday - pd.Timedelta(days=1)]

    assert found.loc[monday, "week"] == rolling_max(closed["high"], 4).iloc[-2]
    trend = ema(closed["close"], 4)
    assert found.loc[monday, "week_trend"] == pytest.approx(trend.iloc[-1] / trend.iloc[-2] - 1.0, rel=1e-12)


@pytest.mark.parametrize(
    ("transform", "expected"),
    [
        ("none", [4.0, 2.0, 0.0, 3.0]),
        ("log", [np.log(4.0), np.log(2.0), np.nan, np.log(3.0)]),
        ("difference", [np.nan, -2.0, -2.0, 3.0]),
        ("return", [np.nan, -0.5, -1.0, np.nan]),
        ("log_return", [np.nan, np.log(0.5), np.nan, np.nan]),
    ],
)
def test_transforms_by_hand_and_never_infinite(transform: str, expected: list[float]) -> None:
    bars = make_bars(
        probe_bars(4).assign(volume=[4.0, 2.0, 0.0, 3.0]), symbol="A", timeframe="1d", source="test", calendar="24/7"
    )
    one = FeaturePipeline(features=[Feature(name="size", indicator="volume", transform=transform)])
    np.testing.assert_array_equal(one.transform(bars)["size"], expected)


def test_several_outputs_become_columns_and_one_can_be_picked() -> None:
    every = Feature(name="band", indicator="bollinger_bands")
    assert every.columns == ("band_upper", "band_middle", "band_lower", "band_percent_b", "band_bandwidth")
    assert every.replace(output="middle").columns == ("band",)
    found = FeaturePipeline(features=[every]).transform(SP500)
    np.testing.assert_array_equal(found["band_upper"], bollinger_bands(SP500["close"]).upper)


def test_other_columns_of_the_bars_can_be_read() -> None:
    richer = SP500.assign(other=2.0 * SP500["close"])
    one = FeaturePipeline(features=[Feature(name="m", indicator="sma", inputs={"close": "other"})])
    np.testing.assert_array_equal(one.transform(richer)["m"], sma(richer["other"], 20))


@pytest.mark.parametrize("rows", [1, 2, 5, 30])
def test_short_histories_are_blank_where_nothing_is_known(rows: int) -> None:
    whole, short = (pipeline().transform(bars, scaled=False) for bars in (SP500, SP500.iloc[:rows]))
    pd.testing.assert_frame_equal(short, whole.iloc[:rows], check_freq=False, rtol=0, atol=0)


# -- the same in research and live -------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["daily and weekly", "hours, four hours and days"])
def test_a_trailing_window_of_memory_bars_gives_the_last_row_of_the_full_history(case: str) -> None:
    """On every phase of a week and of a day. To the bit where memory is finite; else to one part in a billion."""
    bars, made = (SP500.iloc[-1_500:], pipeline()) if case.startswith("daily") else (HOURS, hourly())
    fitted = made.fit(bars, 0.6)
    full, memory = fitted.transform(bars), fitted.memory
    assert memory is not None
    assert memory >= fitted.warmup
    ends = range(memory, len(bars), 23)

    live = pd.concat([fitted.transform(bars.iloc[end - memory : end]).iloc[[-1]] for end in ends])
    expected = full.loc[live.index]
    assert live.notna().all(axis=None)
    assert len({end % 24 for end in ends}) == 24
    np.testing.assert_allclose(live, expected, rtol=1e-8, atol=1e-8)
    exact = ["momentum", "week"] if case.startswith("daily") else ["slow"]
    assert live[exact].equals(expected[exact])


def test_one_bar_less_than_its_warm_up_is_not_enough_in_the_worst_phase() -> None:
    """Hours that start at 01:00 lose the whole first day."""
    one = FeaturePipeline(timeframe="1h", features=[Feature(name="d", indicator="sma", timeframe="1d")])
    assert one.warmup == 20 * 24 + 23
    assert one.memory == one.warmup
    begin = int(np.flatnonzero(HOURS.index.hour == 1)[0])

    known = one.transform(HOURS.iloc[begin:])["d"].notna().to_numpy()
    assert int(np.argmax(known)) + 1 == one.warmup


def test_row_by_row_gives_what_all_at_once_gives() -> None:
    fitted = hourly().fit(HOURS, 0.5)
    full = fitted.transform(HOURS)
    for end in range(1, len(HOURS), 53):
        assert fitted.transform(HOURS.iloc[:end]).iloc[[-1]].equals(full.iloc[[end - 1]])


@given(st.integers(0, 10_000), st.integers(40, 400))
@settings(max_examples=15, deadline=None)
def test_the_future_changes_no_row(seed: int, cut: int) -> None:
    ours, other = probe_bars(450, seed), probe_bars(450, seed + 1)
    mixed = ours.copy()
    mixed.iloc[cut:] = other.iloc[cut:].to_numpy()
    made = pipeline(scaling=())
    assert made.transform(mixed).iloc[:cut].equals(made.transform(ours).iloc[:cut])


@pytest.mark.real_data
def test_live_equals_research_on_recorded_hours(real_data) -> None:
    frame = pd.read_parquet(real_data / "crypto/bitvavo_1h/BTC_EUR.parquet").set_index("time")
    told = {"symbol": "BTC/EUR", "timeframe": "1h", "source": "recorded", "calendar": "24/7"}
    bars = make_bars(frame[["open", "high", "low", "close", "volume"]], **told).iloc[:20_000]
    fitted = hourly().fit(bars, 0.5)
    full = fitted.transform(bars)
    for end in range(10_000, 20_000, 271):
        live = fitted.transform(bars.iloc[end - fitted.memory : end]).iloc[-1]
        np.testing.assert_allclose(live, full.iloc[end - 1], rtol=1e-8, atol=1e-8)


# -- leaks -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["daily and weekly", "hours, four hours and days"])
def test_no_row_knows_a_later_one(case: str) -> None:
    bars, made = (SP500.iloc[-400:], pipeline()) if case.startswith("daily") else (HOURS.iloc[:500], hourly())
    proof = prove_causality(made.fit(bars, 0.5).transform, bars, every=9, last=30)
    assert proof.passed, proof
    assert proof.complete


def test_a_scaler_fitted_on_the_full_sample_is_found() -> None:
    bars = SP500.iloc[-400:]

    def leaky(seen: pd.DataFrame) -> pd.DataFrame:
        return pipeline().fit(seen, train=1.0).transform(seen)

    proof = prove_causality(leaky, bars, every=40, start=300, last=5)
    assert not proof.passed
    assert set(proof.affected) == set(pipeline().transform(bars, scaled=False))


def test_an_indicator_that_looks_ahead_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def peek(close: pd.Series) -> pd.Series:
        return close.shift(-1)

    entry = Indicator("peek", peek, "trend", ("close",), ("peek",), {}, "tomorrow")
    monkeypatch.setitem(registry._register, "peek", entry)
    for timeframe in (None, "1w"):
        leaky = FeaturePipeline(features=[Feature(name="p", indicator="peek", timeframe=timeframe)])
        assert not prove_causality(leaky.transform, SP500.iloc[-200:], every=20).passed, timeframe


def test_an_indicator_for_pictures_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = Indicator("picture", ema, "trend", ("close",), ("picture",), {}, "drawn later", causal=False)
    monkeypatch.setitem(registry._register, "picture", entry)
    with pytest.raises(ParameterError, match="p: picture is for pictures"):
        Feature(name="p", indicator="picture")


# -- learning ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("train", ["2010-12-31", 0.5, slice("2003", "2009"), slice(700, 2_000)])
def test_rows_after_the_training_rows_change_nothing(train) -> None:
    fitted = pipeline().fit(SP500, train)
    last = SP500.index.get_loc(pd.Timestamp(fitted.training.spans[-1][1]))
    other = SP500.copy()
    other.iloc[last + 1 :] *= 7.0

    assert pipeline().fit(other, train) == fitted
    other.iloc[last] *= 1.5
    assert pipeline().fit(other, train).scaling != fitted.scaling


def test_rows_outside_of_a_mask_teach_nothing() -> None:
    made = FeaturePipeline(features=[Feature(name="level", indicator="close")], scaling=[StandardScaler()])
    mask = (SP500.index.year < 2004) | (SP500.index.year == 2009)
    fitted = made.fit(SP500, mask)
    other = SP500.copy()
    other.loc["2004":"2008"] *= 5.0

    assert made.fit(other, mask).scaling == fitted.scaling
    assert fitted.scaling[0].mean_[0] == pytest.approx(SP500["close"][mask].mean(), rel=1e-14)
    assert fitted.training.spans == (
        ("1999-01-04T00:00:00+00:00", "2003-12-31T00:00:00+00:00"),
        ("2009-01-02T00:00:00+00:00", "2009-12-31T00:00:00+00:00"),
    )
    assert fitted.training.rows == int(mask.sum())


def test_it_says_which_rows_are_no_evidence() -> None:
    fitted = pipeline().fit(SP500, "2012-12-31")
    seen = fitted.in_sample(SP500)

    assert fitted.training.known_at == "2013-01-01T00:00:00+00:00"
    assert seen.loc[:"2012-12-31"].all()
    assert not seen.loc["2013-01-02":].any()
    assert str(fitted.training) == "3,521 rows of SPX/USDT, 1999-01-04T00:00 to 2012-12-31T00:00"
    with pytest.raises(ParameterError, match="learned nothing yet"):
        pipeline().in_sample(SP500)


def test_scalers_are_learned_one_after_the_other() -> None:
    """The second one standardises what the first one has pulled in."""
    fitted = pipeline().fit(SP500, 0.7)
    raw = fitted.transform(SP500, scaled=False).iloc[: int(0.7 * len(SP500))]
    pulled = Winsorizer().fit(raw).transform(raw)
    assert fitted.scaling[1] == StandardScaler().fit(pulled)
    np.testing.assert_allclose(fitted.transform(SP500).iloc[: len(raw)].mean(), 0.0, atol=1e-12)


# -- the file ----------------------------------------------------------------------------------------------------------

WRITTEN = (
    '{"digest":"d769150d78e2c09b2d3f62ecaa9efc3a90eb63226b5655d97cdb198bcbc95720",'
    '"format":"tradelib feature pipeline","pipeline":{"features":[{"indicator":"sma","inputs":{},'
    '"lag":0,"name":"m","output":null,"parameters":{"window":3},"timeframe":null,"transform":"none"}],"scaling":'
    '[{"columns":null,"columns_":["m"],"kind":"StandardScaler","mean_":[0.1],"scale_":[2.5e-17],"with_mean":true,'
    '"with_std":true}],"timeframe":"1d","training":null},"version":1}'
)


def test_the_format_written_out() -> None:
    """A file of today is read by every later version: this text does not change without a new version number."""
    scaler = StandardScaler(columns_=("m",), mean_=(0.1,), scale_=(2.5e-17,))
    made = FeaturePipeline(features=[Feature(name="m", indicator=sma, parameters={"window": 3.0})], scaling=[scaler])

    assert made.to_json() == WRITTEN
    assert FeaturePipeline.from_json(WRITTEN) == made


@pytest.mark.parametrize("case", ["daily and weekly", "hours, four hours and days", "not fitted"])
def test_text_and_back_give_the_same_pipeline_and_the_same_bits(case: str) -> None:
    bars, made = (HOURS, hourly()) if case.startswith("hours") else (SP500, pipeline())
    fitted = made if case == "not fitted" else made.fit(bars, 0.7)
    text = fitted.to_json()
    loaded = FeaturePipeline.from_json(text)

    assert loaded == fitted
    assert loaded.to_json() == text
    assert loaded.digest == fitted.digest
    assert loaded.transform(bars, scaled=case != "not fitted").equals(
        fitted.transform(bars, scaled=case != "not fitted")
    )
    assert FeaturePipeline.from_json(json.dumps(json.loads(text), indent=2)) == fitted


def test_a_process_without_scikit_learn_gives_the_same_bits(tmp_path) -> None:
    fitted = hourly().fit(HOURS, 0.7)
    (tmp_path / "pipeline.json").write_text(fitted.to_json(), encoding="utf-8")
    script = (
        "import sys; sys.modules.update(dict.fromkeys(['sklearn', 'scipy', 'numba', 'matplotlib']))\n"
        "from tradelib.features import FeaturePipeline; from tradelib.indicators import probe_bars\n"
        "loaded = FeaturePipeline.from_json(open(sys.argv[1]).read())\n"
        "table = loaded.transform(probe_bars(1_500, seed=4, timeframe='1h').iloc[-600:])\n"
        "print(table.iloc[-1].map(float.hex).to_dict())"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "pipeline.json")]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, env=None)

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(fitted.transform(HOURS.iloc[-600:]).iloc[-1].map(float.hex).to_dict())


def test_what_was_changed_or_is_unknown_is_refused() -> None:
    text = pipeline().fit(SP500, 0.7).to_json()
    content = json.loads(text)["pipeline"]
    other = {**content, "features": [{**content["features"][0], "lags": 1}]}
    cases = [
        (text.replace('"window":10', '"window":11'), DataError, "changed after it was written"),
        (text.replace('"version":1', '"version":2'), DataError, "version 2 of the format is unknown"),
        (text[:-1] + ',"more":1}', DataError, r"unknown entries \['more'\]"),
        (text[:-1], DataError, "this is no JSON"),
        ("{}", DataError, "this is no tradelib feature pipeline"),
        (written(other), ParameterError, "did you mean 'lag'"),
        (written({**content, "scalings": []}), ParameterError, "did you mean 'scaling'"),
        (written({**content, "scaling": [{"kind": "Pickle"}]}), ParameterError, "Pickle"),
    ]
    for changed, kind, message in cases:
        with pytest.raises(kind, match=message):
            FeaturePipeline.from_json(changed)


def written(content: dict) -> str:
    """A file with the right digest, by somebody who knows how."""
    from tradelib.features.pipeline import _packed

    return _packed(content)


def test_what_no_numbers_describe_is_not_written() -> None:
    fitted = pipeline(scaling=[ScikitTransformer(transformer=SplineTransformer())]).fit(SP500, 0.7)
    assert fitted.transform(SP500).notna().any(axis=None)
    with pytest.raises(ParameterError, match="SplineTransformer cannot travel: of scalers, StandardScaler"):
        fitted.to_json()


def test_a_pipeline_is_a_value() -> None:
    fitted = pipeline().fit(SP500, 0.7)
    assert copy.deepcopy(fitted) == fitted == pickle.loads(pickle.dumps(fitted))  # noqa: S301
    assert hash(fitted.features[0]) == hash(pipeline().features[0])
    with pytest.raises(TypeError, match="cannot be changed"):
        fitted.features[1].parameters["window"] = 3
    assert FeaturePipeline(**fitted.to_config()["params"]) == fitted


# -- display and refusals ----------------------------------------------------------------------------------------------


def test_the_table_says_what_each_feature_needs() -> None:
    made = pipeline()
    assert made.measures["warmup"].to_dict() == {
        "momentum": 2,
        "channel": 10,
        "range": 15,
        "range_trend": 19,
        "week": 7 * (5 + 1) - 1,
        "week_trend": 7 * (5 + 1) - 1,
    }
    page = made._repr_html_()
    assert "bollinger_bands(window=10, deviations=2.0).percent_b" in page
    assert "learned from: nothing yet" in page
    forever = FeaturePipeline(features=[Feature(name="v", indicator="obv")])
    assert forever.memory is None
    assert "all since the start" in forever._repr_html_()


def feature(**fields) -> Feature:
    return Feature(**{"name": "f", "indicator": "ema", **fields})


def test_refusals_name_the_feature_and_the_nearest_right_name() -> None:
    volatility = feature(indicator="rolling_volatility", name="v")
    cases = [
        (lambda: feature(indicator="emma"), "f: there is no indicator 'emma'; did you mean 'e?ma'"),
        (lambda: feature(parameters={"windoow": 3}), "f: ema has no parameter 'windoow'; did you mean 'window'"),
        (lambda: feature(inputs={"clos": "high"}), "f: ema has no input 'clos'; did you mean 'close'"),
        (lambda: feature(indicator="bollinger_bands", output="lowr"), "no output 'lowr'; did you mean 'lower'"),
        (lambda: feature(indicator=np.mean), "f: there is no indicator 'mean'"),
        (lambda: feature(lag=-1), "takes values from the future"),
        (lambda: feature(timeframe="1M"), "a month has no fixed length"),
        (lambda: feature(transform="square"), "transform = 'square'"),
        (lambda: feature(name="a b"), "name = 'a b'"),
        (lambda: Feature(indicator="ema"), "needs the parameter 'name'"),
        (lambda: FeaturePipeline(features=[]), "at least 1 item"),
        (lambda: FeaturePipeline(features=[feature(), feature()]), "two columns called 'f'"),
        (lambda: FeaturePipeline(features=[feature(name="close")]), "two columns called 'close'"),
        (
            lambda: FeaturePipeline(features=[feature(inputs={"close": "v"}), volatility]),
            "f reads v, which stands below",
        ),
        (
            lambda: FeaturePipeline(features=[volatility, feature(inputs={"close": "v"}, timeframe="1w")]),
            "f of 1w cannot read v of 1d",
        ),
        (
            lambda: FeaturePipeline(timeframe="4h", features=[feature(timeframe="6h")]),
            "6h is no multiple of the bars' 4h",
        ),
        (lambda: pipeline().fit(SP500, 2012), "train must be a time"),
        (lambda: pipeline().fit(SP500, np.ones(5, dtype=bool)), "a mask of one truth per bar"),
        (
            lambda: FeaturePipeline(features=[feature(indicator="obv")], scaling=[StandardScaler()]).transform(SP500),
            "call fit",
        ),
    ]
    for call, message in cases:
        with pytest.raises(ParameterError, match=message):
            call()


def test_refusals_of_data_name_the_feature() -> None:
    cases = [
        (lambda: pipeline().transform(HOURS), DataError, "for bars of 1d, these are of 1h"),
        (lambda: FeaturePipeline(features=[feature(inputs={"close": "clse"})]).transform(SP500), DataError, "'clse'"),
        (lambda: FeaturePipeline(features=[feature(parameters={"window": 0})]).transform(SP500), ParameterError, "'f'"),
        (lambda: pipeline().fit(SP500, "1998-01-01"), DataError, "train leaves 0 of 5031 rows"),
        (lambda: pipeline().transform(SP500.assign(close=np.nan)), DataError, "close"),
    ]
    for call, kind, message in cases:
        with pytest.raises(kind, match=message):
            call()
