"""Run the research notebook of one candidate: sweep in sample, choose a rule, show why."""

from __future__ import annotations

from pipelines.artifacts import artifact, root
from pipelines.notebooks import execute
from pipelines.params import Params

SECTIONS = ("windows", "costs", "account", "strategies")


def main(params: Params, candidate: str) -> None:
    """Write `notebook.ipynb`, `sweep.json` and `rule.json`; the notebook itself reads `params.yaml`."""
    output = artifact("research", candidate, "notebook.ipynb")
    execute(root() / "pipelines" / "research.ipynb", output, {"candidate": candidate}, root())
