"""Parameter objects that explain their own mistakes.

A misspelt parameter that silently runs a default is the most expensive typo in research. So parameters are typed,
frozen and closed: an unknown name is refused, and the message offers the one that was probably meant.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from tradelib.errors import ParameterError

__all__ = ["Parameters", "Variants", "explain", "nearest"]

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


Kind = TypeVar("Kind", bound=Parameters)
_set = object.__setattr__
_PLAIN = (int, float, str, bool, type(None))


class Variants(Generic[Kind]):
    """Copies of one object with other values of some parameters: the same as its `replace` makes, faster.

    `names`: what a change is called -> the parameter that it changes. A value that was in a valid copy is known to be
    valid, and what it was turned into is kept. Only what a class asks of several parameters together is asked of each
    copy. Where a class does more than that, `replace` does it all.
    """

    def __init__(self, base: Kind, names: Mapping[str, str]) -> None:
        kind = type(base)
        self._base, self._kind, self._checks, self._names = base, kind, _joint_checks(kind), dict(names)
        self._values = {name: base.__dict__[name] for name in kind.__pydantic_fields__}
        self._given = set(self._values)
        self._known: list[tuple[str, str, dict[tuple[type, Any], Any]]] = [(*pair, {}) for pair in names.items()]

    def __call__(self, changes: Mapping[str, Any]) -> Kind:
        """The copy with `changes`, a value for each of the names; `ParameterError` as from `replace`."""
        made = None if self._checks is None else self._quickly(self._checks, changes)
        if made is None:
            made = self._base.replace(**{name: changes[change] for change, name in self._names.items()})
            for change, name, known in self._known:
                value = changes[change]
                if type(value) in _PLAIN and (value != 0 or type(value) is not float):  # 0.0 and -0.0 are equal
                    known[type(value), value] = made.__dict__[name]
        return made

    def _quickly(self, checks: tuple[Callable[[Kind], Kind], ...], changes: Mapping[str, Any]) -> Kind | None:
        """A copy of known values; None where one is new, or where they do not go together."""
        values = self._values.copy()
        try:
            for change, name, known in self._known:
                value = changes[change]
                values[name] = known[type(value), value]
        except (KeyError, TypeError):  # not met before, or no key of anything
            return None
        made = BaseModel.__new__(self._kind)
        _set(made, "__dict__", values)
        _set(made, "__pydantic_fields_set__", self._given)
        _set(made, "__pydantic_extra__", None)
        _set(made, "__pydantic_private__", None)
        try:
            for check in checks:
                made = check(made)
        except (ValueError, AssertionError):  # `replace` says what is wrong
            return None
        return made


def _joint_checks(kind: type[Kind]) -> tuple[Callable[[Kind], Kind], ...] | None:
    """What `kind` asks of a finished object, where that is all it does besides checking each field; else None."""
    asked = kind.__pydantic_decorators__
    plain = not (asked.validators or asked.field_validators or asked.root_validators or kind.__private_attributes__)
    if not plain or kind.__init__ is not Parameters.__init__ or kind.__pydantic_post_init__ is not None:
        return None
    checks = [getattr(kind, name) for name in asked.model_validators]
    modes = {one.info.mode for one in asked.model_validators.values()}
    alone = all(len(inspect.signature(check).parameters) == 1 for check in checks)
    return tuple(checks) if modes <= {"after"} and alone else None
