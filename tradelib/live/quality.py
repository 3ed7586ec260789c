"""What carrying out the decisions cost: implementation shortfall of every order, in parts that sum to it.

The shortfall (Perold, "The Implementation Shortfall: Paper versus Reality", 1988) is what a portfolio that trades
without cost at the price of the decision earns more than the real one. With Q units decided, q of them filled at p_i,
decision price P_d, arrival price P_a and closing price P_n, for a buy (a sell with the opposite sign):

    delay = q (P_a - P_d)   trading = sum q_i (p_i - P_a)   opportunity = (Q - q) (P_n - P_d)   fees

as in Maginn, Tuttle, McLeavey and Pinto, "Managing Investment Portfolios", ch. 10. Positive is lost money.

P_d is the close of the bar decided on. P_a is the middle of the book when the first child was sent, or the last price
without a book; where the journal does not say it, the next bar's open, from which research starts. P_n is the close of
the next bar, at which the next decision is made. An order that rests (limit, stop) is decided at its own price, which
is its P_d and its P_a; that it was not reached is no missed opportunity.
"""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from itertools import pairwise
from typing import Any, NamedTuple

import pandas as pd

from tradelib.backtest.costs import Costs
from tradelib.errors import LedgerError, ParameterError
from tradelib.ledger import Ledger, journal, open_journal
from tradelib.live.execution.records import parent_leg

__all__ = ["PARTS", "ExecutionQuality", "execution_quality"]

PARTS = ("delay", "trading", "opportunity", "fees")
"""What a shortfall consists of."""
_BASIS_POINTS = 1e4
_ONLY = "0"
"""Leg of a bundle that has one order at a time; its intents leave it out."""
_GROUPS = ("symbol", "side", "kind", "reason", "status", "benchmark")


@dataclass(frozen=True)
class ExecutionQuality:
    """Every order of a journal with its costs: see `orders` for the columns.

    orders: one row per instruction that became an order, or should have. quantity, filled: base units, unsigned.
    decision_price, arrival_price, average_price: quote currency. `PARTS` and shortfall: quote currency, positive is
    lost money; shortfall is NaN where a fee is not known. value: quantity x decision_price. benchmark: what
    arrival_price is, "book", "last", "open", "decision" (no later bar yet) or "own price". seconds: from the first
    child to the last fill. assumed: what research takes for slippage, spread, impact and fee of the filled part; NaN
    without costs to compare with.
    """

    orders: pd.DataFrame
    journal_head: str

    def to_frame(self) -> pd.DataFrame:
        """A copy of `orders`."""
        return self.orders.copy()

    def summary(self) -> dict[str, Any]:
        """Counts, sums, and basis points: the shortfall of the decided value, the others of the filled one.

        paid: trading and fees together, which is what research assumes something about. None: there is nothing to say.
        """
        rows = self.orders
        known = rows[rows["shortfall"].notna()]
        filled = rows["filled"].sum() / rows["quantity"].sum() if len(rows) else None
        maker = rows["maker_value"].sum() / rows["filled_value"].sum() if rows["filled_value"].sum() else None
        return {
            "orders": len(rows),
            "fee_unknown": len(rows) - len(known),
            "filled_share": None if filled is None else float(filled),
            "maker_share": None if maker is None else float(maker),
            **{name: float(known[name].sum()) for name in (*PARTS, "shortfall")},
            "shortfall_bps": _basis_points(known, "shortfall"),
            "slippage_bps": _basis_points(rows, "trading", "filled_value"),
            "paid_bps": _basis_points(known.assign(paid=known["trading"] + known["fees"]), "paid", "filled_value"),
            "assumed_bps": _basis_points(known[known["assumed"].notna()], "assumed", "filled_value"),
            "seconds_median": None if rows["seconds"].dropna().empty else float(rows["seconds"].median()),
        }

    def by(self, column: str) -> pd.DataFrame:
        """Sums of value, parts and shortfall per symbol, side, kind, reason, status or benchmark, and basis points."""
        if column not in _GROUPS:
            raise ParameterError(f"orders cannot be grouped by {column!r}: use one of {', '.join(_GROUPS)}")
        grouped = self.orders.groupby(column, sort=True)
        sums = grouped[["value", *PARTS, "shortfall"]].sum(min_count=1)
        sums.insert(0, "orders", grouped.size())
        sums["shortfall_bps"] = sums["shortfall"] / sums["value"] * _BASIS_POINTS
        return sums

    def sentence(self) -> str:
        """The result in words."""
        told = self.summary()
        if not told["orders"]:
            return "No order yet."
        if told["shortfall_bps"] is None:
            return f"{told['orders']} orders; their fees are not known."
        largest = max(PARTS, key=lambda name: abs(told[name]))
        known = "" if not told["fee_unknown"] else f" Of {told['fee_unknown']} orders the fee is not known."
        assumed = "" if told["assumed_bps"] is None else f"; research assumes {told['assumed_bps']:.1f}"
        paid = "" if told["paid_bps"] is None else f" Trading and fees took {told['paid_bps']:.1f} of what was filled"
        against = f"{paid}{assumed}." if paid else ""
        return (
            f"{told['orders']} orders cost {told['shortfall']:,.2f}, {told['shortfall_bps']:.1f} basis points of what "
            f"was decided; most of it is {largest} ({told[largest]:,.2f}).{against}{known}"
        )

    def _repr_html_(self) -> str:
        if self.orders.empty:
            return f"<p><b>{escape(self.sentence())}</b></p>"
        table = self.by("reason").to_html(border=0, float_format=lambda value: f"{value:,.6g}")
        return f"<p><b>{escape(self.sentence())}</b></p>{table}"


