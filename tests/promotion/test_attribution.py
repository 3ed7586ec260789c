"""Live against research: the difference in profit, in parts that sum to it, each shown by planting its cause."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.promotion.support import Entries, paper_entries, trend, write_journal
from tradelib.backtest.costs import FeeTier
from tradelib.backtest.decision import DecisionRule
from tradelib.backtest.engine import replay
from tradelib.bundle import Bundle
from tradelib.data.bars import make_bars
from tradelib.errors import DataError, LedgerError
from tradelib.ledger import journal
from tradelib.promotion.attribution import PARTS, LiveAttribution, attribute_live
from tradelib.promotion.promote import Promotion
from tradelib.risk import FixedFraction
from tradelib.strategies import TrendFollowing


def terms(**changes: float) -> Callable[[Bundle, pd.DataFrame], Entries]:
    """A venue with other terms than research assumed."""
    return lambda bundle, bars: paper_entries(replace(bundle, execution=replace(bundle.execution, **changes)), bars)


def other_bars(bundle: Bundle, bars: pd.DataFrame) -> Entries:
    """A venue whose prices are 1 % off on every seventh bar after the golden window."""
    strange, place = bars.copy(), range(len(bundle.golden_bars), len(bars), 7)
    columns = ["open", "high", "low", "close"]
    strange.loc[bars.index[list(place)], columns] *= 1.01
    names = ("symbol", "timeframe", "source", "calendar")
    return paper_entries(bundle, make_bars(strange, **{name: bars.attrs[name] for name in names}))


def other_rule(bundle: Bundle, bars: pd.DataFrame) -> Entries:
    return paper_entries(replace(bundle, rule=trend(2, 5)), bars)


def deposit(bundle: Bundle, bars: pd.DataFrame) -> Entries:
    entries = paper_entries(bundle, bars)
    place = max(index for index, (kind, _) in enumerate(entries) if kind == journal.EQUITY)
    body = entries[place][1]
    entries[place] = (journal.EQUITY, {**body, "cash": body["cash"] + 500.0, "equity": body["equity"] + 500.0})
    return entries


PLANTED: dict[str, tuple[str, Callable[[Bundle, pd.DataFrame], Entries]]] = {
    "the venue shows other bars": ("data", other_bars),
    "the runner decided by another rule": ("decision", other_rule),
    "the venue rejects what leaves too little cash": ("missed fill", terms(maximum_leverage=0.5)),
    "fills cost more slippage": ("price", terms(slippage=0.004)),
    "fills were better than assumed": ("price", terms(slippage=0.0)),
    "the fee is three times as high": ("fee", terms(fee_rate=0.003)),
    "the venue takes whole units only": ("rounding", terms(lots_per_unit=0.02)),
    "somebody paid in": ("account", deposit),
}


def attributed(promotion: Promotion, bars: pd.DataFrame, tmp_path: Path, entries: Entries) -> LiveAttribution:
    return attribute_live(write_journal(tmp_path / "journal.sqlite", entries), promotion.bundle, bars)


def test_a_faultless_runner_has_no_difference(promotion: Promotion, bars: pd.DataFrame, tmp_path: Path) -> None:
    found = attributed(promotion, bars, tmp_path, paper_entries(promotion.bundle, bars))
    assert set(found.parts.values()) == {0.0}
    assert (found.total, found.largest) == (0.0, None)
    assert found.live_profit == found.research_profit != 0.0
    assert found.summary().startswith("From 2020-07-18 to 2020-11-14 the account earned exactly what research says")


@pytest.mark.parametrize("cause", PLANTED)
def test_a_planted_cause_has_the_largest_part_and_the_parts_sum_to_the_whole(
    promotion: Promotion, bars: pd.DataFrame, tmp_path: Path, cause: str
) -> None:
    part, plant = PLANTED[cause]
    found = attributed(promotion, bars, tmp_path, plant(promotion.bundle, bars))
    assert tuple(found.parts) == PARTS
    assert sum(found.parts.values()) == pytest.approx(found.total, abs=1e-9 * found.initial_equity)
    assert found.largest == part
    others = sum(abs(value) for name, value in found.parts.items() if name != part)
    assert others <= 0.05 * abs(found.parts[part])


def test_the_deposit_is_found_to_the_cent(promotion: Promotion, bars: pd.DataFrame, tmp_path: Path) -> None:
    found = attributed(promotion, bars, tmp_path, deposit(promotion.bundle, bars))
    assert found.parts["account"] == pytest.approx(500.0, abs=1e-9)
    assert found.to_metrics()["live_difference_account"] == pytest.approx(0.005)


def test_two_causes_are_told_apart(promotion: Promotion, bars: pd.DataFrame, tmp_path: Path) -> None:
    """Each is about what it is alone; what they do together goes to the earlier one."""
    both = attributed(promotion, bars, tmp_path, terms(slippage=0.004, fee_rate=0.003)(promotion.bundle, bars))
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    price = attributed(promotion, bars, tmp_path / "1", terms(slippage=0.004)(promotion.bundle, bars)).parts["price"]
    fee = attributed(promotion, bars, tmp_path / "2", terms(fee_rate=0.003)(promotion.bundle, bars)).parts["fee"]
    assert both.parts["price"] == pytest.approx(price, rel=1e-9)
    assert both.parts["fee"] == pytest.approx(fee, rel=0.05)


def test_a_late_fill_by_hand(promotion: Promotion, bars: pd.DataFrame, tmp_path: Path) -> None:
    """One order, decided on the second bar, filled two bars later than research assumes.

    The weight is 0.5 of 100,000: units = 50,000 / close, in lots of 0.001. Being late costs the difference of the opens
    times the units, with slippage, and the difference of the fees.
    """
    bundle, begin = promotion.bundle, len(promotion.bundle.golden_bars) - 1
    window = bars.iloc[begin : begin + 8]
    closes, opens = window["close"].to_numpy(), window["open"].to_numpy()
    units = int(50_000 / closes[1] * 1000) / 1000
    pay, due = opens[4] * 1.0005, opens[2] * 1.0005
    cash = 100_000.0 - units * pay - 0.001 * units * pay
    entries: Entries = [(journal.START, {**paper_entries(bundle, bars)[0][1]})]
    for row, (time, bar) in enumerate(window.iterrows()):
        held = units if row > 3 else 0.0
        account = {"position": held, "equity": (cash if held else 100_000.0) + held * bar["close"]}
        told = {"time": time.isoformat(), "signal": 0.0, "target_weight": 0.5 if row == 1 else None}
        entries += [
            (journal.BAR, {"time": time.isoformat(), **{name: float(value) for name, value in bar.items()}}),
            (journal.EQUITY, {"time": time.isoformat(), "cash": cash if held else 100_000.0, **account}),
            (journal.DECISION, {**told, **account, "quantity": units if row == 1 else 0.0}),
        ]
    intent = {"time": window.index[1].isoformat(), "client_order_id": "one", "symbol": "BTC/USDT", "side": "buy"}
    order: dict[str, Any] = {"client_order_id": "one", "status": "filled", "quantity": units, "price": pay}
    order |= {"fee": 0.001 * units * pay, "reason": "", "venue_order_id": "1", "filled_at": window.index[4].isoformat()}
    entries += [(journal.INTENT, {**intent, "quantity": str(units)}), (journal.ORDER, order)]
    found = attributed(promotion, bars, tmp_path, entries)
    assert found.parts["timing"] == pytest.approx(units * (due - pay) * 1.001, rel=1e-9)
    assert {name for name, value in found.parts.items() if abs(value) > 1e-6} <= {"decision", "timing"}


COSTS: dict[str, dict[str, Any]] = {
    "spread": {"spread": 0.004},
    "impact": {"impact": 0.05},
    "fee tiers": {"fee_tiers": (FeeTier(volume=400_000.0, maker=0.0, taker=0.0002),), "tier_bars": 20},
    "borrowed assets": {"borrow_rate": 0.3},
    "borrowed cash": {"interest_rate": 0.3},
}
COSTS["all of them"] = {name: value for costs in COSTS.values() for name, value in costs.items()}


def backtest_entries(bundle: Bundle, bars: pd.DataFrame) -> Entries:
    """What a faultless runner would journal on a venue that charges all that research assumed: the engine's own run."""
    terms, first = bundle.execution, len(bundle.golden_bars) - 1
    account = {"costs": terms.costs, "market": terms.market, "cash": terms.cash}
    run = replay(bundle.rule, bars.iloc[:-1], start=bars.index[first + 1], **account)
    orders = {order["time"]: order for order in run.orders.to_dict("records")}
    entries: Entries = [(journal.START, paper_entries(bundle, bars)[0][1])]
    for row in range(first, len(bars) - 1):
        time, bar = bars.index[row], {name: float(value) for name, value in bars.iloc[row].items()}
        flat = {"cash": terms.cash, "position": 0.0, "equity": terms.cash}
        names = {"cash": run.cash, "position": run.positions["quantity"], "equity": run.equity}
        held = flat if row == first else {name: float(values.loc[time]) for name, values in names.items()}
        decided = {name: float(run.decisions[name].loc[time]) for name in ("signal", "target_weight")}
        order, told = orders.get(time), {"time": time.isoformat()}
        quantity = 0.0 if order is None else float(order["quantity"])
        entries += [
            (journal.BAR, {**told, **bar}),
            (journal.EQUITY, {**told, **held}),
            (
                journal.DECISION,
                {**told, **decided, **{name: held[name] for name in ("position", "equity")}, "quantity": quantity},
            ),
        ]
        if order is not None and order["status"] == "filled":
            intent = {**told, "client_order_id": f"order-{row}", "symbol": "BTC/USDT", "side": order["side"]}
            done = {
                "status": "filled",
                "quantity": quantity,
                "price": float(order["price"]),
                "fee": float(order["fee"]),
            }
            done |= {"client_order_id": f"order-{row}", "reason": "", "venue_order_id": "1"}
            entries += [(journal.INTENT, {**intent, "quantity": str(abs(quantity))}), (journal.ORDER, done)]
    return entries


