"""A runner in a process of its own, operated from outside: halted, killed, started again, armed, ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.support import KEY, SECRET, Sealed, seal, synthetic_bars
from tests.live.test_metrics import figures
from tradelib.errors import RunnerError
from tradelib.ledger import journal, open_journal
from tradelib.live.remote import ControlClient
from tradelib.live.users import Role, new_token
from tradelib.venue import PaperExchange, VenueMarket, VenueThread

pytestmark = [pytest.mark.integration, pytest.mark.slow]

PORT_LINE = "control server on "
SETTINGS = """
venue = "{venue}"
[[bundles]]
path = "{bundle}"
[feed]
poll_seconds = 0.01
[control]
port = 0
"""


@pytest.fixture(scope="module")
def operated(tmp_path_factory: pytest.TempPathFactory) -> Sealed:
    return seal(tmp_path_factory.mktemp("operated"), synthetic_bars(2_000))


@pytest.fixture
def venue(operated: Sealed) -> Iterator[VenueThread]:
    """A venue on which a bar takes 50 milliseconds, whoever asks for it."""
    terms = operated.bundle.execution
    market = VenueMarket(
        terms.symbol, operated.bars, fee_rate=terms.fee_rate, slippage=terms.slippage,
        lots_per_unit=terms.lots_per_unit, minimum_notional=terms.minimum_notional,
    )  # fmt: skip
    exchange = PaperExchange([market], cash=terms.cash, start=operated.bars.index[100], pace="real")
    with VenueThread(exchange, key=KEY, secret=SECRET, seconds_per_bar=0.05) as running:
        yield running


class Operated:
    """The runner's process: `start`, `kill`, and clients for its operators."""

    def __init__(self, folder: Path, sealed: Sealed, venue: VenueThread) -> None:
        self.folder = folder
        self.settings = folder / "runner.toml"
        self.settings.write_text(SETTINGS.format(venue=venue.url, bundle=sealed.bundle.path), encoding="utf-8")
        made = {name: new_token(name, role) for name, role in (("olga", Role.OPERATE), ("anna", Role.APPROVE))}
        self.tokens = {name: token for name, (token, _) in made.items()}
        home = folder / "home"
        (home / "trust").mkdir(parents=True)
        for key in (sealed.bundle.path.parent.parent / "trust").glob("*.pub"):
            (home / "trust" / key.name).write_bytes(key.read_bytes())
        self.environment = os.environ | {
            "TRADELIB_HOME": str(home),
            "TRADELIB_CONTROL_USERS": " ".join(entry for _, entry in made.values()),
        }
        self.process: Any = None
        self.url = ""

    def start(self) -> None:
        command = [sys.executable, "-m", "tradelib.cli", "run", "--settings", self.settings, "--log", "json", "--json"]
        self.process = subprocess.Popen(
            [str(part) for part in command], env=self.environment, cwd=self.folder, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        for line in self.process.stderr:
            message = json.loads(line)["message"] if line.startswith("{") else line
            if PORT_LINE in message:
                self.url = message.partition(PORT_LINE)[2].partition(": ")[0]
                return
        raise AssertionError(self.process.stdout.read())

    def as_(self, name: str) -> ControlClient:
        return ControlClient(self.url, environment={"TRADELIB_CONTROL_TOKEN": self.tokens[name]})

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.communicate()

    def journal(self) -> Path:
        (path,) = set(self.folder.glob("runner/*.sqlite")) - {self.folder / "runner" / "operations.sqlite"}
        return path

    def bodies(self, kind: str) -> list[dict[str, Any]]:
        with open_journal(self.journal(), read_only=True) as log:
            return journal.bodies(log, kind)


@pytest.fixture
def runner(tmp_path: Path, operated: Sealed, venue: VenueThread) -> Iterator[Operated]:
    made = Operated(tmp_path, operated, venue)
    yield made
    made.end()


def wait_until(true: Callable[[], Any], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.05)


def test_a_halt_holds_through_kill_9_and_a_restart_until_it_is_armed(runner: Operated) -> None:
    runner.start()
    wait_until(lambda: runner.bodies(journal.INTENT))
    number = runner.as_("olga").post("/v1/halt", scope="account", why="drill", level="stop")["result"]["number"]
    time.sleep(0.2)  # what passed the gate before the halt is written by now
    before = len(runner.bodies(journal.INTENT))
    runner.process.send_signal(signal.SIGKILL)
    runner.process.communicate()

    decided, refused = len(runner.bodies(journal.DECISION)), len(runner.bodies(journal.REFUSAL))

    runner.start()
    wait_until(lambda: len(runner.bodies(journal.REFUSAL)) > refused + 3)

    assert [halt["why"] for halt in runner.as_("olga").get("/v1/halts")["halts"]] == ["drill"]
    assert len(runner.bodies(journal.DECISION)) > decided
    assert len(runner.bodies(journal.INTENT)) == before
    assert {refusal["rule"] for refusal in runner.bodies(journal.REFUSAL)} == {"halted"}
    with pytest.raises(RunnerError, match="needs approve"):
        runner.as_("olga").post("/v1/arm", scope="account", why="fine", numbers=[number])

    runner.as_("anna").post("/v1/arm", scope="account", why="drill is over", numbers=[number])

    wait_until(lambda: len(runner.bodies(journal.INTENT)) > before)
    scraped = figures(runner.as_("anna").text("/metrics"), bundle="trend", symbol="BTC/USDT")
    runner.as_("olga").post("/v1/stop", policy="flatten", why="end of the drill")
    printed, _ = runner.process.communicate(timeout=30)

    assert runner.process.returncode == 0
    assert json.loads(printed)["stopped"] == "olga: end of the drill"
    with (
        open_journal(runner.journal(), read_only=True) as log,
        open_journal(runner.folder / "runner" / "operations.sqlite", read_only=True) as operations,
    ):
        assert log.verify().ok
        assert operations.verify().ok
        # The scrape was of an entry in the middle: up to there, journal and figures say the same.
        seen = int(scraped["tradelib_journal_entries_total"])
        kinds = Counter(entry.kind for entry in log.entries() if entry.sequence <= seen)
        counted = {name: scraped[f"tradelib_{name}_total"] for name in ("bars", "decisions", "intents", "fills")}
        assert counted == {
            "bars": kinds[journal.BAR], "decisions": kinds[journal.DECISION],
            "intents": kinds[journal.INTENT], "fills": kinds[journal.FILL],
        }  # fmt: skip
        acts = [
            (act["act"], act["by"], act["outcome"].partition(":")[0]) for act in journal.bodies(operations, "operator")
        ]
    assert acts == [
        ("halt", "olga", "asked"), ("halt", "olga", "done"), ("arm", "anna", "asked"), ("arm", "anna", "done"),
        ("stop", "olga", "asked"), ("stop", "olga", "done"),
    ]  # fmt: skip
    position = sum(fill["quantity"] for fill in runner.bodies(journal.FILL))
    assert position == pytest.approx(0.0, abs=1e-9)  # flattened


def test_a_journal_that_was_halted_while_nobody_ran_keeps_the_runner_from_trading(runner: Operated) -> None:
    from tradelib.live.latch import Latch, Scope

    (runner.folder / "runner").mkdir()
    with open_journal(runner.folder / "runner" / "operations.sqlite") as log:
        Latch(log).halt(Scope("bundle", "trend"), "alice", "not before monday")

    runner.start()
    wait_until(lambda: len(runner.bodies(journal.REFUSAL)) > 3)

    assert runner.bodies(journal.INTENT) == []
