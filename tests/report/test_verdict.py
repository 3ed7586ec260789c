"""The verdict page: complete, offline, escaped, told in words, and exact about what it was told."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.report.conftest import Page
from tradelib.errors import ParameterError
from tradelib.promotion.gates import judge
from tradelib.report.verdict import save_verdict_page, verdict_page
from tradelib.report.verdict_charts import _linked
from tradelib.report.verdict_data import CandidateData, GateRow, SeriesData, VerdictData


def page_of(*candidates: dict[str, Any], **more: Any) -> Page:
    return Page(verdict_page({"candidates": list(candidates), **more}))


def test_the_page_is_whole_and_asks_the_network_for_nothing(candidate: dict[str, Any]) -> None:
    page = page_of(candidate, provenance={"commit": "0123abc"})
    assert page.unbalanced == []
    assert page.requests == []


def test_everything_that_was_told_is_said(candidate: dict[str, Any]) -> None:
    text = page_of(candidate, provenance={"commit": "0123abc"}).text
    for said in (
        "paper only",
        "Paper only: deflated Sharpe ratio too low.",
        "14 checks passed",
        "Trials counted 6",
        "at 365 periods",
        "No decision changes when the future is cut off.",
        "≥ 0.95",
        "trend_test version 3, alias challenger",
        "ab" * 32,
        "signed by local",
        "All 151 decisions are equal.",
        "◆ 0.40",
        "In sample 2021-02-01 2022-06-30",
        "6 variants were tried",
        "0123abc",
    ):
        assert said in text, said


def test_status_is_said_in_words_and_signs(candidate: dict[str, Any]) -> None:
    text = page_of(candidate).text
    assert "✓ passed" in text
    assert "✗ failed" in text
    assert "◐ paper only" in text
    assert "✓ equal" in text


def test_safety_gates_come_first(candidate: dict[str, Any]) -> None:
    candidate["gates"] = candidate["gates"][::-1]
    text = page_of(candidate).text
    assert text.index("causality") < text.index("deflated sharpe evidence")


def test_a_difference_between_paper_and_research_is_named(candidate: dict[str, Any]) -> None:
    first = "equity at 2023-03-05 is 101,233.25 in research, 101,230.11 on paper"
    candidate["parity"] = {"equal": False, "summary": "150 of 151 equal.", "first_difference": first}
    text = page_of(candidate).text
    assert "✗ differs" in text
    assert f"First difference: {first}" in text


def test_what_was_not_done_is_said(candidate: dict[str, Any]) -> None:
    needed = ("name", "strategy", "symbol", "timeframe", "periods_per_year", "permission", "summary")
    page = page_of({name: candidate[name] for name in needed})
    assert page.unbalanced == []
    for said in ("not checked", "not registered", "not made", "not run", "No gate was run.", "No figures."):
        assert said in page.text


def test_several_candidates_get_an_overview_with_links(candidate: dict[str, Any]) -> None:
    other = {**copy.deepcopy(candidate), "name": "other one", "permission": "none"}
    source = verdict_page({"candidates": [candidate, other]})
    assert "2 candidates: 1 paper only, 1 may not trade." in Page(source).text
    assert 'href="#other-one"' in source
    assert 'id="other-one"' in source


def test_text_from_outside_is_escaped(candidate: dict[str, Any]) -> None:
    evil = "<script>alert(1)</script><img src=http://evil>"
    candidate.update(name=evil, summary=evil, strategy=evil, symbol=evil, parameters={evil: evil})
    candidate["gates"][0].update(name=evil, explanation=evil, figure=evil)
    candidate["series"][0]["label"] = evil
    candidate["sweep"]["row_name"] = evil
    candidate["parity"] = {"equal": False, "summary": evil, "first_difference": evil}
    source = verdict_page({"title": evil, "lead": evil, "provenance": {evil: evil}, "candidates": [candidate]})
    assert "<script>alert" not in source
    assert "<img" not in source
    page = Page(source)
    assert page.unbalanced == []
    assert page.requests == []


def test_same_data_same_bytes_and_data_travels_as_json(candidate: dict[str, Any], tmp_path: Path) -> None:
    data = {"candidates": [candidate]}
    again = json.loads(json.dumps(data, allow_nan=False))
    assert verdict_page(again) == verdict_page(data) == verdict_page(VerdictData(**data))
    path = save_verdict_page(data, tmp_path / "deep" / "verdict.html")
    assert path.read_text(encoding="utf-8") == verdict_page(data)
    assert [file.name for file in path.parent.iterdir()] == ["verdict.html"]


def test_a_waived_gate_is_not_shown_as_passed(candidate: dict[str, Any]) -> None:
    result = judge("capacity", "evidence", None, ">=", 2.0, "The capacity multiple is undefined: no volume.")
    candidate["gates"] = [*candidate["gates"], result.waive("a daily index has no volume").to_dict()]
    text = page_of(candidate).text
    assert "waived" in text
    assert "Waived: a daily index has no volume" in text


def test_a_gate_of_the_promotion_room_fits() -> None:
    result = judge("out_of_sample_sharpe", "evidence", float("nan"), ">=", 0.5, "It did not trade.", {"trades": 0})
    row = GateRow(**result.to_dict())
    assert (row.figure, row.passed) == (None, False)


# -- charts ------------------------------------------------------------------------------------------------------


def entry(role: Any, window: Any, equity: list[float | None], day: str, initial: float | None = None) -> SeriesData:
    times = [time.isoformat() for time in pd.date_range(day, periods=len(equity), tz="UTC")]
    return SeriesData(role=role, window=window, times=times, equity=equity, initial=initial)


def test_accounts_are_linked_end_to_end_and_paper_starts_with_research() -> None:
    """Given +10 %, then +20 %, then a paper window, then growth is 1.1, 1.32, and both paper curves start there."""
    lines = _linked(
        [
            entry("paper", "paper", [50.0, 55.0], "2023-03-01", initial=50.0),
            entry("research", "out_of_sample", [100.0, 120.0], "2023-02-01", initial=100.0),
            entry("research", "in_sample", [100.0, 110.0], "2023-01-01", initial=100.0),
            entry("research", "paper", [100.0, 90.0], "2023-03-01", initial=100.0),
            entry("benchmark", None, [10.0, None, 5.0], "2023-01-01"),
        ]
    )
    ends = {line.label: (round(float(line.values[0]), 10), round(float(line.values[-1]), 10)) for line in lines}
    assert ends == {
        "in sample": (1.0, 1.1),
        "out of sample": (1.1, 1.32),
        "research, paper window": (1.32, 1.188),
        "paper account": (1.32, 1.452),
        "benchmark": (1.0, 0.5),
    }


def test_large_histories_stay_small_pages(candidate: dict[str, Any]) -> None:
    count = 200_000
    equity = (100 + np.cumsum(np.random.default_rng(0).normal(size=count))).tolist()
    times = [time.isoformat() for time in pd.date_range("2000-01-01", periods=count, freq="h", tz="UTC")]
    candidate["series"] = [{"role": "research", "window": "in_sample", "times": times, "equity": equity}]
    assert len(verdict_page({"candidates": [candidate]})) < 300_000


def test_an_undefined_sharpe_ratio_and_an_empty_series_leave_a_page(candidate: dict[str, Any]) -> None:
    candidate["sharpe"] = dict.fromkeys(candidate["sharpe"]) | {"interpretation": "Undefined: the returns never vary."}
    candidate["series"] = [{"role": "paper", "window": "paper", "times": [], "equity": []}]
    candidate["figures"] = {"in_sample": {"sharpe_ratio": None}}
    candidate["sweep"]["values"] = [[None] * 3, [None] * 3]
    page = page_of(candidate)
    assert page.unbalanced == []
    assert "Undefined: the returns never vary." in page.text


# -- bad input ---------------------------------------------------------------------------------------------------


def test_bad_data_is_refused_by_name(candidate: dict[str, Any]) -> None:
    def broken(**changes: Any) -> dict[str, Any]:
        return {"candidates": [{**candidate, **changes}]}

    cases: list[tuple[dict[str, Any], str]] = [
        ({"candidates": []}, "at least one candidate"),
        ({"candidate": [candidate]}, "candidate"),
        (broken(permision="live"), "permision"),
        (broken(permission="maybe"), "permission"),
        (broken(periods_per_year=0), "periods_per_year"),
        (broken(figures={"in_sample": {"sharpe_ratio": float("nan")}}), "sharpe_ratio"),
        (broken(series=[{"role": "paper", "window": "paper", "times": ["2023-01-01"], "equity": []}]), "do not match"),
        (broken(sweep={**candidate["sweep"], "values": [[1.0]]}), "2 rows of 3"),
    ]
    for data, message in cases:
        with pytest.raises(ParameterError, match=message):
            verdict_page(data)


def test_the_schema_documents_itself() -> None:
    schema = VerdictData.model_json_schema()
    assert set(schema["properties"]) == {"title", "lead", "provenance", "candidates"}
    assert "bundle" in CandidateData.model_json_schema()["properties"]
