"""Gates: each passes on a clean case and fails on a planted fault, and no undefined figure ever passes."""

from __future__ import annotations

import importlib
import json
import math
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.promotion.support import (
    EXECUTION,
    FIGURES,
    GATES,
    LOCK,
    ChangingForTest,
    CrashingForTest,
    ForgetfulForTest,
    HesitantForTest,
    PeekingForTest,
    result,
    results,
    rule_of,
    synthetic_bars,
    trend,
)
from tradelib.backtest import book
from tradelib.backtest.costs import Costs
from tradelib.backtest.trials import Trial, TrialLedger, family_of
from tradelib.bundle.execution import NEEDS
from tradelib.data.quality import Finding, QualityReport, QualityRules
from tradelib.errors import ParameterError
from tradelib.promotion import gates, safety_gates
from tradelib.promotion.gates import Candidate, Gate, GateResult, Thresholds
from tradelib.promotion.promote import Promotion
from tradelib.risk import Exits, FixedFraction, Limits, ScaleIn
from tradelib.strategies import TrendFollowing
from tradelib.validation.causality import prove_causality

THRESHOLDS = Thresholds()


@pytest.fixture(autouse=True)
def cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both processes agree; that they are asked at all is tested with the other safety gates."""
    monkeypatch.setattr(safety_gates, "_ask_on_cores", lambda question: [{"equity": "ab"}, {"equity": "ab"}])


def quality_of(bars: pd.DataFrame, *failed: tuple[str, str]) -> dict[str, Any]:
    """A quality report about `bars` in which the named checks failed, with the severity given."""
    known = [Finding("times ascend", "time", "critical", "no row lies before the row above it", 0.0, "", True, 0, ())]
    bad = [
        Finding(
            name, "prices", severity, "no close is zero", "1 of 320 bars", "no bar", False, 1, ("2020-03-01 row 60",)
        )
        for name, severity in failed
    ]
    names = ("symbol", "timeframe", "calendar", "source")
    report = QualityReport(
        **{name: bars.attrs[name] for name in names},
        bars=len(bars),
        first=bars.index[0].isoformat(),
        last=bars.index[-1].isoformat(),
        as_of=None,
        digest=bars.attrs["digest"],
        rules=QualityRules(),
        findings=(*known, *bad),
        gaps=(),
        picture=(),
    )
    return report.to_dict()


def candidate(bars: pd.DataFrame, **changes: Any) -> Candidate:
    rule = trend()
    good: dict[str, Any] = {
        "rule": rule,
        "bars": bars,
        "quality": quality_of(bars),
        "proof": prove_causality(rule, bars, every=20),
        "figures": FIGURES,
        "lock": LOCK,
    }
    return Candidate(**(good | changes))


# -- safety ------------------------------------------------------------------------------------------------------


def test_good_data_passes_and_warnings_are_told(bars: pd.DataFrame) -> None:
    passed = gates.data_quality(quality_of(bars, ("zero volume", "warning")), bars)
    assert passed.passed
    assert (passed.figure, passed.tier) == (0, "safety")
    assert "1 warnings" in passed.explanation


def test_a_broken_bar_is_named(bars: pd.DataFrame) -> None:
    failed = gates.data_quality(quality_of(bars, ("close is positive", "critical")), bars)
    assert not failed.passed
    assert failed.figure == 1
    assert "close is positive" in failed.explanation
    assert "2020-03-01 row 60" in failed.explanation


@pytest.mark.parametrize(
    "spoil",
    [
        lambda quality: {},
        lambda quality: {**quality, "findings": []},
        lambda quality: {**quality, "success": None},
        lambda quality: {**quality, "symbol": "ETH/USDT"},
        lambda quality: {**quality, "last": "2020-02-01T00:00:00+00:00"},
    ],
    ids=["nothing", "no findings", "no verdict", "other market", "shorter data"],
)
def test_a_report_that_does_not_vouch_for_these_bars_fails(bars: pd.DataFrame, spoil: Any) -> None:
    failed = gates.data_quality(spoil(quality_of(bars)), bars)
    assert not failed.passed
    assert failed.figure is None


def test_a_causal_rule_passes_as_object_and_as_evidence(bars: pd.DataFrame) -> None:
    proof = prove_causality(trend(), bars, every=20)
    assert gates.causality(proof, bars).passed
    assert gates.causality(json.loads(json.dumps(proof.to_dict())), bars) == gates.causality(proof, bars)


def test_a_peeking_strategy_is_refused_with_bar_and_column(bars: pd.DataFrame) -> None:
    proof = prove_causality(rule_of(PeekingForTest()), bars, every=1)
    failed = gates.causality(proof, bars)
    assert not failed.passed
    assert proof.first is not None
    assert proof.first.column in failed.explanation
    assert f"{proof.first.time:%Y-%m-%d}" in failed.explanation


def test_a_proof_about_other_bars_or_within_a_tolerance_proves_nothing(bars: pd.DataFrame) -> None:
    shorter = prove_causality(trend(), bars.iloc[:100], every=20)
    loose = prove_causality(trend(), bars, every=20, tolerance=1e-6)
    assert "other bars" in gates.causality(shorter, bars).explanation
    assert "tolerance" in gates.causality(loose, bars).explanation
    assert not gates.causality(shorter, bars).passed
    assert not gates.causality(loose, bars).passed
    assert not gates.causality({}, bars).passed


def test_deciding_bar_by_bar_equals_research(bars: pd.DataFrame) -> None:
    passed = gates.decision_parity(trend(), bars, 100)
    assert passed.passed
    assert passed.figure == 1.0
    assert passed.evidence["bars"] == 110  # the last hundred and ten around the first decision


def test_a_rule_that_decides_otherwise_at_the_runner_is_named(bars: pd.DataFrame) -> None:
    failed = gates.decision_parity(rule_of(HesitantForTest()), bars, 100)
    assert not failed.passed
    assert failed.figure == 0.0
    first = failed.evidence["first_difference"]
    assert (first["time"], first["column"]) == (bars.index[0].isoformat(), "signal")
    assert "signal at 2020-01-01" in failed.explanation


def test_parity_over_bars_without_a_decision_proves_nothing(bars: pd.DataFrame) -> None:
    failed = gates.decision_parity(trend(50, 200), bars.iloc[:150], 100)
    assert not failed.passed
    assert failed.figure is None
    assert "decides nothing" in failed.explanation


def test_a_pure_rule_is_deterministic(bars: pd.DataFrame) -> None:
    passed = gates.determinism(trend(), bars, {"fee_rate": 0.002, "cash": 5_000, "symbol": "BTC/USDT"})
    assert passed.passed
    assert passed.evidence["kernels"] == "compiled"


def test_a_rule_with_a_memory_is_refused(bars: pd.DataFrame) -> None:
    failed = gates.determinism(rule_of(ForgetfulForTest()), bars.copy())
    assert not failed.passed
    assert "signal at 2020-01-01" in failed.explanation


def test_a_strategy_that_writes_into_its_bars_writes_into_a_copy(bars: pd.DataFrame) -> None:
    before = bars.copy()
    rule_of(ChangingForTest()).decisions(bars)
    pd.testing.assert_frame_equal(bars, before, check_exact=True)


def test_a_backtest_that_differs_when_interpreted_is_refused(
    bars: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = safety_gates.replay, []

    def drifting(*arguments: Any, **settings: Any) -> Any:
        result = real(*arguments, **settings)
        calls.append(0)
        if len(calls) > 1:
            return result
        simulation = result.simulation._replace(equity=np.nextafter(result.simulation.equity, np.inf))
        return replace(result, simulation=simulation)

    monkeypatch.setattr(safety_gates, "replay", drifting)
    failed = gates.determinism(trend(), bars)
    assert not failed.passed
    assert "equity differs" in failed.explanation


def test_backtrader_makes_the_same_of_the_decisions(bars: pd.DataFrame) -> None:
    passed = gates.engine_crosscheck(trend(), bars, {"fee_rate": 0.002, "cash": 5_000, "lots_per_unit": 1000})
    assert passed.passed, passed.explanation
    assert passed.evidence["matched"] == passed.evidence["fills"]["tradelib"] > 0


@pytest.mark.parametrize("column", [book.FILL_QUANTITY, book.FILL_PRICE, book.FILL_FEE])
def test_an_engine_that_books_one_fill_wrongly_is_refused(
    bars: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, column: int
) -> None:
    real = safety_gates.replay

    def wrong(*arguments: Any, **settings: Any) -> Any:
        result = real(*arguments, **settings)
        fills = result.simulation.fills.copy()
        fills[1, column] *= 1.0001
        return replace(result, simulation=result.simulation._replace(fills=fills))

    monkeypatch.setattr(safety_gates, "replay", wrong)
    failed = gates.engine_crosscheck(trend(), bars)
    assert not failed.passed
    assert failed.figure
    assert "backtrader" in failed.explanation


def test_what_backtrader_cannot_express_is_audited_beside_the_comparison(bars: pd.DataFrame) -> None:
    ladder = trend().replace(exits=Exits(take_profit=[(0.02, 0.5), (0.05, 0.5)]), rebalance_band=None)
    found = {result.name: result for result in gates.run_gates(candidate(bars, rule=ladder))}
    passed = found["engine_crosscheck"]
    assert passed.passed, passed.explanation
    assert "It knows no exits: the account with them was audited" in passed.explanation
    assert "on the same decisions, traded plainly, agrees on" in passed.explanation
    audited = passed.evidence["audited"]
    assert (audited["beyond_backtrader"], audited["problems"]) == (["exits"], [])
    assert audited["fills"] > passed.evidence["fills"]["tradelib"] > 0  # each rung is a fill
    assert passed.evidence["without_effect"] == []


NEEDY: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "exits": ({"exits": Exits(stop_loss=0.02)}, {}),
    "limits": ({"limits": Limits(maximum_drawdown=0.2)}, {}),
    "scale_in": ({"scale_in": ScaleIn()}, {}),
    "leverage": ({}, {"maximum_leverage": 2.0}),
    "order_reduction": ({}, {"insufficient_cash": "reduce"}),
}


@pytest.mark.parametrize("need", NEEDY)
def test_what_the_runner_does_not_provide_is_refused_and_what_it_does_passes(
    need: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, terms = NEEDY[need]
    rule = trend().replace(rebalance_band=None, **policy)
    monkeypatch.setattr(safety_gates, "PROVIDES", frozenset(NEEDS) - {need})
    failed = gates.runner_support(rule, EXECUTION | terms)
    assert (failed.passed, failed.figure, failed.evidence["missing"]) == (False, 1, [need])
    assert f"{need} ({NEEDS[need]})" in failed.explanation
    monkeypatch.setattr(safety_gates, "PROVIDES", frozenset(NEEDS))
    assert gates.runner_support(rule, EXECUTION | terms).passed


def test_a_rule_that_goes_short_on_the_bars_is_no_rule_for_a_spot_account() -> None:
    rule = rule_of(TrendFollowing(fast=3, slow=8, direction="long_short"))
    failed = gates.runner_support(rule, EXECUTION, synthetic_bars())
    assert (failed.passed, failed.evidence["missing"]) == (False, ["short"])
    assert gates.runner_support(trend(), EXECUTION, synthetic_bars()).passed


def test_promotion_and_runner_mean_the_same_list() -> None:
    from tradelib.bundle import execution
    from tradelib.live import admission

    assert safety_gates.PROVIDES is execution.PROVIDES is admission.PROVIDES
    assert frozenset(NEEDS) >= execution.PROVIDES


def test_a_rule_of_market_orders_needs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safety_gates, "PROVIDES", frozenset())
    assert gates.runner_support(trend(), EXECUTION).passed


# -- all costs -----------------------------------------------------------------------------------------------------

COSTLY = {"spread": 0.01, "impact": 0.05, "borrow_rate": 0.3, "fee_tiers": [{"volume": 1e5, "maker": 0, "taker": 0}]}


@pytest.mark.parametrize("name", COSTLY)
def test_gates_judge_the_account_with_all_its_costs(
    bars: pd.DataFrame, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    honest = safety_gates.replay

    def watched(*arguments: Any, **account: Any) -> Any:
        seen.append(account["costs"])
        return honest(*arguments, **account)

    monkeypatch.setattr(safety_gates, "replay", watched)
    assert gates.determinism(trend(), bars, EXECUTION | {name: COSTLY[name]}).passed
    assert seen
    assert all(costs == Costs(**{name: COSTLY[name]}) for costs in seen)


def test_the_other_engine_is_asked_with_the_spread(bars: pd.DataFrame) -> None:
    assert gates.engine_crosscheck(trend(), bars, EXECUTION | {"spread": 0.004}).passed


def test_costs_and_policies_that_never_took_effect_do_not_keep_the_other_engine_from_answering(
    bars: pd.DataFrame,
) -> None:
    """Given a long-only rule of market orders on own money: nothing is lent, nothing rests, and no limit trips."""
    idle = {"maker_fee_rate": 0.0, "borrow_rate": 0.1, "interest_rate": 0.1, "insufficient_cash": "reduce"}
    rule = trend().replace(limits=Limits(maximum_drawdown=0.99))

    passed = gates.engine_crosscheck(rule, bars, EXECUTION | idle)

    assert passed.passed, passed.explanation
    assert sorted(passed.evidence["without_effect"]) == sorted([*idle, "limits"])


POWERFUL: dict[str, tuple[dict[str, Any], dict[str, Any], list[str]]] = {
    "impact": ({}, {"impact": 0.05}, ["impact"]),
    "tiers": ({}, {"fee_tiers": COSTLY["fee_tiers"]}, ["fee_tiers"]),
    "a limit that trips": ({"limits": Limits(maximum_drawdown=0.02)}, {}, ["limits"]),
    "scale-in": ({"scale_in": ScaleIn(), "rebalance_band": None}, {}, ["scale_in"]),
    "exits in ATRs": ({"exits": Exits(stop_loss={"value": 2.0, "unit": "atr"})}, {}, ["exits"]),
    "reduction": ({"sizing": FixedFraction(fraction=1.0)}, {"insufficient_cash": "reduce"}, ["insufficient_cash"]),
}


def powerful(name: str) -> tuple[Any, dict[str, Any], list[str]]:
    """A rule and terms with something that backtrader has no counterpart for, and that takes effect."""
    policy, terms, names = POWERFUL[name]
    return trend().replace(**policy), EXECUTION | terms, names


@pytest.mark.parametrize("name", POWERFUL)
def test_what_took_effect_and_the_other_engine_does_not_know_is_audited(bars: pd.DataFrame, name: str) -> None:
    rule, execution, names = powerful(name)
    passed = gates.engine_crosscheck(rule, bars, execution)
    assert (passed.passed, passed.figure) == (True, 0), passed.explanation
    assert passed.evidence["audited"]["beyond_backtrader"] == names
    assert f"It knows no {names[0]}" in passed.explanation


@pytest.mark.parametrize("name", POWERFUL)
def test_an_engine_that_errs_only_where_the_other_cannot_follow_is_refused(
    bars: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Given an engine whose plain account is right and whose account under policies books one price wrongly."""
    real = safety_gates.replay
    rule, execution, names = powerful(name)

    def wrong(asked: Any, *arguments: Any, **settings: Any) -> Any:
        result = real(asked, *arguments, **settings)
        plain = (asked, settings["costs"].impact, settings["costs"].fee_tiers, settings["market"].insufficient_cash)
        if plain == (trend().replace(**PLAIN.get(name, {})), 0.0, (), "reject"):
            return result
        fills = result.simulation.fills.copy()
        fills[1, book.FILL_PRICE] *= 1.0001
        return replace(result, simulation=result.simulation._replace(fills=fills))

    monkeypatch.setattr(safety_gates, "replay", wrong)
    failed = gates.engine_crosscheck(rule, bars, execution)
    assert not failed.passed
    assert failed.figure
    assert failed.explanation.startswith("backtrader, on the same decisions, traded plainly, agrees")
    assert f"It knows no {names[0]}: the account with them was audited, and has" in failed.explanation
    assert "BTC/USDT at 2020-" in failed.explanation
    assert failed.evidence["audited"]["problems"]


