"""What is in a bundle: the files, their limits, and the object that a verified folder becomes.

A bundle is a folder `<name>-<first 12 hex digits of its digest>`. `manifest.json` names every other file with size and
SHA-256; `attestation.json` signs the exact bytes of the manifest. Exactly the files listed here: one more, or one
less, is not a bundle.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from tradelib.backtest.decision import DecisionRule
from tradelib.bundle.account import TABLES, Rows
from tradelib.bundle.execution import Execution
from tradelib.errors import BundleError, LedgerError
from tradelib.ledger.chain import canonical, digest

__all__ = [
    "FORMAT",
    "PERMISSIONS",
    "TIERS",
    "Bundle",
    "Execution",
    "FileRecord",
    "check_gates",
    "parse_json",
    "payload_digest",
    "pretty",
    "sha256",
]

FORMAT = "tradelib-bundle/3"
PERMISSIONS = ("paper", "live")
TIERS = ("safety", "evidence")

MANIFEST = "manifest.json"
ATTESTATION = "attestation.json"
RULE = "rule.json"
EXECUTION = "execution.json"
DATA = "data.json"
GATES = "evidence/gates.json"
FIGURES = "evidence/figures.json"
GOLDEN_BARS = "golden/bars.csv"
GOLDEN_DECISIONS = "golden/decisions.json"
GOLDEN_TABLES = {name: f"golden/{name}.json" for name in TABLES}
LOCK = "package/runner.lock"
PROVENANCE = "provenance.json"
README = "README.md"
GOLDEN = (GOLDEN_BARS, GOLDEN_DECISIONS, *GOLDEN_TABLES.values())
PAYLOAD = frozenset({RULE, EXECUTION, DATA, GATES, FIGURES, *GOLDEN, LOCK, PROVENANCE, README})
"""Files that every bundle has, besides manifest, attestation and one wheel."""

BUNDLE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
WHEEL = re.compile(r"package/tradelib-[A-Za-z0-9_.+!-]{1,120}\.whl")
LARGEST_FILE = 64 * 2**20
LARGEST_MANIFEST = 2**16
LARGEST_BUNDLE = 256 * 2**20
_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class FileRecord:
    """What the manifest says of one file."""

    sha256: str
    bytes: int


@dataclass(frozen=True, eq=False)
class Bundle:
    """A folder whose every byte was verified when this object was made. See `load_bundle`."""

    path: Path
    name: str
    permission: str
    key_id: str
    digest: str
    """SHA-256 of the manifest's bytes: the identity of the bundle."""
    payload_digest: str
    """The same without provenance: equal between commits that seal equal content."""
    package_digest: str
    """Digest of the Python files in the sealed wheel; see `tradelib.bundle.runtime`."""
    rule: DecisionRule
    execution: Execution
    needs: tuple[str, ...]
    """What a runner must be able to do besides market orders; see `tradelib.bundle.execution.NEEDS`."""
    golden_bars: pd.DataFrame
    golden_decisions: list[dict[str, Any]] = field(repr=False)
    golden_account: dict[str, Rows] = field(repr=False)
    gates: list[dict[str, Any]] = field(repr=False)
    figures: dict[str, Any] = field(repr=False)
    data: dict[str, Any] = field(repr=False)
    provenance: dict[str, Any] = field(repr=False)
    files: Mapping[str, FileRecord] = field(repr=False)

    def __repr__(self) -> str:
        return f"Bundle({self.name!r}, {self.permission!r}, digest={self.digest[:12]!r}, key_id={self.key_id!r})"

    @property
    def wheel(self) -> Path:
        """The sealed package."""
        return self.path / next(name for name in self.files if WHEEL.fullmatch(name))

    @property
    def lock(self) -> Path:
        """The pinned requirements of the runner."""
        return self.path / LOCK


def sha256(content: bytes) -> str:
    """SHA-256 as 64 hex digits."""
    return hashlib.sha256(content).hexdigest()


def payload_digest(files: Mapping[str, FileRecord]) -> str:
    """Digest over the manifest's files map without provenance."""
    kept = {name: asdict(record) for name, record in files.items() if name != PROVENANCE}
    return digest(kept)


def pretty(value: Any, what: str) -> bytes:
    """Indented JSON with sorted keys: the same content, the same bytes. `BundleError` for what JSON cannot say."""
    try:
        canonical(value)
    except LedgerError as error:
        raise BundleError(f"{what}: {error}") from error
    return (json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n").encode("ascii")


def parse_json(raw: bytes, what: str) -> Any:
    """Strict JSON: no key twice, no NaN or infinity, UTF-8 without mark; anything else is a `BundleError`."""
    try:
        return json.loads(
            raw.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite
        )
    except RecursionError:
        raise BundleError(f"{what} is nested too deeply to be what it should be.") from None
    except ValueError as error:
        raise BundleError(f"{what} is not valid JSON: {error}.") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(name for place, (name, _) in enumerate(pairs) if name in dict(pairs[:place]))
        raise ValueError(f"the key {twice!r} is there twice")
    return found


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is larger than any float")
    return value


def check_gates(gates: Any, permission: str) -> list[dict[str, Any]]:
    """The gate results, or `BundleError` when they do not carry the permission.

    Each is a dict with at least `tier` ("safety" or "evidence"), `name` and `passed`. Paper needs safety gates, all
    passed; live needs evidence gates as well, all passed.
    """
    if permission not in PERMISSIONS:
        raise BundleError(f"The permission must be one of {', '.join(PERMISSIONS)}, not {permission!r}.")
    if not isinstance(gates, list):
        raise BundleError(f"The gate results must be a list, not {type(gates).__name__}.")
    for gate in gates:
        if not _is_gate(gate):
            raise BundleError(f"A gate result needs tier ({' or '.join(TIERS)}), name and passed (bool): {gate!r}.")
    for tier in TIERS[: 1 + PERMISSIONS.index(permission)]:
        results = {gate["name"]: gate["passed"] for gate in gates if gate["tier"] == tier}
        failed = sorted(gate["name"] for gate in gates if gate["tier"] == tier and not gate["passed"])
        if not results:
            raise BundleError(f"The permission {permission!r} needs {tier} gates, and none was evaluated.")
        if failed:
            raise BundleError(f"The permission {permission!r} needs every {tier} gate; failed: {', '.join(failed)}.")
    return gates


def _is_gate(gate: Any) -> bool:
    return (
        isinstance(gate, dict)
        and gate.get("tier") in TIERS
        and isinstance(gate.get("name"), str)
        and isinstance(gate.get("passed"), bool)
    )


def is_record(value: Any) -> bool:
    """True for what the manifest may say of a file: `{"sha256": 64 hex digits, "bytes": size}` and nothing else."""
    return (
        isinstance(value, dict)
        and set(value) == {"sha256", "bytes"}
        and isinstance(value["sha256"], str)
        and _HEX.fullmatch(value["sha256"]) is not None
        and type(value["bytes"]) is int
        and 0 <= value["bytes"] <= LARGEST_FILE
    )
