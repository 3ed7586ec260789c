"""Exits that the venue cannot hold and the runner does: what they see, when they act, and that they act once."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from tests.live.floor import SECRET, Floor, Life
from tests.live.mirrors import GOLDEN, market
from tests.live.support import HASTE, KEY, Sealed, read
from tests.live.test_findings_exits import BRACKETS, ticks
from tests.live.test_policies import COUNT, POLICIES, bundle_of, paper
from tradelib.bundle import Bundle
from tradelib.bundle.trading.bar import Bar, iso_time
from tradelib.data.bars import make_bars
from tradelib.errors import RunnerError
from tradelib.ledger import Entry, journal, open_journal
from tradelib.live import Runner
from tradelib.live.courier import Courier
from tradelib.live.fleet import Fleet
from tradelib.live.held import met_since, placed_in
from tradelib.live.intents import OrderReport, OrderState
from tradelib.live.journals import journal_path
from tradelib.live.metrics import _trader_values
from tradelib.live.settings import BundleSettings, ControlSettings, FeedSettings, RunnerSettings
from tradelib.live.sight import look_pause, looks
from tradelib.promotion.replay import replay_journal
from tradelib.risk.exits import Exits
from tradelib.venue import PaperExchange, VenueMarket, VenueThread
from tradelib.venue.sources import TradeTape

FLAT = (100.0, 101.0, 99.0, 100.0)
HELD: dict[str, Any] = {"holdings": {"BTC": 10.0}}
GROUP: dict[str, Any] = {"group": "position-1", "reduces": True}
NO_STOPS: dict[str, Any] = {"order_kinds": frozenset({"market", "limit"}), "holds_oco": False}
NO_PAIRS: dict[str, Any] = {"holds_oco": False}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "j"


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADELIB_API_SECRET", SECRET)
    monkeypatch.setenv("TRADELIB_API_PASSPHRASE", "tests")


def served_by(exchange: PaperExchange, dialect: str) -> VenueThread:
    return VenueThread(exchange, key=KEY, secret=SECRET, dialect=dialect, passphrase="tests")


def run(bundle: Bundle, url: str, path: Path, until: Any, exchange: str, **options: Any) -> None:
    given = {"venue_url": url, "journal_path": path, "exchange": exchange, "patience": HASTE} | options
    asyncio.run(Runner(bundle, until=until.isoformat(), **{"emulate_exits": True, **given}).run())


def milliseconds_of(bars: pd.DataFrame) -> list[int]:
    """Open times."""
    times: list[int] = pd.DatetimeIndex(bars.index).as_unit("ms").asi8.tolist()
    return times


def entries(path: Path) -> list[Entry]:
    with open_journal(path, read_only=True) as log:
        return list(log.entries())


# The choice -------------------------------------------------------------------------------------------------------


def test_without_the_choice_it_is_refused_and_told_how_to_choose(sealed: Sealed, path: Path) -> None:
    bundle = bundle_of(sealed, market(3, COUNT, silent=0.0), exits=Exits(stop_loss=ticks(2.0)))
    with pytest.raises(RunnerError, match="stop_loss") as refusal:
        run(bundle, "http://127.0.0.1:9", path, bundle.golden_bars.index[-1], "bitget", emulate_exits=False)
    told = str(refusal.value)
    assert "--emulate-exits, in settings emulate_exits = true" in told
    assert "sold at what the market then gives" in told
    assert "while the runner is down nothing protects the position" in told
    assert not path.exists()


def test_with_the_choice_it_is_said_once_at_each_start(
    sealed: Sealed, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bars = market(3, COUNT, silent=0.0)
    bundle = bundle_of(sealed, bars, exits=BRACKETS["near target"])
    with served_by(paper(bundle, bars), "kraken") as served:
        run(bundle, served.url, path, bars.index[GOLDEN], "kraken")
    (said,) = [record.getMessage() for record in caplog.records if "emulated exits" in record.getMessage()]
    assert "holds what kraken does not: take_profit beside stop_loss" in said
    assert "while the runner is down the stop rests at kraken, the targets wait" in said
    assert [body["what"] for body in read(path, journal.INCIDENT)] == ["emulated exits"]


def test_where_the_exchange_holds_everything_the_choice_changes_nothing(sealed: Sealed, tmp_path: Path) -> None:
    bars = market(3, COUNT, silent=0.0)
    bundle = bundle_of(sealed, bars, **POLICIES["stop and target"])
    for name, chosen in (("with", True), ("without", False)):
        with served_by(paper(bundle, bars), "binance") as served:
            run(bundle, served.url, tmp_path / name, bars.index[GOLDEN + 40], "binance", emulate_exits=chosen)
    for kind in (journal.INTENT, journal.FILL, journal.EQUITY, journal.TRIGGER, journal.INCIDENT):
        assert read(tmp_path / "with", kind) == read(tmp_path / "without", kind)


@pytest.mark.parametrize(
    ("feed", "mode", "seconds", "told"),
    [("stream", "live", 1.0, "streamed"), ("poll", "live", 0.5, "every 0.5 s"), ("poll", "live", 60.0, "every 2 s")],
)
def test_how_often_the_price_is_looked_at_is_said(feed: str, mode: str, seconds: float, told: str) -> None:
    assert told in looks(feed, mode, seconds)
    assert look_pause(0.0) == 0.05


# Recorded bars: a stop acts when the bar that met it has closed ---------------------------------------------------


@pytest.mark.parametrize("policy", ["stop", "trailing stop", "break-even"])
def test_a_held_stop_misses_no_low_of_a_recorded_bar_and_sells_at_the_next_open(
    sealed: Sealed, path: Path, policy: str
) -> None:
    bars = market(3, COUNT, silent=0.0)
    bundle = bundle_of(sealed, bars, **POLICIES[policy])
    with served_by(paper(bundle, bars), "bitget") as served:
        run(bundle, served.url, path, bars.index[COUNT - 2], "bitget")
    found = entries(path)
    rows = {Bar.from_body(entry.body).milliseconds: entry.body for entry in found if entry.kind == journal.BAR}
    opens = dict(zip(milliseconds_of(bars), bars["open"].tolist(), strict=True))
    stops = {e.body["client_order_id"]: e.body for e in found if e.kind == journal.INTENT and e.body.get("stop_price")}
    fired = {entry.body["client_order_id"] for entry in found if entry.kind == journal.TRIGGER}
    fills = {entry.body["client_order_id"]: entry.body for entry in found if entry.kind == journal.FILL}
    step = 3_600_000
    assert len(fired) >= 3
    for name, stop in stops.items():
        level = float(stop["stop_price"])
        stood = [e.sequence for e in found if e.body.get("client_order_id") == name and e.kind in ("intent", "order")]
        lived = [e for e in found if e.kind == journal.BAR and stood[0] < e.sequence < stood[-1]]
        met = [entry for entry in lived if entry.body["low"] <= level]
        assert not met, f"{name} stood through {met}"
        if name in fired:
            sold = round(pd.Timestamp(fills[name]["filled_at"]).value / 1e6)
            at_once = opens[sold] <= level
            assert at_once or rows[sold - step]["low"] <= level
            assert fills[name]["price"] == opens[sold]
    report = replay_journal(path, bundle)
    assert (report.share, report.equal) == (1.0, True), report.summary()


@pytest.mark.slow
@pytest.mark.parametrize("exchange", ["kraken", "bitget"])
@pytest.mark.parametrize("policy", [*POLICIES, *BRACKETS])
def test_every_policy_trades_and_replays(sealed: Sealed, path: Path, exchange: str, policy: str) -> None:
    bars = market(3, COUNT, silent=0.0)
    policies = POLICIES[policy] if policy in POLICIES else {"exits": BRACKETS[policy]}
    bundle, venue = bundle_of(sealed, bars, **policies), None
    venue = paper(bundle, bars)
    with served_by(venue, exchange) as served:
        run(bundle, served.url, path, bars.index[COUNT - 2], exchange)
    assert "rejected" not in {body["status"] for body in read(path, journal.ORDER)}
    report = replay_journal(path, bundle)
    assert (report.share, report.equal) == (1.0, True), report.summary()
    booked = sum(Decimal(repr(body["quantity"])) for body in read(path, journal.FILL))
    assert float(booked) == venue.positions["BTC"]


@pytest.mark.parametrize(("exchange", "policy"), [("bitget", "trailing stop"), ("kraken", "stop and target")])
def test_a_restart_at_every_bar_goes_on_as_one_run(sealed: Sealed, tmp_path: Path, exchange: str, policy: str) -> None:
    bars = market(3, COUNT, silent=0.0)
    bundle = bundle_of(sealed, bars, **POLICIES[policy])
    last = GOLDEN + 40
    with served_by(paper(bundle, bars), exchange) as served:
        run(bundle, served.url, tmp_path / "whole", bars.index[last], exchange)
    with served_by(paper(bundle, bars), exchange) as served:
        for stop in range(GOLDEN - 1, last + 1):
            run(bundle, served.url, tmp_path / "parts", bars.index[stop], exchange)
    assert read(tmp_path / "whole", journal.TRIGGER)
    for kind in (journal.BAR, journal.DECISION, journal.INTENT, journal.FILL, journal.EQUITY):
        assert read(tmp_path / "parts", kind) == read(tmp_path / "whole", kind), kind


def test_a_price_that_passed_the_stop_while_the_runner_was_down_fires_at_once(sealed: Sealed, tmp_path: Path) -> None:
    """The bar whose low meets the stop closes, and another one, while nobody is there: the first act is the sale."""
    bars = market(3, COUNT, silent=0.0)
    bundle = bundle_of(sealed, bars, **POLICIES["stop"])
    with served_by(paper(bundle, bars), "bitget") as served:
        run(bundle, served.url, tmp_path / "whole", bars.index[COUNT - 2], "bitget")
    fired = read(tmp_path / "whole", journal.TRIGGER)[0]["client_order_id"]
    (fill,) = [body for body in read(tmp_path / "whole", journal.FILL) if body["client_order_id"] == fired]
    sold = milliseconds_of(bars).index(pd.Timestamp(fill["filled_at"]).floor("h").value // 10**6)
    venue, path = paper(bundle, bars), tmp_path / "j"
    with served_by(venue, "bitget") as served:
        run(bundle, served.url, path, bars.index[sold - 2], "bitget")
        assert not read(path, journal.TRIGGER)
        venue.step(2)
        run(bundle, served.url, path, bars.index[sold + 5], "bitget")
    found = entries(path)
    again = max(entry.sequence for entry in found if entry.kind == journal.START)
    acts = [e for e in found if e.sequence > again and e.kind in ("trigger", "fill", "bar", "decision")]
    assert [entry.kind for entry in acts[:2]] == [journal.TRIGGER, journal.FILL]
    assert acts[1].body["client_order_id"] == fired
    assert acts[1].body["price"] == bars["open"].iloc[sold + 1]
    assert len([order for order in venue.orders if order.side < 0 and order.quantity == -fill["quantity"]]) == 1
    assert replay_journal(path, bundle).equal


# Recorded trades, one by one: as at a venue that holds the orders ------------------------------------------------


def trades_of(bars: pd.DataFrame) -> pd.DataFrame:
    """Four trades of each bar, a second apart."""
    opened = milliseconds_of(bars)
    paths = bars[["open", "low", "high", "close"]].to_numpy()
    rows = [
        (time + 1000 * n, price, 1e6) for time, path in zip(opened, paths, strict=True) for n, price in enumerate(path)
    ]
    return pd.DataFrame(rows, columns=["time", "price", "quantity"])


def ticked() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Bars, and the trades that they are made of."""
    raw = market(3, COUNT, silent=0.0)
    named: dict[str, Any] = {"symbol": raw.attrs["symbol"], "timeframe": "1h", "source": "synthetic"}
    return make_bars(raw.assign(volume=4e6), calendar="24/7", **named), trades_of(raw)


