"""What each bundle is given of the capital: shares, each with a purse of its own (`tradelib.bundle.trading.purse`)."""

from __future__ import annotations

from collections.abc import Sequence

from tradelib.bundle.trading.purse import Book, MarketBook, Purse
from tradelib.errors import RunnerError

__all__ = ["Book", "MarketBook", "Purse", "check_shares"]


def check_shares(shares: Sequence[float]) -> None:
    """Refuse (`RunnerError`) shares of the capital that are not in (0, 1], or together more than all of it."""
    for share in shares:
        if not 0.0 < share <= 1.0:
            raise RunnerError(f"a bundle's share of the capital is {share!r}: give a fraction above 0, at most 1")
    if sum(shares) > 1.0 + 1e-9:
        raise RunnerError(f"the bundles' shares of the capital sum to {sum(shares):g}: at most 1 can be traded")
