"""The registry: runs that can be compared, versions without pickle, one store wherever one stands."""

from __future__ import annotations

import dataclasses
import io
import logging
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xgboost
from prophet import Prophet
from sklearn.ensemble import RandomForestClassifier

from tests.promotion.support import FIGURES, synthetic_bars, trend
from tradelib.backtest.decision import DecisionRule
from tradelib.backtest.engine import replay
from tradelib.backtest.trials import Trial, TrialLedger
from tradelib.errors import DataError, LedgerError, ParameterError, TradelibError
from tradelib.features.regime_model import RegimeModel
from tradelib.models import save_model
from tradelib.promotion.pictures import candidate_pictures
from tradelib.promotion.place import VARIABLE
from tradelib.promotion.registry import ANCHOR_TAG, EXPERIMENT, Registered, Registry
from tradelib.promotion.tracking import KIND_TAG
from tradelib.risk.tail_models import GarchFit
from tradelib.strategies.models import ModelSignals

NUMBERS = {name: figure for name, figure in FIGURES.items() if not isinstance(figure, str)}
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
        "metrics": NUMBERS | {"sortino_ratio": math.nan, "calmar_ratio": None},
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
    assert run.data.metrics == {name: float(value) for name, value in NUMBERS.items()}
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
    again = store.log_candidate(**request(store, metrics=NUMBERS | {"deflated_sharpe": 0.91}))
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
    for page in ("compare", "curves"):
        assert first.run_id in links[page]
        assert second.run_id in links[page]
    assert "metric=%22equity%22" in links["curves"]


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


# -- what the pages show -------------------------------------------------------------------------------------------

DAYS = pd.date_range("2020-01-01", periods=1_200, tz="UTC")
CURVE = pd.Series(np.linspace(1.0, 3.0, 1_200), DAYS)


@pytest.fixture(scope="module")
def shown(store: Registry, first: Registered) -> Registered:
    """A candidate of a research, with a curve and two plots."""
    import matplotlib.pyplot as plt
    import plotly.graph_objects as go

    drawn, _ = plt.subplots()
    plots = {"equity": drawn, "surface": go.Figure(go.Scatter(y=[1, 2]))}
    asked = request(store, name="shown", research="trend's best", curves={"equity": CURVE}, plots=plots)
    registered = store.log_candidate(**asked)
    plt.close(drawn)
    return registered


