"""What trades bar whom, until when; and freqtrade's words for it."""

import numpy as np
import pytest

from tradelib._jit import interpreted
from tradelib.errors import ParameterError
from tradelib.risk import Limits, Protection, judging, limits_from_freqtrade


def barred(protection, *trades, bar=None):
    """Bars until which symbols 0, 1 and the account are barred after `trades` (symbol, bar, return, stopped)."""
    limits = (Limits(protections=(protection,)) if protection else Limits()).thresholds
    account, symbols = judging.new_account(1.0), judging.new_symbols(2)
    rows = np.array([(*trade, 0.0)[:4] for trade in trades], float).reshape(-1, judging.CLOSED_COLUMNS)
    judging.protect(limits, account, symbols, rows, len(rows), int(rows[-1, 1]) if bar is None else bar)
    return [*symbols[:, judging.SYMBOL_BARRED_UNTIL], account[judging.BARRED_UNTIL]]


def guard(measure="losing_trades", **more):
    return Protection(**{"measure": measure, "window": 10, "pause": 5, **more})


class TestWhoIsBarred:
    @pytest.mark.parametrize(
        ("protection", "trades", "expected"),
        [
            (guard(), [(0, 3, -0.01)], [8, -1, -1]),
            (guard(), [(0, 3, 0.01)], [-1, -1, -1]),
            (guard(), [(0, 3, 0.0)], [-1, -1, -1]),  # no loss is no loss
            (guard(scope="account"), [(0, 3, -0.01)], [-1, -1, 8]),
            (guard(trades=2), [(0, 3, -0.01), (1, 4, -0.01)], [-1, -1, -1]),  # one each
            (guard(trades=2, scope="account"), [(0, 3, -0.01), (1, 4, -0.01)], [-1, -1, 9]),
            (guard(trades=2), [(0, 3, -0.01), (0, 13, -0.01)], [-1, -1, -1]),  # bar 3 left the window 4 ... 13
            (guard(trades=2), [(0, 4, -0.01), (0, 13, -0.01)], [18, -1, -1]),
            (guard(loss=0.02), [(0, 3, -0.02)], [-1, -1, -1]),  # exactly the loss is not beyond it
            (guard("stopped_trades"), [(0, 3, -0.01, 0.0)], [-1, -1, -1]),
            (guard("stopped_trades"), [(0, 3, -0.01, 1.0)], [8, -1, -1]),
            (guard("stopped_trades"), [(0, 3, 0.01, 1.0)], [-1, -1, -1]),  # a trailing stop in profit
            (guard("total_loss", loss=0.02), [(0, 3, 0.01), (0, 4, -0.031)], [9, -1, -1]),
            (guard("total_loss", loss=0.02), [(0, 3, 0.012), (0, 4, -0.031)], [-1, -1, -1]),
            (guard("total_loss", trades=2), [(0, 3, -0.5)], [-1, -1, -1]),
            (guard("drawdown", loss=0.05), [(0, 1, 0.2), (0, 2, -0.03), (0, 3, 0.01), (0, 4, -0.04)], [9, -1, -1]),
            (guard("drawdown", loss=0.061), [(0, 1, 0.2), (0, 2, -0.03), (0, 3, 0.01), (0, 4, -0.04)], [-1, -1, -1]),
            (guard("drawdown", loss=0.05), [(0, 1, -0.06)], [6, -1, -1]),  # the first trade's loss counts
        ],
    )
    def test_by_hand(self, protection, trades, expected):
        assert barred(protection, *trades) == expected
        with interpreted():
            assert barred(protection, *trades) == expected

    def test_the_drawdown_is_that_of_the_running_sum(self):
        rng = np.random.default_rng(0)
        for _ in range(50):
            returns = rng.normal(0, 0.02, 8)
            path = np.cumsum(np.r_[0.0, returns])
            fall = (np.maximum.accumulate(path) - path).max()
            trades = [(0, bar, value) for bar, value in enumerate(returns)]
            assert barred(guard("drawdown", loss=fall * 1.0001), *trades)[0] == -1
            if fall > 0:
                assert barred(guard("drawdown", loss=fall * 0.9999), *trades)[0] == 12

    def test_without_new_trades_nothing_is_asked(self):
        limits, account = Limits(protections=(guard(),)).thresholds, judging.new_account(1.0)
        symbols, rows = judging.new_symbols(1), np.array([[0.0, 3.0, -0.1, 0.0]])
        assert judging.protect(limits, account, symbols, rows, 1, 3)
        assert not judging.protect(limits, account, symbols, rows, 1, 4)
        assert symbols[0, judging.SYMBOL_BARRED_UNTIL] == 8

    def test_the_bars_after_the_close_are_barred_and_the_next_is_not(self):
        limits, account = Limits(protections=(guard(pause=2),)).thresholds, judging.new_account(1.0)
        symbols, rows = judging.new_symbols(1), np.array([[0.0, 3.0, -0.1, 0.0]])
        judging.protect(limits, account, symbols, rows, 1, 3)
        causes = [judging.barred(limits, account, symbols, 0, bar) for bar in (4, 5, 6)]
        assert causes == [judging.BARRED_LOSING, judging.BARRED_LOSING, judging.ALLOWED]


class TestFreqtrade:
    """Keys and defaults: freqtrade's documentation, "Protections"."""

    def test_its_own_example(self):
        # the documentation's full example, on bars of one hour
        written = [
            {"method": "CooldownPeriod", "stop_duration_candles": 5},
            {
                "method": "MaxDrawdown", "lookback_period_candles": 48, "trade_limit": 20, "stop_duration_candles": 4,
                "max_allowed_drawdown": 0.2,
            },
            {
                "method": "StoplossGuard", "lookback_period_candles": 24, "trade_limit": 4, "stop_duration_candles": 2,
                "only_per_pair": False,
            },
            {
                "method": "LowProfitPairs", "lookback_period_candles": 6, "trade_limit": 2, "stop_duration_candles": 60,
                "required_profit": 0.02,
            },
        ]  # fmt: skip
        assert limits_from_freqtrade(written, "1h") == Limits(
            cooldown=5,
            protections=(
                Protection(measure="drawdown", scope="account", window=48, trades=20, pause=4, loss=0.2),
                Protection(measure="stopped_trades", scope="account", window=24, trades=4, pause=2),
                Protection(measure="total_loss", scope="symbol", window=6, trades=2, pause=60, loss=-0.02),
            ),
        )

    def test_minutes_become_bars_rounded_up_and_defaults_hold(self):
        limits = limits_from_freqtrade([{"method": "StoplossGuard", "only_per_pair": True, "stop_duration": 50}], "15m")
        expected = Protection(measure="stopped_trades", scope="symbol", window=4, trades=10, pause=4)
        assert limits.protections == (expected,)

    @pytest.mark.parametrize(
        ("entry", "told"),
        [
            ({"method": "StoplosGuard"}, "did you mean 'StoplossGuard'"),
            ({}, "is not known"),
            ({"method": "StoplossGuard", "only_per_side": True}, "only_per_side = True has no counterpart"),
            ({"method": "CooldownPeriod", "unlock_at": "08:00"}, "unlock_at = '08:00' has no counterpart"),
            ({"method": "MaxDrawdown", "calculation_mode": "equity"}, "calculation_mode = 'equity'"),
            ({"method": "MaxDrawdown", "max_allowed_drawdown": -0.1}, "is none"),
        ],
    )
    def test_what_has_no_counterpart_is_refused(self, entry, told):
        with pytest.raises(ParameterError, match=told):
            limits_from_freqtrade([entry], "1h")
