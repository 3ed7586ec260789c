"""Limits as configuration, what they need of the past, and one judgement for the engine and for a live account."""

import json

import numpy as np
import pandas as pd
import pytest

from tests.backtest.truth import market
from tradelib._jit import interpreted
from tradelib.backtest import Costs, DecisionRule, Market, run, run_weights, sweep
from tradelib.backtest.effects import limit_effects, refused_orders
from tradelib.backtest.sweeps import with_parameters
from tradelib.data import embedded
from tradelib.errors import DataError, ParameterError
from tradelib.risk import ClosedTrade, Exits, LimitMonitor, Limits, Protection, historical_risk, judging
from tradelib.risk.past_risk import PastRiskRule, correlation_clusters, past_risk
from tradelib.strategies import TrendFollowing

DAY = 86_400 * 10**9
NAMES = list("ABCDE")


def walk(bars=300, symbols=5, seed=1):
    """Closes `(n, a)`: the first three symbols follow one factor."""
    rng = np.random.default_rng(seed)
    factor = rng.normal(0, 0.02, (bars, 1)) * (np.arange(symbols) < 3)
    return 100 * np.exp(np.cumsum(factor + rng.normal(0, 0.01, (bars, symbols)), axis=0))


@pytest.fixture(scope="module")
def sp500():
    return embedded("sp500").iloc[-2_000:]


def days(bars):
    return pd.date_range("2024-01-01", periods=bars, freq="1D", tz="UTC", name="time")


class TestConfiguration:
    def test_what_is_not_used_is_not_written_so_that_a_rule_keeps_its_digest(self):
        # all that the configuration of these limits held before limits could look back
        before = {
            "maximum_positions": 3, "maximum_exposure": None, "maximum_heat": None, "daily_loss": None,
            "maximum_drawdown": None, "drawdown_pause": None, "consecutive_losses": None, "loss_pause": 1,
            "cooldown": 2, "blacklist": [],
        }  # fmt: skip
        limits = Limits(maximum_positions=3, cooldown=2)
        assert json.dumps(limits.model_dump(mode="json")) == json.dumps(before)
        assert limits.replace(daily_orders=2).model_dump(mode="json") == before | {"daily_orders": 2}

    def test_it_survives_json(self):
        limits = Limits(
            maximum_value_at_risk=0.02, risk_window=100, daily_orders=3, target_volatility=0.2, leverage_ceiling=2.0,
            protections=(Protection(measure="drawdown", window=9, loss=0.1, pause=3),),
        )  # fmt: skip
        text = json.dumps(limits.model_dump(mode="json"))
        assert Limits(**json.loads(text)) == limits
        assert Limits(**json.loads(text)).thresholds.tolist() == limits.thresholds.tolist()

    def test_a_sweep_reads_a_new_field_by_name(self):
        assert Limits().model_dump(mode="json", include={"protections"}) == {"protections": []}

    def test_no_limit_is_no_threshold(self):
        np.testing.assert_array_equal(
            np.delete(Limits().thresholds, DEFAULTS), np.delete(judging.limit_rows(), DEFAULTS)
        )
        assert Limits().past == PastRiskRule()
        assert not Limits().needs_days

    @pytest.mark.parametrize(
        ("wrong", "told"),
        [
            ({"risk_alpha": 0.1}, "risk_alpha without maximum_value_at_risk"),
            ({"volatility_window": 5}, "without target_volatility"),
            ({"cluster_every": 5}, "without maximum_cluster_exposure"),
            ({"maximum_value_at_risk": 0.1, "risk_window": 20, "risk_alpha": 0.01}, "have no 0.01 tail"),
            ({"target_volatility": 0.1, "leverage_floor": 2.0, "leverage_ceiling": 1.0}, "below the floor"),
            ({"maximum_value_at_risk": 0.1, "risk_alpha": 0.5}, "less than 0.5"),
            ({"maximum_net_exposure": 0.0}, "greater than 0"),
            ({"maximum_cluster_exposure": np.inf}, "finite"),
            ({"protections": [{"measure": "drawdown", "window": 3, "pause": 0}]}, "greater than or equal to 1"),
            ({"protections": [{"measure": "losing_trades", "window": 3, "pause": 1}] * 9}, "at most 8"),
            ({"maximum_var": 0.1}, "no parameter 'maximum_var'"),
        ],
    )
    def test_what_cannot_be_meant_is_refused(self, wrong, told):
        with pytest.raises(ParameterError, match=told):
            Limits(**wrong)

    def test_without_one_of_them(self):
        limits = Limits(maximum_value_at_risk=0.02, maximum_expected_shortfall=0.03, risk_window=60, daily_loss=0.1)
        assert limits.without("daily_loss").daily_loss is None
        assert limits.without("maximum_value_at_risk").risk_window == 60
        alone = limits.without("maximum_value_at_risk").without("maximum_expected_shortfall")
        assert alone == Limits(daily_loss=0.1)


