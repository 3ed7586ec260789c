"""One parent order under its schedule: told of fills and of the market, it says what to place and what to cancel."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal
from typing import Any

from tradelib.bundle.trading.instructions import Instruction
from tradelib.errors import ParameterError, RunnerError
from tradelib.live.execution.children import (
    Action,
    MarketRules,
    MarketView,
    Place,
    Standing,
    Status,
    Work,
    noted,
)
from tradelib.live.execution.resting import Iceberg, PostOnly
from tradelib.live.execution.schedules import AsItIs, MarketableLimit, MarketOrder, Schedule
from tradelib.live.execution.slicing import POV, TWAP, VWAP
from tradelib.parameters import nearest

__all__ = ["SCHEDULES", "WORKED", "Ticket", "schedule_from_config"]

SCHEDULES: dict[str, type[Schedule]] = {
    kind.__name__: kind for kind in (MarketOrder, MarketableLimit, TWAP, VWAP, POV, Iceberg, PostOnly, AsItIs)
}
"""Name -> schedule, as configurations write it."""

WORKED = frozenset({"signal", "order", "scale_in"})
"""Reasons of instructions (`tradelib.backtest.book.REASONS`) that a schedule may spread over time."""


def schedule_from_config(config: Any) -> Schedule:
    """The schedule of `{"name": "TWAP", "params": {...}}`, or of its name alone; of nothing at all, a `MarketOrder`.

    Raises `ParameterError` for one that is unknown.
    """
    given: dict[str, Any] = {"name": config} if isinstance(config, str) else dict(config)
    name, params = given.pop("name", "MarketOrder"), given.pop("params", {})
    if name not in SCHEDULES or given:
        strange = f"has no field {min(given)!r}" if given else f"{name!r} is unknown{nearest(str(name), SCHEDULES)}"
        raise ParameterError(f"an execution schedule {strange}: give its name and its params")
    return SCHEDULES[name](**params)


class Ticket:
    """A parent order being worked.

    `actions(view)` says what to place and cancel, and takes it as done: write the children down, then send them.
    `on_fill` and `on_status` say what became of them. Whatever order the messages come in, children that are filled or
    may still fill never add up to more than the parent. The same messages give the same actions: it has no clock.
    """

    def __init__(self, schedule: Schedule, work: Work) -> None:
        self.schedule = schedule
        self.work = work
        self.stopped = ""

    @classmethod
    def open(cls, parent: Instruction, schedule: Schedule, rules: MarketRules, view: MarketView) -> Ticket:
        """A ticket for `parent` from this moment on. A parent that the schedule does not take goes out as it is.

        Only what the decision itself asks for is worked (`WORKED`). What protects a position goes at once: late
        protection is none.
        """
        worked = parent.group is None and parent.kind in schedule.takes and parent.reason in WORKED
        work = Work(
            leg=parent.leg,
            kind=parent.kind,
            side=parent.side,
            total=rules.lots(Decimal(repr(parent.quantity))),
            rules=rules,
            arrival=view,
            price=_on_tick(parent.price, parent, rules),
            stop_price=_on_tick(parent.stop_price, parent, rules),
            group=parent.group,
            reduces=parent.reduces,
        )
        return cls(schedule if worked else AsItIs(), work)

    def actions(self, view: MarketView) -> tuple[Action, ...]:
        """What to do now; placed children count as working from here on."""
        taken = self._wanted(view)
        for action in taken:
            if isinstance(action, Place):
                standing = Standing(action.child, view.time_ms)
                self.work = replace(self.work, standings=(*self.work.standings, standing))
            else:
                self._note(action.leg, status=Status.CANCELLING)
        return taken

    def on_fill(self, leg: str, trade_id: str, quantity: Decimal) -> bool:
        """Book a fill of `quantity` (unsigned); False if this trade was booked before.

        `RunnerError` where the venue fills more than was asked for.
        """
        standing = self._of(leg)
        if trade_id in standing.trades:
            return False
        traded = self._possible(standing, standing.traded + quantity)
        self._note(leg, traded=traded, trades=standing.trades | {trade_id}, **_whole(standing, traded))
        return True

    def on_status(self, leg: str, status: str, filled: Decimal | None = None) -> None:
        """The order desk's word on a child, and what the venue says is `filled` by now, if it says so.

        What has ended stays ended; a refused cancel makes it working again. An order that ends as "filled" is filled
        to the last lot, whether its trades are known yet or not.
        """
        standing, word = self._of(leg), Status.of(status)
        reported = standing.child.quantity if word is Status.FILLED else filled or standing.reported
        self._possible(standing, reported)
        self._note(leg, reported=max(standing.reported, reported), **({} if standing.ended else {"status": word}))

    def stop(self, reason: str) -> None:
        """Place nothing more and take back what rests: a newer decision, a halt, an order of the operator."""
        self.stopped = self.stopped or reason

    def wake_ms(self, view: MarketView) -> int | None:
        """When `actions` should be asked again at the latest (epoch ms); None: only when something happens."""
        ends = self.schedule.ends(self.work)
        moments = (*self.schedule.moments(self.work), *(() if ends is None else (ends,)))
        return None if self.done(view) else min((time for time in moments if time > view.time_ms), default=None)

    def done(self, view: MarketView) -> bool:
        """Nothing is out, and nothing more will be placed."""
        if self.work.alive or self._wanted(view):
            return False
        unsendable = not self.work.rules.sendable(self.work.rest, view.last)
        return bool(self.stopped) or self._given_up or unsendable or self.schedule.over(self.work, view)

    @property
    def unfilled(self) -> Decimal:
        """Base units of the parent that were not filled."""
        return self.work.total - self.work.filled

    def body(self) -> dict[str, Any]:
        """The opening as plain data, for the journal; with the children's it is all that `restore` needs."""
        work = self.work
        texts = {name: _text(getattr(work, name)) for name in ("total", "price", "stop_price")}
        plain = {name: getattr(work, name) for name in ("leg", "kind", "side", "group", "reduces")}
        rules = {name: _text(value) for name, value in vars(work.rules).items()}
        return {
            **plain,
            **texts,
            "rules": rules,
            "arrival": work.arrival.body(),
            "schedule": self.schedule.to_config(),
        }

    @classmethod
    def restore(cls, body: dict[str, Any], standings: Iterable[Standing] = ()) -> Ticket:
        """The ticket that `body` was written from, with its children so far, in the order of their numbers.

        `RunnerError` where a child is missing or belongs to another parent.
        """
        plain: dict[str, Any] = {name: body[name] for name in ("leg", "kind", "side", "group", "reduces")}
        price, stop = (None if body[name] is None else Decimal(body[name]) for name in ("price", "stop_price"))
        work = Work(
            **plain,
            price=price,
            stop_price=stop,
            total=Decimal(body["total"]),
            rules=MarketRules(**{name: Decimal(value) for name, value in body["rules"].items()}),
            arrival=MarketView.from_body(body["arrival"]),
            standings=tuple(standings),
        )
        for number, standing in enumerate(work.standings, start=1):
            if standing.child.leg != f"{work.leg}/{number}":
                raise RunnerError(f"child {number} of {work.leg!r} should not be {standing.child.leg!r}")
        return cls(schedule_from_config(body["schedule"]), work)

    @property
    def _given_up(self) -> bool:
        return self.schedule.gives_up(self.work)

    def _wanted(self, view: MarketView) -> tuple[Action, ...]:
        ends = self.schedule.ends(self.work)
        if self.stopped or self._given_up:
            return self.work.cancels()
        if ends is not None and view.time_ms >= ends:
            return self.schedule.finish(self.work, view)
        return self.schedule.step(self.work, view)

    def _of(self, leg: str) -> Standing:
        found = next((item for item in self.work.standings if item.child.leg == leg), None)
        if found is None:
            raise RunnerError(f"{self.work.leg!r} has no child {leg!r}")
        return found

    def _possible(self, standing: Standing, filled: Decimal) -> Decimal:
        if filled > standing.child.quantity:
            asked = standing.child.quantity
            raise RunnerError(f"the venue filled {filled} of {standing.child.leg}, which asks for {asked} only")
        return filled

    def _note(self, leg: str, **changes: Any) -> None:
        self.work = replace(self.work, standings=noted(self.work.standings, leg, **changes))


def _whole(standing: Standing, traded: Decimal) -> dict[str, Any]:
    return {"status": Status.FILLED} if traded == standing.child.quantity else {}


def _on_tick(price: float | None, parent: Instruction, rules: MarketRules) -> Decimal | None:
    return None if price is None else rules.limit(parent.side, Decimal(repr(price)))


def _text(value: Decimal | None) -> str | None:
    return None if value is None else format(value, "f")
