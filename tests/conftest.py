"""What every test stands on: the tools' environment, a home of its own, and the folder of recorded market data."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.environment import PROJECT, project_environment

# Before any library is imported: numba, matplotlib and hypothesis read their folders at import.
os.environ.update(project_environment())
os.environ["MPLBACKEND"] = "agg"
# A shell that starts this in the background lets it ignore Ctrl-C, and so would the processes that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _session_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fixtures that outlive one test count their trials here, never in the project's ledger."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRADELIB_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The `TRADELIB_HOME` of one test: an empty folder."""
    folder = tmp_path / "tradelib-home"
    monkeypatch.setenv("TRADELIB_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def project() -> Path:
    """The folder of the project."""
    return PROJECT


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of recorded market data: `TRADELIB_REAL_DATA`, else `../shared/data` beside the project."""
    folder = recorded_data(os.environ)
    if folder.is_dir():
        return folder
    reason = f"no recorded market data at {folder}; name its folder in TRADELIB_REAL_DATA"
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def recorded_data(environment: Mapping[str, str]) -> Path:
    """Where the recorded market data should be."""
    return Path(environment.get("TRADELIB_REAL_DATA") or PROJECT.parent / "shared" / "data")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests start first, so that no worker waits for the other at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file stays with one worker, since some share one long set-up, such as a run of the whole pipeline.

    Notebooks share nothing, and each goes to whoever is free.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return nodeid if file.endswith("test_notebooks.py") else file

    return ByFile(config, log)
