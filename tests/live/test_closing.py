"""Getting out: halts that withdraw, positions that are closed until they are, ends that name who is not done."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.live.support import GOLDEN, HASTE, Sealed, read, seal, synthetic_bars, venue
from tests.live.test_fleet import LAST, SYMBOLS, exchange, research, settings, steered, trade
from tradelib.errors import LedgerError, ParameterError, RunnerError
from tradelib.ledger import journal, open_journal
from tradelib.live.admission import account_lock
from tradelib.live.closing import Closing
from tradelib.live.control import ControlServer
from tradelib.live.fleet import Fleet
from tradelib.live.journals import journal_path
from tradelib.live.latch import Latch, Level, Scope
from tradelib.live.operations import Operations
from tradelib.live.patience import Insistence
from tradelib.live.runner import Runner
from tradelib.live.settings import RunnerSettings, ShutdownSettings
from tradelib.live.supervisor import Seat, Supervisor
from tradelib.live.trader import Trader
from tradelib.live.watchdog import HEARTBEAT, Watchdog
from tradelib.risk import Limits

ACCOUNT = Scope("account")


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> list[Sealed]:
    return [seal(tmp_path_factory.mktemp(s[:3]), synthetic_bars(seed=n, symbol=s)) for n, s in enumerate(SYMBOLS, 3)]


# A desk and traders that only let themselves be closed ----------------------------------------------------------------


class Order:
    def __init__(self, name: str, reduces: bool) -> None:
        self.id, self.held = name, False
        self.intent = SimpleNamespace(reduces=reduces)


class Desk:
    def __init__(self, *orders: Order) -> None:
        self.orders = list(orders)

    def working(self, _: str | None = None) -> list[Order]:
        return list(self.orders)


class Quitter:
    """A trader: `fails` counts the attempts that go wrong."""

    def __init__(self, symbol: str, *orders: Order, fails: int = 0, hangs: bool = False, started: bool = True) -> None:
        self.symbol, self.bundle, self.started = symbol, SimpleNamespace(name="trend"), started
        self.name, self.worked = f"trend {symbol}", False
        self.desk, self.fails, self.hangs = Desk(*orders), fails, hangs
        self.purse = SimpleNamespace(position=2.0)
        self.asked: list[str] = []

    async def withdraw_entries(self, reason: str) -> int:
        self.asked.append(reason)
        self._fail()
        self.desk.orders = [order for order in self.desk.orders if order.intent.reduces]
        return 1

    async def wind_down(self, policy: str, reason: str) -> list[Any]:
        self.asked.append(f"{policy}: {reason}")
        if self.hangs:
            await asyncio.Event().wait()
        self._fail()
        return [SimpleNamespace(client_order_id="tl-1", state=SimpleNamespace(value="filled"))]

    def _fail(self) -> None:
        self.fails -= 1
        if self.fails >= 0:
            raise RunnerError("order tl-7 is unknown")


class House:
    """Closing over such traders, with a real journal of operations; no time passes where it pauses."""

    def __init__(self, folder: Path, *traders: Quitter) -> None:
        self.told: list[tuple[str, str]] = []
        self._opened = Operations.open(
            RunnerSettings(venue="http://127.0.0.1:1", folder=folder, bundles=[{"path": "a"}]), {}
        )
        self.operations = self._opened.__enter__()
        self.traders = traders
        self.cancelled: list[str] = []
        logs = [open_journal(folder / f"{number}.sqlite") for number, _ in enumerate(traders)]
        self.seats: list[Any] = [
            SimpleNamespace(trader=one, name=one.name, failure=None, log=log)
            for one, log in zip(traders, logs, strict=True)
        ]

        async def pause(_: float) -> None:
            await asyncio.sleep(0)

        async def cancel(_: Any, __: str, name: str) -> None:
            self.cancelled.append(name)

        wire: Any = SimpleNamespace(
            insistence=Insistence(HASTE, sleep=pause), client=None, dialect=SimpleNamespace(cancel=cancel)
        )
        self.closing = Closing(self.operations, self.seats, wire, lambda what, told: self.told.append((what, told)))

    def __enter__(self) -> House:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.__exit__(None, None, None)

    def flattens(self) -> list[bool]:
        return [body["done"] for body in journal.bodies(self.operations.log, journal.FLATTEN)]


def test_a_halt_withdraws_everybodys_entries_even_where_the_first_fails(tmp_path: Path) -> None:
    a, b = Quitter("A/USDT", Order("a", False), fails=1), Quitter("B/USDT", Order("b", False), Order("stop", True))
    c = Quitter("C/USDT", Order("exit", True))
    with House(tmp_path, a, b, c) as house:
        halt = house.operations.latch.halt(ACCOUNT, "runner", "drawdown", cause="maximum_drawdown")
        asyncio.run(house.closing.enforce(halt))
        assert [order.id for order in b.desk.orders] == ["stop"]  # and what protects stays
        assert c.asked == []
        assert house.told == [
            ("entries rest", "trend A/USDT is halted and could not withdraw its entries: order tl-7 is unknown")
        ]
        asyncio.run(house.closing.enforce(halt))  # looked at again every second
    assert a.desk.orders == []


def test_halts_of_another_process_withdraw_too(tmp_path: Path) -> None:
    entry = Quitter("A/USDT", Order("a", False))
    with House(tmp_path, entry) as house:
        with open_journal(house.operations.settings.operations_path) as other:
            Latch(other).halt(Scope("symbol", "A/USDT"), "anna@shell", "by hand")

        async def work() -> None:
            keeping = asyncio.create_task(house.closing.keep())
            while entry.desk.orders:
                await asyncio.sleep(0)
            keeping.cancel()

        asyncio.run(asyncio.wait_for(work(), 10.0))
    assert entry.asked == ["halted by anna@shell: by hand"]


@pytest.mark.parametrize("scope", ["symbol:BTC/EUR", "bundle:trnd"])
def test_a_scope_that_covers_nobody_is_refused(tmp_path: Path, scope: str) -> None:
    with (
        House(tmp_path, Quitter("A/USDT")) as house,
        pytest.raises(RunnerError, match=f"{scope} covers nobody here, nothing was done; traded are bundle:trend"),
    ):
        house.closing.covered(Scope.parse(scope))


def test_a_flatten_that_fails_is_repeated_until_it_is_done(tmp_path: Path) -> None:
    stubborn, easy = Quitter("A/USDT", fails=3), Quitter("B/USDT")
    with House(tmp_path, stubborn, easy) as house:

        async def work() -> Any:
            outcome = await house.closing.flatten(ACCOUNT, "drawdown")
            while house.closing._flattening:
                await asyncio.sleep(0)
            return outcome

        outcome = asyncio.run(work())
        assert outcome.sent == {"trend B/USDT": ["tl-1 filled"]}
        assert outcome.left == {"trend A/USDT": "order tl-7 is unknown"}
        assert len(stubborn.asked) == 4
        assert house.flattens() == [False, True]
    assert [what for what, _ in house.told] == ["not flat", "flat"]


def test_a_flatten_that_goes_on_failing_calls_people(tmp_path: Path, caplog: Any) -> None:
    with House(tmp_path, Quitter("A/USDT", fails=20)) as house:

        async def work() -> None:
            await house.closing.flatten(ACCOUNT, "drawdown")
            while house.closing._flattening:
                await asyncio.sleep(0)

        asyncio.run(work())
    assert "trend A/USDT is not flat after 5 attempts, close it by hand: order tl-7 is unknown" in caplog.text


def test_a_flatten_that_a_crash_cut_off_goes_on_at_the_next_start_unless_it_was_armed(tmp_path: Path) -> None:
    stubborn = Quitter("A/USDT")
    with House(tmp_path, stubborn) as house:
        house.closing.flatten(ACCOUNT, "drawdown").close()  # type: ignore[attr-defined]  # killed before it began
    with House(tmp_path, stubborn) as house:

        async def work() -> None:
            house.closing.resume()
            while house.closing._flattening:
                await asyncio.sleep(0)

        asyncio.run(work())
        assert stubborn.asked == ["flatten: drawdown"]
        assert house.flattens() == [False, True]

        async def armed() -> None:
            stubborn.fails = 1_000_000
            await house.closing.flatten(ACCOUNT, "again")
            house.closing.forget(ACCOUNT, "armed by bob: looked")

        asyncio.run(armed())
        assert house.flattens() == [False, True, False, True]


def test_who_did_not_start_is_named_unless_its_journal_is_empty(tmp_path: Path) -> None:
    fresh, opened = Quitter("A/USDT", started=False), Quitter("B/USDT", started=False)
    with House(tmp_path, fresh, opened) as house:
        intent = {"time": "t", "client_order_id": "tl-9", "symbol": "B/USDT", "side": "buy", "quantity": "2"}
        journal.record(house.seats[1].log, journal.INTENT, **intent)

        async def work() -> Any:
            outcome = await house.closing.flatten(ACCOUNT, "enough")
            await house.closing.end()
            return outcome

        outcome = asyncio.run(work())
    assert outcome.sent == {"trend A/USDT": []}
    assert outcome.left == {
        "trend B/USDT": "it has not started: by its journal it holds 0 and these orders are open: tl-9"
    }


def test_an_end_names_who_is_not_done_within_the_deadline_and_who_failed(tmp_path: Path) -> None:
    hangs, fails, fine = Quitter("A/USDT", hangs=True), Quitter("B/USDT", fails=1), Quitter("C/USDT")
    with House(tmp_path, hangs, fails, fine) as house:
        house.seats[1].failure = RunnerError("it had ended before")
        outcome = asyncio.run(house.closing.wind_down("cancel", "shutdown: SIGTERM", 0.05))
    assert outcome.left == {
        "trend A/USDT": "not done within 0.05 s; the next start asks what became of it",
        "trend B/USDT": "order tl-7 is unknown",
    }
    assert list(outcome.sent) == ["trend C/USDT"]
    assert [told for _, told in house.told] == [f"{name}: cancel failed: {why}" for name, why in outcome.left.items()]


def test_without_a_journal_orders_are_cancelled_all_the_same_and_the_position_is_named(tmp_path: Path) -> None:
    full = Quitter("A/USDT", Order("tl-1", False), Order("tl-2", True), fails=1)
    with House(tmp_path, full) as house:
        house.seats[0].failure = LedgerError("the disk is full")
        asyncio.run(house.closing.after_end_of(house.seats[0], "keep"))
        assert house.cancelled == []
        asyncio.run(house.closing.after_end_of(house.seats[0], "cancel"))
    assert house.cancelled == ["tl-1", "tl-2"]
    ((_, told),) = house.told
    assert "trend A/USDT ends without a journal" in told
    assert "its position of 2 stays" in told


@pytest.mark.parametrize("unknown_sells", [True, False])
def test_one_order_of_unknown_outcome_keeps_no_other_from_being_cancelled_and_is_named(
    unknown_sells: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What may have sold the position is not sold again; what may have bought more does not keep it from that."""

    class Working(Order):
        def __init__(self, name: str, state: str, reduces: bool) -> None:
            super().__init__(name, reduces)
            self.state = SimpleNamespace(value=state)
            self.report = SimpleNamespace(client_order_id=name, state=self.state, is_final=False)

    lost, resting = Working("tl-lost", "unknown", unknown_sells), Working("tl-rests", "open", False)
    desk: Any = Desk(lost, resting)
    sold: list[str] = []

    async def cancel(name: str, _: str) -> None:
        if name == lost.id:
            raise RunnerError("the venue does not tell what became of tl-lost")
        desk.orders.remove(resting)
        resting.report.is_final = True

    async def look() -> None:
        raise RunnerError("the venue does not tell what became of tl-lost")

    async def nothing(*_: object) -> None:
        return None

    async def execute(intent: Any) -> Any:
        sold.append(intent)
        return SimpleNamespace(client_order_id="tl-sale", is_final=True)

    made: Any = object.__new__(Trader)
    made.symbol, made.started, made._turn, made.desk = "BTC/USDT", True, asyncio.Lock(), desk
    made.log, made.feed = SimpleNamespace(count=lambda _: 7), SimpleNamespace(last=SimpleNamespace(time="t"))
    made.book, made.bundle = (
        SimpleNamespace(account=(0.0, 2.0)),
        SimpleNamespace(execution=SimpleNamespace(lots_per_unit=1.0)),
    )
    made.sight = SimpleNamespace(known=lambda: None)
    made._cut_off = made._complete = made._write_down = nothing
    made._look, made._book_quietly, made._lots = look, lambda: None, lambda quantity: quantity
    made._intent, made._execute, desk.cancel = lambda order: order, execute, cancel
    import tradelib.live.trader as module

    monkeypatch.setattr(module, "Drafts", lambda: SimpleNamespace(send=lambda *_: None))
    with pytest.raises(RunnerError) as left:
        asyncio.run(made.wind_down("flatten", "drawdown"))

    assert desk.orders == [lost]
    assert "the venue does not tell what became of tl-lost; order tl-lost is unknown" in str(left.value)
    assert bool(sold) != unknown_sells