def fills_of(path: Path) -> list[list[Any]]:
    return [[body[name] for name in ("quantity", "price", "fee", "filled_at")] for body in read(path, journal.FILL)]


def ticking(bundle: Bundle, trades: pd.DataFrame, start: pd.Timestamp) -> PaperExchange:
    """A venue whose clock stops at every trade."""
    terms = bundle.execution
    names = ("fee_rate", "slippage", "lots_per_unit", "minimum_notional")
    listed = {name: getattr(terms, name) for name in names}
    tape = TradeTape(trades, "1h", fine=True)
    return PaperExchange([VenueMarket(terms.symbol, tape, **listed)], cash=terms.cash, start=start, pace="poll")


@pytest.mark.parametrize("policy", ["stop and target", "trailing stop", "pyramiding"])
def test_tick_by_tick_what_the_runner_holds_fills_as_what_the_venue_holds(
    sealed: Sealed, tmp_path: Path, policy: str
) -> None:
    """Bitget against Binance, fills and equity to the last bit; Kraken's targets at their limit or better."""
    bars, trades = ticked()
    policies = POLICIES[policy] if policy in POLICIES else {"exits": BRACKETS[policy]}
    bundle = bundle_of(sealed, bars, **policies)
    for exchange in ("binance", "bitget", "kraken"):
        with served_by(ticking(bundle, trades, bars.index[GOLDEN]), exchange) as served:
            run(bundle, served.url, tmp_path / exchange, bars.index[GOLDEN + 40], exchange)
        assert replay_journal(tmp_path / exchange, bundle).equal
    there, here = fills_of(tmp_path / "binance"), fills_of(tmp_path / "bitget")
    assert there == here
    assert len(there) >= 3
    assert read(tmp_path / "bitget", journal.TRIGGER)
    assert read(tmp_path / "binance", journal.EQUITY) == read(tmp_path / "bitget", journal.EQUITY)
    limits = {body["client_order_id"]: float(body["price"]) for body in read(tmp_path / "kraken", journal.INTENT)
              if body.get("kind") == "limit" and body["side"] == "sell"}  # fmt: skip
    sales = [body for body in read(tmp_path / "kraken", journal.FILL) if body["client_order_id"] in limits]
    assert all(body["price"] >= limits[body["client_order_id"]] for body in sales)


