"""From what a caller gives (bars, targets, policies, terms) to a run of the machine, its result and its trial.

Every way to run a backtest (`engine`, `portfolio`, `orders`, `sweeps`) goes through here: a window, a cash amount or a
tape means the same in all of them.
"""

from __future__ import annotations

import functools
import hashlib
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from tradelib._jit import jit
from tradelib._memory import empty, shared
from tradelib.backtest import book, translate
from tradelib.backtest.book import Machine, Tape
from tradelib.backtest.boundary import as_numbers, as_table, is_number, shown
from tradelib.backtest.costs import Costs, Market
from tradelib.backtest.machine import make_tape, simulate
from tradelib.backtest.result import Result
from tradelib.backtest.trials import Trial, TrialLedger, family_of
from tradelib.data.panel import Panel, as_panel, nest
from tradelib.data.timeframes import parse_timeframe, utc_timestamp
from tradelib.errors import DataError, ParameterError
from tradelib.indicators.volatility import atr
from tradelib.risk.exits import Exits, ScaleIn
from tradelib.risk.limits import Limits
from tradelib.risk.past_risk import PastRisk, past_risk, past_table

__all__ = [
    "account",
    "atr_table",
    "build_tape",
    "check_cash",
    "count",
    "cut",
    "event_targets",
    "needed_atr",
    "setting_of",
    "trial_of",
]

_NANOSECONDS_PER_DAY = 86_400_000_000_000

# Where the account lives ----------------------------------------------------------------------------------------------


def cut(panel: Panel, start: Any, end: Any) -> tuple[Panel, int]:
    """Bars up to `end`, and the row at which the account starts.

    Raises `ParameterError` for a `start` later than `end`, `DataError` for a stretch without bars.
    """
    index = panel.index
    begin = index[0] if start is None else utc_timestamp(start, "start")
    last = index[-1] if end is None else utc_timestamp(end, "end", end=True)
    if start is not None and end is not None and begin > last:
        raise ParameterError(f"start {start} is later than end {end}: the account would end before it begins")
    first, stop = int(index.searchsorted(begin)), int(index.searchsorted(last, side="right"))
    if first >= stop:
        since = "the first bar" if start is None else f"start {start}"
        until = "the last bar" if end is None else f"end {end}"
        raise DataError(
            f"no bar lies between {since} and {until}: nothing to trade; the bars run from {index[0]} to {index[-1]}"
        )
    return panel if stop == len(panel) else panel.window(None, last), first


def check_cash(cash: Any) -> float:
    """`cash` as a positive finite float, or `ParameterError`."""
    if not (is_number(cash) and cash > 0):
        raise ParameterError(f"cash must be a positive amount; got {shown(cash)}")
    return float(cash)


# The market as the machine sees it ------------------------------------------------------------------------------------


def build_tape(
    panel: Panel, *, limits: Limits | None = None, atr_window: int | None = None, finer: Any = None, funding: Any = None
) -> Tape:
    """Prices of `panel` and what the policies need besides: finer bars, funding and the ATR only where asked for."""
    more: dict[str, np.ndarray] = {}
    if atr_window is not None:
        more["atr"] = atr_table(panel, atr_window)
    if limits is not None and (limits.needs_days or limits.past.bars > 1):
        days = panel.index.asi8 // _NANOSECONDS_PER_DAY if limits.needs_days else None
        more["past"] = past_table(past_rows(panel, limits), days, len(panel))
    if funding is not None:
        rates = translate.funding_rates(funding, panel.index, panel.symbols)
        more["funding_open"], more["funding_inside"] = rates
    if finer is not None:
        more |= _finer_bars(panel, as_panel(finer))
    return make_tape(panel.open, panel.high, panel.low, panel.close, panel.volume, **more)


def past_rows(panel: Panel, limits: Limits) -> PastRisk:
    """What `limits` need to know of the past at each close of `panel`."""
    step = parse_timeframe(panel.timeframe).nanoseconds
    return past_risk(panel.close, panel.index.asi8, step, panel.periods_per_year, limits.past)


