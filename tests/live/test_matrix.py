"""A few seeds of the crash matrix, which `python -m tests.live.matrix` runs by the thousand, and proof that it sees."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.live.matrix import KINDS, Matrix, case_of, guarded_bundle, matrix

pytestmark = pytest.mark.integration

SEEDS = int(os.environ.get("TRADELIB_MATRIX_SEEDS", "6"))
"""How many cases; TRADELIB_MATRIX_SEEDS=1000 is the whole matrix of orders."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Matrix]:
    with matrix(tmp_path_factory.mktemp("matrix")) as found:
        yield found


@pytest.mark.parametrize("seed", range(SEEDS))
def test_killed_and_faulted_anywhere_it_ends_as_the_model(running: Matrix, seed: int) -> None:
    assert running.run(case_of(seed, ("desk",))) == []


@pytest.fixture(scope="module")
def holding(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Matrix]:
    """Of runners that hold exits themselves."""
    folder = tmp_path_factory.mktemp("holding")
    with matrix(folder, guarded=guarded_bundle(folder / "guarded")) as found:
        yield found


@pytest.mark.parametrize("seed", range(SEEDS))
def test_exits_that_the_runner_holds_end_as_the_model(holding: Matrix, seed: int) -> None:
    assert holding.run(case_of(seed, ("held",))) == []
    assert holding.counts.checks["fired"] > 0


@pytest.mark.slow
def test_it_sees_a_held_order_that_is_fired_again(holding: Matrix) -> None:
    """Killed right after the trigger, the order, or the answer: at some boundary the next process does not know."""
    plant = "forgets that a held order was fired"
    cases = [replace(case_of(4 * seed, ("held",)), plant=plant) for seed in range(16)]
    assert any(holding.run(case) for case in cases)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [190, 642])
def test_what_the_matrix_found_stays_found(running: Matrix, seed: int) -> None:
    """A limit order of a group that went out with what its stop had left was filled, and called expired."""
    assert running.run(case_of(seed)) == []


def test_a_case_is_the_same_case_everywhere() -> None:
    cases = [case_of(seed) for seed in range(40)]
    assert cases == [case_of(seed) for seed in range(40)]
    assert {case.kind for case in cases} == set(KINDS)
    assert {case.program for case in cases} == {"desk", "runner"}
    assert {case.dialect for case in cases} == {"binance", "kraken", "bitget"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plant", "seeds", "said"),
    [
        ("sends again blindly", (1, 5, 9), "became 2 orders"),
        ("forgets a fill", (0,), "fills: journal only"),
        ("calls an order lost when it is not found", (1, 5, 9), "in the journal"),
        ("believes the reply to a cancel", (2, 6, 10), "in the journal"),
        ("books a trade as often as it is told", (1, 5, 9), "fills: journal only"),
    ],
)
def test_it_sees_what_is_broken(running: Matrix, plant: str, seeds: tuple[int, ...], said: str) -> None:
    found = [one for seed in seeds for one in running.run(replace(case_of(seed, ("desk",)), plant=plant))]
    assert any(said in one for one in found), found
