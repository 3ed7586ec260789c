"""The setting that every stage of one candidate shares: bars, costs, market, cash, windows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd
from pydantic import Field

from pipelines.artifacts import artifact, read_json
from pipelines.params import Params
from tradelib.backtest.costs import Costs, Market
from tradelib.backtest.decision import DecisionRule
from tradelib.data.bars import content_digest
from tradelib.data.files import read_bars
from tradelib.ledger.chain import digest

__all__ = ["Account", "Setting", "chosen_rule", "execution", "setting", "subject"]


class Account(Market):
    """The account that is simulated, and what market and venue allow it."""

    cash: float = Field(100_000.0, gt=0, description="initial cash, quote currency")


@dataclass(frozen=True)
class Setting:
    """Keyword arguments of a backtest of one candidate, and its research bars."""

    bars: pd.DataFrame
    costs: Costs
    market: Market
    cash: float

    @property
    def account(self) -> dict[str, Any]:
        """`costs`, `market` and `cash`, as `run`, `evaluate` and `sweep` take them."""
        return {"costs": self.costs, "market": self.market, "cash": self.cash}


def setting(params: Params, candidate: str) -> Setting:
    """The setting of `candidate`, on the research bars of its market."""
    market = params.strategies[candidate].market
    account = params.account.model_dump()
    cash = account.pop("cash")
    return Setting(read_bars(artifact("data", market, "research.parquet")), params.costs, Market(**account), cash)


def chosen_rule(candidate: str) -> DecisionRule:
    """The rule that research chose for `candidate`."""
    return DecisionRule.from_config(read_json(artifact("research", candidate, "rule.json"))["rule"])


def subject(rule: DecisionRule, here: Setting) -> dict[str, str]:
    """What gates were run on: digests of rule, bars and account. Evidence about something else is no evidence."""
    account = {**here.costs.model_dump(), **here.market.model_dump(), "cash": here.cash}
    return {"rule": rule.digest, "data": content_digest(here.bars), "account": digest(account)}


def execution(bars: pd.DataFrame, costs: Costs, account: Account) -> dict[str, Any]:
    """How decisions become orders, as the bundle states it (without the warm-up, which promotion measures)."""
    identity = {key: bars.attrs[key] for key in ("symbol", "timeframe", "calendar")}
    return {**identity, **costs.model_dump(mode="json"), **account.model_dump(mode="json")}
