"""Backtests of value at risk: published tables, printed examples, size and power by simulation, and the walk."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest

from tradelib.data import embedded
from tradelib.errors import DataError, ParameterError
from tradelib.risk import var_backtests
from tradelib.risk.tail_models import FilteredHistoricalVaR, GarchVaR
from tradelib.risk.value_at_risk import CornishFisherVaR, EWMAVaR, GaussianVaR, HistoricalVaR, RiskModel
from tradelib.risk.var_backtests import (
    RiskTest,
    acerbi_szekely,
    backtest_forecasts,
    backtest_var,
    christoffersen,
    christoffersen_independence,
    diebold_mariano,
    dynamic_quantile,
    fissler_ziegel_loss,
    kupiec,
    quantile_loss,
    rank_models,
    traffic_light,
    walk_forward,
)

stats = pytest.importorskip("scipy.stats")


def hits_of(count: int, days: int) -> np.ndarray:
    """`count` hits, then quiet days."""
    return np.r_[np.ones(count), np.zeros(days - count)]


# -- Kupiec ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("alpha", "days", "below", "above"),
    [  # Kupiec (1995), table 3: not rejected at 5 % where below < x < above
        (0.01, 510, 1, 11),
        (0.01, 1000, 4, 17),
        (0.025, 255, 2, 12),
        (0.025, 510, 6, 21),
        (0.025, 1000, 15, 36),
        (0.05, 255, 6, 21),
        (0.05, 510, 16, 36),
        (0.05, 1000, 37, 65),
        (0.075, 255, 11, 28),
        (0.075, 510, 27, 51),
        (0.075, 1000, 59, 92),
        (0.1, 255, 16, 36),
        (0.1, 510, 38, 65),
        (0.1, 1000, 81, 120),
    ],
)
def test_kupiec_regions(alpha: float, days: int, below: int, above: int) -> None:
    verdicts = [kupiec(hits_of(x, days), alpha).rejects() for x in (below, below + 1, above - 1, above)]
    assert verdicts == [True, False, False, True]


def test_kupiec_of_fifteen_in_a_thousand() -> None:
    """99 %, 1,000 days, 15 exceptions, by the formula written out: 2.19, below 3.84."""
    by_hand = -2 * (985 * math.log(0.99) + 15 * math.log(0.01)) + 2 * (985 * math.log(0.985) + 15 * math.log(0.015))
    test = kupiec(hits_of(15, 1000), 0.01)
    assert test.statistic == pytest.approx(by_hand)
    assert test.statistic == pytest.approx(2.19, abs=0.005)
    assert not test.rejects()


def test_no_hit_and_all_hits() -> None:
    """0 log 0 = 0: the statistics are -2 T log(1 - alpha) and -2 T log(alpha)."""
    assert kupiec(np.zeros(250), 0.01).statistic == pytest.approx(-500 * math.log(0.99))
    assert kupiec(np.ones(250), 0.01).statistic == pytest.approx(-500 * math.log(0.01))
    assert christoffersen_independence(np.zeros(250), 0.01).statistic == pytest.approx(0.0)
    assert christoffersen_independence(np.zeros(250), 0.01).note
    assert christoffersen(np.zeros(250), 0.01).statistic == pytest.approx(-500 * math.log(0.99))


# -- Christoffersen --------------------------------------------------------------------------------------------------


def test_matlab_prints_the_same() -> None:
    """varbacktest.cc on its own example: 1,043 days, N00 932, N10 53, N01 53, N11 4, at 95 %."""
    hits = np.r_[0, np.ones(5), np.tile([0, 1], 52), np.zeros(933)]
    tests = [kupiec(hits, 0.05), christoffersen_independence(hits, 0.05), christoffersen(hits, 0.05)]
    assert len(hits) == 1043
    assert [test.statistic for test in tests] == pytest.approx([0.46147, 0.25866, 0.72013], abs=6e-6)
    assert [test.p_value for test in tests] == pytest.approx([0.49694, 0.61104, 0.69763], abs=6e-6)


def test_direction_of_dependence_is_named() -> None:
    clustered = np.tile(np.r_[np.ones(5), np.zeros(45)], 10)
    apart = np.tile([1.0, 0.0], 100)
    assert "clusters" in christoffersen_independence(clustered, 0.1).interpretation
    assert "avoid" in christoffersen_independence(apart, 0.4).interpretation


# -- size and power --------------------------------------------------------------------------------------------------


RUNS, DAYS = 1000, 1000


def share_rejected(test: Any, hits: np.ndarray) -> float:
    return float(np.mean([test(row).rejects() for row in hits]))


@pytest.mark.parametrize(
    ("test", "low", "high"),
    [  # 5 % +- 3 standard errors of 1,000 runs (0.0207), widened for the known distortions at 50 expected hits:
        (lambda hits: kupiec(hits, 0.05), 0.03, 0.08),
        (lambda hits: christoffersen_independence(hits, 0.05), 0.03, 0.09),
        (lambda hits: christoffersen(hits, 0.05), 0.03, 0.09),
        (lambda hits: dynamic_quantile(hits, np.ones(DAYS), 0.05), 0.03, 0.11),
    ],
    ids=["kupiec", "independence", "conditional", "dynamic quantile"],
)
def test_size(test: Any, low: float, high: float) -> None:
    hits = (np.random.default_rng(0).random((RUNS, DAYS)) < 0.05).astype(float)
    assert low < share_rejected(test, hits) < high


def test_power_against_half_the_volatility() -> None:
    """VaR from half of the true volatility at 1 %: hits have a chance of 12 %; every test of level or size finds it."""
    x = np.random.default_rng(1).normal(size=(50, 250))
    var, es = np.full(250, 2.3263 / 2), np.full(250, 2.6652 / 2)
    assert share_rejected(lambda row: kupiec(row < -var, 0.01), x) == 1.0
    assert share_rejected(lambda row: christoffersen(row < -var, 0.01), x) == 1.0
    assert share_rejected(lambda row: acerbi_szekely(row, var, es, 0.01, simulations=500), x) == 1.0


def test_power_against_clusters() -> None:
    """The right number of hits, but a hit has a chance of 40 % to be followed by another."""
    rng, hits = np.random.default_rng(2), np.zeros((100, DAYS))
    for t in range(1, DAYS):
        hits[:, t] = rng.random(100) < np.where(hits[:, t - 1] == 1.0, 0.4, 0.05 * 0.6 / 0.95)
    assert share_rejected(lambda row: christoffersen_independence(row, 0.05), hits) > 0.95
    assert share_rejected(lambda row: dynamic_quantile(row, np.ones(DAYS), 0.05), hits) > 0.95
    assert share_rejected(lambda row: kupiec(row, 0.05), hits) < 0.35  # it looks at the number alone


def test_size_of_the_shortfall_tests() -> None:
    """True t(5) P&L against its own VaR and ES: 5 % +- 3 standard errors of 600 runs (0.027)."""
    quantile = float(stats.t.ppf(0.025, 5))
    shortfall = -float(stats.t(5).expect(lambda x: x, lb=-np.inf, ub=quantile)) / 0.025
    x = np.random.default_rng(5).standard_t(5, (600, 250))
    var, es = np.full(250, -quantile), np.full(250, shortfall)
    for statistic in ("Z1", "Z2"):
        share = np.mean([acerbi_szekely(row, var, es, 0.025, statistic, simulations=300).rejects() for row in x])
        assert 0.05 - 0.027 < share < 0.05 + 0.027


# -- dynamic quantile ------------------------------------------------------------------------------------------------


def test_dynamic_quantile_is_the_formula() -> None:
    """Hit' X (X' X)^-1 X' Hit / (alpha (1 - alpha)), with the inverse written out."""
    rng = np.random.default_rng(3)
    hits, var = (rng.random(400) < 0.1).astype(float), rng.uniform(1, 2, 400)
    y = hits - 0.1
    x = np.column_stack([np.ones(396), *(y[4 - k : 400 - k] for k in range(1, 5)), var[4:]])
    expected = y[4:] @ x @ np.linalg.inv(x.T @ x) @ x.T @ y[4:] / 0.09
    test = dynamic_quantile(hits, var, 0.1)
    assert test.statistic == pytest.approx(expected)
    assert test.p_value == pytest.approx(stats.chi2.sf(expected, 6))


