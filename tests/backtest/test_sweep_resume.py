"""Ctrl-C keeps what is finished, the next call goes on, and nothing else is ever mixed in."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tradelib.backtest import Costs, DecisionRule, SweepResult, TrialLedger, sweep
from tradelib.backtest import sweeping as module
from tradelib.backtest.checkpoint import Checkpoint, differences
from tradelib.errors import ParameterError
from tradelib.indicators import probe_bars
from tradelib.strategies import Strategy, TrendFollowing

BARS = probe_bars(600, seed=11)
RULE = DecisionRule(strategy=TrendFollowing(fast=10, slow=40), rebalance_band=None)
GRID = {"strategy.fast": range(2, 12), "strategy.slow": range(20, 35)}


@pytest.fixture
def ledger(tmp_path) -> TrialLedger:
    return TrialLedger(tmp_path / "trials.sqlite")


@pytest.fixture
def interrupted_after(monkeypatch):
    """Let the first `count` blocks through, then press Ctrl-C while the next one is under way."""

    def patch(count: int) -> None:
        take, evaluate, taken, begun, pressed = module.Job.take, module.evaluate_block, [], [], threading.Event()

        def evaluate_slowly(points, shared):
            begun.append(points)
            if len(begun) > count:
                pressed.wait(60)
                time.sleep(0.5)
            return evaluate(points, shared)

        def take_then_stop(self, block, figures):
            take(self, block, figures)
            taken.append(block)
            if len(taken) == count:
                pressed.set()
                raise KeyboardInterrupt

        monkeypatch.setattr(module, "block_size", lambda *_: 64)
        monkeypatch.setattr(module, "evaluate_block", evaluate_slowly)
        monkeypatch.setattr(module.Job, "take", take_then_stop)

    return patch


class TestWithAResult:
    def test_interrupted_it_keeps_and_counts_what_is_finished_and_a_second_call_goes_on(
        self, ledger, interrupted_after, monkeypatch
    ):
        interrupted_after(1)
        part = sweep(RULE, BARS, GRID, ledger=ledger, workers=1)
        assert part.interrupted
        assert len(part.frame) == ledger.summary("TrendFollowing|PROBE|1d").count == 128  # what was begun is finished
        monkeypatch.undo()
        rest = sweep(RULE, BARS, GRID, ledger=ledger, resume=part)
        assert (len(rest.frame), rest.new_trials, rest.interrupted) == (150, 150 - len(part.frame), False)
        pd.testing.assert_frame_equal(rest.frame, sweep(RULE, BARS, GRID, ledger=ledger).frame, check_exact=True)

    def test_a_result_carries_over_to_a_larger_grid(self, ledger):
        part = sweep(RULE, BARS, GRID, ledger=ledger)
        more = sweep(RULE, BARS, GRID | {"strategy.fast": range(2, 14)}, ledger=ledger, resume=part)
        assert (len(more.frame), more.new_trials) == (180, 30)

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            ({"costs": Costs(fee_rate=0.002)}, "costs.fee_rate is 0.001 there, 0.002 here"),
            ({"cash": 5e4}, "cash is 100000.0 there, 50000.0 here"),
            (
                {"start": BARS.index[100]},
                'start is "2000-02-04T00:00:00+00:00" there, "2000-04-10T00:00:00+00:00" here',
            ),
            ({"end": BARS.index[-2]}, "end is"),
        ],
        ids=["costs", "cash", "start", "end"],
    )
    def test_what_was_run_under_other_terms_is_not_mixed_in(self, ledger, change, told):
        part = sweep(RULE, BARS, GRID, ledger=ledger)
        with pytest.raises(ParameterError, match="resume: the earlier sweep was another one") as error:
            sweep(RULE, BARS, GRID, ledger=ledger, resume=part, **change)
        assert told in str(error.value)

    def test_other_bars_are_not_mixed_in(self, ledger):
        part, other = sweep(RULE, BARS, GRID, ledger=ledger), BARS.copy()
        other.iloc[300, other.columns.get_loc("close")] = other["high"].iloc[300]
        with pytest.raises(ParameterError, match="bars.digest is"):
            sweep(RULE, other, GRID, ledger=ledger, resume=part)

    def test_other_axes_are_not_mixed_in(self, ledger):
        part = sweep(RULE, BARS, GRID, ledger=ledger, start=BARS.index[50])
        with pytest.raises(ParameterError, match="axes is"):
            sweep(RULE, BARS, {"sizing.fraction": [0.5]}, ledger=ledger, start=BARS.index[50], resume=part)

    def test_code_that_changed_since_is_found_out(self, ledger):
        def strategy(sign: float) -> type[Strategy]:
            class Edited(Strategy):
                window: int = 5

                def signals(self, bars: pd.DataFrame) -> pd.Series:
                    average = bars["close"].rolling(self.window).mean()
                    return (sign * (bars["close"] - average) > 0).astype(float).where(average.notna())

            return Edited

        start = BARS.index[10]
        part = sweep(strategy(1.0)(), BARS, {"strategy.window": [5, 6]}, start=start, ledger=ledger)
        with pytest.raises(ParameterError, match=r"strategy.window': 5.* other figures now: the code .* changed"):
            sweep(strategy(-1.0)(), BARS, {"strategy.window": [5, 7]}, start=start, ledger=ledger, resume=part)


class TestWithAFile:
    def test_a_second_call_goes_on_where_the_first_was_interrupted(
        self, ledger, tmp_path, interrupted_after, monkeypatch
    ):
        path = tmp_path / "new" / "folder" / "trend.sweep"
        interrupted_after(1)
        part = sweep(RULE, BARS, GRID, ledger=ledger, workers=1, resume=path)
        monkeypatch.undo()
        asked = []
        evaluate = module.evaluate_block
        monkeypatch.setattr(
            module, "evaluate_block", lambda points, shared: asked.extend(points) or evaluate(points, shared)
        )
        rest = sweep(RULE, BARS, GRID, ledger=ledger, resume=str(path))
        assert len(asked) == 150 - len(part.frame) + 1  # one finished point is found again, as a proof
        monkeypatch.undo()
        pd.testing.assert_frame_equal(rest.frame, sweep(RULE, BARS, GRID, ledger=ledger).frame, check_exact=True)

    def test_a_finished_sweep_is_read_from_its_file(self, ledger, tmp_path):
        one, two = (sweep(RULE, BARS, GRID, ledger=ledger, resume=tmp_path / "a") for _ in range(2))
        pd.testing.assert_frame_equal(one.frame, two.frame, check_exact=True)
        assert (one.new_trials, two.new_trials) == (150, 0)
        assert not list(tmp_path.glob(".a*"))

    @pytest.mark.parametrize(
        ("rule", "grid", "told"),
        [
            (RULE, GRID | {"strategy.fast": [5]}, "grid.strategy.fast is "),
            (RULE, {**GRID, "sizing.fraction": [1.0]}, "grid.sizing.fraction is null there"),
            (RULE.replace(rebalance_band=0.1), GRID, "rule.rebalance_band is null there, 0.1 here"),
        ],
        ids=["values", "axes", "rule"],
    )
    def test_another_sweep_at_that_path_is_refused(self, ledger, tmp_path, rule, grid, told):
        path = tmp_path / "a"
        sweep(RULE, BARS, GRID, ledger=ledger, resume=path)
        held = path.read_bytes()
        with pytest.raises(ParameterError, match="holds another sweep") as error:
            sweep(rule, BARS, grid, ledger=ledger, resume=path)
        assert told in str(error.value)
        assert str(path) in str(error.value)
        assert path.read_bytes() == held

    @pytest.mark.parametrize("content", [b"", b"text", b"PK\x05\x06" + bytes(18)], ids=["empty", "text", "empty zip"])
    def test_a_file_that_is_none_is_left_alone(self, ledger, tmp_path, content):
        path = tmp_path / "a"
        path.write_bytes(content)
        with pytest.raises(ParameterError, match="holds no sweep to resume"):
            sweep(RULE, BARS, GRID, ledger=ledger, resume=path)
        assert path.read_bytes() == content

    def test_a_file_with_objects_in_it_is_not_opened(self, tmp_path):
        trap = np.array([{"a": 1}], dtype=object)
        with (tmp_path / "a").open("wb") as file:
            np.savez(file, asked=trap, keys=trap, figures=trap)
        with pytest.raises(ParameterError, match="holds no sweep to resume"):
            Checkpoint(tmp_path / "a", {}, ["x"])

    def test_the_file_is_replaced_as_a_whole(self, tmp_path, monkeypatch):
        """A write that breaks off leaves the old file and no other."""
        kept = Checkpoint(tmp_path / "a", {"cash": 1.0}, ["x"])
        kept.keep([b"0" * 16], np.array([[1.0]]))
        kept.write()
        held = (tmp_path / "a").read_bytes()
        kept.keep([b"1" * 16], np.array([[2.0]]))
        monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            kept.write()
        assert [(tmp_path / "a").read_bytes(), [path.name for path in tmp_path.iterdir()]] == [held, ["a"]]


def test_differences_are_told_by_their_path():
    told = list(differences({"a": {"b": 1, "c": [1]}, "d": 1}, {"a": {"b": 2, "c": [1]}, "e": None}))
    assert told == ["a.b is 1 there, 2 here", "d is 1 there, null here"]


CHILD = """
    import json, sys
    from tradelib.backtest import DecisionRule, TrialLedger, sweep
    from tradelib.indicators import probe_bars
    from tradelib.strategies import Strategy
    import time

    class Slow(Strategy):
        window: int = 5

        def signals(self, bars):
            time.sleep(0.02)
            average = bars["close"].rolling(self.window).mean()
            return (bars["close"] > average).astype(float).where(average.notna())

    bars = probe_bars(300, seed=3)
    ledger = TrialLedger(sys.argv[1] + "/trials.sqlite")
    grid = {"strategy.window": range(3, 203)}
    compiled = TrialLedger(sys.argv[1] + "/compiled.sqlite")  # the first call on a machine compiles
    sweep(Slow(), bars, {"strategy.window": [3]}, start=bars.index[210], ledger=compiled)
    print("ready", flush=True)
    result = sweep(Slow(), bars, grid, start=bars.index[210], ledger=ledger, resume=sys.argv[1] + "/slow.sweep")
    print(json.dumps([len(result.frame), result.interrupted, result.new_trials, sum(ledger.families().values())]))
