"""The kill switch stays down, through restarts, kill -9, full disks and other processes, until lifted in writing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tradelib.errors import LedgerError, RunnerError
from tradelib.ledger import Ledger, journal, open_journal
from tradelib.live.latch import Latch, Level, Scope

ACCOUNT, TREND, BTC = Scope("account"), Scope("bundle", "trend"), Scope("symbol", "BTC/USDT")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "operations.sqlite"


@pytest.fixture
def log(path: Path):
    with open_journal(path) as opened:
        yield opened


@pytest.mark.parametrize(
    ("scope", "covered"),
    [
        ("account", {("trend", "BTC/USDT"), ("trend", "ETH/USDT"), ("pairs", "BTC/USDT"), ("pairs", "ETH/USDT")}),
        ("bundle:trend", {("trend", "BTC/USDT"), ("trend", "ETH/USDT")}),
        ("symbol:BTC/USDT", {("trend", "BTC/USDT"), ("pairs", "BTC/USDT")}),
    ],
)
def test_a_halt_holds_for_its_scope_and_nothing_else(log: Ledger, scope: str, covered: set) -> None:
    latch = Latch(log)
    latch.halt(Scope.parse(scope), "alice", "looks wrong")

    traders = [(bundle, symbol) for bundle in ("trend", "pairs") for symbol in ("BTC/USDT", "ETH/USDT")]

    assert {trader for trader in traders if latch.halted(*trader)} == covered


def test_a_halt_outlives_the_process_that_made_it(path: Path) -> None:
    with open_journal(path) as log:
        Latch(log).halt(TREND, "alice", "looks wrong")

    with open_journal(path) as log:
        (halt,) = Latch(log).halts

    assert (str(halt.scope), halt.who, halt.why, halt.number) == ("bundle:trend", "alice", "looks wrong", 1)


CHILD = """
import os, signal, sys
from pathlib import Path
from tradelib.ledger import open_journal
from tradelib.live.latch import Latch, Level, Scope
latch = Latch(open_journal(Path(sys.argv[1])))
for name in sys.argv[2:]:
    latch.halt(Scope.parse(name), "alice", "drill", level=Level.STOP)
    print(name, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_every_halt_that_was_answered_holds_after_kill_9(path: Path) -> None:
    scopes = ["symbol:BTC/USDT", "bundle:trend", "account"]
    child = subprocess.run([sys.executable, "-c", CHILD, str(path), *scopes], capture_output=True, text=True)
    assert child.returncode == -signal.SIGKILL, child.stderr
    assert child.stdout.split() == scopes

    with open_journal(path) as log:
        assert log.verify().ok
        latch = Latch(log)
        assert {str(halt.scope) for halt in latch.halts} == set(scopes)
        assert latch.halted("any", "ANY/USDT").level is Level.STOP


ENDLESS = """
import sys
from pathlib import Path
from tradelib.ledger import open_journal
from tradelib.live.latch import Latch, Scope
latch = Latch(open_journal(Path(sys.argv[1])))
number = 0
while True:
    latch.halt(Scope("symbol", str(number)), "alice", "drill")
    print(number, flush=True)
    number += 1
"""


@pytest.mark.parametrize("answers", [1, 7, 23])
def test_a_process_killed_from_outside_loses_no_halt_that_it_answered(path: Path, answers: int) -> None:
    with subprocess.Popen([sys.executable, "-c", ENDLESS, str(path)], stdout=subprocess.PIPE, text=True) as child:
        answered = [int(child.stdout.readline()) for _ in range(answers)]
        os.kill(child.pid, signal.SIGKILL)
        answered += [int(line) for line in child.stdout if line.endswith("\n")]

    with open_journal(path) as log:
        assert log.verify().ok
        held = {int(halt.scope.name) for halt in Latch(log).halts}
    assert held >= set(answered)


def test_arming_is_written_with_who_as_what_and_why(log: Ledger) -> None:
    latch = Latch(log)
    latch.halt(ACCOUNT, "runner", "drawdown of 21 %", cause="maximum_drawdown")

    (lifted,) = latch.arm(ACCOUNT, "bob", "approve", "checked with the desk", numbers=[1])

    assert lifted.why == "drawdown of 21 %"
    assert latch.halts == ()
    written = journal.bodies(log, journal.LATCH)[-1]
    assert {name: written[name] for name in ("scope", "subject", "engaged", "by", "role", "reason", "cause")} == {
        "scope": "account", "subject": "", "engaged": False, "by": "bob", "role": "approve",
        "reason": "checked with the desk", "cause": "maximum_drawdown",
    }  # fmt: skip


def test_a_halt_that_came_after_somebody_looked_is_not_lifted_unseen(log: Ledger) -> None:
    latch = Latch(log)
    seen = latch.halt(BTC, "alice", "first")
    latch.arm(BTC, "bob", "approve", "fine", numbers=[seen.number])
    latch.halt(BTC, "runner", "second")

    with pytest.raises(RunnerError, match=r"halted by entry 3 by runner: second. Asked for was 1"):
        latch.arm(BTC, "bob", "approve", "fine", numbers=[seen.number])

    assert latch.halted("any", "BTC/USDT")


def test_every_halt_is_kept_and_only_the_numbers_that_were_seen_are_lifted(path: Path, log: Ledger) -> None:
    latch = Latch(log)
    first = latch.halt(ACCOUNT, "runner", "balance of BTC differs", cause="reconciliation")
    second = latch.halt(ACCOUNT, "anna", "key may be stolen: nobody arms before I am back")

    assert [body["reason"] for body in journal.bodies(log, journal.LATCH)] == [first.why, second.why]
    assert latch.arm(ACCOUNT, "ben", "approve", "balance explained", numbers=[first.number]) == (first,)

    assert latch.halts == (second,)
    assert latch.halted("trend", "BTC/USDT") == second
    with open_journal(path) as other:  # and so it is for whoever comes later
        assert Latch(other).halts == (second,)
        assert journal.latches(other)["account", ""]["reason"] == second.why
    latch.arm(ACCOUNT, "anna", "approve", "it was not", numbers=[second.number])
    assert latch.halts == ()


def test_several_halts_are_lifted_together_or_not_at_all(log: Ledger) -> None:
    latch = Latch(log)
    numbers = [latch.halt(BTC, who, "x").number for who in ("alice", "bob")]

    for wrong in ([*numbers, 99], []):
        with pytest.raises(RunnerError, match="look at them, then arm by number"):
            latch.arm(BTC, "carol", "approve", "fine", numbers=wrong)
    assert len(latch.halts) == 2

    latch.arm(BTC, "carol", "approve", "fine", numbers=numbers)
    assert latch.halts == ()


def test_what_the_runner_finds_again_with_other_figures_is_the_same_halt(log: Ledger) -> None:
    latch = Latch(log)
    for figure in ("2.5", "2.75", "-1e-05"):
        latch.halt(BTC, "runner", f"the venue holds {figure}, the journal says 1", cause="reconciliation")
    latch.halt(BTC, "runner", "a trade that is not ours", cause="reconciliation")

    assert [halt.number for halt in latch.halts] == [1, 2]


def test_lifting_the_account_lifts_nothing_else(log: Ledger) -> None:
    latch = Latch(log)
    latch.halt(ACCOUNT, "alice", "all")
    latch.halt(BTC, "alice", "this one")

    latch.arm(ACCOUNT, "bob", "approve", "fine", numbers=[1])

    assert latch.halted("trend", "BTC/USDT").scope == BTC
    assert latch.halted("trend", "ETH/USDT") is None


def test_a_second_halt_never_makes_it_laxer(log: Ledger) -> None:
    latch = Latch(log)
    latch.halt(BTC, "alice", "careful")
    latch.halt(BTC, "bob", "everything", level=Level.STOP)
    latch.halt(BTC, "carol", "careful again", level=Level.REDUCE)

    assert latch.halted("any", "BTC/USDT").level is Level.STOP
    assert log.count(journal.LATCH) == 3


def test_the_strictest_of_several_halts_decides(log: Ledger) -> None:
    latch = Latch(log)
    latch.halt(ACCOUNT, "alice", "careful")
    latch.halt(BTC, "alice", "broken", level=Level.STOP)

    assert latch.halted("trend", "BTC/USDT").level is Level.STOP
    assert latch.halted("trend", "ETH/USDT").level is Level.REDUCE


def test_another_process_that_halts_is_heard_before_the_next_order(path: Path, log: Ledger) -> None:
    latch = Latch(log)
    with open_journal(path) as other:
        Latch(other).halt(ACCOUNT, "alice", "from a shell")

        assert latch.halted("trend", "BTC/USDT").why == "from a shell"
        assert not latch.refresh()  # nothing new

        Latch(other).arm(ACCOUNT, "bob", "approve", "fine", numbers=[1])
        assert latch.refresh()
    assert latch.halts == ()


def test_a_disk_that_refuses_halts_all_the_same_and_is_tried_again(log: Ledger, monkeypatch) -> None:
    latch = Latch(log)

    def full(*_: object) -> None:
        raise LedgerError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(log, "append", full)
        with pytest.raises(LedgerError, match="full"):
            latch.halt(ACCOUNT, "alice", "now")
        assert latch.halted("trend", "BTC/USDT").number == 0
        with pytest.raises(LedgerError, match="not on the disk yet"):  # lifting it would leave no trace: refused
            latch.arm(ACCOUNT, "bob", "approve", "fine", numbers=[0])

    assert latch.halted("trend", "BTC/USDT").number == 1
    assert log.count(journal.LATCH) == 1


def test_a_halt_that_could_not_be_written_is_not_lifted_by_somebody_who_never_saw_it(
    path: Path, log: Ledger, monkeypatch
) -> None:
    latch = Latch(log)
    with monkeypatch.context() as patched, open_journal(path) as other:
        patched.setattr(log, "append", lambda *_: (_ for _ in ()).throw(LedgerError("the disk is full")))
        with pytest.raises(LedgerError):
            latch.halt(ACCOUNT, "alice", "now")
        elsewhere = Latch(other)
        elsewhere.halt(ACCOUNT, "bob", "drill")
        elsewhere.arm(ACCOUNT, "bob", "approve", "drill is over", numbers=[1])

        assert latch.halted("trend", "BTC/USDT") is not None

    assert latch.halted("trend", "BTC/USDT") is not None
    assert [body["engaged"] for body in journal.bodies(log, journal.LATCH)] == [True, False, True]


def test_what_is_not_halted_cannot_be_armed(log: Ledger) -> None:
    latch = Latch(log)
    latch.halt(BTC, "alice", "x")
    with pytest.raises(RunnerError, match=r"bundle:trend is not halted: halted are symbol:BTC/USDT"):
        latch.arm(TREND, "bob", "approve", "fine", numbers=[1])


@pytest.mark.parametrize(("who", "why"), [("", "x"), ("alice", "  ")])
def test_nobody_halts_without_a_name_and_a_reason(log: Ledger, who: str, why: str) -> None:
    with pytest.raises(RunnerError, match="is empty"):
        Latch(log).halt(ACCOUNT, who, why)


@pytest.mark.parametrize("text", ["", "everything", "bundle:", "account:x", "symbol", "symbol:a\nb"])
def test_what_is_no_scope_is_refused(text: str) -> None:
    with pytest.raises(RunnerError):
        Scope.parse(text)


def test_an_entry_without_a_level_stops_everything(log: Ledger) -> None:
    journal.record(log, journal.LATCH, scope="symbol", subject="BTC/USDT", engaged=True, reason="books differ", by="x")

    assert Latch(log).halted("any", "BTC/USDT").level is Level.STOP


def test_a_broken_journal_lets_nothing_trade(path: Path) -> None:
    with open_journal(path) as log:
        latch = Latch(log)
        latch.halt(ACCOUNT, "alice", "looks wrong")
    path.write_bytes(path.read_bytes().replace(b'"engaged":true', b'"engaged":null'))

    with open_journal(path) as log, pytest.raises(RunnerError, match="nothing may trade"):
        Latch(log)
