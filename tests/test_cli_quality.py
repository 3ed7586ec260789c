"""`tradelib quality`: what a journal says about the cost of carrying decisions out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.live.support import GOLDEN, KEY, SECRET, Sealed, exchange, seal, synthetic_bars, venue
from tests.live.test_runner import trade
from tradelib.cli import app

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> tuple[Sealed, Path]:
    """The journal of a run of twenty bars."""
    folder = tmp_path_factory.mktemp("quality")
    sealed = seal(folder, synthetic_bars())
    with pytest.MonkeyPatch.context() as patch, venue(exchange(sealed)) as served:
        patch.setenv("TRADELIB_API_KEY", KEY)
        patch.setenv("TRADELIB_API_SECRET", SECRET)
        trade(sealed, served.url, folder / "journal.sqlite", GOLDEN + 20)
    return sealed, folder / "journal.sqlite"


def test_it_says_what_orders_cost_and_why(journal: tuple[Sealed, Path]) -> None:
    done = CliRunner().invoke(app, ["quality", str(journal[1])])
    assert done.exit_code == 0, done.output
    assert "orders cost" in done.output
    assert "signal" in done.output


def test_every_order_is_there_for_a_program(journal: tuple[Sealed, Path]) -> None:
    done = CliRunner().invoke(app, ["quality", str(journal[1]), "--json"])
    told = json.loads(done.stdout)
    assert len(told["orders"]) == told["summary"]["orders"] > 5
    for order in told["orders"]:
        parts = sum(order[name] for name in ("delay", "trading", "opportunity", "fees"))
        assert order["shortfall"] == pytest.approx(parts)


def test_a_grouping_that_there_is_not_is_refused(journal: tuple[Sealed, Path]) -> None:
    done = CliRunner().invoke(app, ["quality", str(journal[1]), "--by", "mood"])
    assert done.exit_code != 0
