"""Attribution: parts that sum to the whole on any tape, effects of a book's tables, errors of statsmodels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tradelib._jit import interpreted
from tradelib.backtest import Costs, Market, Order, Result, run_orders, run_positions, run_weights
from tradelib.data.panel import Panel, as_panel, panel_from_wide
from tradelib.errors import DataError, ParameterError
from tradelib.risk import Exits
from tradelib.validation import attribute_performance, attribution, brinson, factor_regression
from tradelib.validation.attribution import COMPONENTS, EFFECTS

ALL = Costs(fee_rate=0.001, slippage=0.0007, spread=0.0004, impact=0.01, borrow_rate=0.5, interest_rate=0.4)
LEVERED = Market(maximum_leverage=3.0, maintenance_margin=0.25, liquidation_fee_rate=0.01, insufficient_cash="reduce")


def tape(seed: int, bars: int, assets: int, volatility: float = 0.03) -> Panel:
    """Eight-hour bars of a random walk with a gap at every open; of a volume that makes impact felt."""
    rng = np.random.default_rng(seed)
    close = 100.0 * np.exp(rng.normal(0.0, volatility, (bars, assets)).cumsum(axis=0))
    open_ = np.vstack([close[:1], close[:-1]]) * np.exp(rng.normal(0.0, volatility / 3, (bars, assets)))
    reach = 1.0 + rng.uniform(0.0, volatility, (2, bars, assets))
    fields = {"open": open_, "high": np.maximum(open_, close) * reach[0], "low": np.minimum(open_, close) / reach[1]}
    index = pd.date_range("2024-01-01", periods=bars, freq="8h", tz="UTC", name="time")
    names = [f"{letter}/USDT" for letter in "ABCDE"[:assets]]
    wide = {name: pd.DataFrame(values, index, names) for name, values in {**fields, "close": close}.items()}
    volume = pd.DataFrame(rng.uniform(50.0, 500.0, (bars, assets)), index, names)
    columns = {(s, f): frame[s] for f, frame in {**wide, "volume": volume}.items() for s in names}
    frame = pd.DataFrame(columns).sort_index(axis=1)
    frame.attrs.update(timeframe="8h", calendar="24/7", source="test")
    return as_panel(frame)


def random_run(seed: int, bars: int, assets: int, *, exits: Exits | None = None, volatility: float = 0.03) -> Result:
    """Flips, partial exits, holes and positions left open, under every cost that there is."""
    panel, rng = tape(seed, bars, assets, volatility), np.random.default_rng(seed + 1)
    size = 2.5 / assets
    weights = rng.choice([-size, -size / 2, 0.0, size / 2, size, np.nan], panel.shape)
    funding = pd.DataFrame(rng.normal(0.0, 0.001, panel.shape), panel.index, panel.symbols)
    options: dict[str, Any] = {"costs": ALL, "market": LEVERED, "funding": funding, "exits_policy": exits}
    band = None if exits is not None and exits.is_partial else 0.0
    return run_weights(pd.DataFrame(weights, panel.index, panel.symbols), panel, band=band, cash=1_000.0, **options)


def change(result: Result) -> np.ndarray:
    return np.diff(result.simulation.equity, prepend=result.initial_cash)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 60), st.integers(1, 4), st.booleans())
def test_every_split_sums_to_the_profit(seed: int, bars: int, assets: int, protected: bool) -> None:
    exits = Exits(stop_loss=0.04, take_profit=[(0.03, 0.5), (0.08, 0.5)]) if protected else None
    result = random_run(seed, bars, assets, exits=exits)
    states = pd.Series(np.arange(bars) % 3, result.index)
    found = attribute_performance(result, regimes=states)
    profit = result.simulation.equity[-1] - result.initial_cash
    scale = result.initial_cash + np.abs(found.bars.to_numpy()).sum()
    for split in found.splits:
        assert abs(found.by(split)["net"].sum() - profit) <= 1e-9 * scale, split
        if split != "cost":
            parts = found.by(split)[list(COMPONENTS)].sum()
            np.testing.assert_allclose(parts, found.components, rtol=1e-9, atol=1e-9 * scale, err_msg=split)
    np.testing.assert_allclose(found.bars.sum(axis=1), change(result), atol=1e-9 * scale)


@pytest.mark.parametrize("seed", range(4))
def test_costs_are_those_of_the_result(seed: int) -> None:
    result = random_run(seed, 200, 3, volatility=0.06)
    costs = result.costs_by_kind
    assert (costs.drop(["funding", "liquidation_fee"]) > 0).all()
    found = attribute_performance(result).components
    np.testing.assert_allclose(-found[costs.index], costs, rtol=1e-9, atol=1e-9)


def test_a_liquidation_pays_for_its_own_trade() -> None:
    """The fee is booked when the position is gone already: it belongs to the trade that was liquidated."""
    panel = tape(0, 200, 2, 0.06)
    weights = pd.DataFrame(1.4, panel.index, panel.symbols)
    result = run_weights(weights, panel, band=None, market=LEVERED, costs=ALL, cash=1_000.0)
    fee = result.costs_by_kind["liquidation_fee"]
    found = attribute_performance(result).by("exit_reason")["liquidation_fee"]
    assert fee > 0
    assert found.drop("liquidation").eq(0.0).all()
    assert found["liquidation"] == pytest.approx(-fee)


def test_rows_are_the_trades_of_the_result() -> None:
    """Gross, less fees, slippage, spread and impact of a trade is its profit; carry comes on top."""
    result = random_run(7, 150, 3, exits=Exits(stop_loss=0.05))
    found, trades = attribute_performance(result).trades, result.trades
    rows = found[found["symbol"] != "account"]
    paid = rows[["gross", "fees", "slippage", "spread", "impact"]].sum(axis=1)
    np.testing.assert_allclose(paid, trades["profit"], rtol=1e-9, atol=1e-8)
    np.testing.assert_allclose(-rows["fees"].astype(float), trades["fees"], rtol=1e-9, atol=1e-12)
    assert rows["symbol"].tolist() == trades["symbol"].tolist()
    assert rows["side"].tolist() == trades["side"].tolist()
    assert set(rows["exit_reason"]) >= {"signal", "stop_loss", "still open"}


def test_a_flip_by_hand() -> None:
    """Buy 2 at 10 + 1 %, sell 3 at 12 - 1 %, close at 11: costs of the flip are two thirds the old trade's."""
    close = pd.DataFrame({"A": [10.0, 10.0, 12.0, 11.0]}, pd.date_range("2024-01-01", periods=4, tz="UTC", name="time"))
    panel = panel_from_wide(close, timeframe="1d", calendar="24/7", source="test")  # opens are the closes before
    positions = pd.DataFrame({"A": [2.0, 2.0, -1.0, -1.0]}, close.index)
    costs = Costs(fee_rate=0.0, slippage=0.01)
    result = run_positions(positions, panel, costs=costs, market=Market(maximum_leverage=2.0), cash=1_000.0)
    found = attribute_performance(result)
    # fills at the opens of bars 1 (10) and 3 (12): long 2 x (12 - 10); short 1 x (12 - 11)
    sides = found.by("side")
    assert sides["gross"].tolist() == pytest.approx([4.0, 1.0])
    assert sides["slippage"].tolist() == pytest.approx([-(2 * 0.1) - 2 / 3 * 3 * 0.12, -(1 / 3) * 3 * 0.12])
    assert found.by("exit_reason")["net"].to_dict() == pytest.approx({"signal": 4 - 0.2 - 0.24, "still open": 1 - 0.12})
    assert found.profit == pytest.approx(5 - 0.2 - 0.36)
    assert found.by("weekday").index.tolist() == ["Monday", "Tuesday", "Wednesday", "Thursday"]


