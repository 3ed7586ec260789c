"""The project as a whole keeps its own rules: layout, lessons, code figures, texts, locks."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from tests.checks import code, files, notebooks
from tests.environment import PROJECT
from tests.run import attributes

NOTEBOOKS = sorted(path.relative_to(PROJECT) for path in PROJECT.glob("nbs/*/*.ipynb"))
MODULES = sorted(path.relative_to(PROJECT) for path in PROJECT.glob("tradelib/**/*.py"))
WRITTEN = [path for path in MODULES if path.name != "_modidx.py"]  # nbdev's index of the notebooks is nobody's reading
OFFERING = [path for path in MODULES if not path.name.startswith("_") or path.name == "__init__.py"]
HOW_TOS = ("Add a strategy", "Add an indicator", "Add a gate", "Add a venue")


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)


@pytest.fixture(scope="module")
def tracked() -> list[Path]:
    return [path.relative_to(PROJECT) for path in files.tracked(PROJECT)]


def none(problems: list[str]) -> None:
    """Fail with all problems, one per line."""
    assert not problems, "\n" + "\n".join(problems)


def text(name: str) -> str:
    return (PROJECT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=str)
def test_a_notebook_is_a_lesson(path: Path) -> None:
    none(notebooks.problems(path))


def test_notebooks_are_numbered_in_reading_order_without_doubles() -> None:
    numbers = [(path.parent, path.name[:2]) for path in NOTEBOOKS]

    assert len(set(numbers)) == len(numbers)


def test_functions_and_files_stay_small() -> None:
    measured = [item for path in WRITTEN for item in code.functions(path)]

    none(code.long_functions(measured) + code.long_files(WRITTEN))


def test_every_module_says_what_it_offers_and_documents_it() -> None:
    problems = [problem for path in OFFERING for problem in code.undocumented(path)]

    none(code.unexported(OFFERING) + problems)


def test_no_offered_name_is_that_of_a_module_beside_it() -> None:
    """A module that was imported hides the function of its name: `from room import name` would give the module."""
    hidden = [
        f"tradelib.{room.parent.name}.{name}"
        for room in PROJECT.glob("tradelib/*/__init__.py")
        for name in getattr(import_module(f"tradelib.{room.parent.name}"), "_HOMES", {})
        if (room.parent / f"{name}.py").exists()
    ]
    assert hidden == []


def test_the_package_offers_at_most_a_dozen_names_itself() -> None:
    assert len(code.public_names(Path("tradelib/__init__.py"))) <= 12


@pytest.mark.parametrize(
    "check", [files.leftovers, files.machine_paths, files.package_hosts], ids=lambda check: check.__name__
)
def test_no_file_holds(check: Callable[[list[Path]], list[str]], tracked: list[Path]) -> None:
    none(check(tracked))


def test_the_readme_is_short() -> None:
    assert len(text("README.md").splitlines()) <= 120


def test_what_the_texts_link_to_exists() -> None:
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", text(name))
        none([f"{name}: {target} does not exist" for target in targets if not (PROJECT / target).exists()])


def test_each_how_to_fits_in_ten_lines() -> None:
    none(files.long_sections(text("CONTRIBUTING.md"), HOW_TOS, limit=10))


def test_the_changelog_speaks_of_the_version_in_the_package() -> None:
    version = re.search(r'__version__ = "([^"]+)"', text("tradelib/__init__.py"))
    assert version is not None

    assert f"## [{version.group(1)}]" in text("CHANGELOG.md")
    assert f"version = {version.group(1)}\n" in text("settings.ini")


@pytest.mark.parametrize(("lock", "extras"), [("research", True), ("runner", False)])
def test_the_lock_pins_what_the_project_asks_for(lock: str, extras: bool) -> None:
    pins = text(f"requirements/{lock}.lock")

    none(files.unmet(files.requirements(text("pyproject.toml"), extras), pins))
    none(files.unhashed(pins))
    assert files.recorded_digest(pins) == files.requirements_digest(PROJECT), "run: make lock"


def test_the_runner_is_locked_to_the_versions_that_research_used() -> None:
    research, runner = (files.locked(text(f"requirements/{name}.lock")) for name in ("research", "runner"))

    assert {name for name, versions in runner.items() if research.get(name) != versions} == set()


def test_exported_modules_are_marked_as_generated() -> None:
    assert text(".gitattributes") == attributes(), "run: make format"


def test_every_tool_is_silent_and_stays_inside_the_project() -> None:
    lab = json.loads(text(".jupyter/jupyter_lab_config.json"))["LabApp"]
    overrides = json.loads(text(".jupyter/labconfig/default_setting_overrides.json"))

    assert lab["news_url"] is None
    assert overrides["@jupyterlab/apputils-extension:notification"]["fetchNews"] == "false"
