"""An auditor that knows the conventions and not the engine: silent where the engine is right, loud where it errs."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.backtest import audits
from tests.backtest.test_crosscheck import MARKETS, market
from tests.live import mirrors
from tradelib.backtest import Order, book, run_orders
from tradelib.backtest.auditing import AccountAudit, audit_account
from tradelib.backtest.costs import Costs, FeeTier, Market
from tradelib.backtest.engine import replay
from tradelib.backtest.result import Result
from tradelib.errors import DataError, ParameterError
from tradelib.risk.exits import Distance, Exits, ScaleIn
from tradelib.risk.limits import Limits

ROOM = Path(__file__).parents[2] / "tradelib" / "backtest"


def clean(audit: AccountAudit) -> None:
    assert audit.passed, "\n".join(map(str, audit.problems[:5]))


# --- no false alarm --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", range(4))
def test_accounts_of_every_policy_and_cost_pass(part: int) -> None:
    """Given 160 markets with seeded exits, further entries, limits, costs, leverage, margin and funding."""
    for seed in range(40 * part, 40 * part + 40):
        result, funding = audits.drawn(seed)
        clean(audit_account(result, funding=funding))


def test_the_worlds_meet_everything_that_an_audit_looks_at() -> None:
    """So that silence says something: fills of all reasons, entries of all kinds, orders refused by most causes."""
    worlds = [audits.drawn(seed)[0] for seed in range(160)]
    reasons = {reason for result in worlds for reason in result.fills["origin"]}
    entries = {kind for result in worlds for kind in result.cash_book["kind"]}
    causes = {cause for result in worlds for cause in result.orders["reason"]}
    assert reasons == set(book.REASONS) - {"order", "grid"}
    assert entries == set(book.ENTRY_KINDS)
    assert len([cause for cause in causes if cause.startswith("limit: ")]) >= 15
    assert {"the bar has no volume to trade against", "not enough equity for this exposure at the fill price"} <= causes


def test_the_worlds_of_the_runner_s_mirror_pass() -> None:
    for seed in range(40):
        clean(audit_account(mirrors.drawn(seed).result))


@pytest.mark.real_data
@pytest.mark.parametrize("name", MARKETS)
def test_accounts_on_real_bars_pass(name: str, real_data: Path) -> None:
    """Given ten recorded markets and, on each, policies and costs of all kinds."""
    bars = market(name, real_data)
    priced = mirrors.rule(short=True, fraction=0.9)
    for seed in range(3):
        rng = np.random.default_rng([seed, 11])
        drawn = audits.policies(rng)
        drawn["exits"] = Exits(
            stop_loss={"value": 2.0, "unit": "atr"}, take_profit=[(0.02, 0.5), (0.05, 0.3)], trailing_stop=0.04,
            break_even=0.015, time_exit=12, reentry=str(rng.choice(["any_time", "new_signal"])),
        )  # fmt: skip
        rule = priced.replace(**{key: drawn[key] for key in ("exits", "scale_in", "limits")}, rebalance_band=None)
        lots = Market(lots_per_unit=1_000.0, minimum_notional=10.0, maximum_leverage=2.0, maintenance_margin=0.2)
        result = replay(rule, bars, costs=audits.costs(rng).replace(impact=0.0), market=lots)
        assert len(result.fills) > 5
        clean(audit_account(result))


# --- the auditor is independent --------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", sorted(path.stem for path in ROOM.glob("auditing*.py")))
def test_the_auditor_calls_nothing_of_the_engine(module: str) -> None:
    """It reads the engine's tables by the names of their columns (`book`) and computes everything itself."""
    tree = ast.parse((ROOM / f"{module}.py").read_text(encoding="utf-8"))
    typing = {id(node) for part in ast.walk(tree) if isinstance(part, ast.If) for node in ast.walk(part)}
    imported = {
        node.module + (f".{name.name}" if node.module == "tradelib.backtest" else "")
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and id(node) not in typing
        for name in node.names
        if node.module
    }
    known = {"tradelib.errors", "tradelib.backtest.book", "tradelib.data.timeframes", "tradelib.risk.exits"}
    others = {name for name in imported if name.startswith("tradelib") and "auditing" not in name}
    assert others <= known | {"tradelib.risk.limits"}


