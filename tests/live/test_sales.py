"""What a bundle sells is its own: never more than its purse holds, never twice, never on a view that a fill overtook.

The venue's account holds other people's coins of the same kind in these tests: a sale of too much is not refused there,
it takes them.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.live.mirrors import GOLDEN, market
from tests.live.support import GOLDEN as BEGIN
from tests.live.support import HASTE, Sealed, read, seal, synthetic_bars, venue
from tests.live.test_policies import COUNT, POLICIES, TICKS, bundle_of, paper
from tradelib.backtest.engine import replay
from tradelib.bundle import Bundle
from tradelib.bundle.trading.instructions import Fill, Instruction
from tradelib.bundle.trading.purse import Purse, can_pay, sold
from tradelib.bundle.trading.retelling import OVERTAKEN
from tradelib.ledger import journal, open_journal
from tradelib.live import Runner
from tradelib.live import trader as trader_module
from tradelib.live.books import open_book
from tradelib.live.fleet import Fleet
from tradelib.live.journals import journal_path
from tradelib.live.settings import BundleSettings, ControlSettings, FeedSettings, RunnerSettings
from tradelib.live.trader import Trader
from tradelib.risk.exits import Distance, Exits
from tradelib.venue import PaperExchange, VenueMarket

pytestmark = pytest.mark.integration

OTHERS = 1_000.0
"""Coins on the account that belong to somebody else."""
NAMES = ("fee_rate", "slippage", "lots_per_unit", "minimum_notional")


class Killed(BaseException):
    """The process was killed here."""


def crowded(bundle: Bundle, bars: pd.DataFrame) -> PaperExchange:
    """The bundle's market on an account with other people's coins."""
    terms = bundle.execution
    listed = VenueMarket(terms.symbol, bars, **{name: getattr(terms, name) for name in NAMES})
    start = bars.index[GOLDEN]
    return PaperExchange([listed], cash=10_000.0, start=start, pace="poll", holdings={"BTC": OTHERS})


def trade(bundle: Bundle, exchange: PaperExchange, folder: Path, last: pd.Timestamp, share: float = 1.0) -> Trader:
    """A fleet of this one bundle with a share of the cash, until `last`; its trader."""
    with venue(exchange) as served:
        told = RunnerSettings(
            venue=served.url,
            folder=folder,
            bundles=(BundleSettings(path=folder, share=share),),
            control=ControlSettings(port=None),
            feed=FeedSettings(poll_seconds=0.0),
        )
        fleet = Fleet([bundle], told, until=last.isoformat(), patience=HASTE)
        asyncio.run(fleet.run())
    return fleet.seats[0].trader


def filled(path: Path) -> float:
    """What the fills of a journal add up to."""
    return sum(body["quantity"] for body in read(path, journal.FILL))


# Fees in the base coin ------------------------------------------------------------------------------------------------


def test_fees_taken_in_the_base_coin_leave_less_to_sell_and_every_exit_is_taken(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    """Binance takes the fee of a purchase from what was bought: the gross amount cannot be sold again."""
    sealed = seal(tmp_path_factory.mktemp("base"), synthetic_bars(seed=3))
    terms = sealed.bundle.execution
    listed = VenueMarket(terms.symbol, sealed.bars, fee_in="received", **{name: getattr(terms, name) for name in NAMES})
    exchange = PaperExchange([listed], cash=terms.cash, start=sealed.bars.index[BEGIN], pace="poll")
    until = sealed.bars.index[BEGIN + 70].isoformat()
    with venue(exchange) as served:
        runner = Runner(sealed.bundle, venue_url=served.url, journal_path=tmp_path / "j", until=until, patience=HASTE)
        asyncio.run(runner.run())
    orders = read(tmp_path / "j", journal.ORDER)
    assert [order["reason"] for order in orders if order["status"] == "rejected"] == []
    assert sum(order["status"] == "filled" and order["quantity"] < 0.0 for order in orders) > 3
    assert exchange.positions["BTC"] >= 0.0


def fill(quantity: float, kept: float = 0.0, trade: str = "1") -> Fill:
    return Fill("tl-1", trade, quantity, 100.0, 0.0, 0, fee_base=kept)


def test_what_is_between_two_lots_is_counted_and_not_sold() -> None:
    """Bought 3, 0.003 kept: 2.997 held, 2.99 to sell in lots of 0.01; 0.007 is left, no lot of it."""
    purse = Purse(1_000.0, 0.0, 100.0).after(fill(3.0, 0.003))
    assert (purse.position, purse.whole) == (2.997, 2.99)
    assert sold(Instruction("1", "market", "sell", 3.0), purse) == 2.99
    purse = purse.after(fill(-2.99, trade="2"))
    assert (purse.position, purse.whole) == (0.007, 0.0)
    assert sold(Instruction("1", "market", "sell", 3.0), purse) == 0.0


def test_two_sales_of_one_plan_share_what_is_held() -> None:
    purse = Purse(0.0, 5.0, 100.0)
    assert sold(Instruction("1", "market", "sell", 3.0), purse) == 3.0
    assert sold(Instruction("2", "market", "sell", 5.0), purse, promised=3.0) == 2.0


# Known fills, and outcomes of cancels ---------------------------------------------------------------------------------


STOPPED = Exits(stop_loss=Distance(value=2.0, **TICKS), time_exit=6)


def would_sell(trader: Trader, exchange: PaperExchange) -> bool:
    """Whether a decision now, without more news, sends a sale at the market while a stop rests at the venue."""
    import copy

    if not trader._begun or not any(order.stop_price for order in exchange.open_orders()):
        return False
    if list(exchange._ticks).index(exchange.clock) > COUNT - 40:
        return False
    plan = copy.deepcopy(trader.book).close(trader.feed.last, trader.feed.history())
    return any(order.kind == "market" and order.side == "sell" for order in plan.place)


def let_the_stop_fill(exchange: PaperExchange) -> None:
    """Bars pass at the venue until no stop rests any more."""
    while any(order.stop_price for order in exchange.open_orders()) and exchange.remaining > 20:
        exchange.step()


@pytest.mark.parametrize("seed", [3, 4])
def test_an_exit_is_not_sent_when_the_stop_is_known_to_have_filled(
    sealed: Sealed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """The stop fills in the new bar, before the bar before is decided on: its fill belongs to the next close, and still
    counts for what leaves now."""
    bars = market(seed, COUNT, silent=0.0)
    bundle = bundle_of(sealed, bars, exits=STOPPED)
    exchange, real, met = crowded(bundle, bars), Trader._decide, []

    async def decide(trader: Trader) -> None:
        if not met and would_sell(trader, exchange):
            let_the_stop_fill(exchange)
            met.append(trader.purse.position)
        await real(trader)

    monkeypatch.setattr(Trader, "_decide", decide)
    trader = trade(bundle, exchange, tmp_path, bars.index[COUNT - 5])
    assert met
    assert exchange.positions["BTC"] == OTHERS + trader.purse.position
    path = journal_path(tmp_path, bundle)
    assert trader.purse.position == filled(path)
    assert trader.purse.position >= 0.0
    assert OVERTAKEN not in [body["reason"] for body in read(path, journal.CANCEL)], "it was not even written down"


@pytest.mark.parametrize("seed", [3, 6, 7])
def test_the_outcome_of_the_cancel_decides_what_is_sold(
    sealed: Sealed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """The stop fills after the sale was decided and written down, before it was cancelled to make room."""
    bars = market(seed, COUNT, silent=0.0)
    bundle = bundle_of(sealed, bars, exits=STOPPED)
    exchange, real, met = crowded(bundle, bars), Trader._send, []

    async def send(trader: Trader, cancel: Any, intents: Any) -> Any:
        resting = any(order.stop_price for order in exchange.open_orders())
        sales = [one.client_order_id for one in intents if (one.kind, one.side) == ("market", "sell")]
        if not met and resting and sales and exchange.remaining > 40:
            let_the_stop_fill(exchange)
            met.extend(sales if not any(order.stop_price for order in exchange.open_orders()) else [])
        return await real(trader, cancel, intents)

    monkeypatch.setattr(Trader, "_send", send)
    trader = trade(bundle, exchange, tmp_path, bars.index[COUNT - 5])
    path = journal_path(tmp_path, bundle)
    assert met
    ends = {order["client_order_id"]: order["status"] for order in read(path, journal.ORDER)}
    assert ends[met[0]] == "canceled"
    assert exchange.positions["BTC"] == OTHERS + trader.purse.position
    assert trader.purse.position == filled(path)
    with open_journal(path, read_only=True) as log:
        assert open_book(bundle, log).account == trader.book.account


# Restarts -------------------------------------------------------------------------------------------------------------


def test_a_snapshot_holds_the_fills_that_belong_to_the_next_close(
    sealed: Sealed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stop is met in the first seconds of the new bar: journalled before the snapshot, so it must be part of it."""
    monkeypatch.setattr(trader_module, "_SNAPSHOT", 1)
    bars = market(3, COUNT, silent=0.0)
    bundle = bundle_of(sealed, bars, **POLICIES["stop"])
    exchange = paper(bundle, bars)
    real_decide, real_deliver, met = Trader._decide, Trader.deliver, []

    async def decide(trader: Trader) -> None:
        stops = [order for order in exchange.open_orders() if order.stop_price]
        row = list(exchange._ticks).index(exchange.clock)
        if not met and stops and bars["low"].iloc[row] <= stops[0].stop_price:
            exchange.step()
            met.append(trader)
        await real_decide(trader)

    async def deliver(trader: Trader) -> None:
        await real_deliver(trader)
        if met:
            raise Killed

    monkeypatch.setattr(Trader, "_decide", decide)
    monkeypatch.setattr(Trader, "deliver", deliver)
    with venue(exchange) as served, pytest.raises(Killed):
        asyncio.run(Runner(bundle, venue_url=served.url, journal_path=tmp_path / "j", patience=HASTE).run())
    with open_journal(tmp_path / "j", read_only=True) as log:
        again = open_book(bundle, log)
        newest, told = log.last(journal.SNAPSHOT), log.last(journal.FILL)
        assert newest is not None
        assert told is not None
        assert told.sequence < newest.sequence
    assert again.account == met[0].book.account
    assert again.account[1] == exchange.positions["BTC"] == filled(tmp_path / "j")


