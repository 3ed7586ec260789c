"""A process that runs the runner in children and kills them: `python -m tests.live.crash BUNDLE TRUST`.

Reads one JSON request per line, `{"url", "journal", "until", "die_at"}`, forks a child that trades, and answers
`{"code", "events"}`. The child counts its boundaries (before and after each journal write, inside of its transaction,
and before and after each HTTP request) and kills itself with SIGKILL at number `die_at`; null lets it live, and
`"signal": "term"` sends it SIGTERM there instead. With `"program": "desk"` the child trades a script of orders of
every kind (`tests.live.trading`) instead of the bundle; bundle and trust may then be left out.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import traceback
from dataclasses import replace
from typing import Any

import tradelib.live.connection as connection
import tradelib.live.runner as runner
import tradelib.live.wire as wire
from tests.live import trading
from tradelib.bundle import Bundle, TrustStore, load_bundle
from tradelib.ledger import Ledger
from tradelib.live.dialects import DIALECTS
from tradelib.live.patience import Patience

PATIENCE = Patience(backoff=0.002, backoff_ceiling=0.02, receive_window=0.05, request_timeout=2.0)


class Boundaries:
    """Counts what the child did and strikes at one of them."""

    def __init__(self, die_at: int | None, number: int) -> None:
        self.die_at, self.number, self.count = die_at, number, 0

    def cross(self) -> None:
        """One boundary."""
        self.count += 1
        if self.count == self.die_at:
            os.kill(os.getpid(), self.number)

    def around_ledger(self) -> None:
        """A boundary before and after each transaction of the journal, and after each entry inside of it."""
        for name in ("extend", "_insert"):
            setattr(Ledger, name, self._synchronous(getattr(Ledger, name)))

    def around_client(self, client: Any) -> Any:
        """A boundary before and after each HTTP request."""
        fetch = client.fetch

        async def counted(*arguments: Any) -> Any:
            self.cross()
            answer = await fetch(*arguments)
            self.cross()
            return answer

        client.fetch = counted
        return client

    def _synchronous(self, function: Any) -> Any:
        def counted(*arguments: Any, **named: Any) -> Any:
            self.cross()
            answer = function(*arguments, **named)
            self.cross()
            return answer

        return counted


def child(bundle: Bundle | None, request: dict[str, Any], pipe: int) -> None:
    """Trade in this process until the end, or until the boundary."""
    number = signal.SIGTERM if request.get("signal") == "term" else signal.SIGKILL
    boundaries = Boundaries(request["die_at"], number)
    boundaries.around_ledger()
    try:
        if request.get("program") == "desk":
            asyncio.run(trading.trade(request, boundaries.around_client))
        else:
            assert bundle is not None
            run(bundle, request, boundaries)
    finally:
        os.write(pipe, str(boundaries.count).encode())


def run(bundle: Bundle, request: dict[str, Any], boundaries: Boundaries) -> None:
    """The whole runner."""
    make = connection.make_client
    wire.make_client = lambda *given, **named: boundaries.around_client(make(*given, **named))
    exchange = request.get("dialect", "binance")
    if request.get("plant"):
        trading.plant(request["plant"])
    DIALECTS[exchange] = replace(DIALECTS[exchange], clock_margin=0.0)

    async def trade() -> None:
        named = {"until": request["until"], "exchange": exchange, "emulate_exits": request.get("program") == "held"}
        work = runner.Runner(
            bundle, venue_url=request["url"], journal_path=request["journal"], patience=PATIENCE, **named
        )
        with runner.signals(work.stop):
            await work.run()

    asyncio.run(trade())


def main(path: str | None = None, trust: str | None = None) -> None:
    """Serve requests until the input ends."""
    bundle = None if path is None or trust is None else load_bundle(path, TrustStore(trust))
    connection.make_client("http://127.0.0.1:1", "paper", "k", "s")  # ccxt is imported once, before the forks
    for line in sys.stdin:
        reading, writing = os.pipe()
        if (identity := os.fork()) == 0:
            request, code = json.loads(line), 1
            try:
                child(bundle, request, writing)
                code = 0
            except SystemExit as left:
                code = int(left.code or 0)
            except BaseException:  # noqa: BLE001 - a forked child must end here, whatever happened
                with open(request.get("errors", os.devnull), "a", encoding="utf-8") as told:
                    traceback.print_exc(file=told)
            finally:
                os._exit(code)
        os.close(writing)
        code = os.waitstatus_to_exitcode(os.waitpid(identity, 0)[1])
        with os.fdopen(reading, "rb") as answer:
            events = int(answer.read() or b"0")
        print(json.dumps({"code": code, "events": events}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
