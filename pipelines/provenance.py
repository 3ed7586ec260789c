"""Which commit, which parameters and which pipeline state a result belongs to."""

from __future__ import annotations

import subprocess
from typing import Any

import yaml

import tradelib
from pipelines.artifacts import root
from pipelines.params import read_yaml
from tradelib.ledger.chain import digest
from tradelib.promotion.lineage import research_lock_digest

__all__ = ["commit", "lock_digest", "params_digest", "provenance"]


def commit() -> str:
    """The checked-out commit, with `+changes` when tracked files differ from it; `unknown` outside of git."""
    head = _git("rev-parse", "HEAD")
    if head is None:
        return "unknown"
    return head + ("+changes" if _git("status", "--porcelain", "--untracked-files=no") else "")


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=root(), capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def params_digest() -> str:
    """SHA-256 of the content of `params.yaml`; comments and layout do not count."""
    return digest(read_yaml(root() / "params.yaml"))


def lock_digest(candidate: str) -> str:
    """SHA-256 of what `dvc.lock` says about the research stages of `candidate` (and of the markets)."""
    path = root() / "dvc.lock"
    lock: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else {}
    return research_lock_digest(lock, candidate, _markets())


def _markets() -> tuple[str, ...]:
    return tuple(read_yaml(root() / "params.yaml").get("markets", {}))


def provenance(candidate: str) -> dict[str, str]:
    """Commit, digests and version: what a registered run and a bundle say about their origin."""
    return {
        "candidate": candidate,
        "commit": commit(),
        "params_digest": params_digest(),
        "dvc_lock_digest": lock_digest(candidate),
        "tradelib_version": tradelib.__version__,
    }
