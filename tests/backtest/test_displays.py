"""What a notebook and a terminal show of sweeps, ledgers and cross-checks: short, counted, readable on any page."""

from __future__ import annotations

import dataclasses
import html
import re
from pathlib import Path

import pandas as pd
import pytest

from tradelib.backtest import DecisionRule, SweepResult, TrialLedger, parameter_paths, plots, random_points, run, sweep
from tradelib.backtest.crosscheck import CrossCheck
from tradelib.backtest.look import INK
from tradelib.indicators import probe_bars
from tradelib.risk.exits import Distance
from tradelib.strategies import Strategy, TrendFollowing

BARS = probe_bars(300, seed=5)
RULE = DecisionRule(strategy=TrendFollowing(fast=3, slow=9))
GRID = {
    "strategy.fast": [3, 5, 12],
    "strategy.slow": [9, 20, 30],
    "exits.stop_loss": [None, Distance(value=2, unit="atr")],
}


@pytest.fixture
def ledger(tmp_path: Path) -> TrialLedger:
    return TrialLedger(tmp_path / "trials.sqlite")


@pytest.fixture
def swept(ledger: TrialLedger) -> SweepResult:
    """18 points, of which fast 12 with slow 9 is no rule, whatever its stop."""
    return sweep(RULE, BARS, GRID, ledger=ledger)


def table(card: str) -> list[list[str]]:
    """Texts of the cells of a card, row by row."""
    rows = re.findall(r"<tr>(.*?)</tr>", card)
    return [[html.unescape(cell) for cell in re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row)] for row in rows]


class TestSweepCard:
    def test_the_heading_says_what_was_swept_and_what_was_counted(self, swept):
        card = html.unescape(swept._repr_html_())
        assert "Sweep of TrendFollowing</b>" in card
        assert "on PROBE, 1d" in card
        assert "16 points, 16 counted as new trials; 2 skipped" in card
        assert "the first of those skipped: TrendFollowing: fast (12) must be below slow (9)" in card
        assert "interrupted" not in card

    def test_trials_that_were_known_are_told_apart(self, swept, ledger):
        again = sweep(RULE, BARS, GRID, ledger=ledger)
        assert "16 points, 0 counted as new trials, 16 known before; 2 skipped" in again._repr_html_()

    def test_an_interrupted_one_says_how_to_go_on(self, swept):
        card = dataclasses.replace(swept, interrupted=True)._repr_html_()
        assert "⚠ interrupted: hand it over as resume to go on" in card

    def test_the_table_has_short_names_and_the_best_points_with_units(self, swept):
        head, *rows = table(swept._repr_html_())
        assert head == ["row", "fast", "slow", "stop_loss", "return", "Sharpe ratio", "drawdown", "trades"]
        best = swept.frame.nlargest(5, "sharpe_ratio")
        assert [row[0] for row in rows] == [str(number) for number in best.index]
        assert {row[3] for row in rows} <= {"none", "2 atr"}
        first = swept.result(BARS, int(rows[0][0])).summary()["value"]
        assert rows[0][4:] == [first[name] for name in ("Total return", "Sharpe ratio", "Maximum drawdown", "Trades")]
        assert "the 5 best by Sharpe ratio" in swept._repr_html_()

    def test_all_of_a_few_points_are_shown_with_the_best_first(self, ledger):
        card = sweep(RULE, BARS, {"strategy.fast": [3, 5]}, ledger=ledger)._repr_html_()
        assert len(table(card)) == 3
        assert "all points, the best by Sharpe ratio first" in card

    def test_axes_that_end_alike_keep_their_paths(self, ledger):
        grid = {"limits.maximum_drawdown": [0.1, 0.2], "strategy.maximum_drawdown": [0.3]}

        class Named(TrendFollowing):
            maximum_drawdown: float = 0.5

        card = sweep(RULE.replace(strategy=Named()), BARS, grid, start=BARS.index[250], ledger=ledger)._repr_html_()
        assert table(card)[0][1:3] == list(grid)
        assert {row[1] for row in table(card)[1:]} == {"10%", "20%"}

    def test_points_without_a_sharpe_ratio_are_shown_in_their_order(self, ledger):
        class Idle(Strategy):
            level: float = 0.0

            def signals(self, bars: pd.DataFrame) -> pd.Series:
                return pd.Series(0.0, bars.index)

        idle = sweep(DecisionRule(strategy=Idle()), BARS, {"strategy.level": [0.1 + 0.2] * 7}, ledger=ledger)
        card = idle._repr_html_()
        assert "the 5 first, because none has a Sharpe ratio" in card
        assert table(card)[1] == ["0", "0.3", "0.0%", "–", "0.0%", "0"]

    def test_it_takes_the_colours_of_the_page(self, swept):
        assert not re.search(r"#[0-9a-fA-F]{3,6}|(?<!-)\bcolor:|background", swept._repr_html_())


