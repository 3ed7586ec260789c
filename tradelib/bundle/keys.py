"""Who may sign, and whom we believe: Ed25519 key pairs and a folder of trusted public keys.

Private keys live in `<home>/keys/<name>.key` (PKCS8 PEM, readable by their owner only). They are encrypted where there
is a passphrase: in the environment as `TRADELIB_KEY_PASSPHRASE`, or in the keyring of the operating system. A trust
store is a folder of public keys, one `.pub` file each, and `revoked.json`: removing a key forgets it, revoking it is
final.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import stat
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from tradelib.errors import BundleError, require
from tradelib.home import project_home

__all__ = ["PASSPHRASE", "Key", "TrustStore", "generate_key", "key_id", "list_keys", "load_private_key", "rotate_key"]

PASSPHRASE = "TRADELIB_KEY_PASSPHRASE"
"""Environment variable that encrypts and opens private keys."""
KEYRING = "tradelib"
"""Name of the service under which passphrases of private keys stand in the operating system's keyring."""
_LARGEST = 16_384  # bytes of a key file; a real one has a few hundred
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_KEY_ID = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class Key:
    """A key pair on this machine; `private_path` may be missing where only the public half is kept."""

    name: str
    key_id: str
    public_path: Path
    private_path: Path


def key_id(public: Ed25519PublicKey) -> str:
    """First 16 hex digits of the SHA-256 of the raw public key."""
    return hashlib.sha256(public.public_bytes_raw()).hexdigest()[:16]


def generate_key(name: str, home: Path | None = None, *, keyring: bool = False) -> Key:
    """A new key pair `<home>/keys/<name>.key` and `.pub` (`home` defaults to the project's).

    `keyring`: encrypt the private half with a passphrase that only the operating system's keyring knows. Raises
    `BundleError` when the name is taken or cannot be a file name; an existing key is never replaced.
    """
    key = _key_paths(name, home)
    if key[1].exists():
        raise BundleError(f"There is a key {name!r} already ({key[1]}): choose another name, a key is never replaced.")
    private = Ed25519PrivateKey.generate()
    secret = _passphrase_for(private, keyring)
    try:
        key[0].parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(key[0], _public_pem(private.public_key()), 0o644)
        _write(key[1], _private_pem(private, secret), 0o600, replace=False)
    except FileExistsError:
        raise BundleError(f"Another process just made a key {name!r}: choose another name.") from None
    except OSError as error:
        raise BundleError(f"The key {name!r} cannot be written to {key[0].parent}: {error.strerror}.") from error
    return Key(name, key_id(private.public_key()), *key)


def rotate_key(name: str, trust: TrustStore, home: Path | None = None, *, keyring: bool = False) -> tuple[Key, Key]:
    """A new key pair under an old name; returns the old one and the new one, which `trust` believes from now on.

    The old private half is destroyed, so that nothing more is signed with it. Its public half stays trusted, and is
    kept as `<name>-<key id>.pub`: what it signed is still what it was. Where it was stolen, `TrustStore.revoke` it.
    """
    public, private = _key_paths(name, home)
    before = load_private_key(name, home).public_key()  # whoever cannot use it does not replace it
    retired = public.with_name(f"{name}-{key_id(before)}.pub")
    key = Ed25519PrivateKey.generate()
    secret = _passphrase_for(key, keyring)
    try:
        _write(retired, _public_pem(before), 0o644)
        trust.add(key.public_key())
        _write(public, _public_pem(key.public_key()), 0o644)
        _write(private, _private_pem(key, secret), 0o600)
    except OSError as error:
        raise BundleError(f"The key {name!r} cannot be rotated: {error.strerror}.") from error
    return Key(name, key_id(before), retired, private), Key(name, key_id(key.public_key()), public, private)


def list_keys(home: Path | None = None) -> list[Key]:
    """The key pairs under `<home>/keys`, by name."""
    folder = (home or project_home()) / "keys"
    names = sorted(path.stem for path in folder.glob("*.pub") if path.with_suffix(".key").exists())
    return [Key(name, key_id(_read_public(folder / f"{name}.pub")), *_key_paths(name, home)) for name in names]


