"""Attacks on a sealed folder: each is seen, and named in plain words."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import shutil
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tradelib.bundle import TrustStore, load_bundle, reproduce_golden, verify_bundle
from tradelib.bundle.attestation import pre_authentication
from tradelib.bundle.keys import key_id
from tradelib.bundle.layout import parse_json
from tradelib.errors import BundleError

OTHER = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
TYPE = "application/vnd.in-toto+json"


def line(value: Any) -> bytes:
    return (json.dumps(value, sort_keys=True, separators=(",", ":")) + "\n").encode()


def encoded(payload: bytes, kind: str = TYPE) -> bytes:
    """DSSE's pre-authentication encoding, written out a second time."""
    return b" ".join([b"DSSEv1", str(len(kind)).encode(), kind.encode(), str(len(payload)).encode(), payload])


def attested(path: Path) -> dict[str, Any]:
    """The statement in a bundle."""
    envelope = json.loads((path / "attestation.json").read_bytes())
    return dict(json.loads(base64.b64decode(envelope["payload"])))


def sign(
    path: Path,
    key: Ed25519PrivateKey,
    claimed: str | None = None,
    encode: Callable[[bytes], bytes] = encoded,
    change: Callable[[dict[str, Any]], Any] = lambda statement: statement,
) -> None:
    """Attest whatever manifest and provenance are there."""
    said = attested(path)
    raw = (path / "manifest.json").read_bytes()
    said["subject"][0]["digest"]["sha256"] = hashlib.sha256(raw).hexdigest()
    with suppress(ValueError, TypeError, KeyError, RecursionError):  # a manifest that is none has no name
        manifest = json.loads(raw)
        named = {name: manifest[name] for name in ("name", "permission")}
        said["predicate"]["buildDefinition"]["externalParameters"] = named
    payload = line(change(said))
    signature = base64.b64encode(key.sign(encode(payload))).decode()
    signed = {"keyid": claimed or key_id(key.public_key()), "sig": signature}
    envelope = {"payload": base64.b64encode(payload).decode(), "payloadType": TYPE, "signatures": [signed]}
    (path / "attestation.json").write_bytes(line(envelope))


def insider(path: Path, key: Ed25519PrivateKey, contents: dict[str, bytes] | None = None, /, **fields: Any) -> None:
    """Somebody who holds the trusted key: replaces files, makes the manifest fit, and signs."""
    manifest = json.loads((path / "manifest.json").read_bytes())
    for name, content in (contents or {}).items():
        (path / name).write_bytes(content)
        manifest["files"][name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    (path / "manifest.json").write_bytes(line(manifest | fields))
    sign(path, key)


def listing(path: Path, name: str, record: Any) -> dict[str, Any]:
    files = json.loads((path / "manifest.json").read_bytes())["files"]
    return {"files": files | {name: record}}


def test_the_untouched_bundle_is_accepted(workshop: Any, tmp_path: Path) -> None:
    path = workshop.copy(tmp_path)
    assert verify_bundle(path, workshop.trust).problems == ()
    assert load_bundle(str(path), workshop.trust).digest == workshop.bundle.digest
    (tmp_path / "current").symlink_to(path)
    assert load_bundle(tmp_path / "current", workshop.trust).path == path
    moved = path.rename(tmp_path / "any-other-name")
    assert load_bundle(moved, workshop.trust).digest == workshop.bundle.digest


def test_the_attestation_is_a_public_format(workshop: Any) -> None:
    """Encoding: the example of DSSE 1.0, protocol.md. Whoever knows DSSE, in-toto and Ed25519 can check a bundle."""
    hello = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    assert pre_authentication(b"hello world", "http://example.com/HelloWorld") == hello
    path = workshop.bundle.path
    envelope = json.loads((path / "attestation.json").read_bytes())
    payload, (signed,) = base64.b64decode(envelope["payload"]), envelope["signatures"]
    workshop.key.public_key().verify(base64.b64decode(signed["sig"]), encoded(payload, envelope["payloadType"]))
    manifest = hashlib.sha256((path / "manifest.json").read_bytes()).hexdigest()
    assert json.loads(payload) == {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "manifest.json", "digest": {"sha256": manifest}}],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": "urn:tradelib-bundle:3",
                "externalParameters": {"name": "trend-probe", "permission": "paper"},
                "internalParameters": {"commit": "a" * 40},
            },
            "runDetails": {"builder": {"id": "urn:tradelib:promotion"}},
        },
    }


