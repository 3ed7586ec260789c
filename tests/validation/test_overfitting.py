"""Probability of backtest overfitting: against the definition written out, on noise, and with a planted edge."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import linregress, rankdata

from tradelib.errors import DataError, ParameterError
from tradelib.validation import overfitting
from tradelib.validation.overfitting import backtest_overfitting


def by_definition(returns: np.ndarray, blocks: int) -> dict[str, Any]:
    """CSCV as Bailey, Borwein, Lopez de Prado & Zhu (2017), section 3, write it: rows put together, one by one."""
    parts = np.array_split(np.arange(len(returns)), blocks)
    told: dict[str, list[Any]] = {"chosen": [], "inside": [], "outside": [], "mean": [], "rank": []}
    for chosen in combinations(range(blocks), blocks // 2):
        rows = np.concatenate([parts[block] for block in chosen])
        rest = np.setdiff1d(np.arange(len(returns)), rows)
        inside, outside = (returns[part].mean(axis=0) / returns[part].std(axis=0, ddof=1) for part in (rows, rest))
        best = int(inside.argmax())
        for name, value in zip(told, (best, inside[best], outside[best], outside.mean(), 0.0), strict=True):
            told[name].append(value)
        told["rank"][-1] = rankdata(outside)[best] / (returns.shape[1] + 1)
    return {name: np.array(values) for name, values in told.items()}


@pytest.mark.parametrize(("rows", "trials", "blocks"), [(24, 3, 2), (60, 7, 6), (240, 40, 8), (120, 5, 10)])
def test_it_is_the_definition_written_out(rows: int, trials: int, blocks: int) -> None:
    returns = np.random.default_rng(rows).normal(0.0005, 0.01, (rows, trials))
    expected, found = by_definition(returns, blocks), backtest_overfitting(returns, blocks)
    assert found.chosen.tolist() == expected["chosen"].tolist()
    np.testing.assert_allclose(found.in_sample, expected["inside"], rtol=1e-10)
    np.testing.assert_allclose(found.out_of_sample, expected["outside"], rtol=1e-9, atol=1e-13)
    np.testing.assert_allclose(found.mean_out_of_sample, expected["mean"], rtol=1e-9, atol=1e-13)
    assert found.relative_rank.tolist() == pytest.approx(expected["rank"].tolist(), rel=1e-14)
    assert found.probability == np.mean(np.log(expected["rank"] / (1 - expected["rank"])) <= 0.0)
    assert found.slope == pytest.approx(linregress(expected["inside"], expected["outside"]).slope, rel=1e-8)
    assert found.probability_of_loss == np.mean(expected["outside"] < 0.0)


def test_two_blocks_by_hand() -> None:
    """Halves (1, 3), (2, 4) of trial a; (3, 5), (0, 1) of b; all with known ratios, ddof 1."""
    found = backtest_overfitting(pd.DataFrame({"a": [1.0, 3.0, 2.0, 4.0], "b": [3.0, 5.0, 0.0, 1.0]}), blocks=2)
    root = np.sqrt(2.0)
    # first half: a 2/root 2, b 4/root 2: b chosen; outside b 0.5/(root 0.5), a 3/root 2: rank 1 of 2, 1/3, logit -ln 2
    # second half: a chosen; outside a 2/root 2 against b 4/root 2: rank 1 of 2 again
    assert found.to_frame()["trial"].tolist() == ["b", "a"]
    assert found.in_sample.tolist() == pytest.approx([4.0 / root, 3.0 / root])
    assert found.out_of_sample.tolist() == pytest.approx([0.5 / np.sqrt(0.5), 2.0 / root])
    assert found.relative_rank.tolist() == pytest.approx([1 / 3, 1 / 3])
    assert found.logits.tolist() == pytest.approx([-np.log(2.0)] * 2)
    assert (found.probability, found.probability_of_loss) == (1.0, 0.0)


def test_the_median_counts_as_overfit() -> None:
    """Three trials: rank 2 of 3 is 2/4, a logit of exactly 0 (Bailey et al.: lambda <= 0)."""
    rank = np.array([0.5, 0.75, 0.25, 0.5])
    told = overfitting.OverfittingEvidence([0, 1, 2], 8, 2, np.zeros(4, int), rank, rank, rank, rank)
    assert told.logits.tolist() == pytest.approx([0.0, np.log(3.0), -np.log(3.0), 0.0])
    assert told.probability == 0.75


def test_sixteen_blocks_make_the_published_number_of_splits() -> None:
    """Bailey et al. (2017), section 3: S = 16 gives 12,870 combinations."""
    assert len(backtest_overfitting(np.random.default_rng(0).normal(size=(64, 2))).chosen) == 12_870


def test_trials_in_chunks_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    returns = np.random.default_rng(5).normal(size=(80, 23))
    whole = backtest_overfitting(returns, 8)
    monkeypatch.setattr(overfitting, "_CHUNK", 70 * 4)
    parts = backtest_overfitting(returns, 8)
    assert parts.chosen.tolist() == whole.chosen.tolist()
    assert parts.relative_rank.tolist() == whole.relative_rank.tolist()
    np.testing.assert_allclose(parts.mean_out_of_sample, whole.mean_out_of_sample, rtol=1e-12)


# -- Simulations: seeded; tolerance three standard errors of the mean over the runs


def test_noise_is_overfit_with_probability_one_half() -> None:
    rng = np.random.default_rng(11)
    found = [backtest_overfitting(rng.normal(size=(200, 10)), 8).probability for _ in range(200)]
    error = np.std(found, ddof=1) / np.sqrt(len(found))
    assert error < 0.02
    assert abs(np.mean(found) - 0.5) < 3.0 * error


def test_a_planted_edge_is_found() -> None:
    """A true ratio of 0.15 per period (2.4 a year of days) in one of ten."""
    rng = np.random.default_rng(12)
    lift = np.where(np.arange(10) == 3, 0.15, 0.0)
    found = [backtest_overfitting(rng.normal(lift, 1.0, (960, 10))) for _ in range(20)]
    assert np.mean([told.probability for told in found]) < 0.1
    assert all(np.bincount(told.chosen).argmax() == 3 for told in found)


# -- Properties


@given(seed=st.integers(0, 1000), scale=st.floats(1e-6, 1e6))
@settings(max_examples=30)
def test_order_and_leverage_of_the_trials_do_not_matter(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    returns = rng.normal(size=(48, 6))
    order = rng.permutation(6)
    one, other = backtest_overfitting(returns, 6), backtest_overfitting(returns[:, order] * scale, 6)
    assert order[other.chosen].tolist() == one.chosen.tolist()
    assert other.relative_rank.tolist() == one.relative_rank.tolist()


@given(seed=st.integers(0, 1000))
@settings(max_examples=30)
def test_first_order_dominance_implies_second(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = rng.integers(0, 4, 5).astype(float), rng.integers(0, 4, 6).astype(float)
    first, second = overfitting._dominance(one, other)
    assert second or not first
    # definition, on a grid that holds every level: F_one <= F_other everywhere and < somewhere
    levels = np.arange(-1.0, 5.0)
    ahead = [(other <= level).mean() - (one <= level).mean() for level in levels]
    assert first == (min(ahead) >= 0.0 and max(ahead) > 0.0)
    area = np.cumsum(ahead)
    assert second == bool((area >= -1e-12).all() and (area > 1e-12).any())


# -- Degenerate trials: a stated fallback or a refusal that names them


def test_equal_trials_share_their_rank() -> None:
    one = np.random.default_rng(1).normal(size=(16, 1))
    assert backtest_overfitting(np.repeat(one, 3, axis=1), 4).relative_rank.tolist() == [0.5] * 6


def test_of_equal_trials_the_first_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    returns = np.repeat(np.random.default_rng(1).normal(size=(16, 1)), 3, axis=1)
    for chunk in (overfitting._CHUNK, 6):  # also where each trial is a chunk of its own
        monkeypatch.setattr(overfitting, "_CHUNK", chunk)
        assert set(backtest_overfitting(returns, 4).chosen) == {0}


def test_a_half_without_trades_has_a_ratio_of_zero() -> None:
    rng = np.random.default_rng(2)
    idle = np.concatenate([np.zeros(8), rng.normal(size=8)])
    found = backtest_overfitting(np.column_stack([idle, rng.normal(-9.0, 1.0, 16)]), 4)
    assert (found.chosen[0], found.in_sample[0]) == (0, 0.0)  # blocks 0 and 1: nothing, against a loser


@pytest.mark.parametrize(
    ("returns", "blocks", "error", "said"),
    [
        (np.ones((10, 3)), 4, DataError, "4 blocks do not divide 10 rows: leave out the first 2"),
        (np.ones((12, 3)), 5, ParameterError, "an even whole number of at least 2; got 5"),
        (np.ones((12, 3)), 0, ParameterError, "an even whole number"),
        (np.ones((44, 3)), 22, ParameterError, "705,432 splits"),
        (np.ones((16, 3)), 16, DataError, "16 rows are too few for 16 blocks"),
        (np.ones(16), 4, DataError, r"got shape \(16,\)"),
        (np.ones((16, 1)), 4, DataError, "at least 2 trials"),
        (np.full((16, 2), np.nan), 4, DataError, "trial 0 has no return in row 0"),
        (pd.DataFrame({"a": range(16), "cash": 0.5}), 4, DataError, "trial 'cash' returns 0.5 for half of the rows"),
    ],
)
def test_input_without_an_answer_is_refused(returns: Any, blocks: int, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        backtest_overfitting(returns, blocks)


# -- Words and pictures


def test_the_words_follow_the_probability() -> None:
    def told(*rank: float) -> str:
        values = np.array(rank)
        return overfitting.OverfittingEvidence([0, 1], 8, 2, np.zeros(len(rank), int), *[values] * 4).interpretation

    assert told(0.75).startswith("Choosing carries over. ")
    assert told(0.75, 0.75, 0.25).startswith("Choosing carries over at times")
    assert told(0.25, 0.75).startswith("Overfit")
    assert "in 50.0% of the splits" in told(0.25, 0.75)


def test_summary_page_and_plot_say_the_same() -> None:
    found = backtest_overfitting(np.random.default_rng(8).normal(size=(64, 5)), 8)
    for text in (found.summary(), found._repr_html_()):
        assert f"{found.probability:.4f}" in text
        assert found.interpretation in text
    assert [trace.type for trace in found.plot().data] == ["bar", "scatter", "scatter", "scatter", "scatter"]
    assert sum(found.plot().data[0].y) == len(found.chosen) == 70
