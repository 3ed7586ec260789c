"""Why did the account earn something else than research says? The difference, in parts that sum to it.

The window that a runner traded is simulated again and again, each time with one more ingredient taken from the journal
instead of from research: first its bars, then its decisions, what was filled, when, at which price, for which fee, and
how much. What a step changes in the final equity is the part of that ingredient; the sum of the steps is the whole
difference. What even the last step leaves over did not come from orders at all: deposits, manual trades, funding.

The order of the steps is a convention: where two causes act together, the earlier one gets the joint effect.

A bundle whose exits, entries and limits act between decisions is split by its fills: see `attributing`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from tradelib._jit import interpreted
from tradelib.backtest import kernel
from tradelib.bundle import Bundle
from tradelib.bundle.window import window_of, windowed
from tradelib.data.bars import check_bars, window
from tradelib.errors import DataError, LedgerError, require
from tradelib.ledger import Ledger, journal
from tradelib.promotion.attributing import Account, finals_by_fills, traded_live
from tradelib.promotion.replay import journal_history, journal_of, signed_quantity

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["PARTS", "LiveAttribution", "attribute_live"]

PARTS = ("data", "decision", "missed fill", "timing", "price", "fee", "rounding", "account")
_MEANING = {
    "data": "the venue's bars are not those of research",
    "decision": "other target weights, or none while the runner was away",
    "missed fill": "orders rejected, expired, or filled in part",
    "timing": "fills in a later bar than the next one",
    "price": "fills at another price than the open with the assumed slippage",
    "fee": "fees at another rate than assumed",
    "rounding": "quantities of other size: lots, minimum notional, and what followed from them",
    "account": "what no order explains: deposits, manual trades, funding",
}


@dataclass(frozen=True)
class LiveAttribution:
    """Profit of the account and of research over the same window, in quote currency, and `parts` of the difference."""

    bundle_digest: str
    journal_head: str
    first: str
    last: str
    initial_equity: float
    research_profit: float
    live_profit: float
    parts: Mapping[str, float]

    @property
    def total(self) -> float:
        """Live less research; the sum of the parts."""
        return self.live_profit - self.research_profit

    @property
    def largest(self) -> str | None:
        """The part with the largest effect; None where there is no difference."""
        name = max(self.parts, key=lambda part: abs(self.parts[part]))
        return name if self.parts[name] else None

    def summary(self) -> str:
        """One sentence: the difference, and where most of it comes from."""
        span = f"From {self.first[:10]} to {self.last[:10]}"
        if self.largest is None:
            return f"{span} the account earned exactly what research says: {self.live_profit:+,.2f}."
        share = self.total / self.initial_equity
        return (
            f"{span} the account earned {self.live_profit:+,.2f}, research says {self.research_profit:+,.2f}: a "
            f"difference of {self.total:+,.2f} ({share:+.3%} of the equity). The largest part is {self.largest}, "
            f"{self.parts[self.largest]:+,.2f}: {_MEANING[self.largest]}."
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {**vars(self), "parts": dict(self.parts), "total": self.total, "summary": self.summary()}

    def to_metrics(self) -> dict[str, float]:
        """Figures for a run in MLflow: `live_difference` and its parts, as fractions of the initial equity."""
        named = {f"live_difference_{name.replace(' ', '_')}": value for name, value in self.parts.items()}
        return {name: value / self.initial_equity for name, value in {"live_difference": self.total, **named}.items()}

    def to_frame(self) -> pd.DataFrame:
        """One row per part and the total: amount, fraction of the initial equity, meaning."""
        amounts = {**self.parts, "total": self.total}
        meaning = [*(_MEANING[name] for name in self.parts), "live less research"]
        columns = {"amount": amounts.values(), "fraction": [v / self.initial_equity for v in amounts.values()]}
        return pd.DataFrame({**columns, "meaning": meaning}, index=pd.Index(amounts, name="part"))

    def plot(self) -> Figure:
        """A waterfall from what research says to what the account earned."""
        graph = require("plotly.graph_objects", "research")
        names = ["research", *self.parts, "live"]
        bars = graph.Waterfall(
            x=names,
            y=[self.research_profit, *self.parts.values(), self.live_profit],
            measure=["absolute", *["relative"] * len(self.parts), "total"],
        )
        return graph.Figure(bars, {"title": {"text": "From research to the account"}, "yaxis": {"title": "profit"}})

    def _repr_html_(self) -> str:
        table = self.to_frame().to_html(border=0, float_format=lambda value: f"{value:,.6g}")
        return f"<p><b>{escape(self.summary())}</b></p>{table}"


class _Fill(NamedTuple):
    """What became of one decision: units sent and filled (signed), price and fee; `row`: the bar that filled it."""

    sent: float
    filled: float
    price: float | None
    fee: float
    row: int | None


class _World(NamedTuple):
    """One side: opens, closes and volumes of the window, and the target weight of each bar (NaN: no decision)."""

    opens: np.ndarray
    closes: np.ndarray
    volumes: np.ndarray
    weights: np.ndarray


def attribute_live(path: str | os.PathLike[str], bundle: Bundle, bars: pd.DataFrame) -> LiveAttribution:
    """Split the difference between the account in a journal and research on `bars` of the same market.

    `bars` reach from the bundle's first golden bar to the last decision of the journal; both sides start with the
    account that the journal shows at its first decision. An order's fill is taken to be in the bar after the decision
    unless the journal says otherwise (`filled_at`). Raises `LedgerError` for a journal that is missing, altered,
    without two decisions, or of another bundle, and `DataError` for bars that do not cover the window.
    """
    with journal_of(path, bundle) as (log, head):
        equities = {body["time"]: body for body in journal.equities(log)}
        decided = {body["time"]: body for body in journal.decisions(log)}
        if len(decided) < 2:
            raise LedgerError(f"Journal {path} holds {len(decided)} decisions: it takes two to have earned something.")
        seen = journal_history(path, bundle, list(journal.bars(log)))
        first, last = min(decided), max(decided)
        research, inside = _window_of(bars, bundle, first, last), _inside(seen, first, last)
        fills, traded = _fills(log, inside), traded_live(log, inside, bundle.execution.timeframe)
    begin, end = equities[first], equities[last]
    if bundle.needs:
        weights = {time: body["target_weight"] for time, body in decided.items()}
        finals = finals_by_fills(bundle, research, seen.loc[: inside[-1]], weights, traded, begin)
    else:
        worlds = (
            _research(bundle, research, first),
            _research(bundle, seen, first, last),
            _live(seen, decided, first, last),
        )
        finals = _finals(bundle, worlds, fills, (float(begin["cash"]), float(begin["position"])))
    parts = dict(zip(PARTS, np.diff([*finals, float(end["equity"])]).tolist(), strict=True))
    start = float(begin["equity"])
    profits = finals[0] - start, float(end["equity"]) - start
    return LiveAttribution(bundle.digest, head, first, last, start, *profits, parts)


def _finals(
    bundle: Bundle, worlds: Sequence[_World], fills: Mapping[int, _Fill], account: tuple[float, float]
) -> list[float]:
    """Final equity of research, and after each ingredient that comes from the journal."""
    finals = [_simulate(bundle, world, fills, account, frozenset()) for world in worlds]
    taken: frozenset[str] = frozenset()
    for name in PARTS[2:-1]:
        taken |= {name}
        finals.append(_simulate(bundle, worlds[-1], fills, account, taken))
    return finals


# The two sides --------------------------------------------------------------------------------------------------------


def _window_of(bars: pd.DataFrame, bundle: Bundle, first: str, last: str) -> pd.DataFrame:
    check_bars(bars)
    start, end = bundle.golden_bars.index[0], pd.Timestamp(last)
    if bars.index[0] > start or bars.index[-1] < end or pd.Timestamp(first) not in bars.index:
        raise DataError(
            f"the bars reach from {bars.index[0]} to {bars.index[-1]}; the runner's history is {start} to {end}, and "
            f"its first decision {first}: load the same market from there to there"
        )
    return window(bars, start, end)


def _inside(history: pd.DataFrame, first: str, last: str) -> pd.DatetimeIndex:
    index = pd.DatetimeIndex(history.index)
    return index[(index >= pd.Timestamp(first)) & (index <= pd.Timestamp(last))]


def _research(bundle: Bundle, history: pd.DataFrame, first: str, last: str | None = None) -> _World:
    """What the rule decides on every bar of the window, knowing `history`."""
    with interpreted():
        weights = windowed(bundle.rule, window_of(bundle)).decisions(history)["target_weight"]
    return _world(history, weights, first, last or history.index[-1].isoformat())


def _live(history: pd.DataFrame, decided: Mapping[str, Mapping[str, Any]], first: str, last: str) -> _World:
    """What the runner decided; NaN where it did not."""
    said = {pd.Timestamp(time): body["target_weight"] for time, body in decided.items()}
    weights = pd.Series([said.get(time) for time in history.index], index=history.index, dtype=np.float64)
    return _world(history, weights, first, last)


def _world(history: pd.DataFrame, weights: pd.Series, first: str, last: str) -> _World:
    rows = history.index.get_indexer(_inside(history, first, last))
    opens, closes, volumes = (history[name].to_numpy(dtype=np.float64)[rows] for name in ("open", "close", "volume"))
    return _World(opens, closes, volumes, weights.to_numpy(dtype=np.float64)[rows])


def _fills(log: Ledger, index: pd.DatetimeIndex) -> dict[int, _Fill]:
    """What became of each decision, by its row in the window."""
    rows = {time.isoformat(): row for row, time in enumerate(index)}
    final: dict[str, Mapping[str, Any]] = {}
    for body in journal.orders(log):
        if final.get(body["client_order_id"], {}).get("status") not in journal.FINAL_STATUSES:
            final[body["client_order_id"]] = body
    found = {}
    for intent in journal.intents(log):
        done = final.get(intent["client_order_id"], {})
        at = done.get("filled_at")
        row = None if at is None else int(index.searchsorted(pd.Timestamp(at), side="right")) - 1
        price = done.get("price")
        amounts = signed_quantity(intent), float(done.get("quantity") or 0.0)
        if intent["time"] in rows:
            fee = float(done.get("fee") or 0.0)
            found[rows[intent["time"]]] = _Fill(*amounts, None if price is None else float(price), fee, row)
    return found


# The simulation -------------------------------------------------------------------------------------------------------


def _simulate(
    bundle: Bundle, world: _World, fills: Mapping[int, _Fill], account: tuple[float, float], taken: frozenset[str]
) -> float:
    """Equity at the last close; `taken`: ingredients that come from the journal instead of from the bundle's terms.

    What was traded before the window is not known: fee tiers begin anew with it.
    """
    pending: dict[int, list[tuple[int, float]]] = {}
    with interpreted():
        book = Account(bundle, len(world.closes), *account)
        for row in range(len(world.closes)):
            for decision, quantity in pending.pop(row, ()):
                price, fee = _terms_of(book, world, decision, row, quantity, fills, taken)
                if _is_carried(bundle, book, quantity, price, fee, taken):
                    book.fill(row, quantity, price, fee)
            if row:  # the account is that of the first close: what it held until then is paid
                book.close(row, float(world.closes[row]))
            wanted = _quantity(bundle, world, row, book.cash, book.position, fills, taken)
            if wanted:
                pending.setdefault(_fill_row(row, fills, taken), []).append((row, wanted))
        return float(kernel.equity(book.cash, book.position, float(world.closes[-1])))


def _quantity(
    bundle: Bundle,
    world: _World,
    row: int,
    cash: float,
    position: float,
    fills: Mapping[int, _Fill],
    taken: frozenset[str],
) -> float:
    """Units ordered on the bar `row`."""
    fill, close = fills.get(row), float(world.closes[row])
    if "rounding" in taken:
        return 0.0 if fill is None else fill.filled
    quantity = kernel.order_quantity(
        float(world.weights[row]),
        float(bundle.rule.band),
        float(kernel.equity(cash, position, close)),
        close,
        position,
        float(bundle.execution.lots_per_unit),
        float(bundle.execution.minimum_notional),
    )
    if "missed fill" in taken and fill is not None and fill.sent:
        return float(quantity * (fill.filled / fill.sent))
    return float(quantity)


def _fill_row(row: int, fills: Mapping[int, _Fill], taken: frozenset[str]) -> int:
    fill = fills.get(row)
    if "timing" in taken and fill is not None and fill.row is not None:
        return max(fill.row, row + 1)
    return row + 1


def _terms_of(
    book: Account,
    world: _World,
    decision: int,
    row: int,
    quantity: float,
    fills: Mapping[int, _Fill],
    taken: frozenset[str],
) -> tuple[float, float]:
    """Price and fee of a fill in the bar `row`."""
    costs, fill, rate = book.costs, fills.get(decision), book.fee_rate()
    worse = kernel.adverse_fraction(
        costs.slippage, costs.spread / 2.0, costs.impact, quantity, float(world.volumes[row])
    )
    price = kernel.fill_price(float(world.opens[row]), math.copysign(1.0, quantity), worse)
    if fill is None or fill.price is None or not fill.filled:
        return float(price), float(kernel.fee(quantity, price, rate))
    if "price" in taken:
        price = fill.price
    fee = kernel.fee(quantity, price, rate)
    if "fee" in taken:
        fee = fill.fee * (quantity / fill.filled)
    return float(price), float(fee)


def _is_carried(
    bundle: Bundle, book: Account, quantity: float, price: float, fee: float, taken: frozenset[str]
) -> bool:
    """The account can carry the fill; what the venue did fill needs no leave."""
    if "rounding" in taken:
        return True
    leverage = float(bundle.execution.maximum_leverage)
    return bool(kernel.admissible(book.cash, book.position, quantity, price, fee, leverage) == kernel.FILLED)
