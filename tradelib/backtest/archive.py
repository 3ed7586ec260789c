"""One file for tables of numbers and what they mean: a zip of `.npy` arrays and JSON, sealed by a digest.

The file is an ordinary zip archive, readable with any tool: `document.json` says what it is, `arrays/<name>.npy` holds
each array (numpy's published format, no pickled objects). The archive's comment, the last 64 bytes of the file, is the
SHA-256 of all bytes before it in hexadecimal, so that `head -c -64 FILE | sha256sum` checks a file without
tradelib. Equal content gives equal bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tradelib.data.files import replace_file
from tradelib.errors import DataError

__all__ = ["read_archive", "write_archive"]

_DIGITS = 64
_DOCUMENT = "document.json"
_LONG_AGO = (1980, 1, 1, 0, 0, 0)
"""The time of every member: the earliest that a zip archive can say."""


def write_archive(
    path: str | Path, form: str, version: int, document: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> Path:
    """Write `document` (JSON-able) and `arrays` under `path`, atomically, over an earlier file. Returns the path.

    `form`, `version`: the name and the number of the format, which `read_archive` asks for.
    """
    said = {"format": form, "version": version, **document}
    members = {_DOCUMENT: json.dumps(said, indent=1, allow_nan=False).encode()}
    members |= {f"arrays/{name}.npy": _npy(array) for name, array in arrays.items()}
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name, _LONG_AGO), data, zipfile.ZIP_DEFLATED, compresslevel=1)
        archive.comment = b"0" * _DIGITS
    body = content.getvalue()[:-_DIGITS]
    return replace_file(path, body + hashlib.sha256(body).hexdigest().encode())


def _npy(array: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.lib.format.write_array(content, np.ascontiguousarray(array), allow_pickle=False)
    return content.getvalue()


def read_archive(path: str | Path, form: str, version: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The document and the arrays of a file that `write_archive` wrote.

    Raises `DataError` for a file that cannot be read, is something else, has changed by as much as one bit since it was
    written, or is of a version beyond `version`.
    """
    if not isinstance(path, str | os.PathLike):
        raise DataError(f"cannot read {path!r}: give the path of a file")
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    _check_seal(path, content)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    document = json.loads(members.pop(_DOCUMENT, b"{}"))
    if document.get("format") != form:
        raise DataError(f"{path} holds {document.get('format', 'something')!r}, not {form!r}")
    if not 1 <= document["version"] <= version:
        raise DataError(
            f"{path} was written in version {document['version']} of {form!r}, this tradelib reads up to {version}: "
            "upgrade tradelib"
        )
    arrays = {Path(name).stem: _array(data) for name, data in members.items()}
    return document, arrays


def _array(data: bytes) -> np.ndarray:
    array: np.ndarray = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    return array


def _check_seal(path: str | Path, content: bytes) -> None:
    """`DataError` unless the last bytes are the digest of all others."""
    body, seal = content[:-_DIGITS], content[-_DIGITS:]
    if not body.startswith(b"PK"):
        raise DataError(f"{path} is not a saved result: it does not begin as a zip archive")
    found = hashlib.sha256(body).hexdigest()
    if found.encode() != seal:
        raise DataError(
            f"{path} is damaged or was changed: its content has the SHA-256 {found}, "
            f"its last bytes say {seal.decode('ascii', 'replace')}; take another copy"
        )
