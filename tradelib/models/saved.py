"""A fitted model as one file that a person can open, that says what it reads, and comes back with the same bits."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd

from tradelib.data.files import replace_file
from tradelib.errors import DataError, MissingExtraError, ParameterError
from tradelib.ledger.chain import canonical, digest
from tradelib.models.formats import FORMATS, Format, check_names, format_of
from tradelib.parameters import nearest

__all__ = ["SavedModel", "load_model", "predictions", "read_model", "save_model"]


_FORMAT, _VERSION = "tradelib model", 1
_LARGEST = 64 * 2**20  # bytes of a file: what a bundle may carry
_ENTRIES = frozenset({"content", "digest", "features", "format", "kind", "libraries", "version"})


@dataclass(frozen=True)
class SavedModel:
    """A fitted model as data: nothing in it is executed when it is read."""

    kind: str
    content: bytes = field(repr=False)
    features: tuple[str, ...]
    libraries: Mapping[str, str]

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of everything that decides its predictions."""
        return _digest(self)

    @property
    def signature(self) -> dict[str, list[dict[str, str]]]:
        """Names and types of the columns that it reads, and of what it says."""
        inputs = [{"name": name, "dtype": "datetime64" if name == "ds" else "float64"} for name in self.features]
        return {"inputs": inputs, "outputs": [{"name": FORMATS[self.kind].output, "dtype": "float64"}]}

    def restore(self, *, proven: bool = False) -> Any:
        """The model itself; `DataError` where it cannot come back as it was.

        `proven`: its digest was compared with one from elsewhere (see `load_model`).
        """
        _check_versions(self.libraries, FORMATS[self.kind])
        return FORMATS[self.kind].load(self.content, proven)

    def predict(self, table: pd.DataFrame, *, proven: bool = False) -> pd.Series:
        """What the restored model says of each row of `table`, which has at least the columns `features`."""
        return predictions(self.restore(proven=proven), table, self.features)

    def to_dict(self) -> dict[str, Any]:
        """Plain data without the content."""
        told = {"kind": self.kind, "digest": self.digest, "bytes": len(self.content)}
        return told | {"libraries": dict(self.libraries), **self.signature}

    def to_text(self) -> str:
        """What a file of it holds: one canonical JSON object, content that is no text in base64."""
        return _written(self).decode()

    def summary(self) -> str:
        """Kind, digest, size, columns and versions in a line."""
        made = ", ".join(f"{name} {number}" for name, number in self.libraries.items()) or "tradelib"
        reads = ", ".join(self.features)
        return f"{self.kind} model {self.digest[:12]}, {len(self.content):,} bytes by {made}; reads {reads}"

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(self.summary())}</p>"


def _digest(saved: SavedModel) -> str:
    identity = {"content": hashlib.sha256(saved.content).hexdigest(), "features": list(saved.features)}
    return digest({**identity, "kind": saved.kind, "libraries": dict(saved.libraries), "format": _FORMAT})


def predictions(model: Any, table: pd.DataFrame, features: Sequence[str] | None = None) -> pd.Series:
    """What `model` says of each row of `table`, in one form for all kinds: a probability, a value or a variance."""
    known = format_of(model)
    names = _names(known, model, features)
    for name in names:
        if name not in table:
            raise ParameterError(f"the model reads {name!r}, which is not there{nearest(name, table.columns)}")
    return pd.Series(known.predict(model, table[list(names)]), index=table.index, name=known.output)


def _names(known: Format, model: Any, features: Sequence[str] | None) -> tuple[str, ...]:
    """The columns of a model: its own where it knows them, else those that were given."""
    own = known.features(model)
    if own is None and features is None:
        raise ParameterError("the model was fitted without names of columns: fit a table, or pass features=[...]")
    if own is not None and features is not None and tuple(features) != own:
        raise ParameterError(f"the model was fitted to {list(own)}, not to {list(features)}: leave features out")
    return check_names(own if own is not None else features)  # type: ignore[arg-type]


def save_model(
    model: Any, path: str | os.PathLike[str] | None = None, *, features: Sequence[str] | None = None
) -> SavedModel:
    """`model` as data, also written to the file `path` (atomically) where one is given.

    `features`: names of its columns where it was fitted without. `ParameterError` for a model that has no safe format.
    """
    known = format_of(model)
    libraries = {name: version(name) for name in known.packages}
    saved = SavedModel(known.kind, known.dump(model), _names(known, model, features), libraries)
    if path is not None:
        replace_file(Path(path), _written(saved))
    return saved