def test_dynamic_quantile_counts_only_what_differs() -> None:
    """A constant VaR repeats the constant: one degree of freedom less; without a hit only the constant is left."""
    hits = (np.random.default_rng(3).random(400) < 0.1).astype(float)
    test = dynamic_quantile(hits, np.full(400, 0.02), 0.1)
    assert test.p_value == pytest.approx(stats.chi2.sf(test.statistic, 5))
    quiet = dynamic_quantile(np.zeros(400), np.full(400, 0.02), 0.1)
    assert quiet.p_value == pytest.approx(stats.chi2.sf(396 * 0.01 / 0.09, 1))
    assert "only 1 of 6" in quiet.note


def test_dynamic_quantile_sees_a_var_that_moves_the_wrong_way() -> None:
    rng = np.random.default_rng(7)
    sigma = np.where(np.arange(2000) % 200 < 100, 0.5, 1.5)
    x = sigma * rng.normal(size=2000)
    assert dynamic_quantile(x < -1.6449 * (2.0 - sigma), 2.0 - sigma, 0.05).rejects()
    assert not dynamic_quantile(x < -1.6449 * sigma, sigma, 0.05).rejects()


# -- traffic light ---------------------------------------------------------------------------------------------------


def test_basel_table() -> None:
    """Basel Committee (1996), table 2: zones, multiplication factors and cumulative probabilities, 250 days at 99 %."""
    lights = [traffic_light(hits_of(x, 250)) for x in range(12)]
    assert [light.zone for light in lights] == ["green"] * 5 + ["yellow"] * 5 + ["red"] * 2
    assert [light.multiplier for light in lights] == [3, 3, 3, 3, 3, 3.4, 3.5, 3.65, 3.75, 3.85, 4, 4]
    expected = [8.11, 28.58, 54.32, 75.81, 89.22, 95.88, 98.63, 99.60, 99.89, 99.97, 99.99]
    assert [100 * light.cumulative for light in lights[:11]] == pytest.approx(expected, abs=0.006)


