"""What must hold before a socket is touched: the bundle is whole, decides as it did in research, and may trade."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tradelib.bundle import Bundle, TrustStore, load_bundle, reproduce_golden, verify_runtime
from tradelib.bundle.execution import NEEDS, PROVIDES
from tradelib.errors import BundleError, RunnerError
from tradelib.ledger import Ledger, journal
from tradelib.live.connection import MODES

__all__ = ["PROVIDES", "admit_bundle", "admit_journal", "locked"]


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


def admit_journal(log: Ledger, bundle: Bundle, mode: str) -> None:
    """Refuse (`RunnerError`) a journal whose chain is broken, or that belongs to another bundle or mode."""
    verdict = log.verify()
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