class TestThePast:
    RULES = (
        PastRiskRule(scenarios=50),
        PastRiskRule(volatility=20),
        PastRiskRule(clusters=30, every=7, correlation=0.6),
        PastRiskRule(scenarios=25, volatility=10, clusters=40, every=13, correlation=0.5),
    )

    @pytest.mark.parametrize("rule", RULES)
    def test_the_last_row_of_a_window_is_the_row_of_the_whole_history(self, rule):
        closes, times = walk(), days(300).asi8
        whole = past_risk(closes, times, DAY, 365.0, rule)
        for t in range(150, 300, 11):
            begin = t + 1 - rule.bars
            part = past_risk(closes[begin : t + 1], times[begin : t + 1], DAY, 365.0, rule)
            if rule.scenarios:
                np.testing.assert_array_equal(
                    part.returns[-rule.scenarios :], whole.returns[t + 1 - rule.scenarios : t + 1]
                )
            if rule.volatility:
                assert part.volatility[-1] == whole.volatility[t]
            if rule.clusters:
                np.testing.assert_array_equal(part.clusters[-1], whole.clusters[t])

    @pytest.mark.parametrize("rule", RULES)
    def test_the_future_changes_nothing(self, rule):
        closes, times, other = walk(), days(300).asi8, walk()
        other[200:] *= 1.5
        one, two = (past_risk(prices, times, DAY, 365.0, rule) for prices in (closes, other))
        for name in one._fields:
            np.testing.assert_array_equal(getattr(one, name)[:200], getattr(two, name)[:200])

    def test_one_bar_less_than_needed_is_not_enough(self):
        closes, times = walk(), days(300).asi8
        rule = PastRiskRule(scenarios=50, volatility=50)
        part = past_risk(closes[:50], times[:50], DAY, 365.0, rule)
        assert np.isnan(part.volatility[-1])
        assert rule.bars == 51

    def test_interpreted_it_is_the_same_to_the_last_bit(self):
        closes, times, rule = walk(), days(300).asi8, self.RULES[3]
        compiled = past_risk(closes, times, DAY, 365.0, rule)
        with interpreted():
            plain = past_risk(closes, times, DAY, 365.0, rule)
        for one, two in zip(compiled, plain, strict=True):
            np.testing.assert_array_equal(one, two)

    def test_volatility_is_that_of_the_equally_weighted_symbols(self):
        # numpy: standard deviation with ddof 1, times the root of 365
        closes, times = walk(), days(300).asi8
        returns = (closes[1:] / closes[:-1] - 1.0).mean(axis=1)
        past = past_risk(closes, times, DAY, 365.0, PastRiskRule(volatility=20))
        assert past.volatility[100] == pytest.approx(returns[80:100].std(ddof=1) * 365**0.5, rel=1e-12)
        assert np.isnan(past.volatility[:20]).all()

    def test_a_price_that_is_none_is_refused(self):
        closes = walk()
        closes[7, 2] = np.nan
        with pytest.raises(DataError, match="close of bar 7 of symbol 2 is nan"):
            past_risk(closes, days(300).asi8, DAY, 365.0, PastRiskRule(volatility=20))