class _Order(NamedTuple):
    """An instruction with everything that the journal says about it."""

    terms: dict[str, Any]
    intents: list[dict[str, Any]]
    fills: list[dict[str, Any]]
    statuses: list[str]
    refused: bool


class _Bars(NamedTuple):
    """The journal's bars by time, and the time after each."""

    rows: dict[str, dict[str, Any]]
    after: dict[str, str]

    def next(self, time: str) -> dict[str, Any] | None:
        """The bar after the one of `time`, if the journal has it."""
        return self.rows.get(self.after.get(time, ""))


def execution_quality(source: str | os.PathLike[str] | Ledger, costs: Costs | None = None) -> ExecutionQuality:
    """The execution quality of a journal, open or by its path; `costs`: those of research, such as a bundle's.

    The chain is verified first: `LedgerError` for a journal that is missing or altered, or that has an order on a bar
    which it does not show. Fee tiers are not looked at: `assumed` takes the base rates.
    """
    if not isinstance(source, Ledger):
        with open_journal(source, read_only=True) as log:
            return execution_quality(log, costs)
    verdict = source.verify()
    if not verdict.ok:
        raise LedgerError(f"the journal is not trustworthy: {verdict.problem}")
    bars = _bars(source)
    arrivals = {body["client_order_id"]: body for body in journal.bodies(source, journal.ARRIVAL)}
    rows = [_row(order, bars, arrivals, costs) for order in _orders(source)]
    return ExecutionQuality(pd.DataFrame(rows, columns=list(_COLUMNS)), source.head()[1])


_COLUMNS = (
    "time", "symbol", "leg", "side", "kind", "reason", "status", "children", "quantity", "filled", "decision_price",
    "arrival_price", "average_price", "benchmark", *PARTS, "shortfall", "value", "filled_value", "maker_value",
    "shortfall_bps", "slippage_bps", "assumed", "seconds",
)  # fmt: skip


def _orders(log: Ledger) -> list[_Order]:
    """Instructions in the order of the journal; an intent without one (older journals) stands for itself."""
    terms = {_name(body): body for body in journal.bodies(log, journal.INSTRUCTION)}
    children: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
    for intent in journal.intents(log):
        own = intent["time"], intent["symbol"], intent.get("leg") or _ONLY
        own = own if own in terms else (*own[:2], intent.get("leg", ""))
        parent = own if own in terms else (*own[:2], parent_leg(own[2]))
        name = parent if parent in terms else (*own[:2], own[2] or intent["client_order_id"])
        terms.setdefault(name, _as_instruction(intent))
        children[name].append(intent)
    stand, refused = journal.standing(log), {_name(body) for body in journal.bodies(log, journal.REFUSAL)}
    fills = _fills(log, stand)
    return [
        _Order(
            body,
            children[name],
            [fill for intent in children[name] for fill in fills.get(intent["client_order_id"], [])],
            [stand.get(intent["client_order_id"], {}).get("status", "unknown") for intent in children[name]],
            name in refused,
        )
        for name, body in terms.items()
    ]


def _row(order: _Order, bars: _Bars, arrivals: Mapping[str, Any], costs: Costs | None) -> dict[str, Any]:
    """One order of the table; its name stands in `_COLUMNS`."""
    terms, sign = order.terms, 1.0 if order.terms["side"] == "buy" else -1.0
    rests = terms["kind"] != "market"
    bar, later = bars.rows.get(terms["time"]), bars.next(terms["time"])
    if bar is None:
        raise LedgerError(f"the journal has an order {terms['leg']} on the bar {terms['time']}, but not the bar")
    own = terms["stop_price"] if terms["stop_price"] is not None else terms["price"]
    decision = own if rests else float(bar["close"])
    arrival, benchmark = (own, "own price") if rests else _arrival(order, arrivals, later, decision)
    filled = sum(abs(fill["quantity"]) for fill in order.fills)
    paid = sum(abs(fill["quantity"]) * fill["price"] for fill in order.fills)
    status = _status(order, filled)
    missed = 0.0 if rests or later is None or status == "working" else terms["quantity"] - filled
    parts = {
        "delay": sign * filled * (arrival - decision),
        "trading": sign * (paid - filled * arrival),
        "opportunity": sign * missed * (float(later["close"]) - decision) if later is not None else 0.0,
        "fees": _sum_fees(order.fills),
    }
    value, shortfall = terms["quantity"] * decision, sum(parts.values())
    return {
        **{name: terms[name] for name in ("time", "symbol", "leg", "side", "kind", "reason", "quantity")},
        **parts,
        "status": status,
        "children": len(order.intents),
        "filled": filled,
        "decision_price": decision,
        "arrival_price": arrival,
        "average_price": paid / filled if filled else math.nan,
        "benchmark": benchmark,
        "shortfall": shortfall,
        "value": value,
        "filled_value": filled * arrival,
        "maker_value": sum(abs(fill["quantity"]) * arrival for fill in order.fills if fill.get("maker")),
        "shortfall_bps": shortfall / value * _BASIS_POINTS,
        "slippage_bps": parts["trading"] / (filled * arrival) * _BASIS_POINTS if filled else math.nan,
        "assumed": math.nan if costs is None else _assumed(order, arrival, later, costs),
        "seconds": _seconds(order, arrivals),
    }


