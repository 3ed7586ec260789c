"""Seal a candidate that passed its safety gates into a signed bundle.

The bundle names commit and registry entry, so its digest belongs to this clone; what DVC tracks is the digest of the
payload, which is the same wherever the same content is sealed.
"""

from __future__ import annotations

from pipelines.anchors import continued_ledger
from pipelines.artifacts import artifact, local_state, read_json, root, write_json
from pipelines.params import Params
from pipelines.provenance import provenance
from pipelines.setting import chosen_rule, execution, setting, subject
from tradelib.bundle.keys import TrustStore, load_private_key
from tradelib.errors import BundleError
from tradelib.promotion.promote import promote

SECTIONS = ("costs", "account", "strategies", "promotion")


def main(params: Params, candidate: str) -> None:
    """Write `promotion.json` (payload digest and gates); the bundle itself goes to `bundles/`."""
    continued_ledger()
    here = setting(params, candidate)
    found = read_json(artifact("gates", candidate, "gates.json"))
    if found["subject"] != subject(chosen_rule(candidate), here):
        raise BundleError(
            f"the gates of {candidate} judged another rule, other bars or another account: run them again"
        )
    promotion = promote(
        name=candidate,
        rule=chosen_rule(candidate),
        execution=execution(here.bars, here.costs, params.account),
        research_bars=here.bars,
        gates=found["gates"],
        figures=found["figures"],
        provenance=provenance(candidate)
        | read_json(local_state("trials", f"{candidate}.json"))
        | {"registered": read_json(local_state("register", f"{candidate}.json"))},
        root=root(),
        bundles_dir=root() / "bundles",
        golden_length=params.promotion.golden_length,
        private_key=load_private_key(params.promotion.signing_key),
        trust=TrustStore(),
    )
    sealed = promotion.bundle
    write_json(local_state("promote", f"{candidate}.json"), {"folder": sealed.path.name, "digest": sealed.digest})
    write_json(
        artifact("promote", candidate, "promotion.json"),
        {
            "name": candidate,
            "permission": promotion.permission,
            "payload_digest": sealed.payload_digest,
            "package_digest": sealed.package_digest,
            "gates": [result.to_dict() for result in promotion.results],
        },
    )
