"""Where a market's bars come from: the embedded data, a file of ours, or a vendor's CSV."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

import pandas as pd
from pydantic import Field, model_validator

from tradelib.parameters import Parameters

__all__ = ["MarketSource"]


class MarketSource(Parameters):
    """One market: its symbol on the venue, and the source of its bars."""

    source: Literal["embedded", "file"] = Field(
        description="the data inside the package, or a bars file (.parquet, .csv)"
    )
    symbol: str = Field(pattern=r"^[A-Z0-9]{1,12}/[A-Z0-9]{1,12}$", description="BASE/QUOTE as the venue lists it")
    dataset: str | None = Field(None, description="embedded: sp500 or nasdaq")
    path: str | None = Field(None, description="file: path from the project's folder")

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        wanted, other = ("dataset", "path") if self.source == "embedded" else ("path", "dataset")
        if getattr(self, wanted) is None or getattr(self, other) is not None:
            raise ValueError(f"source {self.source!r} needs {wanted!r} and no {other!r}")
        return self

    def read(self, root: Path) -> pd.DataFrame:
        """The bars, under this market's symbol; `DataError` when they cannot be read or break the contract."""
        if self.source == "embedded":
            from tradelib.data.sources import embedded

            return embedded(str(self.dataset), symbol=self.symbol)
        from tradelib.data.bars import make_bars
        from tradelib.data.files import read_bars

        bars = read_bars(root / str(self.path))
        attrs = {key: bars.attrs[key] for key in ("timeframe", "source", "calendar")}
        return make_bars(bars, symbol=self.symbol, **attrs)