class TestLedger:
    def test_one_that_is_not_there_yet_is_empty_and_stays_away(self, ledger):
        assert repr(ledger) == f"TrialLedger({str(ledger.path)!r}: 0 families, 0 trials)"
        assert "<table" not in ledger._repr_html_()
        assert not ledger.path.exists()

    def test_it_says_path_families_and_trials(self, swept, ledger):
        run(RULE.replace(strategy=TrendFollowing(fast=2, slow=90)), BARS, ledger=ledger)
        assert repr(ledger) == f"TrialLedger({str(ledger.path)!r}: 1 family, 17 trials)"
        assert table(ledger._repr_html_()) == [
            ["strategy", "symbol", "timeframe", "trials"],
            ["TrendFollowing", "PROBE", "1d", "17"],
        ]

    def test_of_many_families_the_largest_are_shown_and_the_rest_is_counted(self, ledger, monkeypatch):
        known = {f"S{n}|<b>|1d": n for n in range(1, 26)}
        monkeypatch.setattr(TrialLedger, "families", lambda _: known)
        rows = table(ledger._repr_html_())
        assert len(rows) == 1 + 20 + 1
        assert rows[1] == ["S25", "<b>", "1d", "25"]
        assert rows[-1] == ["… and 5 more", "", "", "15"]  # 1 + 2 + 3 + 4 + 5

    def test_a_file_that_is_no_ledger_is_named_and_nothing_is_raised(self, ledger):
        ledger.path.write_text("not a ledger")
        assert "cannot be read" in repr(ledger)
        assert "cannot be read" in ledger._repr_html_()


class TestPages:
    def test_grey_reads_on_a_white_and_on_a_dark_page(self):
        """Contrast of at least 4 to 1 (WCAG 2.2, relative luminance of sRGB)."""

        def luminance(color: str) -> float:
            parts = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
            red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
            return 0.2126 * red + 0.7152 * green + 0.0722 * blue

        grey, dark = luminance(INK), luminance("#131416")
        assert 1.05 / (grey + 0.05) > 4.0
        assert (grey + 0.05) / (dark + 0.05) > 4.0

    def test_no_mark_is_black(self):
        assert "#000000" not in {color for color, _ in plots.EXIT_LOOKS.values()}

    def test_parallel_coordinates_stay_on_white_because_their_axes_are_black(self, swept):
        assert swept.parallel_coordinates().layout.paper_bgcolor == "white"
        assert swept.plot("strategy.fast", "strategy.slow").layout.paper_bgcolor == "rgba(0,0,0,0)"


@pytest.mark.parametrize(
    ("last", "told"), [(96.0, "-4%"), (100.098, "0.098%"), (100.0, "0%"), (100.0 * (1 + 2**-40), "9.09e-11%")]
)
def test_the_largest_difference_of_two_engines_is_a_percentage(last: float, told: str) -> None:
    days = pd.date_range("2024-01-01", periods=2, tz="UTC", name="time")
    curves = pd.DataFrame({"tradelib": [100.0, 100.0], "backtrader": [100.0, last]}, index=days)
    check = CrossCheck(curves, {"tradelib": 0, "backtrader": 0}, 0, pd.DataFrame({"time": [], "convention": []}))
    shown = check.summary().loc["Largest difference of equity", "value"]
    assert shown.startswith(f"{told} on 2024-01-0")


def test_names_that_a_newcomer_looks_for_are_where_they_are_looked_for() -> None:
    from tradelib import data

    assert {"Panel", "as_panel"} <= set(data.__all__)
    assert data.as_panel(BARS).symbols == ("PROBE",)
    assert "strategy.fast" in parameter_paths(RULE)
    assert len(random_points({"strategy.fast": (2, 5)}, 3, seed=1)) == 3
