"""Live against research for a bundle whose exits, entries and limits act between decisions: fills held against fills.

Research, the venue's bars and the journal's decisions are each run by the engine itself, with every policy. From there
on the fills of the last of these runs become those of the account, one property at a time, and are booked as they
stand: which of them there were, in which bar, at which price, for which fee, how much. A stop that acted on one side
only is a missed fill, together with all that followed from it alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pydantic import PrivateAttr

from tradelib._jit import interpreted
from tradelib.backtest import kernel
from tradelib.backtest.decision import DecisionRule
from tradelib.backtest.engine import replay
from tradelib.bundle import Bundle
from tradelib.bundle.trading.retelling import is_child, leg_of
from tradelib.bundle.trading.terms import exact
from tradelib.bundle.window import window_of, windowed
from tradelib.data.timeframes import parse_timeframe, periods_per_year
from tradelib.errors import LedgerError
from tradelib.ledger import Ledger, journal

__all__ = ["Account", "Traded", "finals_by_fills", "traded_live"]

_LATE = 5
"""Bars by which a fill may be late and still be taken for the same one."""


class Traded(NamedTuple):
    """What was filled of one order in the bar `row`; `quantity` signed, `share` of what was sent."""

    row: int
    reason: str
    quantity: float
    price: float
    fee: float
    share: float = 1.0


class Account:
    """Cash and position by the kernel's own rules, and what the bundle's costs ask of holding and of trading much."""

    def __init__(self, bundle: Bundle, bars: int, cash: float, position: float) -> None:
        self.costs, self.lots = bundle.execution.costs, bundle.execution.lots_per_unit
        self.cash, self.position = cash, position
        self.traded = np.zeros(bars)
        self.volume = 0.0
        self.per_year = periods_per_year(bundle.golden_bars)

    def fee_rate(self) -> float:
        """The taker's rate; with tiers that of the value traded so far within their window."""
        reached = [tier.taker for tier in self.costs.fee_tiers if self.volume >= tier.volume]
        return reached[-1] if reached else self.costs.fee_rate

    def fill(self, row: int, quantity: float, price: float, fee: float) -> None:
        """Book a fill in the bar `row`."""
        self.cash = kernel.cash_after(self.cash, quantity, price, fee)
        self.position = kernel.position_after(self.position, quantity, self.lots)
        self.traded[row] += abs(quantity) * price
        self.volume += abs(quantity) * price

    def close(self, row: int, close: float) -> None:
        """What the bar `row` costs by being held over it; and the window of the tiers moves on."""
        if self.position < 0.0:
            self.cash -= kernel.borrow_cost(self.position, close, self.costs.borrow_rate / self.per_year)
        if self.cash < 0.0:
            self.cash -= kernel.interest_cost(self.cash, self.costs.interest_rate / self.per_year)
        if row >= self.costs.tier_bars:
            self.volume -= float(self.traded[row - self.costs.tier_bars])


def finals_by_fills(
    bundle: Bundle,
    research: pd.DataFrame,
    seen: pd.DataFrame,
    weights: Mapping[str, float | None],
    live: Sequence[Traded],
    begin: Mapping[str, Any],
) -> list[float]:
    """Final equity of research, and after each ingredient that comes from the journal: see `attribution.PARTS`.

    research, seen: bars up to the last decision, as researched and as the runner saw them. weights: target weights by
    time of the bars that were decided on. begin: the account at the first of them. Raises `LedgerError` where that
    holds a position: what its exits were is not known.
    """
    if begin["position"]:
        raise LedgerError(f"The journal begins at {begin['time']} with a position: its exits and limits are not known.")
    rule, first, cash = windowed(bundle.rule, window_of(bundle)), str(begin["time"]), float(begin["cash"])
    worlds = (rule, research), (rule, seen), (_said(bundle.rule, weights), seen)
    runs = [_run(bundle, decides, bars, first, cash) for decides, bars in worlds]
    window = seen.loc[pd.Timestamp(first) :]
    opens, closes = (window[name].to_numpy(dtype=np.float64) for name in ("open", "close"))
    steps = list(_steps(_traded(runs[-1], pd.DatetimeIndex(window.index)), live, opens))
    booked = [_booked(bundle, trades, closes, cash) for trades in steps]
    return [float(run.equity.iloc[-1]) for run in runs[:-1]] + booked


def traded_live(log: Ledger, index: pd.DatetimeIndex, timeframe: str) -> list[Traded]:
    """The fills of a journal inside of `index`, bars of the window, in sequence; parts of one order are one."""
    intents = {body["client_order_id"]: body for body in journal.intents(log)}
    end = index[-1] + pd.Timedelta(parse_timeframe(timeframe).milliseconds, unit="ms")
    parts: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for fill in journal.fills(log):
        moment, intent = pd.Timestamp(fill["filled_at"]), intents.get(fill["client_order_id"], {})
        if index[0] <= moment < end:
            row = int(index.searchsorted(moment, side="right")) - 1
            parts.setdefault((row, f"{intent.get('time')} {leg_of(intent)}"), []).append(fill)
    return [_together(row, fills, intents) for (row, _), fills in parts.items()]