# --- an account under other terms than it claims ---------------------------------------------------------------------

EXITS = Exits(
    stop_loss=0.03, take_profit=[(0.012, 0.5), (0.03, 0.3)], trailing_stop=0.025, trailing_activation=0.01,
    break_even=0.01, break_even_offset=0.001, time_exit=5, reentry="any_time",
)  # fmt: skip
COSTS = Costs(
    fee_rate=0.001, maker_fee_rate=0.0004, slippage=0.0005, spread=0.001, impact=0.01, borrow_rate=0.2,
    interest_rate=0.1, fee_tiers=(FeeTier(volume=60_000.0, maker=0.0002, taker=0.0006),), tier_bars=12,
)  # fmt: skip
MARKET = Market(lots_per_unit=10.0, minimum_notional=50.0, maximum_leverage=3.0, insufficient_cash="reduce")
SCALE_IN = ScaleIn(orders=2, step=0.008, factor=0.7, direction="against")
BARS = mirrors.market(29, 400, silent=0.0)
CASH = 10_000.0


def traded(bars: pd.DataFrame = BARS, **changes: Any) -> Result:
    """An account in which everything acts, but for `changes` of policies, costs and terms."""
    costs = COSTS.replace(**{name: changes.pop(name) for name in list(changes) if name in Costs.model_fields})
    terms = MARKET.replace(**{name: changes.pop(name) for name in list(changes) if name in Market.model_fields})
    funding = changes.pop("funding", None)
    policies = {"exits": EXITS, "scale_in": SCALE_IN, "fraction": 1.2, "short": True, **changes}
    return replay(mirrors.rule(**policies), bars, costs=costs, market=terms, cash=CASH, funding=funding)


PLAIN: dict[str, Any] = {"exits": None, "scale_in": None}
EXIT_CLAIMS: dict[str, Any] = {
    "stop_loss": 0.031, "take_profit": [(0.012, 0.5), (0.031, 0.3)], "trailing_stop": 0.026, "break_even_offset": 0.002,
    "trailing_activation": 0.05, "break_even": 0.011, "time_exit": 6, "reentry": "new_signal",
}  # fmt: skip
COST_CLAIMS: dict[str, Any] = {
    "fee_rate": 0.0011, "maker_fee_rate": 0.0005, "slippage": 0.0004, "spread": 0.0011, "impact": 0.011,
    "borrow_rate": 0.21, "interest_rate": 0.11, "tier_bars": 11,
    "fee_tiers": (FeeTier(volume=50_000.0, maker=0.0002, taker=0.0006),),
}  # fmt: skip
MARKET_CLAIMS: dict[str, Any] = {
    "lots_per_unit": 1.0, "minimum_notional": 4_000.0, "maximum_leverage": 1.1, "insufficient_cash": "reject",
    "maintenance_margin": 0.3,
}  # fmt: skip
SCALE_CLAIMS: dict[str, Any] = {"orders": 3, "step": 0.009, "factor": 0.8, "direction": "with"}


def claimed(name: str) -> Result:
    """The account, said to have been made under another value of `name`."""
    result = traded(fraction=2.9) if name in ("insufficient_cash", "maintenance_margin") else traded()
    if name in EXIT_CLAIMS:
        return _ruled(result, exits=EXITS.replace(**{name: EXIT_CLAIMS[name]}))
    if name in SCALE_CLAIMS:
        return _ruled(result, scale_in=SCALE_IN.replace(**{name: SCALE_CLAIMS[name]}))
    if name in COST_CLAIMS:
        return replace(result, costs=result.costs.replace(**{name: COST_CLAIMS[name]}))
    return replace(result, market=result.market.replace(**{name: MARKET_CLAIMS[name]}))


def _ruled(result: Result, **policies: Any) -> Result:
    assert result.rule is not None
    return replace(result, rule=result.rule.replace(**policies))


CLAIMS = (*EXIT_CLAIMS, *SCALE_CLAIMS, *COST_CLAIMS, *MARKET_CLAIMS)


def test_the_account_of_the_faults_is_clean() -> None:
    clean(audit_account(traded()))
    clean(audit_account(traded(fraction=2.9)))


