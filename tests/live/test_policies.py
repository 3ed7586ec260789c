"""Bundles whose exits and limits act between decisions: a paper run over a real venue is the backtest."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.live.mirrors import GOLDEN, market, rule
from tests.live.support import HASTE, Sealed, forged, read, venue
from tradelib.backtest.engine import replay
from tradelib.backtest.result import Result
from tradelib.bundle import Bundle, needs_of
from tradelib.data.bars import window
from tradelib.ledger import journal
from tradelib.live import Runner
from tradelib.risk.exits import Distance, Exits, ScaleIn
from tradelib.risk.limits import Limits
from tradelib.venue import PaperExchange, VenueMarket

pytestmark = pytest.mark.integration

COUNT = GOLDEN + 110


def bundle_of(sealed: Sealed, bars: pd.DataFrame, /, **policies: Any) -> Bundle:
    """A bundle of another rule and market, as it would be after its verification."""
    given = {name: policies.pop(name) for name in ("insufficient_cash",) if name in policies}
    decides = rule(**policies)
    terms = replace(sealed.bundle.execution, timeframe="1h", warmup=1, cash=10_000.0, slippage=0.0, **given)
    golden = window(bars, end=bars.index[GOLDEN - 1])
    return forged(
        sealed, rule=decides, execution=terms, needs=needs_of(decides, terms), golden_bars=golden, digest="e" * 64
    )


def paper(bundle: Bundle, bars: pd.DataFrame, start: int = GOLDEN) -> PaperExchange:
    """The venue on the bundle's terms; bar `start` is forming."""
    terms = bundle.execution
    names = ("fee_rate", "slippage", "lots_per_unit", "minimum_notional")
    listed = VenueMarket(terms.symbol, bars, **{name: getattr(terms, name) for name in names})
    return PaperExchange([listed], cash=terms.cash, start=bars.index[start], pace="poll")


def run(bundle: Bundle, url: str, path: Path, bars: pd.DataFrame, last: int = COUNT - 2) -> None:
    """Trade until bar `last` is decided."""
    until = bars.index[last].isoformat()
    asyncio.run(Runner(bundle, venue_url=url, journal_path=path, until=until, patience=HASTE).run())


def research(bundle: Bundle, bars: pd.DataFrame) -> Result:
    """The backtest of the same bars on the same terms."""
    terms = bundle.execution
    return replay(bundle.rule, bars, costs=terms.costs, market=terms.market, cash=terms.cash, start=bars.index[GOLDEN])


TICKS = {"unit": "price"}
"""Distances in whole ticks of the market's grid: a venue takes prices on its ticks only."""
POLICIES: dict[str, dict[str, Any]] = {
    "stop": {"exits": Exits(stop_loss=Distance(value=2.0, **TICKS))},
    "target": {"exits": Exits(take_profit=((Distance(value=2.0, **TICKS), 1.0),))},
    "stop and target": {
        "exits": Exits(stop_loss=Distance(value=2.0, **TICKS), take_profit=((Distance(value=3.0, **TICKS), 1.0),))
    },
    "trailing stop": {"exits": Exits(trailing_stop=Distance(value=3.0, **TICKS))},
    "break-even": {"exits": Exits(stop_loss=Distance(value=3.0, **TICKS), break_even=Distance(value=1.0, **TICKS))},
    "ladder": {"exits": Exits(take_profit=((Distance(value=1.0, **TICKS), 0.5), (Distance(value=2.0, **TICKS), 0.5)))},
    "time": {"exits": Exits(time_exit=6)},
    "limits": {"limits": Limits(maximum_drawdown=0.03, drawdown_pause=10)},
    "pyramiding": {"fraction": 0.3, "scale_in": ScaleIn(orders=2, step=Distance(value=1.0, **TICKS))},
    "averaging down": {
        "fraction": 0.3,
        "scale_in": ScaleIn(orders=2, step=Distance(value=1.0, **TICKS), direction="against"),
        "exits": Exits(stop_loss=Distance(value=5.0, **TICKS)),
    },
    "reduction": {"fraction": 1.0, "insufficient_cash": "reduce"},
}


@pytest.mark.parametrize("policy", POLICIES)
def test_a_paper_run_with_policies_equals_the_backtest(sealed: Sealed, tmp_path: Path, policy: str) -> None:
    bars = market(3, COUNT, silent=0.0)
    bundle = bundle_of(sealed, bars, **POLICIES[policy])
    with venue(paper(bundle, bars)) as served:
        run(bundle, served.url, tmp_path / "j", bars)
    result = research(bundle, window(bars, end=bars.index[COUNT - 2]))
    equities = read(tmp_path / "j", journal.EQUITY)
    assert [row["equity"] for row in equities[1:]] == result.equity.tolist()
    filled = result.fills
    assert len(filled) > 5
    assert [row["price"] for row in read(tmp_path / "j", journal.FILL)][: len(filled)] == filled["price"].tolist()


@pytest.mark.parametrize("policy", ["stop and target", "trailing stop", "limits"])
def test_a_restart_at_every_bar_goes_on_as_one_run(sealed: Sealed, tmp_path: Path, policy: str) -> None:
    bars = market(3, COUNT, silent=0.0)
    bundle = bundle_of(sealed, bars, **POLICIES[policy])
    last = GOLDEN + 40
    with venue(paper(bundle, bars)) as served:
        run(bundle, served.url, tmp_path / "whole", bars, last)
    with venue(paper(bundle, bars)) as served:
        for stop in range(GOLDEN - 1, last + 1):
            run(bundle, served.url, tmp_path / "parts", bars, stop)
    for kind in (journal.BAR, journal.DECISION, journal.INTENT, journal.FILL, journal.EQUITY):
        assert read(tmp_path / "parts", kind) == read(tmp_path / "whole", kind), kind
