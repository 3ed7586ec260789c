"""Kernels: one source, two executions, and a switch that reaches no further than its block."""

import threading

import numpy as np
import pytest

from tradelib._jit import compiling, interpreted, jit


@jit
def double(x: float) -> float:
    return x * 2.0


@jit
def total(values: np.ndarray) -> float:
    result = 0.0
    for i in range(values.shape[0]):
        result += double(values[i])
    return result


def test_both_executions_give_the_same_bits_also_for_kernels_that_call_kernels():
    values = np.random.default_rng(0).normal(size=1_000)
    compiled = total(values)
    with interpreted():
        assert total(values) == compiled


def test_interpreted_reaches_to_the_end_of_its_block_even_after_an_error():
    with interpreted():
        assert not compiling()
    assert compiling()
    with pytest.raises(RuntimeError), interpreted():
        raise RuntimeError
    assert compiling()


def test_two_threads_that_overlap_do_not_switch_each_other_nor_the_main_one():
    entered, leave, seen = threading.Event(), threading.Event(), []

    def work():
        seen.append(compiling())
        with interpreted():
            entered.set()
            leave.wait(10)
            seen.append(compiling())

    with interpreted():
        thread = threading.Thread(target=work)
        thread.start()
        entered.wait(10)
    assert compiling()
    leave.set()
    thread.join()
    assert seen == [True, False]
    assert compiling()


def test_read_only_and_strided_arrays_are_taken():
    values = np.arange(10.0)
    values.flags.writeable = False
    for view in (values, values[::2]):
        compiled = total(view)
        with interpreted():
            assert total(view) == compiled == 2 * view.sum()
