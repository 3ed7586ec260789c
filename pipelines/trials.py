"""`python -m pipelines.trials`: what was tried in this project, and whether the ledger is still the same one."""

from __future__ import annotations

import math
import sys

from rich.console import Console
from rich.table import Table

from pipelines.anchors import kept_anchors
from tradelib.backtest.trials import TrialLedger, TrialSummary
from tradelib.errors import TradelibError
from tradelib.validation.sharpe import expected_maximum_sharpe

__all__ = ["main", "show"]


def show(console: Console) -> bool:
    """Print a table of the families and what the chain and its anchors prove; True where the ledger stands."""
    ledger = TrialLedger()
    console.print(_table(ledger))
    console.print(repr(ledger), markup=False)
    found = ledger.verify()
    console.print(
        f"chain: {found.entries:,} entries proven{'' if found.ok else f', then {found.problem}'}", markup=False
    )
    anchors = kept_anchors()
    ledger.assert_continues(anchors)
    console.print(
        f"kept elsewhere: it continues all of {len(anchors):,} heads in MLflow runs and bundles", markup=False
    )
    return found.ok


def _table(ledger: TrialLedger) -> Table:
    table = Table("strategy", "symbol", "timeframe", title="What was tried", title_justify="left")
    for name in ("trials", "on the market", "best", "best by luck"):
        table.add_column(name, justify="right")
    for family, count in ledger.families().items():
        names = [*family.split("|", 2), "", ""][:3]
        table.add_row(*names, f"{count:,}", *_market(ledger.summary(family)))
    return table


def _market(summary: TrialSummary) -> tuple[str, str, str]:
    """Count of all that competes, the best Sharpe ratio per bar, and the best that luck was expected to show."""
    variance = summary.variance_of_sharpe
    luck = "" if math.isnan(variance) else f"{expected_maximum_sharpe(summary.count, variance):.4f}"
    return f"{summary.count:,}", f"{max(summary.sharpes):.4f}" if summary.sharpes else "", luck


def main() -> int:
    """Exit code 1, and one line that says why, where the ledger is not the one that was there before."""
    try:
        return 0 if show(Console(highlight=False, soft_wrap=True)) else 1
    except TradelibError as error:
        print(f"trials: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
