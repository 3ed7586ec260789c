"""A strategy sealed into a signed folder: written by promotion, verified and reproduced by the runner."""

from __future__ import annotations

from tradelib.bundle.account import golden_account
from tradelib.bundle.execution import Execution, needs_of
from tradelib.bundle.format import BundleContents, write_bundle
from tradelib.bundle.golden import GoldenCheck, make_golden, reproduce_golden
from tradelib.bundle.keys import Key, TrustStore, generate_key, list_keys, load_private_key, rotate_key
from tradelib.bundle.layout import Bundle
from tradelib.bundle.runtime import package_digest, verify_runtime, wheel_digest
from tradelib.bundle.verify import Problem, Verification, load_bundle, verify_bundle

__all__ = [
    "Bundle",
    "BundleContents",
    "Execution",
    "GoldenCheck",
    "Key",
    "Problem",
    "TrustStore",
    "Verification",
    "generate_key",
    "golden_account",
    "list_keys",
    "load_bundle",
    "load_private_key",
    "make_golden",
    "needs_of",
    "package_digest",
    "reproduce_golden",
    "rotate_key",
    "verify_bundle",
    "verify_runtime",
    "wheel_digest",
    "write_bundle",
]
