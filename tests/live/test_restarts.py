"""Processes that end between a decision and the venue: what rests there afterwards is what the book says, at once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.live.mirrors import GOLDEN, market
from tests.live.support import GOLDEN as SEEN
from tests.live.support import SYMBOL, Sealed, read, synthetic_bars, venue
from tests.live.test_bars import Tape
from tests.live.test_policies import POLICIES, TICKS, bundle_of, paper
from tradelib.bundle import Bundle
from tradelib.bundle.trading.retelling import PLAN_CHANGED
from tradelib.ledger import Ledger, chain, journal, open_journal
from tradelib.live import Runner, wire
from tradelib.live import trader as trader_module
from tradelib.live.bars import Bar, BarFeed
from tradelib.live.books import open_book
from tradelib.live.journals import TraderJournal
from tradelib.live.opening import remember_bars
from tradelib.live.orders import OrderDesk
from tradelib.live.patience import Insistence, Patience
from tradelib.risk.exits import Distance, Exits
from tradelib.venue import PaperExchange

pytestmark = pytest.mark.integration

BREAK_EVEN = Exits(
    stop_loss=Distance(value=3.0, **TICKS),
    break_even=Distance(value=1.0, **TICKS),
    take_profit=((Distance(value=6.0, **TICKS), 1.0),),
)
LADDER = ((Distance(value=1.0, **TICKS), 0.5), (Distance(value=4.0, **TICKS), 0.5))
MOVING: dict[str, dict[str, Any]] = {
    "break-even beside a target": {"exits": BREAK_EVEN},
    "trailing stop and ladder": {"exits": Exits(trailing_stop=Distance(value=3.0, **TICKS), take_profit=LADDER)},
    "trailing stop": POLICIES["trailing stop"],
}
COUNT = GOLDEN + 26
LAST = COUNT - 2


class Killed(BaseException):
    """The process was killed here, and does nothing any more."""


class Boundaries:
    """Kills a process before and after each write of its journal and each request, at number `die_at`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count, self.die_at = 0, 0
        extend, make = Ledger.extend, wire.make_client

        def extended(log: Ledger, items: Any) -> Any:
            self.cross()
            entries = extend(log, items)
            self.cross()
            return entries

        def made(*given: Any, **named: Any) -> Any:
            client = make(*given, **named)
            fetch = client.fetch

            async def fetched(*arguments: Any) -> Any:
                self.cross()
                answer = await fetch(*arguments)
                self.cross()
                return answer

            client.fetch = fetched
            return client

        monkeypatch.setattr(Ledger, "extend", extended)
        monkeypatch.setattr(wire, "make_client", made)

    def cross(self) -> None:
        self.count += 1
        if self.die_at and self.count >= self.die_at:
            raise Killed


PATIENCE = Patience(backoff=0.002, backoff_ceiling=0.01, receive_window=0.05, request_timeout=2.0)


def run(bundle: Bundle, url: str, path: Path, last: str) -> None:
    """One process, until the bar `last` is decided."""
    asyncio.run(Runner(bundle, venue_url=url, journal_path=path, until=last, patience=PATIENCE).run())


def rests(exchange: PaperExchange) -> list[tuple[str, str, float, float | None, float | None]]:
    """What stands at the venue."""
    return sorted(
        (order.client_order_id, order.kind, order.quantity, order.price, order.stop_price)
        for order in exchange.open_orders()
    )


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No margin for the venue's clock: an order that never arrived is proved so within the receive window."""
    from dataclasses import replace

    from tradelib.live.dialects import DIALECTS

    monkeypatch.setitem(DIALECTS, "binance", replace(DIALECTS["binance"], clock_margin=0.0))


def told(path: Path) -> dict[str, Any]:
    """What happened; under which name an order was placed anew may differ."""
    found: dict[str, Any] = {kind: read(path, kind) for kind in (journal.BAR, journal.DECISION, journal.EQUITY)}
    fills = [[body[name] for name in ("quantity", "price", "fee", "filled_at")] for body in read(path, journal.FILL)]
    return found | {journal.FILL: fills}


