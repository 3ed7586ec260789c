"""A PostgreSQL cluster of one's own and an MLflow server before it, on this machine, for as long as a test runs."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_START = 90.0  # seconds for a server that makes its tables first, on a busy machine


def postgres_programs() -> Path:
    """The folder with initdb and pg_ctl; the test is skipped where PostgreSQL is not installed."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda place: float(place.parent.name))
    places += [Path(found).resolve().parent for found in [shutil.which("initdb")] if found]
    places = [place for place in places if all((place / name).exists() for name in ("initdb", "pg_ctl", "createdb"))]
    if not places:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    pytest.importorskip("psycopg", reason="no driver for PostgreSQL: pip install 'psycopg[binary]'")
    return places[-1]


@contextmanager
def postgres() -> Iterator[str]:
    """The address of an empty database `mlflow`; it listens on a socket in its folder and on no port."""
    programs, folder = postgres_programs(), Path(tempfile.mkdtemp(prefix="tradelib-pg-"))
    if os.getuid() == 0:  # PostgreSQL refuses to run as root
        shutil.chown(folder, "postgres", "postgres")
    data, options = folder / "data", f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"
    try:
        _as_postgres(programs / "initdb", "-D", data, "-U", "tradelib", "-A", "trust", "--no-sync")
        _as_postgres(programs / "pg_ctl", "-D", data, "-w", "-t", "60", "-o", options, "-l", folder / "log", "start")
        try:
            _as_postgres(programs / "createdb", "-h", folder, "-U", "tradelib", "mlflow")
            yield f"postgresql+psycopg://tradelib@/mlflow?host={folder}"
        finally:
            _as_postgres(programs / "pg_ctl", "-D", data, "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _as_postgres(*command: str | Path) -> None:
    words = [str(word) for word in command]
    words = ["runuser", "-u", "postgres", "--", *words] if os.getuid() == 0 else words
    # pg_ctl's child keeps what it inherits: with pipes, one would wait for the server itself.
    with tempfile.TemporaryFile() as told:
        done = subprocess.run(words, cwd="/tmp", stdin=subprocess.DEVNULL, stdout=told, stderr=told, timeout=120)
        told.seek(0)
        assert done.returncode == 0, told.read().decode()


@contextmanager
def mlflow_server(database: str, artifacts: Path) -> Iterator[str]:
    """The address of an MLflow server that keeps runs in `database` and files in `artifacts`."""
    port = _free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", database, "--workers", "1"]
    command += ["--artifacts-destination", str(artifacts), "--host", "127.0.0.1", "--port", str(port)]
    log = artifacts.with_suffix(".log")
    with log.open("wb") as told:
        server = subprocess.Popen(command, cwd=artifacts.parent, stdout=told, stderr=told, start_new_session=True)
    try:
        _wait(f"http://127.0.0.1:{port}/health", server, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGTERM)  # a group of its own: uvicorn and what it started
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait(20)


def _wait(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + _START
    while time.monotonic() < end:
        assert server.poll() is None, log.read_text()[-3_000:]
        try:
            with urllib.request.urlopen(address, timeout=2) as answer:
                if answer.status == 200:
                    return
        except OSError:  # not listening yet, or not answering
            time.sleep(0.2)
    raise AssertionError(f"no answer within {_START:g} s: {log.read_text()[-3_000:]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
