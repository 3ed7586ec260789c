"""Promotion: from a candidate that passed its gates to a signed bundle that was proved on the disk.

A bundle is built and examined in a hidden folder beside its final place: verified with the trust store, built a second
time to the same bytes, and its golden decisions and orders reproduced by a fresh Python process that runs the sealed
wheel and nothing else of tradelib. Only then it gets its name, in one rename. A refusal, an error or Ctrl-C leaves
nothing behind; what a killed process left, the next promotion removes. The same content gives the bundle that exists
already.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tradelib.backtest.decision import DecisionRule
from tradelib.bundle import (
    Bundle,
    BundleContents,
    Execution,
    TrustStore,
    golden_account,
    load_bundle,
    make_golden,
    package_digest,
    wheel_digest,
    write_bundle,
)
from tradelib.bundle.account import turns
from tradelib.data.bars import check_bars
from tradelib.errors import BundleError
from tradelib.promotion.gates import GateResult, bundle_integrity, bundle_reproducible, judge, plain, verdict
from tradelib.promotion.wheel import build_wheel

__all__ = ["Promotion", "golden_history", "golden_reproduction", "golden_trades", "promote"]

_STAGING = ".promotion-"
_LOCK = Path("requirements") / "runner.lock"
_PATIENCE = 600.0  # seconds


@dataclass(frozen=True, eq=False)
class Promotion:
    """A bundle in its place. `results`: all gates, research first; `checks`: those of them that need a bundle."""

    bundle: Bundle
    results: tuple[GateResult, ...]
    checks: tuple[GateResult, ...]
    created: bool

    @property
    def permission(self) -> Literal["paper", "live"]:
        """What the bundle may do."""
        return "live" if self.bundle.permission == "live" else "paper"

    def summary(self) -> str:
        """One sentence: which bundle, what it may do, and which evidence failed."""
        failing = ", ".join(result.name for result in self.results if not result.passed)
        what = "may trade live" if self.permission == "live" else f"may trade on paper only (failing: {failing})"
        return f"Bundle {self.bundle.path.name} {'sealed' if self.created else 'existed already'}: it {what}."

    def to_dict(self) -> dict[str, Any]:
        """Plain data: digests, permission, key, and every gate."""
        names = ("name", "permission", "digest", "payload_digest", "package_digest", "key_id")
        facts = {name: getattr(self.bundle, name) for name in names}
        gates = {"results": [result.to_dict() for result in self.results]}
        return {"folder": self.bundle.path.name, "created": self.created, **facts, **gates, "summary": self.summary()}

    def _repr_html_(self) -> str:
        table = verdict(self.results, required=())._repr_html_()
        return f"<p>{escape(self.summary())}<br><code>{self.bundle.digest}</code></p>{table}"


def promote(
    *,
    name: str,
    rule: DecisionRule,
    execution: Mapping[str, Any],
    research_bars: pd.DataFrame,
    gates: Iterable[GateResult | Mapping[str, Any]],
    figures: Mapping[str, Any],
    provenance: Mapping[str, Any],
    root: str | os.PathLike[str],
    bundles_dir: str | os.PathLike[str],
    golden_length: int | None,
    private_key: Ed25519PrivateKey,
    trust: TrustStore,
) -> Promotion:
    """Seal `rule` with its evidence into `<bundles_dir>/<name>-<digest>/`.

    `execution`: symbol, timeframe, calendar, lots_per_unit, minimum_notional, maximum_leverage, fee_rate, slippage
    and cash (the warm-up is measured), and what else of `Execution` research assumed. `research_bars`: what research
    decided on. `gates`: results of `run_gates`. `root`: the project, whose package is sealed as a wheel with
    `requirements/runner.lock`. `golden_length`: bars at the end of the research that travel with the bundle (None:
    all); a runner's history begins with them. `trust` must know the key.

    Raises `BundleError` naming the reason when a safety gate failed or was not run, when the sources at `root` are not
    the running package, when the finished bundle does not prove itself, or when the disk refuses; then nothing is left
    behind.
    """
    results = [_as_result(gate) for gate in gates]
    _refuse_unsafe(results)
    terms = _execution(execution, rule)
    bars, golden = _golden(rule, research_bars, golden_length)
    account = golden_account(rule, terms, bars)
    results.append(golden_history(rule, research_bars, len(bars)))
    results.append(golden_trades(rule, terms, research_bars, account["fills"]))
    permission = _refuse_unsafe(results)

    def build(folder: Path) -> Bundle:
        contents = BundleContents(
            name=name,
            permission=permission,
            rule=rule,
            execution=terms,
            golden_bars=bars,
            golden_decisions=golden,
            gates=[result.to_dict() for result in results],
            figures=plain(figures),
            data=_data(research_bars, bars),
            provenance=plain(provenance),
            wheel=_sealed_wheel(Path(root), folder / "wheel"),
            lock=_lock(Path(root)),
            golden_account=account,
        )
        return write_bundle(folder / "bundle", contents, private_key)

    try:
        with _alone_in(Path(bundles_dir)) as staging:
            draft = build(staging)
            checks = _prove(draft, build, trust)
            _refuse_unsafe([*results, *checks])
            place, created = _place(draft, Path(bundles_dir))
    except OSError as error:
        raise BundleError(
            f"Nothing was promoted into {bundles_dir}: the system says {error.strerror or error}."
        ) from error
    return Promotion(load_bundle(place, trust), (*results, *checks), checks, created)


def _prove(draft: Bundle, build: Callable[[Path], Bundle], trust: TrustStore) -> tuple[GateResult, ...]:
    """The gates that need a finished bundle: it is whole, built again it is the same, and it decides as it says."""
    builds = iter((lambda _: draft, build))
    return (
        bundle_integrity(draft.path, trust),
        bundle_reproducible(lambda folder: next(builds)(folder)),
        golden_reproduction(draft.path, trust),
    )


# Gates that need the golden window or the bundle ----------------------------------------------------------------------


def golden_history(rule: DecisionRule, research_bars: pd.DataFrame, length: int) -> GateResult:
    """A runner whose history begins with the last `length` research bars decides as research did at their end.

    A recursive indicator remembers what came before its first bar; with too short a window the runner would not decide
    exactly what was evaluated. Compared bit for bit: the last tenth of the window, at least its last 20 bars.
    """
    full = rule.decisions(research_bars)
    short = rule.decisions(research_bars.iloc[-length:].copy())
    tail = min(length, max(20, length // 10))
    one, other = full.iloc[-tail:], short.iloc[-tail:]
    same = (one.eq(other) | (one.isna() & other.isna())).all(axis=1)
    different = int((~same).sum())
    words = f"With a history of {length} bars the runner decides as research did on the last {tail} of them."
    if different:
        time = one.index[~same.to_numpy()][0]
        words = (
            f"With a history of {length} bars {different} of the last {tail} decisions differ from research, first at "
            f"{time.isoformat()}: {one.loc[time].to_dict()} in research, {other.loc[time].to_dict()} at the runner. "
            "Promote with a longer golden window."
        )
    evidence = {"golden_bars": length, "research_bars": len(research_bars), "compared": tail}
    return judge("golden_history", "safety", different, "==", 0, words, evidence)


def golden_trades(
    rule: DecisionRule, execution: Execution, research_bars: pd.DataFrame, fills: Sequence[Mapping[str, Any]]
) -> GateResult:
    """The golden window is long enough to trade: in its `fills` a position is entered, and one is left.

    A rule that never leaves one on all of the research bars is excused, and the result says so.
    """
    entries, exits = turns(fills)
    needed = 0 if exits or not entries else _bars_to_trade(rule, execution, research_bars)
    missing = int(entries == 0) + int(exits == 0 and needed is not None)
    words = f"The account of the golden window enters {entries} and leaves {exits} positions."
    if needed is None:
        words += f" The rule left none on all {len(research_bars)} research bars: it never exits."
    elif missing:
        more = (
            f"about {needed} bars would" if needed else "look at cash, lots and costs, or take a longer one that does"
        )
        words += f" What is never traded is never compared: {more} hold an entry and an exit."
    evidence = {"entries": entries, "exits": exits, "never_exits": needed is None}
    return judge("golden_trades", "safety", missing, "==", 0, words, evidence)


def _bars_to_trade(rule: DecisionRule, execution: Execution, research_bars: pd.DataFrame) -> int | None:
    """Bars at the end of research that hold its last exit and, after the warm-up, an entry; None without any exit."""
    left, before = None, 0.0
    for fill in golden_account(rule, execution, research_bars)["fills"]:
        left = fill["time"] if before != 0.0 and before * fill["position"] <= 0.0 else left
        before = fill["position"]
    if left is None:
        return None
    return int((research_bars.index >= pd.Timestamp(left)).sum()) + execution.warmup + 2


_REPRODUCE = """
import json, sys
sys.path.insert(0, sys.argv[1])
import tradelib
from tradelib.bundle import TrustStore, load_bundle, reproduce_golden, verify_runtime
from tradelib.errors import TradelibError
try:
    bundle = load_bundle(sys.argv[2], TrustStore(sys.argv[3]))
    verify_runtime(bundle)
    check = reproduce_golden(bundle)
    answer = {"count": check.count, "orders": check.orders, "equal": check.equal}
    answer["difference"] = str(check.first_difference or "")