async def move(venue: PaperExchange, fleet: Fleet) -> None:
    """Let the market go on whenever the runner has heard of it all and has nothing to do."""
    while True:
        await asyncio.sleep(0.003)
        trader = fleet.seats[0].trader if fleet.seats else None
        if trader is None or not trader.started or trader.due or trader._turn.locked():
            continue
        assert fleet.streams is not None
        shown = fleet.streams.forming(trader.symbol, trader.feed.timeframe)
        now = venue.forming()[0].kline
        told = now is not None and shown is not None and shown == Bar(now.open_time, *now.row)
        closed = now is not None and trader.feed.last.milliseconds + trader.feed.kept.step == now.open_time
        count, _ = fleet.streams.prices(trader.symbol, trader.feed.timeframe, 0)
        if told and closed and (trader.sight._shown == count or not trader._holds_orders()):
            trader.look_again()
            venue.step()


@pytest.mark.parametrize("policy", ["trailing stop", "stop and target"])
def test_streamed_what_the_runner_holds_fills_as_what_the_venue_holds(
    sealed: Sealed, tmp_path: Path, policy: str
) -> None:
    bars, trades = ticked()
    bundle = bundle_of(sealed, bars, **POLICIES[policy])
    until = bars.index[GOLDEN + 40]
    with served_by(ticking(bundle, trades, bars.index[GOLDEN]), "binance") as served:
        run(bundle, served.url, tmp_path / "binance", until, "binance")
    venue = ticking(bundle, trades, bars.index[GOLDEN])
    venue.pace = "manual"

    async def work(fleet: Fleet) -> None:
        moving = asyncio.create_task(move(venue, fleet))
        assert (await asyncio.wait_for(fleet.run(), 60.0)).halted == {}
        moving.cancel()

    with served_by(venue, "bitget") as served:
        one, feed = BundleSettings(path=sealed.bundle.path, share=1.0, emulate_exits=True), FeedSettings(kind="stream")
        told = {"folder": tmp_path, "control": ControlSettings(port=None), "feed": feed}
        settings = RunnerSettings(venue=served.url, exchange="bitget", bundles=(one,), **told)
        asyncio.run(work(Fleet([bundle], settings, until=until.isoformat(), patience=HASTE)))
    path = journal_path(tmp_path, bundle)
    assert fills_of(path) == fills_of(tmp_path / "binance")
    assert read(path, journal.TRIGGER)
    report = replay_journal(path, bundle)
    assert report.equal, report.deviations