def test_funding_is_charged_to_who_held_then() -> None:
    """Funding is due at the open at which a long position is turned: the long one pays, the short one does not."""
    close = pd.DataFrame({"A": [10.0] * 4}, pd.date_range("2024-01-01", periods=4, freq="8h", tz="UTC", name="time"))
    panel = panel_from_wide(close, timeframe="8h", calendar="24/7", source="test")
    funding = pd.Series([0.01], close.index[2:3])
    weights = pd.DataFrame({"A": [0.5, -0.5, -0.5, -0.5]}, close.index)
    result = run_weights(weights, panel, band=None, costs=Costs(fee_rate=0, slippage=0), funding=funding, cash=1_000.0)
    sides = attribute_performance(result).by("side")
    assert sides["funding"].to_dict() == pytest.approx({"long": -0.01 * 500.0, "short": 0.0})


def test_orders_and_a_window() -> None:
    """A run from explicit orders that begins inside of the data."""
    panel = tape(3, 60, 1)
    order = Order(time=panel.index[25], side="buy", quantity=1.0)
    result = run_orders([order], panel, start=panel.index[20], cash=1_000.0)
    found = attribute_performance(result)
    assert len(found.bars) == 40
    assert found.by("exit_reason").index.tolist() == ["still open"]
    np.testing.assert_allclose(found.bars.sum(axis=1), change(result), atol=1e-9)


