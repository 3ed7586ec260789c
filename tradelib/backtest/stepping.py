"""The machine one bar at a time, for an account that trades: `machine.advance` taken apart at its seams.

`advance` runs a whole history in one compiled call. Who lives through it bar by bar calls the same functions from
here, in the same order, and may put other fills in the place of `pass_bar`. The fast stretch is left out: it changes
nothing. Of several symbols, explicit orders, funding and finer bars nothing is known here.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tradelib.backtest import book
from tradelib.backtest.book import Machine, Tape, grown
from tradelib.backtest.execution import watch_margins
from tradelib.backtest.guards import is_limited
from tradelib.backtest.machine import (
    ALL,
    carry,
    decide,
    ends_in_time,
    fill_queue,
    has_room,
    hold,
    holding_costs,
    is_settled,
    mark,
    may_refuse,
    meet_orders,
    rows_per_order,
)

__all__ = ["Conduct", "conduct_of", "decide_bar", "pass_bar", "roomy", "value_bar"]

_NO_SCRIPT = np.empty((0, book.ORDER_COLUMNS))


class Conduct(NamedTuple):
    """What a machine's rules make necessary on every bar; `rows` of its tables that one order may cost."""

    attended: bool
    plain: bool
    carries: bool
    margined: bool
    drifts: bool
    rows: int


def conduct_of(m: Machine, tape: Tape) -> Conduct:
    """The conduct of `m`, which is made ready for its first bar."""
    limited, timed = is_limited(m), ends_in_time(m)
    margined = bool(m.rules[book.MAINTENANCE] > 0.0)
    m.account[book.LIMITED] = 1.0 if limited else 0.0
    m.assets[:, book.NEXT_TURN] = m.policies[: len(m.assets), book.TURN]
    return Conduct(
        attended=limited or timed or margined or len(m.tiers) > 0,
        plain=not limited and not timed and not may_refuse(m),
        carries=holding_costs(m, tape),
        margined=margined,
        drifts=bool(m.rules[book.BAND] != np.inf or m.rules[book.IN_UNITS] == 1.0),
        rows=rows_per_order(m, _NO_SCRIPT),
    )


def roomy(m: Machine, conduct: Conduct) -> Machine:
    """`m`, with room for whatever a bar may bring."""
    while not has_room(m, _NO_SCRIPT, conduct.rows):
        m = grown(m)
    return m


def pass_bar(m: Machine, tape: Tape, t: int, conduct: Conduct) -> None:
    """Let the engine fill: market orders meet the open of bar `t`, resting ones its path."""
    if m.counts[book.QUEUED] > 0:
        fill_queue(m, tape, t)
    if conduct.margined:
        watch_margins(m, tape, t, -1)
    if m.counts[book.LINKED] > 0:
        meet_orders(m, tape, _NO_SCRIPT, t, conduct.rows)


def value_bar(m: Machine, tape: Tape, t: int, conduct: Conduct) -> float:
    """The account at the close of bar `t`: what holding costs, margin, limits, time exits. Returns its equity."""
    if conduct.carries:
        carry(m, tape, t)
    worth, exposure = mark(m.assets, tape.close, t, m.account[book.CASH])
    if conduct.attended:
        worth = hold(m, tape, t, worth, exposure)
    if exposure > 0.0:
        m.account[book.IN_MARKET] += 1.0
    return float(worth)


def decide_bar(m: Machine, tape: Tape, target: np.ndarray, t: int, worth: float, conduct: Conduct) -> None:
    """Turn the target known at the close of bar `t` into orders, and go on to the next bar."""
    if not is_settled(m.assets, 0, target[t, 0], worth, conduct.drifts):
        decide(m, tape, target, t, 0, worth, conduct.plain, ALL)
    m.counts[book.NEXT_BAR] = t + 1
