"""The signature of a bundle: an in-toto statement about its manifest, in a DSSE envelope.

The statement says which manifest was sealed (by SHA-256), under which name and permission, and where it came from; it
is signed with Ed25519. Statement and envelope are public formats, so that tools which know nothing of tradelib can
check them. Sources: in-toto Attestation Framework 1.0, Statement; SLSA 1.0, Provenance; DSSE 1.0, protocol.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tradelib.bundle import layout
from tradelib.bundle.keys import key_id
from tradelib.bundle.layout import parse_json, sha256
from tradelib.errors import BundleError
from tradelib.ledger.chain import canonical

__all__ = ["PAYLOAD_TYPE", "Envelope", "pre_authentication", "read_envelope", "seal", "statement", "subject_of"]

PAYLOAD_TYPE = "application/vnd.in-toto+json"
_STATEMENT = "https://in-toto.io/Statement/v1"
_PREDICATE = "https://slsa.dev/provenance/v1"
_BUILD_TYPE = f"urn:{layout.FORMAT.replace('/', ':')}"
_BUILDER = "urn:tradelib:promotion"


class Envelope(NamedTuple):
    """What an attestation holds before anything in it is believed."""

    key_id: str
    signature: bytes
    payload: bytes


def statement(manifest: bytes, provenance: Mapping[str, Any]) -> bytes:
    """What is signed about a bundle: the digest of its manifest, its name and permission, and its provenance."""
    said = parse_json(manifest, layout.MANIFEST)
    definition = {
        "buildType": _BUILD_TYPE,
        "externalParameters": {"name": said["name"], "permission": said["permission"]},
        "internalParameters": dict(provenance),
    }
    return _line(
        {
            "_type": _STATEMENT,
            "subject": [{"name": layout.MANIFEST, "digest": {"sha256": sha256(manifest)}}],
            "predicateType": _PREDICATE,
            "predicate": {"buildDefinition": definition, "runDetails": {"builder": {"id": _BUILDER}}},
        }
    )


def subject_of(payload: bytes) -> str:
    """SHA-256 of the manifest that a statement is about; `BundleError` where it is no statement about a bundle."""
    said = parse_json(payload, "the statement")
    try:
        subjects, kinds = said["subject"], (said["_type"], said["predicateType"])
        if kinds == (_STATEMENT, _PREDICATE) and len(subjects) == 1 and subjects[0]["name"] == layout.MANIFEST:
            return str(subjects[0]["digest"]["sha256"])
    except (KeyError, TypeError):
        pass
    raise BundleError("the statement is not one about a bundle")


def pre_authentication(payload: bytes, payload_type: str = PAYLOAD_TYPE) -> bytes:
    """The bytes that are signed: DSSE's encoding of payload type and payload, which fits nothing else."""
    kind = payload_type.encode("ascii")
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def seal(payload: bytes, private_key: Ed25519PrivateKey) -> bytes:
    """The exact bytes of attestation.json."""
    signature = private_key.sign(pre_authentication(payload))
    return _file(Envelope(key_id(private_key.public_key()), signature, payload))


def read_envelope(raw: bytes) -> Envelope:
    """The parts of attestation.json; `BundleError` for anything that `seal` would not have written."""
    parsed = parse_json(raw, layout.ATTESTATION)
    try:
        (signed,) = parsed["signatures"]
        texts = (signed["sig"], parsed["payload"])
        envelope = Envelope(signed["keyid"], *(base64.b64decode(text, validate=True) for text in texts))
        if isinstance(envelope.key_id, str) and _file(envelope) == raw:
            return envelope
    except (TypeError, KeyError, ValueError):
        pass
    raise BundleError(f"{layout.ATTESTATION} is not an attestation: it was altered or made by something else.")


def _file(envelope: Envelope) -> bytes:
    signed = {"keyid": envelope.key_id, "sig": _text(envelope.signature)}
    return _line({"payload": _text(envelope.payload), "payloadType": PAYLOAD_TYPE, "signatures": [signed]})


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _line(value: Any) -> bytes:
    return (canonical(value) + "\n").encode("ascii")
