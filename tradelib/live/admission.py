"""What must hold before a socket is touched: the bundle is whole, decides as it did in research, and may trade."""

from __future__ import annotations

import fcntl
import hashlib
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tradelib.bundle import Bundle, TrustStore, load_bundle, reproduce_golden, verify_runtime
from tradelib.bundle.execution import NEEDS, PROVIDES
from tradelib.errors import BundleError, RunnerError
from tradelib.ledger import Ledger, journal
from tradelib.ledger.segments import SegmentedLedger
from tradelib.live.connection import MODES, credentials_from_environment
from tradelib.live.dialects import dialect_of

__all__ = ["PROVIDES", "account_lock", "admit_bundle", "admit_exits", "admit_journal", "locked", "unheld_exits"]


def admit_bundle(
    path: str | os.PathLike[str], mode: str, *, trust: TrustStore | None = None, confirm_live: bool = False
) -> Bundle:
    """Load and verify the bundle, check its permission, and reproduce its golden decisions with interpreted kernels.

    `trust` holds the keys that may sign; None is the project's own store.
    Raises `BundleError` for a bundle that is altered, not trusted, made for another runtime or decides otherwise here;
    `RunnerError` for a mode that it is not permitted, or one that needs what this runner cannot do.
    """
    if mode not in MODES:
        raise RunnerError(f"mode is {mode!r}: use 'paper' or 'live'")
    bundle = load_bundle(path, TrustStore() if trust is None else trust)
    if mode == "live":
        _admit_live(bundle, confirm_live)
    _admit_needs(bundle)
    verify_runtime(bundle)
    check = reproduce_golden(bundle)
    if not check.equal:
        raise BundleError(
            f"this machine does not decide as research did, so it must not trade: {check.first_difference}"
        )
    return bundle


def admit_exits(bundle: Bundle, exchange: str, *, emulate: bool = False, looks: str = "as often as it polls") -> str:
    """What the runner has to hold itself, because `exchange` does not, and what that means; "" where it is nothing.

    Without `emulate` that is refused (`RunnerError`), each by its name: such an order sees the market only where the
    runner looks (`looks` says how often), and it does nothing while the runner is not there.
    """
    told = unheld_exits(bundle, exchange)
    if not told:
        return ""
    stops = "stop" in dialect_of(exchange).order_kinds
    away = f"the stop rests at {exchange}, the targets wait" if stops else "nothing protects the position"
    means = f"it looks at the price {looks}; a stop that is met is sold at what the market then gives; while the "
    means += f"runner is down {away}"
    if emulate:
        return f"the runner itself holds what {exchange} does not: {'; '.join(told)}: {means}"
    raise RunnerError(
        f"this bundle's rule needs what {exchange} does not hold: {'; '.join(told)}. Trade it on an exchange that "
        "does, or seal it without, or let the runner hold these orders itself: --emulate-exits, in settings "
        f"emulate_exits = true for the bundle. That means: {means}"
    )


def unheld_exits(bundle: Bundle, exchange: str) -> tuple[str, ...]:
    """The exits and entries of a bundle that `exchange` cannot hold itself, each with the reason."""
    dialect, exits, scale_in = dialect_of(exchange), bundle.rule.exits, bundle.rule.scale_in
    stops = [name for name in ("stop_loss", "trailing_stop", "break_even") if getattr(exits, name, None) is not None]
    told = []
    if "stop" not in dialect.order_kinds:
        told += [f"{name} (it holds no stops under an order's own id)" for name in stops]
        if scale_in is not None and scale_in.direction == "with":
            told.append("scale_in with the move (it holds no stops under an order's own id)")
    elif stops and exits is not None and exits.take_profit and not dialect.holds_oco:
        told.append(f"take_profit beside {' and '.join(stops)} (it takes one offer for one holding, and no OCO pairs)")
    return tuple(told)


def admit_journal(log: Ledger, bundle: Bundle, mode: str) -> None:
    """Refuse (`RunnerError`) a journal whose chain is broken, or that belongs to another bundle or mode.

    Of a journal that was rotated, the file that is written is verified, and that it continues the others; the whole is
    what an audit verifies.
    """
    verdict = log.verify_newest() if isinstance(log, SegmentedLedger) else log.verify()
    if not verdict.ok:
        raise RunnerError(f"the journal is not trustworthy: {verdict.problem}. Keep it as evidence, start a new one")
    for start in journal.starts(log):
        if start["bundle_digest"] != bundle.digest:
            raise RunnerError(
                f"the journal belongs to the bundle {start['bundle_digest'][:12]} ({start['name']}), "
                f"this is {bundle.digest[:12]}: give each bundle its own journal"
            )
        if start["mode"] != mode:
            raise RunnerError(f"the journal was written in mode {start['mode']}: give mode {mode} its own journal")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the journal at `path` for this process alone, until it ends. `RunnerError` if another holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(path.name + ".lock"), "a", encoding="ascii") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunnerError(f"another runner writes {path.name}: stop it, or give this one its own journal") from None
        yield


@contextmanager
def account_lock(venue_url: str | None, exchange: str) -> Iterator[None]:
    """Hold the account of this key at this venue, on this machine, until the process ends or leaves.

    Two runners with one key would not know of each other's orders. A socket that has a name and no file: it goes with
    its process, and holds whatever folder or service either of them lives in. `RunnerError` if another one holds it.
    """
    key = credentials_from_environment(exchange).key
    name = hashlib.sha256(f"{exchange}\n{venue_url or 'live'}\n{key}".encode()).hexdigest()[:40]
    with ExitStack() as stack:
        try:
            if sys.platform == "linux":
                holder = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC))
                holder.bind(f"\0tradelib-account-{name}")
            else:
                path = Path(tempfile.gettempdir()) / f"tradelib-account-{name}.lock"
                fcntl.flock(stack.enter_context(open(path, "a", encoding="ascii")), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunnerError(
                f"another runner on this machine trades with this key at {venue_url or exchange}: one account has one "
                "runner; put the bundles into its settings, or give this one a key of another account"
            ) from None
        yield


def _admit_live(bundle: Bundle, confirm_live: bool) -> None:
    if bundle.permission != "live":
        failing = ", ".join(_failing_gates(bundle)) or "no evidence gate was passed"
        raise RunnerError(f"this bundle may trade on paper only; gates that failed: {failing}")
    if not confirm_live:
        raise RunnerError("live trading moves real money: confirm it explicitly with confirm_live=True")


def _admit_needs(bundle: Bundle) -> None:
    """A runner that leaves out a part of what was researched trades something else."""
    missing = [name for name in bundle.needs if name not in PROVIDES]
    if missing:
        told = "; ".join(f"{name} ({NEEDS[name]})" for name in missing)
        raise RunnerError(f"this bundle needs what this runner cannot do: {told}. It would not be what was researched")


def _failing_gates(bundle: Bundle) -> list[str]:
    return [str(gate["name"]) for gate in bundle.gates if not gate["passed"]]