def test_interpreted_is_compiled() -> None:
    result = random_run(11, 40, 3, exits=Exits(stop_loss=0.05))
    result.trade_rows  # noqa: B018  # made before, so that only the attribution is interpreted
    compiled = attribution._pieces(result)
    with interpreted():
        plain = attribution._pieces(result)
    for one, other in zip(compiled, plain, strict=True):
        assert one.tobytes() == other.tobytes()


def test_a_foreign_equity_is_refused() -> None:
    result = random_run(5, 50, 2)
    equity = result.simulation.equity.copy()
    equity[-1] += 0.01
    vars(result)["simulation"] = result.simulation._replace(equity=equity)
    with pytest.raises(DataError, match="run the backtest again"):
        attribute_performance(result)


def test_regimes_must_cover_the_bars() -> None:
    result = random_run(5, 50, 2)
    with pytest.raises(DataError, match="cover 40 of the 50 bars"):
        attribute_performance(result, regimes=pd.Series(1.0, result.index[10:]))
    found = attribute_performance(result, regimes=pd.Series([np.nan] * 10 + ["up"] * 40, result.index, dtype=object))
    assert found.by("regime")["count"].to_dict() == {"up": 40, "no state": 10}
    with pytest.raises(ParameterError, match="there are no regimes"):
        attribute_performance(result).by("regime")


def test_displays_of_attribution() -> None:
    found = attribute_performance(random_run(5, 50, 2))
    assert "net" in found.summary()
    assert "<table" in found._repr_html_()
    assert len(found.plot().data) == 5
    assert [len(found.plot(split).data) for split in found.splits] == [1] * 9
    assert set(found.to_frame().index.get_level_values("split")) == set(found.splits)


# Brinson and Fachler --------------------------------------------------------------------------------------------------

NAMES = ["UK", "Japan", "US"]
W = pd.DataFrame([[0.4, 0.3, 0.3], [0.7, 0.2, 0.1], [0.3, 0.5, 0.2], [0.3, 0.5, 0.2]], columns=NAMES)
WB = pd.DataFrame([[0.4, 0.2, 0.4], [0.4, 0.3, 0.3], [0.5, 0.4, 0.1], [0.4, 0.4, 0.2]], columns=NAMES)
R = pd.DataFrame([[0.2, -0.05, 0.06], [-0.05, 0.03, -0.05], [-0.2, 0.08, -0.15], [0.1, -0.07, 0.25]], columns=NAMES)
RB = pd.DataFrame([[0.1, -0.04, 0.08], [-0.07, 0.04, -0.1], [-0.25, 0.05, -0.2], [0.05, -0.05, 0.1]], columns=NAMES)