@pytest.mark.parametrize("name", CLAIMS)
def test_an_account_under_other_terms_than_it_claims_is_refused(name: str) -> None:
    audit = audit_account(claimed(name))
    assert not audit.passed
    assert str(audit.problems[0]).startswith("BTC/USDT at 2021-")


LIMIT_WORLD: dict[str, Any] = {"exits": EXITS, "scale_in": None, "fraction": 0.97, "maximum_leverage": 1.0}


@pytest.mark.parametrize("name", [name for name in mirrors.LIMITS if name != "positions"])
def test_an_account_that_ignores_a_limit_is_refused(name: str) -> None:
    """Given the account of a rule without the limit, said to be under it. (One symbol never is too many positions.)"""
    result = traded(**LIMIT_WORLD)
    limits = Limits(**mirrors.LIMITS[name])
    audit = audit_account(_ruled(result, limits=limits))
    assert not audit.passed
    clean(audit_account(traded(**LIMIT_WORLD, limits=limits)))


@pytest.mark.parametrize("name", ["daily_loss", "drawdown", "cooldown", "exposure", "blacklist", "losses"])
def test_an_account_under_a_limit_that_it_does_not_have_is_refused(name: str) -> None:
    """What was refused or closed for no reason is as wrong as what was allowed."""
    result = traded(**LIMIT_WORLD, limits=Limits(**mirrors.LIMITS[name]))
    assert not audit_account(_ruled(result, limits=Limits(maximum_exposure=50.0))).passed


# --- one row that is wrong -------------------------------------------------------------------------------------------

Spoil = Callable[[Result], Result]


def fills_of(result: Result, reason: str) -> list[int]:
    """Rows of the fills with a reason."""
    return np.flatnonzero(result.simulation.fills[:, book.FILL_REASON] == book.REASONS.index(reason)).tolist()


def rebooked(result: Result, row: int, **columns: float) -> Result:
    """One fill with other values, and all that follows from it booked faultlessly: cash, position, order, equity.

    What is left is a lie that no sum gives away.
    """
    simulation = result.simulation
    fills, orders, entries = (getattr(simulation, name).copy() for name in ("fills", "orders", "entries"))
    for name, value in columns.items():
        fills[row, getattr(book, f"FILL_{name.upper()}")] = value
    fills[row, book.FILL_SLIPPAGE] = abs(
        fills[row, book.FILL_QUANTITY] * (fills[row, book.FILL_PRICE] - fills[row, book.FILL_REFERENCE])
    )
    order = int(fills[row, book.FILL_ORDER])
    pairs = {
        "QUANTITY": "QUANTITY",
        "PAID_PRICE": "PRICE",
        "ORDER_FEE": "FEE",
        "ORDER_SLIPPAGE": "SLIPPAGE",
        "FILL_BAR": "AT",
    }
    for one, other in {**pairs, "REASON": "REASON"}.items():
        orders[order, getattr(book, one)] = fills[row, getattr(book, f"FILL_{other}")]
    return _summed(replace(result, simulation=simulation._replace(fills=fills, orders=orders, entries=entries)))


def _summed(result: Result) -> Result:
    """The same rows with cash, position and equity that follow from them."""
    simulation = result.simulation
    fills, entries = simulation.fills.copy(), simulation.entries.copy()
    cash, position, closes = CASH, 0.0, result.panel.close[:, 0]
    rows = [(fill[book.FILL_SEQUENCE], 0, place) for place, fill in enumerate(fills)]
    rows += [(entry[book.ENTRY_SEQUENCE], 1, place) for place, entry in enumerate(entries)]
    after = np.tile([CASH, 0.0], (len(closes), 1))
    for _, kind, place in sorted(rows):
        if kind == 0:
            fill = fills[place]
            cash -= fill[book.FILL_QUANTITY] * fill[book.FILL_PRICE] + fill[book.FILL_FEE]
            position += fill[book.FILL_QUANTITY]
            fill[[book.FILL_CASH, book.FILL_POSITION]] = cash, position
        else:
            cash += entries[place, book.ENTRY_AMOUNT]
            entries[place, book.ENTRY_CASH] = cash
        bar = int(fills[place, book.FILL_AT] if kind == 0 else entries[place, book.ENTRY_BAR])
        after[bar:] = cash, position
    equity = after[:, 0] + after[:, 1] * closes
    return replace(result, simulation=simulation._replace(fills=fills, entries=entries, equity=equity[result.first :]))


