"""What a bundle and the venue state of costs and account."""

import json
from dataclasses import replace

import pytest

from pipelines.setting import Account, execution
from pipelines.stages.paper import venue_options
from tradelib.backtest.costs import Costs, FeeTier
from tradelib.bundle.layout import Execution
from tradelib.errors import VenueError
from tradelib.indicators import probe_bars

COSTS = Costs(
    fee_rate=0.002,
    slippage=0.001,
    maker_fee_rate=0.0004,
    spread=0.0006,
    impact=0.02,
    borrow_rate=0.03,
    interest_rate=0.05,
    fee_tiers=(FeeTier(volume=1e6, maker=0.0002, taker=0.001),),
    tier_bars=20,
)
ACCOUNT = Account(
    cash=5_000.0,
    lots_per_unit=100.0,
    minimum_notional=5.0,
    maximum_leverage=2.0,
    insufficient_cash="reduce",
    maintenance_margin=0.1,
    liquidation_fee_rate=0.01,
)


def stated(costs: Costs = COSTS, account: Account = ACCOUNT) -> Execution:
    return Execution.from_config({**execution(probe_bars(10), costs, account), "warmup": 3})


def test_all_costs_and_the_whole_account_become_the_terms_of_a_bundle():
    terms = stated()

    assert terms.costs == COSTS
    assert terms.market.model_dump() == ACCOUNT.model_dump(exclude={"cash"})
    assert terms.cash == 5_000.0
    assert Execution.from_config(json.loads(json.dumps(terms.to_config()))) == terms


def test_every_cost_is_one_of_the_example():
    """A cost that is added later must be sealed, too: an example that does not differ from it would not show it."""
    assert set(COSTS.model_dump(exclude_defaults=True)) == set(Costs.model_fields)


def test_the_venue_takes_half_of_the_spread_as_slippage():
    terms = replace(stated(Costs(fee_rate=0.002, slippage=0.001, spread=0.0006)), tick=None)

    assert "--slippage=0.0013" in venue_options(terms)
    assert "--fee-rate=0.002" in venue_options(terms)


@pytest.mark.parametrize("name", ["impact", "borrow_rate", "interest_rate", "fee_tiers"])
def test_costs_that_the_venue_does_not_charge_are_named(name):
    costs = Costs().replace(**{name: getattr(COSTS, name)})

    with pytest.raises(VenueError, match=f"does not charge {name}"):
        venue_options(stated(costs))
