"""Scans of many pairs: every figure as statsmodels gives it, corrections as published, interruptions survived."""

import numpy as np
import pandas as pd
import pytest
from statsmodels.tsa.stattools import adfuller, coint
from threadpoolctl import threadpool_limits

from tradelib._jit import interpreted
from tradelib.errors import DataError, ParameterError
from tradelib.indicators import _unit_root
from tradelib.risk import engle_granger, pair_stability, scan_pairs
from tradelib.risk import pair_scan as module


def universe(n: int = 400, count: int = 8, seed: int = 0) -> pd.DataFrame:
    """Random walks with autocorrelated steps; the last follows the first."""
    random = np.random.default_rng(seed)
    steps = random.normal(0, 0.01, (n, count))
    steps[1:] += 0.3 * steps[:-1]
    logs = np.cumsum(steps, axis=0)
    logs[:, -1] = 0.7 * logs[:, 0] + random.normal(0, 0.02, n)
    return pd.DataFrame(np.exp(3 + logs), pd.bdate_range("2020-01-01", periods=n), [f"S{i}" for i in range(count)])


WALKS = universe()


@pytest.mark.parametrize("lags", [0, 1, 5, "aic", "bic"])
def test_a_scan_equals_statsmodels(lags):
    rule, most = (lags, None) if isinstance(lags, str) else (None, lags)
    scan, logs = scan_pairs(WALKS, lags=lags), np.log(WALKS)
    assert len(scan.table) == 8 * 7
    for row in scan.table.itertuples():
        y, x = logs[row.dependent], logs[row.independent]
        t, p, _ = coint(y, x, maxlag=most, autolag=rule, return_results=False)
        assert row.statistic == pytest.approx(t, abs=1e-9)
        assert row.pvalue == pytest.approx(p, abs=1e-9)
        assert row.hedge_ratio == pytest.approx(np.polyfit(x, y, 1)[0], rel=1e-9)


def test_the_chosen_lags_are_those_of_statsmodels():
    logs = np.log(WALKS)
    for row in scan_pairs(WALKS, lags="aic", max_lags=7, directions="one").table.itertuples():
        ratio, constant = np.polyfit(logs[row.independent], logs[row.dependent], 1)
        residuals = logs[row.dependent] - ratio * logs[row.independent] - constant
        assert row.lags == adfuller(residuals, 7, "n", "aic", result_object=False)[2]


