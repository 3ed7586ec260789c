"""Scalers learn what scikit-learn learns, give its numbers to 1e-12, and are applied without it."""

from __future__ import annotations

import json
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
import sklearn.base
import sklearn.decomposition
import sklearn.preprocessing as theirs
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from tradelib.data import embedded, make_bars
from tradelib.errors import DataError, MissingExtraError, ParameterError
from tradelib.features.scaling import (
    PCA,
    AnyScaler,
    MinMaxScaler,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    ScikitTransformer,
    StandardScaler,
    Winsorizer,
)
from tradelib.indicators import atr, rolling_volatility, sma

PAIRS = {
    "standard": (StandardScaler(), theirs.StandardScaler()),
    "standard, mean only": (StandardScaler(with_std=False), theirs.StandardScaler(with_std=False)),
    "standard, deviation only": (StandardScaler(with_mean=False), theirs.StandardScaler(with_mean=False)),
    "robust": (RobustScaler(), theirs.RobustScaler()),
    "robust, unit variance": (
        RobustScaler(quantile_range=(10, 90), unit_variance=True),
        theirs.RobustScaler(quantile_range=(10, 90), unit_variance=True),
    ),
    "min-max": (MinMaxScaler(feature_range=(-1, 1)), theirs.MinMaxScaler(feature_range=(-1, 1))),
    "min-max, clipped": (MinMaxScaler(clip=True), theirs.MinMaxScaler(clip=True)),
    "normal score": (
        QuantileTransformer(),
        theirs.QuantileTransformer(output_distribution="normal", subsample=None),
    ),
    "rank": (
        QuantileTransformer(n_quantiles=37, output_distribution="uniform"),
        theirs.QuantileTransformer(n_quantiles=37, subsample=None),
    ),
    "Yeo-Johnson": (PowerTransformer(), theirs.PowerTransformer()),
    "Yeo-Johnson, as it is": (PowerTransformer(standardize=False), theirs.PowerTransformer(standardize=False)),
}
PLAIN = [
    StandardScaler(),
    RobustScaler(),
    MinMaxScaler(clip=True),
    Winsorizer(limits=(0.05, 0.9)),
    QuantileTransformer(n_quantiles=50),
    QuantileTransformer(n_quantiles=50, output_distribution="uniform"),
    PowerTransformer(),
    PCA(n_components=2, whiten=True),
]


def market(bars: pd.DataFrame) -> pd.DataFrame:
    """Features of several shapes: heavy tails, positive and skewed, a level, few values."""
    close = bars["close"]
    return pd.DataFrame(
        {
            "return": close.pct_change(),
            "volatility": rolling_volatility(close, 20),
            "level": close,
            "range": atr(bars["high"], bars["low"], close),
            "above": (close > sma(close, 50)).astype(float).where(sma(close, 50).notna()),
        }
    )


def invented(seed: int = 0, rows: int = 2_000) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "normal": rng.normal(size=rows),
            "heavy": rng.standard_t(2, size=rows) * 100,
            "skewed": rng.lognormal(size=rows),
            "rounded": rng.normal(size=rows).round(1),
            "far": 1e4 + rng.normal(size=rows),
        },
        index=pd.date_range("2020-01-01", periods=rows, freq="1h", tz="UTC"),
    )
    return table.mask(rng.random(table.shape) < 0.03)


def by_scikit_learn(reference, train: pd.DataFrame, test: pd.DataFrame) -> np.ndarray:
    """scikit-learn, column by column, fitted to the values that are there."""
    columns = [
        sklearn.base.clone(reference).fit(train[[name]].dropna().to_numpy()).transform(test[[name]].to_numpy())
        for name in train
    ]
    return np.hstack(columns)


def differ(ours: pd.DataFrame, reference: np.ndarray) -> float:
    """Largest difference, relative to values beyond 1."""
    assert np.array_equal(np.isnan(ours.to_numpy()), np.isnan(reference))
    return float(np.nanmax(np.abs(ours.to_numpy() - reference) / np.maximum(1.0, np.abs(reference))))


# -- the numbers of scikit-learn ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("source", ["sp500", "nasdaq", "invented"])
def test_equal_to_scikit_learn(name: str, source: str) -> None:
    ours, reference = PAIRS[name]
    table = invented() if source == "invented" else market(embedded(source))
    train, test = table.iloc[:1400], table.iloc[1400:]

    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        found = ours.fit(train).transform(test)
    assert differ(found, by_scikit_learn(reference, train, test)) < 1e-12
    # Fitted to the whole table, it sums around the gaps in another order: far from zero that costs digits.
    near = [name for name in table if name not in ("far", "level")]
    assert differ(found[near], reference.fit(train[near].to_numpy()).transform(test[near].to_numpy())) < 1e-10


