"""Ledger, bundle store and registry say the same, or it is said where they do not.

The ledger of promotions is the truth. The store must hold every bundle that stands in it, whole and signed; MLflow's
aliases `champion`, `canary` and `paper` must point to the versions those bundles were registered as. An alias that was
moved by hand, or that a killed process never moved, is set right from the ledger; a bundle that is missing or altered
cannot be, and is named.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from tradelib.bundle import Bundle, TrustStore, load_bundle
from tradelib.errors import BundleError
from tradelib.promotion.history import Book, PromotionLedger, Standing
from tradelib.promotion.registry import Registry

__all__ = ["ALIASES", "Finding", "Reconciliation", "reconcile"]

ALIASES = ("champion", "canary", "paper")
"""Aliases in MLflow that follow the ledger; `challenger` belongs to research."""


class Finding(NamedTuple):
    """A disagreement about `subject` of a strategy; `repaired` where the registry was set right."""

    strategy: str
    subject: str
    found: str
    expected: str
    repaired: bool

    def __str__(self) -> str:
        done = " (set right)" if self.repaired else ""
        return f"{self.strategy}: {self.subject} is {self.found}, the ledger says {self.expected}{done}"


@dataclass(frozen=True)
class Reconciliation:
    """What ledger, store and registry did not agree on."""

    findings: tuple[Finding, ...]

    @property
    def agreed(self) -> bool:
        """True when nothing is left open."""
        return all(finding.repaired for finding in self.findings)

    def summary(self) -> str:
        """One sentence."""
        if not self.findings:
            return "Ledger, bundle store and registry agree."
        return f"{len(self.findings)} disagreement{'s' * (len(self.findings) > 1)}: " + "; ".join(
            map(str, self.findings)
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        findings = [finding._asdict() for finding in self.findings]
        return {"agreed": self.agreed, "findings": findings, "summary": self.summary()}

    def to_frame(self) -> pd.DataFrame:
        """One row per finding."""
        return pd.DataFrame(self.findings, columns=list(Finding._fields))

    def _repr_html_(self) -> str:
        table = self.to_frame().to_html(index=False, border=0) if self.findings else ""
        return f"<p><b>{escape(self.summary())}</b></p>{table}"


def reconcile(
    ledger: PromotionLedger,
    store: str | os.PathLike[str],
    registry: Registry | None = None,
    *,
    trust: TrustStore | None = None,
    repair: bool = False,
) -> Reconciliation:
    """Compare the ledger with the bundles in `store` and the aliases in `registry`; `repair` sets aliases right.

    Raises `LedgerError` where the ledger itself does not stand: then nothing is touched.
    """
    found: list[Finding] = []
    for book in ledger.books().values():
        bundles: dict[str, Bundle] = {}
        for one in (*book.active, *book.retired):
            found += _in_store(one, Path(store), trust or TrustStore(), bundles)
        if registry is not None:
            found += _aliases(book, registry, bundles, repair)
    return Reconciliation(tuple(found))


def _in_store(one: Standing, store: Path, trust: TrustStore, bundles: dict[str, Bundle]) -> Iterator[Finding]:
    """The bundle of a standing must be there; it is kept in `bundles`."""
    try:
        bundle = load_bundle(store / one.folder, trust)
    except BundleError as error:
        yield Finding(one.name, f"bundle {one.bundle[:12]}", str(error), f"whole in {one.folder}", False)
        return
    if bundle.digest != one.bundle:
        yield Finding(one.name, f"folder {one.folder}", bundle.digest[:12], one.bundle[:12], False)
        return
    bundles[one.bundle] = bundle


def _aliases(book: Book, registry: Registry, bundles: dict[str, Bundle], repair: bool) -> Iterator[Finding]:
    """Aliases that point elsewhere than the ledger says, by the name under which the bundles were registered."""
    newest = book.paper[-1] if book.paper else None
    wanted = dict(zip(ALIASES, (book.champion, book.canary, newest), strict=True))
    expected = {alias: _version(one, bundles) for alias, one in wanted.items()}
    names = {known[0] for known in expected.values() if known} or {book.name}
    for name in sorted(names):
        pointing = registry.aliases(name)
        for alias in ALIASES:
            known = expected[alias]
            version = known[1] if known is not None and known[0] == name else None
            if pointing.get(alias) == version or (wanted[alias] is not None and known is None):
                continue
            if repair and version is not None:
                registry.set_alias(name, alias, version)
            elif repair:
                registry.remove_alias(name, alias)
            yield Finding(book.name, f"alias {alias}", _said(pointing.get(alias)), _said(version), repair)


def _version(one: Standing | None, bundles: dict[str, Bundle]) -> tuple[str, int] | None:
    """Name and version that a standing's bundle was registered as; None where that is not known."""
    if one is None or one.bundle not in bundles:
        return None
    registered = bundles[one.bundle].provenance.get("registered")
    return (registered["name"], int(registered["version"])) if isinstance(registered, dict) else None


def _said(version: int | None) -> str:
    return "nowhere" if version is None else f"version {version}"
