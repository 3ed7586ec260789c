"""What MLflow's pages show of a run besides its figures: its group, its curves, its plots, and the model it carries."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tradelib.backtest.decision import DecisionRule
from tradelib.errors import ParameterError, require
from tradelib.ledger.chain import digest
from tradelib.strategies.predictors import Predictor

__all__ = ["KIND_TAG", "log_curves", "log_plots", "log_points", "model_tags", "parent_run"]

KIND_TAG = "tradelib.kind"
"""What a run is: "research" (a parent), "candidate", "point" (one of a sweep), "model"."""

_PARENT = "mlflow.parentRunId"
_RESEARCH = "tradelib.research"
_MOST_POINTS = 500  # of a curve: more than a screen shows, and one request


def parent_run(client: Any, experiment: str, research: str) -> str:
    """The run under which everything of `research` stands in MLflow's table, made where it is missing."""
    wanted = research.replace("'", "")
    found = client.search_runs([experiment], f"tags.`{_RESEARCH}` = '{wanted}' and tags.`{KIND_TAG}` = 'research'")
    if found:
        return str(found[0].info.run_id)
    tags = {_RESEARCH: wanted, KIND_TAG: "research"}
    run = client.create_run(experiment, run_name=wanted, tags=tags)
    client.set_terminated(run.info.run_id)
    return str(run.info.run_id)


def child_tags(parent: str | None, kind: str) -> dict[str, str]:
    """Tags that put a run below its parent."""
    return {KIND_TAG: kind} | ({_PARENT: parent} if parent else {})


def log_points(client: Any, experiment: str, parent: str, points: Iterable[Mapping[str, Any]]) -> int:
    """A run below `parent` for each point of a sweep, `{"params": ..., "metrics": ...}`; known ones are left alone.

    Returns how many were new.
    """
    there = client.search_runs(
        [experiment], f"tags.`{_PARENT}` = '{parent}' and tags.`{KIND_TAG}` = 'point'", max_results=5_000
    )
    known = {run.data.tags.get("tradelib.point") for run in there}
    fresh = 0
    for point in points:
        identity = digest({"params": {key: str(value) for key, value in point["params"].items()}})
        if identity in known:
            continue
        label = ", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in point["params"].items())
        tags = child_tags(parent, "point") | {"tradelib.point": identity}
        run = client.create_run(experiment, run_name=label[:200] or "point", tags=tags).info.run_id
        client.log_batch(run, _metrics(point["metrics"], 0, 0), _params(point["params"]))
        client.set_terminated(run)
        known.add(identity)
        fresh += 1
    return fresh


def log_curves(client: Any, run: str, curves: Mapping[str, pd.Series]) -> None:
    """Each curve (values by time) as a metric with steps, thinned to 500 points, the last one kept.

    Step: row of the curve. Time: that of the bar, so that MLflow draws curves of several runs over the calendar too.
    """
    from mlflow.entities import Metric

    for name, curve in sorted(curves.items()):
        values, times = _curve(name, curve)
        rows = np.unique(np.linspace(0, len(values) - 1, min(len(values), _MOST_POINTS)).round().astype(int))
        client.log_batch(run, [Metric(name, float(values[row]), int(times[row]), int(row)) for row in rows])


def _curve(name: str, curve: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Values and times in milliseconds of the rows that are known."""
    if not isinstance(curve.index, pd.DatetimeIndex) or curve.index.tz is None:
        raise ParameterError(f"the curve {name!r} must have times with a zone as index, as results of a backtest have")
    known = curve[np.isfinite(curve.to_numpy(dtype=np.float64))]
    if known.empty:
        raise ParameterError(f"the curve {name!r} has no finite value")
    return known.to_numpy(dtype=np.float64), known.index.as_unit("ms").asi8


def log_plots(client: Any, run: str, plots: Mapping[str, Any], *, in_grid: bool = False) -> None:
    """Figures of matplotlib as PNG and of plotly as HTML under `plots/`, where MLflow shows them.

    `in_grid`: the PNG also as images by name, which MLflow's chart view lays side by side for several runs. They are
    added to those that the run has.
    """
    with tempfile.TemporaryDirectory() as folder:
        for name, figure in sorted(plots.items()):
            if hasattr(figure, "write_html"):
                figure.write_html(Path(folder) / f"{name}.html", include_plotlyjs=True)
            elif hasattr(figure, "savefig"):
                path = Path(folder) / f"{name}.png"
                figure.savefig(path, dpi=110, metadata={"Software": None})
                if in_grid:
                    with require("PIL.Image", "research").open(path) as image:
                        client.log_image(run, image.convert("RGB"), key=name, step=0)
            else:
                raise ParameterError(
                    f"the plot {name!r} is neither a figure of matplotlib nor of plotly: {type(figure)}"
                )
        if plots:
            client.log_artifacts(run, folder, "plots")


def model_tags(rule_config: Mapping[str, Any]) -> dict[str, str]:
    """Kind, digest and columns of the model that a rule carries; nothing where it carries none."""
    strategy = DecisionRule.from_config(dict(rule_config)).strategy
    for value in strategy.__dict__.values():
        if isinstance(value, Predictor):
            told = {"kind": value.kind, "digest": value.digest, "features": ", ".join(value.features)}
            told |= {"known_at": value.known_at} if value.known_at else {}
            return {f"model.{name}": str(text) for name, text in told.items()}
    return {}


def _metrics(figures: Mapping[str, Any], step: int, time: int) -> list[Any]:
    from mlflow.entities import Metric

    known = ((key, value) for key, value in sorted(figures.items()) if value is not None and math.isfinite(value))
    return [Metric(key, float(value), time, step) for key, value in known]


def _params(chosen: Mapping[str, Any]) -> list[Any]:
    from mlflow.entities import Param

    return [Param(key, str(value)) for key, value in sorted(chosen.items())]