def test_a_research_is_one_parent_with_its_candidates_and_points_below(store: Registry, shown: Registered) -> None:
    points = [{"params": {"strategy.fast": fast}, "metrics": {"sharpe_ratio": 1.0 / fast}} for fast in (2, 3)]
    assert store.log_points("trend's best", points) == 2
    assert store.log_points("trend's best", [*points, {"params": {"strategy.fast": 9}, "metrics": {"x": None}}]) == 1

    client = client_of(store)
    (parent,) = client.search_runs([experiment(store)], f"tags.`{KIND_TAG}` = 'research'")
    below = client.search_runs([experiment(store)], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")

    assert parent.info.run_name == "trends best"
    assert sorted(run.info.run_name for run in below) == ["fast 2", "fast 3", "fast 9", f"shown {trend().digest[:8]}"]
    assert {run.data.tags[KIND_TAG] for run in below} == {"candidate", "point"}
    assert all(run.info.status == "FINISHED" for run in [parent, *below])


def test_a_curve_has_steps_the_times_of_its_bars_and_its_last_value(store: Registry, shown: Registered) -> None:
    history = client_of(store).get_metric_history(shown.run_id, "equity")

    assert len(history) == 500
    first, last = (sorted(history, key=lambda one: one.step)[place] for place in (0, -1))
    assert (first.step, first.value, first.timestamp) == (0, 1.0, DAYS[0].value // 10**6)
    assert (last.step, last.value, last.timestamp) == (1_199, 3.0, DAYS[-1].value // 10**6)


def test_plots_are_files_that_mlflow_shows(store: Registry, shown: Registered) -> None:
    files = client_of(store).list_artifacts(shown.run_id, "plots")

    assert [file.path for file in files] == ["plots/equity.png", "plots/surface.html"]


def test_pictures_stand_in_the_grid_by_which_runs_are_compared(store: Registry, shown: Registered) -> None:
    """MLflow's chart view lays `images/<key>+step+<step>+...` of several runs side by side."""
    images = [file.path for file in client_of(store).list_artifacts(shown.run_id, "images")]

    assert {path.removeprefix("images/").partition("+")[0] for path in images} == {"equity"}
    assert sum(path.endswith(".png") for path in images) == 1


def test_what_a_bundle_did_later_is_shown_in_the_run_that_it_came_from(store: Registry, shown: Registered) -> None:
    import plotly.graph_objects as go

    store.log_metrics(shown.run_id, {"replay.equal_share": 1.0, "paper.equity": math.nan})
    store.log_plots(shown.run_id, {"live_difference": go.Figure(go.Scatter(y=[3, 4]))})

    assert client_of(store).get_run(shown.run_id).data.metrics["replay.equal_share"] == 1.0
    files = [file.path for file in client_of(store).list_artifacts(shown.run_id, "plots")]
    assert files == ["plots/equity.png", "plots/live_difference.html", "plots/surface.html"]


def test_the_pictures_of_a_candidate_show_equity_trades_and_months() -> None:
    result = replay(trend(), synthetic_bars())
    pictures = candidate_pictures(result)

    assert list(pictures) == ["equity", "price", "monthly"]
    (above, below), (price,), (monthly,) = (pictures[name].axes for name in pictures)
    assert above.lines[0].get_ydata()[-1] == result.equity.iloc[-1]
    assert below.get_ylabel() == "drawdown, %"
    bought, sold = (points.get_offsets() for points in price.collections)
    for side, points in (("buy", bought), ("sell", sold)):
        assert list(points[:, 1]) == list(result.fills.loc[result.fills["side"] == side, "price"])
    march = float((1.0 + result.returns.loc["2020-03"]).prod() - 1.0)
    shown = {(text.get_position()): text.get_text() for text in monthly.texts}
    assert shown[2, 0] == f"{march * 100.0:.1f}"


def test_the_same_result_gives_the_same_picture() -> None:
    files = []
    for _ in range(2):
        picture, file = candidate_pictures(replay(trend(), synthetic_bars()))["price"], io.BytesIO()
        picture.savefig(file, metadata={"Software": None})
        files.append(file.getvalue())
    assert files[0] == files[1]


def test_the_model_that_a_rule_carries_is_told_in_tags(store: Registry, first: Registered) -> None:
    strategy = ModelSignals()
    rule = DecisionRule(strategy=strategy)
    tags = request(store)["tags"] | {"rule_digest": rule.digest}
    params = {"strategy.model": strategy.model.model_dump() | {"long": "x" * 9_000}}
    asked = request(store, name="carried", rule_config=rule.to_config(), tags=tags, params=params)

    data = client_of(store).get_run(store.log_candidate(**asked).run_id).data

    assert (data.tags["model.kind"], data.tags["model.features"]) == ("linear", "momentum")
    assert data.tags["model.digest"] == strategy.model.digest
    assert len(data.params["strategy.model"]) == 500


FITTED = {
    "regime": RegimeModel(means=(0.001, -0.001), volatilities=(0.01, 0.03), transition=((0.98, 0.02), (0.05, 0.95))),
    "garch": GarchFit("GARCH", "t", 0.05, 0.02, 0.05, 0.0, 0.9, (6.5,)),
}


@pytest.mark.parametrize("kind", ["garch", "regime", "scikit-learn", "xgboost", "prophet"])
def test_a_fitted_model_is_registered_without_pickle_and_says_the_same(
    store: Registry, first: Registered, kind: str
) -> None:
    model, asked = fitted(kind)
    saved = save_model(model)
    tags = {"data_digest": "d" * 64, "package_digest": "a" * 64}
    registered = store.log_saved(f"fitted-{kind}", saved, tags=tags, metrics={"loss": 0.1}, alias="paper")

    said = store.load(f"fitted-{kind}", "paper").predict(asked)

    np.testing.assert_array_equal(said.iloc[:, 0], saved.predict(asked, proven=True))
    data = client_of(store).get_run(registered.run_id).data
    assert (data.tags["model.kind"], data.tags["model.digest"]) == (kind, saved.digest)
    assert data.tags[KIND_TAG] == "model"
    assert store.log_saved(f"fitted-{kind}", saved, tags=tags).created is False
    assert not [path for path in store.folder.rglob("*") if path.suffix in (".pkl", ".pickle", ".joblib")]


def fitted(kind: str) -> tuple[Any, pd.DataFrame]:
    """A fitted model of the kind, and what it is asked."""
    random = np.random.default_rng(0)
    table = pd.DataFrame(random.normal(size=(80, 2)), columns=["momentum", "strength"])
    if kind in FITTED:
        return FITTED[kind], pd.DataFrame({"return": random.normal(0.0, 0.01, 80)})
    if kind == "scikit-learn":
        return RandomForestClassifier(3, random_state=0).fit(table, table["momentum"] > 0), table
    if kind == "xgboost":
        return xgboost.XGBClassifier(n_estimators=3).fit(table, table["momentum"] > 0), table
    logging.getLogger("cmdstanpy").setLevel(logging.ERROR)
    days = pd.DataFrame({"ds": pd.date_range("2020-01-01", periods=80), "y": table["momentum"].cumsum()})
    return Prophet(uncertainty_samples=0).fit(days), days[["ds"]]


def test_a_model_swapped_in_the_store_does_not_load(store: Registry, first: Registered) -> None:
    """Given a model file replaced by another good one, the digest beside it tells."""
    tags = {"data_digest": "d" * 64, "package_digest": "a" * 64}
    store.log_saved("swapped", save_model(FITTED["garch"]), tags=tags, params={"note": "swap"})
    place = max(store.folder.rglob("artifacts/model.json"), key=lambda path: path.stat().st_mtime_ns)
    place.write_text(save_model(dataclasses.replace(FITTED["garch"], beta=0.5)).to_text())

    with pytest.raises(DataError, match="it was replaced"):
        store.load("swapped")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"alias": "champoin"}, "no alias 'champoin'; did you mean 'champion'"),
        ({"metrics": {"regime": "calm"}}, "the metric 'regime' is 'calm', not a number"),
        ({"curves": {"equity": CURVE.reset_index(drop=True)}}, "'equity' must have times with a zone"),
        ({"curves": {"equity": CURVE * math.nan}}, "'equity' has no finite value"),
        ({"plots": {"equity": "picture"}}, "'equity' is neither a figure"),
    ],
)
def test_what_mlflow_could_not_show_is_refused_and_leaves_no_run(
    store: Registry, first: Registered, changes: dict[str, Any], told: str
) -> None:
    runs = len(client_of(store).search_runs([experiment(store)]))
    with pytest.raises(ParameterError, match=told):
        store.log_candidate(**request(store, name="refused", **changes))
    assert len(client_of(store).search_runs([experiment(store)])) == runs