def test_one_period_of_bacon() -> None:
    """Bacon (2008), Practical Portfolio Performance Measurement and Attribution, 2nd ed., tables 5.1 to 5.5."""
    found = brinson(W.iloc[0], R.iloc[0], WB.iloc[0], RB.iloc[0])
    assert (found.portfolio_return, found.benchmark_return) == (pytest.approx(0.083), pytest.approx(0.064))
    assert found.effects["allocation"].tolist() == pytest.approx([0.0, -0.0104, -0.0016])
    assert found.effects["selection"].tolist() == pytest.approx([0.04, -0.002, -0.008])
    assert found.effects["interaction"].tolist() == pytest.approx([0.0, -0.001, 0.002])


def test_four_periods_of_bacon_linked_by_carino() -> None:
    """Bacon (2008), table 8.2: allocation 1.65, -0.60, 0.15; selection with interaction 8.04, 0.18, 3.85 percent."""
    found = brinson(W, R, WB, RB)
    assert found.effects["allocation"].tolist() == pytest.approx([0.0165, -0.0061, 0.0015], abs=1e-4)
    both = found.effects["selection"] + found.effects["interaction"]
    assert both.tolist() == pytest.approx([0.0804, 0.0018, 0.0385], abs=1e-4)
    assert found.periods["portfolio"].tolist() == pytest.approx([0.083, -0.034, -0.05, 0.045])
    linked = found.periods["allocation"] * found.periods["factor"]
    assert linked.tolist() == pytest.approx([-0.0109, -0.0051, 0.0373, -0.0094], abs=1e-4)
    assert "selection" in found.interpretation
    assert len(found.plot().data) == 3
    assert "total" in found.to_frame().index


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(1, 8), st.booleans())
def test_linked_effects_sum_to_the_excess(seed: int, periods: int, segments: int, same: bool) -> None:
    rng = np.random.default_rng(seed)
    w, wb = (pd.DataFrame(rng.dirichlet(np.ones(segments), periods)) for _ in range(2))
    r, rb = (pd.DataFrame(rng.normal(0.0, 0.05, (periods, segments))) for _ in range(2))
    found = brinson(w, r, w if same else wb, r if same else rb)
    assert found.effects.to_numpy().sum() == pytest.approx(found.excess, abs=1e-12)
    assert list(found.effects.columns) == list(EFFECTS)


@pytest.mark.parametrize(
    ("change_of", "told"),
    [
        ({"weights": W * 0.9}, "sum to 0.9"),
        ({"returns": R.where(R > -0.05)}, "is not a number"),
        ({"benchmark_returns": RB.rename(columns={"US": "Mars"})}, "weights have"),
        ({"returns": R * 20, "benchmark_returns": RB}, "lost everything"),
        ({"benchmark_weights": WB.set_index(pd.Index([1, 2, 3, 4]))}, "periods of benchmark_weights"),
        ({"returns": [0.1]}, "must be a Series"),
    ],
)
def test_what_brinson_refuses(change_of: dict[str, Any], told: str) -> None:
    given_ = {"weights": W, "returns": R, "benchmark_weights": WB, "benchmark_returns": RB} | change_of
    with pytest.raises(DataError, match=told):
        brinson(**given_)


# Factors --------------------------------------------------------------------------------------------------------------


def sample(periods: int = 600, factors: int = 3) -> tuple[pd.Series, pd.DataFrame]:
    """Returns with autocorrelated, heteroskedastic residuals."""
    rng, index = np.random.default_rng(4), pd.date_range("2020-01-01", periods=periods, tz="UTC")
    f = pd.DataFrame(rng.normal(0.0003, 0.01, (periods, factors)), index, [f"f{i}" for i in range(factors)])
    noise = np.convolve(rng.normal(0.0, 0.01, periods + 4), np.ones(5) / 3, "valid") * (1 + 60 * f["f0"].abs())
    return (0.0002 + f @ np.arange(1.0, factors + 1.0) * 0.3 + noise).rename("r"), f


