"""Parameter objects that explain their own mistakes.

A misspelt parameter that silently runs a default is the most expensive typo in research. So parameters are typed,
frozen and closed: an unknown name is refused, and the message offers the one that was probably meant.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from tradelib.errors import ParameterError

__all__ = ["Parameters", "explain", "nearest"]

_DEPRECATED = frozenset({
    "construct", "copy", "dict", "from_orm", "json", "parse_file", "parse_obj", "parse_raw", "schema", "schema_json",
    "update_forward_refs", "validate",
})  # fmt: skip
"""Names that pydantic keeps for code of its first version."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a sentence that helps with a misspelt name: the closest known one, or all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(names) or 'none'}"


def explain(error: ValidationError, known: Iterable[str], what: str) -> str:
    """One line per problem of a pydantic error: field, value, reason, and the nearest known name for an unknown one."""
    known, lines = list(known), []
    for problem in error.errors(include_url=False):
        field = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            lines.append(f"{what} has no parameter {field!r}{nearest(str(problem['loc'][-1]), known)}")
        elif problem["type"] == "missing":
            lines.append(f"{what} needs the parameter {field!r}")
        else:
            reason = problem["msg"].removeprefix("Value error, ")
            lines.append(f"{what}: {field} = {problem['input']!r}: {reason}" if field else f"{what}: {reason}")
    return "; ".join(lines)


class Parameters(BaseModel):
    """Base of strategies, policies and settings: immutable, typed, closed; every refusal is a `ParameterError`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    def __new__(cls, *unnamed: Any, **parameters: Any) -> Self:
        """`ParameterError` for values without a name."""
        if unnamed:
            first = next(iter(cls.model_fields), "")
            told = f", as in {cls.__name__}({first}=...)" if first else ", and it has none"
            raise ParameterError(f"{cls.__name__} takes its parameters by name{told}; got {unnamed[0]!r}")
        return super().__new__(cls)

    def __init__(self, **parameters: Any) -> None:
        try:
            super().__init__(**parameters)
        except ValidationError as error:
            raise ParameterError(explain(error, type(self).model_fields, type(self).__name__)) from None

    def replace(self, **changes: Any) -> Self:
        """A copy with some parameters changed, validated like a new one."""
        cls = type(self)
        values = self.__dict__
        if len(values) != len(cls.__pydantic_fields__):  # cached properties live beside the parameters
            values = {name: values[name] for name in cls.__pydantic_fields__}
        if cls.__init__ is not Parameters.__init__:
            return cls(**{**values, **changes})
        made = BaseModel.__new__(cls)
        try:  # what calling the class does, without the way there: sweeps make a copy per point
            cls.__pydantic_validator__.validate_python({**values, **changes}, self_instance=made)
        except ValidationError as error:
            raise ParameterError(explain(error, cls.model_fields, cls.__name__)) from None
        return made

    def __repr_args__(self) -> Iterator[tuple[str, Any]]:
        """What differs from the defaults, so that a setting of thirty parameters says the two that were chosen."""
        values = self.__dict__
        for name, field in type(self).__pydantic_fields__.items():
            if field.repr and name in values and not _is_default(field, values[name]):
                yield name, values[name]

    def __str__(self) -> str:
        return repr(self)

    def __dir__(self) -> list[str]:
        """Without what pydantic has deprecated, unless a subclass gives the name a meaning of its own."""
        own = {name for cls in type(self).__mro__ if issubclass(cls, Parameters) for name in vars(cls)}
        return [name for name in super().__dir__() if name not in _DEPRECATED or name in own or name in self.__dict__]

    def to_config(self) -> dict[str, Any]:
        """`{"name": ..., "params": {...}}`: JSON-able, and enough to build the object again."""
        return {"name": type(self).__name__, "params": self.model_dump(mode="json")}


def _is_default(field: FieldInfo, value: Any) -> bool:
    """True for the default value; 2.0 is the default 2 of a float, True is no 1."""
    default = field.get_default(call_default_factory=False)
    return isinstance(value, bool) == isinstance(default, bool) and bool(value == default)
