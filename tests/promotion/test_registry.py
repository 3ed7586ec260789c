"""The registry: runs that can be compared, versions without pickle, one store wherever one stands."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.promotion.support import FIGURES, trend
from tradelib.backtest.trials import Trial, TrialLedger
from tradelib.errors import LedgerError, ParameterError, TradelibError
from tradelib.promotion.registry import ANCHOR_TAG, EXPERIMENT, Registered, Registry

MARKET = {"symbol": "BTC/USDT", "timeframe": "1d", "calendar": "24/7"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """A store of its own; MLflow's import and its migrations are paid once."""
    root = tmp_path_factory.mktemp("project")
    (root / "report.html").write_text("<p>evidence</p>")
    (root / "research").mkdir()
    (root / "research" / "sweep.csv").write_text("fast,sharpe\n3,0.9\n")
    return Registry(root)


def request(store: Registry, **changes: Any) -> dict[str, Any]:
    rule = trend()
    good: dict[str, Any] = {
        "name": "trend",
        "params": {"fast": 3, "slow": 8},
        "metrics": FIGURES | {"sortino_ratio": math.nan, "calmar_ratio": None},
        "tags": {
            "rule_digest": rule.digest,
            "data_digest": "d" * 64,
            "package_digest": "a" * 64,
            "commit": "0" * 40,
            "trials": 30,
            "dvc_lock_digest": None,
        },
        "rule_config": rule.to_config(),
        "market": MARKET,
        "artifacts": {"report": store.root / "report.html", "research": store.root / "research"},
        "description": "Paper only: deflated_sharpe.",
    }
    return good | changes


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The working directory while registering: MLflow must not leave anything there."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("elsewhere")
        patch.chdir(folder)
        yield folder


@pytest.fixture(scope="module")
def first(store: Registry, elsewhere: Path) -> Registered:
    return store.log_candidate(**request(store))


def client_of(store: Registry) -> Any:
    import mlflow

    return mlflow.MlflowClient(store.uri, store.uri)


def test_a_candidate_becomes_a_run_and_a_version(store: Registry, first: Registered) -> None:
    assert (first.name, first.version, first.alias, first.created) == ("trend", 1, "challenger", True)
    run = client_of(store).get_run(first.run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == f"trend {trend().digest[:8]}"
    assert run.data.params == {"fast": "3", "slow": "8"}
    assert run.data.metrics == {name: float(value) for name, value in FIGURES.items()}
    assert run.data.tags["trials"] == "30"
    assert run.data.tags["mlflow.source.git.commit"] == "0" * 40
    assert "dvc_lock_digest" not in run.data.tags
    files = client_of(store).list_artifacts(first.run_id)
    assert {file.path for file in files} == {"report", "research"}


def test_the_model_loads_with_pickle_off_and_decides_as_the_rule(
    store: Registry, first: Registered, bars: pd.DataFrame
) -> None:
    assert os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"
    assert not [path for path in store.folder.rglob("*") if path.suffix in (".pkl", ".pickle", ".joblib")]
    model, expected = store.load("trend"), trend().decisions(bars)
    pd.testing.assert_frame_equal(model.predict(bars), expected, check_exact=True)
    served = bars.reset_index().assign(time=bars.index.tz_localize(None))
    pd.testing.assert_frame_equal(model.predict(served), expected, check_exact=True, check_freq=False)


def test_the_signature_is_enforced(store: Registry, first: Registered, bars: pd.DataFrame) -> None:
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException, match="close"):
        store.load("trend").predict(bars.drop(columns="close"))


def test_the_model_says_nothing_about_this_machine(store: Registry, first: Registered, project: Path) -> None:
    (model,) = store.folder.rglob("MLmodel")
    text = model.read_text()
    assert "model_code_path: strategy_model.py" in text
    assert str(project) not in text
    assert "uri: artifacts/rule.json" in text
    assert "tradelib==0.1.0" in (model.parent / "requirements.txt").read_text().split()


def test_identical_content_is_the_version_that_exists_brought_up_to_date(store: Registry, first: Registered) -> None:
    again = store.log_candidate(**request(store, metrics=FIGURES | {"deflated_sharpe": 0.91}))
    assert (again.version, again.run_id, again.created) == (1, first.run_id, False)
    assert client_of(store).get_run(first.run_id).data.metrics["deflated_sharpe"] == 0.91
    assert len(client_of(store).search_runs([experiment(store)])) == 1


def experiment(store: Registry) -> str:
    return str(client_of(store).get_experiment_by_name(EXPERIMENT).experiment_id)


@pytest.fixture(scope="module")
def second(store: Registry, first: Registered) -> Registered:
    rule = trend(5, 20)
    tags = request(store)["tags"] | {"rule_digest": rule.digest}
    return store.log_candidate(**request(store, params={"fast": 5}, rule_config=rule.to_config(), tags=tags))


def test_the_alias_moves_to_the_new_version_and_back(store: Registry, first: Registered, second: Registered) -> None:
    assert (second.version, second.created) == (2, True)
    assert store.get("trend").version == 2
    back = store.log_candidate(**request(store))
    assert (back.version, store.get("trend").version) == (1, 1)
    store.set_alias("trend", "champion", 2)
    assert store.get("trend", "champion").run_id == second.run_id