PLAIN: dict[str, dict[str, Any]] = {
    "scale-in": {"rebalance_band": None},
    "reduction": {"sizing": FixedFraction(fraction=1.0)},
}
"""What the rule of a case keeps where its policies are taken from it."""


def test_an_engine_that_errs_in_the_plain_account_is_refused_although_the_audit_passes(
    bars: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = safety_gates.replay
    rule, execution, _ = powerful("a limit that trips")

    def wrong(asked: Any, *arguments: Any, **settings: Any) -> Any:
        result = real(asked, *arguments, **settings)
        if asked.limits is not None:
            return result
        fills = result.simulation.fills.copy()
        fills[1, book.FILL_FEE] *= 1.01
        return replace(result, simulation=result.simulation._replace(fills=fills))

    monkeypatch.setattr(safety_gates, "replay", wrong)
    failed = gates.engine_crosscheck(rule, bars, execution)
    assert not failed.passed
    assert "Two engines disagree" in failed.explanation
    assert failed.evidence["audited"]["problems"] == []


def test_an_intact_bundle_passes_and_a_flipped_byte_is_found(
    promotion: Promotion, keys: tuple[Any, Any], tmp_path: Path
) -> None:
    import shutil

    copy = Path(shutil.copytree(promotion.bundle.path, tmp_path / promotion.bundle.path.name))
    assert gates.bundle_integrity(copy, keys[1]).passed
    raw = bytearray((copy / "rule.json").read_bytes())
    raw[10] ^= 1
    (copy / "rule.json").write_bytes(bytes(raw))
    failed = gates.bundle_integrity(copy, keys[1])
    assert not failed.passed
    assert "rule.json was altered" in failed.explanation


# -- evidence ----------------------------------------------------------------------------------------------------

EVIDENCE = {
    "out_of_sample_sharpe": (gates.out_of_sample_sharpe, "out_of_sample_sharpe", 0.5, 0.4999),
    "deflated_sharpe": (gates.deflated_sharpe, "deflated_sharpe", 0.95, 0.9499),
    "number_of_trades": (gates.number_of_trades, "trades", 30, 29),
    "drawdown": (gates.drawdown, "maximum_drawdown", -0.25, -0.2501),
    "cost_stress": (gates.cost_stress, "stressed_sharpe", 0.0, -0.0001),
    "win_rate": (gates.win_rate, "win_rate", 0.3, 0.2999),
    "profit_factor": (gates.profit_factor, "profit_factor", 1.1, 1.0999),
    "walk_forward_sharpe": (gates.walk_forward_sharpe, "walk_forward_sharpe", 0.3, 0.2999),
    "walk_forward_efficiency": (gates.walk_forward_efficiency, "walk_forward_efficiency", 0.5, 0.4999),
    "overfitting_probability": (gates.overfitting_probability, "overfitting_probability", 0.25, 0.2501),
    "snooping_p_value": (gates.snooping_p_value, "snooping_p_value", 0.05, 0.0501),
    "haircut_sharpe": (gates.haircut_sharpe, "haircut_sharpe", 0.2, 0.1999),
    "break_even_cost": (gates.break_even_cost, "break_even_multiple", 3.0, 2.9999),
    "capacity": (gates.capacity, "capacity_multiple", 2.0, 1.9999),
    "stress_scenarios": (gates.stress_scenarios, "stress_loss", 0.4, 0.4001),
    "value_at_risk_coverage": (gates.value_at_risk_coverage, "var_p_value", 0.01, 0.0099),
    "regime_robustness": (gates.regime_robustness, "worst_regime_sharpe", -0.5, -0.5001),
    "parameter_stability": (gates.parameter_stability, "neighbours_keep", 0.5, 0.4999),
}


@pytest.mark.parametrize("name", EVIDENCE)
def test_evidence_at_the_threshold_passes_and_below_fails(name: str) -> None:
    gate, figure, enough, too_little = EVIDENCE[name]
    passed, failed = gate(FIGURES | {figure: enough}, THRESHOLDS), gate(FIGURES | {figure: too_little}, THRESHOLDS)
    assert passed.passed
    assert not failed.passed
    assert (passed.name, passed.tier) == (name, "evidence")
    assert failed.figure is not None


@pytest.mark.parametrize("name", EVIDENCE)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None, "0.9", True, "missing"])
def test_an_undefined_figure_fails_with_words(name: str, value: Any) -> None:
    gate, figure, *_ = EVIDENCE[name]
    figures: dict[str, Any] = {key: item for key, item in FIGURES.items() if key != figure}
    failed = gate(figures if value == "missing" else figures | {figure: value}, THRESHOLDS)
    assert not failed.passed
    assert failed.figure is None
    assert "undefined" in failed.explanation or "unknown" in failed.explanation