def _finer_bars(panel: Panel, finer: Panel) -> dict[str, np.ndarray]:
    finer = finer if finer.symbols == panel.symbols else finer.select(panel.symbols)
    first = nest(panel, finer)
    return {"fine_first": first, **_whole_bars(panel, finer, first)}


def _whole_bars(panel: Panel, finer: Panel, first: np.ndarray) -> dict[str, np.ndarray]:
    """Prices of the finer bars; where those of a bar do not make up the bar, it stands in the place of the first one.

    Some of them are missing then, or come from another source: what they leave out must not switch a stop off. The
    others of that bar have its open, for what is valued there, and no high or low, so that nothing acts on them.
    """
    prices = {name: getattr(finer, name) for name in ("open", "high", "low", "close")}
    bars = np.flatnonzero(np.diff(first))
    begin, end = first[bars], first[bars + 1]
    high = np.maximum.reduceat(prices["high"][: first[-1]], begin)
    low = np.minimum.reduceat(prices["low"][: first[-1]], begin)
    made = {"open": prices["open"][begin], "high": high, "low": low, "close": prices["close"][end - 1]}
    whole = np.ones(high.shape, bool)
    for name, values in made.items():
        told = getattr(panel, name)[bars]
        whole &= np.abs(values - told) <= 1e-9 * told
    if not whole.all():
        prices = {name: values.copy() for name, values in prices.items()}
    for i, a in np.argwhere(~whole):
        rows, t = slice(begin[i] + 1, end[i]), bars[i]
        prices["open"][rows, a] = panel.open[t, a]
        prices["high"][rows, a] = prices["low"][rows, a] = prices["close"][rows, a] = np.nan
        for name, values in prices.items():
            values[begin[i], a] = getattr(panel, name)[t, a]
    return {f"fine_{name}": values for name, values in prices.items()}


def needed_atr(exits: Exits | None, scale_in: ScaleIn | None = None) -> int | None:
    """Window of the ATR that a policy measures distances in; None where none does."""
    used = [*(exits.distances if exits else ()), *([scale_in.step] if scale_in else ())]
    if not any(distance.unit == "atr" for distance in used):
        return None
    return exits.atr_window if exits is not None else 14


def atr_table(panel: Panel, window: int) -> np.ndarray:
    """Average true range per symbol, `(n, a)`, known at each close; NaN while it warms up."""
    prices = [np.ascontiguousarray(values.T) for values in (panel.high, panel.low, panel.close)]
    return np.column_stack([atr(high, low, close, window) for high, low, close in zip(*prices, strict=True)])


# The run --------------------------------------------------------------------------------------------------------------


def account(
    panel: Panel,
    first: int,
    targets: np.ndarray | None,
    *,
    costs: Costs | None,
    market: Market | None,
    cash: float,
    exits: Exits | None = None,
    scale_in: ScaleIn | None = None,
    limits: Limits | None = None,
    band: float | None = 0.0,
    in_units: bool = False,
    events: bool = False,
    script: np.ndarray | None = None,
    policies: np.ndarray | None = None,
    atr_window: int | None = None,
    finer: Any = None,
    funding: Any = None,
    **more: Any,
) -> Result:
    """The machine, wired: from a checked panel, targets `(n, a)` and policies to a `Result` (`more`: its fields).

    `band`: drift of a weight tolerated before trading, None where drift is never traded. `in_units`: targets are units
    of the asset, not weights. `events`: each of them is asked for anew, whatever was before. `script`, `policies`:
    explicit orders, and what protects each of them. Raises `ParameterError` for two windows of the ATR.
    """
    costs, market, cash = costs or Costs(), market or Market(), check_cash(cash)
    rules = translate.account_rules(costs, market, limits, band, panel.periods_per_year)
    rules[book.IN_UNITS], rules[book.EVENTS] = float(in_units), float(events)
    table = translate.policy_table(panel.symbols, exits, scale_in, limits)
    table = table if policies is None else np.vstack([table, policies])
    machine = _new_machine(panel, first, costs, market, cash, rules, table)
    own = needed_atr(exits, scale_in)
    if own is not None and atr_window is not None and own != atr_window:
        raise ParameterError(
            f"the orders measure distances in ATRs of {atr_window} bars, exits_policy in ATRs of {own}: use one window"
        )
    atr_window = atr_window if own is None else own
    tape = build_tape(panel, limits=limits, atr_window=atr_window, finer=finer, funding=funding)
    simulation = simulate(machine, tape, targets, script=script, first=first)
    told = {"costs": costs, "market": market, "initial_cash": cash, "panel": panel, "first": first}
    return Result(**{"rule": None, **told, "simulation": simulation, "targets": targets, **more})