@pytest.mark.real_data
def test_a_hundred_real_assets_equal_statsmodels(real_data):
    # 44 stocks, 25 and 23 funds and 20 stocks are recorded over different years: two universes of the same length
    stocks = pd.read_parquet(real_data / "equities" / "stocknet_a_44_ohlcv_2012_2017.parquet")
    stocks = stocks.pivot(index="date", columns="symbol", values="adj_close").dropna(axis=1, thresh=1250).dropna()
    funds = pd.read_parquet(real_data / "pairs" / "etf_25_ohlcv_2016_2021.parquet")
    funds = funds.pivot(index="date", columns="symbol", values="close")
    countries = pd.read_parquet(real_data / "pairs" / "etf_23_close_2008_2016.parquet").set_index("date")
    index = pd.read_parquet(real_data / "equities" / "sp500_20_close_1990_2022.parquet").set_index("date")
    parts = [
        part.tail(1240).reset_index(drop=True).add_prefix(f"{i}.")
        for i, part in enumerate((stocks, funds, countries, index))
    ]
    prices = pd.concat(parts, axis=1)
    assert prices.shape[1] >= 100
    scan, logs = scan_pairs(prices, lags="aic", directions="one"), np.log(prices)
    assert len(scan.table) == prices.shape[1] * (prices.shape[1] - 1) // 2
    seldom = scan.table.iloc[:: len(scan.table) // 40]
    beside = scan.table[scan.table["r_squared"] > 0.995]  # the pairs that are hardest for a Gram matrix
    for row in pd.concat([seldom, beside[beside["reason"] == ""].head(20)]).itertuples():
        with threadpool_limits(1):  # threads of a linear algebra library fight over tiny matrices
            t, p, _ = coint(logs[row.dependent], logs[row.independent], return_results=False)
        assert row.statistic == pytest.approx(t, abs=1e-9)
        assert row.pvalue == pytest.approx(p, abs=1e-9)


@pytest.mark.real_data
def test_known_answers_on_recorded_funds(real_data):
    closes = pd.read_parquet(real_data / "pairs" / "etf_25_ohlcv_2016_2021.parquet")
    closes = closes.pivot(index="date", columns="symbol", values="close")
    pairs = [("SPY", "IVV"), ("GLD", "GDX"), ("IEF", "TLT")]
    scan = scan_pairs(closes, lags="aic", pairs=pairs)
    np.testing.assert_allclose(scan.pvalue, [0.0007, 0.12, 0.56], atol=5e-3)
    assert scan.pvalue[0] == pytest.approx(0.0007, abs=5e-5)


def test_compiled_and_interpreted_kernels_agree_to_the_last_bit():
    values = np.log(WALKS.to_numpy()[:60, :3])
    pairs = np.array([(0, 1), (1, 0), (2, 1)])
    choice = module._lag_choice("aic", 4, 60)
    compiled = module._Scanner(values, pairs, choice).run([0])
    with interpreted():
        plain = module._Scanner(values, pairs, choice).run([0])
    np.testing.assert_array_equal(compiled.figures, plain.figures)
    np.testing.assert_array_equal(compiled.status, plain.status)


def test_pvalues_of_the_kernel_are_mackinnons():
    from statsmodels.tsa.adfvalues import mackinnonp

    for t in (-25.0, -18.86, -6.0, -3.34, -2.62, -2.61, -1.0, 0.0, 0.92, 0.93, 3.0):
        assert _unit_root.engle_granger_pvalue(t) == pytest.approx(mackinnonp(t, "c", 2), abs=1e-15)


def test_the_planted_pair_survives_the_correction():
    found = scan_pairs(WALKS).significant(0.05, "holm")
    assert {frozenset(pair) for pair in found[["dependent", "independent"]].to_numpy()} == {frozenset(("S0", "S7"))}


def test_few_strangers_survive_the_correction():
    # the family-wise promise: in at most 5 % of searches any find; three standard errors in 40 searches
    searches = [len(scan_pairs(universe(250, 7, seed).iloc[:, :6]).significant(0.05, "holm")) > 0 for seed in range(40)]
    assert np.mean(searches) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 40)


def test_both_directions_are_two_tests():
    both, one = scan_pairs(WALKS), scan_pairs(WALKS, directions="one")
    assert (len(both.table), len(one.table)) == (56, 28)
    p = one.pvalue.min()
    assert one.table["bonferroni"].min() == pytest.approx(28 * p)
    assert both.table["bonferroni"].min() == pytest.approx(56 * both.pvalue.min())


def test_twins_have_a_reason_in_place_of_numbers():
    scan = scan_pairs(WALKS.iloc[:, :2].assign(twin=WALKS["S0"] * 3), directions="one")
    row = scan.table.set_index(["dependent", "independent"]).loc[("S0", "twin")]
    assert row["reason"] == "(almost) perfectly collinear"
    assert np.isnan(row["statistic"])
    assert np.isnan(row["holm"])
    assert scan.table["bonferroni"].dropna().tolist() == (2 * scan.pvalue.dropna()).clip(upper=1).tolist()
    assert "Without numbers: 1 (almost) perfectly collinear." in scan.interpretation()


def test_a_pair_that_moves_once_has_no_spread_to_test():
    step = np.where(np.arange(60) < 30, 1.0, 2.0)
    scan = scan_pairs(pd.DataFrame({"A": step, "B": step * (1 + 0.5 * (np.arange(60) == 59))}), lags=2)
    assert (scan.table["reason"] != "").eq(scan.table["statistic"].isna()).all()