def without(result: Result, table: str, row: int) -> Result:
    """The account without one row, numbered and summed anew."""
    simulation = result.simulation
    column = book.FILL_SEQUENCE if table == "fills" else book.ENTRY_SEQUENCE
    gone = getattr(simulation, table)[row, column]
    tables = {name: getattr(simulation, name).copy() for name in ("fills", "entries")}
    tables[table] = np.delete(tables[table], row, axis=0)
    for name, place in (("fills", book.FILL_SEQUENCE), ("entries", book.ENTRY_SEQUENCE)):
        tables[name][tables[name][:, place] > gone, place] -= 1.0
    return _summed(replace(result, simulation=simulation._replace(**tables)))


def entries_of(result: Result, kind: str) -> list[int]:
    return np.flatnonzero(result.simulation.entries[:, book.ENTRY_KIND] == book.ENTRY_KINDS.index(kind)).tolist()


def _value(result: Result, row: int, column: str) -> float:
    return float(result.simulation.fills[row, getattr(book, f"FILL_{column.upper()}")])


def _repriced(reason: str, factor: float) -> Spoil:
    """A fill from another reference price, with price, fee and all sums to match."""

    def spoil(result: Result) -> Result:
        row = fills_of(result, reason)[2]
        given = {name: _value(result, row, name) * factor for name in ("price", "reference", "fee")}
        return rebooked(result, row, **given)

    return spoil


def _scaled(reason: str, column: str, factor: float, place: int = 2) -> Spoil:
    def spoil(result: Result) -> Result:
        row = fills_of(result, reason)[place]
        return rebooked(result, row, **{column: _value(result, row, column) * factor})

    return spoil


def _resized(reason: str, more: float) -> Spoil:
    """A fill of another quantity, with the impact and the fee that belong to it."""

    def spoil(result: Result) -> Result:
        row = fills_of(result, reason)[2]
        quantity, price, reference = (_value(result, row, name) for name in ("quantity", "price", "reference"))
        wanted, volume = quantity + np.sign(quantity) * more, result.panel.volume[int(_value(result, row, "at")), 0]
        worse = 0.01 * (np.sqrt(abs(wanted) / volume) - np.sqrt(abs(quantity) / volume)) * (price != reference)
        paid = price + np.sign(quantity) * worse * reference
        fee = _value(result, row, "fee") * wanted * paid / (quantity * price)
        return rebooked(result, row, quantity=wanted, price=paid, fee=fee)

    return spoil


def _raw(table: str, column: str, change: Callable[[float], float], pick: Callable[[Result], int]) -> Spoil:
    def spoil(result: Result) -> Result:
        row = pick(result)
        return audits.changed(
            result,
            table,
            row,
            **{column: change(getattr(result.simulation, table)[row, getattr(book, column.upper())])},
        )

    return spoil


def _up(by: float) -> Callable[[float], float]:
    return lambda was: was + by


def _moved(bars: int) -> Spoil:
    """A market fill on another bar, at that bar's open."""

    def spoil(result: Result) -> Result:
        result = traded(**PLAIN, borrow_rate=0.0, interest_rate=0.0)
        fills = result.simulation.fills
        times = fills[:, book.FILL_AT]
        alone = [
            row
            for row in fills_of(result, "signal")[1:-1]
            if times[row - 1] + 2 < times[row] and times[row] + 2 < times[row + 1]
        ]
        row = alone[0]
        at = int(times[row]) + bars
        opened = float(result.panel.open[at, 0])
        ratio = opened / _value(result, row, "reference")
        given = {name: _value(result, row, name) * ratio for name in ("price", "reference", "fee")}
        return rebooked(result, row, at=at, **given)

    return spoil


def _swapped(result: Result) -> Result:
    """Two fills of one bar in the other order."""
    fills = result.simulation.fills.copy()
    row = int(np.flatnonzero(np.diff(fills[:, book.FILL_AT]) == 0)[1])
    fills[[row, row + 1]] = fills[[row + 1, row]]
    fills[[row, row + 1], book.FILL_SEQUENCE] = fills[[row + 1, row], book.FILL_SEQUENCE]
    return _summed(audits.with_table(result, "fills", fills))


