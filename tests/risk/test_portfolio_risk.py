"""Contributions to a portfolio's risk: they add up, they are derivatives, and horizons follow their model."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from tradelib.errors import DataError, ParameterError
from tradelib.risk.portfolio_risk import Method, decompose_risk, risk_horizons
from tradelib.risk.value_at_risk import (
    CornishFisherVaR,
    GaussianVaR,
    HistoricalVaR,
    RiskModel,
    StudentTVaR,
    historical_risk,
)

METHODS: list[Method] = ["gaussian", "student_t", "historical", "cornish_fisher"]
MODELS: dict[Method, RiskModel] = {
    "gaussian": GaussianVaR(alpha=0.05),
    "student_t": StudentTVaR(alpha=0.05, degrees_of_freedom=4),
    "historical": HistoricalVaR(alpha=0.05),
    "cornish_fisher": CornishFisherVaR(alpha=0.05),
}
WEIGHTS = {"a": 0.5, "b": 0.7, "c": -0.2}


@pytest.fixture(scope="module")
def returns() -> pd.DataFrame:
    """Three seeded series with a common factor."""
    rng = np.random.default_rng(0)
    values = rng.standard_t(6, (900, 3)) @ np.array([[1.0, 0.5, 0.3], [0, 1.0, 0.2], [0, 0, 0.8]]) / 100 + 0.0003
    return pd.DataFrame(values, columns=["a", "b", "c"])


@pytest.mark.parametrize("horizon", [1, 10])
@pytest.mark.parametrize("method", METHODS)
def test_components_add_up_to_the_model(returns: pd.DataFrame, method: Method, horizon: int) -> None:
    """Euler: sum of components = whole = what the single-series model says of the portfolio's own returns."""
    risk = decompose_risk(returns, WEIGHTS, 0.05, method, horizon)
    alone = MODELS[method].replace(horizon=horizon).estimate(returns @ pd.Series(WEIGHTS))
    assert risk.table["component_var"].sum() == pytest.approx(risk.var, rel=1e-12)
    assert risk.table["component_es"].sum() == pytest.approx(risk.es, rel=1e-12)
    assert risk.table["share_of_es"].sum() == pytest.approx(1.0)
    assert (risk.var, risk.es) == pytest.approx((alone.var, alone.es), rel=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_marginals_are_derivatives(returns: pd.DataFrame, method: Method) -> None:
    """A little more of a position, by finite difference of the single-series model."""
    risk, w = decompose_risk(returns, WEIGHTS, 0.05, method), np.array(list(WEIGHTS.values()))
    for i, name in enumerate(WEIGHTS):
        step = 1e-7 * np.eye(3)[i]
        up, down = (MODELS[method].estimate(returns.to_numpy() @ (w + side * step)) for side in (1, -1))
        assert risk.table.loc[name, "marginal_var"] == pytest.approx((up.var - down.var) / 2e-7, abs=1e-6)
        assert risk.table.loc[name, "marginal_es"] == pytest.approx((up.es - down.es) / 2e-7, abs=1e-6)


def test_gaussian_by_hand() -> None:
    """Two assets of deviation 1 and 2 %, correlation -1 (Jorion's arithmetic): equal money, the second carries all."""
    z = np.tile([1.0, -1.0], 50) * math.sqrt(99 / 100)
    frame = pd.DataFrame({"one": 0.01 * z, "two": -0.02 * z})
    risk = decompose_risk(frame, {"one": 0.5, "two": 0.5}, 0.05, "gaussian")
    assert risk.var == pytest.approx(1.6448536 * 0.005)
    assert risk.table["component_var"].tolist() == pytest.approx([-1.6448536 * 0.005, 1.6448536 * 0.01])
    assert risk.table["standalone_var"].tolist() == pytest.approx([1.6448536 * 0.005, 1.6448536 * 0.01])
    assert risk.diversification == pytest.approx(1 - 0.005 / 0.015)
    assert risk.table["incremental_var"].tolist() == pytest.approx([-1.6448536 * 0.005, 0.0], abs=1e-9)
    assert "one lower(s)" in risk.interpretation


def test_historical_components_are_the_tail_days(returns: pd.DataFrame) -> None:
    portfolio = returns @ pd.Series(WEIGHTS)
    days = portfolio <= np.quantile(portfolio, 0.05)
    risk = decompose_risk(returns, WEIGHTS, 0.05)
    assert risk.table["marginal_es"].tolist() == pytest.approx((-returns[days].mean()).tolist())


def test_order_of_the_weights_does_not_matter(returns: pd.DataFrame) -> None:
    one = decompose_risk(returns, WEIGHTS, 0.05)
    other = decompose_risk(returns, dict(reversed(WEIGHTS.items())), 0.05)
    pd.testing.assert_frame_equal(one.table, other.table)


def test_one_position_is_its_own_portfolio(returns: pd.DataFrame) -> None:
    risk = decompose_risk(returns[["a"]], {"a": 1.0}, 0.05)
    assert risk.diversification == pytest.approx(0.0)
    assert risk.table["incremental_es"].tolist() == pytest.approx([risk.es])
    assert risk.es == pytest.approx(historical_risk(returns[["a"]].to_numpy(), 0.05)[1][0])


def test_refusals(returns: pd.DataFrame) -> None:
    with pytest.raises(ParameterError, match=r"without returns: \['d'\]; returns without a weight: \['c'\]"):
        decompose_risk(returns, {"a": 1.0, "b": 0.0, "d": 1.0})
    with pytest.raises(ParameterError, match="not all zero"):
        decompose_risk(returns, dict.fromkeys("abc", 0.0))
    with pytest.raises(DataError, match="b: all 900 returns"):
        decompose_risk(returns.assign(b=0.001), WEIGHTS)
    with pytest.raises(DataError, match="too few: at least 1000"):
        decompose_risk(returns, WEIGHTS, 0.001)
    with pytest.raises(DataError, match="no risk to estimate"):
        decompose_risk(pd.DataFrame({"a": returns["a"], "b": -returns["a"]}), {"a": 0.5, "b": 0.5}, 0.05, "gaussian")
    with pytest.raises(ParameterError, match="no method 'normal'"):
        decompose_risk(returns, WEIGHTS, method="normal")  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="alpha"):
        decompose_risk(returns, WEIGHTS, alpha=0.99)


