"""One line of text that tells a ledger from a shorter one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tradelib.errors import LedgerError
from tradelib.ledger.anchor import Anchor
from tradelib.ledger.chain import GENESIS, Ledger

HASH = "ab" * 32


def test_it_travels_as_one_line_of_text() -> None:
    anchor = Anchor(37, HASH, 512)
    assert str(anchor) == f"37:{HASH}:512"
    assert Anchor.parse(str(anchor)) == anchor


@pytest.mark.parametrize("text", ["", "37", f"37:{HASH}", f"37:{HASH[:-1]}:5", f"-1:{HASH}:5", f"37:{HASH}:5\n"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(LedgerError, match="is no anchor"):
        Anchor.parse(text)


def test_a_ledger_passes_through_every_head_it_ever_had_and_through_no_other(tmp_path: Path) -> None:
    with Ledger(tmp_path / "l.sqlite") as ledger:
        heads = [ledger.head()]
        for number in range(3):
            ledger.append("note", {"number": number})
            heads.append(ledger.head())
        assert heads[0] == (0, GENESIS)
        assert all(ledger.passes(head) for head in heads)
        assert not ledger.passes((0, HASH))
        assert not ledger.passes((2, heads[1][1]))
        assert not ledger.passes((4, HASH))
