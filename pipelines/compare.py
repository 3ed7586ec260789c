"""`make mlflow`: MLflow's page on this clone's registry, opened where the candidates stand side by side."""

from __future__ import annotations

import socket
import subprocess
import sys

from pipelines.artifacts import local_state, read_json, root
from tradelib.errors import ParameterError, TradelibError
from tradelib.promotion.registry import Registered, Registry

__all__ = ["main"]

_PORT = 5000


def main(port: int = _PORT) -> int:
    """Print the deep links, then serve MLflow here until Ctrl-C; exit code 1 with one line when it cannot."""
    try:
        _check_port(port)
        registry = Registry(root())
        entries = [Registered(**read_json(path)) for path in sorted(local_state("register").glob("*.json"))]
        if not entries:
            raise ParameterError("nothing is registered yet: run `make demo`")
        links = registry.deep_links(entries[0], f"http://127.0.0.1:{port}")
        print(
            f"compare the candidates:  {links['compare']}\none run, with its files: {links['run']}\nCtrl-C stops.",
            flush=True,
        )
    except TradelibError as error:
        print(f"mlflow: {error}", file=sys.stderr)
        return 1
    command = [
        "mlflow",
        "server",
        "--backend-store-uri",
        registry.uri,
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    try:
        return subprocess.run([sys.executable, "-m", *command], cwd=root()).returncode
    except KeyboardInterrupt:
        return 0


def _check_port(port: int) -> None:
    """`ParameterError` naming the port when something else listens there."""
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            raise ParameterError(
                f"port {port} is taken by another program: stop it, or give another: PORT=5001 make mlflow"
            )


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else _PORT))