def test_figure_and_table(returns: pd.DataFrame) -> None:
    risk = decompose_risk(returns, WEIGHTS, 0.05)
    assert [trace.name for trace in risk.plot().data] == ["weight", "share of shortfall"]
    assert risk.to_frame().equals(risk.table)
    assert "component_es" in risk.summary()


# -- horizons --------------------------------------------------------------------------------------------------------


def test_normal_returns_scale_with_the_root() -> None:
    """Mean zero and independent: model, root of time and overlapping sums agree, the last within its own error."""
    values = pd.Series(np.random.default_rng(3).normal(0, 0.01, 20_000))
    table = risk_horizons(GaussianVaR(alpha=0.05, zero_mean=True), values, [1, 5, 10])
    assert table["var"].to_numpy() == pytest.approx(table["var_root_of_time"].to_numpy())
    assert table["var_overlapping"].to_numpy() == pytest.approx(table["var"].to_numpy(), rel=0.06)
    assert table["blocks"].tolist() == [20_000, 4_000, 2_000]


def test_horizons_are_whole_numbers() -> None:
    values = pd.Series(np.random.default_rng(3).normal(0, 0.01, 200))
    for bad in ([], [0], [1.5], [True]):
        with pytest.raises(ParameterError, match="whole numbers"):
            risk_horizons(GaussianVaR(), values, bad)  # type: ignore[arg-type]
