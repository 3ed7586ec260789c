"""Keys are private, names stay in their folder, and a revoked key stays revoked."""

from __future__ import annotations

import hashlib
import itertools
import stat
from collections.abc import Iterator
from pathlib import Path

import keyring
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from keyring.backend import KeyringBackend
from keyring.backends import fail

from tradelib.bundle import TrustStore, generate_key, keys, list_keys, load_private_key, rotate_key
from tradelib.bundle.keys import PASSPHRASE, key_id
from tradelib.errors import BundleError

PEM, PKCS8, PLAIN = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()


@pytest.fixture(autouse=True)
def no_passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PASSPHRASE, raising=False)


def test_a_key_is_written_for_its_owner_only(tmp_path: Path) -> None:
    key = generate_key("desk", tmp_path)
    assert stat.S_IMODE(key.private_path.stat().st_mode) == 0o600
    assert stat.S_IMODE(key.private_path.parent.stat().st_mode) == 0o700
    assert sorted(path.name for path in (tmp_path / "keys").iterdir()) == ["desk.key", "desk.pub"]
    public = load_private_key("desk", tmp_path).public_key()
    assert key.key_id == key_id(public) == hashlib.sha256(public.public_bytes_raw()).hexdigest()[:16]
    assert list_keys(tmp_path) == [key]


def test_an_existing_key_is_never_replaced(tmp_path: Path) -> None:
    before = generate_key("desk", tmp_path).private_path.read_bytes()
    with pytest.raises(BundleError, match="never replaced"):
        generate_key("desk", tmp_path)
    assert (tmp_path / "keys" / "desk.key").read_bytes() == before


@pytest.mark.parametrize("name", ["", "../desk", "a/b", ".hidden", "a b", "x" * 65, "a\n", "ключ"])
def test_a_key_name_is_a_plain_file_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(BundleError, match="cannot be called"):
        generate_key(name, tmp_path)
    with pytest.raises(BundleError, match="cannot be called"):
        load_private_key(name, tmp_path)


def test_a_passphrase_encrypts_the_key_and_is_needed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSPHRASE, "correct horse")
    key = generate_key("desk", tmp_path)
    assert b"ENCRYPTED" in key.private_path.read_bytes()
    assert key_id(load_private_key("desk", tmp_path).public_key()) == key.key_id
    monkeypatch.setenv(PASSPHRASE, "battery staple")
    with pytest.raises(BundleError, match="is the passphrase in TRADELIB_KEY_PASSPHRASE the right one"):
        load_private_key("desk", tmp_path)
    monkeypatch.delenv(PASSPHRASE)
    with pytest.raises(BundleError, match="is encrypted"):
        load_private_key("desk", tmp_path)
    monkeypatch.setenv(PASSPHRASE, "secret-words")
    with pytest.raises(BundleError) as refused:
        load_private_key("desk", tmp_path)
    assert "secret-words" not in str(refused.value)


def test_an_open_key_loads_although_a_passphrase_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = generate_key("desk", tmp_path)
    monkeypatch.setenv(PASSPHRASE, "correct horse")
    assert key_id(load_private_key("desk", tmp_path).public_key()) == key.key_id


@pytest.fixture
def vault(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[tuple[str, str], str]]:
    """A keyring in memory, with what is in it."""
    held: dict[tuple[str, str], str] = {}

    class Vault(KeyringBackend):
        priority = 1.0

        def get_password(self, service: str, username: str) -> str | None:
            return held.get((service, username))

        def set_password(self, service: str, username: str, password: str) -> None:
            held[service, username] = password

        def delete_password(self, service: str, username: str) -> None:
            del held[service, username]

    before = keyring.get_keyring()
    keyring.set_keyring(Vault())
    yield held
    keyring.set_keyring(before)


def test_the_keyring_keeps_a_passphrase_that_nobody_saw(vault: dict[tuple[str, str], str], tmp_path: Path) -> None:
    key = generate_key("desk", tmp_path, keyring=True)
    assert b"ENCRYPTED" in key.private_path.read_bytes()
    assert list(vault) == [("tradelib", key.key_id)]
    assert len(vault["tradelib", key.key_id]) >= 43  # 32 random bytes
    assert key_id(load_private_key("desk", tmp_path).public_key()) == key.key_id
    vault.clear()
    with pytest.raises(BundleError, match="is encrypted"):
        load_private_key("desk", tmp_path)


def test_a_machine_without_a_keyring_says_so(tmp_path: Path) -> None:
    before = keyring.get_keyring()
    keyring.set_keyring(fail.Keyring())
    with pytest.raises(BundleError, match="does not take a passphrase"):
        generate_key("desk", tmp_path, keyring=True)
    keyring.set_keyring(before)
    assert list_keys(tmp_path) == []


def test_a_rotated_key_signs_no_more_and_is_still_believed(tmp_path: Path) -> None:
    trust = TrustStore(tmp_path / "trust")
    first = generate_key("desk", tmp_path)
    trust.add(first.public_path)
    signed = load_private_key("desk", tmp_path).sign(b"sealed before")
    old, new = rotate_key("desk", trust, tmp_path)
    assert (old.key_id, new.key_id) == (first.key_id, list_keys(tmp_path)[0].key_id)
    assert old.key_id != new.key_id
    assert key_id(load_private_key("desk", tmp_path).public_key()) == new.key_id
    trust.keys()[old.key_id].verify(signed, b"sealed before")
    assert set(trust.keys()) == {old.key_id, new.key_id}
    assert sorted(path.name for path in (tmp_path / "keys").iterdir()) == sorted(
        ["desk.key", "desk.pub", f"desk-{old.key_id}.pub"]
    )