@pytest.mark.real_data
@pytest.mark.parametrize("name", PAIRS)
def test_equal_to_scikit_learn_on_recorded_bars(name: str, real_data) -> None:
    ours, reference = PAIRS[name]
    frame = pd.read_parquet(real_data / "crypto/bitvavo_1h/BTC_EUR.parquet").set_index("time")
    columns = frame[["open", "high", "low", "close", "volume"]]
    bars = make_bars(columns, symbol="BTC/EUR", timeframe="1h", source="recorded", calendar="24/7")
    table = market(bars).iloc[:20_000]
    train, test = table.iloc[:12_000], table.iloc[12_000:]

    found = ours.fit(train).transform(test)
    assert differ(found, by_scikit_learn(reference, train, test)) < 1e-12


@pytest.mark.parametrize("n_components", [None, 2, 0.9])
@pytest.mark.parametrize("whiten", [False, True])
def test_principal_components_equal_to_scikit_learn(n_components: int | float | None, whiten: bool) -> None:
    table = StandardScaler().fit(invented()).transform(invented()).dropna()
    reference = sklearn.decomposition.PCA(n_components, whiten=whiten, svd_solver="full").fit(table.to_numpy()[:900])

    found = PCA(n_components=n_components, whiten=whiten).fit(table.iloc[:900]).transform(table.iloc[900:])
    assert list(found) == [f"pc_{i + 1}" for i in range(reference.n_components_)]
    assert differ(found, reference.transform(table.to_numpy()[900:])) < 1e-12


def test_winsorizing_by_hand() -> None:
    """0 ... 100: the 5 % and 90 % quantiles (type 7) are 5 and 90."""
    train = pd.DataFrame({"x": np.arange(101.0)})
    scaler = Winsorizer(limits=(0.05, 0.9)).fit(train)

    assert (scaler.lower_, scaler.upper_) == ((5.0,), (90.0,))
    assert scaler.transform(pd.DataFrame({"x": [-1.0, 7.0, np.nan, 1e9]}))["x"].tolist()[:2] == [5.0, 7.0]


# -- missing values, rows, columns -------------------------------------------------------------------------------------


@pytest.mark.parametrize("scaler", PLAIN, ids=repr)
def test_missing_values_stay_and_teach_nothing(scaler) -> None:
    table = invented()[["normal", "skewed"]]
    complete = table.dropna()

    found = scaler.fit(table).transform(table)
    if isinstance(scaler, PCA):
        assert found.isna().all(axis=1).equals(table.isna().any(axis=1))
        assert scaler.fit(table) == scaler.fit(complete)
    else:
        assert found.isna().equals(table.isna())
        alone = [scaler.fit(table[[name]].dropna()) for name in table]
        assert all(one.transform(table[list(one.columns_)]).equals(found[list(one.columns_)]) for one in alone)


@pytest.mark.parametrize("scaler", PLAIN, ids=repr)
def test_one_row_at_a_time_gives_the_bits_of_all_at_once(scaler) -> None:
    table = invented(1, 150)
    fitted = scaler.fit(table)

    alone = pd.concat([fitted.transform(table.iloc[[row]]) for row in range(len(table))])
    assert alone.equals(fitted.transform(table))


def test_only_the_named_columns_are_scaled_and_the_rest_passes() -> None:
    table = invented()
    found = StandardScaler(columns=("heavy",)).fit(table).transform(table)

    assert list(found) == list(table)
    assert found.drop(columns="heavy").equals(table.drop(columns="heavy"))
    assert not found["heavy"].equals(table["heavy"])


@pytest.mark.parametrize("scaler", PLAIN, ids=repr)
def test_fitting_leaves_the_scaler_as_it_was(scaler) -> None:
    before = scaler.model_dump_json()
    fitted = scaler.fit(invented())
    assert (fitted.fitted, scaler.fitted) == (True, False)
    assert scaler.model_dump_json() == before


def test_a_constant_is_centred_and_not_divided_by_zero() -> None:
    flat = pd.DataFrame({"flat": np.full(50, 3.0)})
    for scaler in (StandardScaler(), RobustScaler(), MinMaxScaler(), PowerTransformer()):
        assert (scaler.fit(flat).transform(flat)["flat"] == 0.0).all(), scaler