# The supervisor -------------------------------------------------------------------------------------------------------


class Full:
    async def write(self, *_: object, **__: object) -> None:
        raise LedgerError("the disk is full and nothing was written")


class Stub:
    """A trader for the supervisor alone."""

    started, over, ended = True, False, ""

    def __init__(self, name: str, fails: bool = False) -> None:
        self.name, self.fails, self.polls, self.due = name, fails, 0, fails  # who fails is due

    async def decide(self) -> None:
        raise LedgerError("the disk is full and nothing was written")

    async def poll(self) -> bool:
        self.polls += 1
        await asyncio.sleep(0)
        return True


@pytest.mark.parametrize("way", ["freely", "rounds"])
def test_a_full_disk_ends_that_trader_and_the_others_go_on(way: str, caplog: Any) -> None:
    async def work() -> tuple[list[Any], list[str]]:
        stopping, good, ended = asyncio.Event(), Stub("good"), []
        seats: list[Any] = [Seat(lambda: Stub("bad", fails=True), Full()), Seat(lambda: good, Full())]  # type: ignore[arg-type, return-value]

        async def on_end(seat: Any) -> None:
            ended.append(seat.name)

        supervisor = Supervisor(seats, Insistence(HASTE), stopping, on_end=on_end)
        running = asyncio.create_task(getattr(supervisor, way)())
        while good.polls < 50:
            await asyncio.sleep(0)
        stopping.set()
        await running
        return seats, ended

    seats, ended = asyncio.run(asyncio.wait_for(work(), 10.0))

    assert isinstance(seats[0].failure, LedgerError)
    assert seats[1].failure is None
    assert ended == ["bad"]
    assert "bad is halted: " in caplog.text


