"""Log the candidate's run in MLflow and register its rule, alias `challenger`.

Version and run id belong to this clone's registry and go to `runs/register/`; what DVC tracks is what was registered.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from pipelines.artifacts import artifact, local_state, read_json, root, write_json
from pipelines.params import Params
from pipelines.provenance import provenance
from pipelines.setting import Setting, chosen_rule, setting
from tradelib.backtest.decision import DecisionRule
from tradelib.backtest.engine import evaluate
from tradelib.backtest.trials import TrialLedger, family_of
from tradelib.bundle.runtime import package_digest
from tradelib.promotion.pictures import candidate_pictures
from tradelib.promotion.registry import Registry

SECTIONS = ("windows", "costs", "account", "strategies")

_COMPARED = (
    "annual_return",
    "annual_volatility",
    "sharpe_ratio",
    "sortino_ratio",
    "maximum_drawdown",
    "trades",
    "exposure",
)


def main(params: Params, candidate: str) -> None:
    """Write `registered.json`; the registry holds run, model version and files."""
    here, rule = setting(params, candidate), chosen_rule(candidate)
    gates = read_json(artifact("gates", candidate, "gates.json"))
    digests = {
        "rule_digest": rule.digest,
        "data_digest": here.bars.attrs["digest"],
        "package_digest": package_digest(),
    }
    market = {key: here.bars.attrs[key] for key in ("symbol", "timeframe", "calendar")}
    trials = TrialLedger().summary(family_of(type(rule.strategy).__name__, market["symbol"], market["timeframe"]))
    registry, research = Registry(root()), f"{type(rule.strategy).__name__} on {market['symbol']} {market['timeframe']}"
    registry.log_points(research, _points(candidate))
    registered = registry.log_candidate(
        name=candidate,
        params=_chosen(rule.to_config()) | here.costs.model_dump(),
        metrics=_metrics(candidate, gates["figures"]) | {"expected_best_by_luck": gates["sharpe"]["expected_maximum"]},
        tags=digests | provenance(candidate) | {"trials": gates["figures"]["trials"], "verdict": gates["permission"]},
        rule_config=rule.to_config(),
        market=market,
        trials=trials,
        artifacts={
            "research": artifact("research", candidate),
            "evaluation": artifact("evaluate", candidate),
            "gates": artifact("gates", candidate, "gates.json"),
        },
        description=gates["summary"],
        research=research,
        curves=_curves(candidate),
        plots=_plots(params, rule, here),
    )
    write_json(local_state("register", f"{candidate}.json"), registered.to_dict())
    write_json(local_state("trials", f"{candidate}.json"), {"trials_anchor": trials.anchor})
    write_json(
        artifact("register", candidate, "registered.json"), {"name": candidate, "alias": registered.alias, **digests}
    )


def _points(candidate: str) -> list[dict[str, Any]]:
    """Every point of the sweep, so that MLflow draws figures over parameters."""
    swept = read_json(artifact("research", candidate, "sweep.json"))
    axes = set(swept["axes"])
    return [
        {
            "params": {name: value for name, value in point.items() if name in axes},
            "metrics": {f"in_sample.{name}": point[name] for name in _COMPARED if name in point},
        }
        for point in swept["points"]
    ]


def _curves(candidate: str) -> dict[str, pd.Series]:
    """Equity and drawdown of both windows by time, as the evaluation left them."""
    table = pd.read_csv(artifact("evaluate", candidate, "series.csv"))
    index = pd.DatetimeIndex(pd.to_datetime(table["time"], utc=True))
    return {name: pd.Series(table[name].to_numpy(), index=index) for name in ("equity", "drawdown")}


def _plots(params: Params, rule: DecisionRule, here: Setting) -> dict[str, Any]:
    """The window that research did not see: pictures to compare at a glance, and one to look into."""
    window = params.windows.out_of_sample
    result = evaluate(rule, here.bars, start=window.start, end=window.end, **here.account)
    return {**candidate_pictures(result), "overview": result.plot("overview")}


def _chosen(config: dict[str, Any]) -> dict[str, Any]:
    """The rule as flat parameters, such as `strategy.fast`."""
    flat: dict[str, Any] = {"rebalance_band": config["rebalance_band"]}
    for part in ("strategy", "sizing"):
        flat[part] = config[part]["name"]
        flat |= {f"{part}.{name}": value for name, value in config[part]["params"].items()}
    return flat


def _metrics(candidate: str, figures: dict[str, Any]) -> dict[str, float | None]:
    """Figures of both windows by name, so that MLflow's compare page tells the story."""
    windows = read_json(artifact("evaluate", candidate, "metrics.json"))
    compared = {
        f"{name}.{figure}": windows[name][figure] for name in ("in_sample", "out_of_sample") for figure in _COMPARED
    }
    return compared | {
        name: figures[name] for name in ("deflated_sharpe", "probabilistic_sharpe", "stressed_sharpe", "trials")
    }
