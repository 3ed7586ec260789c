"""The verdict page of one result: the sentence, the marks at a glance, every figure in plain words, the evidence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from tradelib.backtest.metrics import drawdown_series
from tradelib.report import study_cards
from tradelib.report.assessment import GROUPS, Assessment, AssessmentRow
from tradelib.report.charts import HOVER, Line, density_chart, heat_map, line_chart
from tradelib.report.labels import MISSING
from tradelib.report.page import Markup, badge, card, join, page, stacked, table, tag, tiles
from tradelib.report.tables import settings_table, stamp

__all__ = ["assessment_page"]

_MARKS = {"good": "good", "warn": "warning", "bad": "bad", "none": "not computed"}
_QUESTIONS = {
    "Is it real?": "Does it look ahead, is it more than luck, and is it more than the best of many tries?",
    "Would it survive?": "Costs that are higher, markets that are different, crises that come back.",
    "What can it cost?": "How deep it may fall, how bad a day may be, and how often the whole is at stake.",
    "How much can it carry?": "How large to bet, and how much capital the market takes.",
}


def assessment_page(told: Assessment) -> str:
    """The page as HTML text; self-contained, nothing is requested from any network."""
    sections = [_group(told, group) for group in GROUPS]
    return page(f"Verdict: {told.title}", _header(told), *sections, _origin(told), scripts=[HOVER])


def _header(told: Assessment) -> Markup:
    index, counts = told.result.index, told.counts
    periods = f"{told.result.periods_per_year:,.0f} periods a year"
    span = f"{stamp(index[0])} to {stamp(index[-1])}, {len(index):,} bars, {periods}"
    heading = tag("header", tag("h1", told.title), tag("p", span, class_="note"))
    sentence = tag("p", badge(told.verdict, _MARKS[told.verdict]), " ", told.interpretation, class_="lead")
    notes = {
        "good": "as asked for",
        "warn": "between good and bad",
        "bad": "beyond the limit",
        "none": "the reason is given",
    }
    shown = tiles(
        [(_MARKS[name].capitalize(), f"{counts[name]}", notes[name]) for name in ("good", "warn", "bad", "none")]
    )
    return heading + sentence + shown + _glance(told)


def _glance(told: Assessment) -> Markup:
    chips = {group: join([_chip(row) for row in _of(told, group)], " ") for group in GROUPS}
    inner = tag("dl", *(tag("dt", group) + tag("dd", line) for group, line in chips.items()), class_="glance")
    return card("At a glance", inner)


def _chip(row: AssessmentRow) -> Markup:
    return tag("a", badge(row.verdict, row.label), href=f"#{row.name}", class_="chip")


def _of(told: Assessment, group: str) -> list[AssessmentRow]:
    return [row for row in told.rows if row.group == group]


def _group(told: Assessment, group: str) -> Markup:
    rows = [
        [
            badge(row.verdict, _MARKS[row.verdict]),
            tag("b", row.label, id=row.name),
            tag("b", row.shown) if row.value is not None else MISSING,
            row.asked,
            row.words,
        ]
        for row in _of(told, group)
    ]
    listed = stacked(["", "Figure", "Value", "Asked for", "In plain words"], rows, label=group)
    cards = [card("Figures", listed, note=_QUESTIONS[group]), *(draw for draw in _evidence(told, group) if draw)]
    return tag("section", tag("h2", group), tag("div", *cards, class_="grid"), class_="candidate")


# Evidence -------------------------------------------------------------------------------------------------------------

Draw = Callable[[Assessment], Markup]


def _evidence(told: Assessment, group: str) -> list[Markup]:
    return [draw(told) for draw in _DRAWN[group]]


def _line(name: str, values: pd.Series[Any], color: str, **look: Any) -> Line:
    return Line(name, pd.DatetimeIndex(values.index), np.asarray(values, dtype=np.float64), color, **look)


def _growth(told: Assessment) -> Markup:
    lines = [_line("strategy", (1.0 + told.result.returns).cumprod(), "c1")]
    if told.benchmark is not None:
        lines.insert(0, _line(str(told.benchmark.name), (1.0 + told.benchmark).cumprod(), "c4", dashed=True))
    values = np.concatenate([line.values for line in lines])
    wide = values.min() > 0.0 and values.max() / values.min() > 6.0
    drawn = line_chart(lines, y_text=_short, logarithmic=bool(wide), label="growth of 1")
    return card("Growth of 1" + (" (logarithmic)" if wide else ""), drawn, note="After costs.")


def _short(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _luck(told: Assessment) -> Markup:
    found = told.evidence.get("trials")
    if found is None or not np.isfinite(found.deflated):
        return Markup("")
    root = told.result.periods_per_year**0.5
    scale = 1.0 - found.skewness * found.sharpe + (found.kurtosis - 1.0) / 4.0 * found.sharpe**2
    error = (max(scale, 1e-12) / (found.observations - 1.0)) ** 0.5
    ratio, luck = found.sharpe * root, found.expected_maximum * root
    drawn = density_chart(ratio, error * root, luck, mark=f"measured {ratio:.2f}", threshold_mark=f"luck {luck:.2f}")
    note = (
        f"Where the true ratio may lie. Luck: the best that {found.trials:,} trials without skill would show. The "
        f"shaded part beyond it is {found.deflated:.1%}, the deflated Sharpe ratio."
    )
    return card("Skill or luck?", drawn, note=note, wide=False)


def _surface(told: Assessment) -> Markup:
    found = told.evidence.get("stability")
    if found is None or len(found.axes) != 2:
        return Markup("")
    rows, columns = found.axes
    values = found.frame.pivot_table(found.by, rows, columns, aggfunc="max")
    chosen = tuple(_plain(found.frame[axis].iloc[found.chosen]) for axis in (rows, columns))
    names = [[_plain(value) for value in axis] for axis in (values.index, values.columns)]
    drawn = heat_map(
        names[0],
        names[1],
        [[None if np.isnan(value) else float(value) for value in line] for line in values.to_numpy(np.float64)],
        corner=f"{_last(rows)} ↓  {_last(columns)} →",
        chosen=(chosen[0], chosen[1]),
        label="Sharpe ratio by parameters",
    )
    return card(
        "The sweep: Sharpe ratio", drawn, note="Neighbours of the chosen point ◆ should look alike.", wide=False
    )


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float | np.number) else str(value)


def _last(path: Any) -> str:
    return str(path).rpartition(".")[2]


def _walk(told: Assessment) -> Markup:
    found = told.evidence.get("walk_forward")
    if found is None:
        return Markup("")
    drawn = line_chart(
        [_line("out of sample", found.equity, "c1")], y_text=_short, height=11.0, legend=False, label="stitched tests"
    )
    return card("Walk-forward: growth of 1 out of sample", drawn, note=found.interpretation)


def _stress(told: Assessment) -> Markup:
    found = told.evidence.get("stress")
    if found is None:
        return Markup("")
    heads = ["Scenario", "Return", "Drawdown", "Worst bar", "How it was computed"]
    rows = [_scenario(one) for one in found.outcomes]
    note = "Returns while the scenario lasts; in brackets without it, over the same bars."
    return card("Stress", stacked(heads, rows, named=(1, 2, 3), label="stress"), note=note)


def _scenario(one: Any) -> list[Any]:
    shown = [
        f"{v:+.1%}" if np.isfinite(v) else MISSING for v in (one.total_return, one.maximum_drawdown, one.worst_bar)
    ]
    if np.isfinite(one.base_return):
        shown[0] += f" ({one.base_return:+.1%})"
    how = join([one.method, tag("br"), " ", tag("small", one.note)]) if one.note else one.method
    return [tag("b", one.scenario), *shown, how]


def _regimes(told: Assessment) -> Markup:
    found = told.evidence.get("regimes")
    if found is None:
        return Markup("")
    listed = table(study_cards.REGIME_HEADS, study_cards.regime_rows(found), numbers=range(1, 8), label="regimes")
    return card("By market regime", listed, note=_STATES)


_STATES = "Two states of the market's volatility, as they were known one bar before."


def _cost_curve(told: Assessment) -> Markup:
    found = told.evidence.get("costs")
    if found is None:
        return Markup("")
    listed = table(study_cards.COST_HEADS, study_cards.cost_rows(found), numbers=range(0, 5), label="costs")
    return card("At higher costs", listed, wide=False)


def _capital(told: Assessment) -> Markup:
    found = told.evidence.get("capacity")
    if found is None:
        return Markup("")
    heads, rows = study_cards.CAPACITY_HEADS, study_cards.capacity_rows(found)
    return card("With more capital", table(heads, rows, numbers=range(0, 5), label="capacity"))


def _profit(told: Assessment) -> Markup:
    found = told.evidence.get("attribution")
    if found is None:
        return Markup("")
    parts = found.components[found.components != 0.0]
    rows = [[str(name).replace("_", " "), f"{amount:+,.0f}"] for name, amount in parts.items()]
    rows.append([tag("b", "net profit"), tag("b", f"{found.profit:+,.0f}")])
    return card(
        "Where the profit came from", table(["", f"{found.currency}"], rows, numbers=(1,), label="profit"), wide=False
    )


def _fall(told: Assessment) -> Markup:
    fall = _line("drawdown", drawdown_series(told.result.returns), "c2", filled=True)
    drawn = line_chart([fall], y_text="{:.0%}".format, height=10.0, legend=False, label="drawdown")
    return card("Below the last peak", drawn)


def _exceptions(told: Assessment) -> Markup:
    found = told.evidence.get("value_at_risk")
    if found is None:
        return Markup("")
    frame = found.frame
    lines = [
        _line("return", frame["return"], "c4"),
        _line("−value at risk", -frame["var"], "c1"),
        _line("exception", frame["return"][frame["hit"]], "c2", dots=True),
    ]
    drawn = line_chart(lines, y_text="{:.1%}".format, height=12.0, label="exceptions")
    return card(f"Value at risk at {found.alpha:.0%}, day by day", drawn, note=found.interpretation)


def _futures(told: Assessment) -> Markup:
    found = told.evidence.get("monte_carlo")
    if found is None or found.unit != "bars":
        return Markup("")
    wealth, last = found.equity, told.result.index[-1]
    step = pd.Timedelta("365.25D") / told.result.periods_per_year
    times = pd.DatetimeIndex([last + row * step for row in wealth.index])
    looks = ((0.05, "5% of the paths", "c4", True), (0.5, "half of them", "c1", False), (0.95, "95%", "c4", True))
    lines = [Line(name, times, wealth[level].to_numpy(), color, dashed) for level, name, color, dashed in looks]
    drawn = line_chart(lines, y_text=_short, height=12.0, label="simulated futures")
    return card(
        "A year from here, if the past goes on", drawn, note="Below each line ends that share of the simulated paths."
    )


_DRAWN: dict[str, Sequence[Draw]] = {
    "Is it real?": (_growth, _luck, _surface, _walk),
    "Would it survive?": (_stress, _regimes, _cost_curve, _profit),
    "What can it cost?": (_fall, _exceptions, _futures),
    "How much can it carry?": (_capital,),
}


def _origin(told: Assessment) -> Markup:
    rows = [[name.replace("_", " "), tag("code", value)] for name, value in settings_table(told.result).items()]
    rows.append(["seed of the simulations", tag("code", told.seed)])
    listed = tag("details", tag("summary", "Show every setting"), table(["", ""], rows, label="settings"))
    words = (
        "A figure is good when it reaches what is asked for, bad when it is beyond the limit, and a warning between "
        "the two. What was not computed proves nothing, in either direction."
    )
    return tag("div", card("How to read this page", tag("p", words), listed), class_="grid candidate")
