"""Every way we know to make a result look luckier than it is, tried against the ledger."""

from __future__ import annotations

import ast
import dataclasses
import math
import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.environment import PROJECT
from tradelib.backtest import Order, run, run_orders, run_portfolio, run_positions, run_signals, run_weights, sweep
from tradelib.backtest.decision import DecisionRule
from tradelib.backtest.engine import evaluate
from tradelib.backtest.trials import Trial, TrialLedger
from tradelib.data import make_bars, resample
from tradelib.errors import LedgerError
from tradelib.home import project_home
from tradelib.indicators import probe_bars
from tradelib.ledger.anchor import Anchor
from tradelib.ledger.chain import Ledger
from tradelib.strategies import Strategy, TrendFollowing
from tradelib.validation.sharpe import counted_trials

BARS = probe_bars(400, seed=7)
FAMILY = "TrendFollowing|PROBE|1d"
RULE = TrendFollowing(fast=5, slow=20)


def named(bars: pd.DataFrame, symbol: str) -> pd.DataFrame:
    return make_bars(bars, symbol=symbol, timeframe="1d", source="probe", calendar=bars.attrs["calendar"])


def trial(family: str, sharpe: float | None, **rule: Any) -> Trial:
    window = ("2000-01-01T00:00:00+00:00", "2001-12-31T00:00:00+00:00")
    return Trial(family, rule or {"fast": 1}, {"calendar": "24/7"}, "ab" * 32, window, 504, sharpe)


def competing(family: str = FAMILY) -> int:
    return TrialLedger().summary(family).count


# -- a door that does not count ----------------------------------------------------------------------------------------

ALWAYS = pd.Series(1.0, BARS.index)
HALF = BARS.index[200]
DOORS: dict[str, Callable[[], object]] = {
    "run": lambda: run(RULE, BARS),
    "evaluate": lambda: evaluate(RULE, BARS),
    "run_signals": lambda: run_signals(ALWAYS > 0, None, BARS),
    "run_weights": lambda: run_weights(ALWAYS / 2, BARS),
    "run_positions": lambda: run_positions(ALWAYS, BARS),
    "run_portfolio": lambda: run_portfolio(RULE, BARS),
    "run_orders": lambda: run_orders([Order(symbol="PROBE", side="buy", quantity=1.0, time=BARS.index[50])], BARS),
    "sweep": lambda: sweep(RULE, BARS, {"strategy.fast": [5]}, start=HALF),
}


@pytest.mark.parametrize("door", DOORS)
def test_every_door_counts_once_and_the_same_again_is_the_same_trial(door: str) -> None:
    DOORS[door]()
    DOORS[door]()
    assert competing() == 1


def test_a_point_of_a_sweep_looked_at_in_full_is_no_second_trial_and_on_other_bars_it_is_one() -> None:
    swept = sweep(RULE, BARS, {"strategy.fast": [5, 6]}, start=HALF)
    swept.result(BARS)
    assert competing() == 2
    swept.result(probe_bars(400, seed=8))
    assert competing() == 3


MAY_REPLAY = {
    "tradelib/backtest/engine.py",  # its home
    "tradelib/bundle/account.py",  # the golden account of a rule that was chosen
    "tradelib/promotion/evidence.py",  # walks forward, and records what it chose as one trial
    "tradelib/promotion/safety_gates.py",  # is the same decided twice, and by another engine
    "tradelib/promotion/attributing.py",  # the live window as research would have traded it
    "tradelib/promotion/parity.py",  # did the paper account do what research says
    "pipelines/candidates.py",  # which figures there are, on made-up bars
    "pipelines/verdict.py",  # the paper window of a sealed bundle
}


def test_only_what_compares_may_replay_without_counting() -> None:
    files = [path for room in ("tradelib", "pipelines") for path in (PROJECT / room).rglob("*.py")]
    users = {str(path.relative_to(PROJECT)) for path in files if "replay" in _names(path)}
    assert users - MAY_REPLAY == set()


