"""Figures of a result: what is in them, how many points, and that no extreme is lost."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from tradelib.backtest import Costs, DecisionRule, Result, plots, run_positions, run_weights
from tradelib.backtest.engine import evaluate
from tradelib.backtest.plots import EXIT_LOOKS, KINDS, MOST_POINTS, decimate, monthly_returns, sparkline
from tradelib.data import make_bars
from tradelib.errors import ParameterError
from tradelib.indicators import probe_bars
from tradelib.risk import Exits
from tradelib.strategies import TrendFollowing

RULE = DecisionRule(
    strategy=TrendFollowing(fast=3, slow=9, direction="long_short"),
    exits=Exits(stop_loss=0.02, take_profit=0.04, time_exit=8),
)


@pytest.fixture(scope="module")
def result() -> Result:
    return evaluate(RULE, probe_bars(900, seed=3), costs=Costs(borrow_rate=0.02))


@pytest.fixture(scope="module")
def many() -> Result:
    """40,000 bars and more than two thousand trades."""
    return evaluate(RULE, probe_bars(40_000, seed=3))


@pytest.fixture(scope="module")
def portfolio() -> Result:
    bars = {f"S{seed}": probe_bars(300, seed=seed) for seed in range(12)}
    bars = {name: make_bars(frame, symbol=name, timeframe="1d", source="x", calendar="24/7")
            for name, frame in bars.items()}  # fmt: skip
    return run_weights(np.tile(np.linspace(0.16, -0.02, 12), (300, 1)), bars)


def traces(figure: object) -> dict[str, object]:
    return {trace.name: trace for trace in figure.data}


def points(trace: object) -> int:
    return 0 if trace.x is None else len(trace.x)


class TestDecimation:
    @pytest.mark.parametrize("n", [1, 2, 3, 99, 100, 101, 999, 12_345])
    @pytest.mark.parametrize("most", [10, 100, 5_000])
    def test_there_are_at_most_so_many_rows_in_order_without_doubles(self, n, most):
        rows = decimate(np.random.default_rng(n).normal(size=n), most)
        assert len(rows) <= max(most, 1)
        assert (np.diff(rows) > 0).all()
        assert (rows[0], rows[-1]) == (0, n - 1)

    @pytest.mark.parametrize("spike", [0, 1, 4_321, 9_998, 9_999])
    @pytest.mark.parametrize("sign", [1.0, -1.0])
    def test_a_spike_of_one_bar_survives_wherever_it_is(self, spike, sign):
        values = np.random.default_rng(0).normal(size=10_000)
        values[spike] = 100.0 * sign
        assert spike in decimate(values, 50)

    def test_few_values_are_all_kept(self):
        assert decimate(np.arange(7.0), 7).tolist() == [0, 1, 2, 3, 4, 5, 6]

    def test_missing_values_hide_no_extreme(self):
        values = np.sin(np.arange(10_000.0))
        values[::2] = np.nan
        values[777], values[1_779] = 5.0, -5.0
        assert {777, 1_779} <= set(decimate(values, 100).tolist())

    def test_an_envelope_of_every_stretch_is_kept(self):
        values = np.random.default_rng(1).normal(size=100_000).cumsum()
        kept = np.interp(np.arange(100_000), rows := decimate(values), values[rows])
        stretch = 100_000 // (MOST_POINTS // 2) + 1
        assert pd.Series(kept).rolling(4 * stretch).max().corr(pd.Series(values).rolling(4 * stretch).max()) > 0.9999
        assert (values[rows].min(), values[rows].max()) == (values.min(), values.max())


class TestEveryFigure:
    @pytest.mark.parametrize("kind", KINDS)
    def test_it_has_a_title_axis_titles_and_no_ground_of_its_own(self, result, kind):
        figure = result.plot(kind)
        assert result.title in figure.layout.title.text or result.symbols[0] in figure.layout.title.text
        assert figure.layout.paper_bgcolor == figure.layout.plot_bgcolor == "rgba(0,0,0,0)"
        titles = [axis.title.text for axis in figure.select_yaxes()]
        assert any(titles) or kind in ("monthly", "costs")

    @pytest.mark.parametrize("kind", KINDS)
    def test_no_trace_has_more_points_than_a_browser_likes(self, many, kind):
        assert max(points(trace) for trace in many.plot(kind).data) <= MOST_POINTS

    @pytest.mark.parametrize("kind", KINDS)
    def test_it_is_valid_json_and_the_result_stays_as_it_was(self, result, kind):
        before = result.to_frame()
        assert json.loads(result.plot(kind).to_json())["data"]
        pd.testing.assert_frame_equal(result.to_frame(), before, check_exact=True)

    @pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "price"])
    def test_a_portfolio_has_it_too(self, portfolio, kind):
        assert portfolio.plot(kind).data

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_run_without_trades_has_it_too(self, kind):
        never = run_weights(np.zeros((60, 1)), probe_bars(60, seed=1))
        assert never.plot(kind).layout.title.text

    def test_an_unknown_kind_is_refused_with_the_nearest_name(self, result):
        with pytest.raises(ParameterError, match="there is no plot 'montly'; did you mean 'monthly'"):
            result.plot("montly")

    def test_colours_and_shapes_of_exits_are_all_different(self):
        assert len({color for color, _ in EXIT_LOOKS.values()}) == len(EXIT_LOOKS)

    def test_amounts_carry_the_currency_of_the_symbol(self):
        bars = make_bars(probe_bars(60, seed=1), symbol="BTC/USDT", timeframe="1d", source="x", calendar="24/7")
        figure = run_weights(np.ones((60, 1)) * 0.5, bars).plot("equity")
        assert figure.layout.yaxis.title.text == "equity (USDT)"


class TestPrices:
    def test_every_trade_has_an_entry_and_every_closed_one_an_exit_by_its_reason(self, result):
        found, trades = traces(result.plot("price")), result.trades
        for side in ("long", "short"):
            assert points(found[f"{side} entry"]) == (trades["side"] == side).sum()
        closed = trades[~trades["open"]]
        for reason, count in closed["reason"].value_counts().items():
            assert points(found[f"exit: {reason}".replace("_", " ")]) == count

    def test_hovering_tells_the_profit_of_the_trade(self, result):
        trace, trades = traces(result.plot("price"))["long entry"], result.trades
        longs = trades[trades["side"] == "long"]
        np.testing.assert_array_equal(trace.customdata[:, 1].astype(float), longs["profit"])
        assert "profit %{customdata[1]" in trace.hovertemplate

    def test_stops_and_targets_are_drawn_where_they_were(self, result):
        found, orders = traces(result.plot("price")), result.orders
        stops = orders[(orders["origin"] == "stop_loss") & orders["stop"].notna()]
        np.testing.assert_array_equal(found["stops"].y[::3], stops["stop"])
        assert {"stops", "targets"} <= set(found)

    def test_few_bars_are_candles_and_many_a_line(self, result):
        short = evaluate(RULE, probe_bars(200, seed=3))
        assert short.plot("price").data[0].type == "candlestick"
        assert result.plot("price").data[0].type == "scatter"
        assert result.plot("price", candles=True).data[0].type == "candlestick"

    def test_joined_candles_keep_the_extremes(self, many):
        candles = many.plot("price", candles=True).data[0]
        bars = many.bars
        assert len(candles.x) <= 1_000
        assert (candles.high.max(), candles.low.min()) == (bars["high"].max(), bars["low"].min())
        assert (candles.open[0], candles.close[-1]) == (bars["open"].iloc[0], bars["close"].iloc[-1])

    def test_of_too_many_trades_the_largest_are_drawn_and_the_title_says_so(self, many):
        figure = many.plot("price")
        drawn = np.concatenate([t.customdata[:, 1] for t in figure.data if t.name in ("long entry", "short entry")])
        assert len(drawn) == MOST_POINTS // 3 < len(many.trades)
        assert many.trades["profit"].abs().max() in np.abs(drawn.astype(float))
        assert "largest of" in figure.layout.title.subtitle.text

    def test_a_position_of_several_fills_is_marked_where_it_began_and_ended_not_at_its_average(self):
        prices = [100.0, 100.0, 200.0, 300.0, 400.0, 400.0]
        frame = pd.DataFrame(dict.fromkeys(("open", "high", "low", "close"), prices) | {"volume": 1.0})
        frame.index = pd.date_range("2024-01-01", periods=6, tz="UTC", name="time")
        bars = make_bars(frame, symbol="X", timeframe="1d", source="x", calendar="24/7")
        units = np.array([[1.0], [1.0], [3.0], [1.0], [0.0], [0.0]])  # bought at 100 and 300, sold at 400

        built = run_positions(units, bars, costs=Costs(fee_rate=0.0, slippage=0.0))
        drawn = traces(built.plot("price"))

        assert built.trades["entry_price"].tolist() == [pytest.approx((100 + 2 * 300) / 3)]
        assert drawn["long entry"].y.tolist() == [100.0]
        assert drawn["exit: signal"].y.tolist() == [400.0]
        assert drawn["long entry"].customdata[0][-1] == pytest.approx(700 / 3)

    def test_of_a_portfolio_the_trades_of_the_symbol_are_counted(self, portfolio):
        own = int((portfolio.trades["symbol"] == "S3").sum())
        assert 0 < own < len(portfolio.trades)
        assert portfolio.plot("price", symbol="S3").layout.title.subtitle.text == f"{own:,} trades"

    def test_a_portfolio_needs_a_symbol(self, portfolio):
        with pytest.raises(ParameterError, match="choose one of S0, S1"):
            portfolio.plot("price")
        assert portfolio.plot("price", symbol="S3").layout.title.text == "S3: price and trades"


class TestFigures:
    def test_the_last_points_are_the_last_values(self, result):
        found = traces(result.plot("equity"))
        assert found["equity"].y[-1] == result.equity.iloc[-1]
        prices = result.bars
        held = 100_000.0 * prices["close"].iloc[-1] / prices["open"].iloc[0]
        assert found["buy and hold, no costs"].y[-1] == pytest.approx(held)

    def test_the_deepest_drawdown_is_the_metric(self, many):
        deepest = min(traces(many.plot("drawdown"))["drawdown"].y)
        assert deepest == pytest.approx(many.metrics["maximum_drawdown"], rel=1e-12)

    def test_months_and_years_compound_by_hand(self):
        index = pd.DatetimeIndex(["2023-12-30", "2023-12-31", "2024-01-01", "2024-03-01"], tz="UTC")
        table = monthly_returns(pd.Series([0.1, 0.1, -0.5, 1.0], index))
        assert table.loc[2023, 12] == pytest.approx(0.21)
        assert table.loc[2024, [1, 3, "year"]].tolist() == [-0.5, 1.0, 0.0]
        assert np.isnan(table.loc[2024, 2])

    def test_a_month_that_lost_next_to_nothing_is_zero_without_a_sign(self):
        drawn = plots._heat(pd.DataFrame([[-0.0004, 0.05, np.nan]]), ["Jan", "Feb", "Mar"])
        assert drawn.text.tolist() == [["0.0", "5.0", ""]]

    def test_stacked_weights_add_up_to_the_exposure(self, portfolio):
        figure = portfolio.plot("exposure")
        longs = sum(trace.y[-1] for trace in figure.data if trace.stackgroup == "long")
        shorts = sum(trace.y[-1] for trace in figure.data if trace.stackgroup == "short")
        assert longs - shorts == pytest.approx(portfolio.exposure["gross"].iloc[-1])
        assert longs + shorts == pytest.approx(portfolio.exposure["net"].iloc[-1])
        assert "4 others" in traces(figure)

    def test_costs_are_those_of_the_result(self, result):
        bars = result.plot("costs").data[0]
        assert dict(zip(bars.y, bars.x, strict=True)) == {
            kind.replace("_", " "): value for kind, value in result.costs_by_kind.items() if value
        }

    def test_each_trade_is_a_dot_in_both_panels(self, result):
        figure = result.plot("excursions")
        assert sum(points(trace) for trace in figure.data) == 2 * len(result.trades)

    def test_a_window_longer_than_the_run_is_refused(self, result):
        with pytest.raises(ParameterError, match="window is 5000: the account has 900 bars"):
            result.plot("rolling", window=5_000)

    def test_a_flat_stretch_has_no_rolling_sharpe_ratio(self):
        returns = pd.Series(np.r_[np.zeros(30), 0.01, -0.01, 0.02])
        rolling = plots.rolling_sharpe(returns, 252, 3)
        assert rolling.iloc[:30].isna().all()
        last = np.array([0.01, -0.01, 0.02])
        assert rolling.iloc[-1] == pytest.approx(last.mean() / last.std(ddof=1) * 252**0.5)


class TestSparkline:
    def test_it_lies_inside_its_box_and_keeps_the_extremes(self):
        values = 100.0 + np.random.default_rng(5).normal(size=50_000).cumsum()
        svg = sparkline(values, 100.0, width=300, height=40)
        pairs = svg.split('points="')[1].split('"')[0].split()
        x, y = np.array([pair.split(",") for pair in pairs], dtype=float).T
        assert 0 <= x.min() < x.max() <= 300
        assert (y.min(), y.max()) == (2.0, 38.0)
        assert len(pairs) <= 200

    def test_a_flat_curve_is_a_line(self):
        assert "nan" not in sparkline(np.full(5, 100.0), 100.0)