def test_every_flipped_byte_is_seen(workshop: Any, tmp_path: Path) -> None:
    """All bytes of manifest, signature and small files; a seeded sample of the rest.

    The wheel of this bundle is a small one, so that thousands of flips take seconds; a real one is sampled after it.
    """
    wheel = tmp_path / "tradelib-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(zipfile.ZipInfo("tradelib/__init__.py"), b"")
    path, choose = workshop.reseal(tmp_path / "small", wheel=wheel).path, random.Random(20261121)
    for file in sorted(item for item in path.rglob("*") if item.is_file()):
        small = file.stat().st_size <= 500 or file.name in ("manifest.json", "attestation.json")
        every_flip_is_seen(path, file, workshop.trust, choose, None if small else 40)
    whole = workshop.copy(tmp_path)
    every_flip_is_seen(whole, next((whole / "package").glob("*.whl")), workshop.trust, choose, 40)


def every_flip_is_seen(path: Path, file: Path, trust: TrustStore, choose: random.Random, sample: int | None) -> None:
    """One bit of each byte of a file (or of a sample of them) turned, and the file cut and grown."""
    whole = file.read_bytes()
    every = range(len(whole))
    for place in every if sample is None else {0, len(whole) - 1, *choose.sample(every, sample)}:
        altered = bytearray(whole)
        altered[place] ^= choose.choice([1, 2, 4, 8, 16, 32, 64, 128])
        file.write_bytes(altered)
        assert not verify_bundle(path, trust).ok, (file.name, place)
    for content in (b"", whole[:-1], whole + b"\n", whole + b"\0"):
        file.write_bytes(content)
        assert not verify_bundle(path, trust).ok, (file.name, content[-3:])
    file.write_bytes(whole)
    assert verify_bundle(path, trust).ok


def test_every_missing_file_is_named(workshop: Any, tmp_path: Path) -> None:
    path = workshop.copy(tmp_path)
    for file in sorted(item for item in path.rglob("*") if item.is_file()):
        hidden = file.rename(tmp_path / "hidden")
        name = file.relative_to(path).as_posix()
        problem = verify_bundle(path, workshop.trust).problems[0]
        assert (problem.code, problem.file) == ("missing", name)
        with pytest.raises(BundleError, match=f"{file.name}.* is missing"):
            load_bundle(path, workshop.trust)
        hidden.rename(file)


def add(name: str) -> Callable[[Path, Any], None]:
    def attack(path: Path, workshop: Any) -> None:
        (path / name).parent.mkdir(exist_ok=True, parents=True)
        (path / name).write_text("x")

    return attack


def replaced_by_link(path: Path, workshop: Any) -> None:
    (path / "rule.json").rename(path.parent / "elsewhere.json")
    (path / "rule.json").symlink_to(path.parent / "elsewhere.json")


def folder_replaced_by_link(path: Path, workshop: Any) -> None:
    (path / "golden").rename(path.parent / "golden")
    (path / "golden").symlink_to(path.parent / "golden")


def replaced_by_pipe(path: Path, workshop: Any) -> None:
    (path / "rule.json").unlink()
    os.mkfifo(path / "rule.json")


def grown(name: str, size: int) -> Callable[[Path, Any], None]:
    def attack(path: Path, workshop: Any) -> None:
        os.truncate(path / name, size)

    return attack


def many_files(path: Path, workshop: Any) -> None:
    for number in range(100):
        (path / f"{number}").touch()


def raw_manifest(change: Callable[[bytes], bytes]) -> Callable[[Path, Any], None]:
    """The manifest's bytes changed and signed again with the trusted key."""

    def attack(path: Path, workshop: Any) -> None:
        manifest = path / "manifest.json"
        manifest.write_bytes(change(manifest.read_bytes()))
        sign(path, workshop.key)

    return attack