# One order at a time ----------------------------------------------------------------------------------------------


def open_kinds(floor: Floor) -> list[str]:
    return sorted(order.kind for order in floor.exchange.open_orders())


def test_a_venue_without_stops_gets_the_targets_and_the_stop_clears_their_way(path: Path) -> None:
    with Floor(path, account=HELD, changes=NO_STOPS) as floor:

        async def work(at: Life) -> list[OrderReport]:
            stop = at.intend("s", "sell", "10", "stop", stop_price="95", **GROUP)
            rungs = [at.intend(f"t{n}", "sell", "5", "limit", price=str(110 + n), **GROUP) for n in range(2)]
            placed = await at.desk.place_all([stop, *rungs])
            assert [report.reason for report in placed] == ["held by the runner", "", ""]
            assert open_kinds(floor) == ["limit", "limit"]
            return await at.desk.tick(at.symbol, bid=94.0, ask=94.0)

        (report,) = floor.life(work)
        assert (report.state, report.quantity) == (OrderState.FILLED, -10.0)
        assert open_kinds(floor) == []
        floor.assert_sound()


def test_a_price_that_is_gone_fires_a_stop_and_no_target(path: Path) -> None:
    """Between two looks the market was at 110 and back: a target sent now would take the stop's place for nothing."""
    with Floor(path, account=HELD, changes=NO_PAIRS) as floor:

        async def work(at: Life) -> None:
            stop = at.intend("s", "sell", "10", "stop", stop_price="95", **GROUP)
            await at.desk.place_all([stop, at.intend("t", "sell", "10", "limit", price="110", **GROUP)])
            assert await at.desk.tick(at.symbol, bid=110.0, ask=110.0, gone=True) == []
            assert open_kinds(floor) == ["stop"]

        floor.life(work)
    with Floor(path.with_name("k"), account=HELD, changes=NO_STOPS) as floor:

        async def fall(at: Life) -> list[OrderReport]:
            await at.desk.place(at.intend("s", "sell", "10", "stop", stop_price="95", **GROUP))
            return await at.desk.tick(at.symbol, bid=94.0, ask=94.0, gone=True)

        (report,) = floor.life(fall)
        assert report.quantity == -10.0