@pytest.mark.parametrize("trials", [None, 0, math.nan])
def test_a_sharpe_ratio_without_a_count_of_trials_is_not_deflated(trials: Any) -> None:
    failed = gates.deflated_sharpe(FIGURES | {"trials": trials}, THRESHOLDS)
    assert not failed.passed
    assert "number of trials is unknown" in failed.explanation


def test_figures_of_fewer_trials_than_the_projects_ledger_has_are_no_evidence(bars: pd.DataFrame) -> None:
    """Given FIGURES deflated by 30 trials, when the ledger has 31 on that market, under whatever name, they fall."""
    judged = candidate(bars)
    family = family_of("SomethingElse", bars.attrs["symbol"], bars.attrs["timeframe"])
    window = (bars.index[0].isoformat(), bars.index[-1].isoformat())
    trials = [Trial(family, {"x": x}, {"calendar": "24/7"}, "ab" * 32, window, len(bars), x / 1000) for x in range(31)]
    gate = gates.available_gates()["deflated_sharpe"]
    TrialLedger().record(trials[:30])
    assert gate.check(judged, THRESHOLDS).passed
    TrialLedger().record(trials)
    failed = gate.check(judged, THRESHOLDS)
    assert not failed.passed
    assert failed.figure is None
    assert "deflated by 30 trials, but the project's ledger has 31 of this market" in failed.explanation


