"""kill -9 at boundaries of journal and network: the resumed run is the uninterrupted one, each order is placed once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.support import GOLDEN, Sealed, exchange, read, venue
from tradelib.ledger import open_journal
from tradelib.venue import PaperExchange

pytestmark = pytest.mark.integration

START = GOLDEN + 8
LAST = START + 4
"""Six bars, of which five trade."""
STRIDE = int(os.environ.get("TRADELIB_CRASH_STRIDE", "9"))
"""Every so many boundaries; TRADELIB_CRASH_STRIDE=1 gives the whole matrix."""


class Crasher:
    """The other side of `tests.live.crash`."""

    def __init__(self, sealed: Sealed, project: Path) -> None:
        self.sealed = sealed
        arguments = [str(sealed.bundle.path), str(sealed.trust.folder)]
        command = [sys.executable, "-m", "tests.live.crash", *arguments]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=project)

    def run(
        self, paper: PaperExchange, journal: Path, die_at: int | None = None, signal: str = "kill"
    ) -> dict[str, Any]:
        """Trade once against `paper`; how the child ended."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        until = self.sealed.bars.index[LAST].isoformat()
        with venue(paper) as served:
            request = {"url": served.url, "journal": str(journal), "until": until, "die_at": die_at, "signal": signal}
            print(json.dumps(request), file=self.process.stdin, flush=True)
            answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer


@pytest.fixture(scope="module")
def crasher(sealed: Sealed, project: Path) -> Iterator[Crasher]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRADELIB_API_KEY", "test-key")
        patch.setenv("TRADELIB_API_SECRET", "test-secret")
        running = Crasher(sealed, project)
    yield running
    assert running.process.stdin is not None
    running.process.stdin.close()
    assert running.process.wait(10) == 0


def told(journal: Path) -> dict[str, list[dict[str, Any]]]:
    """What a journal says of the market and of us; how an order was found out may differ."""
    kinds = {kind: read(journal, kind) for kind in ("bar", "decision", "intent", "equity")}
    final = [{**row, "reason": ""} for row in read(journal, "order") if row["status"] not in ("unknown", "open")]
    return {**kinds, "order": final}


def test_killed_at_any_boundary_and_resumed_it_is_the_same_run(crasher: Crasher, tmp_path: Path) -> None:
    whole = exchange(crasher.sealed, start=START)
    reference = crasher.run(whole, tmp_path / "whole")
    assert reference["code"] == 0
    assert len(whole.orders) == 5
    assert reference["events"] > 60
    for boundary in range(1, reference["events"] + 1, STRIDE):
        paper, journal = exchange(crasher.sealed, start=START), tmp_path / f"killed-{boundary}"
        assert crasher.run(paper, journal, boundary)["code"] == -9
        assert crasher.run(paper, journal)["code"] == 0, f"resuming after boundary {boundary}"
        names = [order.client_order_id for order in paper.orders]
        assert len(names) == len(set(names)), f"an order was placed twice after boundary {boundary}"
        assert (paper.cash, paper.positions) == (whole.cash, whole.positions), f"boundary {boundary}"
        assert told(journal) == told(tmp_path / "whole"), f"boundary {boundary}"
        with open_journal(journal, read_only=True) as log:
            assert log.verify().ok


def test_sigterm_finishes_the_bar_and_closes_the_journal(crasher: Crasher, tmp_path: Path) -> None:
    events = crasher.run(exchange(crasher.sealed, start=START), tmp_path / "whole")["events"]
    paper = exchange(crasher.sealed, start=START)
    answer = crasher.run(paper, tmp_path / "j", events // 2, signal="term")
    assert answer["code"] == 0
    assert read(tmp_path / "j", "stop") == [{"reason": "signal SIGTERM"}]
    decided, orders = read(tmp_path / "j", "decision"), read(tmp_path / "j", "order")
    assert 0 < len(decided) < 6
    assert len(orders) == len(read(tmp_path / "j", "intent")) == len(paper.orders)
    assert crasher.run(paper, tmp_path / "j")["code"] == 0
    assert len(read(tmp_path / "j", "decision")) == 6