def test_only_the_last_days_count() -> None:
    assert traffic_light(np.r_[np.ones(50), np.zeros(250)]).hits == 0
    assert traffic_light(np.zeros(500), 0.05, 500).multiplier is None
    with pytest.raises(DataError, match="needs 250 days, got 249"):
        traffic_light(np.zeros(249))


# -- Acerbi and Szekely ----------------------------------------------------------------------------------------------


def test_statistics_by_hand() -> None:
    """Hits -3 and -5 with ES 4 and 4: Z1 = (-0.75 - 1.25) / 2 + 1 = 0; Z2 = -2 / (100 x 0.05) + 1 = 0.6."""
    x = np.r_[-3.0, -5.0, np.zeros(98)]
    var, es = np.full(100, 2.0), np.full(100, 4.0)
    assert acerbi_szekely(x, var, es, 0.05, "Z1").statistic == pytest.approx(0.0)
    assert acerbi_szekely(x, var, es, 0.05, "Z2").statistic == pytest.approx(0.6)


@pytest.mark.parametrize(("freedom", "critical"), [(math.inf, -0.70), (100.0, -0.70), (3.0, -0.82)])
def test_critical_values(freedom: float, critical: float) -> None:
    """Acerbi & Szekely (2014): 5 % critical values of Z2, 250 days at 2.5 %; +- 3 simulation errors."""
    drawn = var_backtests._null_shortfalls("Z2", 250, 0.025, freedom, 40_000, 1)
    assert float(np.quantile(drawn, 0.05)) == pytest.approx(critical, abs=0.03)
    assert float(drawn.mean()) == pytest.approx(0.0, abs=0.01)


def test_size_of_losses_is_seen_where_counting_is_blind() -> None:
    """Right VaR, ES a third too small: Kupiec accepts, Z1 refuses."""
    rng = np.random.default_rng(4)
    x = rng.standard_t(3, 2000)
    var, es = np.full(2000, 3.1824), np.full(2000, 5.04 / 1.5)
    assert not kupiec(x < -var, 0.025).rejects()
    assert acerbi_szekely(x, var, es, 0.025, "Z1").rejects()


def test_shortfall_refusals() -> None:
    ones = np.ones(100)
    with pytest.raises(DataError, match="positive expected shortfall"):
        acerbi_szekely(ones, ones, -ones, 0.05)
    quiet = acerbi_szekely(ones, ones, ones, 0.05, "Z1")
    assert (quiet.p_value, quiet.rejects()) == (1.0, False)


# -- losses ----------------------------------------------------------------------------------------------------------