except TradelibError as error:
    answer = {"refused": str(error)}
sys.stdout.write(json.dumps({**answer, "sealed": tradelib.__file__.startswith(sys.argv[1])}))
"""


def golden_reproduction(bundle: str | os.PathLike[str], trust: TrustStore) -> GateResult:
    """A fresh Python process, running the wheel sealed in the bundle, reproduces the golden decisions bit for bit."""
    with tempfile.TemporaryDirectory(prefix="tradelib-golden-") as folder:
        try:
            wheel = load_bundle(bundle, trust).wheel
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(folder)
            answer = _ask(folder, Path(bundle), trust)
        except (BundleError, OSError, zipfile.BadZipFile) as error:
            answer = {"refused": str(error)}
    count = answer.get("count")
    if answer.get("equal") is True and answer.get("sealed") is True:
        orders = answer.get("orders")
        words = f"A fresh process running the sealed package reproduced all {count} golden decisions, {orders} orders."
        return judge("golden_decisions", "safety", 0, "==", 0, words, answer)
    told = answer.get("refused") or answer.get("difference") or "it did not run the sealed package"
    words = f"A fresh process running the sealed package did not reproduce the golden decisions: {told}"
    return judge("golden_decisions", "safety", None, "==", 0, words, answer)


def _ask(package: str, bundle: Path, trust: TrustStore) -> dict[str, Any]:
    """Run the check in a clean interpreter: no environment, no user packages, no working directory on the path."""
    command = [
        sys.executable,
        "-I",
        "-B",
        "-c",
        _REPRODUCE,
        package,
        str(bundle.resolve()),
        str(trust.folder.resolve()),
    ]
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH") if name in os.environ}
    environment = {**kept, "TRADELIB_JIT": "0"}
    try:
        done = subprocess.run(command, cwd=package, env=environment, capture_output=True, text=True, timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        return {"refused": f"it did not answer within {_PATIENCE:.0f} seconds"}
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        return {"refused": (done.stderr.strip().splitlines() or ["it gave no answer"])[-1]}
    return answer


# Steps ----------------------------------------------------------------------------------------------------------------


def _as_result(gate: GateResult | Mapping[str, Any]) -> GateResult:
    return gate if isinstance(gate, GateResult) else GateResult.from_dict(gate)


def _refuse_unsafe(results: list[GateResult]) -> Literal["paper", "live"]:
    """The permission that the results carry; `BundleError` when it is none."""
    found = verdict(results)
    if found.permission == "none":
        first = next(result for result in found.failing if result.tier == "safety")
        raise BundleError(f"Nothing was promoted. {found.summary()} {first.explanation}")
    return found.permission


def _golden(
    rule: DecisionRule, research_bars: pd.DataFrame, golden_length: int | None
) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    check_bars(research_bars)
    return make_golden(rule, research_bars, len(research_bars) if golden_length is None else golden_length)


def _execution(execution: Mapping[str, Any], rule: DecisionRule) -> Execution:
    timeframe = execution.get("timeframe")
    warmup = rule.warmup_on(timeframe) if isinstance(timeframe, str) else 1  # refused below
    return Execution.from_config({"warmup": warmup, **execution})


def _data(research_bars: pd.DataFrame, golden_bars: pd.DataFrame) -> dict[str, Any]:
    return {"research": _identity(research_bars), "golden": _identity(golden_bars)}


def _identity(bars: pd.DataFrame) -> dict[str, Any]:
    span = {"bars": len(bars), "first": bars.index[0].isoformat(), "last": bars.index[-1].isoformat()}
    names = ("symbol", "timeframe", "source", "calendar", "digest")
    return {**{name: str(bars.attrs[name]) for name in names}, **span}


def _sealed_wheel(root: Path, destination: Path) -> Path:
    """The wheel of the sources at `root`, which must be the package that computed everything."""
    wheel = build_wheel(root, destination)
    if wheel_digest(wheel) != package_digest():
        raise BundleError(
            f"The sources in {root} are not the package that is running: run from the project's own environment (make)."
        )
    return wheel


def _lock(root: Path) -> Path:
    lock = root / _LOCK
    if not lock.is_file():
        raise BundleError(f"{lock} is missing: without the runner's lock nobody can install what was promoted.")
    return lock


@contextmanager
def _alone_in(bundles_dir: Path) -> Iterator[Path]:
    """A hidden folder in `bundles_dir` for one promotion at a time; gone afterwards, whatever happens."""
    bundles_dir.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(bundles_dir, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        for stale in bundles_dir.glob(f"{_STAGING}*"):
            shutil.rmtree(stale, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=bundles_dir, prefix=_STAGING) as folder:
            yield Path(folder)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _place(draft: Bundle, bundles_dir: Path) -> tuple[Path, bool]:
    """Give the proved bundle its name; True when it is new, False when the same bundle was there."""
    target = bundles_dir / draft.path.name
    if not target.exists():
        draft.path.rename(target)
        return target, True
    for name in ("manifest.json", "attestation.json"):
        if not (target / name).is_file() or (target / name).read_bytes() != (draft.path / name).read_bytes():
            raise BundleError(
                f"{target} exists with another {name}: it was altered or signed with another key. "
                "Look at it, then move it away."
            )
    return target, False
