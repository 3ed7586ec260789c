"""Reads `project.env`, where the environment of every tool is written once; the Makefile reads the same file."""

from __future__ import annotations

import re
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
_LINE = re.compile(r"^([A-Z][A-Z0-9_]*)=(.*)$", re.MULTILINE)


def project_environment(project: Path = PROJECT) -> dict[str, str]:
    """The variables of `project.env`, with `${PROJECT}` replaced by the folder of the project."""
    text = (project / "project.env").read_text(encoding="utf-8")
    return {name: value.strip('"').replace("${PROJECT}", str(project)) for name, value in _LINE.findall(text)}