def test_losses_by_hand() -> None:
    """r = -3, VaR 2, ES 4, alpha 0.05: (0.05 - 1)(-3 + 2) = 0.95; 1 / (0.05 x 4) + 0.5 + log 4 - 1."""
    assert quantile_loss([-3.0], [2.0], 0.05)[0] == pytest.approx(0.95)
    assert fissler_ziegel_loss([-3.0], [2.0], [4.0], 0.05)[0] == pytest.approx(5.0 + 0.5 + math.log(4.0) - 1.0)
    assert fissler_ziegel_loss([1.0], [2.0], [4.0], 0.05)[0] == pytest.approx(0.5 + math.log(4.0) - 1.0)


def test_the_truth_scores_best() -> None:
    x = np.random.default_rng(6).normal(size=200_000)
    scores = {
        (v, e): fissler_ziegel_loss(x, np.full(len(x), 1.6449 * v), np.full(len(x), 2.0627 * e), 0.05).mean()
        for v in (0.85, 1.0, 1.15)
        for e in (0.85, 1.0, 1.15)
    }
    assert min(scores, key=lambda key: scores[key]) == (1.0, 1.0)


def test_diebold_mariano() -> None:
    rng = np.random.default_rng(9)
    sizes = [diebold_mariano(rng.normal(size=500), rng.normal(size=500)).rejects() for _ in range(500)]
    assert 0.02 < np.mean(sizes) < 0.09
    assert diebold_mariano(rng.normal(0.3, 1, 500), rng.normal(size=500)).rejects()
    assert diebold_mariano(np.ones(9), np.ones(9)).p_value == 1.0


# -- walk forward ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def index() -> pd.Series[float]:
    """Daily returns of the S&P 500, 1999-2018."""
    return embedded("sp500")["close"].pct_change().dropna()


@pytest.mark.parametrize("model", [HistoricalVaR(), GarchVaR(), FilteredHistoricalVaR()], ids=str)
def test_forecasts_are_known_the_day_before(index: pd.Series[float], model: RiskModel) -> None:
    """Changing the returns from day t on changes no forecast up to day t."""
    series, changed = index[:620].copy(), index[:620].copy()
    changed.iloc[560:] = changed.iloc[560:] * 3 + 0.001
    one, other = (walk_forward(model, given, 500, refit_every=7).frame for given in (series, changed))
    pd.testing.assert_frame_equal(one[["var", "es"]].iloc[:61], other[["var", "es"]].iloc[:61])
    assert (one["var"].iloc[61:] != other["var"].iloc[61:]).any()


def test_walk_is_the_estimate_of_each_eve(index: pd.Series[float]) -> None:
    walk = walk_forward(EWMAVaR(), index[:300], 250)
    for t in (250, 275, 299):
        estimate = EWMAVaR().estimate(index[t - 250 : t])
        assert walk.frame.loc[index.index[t], ["var", "es"]].tolist() == [estimate.var, estimate.es]
    assert (walk.hits == (index[250:300] < -walk.frame["var"])).all()


def test_refits_come_every_so_many_days(index: pd.Series[float], monkeypatch: pytest.MonkeyPatch) -> None:
    lengths, original = list[int](), GarchVaR.calibrate

    def counted(model: GarchVaR, values: np.ndarray) -> Any:
        lengths.append(len(values))
        return original(model, values)

    monkeypatch.setattr(GarchVaR, "calibrate", counted)
    walk_forward(GarchVaR(), index[:345], 300, refit_every=20)
    assert lengths == [300, 300, 300]  # days 300, 320 and 340


class Interrupting(HistoricalVaR):
    """Cancelled at the hundredth forecast, once."""

    calls: ClassVar[int] = 0

    def forecast(self, returns: Any, calibration: Any) -> Any:
        Interrupting.calls += 1
        if Interrupting.calls == 100:
            raise KeyboardInterrupt
        return super().forecast(returns, calibration)


def test_cancelled_and_resumed_is_the_same(index: pd.Series[float]) -> None:
    series, model = index[:600], Interrupting()
    Interrupting.calls = 0
    part = walk_forward(model, series, 300, refit_every=7)
    assert part.interrupted
    assert len(part.frame) == 99
    whole = walk_forward(model, series, 300, refit_every=7, resume=part)
    assert not whole.interrupted
    pd.testing.assert_frame_equal(whole.frame, walk_forward(HistoricalVaR(), series, 300, refit_every=7).frame)
    with pytest.raises(ParameterError, match="of the same model"):
        walk_forward(EWMAVaR(), series, 300, resume=part)
    with pytest.raises(ParameterError, match="of the same model"):
        walk_forward(model, series, 300, refit_every=20, resume=part)


