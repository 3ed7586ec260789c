"""The page in a bundle for the person who opens the folder: what will happen with the money, in plain words."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from tradelib.backtest.decision import DecisionRule
from tradelib.bundle.account import Rows, turns
from tradelib.bundle.execution import NEEDS, Execution
from tradelib.parameters import Parameters

__all__ = ["readme"]

_MEANING = {
    "paper": "It may trade on paper. It may **not** trade money.",
    "live": "It may trade money: every safety and every evidence gate was passed.",
}

_PAGE = """# {name}

A strategy sealed by tradelib: rule, package, data digests, evidence and reference decisions, signed as one.
{meaning}

## What it does with the money

{story}

## What it trades

{market}

## What trading costs, as research assumed it

{costs}

## How it decides

{rule}

## Between the decisions

{policies}

## What it needs of a runner

{needs}

## What it did in the reference window

{golden}

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
`golden/` holds the bars, and the decisions, orders, fills and equity that must come out, bit for bit;
`provenance.json` says from which commit, parameters and registry version it was made.
"""


def readme(
    name: str,
    permission: str,
    rule: DecisionRule,
    execution: Execution,
    needs: Sequence[str],
    gates: Sequence[Mapping[str, Any]],
    account: Mapping[str, Rows],
) -> str:
    """The bundle's README.md. Says nothing that differs between two commits of equal content."""
    return _PAGE.format(
        name=name,
        meaning=_MEANING[permission],
        story=_story(rule, execution),
        market=_table(("what", "value"), _market(execution)),
        costs=_table(("what", "value"), _costs(execution)),
        rule=_table(("part", "parameters"), _rule(rule)),
        policies=_policies(rule),
        needs=_needs(needs),
        golden=_golden(execution, account),
        gates=_table(("tier", "gate", "figure", "threshold", "result"), [_gate_row(gate) for gate in gates]),
    )


def _story(rule: DecisionRule, execution: Execution) -> str:
    """What happens bar by bar, in a few sentences."""
    told = [
        f"At the close of each {execution.timeframe} bar of {execution.symbol} the rule decides which share of the "
        f"account's equity to hold, from bar {execution.warmup} on. A market order takes the account there."
    ]
    if rule.rebalance_band is None:
        told.append("It trades entries, exits and turns only: a share that drifts with the price is left as it is.")
    else:
        told.append(f"A drift of the share by less than {_percent(rule.rebalance_band)} of the equity is left alone.")
    if rule.exits is not None:
        told.append("Protective orders may close a position between two decisions.")
    if rule.scale_in is not None:
        told.append(f"A position may grow by up to {rule.scale_in.orders} further entries.")
    if rule.limits is not None:
        told.append("Limits of risk may refuse an entry or close everything.")
    return textwrap.fill(" ".join(told), 120)


def _market(execution: Execution) -> list[tuple[str, Any]]:
    exact = execution.precision
    unit = f" {execution.symbol.partition('/')[2].partition(':')[0]}".rstrip()
    rows: list[tuple[str, Any]] = [(name, getattr(execution, name)) for name in ("symbol", "timeframe", "calendar")]
    rows += [
        ("smallest lot", exact["lot"] or ("none" if execution.lots_per_unit == 0.0 else "no decimal")),
        ("smallest step of a price", exact["tick"] or "not stated"),
        ("smallest order", f"{exact['minimum_notional']}{unit}"),
        ("cash at the start", f"{execution.cash:,.2f}{unit}"),
        ("largest exposure", f"{execution.maximum_leverage:g} times the equity"),
        ("an order too large for the account", {"reject": "is refused"}.get(execution.insufficient_cash, "is reduced")),
    ]
    if execution.maintenance_margin > 0.0:
        rows.append(("liquidated when equity falls to", f"{_percent(execution.maintenance_margin)} of the exposure"))
        rows.append(("fee of a liquidation", _percent(execution.liquidation_fee_rate)))
    return rows


def _costs(execution: Execution) -> list[tuple[str, str]]:
    """Every cost; those that are nothing say so, so that nobody has to ask whether they were forgotten."""
    maker = execution.fee_rate if execution.maker_fee_rate is None else execution.maker_fee_rate
    rows = [
        ("fee of a market order", f"{_percent(execution.fee_rate)} of the value"),
        ("fee of a limit order that rested", f"{_percent(maker)} of the value"),
        ("slippage of a market order", f"{_percent(execution.slippage)} of the price"),
        ("spread, half of it paid per fill", f"{_percent(execution.spread)} of the price"),
        ("impact of an order as large as the bar's volume", f"{_percent(execution.impact)} of the price"),
        ("borrowing what is sold short", f"{_percent(execution.borrow_rate)} a year"),
        ("interest on borrowed cash", f"{_percent(execution.interest_rate)} a year"),
    ]
    for tier in execution.fee_tiers:
        told = f"{_percent(tier.maker)} resting, {_percent(tier.taker)} otherwise"
        rows.append((f"fees from {tier.volume:,.0f} traded in {execution.tier_bars} bars", told))
    return rows


