"""The site: the notebooks as they are stored, and the reference from the docstrings. Built offline, runs nothing."""

import re
import sys
from pathlib import Path

import plotly
from sphinx.application import Sphinx

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

from tests.checks.code import public_names
from tests.environment import PROJECT

project = "tradelib"
author = "The tradelib founders"
version = release = re.findall(
    r'__version__ = "([^"]+)"', (PROJECT / "tradelib/__init__.py").read_text(encoding="utf-8")
)[0]

extensions = ["myst_nb", "autodoc2", "formulas"]
exclude_patterns = ["_build", "images"]
html_theme = "furo"
html_title = "tradelib"
html_static_path = ["_static", str(Path(plotly.__file__).parent / "package_data/plotly.min.js")]
html_css_files = ["tradelib.css"]
html_show_copyright = False
html_show_sphinx = False
html_copy_source = False

nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_dmath_double_inline = True
myst_heading_anchors = 3

autodoc2_packages = [{"path": "../tradelib", "exclude_files": ["_modidx.py"]}]
autodoc2_output_dir = "_reference"
# Modules show what they offer; packages, which only offer it again, list their modules.
autodoc2_module_all_regexes = [
    re.escape(".".join(path.relative_to(PROJECT).with_suffix("").parts))
    for path in PROJECT.glob("tradelib/**/*.py")
    if path.name != "__init__.py" and public_names(path)
]
autodoc2_hidden_objects = {"private", "dunder", "inherited"}
autodoc2_docstring_parser_regexes = [(r".*", "myst")]
autodoc2_index_template = None


def setup(app: Sphinx) -> None:
    """The pages of modules are reached from the reference: in the sidebar of every page they would triple the site."""
    app.connect("source-read", lambda _, page, source: page == "_reference/tradelib/tradelib" and _orphan(source))


def _orphan(source: list[str]) -> None:
    source[0] = ":orphan:\n\n" + source[0]
