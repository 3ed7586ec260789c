"""Every point of a sweep is a trial: counted once, whoever tried it, in whatever company."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import math
import multiprocessing
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradelib.backtest.trials import (
    BatchCount,
    Trial,
    TrialBatch,
    TrialLedger,
    batch_from_dict,
    batch_to_dict,
)
from tradelib.errors import LedgerError, ParameterError
from tradelib.ledger.chain import _SCHEMA, Ledger, canonical, digest

FAMILY = "TrendFollowing|PROBE|1d"
WINDOW = ("2018-01-02T00:00:00+00:00", "2019-12-31T00:00:00+00:00")
DATA = "ab" * 32


def rule(
    fast: Any = 50, slow: Any = 200, band: Any = 0.0, weight: Any = 1.0, stop: Any = None, trail: Any = 0.1
) -> dict[str, Any]:
    return {
        "strategy": {"name": "TrendFollowing", "params": {"fast": fast, "slow": slow, "note": "100 %s of \u00e4"}},
        "sizing": {"name": "VolatilityTarget", "params": {"max_weight": weight}},
        "exits": {"stop_loss": stop, "trailing_stop": {"value": trail, "unit": "fraction"}},
        "rebalance_band": band,
    }


def setting(fee: float = 0.001, leverage: float = 1.0) -> dict[str, Any]:
    return {"fee_rate": fee, "slippage": 0.0005, "maximum_leverage": leverage, "cash": 100_000.0, "calendar": "24/7"}


def trial(sharpe: float | None, fee: float = 0.001, leverage: float = 1.0, **parameters: Any) -> Trial:
    """What a single run of these parameters records."""
    return Trial(FAMILY, rule(**parameters), setting(fee, leverage), DATA, WINDOW, 504, sharpe)


def batch(points: dict[str, Any], sharpes: Any, family: str = FAMILY, **template: Any) -> TrialBatch:
    return TrialBatch(family, rule(**template), setting(), DATA, WINDOW, 504, points, np.array(sharpes, dtype=float))


def fasts(first: int, last: int) -> TrialBatch:
    """Sweep over `strategy.fast`; the Sharpe ratio of a point depends on the point alone, every fifth is undefined."""
    values = np.arange(first, last)
    return batch({"strategy.fast": values}, np.where(values % 5 == 0, np.nan, values / 1000.0))


@pytest.fixture
def ledger(tmp_path: Path) -> TrialLedger:
    return TrialLedger(tmp_path / "trials.sqlite")


# A point of a sweep is the trial that a single run would have been


def test_each_parameter_path_reaches_the_place_where_a_single_run_has_it() -> None:
    points = {
        "strategy.fast": [10, 20],
        "sizing.max_weight": np.array([0.5, 1.5]),
        "exits.stop_loss": [None, {"value": 2.0, "unit": "atr"}],
        "exits.trailing_stop.value": [0.1, 0.2],
        "rebalance_band": [0.0, 0.02],
        "costs.fee_rate": [0.001, 0.002],
        "market.maximum_leverage": [1.0, 2.0],
    }
    swept = batch(points, [0.03, math.nan])
    alone = [
        trial(0.03, fast=10, weight=0.5, stop=None, band=0.0, fee=0.001, leverage=1.0),
        trial(
            None, fast=20, weight=1.5, stop={"value": 2.0, "unit": "atr"}, trail=0.2, band=0.02, fee=0.002, leverage=2.0
        ),
    ]
    assert list(swept.trials()) == alone
    assert swept.keys() == [single.key for single in alone]


def test_a_key_is_the_digest_that_old_ledgers_hold() -> None:
    # `printf %s TEXT | sha256sum`: the identity of a trial must survive every change of the code.
    text = (
        '["F",{"rebalance_band":0.0,"strategy":{"name":"S","params":{"fast":10}}},{"fee_rate":0.001},"ab",'
        '["2018-01-02","2018-01-03"],2,0.25]'
    )
    parts = {"strategy": {"name": "S", "params": {"fast": 1}}, "rebalance_band": 0.0}
    window = ("2018-01-02", "2018-01-03")
    points = {"strategy.fast": [10]}
    swept = TrialBatch("F", parts, {"fee_rate": 0.001}, "ab", window, 2, points, np.array([0.25]))
    assert (
        hashlib.sha256(text.encode()).hexdigest() == "e6824ec0a11b4b6728c50b0fe01f11efd7b3b767ff50aa1852266bee4f090df4"
    )
    assert (
        swept.keys()
        == [next(swept.trials()).key]
        == ["e6824ec0a11b4b6728c50b0fe01f11efd7b3b767ff50aa1852266bee4f090df4"]
    )


NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.none(),
    st.text(max_size=5),
)


@given(st.lists(st.tuples(NUMBERS, NUMBERS, st.floats()), max_size=8))
def test_packing_keeps_every_value_and_its_type(rows: list[tuple[Any, Any, float]]) -> None:
    fast, band, sharpes = ([row[i] for row in rows] for i in range(3))
    swept = batch({"strategy.fast": fast, "rebalance_band": band}, sharpes)
    read = batch_from_dict(json.loads(canonical(batch_to_dict(swept))))
    defined = [s if math.isfinite(s) else None for s in sharpes]
    alone = [trial(s, fast=f, band=b) for f, b, s in zip(fast, band, defined, strict=True)]
    assert [single.key for single in read.trials()] == [single.key for single in alone] == read.keys()


def test_whole_numbers_and_floats_of_one_value_are_different_trials(ledger: TrialLedger) -> None:
    assert ledger.record_batch(batch({"strategy.fast": [10, 20]}, [0.1, 0.2])).new == 2
    assert ledger.record_batch(batch({"strategy.fast": [10.0, 20.0]}, [0.1, 0.2])).new == 2
    assert ledger.record_batch(batch({"strategy.fast": [10, 20.0]}, [0.1, 0.2])).new == 0


def test_numeric_columns_are_packed_little_endian() -> None:
    body = batch_to_dict(
        batch({"strategy.fast": [1, 258], "rebalance_band": np.array([0.5, 0.25], dtype=np.float32)}, [0.0, 0.0])
    )
    raw = b"\x01" + bytes(7) + b"\x02\x01" + bytes(6)
    assert body["points"]["strategy.fast"] == {"dtype": "<i8", "data": base64.b64encode(raw).decode()}
    assert body["points"]["rebalance_band"]["dtype"] == "<f8"


def test_finished_points_can_be_taken_out_of_a_sweep() -> None:
    swept = batch({"strategy.fast": [10, 20, 30], "strategy.note": ["a", "b", "c"]}, [0.1, 0.2, 0.3])
    keys = swept.keys()
    assert swept.take(np.array([True, False, True])).keys() == [keys[0], keys[2]]
    assert swept.take(slice(2)).keys() == keys[:2]
    assert swept.take([2, 0]).keys() == [keys[2], keys[0]]


@pytest.mark.parametrize(
    ("points", "sharpes", "message"),
    [
        ({"strategy.fats": [1]}, [0.1], r"no parameter 'strategy.fats'; did you mean 'fast'"),
        ({"stratgy.fast": [1]}, [0.1], r"no parameter 'stratgy.fast'; did you mean 'strategy'"),
        ({"limits.gross": [1]}, [0.1], r"no parameter 'limits.gross'"),
        ({"exits.stop_loss.value": [1]}, [0.1], r"no parameter 'exits.stop_loss.value'"),  # the template has no stop
        ({"exits.trailing_stop.value": [1], "exits.trailing_stop": [None]}, [0.1], "name the same parameter"),
        ({"costs.fee_rat": [1]}, [0.1], r"no parameter 'costs.fee_rat'; did you mean 'fee_rate'"),
        ({"costs.fee_rate": [0.1], "market.fee_rate": [0.2]}, [0.1], "name the same parameter"),
        ({"strategy.fast": [1, 2]}, [0.1], "'strategy.fast' has 2 values for 1 Sharpe ratios"),
        ({"rebalance_band": [0.0, math.nan]}, [0.1, 0.2], "'rebalance_band' is nan at point 1"),
        ({"strategy.fast": [{1, 2}]}, [0.1], "cannot be recorded"),
        ({}, [[0.1]], r"not an array of shape \(1, 1\)"),
    ],
)
def test_what_cannot_be_expanded_without_doubt_is_refused(points: Any, sharpes: Any, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        batch(points, sharpes)


# Counting


def test_a_sweep_is_one_entry_and_as_many_trials_as_points(ledger: TrialLedger) -> None:
    assert ledger.record_batch(fasts(1, 10_001)) == BatchCount(new=10_000, points=10_000, total=10_000, duplicate=False)
    with Ledger(ledger.path, read_only=True) as chain:
        assert (chain.count(), chain.count("trials")) == (1, 1)
    assert ledger.families() == {FAMILY: 10_000}


def test_the_same_sweep_again_is_a_duplicate_and_writes_nothing(ledger: TrialLedger) -> None:
    ledger.record_batch(fasts(0, 10))
    assert ledger.record_batch(fasts(0, 10)) == BatchCount(new=0, points=10, total=10, duplicate=True)
    with Ledger(ledger.path, read_only=True) as chain:
        assert chain.count() == 1


def test_overlapping_sweeps_count_their_overlap_once(ledger: TrialLedger) -> None:
    assert ledger.record_batch(fasts(0, 10)).new == 10
    assert ledger.record_batch(fasts(5, 20)) == BatchCount(new=10, points=15, total=20, duplicate=False)
    assert ledger.record_batch(fasts(0, 20)) == BatchCount(new=0, points=20, total=20, duplicate=False)
    # another template and another axis, but some of the same points: slow = 200 is the template's value above
    both = batch({"strategy.fast": [11, 11, 12], "strategy.slow": [200, 201, 200]}, [0.011, 0.011, 0.012], slow=7)
    assert ledger.record_batch(both) == BatchCount(new=1, points=3, total=21, duplicate=False)


def test_a_point_that_stands_twice_in_one_sweep_counts_once(ledger: TrialLedger) -> None:
    twice = batch({"strategy.fast": [1, 2, 1, 3]}, [0.1, math.nan, 0.1, math.nan])
    assert ledger.record_batch(twice).new == 3


@pytest.mark.parametrize("alone_first", [True, False])
def test_a_point_tried_alone_and_in_a_sweep_counts_once(ledger: TrialLedger, alone_first: bool) -> None:
    def alone() -> None:
        assert [e.duplicate for e in ledger.record([trial(0.003, fast=3), trial(None, fast=5)])] == [False, False]

    if alone_first:
        alone()
        assert ledger.record_batch(fasts(1, 7)).new == 4
    else:
        assert ledger.record_batch(fasts(1, 7)).new == 6
        alone()
    assert ledger.families() == {FAMILY: 6}


def test_sharpe_ratios_stand_in_the_order_of_recording_without_the_undefined_ones(ledger: TrialLedger) -> None:
    ledger.record([trial(0.5, fast=1), trial(None, fast=2)])
    ledger.record_batch(batch({"strategy.fast": [3, 4, 1]}, [0.3, math.inf, 0.5]))
    ledger.record([trial(0.1, fast=5)])
    summary = ledger.summary(FAMILY)
    assert (summary.count, summary.sharpes) == (5, (0.5, 0.3, 0.1))
    assert summary.variance_of_sharpe == pytest.approx(0.04)  # mean 0.3, squares 0.04 + 0 + 0.04, over 2


def test_no_digit_of_a_sharpe_ratio_is_lost(ledger: TrialLedger) -> None:
    ledger.record_batch(batch({"strategy.fast": [1, 2]}, [1 / 3, 5e-324]))
    assert ledger.summary(FAMILY).sharpes == (1 / 3, 5e-324)


def test_zero_and_minus_zero_are_two_answers_as_in_a_single_trials_key(ledger: TrialLedger) -> None:
    assert ledger.record_batch(batch({"strategy.fast": [1, 1]}, [0.0, -0.0])).new == 2
    assert trial(0.0, fast=1).key != trial(-0.0, fast=1).key


def test_families_are_counted_apart(ledger: TrialLedger) -> None:
    ledger.record_batch(batch({"strategy.fast": [1, 2]}, [0.1, 0.2], family="b"))
    assert ledger.record_batch(batch({"strategy.fast": [1, 2]}, [0.1, 0.2], family="a")).new == 2
    assert ledger.families() == {"a": 2, "b": 2}
    assert ledger.summary("c").count == 0


def test_a_sweep_without_a_finished_point_leaves_no_trace(ledger: TrialLedger) -> None:
    assert ledger.record_batch(fasts(0, 0)) == BatchCount(0, 0, 0, False)
    assert not ledger.path.exists()


def test_a_ledger_of_single_trials_written_before_batches_still_counts(ledger: TrialLedger) -> None:
    # entries as they were written then: kind "trial", the dataclass as body, its digest as key
    with Ledger(ledger.path) as chain:
        for fast, sharpe in [(1, 0.001), (2, 0.002), (5, None)]:
            body = {
                "family": FAMILY,
                "rule": rule(fast=fast),
                "setting": setting(),
                "data_digest": DATA,
                "window": list(WINDOW),
                "observations": 504,
                "sharpe": sharpe,
            }
            chain.append("trial", body, digest([FAMILY, rule(fast=fast), setting(), DATA, list(WINDOW), 504, sharpe]))
    assert ledger.summary(FAMILY).sharpes == (0.001, 0.002)
    assert ledger.record_batch(fasts(1, 7)) == BatchCount(new=3, points=6, total=6, duplicate=False)
    assert ledger.record([trial(0.001, fast=1)])[0].duplicate


POINTS = st.lists(st.tuples(st.integers(1, 4), st.sampled_from([0.1, 0.2, None])), max_size=6)


@given(st.lists(st.tuples(st.booleans(), POINTS), max_size=6))
def test_counts_equal_those_of_a_set_of_all_keys(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[bool, list[tuple[int, float | None]]]]
) -> None:
    ledger = TrialLedger(tmp_path_factory.mktemp("counts") / "t.sqlite")
    keys: set[str] = set()
    for alone, tried in steps:
        singles = [trial(sharpe, fast=fast) for fast, sharpe in tried]
        before = len(keys)
        keys.update(single.key for single in singles)
        if alone:
            ledger.record(singles)
        else:
            sharpes = [math.nan if sharpe is None else sharpe for _, sharpe in tried]
            counted = ledger.record_batch(batch({"strategy.fast": [fast for fast, _ in tried]}, sharpes))
            assert (counted.new, counted.total) == (len(keys) - before, len(keys))
        assert ledger.summary(FAMILY).count == len(keys)
    ledger.close()


# What others do to the file


def test_another_ledger_under_the_same_name_is_counted_afresh(ledger: TrialLedger) -> None:
    ledger.record_batch(fasts(0, 10))
    ledger.close()
    for path in ledger.path.parent.glob("trials.sqlite*"):
        path.unlink()
    assert ledger.families() == {}
    assert ledger.record_batch(fasts(5, 20)) == BatchCount(new=15, points=15, total=15, duplicate=False)


def test_what_another_process_records_is_counted(ledger: TrialLedger) -> None:
    ledger.record_batch(fasts(0, 10))
    elsewhere = multiprocessing.get_context("spawn").Process(target=_record_once, args=(ledger.path,))
    elsewhere.start()
    elsewhere.join(60)
    assert elsewhere.exitcode == 0
    assert ledger.families() == {FAMILY: 13}
    assert ledger.record_batch(fasts(8, 20)) == BatchCount(new=7, points=12, total=20, duplicate=False)


def _record_once(path: Path) -> None:
    TrialLedger(path).record_batch(fasts(5, 13))


def _record_many(path: Path, start: int, ready: Callable[[], object], news: Any) -> None:
    ready()
    ledger = TrialLedger(path)
    found = [ledger.record_batch(fasts(100 * k + start, 100 * k + start + 80)).new for k in range(20)]
    assert ledger.record([trial(0.9, fast=99_999)])[0].duplicate
    news.put(sum(found))


def test_two_processes_record_at_once_and_no_trial_is_new_twice(ledger: TrialLedger) -> None:
    context = multiprocessing.get_context("fork")
    ledger.record([trial(0.9, fast=99_999)])  # the parent's open file must not be used by its children
    barrier, news = context.Barrier(2), context.Queue()
    workers = [context.Process(target=_record_many, args=(ledger.path, s, barrier.wait, news)) for s in (0, 40)]
    for worker in workers:
        worker.start()
    found = sum(news.get(timeout=60) for _ in workers)
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    # [100 k, 100 k + 80) and [100 k + 40, 100 k + 120) for k = 0 .. 19 cover 0 .. 2019, with overlaps
    assert found == 2020
    assert ledger.families() == {FAMILY: 2020 + 1}
    with Ledger(ledger.path, read_only=True) as chain:
        assert chain.verify().ok


def test_a_changed_digit_of_a_packed_column_breaks_the_chain(ledger: TrialLedger) -> None:
    ledger.record_batch(fasts(0, 10))
    ledger.record_batch(fasts(20, 30))
    ledger.close()
    packed = batch_to_dict(fasts(0, 10))["points"]["strategy.fast"]["data"]
    _tamper(ledger.path, packed, packed[:-4] + "B" + packed[-3:])
    with Ledger(ledger.path, read_only=True) as chain:
        found = chain.verify()
    assert (found.ok, found.sequence) == (False, 1)
    assert "entry 1 was edited" in found.problem


def test_an_unreadable_batch_is_named_not_skipped(ledger: TrialLedger) -> None:
    ledger.record_batch(fasts(0, 10))
    ledger.close()
    _tamper(ledger.path, "<f8", "<c8")
    with pytest.raises(LedgerError, match=r"a batch of trials cannot be read.*verify\(\)"):
        ledger.summary(FAMILY)


def _tamper(path: Path, old: str, new: str) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TRIGGER entry_is_final")
        connection.execute("UPDATE entry SET body = replace(body, ?, ?) WHERE sequence = 1", (old, new))
        connection.execute(_SCHEMA["entry_is_final"])
    connection.close()


def test_an_interrupted_count_is_done_again(ledger: TrialLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger.record([dataclasses.replace(trial(0.9), family="another")])

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("tradelib.backtest.trials.batch_from_dict", interrupted)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                ledger.record_batch(fasts(5, 15))
    assert ledger.families() == {FAMILY: 10, "another": 1}  # written before the interruption, counted after it
    assert ledger.record_batch(fasts(5, 15)).duplicate


@pytest.mark.parametrize("since", [0, 1, 2])
def test_a_history_that_was_cut_back_under_an_open_ledger_is_counted_again(ledger: TrialLedger, since: int) -> None:
    ledger.record_batch(fasts(0, 10))
    ledger.record_batch(fasts(10, 20))
    with sqlite3.connect(ledger.path) as connection:
        connection.execute("DROP TRIGGER entry_stays")
        connection.execute("DELETE FROM entry WHERE sequence = 2")
        connection.execute(_SCHEMA["entry_stays"])
    connection.close()
    with Ledger(ledger.path) as elsewhere:  # where it has grown since, the count that was kept does not fit
        for start in range(100, 100 + since):
            elsewhere.append("trials", batch_to_dict(fasts(start, start + 1)))
    assert ledger.summary(FAMILY).count == 10 + since
