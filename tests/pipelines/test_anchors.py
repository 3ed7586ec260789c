"""The pipeline knows its ledger again, and refuses another one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines import anchors, trials
from pipelines.stages import trials as count
from tradelib.backtest.trials import Trial, TrialLedger
from tradelib.errors import LedgerError


@pytest.fixture(autouse=True)
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project without registry and bundles."""
    monkeypatch.setattr(anchors, "root", lambda: tmp_path)
    monkeypatch.setattr(count, "artifact", lambda *parts: tmp_path.joinpath("artifacts", *parts))
    return tmp_path


def tried(number: int) -> Trial:
    window = ("2000-01-01T00:00:00+00:00", "2001-12-31T00:00:00+00:00")
    return Trial("Trend|SPX|1d", {"x": number}, {"calendar": "24/7"}, "ab" * 32, window, 504, number / 100)


def seal(clone: Path, anchor: object) -> None:
    """A bundle whose provenance names the head of the ledger."""
    folder = clone / "bundles" / "trend-1a2b"
    folder.mkdir(parents=True)
    (folder / "provenance.json").write_text(json.dumps({"candidate": "trend", "trials_anchor": str(anchor)}))


def test_a_fresh_clone_has_no_anchors_and_any_ledger_is_its_own(clone: Path) -> None:
    assert anchors.kept_anchors() == {}
    (clone / "bundles" / "old").mkdir(parents=True)
    (clone / "bundles" / "old" / "provenance.json").write_text('{"candidate": "sealed before anchors were"}')
    assert anchors.continued_ledger().families() == {}


def test_the_count_refuses_a_ledger_that_a_bundle_does_not_know(clone: Path, home: Path, monkeypatch, capsys) -> None:
    TrialLedger().record([tried(1), tried(2)])
    seal(clone, TrialLedger().anchor())
    assert anchors.continued_ledger().families() == {"Trend|SPX|1d": 2}
    assert trials.main() == 0
    assert "continues all of 1 heads" in capsys.readouterr().out
    monkeypatch.setenv("TRADELIB_HOME", str(clone / "empty"))
    TrialLedger().record([tried(2)])
    with pytest.raises(LedgerError, match="of which bundle trend-1a2b knows: it had 2 trials in 2 entries"):
        count.main(None)  # type: ignore[arg-type]
    assert trials.main() == 1
    assert "of which bundle trend-1a2b knows" in capsys.readouterr().err


def test_what_research_recorded_is_offered_again_and_counted_once(clone: Path) -> None:
    folder = clone / "artifacts" / "research" / "trend"
    folder.mkdir(parents=True)
    body = [{**vars(tried(number)), "window": list(tried(number).window)} for number in (1, 2)]
    (folder / "sweep.json").write_text(json.dumps({"trials": body}))
    TrialLedger().record([tried(2), tried(3)])
    for _ in range(2):
        count.main(None)  # type: ignore[arg-type]
    told = json.loads((clone / "artifacts" / "trials" / "trials.json").read_text())
    assert told["Trend|SPX|1d"]["count"] == 3
