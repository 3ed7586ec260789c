"""The checks of the project see what they are there for: each is given the fault that it must name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.checks import code, files, notebooks

TITLE = (
    "# Averages\n> How slow is smooth?\n\nFor all who smooth prices and wonder how many bars of delay it costs them."
)
EXPORT = "#| export\ndef double(value):\n    return 2 * value"
SHOW = "assert double(2) == 4\ndouble(3)"


def cell(source: str, output: str | None = None, **more: Any) -> dict[str, Any]:
    """A notebook cell; markdown when it starts like prose."""
    if source.startswith("# ") or source.startswith("Claim"):
        return {"cell_type": "markdown", "source": source, "metadata": {}} | more
    stored = [] if output is None else [{"output_type": "stream", "name": "stdout", "text": output}]
    return {"cell_type": "code", "source": source, "metadata": {}, "outputs": stored, "execution_count": None} | more


def lesson() -> list[dict[str, Any]]:
    """Cells of a notebook that keeps every rule."""
    return [cell(TITLE), cell("#| default_exp room.averages"), cell("Claim"), cell(EXPORT), cell(SHOW, "6")]


def problems(folder: Path, cells: list[dict[str, Any]], name: str = "00_averages.ipynb") -> list[str]:
    """What the check says about a notebook with these cells."""
    path = folder / "room" / name
    path.parent.mkdir(exist_ok=True)
    numbered = [{"id": f"cell{number}"} | item for number, item in enumerate(cells)]
    path.write_text(json.dumps({"cells": numbered, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    return [problem.removeprefix(f"{path}: ") for problem in notebooks.problems(path)]


def test_a_good_lesson_passes(tmp_path: Path) -> None:
    assert problems(tmp_path, lesson()) == []


def test_a_lesson_that_exports_nothing_needs_no_module(tmp_path: Path) -> None:
    assert problems(tmp_path, [cell(TITLE), cell("Claim"), cell("value = 3\nassert value\nvalue", "3")]) == []


@pytest.mark.parametrize(
    ("replaced", "by", "said"),
    [
        (0, cell("# Averages\n> Why\n\nShort."), "no opening paragraph"),
        (0, cell(TITLE.replace("# ", "", 1).replace("Averages", "Claim averages", 1)), "no '# Title'"),
        (0, cell(TITLE.replace("> ", "")), "no '> subtitle'"),
        (1, cell("#| default_exp hall.averages"), "does not mirror the folder"),
        (1, cell("Claim"), "0 default_exp lines"),
        (3, cell(EXPORT + "\n    # why" * 15), "median exported cell has 17 lines"),
        (3, cell(EXPORT + "\n    # why" * 60), "exported cell 4 has 62 lines"),
        (3, cell(EXPORT.replace("def", "import math\ndef")), "exported cell 4 mixes imports with code"),
        (3, cell(EXPORT.replace("return", "raise ValueError if value else")), "no visible cell shows how"),
        (4, cell("#| hide\n" + SHOW, "6"), "exported cell 4 has no visible example"),
        (4, cell(SHOW.replace("assert ", ""), "6"), "no visible cell asserts"),
        (4, cell(SHOW), "no visible cell stores a result"),
        (4, cell(SHOW, "<thing at 0x7f3a2b4c5d6e>"), "holds a object id"),
        (4, cell(SHOW, "saved to " + "/" + "tmp/x.csv"), "holds a machine path"),
        (4, cell(SHOW, "12.5 ms ± 3 µs per loop"), "holds a duration"),
        (4, cell(SHOW, "DeprecationWarning: soon"), "holds a warning"),
        (4, cell(SHOW, "6", execution_count=7), "stores an execution count"),
        (4, cell(SHOW, "6", id="cell3"), "cells without an id of their own"),
    ],
)
def test_a_fault_in_a_notebook_is_named(tmp_path: Path, replaced: int, by: dict[str, Any], said: str) -> None:
    cells = lesson()
    cells[replaced] = by

    assert any(said in problem for problem in problems(tmp_path, cells))


def test_too_much_of_everything_is_named(tmp_path: Path) -> None:
    hidden = [cell(f"#| hide\n{number}") for number in range(4)]
    many = [cell("Claim " + "x" * 2100) for _ in range(120)]

    said = " ".join(problems(tmp_path, lesson() + hidden + many, "averages.ipynb"))

    assert "4 hidden cells" in said
    assert "129 cells" in said
    assert "KB, at most 250" in said
    assert "not NN_name.ipynb" in said


def test_an_example_within_three_cells_is_near_enough(tmp_path: Path) -> None:
    near = [
        cell(TITLE),
        cell("#| default_exp room.averages"),
        cell(EXPORT),
        cell("Claim"),
        cell("Claim"),
        cell(SHOW, "6"),
    ]
    far = [*near[:-1], cell("Claim"), near[-1]]

    assert problems(tmp_path, near) == []
    assert problems(tmp_path, far) == ["exported cell 3 has no visible example within 3 cells"]


def function(lines: int) -> str:
    """Source of a function with so many lines of code."""
    return 'def long():\n    """What it does."""\n' + "    x = 1\n" * (lines - 1)


@pytest.mark.parametrize(
    ("lengths", "said"),
    [
        ([81], "81 lines, at most 80"),
        ([11, 12, 3], "median function: 11 lines"),
        ([2] * 8 + [36] * 2, "90th percentile of functions: 36"),
    ],
)
def test_long_functions_are_named(tmp_path: Path, lengths: list[int], said: str) -> None:
    path = tmp_path / "module.py"
    path.write_text("\n".join(map(function, lengths)))

    assert any(said in problem for problem in code.long_functions(list(code.functions(path))))


def test_short_functions_pass(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text("\n".join(map(function, [10] * 18 + [35, 80])))

    assert code.long_functions(list(code.functions(path))) == []


def test_long_files_undecided_exports_and_missing_docstrings_are_named(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(
        '__all__ = ["Bare", "bare"]\n\nclass Bare:\n    def method(self): return 1\n\ndef bare(): return 1\n'
        + "\n" * 800
    )
    (tmp_path / "silent.py").write_text('"""Nobody can see what it offers."""\n__all__ = sorted(globals())\n')

    assert code.long_files([path]) == [f"{path}: 806 lines, at most 800"]
    assert code.unexported([path, tmp_path / "silent.py"]) == [f"{tmp_path / 'silent.py'}: no literal __all__"]
    assert [problem.split(" ", 1)[1] for problem in code.undocumented(path)] == [
        "no module docstring",
        "Bare: no docstring",
        "method: no docstring",
        "bare: no docstring",
    ]


@pytest.mark.parametrize(
    ("check", "planted"),
    [
        (files.leftovers, "# TO" + "DO later"),
        (files.machine_paths, "open('" + "/" + "home/me/prices.csv')"),
        (files.package_hosts, "https://files.python" + "hosted.org/x"),
    ],
    ids=["leftover", "machine path", "package host"],
)
def test_what_no_file_may_hold_is_named_with_its_line(tmp_path: Path, check: Any, planted: str) -> None:
    path = tmp_path / "module.py"
    path.write_text(f"first = 1\n{planted}\n")

    assert len(check([path])) == 1
    assert check([path])[0].startswith(f"{path}:2: ")


def test_addresses_and_relative_paths_are_not_machine_paths(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text("get('/api/home/x'); open('data/home/x'); url = 'https://a.example/home/x'; f'{root}/tmp/x'\n")

    assert files.machine_paths([path]) == []


def test_long_and_missing_how_tos_are_named() -> None:
    markdown = (
        "# Contributing\n\n## Add a gate\n" + "\n\n".join("step" for _ in range(10)) + "\n\n## Add a venue\nstep\n"
    )

    assert files.long_sections(markdown, ["Add a gate", "Add a venue", "Add a moon"], limit=10) == [
        "Add a moon: missing",
        "Add a gate: 10 lines",
    ]


PYPROJECT = '[project]\ndependencies = ["numpy>=2.4,<2.5"]\n[project.optional-dependencies]\nmore = ["Flask_Login"]\n'


@pytest.mark.parametrize(
    ("pin", "said"),
    [
        ("numpy==2.4.6", []),
        ("numpy==2.3.0", ["numpy<2.5,>=2.4: locked 2.3.0"]),
        ("scipy==1.17.1", ["numpy<2.5,>=2.4: locked nowhere"]),
    ],
)
def test_a_lock_that_does_not_meet_the_requirements_is_named(pin: str, said: list[str]) -> None:
    lock = f"{pin} ; python_version < '3.14' \\\n    --hash=sha256:00\nflask-login==1.0 \\\n    --hash=sha256:00\n"

    assert files.unmet(files.requirements(PYPROJECT, extras=True), lock) == said


def test_a_pin_without_a_hash_is_named() -> None:
    digest = " \\\n    --hash=sha256:00\n"
    lock = f"numpy==2.4.6{digest}scipy==1.17.1\n    # via arch\nxgboost==3.2.0 ; sys_platform == 'linux'{digest}"

    assert files.unhashed(lock) == ["scipy"]


def test_the_digest_of_the_requirements_changes_with_each_of_them(tmp_path: Path) -> None:
    def digest(numpy: str, override: str) -> str:
        (tmp_path / "requirements").mkdir(exist_ok=True)
        (tmp_path / "requirements/overrides.txt").write_text(override)
        (tmp_path / "requirements/bootstrap.in").write_text("uv==1")
        settings = PYPROJECT.replace(
            "[project]", '[tool.uv]\nenvironments = []\n[project]\nrequires-python = ">=3.11"', 1
        )
        (tmp_path / "pyproject.toml").write_text(settings.replace("numpy", numpy))
        return files.requirements_digest(tmp_path)

    assert len({digest("numpy", ""), digest("scipy", ""), digest("numpy", "x ; sys_platform == 'never'")}) == 3
