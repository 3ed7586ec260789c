"""Count: what the trial ledger knows about the families of all candidates. Runs on every `dvc repro`.

Trials that research recorded are offered to the ledger again (known ones count once), so that a clone starts with all
of them; trials made since, in whatever notebook, are in the count as well. A ledger that does not continue the one of
which a registered run or a bundle knows is refused.
"""

from __future__ import annotations

from pipelines.anchors import continued_ledger
from pipelines.artifacts import artifact, read_json, write_json
from pipelines.params import Params
from tradelib.backtest.trials import Trial
from tradelib.errors import LedgerError

SECTIONS: tuple[str, ...] = ()


def main(params: Params, *candidates: str) -> None:
    """Write `trials.json`: per family what competes with it, how many trials, and how their Sharpe ratios vary."""
    del params
    ledger = continued_ledger()
    families: set[str] = set()
    for path in [
        *sorted(artifact("research").glob("*/sweep.json")),
        *sorted(artifact("evaluate").glob("*/trials.json")),
    ]:
        known = [Trial(**{**entry, "window": tuple(entry["window"])}) for entry in read_json(path)["trials"]]
        ledger.record(known)
        families.update(trial.family for trial in known)
    if not families:
        raise LedgerError("research has recorded no trial: run `dvc repro` from the start")
    write_json(artifact("trials", "trials.json"), {name: ledger.summary(name).to_dict() for name in sorted(families)})
