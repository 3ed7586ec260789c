"""Promote from a clean clone in a process of its own: `python -m tests.promotion.sealing OUT`, run in the clone."""

from __future__ import annotations

import sys
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import tradelib
from tests.promotion.support import EXECUTION, FIGURES, results, synthetic_bars, trend
from tradelib.bundle import TrustStore
from tradelib.promotion.promote import promote
from tradelib.risk import Exits, Limits


def main(out: str) -> None:
    """Seal the same content under the same key; prints where it went, and with which package."""
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    trust = TrustStore(Path(out) / "trust")
    trust.add(key.public_key())
    exits = Exits(stop_loss={"value": 2.0, "unit": "atr"}, take_profit=[(0.02, 0.5), (0.05, 0.5)])
    done = promote(
        name="trend",
        rule=trend().replace(rebalance_band=None, exits=exits, limits=Limits(daily_loss=0.02)),
        execution={**EXECUTION, "maker_fee_rate": 0.0002, "spread": 0.0004},
        research_bars=synthetic_bars(200),
        gates=results("deflated_sharpe"),
        figures=FIGURES,
        provenance={"commit": "0" * 40},
        root=Path.cwd(),
        bundles_dir=Path(out) / "bundles",
        golden_length=120,
        private_key=key,
        trust=trust,
    )
    print(done.bundle.path)
    print(Path(tradelib.__path__[0]).parent)


if __name__ == "__main__":
    main(*sys.argv[1:])