def test_a_trader_that_waits_for_a_long_bar_shows_life_all_the_while(monkeypatch: Any) -> None:
    """The pace waits for an hour, as that of an hourly bar does; who looks meanwhile is heard."""
    from tradelib.live import trader as module

    monkeypatch.setattr(module, "_LOOK", 0.0)
    now = [0.0]
    ages: list[float] = []
    dog = Watchdog(clock=lambda: now[0])
    made: Any = object.__new__(Trader)
    made.symbol, made._idle, made.ended, made.started, made._told = "BTC/USDT", 1, "", True, deque()
    made.bundle, made.worked, made._heard = SimpleNamespace(name="trend"), False, asyncio.Event()
    made.wire, made.desk = SimpleNamespace(mode="live"), SimpleNamespace(working=lambda _=None: [])
    made.feed, made.until = SimpleNamespace(last=SimpleNamespace(milliseconds=0)), 1e18
    made._decided = 0

    class HourlyPace:
        async def wait(self, *_: object) -> None:
            for _minute in range(60):
                ages.append(dog.slowest)
                now[0] += HEARTBEAT - 1.0
                for _turn in range(20):
                    await asyncio.sleep(0)

    async def nothing() -> bool:
        return False

    made.pace, made.poll = HourlyPace(), nothing
    seat: Any = SimpleNamespace(trader=made, name="trend BTC/USDT", failure=None, busy=True, restarts=0)

    async def work() -> None:
        supervisor = Supervisor([seat], Insistence(HASTE), asyncio.Event(), watchdog=dog)
        await supervisor.guarded(seat, supervisor._turn)

    asyncio.run(work())

    assert now[0] > 3_500.0
    assert max(ages) < HEARTBEAT


