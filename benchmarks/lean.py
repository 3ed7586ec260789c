"""What a runner takes where nothing of research is installed: `python -m benchmarks.lean`.

The environment holds exactly the lock that bundles seal. The bundle is sealed, verified and traded with the command, as
an operator would: one symbol, one-minute bars, a paper venue in another process, journal on the disk.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

from benchmarks.environments import LEAN, environment
from benchmarks.load import GOLDEN, KEYS, TERMS, minutes, rule
from benchmarks.rows import CACHE
from tests.environment import PROJECT

__all__ = ["measure"]

BARS = 500
"""Minutes that are traded."""
COMMAND = "from tradelib.cli import main; main()"


def measure() -> dict[str, float]:
    """`memory_last`, `memory_peak`: of a runner that has traded `BARS` minutes, resident MB.

    `p50_ms`, `p99_ms`: milliseconds of a decision with seven indicators on 500 bars, in the same environment.
    """
    python = environment(LEAN, CACHE / "environments")
    with tempfile.TemporaryDirectory(prefix="lean-") as folder:
        found = _traded(python, Path(folder))
    command = [str(python), "-m", "benchmarks.load", "decision"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    return found | json.loads(done.stdout.splitlines()[-1])


def _traded(python: Path, folder: Path) -> dict[str, float]:
    from tradelib.data.files import write_bars

    bars = minutes(0, GOLDEN + BARS + 2)
    bundle, settings = _sealed(bars, folder), _settings(folder)
    write_bars(bars, folder / "tape.csv")
    terms = [f"--{name.replace('_', '-')}={value}" for name, value in TERMS.items()]
    start = f"--start={bars.index[GOLDEN].isoformat()}"
    serve = [sys.executable, "-c", COMMAND, "venue", "tape.csv", start, "--port=0", "--cash=1e6", *terms]
    with subprocess.Popen(serve, cwd=folder, env=settings, stdout=subprocess.PIPE, text=True) as venue:
        try:
            assert venue.stdout is not None
            url = re.findall(r"http://127\.0\.0\.1:\d+", venue.stdout.readline())[0]
            until = f"--until={bars.index[GOLDEN + BARS - 1].isoformat()}"
            trade = [str(python), "-c", COMMAND, "run", str(bundle), f"--venue={url}", "--journal=j.sqlite", until]
            return _watched(trade, folder, settings)
        finally:
            venue.terminate()


def _watched(command: list[str], folder: Path, settings: dict[str, str]) -> dict[str, float]:
    """Run it to its end and look at its memory; `RuntimeError` where it fails."""
    memory: dict[str, float] = {}
    with (folder / "out").open("w") as out:
        runner = subprocess.Popen(command, cwd=folder, env=settings, stdout=out, stderr=out)
        while runner.poll() is None:
            memory = _memory(runner.pid) or memory
            time.sleep(0.02)
    if runner.returncode:
        raise RuntimeError((folder / "out").read_text().strip().splitlines()[-1])
    return {"memory_last": memory["VmRSS"], "memory_peak": memory["VmHWM"]}


def _memory(process: int) -> dict[str, float]:
    """MB; empty where the process has just ended."""
    try:
        told = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return {}
    lines = [line.split() for line in told if line.startswith(("VmRSS:", "VmHWM:"))]
    return {name.rstrip(":"): int(size) / 1024 for name, size, _ in lines}


def _settings(folder: Path) -> dict[str, str]:
    """The bundle's own package before everything else, and a home of its own."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "TRADELIB_"))}
    return mine | KEYS | {"TRADELIB_HOME": str(folder / "home"), "PYTHONPATH": str(folder / "package"), "NO_COLOR": "1"}


def _sealed(bars: Any, folder: Path) -> Path:
    """A signed bundle of the trend follower, and its package unpacked; its path."""
    from tradelib.bundle import (
        BundleContents,
        Execution,
        TrustStore,
        generate_key,
        load_private_key,
        make_golden,
        write_bundle,
    )
    from tradelib.promotion.wheel import build_wheel

    key = generate_key("lean", folder / "home")
    TrustStore(folder / "home" / "trust").add(key.public_path)
    golden, decisions = make_golden(rule(0), bars.iloc[:GOLDEN], GOLDEN)
    gate = {"tier": "safety", "name": "data_quality", "figure": 0, "comparison": "==", "threshold": 0, "passed": True}
    contents = BundleContents(
        name="lean",
        permission="paper",
        rule=rule(0),
        execution=Execution(
            **{name: bars.attrs[name] for name in ("symbol", "timeframe", "calendar")},
            **TERMS, cash=1e6, maximum_leverage=1.0, warmup=rule(0).warmup,
        ),
        golden_bars=golden,
        golden_decisions=decisions,
        gates=[{**gate, "explanation": "synthetic"}],
        figures={},
        data={},
        provenance={},
        wheel=build_wheel(PROJECT, folder / "wheel"),
        lock=PROJECT / "requirements" / "runner.lock",
    )  # fmt: skip
    bundle = write_bundle(folder / "bundles", contents, load_private_key("lean", folder / "home"))
    with zipfile.ZipFile(contents.wheel) as wheel:
        wheel.extractall(folder / "package")
    return Path(bundle.path)


if __name__ == "__main__":
    print(json.dumps(measure()))
