"""`make demo`: the whole road, from a strategy in a notebook to its paper account, ending in the verdict.

Runs `dvc repro` (so a second call does only what changed) and then prints the verdict and writes it as a page.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from pipelines import params
from pipelines.artifacts import artifact, local_state, read_json, root
from pipelines.params import read_yaml
from tradelib.bundle.keys import TrustStore, generate_key, list_keys
from tradelib.errors import TradelibError

__all__ = ["main"]

_STARTED = re.compile(r"Running stage '([^']+)'")
_SKIPPED = re.compile(r"Stage '([^']+)' (?:didn't change|is cached)")
_FAILED = re.compile(r"failed to reproduce '([^']+)'")
_NOISE = re.compile(
    r"^(> |Generating lock file|Updating lock file|To track the changes|\s*git add|To enable auto|\s*dvc config"
    r"|Use `dvc push`|Data and pipelines are up to date|$)"
)
_SEALED = ("register", "promote", "paper")


def main() -> int:
    """Run the demo; exit code 0 with the verdict, 1 with one clear line, 130 when interrupted."""
    console = Console(highlight=False, soft_wrap=True)
    try:
        settings = params.load(root())
        _prepare_key(settings.promotion.signing_key, console)
        code, failed = _reproduce(console)
        if code == 0 or (failed and failed <= _refusals(settings.strategies)):
            from pipelines.verdict import show

            show(console)
        return code
    except TradelibError as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"demo: {error}", markup=False)
        return 1
    except KeyboardInterrupt:
        console.print("interrupted; finished stages are kept, `make demo` goes on from there")
        return 130


def _prepare_key(name: str, console: Console) -> None:
    """Make the local signing key at the first run, and say so."""
    if name not in {key.name for key in list_keys()}:
        key = generate_key(name)
        TrustStore().add(key.public_path)
        console.print(f"A signing key was made for this machine: {name} ({key.key_id}), in {key.public_path.parent}")


def _refusals(candidates: Iterable[str]) -> set[str]:
    """Stages whose failure is a verdict: the promotion of a candidate that a safety gate refused."""
    return {
        f"promote@{name}"
        for name in candidates
        if artifact("gates", name, "gates.json").exists()
        and read_json(artifact("gates", name, "gates.json"))["permission"] == "none"
    }


def _reproduce(console: Console) -> tuple[int, set[str]]:
    """`dvc repro` with one line per stage; what this clone has lost since is made anew. Exit code and failed stages.

    A stage that fails stops what depends on it, not the other candidates.
    """
    begun = time.monotonic()
    code, failed = _follow(["repro", "--keep-going"], _count(), console)
    lost = _lost() if code == 0 else []
    if lost:
        console.print("  this clone lacks what these stages made outside of DVC; they run again:")
        code, failed = _follow(["repro", "--force", "--single-item", *lost], len(lost), console)
    if code == 0:
        console.print(f"  the pipeline is up to date ({time.monotonic() - begun:.1f} s)")
    return code, failed


def _follow(arguments: list[str], total: int, console: Console) -> tuple[int, set[str]]:
    """Run dvc and tell one line per stage, with its duration; the exit code and the stages that failed."""
    number, started, running = 0, time.monotonic(), False
    failed: set[str] = set()
    for kind, text in _events([sys.executable, "-m", "dvc", *arguments]):
        if kind != "say" and running:
            console.print(f"{time.monotonic() - started:6.1f} s")
            running = False
        if kind == "run":
            number, started, running = number + 1, time.monotonic(), True
            console.print(f"  {number:>2}/{total}  {text:<24} {_description(text):<72}", end="", markup=False)
        elif kind == "skip":
            number += 1
        elif kind == "fail":
            failed.add(text)
        elif kind == "say":
            console.print(("\n" if running else "") + f"         {text}", markup=False)
            running = False
        elif kind == "exit" and text != "0":
            return (130 if text in ("130", "-2") else 1), failed
    return 0, failed


def _events(command: list[str]) -> Iterator[tuple[str, str]]:
    """What `dvc repro` reports, as (kind, text): run, skip, fail, say, end, exit."""
    process = subprocess.Popen(command, cwd=root(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if found := _STARTED.search(line):
                yield "run", found[1]
            elif found := _SKIPPED.search(line):
                yield "skip", found[1]
            elif found := _FAILED.search(line):
                yield "fail", found[1]
            elif not _NOISE.match(line):
                yield "say", line.rstrip()
        yield "end", ""
        yield "exit", str(process.wait())
    finally:
        if process.poll() is None:
            process.wait()


def _stages() -> dict[str, Any]:
    stages: dict[str, Any] = read_yaml(root() / "dvc.yaml")["stages"]
    return stages


def _count() -> int:
    """Stages of the pipeline, those of every market and candidate counted."""
    content = read_yaml(root() / "params.yaml")
    groups = (str(body.get("foreach", "")).strip("${}") for body in _stages().values())
    return sum(len(content[group]) if group else 1 for group in groups)


def _description(stage: str) -> str:
    body = _stages()[stage.partition("@")[0]]
    return str(body.get("do", body).get("desc", ""))


def _lost() -> list[str]:
    """Stages that DVC holds for done, although the registry entry, bundle or journal they made is not in this clone."""
    records = [(stage, path.parent.name) for stage in _SEALED for path in sorted(artifact(stage).glob("*/*.json"))]
    return [f"{stage}@{candidate}" for stage, candidate in records if not _still_there(stage, candidate)]


def _still_there(stage: str, candidate: str) -> bool:
    """Whether what a record of DVC speaks of exists outside of DVC: a registry entry, a bundle, a journal."""
    state = local_state(stage, f"{candidate}.json")
    if not state.is_file():
        return False
    facts = read_json(state)
    place: Path = {
        "register": lambda: root() / "mlruns" / "mlflow.db",
        "promote": lambda: root() / "bundles" / facts["folder"],
        "paper": lambda: root() / facts["journal"],
    }[stage]()
    return place.exists()


if __name__ == "__main__":
    sys.exit(main())
