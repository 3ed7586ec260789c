"""Where each stage keeps what it makes, and how it is written: atomically, and the same bytes for the same content."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from tradelib.errors import DataError
from tradelib.home import project_root

__all__ = ["artifact", "local_state", "plain", "read_json", "root", "write_json"]


def root() -> Path:
    """The project's folder."""
    return project_root(Path(__file__).parent)


def artifact(stage: str, *parts: str) -> Path:
    """A file of `stage`, tracked by DVC: `artifacts/<stage>/...`."""
    return root().joinpath("artifacts", stage, *parts)


def local_state(*parts: str) -> Path:
    """A file that belongs to this clone alone and is no output of research: `runs/...`."""
    return root().joinpath("runs", *parts)


def plain(value: Any) -> Any:
    """`value` as JSON-able data: numpy scalars unwrapped, NaN and infinities as null, tuples as lists."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "item") and not isinstance(value, str):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_json(path: Path, content: Any) -> Path:
    """Write `content` as indented JSON, replacing the file in one step."""
    from tradelib.data.files import replace_file

    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(plain(content), indent=1, ensure_ascii=False, allow_nan=False)
    return replace_file(path, (text + "\n").encode())


def read_json(path: Path) -> Any:
    """The content of a JSON file of an earlier stage; `DataError` with the remedy when it is missing or broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} is missing: run `dvc repro` to make it") from None
    except ValueError as error:
        raise DataError(f"{path} is damaged ({error}): remove it and run `dvc repro`") from None