def test_an_interrupted_scan_keeps_what_it_has_and_still_counts_all(monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", 10)

    class Interrupting(module._Scanner):
        def _part(self, room, start, stop):
            if start >= 20:
                raise KeyboardInterrupt
            return super()._part(room, start, stop)

    complete = scan_pairs(WALKS)
    monkeypatch.setattr(module, "_Scanner", Interrupting)
    scan = scan_pairs(WALKS)
    assert scan.interrupted
    assert scan.pvalue.notna().sum() == 20
    pd.testing.assert_series_equal(scan.pvalue.head(20), complete.pvalue.head(20))
    assert scan.table["reason"].iloc[20:].eq("not tested: interrupted").all()
    assert scan.table["bonferroni"].min() == pytest.approx(56 * scan.pvalue.min())


def test_a_progress_bar_changes_nothing(capsys):
    pd.testing.assert_frame_equal(scan_pairs(WALKS, progress=True).table, scan_pairs(WALKS).table)
    assert "pairs" in capsys.readouterr().err


def test_rolling_windows_see_only_their_own_bars():
    rolled = pair_stability(WALKS, [("S7", "S0"), ("S1", "S2")], window=120, step=40, lags=2)
    assert rolled.pvalues.index[0] == WALKS.index[119]
    for end in (120, 240, 400):
        part = WALKS.iloc[end - 120 : end]
        expected = engle_granger(part["S7"], part["S0"], lags=2)
        row = WALKS.index[end - 1]
        assert rolled.pvalues.loc[row, "S7 ~ S0"] == pytest.approx(expected.pvalue, abs=1e-9)
        assert rolled.hedge_ratios.loc[row, "S7 ~ S0"] == pytest.approx(expected.coefficients["S0"], rel=1e-9)
    assert rolled.to_frame()["share_cointegrated"].tolist()[0] == 1.0


def test_a_window_in_which_a_price_stands_still_says_so():
    halted = WALKS.copy()
    halted.iloc[:120, 0] = 20.0
    rolled = pair_stability(halted, [("S1", "S0")], window=100, step=50)
    assert rolled.reasons.iloc[:, 0].tolist()[:1] == ["constant"]
    assert np.isnan(rolled.pvalues.iloc[0, 0])
    assert rolled.to_frame()["windows"].iloc[0] == len(rolled.pvalues) - 1


def test_results_tell_and_draw_themselves():
    scan, rolled = scan_pairs(WALKS), pair_stability(WALKS, [("S7", "S0")], window=200)
    assert "56 tests have p <= 5%; chance alone would bring about 3." in scan.summary()
    assert sum(scan.plot().data[0].y) == 56
    assert "S7 ~ S0: p <= 5% in 100%" in rolled.summary()
    assert len(rolled.plot().data) == 1
    assert "Holm" in scan._repr_html_()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: scan_pairs(WALKS.mask(WALKS.eq(WALKS.iloc[5, 3]))), DataError, "S3 is nan at 2020-01-08"),
        (lambda: scan_pairs(WALKS.assign(cash=1.0)), DataError, "cash is constant"),
        (lambda: scan_pairs(WALKS.head(29)), DataError, "29 bars are too few: at least 30"),
        (lambda: scan_pairs(WALKS, lags=200), ParameterError, "0 to 199"),
        (lambda: scan_pairs(WALKS, lags=1, max_lags=3), ParameterError, "belongs to a lag rule"),
        (lambda: scan_pairs(WALKS, lags="aic", max_lags=500), ParameterError, "0 to 199"),
        (lambda: scan_pairs(WALKS, directions="all"), ParameterError, "'all'"),
        (lambda: scan_pairs(WALKS, pairs=[("S0", "S0")]), ParameterError, "two different symbols"),
        (lambda: scan_pairs(WALKS, pairs=[("S0", "X")]), ParameterError, "'X'"),
        (lambda: pair_stability(WALKS, [("S0", "S1")], window=401), ParameterError, "from 30 to 400; got 401"),
        (lambda: pair_stability(WALKS, [("S0", "S1")], step=0), ParameterError, "step must be a whole number"),
        (lambda: scan_pairs(WALKS, pairs=[("S0", "S1", "S2"), ("S3",)]), ParameterError, "two symbols"),
        (lambda: pair_stability(WALKS, [("S0", "S1")], window=100.5), ParameterError, "window must be a whole number"),
    ],
)
def test_bad_input_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