@pytest.mark.parametrize("multiple", [None, 1.0, math.nan])
def test_a_stress_test_with_too_little_stress_fails(multiple: Any) -> None:
    failed = gates.cost_stress(FIGURES | {"cost_stress_multiple": multiple}, THRESHOLDS)
    assert not failed.passed
    assert "2 times is demanded" in failed.explanation


def test_words_carry_the_figures() -> None:
    words = gates.deflated_sharpe(FIGURES | {"deflated_sharpe": 0.81}, THRESHOLDS).explanation
    assert words == (
        "After 30 counted trials the confidence that the Sharpe ratio is more than the luck of the best one is 81.0%; "
        "at least 95.0% is demanded."
    )


# -- results, thresholds, verdict ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("figure", "threshold"), [(0.4, 0.5), (None, 0.5), (math.nan, 0.5), ("high", 0.5), (0.9, None)]
)
def test_no_gate_can_claim_to_have_passed(figure: Any, threshold: Any) -> None:
    with pytest.raises(ParameterError, match="does not hold"):
        GateResult("mine", "evidence", figure, threshold, ">=", True, "trust me")


def test_a_result_survives_json() -> None:
    given = gates.judge("mine", "evidence", 0.9, ">=", 0.5, "fine", {"when": pd.Timestamp("2020-01-01", tz="UTC")})
    told = json.loads(json.dumps(given.to_dict(), allow_nan=False))
    assert told["evidence"] == {"when": "2020-01-01T00:00:00+00:00"}
    assert GateResult.from_dict(told).to_dict() == told
    with pytest.raises(ParameterError, match="not a gate result"):
        GateResult.from_dict({"name": "mine"})