def _names(path: Path) -> set[str]:
    """What a file takes from the engine: names imported from it, and attributes of it."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    froms = [node for node in nodes if isinstance(node, ast.ImportFrom) and (node.module or "").endswith("engine")]
    attributes = [node for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)]
    used = {node.attr for node in attributes if isinstance(node.value, ast.Name) and node.value.id == "engine"}
    return used | {alias.name for node in froms for alias in node.names}


# -- another name ------------------------------------------------------------------------------------------------------


def test_a_subclass_a_copy_and_a_free_name_compete_with_what_was_there_before() -> None:
    class Improved(TrendFollowing):
        pass

    class Unrelated(Strategy):
        level: float = 0.0

        def signals(self, bars: pd.DataFrame) -> pd.Series:
            return (bars["close"].diff() > self.level).astype(float)

    run(RULE, BARS)
    run(Improved(fast=5, slow=21), BARS)
    run(Unrelated(), BARS)
    for name in ("first idea", "second idea"):
        run_signals(
            BARS["close"].diff() > (0 if name == "first idea" else 1), BARS["close"].diff() < 0, BARS, name=name
        )
    assert competing() == 5
    assert competing("first idea|PROBE|1d") == 5
    assert TrialLedger().families()[FAMILY] == 1  # the display tells them apart


@pytest.mark.parametrize("spelling", ["BTC-USDT", "btc/usdt", "BTC_USDT", "btcusdt"])
def test_another_spelling_is_no_other_market(spelling: str) -> None:
    TrialLedger().record([trial("A|BTC/USDT|1d", 0.1), trial(f"A|{spelling}|1d", 0.2)])
    assert competing("A|BTC/USDT|1d") == 2


def test_the_same_bars_under_an_invented_symbol_are_recognised_by_what_comes_out() -> None:
    run(RULE, BARS)
    run(RULE, named(BARS, "MINE/USDT"))
    run(TrendFollowing(fast=6, slow=20), named(BARS, "MINE/USDT"))
    assert competing() == competing("TrendFollowing|MINE/USDT|1d") == 3


def test_an_account_that_never_trades_does_not_join_markets() -> None:
    TrialLedger().record([trial("A|ONE|1d", None), trial("A|TWO|1d", None), trial("A|ONE|1d", 0.0, x=1)])
    TrialLedger().record([trial("A|TWO|1d", 0.0, x=1)])
    assert (competing("A|ONE|1d"), competing("A|TWO|1d")) == (2, 2)


def test_markets_that_are_joined_through_a_third_are_one() -> None:
    TrialLedger().record(
        [trial("A|ONE|1d", 0.1), trial("A|TWO|1d", 0.1), trial("A|TWO|1d", 0.2), trial("A|THREE|1d", 0.2)]
    )
    assert {competing(f"A|{name}|1d") for name in ("ONE", "TWO", "THREE")} == {4}


def test_a_symbol_added_to_the_panel_is_no_way_out() -> None:
    TrialLedger().record([trial("A|ONE|1d", 0.1), trial("portfolio|ONE+JUNK|1d", 0.2), trial("A|OTHER|1d", 0.3)])
    assert competing("portfolio|ONE+JUNK|1d") == competing("A|ONE|1d") == 2


def test_another_timeframe_competes_in_the_same_unit() -> None:
    """Given 0.1 a day and 0.05 an hour around the clock, the hourly one is 0.05 * sqrt(24) a day."""
    TrialLedger().record([trial("A|ONE|1d", 0.1), trial("A|ONE|1h", 0.05)])
    assert TrialLedger().summary("A|ONE|1d").sharpes == pytest.approx((0.1, 0.05 * math.sqrt(24)))
    run(RULE, BARS)
    run(RULE, resample(BARS, "1w"))
    assert competing() == 2


# -- another window, another seed, edited code -------------------------------------------------------------------------


def test_one_bar_more_another_start_and_another_seed_are_trials() -> None:
    run(RULE, BARS)
    run(RULE, BARS, end=BARS.index[-2])
    run(RULE, BARS, start=BARS.index[30])
    run(RULE, probe_bars(400, seed=8))
    assert competing() == 4


def test_code_edited_under_the_same_name_and_parameters_is_another_trial() -> None:
    def strategy(lag: int) -> Strategy:
        class Edited(Strategy):
            def signals(self, bars: pd.DataFrame) -> pd.Series:
                return (bars["close"].diff(lag) > 0).astype(float)

        return Edited()

    run(strategy(1), BARS)
    run(strategy(2), BARS)
    run(strategy(1), BARS)
    assert TrialLedger().families() == {"Edited|PROBE|1d": 2}


# -- another file ------------------------------------------------------------------------------------------------------


def recorded(count: int) -> str:
    """That many trials in the project's ledger; its anchor."""
    TrialLedger().record(trial("A|ONE|1d", 0.01 * k, fast=k) for k in range(count))
    return str(TrialLedger().anchor())