@pytest.mark.parametrize("name", COSTS)
def test_whatever_the_bundle_says_that_trading_costs_a_faultless_runner_has_no_difference(
    promotion: Promotion, bars: pd.DataFrame, tmp_path: Path, name: str
) -> None:
    """Given a rule that goes long on borrowed cash and short, and a venue that charges what research assumed."""
    strategy = TrendFollowing(fast=3, slow=8, direction="long_short")
    rule = DecisionRule(strategy=strategy, sizing=FixedFraction(fraction=1.5), rebalance_band=0.02)
    execution = replace(promotion.bundle.execution, maximum_leverage=3.0, **COSTS[name])
    bundle = replace(promotion.bundle, rule=rule, execution=execution)
    entries = backtest_entries(bundle, bars)
    path = write_journal(tmp_path / "journal.sqlite", entries)

    found = attribute_live(path, bundle, bars)
    free = replace(bundle, execution=replace(promotion.bundle.execution, maximum_leverage=3.0))
    other = attribute_live(path, free, bars)

    assert found.total == pytest.approx(0.0, abs=1e-7)
    assert all(part == pytest.approx(0.0, abs=1e-7) for part in found.parts.values())
    assert abs(other.total) > 10.0  # the same journal, held against research that knows fee and slippage only


def test_a_position_that_was_held_before_the_window_pays_for_the_window_only(
    promotion: Promotion, bars: pd.DataFrame, tmp_path: Path
) -> None:
    """Given a journal whose first decision finds the account short: the equity told there has paid for that bar."""
    strategy = TrendFollowing(fast=3, slow=8, direction="long_short")
    rule = DecisionRule(strategy=strategy, sizing=FixedFraction(fraction=0.9), rebalance_band=0.02)
    execution = replace(promotion.bundle.execution, borrow_rate=0.5)
    bundle = replace(promotion.bundle, rule=rule, execution=execution)
    entries = backtest_entries(bundle, bars)
    first = next(body["time"] for kind, body in entries if kind == journal.EQUITY and body["position"] < 0.0)
    names = {body["client_order_id"] for kind, body in entries if kind == journal.INTENT and body["time"] >= first}
    kept = [
        (kind, body)
        for kind, body in entries
        if kind in (journal.START, journal.BAR) or body.get("time", "") >= first or body.get("client_order_id") in names
    ]

    found = attribute_live(write_journal(tmp_path / "journal.sqlite", kept), bundle, bars)

    assert found.first == first
    assert found.total == pytest.approx(0.0, abs=1e-7)


