"""Parameterised notebooks: what papermill would only warn about is refused, and equal runs give equal bytes."""

import nbformat
import pytest

from pipelines.notebooks import NotebookError, execute
from tradelib.errors import ParameterError


@pytest.fixture
def notebook(tmp_path):
    cells = [
        nbformat.v4.new_code_cell("number: int = 2", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(
            "import sys\nprint('noise of this run', file=sys.stderr)\nassert number < 10, 'too many'\nnumber * 2"
        ),
    ]
    metadata = {"kernelspec": {"display_name": "python3", "language": "python", "name": "python3"}}
    path = tmp_path / "lesson.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), path)
    return path


def test_two_runs_give_the_same_bytes_and_no_leftovers(notebook, tmp_path):
    first = execute(notebook, tmp_path / "out" / "a.ipynb", {"number": 4}, tmp_path)
    second = execute(notebook, tmp_path / "out" / "b.ipynb", {"number": 4}, tmp_path)
    assert first.read_bytes() == second.read_bytes()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.ipynb", "b.ipynb"]
    outputs = nbformat.read(first, as_version=4).cells[-1].outputs
    assert [item.output_type for item in outputs] == ["execute_result"]
    assert outputs[0].data["text/plain"] == "8"


def test_a_misspelt_parameter_is_refused_before_anything_runs(notebook, tmp_path):
    with pytest.raises(ParameterError, match="declares no parameter 'nmber'; did you mean 'number'"):
        execute(notebook, tmp_path / "out.ipynb", {"nmber": 4}, tmp_path)
    assert not (tmp_path / "out.ipynb").exists()


def test_a_failing_cell_is_named_and_the_old_output_stays(notebook, tmp_path):
    output = execute(notebook, tmp_path / "out.ipynb", {"number": 4}, tmp_path)
    before = output.read_bytes()
    with pytest.raises(NotebookError, match="lesson.ipynb, cell 3: AssertionError: too many"):
        execute(notebook, output, {"number": 40}, tmp_path)
    assert output.read_bytes() == before
    assert (tmp_path / "out.failed.ipynb").exists()
