"""The golden account: orders, fills and equity of the golden bars come out again, or the difference is named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tradelib._jit import interpreted
from tradelib.backtest import kernel
from tradelib.backtest.engine import replay
from tradelib.bundle import Bundle, golden_account, load_bundle, make_golden, reproduce_golden
from tradelib.bundle.account import TABLES, turns
from tradelib.bundle.golden import Difference
from tradelib.data.bars import make_bars
from tradelib.errors import BundleError
from tradelib.indicators.core import probe_bars
from tradelib.risk import Exits, Limits, ScaleIn

BARS = make_bars(probe_bars(300), symbol="PROBE/USDT")
POLICIES: dict[str, dict[str, Any]] = {
    "exits": {"exits": Exits(stop_loss=0.01, take_profit=0.02, reentry="any_time")},
    "a ladder in ATRs": {
        "exits": Exits(stop_loss={"value": 1.5, "unit": "atr"}, take_profit=[(0.01, 0.5), (0.03, 0.5)], time_exit=6)
    },
    "a trailing stop": {"exits": Exits(trailing_stop=0.02, break_even=0.01)},
    "further entries": {"scale_in": ScaleIn(step=0.005, direction="against"), "exits": Exits(stop_loss=0.03)},
    "limits": {"limits": Limits(daily_loss=0.001, maximum_drawdown=0.01, drawdown_pause=5, cooldown=2)},
}


def sealed(workshop: Any, folder: Path, policies: dict[str, Any], **terms: Any) -> Bundle:
    """A bundle of the workshop's rule with policies, on other terms."""
    rule = workshop.contents.rule.replace(rebalance_band=None, **policies)
    with interpreted():
        bars, decisions = make_golden(rule, BARS, 200)
    execution = replace(workshop.contents.execution, **terms)
    changes = {"rule": rule, "execution": execution, "golden_bars": bars, "golden_decisions": decisions}
    bundle: Bundle = workshop.reseal(folder, **changes)
    return bundle


