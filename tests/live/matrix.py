"""The crash matrix: `python -m tests.live.matrix --seeds 1000 [--first 0] [--programs desk,runner] [--report FILE]`.

Each seed is one case: a script of orders of every kind (`desk`), a whole runner and its bundle (`runner`), or one whose
exits the exchange cannot hold, so that the runner does (`held`, to be named), the dialect of an exchange, what it
cannot do, a plan of faults, and where processes are killed with SIGKILL. Processes are started until one reaches the
end. Then these must hold, whatever happened:

1. every order at the venue belongs to one intent, every intent has at most one order;
2. the fills of the journal are the venue's trades, each once, none missing;
3. the position that the journal adds up to is the one that the venue holds, and the cash as well (reconciliation at the
   end finds nothing that would halt);
4. it is the model's: that of the same case without kills and without faults (not asked where fills are cut short, or
   cancels refused, on purpose);
5. no intent is left open, and every order ends in the journal as it ended at the venue;
6. the journal's chain is whole;
7. the same case, killed and faulted at the same places, writes the same journal to the last bit (asked of every case
   whose clock is virtual, by running it twice).

Four kinds of cases take turns: kills only, at boundaries that are walked through one after the other; a broken wire
and random kills; the full fault plan and random kills; and the virtual clock. Exit code 1 names the seeds that failed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.live import support, trading
from tradelib.ledger import Ledger, journal, open_journal
from tradelib.risk.exits import Distance, Exits
from tradelib.venue import PaperExchange, VenueMarket, VenueThread
from tradelib.venue.faults import Fault, FaultPlan

INSTANT = ("drop_before", "drop_after", "truncate", "empty", "status", "status_after", "cut")
SLOW = ("delay", "hang", "reorder")
ROLES = ("place", "cancel", "query", "account", "trades")
PROCESSES = 25
"""Processes that one case may need; more is a failure."""
KINDS = ("kills", "wire", "full", "virtual")


@dataclass(frozen=True)
class Case:
    """What one seed means."""

    seed: int
    kind: str
    program: str
    dialect: str = "binance"
    changes: dict[str, Any] = field(default_factory=dict)
    faults: FaultPlan | None = None
    kills: int = 1
    tamed: bool = True
    """Whether the end must be the model's: fills are whole and cancels are obeyed."""
    plant: str = ""
    """What is broken in the runner on purpose; see `trading.plant`."""


