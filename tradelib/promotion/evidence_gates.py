"""Evidence gates: is the edge believable? One failure and the candidate is "paper only".

Each takes the figures of a candidate (`tradelib.promotion.evidence` computes them) and the thresholds, and looks at
nothing else. A figure that is missing or undefined does not pass; why it could not be had stands under its name in
`figures["undefined"]`, and becomes the explanation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tradelib.promotion.gate_result import Comparison, GateResult, figure_of, judge, sentence

if TYPE_CHECKING:
    from tradelib.promotion.gates import Thresholds

__all__ = [
    "break_even_cost",
    "capacity",
    "cost_stress",
    "deflated_sharpe",
    "drawdown",
    "haircut_sharpe",
    "number_of_trades",
    "out_of_sample_sharpe",
    "overfitting_probability",
    "parameter_stability",
    "profit_factor",
    "regime_robustness",
    "snooping_p_value",
    "stress_scenarios",
    "value_at_risk_coverage",
    "walk_forward_efficiency",
    "walk_forward_sharpe",
    "win_rate",
]


def _judged(
    name: str,
    key: str,
    comparison: Comparison,
    threshold: float,
    words: str,
    figures: Mapping[str, Any],
    *evidence: str,
) -> GateResult:
    """The gate `name` on the figure `key`. `words`: with {value}, {limit} and the figures called `evidence`."""
    figure, more = figure_of(figures, key), {each: figures.get(each) for each in evidence}
    reasons = figures.get("undefined")
    reason = reasons.get(key) if isinstance(reasons, Mapping) else None
    told = sentence(
        figure,
        lambda value: words.format(value=value, limit=threshold, **more),
        f"The {key.replace('_', ' ')} is undefined: {reason or 'it was not computed'}.",
    )
    return judge(name, "evidence", figure, comparison, threshold, told, more)


def out_of_sample_sharpe(figures: Mapping[str, Any], thresholds: Thresholds) -> GateResult:
    """Annualised Sharpe ratio on bars that research never saw: `out_of_sample_sharpe`."""
    figure, least = figure_of(figures, "out_of_sample_sharpe"), thresholds.minimum_out_of_sample_sharpe
    words = sentence(
        figure,
        lambda value: (
            f"Out of sample the annualised Sharpe ratio is {value:.2f}; at least {least:.2f} is demanded"
            + (
                f" (in sample it was {figures['in_sample_sharpe']:.2f})."
                if figure_of(figures, "in_sample_sharpe") is not None
                else "."
            )
        ),
        "The out-of-sample Sharpe ratio is undefined: the strategy did not trade there, or its returns never vary.",
    )
    evidence = {name: figures.get(name) for name in ("in_sample_sharpe", "out_of_sample_observations")}
    return judge("out_of_sample_sharpe", "evidence", figure, ">=", least, words, evidence)


def deflated_sharpe(figures: Mapping[str, Any], thresholds: Thresholds, counted: int = 0) -> GateResult:
    """Deflated Sharpe ratio `deflated_sharpe`, a probability, with the ledger's count of `trials`.

    `counted`: how many trials the project's own ledger has of this question; figures of fewer are no evidence.
    """
    least = thresholds.minimum_deflated_sharpe
    trials, probability = figure_of(figures, "trials"), figure_of(figures, "deflated_sharpe")
    figure = probability if trials is not None and trials >= 1 else None
    undefined = "The deflated Sharpe ratio is undefined: too few or constant returns."
    if figure is None and probability is not None:
        undefined = "The number of trials is unknown, so no Sharpe ratio can be deflated: record trials in the ledger."
    if figure is not None and trials is not None and trials < counted:
        figure = None
        undefined = (
            f"The figures were deflated by {trials:.0f} trials, but the project's ledger has {counted} of this market: "
            "the deflated Sharpe ratio is undefined until it is computed with all of them."
        )
    words = sentence(
        figure,
        lambda value: (
            f"After {trials:.0f} counted trial{'' if trials == 1 else 's'} the confidence that the Sharpe ratio is "
            f"more than the luck of the best one is {value:.1%}; at least {least:.1%} is demanded."
        ),
        undefined,
    )
    return judge("deflated_sharpe", "evidence", figure, ">=", least, words, {"trials": figures.get("trials")})


def number_of_trades(figures: Mapping[str, Any], thresholds: Thresholds) -> GateResult:
    """Closed trades that the figures rest on: `trades`."""
    figure, least = figure_of(figures, "trades"), thresholds.minimum_trades
    words = sentence(
        figure,
        lambda value: f"The figures rest on {value:.0f} closed trades; at least {least} are demanded.",
        "The number of trades is unknown.",
    )
    return judge("number_of_trades", "evidence", figure, ">=", least, words)


def drawdown(figures: Mapping[str, Any], thresholds: Thresholds) -> GateResult:
    """Deepest fall from a peak, `maximum_drawdown` (a fraction; its sign does not matter)."""
    given, most = figure_of(figures, "maximum_drawdown"), thresholds.maximum_drawdown
    figure = None if given is None else abs(given)
    words = sentence(
        figure,
        lambda value: f"The deepest drawdown is {value:.1%}; at most {most:.1%} is allowed.",
        "The maximum drawdown is undefined.",
    )
    return judge("drawdown", "evidence", figure, "<=", most, words)


def cost_stress(figures: Mapping[str, Any], thresholds: Thresholds) -> GateResult:
    """Annualised Sharpe ratio `stressed_sharpe`, with all costs times `cost_stress_multiple`."""
    least, multiple = thresholds.minimum_stressed_sharpe, thresholds.cost_stress_multiple
    applied, stressed = figure_of(figures, "cost_stress_multiple"), figure_of(figures, "stressed_sharpe")
    figure = stressed if applied is not None and applied >= multiple else None
    undefined = "The Sharpe ratio under stressed costs is undefined."
    if stressed is not None and figure is None:
        shown = "an unknown multiple of" if applied is None else f"{applied:g} times"
        undefined = (
            f"Costs were stressed at {shown} the normal ones, but {multiple:g} times is demanded: evaluate again."
        )
    words = sentence(
        figure,
        lambda value: (
            f"At {applied:g} times the costs the Sharpe ratio is {value:.2f}; at least {least:.2f} is demanded."
        ),
        undefined,
    )
    return judge("cost_stress", "evidence", figure, ">=", least, words, {"cost_stress_multiple": applied})


def win_rate(figures: Mapping[str, Any], thresholds: Thresholds) -> GateResult:
    """Share of closed trades that won, out of sample: `win_rate`."""
    words = "{value:.1%} of the closed trades won; at least {limit:.1%} are demanded."
    limit, more = thresholds.minimum_win_rate, ("trades",)
    return _judged("win_rate", "win_rate", ">=", limit, words, figures, *more)


def profit_factor(figures: Mapping[str, Any], thresholds: Thresholds) -> GateResult:
    """What the winning trades earned over what the losing ones lost, out of sample: `profit_factor`."""
    words = "Winning trades earned {value:.2f} times what the losing ones lost; at least {limit:.2f} is demanded."
    limit, more = thresholds.minimum_profit_factor, ("trades",)
    return _judged("profit_factor", "profit_factor", ">=", limit, words, figures, *more)


def walk_forward_sharpe(figures: Mapping[str, Any], thresholds: Thresholds) -> GateResult:
    """Annualised Sharpe ratio of the stitched tests, each chosen on the bars before it: `walk_forward_sharpe`."""
    words = (
        "Chosen anew before each window, the stitched tests have a Sharpe ratio of {value:.2f}; at least {limit:.2f} "
        "is demanded."
    )
    limit, more = thresholds.minimum_walk_forward_sharpe, ("walk_forward_windows",)
    return _judged("walk_forward_sharpe", "walk_forward_sharpe", ">=", limit, words, figures, *more)


def walk_forward_efficiency(figures: Mapping[str, Any], thresholds: Thresholds) -> GateResult:
    """Growth out of sample over growth in sample, over all windows: `walk_forward_efficiency`.

    Source: Pardo (2008), "The Evaluation and Optimization of Trading Strategies", chapter 11.
    """
    words = (
        "Out of sample the windows keep {value:.0%} of the growth that they had in sample; at least {limit:.0%} is "
        "demanded."
    )
    limit, more = thresholds.minimum_walk_forward_efficiency, ("walk_forward_windows", "walk_forward_drift")
    return _judged("walk_forward_efficiency", "walk_forward_efficiency", ">=", limit, words, figures, *more)


def overfitting_probability(figures: Mapping[str, Any], thresholds: Thresholds) -> GateResult:
    """Probability of backtest overfitting of the sweep's choice: `overfitting_probability`.

    Source: Bailey, Borwein, Lopez de Prado & Zhu (2017), "The Probability of Backtest Overfitting".
    """
    words = (
        "In {value:.1%} of all halvings of history the best in one half is in the lower half of the other; at most "
        "{limit:.1%} is allowed."
    )
    limit, more = thresholds.maximum_overfitting_probability, ("swept_points", "swept_bars")
    return _judged("overfitting_probability", "overfitting_probability", "<=", limit, words, figures, *more)


def snooping_p_value(figures: Mapping[str, Any], thresholds: Thresholds) -> GateResult:
    """P-value of Hansen's SPA: the best of the sweep earns more than cash by luck: `snooping_p_value`."""
    words = (
        "That the best of the sweep earns more than cash is luck with a p-value of {value:.3f} (SPA); at most "
        "{limit:.3f} is allowed."
    )
    limit, more = thresholds.maximum_snooping_p_value, ("reality_check", "swept_points")
    return _judged("snooping_p_value", "snooping_p_value", "<=", limit, words, figures, *more)