def load_private_key(name: str, home: Path | None = None) -> Ed25519PrivateKey:
    """The private key `name`; `BundleError` when it is missing, readable by others, encrypted, or no Ed25519 key."""
    path = _key_paths(name, home)[1]
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            pem = file.read(_LARGEST)
    except FileNotFoundError:
        raise BundleError(f"There is no private key {name!r} ({path}): make one with generate_key({name!r}).") from None
    except OSError as error:
        raise BundleError(f"The private key {path} cannot be read: {error.strerror}.") from error
    if os.name == "posix" and stat.S_IMODE(mode) & 0o077:
        raise BundleError(f"The private key {path} may be read by others. Run: chmod 600 {path}")
    private = _parse_private(pem, path)
    if not isinstance(private, Ed25519PrivateKey):
        raise BundleError(f"{path} is not an Ed25519 key: make one with generate_key.")
    return private


def _passphrase_for(private: Ed25519PrivateKey, keyring: bool) -> str:
    """What a new private key is encrypted with: a new secret in the system's keyring, else that of the environment."""
    if not keyring:
        return os.environ.get(PASSPHRASE, "")
    store, secret = require("keyring", "keyring"), secrets.token_urlsafe(32)
    try:
        store.set_password(KEYRING, key_id(private.public_key()), secret)
    except store.errors.KeyringError as error:
        raise BundleError(f"The keyring of this machine does not take a passphrase: {error}") from None
    return secret


def _passphrase_of(path: Path) -> str:
    """The passphrase of the encrypted private key at `path`: of the environment, else of the keyring, else empty."""
    named = os.environ.get(PASSPHRASE, "")
    if named or find_spec("keyring") is None:
        return named
    store = require("keyring", "keyring")
    try:
        return store.get_password(KEYRING, key_id(_read_public(path.with_suffix(".pub")))) or ""
    except (store.errors.KeyringError, BundleError):
        return ""


def _parse_private(pem: bytes, path: Path) -> object:
    encrypted = b"ENCRYPTED" in pem
    secret = _passphrase_of(path).encode() if encrypted else b""
    if encrypted and not secret:
        raise BundleError(
            f"The private key {path} is encrypted: put its passphrase into the environment as {PASSPHRASE}."
        )
    try:
        return serialization.load_pem_private_key(pem, password=secret or None)
    except (TypeError, ValueError, UnsupportedAlgorithm):
        hint = f"is the passphrase in {PASSPHRASE} the right one?" if encrypted else "it is not a PEM private key."
        raise BundleError(f"The private key {path} cannot be opened: {hint}") from None


