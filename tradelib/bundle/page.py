"""The page in a bundle for the person who opens the folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tradelib.backtest.decision import DecisionRule
from tradelib.bundle.layout import Execution

__all__ = ["readme"]

_MEANING = {
    "paper": "It may trade on paper. It may **not** trade money.",
    "live": "It may trade money: every safety and every evidence gate was passed.",
}

_PAGE = """# {name}

A strategy sealed by tradelib: rule, package, data digests, evidence and reference decisions, signed as one.
{meaning}

## What it trades

{market}

## How it decides

{rule}

## What it had to pass

{gates}

## Verify and run

The manifest names every file with its SHA-256. `attestation.json` is an in-toto statement about the manifest in a DSSE
envelope, signed with Ed25519. Install exactly what was sealed, then ask it:

```
pip install --require-hashes -r package/runner.lock
pip install --no-deps package/*.whl
python - <<'CHECK'
from tradelib.bundle import TrustStore, load_bundle, reproduce_golden, verify_runtime

bundle = load_bundle(".", TrustStore())
verify_runtime(bundle)
print(reproduce_golden(bundle))
CHECK
```

The public key that signed it (`attestation.json`, `keyid`) must be in your trust store first; ask its owner for it by
another way than the one this folder came by. The runner does these checks by itself and refuses where one fails.
`golden/` holds the bars and the decisions that must come out, bit for bit; `provenance.json` says from which commit,
parameters and registry version it was made.
"""


def readme(
    name: str, permission: str, rule: DecisionRule, execution: Execution, gates: Sequence[Mapping[str, Any]]
) -> str:
    """The bundle's README.md. Says nothing that differs between two commits of equal content."""
    config = rule.to_config()
    parts = [("strategy", _call(config["strategy"])), ("sizing", _call(config["sizing"]))]
    band = "entries and exits only" if rule.rebalance_band is None else f"{rule.rebalance_band!r} of equity"
    parts.append(("rebalance band", band))
    return _PAGE.format(
        name=name,
        meaning=_MEANING[permission],
        market=_table(("field", "value"), list(execution.to_config().items())),
        rule=_table(("part", "parameters"), parts),
        gates=_table(("tier", "gate", "figure", "threshold", "result"), [_gate_row(gate) for gate in gates]),
    )


def _call(part: Mapping[str, Any]) -> str:
    parameters = ", ".join(f"{name}={value!r}" for name, value in part["params"].items())
    return f"{part['name']}({parameters})"


def _gate_row(gate: Mapping[str, Any]) -> tuple[Any, ...]:
    result = "passed" if gate["passed"] else "**failed**"
    return gate["tier"], gate["name"], gate.get("figure"), gate.get("threshold"), result


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return "" if value is None else " ".join(str(value).split()).replace("|", "\\|")
