"""The accounting kernel against arithmetic written out by hand, and against its own interpreted source."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.backtest.support import simulate
from tradelib._jit import interpreted
from tradelib.backtest import book, kernel


class TestByHand:
    """Each case: given prices and target weights, when simulated, then the numbers worked out in the comment."""

    def test_a_decision_fills_at_the_next_open_not_at_its_own_close(self):
        # decided at close 100: 0.5 x 1000 / 100 = 5 units; filled at the open of 102: cash 1000 - 510 = 490
        result = simulate([100, 102, 103], [100, 104, 105], [0.5, 0.5, 0.5], rebalance_band=0.2)
        assert result.order_bar.tolist() == [0]
        assert result.order_price.tolist() == [102.0]
        assert result.cash.tolist() == [1000.0, 490.0, 490.0]
        assert result.position.tolist() == [0.0, 5.0, 5.0]
        assert result.equity.tolist() == [1000.0, 490 + 5 * 104, 490 + 5 * 105]

    def test_slippage_is_against_you_and_the_fee_is_on_the_slipped_price(self):
        # buy 5 at 100 x 1.01 = 101, fee 1 % of 505 = 5.05; sell 5 at 110 x 0.99 = 108.9, fee 5.445
        result = simulate([100, 100, 110], [100, 100, 110], [0.5, 0.0, 0.0], slippage=0.01, fee_rate=0.01)
        np.testing.assert_allclose(result.order_price, [101.0, 108.9], rtol=1e-15)
        np.testing.assert_allclose(result.order_fee, [5.05, 5.445], rtol=1e-15)
        np.testing.assert_allclose(result.order_slippage, [5.0, 5.5], rtol=1e-12)
        assert result.equity[-1] == pytest.approx(1000 - 505 - 5.05 + 544.5 - 5.445, abs=1e-12)

    def test_a_short_gains_when_the_price_falls(self):
        # short 5 at 100: cash 1500, equity at 90 = 1500 - 450 = 1050
        result = simulate([100, 100, 90], [100, 100, 90], [-0.5, -0.5, -0.5], rebalance_band=0.2)
        assert result.position[-1] == -5.0
        assert result.equity[-1] == 1050.0

    def test_a_flip_through_zero_is_one_order(self):
        # long 5, then -0.5 x 1000 / 100 = -5: one order of -10
        result = simulate([100] * 4, [100] * 4, [0.5, -0.5, -0.5, -0.5])
        assert result.order_quantity.tolist() == [5.0, -10.0]
        assert result.position.tolist() == [0.0, 5.0, -5.0, -5.0]

    def test_within_the_band_nothing_is_traded(self):
        # weight after the rise: 5 x 120 / 1100 = 0.545; 0.5 is 0.045 away, inside a band of 0.1 and outside of 0.04
        closes = [100, 100, 120, 120]
        assert len(simulate(closes, closes, [0.5] * 4, rebalance_band=0.1).order_bar) == 1
        assert len(simulate(closes, closes, [0.5] * 4, rebalance_band=0.04).order_bar) == 2

    def test_a_target_of_zero_trades_inside_any_band(self):
        result = simulate([100] * 4, [100] * 4, [0.1, 0.0, 0.0, 0.0], rebalance_band=0.9)
        assert result.position.tolist() == [0.0, 1.0, 0.0, 0.0]

    def test_an_order_of_the_last_bar_is_pending_for_ever(self):
        result = simulate([100, 100], [100, 100], [0.0, 0.5])
        assert result.order_status.tolist() == [book.WORKING]
        assert result.position.tolist() == [0.0, 0.0]

    def test_an_unknown_weight_holds_what_there_is(self):
        result = simulate([100] * 4, [100] * 4, [0.5, np.nan, np.nan, 0.5])
        assert result.position.tolist() == [0.0, 5.0, 5.0, 5.0]

    def test_what_cash_cannot_pay_is_rejected_and_recorded(self):
        # all of the equity at close 100 = 10 units; the open is 101: 1010 > 1000
        result = simulate([100, 101, 101], [100, 101, 101], [1.0, np.nan, np.nan])
        assert result.order_status.tolist() == [book.REJECTED]
        assert result.position.tolist() == [0.0, 0.0, 0.0]
        assert result.cash.tolist() == [1000.0] * 3

    def test_leverage_admits_what_cash_alone_does_not(self):
        result = simulate([100, 101, 101], [100, 101, 101], [1.5, np.nan, np.nan], maximum_leverage=2.0)
        assert result.position[-1] == 15.0
        assert result.cash[-1] == 1000 - 15 * 101

    def test_reducing_is_always_admitted(self):
        # a short at 100 with leverage 1 doubles against the account; buying back half is admitted although over-exposed
        result = simulate([100, 100, 180, 180], [100, 180, 180, 180], [-1.0, -0.5, np.nan, np.nan])
        assert result.order_status[1] == book.FILLED

    def test_the_first_open_takes_the_decision_of_the_bar_before_the_account(self):
        result = simulate([100, 100, 102], [100, 100, 104], [np.nan, 0.5, 0.5], first=2, rebalance_band=0.2)
        assert result.order_bar.tolist() == [1]
        assert result.position.tolist() == [5.0]
        assert result.equity.tolist() == [1000 - 510 + 520]

    def test_targets_round_toward_zero_to_whole_lots(self):
        # 0.5 x 1000 / 30 = 16.666...: 16.66 with hundredths, for a short -16.66
        for sign in (1.0, -1.0):
            assert kernel.order_quantity(0.5 * sign, 0.0, 1_000.0, 30.0, 0.0, 100.0, 0.0) == 16.66 * sign

    def test_below_the_smallest_order_nothing_is_sent(self):
        assert kernel.order_quantity(0.5, 0.0, 10.0, 1.0, 0.0, 0.0, 6.0) == 0.0
        assert kernel.order_quantity(0.5, 0.0, 10.0, 1.0, 0.0, 0.0, 5.0) == 5.0

    def test_an_account_without_equity_is_closed_out(self):
        assert kernel.order_quantity(0.5, 0.0, -1.0, 100.0, 3.0, 0.0, 0.0) == -3.0


quantities = st.integers(1, 10**9)


@given(held=quantities, added=quantities, lots=st.sampled_from([1.0, 10.0, 1e3, 1e5, 1e8]))
def test_positions_stay_on_the_lot_grid_whatever_is_added(held, added, lots):
    position = kernel.position_after(held / lots, added / lots, lots)
    assert position == (held + added) / lots
    assert kernel.position_after(position, -added / lots, lots) == held / lots


@given(lots=st.integers(1, 10**12), digits=st.integers(0, 8))
def test_a_rounded_quantity_is_the_float_of_its_decimal_string(lots, digits):
    text = f"{lots // 10**digits}.{lots % 10**digits:0{digits}d}" if digits else str(lots)
    assert lots / 10.0**digits == float(text)


@st.composite
def tapes(draw):
    n = draw(st.integers(2, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.03, n)))
    opens = close * np.exp(rng.normal(0, 0.01, n))
    weights = rng.choice([np.nan, 0.0, 0.3, 0.9, 1.2, -0.4, -0.9], n)
    return opens, close, weights


terms = st.fixed_dictionaries(
    {
        "cash": st.sampled_from([1e3, 1e5, 123_456.789]),
        "fee_rate": st.sampled_from([0.0, 0.001, 0.02]),
        "slippage": st.sampled_from([0.0, 0.0005, 0.02]),
        "rebalance_band": st.sampled_from([0.0, 0.1]),
        "lots_per_unit": st.sampled_from([0.0, 1.0, 1e4]),
        "minimum_notional": st.sampled_from([0.0, 50.0]),
        "maximum_leverage": st.sampled_from([1.0, 3.0]),
    }
)


@settings(max_examples=150, deadline=None)
@given(tape=tapes(), options=terms, first=st.integers(0, 5))
def test_compiled_and_interpreted_give_the_same_bits(tape, options, first):
    first = min(first, len(tape[0]) - 1)
    compiled = simulate(*tape, first=first, **options)
    with interpreted():
        plain = simulate(*tape, first=first, **options)
    for name, one, other in zip(compiled._fields, compiled, plain, strict=True):
        assert np.array_equal(one, other), name


@settings(max_examples=150, deadline=None)
@given(tape=tapes(), options=terms)
def test_cash_positions_fees_and_slippage_conserve(tape, options):
    opens, closes, _ = tape
    result = simulate(*tape, first=0, **options)
    filled = result.order_status == book.FILLED
    bars, quantity = result.order_bar[filled] + 1, result.order_quantity[filled]
    paid = (quantity * opens[bars]).sum() + result.order_fee[filled].sum() + result.order_slippage[filled].sum()
    assert result.cash[-1] == pytest.approx(options["cash"] - paid, abs=1e-9 * options["cash"])
    assert result.position[-1] == pytest.approx(quantity.sum(), abs=1e-9 * max(1.0, np.abs(quantity).max(initial=0)))
    np.testing.assert_array_equal(result.equity, result.cash + result.position * closes)


@settings(max_examples=60, deadline=None)
@given(tape=tapes(), options=terms)
def test_doubling_prices_and_cash_doubles_equity(tape, options):
    opens, closes, weights = tape
    options = {**options, "minimum_notional": 0.0}
    one = simulate(opens, closes, weights, first=0, **options)
    two = simulate(2 * opens, 2 * closes, weights, first=0, **{**options, "cash": 2 * options["cash"]})
    np.testing.assert_allclose(two.equity, 2 * one.equity, rtol=1e-12)
    np.testing.assert_array_equal(two.position, one.position)


@settings(max_examples=60, deadline=None)
@given(tape=tapes(), options=terms, cut=st.integers(1, 50))
def test_the_past_does_not_depend_on_the_future(tape, options, cut):
    cut = min(cut, len(tape[0]))
    whole = simulate(*tape, first=0, **options)
    part = simulate(*(array[:cut] for array in tape), first=0, **options)
    np.testing.assert_array_equal(part.equity, whole.equity[:cut])