def test_links_lead_to_run_model_and_comparison(store: Registry, first: Registered, second: Registered) -> None:
    links = store.deep_links(second, "http://localhost:5000")
    assert links["run"] == f"http://localhost:5000/#/experiments/{experiment(store)}/runs/{second.run_id}"
    assert links["model"] == "http://localhost:5000/#/models/trend/versions/2"
    assert first.run_id in links["compare"]
    assert second.run_id in links["compare"]


# -- the trial ledger ------------------------------------------------------------------------------------------------


def tried(count: int, family: str = "Trend|BTC/USDT|1d") -> None:
    window = ("2000-01-01T00:00:00+00:00", "2001-12-31T00:00:00+00:00")
    TrialLedger().record(
        Trial(family, {"x": x}, {"calendar": "24/7"}, "ab" * 32, window, 504, x / len(family)) for x in range(count)
    )


def test_a_run_shows_the_trials_and_keeps_the_head_of_their_ledger(store: Registry, first: Registered) -> None:
    assert store.anchors() == {}
    tried(12)
    tried(3, "Carry|ETH-PERPETUAL|1d")
    summary = TrialLedger().summary("Trend|BTC/USDT|1d")
    shown = store.log_candidate(**request(store), trials=summary)
    data = client_of(store).get_run(shown.run_id).data
    assert (data.metrics["trials"], data.metrics["trials.project"], data.metrics["trials.lost"]) == (12.0, 15.0, 0.0)
    assert data.tags["trials.family"] == "Trend|BTC/USDT|1d"
    assert data.tags[ANCHOR_TAG] == str(TrialLedger().anchor())
    assert store.anchors() == {f"MLflow run {shown.run_id}": str(TrialLedger().anchor())}
    TrialLedger().assert_continues(store.anchors())
    # the next test: another home, with fewer trials


def test_nothing_is_registered_with_a_ledger_that_does_not_continue_the_one_that_a_run_knew(
    store: Registry, second: Registered
) -> None:
    """Given the run above, when the ledger is deleted and started anew with one trial, the next registration fails."""
    tried(1)
    with pytest.raises(LedgerError, match=r"MLflow run \w+ knows: it had 15 trials in 15 entries, this one has 1"):
        store.log_candidate(**request(store), trials=TrialLedger().summary("Trend|BTC/USDT|1d"))
    assert TrialLedger().record_loss(store.anchors().values(), "the disk failed") == 15
    summary = TrialLedger().summary("Trend|BTC/USDT|1d")
    again = store.log_candidate(**request(store), trials=summary)
    assert client_of(store).get_run(again.run_id).data.metrics["trials"] == 1 + 15


# -- where the store is --------------------------------------------------------------------------------------------


def test_the_store_does_not_depend_on_the_working_directory_or_on_what_was_set_before(
    store: Registry, first: Registered, elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/other.db")
    monkeypatch.chdir(tmp_path)
    found = Registry(os.path.relpath(store.root)).get("trend", "challenger")
    assert found.run_id
    assert mlflow.get_tracking_uri() == f"sqlite:///{tmp_path}/other.db"
    assert not list(tmp_path.iterdir())
    assert not list(elsewhere.iterdir())
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    mlflow.set_tracking_uri(None)


def test_a_moved_store_says_so_and_is_repaired_by_one_call(
    store: Registry, first: Registered, bars: pd.DataFrame, tmp_path: Path
) -> None:
    shutil.copytree(store.folder, tmp_path / "mlruns")
    moved = Registry(tmp_path)
    with pytest.raises(TradelibError, match="the project was moved"):
        moved.get("trend")
    assert moved.relocate() > 0
    shutil.move(store.folder / "artifacts", store.folder / "hidden")
    assert moved.relocate() == 0
    try:
        assert len(moved.load("trend").predict(bars)) == len(bars)
    finally:
        shutil.move(store.folder / "hidden", store.folder / "artifacts")


# -- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"name": "trend/1"}, "name 'trend/1'"),
        ({"tags": {"rule_digest": "a"}}, "tags lack data_digest, package_digest"),
        ({"rule_config": {"strategy": {"name": "Trend", "params": {}}}}, "there is no strategy 'Trend'"),
        ({"market": {"symbol": "BTC/USDT"}}, "market lacks calendar, timeframe"),
        ({"artifacts": {"report": "nowhere.html"}}, "there is nothing at nowhere.html"),
    ],
)
def test_what_cannot_be_registered_is_refused_before_anything_is_made(
    tmp_path: Path, store: Registry, changes: dict[str, Any], told: str
) -> None:
    other = Registry(tmp_path)
    with pytest.raises(ParameterError, match=told):
        other.log_candidate(**request(store, **changes))
    assert not list(tmp_path.iterdir())


def test_an_unknown_alias_is_named(store: Registry, first: Registered) -> None:
    with pytest.raises(ParameterError, match="no model 'trend' with alias 'canary'"):
        store.get("trend", "canary")
    with pytest.raises(ParameterError, match="no model 'other'"):
        store.get("other")


def test_an_interrupted_registration_leaves_no_run(
    store: Registry, first: Registered, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    runs = len(client_of(store).search_runs([experiment(store)]))
    monkeypatch.setattr(store, "_new_version", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.log_candidate(**request(store, params={"fast": 99}))
    assert len(client_of(store).search_runs([experiment(store)])) == runs


def test_importing_the_room_does_not_import_mlflow() -> None:
    code = "import sys; from tradelib.promotion import Registry; Registry('.'); sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
