"""What a bundle states of costs and account."""

import pytest

from pipelines.params import Account
from pipelines.setting import execution
from tradelib.backtest.costs import Costs
from tradelib.bundle.layout import Execution
from tradelib.errors import ParameterError
from tradelib.indicators import probe_bars


def test_costs_and_account_become_the_terms_of_a_bundle():
    terms = execution(probe_bars(10), Costs(fee_rate=0.002, slippage=0.001), Account(cash=5_000.0))
    stated = Execution.from_config({**terms, "warmup": 3})
    assert (stated.fee_rate, stated.slippage, stated.cash) == (0.002, 0.001, 5_000.0)


@pytest.mark.parametrize(
    ("costs", "told"), [(Costs(spread=0.001), "spread 0.001"), (Costs(borrow_rate=0.03), "borrow_rate 0.03")]
)
def test_costs_that_a_bundle_cannot_state_are_refused(costs, told):
    with pytest.raises(ParameterError, match=f"costs: {told} cannot be sealed"):
        execution(probe_bars(10), costs, Account())
