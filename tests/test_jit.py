"""Kernels: one source, two executions, and a switch that reaches no further than its block."""

import io
import os
import pty
import subprocess
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from tradelib._jit import Announcement, compiling, interpreted, jit


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


class Terminal(io.StringIO):
    """A stream that somebody watches."""

    def isatty(self):
        return True


class TestAnnouncement:
    """A cold cache costs half a minute once: whoever waits is told, nobody else is."""

    @staticmethod
    def told(monkeypatch, events, stream, module="tradelib.backtest.machine"):
        """What is written when compilations begin (+) and end (-) at these seconds."""
        monkeypatch.setattr(sys, "stderr", stream)
        times = iter([abs(second) for second in events])
        announcement = Announcement(patience=2.0, clock=lambda: next(times))
        dispatcher = SimpleNamespace(py_func=SimpleNamespace(__module__=module))
        for second in events:
            announcement.notify(SimpleNamespace(data={"dispatcher": dispatcher}, is_start=second > 0))
        return stream.getvalue()

    def test_after_two_seconds_of_compiling_it_is_said_once(self, monkeypatch):
        said = self.told(monkeypatch, [1.0, 2.0, -2.5, 3.5, -9.0, 10.0, -11.0, -12.0], Terminal())
        assert said == "tradelib: compiling the engine, once per installation, about half a minute\n"

    def test_a_pause_between_compilations_is_not_compiling(self, monkeypatch):
        assert self.told(monkeypatch, [1.0, -1.5, 100.0, -100.5, 200.0, -200.5], Terminal()) == ""

    def test_nothing_is_said_where_nobody_watches(self, monkeypatch):
        assert self.told(monkeypatch, [1.0, 5.0, -6.0, -7.0], io.StringIO()) == ""

    def test_functions_of_others_are_their_own_business(self, monkeypatch):
        assert self.told(monkeypatch, [1.0, 5.0, -6.0, -7.0], Terminal(), module="strategies.mine") == ""

    def test_a_kernel_of_a_cold_cache_is_heard_at_a_terminal_and_one_of_a_warm_cache_is_not(self, tmp_path):
        code = (
            "import numpy as np, tradelib._jit as _jit\n"
            "_jit.Announcement.__init__.__defaults__ = (-1.0, _jit.time.monotonic)\n"
            "from tradelib.backtest.points import _first_bad\n"
            "_first_bad(np.ones((3, 3)), 1.0)\n"
        )

        def shown(folder="cache", **more):
            here, there = pty.openpty()
            settings = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / folder), "TRADELIB_ANNOUNCE": "1"} | more
            subprocess.run([sys.executable, "-c", code], env=settings, stderr=there, check=True)
            os.close(there)
            try:
                return os.read(here, 1000).decode()
            except OSError:  # the other end is closed, and nothing was written
                return ""
            finally:
                os.close(here)

        assert "compiling the engine" not in shown("other", TRADELIB_ANNOUNCE="0")
        assert "compiling the engine" in shown()
        assert shown() == ""