def test_garch_resumed_within_a_block_is_the_same(index: pd.Series[float]) -> None:
    whole = walk_forward(GarchVaR(), index[:340], 300, refit_every=20)
    part = walk_forward(GarchVaR(), index[:310], 300, refit_every=20)
    again = walk_forward(GarchVaR(), index[:340], 300, refit_every=20, resume=part)
    pd.testing.assert_frame_equal(whole.frame, again.frame)


def test_refusals_keep_the_forecast_and_are_listed() -> None:
    """One crash makes Cornish-Fisher undefined while it is in the window."""
    values = pd.Series(np.tile([0.03, -0.03, *[0.001, -0.001] * 5], 20)[:200])
    values.iloc[120] = -0.30
    walk = walk_forward(CornishFisherVaR(), values, 60)
    kept = walk.frame.index[walk.frame["kept"]]
    assert kept.tolist() == list(range(121, 181))
    assert walk.frame.loc[121:180, "var"].nunique() == 1
    assert walk.refusals[0][0] == 121
    assert "rarer losses" in walk.refusals[0][1]
    assert "60 forecasts kept" in walk.summary()


def test_walk_refusals(index: pd.Series[float]) -> None:
    with pytest.raises(ParameterError, match="horizon must be 1"):
        walk_forward(HistoricalVaR(horizon=10), index)
    with pytest.raises(ParameterError, match="window of at least 100"):
        walk_forward(HistoricalVaR(), index, 99)
    with pytest.raises(DataError, match="fewer than two days"):
        walk_forward(HistoricalVaR(), index[:500], 499)


def test_progress_bar_counts_days(index: pd.Series[float], capsys: pytest.CaptureFixture[str]) -> None:
    walk_forward(EWMAVaR(), index[:60], 50, progress=True)
    assert "10/10" in capsys.readouterr().err


# -- verdict and ranking ---------------------------------------------------------------------------------------------


def test_verdict_in_words(index: pd.Series[float]) -> None:
    verdict = backtest_var(walk_forward(GaussianVaR(), index[1000:3000], 500))
    assert verdict.to_frame().index.tolist() == [
        "Kupiec",
        "Christoffersen independence",
        "Christoffersen conditional coverage",
        "dynamic quantile",
        "Acerbi-Szekely Z1",
        "Acerbi-Szekely Z2",
    ]
    assert not verdict.passed
    assert "too often" in verdict.interpretation
    assert "Not to be trusted" in verdict.summary()
    names = [trace.name for trace in verdict.plot().data]
    assert names == ["return", "−VaR", "hit"]
    assert len(verdict.plot().data[2].x) == int(verdict.frame["hit"].sum())


def test_a_true_model_passes() -> None:
    x = pd.Series(np.random.default_rng(12).normal(size=2000))
    true = pd.Series(np.full(2000, 2.3263)), pd.Series(np.full(2000, 2.6652))
    verdict = backtest_forecasts(x, *true, 0.01, degrees_of_freedom=math.inf)
    assert verdict.passed
    assert "Nothing speaks against it" in verdict.interpretation
    with pytest.raises(DataError, match="on the same days"):
        backtest_forecasts(x, true[0][5:], true[1], 0.01)


def test_hits_must_be_hits() -> None:
    for bad in ([0, 2, 1], [1], [[0, 1], [1, 0]], [0.0, math.nan]):
        with pytest.raises(DataError, match="zeros and ones"):
            kupiec(bad, 0.05)
    with pytest.raises(ParameterError, match="tail probability"):
        kupiec([0, 1], 0.95)


def test_level_of_rejection() -> None:
    test = RiskTest("a", 1.0, 0.07, "null", "accusation")
    assert (test.rejects(), test.rejects(0.1)) == (False, True)


