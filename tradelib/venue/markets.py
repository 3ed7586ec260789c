"""A market of the venue: where its prices come from, and the terms on which it trades."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from typing import Literal

import pandas as pd

from tradelib.data.bars import check_bars
from tradelib.errors import VenueError
from tradelib.venue.matching import Terms
from tradelib.venue.sources import Source, Tape

__all__ = ["MAXIMUM_QUANTITY", "VenueMarket"]

MAXIMUM_QUANTITY = Decimal(10**12)
_SYMBOL = re.compile(r"([A-Z0-9]{1,20})/([A-Z0-9]{1,20})")


@dataclass(frozen=True, eq=False)
class VenueMarket:
    """One market of the venue: bars to replay (or another source of prices), and the terms on which it trades.

    symbol: `"BASE/QUOTE"`, such as `"SPX/USDT"`; on the wire it is called `id`, `"SPXUSDT"`. bars: the bars contract,
    or a `Source` such as `TradeTape`, `BookTape`, `LiveTape`. fee_rate, slippage: fractions (0.001 = 10 basis points);
    maker_rate: the same as fee_rate unless given. lots_per_unit: lots in one unit of the base asset, a whole number
    whose reciprocal is a finite decimal (100 -> steps of 0.01). minimum_notional: in quote currency. price_decimals:
    the price tick, which limit and stop prices must keep; market fills are not rounded to it. participation: the share
    of a bar's volume that all orders together may take, None for all they want: large orders then fill in parts.
    fee_in: "quote" (both sides pay in the quote currency, as the engine does) or "received" (a buy pays in the base
    asset, as Binance does). Raises `VenueError` for terms that no exchange could announce, `DataError` for bars that
    break the contract.
    """

    symbol: str
    bars: pd.DataFrame | Source = field(repr=False)
    fee_rate: float = 0.001
    slippage: float = 0.0005
    lots_per_unit: float = 10_000.0
    minimum_notional: float = 10.0
    price_decimals: int = 8
    maker_rate: float | None = None
    participation: float | None = None
    fee_in: Literal["quote", "received"] = "quote"

    def __post_init__(self) -> None:
        if not _SYMBOL.fullmatch(self.symbol):
            raise VenueError(f"symbol {self.symbol!r} names no market: write BASE/QUOTE, for example 'SPX/USDT'")
        for name in ("fee_rate", "slippage", "maker_rate"):
            value = getattr(self, name)
            if value is not None and not 0.0 <= value < 1.0:
                raise VenueError(f"{name} is {value!r}: it is a fraction from 0 to 1 (0.001 = 10 bp)")
        if not (math.isfinite(self.minimum_notional) and self.minimum_notional >= 0.0):
            raise VenueError(f"minimum_notional is {self.minimum_notional!r}: give a finite amount, 0 for none")
        if not 0 <= self.price_decimals <= 18:
            raise VenueError(f"price_decimals is {self.price_decimals!r}: give a whole number from 0 to 18")
        if self.participation is not None and not 0.0 < self.participation <= 1.0:
            raise VenueError(f"participation is {self.participation!r}: give a share of the volume above 0, at most 1")
        if self.fee_in not in ("quote", "received"):
            raise VenueError(f"fee_in is {self.fee_in!r}: use 'quote' or 'received'")
        if isinstance(self.bars, pd.DataFrame):
            check_bars(self.bars)
        _ = self.step_size, self.tape

    @property
    def base(self) -> str:
        """The asset that is bought and sold."""
        return self.symbol.partition("/")[0]

    @property
    def quote(self) -> str:
        """The currency of prices, fees and cash."""
        return self.symbol.partition("/")[2]

    @property
    def id(self) -> str:
        """The symbol on the wire: `SPXUSDT` for `SPX/USDT`."""
        return self.base + self.quote

    @cached_property
    def tape(self) -> Source:
        """The prices, ready to replay."""
        return self.bars if isinstance(self.bars, Source) else Tape(self.bars)

    @cached_property
    def step_size(self) -> Decimal:
        """Size of one lot, exactly: 1 / lots_per_unit."""
        lots = int(self.lots_per_unit) if 1.0 <= self.lots_per_unit <= 1e12 else 0
        step = Decimal(1) / lots if lots == self.lots_per_unit and lots else Decimal(0)
        if not step or step * lots != 1:
            raise VenueError(
                f"lots_per_unit is {self.lots_per_unit!r} for {self.symbol}: a venue announces its lot size as a "
                "decimal, so give a whole number such as 1, 100 or 100000 (lots of 1, 0.01, 0.00001)"
            )
        return step

    @cached_property
    def tick_size(self) -> Decimal:
        """Size of one price tick, exactly."""
        return Decimal(1).scaleb(-self.price_decimals)

    @cached_property
    def terms(self) -> Terms:
        """The terms as matching needs them."""
        maker = self.fee_rate if self.maker_rate is None else self.maker_rate
        return Terms(maker, self.fee_rate, self.slippage, self.lots_per_unit)

    def lots(self, quantity: float) -> int:
        """Whole lots nearest to `quantity`."""
        return round(quantity * self.lots_per_unit)