def _written(saved: SavedModel) -> bytes:
    """The file: one canonical JSON object; content that is no text in base64."""
    binary = FORMATS[saved.kind].binary
    content = base64.b64encode(saved.content).decode() if binary else saved.content.decode()
    told = {"features": list(saved.features), "kind": saved.kind, "libraries": dict(saved.libraries)}
    whole = {**told, "content": content, "digest": saved.digest, "format": _FORMAT, "version": _VERSION}
    raw = (canonical(whole) + "\n").encode()
    if len(raw) > _LARGEST:
        raise ParameterError(f"the model takes {len(raw):,} bytes, more than {_LARGEST:,}: fit a smaller one")
    return raw


def read_model(path: str | os.PathLike[str], digest: str | None = None) -> SavedModel:
    """What `save_model` wrote to `path`; `DataError` where it was changed, or is not the model with this `digest`."""
    place = Path(path)
    try:
        with place.open("rb") as file:
            raw = file.read(_LARGEST + 1)
    except OSError as error:
        raise DataError(f"{place}: the model cannot be read: {error.strerror}") from error
    try:
        saved = _parsed(raw)
    except DataError as error:
        raise DataError(f"{place}: {error}") from None
    if digest is not None and digest != saved.digest:
        raise DataError(f"{place}: this is the model {saved.digest[:12]}, not {digest[:12]}: it was replaced")
    return saved


def load_model(path: str | os.PathLike[str], digest: str | None = None) -> Any:
    """The model in the file `path`. `digest`, kept elsewhere, proves that it is the one that was saved.

    `DataError` for a changed file, another model, a library of another version, or types that nobody vouches for.
    """
    saved = read_model(path, digest)
    try:
        return saved.restore(proven=digest is not None)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _parsed(raw: bytes) -> SavedModel:
    """The model of a file's bytes, its digest proven."""
    if len(raw) > _LARGEST:
        raise DataError(f"the file is larger than {_LARGEST:,} bytes: no model of tradelib is")
    try:
        whole = json.loads(raw)
        same = isinstance(whole, dict) and (canonical(whole) + "\n").encode() == raw
    except (ValueError, RecursionError) as error:
        raise DataError(f"this is no JSON: {error}") from None
    if not isinstance(whole, dict) or whole.get("format") != _FORMAT or whole.get("version") != _VERSION:
        raise DataError(f"this is no {_FORMAT} of version {_VERSION}")
    if not same or set(whole) != _ENTRIES:
        raise DataError("this is not the text that was written: it was edited, or entries were added or taken away")
    saved = _checked(whole)
    if whole["digest"] != saved.digest:
        raise DataError("the content was changed after it was written: its digest is another one")
    return saved


def _checked(whole: Mapping[str, Any]) -> SavedModel:
    kind, names, libraries = whole["kind"], whole["features"], whole["libraries"]
    if kind not in FORMATS:
        raise DataError(f"models of kind {kind!r} are unknown{nearest(str(kind), FORMATS)}")
    if not isinstance(names, list) or not isinstance(libraries, dict) or not isinstance(whole["content"], str):
        raise DataError("content, features or libraries are not what they should be")
    try:
        raw = whole["content"].encode()
        content = base64.b64decode(raw, validate=True) if FORMATS[kind].binary else raw
        return SavedModel(kind, content, check_names(names), libraries)
    except ValueError as error:
        raise DataError(str(error)) from None


def _check_versions(libraries: Mapping[str, str], known: Format) -> None:
    """Refuse a model of a library whose version differs in the parts that count."""
    if set(libraries) != set(known.packages):
        raise DataError(f"a {known.kind} model must say the versions of {', '.join(known.packages) or 'nothing'}")
    for name, then in libraries.items():
        try:
            now = version(name)
        except PackageNotFoundError:
            raise MissingExtraError(
                f"{name!r} is not installed, which this {known.kind} model needs: pip install 'tradelib[research]'"
            ) from None
        if _counted(then, known) != _counted(now, known):
            raise DataError(
                f"{name} {then} wrote this model and {now} is installed, which may predict otherwise: install {name} "
                f"{then}, or fit and save it again"
            )


def _counted(number: str, known: Format) -> list[str]:
    return str(number).split(".")[: known.version_parts]
