"""Under which licence a package may be used, as it says itself, and whether that is allowed.

A package states its licence as an SPDX expression (`License-Expression`, PEP 639), or, older ones, as a word in
`License` or as classifiers. Several classifiers without an expression are taken together: all must be allowed.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from importlib import metadata

from tradelib.errors import ParameterError

__all__ = ["is_allowed", "licence_of"]

_NAMES = {
    "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "bsd license": "BSD",
    "isc license": "ISC",
    "isc license (iscl)": "ISC",
    "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "python software foundation license": "PSF-2.0",
}
"""What packages write, in lower case -> SPDX identifier. "BSD" alone does not say how many clauses."""
_WORD = re.compile(r"\(|\)|[A-Za-z0-9.+-]+")
_VAGUE = frozenset({"", "dual license", "unknown"})


def licence_of(package: str, version: str) -> str | None:
    """The licence of a package as an SPDX expression.

    None where it is not installed here in that version, or does not say. What is no SPDX identifier and has no known
    name comes back as it stands: nothing allows it.
    """
    try:
        found = metadata.distribution(package)
    except metadata.PackageNotFoundError:
        return None
    if found.version != version:
        return None
    stated, word = (
        str((found.metadata.get_all(name) or [""])[0]).strip() for name in ("License-Expression", "License")
    )
    if stated:
        return stated
    if word.lower() not in _VAGUE and "\n" not in word:
        return _identifier(word)
    classifiers = [line for line in found.metadata.get_all("Classifier") or () if line.startswith("License ::")]
    names = [_identifier(line.rpartition(" :: ")[2]) for line in classifiers]
    return " AND ".join(sorted(set(names))) or None


def is_allowed(expression: str, allowed: Collection[str]) -> bool:
    """Whether an SPDX expression (identifiers, AND, OR, WITH, parentheses) can be met with `allowed` licences.

    `ParameterError` for what is no expression.
    """
    words = _WORD.findall(expression)
    if "".join(words) != "".join(expression.split()):
        raise ParameterError(f"{expression!r} is no SPDX expression")
    verdict, left = _either(words, allowed)
    if left:
        raise ParameterError(f"{expression!r} is no SPDX expression: {' '.join(left)!r} does not belong there")
    return verdict


def _either(words: list[str], allowed: Collection[str]) -> tuple[bool, list[str]]:
    verdict, words = _both(words, allowed)
    while words and words[0].upper() == "OR":
        other, words = _both(words[1:], allowed)
        verdict = verdict or other
    return verdict, words


def _both(words: list[str], allowed: Collection[str]) -> tuple[bool, list[str]]:
    verdict, words = _one(words, allowed)
    while words and words[0].upper() == "AND":
        other, words = _one(words[1:], allowed)
        verdict = verdict and other
    return verdict, words


def _one(words: list[str], allowed: Collection[str]) -> tuple[bool, list[str]]:
    """An identifier, with its exception as one name ("GPL-2.0-only WITH Classpath-exception-2.0"), or parentheses."""
    if words and words[0] == "(":
        verdict, left = _either(words[1:], allowed)
        if left[:1] == [")"]:
            return verdict, left[1:]
    elif words and words[0] not in ("AND", "OR", "WITH", ")"):
        length = 3 if words[1:2] == ["WITH"] and len(words) > 2 else 1
        return " ".join(words[:length]) in allowed, words[length:]
    raise ParameterError("a licence is missing in an SPDX expression")


def _identifier(word: str) -> str:
    return _NAMES.get(word.lower(), word)