def fields(**changes: Any) -> Callable[[Path, Any], None]:
    return lambda path, workshop: insider(path, workshop.key, **changes)


def listed(name: str, record: Any) -> Callable[[Path, Any], None]:
    return lambda path, workshop: insider(path, workshop.key, **listing(path, name, record))


def unlisted(name: str) -> Callable[[Path, Any], None]:
    def attack(path: Path, workshop: Any) -> None:
        files = json.loads((path / "manifest.json").read_bytes())["files"]
        (path / name).unlink()
        insider(path, workshop.key, files={key: record for key, record in files.items() if key != name})

    return attack


def payload(name: str, content: bytes) -> Callable[[Path, Any], None]:
    return lambda path, workshop: insider(path, workshop.key, {name: content})


def edited(name: str, change: Callable[[Any], Any]) -> Callable[[Path, Any], None]:
    def attack(path: Path, workshop: Any) -> None:
        insider(path, workshop.key, {name: line(change(json.loads((path / name).read_bytes())))})

    return attack


def envelope(**changes: Any) -> Callable[[Path, Any], None]:
    def attack(path: Path, workshop: Any) -> None:
        content = json.loads((path / "attestation.json").read_bytes()) | changes
        (path / "attestation.json").write_bytes(line(content))

    return attack


def signature(**changes: Any) -> Callable[[Path, Any], None]:
    def attack(path: Path, workshop: Any) -> None:
        signed = json.loads((path / "attestation.json").read_bytes())["signatures"][0]
        envelope(signatures=[signed | changes])(path, workshop)

    return attack


def stated(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path, Any], None]:
    """Another statement about the same manifest, signed by somebody who holds the key."""
    return lambda path, workshop: sign(path, workshop.key, change=change)


def other_origin(statement: dict[str, Any]) -> dict[str, Any]:
    statement["predicate"]["buildDefinition"]["internalParameters"] = {"commit": "b" * 40}
    return statement


def another_permission(statement: dict[str, Any]) -> dict[str, Any]:
    statement["predicate"]["buildDefinition"]["externalParameters"]["permission"] = "live"
    return statement


def signed_by_a_stranger(path: Path, workshop: Any) -> None:
    sign(path, OTHER)


def stranger_who_claims_to_be_the_owner(path: Path, workshop: Any) -> None:
    sign(path, OTHER, claimed=key_id(workshop.key.public_key()))


def signed_for_another_purpose(path: Path, workshop: Any) -> None:
    sign(path, workshop.key, encode=lambda payload: payload)


def signed_for_another_type(path: Path, workshop: Any) -> None:
    sign(path, workshop.key, encode=lambda payload: encoded(payload, "text/plain"))


def signature_of_another_bundle(path: Path, workshop: Any) -> None:
    other = workshop.reseal(path.parent / "other", figures={"sharpe": 9.0})
    shutil.copy(other.path / "attestation.json", path)


def file_of_another_bundle(path: Path, workshop: Any) -> None:
    other = workshop.reseal(path.parent / "other", figures={"sharpe": 9.0})
    shutil.copy(other.path / "evidence" / "figures.json", path / "evidence")


def two_files_swapped(path: Path, workshop: Any) -> None:
    (path / "data.json").rename(path / "swap")
    (path / "provenance.json").rename(path / "data.json")
    (path / "swap").rename(path / "provenance.json")


def permission_raised(path: Path, workshop: Any) -> None:
    manifest = path / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"paper"', b'"live"'))


def wheel_with(name: str, content: bytes) -> Callable[[Path, Any], None]:
    def attack(path: Path, workshop: Any) -> None:
        wheel = next((path / "package").glob("*.whl"))
        with zipfile.ZipFile(wheel, "a") as archive:
            archive.writestr(zipfile.ZipInfo(name), content)
        insider(path, workshop.key, {f"package/{wheel.name}": wheel.read_bytes()})

    return attack


def second_wheel(path: Path, workshop: Any) -> None:
    name = "package/tradelib-9.9.9-py3-none-any.whl"
    shutil.copy(next((path / "package").glob("*.whl")), path / name)
    insider(path, workshop.key, {name: (path / name).read_bytes()})


