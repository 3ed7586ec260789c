"""A test that needs the recorded market data; run by name, from `tests/test_environment.py`, where there is none."""

from __future__ import annotations

from pathlib import Path


def test_it_reads_the_manifest(real_data: Path) -> None:
    assert (real_data / "MANIFEST.csv").exists()