def test_a_key_that_cannot_be_opened_is_not_rotated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSPHRASE, "correct horse")
    key = generate_key("desk", tmp_path)
    monkeypatch.setenv(PASSPHRASE, "battery staple")
    before = {path.name: path.read_bytes() for path in (tmp_path / "keys").iterdir()}
    with pytest.raises(BundleError, match="is the passphrase"):
        rotate_key("desk", TrustStore(tmp_path / "trust"), tmp_path)
    assert {path.name: path.read_bytes() for path in (tmp_path / "keys").iterdir()} == before
    assert list_keys(tmp_path) == [key]


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_rotation_that_stops_half_way_leaves_a_key_that_is_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """The disk fills up at each of the three files in turn, after the first key was made and trusted."""
    trust = TrustStore(tmp_path / "trust")
    trust.add(generate_key("desk", tmp_path).public_path)
    write, calls = keys._write, itertools.count(1)

    def full(path: Path, content: bytes, mode: int, **options: bool) -> None:
        if path.parent.name == "keys" and next(calls) == step:
            raise OSError(28, "No space left on device")
        write(path, content, mode, **options)

    monkeypatch.setattr(keys, "_write", full)
    with pytest.raises(BundleError, match="cannot be rotated: No space left on device"):
        rotate_key("desk", trust, tmp_path)
    monkeypatch.undo()
    assert key_id(load_private_key("desk", tmp_path).public_key()) in trust.keys()  # noqa: SIM118
    rotate_key("desk", trust, tmp_path)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666, 0o610])
def test_a_private_key_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    generate_key("desk", tmp_path).private_path.chmod(mode)
    with pytest.raises(BundleError, match=r"may be read by others\. Run: chmod 600"):
        load_private_key("desk", tmp_path)


def test_what_is_no_private_ed25519_key_is_refused(tmp_path: Path) -> None:
    path = generate_key("desk", tmp_path).private_path
    for content, message in (
        (b"", "not a PEM"),
        (b"hello", "not a PEM"),
        (path.read_bytes()[:80], "not a PEM"),
        (ec.generate_private_key(ec.SECP256R1()).private_bytes(PEM, PKCS8, PLAIN), "not an Ed25519"),
    ):
        path.write_bytes(content)
        with pytest.raises(BundleError, match=message):
            load_private_key("desk", tmp_path)
    path.unlink()
    with pytest.raises(BundleError, match="no private key 'desk'"):
        load_private_key("desk", tmp_path)


def test_trust_is_given_taken_and_withdrawn_for_ever(tmp_path: Path) -> None:
    key = generate_key("desk", tmp_path)
    trust = TrustStore(tmp_path / "trust")
    assert trust.keys() == {}
    assert trust.revoked() == {}
    with pytest.raises(BundleError, match="is not trusted"):
        trust.get(key.key_id)
    assert trust.add(key.public_path) == key.key_id
    assert key_id(trust.get(key.key_id)) == key.key_id
    trust.remove(key.key_id)
    with pytest.raises(BundleError, match="is not trusted"):
        trust.get(key.key_id)
    with pytest.raises(BundleError, match="nothing to remove"):
        trust.remove(key.key_id)
    trust.add(key.public_path)
    trust.revoke(key.key_id, "laptop stolen")
    with pytest.raises(BundleError, match=r"is revoked: laptop stolen"):
        trust.get(key.key_id)
    with pytest.raises(BundleError, match="cannot be trusted again"):
        trust.add(key.public_path)
    assert TrustStore(tmp_path / "trust").revoked() == {key.key_id: "laptop stolen"}


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"abc": "x"}', '{"0123456789abcdef": 1}', "\ud800", "null", "[" * 9_999]
)
def test_a_broken_list_of_revoked_keys_stops_all_trust(tmp_path: Path, text: str) -> None:
    trust = TrustStore(tmp_path / "trust")
    identity = trust.add(ed25519.Ed25519PrivateKey.generate().public_key())
    (tmp_path / "trust" / "revoked.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(BundleError, match="revoked"):
        trust.get(identity)


def test_a_trust_store_that_holds_something_else_or_is_open_to_all_is_not_trusted(tmp_path: Path) -> None:
    folder = tmp_path / "trust"
    trust = TrustStore(folder)
    identity = trust.add(ed25519.Ed25519PrivateKey.generate().public_key())
    (folder / "note.pub").write_text("no key")
    with pytest.raises(BundleError, match="not a public key"):
        trust.get(identity)
    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    (folder / "note.pub").write_bytes(other.public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(BundleError, match="not an Ed25519 public key"):
        trust.get(identity)
    (folder / "note.pub").unlink()
    for path in (folder, folder / f"{identity}.pub"):
        before = stat.S_IMODE(path.stat().st_mode)
        path.chmod(before | 0o002)
        with pytest.raises(BundleError, match="written by anybody"):
            trust.get(identity)
        path.chmod(before)
    trust.get(identity)


def test_a_key_id_is_not_a_path(tmp_path: Path) -> None:
    trust = TrustStore(tmp_path / "trust")
    for name in ("../x", "", "0" * 15, "G" * 16):
        with pytest.raises(BundleError, match="is not a key id"):
            trust.revoke(name, "x")
        with pytest.raises(BundleError, match="is not trusted"):
            trust.get(name)