def test_a_trader_that_hangs_is_seen_to() -> None:
    now = [0.0]
    dog = Watchdog(clock=lambda: now[0])
    dog.hear("trend BTC/USDT")
    now[0] += HEARTBEAT + 1.0

    runner: Any = SimpleNamespace(status=lambda: SimpleNamespace(heartbeat=dog.slowest, phase="running"))
    assert not ControlServer._is_alive(SimpleNamespace(runner=runner))  # type: ignore[arg-type]


def test_a_question_that_is_repeated_shows_life_each_time() -> None:
    now = [0.0]
    ages: list[float] = []
    dog = Watchdog(clock=lambda: now[0])

    async def question() -> None:
        ages.append(dog.slowest)
        now[0] += 40.0
        raise ConnectionError

    async def sleep(_: float) -> None:
        return None

    async def work(_: Any) -> bool:
        await Insistence(HASTE, sleep=sleep).insist(question, "bars")
        return True

    seat: Any = SimpleNamespace(name="x", restarts=0, log=Full(), failure=None)
    supervisor = Supervisor([seat], Insistence(HASTE), asyncio.Event(), watchdog=dog)
    asyncio.run(supervisor.guarded(seat, work))

    assert len(ages) == HASTE.attempts
    assert max(ages) == 0.0


