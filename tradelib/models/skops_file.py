"""scikit-learn's estimators in the format of skops: a zip of one JSON and the arrays that it names.

Reading makes objects only of types that skops vouches for, or that are listed here. Nothing is unpickled and nothing of
the file is executed. skops 0.16.
"""

from __future__ import annotations

import io
import json
import zipfile
from itertools import count
from typing import Any

from tradelib.errors import DataError, require

__all__ = ["COMPILED", "dump", "load"]

COMPILED = frozenset({
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.ensemble._hist_gradient_boosting.binning._BinMapper",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.tree._tree.Tree",
})  # fmt: skip
"""Types whose arrays compiled code follows without a check: a forged file of them reads memory that is not its own."""

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can tell
_LARGEST = 256 * 2**20  # bytes, unpacked


def dump(model: Any) -> bytes:
    """The file of skops with addresses in memory numbered in order and times left out: same model, same bytes."""
    written = zipfile.ZipFile(io.BytesIO(require("skops.io", "research").dumps(model)))
    schema, numbers = json.loads(written.read("schema.json")), _Numbers()
    numbers.renumber(schema)
    parts = {"schema.json": json.dumps(schema, separators=(",", ":")).encode()}
    for name in set(written.namelist()) - {"schema.json"}:
        parts[numbers.renamed(name)] = written.read(name)
    return _zipped(parts)


class _Numbers:
    """Numbers in the order of the schema in place of the addresses that objects had when they were written."""

    def __init__(self) -> None:
        self.of: dict[str, int] = {}
        self.next = count()

    def renumber(self, node: Any) -> None:
        """Rewrite `node` and all below it, in place."""
        if isinstance(node, dict):
            if "__id__" in node:
                node["__id__"] = self._number(node)
            if isinstance(node.get("file"), str):
                node["file"] = self.renamed(node["file"])
        for below in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
            self.renumber(below)

    def renamed(self, file: str) -> str:
        """The name of a part: its array's number, where the name began with the address."""
        stem, dot, suffix = file.partition(".")
        return f"{self.of[stem]}{dot}{suffix}" if stem in self.of else file

    def _number(self, node: dict[str, Any]) -> int:
        """Plain values get one each: whether two zeros are one object is up to the interpreter."""
        address = str(node["__id__"])
        if node.get("__loader__") == "JsonNode":
            return next(self.next)
        if address not in self.of:
            self.of[address] = next(self.next)
        return self.of[address]


def _zipped(parts: dict[str, bytes]) -> bytes:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name in sorted(parts):
            info = zipfile.ZipInfo(name, _EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, parts[name])
    return whole.getvalue()


def load(content: bytes, proven: bool) -> Any:
    """The estimator; `DataError` for types that are not trusted, or for what is no such file.

    `proven`: the content's digest is known from elsewhere, so the types of `COMPILED` are read as well.
    """
    skops = require("skops.io", "research")
    _check_size(content)
    try:
        foreign = set(skops.get_untrusted_types(data=content))
        refused = sorted(foreign if not proven else foreign - COMPILED)
        if refused:
            raise DataError(_refusal(refused))
        return skops.loads(content, trusted=sorted(foreign))
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"skops cannot read this: {type(error).__name__}: {error}") from error


def _refusal(refused: list[str]) -> str:
    told = f"it holds {', '.join(refused)}, which nobody vouches for"
    if set(refused) <= COMPILED:
        return f"{told}: give the digest that the model had when it was saved, as in load_model(path, digest=...)"
    return f"{told}: save the parts that scikit-learn defines"


def _check_size(content: bytes) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            size = sum(info.file_size for info in archive.infolist())
    except zipfile.BadZipFile as error:
        raise DataError(f"this is no file of skops: {error}") from None
    if size > _LARGEST:
        raise DataError(f"unpacked it would take {size:,} bytes, more than {_LARGEST:,}")