# -- what travels ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scaler", PLAIN, ids=repr)
def test_text_and_back_give_the_same_bits(scaler) -> None:
    table = invented()
    fitted = scaler.fit(table)
    loaded = TypeAdapter(AnyScaler).validate_python(json.loads(fitted.model_dump_json()))

    assert loaded == fitted
    assert type(loaded) is type(fitted)
    assert loaded.transform(table).equals(fitted.transform(table))
    assert loaded.model_dump_json() == fitted.model_dump_json()


@pytest.mark.parametrize("scaler", PLAIN, ids=repr)
def test_what_trades_needs_no_scikit_learn(scaler, monkeypatch: pytest.MonkeyPatch) -> None:
    table = invented()
    fitted = scaler.fit(table)
    expected = fitted.transform(table)
    for name in list(sys.modules):
        if name.partition(".")[0] in ("sklearn", "scipy"):
            monkeypatch.setitem(sys.modules, name, None)

    assert fitted.transform(table).equals(expected)
    if not isinstance(scaler, Winsorizer):
        with pytest.raises(MissingExtraError, match="belongs to the extra 'research'"):
            scaler.fit(table)


def test_another_transformer_works_in_research_and_does_not_travel() -> None:
    table = invented()
    scaler = ScikitTransformer(transformer=theirs.KBinsDiscretizer(5, encode="ordinal"), columns=("normal", "heavy"))

    fitted = scaler.fit(table)
    found = fitted.transform(table)
    complete = table[["normal", "heavy"]].notna().all(axis=1)
    assert list(found) == list(table)
    assert found.loc[~complete, ["normal", "heavy"]].isna().all(axis=None)
    assert sorted(found["normal"].dropna().unique()) == [0, 1, 2, 3, 4]
    assert not hasattr(scaler.transformer, "bin_edges_")
    with pytest.raises(ValueError, match="KBinsDiscretizer cannot travel: of scalers, StandardScaler"):
        fitted.model_dump_json()
    with pytest.raises(ParameterError, match="an object with fit and transform"):
        ScikitTransformer(transformer={"n_bins": 5})
    assert fitted.transform(table.iloc[:0]).empty


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_refusals() -> None:
    table = invented()
    fitted = StandardScaler().fit(table)
    cases = [
        (lambda: StandardScaler().transform(table), ParameterError, "call fit with training rows"),
        (lambda: StandardScaler(columns=("heavi",)).fit(table), ParameterError, "did you mean 'heavy'"),
        (lambda: fitted.transform(table.drop(columns="far")), ParameterError, "there is no column 'far'"),
        (
            lambda: fitted.transform(table.replace(table.iloc[5, 0], np.inf)),
            DataError,
            "normal is inf at 2020-01-01 05",
        ),
        (lambda: fitted.fit(table.iloc[:1]), DataError, "has 1 values in the training rows"),
        (lambda: QuantileTransformer().fit(table * 1e-9), DataError, "standardise it first"),
        (lambda: RobustScaler(quantile_range=(75, 25)), ParameterError, "the smaller first"),
        (lambda: RobustScaler(quantile_range=(25, 175)), ParameterError, "less than or equal to 100"),
        (lambda: fitted.replace(mean_=fitted.mean_[1:]), ParameterError, "mean_ must hold 5 entries"),
        (lambda: PCA(n_components=6).fit(table), DataError, "do not give 6 components"),
        (lambda: StandardScaler(mean=True), ParameterError, "no parameter 'mean'"),
    ]
    for call, kind, message in cases:
        with pytest.raises(kind, match=message):
            call()


def test_an_overflow_is_refused_with_its_time() -> None:
    """A power of 80 of 1e10 is no float64."""
    table = pd.DataFrame({"x": [0.0, 1e10]}, index=pd.date_range("2024-01-01", periods=2, tz="UTC"))
    scaler = PowerTransformer(columns_=("x",), lambdas_=(80.0,), mean_=(0.0,), scale_=(1.0,))
    with pytest.raises(DataError, match=r"PowerTransformer: x overflows at 2024-01-02.*Winsorizer"):
        scaler.transform(table)


@given(st.lists(st.floats(-1e6, 1e6), min_size=8, max_size=60, unique=True))
@settings(max_examples=40, deadline=None)
def test_monotone_scalers_keep_the_order(values: list[float]) -> None:
    table = pd.DataFrame({"x": values})
    order = np.argsort(values, kind="stable")
    for scaler in (StandardScaler(), RobustScaler(), MinMaxScaler(), Winsorizer()):
        found = scaler.fit(table).transform(table)["x"].to_numpy()[order]
        assert (np.diff(found) >= 0.0).all(), scaler
