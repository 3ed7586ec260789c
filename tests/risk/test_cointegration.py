"""Relations between prices: against statsmodels, arch, published tables and the eigenvalues written out."""

import numpy as np
import pandas as pd
import pytest
from arch.data import crude
from arch.unitroot.cointegration import phillips_ouliaris as arch_phillips_ouliaris
from statsmodels.tsa.stattools import coint

from tradelib.errors import DataError, ParameterError
from tradelib.risk import engle_granger, johansen, phillips_ouliaris
from tradelib.risk.cointegration import log_table, pair_table

OIL = crude.load()
LOGS = np.log(OIL)


def etfs(real_data):
    table = pd.read_parquet(real_data / "pairs" / "etf_25_ohlcv_2016_2021.parquet")
    return table.pivot(index="date", columns="symbol", values="close")


def test_brent_and_wti_are_the_textbook_pair():
    # recorded with statsmodels 0.15 on the data of arch 8.0: p = 1.5e-05, WTI on Brent or the reverse
    found = min(engle_granger(OIL[a], OIL[b], lags="aic").pvalue for a, b in (("WTI", "Brent"), ("Brent", "WTI")))
    assert found == pytest.approx(1.5e-05, abs=5e-07)


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("dependent", "independent", "expected", "digits"),
    [("SPY", "IVV", 0.0007, 5e-5), ("GLD", "GDX", 0.12, 5e-3), ("IEF", "TLT", 0.56, 5e-3)],
)
def test_known_answers_on_recorded_funds(real_data, dependent, independent, expected, digits):
    closes = etfs(real_data)
    test = engle_granger(closes[dependent], closes[independent], lags="aic")
    assert test.pvalue == pytest.approx(expected, abs=digits)


@pytest.mark.parametrize("trend", ["n", "c", "ct", "ctt"])
@pytest.mark.parametrize("lags", [0, 3, "aic", "bic"])
def test_engle_granger_equals_statsmodels(trend, lags):
    rule, most = (lags, None) if isinstance(lags, str) else (None, lags)
    t, p, critical = coint(LOGS["WTI"], LOGS["Brent"], trend, maxlag=most, autolag=rule, return_results=False)
    test = engle_granger(OIL["WTI"], OIL["Brent"], trend=trend, lags=lags)
    assert (test.statistic, test.pvalue) == (t, p)
    assert list(test.critical_values.values()) == ([] if trend == "n" else list(critical))


def test_the_spread_is_what_the_coefficients_leave():
    test = engle_granger(OIL["WTI"], OIL["Brent"], trend="ct")
    fitted = test.coefficients["Brent"] * LOGS["Brent"] + test.coefficients["constant"]
    fitted += test.coefficients["trend"] * np.arange(1, len(OIL) + 1)
    np.testing.assert_allclose(test.spread, LOGS["WTI"] - fitted, atol=1e-12)
    assert abs(test.spread.sum()) < 1e-9


@pytest.mark.parametrize("statistic", ["Zt", "Za", "Pu", "Pz"])
def test_phillips_ouliaris_equals_arch(statistic):
    expected = arch_phillips_ouliaris(LOGS["WTI"], LOGS[["Brent"]], test_type=statistic)
    test = phillips_ouliaris(OIL["WTI"], OIL["Brent"], statistic=statistic)
    assert (test.statistic, test.pvalue) == (expected.stat, expected.pvalue)
    assert test.coefficients["Brent"] == pytest.approx(-expected.cointegrating_vector["Brent"])


def test_johansen_by_its_eigenvalues():
    # Johansen (1991): reduced-rank regression of differences on lagged levels, both freed of one lagged difference.
    # Levels are demeaned twice, before and after, as the program that statsmodels follows (LeSage) does.
    x = LOGS.to_numpy() - LOGS.to_numpy().mean(axis=0)
    d = np.diff(x, axis=0)
    lagged = d[:-1] - d[:-1].mean(axis=0)

    def freed(z):
        z = z - z.mean(axis=0)
        return z - lagged @ np.linalg.lstsq(lagged, z, rcond=None)[0]

    r0, rk = freed(d[1:]), freed(x[1:-1])
    n = len(r0)
    s00, skk, s0k = r0.T @ r0 / n, rk.T @ rk / n, r0.T @ rk / n
    roots = np.linalg.eigvals(np.linalg.solve(skk, s0k.T) @ np.linalg.solve(s00, s0k))
    roots = np.sort(roots.real)[::-1]
    test = johansen(OIL)
    np.testing.assert_allclose(test.eigenvalues, roots, rtol=1e-8)
    trace = [-n * np.log1p(-roots[r:]).sum() for r in range(2)]
    np.testing.assert_allclose(test.statistics["trace"], trace, rtol=1e-8)


