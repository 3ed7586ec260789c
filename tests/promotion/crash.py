"""A process that promotes in children and kills them: `python -m tests.promotion.crash ROOT WHEEL`.

Reads one JSON request per line and forks one child for each of `runs`, all at once. A child promotes the trend with the
`fast` of its run into `store`, admits the bundle into `ledger` and sets the registry's aliases right. On its way it
kills itself with SIGKILL after the step `die_at` (see `STEPS`) or before its file operation number `die_before` in the
store; stops for two seconds at `hold_at`, and says so by the file `held`; begins only when the file `after` is there;
writes no file larger than `limit` bytes, as on a full disk, or nothing at all from `full_before` ("ledger", "registry")
on. Answers with a list of `{"code", "told"}`; a child that was refused tells its error.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import tradelib.promotion.registry  # noqa: F401  imported once, before the forks
from tests.promotion.conftest import copied
from tests.promotion.support import EXECUTION, FIGURES, results, synthetic_bars, trend
from tradelib._jit import interpreted
from tradelib.bundle import TrustStore, format, load_private_key, wheel_digest
from tradelib.errors import TradelibError
from tradelib.ledger import Ledger
from tradelib.promotion import promote as promoting
from tradelib.promotion.history import PromotionLedger
from tradelib.promotion.reconciliation import reconcile
from tradelib.promotion.registry import Registry

GOLDEN = 60
STEPS: dict[str, tuple[Any, str]] = {
    "the wheel is built": (promoting, "_sealed_wheel"),
    "one file is written": (format, "_write"),
    "the bundle has its name in the staging folder": (promoting, "write_bundle"),
    "it was verified": (promoting, "bundle_integrity"),
    "it proved itself": (promoting, "golden_reproduction"),
    "it has its place": (promoting, "_place"),
    "the ledger has its entry": (Ledger, "append"),
    "the alias is set": (Registry, "set_alias"),
}


def dying(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, and then the end."""

    def done(*given: Any, **named: Any) -> Any:
        function(*given, **named)
        os.kill(os.getpid(), signal.SIGKILL)

    return done


def holding(function: Callable[..., Any], held: str) -> Callable[..., Any]:
    """`function`, and then time for somebody else."""

    def done(*given: Any, **named: Any) -> Any:
        answer = function(*given, **named)
        Path(held).touch()
        time.sleep(2.0)
        return answer

    return done


OPERATIONS = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.chmod", "shutil.copyfile")


class Operations:
    """Counts what this process does to files in `store`, and ends it before number `die_before`."""

    def __init__(self, store: str, die_before: int | None) -> None:
        self.store, self.die_before, self.count = store, die_before, 0

    def __call__(self, event: str, given: tuple[Any, ...]) -> None:
        if event not in OPERATIONS or not str(given[0]).startswith(f"{self.store}/"):
            return
        if event == "open" and not given[2] & (os.O_WRONLY | os.O_RDWR):
            return
        self.count += 1
        if self.count == self.die_before:
            os.kill(os.getpid(), signal.SIGKILL)


def company(root: Path, request: dict[str, Any]) -> tuple[PromotionLedger, Registry, TrustStore]:
    """The ledger of a request, the registry, and who is trusted."""
    trust = TrustStore(root / "trust")
    ledger = PromotionLedger(request["ledger"], trust=trust, approvers=TrustStore(root / "approvers"))
    return ledger, Registry(root), trust


def promotion(root: Path, wheel: Path, request: dict[str, Any]) -> dict[str, Any]:
    """Promote, admit and set the aliases: the whole way of a candidate to paper."""
    ledger, registry, trust = company(root, request)
    key, rule = load_private_key("tests", root), trend(request["fast"])
    registered = {"name": "trend", "version": request["fast"] - 2}
    done = promoting.promote(
        name="trend",
        rule=rule,
        execution=EXECUTION,
        research_bars=synthetic_bars(GOLDEN),
        gates=results(),
        figures=FIGURES,
        provenance={"registered": registered},
        root=Path(__file__).parents[2],
        bundles_dir=request["store"],
        golden_length=None,
        private_key=key,
        trust=trust,
    )
    fill(request, "ledger")
    one = ledger.admit(done.bundle, key=key, why="crash test", by="tests")
    fill(request, "registry")
    found = reconcile(ledger, request["store"], registry, trust=trust, repair=True)
    return {"created": done.created, "bundle": one.bundle, "agreed": found.agreed, "told": found.summary()}


def fill(request: dict[str, Any], place: str) -> None:
    """From here on the disk takes nothing more, where the request says so."""
    if request.get("full_before") == place:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def child(root: Path, wheel: Path, request: dict[str, Any], pipe: int) -> None:
    """One promotion in this process; never returns where it is to die."""
    promoting.build_wheel = lambda _, destination: copied(wheel, destination)
    promoting.package_digest = lambda: wheel_digest(wheel)
    promoting._ask = lambda *_: {"count": GOLDEN, "orders": 0, "equal": True, "sealed": True}
    for wish, change in (("die_at", dying), ("hold_at", partial(holding, held=request.get("held", "")))):
        if request.get(wish):
            place, name = STEPS[request[wish]]
            setattr(place, name, change(getattr(place, name)))
    operations = Operations(request["store"], request.get("die_before"))
    sys.addaudithook(operations)
    while request.get("after") and not Path(request["after"]).exists():
        time.sleep(0.01)
    if request.get("limit") is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["limit"], request["limit"]))
    try:
        with interpreted():
            told = promotion(root, wheel, request)
    except TradelibError as error:
        told = {"refused": type(error).__name__, "words": str(error)}
    os.write(pipe, json.dumps({**told, "operations": operations.count}).encode())


def fork(root: Path, wheel: Path, request: dict[str, Any]) -> tuple[int, int]:
    """Start a child; its process and the end of its pipe to read from."""
    reading, writing = os.pipe()
    if (identity := os.fork()) == 0:
        try:
            child(root, wheel, request, writing)
            os._exit(0)
        finally:
            traceback.print_exc()
            os._exit(1)
    os.close(writing)
    return identity, reading


def main(root: str, wheel: str) -> None:
    """Serve requests until the input ends."""
    __import__("mlflow")
    for line in sys.stdin:
        started = [fork(Path(root), Path(wheel), request) for request in json.loads(line)["runs"]]
        answers = []
        for identity, reading in started:
            with os.fdopen(reading, "rb") as pipe:
                told = json.loads(pipe.read() or b"null")
            answers.append({"code": os.waitstatus_to_exitcode(os.waitpid(identity, 0)[1]), "told": told})
        print(json.dumps(answers), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