# With a venue ---------------------------------------------------------------------------------------------------------


@pytest.mark.integration
def test_the_same_tape_restarted_at_every_bar_trips_at_the_same_bar(three: list[Sealed], tmp_path: Path) -> None:
    def run(folder: Path, stops: Any) -> list[str]:
        with venue(exchange(three)) as served:
            for stop in stops:
                limits = Limits(maximum_drawdown=0.01)
                trade(three, settings(three, folder, served.url, (0.3, 0.3, 0.3), limits=limits), stop)
        return [body["reason"] for body in read(folder / "operations.sqlite", journal.LATCH)]

    whole = run(tmp_path / "whole", [GOLDEN + 20])
    parts = run(tmp_path / "parts", range(GOLDEN, GOLDEN + 21))

    assert len(whole) == 1
    assert parts == whole
    measured = [read(tmp_path / name / "operations.sqlite", journal.LIMITS) for name in ("whole", "parts")]
    assert [body["time"] for body in measured[0]] == [body["time"] for body in measured[1]]


@pytest.mark.integration
def test_an_operator_s_scope_that_covers_nobody_halts_nothing(three: list[Sealed], tmp_path: Path) -> None:
    said: list[str] = []

    async def halt(fleet: Fleet) -> None:
        for act in (
            fleet.halt(Scope("symbol", "BTC/EUR"), "anna", "x", Level.STOP),
            fleet.flatten(Scope("bundle", "x"), "anna", "x"),
        ):
            try:
                await act
            except RunnerError as error:
                said.append(str(error))

    with venue(exchange(three)) as served:
        steered(three, settings(three, tmp_path, served.url, (0.3, 0.3, 0.3)), 10, halt, GOLDEN + 5)
    assert [one.partition(" here")[0] for one in said] == ["symbol:BTC/EUR covers nobody", "bundle:x covers nobody"]
    assert read(tmp_path / "operations.sqlite", journal.LATCH) == []