def haircut_sharpe(figures: Mapping[str, Any], thresholds: Thresholds) -> GateResult:
    """Annualised Sharpe ratio that the strictest correction for all counted trials leaves: `haircut_sharpe`.

    Source: Harvey & Liu (2015), "Backtesting".
    """
    words = "Cut for all counted trials, a Sharpe ratio of {value:.2f} is left; at least {limit:.2f} is demanded."
    limit, more = thresholds.minimum_haircut_sharpe, ("haircut_p_value", "trials")
    return _judged("haircut_sharpe", "haircut_sharpe", ">=", limit, words, figures, *more)


def break_even_cost(figures: Mapping[str, Any], thresholds: Thresholds) -> GateResult:
    """Multiple of the costs at which the Sharpe ratio falls to zero: `break_even_multiple`."""
    words = "Nothing is left at {value:.1f} times the costs; at least {limit:.1f} times is demanded."
    limit, more = thresholds.minimum_break_even_multiple, ("break_even_basis_points",)
    return _judged("break_even_cost", "break_even_multiple", ">=", limit, words, figures, *more)


def capacity(figures: Mapping[str, Any], thresholds: Thresholds) -> GateResult:
    """Capital at which impact halves the Sharpe ratio, in multiples of the account: `capacity_multiple`."""
    words = (
        "It bears {value:.3g} times the capital of the account before impact halves it; at least {limit:g} times is "
        "demanded."
    )
    limit, more = thresholds.minimum_capacity_multiple, ("capacity_cash",)
    return _judged("capacity", "capacity_multiple", ">=", limit, words, figures, *more)


