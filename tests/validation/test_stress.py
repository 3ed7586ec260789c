"""Stress tests: every figure by hand or by another run, and nothing that is not covered goes unsaid."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from tradelib.backtest import DecisionRule, Market, Order, run, run_orders, run_weights
from tradelib.backtest.trials import TrialLedger
from tradelib.data import embedded, make_bars
from tradelib.errors import DataError, ParameterError
from tradelib.risk import Exits, FixedFraction
from tradelib.strategies import TrendFollowing
from tradelib.validation import (
    DEFAULT_SCENARIOS,
    HISTORICAL_SCENARIOS,
    CorrelationShock,
    CostShock,
    FactorShock,
    GapShock,
    HistoricalScenario,
    LiquidityShock,
    OutageShock,
    Scenario,
    StressedBook,
    StressOutcome,
    VolatilityShock,
    outcome_of_path,
    stress_test,
)

NAMED = {scenario.label: scenario for scenario in HISTORICAL_SCENARIOS}
CRISIS, LEHMAN, PANDEMIC = "financial crisis 2007-09", "Lehman autumn 2008", "pandemic March 2020"


@pytest.fixture(scope="module")
def bars() -> pd.DataFrame:
    return embedded("sp500")


@pytest.fixture(scope="module")
def rule() -> DecisionRule:
    exits = Exits(stop_loss=0.05)
    return DecisionRule(
        strategy=TrendFollowing(fast=20, slow=100), sizing=FixedFraction(), exits=exits, rebalance_band=None
    )


@pytest.fixture(scope="module")
def result(rule: DecisionRule, bars: pd.DataFrame) -> Any:
    return run(rule, bars)


def one(source: Any, scenario: Scenario, **options: Any) -> StressOutcome:
    return stress_test(source, [scenario], **options)[scenario.label]


def book(*columns: str, days: int = 400, seed: int = 0) -> tuple[pd.Series, pd.DataFrame]:
    """Equal weights and returns of made-up assets that share a factor."""
    draw = np.random.default_rng(seed)
    index = pd.date_range("2020-01-01", periods=days, tz="UTC")
    market = draw.standard_normal(days) * 0.01
    moves = {name: market * (1 + i / 2) + draw.standard_normal(days) * 0.01 for i, name in enumerate(columns)}
    return pd.Series(1 / len(columns), list(columns)), pd.DataFrame(moves, index)


# Crises that happened


@pytest.mark.parametrize("name", list(NAMED)[:6])
def test_declared_moves_are_those_of_the_index(bars: pd.DataFrame, name: str) -> None:
    """Closes of the S&P 500, such as 1527.46 on 2000-03-24 and 776.76 on 2002-10-09: -49.1 %."""
    scenario, close = NAMED[name], bars["close"]
    start, end = (
        close[close.index.normalize() == pd.Timestamp(day, tz="UTC")] for day in (scenario.start, scenario.end)
    )
    assert scenario.shocks["market"] == pytest.approx(end.iloc[0] / start.iloc[0] - 1.0, abs=5e-4)
    compounded = (1.0 + close.pct_change().iloc[scenario.rows(close.index)]).prod() - 1.0
    assert compounded == pytest.approx(end.iloc[0] / start.iloc[0] - 1.0, rel=1e-12)


def test_what_the_result_lived_through_is_cut_out(result: Any) -> None:
    lived = result.returns.loc["2007-10-10":"2009-03-09"]
    found = one(result, NAMED[CRISIS])
    wealth = (1 + lived).cumprod()
    assert (found.method, found.start, found.end) == ("own data", lived.index[0], lived.index[-1])
    assert found.total_return == pytest.approx(wealth.iloc[-1] - 1)
    assert found.maximum_drawdown == pytest.approx((wealth / wealth.cummax().clip(lower=1) - 1).min())
    assert found.worst_bar == lived.min()


def test_a_window_of_which_a_part_is_there_says_so(rule: DecisionRule, bars: pd.DataFrame) -> None:
    short = run(rule, bars.loc["2008"])
    found = one(short, NAMED[CRISIS])
    assert found.method == "own data, in part"
    assert "only 2008-01-02 to 2008-12-31 of 2007-10-09 to 2009-03-09" in found.note


RALLY = HistoricalScenario(name="summer 2009", start="2009-08-03", end="2009-09-22")


@pytest.mark.parametrize("scenario", [NAMED[LEHMAN], RALLY], ids=lambda scenario: scenario.label)
def test_bars_before_the_account_are_run_again(rule: DecisionRule, bars: pd.DataFrame, scenario: Any) -> None:
    """The same as an account that starts on the first date, from cash."""
    late = run(rule, bars, start="2012-01-01")
    found = one(late, scenario)
    there = run(rule, bars, start=scenario.start, end=scenario.end)
    assert found.method == "run again on own data"
    assert found.total_return == pytest.approx(there.equity.iloc[-1] / there.initial_cash - 1, abs=1e-15)


def test_what_is_not_covered_is_in_the_table_and_in_the_words(result: Any) -> None:
    tested = stress_test(result)
    row = tested.to_frame().loc[PANDEMIC]
    assert row["method"] == "not covered by the data"
    assert np.isnan(row["total_return"])
    assert "1999-01-04 to 2018-12-31" in row["note"]
    assert PANDEMIC in tested.uncovered
    assert PANDEMIC in tested.interpretation.split("Nothing can be said about")[1]
    assert len(tested.to_frame()) == 16


def test_outside_the_data_a_beta_applies_the_declared_move(result: Any) -> None:
    found = one(result, NAMED[PANDEMIC], betas={"market": 0.5})
    assert (found.method, found.total_return) == ("declared shock", pytest.approx(0.5 * -0.339))
    assert "market -33.9% x 0.50 (outside the data; given betas)" in found.note


def test_given_bars_are_traded_by_the_rule(rule: DecisionRule, bars: pd.DataFrame) -> None:
    young = run(rule, bars.loc["2010":"2013"])
    found = one(young, NAMED[LEHMAN], paths={LEHMAN: bars.loc["2008"]})
    there = run(rule, bars.loc["2008"], start="2008-09-12", end="2008-11-20")
    assert found.method == "run again on given bars"
    assert found.total_return == pytest.approx(there.equity.iloc[-1] / there.initial_cash - 1)
    assert "warm it up" not in found.note
    cold = one(young, NAMED[LEHMAN], paths={LEHMAN: bars.loc["2008-09-12":"2008-12-31"]})
    assert "50 bars warm it up" in cold.note


def test_given_returns_are_earned_by_what_is_held() -> None:
    weights, moves = book("A", "B")
    crash = HistoricalScenario(name="crash", start="2030-01-01", end="2030-01-03")
    days = pd.date_range("2030-01-01", periods=4, tz="UTC")
    path = pd.DataFrame({"A": [9.0, -0.2, -0.1, 9.0], "B": [9.0, 0.0, -0.5, 9.0]}, days)
    found = one((weights, moves), crash, paths={"crash": path})
    assert found.method == "replay on held weights"
    assert found.total_return == pytest.approx(0.5 * (0.8 * 0.9 - 1) + 0.5 * (0.5 - 1))
    assert found.wealth is not None
    assert found.wealth.tolist() == pytest.approx([0.9, 1 - 0.14 - 0.25])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda path: path.drop(columns="B"), "lacks B"),
        (lambda path: path.shift(900, freq="D"), "does not touch 2030-01-01 to 2030-01-03"),
        (lambda path: path.mask(path == -0.1), "has blanks"),
        (lambda path: path.reset_index(drop=True), "an index of times"),
    ],
)
def test_a_path_that_does_not_fit_is_refused(change: Any, told: str) -> None:
    crash = HistoricalScenario(name="crash", start="2030-01-01", end="2030-01-03")
    days = pd.date_range("2030-01-01", periods=4, tz="UTC")
    path = pd.DataFrame({"A": [0.0, -0.2, -0.1, 0.0], "B": [0.0, 0.0, -0.5, 0.0]}, days)
    with pytest.raises(DataError, match=told):
        one(book("A", "B"), crash, paths={"crash": change(path)})


# Factors


def test_betas_are_those_of_least_squares() -> None:
    weights, moves = book("A", "B", "C")
    draw = np.random.default_rng(4)
    factors = pd.DataFrame({"market": moves["A"], "rates": draw.standard_normal(400) * 0.01}, moves.index).iloc[50:]
    fit = sm.OLS((moves @ weights).loc[factors.index], sm.add_constant(factors)).fit()
    found = one((weights, moves), FactorShock(shocks={"market": -0.2, "rates": 0.1}), factors=factors)
    assert found.total_return == pytest.approx(-0.2 * fit.params["market"] + 0.1 * fit.params["rates"], rel=1e-10)
    assert "betas by least squares" in found.note


def test_a_shock_of_symbols_needs_no_beta() -> None:
    weights, moves = book("A", "B")
    assert one((weights, moves), FactorShock(shocks={"A": -0.3})).total_return == pytest.approx(-0.15)


def test_betas_by_symbol_are_weighted_by_what_is_held() -> None:
    weights, moves = book("A", "B")
    table = pd.DataFrame({"market": [1.2, 0.4]}, index=["A", "B"])
    assert one((weights, moves), FactorShock(shocks={"market": -0.1}), betas=table).total_return == pytest.approx(-0.08)
    with pytest.raises(DataError, match="lack the symbols B"):
        one((weights, moves), FactorShock(shocks={"market": -0.1}), betas=table.iloc[:1])


def test_factors_that_cannot_carry_betas_are_refused() -> None:
    source = book("A", "B")
    market = source[1]["A"].to_frame("market")
    shock = FactorShock(shocks={"market": -0.1})
    with pytest.raises(DataError, match="share 0 times, fewer than 31"):
        one(source, shock, factors=market.shift(4000, freq="D"))
    with pytest.raises(DataError, match="repeat each other"):
        one(source, shock, factors=market.assign(again=2 * market["market"]))
    with pytest.raises(DataError, match="have blanks"):
        one(source, shock, factors=market.mask(market > 0.02))


# What the market does to orders


@pytest.mark.parametrize("multiple", [1.0, 2.0, 5.0])
def test_a_cost_shock_is_the_run_with_such_costs(
    result: Any, rule: DecisionRule, bars: pd.DataFrame, multiple: float
) -> None:
    found, there = one(result, CostShock(multiple=multiple)), run(rule, bars, costs=result.costs.times(multiple))
    assert found.total_return == pytest.approx(there.metrics["total_return"], abs=1e-15)
    assert found.maximum_drawdown == pytest.approx(there.metrics["maximum_drawdown"])
    assert found.base_return == pytest.approx(result.metrics["total_return"])


def test_a_thin_market_is_the_run_with_its_spread_and_volume(rule: DecisionRule, bars: pd.DataFrame) -> None:
    costs = run(rule, bars).costs.replace(impact=0.1)
    thick = run(rule, bars, costs=costs, cash=1e9)
    thinner = bars.assign(volume=bars["volume"] * 0.2)
    thinner.attrs = dict(bars.attrs)
    there = run(rule, thinner, costs=costs.replace(spread=0.003), cash=1e9)
    found = one(thick, LiquidityShock(spread=0.003, volume=0.2))
    assert found.total_return == pytest.approx(there.metrics["total_return"], abs=1e-12)
    assert "volume does nothing" not in found.note


def falling(gap: float = 0.0) -> pd.DataFrame:
    """Forty flat days at 100; from day 30 on, all prices lower by `gap`."""
    level = np.where(np.arange(40) >= 30, 100.0 * (1.0 - gap), 100.0)
    frame = pd.DataFrame(dict.fromkeys(("open", "high", "low", "close"), level), dtype=float)
    frame["high"], frame["low"], frame["volume"] = frame["high"] * 1.001, frame["low"] * 0.999, 1e6
    times = pd.date_range("2024-01-01", periods=40, tz="UTC")
    return make_bars(frame.set_index(times), symbol="X/USD", timeframe="1d", source="made", calendar="24/7")


def test_a_gap_goes_through_the_stop() -> None:
    """Half of the account, a stop of 5 %, a gap of 20 %: the stop fills at the open, 20 % lower, less costs."""
    bars, exits = falling(), Exits(stop_loss=0.05)
    half = pd.Series(np.where(np.arange(40) == 0, 0.5, np.nan), bars.index)
    plain = run_weights(half, bars, exits_policy=exits)
    found = one(plain, GapShock(size=0.2, at="2024-01-31"), exits_policy=exits)
    there = run_weights(half, falling(0.2), exits_policy=exits)
    assert there.fills["price"].iloc[-1] == pytest.approx(80.0 * (1 - plain.costs.slippage))
    assert found.total_return == pytest.approx(there.metrics["total_return"], abs=1e-12)
    assert found.worst_bar == pytest.approx(-0.5 * 0.2, abs=2e-3)


def test_a_gap_is_against_what_is_held() -> None:
    bars = falling()
    short = pd.Series(np.where(np.arange(40) == 0, -0.5, np.nan), bars.index)
    found = one(run_weights(short, bars, market=Market(maximum_leverage=2)), GapShock(size=0.2, at="2024-01-31"))
    assert found.worst_bar == pytest.approx(-0.5 * 0.2, abs=2e-3)


def test_an_outage_is_the_run_without_those_decisions(bars: pd.DataFrame) -> None:
    weights = pd.Series(np.where((np.arange(len(bars)) // 50) % 2 == 0, 0.5, 0.0), bars.index)
    plain = run_weights(weights, bars)
    row = 250
    silent = weights.copy()
    silent.iloc[row : row + 7] = np.nan
    found = one(plain, OutageShock(bars=7, at=str(bars.index[row])))
    assert found.total_return == pytest.approx(run_weights(silent, bars).metrics["total_return"], abs=1e-15)
    worst = one(plain, OutageShock(bars=7, places=40))
    rows = np.unique(np.linspace(0, len(bars) - 8, 40).astype(int))
    every = []
    for start in rows:
        silent = weights.copy()
        silent.iloc[start : start + 7] = np.nan
        every.append(run_weights(silent, bars).metrics["total_return"])
    assert worst.total_return == pytest.approx(min(every), abs=1e-15)
    assert f"the worst of {len(rows)} starts" in worst.note


@pytest.mark.parametrize("multiple", [0.5, 1.0, 2.0, 3.0])
def test_a_wilder_market_keeps_its_ends_and_scales_its_swings(bars: pd.DataFrame, multiple: float) -> None:
    """Buy and hold without costs earns the same end; log returns around their mean are `multiple` times as large."""
    free = run_weights(pd.Series(1.0, bars.index), bars).costs.times(0.0)
    full = pd.Series(np.where(np.arange(len(bars)) == 0, 1.0, np.nan), bars.index)
    plain = run_weights(full, bars, costs=free, band=None)
    seen: dict[str, Any] = {}

    class Look(VolatilityShock):
        def apply(self, stressed: StressedBook) -> StressOutcome:
            original = type(stressed).rerun

            def watch(stressed: StressedBook, **given: Any) -> Any:
                seen.update(given)
                return original(stressed, **given)

            StressedBook.rerun = watch
            try:
                return super().apply(stressed)
            finally:
                StressedBook.rerun = original

    one(plain, Look(multiple=multiple))
    panel, close = seen["panel"], bars["close"].to_numpy()
    assert panel.close[[0, -1], 0] == pytest.approx(close[[0, -1]])
    calm, wild = (np.diff(np.log(prices)) for prices in (close, panel.close[:, 0]))
    np.testing.assert_allclose(wild - wild.mean(), multiple * (calm - calm.mean()), atol=1e-12)
    assert (panel.high >= np.maximum(panel.open, panel.close) - 1e-9).all()
    assert (panel.low <= np.minimum(panel.open, panel.close) + 1e-9).all()


def test_a_market_too_wild_for_numbers_is_not_computed(bars: pd.DataFrame) -> None:
    hourly = run_weights(pd.Series(0.5, bars.index), bars)
    assert one(hourly, VolatilityShock(multiple=20)).covered
    far = bars.iloc[:300].copy()
    far.iloc[:, :4] = far.iloc[:, :4] * np.exp(np.sin(np.arange(300) / 20) * 40)[:, None]
    far.attrs = dict(bars.attrs)
    strange = run_weights(pd.Series(0.01, far.index), far)
    assert "range of numbers" in one(strange, VolatilityShock(multiple=20)).note


# Correlation


def test_correlation_to_one_adds_the_deviations() -> None:
    weights, moves = book("A", "B", "C")
    found = one((weights, moves), CorrelationShock(deviations=2, bars=4))
    scale = 2 * np.sqrt(4)
    assert found.total_return == pytest.approx(-scale * float(weights @ moves.std()))
    assert found.base_return == pytest.approx(-scale * float((moves @ weights).std()))


def test_half_way_is_half_way_in_variance() -> None:
    weights, moves = book("A", "B")
    now, full = (one((weights, moves), CorrelationShock(toward=k, deviations=1)).total_return for k in (0.0, 1.0))
    half = one((weights, moves), CorrelationShock(toward=0.5, deviations=1)).total_return
    assert half**2 == pytest.approx((now**2 + full**2) / 2)


def test_a_hedge_survives_correlation_but_not_correlation_against_it() -> None:
    _, moves = book("A", "B")
    hedged = pd.Series({"A": 0.5, "B": -0.5})
    a, b = 0.5 * moves.std()
    same = one((hedged, moves), CorrelationShock(deviations=1))
    against = one((hedged, moves), CorrelationShock(deviations=1, against=True))
    assert same.total_return == pytest.approx(-abs(a - b))
    assert against.total_return == pytest.approx(-(a + b))


def test_one_symbol_has_no_correlation_and_a_dead_one_neither(result: Any) -> None:
    assert one(result, CorrelationShock()).method == "does not apply"
    weights, moves = book("A", "B")
    dead = one((weights, moves.assign(B=0.0)), CorrelationShock())
    assert dead.note == "B never moves: no correlations to start from"


# What a result does not carry


def test_a_run_that_cannot_be_repeated_says_so_and_can_be_helped(bars: pd.DataFrame) -> None:
    weights = pd.Series(np.where(np.arange(len(bars)) % 40 == 0, 0.5, np.nan), bars.index)
    funding = pd.Series(0.0001, bars.index)
    paid = run_weights(weights, bars, funding=funding)
    for shock in (CostShock(), LiquidityShock(), GapShock(), OutageShock(), VolatilityShock()):
        found = one(paid, shock)
        assert (found.method, found.covered) == ("does not apply", False)
        assert "pass the same finer, funding, exits_policy" in found.note
    assert one(paid, CostShock(), funding=funding).covered
    assert one(paid, NAMED[CRISIS]).covered  # what was lived through needs no repetition


def test_orders_and_weights_with_returns_have_no_decisions_to_repeat(bars: pd.DataFrame) -> None:
    order = Order(time=bars.index[5], side="buy", quantity=1.0)
    ordered = run_orders([order], bars)
    assert "given orders, not targets" in one(ordered, CostShock()).note
    assert "only a Result can be run again" in one(book("A", "B"), CostShock()).note


def test_history_that_was_not_seen_is_counted_and_shocks_are_not(rule: DecisionRule, bars: pd.DataFrame) -> None:
    young = run(rule, bars.loc["2010":"2013"])
    before = TrialLedger().families()
    stress_test(young, DEFAULT_SCENARIOS)
    assert TrialLedger().families() == before
    one(young, NAMED[LEHMAN], paths={LEHMAN: bars.loc["2008"]})
    one(young, NAMED[LEHMAN], paths={LEHMAN: bars.loc["2008"]})  # the same again is known
    assert sum(TrialLedger().families().values()) == sum(before.values()) + 1
    late = run(rule, bars, start="2012-01-01")
    one(late, NAMED[CRISIS])
    assert sum(TrialLedger().families().values()) == sum(before.values()) + 3


# One call


def test_the_report_has_a_line_a_bar_and_a_word_for_each(result: Any) -> None:
    tested = stress_test(result, betas={"market": 0.6, "bitcoin": 0.1})
    covered = [outcome for outcome in tested.outcomes if outcome.covered]
    assert [outcome.scenario for outcome in tested.outcomes if not outcome.covered] == [
        "correlation to one, 3 deviations"
    ]
    assert len(tested.plot().data[0].y) == len(covered)
    assert len(tested.plot("paths").data) == 7
    assert tested.interpretation in tested.summary()
    assert "Nothing can be said" not in tested.interpretation
    assert "<table" in tested._repr_html_()
    with pytest.raises(ParameterError, match="did you mean 'costs x 2'"):
        tested["cost x 2"]
    with pytest.raises(ParameterError, match="'losses' or 'paths'"):
        tested.plot("pie")


def test_an_emptied_account_is_a_finding_and_no_nan() -> None:
    """Twice the account long, a gap of 60 %: more is lost than there was."""
    bars = falling()
    levered = run_weights(
        pd.Series(np.where(np.arange(40) == 0, 1.9, np.nan), bars.index), bars, market=Market(maximum_leverage=2)
    )
    found = one(levered, GapShock(size=0.6, at="2024-01-31"))
    assert found.total_return < -1.0
    assert found.maximum_drawdown < -1.0
    assert "the account is emptied at 2024-01-31" in found.note


def test_a_scenario_of_your_own() -> None:
    class Monday(Scenario):
        """A loss of all Mondays at once."""

        def apply(self, stressed: StressedBook) -> StressOutcome:
            return outcome_of_path(self, "by hand", stressed.returns[stressed.returns.index.dayofweek == 0])

    class Odd(Scenario):
        def apply(self, stressed: StressedBook) -> Any:
            return -0.1

    weights, moves = book("A", "B")
    total = (moves @ weights)[moves.index.dayofweek == 0]
    assert one((weights, moves), Monday(name="Mondays")).total_return == pytest.approx((1 + total).prod() - 1)
    assert Monday().label == "Monday"
    with pytest.raises(ParameterError, match="must return a StressOutcome"):
        one((weights, moves), Odd())
    with pytest.raises(ParameterError, match="does not define apply"):
        one((weights, moves), Scenario(name="nothing"))


@pytest.mark.parametrize(
    ("weights", "returns", "told"),
    [
        (pd.Series({"A": 1.0}), book("A", "B")[1], "different symbols"),
        (pd.Series({"A": 0.0, "B": 0.0}), book("A", "B")[1], "not all zero"),
        (pd.Series({"A": np.nan, "B": 1.0}), book("A", "B")[1], "without blanks"),
        (book("A", "B")[0], book("A", "B")[1].mask(lambda moves: moves > 0.02), "without blanks"),
        (book("A", "B")[0], book("A", "B")[1].iloc[:1], "at least 2 rows"),
        (book("A", "B")[1].shift(900, freq="D"), book("A", "B")[1], "share 0 of 400 times"),
        ([0.5, 0.5], book("A", "B")[1], "pass a Result"),
    ],
)
def test_a_book_that_is_none_is_refused(weights: Any, returns: Any, told: str) -> None:
    with pytest.raises((DataError, ParameterError), match=told):
        stress_test((weights, returns))


def test_weights_by_time_earn_the_next_bar() -> None:
    _, moves = book("A", "B")
    weights = pd.DataFrame({"A": np.linspace(0, 1, 400), "B": 0.3}, moves.index)
    found = one((weights, moves), HistoricalScenario(name="all", start="2020-01-01", end="2021-02-03"))
    expected = (weights.shift().iloc[1:] * moves.iloc[1:]).sum(axis=1)
    assert found.total_return == pytest.approx((1 + expected).prod() - 1)


def test_impossible_scenarios_are_refused(result: Any, bars: pd.DataFrame) -> None:
    refused: list[Any] = [
        lambda: stress_test(result, []),
        lambda: stress_test(result, [CostShock]),
        lambda: stress_test(result, [CostShock(), CostShock()]),
        lambda: stress_test(result, paths={"nothing": bars}),
        lambda: one(result, HistoricalScenario(name="back", start="2009-01-01", end="2008-01-01")),
        lambda: one(result, GapShock(at="1980-01-01")),
        lambda: CostShock(multiple=0.5),
        lambda: CostShock(multiples=2),
        lambda: GapShock(size=1.0),
        lambda: CorrelationShock(toward=1.5),
        lambda: FactorShock(shocks={}),
        lambda: stress_test(42),
    ]
    for ask in refused:
        with pytest.raises(ParameterError):
            ask()


# Recorded markets


@pytest.mark.real_data
def test_the_pandemic_on_twenty_shares(real_data: Any) -> None:
    """Equal units of 20 large shares from 2020-02-19 to 2020-03-23: by hand from their closes."""
    closes = pd.read_parquet(real_data / "equities/sp500_20_close_1990_2022.parquet").set_index("date")
    moves = closes.pct_change().iloc[1:]
    weights = pd.Series(1 / 20, closes.columns)
    held = one((weights, moves), NAMED[PANDEMIC])
    daily = (moves @ weights).loc["2020-02-20":"2020-03-23"]
    assert (held.method, held.total_return) == ("own data", pytest.approx((1 + daily).prod() - 1))
    assert -0.36 < held.total_return < -0.25
    unseen = one((weights, moves.loc[:"2019"]), NAMED[PANDEMIC], paths={PANDEMIC: moves.loc["2020"]})
    kept = float((closes.loc["2020-03-23"] / closes.loc["2020-02-19"] - 1).mean())
    assert unseen.method == "replay on held weights"
    assert unseen.total_return == pytest.approx(kept)


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("file", "quote", "scenario", "least", "most"),
    [
        ("crypto/bitstamp_1d/BTC_USD", "USD", "crypto winter 2018", -0.84, -0.82),
        ("crypto/bitvavo_1d/BTC_EUR", "EUR", "crypto winter 2022", -0.75, -0.70),  # the euro fell against the dollar
    ],
)
def test_crypto_winters_on_recorded_bars(
    real_data: Any, file: str, quote: str, scenario: str, least: float, most: float
) -> None:
    frame = (
        pd.read_parquet(real_data / f"{file}.parquet").set_index("time").loc[: "2019-03-01" if quote == "USD" else None]
    )
    bars = make_bars(frame, symbol=f"BTC/{quote}", timeframe="1d", source="recorded", calendar="24/7")
    full = pd.Series(np.where(np.arange(len(bars)) == 0, 1.0, np.nan), bars.index)
    costs = run_weights(full * 0.5, bars).costs.times(0.0)
    held = run_weights(full, bars, costs=costs, band=None, market=Market(insufficient_cash="reduce"))
    tested = stress_test(held, [NAMED[scenario], NAMED[CRISIS]])
    first, last = (bars["close"].loc[NAMED[scenario].start], bars["close"].loc[NAMED[scenario].end])
    assert tested[scenario].method == "own data"
    assert least < tested[scenario].total_return < most
    assert tested[scenario].total_return == pytest.approx(float(last / first - 1), abs=2e-3)
    assert tested.uncovered == (CRISIS,)


@pytest.mark.real_data
def test_declared_moves_of_bitcoin_are_those_of_its_price(real_data: Any) -> None:
    price = pd.read_csv(real_data / "onchain/btc_price_volume.csv.gz", parse_dates=["date"]).set_index("date")["price"]
    for name in ("crypto winter 2018", "crypto winter 2022"):
        scenario = NAMED[name]
        assert scenario.shocks["bitcoin"] == pytest.approx(price[scenario.end] / price[scenario.start] - 1, abs=5e-4)