def test_thresholds_refuse_misspelt_and_impossible_values() -> None:
    with pytest.raises(ParameterError, match="did you mean 'minimum_trades'"):
        Thresholds(minimum_trade=3)
    with pytest.raises(ParameterError, match=r"maximum_drawdown = -0\.2"):
        Thresholds(maximum_drawdown=-0.2)
    with pytest.raises(ParameterError, match="no parameter 'causality'"):
        Thresholds(causality=False)


def test_every_gate_good_means_live() -> None:
    found = gates.verdict(results())
    assert (found.permission, found.failing) == ("live", [])
    assert found.summary() == f"All {len(GATES)} gates passed: the candidate may trade live."


def test_failing_evidence_means_paper_only_and_lists_the_figures() -> None:
    found = gates.verdict(results("drawdown", "deflated_sharpe"))
    assert found.permission == "paper"
    assert [result.name for result in found.failing] == ["deflated_sharpe", "drawdown"]
    assert found.summary().startswith("Paper only: deflated sharpe 0, needs == 1; drawdown")


def test_failing_safety_means_nothing_and_comes_first() -> None:
    found = gates.verdict(results("drawdown", "determinism"))
    assert found.permission == "none"
    assert found.failing[0].name == "determinism"
    assert found.to_dict()["failing"] == ["determinism", "drawdown"]