# -- one place ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("postgresql://quant:secret@db/mlflow", "A database belongs behind the server"),
        ("sqlite:///mlflow.db", "is not the address of an MLflow server"),
        ("mlflow.example.org", "is not the address of an MLflow server"),
        ("https://quant:secret@mlflow.example.org", "holds a password"),
    ],
)
def test_what_is_no_server_is_refused_and_no_password_is_told(tmp_path: Path, address: str, told: str) -> None:
    with pytest.raises(ParameterError, match=told) as refused:
        Registry(tmp_path, address)
    assert "secret" not in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_the_variable_names_the_server_for_every_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "http://127.0.0.1:9/")
    registry = Registry(tmp_path)

    assert (registry.uri, registry.exists) == ("http://127.0.0.1:9", True)
    with pytest.raises(TradelibError, match=r"http://127\.0\.0\.1:9 does not answer .* start it"):
        registry.get("trend")
    assert not list(tmp_path.iterdir())


def test_a_registry_is_opened_by_its_folder_or_its_server(tmp_path: Path) -> None:
    assert Registry.open(tmp_path).uri == f"sqlite:///{tmp_path}/mlruns/mlflow.db"
    assert Registry.open("https://mlflow.example.org/", tmp_path).uri == "https://mlflow.example.org"
    assert not Registry.open(tmp_path).exists


def test_importing_the_room_does_not_import_mlflow() -> None:
    code = "import sys; from tradelib.promotion import Registry; Registry('.'); sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