class TestClusters:
    def test_as_scipy_links_them(self):
        # scipy.cluster.hierarchy: single linkage of 1 - correlation, cut at 1 - threshold
        hierarchy = pytest.importorskip("scipy.cluster.hierarchy")
        rng = np.random.default_rng(3)
        for threshold in (0.2, 0.35, 0.5):
            returns = rng.normal(size=(60, 3)) @ rng.normal(size=(3, 12)) + 1.5 * rng.normal(size=(60, 12))
            distance = 1.0 - np.corrcoef(returns.T)
            linked = hierarchy.linkage(distance[np.triu_indices(12, 1)], "single")
            expected = hierarchy.fcluster(linked, 1.0 - threshold, "distance")
            found = correlation_clusters(returns, threshold)
            assert (found[:, None] == found).tolist() == (expected[:, None] == expected).tolist()

    def test_a_symbol_that_stands_still_is_alone(self):
        moves = np.random.default_rng(0).normal(size=(30, 1))
        assert correlation_clusters(np.hstack([moves, 0 * moves, moves]), 0.9).tolist() == [0, 1, 0]

    def test_a_missing_return_is_not_measured(self):
        moves = np.random.default_rng(0).normal(size=(30, 2))
        moves[3, 1] = np.nan
        np.testing.assert_array_equal(correlation_clusters(moves, 0.9), [0, np.nan])

    def test_what_moves_against_each_other_is_two_bets(self):
        moves = np.random.default_rng(0).normal(size=(30, 1))
        assert correlation_clusters(np.hstack([moves, -moves]), 0.9).tolist() == [0, 1]


class TestTheTail:
    @pytest.mark.parametrize(("n", "alpha"), [(100, 0.05), (100, 0.07), (250, 0.01), (33, 0.4)])
    def test_it_is_the_historical_value_at_risk(self, n, alpha):
        # historical_risk of value_at_risk: order statistic, mean of the tail
        rng = np.random.default_rng(n)
        returns, values = rng.normal(0, 0.02, (n + 1, 4)), rng.normal(0, 1_000, 4)
        returns[0] = np.nan
        past = np.hstack([np.zeros((n + 1, judging.PAST_RETURN)), returns])
        limits = Limits(maximum_value_at_risk=0.1, risk_window=n, risk_alpha=alpha)
        symbols, room = judging.new_symbols(4), np.zeros(2 * n)
        symbols[:3, judging.PLANNED] = values[:3]
        judging.imagine(limits.thresholds, symbols, 4, room, past, n)
        tail = int(limits.thresholds[judging.TAIL])
        found = [judging.tail_loss(room, n, tail, past, n, 3, values[3], mean) for mean in (False, True)]
        profit = (returns[1:] @ values)[:, None]
        var, es = historical_risk(profit, alpha, quantile_rule="order_statistic", es_rule="tail_mean")
        assert found == [pytest.approx(var[0], rel=1e-12), pytest.approx(es[0], rel=1e-12)]

    def test_an_unknown_return_is_an_unknown_loss(self):
        past, room = np.zeros((30, judging.PAST_RETURN + 2)), np.zeros(40)
        past[15, judging.PAST_RETURN + 1] = np.nan
        symbols, limits = judging.new_symbols(2), Limits(maximum_value_at_risk=0.1, risk_window=20).thresholds
        symbols[:, judging.PLANNED] = 100.0, 0.0
        judging.imagine(limits, symbols, 2, room, past, 29)
        assert judging.tail_loss(room, 20, 1, past, 29, 0, 0.0, False) == 0.0
        assert np.isnan(judging.tail_loss(room, 20, 1, past, 29, 1, 5.0, False))


PARITY = (
    {"maximum_value_at_risk": 0.02, "risk_window": 40},
    {"maximum_expected_shortfall": 0.02, "risk_window": 40, "maximum_heat": 1.0, "maximum_positions": 3},
    {"maximum_cluster_exposure": 0.5, "cluster_window": 30, "cluster_every": 7},
    {"target_volatility": 0.2, "leverage_floor": 0.2},
    {"maximum_net_exposure": 0.5, "maximum_symbol_exposure": 0.4, "blacklist": ("C",)},
    {"daily_orders": 1, "maximum_drawdown": 0.1, "drawdown_pause": 10, "consecutive_losses": 3, "loss_pause": 3},
    {
        "protections": (
            Protection(measure="losing_trades", window=30, trades=2, pause=10),
            Protection(measure="drawdown", scope="account", window=30, loss=0.05, pause=4),
        ),
        "cooldown": 2, "daily_profit": 0.03, "daily_loss": 0.03,
    },
)  # fmt: skip