@pytest.fixture(scope="module")
def protected(workshop: Any, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle with exits."""
    return sealed(workshop, tmp_path_factory.mktemp("protected"), POLICIES["exits"])


def test_one_entry_is_what_the_kernel_says(workshop: Any) -> None:
    """The first fill, by the kernel's own primitives: open of the next bar, slipped, and the fee on that."""
    bundle, terms = workshop.bundle, workshop.contents.execution
    first = bundle.golden_account["fills"][0]
    row = list(bundle.golden_bars.index.map(pd.Timestamp.isoformat)).index(first["time"])
    weight = bundle.golden_decisions[row - 1]["target_weight"]
    with interpreted():
        price = kernel.fill_price(bundle.golden_bars["open"].iloc[row], 1.0, terms.slippage)
        close = bundle.golden_bars["close"].iloc[row - 1]
        quantity = kernel.order_quantity(weight, 0.02, terms.cash, close, 0.0, terms.lots_per_unit, 10.0)
        paid = kernel.fee(quantity, price, terms.fee_rate)
    assert (first["side"], first["quantity"], first["price"], first["fee"]) == ("buy", quantity, price, paid)
    assert first["cash"] == kernel.cash_after(terms.cash, quantity, price, paid)
    assert first["position"] == quantity
    equity = bundle.golden_account["equity"][row]
    assert equity["equity"] == kernel.equity(equity["cash"], quantity, bundle.golden_bars["close"].iloc[row])


@pytest.mark.parametrize("policy", POLICIES)
def test_a_bundle_carries_policies_and_what_came_of_them(workshop: Any, tmp_path: Path, policy: str) -> None:
    """Sealed from interpreted kernels, equal to a backtest made here, whatever compiles."""
    bundle = load_bundle(sealed(workshop, tmp_path, POLICIES[policy]).path, workshop.trust)
    assert set(POLICIES[policy]) <= set(bundle.needs)
    assert json.loads((bundle.path / "manifest.json").read_bytes())["needs"] == list(bundle.needs)
    check = reproduce_golden(bundle)
    assert (check.equal, check.first_difference) == (True, None)
    assert check.orders == len(bundle.golden_account["orders"]) > 0
    terms = bundle.execution
    result = replay(bundle.rule, bundle.golden_bars, costs=terms.costs, market=terms.market, cash=terms.cash)
    assert [row["equity"] for row in bundle.golden_account["equity"]] == result.equity.tolist()
    assert [row["price"] for row in bundle.golden_account["fills"]] == result.fills["price"].tolist()
    assert any(row["origin"] != "signal" or row["status"] == "rejected" for row in bundle.golden_account["orders"])


@pytest.mark.parametrize(
    ("table", "field", "change", "told"),
    [
        ("orders", "stop", lambda value: float(np.nextafter(value, 0.0)), "stop of orders at"),
        ("orders", "status", lambda value: "filled" if value != "filled" else "cancelled", "status of orders at"),
        ("fills", "price", lambda value: float(np.nextafter(value, 9e9)), "price of fills at"),
        ("fills", "fee", lambda value: None, "fee of fills at"),
        ("equity", "cash", lambda value: -value, "cash of equity at"),
        ("equity", "position", lambda value: -0.0, "position of equity at"),
    ],
)
def test_one_other_bit_is_named(protected: Bundle, table: str, field: str, change: Any, told: str) -> None:
    tables = {name: [dict(row) for row in rows] for name, rows in protected.golden_account.items()}
    place = next(i for i, row in enumerate(tables[table]) if row[field] is not None)
    tables[table][place][field] = change(tables[table][place][field])
    found = reproduce_golden(replace(protected, golden_account=tables), stepwise=0)
    assert not found.equal
    assert str(found.first_difference).startswith(told)
    assert "computed by the backtest" in str(found.first_difference)


def test_one_order_less_is_named(protected: Bundle) -> None:
    tables = {**protected.golden_account, "orders": protected.golden_account["orders"][:-1]}
    count = len(protected.golden_account["orders"])
    found = reproduce_golden(replace(protected, golden_account=tables), stepwise=0).first_difference
    assert found == Difference(
        protected.golden_account["orders"][-1]["time"], "number of orders", count - 1, count, "by the backtest"
    )


@pytest.mark.parametrize(
    "terms",
    [{"fee_rate": 0.002}, {"spread": 0.001}, {"maker_fee_rate": 0.0}, {"impact": 0.5}, {"cash": 99_999.0}],
    ids=lambda terms: next(iter(terms)),
)
def test_other_terms_are_another_account(protected: Bundle, terms: dict[str, float]) -> None:
    """A bundle whose terms were exchanged by somebody who may sign does not come out as its account says."""
    other = replace(protected, execution=replace(protected.execution, **terms))
    assert not reproduce_golden(other, stepwise=0).equal


def test_what_research_says_of_the_account_must_be_so(workshop: Any, protected: Bundle, tmp_path: Path) -> None:
    """Compiled and interpreted kernels that disagree, or a table that was edited, cannot be sealed."""
    tables = {name: [dict(row) for row in rows] for name, rows in workshop.bundle.golden_account.items()}
    assert workshop.reseal(tmp_path, golden_account=tables).digest == workshop.bundle.digest
    tables["fills"][0]["price"] += 0.01
    with pytest.raises(BundleError, match="golden account is not what the rule does: price of fills at"):
        workshop.reseal(tmp_path / "other", golden_account=tables)
    with pytest.raises(BundleError, match="golden orders: a row is at '2000-.*', which is no golden bar"):
        workshop.reseal(tmp_path / "other", golden_account=protected.golden_account)
    with pytest.raises(BundleError, match="golden orders: not a list of rows with time, fill_time"):
        workshop.reseal(tmp_path / "other", golden_account={})
    assert list((tmp_path / "other").glob("*")) == []


def test_an_account_that_never_traded_is_an_account(workshop: Any, tmp_path: Path) -> None:
    bundle = workshop.reseal(tmp_path, execution=replace(workshop.contents.execution, minimum_notional=1e9))
    assert {row["reason"] for row in bundle.golden_account["orders"]} == {"below the market's minimum notional"}
    assert bundle.golden_account["fills"] == []
    assert (bundle.path / "golden" / "fills.json").read_bytes() == b"[]\n"
    assert reproduce_golden(load_bundle(bundle.path, workshop.trust)).equal


def test_the_account_is_the_same_however_it_is_computed(workshop: Any) -> None:
    given = (workshop.contents.rule, workshop.contents.execution, workshop.contents.golden_bars)
    with interpreted():
        one = golden_account(*given)
    assert one == golden_account(*given) == workshop.bundle.golden_account
    assert {name: tuple(rows[0]) for name, rows in one.items()} == dict(TABLES)


@pytest.mark.parametrize(
    ("positions", "entries", "exits"),
    [
        ([], 0, 0),
        ([1.0], 1, 0),
        ([1.0, 2.0, 1.5], 1, 0),
        ([1.0, 0.0], 1, 1),
        ([1.0, -1.0], 2, 1),
        ([-1.0, 0.0, 1.0, 0.0, 2.0], 3, 2),
    ],
)
def test_turns_by_hand(positions: list[float], entries: int, exits: int) -> None:
    assert turns({"position": position} for position in positions) == (entries, exits)


# -- the page ----------------------------------------------------------------------------------------------------------


def test_the_page_says_what_will_happen_with_the_money(workshop: Any, tmp_path: Path) -> None:
    """Costs, policies, needs and the reference window, in words that need no code."""
    tiers = ({"volume": 1e6, "maker": 0.0004, "taker": 0.0006},)
    terms = {"maker_fee_rate": 0.0005, "spread": 0.0002, "fee_tiers": tiers, "tick": "0.01"}
    policies = {
        "exits": Exits(stop_loss={"value": 2.0, "unit": "atr"}, take_profit=[(0.01, 0.5), (0.03, 0.5)]),
        "scale_in": ScaleIn(direction="against", orders=3),
        "limits": Limits(maximum_drawdown=0.3, blacklist=("DOGE/USDT",)),
    }
    bundle = sealed(workshop, tmp_path, policies, **terms)
    page = " ".join((bundle.path / "README.md").read_text().split())
    account = bundle.golden_account
    entries, exits = turns(account["fills"])
    for words in (
        "At the close of each 1d bar of PROBE/USDT the rule decides which share of the account's equity to hold",
        "Protective orders may close a position between two decisions.",
        "A position may grow by up to 3 further entries.",
        "Limits of risk may refuse an entry or close everything.",
        "| smallest lot | 0.00001 |",
        "| smallest step of a price | 0.01 |",
        "| cash at the start | 100,000.00 USDT |",
        "| fee of a market order | 0.1 % of the value |",
        "| fee of a limit order that rested | 0.05 % of the value |",
        "| spread, half of it paid per fill | 0.02 % of the price |",
        "| fees from 1,000,000 traded in 30 bars | 0.04 % resting, 0.06 % otherwise |",
        "| exits | stop loss | 2 atr |",
        "| exits | take profit | 50 % of the position at 1 %; 50 % of the position at 3 % |",
        "| scale_in | direction | against |",
        "| limits | maximum drawdown | 0.3 |",
        "| limits | blacklist | DOGE/USDT |",
        "a runner that cannot do all of it refuses the bundle",
        *(f"| {need} |" for need in ("exits", "scale_in", "limits", "maker_orders")),
        f"| entries | {entries} | | exits | {exits} | | fills | {len(account['fills'])} |",
        f"| equity at the end | {account['equity'][-1]['equity']:,.2f} |",
    ):
        assert words in page, words


def test_the_page_of_a_plain_rule_says_that_nothing_else_happens(workshop: Any) -> None:
    page = (workshop.bundle.path / "README.md").read_text()
    assert "Nothing: it has no protective orders, no further entries and no limits of risk." in page
    assert "Market orders at the close of a bar, nothing else." in page
    assert "A drift of the share by less than 2 % of the equity is left alone." in " ".join(page.split())