def test_ranking_of_the_crisis_years(index: pd.Series[float]) -> None:
    """2003-2012 at 1 %: a model that knows the volatility of now beats the bell curve, clearly."""
    models = {"Gaussian": GaussianVaR(), "GARCH": GarchVaR(), "history": HistoricalVaR()}
    ranking = rank_models(models, index["1999":"2012"], window=1000, refit_every=100)
    assert ranking.table.index[0] == "GARCH"
    assert ranking.table.index[-1] == "Gaussian"
    assert ranking.table["p_of_best"]["Gaussian"] < 0.05
    assert ranking.table["p_of_best"]["GARCH"] == 1.0
    assert ranking.interpretation.startswith("Best by score: GARCH.")
    with pytest.raises(ParameterError, match="one alpha"):
        rank_models({"a": EWMAVaR(), "b": EWMAVaR(alpha=0.05)}, index)
    with pytest.raises(ParameterError, match="one alpha"):
        rank_models({}, index)


@pytest.mark.slow
@pytest.mark.real_data
def test_ranking_of_twenty_years_of_the_index(real_data: Path) -> None:
    """S&P 500, 1999-2018, 1 %, four years of memory: 4,030 forecasts, 40.3 hits promised, 2008 inside.

    What knows the volatility of now is best, and survives 2008 (2.5 hits promised in its 253 days) with ten or so hits;
    the bell curve has three dozen there and ends in the red zone.
    """
    prices = pd.read_parquet(real_data / "index" / "sp500_1999_2018.parquet").set_index("date")["adj_close"]
    returns = prices.pct_change().dropna()
    models = {
        "Gaussian": GaussianVaR(),
        "history": HistoricalVaR(),
        "EWMA": EWMAVaR(),
        "GARCH-t": GarchVaR(),
        "filtered": FilteredHistoricalVaR(),
    }
    ranking = rank_models(models, returns, window=1000, refit_every=250)
    hits = ranking.table["hits"].astype(int).to_dict()
    table, in_2008 = (
        ranking.table,
        {
            name: int(walk.frame["hit"][pd.DatetimeIndex(walk.frame.index).year == 2008].sum())
            for name, walk in ranking.walks.items()
        },
    )
    assert len(ranking.walks["EWMA"].frame) == 4030
    assert set(table.index[:2]) == {"GARCH-t", "filtered"}
    assert list(table.index[2:]) == ["EWMA", "history", "Gaussian"]
    assert (hits["Gaussian"], hits["history"], hits["EWMA"]) == (92, 59, 85)
    assert (table.loc[["EWMA", "history", "Gaussian"], "p_of_best"] < 0.05).all()
    assert (table["p_of_best"].iloc[:2] > 0.01).all()
    assert (in_2008["Gaussian"], in_2008["history"], in_2008["EWMA"]) == (36, 26, 7)
    assert all(5 <= in_2008[name] <= 12 for name in ("GARCH-t", "filtered"))
    assert table.loc["Gaussian", "zone"] == "red"
    assert float(table["p_kupiec"]["Gaussian"]) < 1e-9
    assert (table.loc[["Gaussian", "history"], "p_independence"] < 0.01).all()  # their hits cluster
    assert (table.loc[["EWMA", "GARCH-t", "filtered"], "p_independence"] > 0.05).all()


@pytest.mark.slow
@pytest.mark.real_data
def test_ranking_on_crypto(real_data: Path) -> None:
    """The last 7,000 five-minute bars (24 days) of bitcoin, 1 %: 70 hits promised. The lesson shows this table."""
    bars = pd.read_parquet(real_data / "crypto" / "binance_spot_5m" / "BTC_USDT.parquet").set_index("time")
    models = {
        "Gaussian": GaussianVaR(),
        "history": HistoricalVaR(),
        "EWMA": EWMAVaR(),
        "GARCH-t": GarchVaR(),
        "filtered": FilteredHistoricalVaR(),
    }
    ranking = rank_models(models, bars["close"].pct_change().dropna()[-9000:], window=2000, refit_every=250)
    table, hits = ranking.table, ranking.table["hits"].astype(int).to_dict()
    assert list(table.index) == ["GARCH-t", "filtered", "EWMA", "history", "Gaussian"]
    assert (hits["Gaussian"], hits["history"], hits["EWMA"]) == (107, 103, 132)
    assert all(abs(hits[name] - 80) <= 3 for name in ("GARCH-t", "filtered"))
    assert (table.loc[["GARCH-t", "filtered"], "p_kupiec"] > 0.05).all()
    assert (table.loc[["EWMA", "history", "Gaussian"], "p_kupiec"] < 0.001).all()
    assert (table.loc[["EWMA", "history", "Gaussian"], "p_of_best"] < 0.05).all()
