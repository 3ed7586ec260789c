"""Who may do what: a name, a role and the hash of a token for each person, from the environment of the runner.

The runner knows only the SHA-256 of each token (`TRADELIB_CONTROL_USERS`, "alice:approve:<hash> bob:view:<hash>"), so
its environment opens nothing. A token is 256 random bits; `new_token` makes one.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple

from tradelib.errors import RunnerError

__all__ = ["RUNNER", "TOKEN_VARIABLE", "USERS_VARIABLE", "Role", "User", "Users", "new_token", "users_from_environment"]

USERS_VARIABLE = "TRADELIB_CONTROL_USERS"
TOKEN_VARIABLE = "TRADELIB_CONTROL_TOKEN"
RUNNER = "runner"
"""What the runner calls itself in the journal; no person can."""


class Role(IntEnum):
    """What a person may do; each role may do what those before it may."""

    VIEW = 1
    OPERATE = 2
    APPROVE = 3


class User(NamedTuple):
    """A person with a token, of which only the hash is known here."""

    name: str
    role: Role
    token_hash: str


class Users:
    """Who may do what. Raises `RunnerError` for two people of one name, or a name that the runner itself uses."""

    def __init__(self, users: Sequence[User] = ()) -> None:
        names = [user.name for user in users]
        for name in names:
            if names.count(name) > 1 or name == RUNNER:
                raise RunnerError(
                    f"the operator {name!r} is named twice, or is the runner itself: names must tell people apart"
                )
        self._users = tuple(users)

    def __len__(self) -> int:
        return len(self._users)

    def find(self, token: str) -> User | None:
        """Whose token this is. Compares with everybody, so that time tells nothing."""
        given = token_hash(token)
        found = [user for user in self._users if hmac.compare_digest(user.token_hash, given)]
        return found[0] if found else None


def token_hash(token: str) -> str:
    """SHA-256 of a token, 64 hex digits."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def new_token(name: str, role: Role) -> tuple[str, str]:
    """A token for `name`, and the entry of `TRADELIB_CONTROL_USERS` that lets it in."""
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,40}", name) or name == RUNNER:
        raise RunnerError(f"{name!r} cannot be the name of an operator: use letters, digits, _ . - and not 'runner'")
    token = secrets.token_urlsafe(32)
    return token, f"{name}:{role.name.lower()}:{token_hash(token)}"


def users_from_environment(environment: Mapping[str, str] | None = None) -> Users:
    """The operators in `TRADELIB_CONTROL_USERS`, none where it is not set. `RunnerError` says which entry is wrong."""
    told = (os.environ if environment is None else environment).get(USERS_VARIABLE, "")
    return Users([_user(text, i + 1) for i, text in enumerate(re.split(r"[\s,]+", told.strip())) if text])


def _user(text: str, position: int) -> User:
    found = re.fullmatch(r"([A-Za-z0-9_.-]{1,40}):(view|operate|approve):([0-9a-f]{64})", text)
    if found is None:
        raise RunnerError(
            f"entry {position} of {USERS_VARIABLE} does not read name:role:hash with a role of view, operate or "
            "approve: make it with `tradelib token NAME --role ROLE`"
        )
    return User(found[1], Role[found[2].upper()], found[3])
