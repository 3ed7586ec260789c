"""How decisions become orders, as research assumed it, and what a runner must be able to do to act the same way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from decimal import Decimal, DivisionByZero, Inexact, localcontext
from typing import Any

from tradelib.backtest.costs import Costs, FeeTier, Market
from tradelib.backtest.decision import DecisionRule
from tradelib.data.timeframes import parse_timeframe
from tradelib.errors import BundleError, ParameterError

__all__ = ["NEEDS", "PROVIDES", "Execution", "needs_of"]

NEEDS = {
    "exits": "protective orders of every position: stops, targets, time",
    "scale_in": "further entries into a position",
    "limits": "limits of risk of the account, which close positions and refuse entries",
    "maker_orders": "limit orders that rest until the market comes to them",
    "short": "positions below zero, of assets on loan",
    "leverage": "positions larger than the equity",
    "order_reduction": "an order too large for the account is made smaller, not refused",
}
"""What a bundle may need of a runner beyond market orders at the close of a bar, in this order."""

PROVIDES: frozenset[str] = frozenset(NEEDS) - {"short", "leverage"}
"""Which of `NEEDS` the runner of this version can do. It stands here because promotion, which may not know the runner,
must not seal what the runner would refuse; `tests/live` shows that each of them is true."""

_RANGES = (
    ("lots_per_unit", 0.0, 1e18),
    ("minimum_notional", 0.0, 1e18),
    ("maximum_leverage", 1e-9, 100.0),
    ("fee_rate", 0.0, 0.5),
    ("slippage", 0.0, 0.5),
    ("cash", 1e-9, 1e18),
    ("spread", 0.0, 0.5),
    ("impact", 0.0, 10.0),
    ("borrow_rate", 0.0, 10.0),
    ("interest_rate", 0.0, 10.0),
    ("maintenance_margin", 0.0, 1.0),
    ("liquidation_fee_rate", 0.0, 0.5),
)
_COSTS = tuple(Costs.model_fields)
_MARKET = tuple(Market.model_fields)
_PRECISION = "precision"


@dataclass(frozen=True)
class Execution:
    """How the rule's decisions become orders: market, costs and account, as research assumed them.

    `lots_per_unit` 0.0 = no lot rounding; `minimum_notional` and `cash` in quote currency; `warmup` in bars; costs and
    market as in `tradelib.backtest.Costs` and `Market`. `tick`: the market's step of prices as a decimal text, None
    where it was not stated. Raises `BundleError` naming the field that is of the wrong type or out of its range.
    """

    symbol: str
    timeframe: str
    calendar: str
    lots_per_unit: float
    minimum_notional: float
    maximum_leverage: float
    fee_rate: float
    slippage: float
    cash: float
    warmup: int
    maker_fee_rate: float | None = None
    spread: float = 0.0
    impact: float = 0.0
    borrow_rate: float = 0.0
    interest_rate: float = 0.0
    fee_tiers: tuple[FeeTier, ...] = ()
    tier_bars: int = 30
    insufficient_cash: str = "reject"
    maintenance_margin: float = 0.0
    liquidation_fee_rate: float = 0.0
    tick: str | None = None

    def __post_init__(self) -> None:
        for name in ("symbol", "timeframe", "calendar"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value or not value.isprintable():
                raise BundleError(f"execution: {name} must be a non-empty text, not {value!r}.")
        for name, low, high in _RANGES:
            object.__setattr__(self, name, _number(name, getattr(self, name), low, high))
        if self.maker_fee_rate is not None:
            object.__setattr__(self, "maker_fee_rate", _number("maker_fee_rate", self.maker_fee_rate, 0.0, 0.5))
        for name in ("warmup", "tier_bars"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise BundleError(f"execution: {name} must be a whole number of bars, at least 1, not {value!r}.")
        object.__setattr__(self, "fee_tiers", _tiers(self.fee_tiers))
        _check_tick(self.tick)
        try:
            parse_timeframe(self.timeframe)
            self.costs, self.market  # noqa: B018  built once, so that what contradicts itself is refused here
        except ParameterError as error:
            raise BundleError(f"execution: {error}") from error

    @property
    def costs(self) -> Costs:
        """What trading and holding cost."""
        return Costs(**{name: getattr(self, name) for name in _COSTS})

    @property
    def market(self) -> Market:
        """What the market and the account allow."""
        return Market(**{name: getattr(self, name) for name in _MARKET})

    @property
    def precision(self) -> dict[str, str | None]:
        """Steps of the market as exact decimal texts: `tick`, `lot`, `minimum_notional`; None where there is none.

        An exchange counts in decimals, a backtest in floats; what cannot be said as a decimal has no text.
        """
        return {"tick": self.tick, "lot": _lot(self.lots_per_unit), "minimum_notional": _text(self.minimum_notional)}

    def to_config(self) -> dict[str, Any]:
        """The fields as JSON-able data, the precision among them."""
        plain = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "tick"}
        return {**plain, "fee_tiers": [tier.model_dump() for tier in self.fee_tiers], _PRECISION: self.precision}

    @classmethod
    def from_config(cls, config: Any) -> Execution:
        """What `to_config` wrote; fields with a default may be left out. `BundleError` for a missing or unknown one."""
        known = {item.name for item in fields(cls)} - {"tick"}
        needed = [item.name for item in fields(cls) if item.default is MISSING]
        given = dict(config) if isinstance(config, dict) else {}
        stated = given.pop(_PRECISION, None)
        if not set(needed) <= set(given) <= known:
            more = f", and optionally {sorted(known - set(needed))}"
            raise BundleError(f"execution: the fields must be exactly {needed}{more}, not {sorted(given)}.")
        made = cls(**given, tick=stated.get("tick") if isinstance(stated, dict) else None)
        if stated is not None and stated != made.precision:
            raise BundleError(f"execution: precision {stated!r} is not that of its numbers, {made.precision!r}.")
        return made


def needs_of(
    rule: DecisionRule, execution: Execution | Market, decisions: Iterable[Mapping[str, Any]] = ()
) -> tuple[str, ...]:
    """What a runner must do besides market orders so that it trades what research decided, in the order of `NEEDS`.

    Of the terms only the market's count: leverage, and what becomes of an order that is too large. `decisions`, rows
    with a `target_weight` (the golden ones), show whether the rule goes short: its parameters do not say so.
    """
    weights = [row["target_weight"] for row in decisions]
    rests = rule.scale_in is not None and rule.scale_in.direction == "against"
    rests = rests or (rule.exits is not None and bool(rule.exits.take_profit))
    found = {
        "exits": rule.exits is not None,
        "scale_in": rule.scale_in is not None,
        "limits": rule.limits is not None,
        "maker_orders": rests,
        "short": any(weight is not None and weight < 0.0 for weight in weights),
        "leverage": execution.maximum_leverage > 1.0,
        "order_reduction": execution.insufficient_cash == "reduce",
    }
    return tuple(name for name in NEEDS if found[name])


def _number(name: str, value: Any, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise BundleError(f"execution: {name} must be a number from {low:g} to {high:g}, not {value!r}.")
    return float(value)


def _tiers(value: Any) -> tuple[FeeTier, ...]:
    """Fee tiers from JSON or from objects; every number of them a number, not a text that looks like one."""
    if not isinstance(value, list | tuple):
        raise BundleError(f"execution: fee_tiers must be a list, not {value!r}.")
    return tuple(item if isinstance(item, FeeTier) else _tier(item) for item in value)


def _tier(item: Any) -> FeeTier:
    names = set(FeeTier.model_fields)
    if not isinstance(item, dict) or set(item) != names:
        raise BundleError(f"execution: a fee tier must have exactly the fields {sorted(names)}, not {item!r}.")
    highest = {"volume": 1e18, "maker": 0.5, "taker": 0.5}
    try:
        return FeeTier(**{name: _number(f"fee_tiers {name}", item[name], 0.0, highest[name]) for name in names})
    except ParameterError as error:
        raise BundleError(f"execution: {error}") from error


def _check_tick(value: Any) -> None:
    try:
        exact = None if value is None else Decimal(value if isinstance(value, str) else "")
        if exact is None or (exact.is_finite() and exact > 0 and _text(exact) == value):
            return
    except (ArithmeticError, ValueError):
        pass
    raise BundleError(f"execution: tick must be a positive decimal text such as '0.01', or None, not {value!r}.")


def _lot(lots_per_unit: float) -> str | None:
    """The step of quantities, one over the lots in a unit, where that is a decimal."""
    with localcontext(prec=40) as context:
        context.traps[Inexact] = True
        try:
            return _text(1 / Decimal(repr(lots_per_unit)))
        except (Inexact, DivisionByZero):
            return None


def _text(value: float | Decimal) -> str:
    """A number as plain decimal text without an exponent or superfluous zeros."""
    exact = value if isinstance(value, Decimal) else Decimal(repr(value))
    text = format(exact, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
