"""The same sweep on a cluster: two worker processes, the same figures to the last bit, the bars sent once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest

from tradelib.backtest import Costs, DecisionRule, TrialLedger, search, sweep
from tradelib.indicators import probe_bars
from tradelib.risk.exits import Distance
from tradelib.strategies import TrendFollowing

distributed = pytest.importorskip("distributed")

BARS = probe_bars(3_000, seed=2)
RULE = DecisionRule(strategy=TrendFollowing(fast=3, slow=9), rebalance_band=None)
GRID = {
    "strategy.fast": range(2, 22),
    "strategy.slow": range(25, 35),
    "exits.stop_loss": [None, Distance(value=2, unit="atr")],
}

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Two worker processes with one thread each."""
    folder = tmp_path_factory.mktemp("workers")
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    options |= {"local_directory": str(folder), "host": "127.0.0.1"}
    before = dict(os.environ)
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        client.wait_for_workers(2)
        yield client
    os.environ.clear()  # dask leaves in this process what it sets for its workers: the number of threads of BLAS
    os.environ.update(before)


@pytest.fixture
def ledger(tmp_path) -> TrialLedger:
    return TrialLedger(tmp_path / "trials.sqlite")


def test_the_figures_and_the_trials_are_those_of_threads(client, ledger):
    here = sweep(RULE, BARS, GRID, costs=Costs(fee_rate=0.002), ledger=ledger)
    there = sweep(RULE, BARS, GRID, costs=Costs(fee_rate=0.002), ledger=ledger, client=client)
    pd.testing.assert_frame_equal(here.frame, there.frame, check_exact=True)
    assert (len(there.frame), here.new_trials, there.new_trials) == (400, 400, 0)
    assert here.skipped == there.skipped


@pytest.fixture
def sent(client, monkeypatch) -> list[Any]:
    """Market data that is sent to the workers."""
    found: list[Any] = []
    scatter = type(client).scatter

    def listen(self: Any, data: Any, **options: Any) -> Any:
        found.extend(item for item in data if hasattr(item, "panel"))
        return scatter(self, data, **options)

    monkeypatch.setattr(type(client), "scatter", listen)
    return found


def test_both_workers_work_and_the_bars_are_sent_once(client, ledger, sent):
    sweep(RULE, BARS, GRID, ledger=ledger, client=client)
    assert len(sent) == 2  # the market with the average true range, and without
    assert len({id(item.panel) for item in sent}) == 1
    done = client.run(lambda dask_worker: dask_worker.state.executed_count)
    assert len(done) == 2
    assert min(done.values()) > 0


def test_a_search_runs_there_too_and_sends_the_bars_once_for_all_its_batches(client, ledger, sent):
    space = {"strategy.fast": (2, 20), "strategy.slow": (25, 60)}
    here, there = (search(RULE, BARS, space, trials=48, ledger=ledger, client=where) for where in (None, client))
    pd.testing.assert_frame_equal(here.frame, there.frame, check_exact=True)
    assert len(sent) == 1


def test_a_file_keeps_what_the_cluster_finished(client, ledger, tmp_path):
    sweep(RULE, BARS, GRID, ledger=ledger, client=client, resume=tmp_path / "a")
    again = sweep(RULE, BARS, GRID, ledger=ledger, resume=tmp_path / "a")
    assert (len(again.frame), again.new_trials) == (400, 0)
