"""Memory that is used again: never while somebody looks at it, always when nobody does, and never too much of it."""

import gc
import threading

import numpy as np
import pandas as pd
import pytest

from tradelib import _memory
from tradelib._memory import KEPT, LARGE, empty


@pytest.fixture(autouse=True)
def _own_store(monkeypatch):
    """What other tests left behind is not ours to count."""
    kept = {size: list(held) for size, held in _memory._store.items()}
    _memory._store.clear()
    yield
    _memory._store.clear()
    _memory._store.update(kept)


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def stored() -> int:
    return sum(size * len(held) for size, held in _memory._store.items())


@pytest.mark.parametrize("shape", [(0,), (7,), (LARGE,), (3, LARGE), (LARGE, 1), (LARGE + 1,)])
def test_it_is_an_array_like_any_other(shape):
    array = empty(*shape)
    assert (array.shape, array.dtype, array.flags.c_contiguous) == (shape, np.float64, True)
    assert array.flags.writeable
    assert array.flags.aligned
    array[...] = 3.0
    assert (array == 3.0).all()


def test_memory_is_used_again_when_nobody_looks_at_it():
    array = empty(LARGE)
    where = address(array)
    del array
    assert address(empty(LARGE)) == where


LOOKS = {
    "view": lambda array: array[5:10],
    "reshaped": lambda array: array.reshape(2, -1)[1],
    "read-only": lambda array: np.lib.stride_tricks.as_strided(array, writeable=False),
    "memoryview": memoryview,
    "series": lambda array: pd.Series(array, copy=False),
    "frame": lambda array: pd.DataFrame({"a": array}, copy=False)["a"],
    "bytes": lambda array: array.view(np.int64),
}


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_never_while_somebody_looks_at_it(look):
    array = empty(LARGE)
    array[:] = 1.0
    where, seen = address(array), look(array)
    before = np.array(seen)
    del array
    gc.collect()
    others = [empty(LARGE) for _ in range(3)]
    for other in others:
        other[:] = 2.0
    assert where not in [address(other) for other in others]
    np.testing.assert_array_equal(np.array(seen), before)
    del seen
    assert address(empty(LARGE)) == where


def test_sizes_within_one_large_page_share_memory_and_others_do_not():
    array = empty(LARGE)
    where = address(array)
    del array
    larger = empty(2 * LARGE)
    assert address(larger) == where
    del larger
    assert address(empty(2 * LARGE + 1)) != where


def test_the_store_stays_small():
    held = [empty(KEPT // 5) for _ in range(9)]
    assert stored() == 0
    held.clear()
    assert 0 < stored() <= KEPT
    for size in range(LARGE, 40 * LARGE, LARGE):
        empty(size)
        assert stored() <= KEPT
    empty(KEPT + 1)
    assert stored() <= KEPT


def test_threads_never_share_an_array():
    clashes = []

    def work(mark: float) -> None:
        for _ in range(200):
            array = empty(LARGE)
            array[:] = mark
            if not (array == mark).all():
                clashes.append(mark)

    threads = [threading.Thread(target=work, args=(float(mark),)) for mark in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clashes == []