def test_the_copy_of_a_stop_does_not_outlive_the_target_that_it_stands_beside(path: Path) -> None:
    """The target gave way to a sale of everything at the market: what the copy would sell is somebody else's."""
    with Floor(path, account={"holdings": {"BTC": 20.0}}, changes=NO_PAIRS) as floor:

        async def work(at: Life) -> None:
            target = at.intend("t", "sell", "10", "limit", price="110", **GROUP)
            await at.desk.place_all([target, at.intend("s", "sell", "10", "stop", stop_price="95", **GROUP)])
            await at.desk.tick(at.symbol, bid=110.0, ask=110.0)
            assert open_kinds(floor) == ["limit"]
            await at.desk.cancel(target.client_order_id, "gives way to a sale at the market")
            await at.trade("0", "sell", "10")
            assert await at.desk.tick(at.symbol, bid=90.0, ask=90.0) == []
            assert at.desk.working() == []

        floor.life(work)
        assert floor.exchange.positions["BTC"] == 10.0
        floor.assert_sound()


def bar(hour: int, low: float, high: float, close: float) -> Bar:
    return Bar(hour * 3_600_000, 100.0, high, low, close, 1.0)


def test_what_was_met_since_an_order_was_placed() -> None:
    """Of the bar in which it was placed only what is new; of bars before it nothing; of later ones both ends."""
    placed = bar(5, 96.0, 101.0, 98.0)
    assert met_since(placed, [bar(4, 90.0, 120.0, 100.0), bar(5, 96.0, 101.0, 99.0)]) == []
    assert met_since(placed, [bar(5, 95.0, 101.0, 99.0), bar(6, 97.0, 103.0, 99.0)]) == [95.0, 97.0, 103.0]
    assert placed_in(placed) == {"forming": [5 * 3_600_000, 96.0, 101.0]}


@pytest.mark.parametrize(
    ("low", "since", "fires"),
    [(94.0, 96.0, True), (94.0, 94.0, False), (96.0, 97.0, False)],
    ids=["a new low meets it", "the low is older than the order", "nothing meets it"],
)
@pytest.mark.parametrize("killed", [None, 1, 3, 5, 7])
def test_a_process_that_comes_back_fires_what_was_met_meanwhile_and_once(
    path: Path, low: float, since: float, fires: bool, killed: int | None
) -> None:
    from tests.live.floor import Killed

    forming = bar(24, low, 101.0, 99.0)
    with Floor(path, account=HELD, changes=NO_STOPS) as floor:

        async def protect(at: Life) -> None:
            stop = at.intend("s", "sell", "10", "stop", stop_price="95", **GROUP)
            seen = placed_in(bar(24, since, 101.0, 98.0))
            told = {"at": at.time, "bid": None, "ask": None, "price": 98.0}
            journal.record(at.log, journal.ARRIVAL, client_order_id=stop.client_order_id, **told, **seen)
            await at.desk.place(stop)

        async def back(at: Life) -> None:
            await at.desk.resume()
            await at.desk.look_back(at.symbol, [bar(23, 90.0, 101.0, 100.0)], forming)

        floor.life(protect)
        try:
            floor.life(back, die_at=killed)
        except Killed:
            floor.life(back)
        assert floor.exchange.positions["BTC"] == (0.0 if fires else 10.0)
        assert len(floor.read(journal.TRIGGER)) == fires
        floor.assert_sound()