"""


@pytest.mark.integration
def test_a_real_ctrl_c_in_another_process_and_then_the_same_call_again(tmp_path, home):
    def start() -> subprocess.Popen[str]:
        command = [sys.executable, "-c", textwrap.dedent(CHILD), str(tmp_path)]
        environment = os.environ | {"TRADELIB_HOME": str(home)}
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)

    first = start()
    assert first.stdout is not None
    assert first.stdout.readline() == "ready\n"
    held = tmp_path / "slow.sweep"
    for _ in range(600):
        time.sleep(0.05)
        if held.exists():
            break
    first.send_signal(signal.SIGINT)
    out, _ = first.communicate(timeout=60)
    finished, interrupted, new, counted = json.loads(out)
    assert first.returncode == 0
    assert interrupted
    assert 0 < finished == new == counted < 200

    out, _ = start().communicate(timeout=120)
    assert json.loads(out.splitlines()[1]) == [200, False, 200 - finished, 200]


def test_the_result_of_an_interrupted_sweep_says_so(ledger, interrupted_after):
    interrupted_after(1)
    part = sweep(RULE, BARS, GRID, ledger=ledger, workers=1)
    assert isinstance(part, SweepResult)
    assert repr(part).endswith("interrupted)")


def test_what_a_sweep_looked_at_is_counted_and_kept_also_when_a_later_point_breaks(ledger, tmp_path):
    class Breaking(Strategy):
        level: float = 0.0

        def signals(self, bars: pd.DataFrame) -> pd.Series:
            if self.level > 2:
                raise RuntimeError("broken")
            return (bars["close"] > self.level).astype(float)

    levels, path = [*np.linspace(0.0, 2.0, 70).tolist(), 5.0], Path(tmp_path / "a")
    with pytest.raises(RuntimeError, match="broken"):
        sweep(Breaking(), BARS, {"strategy.level": levels}, start=BARS.index[10], ledger=ledger, workers=1, resume=path)
    assert ledger.families()["Breaking|PROBE|1d"] == 64  # the block before the one that broke
    with np.load(path) as held:
        assert held["figures"].shape[0] == 64
