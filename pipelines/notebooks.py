"""Run a parameterised notebook with papermill, refuse what it would only warn about, and make its bytes repeatable."""

from __future__ import annotations

import logging
import os
import warnings
from pathlib import Path
from typing import Any

import nbformat

from tradelib.errors import ParameterError, TradelibError
from tradelib.parameters import nearest

__all__ = ["NotebookError", "execute", "normalise"]

_KERNEL: dict[str, Any] = {"extra_arguments": ["--IPKernelApp.log_level=CRITICAL"]}
"""The kernel keeps its remarks about transport encryption and shutdown to itself; errors of cells are not affected."""


class NotebookError(TradelibError):
    """A cell of a research notebook failed."""


def execute(notebook: Path, output: Path, parameters: dict[str, Any], folder: Path) -> Path:
    """Run `notebook` with `parameters` in `folder`; the executed, normalised copy is `output`, replaced in one step.

    Raises `ParameterError` for a parameter that the notebook does not declare, `NotebookError` with the failing cell;
    the copy up to that cell is then kept beside `output` as `<name>.failed.ipynb`.
    """
    import papermill
    from papermill.exceptions import PapermillExecutionError

    _quiet()
    declared = papermill.inspect_notebook(str(notebook))
    for name in parameters:
        if name not in declared:
            raise ParameterError(f"{notebook.name} declares no parameter {name!r}{nearest(name, declared)}")
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f"{output.stem}.failed.ipynb")
    try:
        papermill.execute_notebook(
            str(notebook),
            str(partial),
            parameters,
            kernel_name="python3",
            cwd=str(folder),
            progress_bar=False,
            **_KERNEL,
        )
    except PapermillExecutionError as error:
        raise NotebookError(
            f"{notebook.name}, cell {error.exec_count}: {error.ename}: {error.evalue}; what ran is in {partial}"
        ) from None
    nbformat.write(normalise(nbformat.read(partial, as_version=4)), partial)
    os.replace(partial, output)
    return output


def normalise(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook without what differs between two equal runs: times, run metadata, random cell ids, stderr."""
    notebook.metadata = {"kernelspec": {"display_name": "python3", "language": "python", "name": "python3"}}
    for number, cell in enumerate(notebook.cells):
        tags = cell.metadata.get("tags")
        cell.metadata = {"tags": tags} if tags else {}
        cell.id = f"cell-{number:03d}"
        if cell.cell_type == "code":
            cell.outputs = [item for item in cell.outputs if item.get("name") != "stderr"]
    return notebook


def _quiet() -> None:
    """Silence what papermill and the kernel say about themselves; errors still speak."""
    for name in ("papermill", "traitlets", "ipykernel"):
        logging.getLogger(name).setLevel(logging.ERROR)
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    os.environ["TRADELIB_ANNOUNCE"] = "0"  # whether kernels were compiled before is nothing that a result depends on
    warnings.filterwarnings("ignore", module="papermill|nbclient|jupyter_client|zmq")
