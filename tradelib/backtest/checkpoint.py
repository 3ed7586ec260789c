"""The file in which a sweep keeps its finished points: arrays and plain text, replaced as a whole."""

from __future__ import annotations

import io
import json
import os
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tradelib.errors import ParameterError

__all__ = ["Checkpoint", "differences"]

_EVERY = 1.0
"""Seconds between two writes while blocks finish."""


class Checkpoint:
    """Finished points of one sweep in the file `path`; one that is there is read, and must be of the same sweep.

    `asked`: the sweep as plain data. `known`: figures by the key of a point. `ParameterError` says what differs when
    the file belongs to another sweep, or that it is no such file.
    """

    def __init__(self, path: Path, asked: Mapping[str, Any], figures: Sequence[str]) -> None:
        self.path = path
        self._asked = json.dumps({**asked, "figures": list(figures)}, default=repr)
        self.known: dict[bytes, np.ndarray] = {}
        self._written, self._saved = time.monotonic(), 0
        if path.exists():
            self._read()

    def keep(self, keys: Sequence[bytes], figures: np.ndarray) -> None:
        """Add points, figures `(k, f)`; the file has them after the next `write`."""
        self.known.update(zip(keys, figures, strict=True))

    @property
    def is_due(self) -> bool:
        """True where the file should follow: a second has gone by since it was written."""
        return time.monotonic() - self._written >= _EVERY

    def write(self) -> None:
        """Replace the file when there is something new."""
        if len(self.known) == self._saved:
            return
        content = io.BytesIO()
        keys = np.frombuffer(b"".join(self.known), np.uint8).reshape(len(self.known), -1)
        np.savez(
            content, asked=np.frombuffer(self._asked.encode(), np.uint8), keys=keys, figures=[*self.known.values()]
        )
        _replace(self.path, content.getvalue())
        self._written, self._saved = time.monotonic(), len(self.known)

    def _read(self) -> None:
        try:
            with np.load(self.path, allow_pickle=False) as held:
                asked, keys, figures = (held[name] for name in ("asked", "keys", "figures"))
            there = json.loads(asked.tobytes())
            self.known = {key.tobytes(): row for key, row in zip(keys, figures, strict=True)}
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise ParameterError(f"{self.path} holds no sweep to resume ({error}): give another path") from error
        told = list(differences(there, json.loads(self._asked)))
        if told:
            more = f" and {len(told) - 3} more" if len(told) > 3 else ""
            raise ParameterError(
                f"{self.path} holds another sweep: {'; '.join(told[:3])}{more}. Give another path, or delete the file"
            )
        self._saved = len(self.known)


def _replace(path: Path, content: bytes) -> None:
    """`content` as the file `path`: the old one or the new one, also when the machine stops in between."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def differences(there: Any, here: Any, name: str = "") -> Iterator[str]:
    """Where two pieces of plain data differ, as sentences: "costs.fee_rate is 0.001 there, 0.002 here"."""
    if isinstance(there, dict) and isinstance(here, dict):
        for key in [*there, *(key for key in here if key not in there)]:
            yield from differences(there.get(key), here.get(key), f"{name}.{key}" if name else key)
    elif there != here:
        yield f"{name} is {_short(there)} there, {_short(here)} here"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