def _twice(result: Result) -> Result:
    """A fill that is booked once more right after itself."""
    simulation = result.simulation
    row = fills_of(result, "signal")[2]
    fills, entries, number = (
        simulation.fills.copy(),
        simulation.entries.copy(),
        simulation.fills[row, book.FILL_SEQUENCE],
    )
    fills[fills[:, book.FILL_SEQUENCE] > number, book.FILL_SEQUENCE] += 1.0
    entries[entries[:, book.ENTRY_SEQUENCE] > number, book.ENTRY_SEQUENCE] += 1.0
    again = fills[row].copy()
    again[book.FILL_SEQUENCE] += 1.0
    fills = np.insert(fills, row + 1, again, axis=0)
    return _summed(replace(result, simulation=simulation._replace(fills=fills, entries=entries)))


def _gapped_stop(result: Result) -> Result:
    """A stop filled at its level, although the bar opened beyond it."""
    fills, opens = result.simulation.fills, result.panel.open[:, 0]
    orders = result.simulation.orders
    for row in fills_of(result, "stop_loss") + fills_of(result, "break_even"):
        level, reference = orders[int(fills[row, book.FILL_ORDER]), book.LEVEL], fills[row, book.FILL_REFERENCE]
        if reference == opens[int(fills[row, book.FILL_AT])] != level:
            given = {name: _value(result, row, name) * level / reference for name in ("price", "reference", "fee")}
            return rebooked(result, row, **given)
    raise AssertionError("no stop was gapped")


def _target_first(result: Result) -> Result:
    """A bar that reaches stop and target, read as if the target had come first."""
    result = traded(exits=Exits(stop_loss=0.012, take_profit=0.012, reentry="any_time"), scale_in=None, fraction=0.9)
    fills, panel = result.simulation.fills, result.panel
    for row in fills_of(result, "stop_loss"):
        at, quantity = int(fills[row, book.FILL_AT]), fills[row, book.FILL_QUANTITY]
        entry = fills[row - 1]
        level = entry[book.FILL_PRICE] * (1.0 - np.sign(quantity) * 0.012)
        inside = panel.low[at, 0] < level < panel.high[at, 0] and entry[book.FILL_POSITION] == -quantity
        stopped = panel.open[at, 0] != fills[row, book.FILL_REFERENCE]
        if inside and stopped and result.simulation.fills[row - 1, book.FILL_REASON] == book.SIGNAL:
            given = {"price": level, "reference": level, "maker": 1.0, "reason": book.TAKE_PROFIT}
            return rebooked(result, row, **given, fee=abs(quantity) * level * 0.0004)
    raise AssertionError("no bar reached both")


def _trailing_by_its_own_bar(result: Result) -> Result:
    """A trailing stop at a level that only the high (low) of its own bar gives."""
    fills, panel = result.simulation.fills, result.panel
    for row in fills_of(result, "trailing_stop"):
        at, quantity = int(fills[row, book.FILL_AT]), fills[row, book.FILL_QUANTITY]
        own = panel.high[at, 0] * 0.97 if quantity < 0 else panel.low[at, 0] * 1.03
        better = own > fills[row, book.FILL_REFERENCE] if quantity < 0 else own < fills[row, book.FILL_REFERENCE]
        if better:
            ratio = own / fills[row, book.FILL_REFERENCE]
            return rebooked(
                result, row, **{name: _value(result, row, name) * ratio for name in ("price", "reference", "fee")}
            )
    row = fills_of(result, "trailing_stop")[0]
    return rebooked(result, row, **{name: _value(result, row, name) * 1.002 for name in ("price", "reference", "fee")})


def _oversold(result: Result) -> Result:
    """A target that sells more than is held."""
    row = fills_of(result, "take_profit")[2]
    held = _value(result, row - 1, "position")
    quantity = -2.0 * held
    return rebooked(
        result, row, quantity=quantity, fee=abs(_value(result, row, "fee") * quantity / _value(result, row, "quantity"))
    )


def _first(kind: str) -> Callable[[Result], int]:
    return lambda result: entries_of(result, kind)[0]


