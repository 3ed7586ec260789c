"""A journal walked entry by entry, and everything that its runner decided decided again beside it.

A book of the bundle's own kind is told what the runner was told (`tradelib.bundle.trading.retelling`): closed bars,
fills, endings, refusals, cash. What it then wants is compared with what the journal holds next: the decision, the
account, each instruction and each order with its terms, each cancel. Nothing of the journal's own decisions is taken
over, so an error of one bar shows in everything that followed from it; the first deviation is the cause.

What the rule does not decide is explained, not decided again: the gate's refusals with their figures, what operators
did, children by which an order was worked, cash that came or went, fills that the engine would not have made.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import pandas as pd

from tradelib._jit import interpreted
from tradelib.bundle import Bundle
from tradelib.bundle.trading.instructions import Instruction, Plan
from tradelib.bundle.trading.purse import Book, MarketBook, Purse, sold
from tradelib.bundle.trading.retelling import (
    GIVES_WAY,
    OVERTAKEN,
    PLAN_CHANGED,
    Retelling,
    leg_of,
    new_book,
    verdicts,
)
from tradelib.bundle.trading.terms import client_order_id, decided_quantity, exact, is_reached, order_terms, quantise
from tradelib.bundle.window import window_of, windowed
from tradelib.errors import LedgerError, RunnerError
from tradelib.ledger import Entry, journal

__all__ = ["Deviation", "Explained", "Redecided", "decided_again", "known_number", "redecide", "same_number"]

_FINEST = Decimal("1e-18")
"""The step where neither the venue nor the bundle names one: nothing is rounded away."""
_TERMS = ("kind", "side", "quantity", "price", "stop_price", "group", "reduces", "reason")
_DEFAULTS: Mapping[str, Any] = {
    "kind": "market", "price": None, "stop_price": None, "group": None, "reduces": False, "reason": "",
}  # fmt: skip
_OF_A_PLAN = (journal.INSTRUCTION, journal.INTENT, journal.ARRIVAL, journal.REFUSAL)
"""What is written of one plan after the other: sales of one plan share what is held."""
_ENDS = (journal.START, journal.STOP, journal.HALT)
_PAIR = "one cancels the other"


class Deviation(NamedTuple):
    """Something that came out otherwise: the bar's open time, the field, and both sides."""

    time: str
    field: str
    recorded: Any
    decided_again: Any

    def __str__(self) -> str:
        return (
            f"{self.field} at {self.time}: {self.recorded!r} in the journal, {self.decided_again!r} when decided again"
        )


class Explained(NamedTuple):
    """Something that the rule did not decide, and who did: "gate", "operator", "schedule", "funding", "venue"."""

    time: str
    by: str
    what: str


class Redecided(NamedTuple):
    """What came of it, in the journal's sequence; `orders` that were compared."""

    deviations: tuple[Deviation, ...]
    explained: tuple[Explained, ...]
    orders: int