def stress_scenarios(figures: Mapping[str, Any], thresholds: Thresholds) -> GateResult:
    """Deepest fall from a peak in the worst of the stress scenarios, a positive fraction: `stress_loss`."""
    words = (
        "In the worst scenario ({stress_scenario}) the account falls by {value:.1%}; at most {limit:.1%} is allowed."
    )
    limit, more = thresholds.maximum_stress_loss, ("stress_scenario", "stress_covered", "stress_uncovered")
    return _judged("stress_scenarios", "stress_loss", "<=", limit, words, figures, *more)


def value_at_risk_coverage(figures: Mapping[str, Any], thresholds: Thresholds) -> GateResult:
    """Smaller p-value of Kupiec's and Christoffersen's tests of the VaR forecasts: `var_p_value`."""
    words = (
        "{var_hits} of {var_bars} bars lost more than the value at risk; so many, or so close together, has a p-value "
        "of {value:.3g}; at least {limit:g} is demanded."
    )
    limit, more = thresholds.minimum_var_p_value, ("var_hits", "var_bars", "var_model")
    return _judged("value_at_risk_coverage", "var_p_value", ">=", limit, words, figures, *more)


def regime_robustness(figures: Mapping[str, Any], thresholds: Thresholds) -> GateResult:
    """Annualised Sharpe ratio in the market regime where it is lowest: `worst_regime_sharpe`."""
    words = "In its worst regime ({worst_regime}) the Sharpe ratio is {value:.2f}; at least {limit:.2f} is demanded."
    limit, more = thresholds.minimum_regime_sharpe, ("worst_regime", "worst_regime_drawdown", "regimes")
    return _judged("regime_robustness", "worst_regime_sharpe", ">=", limit, words, figures, *more)


def parameter_stability(figures: Mapping[str, Any], thresholds: Thresholds) -> GateResult:
    """Share of the chosen point's figure that its neighbours in the grid keep on average: `neighbours_keep`."""
    words = "One step aside in the grid {value:.0%} of the figure is left; at least {limit:.0%} is demanded."
    limit, more = thresholds.minimum_parameter_stability, ("worst_neighbour_keeps", "swept_points")
    return _judged("parameter_stability", "neighbours_keep", ">=", limit, words, figures, *more)