def _arrival(
    order: _Order, arrivals: Mapping[str, Any], later: Mapping[str, Any] | None, decision: float
) -> tuple[float, str]:
    """The market when the first child was sent, and what kind of price that is."""
    said = next((arrivals[i["client_order_id"]] for i in order.intents if i["client_order_id"] in arrivals), None)
    if said is not None and said["bid"] is not None and said["ask"] is not None:
        return (float(said["bid"]) + float(said["ask"])) / 2.0, "book"
    if said is not None and said["price"] is not None:
        return float(said["price"]), "last"
    return (decision, "decision") if later is None else (float(later["open"]), "open")


def _assumed(order: _Order, arrival: float, later: Mapping[str, Any] | None, costs: Costs) -> float:
    """What `Costs` takes for these fills, from the arrival price: a maker pays its fee only."""
    maker_rate = costs.fee_rate if costs.maker_fee_rate is None else costs.maker_fee_rate
    total = 0.0
    for fill in order.fills:
        value, volume = abs(fill["quantity"]) * arrival, 0.0 if later is None else float(later["volume"])
        share = math.sqrt(abs(fill["quantity"]) / volume) if costs.impact and volume else 0.0
        moved = costs.slippage + costs.spread / 2.0 + costs.impact * share
        total += value * (maker_rate if fill.get("maker") else moved + costs.fee_rate)
    return total


def _status(order: _Order, filled: float) -> str:
    """How the parent stands: what its children add up to."""
    if order.refused and not order.intents:
        return "refused"
    if any(status not in journal.FINAL_STATUSES for status in order.statuses):
        return "working"
    if not filled:
        return "unfilled"
    return "filled" if filled >= order.terms["quantity"] * (1.0 - 1e-9) else "partly filled"


def _seconds(order: _Order, arrivals: Mapping[str, Any]) -> float:
    """From the first child to the last fill; NaN where the journal does not say both."""
    sent = [arrivals[i["client_order_id"]]["at"] for i in order.intents if i["client_order_id"] in arrivals]
    done = [fill["filled_at"] for fill in order.fills if fill.get("filled_at")]
    if not sent or not done:
        return math.nan
    return (datetime.fromisoformat(max(done)) - datetime.fromisoformat(min(sent))).total_seconds()


def _sum_fees(fills: Sequence[Mapping[str, Any]]) -> float:
    return sum((math.nan if fill["fee"] is None else float(fill["fee"]) for fill in fills), 0.0)


def _fills(log: Ledger, stand: Mapping[str, dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Fills by client order id; where a journal has none of an order, what its newest entry adds up to."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for fill in journal.fills(log):
        found[fill["client_order_id"]].append(fill)
    for name, order in stand.items():
        if name not in found and order["quantity"] and order["price"] is not None:
            found[name].append(order)
    return found


def _bars(log: Ledger) -> _Bars:
    rows = {body["time"]: body for body in journal.bars(log)}
    times = sorted(rows, key=datetime.fromisoformat)
    return _Bars(rows, dict(pairwise(times)))


def _as_instruction(intent: dict[str, Any]) -> dict[str, Any]:
    """A journal without instructions: the intent is what was decided."""
    prices = {name: None if intent.get(name) is None else float(intent[name]) for name in ("price", "stop_price")}
    plain = {"kind": intent.get("kind", "market"), "reason": intent.get("reason") or "signal"}
    leg = intent.get("leg") or intent["client_order_id"]
    return {**intent, **prices, **plain, "leg": leg, "quantity": float(intent["quantity"])}


def _name(body: Mapping[str, Any]) -> tuple[str, str, str]:
    return body["time"], body["symbol"], body["leg"]


def _basis_points(rows: pd.DataFrame, cost: str, value: str = "value") -> float | None:
    total = float(rows[value].sum())
    return float(rows[cost].sum()) / total * _BASIS_POINTS if total else None