@pytest.mark.parametrize(("left_out", "permission"), [("causality", "none"), ("drawdown", "paper")])
def test_a_gate_that_was_not_run_did_not_pass(left_out: str, permission: str) -> None:
    found = gates.verdict(result for result in results() if result.name != left_out)
    assert found.permission == permission
    assert found.failing[0].explanation == "The gate was not run."


def test_one_gate_has_one_result() -> None:
    with pytest.raises(ParameterError, match="two results for drawdown"):
        gates.verdict([*results(), result("drawdown", "evidence")])


def test_a_verdict_shows_itself() -> None:
    found = gates.verdict([*results("drawdown"), result("<script>", "evidence")])
    page = found._repr_html_()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert page.count("<tr>") == len(GATES) + 2  # and the head, and the one with the odd name
    assert list(found.to_frame().index[:2]) == ["data_quality", "causality"]


# -- the registry --------------------------------------------------------------------------------------------------


def test_a_good_candidate_may_trade_live(bars: pd.DataFrame) -> None:
    found = gates.run_gates(candidate(bars))
    assert gates.verdict(found).permission == "live", gates.verdict(found).summary()
    assert [(result.name, result.tier) for result in found] == list(GATES)


def test_a_rule_that_crashes_fails_its_gates_and_says_how(bars: pd.DataFrame) -> None:
    found = {result.name: result for result in gates.run_gates(candidate(bars, rule=rule_of(CrashingForTest())))}
    assert not found["decision_parity"].passed
    assert "ZeroDivisionError: planted" in found["determinism"].explanation
    assert found["drawdown"].passed


