"""Fixtures of the runner's tests."""

from __future__ import annotations

import pytest

from tests.live.support import KEY, SECRET, Sealed, seal, synthetic_bars


@pytest.fixture(scope="session")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Sealed:
    """A paper bundle of a market that never closes, in lots of 1/1024."""
    return seal(tmp_path_factory.mktemp("sealed"), synthetic_bars())


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """The venue's keys where the runner looks for them."""
    monkeypatch.setenv("TRADELIB_API_KEY", KEY)
    monkeypatch.setenv("TRADELIB_API_SECRET", SECRET)