@dataclass
class Counts:
    """What was run and found, over many cases."""

    cases: Counter[str] = field(default_factory=Counter)
    processes: int = 0
    kills: int = 0
    boundaries: set[tuple[str, int]] = field(default_factory=set)
    faults: Counter[str] = field(default_factory=Counter)
    orders: int = 0
    fills: int = 0
    states: Counter[str] = field(default_factory=Counter)
    checks: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for a report."""
        told = {name: dict(value) if isinstance(value, Counter) else value for name, value in vars(self).items()}
        return told | {"boundaries": len(self.boundaries)}


def case_of(seed: int, programs: Sequence[str] = ("desk", "runner")) -> Case:
    """The case of a seed; the same in every process and on every machine."""
    numbers = random.Random(f"case/{seed}")
    kind = KINDS[seed % len(KINDS)]
    if "held" in programs and (len(programs) == 1 or numbers.random() < 0.2):
        dialect, faults = numbers.choice(("kraken", "bitget")), _faults(kind, numbers, seed)
        return Case(seed, kind, "held", dialect, {}, faults, _kills(kind, numbers), tamed=kind != "full")
    program = "runner" if "runner" in programs and (len(programs) == 1 or numbers.random() < 0.2) else "desk"
    if program == "runner":
        faults = _faults(kind, numbers, seed)
        return Case(seed, kind, program, faults=faults, kills=_kills(kind, numbers), tamed=kind != "full")
    dialect = numbers.choice(("binance", "binance", "kraken", "bitget"))
    changes: dict[str, Any] = {}
    if dialect == "binance" and numbers.random() < 0.5:
        changes["holds_oco"] = False
    if numbers.random() < 0.25:
        changes["order_kinds"] = ["market", "limit"]
        changes["holds_oco"] = False
    faults = _faults(kind, numbers, seed)
    return Case(seed, kind, program, dialect, changes, faults, _kills(kind, numbers), tamed=kind != "full")


def guarded_bundle(folder: Path) -> support.Sealed:
    """A bundle with a trailing stop and two targets, on a market in which all of them act."""
    folder.mkdir()
    targets = ((Distance(value=0.02), 0.5), (Distance(value=0.05), 0.5))
    exits = Exits(trailing_stop=Distance(value=0.03), take_profit=targets)
    decides = support.rule().replace(rebalance_band=None, exits=exits)
    return support.seal(folder, support.synthetic_bars(), decides=decides)


def _kills(kind: str, numbers: random.Random) -> int:
    return 1 if kind == "kills" else numbers.randint(1, 4)


def _faults(kind: str, numbers: random.Random, seed: int) -> FaultPlan | None:
    """A plan in which about one request in six goes wrong."""
    if kind == "kills":
        return None
    kinds = INSTANT if kind == "virtual" else INSTANT + SLOW
    faults = [
        Fault(
            name,
            on=role,
            probability=0.02,
            seconds=0.05 if name != "hang" else 0.8,
            status=numbers.choice((500, 502, 503, 429)),
        )
        for name in kinds
        for role in ROLES
    ]
    if kind != "virtual":
        # On the way to `place` a duplicate would be a second order at a venue that takes an id again: see the module
        # `tradelib.live.reconcile`; no client can prevent that, it can only find it.
        faults += [Fault("duplicate", on=role, probability=0.05) for role in ROLES[1:]]
        faults += [Fault("clock_skew", on="any", probability=0.01, seconds=numbers.choice((-30.0, 30.0)))]
    if kind == "full":
        faults += [Fault("restart", on="any", probability=0.005, seconds=0.2)]
        faults += [Fault("partial_fill", probability=0.3), Fault("reject_cancel", probability=0.3)]
    return FaultPlan(tuple(faults), seed)


class Killer:
    """The other side of `tests.live.crash`."""

    def __init__(self, bundle: support.Sealed | None) -> None:
        arguments = [] if bundle is None else [str(bundle.bundle.path), str(bundle.trust.folder)]
        command = [sys.executable, "-m", "tests.live.crash", *arguments]
        names = ("TRADELIB_API_KEY", "TRADELIB_API_SECRET", "TRADELIB_API_PASSPHRASE")
        keys = (trading.KEY, trading.SECRET, trading.PASSPHRASE)
        environment = os.environ | dict(zip(names, keys, strict=True))
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def run(self, request: dict[str, Any]) -> dict[str, Any]:
        """One process; how it ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        """No more processes."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)


@dataclass
class Outcome:
    """What a case came to: the venue as it is, and the journal."""

    exchange: PaperExchange
    journal: Path
    processes: int
    finished: bool
    events: int = 0
    errors: str = ""

    def holdings(self) -> tuple[float, dict[str, float]]:
        """Cash and positions."""
        return self.exchange.cash, dict(self.exchange.positions)


class Matrix:
    """Runs cases and counts."""

    def __init__(
        self, folder: Path, bundle: support.Sealed | None = None, guarded: support.Sealed | None = None
    ) -> None:
        self.folder = folder
        self.bundles = {"runner": bundle, "held": guarded}
        self.counts = Counts()
        self._killers = {"desk": Killer(None)}
        self._killers |= {name: Killer(one) for name, one in self.bundles.items() if one is not None}
        self._models: dict[Any, Outcome] = {}

    def close(self) -> None:
        """End the processes that fork."""
        for killer in self._killers.values():
            killer.close()

    def tidy(self) -> None:
        """Delete what is not needed any more."""
        kept = {outcome.journal.parents[1] for outcome in self._models.values()}
        for folder in set(self.folder.glob("cases/*")) - kept:
            shutil.rmtree(folder)

    def run(self, case: Case) -> list[str]:
        """One case; what did not hold."""
        self.counts.cases[f"{case.program}/{case.kind}"] += 1
        model = self._model(case)
        kills = self._plan(case, model.events)
        outcome = self._trade(case, case.faults, kills, self._place(case, "first"))
        wrong = list(self._wrong(case, outcome, model))
        if case.kind == "virtual" and case.program == "desk" and not wrong:
            again = self._trade(case, case.faults, kills, self._place(case, "again"))
            self.counts.checks["same journal"] += 1
            if _head(again.journal) != _head(outcome.journal):
                wrong.append("the same case wrote another journal")
        self.counts.failures += [
            f"seed {case.seed} ({case.program}, {case.kind}, {case.dialect}): {one}" for one in wrong
        ]
        return wrong

    def _plan(self, case: Case, events: int) -> list[int]:
        """Where its processes are killed, one after the other."""
        numbers = random.Random(f"kills/{case.seed}")
        if case.kind == "kills":
            return [case.seed // len(KINDS) * 7 % events + 1]
        return [numbers.randint(1, events) for _ in range(case.kills)]

    def _place(self, case: Case, which: str) -> Path:
        """Where a journal of a case lies."""
        folder = self.folder / "cases" / f"{case.program}-{case.seed}" / which
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder / "journal"

    def _model(self, case: Case) -> Outcome:
        """The same case, left in peace."""
        key = case.program, case.dialect
        if case.program == "desk" or key not in self._models:
            self._models[key] = self._trade(case, None, [], self._place(case, "model"))
            assert self._models[key].finished, self._models[key].errors
        return self._models[key]

    def _trade(self, case: Case, faults: FaultPlan | None, kills: list[int], path: Path) -> Outcome:
        exchange = self._exchange(case)
        outcome = Outcome(exchange, path, 0, finished=False)
        key = {"key": trading.KEY, "secret": trading.SECRET, "passphrase": trading.PASSPHRASE}
        with VenueThread(exchange, faults=faults, dialect=case.dialect, **key) as served:
            waiting = list(kills)
            while not outcome.finished and outcome.processes < PROCESSES:
                die_at = waiting.pop(0) if waiting else None
                ended = self._killers[case.program].run(self._request(case, served.url, path, die_at))
                outcome.processes += 1
                outcome.events = ended["events"]
                outcome.finished = ended["code"] == 0
                self.counts.processes += 1
                if ended["code"] == -9 and die_at is not None:
                    self.counts.kills += 1
                    self.counts.boundaries.add((case.program, die_at))
            if served.faults is not None:
                self.counts.faults.update(strike.kind for strike in served.faults.log)
        errors = path.with_suffix(".errors")
        outcome.errors = errors.read_text(encoding="utf-8")[-3_000:] if errors.exists() else ""
        return outcome

    def _request(self, case: Case, url: str, path: Path, die_at: int | None) -> dict[str, Any]:
        request: dict[str, Any] = {"program": case.program, "url": url, "journal": str(path), "die_at": die_at}
        request["errors"] = str(path.with_suffix(".errors"))
        plant = "" if path.parent.name == "model" else case.plant
        bundle = self.bundles.get(case.program)
        if bundle is not None:
            last = bundle.bars.index[support.GOLDEN + (12 if case.program == "runner" else 30)]
            return request | {"until": last.isoformat(), "dialect": case.dialect, "plant": plant}
        known = {
            "plant": plant,
            "seed": case.seed,
            "dialect": case.dialect,
            "changes": case.changes,
            "virtual": case.kind == "virtual",
        }
        return request | known

    def _exchange(self, case: Case) -> PaperExchange:
        bundle = self.bundles.get(case.program)
        if bundle is not None:
            return support.exchange(bundle, start=support.GOLDEN + 8)
        terms = {"price_decimals": 2, "minimum_notional": 5.0}
        markets = [VenueMarket(symbol, trading.bars(case.seed, symbol), **terms) for symbol in trading.SYMBOLS]  # type: ignore[arg-type]
        return PaperExchange(markets, cash=trading.CASH, holdings=trading.HOLDINGS, pace="manual")

    # What must hold ---------------------------------------------------------------------------------------------------

    def _wrong(self, case: Case, outcome: Outcome, model: Outcome) -> Iterator[str]:
        if not outcome.finished:
            yield f"not finished after {outcome.processes} processes: {outcome.errors[-600:]}"
            return
        with open_journal(outcome.journal, read_only=True) as log:
            yield from self._wrong_orders(case, outcome, log)
            yield from self._wrong_money(case, outcome, log)
            self.counts.checks["chain"] += 1
            if not log.verify().ok:
                yield f"the chain is broken: {log.verify().problem}"
        if case.tamed:
            self.counts.checks["model"] += 1
            if not _same(outcome.holdings(), model.holdings()):
                yield f"the account ends with {outcome.holdings()}, the model with {model.holdings()}"

    def _wrong_orders(self, case: Case, outcome: Outcome, log: Ledger) -> Iterator[str]:
        wire = trading.the_dialect(case.dialect, {})
        intents = {body["client_order_id"] for body in journal.intents(log)}
        names = [str(wire.home_id(order.client_order_id)) for order in outcome.exchange.orders]
        self.counts.orders += len(names)
        self.counts.checks["one order per intent"] += len(names)
        for name, count in Counter(names).items():
            if count > 1:
                yield f"intent {name} became {count} orders"
            if name not in intents:
                yield f"the venue has an order {name} without an intent"
        standing = journal.standing(log)
        for order, name in zip(outcome.exchange.orders, names, strict=True):
            told = standing.get(name, {}).get("status")
            self.counts.states[str(told)] += 1
            self.counts.checks["ended alike"] += 1
            rests = case.program == "held" and order.status == "NEW"
            if told not in ({"open"} if rests else _ENDS[order.status]):
                yield f"order {name} is {order.status} at the venue and {told} in the journal"
        left = journal.unresolved(log)
        if case.program == "held":  # a position may stand at the end, and its exits with it
            left = [body for body in left if standing.get(body["client_order_id"], {}).get("status") != "open"]
            self.counts.checks["fired"] += log.count(journal.TRIGGER)
        if left:
            yield f"intents are left open: {[body['client_order_id'] for body in left]}"

    def _wrong_money(self, case: Case, outcome: Outcome, log: Ledger) -> Iterator[str]:
        wire = trading.the_dialect(case.dialect, {})
        trades: Counter[tuple[str, float, float]] = Counter()
        for order, fill in outcome.exchange.trades():
            trades[str(wire.home_id(order.client_order_id)), order.side * fill.quantity, fill.price] += 1
        told = Counter((body["client_order_id"], body["quantity"], body["price"]) for body in journal.fills(log))
        self.counts.fills += sum(trades.values())
        self.counts.checks["each fill once"] += sum(trades.values())
        if told != trades:
            yield f"fills: journal only {dict(told - trades)}, venue only {dict(trades - told)}"
        begun = trading.HOLDINGS if case.program == "desk" else {}
        for asset, held in outcome.exchange.positions.items():
            self.counts.checks["position"] += 1
            bodies = [body for body in journal.fills(log) if body["symbol"].startswith(asset + "/")]
            booked = sum((Decimal(repr(body["quantity"])) for body in bodies), Decimal(repr(begun.get(asset, 0.0))))
            if abs(booked - Decimal(repr(held))) > Decimal("1e-9"):
                yield f"the journal adds up to {booked} {asset}, the venue holds {held}"
        stops = journal.bodies(log, journal.STOP)
        if case.program == "desk":
            self.counts.checks["reconciled"] += 1
            if stops[-1]["halted"]:
                yield f"reconciliation at the end: {stops[-1]['halted']}"


_ENDS = {
    "FILLED": {"filled"},
    "CANCELED": {"canceled", "expired"},
    "EXPIRED": {"expired", "canceled"},
    "NEW": set[str](),
    "PARTIALLY_FILLED": set[str](),
}


def _same(one: tuple[float, dict[str, float]], other: tuple[float, dict[str, float]]) -> bool:
    """Equal positions; cash to the rounding of sums that were made in another order."""
    return abs(one[0] - other[0]) < 1e-6 and all(abs(one[1][name] - other[1][name]) < 1e-9 for name in one[1])


def _head(path: Path) -> tuple[int, str]:
    with open_journal(path, read_only=True) as log:
        return log.head()


@contextmanager
def matrix(
    folder: Path, bundle: support.Sealed | None = None, guarded: support.Sealed | None = None
) -> Iterator[Matrix]:
    """A matrix whose journals lie in `folder`. bundle: of the program `runner`; guarded: of `held`."""
    running = Matrix(folder, bundle, guarded)
    try:
        yield running
    finally:
        running.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1_000, help="how many cases")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--programs", default="desk,runner", help="of desk, runner and held")
    parser.add_argument("--report", type=Path, help="write the counts there, as JSON")
    given = parser.parse_args(arguments)
    programs = given.programs.split(",")
    begun, told = time.monotonic(), dict[str, Any](failures=[])
    with tempfile.TemporaryDirectory(prefix="tradelib-matrix-") as name:
        folder = Path(name)
        sealed = support.seal(folder, support.synthetic_bars()) if "runner" in programs else None
        guarded = guarded_bundle(folder / "guarded") if "held" in programs else None
        with matrix(folder, sealed, guarded) as running:
            for number, seed in enumerate(range(given.first, given.first + given.seeds), start=1):
                for wrong in running.run(case_of(seed, programs)):
                    print(f"seed {seed}: {wrong}", flush=True)
                running.tidy()
                told = running.counts.as_dict() | {"seconds": round(time.monotonic() - begun, 1)}
                if given.report is not None:
                    given.report.write_text(json.dumps(told, indent=1), encoding="utf-8")
                if number % 50 == 0:
                    print(f"{number} cases, {told['seconds']:.0f} s", flush=True)
    print(json.dumps(told, indent=1))
    return 1 if told["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
