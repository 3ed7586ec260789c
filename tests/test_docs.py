"""The site builds offline without a warning, and every public name can be found in it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sphinx.util.inventory import InventoryFile

from tests.checks.code import public_names
from tests.environment import PROJECT

pytestmark = pytest.mark.slow
SKIPPED = shutil.ignore_patterns("__pycache__", "_build", "_nbs", "_reference", ".ipynb_checkpoints")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built from a copy of the sources as `make docs` does."""
    copy = tmp_path_factory.mktemp("site")
    for name in ("docs", "nbs", "tradelib", "tests"):
        shutil.copytree(PROJECT / name, copy / name, ignore=SKIPPED)
    shutil.copy2(PROJECT / "project.env", copy)
    for command in (["docs.prepare"], ["sphinx", "-W", "--keep-going", "-q", "docs", "html"]):
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd=copy, env=os.environ, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    return copy / "html"


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    with (site / "objects.inv").open("rb") as stream:
        entries = InventoryFile.load(stream, "", lambda base, name: name)
    described = {name for kind, names in entries.items() if kind.startswith("py:") for name in names}
    modules = [path for path in PROJECT.glob("tradelib/**/*.py") if not path.name.startswith("_")]
    offered = {
        ".".join(path.relative_to(PROJECT).with_suffix("").parts) + "." + name
        for path in modules
        for name in public_names(path)
    }

    assert sorted(offered - described) == []


def test_every_name_of_the_reference_leads_to_its_description(site: Path) -> None:
    page = (site / "_nbs/reference.html").read_text(encoding="utf-8")
    names = re.findall(r'(<a [^>]*>)?<code class="xref py py-obj[^"]*"><span class="pre">([^<]+)', page)

    assert len(names) > 500
    assert [name for link, name in names if not link] == []


def test_pages_load_nothing_from_a_network(site: Path) -> None:
    loading = re.compile(r"""<(?:script|img|iframe|link)\b[^>]*(?:src|href)=["'](?:https?:)?//""")
    pages = [page for page in site.rglob("*.html") if loading.search(page.read_text(encoding="utf-8"))]

    assert pages == []


def test_readers_see_no_directives(site: Path) -> None:
    pages = [page for page in (site / "_nbs").rglob("*.html") if "#| " in re.sub("<[^>]+>", "", page.read_text())]

    assert pages == []


def test_interactive_figures_are_drawn_by_a_library_of_the_site(site: Path) -> None:
    page = (site / "_nbs/backtest/08_plots.html").read_text(encoding="utf-8")
    names = re.findall(r'Plotly\.newPlot\("([^"]+)"', page)

    assert names
    assert [name for name in names if f'<div id="{name}"' not in page] == []
    assert page.index("_static/plotly.min.js") < page.index("Plotly.newPlot")
    assert (site / "_static/plotly.min.js").is_file()