@pytest.mark.parametrize(
    ("policy", "stride"),
    [
        *((policy, 61) for policy in MOVING),
        *(pytest.param(policy, 7, marks=pytest.mark.slow) for policy in MOVING),
    ],
)
def test_killed_at_any_boundary_exits_are_those_of_the_uninterrupted_run(
    sealed: Sealed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None, policy: str, stride: int
) -> None:
    """The same equity, the same fills, the same orders at the venue: the gap in which exits are placed anew included.
    And right after the restart, before another bar has closed, everything stands that the book wants, and nothing
    else. Snapshots and checkpoints are made all the time."""
    monkeypatch.setattr(trader_module, "_SNAPSHOT", 2)
    bars = market(3, COUNT, silent=0.0)
    bundle, last = bundle_of(sealed, bars, **MOVING[policy]), bars.index[LAST].isoformat()
    process = Boundaries(monkeypatch)
    whole = paper(bundle, bars)
    with venue(whole) as served:
        run(bundle, served.url, tmp_path / "whole", last)
    events, process.count = process.count, 0
    for die_at in range(1 + stride // 2, events, stride):
        exchange, path = paper(bundle, bars), tmp_path / f"killed-{die_at}"
        with venue(exchange) as served:
            process.die_at, process.count = die_at, 0
            with pytest.raises(Killed):
                run(bundle, served.url, path, last)
            process.die_at = 0
            decided = [body["time"] for body in read(path, journal.DECISION)] if path.exists() else []
            if decided:
                run(bundle, served.url, path, decided[-1])
                assert rests(exchange) == wanted(bundle, path), f"right after boundary {die_at}"
            run(bundle, served.url, path, last)
        assert sorted(one[1:] for one in rests(exchange)) == sorted(one[1:] for one in rests(whole)), (
            f"boundary {die_at}"
        )
        assert told(path) == told(tmp_path / "whole"), f"boundary {die_at}"
        names = [order.client_order_id for order in exchange.orders]
        assert len(names) == len(set(names)), f"boundary {die_at}"


def wanted(bundle: Bundle, path: Path) -> list[tuple[str, str, float, float | None, float | None]]:
    """What the book of a journal wants to rest, with the pieces in which a stop stands beside targets."""
    with open_journal(path, read_only=True) as log:
        legs = {order.leg for order in open_book(bundle, log).instructions}
        found = [body for body in journal.unresolved(log) if body["leg"].rstrip("+") in legs]
        cut: dict[str, float] = {}
        for body in found:
            if body["leg"].endswith("+"):
                leg = body["leg"].rstrip("+")
                cut[leg] = cut.get(leg, 0.0) + float(body["quantity"])
        assert legs <= {body["leg"] for body in found} | {order["leg"] for order in _market(log)}
    return sorted(
        (
            body["client_order_id"],
            body["kind"],
            float(body["quantity"]) - cut.get(body["leg"], 0.0),
            None if body.get("price") is None else float(body["price"]),
            None if body.get("stop_price") is None else float(body["stop_price"]),
        )
        for body in found
    )


def _market(log: Ledger) -> list[dict[str, Any]]:
    return [body for body in journal.intents(log) if body.get("kind", "market") == "market"]


@pytest.mark.parametrize("policy", ["break-even beside a target", "trailing stop and ladder", "none"])
def test_started_again_at_every_bar_from_checkpoints_it_is_the_run_without_any(
    sealed: Sealed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    bars = market(3, COUNT, silent=0.0)
    bundle = bundle_of(sealed, bars, **MOVING.get(policy, {"rebalance_band": 0.02}))
    with venue(paper(bundle, bars)) as served:
        run(bundle, served.url, tmp_path / "whole", bars.index[LAST].isoformat())
    monkeypatch.setattr(trader_module, "_SNAPSHOT", 3)
    exchange = paper(bundle, bars)
    with venue(exchange) as served:
        for last in range(GOLDEN - 1, LAST + 1):
            run(bundle, served.url, tmp_path / "parts", bars.index[last].isoformat())
    assert read(tmp_path / "whole", journal.CHECKPOINT) == []
    assert len(read(tmp_path / "parts", journal.CHECKPOINT)) > 6
    for kind in (journal.BAR, journal.DECISION, journal.INTENT, journal.FILL, journal.EQUITY):
        assert read(tmp_path / "parts", kind) == read(tmp_path / "whole", kind), kind


@pytest.mark.parametrize("asked", [False, True], ids=["before the cancel was written", "before it was asked for"])
def test_an_order_that_was_withdrawn_and_still_rests_is_cancelled_at_the_start(
    sealed: Sealed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None, asked: bool
) -> None:
    """Given a decision that moved a stop and is durable, when the process ends before the old one was cancelled, then
    the next process cancels it before it sends the new one, without waiting for another bar."""
    bars = market(3, COUNT, silent=0.0)
    bundle = bundle_of(sealed, bars, **MOVING["trailing stop"])
    exchange, path, real = paper(bundle, bars), tmp_path / "j", OrderDesk.cancel
    withdrawn: list[str] = []

    async def killed(desk: OrderDesk, name: str, reason: str) -> Any:
        if reason != PLAN_CHANGED or desk.order(name).intent.kind != "stop":
            return await real(desk, name, reason)
        withdrawn.append(name)
        if asked:
            await desk._write_cancels({name: reason})
        raise Killed

    with venue(exchange) as served:
        monkeypatch.setattr(OrderDesk, "cancel", killed)
        with pytest.raises(Killed):
            run(bundle, served.url, path, bars.index[LAST].isoformat())
        monkeypatch.setattr(OrderDesk, "cancel", real)
        (old,) = withdrawn
        assert old in [order.client_order_id for order in exchange.open_orders()]
        run(bundle, served.url, path, read(path, journal.DECISION)[-1]["time"])
    assert [(name, kind) for name, kind, *_ in rests(exchange)] == [
        (name, kind) for name, kind, *_ in wanted(bundle, path)
    ]
    assert old not in [order.client_order_id for order in exchange.open_orders()]
    refused = [body for body in read(path, journal.ORDER) if body["status"] == "rejected"]
    assert refused == []
    assert [kind for _, kind, *_ in rests(exchange)] == ["stop"]


# A journal of years ---------------------------------------------------------------------------------------------------


class Counted:
    """Counts the entries that are read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows = 0
        made = chain._entry

        def counted(row: Any, *, duplicate: bool = False) -> Any:
            self.rows += 1
            return made(row, duplicate=duplicate)

        monkeypatch.setattr(chain, "_entry", counted)


ORDER = {"status": "filled", "price": 1.0, "fee": 0.0, "reason": "", "venue_order_id": "1"}


def grown(path: Path, bars: Any, first: int) -> None:
    """A journal of decided bars, each with an order that was filled, as a trader writes it."""
    with TraderJournal(path) as log:
        for begin in range(first, len(bars), 2_000):
            items: list[Any] = []
            for row in range(begin, min(begin + 2_000, len(bars))):
                items += entries_of(bars, row)
            log.extend(items)
            asyncio.run(log.checkpoint())
        log.extend(entry for row in range(first, first + 3) for entry in entries_of(bars, row, "later"))


def entries_of(bars: Any, row: int, leg: str = "0") -> list[Any]:
    time = bars.index[row].isoformat()
    name = f"tl-{row}-{leg}"
    told = dict(zip(("open", "high", "low", "close", "volume"), bars.iloc[row].tolist(), strict=True))
    made: list[tuple[str, dict[str, Any]]] = [(journal.BAR, {"time": time, **told})] if leg == "0" else []
    intent = {"time": time, "client_order_id": name, "symbol": SYMBOL, "side": "buy", "quantity": "1", "leg": leg}
    fill = {"client_order_id": name, "venue_order_id": "1", "trade_id": str(row), "symbol": SYMBOL, "quantity": 1.0}
    fill |= {"price": 1.0, "fee": 0.0, "fee_paid": {}, "filled_at": time, "maker": None}
    made += [(journal.INTENT, intent), (journal.FILL, fill)]
    made += [(journal.ORDER, {"client_order_id": name, "quantity": 1.0, **ORDER})] if leg == "0" else []
    return [(kind, body, journal.entry_key(kind, body)) for kind, body in made]


@pytest.mark.parametrize("count", [5_000, pytest.param(200_000, marks=pytest.mark.slow)])
def test_a_start_reads_the_end_of_a_journal_however_long_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """The history, the open orders, those whose trades are not all told, and the tickets: rows read, not seconds."""
    bars = synthetic_bars(count, calendar="24/7") if count < 10_000 else minutes(count)
    grown(tmp_path / "j", bars, SEEN)
    golden = bars.iloc[:SEEN]
    golden.attrs = dict(bars.attrs)
    with TraderJournal(tmp_path / "j") as log:
        read_whole = Counted(monkeypatch)
        feed = BarFeed(Tape(bars, len(bars) - 1), SYMBOL, golden, Insistence(Patience()))
        remember_bars(log, feed)
        left = journal.unresolved(log)
        assert journal.incomplete(log) == []
        assert journal.open_instructions(log) == []
        rows, most = read_whole.rows, feed.most
        everything = [body["client_order_id"] for body in journal.intents(log)]
    assert [body["client_order_id"] for body in left] == [f"tl-{row}-later" for row in range(SEEN, SEEN + 3)]
    assert len(everything) == count - SEEN + 3
    assert rows < most + 100
    assert (feed.kept.count, feed.last.time) == (count, bars.index[-1].isoformat())
    whole = BarFeed(Tape(bars, len(bars) - 1), SYMBOL, golden, Insistence(Patience()))
    with open_journal(tmp_path / "j", read_only=True) as log:
        whole.resume([Bar.from_body(body) for body in journal.bars(log)])
    assert feed.history().equals(whole.history())


def minutes(count: int) -> Any:
    """Bars of one minute."""
    import pandas as pd

    from tradelib.data.bars import make_bars

    daily = synthetic_bars(1_000)
    frame = pd.concat([daily] * (count // 1_000), ignore_index=True)
    frame.index = pd.date_range("2020-01-01", periods=count, freq="min", tz="UTC", name="time")
    return make_bars(frame, symbol=SYMBOL, timeframe="1m", source="synthetic", calendar="24/7")


def test_a_checkpoint_changes_nothing_of_what_is_left_to_do(tmp_path: Path) -> None:
    """At whatever place checkpoints stand: open intents, groups, missing trades and tickets are those of the whole."""
    with TraderJournal(tmp_path / "j") as plain, TraderJournal(tmp_path / "k") as marked:
        for number, items in enumerate(diary()):
            plain.extend(items)
            marked.extend(items)
            if number % 2:
                asyncio.run(marked.checkpoint())
            assert left_of(marked) == left_of(plain), number
        assert plain.last(journal.CHECKPOINT) is None
        assert marked.count(journal.CHECKPOINT) == len(diary()) // 2


def diary() -> list[list[Any]]:
    """Days on which orders are sent, rest, are filled in parts, and end; one trade is told two days late."""
    base = {"symbol": SYMBOL, "side": "sell", "quantity": "2", "time": "t"}
    days: list[list[tuple[str, dict[str, Any]]]] = []
    for day in range(12):
        group = f"position-{day // 4}"
        intents = [{**base, "client_order_id": f"tl-{day}-{leg}", "leg": leg, "group": group} for leg in ("s", "t")]
        items: list[tuple[str, dict[str, Any]]] = [(journal.INTENT, one) for one in intents]
        ended = {**ORDER, "client_order_id": f"tl-{day - 2}-s", "quantity": -2.0}
        withdrawn = {**ORDER, "client_order_id": f"tl-{day - 3}-t", "status": "canceled", "quantity": 0.0}
        items += [(journal.ORDER, ended)] if day >= 2 else []
        items += [(journal.ORDER, withdrawn)] if day >= 3 and day % 3 else []
        for of, number in ((day - 1, 1), (day - 4, 2)):
            body = {"client_order_id": f"tl-{of}-s", "trade_id": str(number), "quantity": -1.0, "symbol": SYMBOL}
            body |= {"venue_order_id": "1", "price": 1.0, "fee": 0.0, "fee_paid": {}, "filled_at": "t", "maker": None}
            items += [(journal.FILL, body)] if of >= 0 else []
        ticket = {"time": "t", "symbol": SYMBOL, "leg": f"{day}", "kind": "market", "side": "buy", "quantity": 1.0}
        ticket |= {"price": None, "stop_price": None, "group": None, "reduces": False, "reason": "", "ticket": {}}
        items.append((journal.INSTRUCTION, ticket))
        over = {"time": "t", "symbol": SYMBOL, "leg": f"{day - 3}", "status": "filled", "reason": ""}
        items += [(journal.ENDING, over)] if day >= 3 else []
        days.append(items)
    return [[(kind, body, journal.entry_key(kind, body)) for kind, body in items] for items in days]


def left_of(log: Ledger) -> Any:
    left = journal.unresolved(log)
    groups = {body["group"] for body in left}
    return (
        [body["client_order_id"] for body in left],
        {body["client_order_id"] for body in journal.grouped(log, groups)},
        [body["client_order_id"] for body in journal.incomplete(log)],
        [entry.key for entry in journal.open_instructions(log)],
        journal.bar_count(log),
    )
