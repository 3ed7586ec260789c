"""Returns that the tests of the room share: five assets and sixty days, as compared libraries have seen them."""

from __future__ import annotations

import numpy as np
import pandas as pd

__all__ = ["five_assets", "many_assets"]


def five_assets() -> pd.DataFrame:
    """Sixty returns of A to E with one common factor and chosen means."""
    rng = np.random.default_rng(2024)
    values = rng.standard_normal((60, 5)) * np.array([0.01, 0.012, 0.02, 0.015, 0.008])
    values += rng.standard_normal((60, 1)) * 0.009
    values += np.array([0.0006, 0.0004, 0.0012, 0.0008, 0.0002]) - values.mean(axis=0)
    return pd.DataFrame(values, pd.bdate_range("2024-01-01", periods=60, tz="UTC"), list("ABCDE"))


def many_assets(rows: int, columns: int, seed: int = 0) -> pd.DataFrame:
    """Seeded returns with a common factor and volatilities between 0.5 % and 2 %."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((rows, columns)) * rng.uniform(0.005, 0.02, columns)
    values += 0.006 * rng.standard_normal((rows, 1))
    index = pd.bdate_range("2015-01-01", periods=rows, tz="UTC")
    return pd.DataFrame(values, index, [f"a{place}" for place in range(columns)])
