"""Which code each stage of `dvc.yaml` depends on, read from the imports: `python -m pipelines.dependencies --write`.

A stage depends on the modules that it imports, directly or not, on the types of the sections that it reads, and on the
notebook that it runs. Written by hand such lists go stale, and then a result no longer belongs to its code.
"""

from __future__ import annotations

import ast
import json
import sys
from functools import cache
from importlib import import_module
from pathlib import Path

from pipelines.artifacts import root
from pipelines.params import SECTIONS

__all__ = ["code_of", "main", "outdated"]

_NOTEBOOKS = {"research": "pipelines/research.ipynb"}
_COMMAND_LINE = {"paper": ("tradelib.cli", "tradelib.venue.server", "tradelib.live.runner")}
_WHOLE_PACKAGE = {"promote", "paper", "register"}
"""Stages that seal, compare or run the whole package: any change of it concerns them."""


def code_of(stage: str) -> list[str]:
    """Files under the project that `stage` runs, sorted; paths from the project's folder."""
    module = import_module(f"pipelines.stages.{stage}")
    seeds = ["pipelines.run", f"pipelines.stages.{stage}", *_COMMAND_LINE.get(stage, ())]
    seeds += [SECTIONS[name].partition(":")[0] for name in module.SECTIONS]
    extra = []
    if stage in _NOTEBOOKS:
        extra.append(_NOTEBOOKS[stage])
        seeds += [name for name in _notebook_imports(root() / _NOTEBOOKS[stage]) if _file(name)]
    found = {_file(name) for name in _closure(seeds)}
    if stage in _WHOLE_PACKAGE:
        found |= {str(path.relative_to(root())) for path in (root() / "tradelib").rglob("*.py")}
        extra += ["pyproject.toml", "setup.py"]
    return sorted({*(name for name in found if name), *extra})


def _closure(seeds: list[str]) -> set[str]:
    """Modules of the project reachable from `seeds` by imports anywhere in their code, parent packages included."""
    seen: set[str] = set()
    waiting = list(seeds)
    while waiting:
        name = waiting.pop()
        if name in seen or not _file(name):
            continue
        seen.add(name)
        parents = name.split(".")
        waiting += [".".join(parents[:depth]) for depth in range(1, len(parents))]
        waiting += _imports(name)
    return seen


@cache
def _file(name: str) -> str | None:
    """Path of a module of the project, None for one that is not ours."""
    base = name.replace(".", "/")
    if name.split(".")[0] not in ("tradelib", "pipelines"):
        return None
    for candidate in (f"{base}.py", f"{base}/__init__.py"):
        if (root() / candidate).is_file():
            return candidate
    return None


@cache
def _imports(name: str) -> tuple[str, ...]:
    path = str(_file(name))
    package = name if path.endswith("__init__.py") else name.rpartition(".")[0]
    return tuple(_imported(ast.parse((root() / path).read_text(encoding="utf-8")), package))


def _imported(tree: ast.AST, package: str) -> list[str]:
    """Names of modules that a syntax tree imports; `from a import b` names both `a` and `a.b`."""
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return names


def _notebook_imports(path: Path) -> list[str]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    source = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    return _imported(ast.parse(source), "pipelines")


def outdated(write: bool = False) -> list[str]:
    """Stages of `dvc.yaml` whose list of code is not what the imports say; with `write` they are put right."""
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.width, yaml.preserve_quotes = 130, True
    yaml.indent(mapping=2, sequence=4, offset=2)
    path = root() / "dvc.yaml"
    content = yaml.load(path.read_text(encoding="utf-8"))
    wrong = []
    for stage, body in content["stages"].items():
        listed = body.get("do", body)
        data = [item for item in listed["deps"] if str(item).startswith("artifacts/") or str(item).endswith(".lock")]
        wanted = [*data, *code_of(stage)]
        if list(listed["deps"]) != wanted:
            wrong.append(stage)
            listed["deps"] = wanted
    if write and wrong:
        with path.open("w", encoding="utf-8") as file:
            yaml.dump(content, file)
    return wrong


def main(arguments: list[str]) -> int:
    """Report, or with `--write` repair, the lists of code in `dvc.yaml`; exit code 1 when a report finds some."""
    write = "--write" in arguments
    wrong = outdated(write)
    for stage in wrong:
        print(f"{stage}: the list of code {'was put right' if write else 'is not what the imports say'}")
    if wrong and not write:
        print("run: python -m pipelines.dependencies --write", file=sys.stderr)
    return 1 if wrong and not write else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