def test_the_result_speaks(promotion: Promotion, bars: pd.DataFrame, tmp_path: Path) -> None:
    found = attributed(promotion, bars, tmp_path, terms(fee_rate=0.003)(promotion.bundle, bars))
    assert "The largest part is fee, -" in found.summary()
    assert found.to_frame().loc["total", "amount"] == found.total
    assert "fees at another rate than assumed" in found._repr_html_()
    assert list(found.plot().data[0].x) == ["research", *PARTS, "live"]
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["parts"]["fee"] == found.parts["fee"]


def test_what_cannot_be_attributed_is_refused(promotion: Promotion, bars: pd.DataFrame, tmp_path: Path) -> None:
    entries = paper_entries(promotion.bundle, bars)
    path = write_journal(tmp_path / "journal.sqlite", entries)
    for few in (bars.iloc[:210], bars.iloc[5:]):
        with pytest.raises(DataError, match="load the same market from there to there"):
            attribute_live(path, promotion.bundle, few)
    decisions = [index for index, (kind, _) in enumerate(entries) if kind == journal.DECISION]
    short = write_journal(tmp_path / "short.sqlite", entries[: decisions[0] + 1])
    with pytest.raises(LedgerError, match="holds 1 decisions: it takes two"):
        attribute_live(short, promotion.bundle, bars)