def candles(closes):
    opens = np.vstack([closes[:1], closes[:-1]])
    high, low = np.maximum(opens, closes), np.minimum(opens, closes)
    return {
        name: market(*zip(opens[:, a], high[:, a], low[:, a], closes[:, a], strict=True), symbol=name)
        for a, name in enumerate(NAMES)
    }


def backtest(limits, seed=1):
    rng, closes = np.random.default_rng(seed), walk()
    wanted = np.repeat(rng.choice([0, 0.3, 0.3, -0.3, 0.6], (60, 5)), 5, axis=0)
    weights, costs = pd.DataFrame(wanted, days(300), NAMES), Costs(fee_rate=0.001, slippage=0)
    account = {"costs": costs, "market": Market(maximum_leverage=3), "cash": 1e5, "band": 0.02}
    return run_weights(weights, candles(closes), limits=limits, **account)


class TestTheRunner:
    """A monitor that sees only the last bars, the equity, the positions and the trades of a backtest."""

    @pytest.mark.parametrize("given", PARITY, ids=lambda given: next(iter(given)))
    def test_it_judges_every_order_as_the_engine_did_on_the_same_bar(self, given):
        limits = Limits(**given)
        result, monitor = backtest(limits), LimitMonitor(limits, NAMES, cash=1e5)
        closes = pd.DataFrame(result.panel.close, result.panel.index, NAMES)
        orders, trades, book = result.orders, result.trades.query("not open"), result.cash_book
        asked = refused = 0
        for t, time in enumerate(result.index):
            closed = [
                ClosedTrade(row.symbol, row.profit / (row.entry_price * abs(row.quantity)))
                for row in trades[trades["exit_time"] == time].itertuples()
            ]
            window = closes.iloc[max(0, t + 1 - monitor.bars_needed) : t + 1]
            state = json.loads(json.dumps(monitor.state()))  # a restart on every bar changes nothing
            monitor = LimitMonitor(limits, NAMES, cash=1e5).restore(state)
            tripped = monitor.close(window, result.equity.iloc[t], result.positions.iloc[t].to_dict(), closed)
            assert len(tripped) == (book["time"] == time).sum()
            for row in orders[(orders["time"] == time) & (orders["origin"] == "signal")].itertuples():
                verdict = monitor.judge(row.symbol, row.quantity)
                at_once = row.status == "rejected" and row.fill_time == row.time
                assert verdict.allowed != at_once, (time, row, verdict)
                assert verdict.reason == (row.reason if at_once else "")
                asked, refused = asked + 1, refused + at_once
        assert refused > 20
        assert asked - refused > 20

    def test_interpreted_it_judges_the_same(self):
        closes = pd.DataFrame(walk(), days(300), NAMES)
        limits = Limits(maximum_value_at_risk=0.02, risk_window=40, maximum_cluster_exposure=0.5)

        def verdicts():
            monitor = LimitMonitor(limits, NAMES, cash=1e5)
            for t in range(100, 120):
                monitor.close(closes.iloc[: t + 1], 1e5)
                yield from (monitor.judge(name, 300.0).to_dict() for name in NAMES)

        compiled = [repr(verdict) for verdict in verdicts()]
        with interpreted():
            assert [repr(verdict) for verdict in verdicts()] == compiled

    def test_a_verdict_has_figure_threshold_and_words(self):
        monitor = LimitMonitor(Limits(maximum_exposure=0.5), ["X"], cash=10_000)
        monitor.close(pd.DataFrame({"X": [100.0]}, days(1)), 10_000)
        verdict = monitor.judge("X", 60)
        assert (verdict.limit, verdict.figure, verdict.threshold) == ("maximum_exposure", 6_000.0, 5_000.0)
        assert verdict.summary() == "X: limit: too much gross exposure (6,000, threshold 5,000)"
        assert monitor.judge("X", 50).allowed

    def test_what_trips_closes_everything_and_says_so(self):
        monitor = LimitMonitor(Limits(daily_loss=0.05), ["X"], cash=10_000, timeframe="1h")
        index = pd.date_range("2024-01-01", periods=3, freq="1h", tz="UTC")
        prices = pd.DataFrame({"X": [100.0, 100.0, 89.0]}, index)
        assert monitor.close(prices.iloc[:1], 10_000) == ()
        assert monitor.judge("X", 50).allowed
        monitor.close(prices.iloc[:2], 10_000, {"X": 50})
        (verdict,) = monitor.close(prices, 9_450, {"X": 50})
        assert (verdict.limit, verdict.close_all) == ("daily_loss", True)
        assert monitor.judge("X", 1).reason == "limit: halted for the day after the daily loss"
        assert not monitor.judge("X", -50).allowed  # what leaves anyway is not sold twice

    def test_the_heat_of_a_stop(self):
        # 50 units with a stop 2 below risk 100: 1 % of 10000; without a stop all of it is at risk
        monitor = LimitMonitor(Limits(maximum_heat=0.01), ["X"], cash=10_000)
        monitor.close(pd.DataFrame({"X": [100.0]}, days(1)), 10_000)
        assert not monitor.judge("X", 50).allowed
        assert not monitor.judge("X", 51, risk=2.0).allowed
        assert monitor.judge("X", 50, risk=2.0).allowed

    def test_bad_input(self):
        with pytest.raises(ParameterError, match="blacklist names Y"):
            LimitMonitor(Limits(blacklist=("Y",)), ["X", "Z"], cash=1)
        monitor = LimitMonitor(Limits(maximum_exposure=1), ["X"], cash=10_000)
        with pytest.raises(ParameterError, match="after a close"):
            monitor.judge("X", 1)
        with pytest.raises(DataError, match=r"absent: \['X'\]"):
            monitor.close(pd.DataFrame({"Y": [1.0]}, days(1)), 10_000)
        with pytest.raises(DataError, match="not a positive price"):
            monitor.close(pd.DataFrame({"X": [np.nan]}, days(1)), 10_000)
        monitor.close(pd.DataFrame({"X": [100.0]}, days(1)), 10_000)
        with pytest.raises(ParameterError, match="Y is unknown"):
            monitor.judge("Y", 1)
        with pytest.raises(ParameterError, match="nan units"):
            monitor.judge("X", np.nan)
        with pytest.raises(ParameterError, match="no maximum_value_at_risk"):
            monitor.value_at_risk()
        with pytest.raises(DataError, match="belongs to"):
            LimitMonitor(Limits(), ["Y"], cash=1).restore(monitor.state())