def row(**changes: Any) -> Callable[[Any], Any]:
    return lambda rows: [*rows[:-1], rows[-1] | changes]


RECORD = {"sha256": "0" * 64, "bytes": 1}
ATTACKS: dict[str, tuple[Callable[[Path, Any], None], str, str]] = {
    # The folder
    "extra file": (add("notes.txt"), "extra", "notes.txt is not part of the bundle"),
    "extra file beside the wheel": (add("package/sitecustomize.py"), "extra", "sitecustomize.py is not part"),
    "extra file in a new folder": (add("new/notes.txt"), "extra", "new/notes.txt"),
    "hidden file": (add(".env"), "extra", ".env"),
    "file with an unprintable name": (add("a\nb\udcff"), "extra", "udcff is not part"),
    "deep folders": (add("a/b/c/d/e/f/x"), "extra", "lies deeper"),
    "many files": (many_files, "extra", "more than 64 files"),
    "file replaced by a link": (replaced_by_link, "link", "rule.json is a symbolic link"),
    "folder replaced by a link": (folder_replaced_by_link, "link", "golden is a symbolic link"),
    "file replaced by a pipe": (replaced_by_pipe, "link", "rule.json is a pipe or a device"),
    "manifest grown": (grown("manifest.json", 70_000), "size", "manifest.json is larger"),
    "file grown": (grown("data.json", 64 * 2**20 + 1), "size", "data.json is larger"),
    "file emptied": (grown("data.json", 0), "altered", "data.json was altered"),
    "file of another bundle": (file_of_another_bundle, "altered", "figures.json was altered"),
    "two files swapped": (two_files_swapped, "altered", "data.json was altered"),
    # The signature
    "unknown key": (signed_by_a_stranger, "unknown-key", "which is not trusted"),
    "forged key id": (stranger_who_claims_to_be_the_owner, "signature", "does not fit"),
    "no domain in the signature": (signed_for_another_purpose, "signature", "does not fit"),
    "signature for another type": (signed_for_another_type, "signature", "does not fit"),
    "attestation of another bundle": (signature_of_another_bundle, "signature", "about another manifest"),
    "permission raised": (permission_raised, "signature", "about another manifest"),
    "no signature": (envelope(signatures=[]), "signature", "not an attestation"),
    "signatures are no list": (envelope(signatures=None), "signature", "not an attestation"),
    "payload of another type": (envelope(payloadType="text/plain"), "signature", "not an attestation"),
    "payload that is not base64": (envelope(payload="§"), "signature", "not an attestation"),
    "payload exchanged": (envelope(payload="e30="), "signature", "does not fit"),
    "empty signature": (signature(sig=""), "signature", "does not fit"),
    "signature that is not base64": (signature(sig="§"), "signature", "not an attestation"),
    "signature that is a number": (signature(sig=1), "signature", "not an attestation"),
    "key id that is a list": (signature(keyid=["x"]), "signature", "not an attestation"),
    "key id that is a path": (signature(keyid="../../x"), "unknown-key", "which is not trusted"),
    "more in the signature": (signature(comment="hello"), "signature", "not an attestation"),
    "more in the envelope": (envelope(comment="hello"), "signature", "not an attestation"),
    # The statement, signed by somebody who holds the key
    "statement of another kind": (stated(lambda said: said | {"_type": "x"}), "signature", "not one about a bundle"),
    "statement about two things": (
        stated(lambda said: said | {"subject": said["subject"] * 2}),
        "signature",
        "not one about a bundle",
    ),
    "statement is a list": (stated(lambda said: [said]), "signature", "not one about a bundle"),
    "statement with another origin": (stated(other_origin), "content", "something else than manifest.json"),
    "statement with another permission": (stated(another_permission), "content", "something else than"),
    "provenance exchanged": (payload("provenance.json", b"{}"), "content", "something else than"),
    # The manifest, signed by somebody who holds the key
    "another format": (fields(format="tradelib-bundle/1"), "format", "tradelib-bundle/1"),
    "no format": (raw_manifest(lambda raw: b"{}\n"), "manifest", "not the manifest"),
    "manifest is a list": (raw_manifest(lambda raw: b"[]\n"), "manifest", "not the manifest"),
    "manifest is not JSON": (raw_manifest(lambda raw: raw[:-5]), "manifest", "not valid JSON"),
    "manifest is deep": (raw_manifest(lambda raw: b"[" * 60_000), "manifest", "nested too deeply|not valid JSON"),
    "manifest in another encoding": (raw_manifest(lambda raw: raw.decode().encode("utf-16")), "manifest", "not valid"),
    "byte order mark": (raw_manifest(lambda raw: b"\xef\xbb\xbf" + raw), "manifest", "not valid JSON"),
    "spaces in the manifest": (raw_manifest(lambda raw: raw.replace(b":", b": ")), "manifest", "not in canonical form"),
    "two lines at the end": (raw_manifest(lambda raw: raw + b"\n"), "manifest", "not in canonical form"),
    "key twice": (
        raw_manifest(lambda raw: raw.replace(b'"permission":"paper"', b'"permission":"paper","permission":"live"')),
        "manifest",
        "'permission' is there twice",
    ),
    "unknown field": (fields(run="rm -rf"), "manifest", "exactly the fields"),
    "name is a number": (fields(name=1), "manifest", "exactly the fields"),
    "name is a path": (fields(name="../x"), "content", "cannot be called"),
    "permission unknown": (fields(permission="root"), "content", "must be one of paper, live"),
    "permission without evidence": (fields(permission="live"), "content", "failed: deflated sharpe"),
    "path that escapes": (listed("../../etc/passwd", RECORD), "path", "which does not belong"),
    "absolute path": (listed("/etc/passwd", RECORD), "path", "which does not belong"),
    "manifest lists itself": (listed("manifest.json", RECORD), "path", "which does not belong"),
    "wheel of another project": (listed("package/evil-1.0-py3-none-any.whl", RECORD), "path", "does not belong"),
    "wheel in a folder above": (listed("package/tradelib-/../x.whl", RECORD), "path", "does not belong"),
    "two wheels": (second_wheel, "manifest", "2 wheels instead of one"),
    "no gates": (unlisted("evidence/gates.json"), "manifest", "lists no evidence/gates.json"),
    "no wheel": (unlisted("package/tradelib-0.1.0-py3-none-any.whl"), "manifest", "lists no package/<wheel>"),
    "size is true": (listed("data.json", RECORD | {"bytes": True}), "manifest", "does not list files"),
    "size is negative": (listed("data.json", RECORD | {"bytes": -1}), "manifest", "does not list files"),
    "hash in capitals": (listed("data.json", RECORD | {"sha256": "A" * 64}), "manifest", "does not list files"),
    "hash with a line": (listed("data.json", RECORD | {"sha256": "0" * 64 + "\n"}), "manifest", "does not list files"),
    "record is text": (listed("data.json", "0" * 64), "manifest", "does not list files"),
    "files is a list": (fields(files=[]), "manifest", "does not list files"),
    # The files, signed by somebody who holds the key
    "gate twice in one object": (
        payload("evidence/gates.json", b'[{"tier":"safety","name":"x","passed":false,"passed":true}]'),
        "content",
        "'passed' is there twice",
    ),
    "a policy that the manifest does not say is needed": (
        edited("rule.json", lambda rule: {**rule, "exits": {"stop_loss": {"value": 0.05, "unit": "fraction"}}}),
        "content",
        r"needs \[\], but rule and execution need \['exits'\]",
    ),
    "a need that nothing asks for": (fields(needs=["limits"]), "content", r"needs \['limits'\], but .* need \[\]"),
    "needs are a text": (fields(needs=""), "content", "manifest.json needs ''"),
    "gates are no list": (payload("evidence/gates.json", b"{}"), "content", "must be a list"),
    "figure is NaN": (payload("evidence/figures.json", b'{"sharpe":NaN}'), "content", "NaN is not a JSON number"),
    "figure overflows": (payload("evidence/figures.json", b'{"sharpe":1e999}'), "content", "larger than any float"),
    "figures are a list": (payload("evidence/figures.json", b"[]"), "content", "must hold an object"),
    "strategy unknown": (
        edited("rule.json", lambda rule: rule | {"strategy": {"name": "Moon", "params": {}}}),
        "content",
        "no strategy 'Moon'",
    ),
    "strategy name is a list": (
        edited("rule.json", lambda rule: rule | {"strategy": {"name": ["x"], "params": {}}}),
        "content",
        "strategy must be given as",
    ),
    "parameter unknown": (
        edited("rule.json", lambda rule: rule | {"strategy": {"name": "TrendFollowing", "params": {"fats": 5}}}),
        "content",
        "fats",
    ),
    "rule is a number": (payload("rule.json", b"1"), "content", "must hold an object"),
    "execution with leverage": (
        edited("execution.json", lambda execution: execution | {"maximum_leverage": 1e9}),
        "content",
        "maximum_leverage must be a number from",
    ),
    "execution of another market": (
        edited("execution.json", lambda execution: execution | {"symbol": "DOGE/USDT"}),
        "content",
        "trades symbol 'DOGE/USDT'",
    ),
    "execution leaves a cost to the reader": (
        edited("execution.json", lambda execution: {k: v for k, v in execution.items() if k != "impact"}),
        "content",
        "execution.json does not state impact",
    ),
    "execution says one lot in numbers and another in text": (
        edited("execution.json", lambda execution: execution | {"precision": {**execution["precision"], "lot": "1"}}),
        "content",
        "is not that of its numbers",
    ),
    "golden order is text": (
        edited("golden/orders.json", row(price="1.0")),
        "content",
        "golden orders: not a list of rows",
    ),
    "golden fill without a field": (
        edited("golden/fills.json", lambda rows: [{"time": rows[0]["time"]}]),
        "content",
        "golden fills: not a list of rows",
    ),
    "golden fill on another bar": (
        edited("golden/fills.json", row(time="2030-01-01T00:00:00+00:00")),
        "content",
        "golden fills: a row is at '2030",
    ),
    "golden equity leaves out a bar": (
        edited("golden/equity.json", lambda rows: rows[1:]),
        "content",
        "golden equity: its rows are not those of the 80 golden bars",
    ),
    "golden bars are garbage": (payload("golden/bars.csv", b"time,open\n1,2\n"), "content", "bars.csv"),
    "golden decision for another bar": (
        edited("golden/decisions.json", row(time="2030-01-01T00:00:00+00:00")),
        "content",
        "do not belong to the 80 golden bars",
    ),
    "golden decision is text": (edited("golden/decisions.json", row(signal="1.0")), "content", "not a list of time"),
    "golden decisions are empty": (payload("golden/decisions.json", b"[]"), "content", "do not belong"),
    "golden decisions decide nothing": (
        edited("golden/decisions.json", lambda rows: [item | {"target_weight": None} for item in rows]),
        "content",
        "they prove nothing",
    ),
    "wheel with one more module": (
        wheel_with("tradelib/zz_backdoor.py", b"import os"),
        "content",
        "does not hold the package",
    ),
    "wheel that shadows a module": (
        wheel_with("tradelib/errors.cpython-311-x86_64-linux-gnu.so", b"\x7fELF"),
        "content",
        "does not hold the package",
    ),
    "wheel that leaves its folder": (wheel_with("../tradelib/x.py", b""), "content", "a path that leaves it"),
    "wheel is no archive": (payload("package/tradelib-0.1.0-py3-none-any.whl", b"PK"), "content", "not a whole zip"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_is_seen_and_named(workshop: Any, tmp_path: Path, attack: str) -> None:
    act, code, words = ATTACKS[attack]
    path = workshop.copy(tmp_path)
    act(path, workshop)
    verification = verify_bundle(path, workshop.trust)
    assert not verification.ok
    assert verification.problems[0].code == code
    with pytest.raises(BundleError, match=words) as refused:
        load_bundle(path, workshop.trust)
    message = str(refused.value)
    assert message.startswith(f"Bundle {path.name}: ")
    assert message.isprintable()


def test_all_problems_of_the_files_are_listed_and_the_first_is_raised(workshop: Any, tmp_path: Path) -> None:
    path = workshop.copy(tmp_path)
    (path / "zzz").touch()
    (path / "data.json").unlink()
    (path / "rule.json").write_text("{}")
    problems = verify_bundle(path, workshop.trust).problems
    assert [(problem.code, problem.file) for problem in problems] == [
        ("missing", "data.json"),
        ("altered", "rule.json"),
        ("extra", "zzz"),
    ]
    with pytest.raises(BundleError, match=r"data\.json is missing\. \(2 more problems: see verify_bundle\)"):
        load_bundle(path, workshop.trust)


def test_trust_decides(workshop: Any, tmp_path: Path) -> None:
    path = workshop.bundle.path
    identity = key_id(workshop.key.public_key())
    trust = TrustStore(tmp_path / "trust")
    for _ in range(2):  # a folder that does not exist, then an empty one
        assert verify_bundle(path, trust).problems[0].code == "unknown-key"
        trust.folder.mkdir(exist_ok=True)
    trust.add(OTHER.public_key())
    with pytest.raises(BundleError, match=f"key {identity}, which is not trusted"):
        load_bundle(path, trust)
    trust.add(workshop.key.public_key())
    assert load_bundle(path, trust).key_id == identity
    trust.revoke(identity, "laptop stolen")
    with pytest.raises(BundleError, match=f"revoked key {identity}: laptop stolen"):
        load_bundle(path, trust)
    (trust.folder / "revoked.json").write_text("[]")
    assert verify_bundle(path, trust).problems[0].code == "trust"


def test_a_second_trusted_key_may_sign_but_not_lend_its_name(workshop: Any, tmp_path: Path) -> None:
    path = workshop.copy(tmp_path)
    trust = TrustStore(tmp_path / "trust")
    trust.add(workshop.key.public_key())
    trust.add(OTHER.public_key())
    sign(path, workshop.key, claimed=key_id(OTHER.public_key()))
    assert verify_bundle(path, trust).problems[0].code == "signature"
    sign(path, OTHER)
    assert load_bundle(path, trust).key_id == key_id(OTHER.public_key())


def test_a_folder_that_is_not_there_or_not_a_bundle(workshop: Any, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no bundle folder"):
        load_bundle(tmp_path / "none", workshop.trust)
    (tmp_path / "file").touch()
    with pytest.raises(BundleError, match="no bundle folder"):
        load_bundle(tmp_path / "file", workshop.trust)
    with pytest.raises(BundleError, match=r"manifest\.json is missing: this is not a whole bundle"):
        load_bundle(tmp_path, workshop.trust)


def test_a_golden_decision_changed_by_an_insider_is_not_reproduced(workshop: Any, tmp_path: Path) -> None:
    path = workshop.copy(tmp_path)
    rows = json.loads((path / "golden" / "decisions.json").read_bytes())
    last = rows[-1]["target_weight"]
    rows[-1]["target_weight"] = last + 2.0**-60 if last == 0 else last * (1 + 2.0**-52)
    insider(path, workshop.key, {"golden/decisions.json": line(rows)})
    check = reproduce_golden(load_bundle(path, workshop.trust))
    assert not check.equal
    assert check.first_difference is not None
    assert (check.first_difference.time, check.first_difference.field) == (rows[-1]["time"], "target_weight")


def test_what_is_used_is_what_was_checked(workshop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that change between the check of their hashes and their use do not matter."""
    from tradelib.bundle import verify

    path, checked = workshop.copy(tmp_path), verify._check_files

    def check_then_swap(*args: Any) -> None:
        checked(*args)
        for file in path.rglob("*"):
            if file.is_file():
                file.write_bytes(b"swapped")

    monkeypatch.setattr(verify, "_check_files", check_then_swap)
    bundle = load_bundle(path, workshop.trust)
    assert bundle.rule == workshop.contents.rule
    assert bundle.golden_bars.equals(workshop.contents.golden_bars)


@pytest.mark.parametrize("raw", [b'{"a":1,"a":1}', b"[1e400]", b"[-Infinity]", b"\xff", b"", b"{'a':1}", b"[1,]"])
def test_json_is_read_strictly(raw: bytes) -> None:
    with pytest.raises(BundleError, match="x is not valid JSON"):
        parse_json(raw, "x")
