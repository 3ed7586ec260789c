"""How parameter objects look: what was chosen, and not what pydantic brings along."""

import ast
import warnings
from typing import Any, ClassVar, Self

import pydantic
import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell

from tradelib.backtest import Costs, DecisionRule, Market
from tradelib.errors import ParameterError
from tradelib.parameters import Parameters, Variants
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


class Band(Parameters):
    """Asks something of two parameters together, and counts how often."""

    asked: ClassVar[int] = 0
    low: float = 0.0
    high: float = 1.0
    name: str = "band"

    @pydantic.model_validator(mode="after")
    def _low_is_lower(self) -> Self:
        type(self).asked += 1
        if self.low >= self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        return self


class Shouted(Parameters):
    """Does more than asking: its name changes on the way."""

    name: str = "band"

    @pydantic.field_validator("name")
    @classmethod
    def _loud(cls, name: str) -> str:
        return name.upper()


class TestVariants:
    def test_a_variant_is_what_replace_makes(self) -> None:
        variant = Variants(Band(name="b"), {"rule.low": "low", "rule.high": "high"})
        for low in (-1, 0, -0.0, 0.0, 0.5, True, 0.5, -1):
            for high in (2, 2.0, 3, 2):
                made, expected = variant({"rule.low": low, "rule.high": high}), Band(name="b", low=low, high=high)
                assert repr(made) == repr(expected)
                assert made == expected
                assert (made.to_config(), made.model_fields_set) == (expected.to_config(), expected.model_fields_set)
                assert list(map(type, vars(made).values())) == list(map(type, vars(expected).values()))
                with pytest.raises(pydantic.ValidationError, match="frozen"):
                    made.low = 3  # type: ignore[misc]

    def test_what_does_not_go_together_is_refused_with_the_words_of_replace(self) -> None:
        variant = Variants(Band(), {"low": "low", "high": "high"})
        for low, high in ((0.0, 1.0), (0.5, 2.0), (1.0, 2.0)):
            variant({"low": low, "high": high})
        for _ in range(2):
            with pytest.raises(ParameterError, match=r"low \(1.0\) must be below high \(1.0\)"):
                variant({"low": 1.0, "high": 1.0})
        with pytest.raises(ParameterError, match="Band: low = 'x'"):
            variant({"low": "x", "high": 1.0})
        assert variant({"low": 0.5, "high": 1.0}) == Band(low=0.5)

    def test_each_copy_is_asked_as_a_whole_and_no_known_value_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        variant, slow, replace = Variants(Band(), {"low": "low"}), [], Parameters.replace

        def counted(self: Band, **changes: Any) -> Band:
            slow.append(changes)
            return replace(self, **changes)

        monkeypatch.setattr(Parameters, "replace", counted)
        before = Band.asked
        for _ in range(5):
            variant({"low": 0.25})
        assert (Band.asked - before, len(slow)) == (5, 1)

    def test_a_class_that_does_more_goes_the_long_way(self) -> None:
        variant = Variants(Shouted(), {"name": "name"})
        assert [variant({"name": "a"}).name for _ in range(2)] == ["A", "A"]
