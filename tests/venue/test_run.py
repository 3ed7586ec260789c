"""`run_venue`: what `tradelib venue` does, as a process with signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.venue.support import DAY, FIRST, KEY, SECRET, ask, recorded
from tradelib.data.files import write_bars
from tradelib.errors import TradelibError, VenueError
from tradelib.venue import run_venue

pytestmark = pytest.mark.integration

PROGRAM = """
import sys
from tradelib.venue import run_venue
run_venue([sys.argv[1]], symbols=["SPX/USDT"], port=0, start="2018-01-05", cash=5_000.0,
          announce=lambda line: print(line, flush=True))
print("clean exit")
"""


@pytest.fixture
def bars_file(tmp_path: Path) -> Path:
    return write_bars(recorded(), tmp_path / "spx.parquet")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_told_to_stop(bars_file: Path, number: signal.Signals) -> None:
    environment = {**os.environ, "TRADELIB_API_KEY": KEY, "TRADELIB_API_SECRET": SECRET}
    command = [sys.executable, "-c", PROGRAM, str(bars_file)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as venue:
        assert venue.stdout is not None
        line = venue.stdout.readline()
        assert "SPXUSDT, first bar to trade 2018-01-05T00:00:00+00:00, 6 to go, pace poll" in line
        port = int(line.split("127.0.0.1:")[1].split(":")[0])
        assert ask(port, "/venue/v1/clock")[1]["clock"] == FIRST + 4 * DAY
        assert ask(port, "/api/v3/account", secret=SECRET)[1]["balances"][0] == {
            "asset": "USDT",
            "free": "5000.0",
            "locked": "0",
        }
        venue.send_signal(number)
        out, err = venue.communicate(timeout=10)
    assert venue.returncode == 0
    assert "stopped" in out
    assert out.endswith("clean exit\n")
    assert err == ""
    assert SECRET not in line + out


@pytest.mark.parametrize("missing", ["TRADELIB_API_KEY", "TRADELIB_API_SECRET"])
def test_a_missing_key_is_named_with_a_way_to_make_one(
    bars_file: Path, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRADELIB_API_KEY", KEY)
    monkeypatch.setenv("TRADELIB_API_SECRET", SECRET)
    monkeypatch.setenv(missing, " ")
    with pytest.raises(VenueError, match=f"set {missing}.*\n.*export TRADELIB_API_KEY.*\n.*secrets.token_hex"):
        run_venue([bars_file], announce=print)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"symbols": ["SPX/USDT", "BTC/USDT"]}, "2 symbols for 1 files"),
        ({}, "symbol 'SPX' names no market"),
        ({"symbols": ["SPX/USDT"], "start": "2030-01-01"}, "nothing is left to trade"),
        ({"symbols": ["SPX/USDT"], "pace": "real"}, "pace 'real' needs a positive number"),
        ({"bars": []}, "at least one market"),
        ({"bars": ["nowhere.csv"]}, "nowhere.csv"),
    ],
)
def test_what_cannot_be_served_is_refused_before_it_listens(
    bars_file: Path, change: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRADELIB_API_KEY", KEY)
    monkeypatch.setenv("TRADELIB_API_SECRET", SECRET)
    said: list[str] = []
    with pytest.raises(TradelibError, match=message):
        run_venue(**{"bars": [bars_file], "announce": said.append, **change})
    assert said == []


def started(*arguments: Any) -> tuple[subprocess.Popen[str], int, str]:
    """`tradelib venue` as a process that listens; its port and what it announced."""
    environment = {**os.environ, "TRADELIB_API_KEY": KEY, "TRADELIB_API_SECRET": SECRET}
    command = [str(Path(sys.executable).with_name("tradelib")), "venue", "--port", "0", *map(str, arguments)]
    venue = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert venue.stdout is not None
    line = ""
    while "127.0.0.1:" not in line:
        line = venue.stdout.readline()
        assert line, "the venue ended before it listened"
    return venue, int(line.split("127.0.0.1:")[1].split(":")[0]), line


def test_a_killed_venue_comes_back_with_its_account_and_its_faults(bars_file: Path, tmp_path: Path) -> None:
    plan, state = tmp_path / "plan.json", tmp_path / "account.json"
    plan.write_text('{"seed": 1, "faults": [{"kind": "status", "on": "account", "status": 503, "times": 1}]}')
    given = (bars_file, "--symbol", "SPX/USDT", "--pace", "manual", "--faults", plan, "--state", state)
    order = {"symbol": "SPXUSDT", "side": "BUY", "type": "MARKET", "quantity": "2"}
    venue, port, _ = started(*given)
    with venue:
        assert ask(port, "/api/v3/account", secret=SECRET)[0] == 503
        assert ask(port, "/api/v3/order", order, method="POST", secret=SECRET)[0] == 200
        until = time.monotonic() + 10.0
        while not state.exists():
            assert time.monotonic() < until
            time.sleep(0.02)
        venue.kill()
    venue, port, _ = started(*given)
    with venue:
        assert ask(port, "/api/v3/account", secret=SECRET)[0] == 503  # the plan begins anew
        rows = ask(port, "/api/v3/account", secret=SECRET)[1]["balances"]
        venue.terminate()
    assert rows[1] == {"asset": "SPX", "free": "2.0", "locked": "0"}


def test_recorded_trades_make_a_market_in_real_time(tmp_path: Path) -> None:
    path = tmp_path / "trades.csv"
    lines = [f"{FIRST + 20_000 * n},{100 + n},1" for n in range(12)]
    path.write_text("\n".join(["time,price,quantity", *lines]) + "\n")
    venue, port, line = started(
        path, "--symbol", "BTC/USDT", "--timeframe", "1m", "--pace", "real", "--seconds-per-bar", "0.01"
    )
    with venue:
        assert "BTCUSDT" in line
        until = time.monotonic() + 10.0
        while not ask(port, "/venue/v1/clock")[1]["finished"]:
            assert time.monotonic() < until
            time.sleep(0.02)
        rows = ask(port, "/api/v3/klines", {"symbol": "BTCUSDT", "interval": "1m"})[1]
        venue.terminate()
    found = [[float(value) for value in row[1:6]] for row in rows[:2]]
    assert found == [[100, 102, 100, 102, 3], [103, 105, 103, 105, 3]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"faults": "nowhere.json"}, "fault plan nowhere.json"),
        ({"dialect": "morse"}, "dialect 'morse' is unknown"),
        ({"timeframe": "1m", "symbols": None}, "names no market: give symbols"),
        ({"live": "moonbase"}, "no exchange 'moonbase'"),
        ({"live": "binance", "symbols": None}, "live public data needs symbols"),
    ],
)
def test_settings_that_cannot_be_served(
    bars_file: Path, change: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRADELIB_API_KEY", KEY)
    monkeypatch.setenv("TRADELIB_API_SECRET", SECRET)
    said: list[str] = []
    with pytest.raises(TradelibError, match=message):
        run_venue(**{"bars": [bars_file], "symbols": ["SPX/USDT"], "announce": said.append, **change})
    assert said == []