def _together(row: int, fills: Sequence[Mapping[str, Any]], intents: Mapping[str, Mapping[str, Any]]) -> Traded:
    intent = intents.get(fills[0]["client_order_id"], {})
    quantity = sum((exact(fill["quantity"]) for fill in fills), Decimal(0))
    price = float(fills[0]["price"])
    if len(fills) > 1 and quantity:
        price = float(sum(exact(fill["quantity"]) * exact(fill["price"]) for fill in fills) / quantity)
    sent = abs(quantity) if is_child(intent) or not intent else Decimal(intent["quantity"])
    fee = sum(float(fill["fee"] or 0.0) for fill in fills)
    return Traded(row, intent.get("reason") or "signal", float(quantity), price, fee, float(abs(quantity) / sent))


# The engine's side ----------------------------------------------------------------------------------------------------


class _Said(DecisionRule):
    """The rule with the decisions of a journal in the place of its own."""

    _weights: Mapping[str, float | None] = PrivateAttr(default_factory=dict)

    def weights(self, bars: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """What was journalled; NaN for bars that nobody decided on."""
        said = [self._weights.get(time.isoformat()) for time in bars.index]
        told = np.array([np.nan if weight is None else weight for weight in said], np.float64)
        return told, told


def _said(rule: DecisionRule, weights: Mapping[str, float | None]) -> _Said:
    made = _Said(**{name: getattr(rule, name) for name in DecisionRule.model_fields})
    made._weights = weights
    return made


def _run(bundle: Bundle, rule: DecisionRule, bars: pd.DataFrame, first: str, cash: float) -> Any:
    """The backtest of the window on the bundle's terms, every policy acting."""
    terms = bundle.execution
    account = bars.index[bars.index > pd.Timestamp(first)][0]
    return replay(rule, bars, costs=terms.costs, market=terms.market, cash=cash, start=account)


def _traded(run: Any, index: pd.DatetimeIndex) -> list[Traded]:
    rows: Any = run.fills.to_dict("records")
    places = index.get_indexer(pd.DatetimeIndex(run.fills["time"])).tolist()
    return [
        Traded(place, str(fill["origin"]), fill["quantity"], fill["price"], fill["fee"])
        for place, fill in zip(places, rows, strict=True)
    ]


# From one to the other ------------------------------------------------------------------------------------------------


def _steps(engine: Sequence[Traded], live: Sequence[Traded], opens: np.ndarray) -> Iterator[list[Traded]]:
    """The fills of the engine, and as each property of them becomes the account's."""
    yield list(engine)
    pairs = _pairs(engine, live)
    for taken in range(4):
        yield [one if pair is None else _mixed(pair, one, taken, opens) for one, pair in pairs]
    yield [one for one, _ in pairs]


def _pairs(engine: Sequence[Traded], live: Sequence[Traded]) -> list[tuple[Traded, Traded | None]]:
    """Each fill of the account with the engine's fill that it is: in the same bar, or a few bars late."""
    left = list(engine)
    found: list[Traded | None] = [_taken(left, one, 0) for one in live]
    for place, one in enumerate(live):
        if found[place] is None:
            found[place] = _taken(left, one, _LATE)
    return list(zip(live, found, strict=True))


def _taken(left: list[Traded], one: Traded, late: int) -> Traded | None:
    """The newest fill of the same kind, at most so many bars before; it is taken out of `left`."""
    same = [
        other
        for other in left
        if other.reason == one.reason and other.quantity * one.quantity > 0.0 and 0 <= one.row - other.row <= late
    ]
    if not same:
        return None
    left.remove(same[-1] if late else same[0])
    return same[-1] if late else same[0]


def _mixed(theirs: Traded, ours: Traded, taken: int, opens: np.ndarray) -> Traded:
    """The engine's fill with the first `taken` of: bar, price and fee of the account; and what was filled of it."""
    quantity = theirs.quantity * min(ours.share, 1.0)
    row, price = theirs.row, theirs.price
    fee = theirs.fee * (quantity / theirs.quantity)
    if taken >= 1 and ours.row != theirs.row:
        row, moved = ours.row, float(opens[ours.row] / opens[theirs.row])
        price, fee = price * moved, fee * moved
    if taken >= 2 and price != ours.price:
        price, fee = ours.price, fee * (ours.price / price)
    if taken >= 3 and (fee, quantity) != (ours.fee, ours.quantity):
        fee = ours.fee * (quantity / ours.quantity)
    return Traded(row, ours.reason, quantity, price, fee)


def _booked(bundle: Bundle, trades: Iterable[Traded], closes: np.ndarray, cash: float) -> float:
    """Equity at the last close of an account that these fills make."""
    by_row: dict[int, list[Traded]] = {}
    for trade in trades:
        by_row.setdefault(trade.row, []).append(trade)
    with interpreted():
        account = Account(bundle, len(closes), cash, 0.0)
        for row in range(len(closes)):
            for trade in by_row.get(row, ()):
                account.fill(row, trade.quantity, trade.price, trade.fee)
            if row:
                account.close(row, float(closes[row]))
        return float(kernel.equity(account.cash, account.position, float(closes[-1])))