def test_a_ledger_that_grew_continues_and_its_chain_verifies() -> None:
    kept = recorded(5)
    TrialLedger().record([trial("A|ONE|1d", 0.9, fast=99)])
    assert TrialLedger().verify(kept).ok
    TrialLedger().assert_continues({"here": kept})
    assert Anchor.parse(kept).trials == 5


def remove(path: Path) -> None:
    TrialLedger(path).close()
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()


def test_a_deleted_ledger_is_missed() -> None:
    kept = recorded(5)
    remove(TrialLedger().path)
    with pytest.raises(LedgerError, match=r"MLflow run 1 knows: it had 5 trials in 5 entries, this one has 0"):
        TrialLedger().assert_continues({"MLflow run 1": kept})
    assert not TrialLedger().verify(kept).ok
    TrialLedger().record([trial("A|ONE|1d", 0.01, fast=1)])
    assert not TrialLedger().verify(kept).ok  # a new one, with the best trial only


def test_another_ledger_of_the_same_length_is_another_one() -> None:
    kept = recorded(5)
    remove(TrialLedger().path)
    recorded(5)  # the same trials, but written at another time
    assert "entry 5 was another one" in TrialLedger().verify(kept).problem


def test_a_tail_that_was_cut_off_is_missed_though_the_chain_is_sound() -> None:
    kept, path = recorded(5), TrialLedger().path
    TrialLedger().close()
    with sqlite3.connect(path) as connection:
        trigger = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'entry_stays'").fetchone()[0]
        connection.execute("DROP TRIGGER entry_stays")
        connection.execute("DELETE FROM entry WHERE sequence > 2")
        connection.execute(trigger)
    connection.close()
    assert TrialLedger().verify().ok
    assert "it had 5 trials in 5 entries, this one has 2 entries" in TrialLedger().verify(kept).problem


def test_an_empty_home_is_another_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = recorded(5)
    monkeypatch.setenv("TRADELIB_HOME", str(tmp_path / "fresh"))
    assert not TrialLedger().verify(kept).ok


def test_an_older_copy_put_in_its_place_is_missed(tmp_path: Path) -> None:
    recorded(2)
    path = TrialLedger().path
    shutil.copy(path, tmp_path / "older")
    kept = recorded(5)
    remove(path)
    shutil.copy(tmp_path / "older", path)
    assert "this one has 2 entries" in TrialLedger().verify(kept).problem


def test_a_lost_ledger_is_given_up_in_words_and_stays_in_every_count() -> None:
    kept = [recorded(2), recorded(5)]
    remove(TrialLedger().path)
    with pytest.raises(LedgerError, match="say what became of it"):
        TrialLedger().record_loss(kept, " ")
    assert TrialLedger().record_loss(kept, "the disk failed") == 5
    TrialLedger().record([trial("A|ONE|1d", 0.5), trial("A|TWO|1d", 0.6)])
    TrialLedger().assert_continues(dict(enumerate(kept)) | {"now": TrialLedger().anchor()})  # type: ignore[arg-type]
    assert TrialLedger().verify(*kept).ok
    assert (competing("A|ONE|1d"), competing("A|TWO|1d")) == (1 + 5, 1 + 5)
    assert TrialLedger().summary("A|ONE|1d").lost == 5
    assert TrialLedger().anchor().trials == 2 + 5
    assert "5 more in a ledger that was lost" in repr(TrialLedger())
    with pytest.raises(LedgerError, match="give the anchors of a ledger that is gone"):
        TrialLedger().record_loss([TrialLedger().anchor()], "nothing was lost")


def test_counting_elsewhere_leaves_a_trace_in_the_projects_ledger(tmp_path: Path) -> None:
    for name in ("mine", "mine", "other"):
        run(RULE, BARS, ledger=TrialLedger(tmp_path / name))
    sweep(RULE, BARS, {"strategy.fast": [5, 6]}, ledger=TrialLedger(tmp_path / "third"))
    assert TrialLedger().summary(FAMILY).elsewhere == 3
    assert repr(TrialLedger()).endswith("0 families, 0 trials, 3 other ledgers written to)")


