"""What people are told of an error that nobody foresaw: kind, words and line; a traceback once; secrets never."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from tests.live.support import HASTE
from tradelib.errors import RunnerError
from tradelib.ledger import journal
from tradelib.live.journals import TraderJournal
from tradelib.live.mishaps import explain, is_unforeseen
from tradelib.live.patience import Insistence
from tradelib.live.supervisor import Seat, Supervisor
from tradelib.live.users import new_token

SECRET = "kQ7vT2xWm4Zp"


def raised(work: Any) -> Exception:
    try:
        work()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what is looked at
        return error
    raise AssertionError("nothing was raised")


def test_a_fault_is_told_with_its_words_and_the_line_of_this_package() -> None:
    error = raised(lambda: new_token("anna", None))  # type: ignore[arg-type]
    assert is_unforeseen(error)
    kind, _, rest = explain(error).partition(": ")
    assert kind == type(error).__name__
    assert str(error) in rest
    assert rest.rpartition(" (")[2].startswith("live/users.py:")


def test_a_fault_elsewhere_names_the_file_where_it_happened() -> None:
    assert explain(raised(lambda: list[int]()[1])).startswith("IndexError: list index out of range (test_mishaps.py:")
    assert explain(KeyError()) == "KeyError"


@pytest.mark.parametrize(
    "error", [RunnerError("said by us"), ConnectionError("https://x/?signature=1"), TimeoutError()]
)
def test_verdicts_and_the_network_are_told_as_ever(error: Exception) -> None:
    assert not is_unforeseen(error)
    assert explain(error) in ("said by us", "ConnectionError", "TimeoutError")


def test_secrets_are_blanked_and_long_words_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADELIB_API_SECRET", SECRET)
    told = explain(ValueError(f"cannot read {SECRET}, signature=abcdef " + "x" * 2_000))
    assert SECRET not in told
    assert "abcdef" not in told
    assert len(told) < 400


class Faulty:
    """A trader with a fault in it."""

    name, started, over, ended, due = "trend BTC/USDT", True, False, "", True

    async def decide(self) -> None:
        quantity: Any = None
        raise TypeError(f"{SECRET}: {quantity} is no number")


def test_a_fault_ends_its_trader_with_one_traceback_and_is_named_everywhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Log (once, whole), journal and status; the alert is the log's message, without the traceback."""
    monkeypatch.setenv("TRADELIB_API_SECRET", SECRET)
    with TraderJournal(tmp_path / "j") as log:
        seat = Seat(lambda: Faulty(), log)  # type: ignore[arg-type, return-value]
        asyncio.run(Supervisor([seat], Insistence(HASTE), asyncio.Event()).freely())
        (halt,) = journal.halts(log)
    told = "TypeError: ***: None is no number (live/supervisor.py:"
    (record,) = [record for record in caplog.records if record.levelno == logging.CRITICAL]
    assert record.exc_info is not None
    assert "in decide" in caplog.text
    assert record.getMessage().startswith(f"trend BTC/USDT is halted: {told}")
    assert seat.problem.startswith(told)
    assert ", test_mishaps.py:" in seat.problem
    assert halt["reason"] == seat.problem


def test_a_verdict_has_no_traceback(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Halted(Faulty):
        async def decide(self) -> None:
            raise RunnerError("not trading on contradictory data")

    with TraderJournal(tmp_path / "j") as log:
        seat = Seat(lambda: Halted(), log)  # type: ignore[arg-type, return-value]
        asyncio.run(Supervisor([seat], Insistence(HASTE), asyncio.Event()).freely())
    assert "Traceback" not in caplog.text
    assert seat.problem == "not trading on contradictory data"
