"""P-values corrected for many tests: by hand, by the paper, and as statsmodels."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from tradelib.errors import DataError, ParameterError
from tradelib.risk import adjusted_p_values

SIX = [0.005, 0.009, 0.0128, 0.0135, 0.045, 0.06]


@pytest.mark.parametrize(
    ("method", "published"),
    [
        ("bonferroni", [0.0300, 0.0540, 0.0768, 0.0810, 0.2700, 0.3600]),
        ("holm", [0.0300, 0.0450, 0.0512, 0.0512, 0.0900, 0.0900]),
        ("harvey_liu", [0.0496, 0.0496, 0.0496, 0.0496, 0.0600, 0.0600]),
    ],
)
def test_six_tests_of_the_paper(method: str, published: list[float]) -> None:
    assert adjusted_p_values(SIX, method).tolist() == pytest.approx(published, abs=5e-5)
    assert adjusted_p_values(SIX[::-1], method).tolist() == pytest.approx(published[::-1], abs=5e-5)


@pytest.mark.parametrize("seed", range(8))
def test_corrections_are_those_of_statsmodels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    p = rng.random(1 + 5 * seed) ** rng.integers(1, 6)
    p = np.concatenate([p, p[:2], [0.0, 1.0]])  # with ties and both ends
    for mine, theirs in (("bonferroni", "bonferroni"), ("holm", "holm"), ("benjamini_yekutieli", "fdr_by")):
        expected = multipletests(p, method=theirs)[1]
        np.testing.assert_allclose(adjusted_p_values(p, mine), expected, rtol=1e-12, atol=1e-300)


def test_corrections_by_hand() -> None:
    p = [0.01, 0.04, 0.03, 0.005]
    np.testing.assert_allclose(adjusted_p_values(p, "bonferroni"), [0.04, 0.16, 0.12, 0.02])
    np.testing.assert_allclose(adjusted_p_values(p, "holm"), [0.03, 0.06, 0.06, 0.02])
    # of four: m p / rank, times 25/12, the sum of the reciprocals of 1 to 4
    np.testing.assert_allclose(
        adjusted_p_values(p, "benjamini_yekutieli"), np.array([0.02, 0.04, 0.04, 0.02]) * 25 / 12
    )


@pytest.mark.parametrize("size", [1, 2, 17, 400])
def test_corrections_equal_statsmodels(size: int) -> None:
    p = np.random.default_rng(size).uniform(size=size).round(2) ** 3  # rounded: ties
    for method, theirs in (("bonferroni", "bonferroni"), ("holm", "holm"), ("benjamini_yekutieli", "fdr_by")):
        np.testing.assert_allclose(adjusted_p_values(p, method), multipletests(p, method=theirs)[1], atol=1e-12)


def test_what_was_not_tested_is_no_part_of_the_family_unless_said() -> None:
    assert adjusted_p_values([0.01, np.nan, 0.02], "bonferroni").tolist()[::2] == [0.02, 0.04]
    assert adjusted_p_values([0.01, 0.02], "bonferroni", tests=10).tolist() == [0.1, 0.2]


@pytest.mark.parametrize(
    ("given", "options", "error", "words"),
    [
        (SIX, {"method": "sidak"}, ParameterError, "method must be one of bonferroni, holm"),
        ([], {}, DataError, "at least one"),
        ([0.1, 1.2], {}, DataError, "between 0 and 1"),
        (["a"], {}, DataError, "must be numbers"),
        ([[0.1]], {}, DataError, "one row"),
        ([0.1, 0.2], {"tests": 1}, ParameterError, "at least the 2"),
        ([0.1, 0.2], {"tests": 2.5}, ParameterError, "at least the 2"),
    ],
)
def test_bad_input_is_refused(given: list[float], options: dict, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        adjusted_p_values(given, **options)