def test_what_was_counted_elsewhere_is_counted_here_when_it_is_judged(tmp_path: Path) -> None:
    result = run(RULE, BARS, ledger=TrialLedger(tmp_path / "mine"))
    run(TrendFollowing(fast=6, slow=20), BARS)
    assert counted_trials(result).count == 2


def test_a_copy_of_the_project_in_which_dvc_runs_an_experiment_has_the_projects_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`dvc exp run --temp` and `--queue` run in `.dvc/tmp/exps/<copy>`, and delete the copy."""
    copy = tmp_path / ".dvc" / "tmp" / "exps" / "tmp4h8c" / "nbs"
    copy.mkdir(parents=True)
    for folder in (tmp_path, copy.parent):
        (folder / "settings.ini").touch()
    monkeypatch.delenv("TRADELIB_HOME")
    monkeypatch.chdir(copy)
    assert project_home(create=False) == tmp_path / ".tradelib"
    (tmp_path / "settings.ini").unlink()  # not below a project: the folder is just called so
    assert project_home(create=False) == copy.parent / ".tradelib"


# -- what stops in the middle ------------------------------------------------------------------------------------------


def test_where_nothing_can_be_recorded_nothing_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk and a folder that may not be written end in the same error."""

    def full(*_: Any) -> Any:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(Ledger, "_insert", full)
    for door in ("run", "evaluate", "sweep"):
        with pytest.raises(LedgerError):
            DOORS[door]()


def test_a_file_of_a_sweep_never_holds_a_point_that_was_not_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a sweep that is killed in the middle, whoever reads the figures from its file finds them counted."""
    monkeypatch.setattr("tradelib.backtest.checkpoint._EVERY", 0.0)
    seen: list[tuple[int, int]] = []
    write = Path.replace

    def observed(part: Path, target: Path) -> Path:
        with np.load(part) as held:
            seen.append((len(held["figures"]), sum(TrialLedger().families().values())))
        return write(part, target)

    monkeypatch.setattr(Path, "replace", observed)
    grid = {"strategy.fast": list(range(2, 18)), "strategy.slow": list(range(20, 60))}
    swept = sweep(RULE, BARS, grid, start=HALF, resume=tmp_path / "file", workers=1)
    assert len(seen) >= 3
    assert all(held == counted for held, counted in seen)
    assert swept.new_trials == len(swept.frame) == 640
    assert competing() == 640


@pytest.mark.integration
def test_processes_that_record_at_once_lose_nothing(home: Path) -> None:
    code = """
        import sys
        from tradelib.backtest import run
        from tradelib.indicators import probe_bars
        from tradelib.strategies import TrendFollowing
        bars = probe_bars(400, seed=7)
        for slow in range(20, 30):
            for fast in (5, int(sys.argv[1])):
                run(TrendFollowing(fast=fast, slow=slow), bars)
    """
    environment = os.environ | {"TRADELIB_HOME": str(home)}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    children = [subprocess.Popen([*command, fast], env=environment) for fast in ("6", "7")]
    assert [child.wait(120) for child in children] == [0, 0]
    assert competing() == 30  # fast = 5 of both, 6 of one, 7 of the other
    assert TrialLedger().verify().ok


# -- how it looks ------------------------------------------------------------------------------------------------------


def test_the_history_has_a_row_per_entry_with_its_digest() -> None:
    run(RULE, BARS)
    sweep(RULE, BARS, {"strategy.fast": [5, 6, 7]})
    frame = TrialLedger().to_frame()
    assert frame[["family", "points", "new"]].to_numpy().tolist() == [[FAMILY, 1, 1], [FAMILY, 3, 3]]
    assert frame["time"].is_monotonic_increasing
    assert frame["digest"].str.fullmatch("[0-9a-f]{64}").all()
    assert TrialLedger(Path("nowhere")).to_frame().empty


def test_a_summary_is_plain_data_without_what_differs_between_machines() -> None:
    run(DecisionRule(strategy=RULE), BARS)
    summary = TrialLedger().summary(FAMILY)
    told = summary.to_dict()
    assert set(told) == {"family", "families", "count", "lost", "sharpes", "variance_of_sharpe"}
    assert dataclasses.asdict(summary)["anchor"] == str(TrialLedger().anchor())
