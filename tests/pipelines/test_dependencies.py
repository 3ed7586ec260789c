"""What `dvc.yaml` says a stage depends on is what its code imports and reads."""

from pathlib import Path

import pytest

from pipelines import dependencies
from pipelines.dependencies import code_of, outdated
from pipelines.params import SECTIONS, read_yaml
from pipelines.run import stages


def test_the_lists_of_code_are_up_to_date():
    assert outdated() == [], "run: python -m pipelines.dependencies --write"


@pytest.mark.parametrize("stage", stages())
def test_every_stage_runs_in_the_pipeline_and_depends_on_its_own_code(stage):
    assert f"pipelines/stages/{stage}.py" in code_of(stage)
    assert stage in read_yaml(Path("dvc.yaml"))["stages"]


@pytest.mark.parametrize("stage", stages())
def test_the_parameters_that_a_stage_loads_are_those_it_declares(stage):
    from importlib import import_module

    body = read_yaml(Path("dvc.yaml"))["stages"][stage]
    declared = {name.partition(".")[0] for name in body.get("do", body).get("params", [])}
    used = set(import_module(f"pipelines.stages.{stage}").SECTIONS)
    assert used == declared
    assert used <= set(SECTIONS)


def test_ingest_does_not_depend_on_the_engine_and_research_does():
    assert not any(path.startswith("tradelib/backtest") for path in code_of("ingest"))
    assert "tradelib/backtest/kernel.py" in code_of("research")
    assert "pipelines/research.ipynb" in code_of("research")


def test_a_forgotten_dependency_is_found(monkeypatch):
    monkeypatch.setattr(dependencies, "code_of", lambda stage: [*code_of(stage), "tradelib/forgotten.py"])
    assert dependencies.outdated() == stages_in_order()


def stages_in_order():
    return list(read_yaml(Path("dvc.yaml"))["stages"])