@pytest.mark.integration
def test_a_shutdown_between_decision_and_delivery_keeps_nobody_waiting(
    three: list[Sealed], tmp_path: Path, monkeypatch: Any
) -> None:
    """The decided bar is never delivered; the policy has its turn all the same."""
    real = Trader.deliver
    hung: list[Trader] = []

    async def hang(self: Trader) -> None:
        if self._to_deliver is not None and self._to_deliver[1] and self.symbol == SYMBOLS[0] and not hung:
            hung.append(self)
            fleet.end("SIGTERM")
            await asyncio.Event().wait()
        await real(self)

    monkeypatch.setattr(Trader, "deliver", hang)
    with venue(exchange(three)) as served:
        shutdown = ShutdownSettings(policy="cancel", seconds=2.0)
        told = settings(three, tmp_path, served.url, (0.3, 0.3, 0.3), shutdown=shutdown)
        fleet = Fleet([one.bundle for one in three], told, patience=HASTE)
        begun = time.monotonic()
        asyncio.run(fleet.run())
    assert hung
    assert time.monotonic() - begun < 60.0
    incidents = [body["detail"] for body in read(tmp_path / "operations.sqlite", journal.INCIDENT)]
    assert not any("not done within" in detail for detail in incidents)


@pytest.mark.integration
def test_each_at_its_own_pace_on_the_polled_venue_is_what_research_says(three: list[Sealed], tmp_path: Path) -> None:
    """The scheduler of live trading on paper: one trader decides alone when time passes, so that nothing is missed."""
    one = three[:1]
    with venue(exchange(one)) as served:
        told = settings(one, tmp_path, served.url, (1.0,), limits=Limits(maximum_drawdown=0.9))
        told = told.replace(feed=told.feed.replace(turns="free"))
        summary = trade(one, told)
    assert summary.halted == {}
    equities = [row["equity"] for row in read(journal_path(tmp_path, one[0].bundle), journal.EQUITY)]
    assert equities[1:] == research(one[0], 100_000.0).tolist()
    assert len(read(tmp_path / "operations.sqlite", journal.LIMITS)) == len(equities)


@pytest.mark.integration
def test_several_at_their_own_pace_measure_every_bar_once_before_they_decide(
    three: list[Sealed], tmp_path: Path
) -> None:
    with venue(exchange(three)) as served:
        told = settings(three, tmp_path, served.url, (0.3, 0.3, 0.3), limits=Limits(maximum_drawdown=0.9))
        told = told.replace(feed=told.feed.replace(turns="free"))
        summary = trade(three, told)
    assert summary.halted == {}
    measured = [body["time"] for body in read(tmp_path / "operations.sqlite", journal.LIMITS)]
    assert measured == sorted(set(measured))
    assert measured[-1] == three[0].bars.index[LAST].isoformat()
    for sealed in three:
        decided = [body["time"] for body in read(journal_path(tmp_path, sealed.bundle), journal.DECISION)]
        assert set(decided) <= set(measured)


# No way around --------------------------------------------------------------------------------------------------------


def test_live_trading_of_one_bundle_goes_through_gate_latch_and_control(sealed: Sealed, tmp_path: Path) -> None:
    with pytest.raises(RunnerError, match="tradelib run --settings runner.toml --confirm-live"):
        Runner(sealed.bundle, venue_url=None, mode="live", journal_path=tmp_path / "j")


def test_one_key_at_one_venue_is_used_by_one_runner(monkeypatch: Any) -> None:
    here = "http://127.0.0.1:1"
    with account_lock(here, "binance"):
        with (
            pytest.raises(RunnerError, match="another runner on this machine trades with this key"),
            account_lock(here, "binance"),
        ):
            pass
        with account_lock("http://127.0.0.1:2", "binance"), account_lock(here, "kraken"):
            pass
        monkeypatch.setenv("TRADELIB_API_KEY", "another")
        with account_lock(here, "binance"):
            pass
    with account_lock(here, "binance"):
        pass


@pytest.mark.integration
def test_two_folders_with_one_key_do_not_trade_side_by_side(three: list[Sealed], tmp_path: Path) -> None:
    with (
        venue(exchange(three)) as served,
        account_lock(served.url, "binance"),
        pytest.raises(RunnerError, match="one account has one runner"),
    ):
        trade(three, settings(three, tmp_path, served.url, (0.3, 0.3, 0.3)))


def test_a_venue_with_a_password_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="secrets come from the environment") as refused:
        RunnerSettings(venue="http://anna:hunter2@127.0.0.1:1", folder=tmp_path, bundles=[{"path": "a"}])
    assert "hunter2" not in str(refused.value)
    assert not (tmp_path / "operations.sqlite").exists()