def test_johansen_uses_the_published_critical_values():
    # MacKinnon, Haug & Michelis (1999), two series, constant: trace 13.4294, 15.4943, 19.9349; maximum at 5 %: 14.2639
    first = johansen(OIL).statistics.iloc[0]
    assert first[["trace 10%", "trace 5%", "trace 1%"]].tolist() == [13.4294, 15.4943, 19.9349]
    assert first["maximum 5%"] == 14.2639


def test_the_rank_counts_the_relations_between_trending_prices():
    random = np.random.default_rng(4)
    trend = np.cumsum(random.normal(size=800))
    table = pd.DataFrame(trend[:, None] * [1.0, -0.5, 2.0] + random.normal(size=(800, 3)), columns=list("ABC"))
    test = johansen(table, log=False)
    assert (test.rank(), test.rank(statistic="maximum")) == (2, 2)
    assert test.interpretation() == "2 of at most 2 relations at 5%."
    assert (test.relations.loc["A"] == 1.0).all()
    assert test.pvalue == (0.0, 0.01)


def test_series_that_stand_still_have_full_rank():
    table = pd.DataFrame(np.random.default_rng(6).normal(size=(400, 2)), columns=list("AB"))
    assert johansen(table, log=False).rank() == 2
    assert "stationary by themselves" in johansen(table, log=False).interpretation()


def test_engle_granger_keeps_its_size_on_unrelated_walks():
    walks = np.cumsum(np.random.default_rng(1).normal(size=(300, 2, 250)), axis=2)
    tests = [engle_granger(pd.Series(y), pd.Series(x), log=False).rejects() for y, x in walks]
    assert abs(np.mean(tests) - 0.05) < 3 * np.sqrt(0.05 * 0.95 / 300)  # three standard errors


def test_a_result_tells_and_draws_itself():
    test = engle_granger(OIL["WTI"], OIL["Brent"])
    assert "No combination of the series is stationary: rejected at 5%" in test.summary()
    assert len(test.plot().data[0].x) == len(OIL)
    assert "<table" in johansen(OIL)._repr_html_()


SHORT = pd.DataFrame(np.random.default_rng(0).uniform(1, 2, (60, 2)), columns=["A", "B"])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: engle_granger(SHORT["A"], SHORT["A"].rename("copy")), "A and copy are .almost. perfectly collinear"),
        (lambda: engle_granger(SHORT["A"], (SHORT["A"] ** 2).rename("power")), "A and power"),
        (lambda: phillips_ouliaris(SHORT["A"], SHORT["A"].rename("copy")), "A and copy"),
        (lambda: johansen(SHORT.assign(C=SHORT["A"] * SHORT["B"])), "A, B, C are linearly dependent"),
        (lambda: engle_granger(SHORT["A"], SHORT["B"].iloc[5:]), "55 are shared"),
        (lambda: engle_granger(SHORT["A"].to_numpy(), SHORT["B"]), "must be a Series"),
        (lambda: log_table(SHORT.replace(SHORT.iloc[7, 1], -1.0)), "B is -1.0 at 7"),
        (lambda: log_table(SHORT.assign(B=2.0)), "B is constant"),
        (lambda: log_table(SHORT[["A", "A"]]), r"symbols appear twice: \['A'\]"),
        (lambda: log_table(SHORT[["A"]]), "at least two"),
        (lambda: pair_table(SHORT["A"].head(5), SHORT["B"].head(5)), "5 bars are too few"),
    ],
)
def test_data_without_a_relation_to_test_are_refused(call, message):
    with pytest.raises(DataError, match=message):
        call()


MANY = pd.DataFrame(np.random.default_rng(0).uniform(1, 2, (200, 13)), columns=list("ABCDEFGHIJKLM"))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: engle_granger(SHORT["A"], SHORT["B"], lags=30), "0 to 29"),
        (lambda: engle_granger(SHORT["A"], SHORT["B"], trend="x"), "'x'"),
        (lambda: engle_granger(MANY["A"], MANY[list("BCDEFG")]), "end at six series; got 7"),
        (lambda: phillips_ouliaris(SHORT["A"], SHORT["B"], statistic="tau"), "'tau'"),
        (lambda: johansen(SHORT, det_order=3), "got 3"),
        (lambda: johansen(SHORT, k_ar_diff=-1), "got -1"),
        (lambda: johansen(MANY), "end at twelve series; got 13"),
        (lambda: johansen(SHORT).rank("2%"), "'2%'"),
    ],
)
def test_parameters_out_of_range_are_refused(call, message):
    with pytest.raises(ParameterError, match=message):
        call()