@pytest.mark.parametrize("lags", [None, 0, 1, 12])
def test_errors_are_those_of_statsmodels(lags: int | None) -> None:
    import statsmodels.api as sm

    r, f = sample()
    found = factor_regression(r, f, lags=lags)
    model = sm.OLS(r, sm.add_constant(f)).fit(cov_type="HAC", cov_kwds={"maxlags": found.lags})
    table = found.table
    np.testing.assert_allclose(table["coefficient"], model.params, rtol=1e-9)
    np.testing.assert_allclose(table["standard_error"], model.bse, rtol=1e-9)
    np.testing.assert_allclose(table["p_value"], model.pvalues, rtol=1e-6, atol=1e-300)
    np.testing.assert_allclose(table[["low", "high"]], model.conf_int(), rtol=1e-9)
    np.testing.assert_allclose(found.covariance, model.cov_params(), rtol=1e-9)
    assert (found.r_squared, found.adjusted_r_squared) == pytest.approx((model.rsquared, model.rsquared_adj), rel=1e-9)
    np.testing.assert_allclose(found.residuals, model.resid, atol=1e-12)
    assert found.lags == (5 if lags is None else lags)  # floor(4 x 6^(2/9)) = floor(5.96)


def test_rolling_is_that_of_statsmodels() -> None:
    import statsmodels.api as sm
    from statsmodels.regression.rolling import RollingOLS

    r, f = sample()
    expected = RollingOLS(r, sm.add_constant(f), window=60).fit().params.dropna()
    np.testing.assert_allclose(factor_regression(r, f).rolling(60), expected, rtol=1e-8, atol=1e-12)


def test_contributions_sum_to_the_mean_return() -> None:
    r, f = sample()
    found = factor_regression(r, f, periods_per_year=365)
    assert found.contributions.sum() == pytest.approx(r.mean() * 365)
    assert found.variance_inflation.tolist() == pytest.approx([1.0] * 3, abs=0.05)


def test_one_factor_as_a_series() -> None:
    r, f = sample(100, 1)
    found = factor_regression(r, f["f0"])
    assert found.betas["f0"] == pytest.approx(np.polyfit(f["f0"], r, 1)[0])
    assert found.variance_inflation.tolist() == [1.0]
    with pytest.raises(ParameterError, match="two factors"):
        found.plot("style")


def test_a_result_is_regressed_on_its_own_calendar() -> None:
    result = random_run(9, 120, 1)
    market = pd.Series(np.random.default_rng(1).normal(size=120), result.index, name="market")
    assert factor_regression(result, market).periods_per_year == result.periods_per_year


def test_what_factor_regression_refuses() -> None:
    r, f = sample(100)
    with pytest.raises(DataError, match="share 95 dates: 5 of the returns and 0 of the factors"):
        factor_regression(r, f.iloc[5:])
    with pytest.raises(DataError, match="f0, f1, sum are collinear"):
        factor_regression(r, f[["f0", "f1"]].assign(sum=f["f0"] + f["f1"]))
    with pytest.raises(DataError, match="factor f1 is constant"):
        factor_regression(r, f.assign(f1=0.5))
    with pytest.raises(DataError, match="must be numbers on every date"):
        factor_regression(r.where(r > 0), f)
    with pytest.raises(DataError, match="too few"):
        factor_regression(r.iloc[:4], f.iloc[:4])
    with pytest.raises(DataError, match="constant: there is nothing to explain"):
        factor_regression(r * 0.0, f)
    with pytest.raises(ParameterError, match="lags is 100"):
        factor_regression(r, f, lags=100)
    with pytest.raises(ParameterError, match="none of them named alpha"):
        factor_regression(r, f.rename(columns={"f0": "alpha"}))
    with pytest.raises(ParameterError, match="window is 4"):
        factor_regression(r, f).rolling(4)
    frozen = f.assign(f0=f["f0"].where(np.arange(100) > 50, 0.0))
    with pytest.raises(DataError, match="constant or collinear in the window"):
        factor_regression(r, frozen).rolling(20)


def test_displays_of_factors() -> None:
    r, f = sample()
    found = factor_regression(r, f)
    assert "alpha" in found.summary()
    assert "<table" in found._repr_html_()
    assert [len(found.plot(kind).data) for kind in ("betas", "rolling", "style")] == [1, 3, 1]
    close = f.assign(f2=f["f0"] + 0.01 * f["f2"])
    assert "inflated" in factor_regression(r, close).interpretation
