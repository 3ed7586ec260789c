"""A process that runs the runner in children and kills them: `python -m tests.live.crash BUNDLE TRUST`.

Reads one JSON request per line, `{"url", "journal", "until", "die_at"}`, forks a child that trades, and answers
`{"code", "events"}`. The child counts its boundaries (before and after each journal write and each HTTP request) and
kills itself with SIGKILL at number `die_at`; null lets it live, and `"signal": "term"` sends it SIGTERM there instead.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import traceback
from typing import Any

import tradelib.live.connection as connection
import tradelib.live.orders as orders
import tradelib.live.runner as runner
from tradelib.bundle import Bundle, TrustStore, load_bundle
from tradelib.ledger import Ledger
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
        """A boundary before and after each transaction of the journal."""
        for name in ("append", "extend"):
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


def child(bundle: Bundle, request: dict[str, Any], pipe: int) -> None:
    """Trade in this process until the end, or until the boundary."""
    number = signal.SIGTERM if request.get("signal") == "term" else signal.SIGKILL
    boundaries = Boundaries(request["die_at"], number)
    boundaries.around_ledger()
    make = connection.make_client
    runner.make_client = lambda *given, **named: boundaries.around_client(make(*given, **named))
    orders._CLOCK_MARGIN = 0.0

    async def trade() -> None:
        work = runner.Runner(
            bundle, venue_url=request["url"], journal_path=request["journal"], until=request["until"], patience=PATIENCE
        )
        with runner._signals(work):
            await work.run()

    asyncio.run(trade())
    os.write(pipe, str(boundaries.count).encode())


def main(path: str, trust: str) -> None:
    """Serve requests until the input ends."""
    bundle = load_bundle(path, TrustStore(trust))
    connection.make_client("http://127.0.0.1:1", "paper", "k", "s")  # ccxt is imported once, before the forks
    for line in sys.stdin:
        reading, writing = os.pipe()
        if (identity := os.fork()) == 0:
            try:
                child(bundle, json.loads(line), writing)
                os._exit(0)
            finally:
                traceback.print_exc()
                os._exit(1)
        os.close(writing)
        code = os.waitstatus_to_exitcode(os.waitpid(identity, 0)[1])
        with os.fdopen(reading, "rb") as answer:
            events = int(answer.read() or b"0")
        print(json.dumps({"code": code, "events": events}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
