"""What an audit takes as given, as decimal numbers: bars, terms of trading, and the arithmetic of a single fill.

Written from the conventions alone and in decimal arithmetic of 28 digits: nothing here calls the engine, so nothing
here can repeat its mistakes. What two sides of a comparison may differ by is `TOLERANCE`, relative; where a figure lies
that close to its threshold, the engine's floats and these decimals may decide otherwise, and both are right.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from tradelib.backtest.costs import Costs, Market

__all__ = [
    "ONE",
    "TOLERANCE",
    "ZERO",
    "Candle",
    "Terms",
    "average_true_ranges",
    "candles",
    "exceeds",
    "near",
    "number",
    "sign",
    "terms_of",
    "whole_lots",
]

ZERO = Decimal(0)
ONE = Decimal(1)
TOLERANCE = Decimal("1e-9")
_LOT_DOUBT = Decimal("1e-6")


def number(value: Any) -> Decimal:
    """A float as the decimal that its shortest text says."""
    return Decimal(repr(float(value)))


def sign(value: Decimal) -> Decimal:
    """1, -1 or 0."""
    return Decimal((value > 0) - (value < 0))


def near(one: Decimal, other: Decimal, scale: Decimal = ZERO) -> bool:
    """Whether two figures are the same but for rounding; `scale`: size of what they were computed from."""
    return abs(one - other) <= TOLERANCE * max(abs(one), abs(other), scale)


def exceeds(figure: Decimal, threshold: Decimal, scale: Decimal = ZERO) -> bool | None:
    """Whether `figure` lies beyond `threshold`; None where rounding decides. A billionth beyond is not beyond."""
    slack = 3 * TOLERANCE * max(abs(threshold), scale)
    if figure > threshold + slack:
        return True
    return False if figure < threshold - slack else None


class Candle(NamedTuple):
    """One bar."""

    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal | None


def candles(*columns: np.ndarray) -> list[Candle]:
    """Bars out of the columns open, high, low, close, volume, each `(n,)`; an unknown volume is None."""
    prices = [[number(value) for value in column.tolist()] for column in columns[:4]]
    volumes = [None if math.isnan(value) else number(value) for value in columns[4].tolist()]
    return [Candle(*bar) for bar in zip(*prices, volumes, strict=True)]


def average_true_ranges(bars: Iterable[Candle], window: int) -> list[Decimal | None]:
    """Wilder's average true range known at each close: seeded by a simple mean that leaves out the first bar's range.

    Source: Wilder (1978), "New Concepts in Technical Trading Systems"; seeding as TA-Lib's ATR.
    """
    found: list[Decimal | None] = []
    ranges: list[Decimal] = []
    before: Decimal | None = None
    for bar in bars:
        if before is not None:
            ranges.append(max(bar.high, before) - min(bar.low, before))
        before, known = bar.close, found[-1] if found else None
        if known is not None:
            found.append((known * (window - 1) + ranges[-1]) / window)
        else:
            found.append(sum(ranges, ZERO) / window if len(ranges) == window else None)
    return found


@dataclass(frozen=True)
class Terms:
    """Terms of trading; rates of financing are per bar. `tiers`: volume, maker's rate, taker's rate, rising."""

    maker: Decimal
    taker: Decimal
    tiers: tuple[tuple[Decimal, Decimal, Decimal], ...]
    tier_bars: int
    adverse: Decimal
    impact: Decimal
    borrow: Decimal
    interest: Decimal
    lots: Decimal
    minimum: Decimal
    leverage: Decimal
    reduces: bool
    maintenance: Decimal
    liquidation: Decimal

    def price(self, reference: Decimal, quantity: Decimal, volume: Decimal | None) -> Decimal:
        """What a market or stop fill of `quantity` pays: slippage, half the spread and impact against it."""
        return reference * (ONE + sign(quantity) * (self.adverse + self.impact_of(quantity, volume)))

    def impact_of(self, quantity: Decimal, volume: Decimal | None) -> Decimal:
        """Square-root impact of `quantity` in a bar of `volume`, fraction of the price."""
        if not self.impact or not volume:
            return ZERO
        return self.impact * (abs(quantity) / volume).sqrt()

    def rates(self, maker: bool, traded: Decimal) -> tuple[Decimal, ...]:
        """Fee rates that fit what was `traded` within the window of the tiers: one, or two at the edge of a tier."""
        rates = [self.maker if maker else self.taker]
        for volume, resting, taking in self.tiers:
            reached = exceeds(traded, volume)
            rate = resting if maker else taking
            if reached is None:
                rates.append(rate)
            elif reached:
                rates = [rate]
        return tuple(rates)

    def settled(self, position: Decimal, quantity: Decimal) -> Decimal:
        """Position after a fill: whole lots; without lots flat when at most 1e-12 of the fill is left."""
        after = position + quantity
        if self.lots:
            nearest = (abs(after) * self.lots + Decimal("0.5")).to_integral_value(ROUND_FLOOR)
            return nearest / self.lots * sign(after)
        return after if abs(after) > Decimal("1e-12") * abs(quantity) else ZERO

    def room(self, cash: Decimal, position: Decimal, quantity: Decimal, price: Decimal, rate: Decimal) -> Decimal:
        """What `maximum_leverage` times the equity after a fill exceeds the exposure by, as a part of the exposure."""
        after, paid = position + quantity, rate * abs(quantity) * price
        if not after or (after * position >= 0 and abs(after) <= abs(position)):
            return ONE
        equity = cash - quantity * price - paid + after * price
        return (self.leverage * equity - abs(after) * price) / (abs(after) * price)


def terms_of(costs: Costs, market: Market, periods_per_year: float) -> Terms:
    """The terms that `costs` and `market` name."""
    year = number(periods_per_year)
    maker = costs.fee_rate if costs.maker_fee_rate is None else costs.maker_fee_rate
    return Terms(
        maker=number(maker),
        taker=number(costs.fee_rate),
        tiers=tuple((number(tier.volume), number(tier.maker), number(tier.taker)) for tier in costs.fee_tiers),
        tier_bars=costs.tier_bars,
        adverse=number(costs.slippage) + number(costs.spread) / 2,
        impact=number(costs.impact),
        borrow=number(costs.borrow_rate) / year,
        interest=number(costs.interest_rate) / year,
        lots=number(market.lots_per_unit),
        minimum=number(market.minimum_notional),
        leverage=number(market.maximum_leverage),
        reduces=market.insufficient_cash == "reduce",
        maintenance=number(market.maintenance_margin),
        liquidation=number(market.liquidation_fee_rate),
    )


def whole_lots(size: Decimal, lots: Decimal) -> tuple[Decimal, ...]:
    """`size` rounded toward zero to lots: one answer, or two where a float may lie on either side of a whole lot."""
    if not lots:
        return (size,)
    lower, upper = ((abs(size) * lots + edge).to_integral_value(ROUND_FLOOR) for edge in (-_LOT_DOUBT, _LOT_DOUBT))
    return tuple(max(count, ZERO) / lots * sign(size) for count in dict.fromkeys((upper, lower)))