class TestSweeps:
    def test_points_that_differ_in_limits_are_single_runs(self, sp500):
        stop = Exits(stop_loss=0.02, reentry="any_time")
        rule = DecisionRule(strategy=TrendFollowing(), exits=stop, rebalance_band=None)
        guard = Protection(measure="stopped_trades", window=20, pause=10)
        grid = {
            "limits.maximum_value_at_risk": [None, 0.01, 0.02], "limits.protections": [(), (guard,)],
            "limits.volatility_window": [20], "limits.target_volatility": [None, 0.1],
        }  # fmt: skip
        found = sweep(rule, sp500, grid)
        assert len(found.frame["total_return"].unique()) > 6
        for row in range(len(found.frame)):
            alone = run(with_parameters(rule, found.point(row)), sp500, start=found.start).performance
            figures = found.frame.iloc[row]
            assert [figures[name] for name in alone] == pytest.approx(list(alone.values()), rel=0, abs=0, nan_ok=True)


class TestEffects:
    def test_each_limit_against_the_account_without_it(self):
        limits = Limits(maximum_positions=2, maximum_symbol_exposure=0.4)
        effects = limit_effects(backtest, limits)
        frame = effects.to_frame()
        alone = backtest(Limits(maximum_symbol_exposure=0.4)).equity.iloc[-1]
        assert frame.loc["maximum_positions", "effect"] == effects.result.equity.iloc[-1] - alone
        assert len(effects.summary().splitlines()) == 2
        assert len(effects.plot().data) == 1 + 2 + 2

    def test_refused_orders_by_limit(self):
        result = backtest(Limits(maximum_positions=2, maximum_symbol_exposure=0.4))
        table = refused_orders(result)
        assert table["orders"].sum() == result.rejections.orders
        assert set(table.index) == {"too many open positions", "too much of one symbol"}

    def test_no_limit_no_effect(self):
        with pytest.raises(ParameterError, match="limit nothing"):
            limit_effects(backtest, Limits())
        assert refused_orders(backtest(None)).empty


DEFAULTS = [judging.LOSS_BARS, judging.TAIL, judging.LEVERAGE_BASE]
"""Columns of settings that have a value without acting."""