class TrustStore:
    """The public keys that may sign bundles: a folder of `.pub` files (PEM) and `revoked.json`.

    `folder` defaults to `<project home>/trust`; a folder that does not exist trusts nobody. Anything unreadable in it
    raises `BundleError`: a trust store that cannot be read in full is not trusted in part.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        self.folder = Path(folder) if folder is not None else project_home(create=False) / "trust"

    def __repr__(self) -> str:
        return f"TrustStore({str(self.folder)!r})"

    def keys(self) -> dict[str, Ed25519PublicKey]:
        """Every key in the folder by its id, revoked ones included."""
        return {key_id(public): public for public in self._files().values()}

    def revoked(self) -> dict[str, str]:
        """Reason of revocation by key id."""
        path = self.folder / "revoked.json"
        self._check_folder()
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise BundleError(f"The list of revoked keys {path} cannot be read: {error}") from error
        try:
            listed = json.loads(text)
            if all(_KEY_ID.fullmatch(key) and isinstance(reason, str) for key, reason in listed.items()):
                return dict(listed)
        except (ValueError, AttributeError, RecursionError):
            pass
        raise BundleError(f"{path} is not a list of revoked keys: restore it before any bundle is trusted.")

    def get(self, identity: str) -> Ed25519PublicKey:
        """The trusted key with this id; `BundleError` when it is revoked or unknown."""
        revoked = self.revoked()
        if identity in revoked:
            raise BundleError(f"Key {identity} is revoked: {revoked[identity]}")
        known = self.keys()
        if identity not in known:
            raise BundleError(f"Key {identity} is not trusted: its public key is not in {self.folder}.")
        return known[identity]

    def add(self, public: str | os.PathLike[str] | Ed25519PublicKey) -> str:
        """Trust a public key (a `.pub` file or the key itself); returns its id. `BundleError` when it is revoked."""
        key = public if isinstance(public, Ed25519PublicKey) else _read_public(Path(public))
        identity = key_id(key)
        if identity in self.revoked():
            raise BundleError(f"Key {identity} is revoked ({self.revoked()[identity]}): it cannot be trusted again.")
        self._save(f"{identity}.pub", _public_pem(key))
        return identity

    def remove(self, identity: str) -> None:
        """Stop trusting a key; `BundleError` when it is not in the folder."""
        paths = [path for path, public in self._files().items() if key_id(public) == identity]
        if not paths:
            raise BundleError(f"Key {identity} is not in {self.folder}: nothing to remove.")
        for path in paths:
            path.unlink()

    def revoke(self, identity: str, reason: str) -> None:
        """Refuse a key for ever, known or not: bundles signed with it no longer load."""
        if not _KEY_ID.fullmatch(identity):
            raise BundleError(f"{identity!r} is not a key id: 16 hexadecimal digits, as list_keys() shows.")
        listed = {**self.revoked(), identity: reason}
        self._save("revoked.json", (json.dumps(listed, indent=2, sort_keys=True) + "\n").encode())

    def _files(self) -> dict[Path, Ed25519PublicKey]:
        self._check_folder()
        return {path: _read_public(path) for path in sorted(self.folder.glob("*.pub"))}

    def _check_folder(self) -> None:
        if os.name != "posix" or not self.folder.exists():
            return
        for path in (self.folder, *self.folder.glob("*")):
            if path.stat().st_mode & stat.S_IWOTH:
                raise BundleError(
                    f"{path} may be written by anybody, so nothing in it is trusted. Run: chmod o-w {path}"
                )

    def _save(self, name: str, content: bytes) -> None:
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write(self.folder / name, content, 0o644)
        except OSError as error:
            raise BundleError(f"The trust store {self.folder} cannot be written: {error.strerror}.") from error


def _key_paths(name: str, home: Path | None) -> tuple[Path, Path]:
    if not _NAME.fullmatch(name):
        raise BundleError(f"A key cannot be called {name!r}: use letters, digits, '-' and '_', at most 64.")
    folder = (home or project_home()) / "keys"
    return folder / f"{name}.pub", folder / f"{name}.key"


def _public_pem(public: Ed25519PublicKey) -> bytes:
    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _private_pem(private: Ed25519PrivateKey, passphrase: str) -> bytes:
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        encryption = serialization.BestAvailableEncryption(passphrase.encode())
    return private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def _read_public(path: Path) -> Ed25519PublicKey:
    try:
        with path.open("rb") as file:
            public = serialization.load_pem_public_key(file.read(_LARGEST))
    except OSError as error:
        raise BundleError(f"The public key {path} cannot be read: {error.strerror}.") from error
    except (ValueError, UnsupportedAlgorithm):
        raise BundleError(f"{path} is not a public key in PEM form: replace or remove it.") from None
    if not isinstance(public, Ed25519PublicKey):
        raise BundleError(f"{path} is not an Ed25519 public key: replace or remove it.")
    return public


def _write(path: Path, content: bytes, mode: int, *, replace: bool = True) -> None:
    """Write a whole file or none; with `replace=False` an existing one raises `FileExistsError`."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")  # born with mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            os.replace(temporary, path)
        else:
            os.link(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