def decided_again(bundle: Bundle, history: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """Signal and target weight of every bar of `history`, through the bundle's window, by time."""
    with interpreted():
        rows = windowed(bundle.rule, window_of(bundle)).decisions(history)
    values = rows[["signal", "target_weight"]].to_numpy(dtype="float64").tolist()
    return {time.isoformat(): (signal, weight) for time, (signal, weight) in zip(history.index, values, strict=True)}


def redecide(entries: Sequence[Entry], bundle: Bundle, history: pd.DataFrame) -> Redecided:
    """Decide again what `entries`, a whole journal of `bundle`, say; `history` as `journal_history` gives it.

    Raises `LedgerError` for a journal that does not say what its account began with, or whose bars have gaps.
    """
    walk = _Walk(entries, bundle, decided_again(bundle, history))
    try:
        walk.all()
    except RunnerError as error:
        raise LedgerError(f"The journal cannot be told to the bundle's book: {error}.") from error
    return Redecided(tuple(walk.deviations), tuple(walk.explained), walk.orders)


class _Walk:
    """One journal. `owed`: what the plan wants placed and nobody has written down yet; `asked`: what was written."""

    def __init__(self, entries: Sequence[Entry], bundle: Bundle, weights: Mapping[str, tuple[float, float]]) -> None:
        self.entries, self.bundle = entries, bundle
        self.deviations: list[Deviation] = []
        self.explained: list[Explained] = []
        self.orders = 0
        self._intents = {body["client_order_id"]: body for body in self._bodies(journal.INTENT)}
        self._names: dict[str, list[str]] = {}
        for name, intent in self._intents.items():
            self._names.setdefault(leg_of(intent), []).append(name)
        self._equities = {body["time"]: body for body in self._bodies(journal.EQUITY)}
        self._stated = not self._bodies(journal.PURSE)
        self._counts_fills = bool(self._bodies(journal.FILL))
        self._decided = {body["time"]: weights[body["time"]] for body in self._bodies(journal.DECISION)}
        self._telling = Retelling(bundle, self._first_book(), self._intents, self._decided)
        self._promised = 0.0
        self._funded = False
        self._step, self._tick = self._research_steps()
        self._time = ""
        self._plan: Plan | None = None
        self._owed: dict[str, Instruction] = {}
        self._lapsed: dict[str, Instruction] = {}
        self._asked: dict[str, Instruction] = {}
        self._leaving: set[str] = set()
        self._worked: set[str] = set()
        self._statuses: dict[str, str] = {}
        self._ended: dict[str, Mapping[str, Any]] = {}
        self._fills: dict[str, list[Mapping[str, Any]]] = {}

    def _bodies(self, kind: str) -> list[dict[str, Any]]:
        return [entry.body for entry in self.entries if entry.kind == kind]

    def _first_book(self) -> Book:
        """An account of what was given first; of an older journal, of what the venue stated."""
        given = (self._bodies(journal.PURSE) or self._bodies(journal.EQUITY))[:1]
        if not given or (self._stated and self.bundle.needs):
            raise LedgerError("The journal does not say what its account began with: it cannot be decided again.")
        return new_book(self.bundle, float(given[0]["cash"]), float(given[0]["position"]))

    def _research_steps(self) -> tuple[Decimal, Decimal | None]:
        """Lot and tick as the bundle has them, until the venue states its own."""
        lot, tick = (self.bundle.execution.precision[name] for name in ("lot", "tick"))
        return Decimal(lot) if lot else _FINEST, Decimal(tick) if tick else None

    def all(self) -> None:
        """Every entry, in sequence."""
        takes = {
            journal.BAR: self._bar, journal.DECISION: self._decision, journal.EQUITY: self._equity,
            journal.SNAPSHOT: self._snapshot, journal.LISTING: self._listing, journal.PURSE: self._purse,
            journal.INSTRUCTION: self._instruction, journal.INTENT: self._intent, journal.REFUSAL: self._refusal,
            journal.CANCEL: self._cancel, journal.ORDER: self._order, journal.FILL: self._fill,
            journal.ENDING: self._telling.tell,
        }  # fmt: skip
        for entry in self.entries:
            if entry.kind not in _OF_A_PLAN:
                self._promised = 0.0
            if entry.kind in _ENDS:
                self._lapse()
            take = takes.get(entry.kind)
            if take is not None:
                take(entry)
        if self._time in self._decided:
            self._owing()
        self._compare_trades()

    # Plans ----------------------------------------------------------------------------------------------------------

    def _bar(self, entry: Entry) -> None:
        time = entry.body["time"]
        if self._time in self._decided:  # what a bar that passed asked for leaves with the next decision
            self._owing()
        if self._stated:
            self._take_stated(time)
        if not self.bundle.needs:
            self._asked.clear()
        self._time = time
        plan = self._telling.tell(entry)
        self._plan = plan
        if plan is not None:
            self._follow(plan)

    def _take_stated(self, time: str) -> None:
        """The account as an older journal has it: what the venue said before each decision."""
        known = self._equities.get(time)
        if known is not None and isinstance(self._telling.book, MarketBook):
            lots = float(self.bundle.execution.lots_per_unit)
            self._telling.book.purse = Purse(float(known["cash"]), float(known["position"]), lots)

    def _follow(self, plan: Plan) -> None:
        """What a plan wants from now on."""
        stands = {order.leg for order in plan.instructions}
        self._owed = {leg: order for leg, order in self._owed.items() if leg in stands}
        self._owed |= {order.leg: order for order in plan.place}
        for leg in plan.cancel:
            if self._is_working(leg):
                self._leaving.add(leg)
        for found in plan.deviations:
            told = f"{found.what} of {found.reason}: {found.venue}, by the engine's convention {found.engine}"
            self._explain("venue", told)

    def _flush(self) -> None:
        plan = self._telling.flush()
        if plan is not None:
            self._follow(plan)

    def _lapse(self) -> None:
        """Whoever owed something is gone: it may still be done, and need not be."""
        self._lapsed |= self._owed
        self._owed = {}
        self._leaving.clear()

    def _owing(self) -> None:
        """What the plan before wanted, and nobody did."""
        for leg, order in self._owed.items():
            if self.bundle.needs or quantise(order.quantity, self._step):
                self._deviate(_named("order", leg), "missing", "there", order.time)
        for leg in sorted(leg for leg in self._leaving if self._is_working(leg)):
            self._deviate(_named("cancel", leg), "missing", "there")
        self._owed, self._leaving = {}, set()

    def _is_working(self, leg: str) -> bool:
        """Whether an order of this leg was sent and has not ended, as far as the journal has come."""
        names = [name for name in self._names.get(leg, ()) if name in self._statuses]
        return any(self._statuses[name] not in journal.FINAL_STATUSES for name in names)

    def _wanted(self, leg: str) -> Instruction | None:
        """The instruction of this leg: one that was written down already, or one that is owed now."""
        if leg in self._asked:
            return self._asked[leg]
        if leg not in self._owed:
            self._flush()
        order = self._owed.pop(leg, None) or self._lapsed.pop(leg, None)
        if order is not None:
            self._asked[leg] = order
        return order

    # What was decided -----------------------------------------------------------------------------------------------

    def _decision(self, entry: Entry) -> None:
        body, plan = entry.body, self._plan
        if plan is None or plan.time != body["time"]:
            raise LedgerError(f"The decision on {body['time']} does not follow its bar in the journal.")
        again = {"signal": plan.signal, "target_weight": plan.weight, "position": plan.position, "equity": plan.equity}
        again["quantity"] = decided_quantity(plan, self._step)
        self._compare_numbers(body, again)
        told = verdicts(plan)
        for name in ("halts", "refusals"):
            if body.get(name, []) != told.get(name, []):
                self._deviate(name, body.get(name, []), told.get(name, []))

    def _equity(self, entry: Entry) -> None:
        plan = self._plan
        if plan is not None and plan.time == entry.body["time"]:
            self._compare_numbers(entry.body, {"cash": plan.cash, "position": plan.position, "equity": plan.equity})

    def _compare_numbers(self, body: Mapping[str, Any], again: Mapping[str, float | None]) -> None:
        for name, value in again.items():
            if not same_number(body[name], value):
                self._deviate(name, body[name], value)

    def _snapshot(self, entry: Entry) -> None:
        """What the runner remembered is what the book remembers."""
        state = self._telling.book.state()
        if state != entry.body["state"]:
            self._deviate("snapshot", "another state", "the book's")

    def _listing(self, entry: Entry) -> None:
        body = entry.body
        self._step = Decimal(body["step"])
        self._tick = None if body["tick"] is None else Decimal(body["tick"])

    def _purse(self, entry: Entry) -> None:
        """The first one is what the account began with."""
        if self._funded:
            self._flush()
            self._lapse()
            self._telling.tell(entry)
            self._explain("funding", f"{entry.body['cash']:+,.2f}: {entry.body['reason']}")
        self._funded = True

    # Instructions and orders ----------------------------------------------------------------------------------------

    def _instruction(self, entry: Entry) -> None:
        """What was asked for, before it was rounded or worked."""
        body, leg = entry.body, str(entry.body["leg"])
        order = self._wanted(leg)
        if "ticket" in body:
            self._worked.add(leg)
        self._telling.tell(entry)
        if order is None:
            self._deviate(_named("instruction", leg), "there", "missing", body["time"])
            return
        for name in _TERMS:
            if body[name] != getattr(order, name):
                self._deviate(_named(name, leg), body[name], getattr(order, name), body["time"])

    def _intent(self, entry: Entry) -> None:
        body = entry.body
        self.orders += 1
        self._statuses.setdefault(body["client_order_id"], "")
        whole = str(body.get("leg") or "0")
        if whole.startswith("flatten-"):
            self._flatten(body)
        elif whole.endswith("+"):
            self._copy(body, whole)
        elif "/" in whole:
            self._child(body, whole)
        else:
            self._sent(body, whole)

    def _sent(self, body: Mapping[str, Any], leg: str) -> None:
        """An order that went out as it is."""
        order = self._wanted(leg)
        if order is None:
            self._deviate(_named("order", leg), "there", "missing", body["time"])
            return
        terms = self._terms(order, body.get("seen_price"))
        if terms is None:
            self._deviate(_named("order", leg), "there", "less than one lot", body["time"])
            return
        if (order.side, order.kind) == ("sell", "market"):
            self._promised += float(terms["quantity"])
        self._compare_terms(body, terms, leg)

    def _terms(self, order: Instruction, seen: float | None) -> dict[str, Any] | None:
        """The order that an instruction becomes, at the price that the runner saw where it depends on one."""
        quantity = order.quantity
        if order.fits and seen is not None:
            quantity = min(quantity, self._telling.book.fitted(order.leg, seen))
        elif not order.fits:
            purse = Purse(*self._telling.book.account, float(self.bundle.execution.lots_per_unit))
            quantity = sold(order, purse, self._promised)
        reached, tick = is_reached(order, seen), self._tick
        if tick is None:
            tick = _FINEST
        return order_terms(order, quantity=quantity, reached=reached, step=self._step, tick=tick)

    def _compare_terms(self, body: Mapping[str, Any], terms: Mapping[str, Any], leg: str) -> None:
        signed = {"buy": 1, "sell": -1}
        recorded = Decimal(body["quantity"]) * signed[body["side"]]
        again = Decimal(terms["quantity"]) * signed[terms["side"]]
        if recorded != again:
            self._deviate(_named("quantity sent", leg), float(recorded), float(again), body["time"])
        for name, default in _DEFAULTS.items():
            said, meant = body.get(name, default), terms[name]
            if _plain(said) != _plain(meant) and not (self._stated and name == "reduces"):
                self._deviate(_named(f"{name} sent", leg), said, _text(meant), body["time"])
        self._check_name(body, leg)

    def _check_name(self, body: Mapping[str, Any], leg: str) -> None:
        """An order has one name, which follows from what it is."""
        name = client_order_id(self.bundle.digest, body["symbol"], body["time"], leg)
        if not self._stated and body["client_order_id"] != name:
            self._deviate(_named("client order id", leg), body["client_order_id"], name, body["time"])

    def _child(self, body: Mapping[str, Any], whole: str) -> None:
        """A child of an order that is worked: its schedule decided how much and when, not on which side."""
        leg = leg_of(body)
        order = self._asked.get(leg) if leg in self._worked else None
        if order is None or order.side != body["side"] or bool(body.get("reduces", False)) != order.reduces:
            self._deviate(_named("order", whole), "there", "missing", body["time"])
        else:
            self._explain("schedule", f"{whole}: {body['side']} {body['quantity']}", body["time"])

    def _copy(self, body: Mapping[str, Any], whole: str) -> None:
        """The runner's own copy of a stop, while its pair is at the venue."""
        leg = whole.rstrip("+")
        of = [self._intents[name] for name in self._names.get(leg, ())]
        same = of and all(body.get(name) == of[0].get(name) for name in ("side", "stop_price"))
        if not same or leg not in self._asked:
            self._deviate(_named("order", whole), "there", "missing", body["time"])

    def _flatten(self, body: Mapping[str, Any]) -> None:
        """An operator, or the end of a run, closes the position: all of it, and nothing else."""
        self._flush()
        self._lapse()
        held = self._telling.book.account[1]
        recorded = float(Decimal(body["quantity"])) * (1.0 if body["side"] == "buy" else -1.0)
        wanted = -math.copysign(float(quantise(held, self._step)), held) + 0.0
        if recorded != wanted:
            self._deviate("quantity to flatten", recorded, wanted, body["time"])
        self._check_name(body, body["leg"])
        self._explain("operator", f"flatten {recorded:g}: {body.get('reason', '')}", body["time"])

    def _refusal(self, entry: Entry) -> None:
        """The gate did not let it pass: its own word, with the figure that it named."""
        body, leg = entry.body, str(entry.body["leg"]).partition("/")[0]
        order = self._wanted(leg)
        if order is None:
            self._deviate(_named("refusal", leg), "there", "missing", body["time"])
        elif leg not in self._worked and not same_number(body.get("quantity", order.signed), order.signed):
            self._deviate(_named("quantity refused", leg), body["quantity"], order.signed, body["time"])
        figures = " against ".join(f"{body[name]:g}" for name in ("figure", "threshold") if body.get(name) is not None)
        told = f"{body['rule']}{f' ({figures})' if figures else ''}: {body['reason']}"
        self._explain("gate", f"{leg} refused by {told}", body["time"])
        self._telling.tell(entry)

    def _cancel(self, entry: Entry) -> None:
        body = entry.body
        intent = self._intents.get(body["client_order_id"], {})
        leg, reason = leg_of(intent), body["reason"]
        if reason == PLAN_CHANGED:
            if leg not in self._leaving:
                self._flush()
            if leg in {order.leg for order in self._telling.book.instructions}:
                self._deviate(_named("cancel", leg), "there", "missing")
            self._leaving.discard(leg)
        elif reason not in (GIVES_WAY, OVERTAKEN, _PAIR):
            self._explain("schedule" if leg in self._worked else "operator", f"cancel of {leg}: {reason}")
        self._telling.tell(entry)

    # What the venue said ----------------------------------------------------------------------------------------------

    def _fill(self, entry: Entry) -> None:
        self._fills.setdefault(entry.body["client_order_id"], []).append(entry.body)
        self._telling.tell(entry)

    def _order(self, entry: Entry) -> None:
        """How an order stands."""
        body, name = entry.body, entry.body["client_order_id"]
        if self._statuses.get(name, "") not in journal.FINAL_STATUSES:
            self._statuses[name] = body["status"]
        if body["status"] in journal.FINAL_STATUSES:
            self._ended[name] = body
        self._telling.tell(entry)

    def _compare_trades(self) -> None:
        """What an order that ended says of its trades is what they say themselves, whichever was told first."""
        for name, body in self._ended.items() if self._counts_fills else ():
            for field, recorded, again in _sums(body, self._fills.get(name, [])):
                intent = self._intents.get(name, {})
                time = intent.get("time", self._time)
                self._deviate(_named(f"{field} of the fills", leg_of(intent)), recorded, again, time)

    def _deviate(self, field: str, recorded: Any, again: Any, time: str | None = None) -> None:
        self.deviations.append(Deviation(time or self._time, field, recorded, again))

    def _explain(self, by: str, what: str, time: str | None = None) -> None:
        self.explained.append(Explained(time or self._time, by, what))


def _sums(body: Mapping[str, Any], fills: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, Any, Any]]:
    """Field, fills' side and order's side, where the trades of an order do not add up to what it says of them.

    An order that a stream told before its trades says nothing of the fee.
    """
    quantity = sum((exact(fill["quantity"]) for fill in fills), Decimal(0))
    if float(quantity) != float(body["quantity"] or 0.0):
        yield "quantity", float(quantity), body["quantity"]
    if not fills or not quantity:
        return
    price = fills[0]["price"]
    if len(fills) > 1:
        price = float(sum(exact(fill["quantity"]) * exact(fill["price"]) for fill in fills) / quantity)
    if price != body["price"]:
        yield "price", price, body["price"]
    fees = [fill["fee"] for fill in fills]
    fee = None if any(one is None for one in fees) else sum(fees)
    if body["fee"] is not None and fee != body["fee"]:
        yield "fee", fee, body["fee"]


def _named(field: str, leg: str) -> str:
    """`field` of a leg; of a bundle that has only one it needs no name."""
    return field if leg == "0" else f"{field} of {leg}"


def _plain(value: Any) -> Any:
    """Decimal text and decimals as the same number."""
    if isinstance(value, Decimal):
        return value
    try:
        return Decimal(value) if isinstance(value, str) else value
    except ArithmeticError:
        return value


def _text(value: Any) -> Any:
    return format(value, "f") if isinstance(value, Decimal) else value


def known_number(value: float) -> float | None:
    """A number as the journal writes it: NaN (warming up) is None."""
    return None if math.isnan(value) else float(value)


def same_number(one: Any, other: Any) -> bool:
    """Equal to the last bit; no order is no order, whatever its sign."""
    if one is None or other is None:
        return one is None and other is None
    return struct.pack("<d", one + 0.0) == struct.pack("<d", other + 0.0)
