"""One call, one verdict: figures that equal those of the functions behind them, and no figure silently missing."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.report.conftest import RULE, Page, backtest, market
from tests.report.test_report_tables import portfolio  # noqa: F401  # a fixture
from tradelib.backtest.decision import DecisionRule
from tradelib.backtest.engine import evaluate, run
from tradelib.backtest.result import Result
from tradelib.backtest.sweep_result import SweepResult
from tradelib.backtest.sweeps import sweep
from tradelib.backtest.trials import TrialLedger, TrialSummary
from tradelib.errors import ParameterError
from tradelib.report import Assessment, assess
from tradelib.report import assessing as work
from tradelib.report.assessment import FIGURES, GROUPS, PARTS, AssessmentRow, asked_text, judge, overall
from tradelib.strategies.base import Strategy
from tradelib.validation.costs_and_capacity import break_even_cost
from tradelib.validation.overfitting import backtest_overfitting
from tradelib.validation.sharpe import deflated_sharpe
from tradelib.validation.simulation import monte_carlo
from tradelib.validation.splits import WalkForward
from tradelib.validation.stability import parameter_stability
from tradelib.validation.walk_forward import WalkForwardResult, run_walk_forward

GRID = {"strategy.fast": [3, 5, 8], "strategy.slow": [15, 20, 30]}
SLOW = tuple(part for part in PARTS if part not in ("sharpe", "drawdown", "benchmark", "trials"))


@pytest.fixture(scope="module")
def bars() -> pd.DataFrame:
    """A seed by which all points of the grid earn something: every figure can be computed."""
    return market(seed=3)


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> TrialLedger:
    return TrialLedger(tmp_path_factory.mktemp("ledger") / "trials.sqlite")


@pytest.fixture(scope="module")
def swept(bars: pd.DataFrame, ledger: TrialLedger) -> SweepResult:
    return sweep(DecisionRule.from_config(RULE), bars, GRID, ledger=ledger)


@pytest.fixture(scope="module")
def best(swept: SweepResult, bars: pd.DataFrame) -> Result:
    return swept.result(bars)


@pytest.fixture(scope="module")
def walked(bars: pd.DataFrame, ledger: TrialLedger) -> WalkForwardResult:
    return run_walk_forward(DecisionRule.from_config(RULE), bars, GRID, WalkForward(300, 200), ledger=ledger)


@pytest.fixture(scope="module")
def verdict(best: Result, swept: SweepResult, walked: WalkForwardResult, ledger: TrialLedger) -> Assessment:
    return assess(best, sweep=swept, trials=ledger, walk_forward=walked)


# -- every figure is the one of the function behind it ---------------------------------------------------------------


def test_every_figure_is_there_and_computed(verdict: Assessment) -> None:
    assert [row.name for row in verdict.rows] == list(FIGURES)
    assert [row.words for row in verdict.rows if row.verdict == "none"] == []
    assert {row.group for row in verdict.rows} == set(GROUPS)
    assert all(row.words.endswith((".", "%")) for row in verdict.rows)


def test_figures_equal_direct_calls(
    verdict: Assessment, best: Result, swept: SweepResult, ledger: TrialLedger, bars: pd.DataFrame
) -> None:
    from tradelib.backtest.wiring import trial_of

    summary = ledger.summary(trial_of(best).family)
    deflated = deflated_sharpe(best.returns, summary)
    assert verdict["deflated_sharpe"].value == deflated.deflated
    assert f"{summary.count} trials" in verdict["deflated_sharpe"].shown
    matrix = np.column_stack([swept.result(bars, row).returns for row in range(9)])
    moved = matrix[:, np.ptp(matrix, axis=0) > 0]
    blocks = 16 if len(matrix) >= 640 else 8
    cut = len(matrix) % blocks
    assert verdict["overfitting"].value == backtest_overfitting(moved[cut:], blocks).probability
    assert verdict["stability"].value == parameter_stability(swept).kept
    costs = break_even_cost(best)
    assert verdict["break_even"].value == costs.sharpe_ratio.multiple
    doubled = evaluate(best.rule, bars, costs=best.costs.times(2.0), start=best.index[0])
    assert verdict["doubled_costs"].value == pytest.approx(doubled.metrics["annual_return"], rel=1e-12)
    assert verdict["drawdown"].value == pytest.approx(best.metrics["maximum_drawdown"], rel=1e-12)
    paths = monte_carlo(best, paths=5_000, seed=0)
    assert verdict["ruin"].value == paths.probability_of_ruin(0.5).estimate


def test_the_standard_error_of_the_sharpe_ratio_is_mertens(verdict: Assessment, best: Result) -> None:
    """Written out: (1 - skew SR + (kurtosis - 1) / 4 SR^2) / (n - 1), per period; Mertens (2002)."""
    x = best.returns.to_numpy()
    ratio, z = x.mean() / x.std(ddof=1), (x - x.mean()) / x.std()
    error = math.sqrt((1 - (z**3).mean() * ratio + ((z**4).mean() - 1) / 4 * ratio**2) / (len(x) - 1))
    assert verdict["sharpe_ratio"].value == pytest.approx(ratio / error, rel=1e-12)
    assert f"± {error * math.sqrt(365):.2f}" in verdict["sharpe_ratio"].shown


# -- planted faults --------------------------------------------------------------------------------------------------


class Clairvoyant(Strategy):
    """Holds what will rise tomorrow: a look-ahead fault on purpose."""

    def signals(self, bars: pd.DataFrame) -> pd.Series:
        close = bars["close"]
        return (close.shift(-1) > close).astype(float)


def test_a_strategy_that_looks_ahead_is_not_to_be_trusted_however_good(ledger: TrialLedger) -> None:
    result = run(Clairvoyant(), market(300), ledger=ledger)
    told = assess(result, trials=ledger, skip=[part for part in SLOW if part != "causality"])
    assert told["causality"].verdict == "bad"
    assert told["sharpe_ratio"].verdict == "good"
    assert told.verdict == "bad"
    assert told.interpretation.startswith("Not to be trusted at all: it looks ahead.")


def test_an_account_that_never_moved_has_reasons_instead_of_figures(ledger: TrialLedger) -> None:
    told = assess(backtest(market(15)), trials=ledger)
    assert told["deflated_sharpe"].verdict == "none"
    assert "never vary" in told["sharpe_ratio"].words
    assert told["sharpe_ratio"].shown == "not computed"
    assert told.verdict != "good"


def test_a_run_of_weights_says_why_there_is_no_proof_of_causality(portfolio: Result, ledger: TrialLedger) -> None:  # noqa: F811
    told = assess(portfolio, trials=ledger, skip=("stress", "regimes", "monte_carlo"))
    assert told["causality"].verdict == "none"
    assert told["causality"].words.startswith("There is no rule to recompute")
    assert told["stress"].words == "Left out, as asked (skip)."


# -- the count of trials ---------------------------------------------------------------------------------------------


def test_a_number_of_trials_typed_by_hand_is_refused(best: Result) -> None:
    for typed in (1, TrialSummary("family", 1, (0.1,))):
        with pytest.raises(ParameterError, match=r"trials is a int.*typed by hand|no ledger's own"):
            assess(best, trials=typed)  # type: ignore[arg-type]


def test_a_ledger_that_did_not_count_the_sweep_is_no_evidence(
    best: Result, swept: SweepResult, tmp_path: Path, bars: pd.DataFrame
) -> None:
    """Given a fresh ledger with one trial, when the sweep of nine is shown too, then nothing is deflated by one."""
    other = TrialLedger(tmp_path / "other.sqlite")
    run(best.rule, bars, ledger=other)  # type: ignore[arg-type]
    told = assess(best, sweep=swept, trials=other, skip=SLOW)
    assert told["deflated_sharpe"].verdict == "none"
    assert "counts 1 trials" in told["deflated_sharpe"].words
    assert "the sweep alone made 9" in told["deflated_sharpe"].words


def test_without_a_trial_in_the_ledger_nothing_is_deflated(best: Result) -> None:
    told = assess(best, skip=SLOW)
    assert "the ledger holds no trial" in told["deflated_sharpe"].words.lower()
    assert told["overfitting"].words == "Left out, as asked (skip)."


# -- parts -----------------------------------------------------------------------------------------------------------


def test_parts_are_left_out_by_name_and_thresholds_are_asked_for_by_name(best: Result, ledger: TrialLedger) -> None:
    told = assess(best, trials=ledger, skip=[*SLOW, "trials"], thresholds={"drawdown": (-0.99, -0.999)}, progress=False)
    assert told["drawdown"].verdict == "good"
    assert told["drawdown"].asked == "≥ -99.0%; bad below -99.9%"
    assert told.counts["none"] == len(FIGURES) - 4
    for wrong, message in (
        ({"skip": ("causalty",)}, "did you mean 'causality'"),
        ({"thresholds": {"drawdwn": (0, 1)}}, "did you mean 'drawdown'"),
        ({"thresholds": {"drawdown": 0.2}}, r"two numbers \(good, bad\), got 0.2"),
        ({"sweep": 3}, "sweep is a int"),
        ({"benchmark": "SPY"}, "'hold' or None, got 'SPY'"),
    ):
        with pytest.raises(ParameterError, match=message):
            assess(best, **wrong)  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="takes the Result"):
        assess(best.returns)  # type: ignore[arg-type]


def test_an_interrupt_keeps_what_is_done(best: Result, ledger: TrialLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(case: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setitem(work._WORK, "benchmark", stop)
    told = assess(best, trials=ledger, skip=("causality", "overfitting", "snooping", "walk_forward", "stability"))
    assert told["sharpe_ratio"].value is not None
    assert told["drawdown"].words == "Interrupted before its turn."
    assert told["causality"].words == "Left out, as asked (skip)."


def test_the_same_seed_gives_the_same_verdict(best: Result, ledger: TrialLedger) -> None:
    skip = [part for part in SLOW if part not in ("monte_carlo", "kelly")]
    first, second, other = (assess(best, trials=ledger, skip=skip, seed=seed) for seed in (1, 1, 2))
    assert first.to_dict() == second.to_dict()
    assert first["kelly"].shown != other["kelly"].shown


# -- judging ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "good", "bad", "expected"),
    [
        (0.95, 0.95, 0.5, "good"),
        (0.94, 0.95, 0.5, "warn"),
        (0.5, 0.95, 0.5, "warn"),
        (0.49, 0.95, 0.5, "bad"),
        (0.05, 0.05, 0.5, "good"),
        (0.3, 0.05, 0.5, "warn"),
        (0.51, 0.05, 0.5, "bad"),
        (0.0, 0.0, 0.0, "good"),
        (-1e-9, 0.0, 0.0, "bad"),
        (math.nan, 0.95, 0.5, "bad"),
        (math.inf, 3.0, 1.5, "good"),
        (0.001, 0.05, -math.inf, "warn"),
    ],
)
def test_a_figure_is_judged_by_where_it_stands(value: float, good: float, bad: float, expected: str) -> None:
    assert judge(value, good, bad) == expected


def test_no_decision_may_change() -> None:
    """Causality counts changed decisions: none is good, and any is bad, whichever way the scale runs."""
    figure = FIGURES["causality"]
    assert judge(0.0, figure.good, figure.bad) == "good"
    assert judge(1.0, figure.good, figure.bad) == "bad"


def rows_with(**verdicts: str) -> tuple[AssessmentRow, ...]:
    """All figures good but those named."""
    return tuple(
        AssessmentRow(name, figure.group, figure.label, 0.0, "0", "", verdicts.get(name, "good"), "Words.")  # type: ignore[arg-type]
        for name, figure in FIGURES.items()
    )


def test_the_sentence_says_what_matters_most() -> None:
    assert overall(rows_with())[0] == "good"
    assert (
        overall(rows_with(regimes="warn"))[1]
        == "Promising, with 1 reservation: Sharpe ratio in the worst market regime."
    )
    kind, said = overall(rows_with(deflated_sharpe="none", regimes="warn"))
    assert (kind, said.startswith("Unproven")) == ("warn", True)
    assert "deflated Sharpe ratio" in said
    assert overall(rows_with(deflated_sharpe="bad", overfitting="none"))[0] == "bad"
    assert overall(rows_with(causality="bad"))[1].startswith("Not to be trusted at all")


def test_thresholds_are_written_in_the_form_of_their_figure() -> None:
    assert asked_text("deflated_sharpe", 0.95, 0.5) == "≥ 95.0%; bad below 50.0%"
    assert asked_text("overfitting", 0.05, 0.5) == "≤ 5.0%; bad above 50.0%"
    assert asked_text("value_at_risk", 0.05, -math.inf) == "≥ 0.050"


# -- forms -----------------------------------------------------------------------------------------------------------


def test_an_assessment_is_plain_data_and_a_table(verdict: Assessment) -> None:
    told = json.loads(json.dumps(verdict.to_dict(), allow_nan=False))
    assert told["interpretation"] == verdict.interpretation
    assert sum(told["counts"].values()) == len(FIGURES)
    frame = verdict.to_frame()
    assert frame.loc["drawdown", "value"] == verdict["drawdown"].value
    assert verdict.interpretation in verdict.summary()
    assert all(row.label in verdict.summary() for row in verdict.rows)
    assert verdict["drawdown"].words in verdict._repr_html_()
    with pytest.raises(ParameterError, match="did you mean 'drawdown'"):
        verdict["drawdwn"]


def test_the_page_is_whole_offline_and_says_every_figure(verdict: Assessment, tmp_path: Path) -> None:
    path = verdict.save(tmp_path / "new" / "verdict.html")
    page = Page(path.read_text(encoding="utf-8"))
    assert page.unbalanced == []
    assert page.requests == []
    assert verdict.interpretation in page.text
    for row in verdict.rows:
        assert " ".join(row.words.split()) in page.text, row.name
        assert row.label in page.text
    for said in (
        "At a glance",
        "Skill or luck?",
        "Stress",
        "By market regime",
        "A year from here",
        "With more capital",
    ):
        assert said in page.text, said
    assert path.read_text(encoding="utf-8") == verdict.to_html()
    assert path.stat().st_size < 600_000
    with pytest.raises(ParameterError, match=r"\.html"):
        verdict.save(tmp_path / "verdict.pdf")


def test_text_from_outside_is_escaped(portfolio: Result, ledger: TrialLedger) -> None:  # noqa: F811
    evil = "<script>alert(1)</script>"
    held = pd.Series(0.0, portfolio.index, name=evil)
    held.iloc[::2] = 0.001
    told = assess(portfolio, trials=ledger, benchmark=held, skip=[part for part in SLOW if part != "causality"])
    assert evil not in told.to_html() + told._repr_html_()