def _rule(rule: DecisionRule) -> list[tuple[str, str]]:
    config = rule.to_config()
    band = "entries and exits only" if rule.rebalance_band is None else f"{rule.rebalance_band!r} of equity"
    return [("strategy", _call(config["strategy"])), ("sizing", _call(config["sizing"])), ("rebalance band", band)]


def _policies(rule: DecisionRule) -> str:
    """Exits, further entries and limits as they were given, each with what it measures."""
    given = [(name, getattr(rule, name)) for name in ("exits", "scale_in", "limits")]
    rows = [
        (name, field.replace("_", " "), _value(value), type(policy).model_fields[field].description)
        for name, policy in given
        if policy is not None
        for field, value in _set_fields(policy)
    ]
    if not rows:
        return "Nothing: it has no protective orders, no further entries and no limits of risk."
    return _table(("policy", "what", "value", "meaning"), rows)


def _set_fields(policy: Parameters) -> list[tuple[str, Any]]:
    """Fields that differ from their default; all of them where none does."""
    fields = {name: getattr(policy, name) for name in type(policy).model_fields}
    changed = {name: value for name, value in fields.items() if value != type(policy).model_fields[name].default}
    return list((changed or fields).items())


def _value(value: Any) -> str:
    """A distance with its unit, a ladder as its rungs, anything else as it is."""
    if isinstance(value, tuple):
        return "; ".join(map(_value, value)) or "none"
    if not isinstance(value, Parameters):
        return "none" if value is None else str(value)
    fields = {name: getattr(value, name) for name in type(value).model_fields}
    if set(fields) == {"value", "unit"}:
        return _percent(fields["value"]) if fields["unit"] == "fraction" else f"{fields['value']:g} {fields['unit']}"
    if set(fields) == {"distance", "share"}:
        return f"{_percent(fields['share'])} of the position at {_value(fields['distance'])}"
    return ", ".join(f"{name}={item!r}" for name, item in fields.items())


def _needs(needed: Sequence[str]) -> str:
    if not needed:
        return "Market orders at the close of a bar, nothing else."
    told = "Besides market orders at the close of a bar; a runner that cannot do all of it refuses the bundle."
    return f"{told}\n\n{_table(('need', 'meaning'), [(name, NEEDS[name]) for name in needed])}"


def _golden(execution: Execution, account: Mapping[str, Rows]) -> str:
    """The reference window as an account that began with it; a check of the machinery, not a promise."""
    equity, fills = account["equity"], account["fills"]
    entries, exits = turns(fills)
    refused = sum(order["status"] == "rejected" for order in account["orders"])
    rows = [
        ("bars", f"{len(equity)}, from {equity[0]['time'][:16]} to {equity[-1]['time'][:16]} UTC"),
        ("entries", entries),
        ("exits", exits),
        ("fills", len(fills)),
        ("orders refused", refused),
        ("fees", f"{sum(fill['fee'] for fill in fills):,.2f}"),
        ("equity at the start", f"{execution.cash:,.2f}"),
        ("equity at the end", f"{equity[-1]['equity']:,.2f}"),
        ("lowest equity", f"{min(row['equity'] for row in equity):,.2f}"),
        ("position at the end", f"{equity[-1]['position']:.6g}"),
    ]
    words = "An account that begins with the window, warm-up included. It shows that two machines do the same; it is"
    return f"{words}\nno promise of a return.\n\n{_table(('what', 'value'), rows)}"


def _call(part: Mapping[str, Any]) -> str:
    parameters = ", ".join(f"{name}={value!r}" for name, value in part["params"].items())
    return f"{part['name']}({parameters})"


def _gate_row(gate: Mapping[str, Any]) -> tuple[Any, ...]:
    result = "passed" if gate["passed"] else "**failed**"
    return gate["tier"], gate["name"], gate.get("figure"), gate.get("threshold"), result


def _percent(fraction: float) -> str:
    return f"{100.0 * fraction:.6g} %"


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return "" if value is None else " ".join(str(value).split()).replace("|", "\\|")
