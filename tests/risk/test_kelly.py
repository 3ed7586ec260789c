"""Kelly fractions against published numbers, independent optimisers and seeded bettors."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, stats

from tradelib._jit import interpreted
from tradelib.data import embedded
from tradelib.errors import DataError, ParameterError
from tradelib.risk.kelly import (
    Diffusion,
    Kelly,
    Outcomes,
    bootstrap_kelly,
    fall_probability,
    kelly_bet,
    kelly_empirical,
    kelly_gaussian,
    kelly_outcomes,
    kelly_portfolio,
    kelly_posterior,
    kelly_shrinkage,
    reach_probability,
    share_for_drawdown,
    simulate_kelly,
)

STOCKS = embedded("sp500")["close"].pct_change().dropna()


# -- A bet


@pytest.mark.parametrize(
    ("probability", "odds", "published"),
    # Ziemba & Hausch (1986), "Betting at the racetrack": five bets with the same 14 % edge, as in MacLean, Thorp &
    # Ziemba (2010), "Good and bad properties of the Kelly criterion", table of the simulated bets.
    [(0.57, 1.0, 0.14), (0.38, 2.0, 0.07), (0.285, 3.0, 0.0467), (0.228, 4.0, 0.035), (0.19, 5.0, 0.028)],
)
def test_the_bets_of_ziemba_and_hausch(probability: float, odds: float, published: float) -> None:
    assert kelly_bet(probability, odds).fraction == pytest.approx(published, abs=5e-5)


@pytest.mark.parametrize("p", [0.51, 0.6, 0.9])
def test_the_growth_of_a_gambler_with_a_noisy_private_wire(p: float) -> None:
    # Kelly (1956), "A new interpretation of information rate": bet p - q, grow 1 + p log p + q log q bits.
    bits = 1.0 + p * math.log2(p) + (1.0 - p) * math.log2(1.0 - p)
    bet = kelly_bet(p)
    assert bet.fraction == pytest.approx(2.0 * p - 1.0, rel=1e-12)
    assert bet.growth_rate / math.log(2.0) == pytest.approx(bits, rel=1e-9)


def test_a_bet_that_loses_a_part_of_the_stake() -> None:
    # p/a - q/b with p = 0.6, a = 0.2, b = 0.2: Thorp (2006); here one unit is not the stake but the position.
    assert kelly_bet(0.6, gain=0.2, loss=0.2).fraction == pytest.approx(1.0, rel=1e-12)


def test_an_unfavourable_bet_has_a_negative_raw_fraction_and_clipping_is_a_step() -> None:
    raw = kelly_bet(0.4)
    assert raw.fraction == pytest.approx(-0.2)
    clipped = raw.clipped(0.0, 1.0)
    assert (clipped.fraction, clipped.optimum) == (0.0, raw.optimum)
    assert clipped.steps == ("clipped to 0 ... 1 = 0",)
    assert clipped.interpretation == "Nothing is bet."


# -- Several outcomes


@settings(max_examples=60, deadline=None)
@given(p=st.floats(0.02, 0.98), gain=st.floats(0.05, 20.0), loss=st.floats(0.05, 1.0))
def test_two_outcomes_are_a_bet(p: float, gain: float, loss: float) -> None:
    expected = kelly_bet(p, gain, loss).fraction
    found = kelly_outcomes([gain, -loss], [p, 1.0 - p]).fraction
    assert found == pytest.approx(expected, rel=1e-7, abs=1e-9 / loss)


def test_several_outcomes_agree_with_an_independent_optimiser() -> None:
    returns, probabilities = np.array([-1.0, -0.3, 0.2, 0.8, 4.0]), np.array([0.2, 0.25, 0.3, 0.15, 0.1])
    found = kelly_outcomes(returns, probabilities)
    grown = optimize.minimize_scalar(
        lambda f: -(probabilities @ np.log1p(f * returns)),
        bounds=(0.0, 0.999),
        method="bounded",
        options={"xatol": 1e-12},
    )
    assert found.fraction == pytest.approx(grown.x, abs=1e-7)
    assert found.growth_rate == pytest.approx(-grown.fun, rel=1e-12)
    assert abs(probabilities @ (returns / (1.0 + found.fraction * returns))) < 1e-14


def test_the_stock_market_of_thorp() -> None:
    # Rotando & Thorp (1992), "The Kelly criterion and the stock market", American Mathematical Monthly 99(10), and
    # Thorp (2006): the S&P 500 of 1926 to 1984, m = 0.058 and s = 0.216 beyond cash, normal within three s, the cut
    # tails spread evenly so that mass and variance are kept: f* = 1.17 (m / s^2 would be 1.24).
    m, s = 0.058, 0.216

    def density(alpha: float) -> tuple[float, stats.rv_continuous]:
        return (2.0 * stats.norm.sf(3.0 * s / alpha)) / (6.0 * s), stats.norm(m, alpha)

    def variance(alpha: float) -> float:
        floor, bell = density(alpha)
        return integrate.quad(lambda x: (x - m) ** 2 * (floor + bell.pdf(x)), m - 3 * s, m + 3 * s)[0]

    alpha = optimize.brentq(lambda a: variance(a) - s * s, 0.2, 0.23)
    floor, bell = density(alpha)
    nodes, weights = np.polynomial.legendre.leggauss(200)
    x = m + 3.0 * s * nodes
    p = 3.0 * s * weights * (floor + bell.pdf(x))

    assert kelly_outcomes(x, p / p.sum()).fraction == pytest.approx(1.17, abs=5e-3)
    assert kelly_gaussian(m, s * s).fraction == pytest.approx(1.243, abs=5e-4)


def test_cash_that_earns_is_the_alternative() -> None:
    # Wealth is 1 + r + f (x - r): the optimum solves the same equation as excess returns in units of cash.
    returns, p = np.array([0.3, -0.2]), np.array([0.6, 0.4])
    found = kelly_outcomes(returns, p, risk_free=0.05)
    direct = optimize.minimize_scalar(
        lambda f: -(p @ np.log(1.05 + f * (returns - 0.05))),
        bounds=(0.0, 4.1),
        method="bounded",
        options={"xatol": 1e-12},
    )
    assert found.fraction == pytest.approx(direct.x, abs=1e-6)
    assert found.growth_rate == pytest.approx(-direct.fun, rel=1e-12)


# -- Observed returns


def test_observed_returns_agree_with_a_root_of_scipy() -> None:
    x = STOCKS.to_numpy()
    expected = optimize.brentq(lambda f: (x / (1.0 + f * x)).mean(), 0.01, 0.99 / -x.min(), xtol=1e-13)
    assert kelly_empirical(STOCKS).fraction == pytest.approx(expected, rel=1e-10)


def test_returns_that_lose_on_average_are_bet_against() -> None:
    assert kelly_empirical(-STOCKS).fraction == pytest.approx(-kelly_empirical(STOCKS).fraction, rel=1e-10)


def test_a_series_without_a_loss_is_unbounded_and_refused() -> None:
    with pytest.raises(DataError, match="none of the 30 outcomes loses against cash"):
        kelly_empirical(np.linspace(0.001, 0.02, 30))


def test_ruin_by_a_loss_that_was_not_observed_is_refused_with_its_bound() -> None:
    fraction = kelly_empirical(STOCKS).fraction
    assert 1.0 / 0.9 < fraction < 1.0 / 0.5
    assert kelly_empirical(STOCKS, worst_return=-0.5).fraction == fraction
    with pytest.raises(ParameterError, match=r"ruin begins at 1\.111 \(the worst return observed is -0\.0903"):
        kelly_empirical(STOCKS, worst_return=-0.9)


def test_growth_beyond_the_bound_is_refused_and_drawn_as_minus_infinity() -> None:
    bet = kelly_bet(0.6)
    with pytest.raises(ParameterError, match="a single outcome takes the whole account: stay between -1 and 1"):
        bet.growth_at(1.0)
    assert bet.to_frame([6.0]).loc[6.0].tolist() == pytest.approx([1.2, -math.inf, 1.0])


def test_interpreted_and_compiled_kernels_agree_bit_for_bit() -> None:
    x = STOCKS.iloc[:400]
    compiled = kelly_empirical(x).fraction, bootstrap_kelly(x, resamples=100, block=5, seed=3).draws
    with interpreted():
        assert kelly_empirical(x).fraction == compiled[0]
        assert bootstrap_kelly(x, resamples=100, block=5, seed=3).draws.tobytes() == compiled[1].tobytes()


# -- Continuous returns


def test_continuous_returns() -> None:
    # Thorp (2006), section 7.1: f* = (m - r) / s^2 and g = (m - r)^2 / (2 s^2) + r; half Kelly keeps three quarters.
    kelly = kelly_gaussian(0.11, 0.15**2, risk_free=0.06)
    assert kelly.fraction == pytest.approx(0.05 / 0.0225, rel=1e-12)
    assert kelly.growth_rate == pytest.approx(0.06 + 0.05**2 / (2 * 0.0225), rel=1e-12)
    assert kelly.fractional(0.5).growth_rate - 0.06 == pytest.approx(0.75 * (kelly.growth_rate - 0.06), rel=1e-12)
    assert kelly.fractional(2.0).growth_rate == pytest.approx(0.06, rel=1e-12)
    assert "keeps 75% of the fastest growth" in kelly.fractional(0.5).summary()


# -- Falls


def test_falls_of_maclean_ziemba_and_blazenko() -> None:
    # MacLean, Ziemba & Blazenko (1992): x^(2/c - 1). Half of the account is lost at some time with probability 1/2
    # at full, 1/8 at half Kelly; doubling comes before halving with probability 2/3 and 8/9.
    assert [fall_probability(c, 0.5) for c in (0.5, 1.0, 2.0, 3.0)] == pytest.approx(
        [1 / 8, 1 / 2, 1.0, 1.0], rel=1e-12
    )
    reached = [reach_probability(c, 2.0, 0.5) for c in (0.5, 1.0, 2.0)]
    assert reached == pytest.approx([8 / 9, 2 / 3, 1 / 2], rel=1e-12)


@settings(max_examples=50, deadline=None)
@given(drop=st.floats(0.01, 0.99), probability=st.floats(1e-6, 0.999))
def test_the_share_for_a_drawdown_is_the_inverse(drop: float, probability: float) -> None:
    share = share_for_drawdown(drop, probability)
    assert 0.0 < share < 2.0
    assert fall_probability(share, drop) == pytest.approx(probability, rel=1e-9)


def test_bettors_double_before_they_halve_as_often_as_the_formula_says() -> None:
    kelly = kelly_gaussian(0.0004, 0.0001)  # steps of 2 % of volatility at half Kelly: nearly continuous
    paths = simulate_kelly(kelly, (0.5,), bets=2000, paths=1500, seed=5).log_wealth[0]
    doubled, halved = paths >= math.log(2.0), paths <= math.log(0.5)
    first = [np.where(hit.any(axis=1), hit.argmax(axis=1), paths.shape[1]) for hit in (doubled, halved)]
    decided = np.minimum(*first) < paths.shape[1]
    share = (first[0] < first[1])[decided].mean()
    assert decided.mean() > 0.9
    assert share == pytest.approx(8 / 9, abs=0.03)  # three standard errors of 0.008, and a step over the edge


def test_the_bound_of_discrete_bets_holds_and_is_close() -> None:
    # Busseti, Ryu & Boyd (2016), "Risk-constrained Kelly gambling": E[(1 + f x)^-t] <= 1 with t = log P / log(1 - d).
    bet = kelly_bet(0.6).limited(drop=0.3, probability=0.1)
    power = math.log(0.1) / math.log(0.7)
    assert isinstance(bet.law, Outcomes)
    assert bet.law.probabilities @ (1.0 + bet.fraction * bet.law.returns) ** -power == pytest.approx(1.0, abs=1e-9)
    assert bet.fall_probability(0.3) == pytest.approx(0.1, rel=1e-6)

    wealth = simulate_kelly(
        Kelly(bet.fraction, bet.fraction, bet.law), (1.0,), bets=1500, paths=3000, seed=1
    ).log_wealth
    fell = (wealth.min(axis=2) <= math.log(0.7)).mean()
    assert 0.05 < fell < 0.1 + 3 * math.sqrt(0.1 * 0.9 / 3000)


def test_a_drawdown_limit_of_a_diffusion_is_the_closed_form_and_never_raises_a_bet() -> None:
    kelly = kelly_gaussian(0.08, 0.04)
    assert kelly.limited(0.5, 0.125).share == pytest.approx(0.5, rel=1e-12)
    assert kelly.fractional(0.25).limited(0.5, 0.125).share == pytest.approx(0.25)
    assert kelly_bet(0.4).limited(0.5, 0.1).fraction < 0.0


# -- Estimates


def test_the_shrinkage_of_baker_and_mchale() -> None:
    # Baker & McHale (2013), Decision Analysis 10(3): k = ((b+1)p-1)^2 / (((b+1)p-1)^2 + ((b+1)s)^2).
    p, b, s = 0.55, 1.5, 0.06
    edge = (b + 1.0) * p - 1.0
    published = edge**2 / (edge**2 + ((b + 1.0) * s) ** 2)
    error_of_fraction = s * (1.0 + 1.0 / b)
    assert kelly_shrinkage(kelly_bet(p, b).fraction, error_of_fraction) == pytest.approx(published, rel=1e-12)
    shrunk = kelly_bet(p, b).shrunk(error_of_fraction)
    assert shrunk.fraction == pytest.approx(published * kelly_bet(p, b).fraction, rel=1e-12)


def test_the_shrunk_bet_grows_faster_than_the_raw_one_when_the_mean_is_estimated() -> None:
    rng = np.random.default_rng(7)
    law = Diffusion(0.05, 0.04)
    estimates = rng.normal(law.mean / law.variance, 2.0, 20_000)  # of a fraction of 1.25, with a standard error of 2
    raw = law.growth(estimates).mean()
    best = law.growth(kelly_shrinkage(1.25, 2.0) * estimates).mean()
    others = [law.growth(k * estimates).mean() for k in (0.2, 0.4)]
    assert raw < 0.0 < best
    assert best > max(others)


def test_a_posterior_bets_its_mean() -> None:
    # Browne & Whitt (1996): 60 of 100 with a flat prior is 61/102.
    assert kelly_posterior(60, 100).fraction == pytest.approx(2 * 61 / 102 - 1, rel=1e-12)
    assert kelly_posterior(0, 0).fraction == 0.0


def test_the_bootstrap_spreads_as_the_asymptotic_error_says() -> None:
    # f* = m/s^2 has a standard error of about 1 / (s sqrt(n)) when returns are independent: that of the mean.
    rng = np.random.default_rng(2)
    returns = rng.normal(0.001, 0.01, 1000)
    found = bootstrap_kelly(returns, resamples=500, seed=4)
    assert found.standard_error == pytest.approx(
        1.0 / (0.01 * math.sqrt(1000)), rel=0.12
    )  # three errors of 1/sqrt(1000)
    assert found.interval[0] < found.estimate.fraction < found.interval[1]
    assert found.shrunk.fraction < found.estimate.fraction
    assert bootstrap_kelly(returns, resamples=500, seed=4).draws.tobytes() == found.draws.tobytes()


def test_a_bootstrap_of_hardly_any_loss_is_refused() -> None:
    returns = np.r_[np.linspace(0.01, 0.02, 29), -0.01]
    with pytest.raises(DataError, match="resamples hold no loss"):
        bootstrap_kelly(returns)


# -- Several assets

MEAN = pd.Series([0.06, 0.05, 0.02], ["shares", "property", "bonds"])
CORRELATION = np.array([[1.0, 0.8, 0.0], [0.8, 1.0, 0.1], [0.0, 0.1, 1.0]])
RISK = np.diag([0.18, 0.15, 0.05])
COVARIANCE = RISK @ CORRELATION @ RISK


def test_several_assets_without_bounds() -> None:
    # Thorp (2006), section 8.4: F* = C^-1 (M - R), g = r + F'CF / 2.
    found = kelly_portfolio(MEAN, COVARIANCE, risk_free=0.01)
    np.testing.assert_allclose(COVARIANCE @ found.weights, MEAN - 0.01, rtol=1e-12)
    assert found.growth_rate == pytest.approx(0.01 + 0.5 * found.weights @ COVARIANCE @ found.weights, rel=1e-12)
    assert list(found.weights.index) == list(MEAN.index)


def test_one_asset_is_the_gaussian_fraction() -> None:
    single = kelly_gaussian(0.07, 0.03, risk_free=0.02)
    found = kelly_portfolio([0.07], [[0.03]], risk_free=0.02)
    assert (found.weights.iloc[0], found.growth_rate) == pytest.approx((single.fraction, single.growth_rate), rel=1e-12)


@pytest.mark.parametrize("long_only", [True, False])
def test_bounded_weights_satisfy_the_conditions_of_kuhn_and_tucker(long_only: bool) -> None:
    # At the optimum the slope m - Cw is one number (the price of leverage) where a weight is at work, with its sign,
    # and no larger elsewhere.
    mean = np.array([0.08, -0.05, 0.03, 0.01])
    root = np.array([[0.2, 0, 0, 0], [0.1, 0.1, 0, 0], [0.05, 0.0, 0.15, 0], [0.0, 0.1, 0.05, 0.1]])
    covariance = root @ root.T
    found = kelly_portfolio(mean, covariance, long_only=long_only, leverage=1.0)
    w, slope = found.weights.to_numpy(), mean - covariance @ found.weights.to_numpy()
    price = slope[np.argmax(np.abs(w))] * np.sign(w[np.argmax(np.abs(w))])
    at_work = np.abs(w) > 1e-6
    assert found.fraction == pytest.approx(1.0, abs=1e-12)
    np.testing.assert_allclose(slope[at_work], price * np.sign(w[at_work]), atol=1e-12)
    assert ((slope if long_only else np.abs(slope))[~at_work] <= price + 1e-12).all()
    if long_only:
        assert (w > -1e-10).all()


def test_bounds_that_do_not_bind_change_nothing() -> None:
    free = kelly_portfolio(MEAN, COVARIANCE)
    pd.testing.assert_series_equal(kelly_portfolio(MEAN, COVARIANCE, long_only=True, leverage=50).weights, free.weights)


def test_a_singular_covariance_is_refused() -> None:
    with pytest.raises(DataError, match="singular .* an asset repeats others"):
        kelly_portfolio([0.1, 0.1], [[0.04, 0.04], [0.04, 0.04]])


# -- Simulation


def test_bettors_at_half_full_and_twice_kelly() -> None:
    # Growth at 0.5, 1 and 2 x Kelly of the 60 % coin: 0.01504, 0.02014, -0.00245 per toss (p log(1+f) + q log(1-f)).
    simulation = simulate_kelly(kelly_bet(0.6), bets=400, paths=2000, seed=11)
    grown = simulation.log_wealth[:, :, -1].mean(axis=1) / 400
    errors = simulation.log_wealth[:, :, -1].std(axis=1) / 400 / math.sqrt(2000)
    expected = np.array([0.015042, 0.020136, -0.002447])
    assert (np.abs(grown - expected) < 3.0 * errors).all()
    frame = simulation.to_frame()
    assert frame["lost_half"].is_monotonic_increasing
    assert frame["median_drawdown"].is_monotonic_decreasing
    assert (
        simulate_kelly(kelly_bet(0.6), bets=400, paths=2000, seed=11).log_wealth.tobytes()
        == simulation.log_wealth.tobytes()
    )


# -- What a person looks at


def test_every_result_draws_itself_and_says_what_it_means() -> None:
    bet = kelly_bet(0.6).fractional(0.5)
    trust = bootstrap_kelly(STOCKS.iloc[:500], resamples=100)
    portfolio = kelly_portfolio(MEAN, COVARIANCE)
    simulation = simulate_kelly(bet, bets=50, paths=20)
    assert [type(shown.plot()).__name__ for shown in (bet, trust, portfolio, simulation)] == ["Figure"] * 4
    assert bet.summary().splitlines()[1] == "then                             times 0.5 = 0.1"
    assert bet._repr_html_().endswith(
        "<p>Bet 10.0% of the account, 50% of Kelly: it keeps 75% of the fastest growth.</p>"
    )
    assert trust.interpretation in trust.summary()
    assert trust.interpretation in trust._repr_html_()
    assert "without bounds" in portfolio._repr_html_()
    assert "median_wealth" in simulation.summary()
    assert kelly_gaussian(0.0, 0.04).interpretation == "Do not bet: this earns nothing beyond cash."
    assert "grows no faster than cash" in kelly_bet(0.6).fractional(2.5).interpretation
    assert "against it" in kelly_bet(0.4).interpretation


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kelly_bet(1.0), "probability must lie between 0 and 1, both excluded; got 1.0"),
        (lambda: kelly_bet(0.6, gain=0.0), "gain is an amount per unit staked, above 0; got 0.0"),
        (lambda: kelly_bet(0.6).fractional(0.0), "share is a part of the Kelly fraction"),
        (lambda: kelly_bet(0.6).clipped(1.0, 0.0), "lower must not exceed upper"),
        (lambda: kelly_outcomes([1.0, -1.0], [0.6, 0.5]), "they sum to 1.1"),
        (lambda: kelly_outcomes([1.0], [1.0]), "two at least; got 1 and 1"),
        (lambda: kelly_empirical(STOCKS.iloc[:5]), "at least 20 returns; got 5"),
        (lambda: kelly_empirical(STOCKS.where(STOCKS.index != STOCKS.index[7])), "the return at 1999-01-14 .* is nan"),
        (lambda: kelly_empirical(np.full(30, 0.01)), "all 30 returns are 0.01"),
        (lambda: kelly_empirical(STOCKS, worst_return=0.1), "worst_return is a loss"),
        (lambda: kelly_gaussian(0.1, 0.0), "variance must be above 0"),
        (lambda: kelly_gaussian(0.1, 0.1, risk_free=math.nan), "must be finite"),
        (lambda: kelly_posterior(7, 5), "wins must lie between 0 and bets; got 7 of 5"),
        (lambda: kelly_shrinkage(0.1, -1.0), "standard_error must be 0 or more"),
        (lambda: fall_probability(1.0, 1.0), "drop must lie between 0 and 1"),
        (lambda: reach_probability(1.0, 0.9, 0.5), "target is a multiple of the starting wealth, above 1"),
        (lambda: share_for_drawdown(0.5, 1.0), "probability must lie between 0 and 1"),
        (lambda: bootstrap_kelly(STOCKS, resamples=10), "resamples must be a whole number, at least 100"),
        (lambda: kelly_portfolio(MEAN, np.eye(2)), r"needs a covariance of \(3, 3\)"),
        (lambda: kelly_portfolio(MEAN, COVARIANCE, leverage=0.0), "leverage is the largest sum"),
        (lambda: simulate_kelly(kelly_bet(0.6), (6.0,)), "takes the whole account"),
        (
            lambda: Kelly(0.2, 0.2, Outcomes(np.array([1.0, -1.0]), np.array([0.6, 0.4]))).growth_at(-1.0),
            "stay between",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(call, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises((DataError, ParameterError), match=message):
        call()