def _new_machine(
    panel: Panel, first: int, costs: Costs, market: Market, cash: float, rules: np.ndarray, policies: np.ndarray
) -> Machine:
    return book.empty_machine(
        len(panel.symbols),
        len(panel),
        cash=cash,
        first=first,
        terms=translate.trading_terms(costs, market, len(panel.symbols), panel.periods_per_year),
        rules=rules,
        policies=policies,
        tiers=translate.fee_tiers(costs),
    )


# The trial ------------------------------------------------------------------------------------------------------------


def trial_of(result: Result, data_digest: str | None = None) -> Trial:
    """The ledger's record of a result; `data_digest` spares computing it where it is known."""
    panel, index, sharpe = result.panel, result.index, result.performance["sharpe_ratio_per_period"]
    name = result.name if result.rule is None else type(result.rule.strategy).__name__
    return Trial(
        family=family_of(name, "+".join(panel.symbols), panel.timeframe),
        rule=_inputs(result) if result.rule is None else result.rule.to_config(),
        setting=setting_of(result.costs, result.market, result.initial_cash, panel.calendar),
        data_digest=data_digest or panel.digest,
        window=(index[0].isoformat(), index[-1].isoformat()),
        observations=len(index),
        sharpe=sharpe if math.isfinite(sharpe) else None,
    )


def setting_of(costs: Costs, market: Market, cash: float, calendar: str) -> dict[str, Any]:
    """What a trial was run under: terms of costs and market, cash, calendar."""
    setting = costs.model_dump(mode="json") | market.model_dump(mode="json")
    return setting | {"cash": cash, "calendar": calendar}


def _inputs(result: Result) -> dict[str, Any]:
    """What identifies a run without a rule: its name, and what became of its orders.

    Between fills and entries of the cash book equity follows from the bars, whose digest the trial has.
    """
    simulation, content = result.simulation, hashlib.sha256()
    traded = simulation.fills.take([book.FILL_AT, book.FILL_ASSET, book.FILL_QUANTITY, book.FILL_PRICE], axis=1)
    for table in (traded, simulation.entries, simulation.equity[-1:]):
        content.update(np.ascontiguousarray(table).data)
    return {"name": result.name, "digest": content.hexdigest()}


def count(result: Result, ledger: TrialLedger | None) -> Result:
    """Record `result` as a trial and hand it back."""
    result.prepare()
    (ledger or TrialLedger()).record([trial_of(result)])
    return result


# Events ---------------------------------------------------------------------------------------------------------------


def event_targets(
    panel: Panel, entries: Any, exits: Any, short_entries: Any, short_exits: Any, size: Any, maximum: float
) -> np.ndarray:
    """Targets `(n, a)` from events: +size and -size where a side begins, 0 where it ends, NaN (no opinion) elsewhere.

    Raises `ParameterError` for another shape, index or type, a bar that asks for both, and a size beyond `maximum`.
    """
    given = {"entries": entries, "exits": exits, "short_entries": short_entries, "short_exits": short_exits}
    enter, leave, enter_short, leave_short = (_events(value, panel, name) for name, value in given.items())
    _refuse_both(panel, enter, leave, "enters and exits long")
    _refuse_both(panel, enter_short, leave_short, "enters and exits short")
    _refuse_both(panel, enter, enter_short, "enters both ways")
    targets = empty(*panel.shape)
    targets.fill(math.nan)
    told = [events for events in (enter, leave, enter_short, leave_short) if events is not _NEVER]
    asked = np.flatnonzero(functools.reduce(np.logical_or, told) if told else _NEVER)
    sizes = _sizes(size, panel, maximum)
    _write_targets(asked, enter, leave, enter_short, leave_short, sizes, targets)
    return targets


