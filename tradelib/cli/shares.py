"""What the stages of promotion give each bundle of a runner, and how a running runner is told that it changed."""

from __future__ import annotations

import getpass
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tradelib.cli.base import AsJson, app, show

if TYPE_CHECKING:
    from tradelib.bundle import Bundle
    from tradelib.live.settings import RunnerSettings
    from tradelib.promotion import PromotionLedger

__all__ = ["SettingsOption", "by_stage", "shares", "stage_shares", "tell_runner"]

SettingsOption = Annotated[
    Path | None, typer.Option("--runner", help="Settings (.toml) of a runner, which is told what this changes.")
]


def by_stage(settings: RunnerSettings) -> RunnerSettings:
    """The settings with the shares that the ledger of promotions gives; on paper only where there is a ledger.

    `PromotionError` for a bundle that may not run at all.
    """
    from tradelib.bundle import TrustStore, load_bundle
    from tradelib.home import project_home
    from tradelib.promotion import PromotionLedger

    if settings.mode == "paper" and not (project_home(create=False) / "promotions.sqlite").exists():
        return settings
    bundles = [load_bundle(one.path, TrustStore()) for one in settings.bundles]
    given = stage_shares(PromotionLedger(), bundles, settings.shares, settings.mode)
    told = [one.replace(share=given[bundle.digest]) for one, bundle in zip(settings.bundles, bundles, strict=True)]
    return settings.replace(bundles=tuple(told))


def stage_shares(
    ledger: PromotionLedger, bundles: Sequence[Bundle], shares: Sequence[float], mode: str
) -> dict[str, float]:
    """Digest -> share of the account. `shares`: those of the settings, which add up to that of each strategy.

    A bundle in a stage with capital has that part of its strategy's share. One that was withdrawn or replaced has none:
    the runner winds it up. On paper, bundles of a strategy without a champion and a canary keep what the settings say.
    """
    books, strategy = ledger.books(), dict.fromkeys((one.name for one in bundles), 0.0)
    for bundle, share in zip(bundles, shares, strict=True):
        strategy[bundle.name] += share
    found = {}
    for bundle, share in zip(bundles, shares, strict=True):
        book = books.get(bundle.name)
        standings = {} if book is None else {one.bundle: one.capital_share for one in book.active}
        left = set() if book is None else book.withdrawn | {one.bundle for one in book.retired}
        if bundle.digest in left:
            found[bundle.digest] = 0.0
            continue
        ledger.check_may_run(bundle, mode)
        staged = any(standings.values())
        found[bundle.digest] = strategy[bundle.name] * standings.get(bundle.digest, 0.0) if staged else share
    return found


def tell_runner(path: Path, why: str) -> Mapping[str, Any] | None:
    """Write the shares of the stages into the journal of operations of the runner with these settings.

    What was written; None where that was its last word already. A runner that trades finds it before its next decision.
    """
    from tradelib.bundle import TrustStore, load_bundle
    from tradelib.ledger import open_journal
    from tradelib.live.settings import load_settings
    from tradelib.live.shares import write_shares

    settings = load_settings(path)
    staged = by_stage(settings)
    digests = [load_bundle(one.path, TrustStore()).digest for one in staged.bundles]
    told = dict(zip(digests, staged.shares, strict=True))
    with open_journal(settings.operations_path) as log:
        return write_shares(log, told, by=f"{getpass.getuser()}@shell", reason=why)


@app.command(rich_help_panel="Promotion")
def shares(
    settings: Annotated[Path, typer.Argument(help="Settings (.toml) of the runner.")],
    why: Annotated[str, typer.Option(help="The reason, for its journal.")] = "the stages of promotion say so",
    as_json: AsJson = False,
) -> None:
    """Tell a runner which share of the capital each of its bundles has by its stage; needs no token.

    [cyan]tradelib shares runner.toml --why 'the canary was rolled back'[/cyan]

    `advance` and `rollback` do it by themselves with --runner. A bundle without a share is wound up: its orders are
    withdrawn, its position is closed, its money goes to the others.
    """
    told = tell_runner(settings, why)
    rows = {} if told is None else {digest[:12]: f"{share:.4f}" for digest, share in told["shares"].items()}
    show(rows, "told" if rows else "it was told so before", as_json)
