"""The registry on an MLflow server with a real PostgreSQL behind it: two clones of a project, one truth."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

from tests.promotion.servers import mlflow_server, postgres
from tests.promotion.support import trend
from tradelib.backtest.trials import Trial, TrialLedger
from tradelib.errors import LedgerError, ParameterError, TradelibError
from tradelib.features.regime_model import RegimeModel
from tradelib.models import save_model
from tradelib.promotion.place import VARIABLE
from tradelib.promotion.registry import EXPERIMENT, Registered, Registry

pytestmark = [pytest.mark.integration, pytest.mark.slow]

MARKET = {"symbol": "BTC/USDT", "timeframe": "1d", "calendar": "24/7"}
CURVE = pd.Series(np.linspace(1.0, 2.0, 900), pd.date_range("2020-01-01", periods=900, tz="UTC"))


class Setting(NamedTuple):
    """A server, where it keeps files, its database, and a clone of a project that uses it."""

    address: str
    files: Path
    database: str
    clone: Registry


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    folder = tmp_path_factory.mktemp("server")
    with postgres() as database, mlflow_server(database, folder / "artifacts") as address:
        yield Setting(address, folder / "artifacts", database, Registry(tmp_path_factory.mktemp("clone"), address))


def request(fast: int = 3, **changes: Any) -> dict[str, Any]:
    rule = trend(fast)
    good: dict[str, Any] = {
        "name": "trend",
        "params": {"fast": fast},
        "metrics": {"sharpe_ratio": 0.9},
        "tags": {"rule_digest": rule.digest, "data_digest": "d" * 64, "package_digest": "a" * 64},
        "rule_config": rule.to_config(),
        "market": MARKET,
        "research": "trend on BTC/USDT",
        "curves": {"equity": CURVE},
    }
    return good | changes


@pytest.fixture(scope="module")
def first(there: Setting) -> Registered:
    return there.clone.log_candidate(**request())


def counted(there: Setting, table: str) -> int:
    import psycopg

    with psycopg.connect(there.database.replace("+psycopg", "")) as connection:
        found = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    return int(found[0]) if found else 0


def test_what_one_clone_registers_is_in_postgresql_and_nowhere_else(there: Setting, first: Registered) -> None:
    assert (first.version, first.created) == (1, True)
    assert (counted(there, "runs"), counted(there, "model_versions")) == (2, 1)  # the candidate below its parent
    assert [path.name for path in there.clone.folder.rglob("*")] == ["server"]
    assert sorted(path.name for path in there.files.rglob("rule.json")) == ["rule.json"]


def test_another_clone_finds_it_and_decides_the_same(
    there: Setting, first: Registered, tmp_path: Path, bars: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, f"{there.address}/")
    other = Registry(tmp_path)
    assert other.get("trend").run_id == first.run_id
    again = other.log_candidate(**request())
    assert (again.version, again.created) == (1, False)
    pd.testing.assert_frame_equal(other.load("trend").predict(bars), trend(3).decisions(bars), check_exact=True)


def test_the_address_is_kept_once_it_was_used(
    there: Setting, first: Registered, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a project on the server, a shell without the variable finds it, and one with another is refused."""
    root = there.clone.root
    assert Registry(root).uri == there.address
    monkeypatch.setenv(VARIABLE, "http://127.0.0.1:1")
    with pytest.raises(TradelibError, match=rf"is on {there.address}, not on http://127.0.0.1:1"):
        Registry(root)


def test_the_model_on_the_server_says_nothing_about_this_machine(
    there: Setting, first: Registered, project: Path
) -> None:
    (model,) = there.files.rglob("MLmodel")
    assert str(project) not in model.read_text()
    assert "/tmp" not in model.read_text()


def test_aliases_move_and_the_alias_of_one_clone_is_that_of_the_other(
    there: Setting, first: Registered, tmp_path: Path
) -> None:
    second = there.clone.log_candidate(**request(5))
    there.clone.set_alias("trend", "champion", first.version)
    other = Registry(tmp_path, there.address)
    assert other.aliases("trend") == {"challenger": second.version, "champion": 1}
    other.remove_alias("trend", "champion")
    assert there.clone.aliases("trend") == {"challenger": second.version}


def test_curves_points_and_links_are_there(there: Setting, first: Registered) -> None:
    import mlflow

    client = mlflow.MlflowClient(there.address, there.address)
    history = client.get_metric_history(first.run_id, "equity")
    assert len(history) == 500
    assert max(history, key=lambda one: one.step).value == 2.0
    points = [{"params": {"fast": fast}, "metrics": {"sharpe_ratio": fast / 10}} for fast in (5, 8, 13)]
    assert there.clone.log_points("trend on BTC/USDT", points) == 3
    assert there.clone.log_points("trend on BTC/USDT", points) == 0
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment.artifact_location.startswith("mlflow-artifacts:/")
    assert there.clone.deep_links(first)["model"] == f"{there.address}/#/models/trend/versions/1"


def test_a_fitted_model_travels_over_the_server(there: Setting, tmp_path: Path) -> None:
    model = RegimeModel(means=(0.001, -0.001), volatilities=(0.01, 0.03), transition=((0.98, 0.02), (0.05, 0.95)))
    saved = save_model(model)
    there.clone.log_saved("calm", saved, tags={"data_digest": "d" * 64, "package_digest": "a" * 64})
    returns = pd.DataFrame({"return": np.random.default_rng(0).normal(0.0, 0.01, 50)})
    said = Registry(tmp_path, there.address).load("calm").predict(returns)
    np.testing.assert_array_equal(said.iloc[:, 0], model.filtered(returns["return"])[0])


def test_the_trial_ledger_is_anchored_on_the_server(there: Setting, first: Registered, tmp_path: Path) -> None:
    """Given a run that knew 12 trials, a ledger begun anew registers nothing, in another clone either."""
    window = ("2000-01-01T00:00:00+00:00", "2001-12-31T00:00:00+00:00")
    family = "Trend|BTC/USDT|1d"
    trials = [Trial(family, {"x": x}, {"calendar": "24/7"}, "ab" * 32, window, 504, x / 7) for x in range(12)]
    TrialLedger().record(trials)
    there.clone.log_candidate(**request(), trials=TrialLedger().summary(family))
    assert there.clone.anchors() == {f"MLflow run {first.run_id}": str(TrialLedger().anchor())}
    shutil.rmtree(Path(TrialLedger().path).parent)
    TrialLedger().record(trials[:1])
    with pytest.raises(LedgerError, match="knows: it had 12 trials"):
        Registry(tmp_path, there.address).log_candidate(**request(6), trials=TrialLedger().summary(family))


def test_a_project_with_runs_of_its_own_does_not_begin_a_second_store(there: Setting, tmp_path: Path) -> None:
    (tmp_path / "mlruns").mkdir()
    sqlite3.connect(tmp_path / "mlruns" / "mlflow.db").close()
    (tmp_path / "mlruns" / "mlflow.db").touch()
    with pytest.raises(TradelibError, match="a second store would know half of them"):
        Registry(tmp_path, there.address).aliases("trend")


def test_an_unknown_name_is_told_as_with_a_local_store(there: Setting, first: Registered) -> None:
    with pytest.raises(ParameterError, match="no model 'trend' with alias 'canary'"):
        there.clone.get("trend", "canary")
    assert there.clone.aliases("nobody") == {}