def test_an_entry_is_not_fired_for_a_price_that_came_while_nobody_was_there(path: Path) -> None:
    with Floor(path, changes=NO_STOPS) as floor:

        async def work(at: Life) -> None:
            entry = at.intend("e", "buy", "1", "stop", stop_price="105")
            told = {"at": at.time, "bid": None, "ask": None, "price": 98.0, **placed_in(bar(24, 99.0, 101.0, 98.0))}
            journal.record(at.log, journal.ARRIVAL, client_order_id=entry.client_order_id, **told)
            await at.desk.place(entry)
            assert await at.desk.look_back(at.symbol, [], bar(24, 99.0, 110.0, 106.0)) == []

        floor.life(work)
        assert floor.exchange.orders == []


@pytest.mark.parametrize(("closed", "objection"), [(1, None), (2, "its bar has passed")])
def test_an_entry_that_fired_before_a_crash_is_sent_in_its_bar_or_not_at_all(
    closed: int, objection: str | None
) -> None:
    seen = 10 * 3_600_000
    fired = SimpleNamespace(body={"after": iso_time(seen)})
    courier: Any = object.__new__(Courier)
    courier._log = SimpleNamespace(get=lambda key: fired if key == "trigger:tl-1" else None)
    kept = [bar(10 + n, 99.0, 101.0, 100.0) for n in range(closed + 1)]
    courier._feed = SimpleNamespace(last=kept[-1], kept=SimpleNamespace(tail=lambda count: kept[-count:]))
    courier._wire = SimpleNamespace(blocked=tuple)
    courier._again = lambda order: SimpleNamespace(allowed=True)
    terms = {"price": None, "stop_price": Decimal(105), "group": None, "reason": "", "leg": "e"}
    intent: Any = SimpleNamespace(client_order_id="tl-1", kind="stop", side="buy", quantity=Decimal(1), reduces=False,
                                  time=iso_time(seen), **terms)  # fmt: skip
    assert courier.objection(intent) == objection


# Operators --------------------------------------------------------------------------------------------------------


def test_a_fleet_asks_for_the_choice_of_each_bundle_and_shows_what_it_holds(sealed: Sealed, tmp_path: Path) -> None:
    bars = market(3, COUNT, silent=0.0)
    bundle = bundle_of(sealed, bars, **POLICIES["stop"])

    def settings(url: str, chosen: bool) -> RunnerSettings:
        one = BundleSettings(path=sealed.bundle.path, share=1.0, emulate_exits=chosen)
        feed, off = FeedSettings(poll_seconds=0.0), ControlSettings(port=None)
        return RunnerSettings(venue=url, exchange="bitget", folder=tmp_path, bundles=(one,), control=off, feed=feed)

    with pytest.raises(RunnerError, match="stop_loss"):
        Fleet([bundle], settings("http://127.0.0.1:9", False))
    shown: list[Any] = []

    def look(*_: Any) -> None:
        shown.append((fleet.status().traders[0], fleet.orders()))

    with served_by(paper(bundle, bars), "bitget") as served:
        until = bars.index[GOLDEN + 30].isoformat()
        fleet = Fleet([bundle], settings(served.url, True), until=until, patience=HASTE, on_progress=look)
        asyncio.run(fleet.run())
    holding = [(status, orders) for status, orders in shown if status.held]
    assert holding
    status, ((order,)) = holding[0][0], holding[0][1]
    assert status.held[0].startswith("sell ")
    assert f"stop {order['stop_price']:g}" in status.held[0]
    assert (order["held_by"], status.open_orders) == ("runner", 0)
    assert _trader_values(status)["tradelib_held_orders"] == 1.0
    told = read(tmp_path / "operations.sqlite", journal.INCIDENT)
    assert [body["what"] for body in told] == ["emulated exits"]
    assert read(journal_path(tmp_path, bundle), journal.TRIGGER)
