"""Where a project's registry is: an SQLite file in the project, or an MLflow server, decided once and kept.

The environment variable `TRADELIB_MLFLOW_URI` (in `project.env`, say), or the argument of whoever opens the registry
first, names the server. Its address is then written to `mlruns/server`, and every later command of the project uses it,
in whatever shell. Two stores that each know half of the runs cannot come about: another address is refused.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

from tradelib.data.files import replace_file
from tradelib.errors import ParameterError, TradelibError

__all__ = ["VARIABLE", "Place", "find_place"]

VARIABLE = "TRADELIB_MLFLOW_URI"
_PROXIED = "mlflow-artifacts:"
_PATIENCE = 10.0  # seconds


@dataclass(frozen=True)
class Place:
    """A registry's runs and files: `uri` for the first, `artifacts` the prefix of every address of the second."""

    root: Path
    server: str | None

    @property
    def folder(self) -> Path:
        """What the project keeps of its registry: everything, or the address of the server."""
        return self.root / "mlruns"

    @property
    def uri(self) -> str:
        """Where MLflow keeps runs and models."""
        return self.server or f"sqlite:///{self.folder / 'mlflow.db'}"

    @property
    def artifacts(self) -> str:
        """Where MLflow keeps files; a server's are reached through it, wherever it has them."""
        return _PROXIED if self.server else (self.folder / "artifacts").as_uri()

    def check_reachable(self) -> None:
        """`TradelibError` where the server does not answer; MLflow itself would try for minutes."""
        if self.server is None:
            return
        try:
            with urlopen(f"{self.server}/health", timeout=_PATIENCE):
                return
        except (OSError, HTTPException) as error:
            raise TradelibError(
                f"the MLflow server {self.server} does not answer ({error}): start it, or correct its address, see "
                f"{VARIABLE} and {_note(self.root)}."
            ) from error

    def keep(self) -> None:
        """Write the server's address down; `TradelibError` where the project's runs are elsewhere already."""
        if self.server is None or _kept(self.root) == self.server:
            return
        if (self.folder / "mlflow.db").exists():
            raise TradelibError(
                f"{VARIABLE} names {self.server}, but this project's runs are in {self.folder / 'mlflow.db'}: a second "
                "store would know half of them. Unset it, or move that folder away to begin anew on the server."
            )
        replace_file(_note(self.root), f"{self.server}\n".encode())


def find_place(root: Path, server: str | None = None) -> Place:
    """The place of the registry of the project at `root`: what was kept, else `server`, else what the variable says.

    `ParameterError` for what is no address of a server; `TradelibError` where another one was kept.
    """
    asked = _checked(server or os.environ.get(VARIABLE) or None)
    kept = _kept(root)
    if asked and kept and asked != kept:
        raise TradelibError(
            f"the registry of this project is on {kept}, not on {asked}: correct {VARIABLE}, or, where the server has "
            f"moved with everything on it, delete {_note(root)}."
        )
    return Place(root, kept or asked)


def _note(root: Path) -> Path:
    return root / "mlruns" / "server"


def _kept(root: Path) -> str | None:
    try:
        return _checked(_note(root).read_text(encoding="utf-8").strip())
    except FileNotFoundError:
        return None


def _checked(uri: str | None) -> str | None:
    """`uri` without a slash at its end; refused where it is no server, or would write a password down."""
    if uri is None:
        return None
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ParameterError(
            f"{_without_password(uri)!r} is not the address of an MLflow server, as in http://127.0.0.1:5000. A "
            "database belongs behind the server: mlflow server --backend-store-uri postgresql+psycopg://..."
        )
    if parts.username or parts.password:
        raise ParameterError(
            "the address of the MLflow server holds a password, which would be written down: pass "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD instead"
        )
    return uri.rstrip("/")


def _without_password(uri: str) -> str:
    before, mark, rest = uri.rpartition("@")
    return f"{before.partition('://')[0]}://…@{rest}" if mark else uri
