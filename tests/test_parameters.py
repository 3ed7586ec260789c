"""How parameter objects look: what was chosen, and not what pydantic brings along."""

import ast
import warnings
from typing import Any

import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell

from tradelib.backtest import Costs, DecisionRule, Market
from tradelib.errors import ParameterError
from tradelib.parameters import Parameters
from tradelib.risk import Exits
from tradelib.risk.exits import Distance
from tradelib.strategies import TrendFollowing


class Levels(Parameters):
    """Parameters of every kind that a default may have."""

    needed: int
    whole: float = 2
    flag: bool | int = True
    names: tuple[str, ...] = ()


def made(said: ast.expr) -> Any:
    """What a text says: calls of the project's classes by name, and literals."""
    if isinstance(said, ast.Call) and isinstance(said.func, ast.Name):
        kinds = {kind.__name__: kind for kind in (DecisionRule, TrendFollowing, Exits, Distance)}
        return kinds[said.func.id](**{str(word.arg): made(word.value) for word in said.keywords})
    return ast.literal_eval(said)


class TestText:
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (Market(), "Market()"),
            (Costs(fee_rate=0.002), "Costs(fee_rate=0.002)"),
            (DecisionRule(strategy=TrendFollowing(fast=5)), "DecisionRule(strategy=TrendFollowing(fast=5))"),
            (Exits(stop_loss=0.02), "Exits(stop_loss=Distance(value=0.02))"),
            (Levels(needed=1), "Levels(needed=1)"),
            (Levels(needed=1, flag=1), "Levels(needed=1, flag=1)"),
            (Levels(needed=1, whole=3, names=("a",)), "Levels(needed=1, whole=3.0, names=('a',))"),
        ],
    )
    def test_only_what_was_chosen_is_said_with_the_name_of_the_class(self, value: Any, text: str) -> None:
        assert (repr(value), str(value), f"{value}") == (text, text, text)

    def test_what_is_said_makes_the_same_object_again(self) -> None:
        rule = DecisionRule(strategy=TrendFollowing(fast=5), exits=Exits(stop_loss=0.02, time_exit=3))
        assert made(ast.parse(repr(rule), mode="eval").body) == rule

    def test_a_value_that_is_kept_beside_the_parameters_is_not_one(self) -> None:
        rule = TrendFollowing(fast=5)
        vars(rule)["cached"] = 1
        assert repr(rule) == "TrendFollowing(fast=5)"


class TestNames:
    def test_what_pydantic_has_deprecated_is_not_offered(self) -> None:
        offered = set(dir(Market()))
        assert {"replace", "to_config", "maximum_leverage", "model_dump"} <= offered
        assert offered.isdisjoint({"copy", "dict", "json", "construct", "parse_raw", "schema", "validate"})

    def test_a_subclass_may_give_such_a_name_a_meaning_of_its_own(self) -> None:
        class Described(Parameters):
            def copy(self) -> str:  # type: ignore[override]
                return "mine"

        assert "copy" in dir(Described())
        assert "json" not in dir(Described())

    def test_completion_in_ipython_offers_the_parameters_and_warns_of_nothing(self) -> None:
        shell = InteractiveShell()
        shell.user_ns["rule"] = DecisionRule(strategy=TrendFollowing())
        with warnings.catch_warnings(), provisionalcompleter():
            warnings.simplefilter("error", DeprecationWarning)
            offered = {found.text for found in shell.Completer.completions("rule.", 5)}
        assert {"strategy", "sizing", "exits", "replace"} <= offered
        assert offered.isdisjoint({"copy", "dict", "json", "parse_raw"})


def test_an_error_that_shows_parameters_stays_short() -> None:
    with pytest.raises(ParameterError, match=r"got Costs\(fee_rate=0.002\)"):
        Market(Costs(fee_rate=0.002))
