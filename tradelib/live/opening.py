"""How a trader begins: the bars that its journal remembers, what the venue lists, and the purse that it is given.

A start reads the end of a journal, however long that has grown: the newest bars of the window that decisions see, and
what came after the newest checkpoint (`tradelib.ledger.journal`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tradelib.bundle.trading.bar import Bar, iso_time
from tradelib.ledger import Ledger, journal
from tradelib.live.bars import BarFeed

if TYPE_CHECKING:
    from tradelib.live.account import Account, Listing
    from tradelib.live.trader import Funding

__all__ = ["decisions_since", "listing_body", "purse_body", "remember_bars"]


def remember_bars(log: Ledger, feed: BarFeed) -> None:
    """Give a feed the bars that an earlier process wrote down: the newest ones, and how many there were."""
    overlaps = (
        log.get(f"bar:{iso_time(int(feed.kept.golden_last))}") is not None
    )  # the first one decided on may be golden
    newest = [Bar.from_body(entry.body) for entry in log.newest(journal.BAR, feed.most)]
    feed.resume(newest, journal.bar_count(log) - overlaps)


def listing_body(listing: Listing) -> dict[str, Any]:
    """What orders are rounded to."""
    tick = None if listing.tick is None else format(listing.tick, "f")
    return {"symbol": listing.symbol, "step": format(listing.step, "f"), "tick": tick}


def purse_body(terms: Funding | None, account: Account | None) -> dict[str, Any]:
    """What a new purse holds: its share of the capital, or the whole account."""
    if terms is not None:
        cash = terms.share * terms.capital
        return {"cash": cash, "position": 0.0, "capital": terms.capital, "share": terms.share, "reason": "opened"}
    assert account is not None
    return {**vars(account), "capital": account.cash, "share": 1.0, "reason": "the whole account"}


def decisions_since(log: Ledger) -> int:
    """Decisions after the newest checkpoint."""
    mark = log.last(journal.CHECKPOINT)
    return sum(1 for _ in log.entries(journal.DECISION, after=0 if mark is None else mark.sequence))
