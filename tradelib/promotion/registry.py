"""Candidates in MLflow: every evaluated strategy a run, every registered one a model version with an alias.

One store per project, whatever the working directory: an SQLite file and a folder of artifacts under `<root>/mlruns`,
or an MLflow server (see `tradelib.promotion.place`). All runs share one experiment, so that MLflow's compare page shows
strategies side by side; those of one research stand below one parent. A strategy is kept as code and configuration,
`strategy_model.py` and a JSON file, a fitted model as tradelib's JSON of it: never a pickle.

MLflow is imported when the registry is first used (it takes seconds), with telemetry and pickle off.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import sqlite3
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

import tradelib
from tradelib.backtest.decision import DecisionRule
from tradelib.backtest.trials import TrialLedger, TrialSummary
from tradelib.data.bars import COLUMNS
from tradelib.errors import ParameterError, TradelibError, require
from tradelib.ledger.chain import digest
from tradelib.models.saved import SavedModel
from tradelib.parameters import nearest
from tradelib.promotion import tracking
from tradelib.promotion.place import Place, find_place

__all__ = ["ALIASES", "ANCHOR_TAG", "CHALLENGER", "EXPERIMENT", "REQUIRED_TAGS", "Registered", "Registry"]

EXPERIMENT = "tradelib"
CHALLENGER = "challenger"
ALIASES = (CHALLENGER, "paper", "canary", "champion")
"""What a version may be called: proposed, on paper, with a share of the capital, and with all of it."""

REQUIRED_TAGS = ("rule_digest", "data_digest", "package_digest")
"""Tags without which nothing is registered: what was decided with, on what, by which code."""

ANCHOR_TAG = "trials.anchor"
"""The tag of a run that holds the head of the trial ledger: a ledger that does not pass through it is another one."""

_MODEL_FILES = {kind: Path(__file__).with_name(f"{kind}_model.py") for kind in ("strategy", "saved")}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_CONTENT = "tradelib.content"
_EQUITY = "&metric=%22equity%22&plot_metric_keys=%5B%22equity%22%5D&x_axis=wall"  # over the calendar
_LONGEST = 500  # characters of a parameter: what MLflow's database holds everywhere
_UNKNOWN = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
_SWITCHES = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
_SWITCHES["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
# Absolute places that MLflow writes into its database: table, column.
_PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("model_versions", "source"),
)


@dataclass(frozen=True)
class Registered:
    """A model version in the registry; `created` is False where identical content was there before."""

    name: str
    version: int
    run_id: str
    model_uri: str
    alias: str | None
    created: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {name: getattr(self, name) for name in ("name", "version", "run_id", "model_uri", "alias", "created")}


@dataclass(frozen=True)
class _Model:
    """What is kept as a model: which file of code, its artifacts as text by name, and what it takes and gives."""

    kind: str
    files: Mapping[str, str]
    signature: Callable[[], Any]


@dataclass(frozen=True)
class _Shown:
    """What a run shows."""

    params: Mapping[str, Any]
    metrics: Mapping[str, float | None]
    tags: Mapping[str, Any]
    artifacts: Mapping[str, str | os.PathLike[str]]
    curves: Mapping[str, pd.Series]
    plots: Mapping[str, Any]
    description: str


class Registry:
    """The MLflow store of the project at `root`, made on first use.

    `server`: address of an MLflow server, `http(s)://...`; kept with the project at the first use, and so is what
    `TRADELIB_MLFLOW_URI` names. Raises `MissingExtraError` without MLflow, `ParameterError` for what cannot be
    registered, and `TradelibError` when another store was used before, when it was moved (see `relocate`), or when
    MLflow cannot use it.
    """

    def __init__(self, root: str | os.PathLike[str], server: str | None = None) -> None:
        self.root = Path(root).resolve()
        self.place: Place = find_place(self.root, server)
        self.folder = self.place.folder
        self.database = self.folder / "mlflow.db"

    @classmethod
    def open(cls, where: str | os.PathLike[str] | None = None, root: str | os.PathLike[str] = ".") -> Registry:
        """The registry at `where`: a project's folder, or the address of a server for the project at `root`."""
        if isinstance(where, str) and "://" in where:
            return cls(root, where)
        return cls(root if where is None else where)

    @property
    def uri(self) -> str:
        """Where MLflow keeps runs and models; decided in `tradelib.promotion.place` only."""
        return self.place.uri

    @property
    def artifacts(self) -> str:
        """Where MLflow keeps files: what every address of one starts with."""
        return self.place.artifacts

    @property
    def exists(self) -> bool:
        """True where something may have been registered: there is a database, or a server was named."""
        return self.place.server is not None or self.database.is_file()

    def __repr__(self) -> str:
        server = f", {self.place.server!r}" if self.place.server else ""
        return f"Registry({str(self.root)!r}{server})"

    # Registering -----------------------------------------------------------------------------------------------------

    def log_candidate(
        self,
        *,
        name: str,
        params: Mapping[str, Any],
        metrics: Mapping[str, float | None],
        tags: Mapping[str, Any],
        rule_config: Mapping[str, Any],
        market: Mapping[str, str],
        artifacts: Mapping[str, str | os.PathLike[str]] | None = None,
        trials: TrialSummary | None = None,
        alias: str = CHALLENGER,
        description: str = "",
        research: str | None = None,
        curves: Mapping[str, pd.Series] | None = None,
        plots: Mapping[str, Any] | None = None,
    ) -> Registered:
        """Log a run, register its model under `name`, and move `alias` to that version.

        `params`: what was chosen. `metrics`: figures by name (undefined ones are left out). `tags`: `REQUIRED_TAGS`,
        commit, lock digest, trial count, ... `rule_config`: `DecisionRule.to_config()`. `market`: symbol, timeframe and
        calendar of the bars. `artifacts`: folder in the run -> file or folder. `trials`: what the project's ledger says
        of the question; shown beside the figures, and its head is kept as `ANCHOR_TAG`. `LedgerError` where that ledger
        does not continue the one that an earlier run knew. `research`: what it was a candidate for; such runs stand
        together below one parent. `curves`: values by time, such as the equity; drawn by MLflow. `plots`: figures of
        matplotlib or plotly by name. The same rule, params, data and package again give the version that exists, its
        run brought up to date. When anything fails, no run stays behind.
        """
        if trials is not None:
            TrialLedger().assert_continues(self.anchors())
            metrics, tags = {**metrics, **_counts(trials)}, {**tags, **_trial_tags(trials)}
        self._check(name, tags, metrics, rule_config, market, artifacts or {})
        content = digest({"rule": dict(rule_config), "params": _texts(params), **_texts(_required(tags))})
        config = {"rule": dict(rule_config), "market": {key: str(value) for key, value in sorted(market.items())}}
        model = _Model("strategy", {"rule": json.dumps(config, indent=2, sort_keys=True) + "\n"}, _bars_signature)
        tags = {**tags, **tracking.model_tags(rule_config)}
        shown = _Shown(params, metrics, tags, artifacts or {}, curves or {}, plots or {}, description)
        return self._register(name, content, model, shown, alias, research, "candidate")

    def log_saved(
        self,
        name: str,
        saved: SavedModel,
        *,
        tags: Mapping[str, Any],
        params: Mapping[str, Any] | None = None,
        metrics: Mapping[str, float | None] | None = None,
        artifacts: Mapping[str, str | os.PathLike[str]] | None = None,
        alias: str = CHALLENGER,
        description: str = "",
        research: str | None = None,
        curves: Mapping[str, pd.Series] | None = None,
        plots: Mapping[str, Any] | None = None,
    ) -> Registered:
        """Log a run and register a fitted model that is no strategy, as `log_candidate` does: a forecast, a volatility.

        `tags`: `data_digest` and `package_digest` at least; the model's digest, kind and libraries are added.
        """
        told = {"kind": saved.kind, "digest": saved.digest, "features": ", ".join(saved.features)}
        told["libraries"] = ", ".join(f"{key} {number}" for key, number in saved.libraries.items())
        tags = {**tags, "rule_digest": saved.digest, **{f"model.{key}": text for key, text in told.items()}}
        self._check_request(name, tags, metrics or {}, artifacts or {})
        content = digest({"params": _texts(params or {}), **_texts(_required(tags))})
        model = _Model("saved", {"model": saved.to_text(), "digest": f"{saved.digest}\n"}, lambda: _signature_of(saved))
        shown = _Shown(params or {}, metrics or {}, tags, artifacts or {}, curves or {}, plots or {}, description)
        return self._register(name, content, model, shown, alias, research, "model")

    def log_points(self, research: str, points: Sequence[Mapping[str, Any]]) -> int:
        """A run per point of a sweep, `{"params": ..., "metrics": ...}`, below the parent `research`; how many are new.

        They are for MLflow's table and its plots of figures over parameters; nothing is registered.
        """
        with self._client() as client:
            experiment = self._experiment(client)
            parent = tracking.parent_run(client, experiment, research)
            return tracking.log_points(client, experiment, parent, points)

    def _register(
        self, name: str, content: str, model: _Model, shown: _Shown, alias: str, research: str | None, kind: str
    ) -> Registered:
        _check_alias(alias)
        with self._client() as client:
            run, version = self._known(client, name, content)
            created = version is None
            try:
                run = run or self._new_run(client, name, shown, research, kind)
                self._fill(client, run, shown, created)
                if version is None:
                    uri = self._log_model(client, run, model)
                    version = self._new_version(client, name, uri, run, content, shown.tags, shown.description)
            except BaseException:
                if created and run is not None:
                    client.delete_run(run)
                raise
            client.set_terminated(run)
            client.set_registered_model_alias(name, alias, str(version.version))
            return Registered(name, int(version.version), run, f"models:/{name}/{version.version}", alias, created)

    def _check(
        self,
        name: str,
        tags: Mapping[str, Any],
        metrics: Mapping[str, float | None],
        rule_config: Mapping[str, Any],
        market: Mapping[str, str],
        artifacts: Mapping[str, str | os.PathLike[str]],
    ) -> None:
        self._check_request(name, tags, metrics, artifacts)
        DecisionRule.from_config(dict(rule_config))
        missing = sorted({"symbol", "timeframe", "calendar"} - set(market))
        if missing:
            raise ParameterError(f"market lacks {', '.join(missing)}: pass the attrs of the bars")

    def _check_request(
        self,
        name: str,
        tags: Mapping[str, Any],
        metrics: Mapping[str, Any],
        artifacts: Mapping[str, str | os.PathLike[str]],
    ) -> None:
        if not _NAME.fullmatch(name):
            raise ParameterError(
                f"name {name!r}: use up to 64 letters, digits, '-' and '_', starting with a letter or digit"
            )
        _required(tags)
        words = [key for key, figure in metrics.items() if not isinstance(figure, int | float | None)]
        if words:
            raise ParameterError(f"the metric {words[0]!r} is {metrics[words[0]]!r}, not a number: make it a tag")
        for label, path in artifacts.items():
            if not Path(path).exists():
                raise ParameterError(f"artifact {label!r}: there is nothing at {path}")

    def _known(self, client: Any, name: str, content: str) -> tuple[str | None, Any]:
        """Run and version that hold `content` already, or two Nones."""
        found = client.search_model_versions(f"name = '{name}' and tags.`{_CONTENT}` = '{content}'")
        return (found[0].run_id, found[0]) if found else (None, None)

    def _new_run(self, client: Any, name: str, shown: _Shown, research: str | None, kind: str) -> str:
        tags, experiment = shown.tags, self._experiment(client)
        system = {"mlflow.note.content": shown.description, "mlflow.source.name": "tradelib"}
        system |= {"mlflow.source.type": "PROJECT"}
        if tags.get("commit"):
            system["mlflow.source.git.commit"] = str(tags["commit"])
        parent = None if research is None else tracking.parent_run(client, experiment, research)
        system |= tracking.child_tags(parent, kind)
        label = f"{name} {str(tags['rule_digest'])[:8]}"
        run_id: str = client.create_run(experiment, run_name=label, tags=system).info.run_id
        return run_id

    def _fill(self, client: Any, run: str, shown: _Shown, created: bool) -> None:
        for key, value in sorted(shown.params.items()) if created else ():
            client.log_param(run, key, _short(value))
        for key, value in sorted(_texts(shown.tags).items()):
            client.set_tag(run, key, value)
        for key, figure in sorted(shown.metrics.items()):
            if figure is not None and math.isfinite(figure):
                client.log_metric(run, key, float(figure))
        for label, path in sorted(shown.artifacts.items()):
            send = client.log_artifacts if Path(path).is_dir() else client.log_artifact
            send(run, str(path), label)
        if created:
            tracking.log_curves(client, run, shown.curves)
        tracking.log_plots(client, run, shown.plots, in_grid=created)

    def _log_model(self, client: Any, run: str, kept: _Model) -> str:
        """Store the model of `run`; named experiment and place, because MLflow's default is the working directory."""
        from mlflow.models import Model

        model = client.create_logged_model(self._experiment(client), name=kept.kind, source_run_id=run)
        self._assert_place(model.artifact_location)
        with tempfile.TemporaryDirectory() as folder:
            paths = {}
            for name, text in kept.files.items():
                paths[name] = str(Path(folder) / f"{name}.json")
                Path(paths[name]).write_text(text, encoding="utf-8")
            info = Model.log(
                artifact_path=None,
                name=kept.kind,
                flavor=_mlflow().pyfunc,
                run_id=run,
                model_id=model.model_id,
                python_model=str(_MODEL_FILES[kept.kind]),
                artifacts=paths,
                pip_requirements=[f"tradelib=={tradelib.__version__}"],
                signature=kept.signature(),
            )
        self._scrub(client, info.model_id)
        uri: str = info.model_uri
        return uri

    def _new_version(
        self, client: Any, name: str, uri: str, run: str, content: str, tags: Mapping[str, Any], description: str
    ) -> Any:
        with _unless(("RESOURCE_ALREADY_EXISTS",)):
            client.create_registered_model(name, description=f"tradelib strategy {name}")
        labels, model = {**_texts(tags), _CONTENT: content}, uri.removeprefix("models:/")
        told = description or None
        return client.create_model_version(name, uri, run, tags=labels, description=told, model_id=model)

    def _scrub(self, client: Any, model_id: str) -> None:
        """Take this machine's paths out of the MLmodel file; MLflow itself reads only the base names."""
        import yaml

        with tempfile.TemporaryDirectory() as folder:
            place = client.get_logged_model(model_id).artifact_location
            path = Path(_mlflow().artifacts.download_artifacts(f"{place}/MLmodel", dst_path=folder))
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
            flavor = content["flavors"]["python_function"]
            flavor["model_code_path"] = Path(flavor["model_code_path"]).name
            for artifact in flavor["artifacts"].values():
                artifact["uri"] = artifact["path"]
            path.write_text(yaml.safe_dump(content), encoding="utf-8")
            client.log_model_artifact(model_id, str(path))

    def anchors(self) -> dict[str, str]:
        """The heads of the trial ledger that runs of this store have kept, by the run; a local one without MLflow."""
        if self.place.server:
            return self._anchors_on_server()
        if not self.database.is_file():
            return {}
        with closing(sqlite3.connect(f"{self.database.as_uri()}?mode=ro", uri=True)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            query = "SELECT run_uuid, value FROM tags WHERE key = ? ORDER BY run_uuid"
            found = connection.execute(query, (ANCHOR_TAG,)).fetchall() if "tags" in tables else []
        return {f"MLflow run {run}": anchor for run, anchor in found}

    def _anchors_on_server(self) -> dict[str, str]:
        found: dict[str, str] = {}
        with self._client() as client:
            page = None
            while True:
                runs = client.search_runs([self._experiment(client)], f"tags.`{ANCHOR_TAG}` LIKE '%'", page_token=page)
                found |= {f"MLflow run {run.info.run_id}": run.data.tags[ANCHOR_TAG] for run in runs}
                page = runs.token
                if not page:
                    return dict(sorted(found.items()))

    # Reading ---------------------------------------------------------------------------------------------------------

    def get(self, name: str, alias: str = CHALLENGER) -> Registered:
        """The version of `name` to which `alias` points; `ParameterError` when there is none."""
        with (
            self._client() as client,
            _unless(
                _UNKNOWN,
                ParameterError(f"there is no model {name!r} with alias {alias!r} in {self.uri}: register it first"),
            ),
        ):
            version = client.get_model_version_by_alias(name, alias)
        return Registered(name, int(version.version), version.run_id, f"models:/{name}/{version.version}", alias, False)

    def aliases(self, name: str) -> dict[str, int]:
        """Which version each alias of `name` points to; empty where nothing of that name is registered."""
        with self._client() as client, suppress(ParameterError), _unless(_UNKNOWN, ParameterError("unknown")):
            return {alias: int(version) for alias, version in client.get_registered_model(name).aliases.items()}
        return {}

    def remove_alias(self, name: str, alias: str) -> None:
        """Let `alias` of `name` point nowhere."""
        with self._client() as client:
            client.delete_registered_model_alias(name, alias)

    def log_metrics(self, run_id: str, metrics: Mapping[str, float]) -> None:
        """Add figures to a run that exists, such as what its bundle did live; undefined ones are left out."""
        with self._client() as client:
            for key, figure in sorted(metrics.items()):
                if math.isfinite(figure):
                    client.log_metric(run_id, key, float(figure))

    def log_plots(self, run_id: str, plots: Mapping[str, Any]) -> None:
        """Add figures of matplotlib or plotly to a run that exists; one of the same name is replaced."""
        with self._client() as client:
            tracking.log_plots(client, run_id, plots)

    def version_tags(self, name: str, version: int) -> dict[str, str] | None:
        """Tags of a model version; None where this store does not know it."""
        with self._client() as client, suppress(ParameterError), _unless(_UNKNOWN, ParameterError("unknown")):
            return dict(client.get_model_version(name, str(version)).tags)
        return None

    def run_tags(self, run_id: str) -> dict[str, str] | None:
        """Tags of a run; None where this store does not know it."""
        with self._client() as client, suppress(ParameterError), _unless(_UNKNOWN, ParameterError("unknown")):
            return dict(client.get_run(run_id).data.tags)
        return None

    def set_alias(self, name: str, alias: str, version: int) -> None:
        """Point `alias` (one of `ALIASES`) of `name` to `version`."""
        _check_alias(alias)
        with self._client() as client:
            client.set_registered_model_alias(name, alias, str(version))

    def load(self, name: str, alias: str = CHALLENGER) -> Any:
        """The registered strategy as an MLflow model: `.predict(bars)` gives its decisions."""
        registered = self.get(name, alias)
        with self._client(), _quiet():
            return _mlflow().pyfunc.load_model(registered.model_uri)

    def deep_links(self, registered: Registered, server: str | None = None) -> dict[str, str]:
        """Addresses in the MLflow UI: run, model version, comparison, and `curves`: the equity of the compared runs.

        `server`: where it is served; the registry's own server, or http://127.0.0.1:5000 (`make mlflow`), unless
        stated. The comparison holds the two newest versions of each of at most ten registered names.
        """
        server = (server or self.place.server or "http://127.0.0.1:5000").rstrip("/")
        with self._client() as client:
            experiment = self._experiment(client)
            runs = [registered.run_id]
            for model in client.search_registered_models(max_results=10):
                newest = {"max_results": 2, "order_by": ["version_number DESC"]}
                runs += [version.run_id for version in client.search_model_versions(f"name = '{model.name}'", **newest)]
        chosen = quote(json.dumps(list(dict.fromkeys(runs)), separators=(",", ":")))
        experiments = quote(json.dumps([experiment]))
        return {
            "run": f"{server}/#/experiments/{experiment}/runs/{registered.run_id}",
            "model": f"{server}/#/models/{quote(registered.name)}/versions/{registered.version}",
            "compare": f"{server}/#/compare-runs?runs={chosen}&experiments={experiments}",
            "curves": f"{server}/#/metric?runs={chosen}&experiments={experiments}{_EQUITY}",
        }

    # The store -------------------------------------------------------------------------------------------------------

    def relocate(self) -> int:
        """After the project folder was moved: point MLflow's records to the files' new place. Returns rows changed.

        A server's records know no folder: nothing to do.
        """
        if self.place.server:
            return 0
        with closing(sqlite3.connect(f"{self.database.as_uri()}?mode=rw", uri=True)) as connection, connection:
            found = connection.execute(
                "SELECT artifact_location FROM experiments WHERE name = ?", (EXPERIMENT,)
            ).fetchone()
            if found is None or found[0] == self.artifacts:
                return 0
            changed = 0
            for table, column in _PLACES:
                statement = f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?"
                values = (self.artifacts, len(found[0]) + 1, len(found[0]), found[0])
                changed += connection.execute(statement, values).rowcount
        return changed

    def _experiment(self, client: Any) -> str:
        found = client.get_experiment_by_name(EXPERIMENT)
        if found is None:
            with _unless(("RESOURCE_ALREADY_EXISTS",)):  # another process was faster
                client.create_experiment(EXPERIMENT, artifact_location=None if self.place.server else self.artifacts)
            found = client.get_experiment_by_name(EXPERIMENT)
        if self.place.server and not found.artifact_location.startswith(f"{self.artifacts}/"):
            raise TradelibError(
                f"The MLflow server {self.uri} sends its clients to {found.artifact_location} for files, which other "
                "machines may not reach: start it with --artifacts-destination."
            )
        if not self.place.server and found.artifact_location != self.artifacts:
            raise TradelibError(
                f"The MLflow store {self.database} says that its files are in {found.artifact_location}, but it "
                f"stands in {self.folder}: the project was moved. Call Registry({str(self.root)!r}).relocate() once."
            )
        identity: str = found.experiment_id
        return identity

    @contextmanager
    def _client(self) -> Iterator[Any]:
        """MLflow's client on this store, which is also the process's current one inside the block."""
        self.place.check_reachable()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.place.keep()
        mlflow = _mlflow()
        before = (mlflow.get_tracking_uri(), mlflow.get_registry_uri())
        with _quiet(), _translated(self.uri):
            try:
                mlflow.set_tracking_uri(self.uri)
                mlflow.set_registry_uri(self.uri)
                client = mlflow.MlflowClient(self.uri, self.uri)
                self._experiment(client)
                yield client
                for uri in (mlflow.get_tracking_uri(), mlflow.get_registry_uri()):
                    self._assert_place(uri)
            finally:
                mlflow.set_tracking_uri(before[0])
                mlflow.set_registry_uri(before[1])

    def _assert_place(self, uri: str) -> None:
        if uri != self.uri and not uri.startswith(f"{self.artifacts}/"):
            raise TradelibError(f"MLflow wanted to use {uri} instead of the project's store {self.uri}.")


def _mlflow() -> Any:
    """The MLflow package, with telemetry and pickle switched off before its first import."""
    os.environ.update(_SWITCHES)
    return require("mlflow", "research")


@contextmanager
def _unless(codes: Sequence[str], instead: TradelibError | None = None) -> Iterator[None]:
    """Swallow MLflow's refusals with these error codes, or raise `instead`."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code not in codes:
            raise
        if instead is not None:
            raise instead from error


@contextmanager
def _translated(uri: str) -> Iterator[None]:
    """What MLflow raises inside the block becomes a `TradelibError` that names the store."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        raise TradelibError(f"MLflow store {uri}: {error.message}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence MLflow's notices (migrations, missing input example) inside the block; errors still come."""
    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic")]
    before, bar = [logger.level for logger in loggers], os.environ.get("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR")
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
        if bar is None:
            del os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"]
        else:
            os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = bar


def _bars_signature() -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    time = ColSpec(DataType.datetime, "time", required=False)
    inputs: list[Any] = [time, *(ColSpec(DataType.double, column) for column in COLUMNS)]
    outputs: list[Any] = [ColSpec(DataType.double, column) for column in ("signal", "target_weight")]
    return ModelSignature(Schema(inputs), Schema(outputs))


def _signature_of(saved: SavedModel) -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    kinds = {"float64": DataType.double, "datetime64": DataType.datetime}

    def schema(side: str) -> Any:
        columns: list[Any] = [ColSpec(kinds[one["dtype"]], one["name"]) for one in saved.signature[side]]
        return Schema(columns)

    return ModelSignature(schema("inputs"), schema("outputs"))


def _check_alias(alias: str) -> None:
    if alias not in ALIASES:
        raise ParameterError(f"there is no alias {alias!r}{nearest(alias, ALIASES)}")


def _short(value: Any) -> str:
    """A parameter as MLflow's table can show it: a fitted model among them is told by its beginning."""
    text = str(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _counts(trials: TrialSummary) -> dict[str, float]:
    """Counts for MLflow's compare page: this question, and the whole project."""
    return {"trials": trials.count, "trials.project": trials.project, "trials.lost": trials.lost}


def _trial_tags(trials: TrialSummary) -> dict[str, Any]:
    """What was asked, who competes, and where the ledger stood."""
    head = {"trials.family": trials.family, "trials.families": "\n".join(trials.families)}
    return head | {ANCHOR_TAG: trials.anchor or None, "trials.other_ledgers": trials.elsewhere}


def _required(tags: Mapping[str, Any]) -> dict[str, Any]:
    missing = [name for name in REQUIRED_TAGS if not tags.get(name)]
    if missing:
        raise ParameterError(f"tags lack {', '.join(missing)}: without them nobody can tell what was registered")
    return {name: tags[name] for name in REQUIRED_TAGS}


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {str(key): str(value) for key, value in values.items() if value is not None}
