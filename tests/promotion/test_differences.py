"""What changed between two bundles is listed, field by field; what did not is not."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.promotion.support import trend
from tradelib.bundle import Bundle
from tradelib.promotion.differences import SECTIONS, compare_bundles
from tradelib.promotion.promote import Promotion


def with_package(bundle: Bundle, folder: Path, **modules: str) -> Bundle:
    """The bundle with another wheel: modules replaced or added."""
    copy = folder / "package" / bundle.wheel.name
    copy.parent.mkdir()
    with zipfile.ZipFile(bundle.wheel) as old, zipfile.ZipFile(copy, "w") as new:
        for name in old.namelist():
            if name not in modules:
                new.writestr(name, old.read(name))
        for name, text in modules.items():
            new.writestr(name, text)
    return replace(bundle, path=folder)


def test_the_same_bundle_has_no_difference(promotion: Promotion) -> None:
    found = compare_bundles(promotion.bundle, promotion.bundle)
    assert found.changes == ()
    assert found.summary().endswith("have the same content.")


CHANGED: dict[str, tuple[dict[str, Any], list[tuple[str, str, Any, Any]]]] = {
    "a parameter": ({"rule": trend(4, 8)}, [("parameters", "strategy.params.fast", 3, 4)]),
    "a gate": (
        {"gates": [{"tier": "safety", "name": "causality", "passed": False}]},
        [("gates", "causality", "passed", "failed")],
    ),
    "a figure that is new": ({"figures": {"sharpe": 1.0}}, [("figures", "sharpe", "—", 1.0)]),
    "another commit": ({"provenance": {"commit": "1" * 40}}, [("provenance", "commit", "0" * 40, "1" * 40)]),
    "the data": ({"data": {"research": {"bars": 7}}}, [("data", "research.bars", 200, 7)]),
}


@pytest.mark.parametrize("case", CHANGED)
def test_a_change_is_listed_with_both_sides(promotion: Promotion, case: str) -> None:
    changes, expected = CHANGED[case]
    found = compare_bundles(promotion.bundle, replace(promotion.bundle, digest="f" * 64, **changes))
    assert set(expected) <= {tuple(change) for change in found.changes}
    assert {change.section for change in found.changes} == {expected[0][0]}
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["after"] == "f" * 64


def test_terms_of_execution(promotion: Promotion) -> None:
    terms = replace(promotion.bundle.execution, fee_rate=0.002)
    (change,) = compare_bundles(promotion.bundle, replace(promotion.bundle, execution=terms)).changes
    assert change == ("execution", "fee_rate", 0.001, 0.002)


def test_code_is_compared_module_by_module(promotion: Promotion, tmp_path: Path) -> None:
    changed = {"tradelib/errors.py": "x = 1\ny = 2\n", "tradelib/new.py": "z = 3\n"}
    found = compare_bundles(promotion.bundle, with_package(promotion.bundle, tmp_path, **changed))
    assert [change.field for change in found.changes] == list(changed)
    assert found.changes[1] == ("code", "tradelib/new.py", "-0 lines", "+1 lines")
    assert "+z = 3" in found.code["tradelib/new.py"]
    assert found.by_section == {name: 2 if name == "code" else 0 for name in SECTIONS}
    assert "2 in code" in found._repr_html_()