class _Entries:
    """Stands for the installed packages' entry points."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **objects: Any) -> None:
        entries = [EntryPoint(name, f"other:{name}", gates.ENTRY_POINTS) for name in objects]
        monkeypatch.setattr(EntryPoint, "load", lambda entry: objects[entry.name])
        monkeypatch.setattr(gates, "entry_points", lambda group: entries if group == gates.ENTRY_POINTS else [])


def crowding(given: Candidate, thresholds: Thresholds) -> GateResult:
    least = thresholds.additional["crowding"]["minimum"]
    return gates.judge("crowding", "evidence", given.figures.get("crowding"), ">=", least, "Crowding in dollars.")


def test_another_package_adds_a_gate_with_its_own_settings(bars: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    _Entries(monkeypatch, crowding=Gate("crowding", "evidence", crowding))
    limits = Thresholds(additional={"crowding": {"minimum": 1_000_000}})
    small, big = (
        gates.run_gates(candidate(bars, figures=FIGURES | {"crowding": dollars}), limits)[-1]
        for dollars in (50_000, 2_000_000)
    )
    assert (small.name, small.passed, big.passed) == ("crowding", False, True)
    with pytest.raises(ParameterError, match="did you mean 'crowding'"):
        gates.run_gates(candidate(bars), Thresholds(additional={"crowdin": {}}))


def test_another_package_cannot_replace_a_gate_or_answer_for_one(
    bars: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    _Entries(monkeypatch, causality=Gate("causality", "safety", lambda *_: result("causality", "safety")))
    with pytest.raises(ParameterError, match="there is already a gate 'causality'"):
        gates.available_gates()
    _Entries(monkeypatch, mine=Gate("mine", "safety", lambda *_: result("other", "safety")))
    found = gates.run_gates(candidate(bars))
    assert not found[-1].passed
    assert "own name and tier" in found[-1].explanation
    _Entries(monkeypatch, mine="a text")
    with pytest.raises(ParameterError, match="must name a Gate"):
        gates.available_gates()


# -- waivers -------------------------------------------------------------------------------------------------------

NO_VOLUME = "a daily index has no volume"
MISSING = FIGURES | {"capacity_multiple": None, "undefined": {"capacity_multiple": "the bars have no volume"}}


def waiving(**reasons: str) -> Thresholds:
    return Thresholds(waived=reasons)


def test_evidence_that_cannot_be_had_fails_closed_and_says_what_is_missing(bars: pd.DataFrame) -> None:
    found = gates.verdict(gates.run_gates(candidate(bars, figures=MISSING)))
    assert found.permission == "paper"
    assert found.failing[0].explanation == "The capacity multiple is undefined: the bars have no volume."


def test_it_may_be_waived_by_name_and_the_reason_goes_wherever_the_result_goes(bars: pd.DataFrame) -> None:
    results = gates.run_gates(candidate(bars, figures=MISSING), waiving(capacity=NO_VOLUME))
    found = gates.verdict(results)
    assert found.permission == "live"
    assert found.waived == {"capacity": NO_VOLUME}
    assert found.summary().endswith(f"Waived: capacity, {NO_VOLUME}.")
    told = {one["name"]: one for one in found.to_dict()["results"]}["capacity"]
    assert (told["figure"], told["passed"], told["evidence"]["waived"]) == (None, True, NO_VOLUME)
    assert told["explanation"].startswith(f"Waived: {NO_VOLUME}")
    assert GateResult.from_dict(json.loads(json.dumps(told))).waived == NO_VOLUME
    assert NO_VOLUME in found._repr_html_()


def test_a_figure_that_is_there_and_bad_is_not_waived(bars: pd.DataFrame) -> None:
    poor = candidate(bars, figures=FIGURES | {"capacity_multiple": 0.5})
    found = gates.verdict(gates.run_gates(poor, waiving(capacity=NO_VOLUME)))
    assert [result.name for result in found.failing] == ["capacity"]
    assert found.waived == {}


def test_a_waiver_of_what_passes_changes_nothing(bars: pd.DataFrame) -> None:
    assert gates.run_gates(candidate(bars), waiving(capacity=NO_VOLUME)) == gates.run_gates(candidate(bars))


@pytest.mark.parametrize("name", gates.SAFETY_GATES)
def test_safety_is_never_waived(name: str) -> None:
    with pytest.raises(ParameterError, match=f"{name} is a safety gate"):
        waiving(**{name: "we are in a hurry"})
    with pytest.raises(ParameterError, match="cannot be waived"):
        GateResult(name, "safety", None, 0, "==", False, "?").waive("we are in a hurry")
    with pytest.raises(ParameterError, match="does not hold"):
        GateResult(name, "safety", None, 0, "==", True, "?", {"waived": "we are in a hurry"})


def test_a_waiver_needs_a_reason_and_a_gate(bars: pd.DataFrame) -> None:
    with pytest.raises(ParameterError, match="write why"):
        waiving(capacity="  ")
    with pytest.raises(ParameterError, match="a waiver for 'capasity'.*did you mean 'capacity'"):
        gates.run_gates(candidate(bars), waiving(capasity=NO_VOLUME))


def test_a_waiver_for_one_strategy_holds_for_no_other(bars: pd.DataFrame) -> None:
    said = Thresholds(waived={"capacity": {"index": NO_VOLUME}, "regime_robustness": "too few regimes"})
    missing = candidate(bars, figures=MISSING)

    ours, theirs = (gates.verdict(gates.run_gates(missing, said.for_strategy(name))) for name in ("index", "coin"))

    assert (ours.permission, ours.waived) == ("live", {"capacity": NO_VOLUME})
    assert (theirs.permission, [result.name for result in theirs.failing]) == ("paper", ["capacity"])
    assert said.for_strategy("coin").waived == {"regime_robustness": "too few regimes"}


def test_a_waiver_by_strategy_must_be_resolved_and_reasoned(bars: pd.DataFrame) -> None:
    with pytest.raises(ParameterError, match=r"capacity is waived for index: pass thresholds\.for_strategy"):
        gates.run_gates(candidate(bars), Thresholds(waived={"capacity": {"index": NO_VOLUME}}))
    for reasons in ({}, {"index": " "}):
        with pytest.raises(ParameterError, match="write why"):
            Thresholds(waived={"capacity": reasons})
    with pytest.raises(ParameterError, match="safety cannot be waived"):
        Thresholds(waived={"causality": {"index": "we are in a hurry"}})


def test_no_gate_waives_itself(bars: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    spared = GateResult("mine", "evidence", None, 1.0, ">=", True, "no need", {"waived": "trust me"})
    _Entries(monkeypatch, mine=Gate("mine", "evidence", lambda *_: spared))
    found = gates.run_gates(candidate(bars))[-1]
    assert not found.passed
    assert "waived itself" in found.explanation


# -- the documentation ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def manual(project: Path) -> str:
    return (project / "docs" / "gates.md").read_text(encoding="utf-8")


def test_the_manual_has_a_row_for_every_gate_and_threshold(manual: str) -> None:
    from tradelib.promotion.stages import Stages, TrackRecord, breaches, may_enter

    stage = Stages().stages[1]
    record = TrackRecord("ab", "paper", 30, 30, 30.0, drawdown=0.0, total_return=0.0, research_return=0.0)
    later = [*may_enter(stage, record, 1, bundle="ab", before="paper"), *breaches(stage, record)]
    sealed = (*gates._WITH_A_BUNDLE, "champion_comparison", "replay_equality")
    names = [*gates.SAFETY_GATES, *gates.EVIDENCE_GATES, *sealed, *(result.name for result in later)]
    assert [name for name in names if f"`{name}`" not in manual] == []
    assert [name for name in Thresholds.model_fields if name not in manual] == []


def test_the_defaults_of_the_manual_are_those_of_the_code(manual: str) -> None:
    """Given the rows of the evidence table, the number in the last column is the default of the threshold named."""
    rows = [line.split("|") for line in manual.splitlines() if line.startswith("| `") and "imum_" in line]
    told = {row[4].split("`")[1]: row[5].split()[1].replace("−", "-") for row in rows if len(row) == 7}
    thresholds = [name for name in Thresholds.model_fields if name.startswith(("minimum_", "maximum_"))]
    assert sorted(told) == sorted(thresholds)
    for name, text in told.items():
        assert float(text) == Thresholds.model_fields[name].default, name


def test_the_example_of_the_manual_is_a_gate(
    manual: str, bars: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    blocks = [block.split("```")[0] for block in manual.split("```python\n")[1:]]
    example = next(block for block in blocks if "def turnover" in block)
    (tmp_path / "manuals_gate.py").write_text(example, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    _Entries(monkeypatch, turnover=importlib.import_module("manuals_gate").gate)
    limits = Thresholds(additional={"turnover": {"maximum": 20}})
    calm, wild = (
        gates.run_gates(candidate(bars, figures=FIGURES | {"turnover_per_year": times}), limits)[-1]
        for times in (4.0, 40.0)
    )
    assert (calm.name, calm.passed, wild.passed) == ("turnover", True, False)


def test_the_projects_parameters_name_every_threshold(project: Path) -> None:
    from pipelines.params import load, read_yaml

    named = set(read_yaml(project / "params.yaml")["gates"])
    assert {name for name in Thresholds.model_fields if name.startswith(("minimum_", "maximum_"))} <= named
    assert load(project, ("gates",)).gates.waived == {}