def _fill(reason: str, place: int = 2) -> Callable[[Result], int]:
    return lambda result: fills_of(result, reason)[place]


def _order(reason: str, place: int = 2) -> Callable[[Result], int]:
    return lambda result: int(result.simulation.fills[fills_of(result, reason)[place], book.FILL_ORDER])


def _rejected(result: Result) -> int:
    orders = result.simulation.orders
    return int(np.flatnonzero((orders[:, book.STATUS] == book.REJECTED) & (orders[:, book.REASON] == book.SIGNAL))[0])


def _unequal(result: Result) -> Result:
    equity = result.simulation.equity.copy()
    equity[100] += 0.01
    return audits.with_table(result, "equity", equity)


def _removed(table: str, pick: Callable[[Result], int]) -> Spoil:
    return lambda result: without(result, table, pick(result))


def _removed_with_its_order(reason: str) -> Spoil:
    """A fill that never was: its order says that it was cancelled."""

    def spoil(result: Result) -> Result:
        order = _order(reason)(result)
        gone = without(result, "fills", _fill(reason)(result))
        return audits.changed(gone, "orders", order, status=book.CANCELLED)

    return spoil


FAULTS: dict[str, tuple[Spoil, str]] = {
    "a market order below the open": (_repriced("signal", 0.999), "reference"),
    "a market order without its slippage": (_scaled("signal", "price", 0.9998), "price"),
    "a stop above its level": (_repriced("stop_loss", 1.002), "reference"),
    "a stop at its level beyond a gap": (_gapped_stop, "reference"),
    "a trailing stop that follows its own bar": (_trailing_by_its_own_bar, "reference"),
    "a target better than its price": (_repriced("take_profit", 1.001), "reference"),
    "a target worse than its price": (_repriced("take_profit", 0.999), "reference"),
    "a target that slips": (_scaled("take_profit", "price", 0.9995), "price"),
    "a target ahead of the stop": (_target_first, "missing fill"),
    "a time exit at another price": (_repriced("time_exit", 1.001), "reference"),
    "a further entry at another price": (_repriced("scale_in", 0.999), "reference"),
    "a fee that is too low": (_scaled("signal", "fee", 0.9), "fee"),
    "a fee that is too high": (_scaled("stop_loss", "fee", 1.01), "fee"),
    "a taker at the maker's rate": (_scaled("signal", "fee", 0.4), "fee"),
    "a stop that says it rested": (_raw("fills", "fill_maker", lambda was: 1.0, _fill("stop_loss")), "fee"),
    "a lot more than decided": (_resized("signal", 0.1), "quantity"),
    "less than a lot more": (_resized("signal", 0.04), "quantity"),
    "a further entry of twice the size": (_resized("scale_in", 20.0), "quantity"),
    "more sold than held": (_oversold, "quantity"),
    "a fill before its decision": (_moved(-1), "unexplained fill"),
    "a fill a bar too late": (_moved(1), "missing fill"),
    "a decision on the bar of its fill": (_raw("orders", "placed", _up(1.0), _order("signal")), "missing order"),
    "a decision a bar earlier": (_raw("orders", "placed", _up(-1.0), _order("signal")), "order"),
    "a fill that is gone": (_removed("fills", _fill("signal")), "missing fill"),
    "a stop that was met and did not fill": (_removed_with_its_order("stop_loss"), "missing fill"),
    "a target that was met and did not fill": (_removed_with_its_order("take_profit"), "missing fill"),
    "a time exit that did not happen": (_removed_with_its_order("time_exit"), "open"),
    "a fill that is booked twice": (_twice, "unexplained fill"),
    "two fills in the wrong order": (_swapped, "sequence"),
    "numbers that skip one": (_raw("fills", "fill_sequence", _up(0.5), _fill("signal")), "sequence"),
    "another reason": (_raw("orders", "reason", lambda was: book.EXPLICIT, _order("signal")), "order"),
    "an order that tells another price": (_raw("orders", "paid_price", _up(0.1), _order("stop_loss")), "record"),
    "cash after a fill": (_raw("fills", "fill_cash", _up(0.01), _fill("signal")), "cash"),
    "position after a fill": (_raw("fills", "fill_position", _up(0.1), _fill("scale_in")), "position"),
    "slippage that is told too low": (_raw("fills", "fill_slippage", _up(-0.1), _fill("signal")), "slippage cost"),
    "equity at one close": (_unequal, "equity"),
    "borrowing that is not paid": (_removed("entries", _first("borrow")), "borrow"),
    "interest that is not paid": (_removed("entries", _first("interest")), "interest"),
    "borrowing that is too cheap": (_raw("entries", "entry_amount", lambda was: was * 0.9, _first("borrow")), "borrow"),
    "cash after an entry": (_raw("entries", "entry_cash", _up(0.01), _first("interest")), "cash"),
    "an entry on another bar": (_raw("entries", "entry_bar", _up(1.0), _first("interest")), "interest"),
    "an entry of another kind": (_raw("entries", "entry_kind", _up(1.0), _first("borrow")), "borrow"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_one_wrong_row_is_found_and_named(name: str) -> None:
    spoil, what = FAULTS[name]
    spoiled = spoil(traded())
    audit = audit_account(spoiled)
    assert not audit.passed
    problem = audit.problems[0]
    assert what in ("", problem.what), str(problem)
    assert problem.symbol == "BTC/USDT"
    assert problem.time in BARS.index
    assert len(problem.words) > 20


# --- margin, funding and halts ----------------------------------------------------------------------------------------

HALTED: dict[str, Any] = {**LIMIT_WORLD, "exits": None}
HALTS = {
    "daily_loss_halt": "daily_loss", "daily_profit_halt": "daily_profit", "drawdown_halt": "drawdown",
    "loss_halt": "losses", "protection": "losing",
}  # fmt: skip


def margined(**changes: Any) -> Result:
    """An account that is called, liquidated inside of bars, and charged for it."""
    terms = {"maximum_leverage": 8.0, "maintenance_margin": 0.1, "liquidation_fee_rate": 0.01, "fraction": 7.5}
    return traded(mirrors.market(2, 300, silent=0.0), **PLAIN, **{**terms, "impact": 0.0, **changes})


def test_an_account_on_margin_passes_and_was_liquidated() -> None:
    result = margined()
    assert {"liquidation_fee", "margin_call"} <= set(result.cash_book["kind"])
    clean(audit_account(result))


@pytest.mark.parametrize("kind", ["liquidation_fee", "margin_call"])
def test_what_margin_costs_and_records_may_not_be_left_out(kind: str) -> None:
    result = margined()
    audit = audit_account(without(result, "entries", entries_of(result, kind)[0]))
    assert audit.problems[0].what == kind


def test_a_liquidation_at_another_price_is_refused() -> None:
    audit = audit_account(_repriced_first("liquidation")(margined()))
    assert audit.problems[0].what == "reference"


def _repriced_first(reason: str) -> Spoil:
    def spoil(result: Result) -> Result:
        row = fills_of(result, reason)[0]
        return rebooked(
            result, row, **{name: _value(result, row, name) * 1.01 for name in ("price", "reference", "fee")}
        )

    return spoil


def test_a_position_that_should_have_been_liquidated_and_was_not_is_refused() -> None:
    result = margined(maintenance_margin=0.0, liquidation_fee_rate=0.0)
    audit = audit_account(replace(result, market=result.market.replace(maintenance_margin=0.1)))
    assert audit.problems[0].what in ("missing fill", "margin_call", "liquidation")


@pytest.mark.parametrize("kind", HALTS)
def test_a_halt_that_is_not_recorded_is_refused(kind: str) -> None:
    result = traded(**HALTED, limits=Limits(**mirrors.LIMITS[HALTS[kind]]))
    clean(audit_account(result))
    audit = audit_account(without(result, "entries", entries_of(result, kind)[0]))
    assert audit.problems[0].what == kind
    assert "is due and was not recorded" in audit.problems[0].words


@pytest.mark.parametrize("minutes", [0, 30])
def test_funding_is_checked_against_its_rates(minutes: int) -> None:
    """Given funding at the open of each eighth bar, or inside of it, charged on the position that is held there."""
    times = BARS.index[::8] + pd.Timedelta(minutes=minutes)
    rates = pd.Series(np.linspace(-0.001, 0.002, len(times)), times)
    result = traded(funding=rates)
    clean(audit_account(result, funding=rates))
    assert {problem.what for problem in audit_account(result, funding=-rates).problems} == {"funding"}
    assert audit_account(result).problems[0].what in ("funding", "cash book")
    assert not audit_account(traded(), funding=rates).passed


# --- what it says, and what it cannot do -----------------------------------------------------------------------------


def test_an_audit_says_what_it_looked_at() -> None:
    result = traded()
    audit = audit_account(result)
    assert (audit.bars, audit.fills, audit.orders) == (400, len(result.fills), len(result.simulation.orders))
    assert audit.summary().loc["Verdict", "value"] == "passed"
    assert audit.to_frame().empty
    assert repr(audit) == f"AccountAudit({audit.fills} fills on 400 bars: passed)"
    assert "passed" in audit._repr_html_()


def test_a_failed_audit_names_bar_symbol_and_order_first() -> None:
    audit = audit_account(_scaled("signal", "fee", 0.9)(traded()))
    frame = audit.to_frame()
    assert list(frame.columns) == ["time", "symbol", "order", "what", "words"]
    problem = audit.problems[0]
    assert str(problem) == f"BTC/USDT at {problem.time.isoformat()}, order {problem.order}: {problem.words}"
    assert audit.summary().loc["First", "value"] == str(problem)
    assert "  fee" in audit.summary().index
    assert repr(audit) == f"AccountAudit({audit.fills} fills on 400 bars: failed: {problem})"


def test_what_a_result_does_not_keep_cannot_be_audited() -> None:
    order = Order(time=BARS.index[3], side="buy", quantity=1.0)
    with pytest.raises(ParameterError, match="only the account of a rule"):
        audit_account(run_orders([order], BARS))
    result = audits.changed(traded(), "fills", 0, fill_row=3.0)
    with pytest.raises(ParameterError, match="finer bars"):
        audit_account(result)
    with pytest.raises(DataError, match="funding must be a Series"):
        audit_account(traded(), funding=pd.Series([0.1]))


def test_a_fixed_stop_an_exact_touch_and_a_still_market_raise_no_alarm() -> None:
    """Levels that a price touches exactly, and dust that rounding trades, are decided by rounding: both are right."""
    exits = Exits(stop_loss=Distance(value=90.0, unit="level"), take_profit=Distance(value=2.0, unit="price"))
    for band in (0.0, 0.03):
        result = traded(
            mirrors.market(8, 300), exits=exits, scale_in=None, rebalance_band=band, fraction=0.5,
            **dict.fromkeys(("fee_rate", "slippage", "spread", "impact"), 0.0), lots_per_unit=0.0, fee_tiers=(),
        )  # fmt: skip
        clean(audit_account(result))


def test_touching_counts() -> None:
    """Given a target at exactly the high of a bar, filled there: an account in which it goes on waiting is refused."""
    exits = Exits(take_profit=Distance(value=2.0, unit="price"), reentry="any_time")
    free = {**dict.fromkeys(("fee_rate", "slippage", "spread", "impact"), 0.0), "fee_tiers": (), "maker_fee_rate": None}
    result = traded(exits=exits, scale_in=None, fraction=0.5, **free)
    fills, panel = result.simulation.fills, result.panel
    touched = [
        row
        for row in fills_of(result, "take_profit")
        for at in [int(fills[row, book.FILL_AT])]
        if fills[row, book.FILL_PRICE] in (panel.high[at, 0], panel.low[at, 0])
    ]
    row = touched[0]
    order = int(fills[row, book.FILL_ORDER])
    waiting = audits.changed(without(result, "fills", row), "orders", order, status=book.WORKING)
    problem = audit_account(waiting).problems[0]
    assert (problem.what, problem.time) == ("missing fill", BARS.index[int(fills[row, book.FILL_AT])])


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("fills", "fill_price", np.nan),
        ("fills", "fill_order", 9e9),
        ("entries", "entry_cash", np.inf),
        ("orders", "placed", np.nan),
    ],
)
def test_rows_that_cannot_be_read_are_a_problem_too(table: str, column: str, value: float) -> None:
    audit = audit_account(audits.changed(traded(), table, 3, **{column: value}))
    assert [problem.what for problem in audit.problems] == ["unreadable"]