@jit(nogil=True)
def _write_targets(
    asked: np.ndarray,
    enter: np.ndarray,
    leave: np.ndarray,
    enter_short: np.ndarray,
    leave_short: np.ndarray,
    size: np.ndarray,
    targets: np.ndarray,
) -> None:
    """`asked`: places of the events, row by row, `(k,)`. The other tables: `(n, a)`, or `(1, 1)` for all places."""
    sides = np.zeros(targets.shape[1])
    for k in range(asked.shape[0]):
        t, a = asked[k] // targets.shape[1], asked[k] % targets.shape[1]
        if _at(enter, t, a):
            sides[a] = 1.0
            targets[t, a] = _at(size, t, a)
        elif _at(enter_short, t, a):
            sides[a] = -1.0
            targets[t, a] = -_at(size, t, a)
        elif (sides[a] > 0.0 and _at(leave, t, a)) or (sides[a] < 0.0 and _at(leave_short, t, a)):
            sides[a] = 0.0
            targets[t, a] = 0.0


@jit(_nrt=False, forceinline=True)
def _at(table: np.ndarray, t: int, a: int) -> float:
    """The value for bar `t` and symbol `a`, out of one for all where there is no more."""
    return table[t % table.shape[0], a % table.shape[1]]


_NEVER = shared(np.zeros((1, 1), np.bool_))


def _events(given: Any, panel: Panel, name: str) -> npt.NDArray[np.bool_]:
    """`given` as bool `(n, a)`, `_NEVER` for none; `ParameterError` for another shape, other values or index."""
    if given is None or given is False:
        return _NEVER
    given = as_table(given, panel, name, "with False where nothing is asked for")
    try:
        values = np.asarray(given)
    except ValueError as error:
        raise ParameterError(f"{name} must hold as many values on every bar: {error}") from None
    if values.ndim == 0:
        raise ParameterError(f"{name} is {shown(given)}: give true or false for each bar and symbol {panel.shape}")
    table = values[:, None] if values.ndim == 1 and len(panel.symbols) == 1 else values
    if table.shape != panel.shape:
        raise ParameterError(f"{name} has the shape {values.shape}, the bars have {panel.shape}")
    if table.dtype != np.bool_:
        raise ParameterError(f"{name} must be true or false, not {table.dtype}: compare first, for example values > 0")
    return shared(table)


def _refuse_both(panel: Panel, one: np.ndarray, other: np.ndarray, told: str) -> None:
    if one is _NEVER or other is _NEVER:
        return
    both = one & other
    if both.any():
        t, a = np.argwhere(both)[0]
        raise ParameterError(f"{panel.symbols[a]} {told} at {panel.index[t]}: a bar can do only one of it")


def _sizes(size: Any, panel: Panel, maximum: float) -> npt.NDArray[np.float64]:
    """Fractions of equity, `(1, 1)` or `(n, a)`, positive and within the leverage."""
    if size is None or isinstance(size, bool | np.bool_):
        raise ParameterError(f"size is {size}: give a fraction of equity, 0.5 is a half")
    values = as_numbers(as_table(size, panel, "size", "with a size on every bar"), "size")
    values = values.reshape(1, 1) if values.ndim == 0 else (values[:, None] if values.ndim == 1 else values)
    if values.shape not in ((1, 1), panel.shape):
        raise ParameterError(
            f"size has the shape {values.shape}: give a number, or one per bar and symbol {panel.shape}"
        )
    bad = ~((values > 0.0) & (values <= maximum))
    if bad.any():
        t, a = np.argwhere(bad)[0]
        where = "" if values.shape == (1, 1) else f" at {panel.index[t]} of {panel.symbols[a]}"
        raise ParameterError(
            f"size is {values[t, a]:g}{where}: give a positive fraction of equity up to the maximum_leverage "
            f"of {maximum:g}; short_entries sell short"
        )
    return shared(values)