# Purchases ------------------------------------------------------------------------------------------------------------


def test_a_purse_pays_with_its_own_cash() -> None:
    """100 units at 100: 10,000 and a fee of 10 at a rate of 0.1 %. 10,010 pay for that, 10,009 do not."""
    from dataclasses import replace
    from types import SimpleNamespace

    terms: Any = SimpleNamespace(slippage=0.0, spread=0.0, fee_rate=0.001)
    order = Instruction("0", "market", "buy", 100.0)
    assert can_pay(order, Purse(10_010.0), 100.0, terms) == (True, 0.0)
    assert can_pay(order, Purse(10_009.0), 100.0, terms) == (False, -1.0)
    assert can_pay(order, Purse(10_010.0), 101.0, terms)[0] is False
    assert can_pay(replace(order, quantity=99.0), Purse(0.0, 100.0), 100.0, terms, promised=100.0)[0] is True


@pytest.mark.parametrize("seed", [3, 4])
def test_a_share_is_refused_what_research_refuses_though_the_account_could_pay(
    sealed: Sealed, tmp_path: Path, seed: int
) -> None:
    """Half of the cash, all of it in one order: with the fee it costs more, and research refuses it."""
    bars = market(seed, COUNT, silent=0.0)
    bundle = bundle_of(sealed, bars, fraction=2.0)
    last = bars.index[COUNT - 5]
    trader = trade(bundle, crowded(bundle, bars), tmp_path, last, share=0.5)
    terms, path = bundle.execution, journal_path(tmp_path, bundle)
    told = replay(
        bundle.rule, bars.loc[:last], costs=terms.costs, market=terms.market, cash=5_000.0, start=bars.index[GOLDEN]
    )
    refused = read(path, journal.REFUSAL)
    assert len(refused) > 0
    assert {body["rule"] for body in refused} == {"cash"}
    assert [row["equity"] for row in read(path, journal.EQUITY)][1:] == told.equity.tolist()
    assert trader.purse.cash >= 0.0
