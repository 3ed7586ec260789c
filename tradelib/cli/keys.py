"""Commands for signing keys, and for the keys that this machine trusts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tradelib.cli.base import AsJson, keys_app, say, show

__all__ = ["keys_generate", "keys_list", "keys_revoke", "keys_rotate", "keys_trust"]

KeyName = Annotated[str, typer.Argument(help="Name of the key, such as your own.")]
InKeyring = Annotated[
    bool, typer.Option("--keyring", help="Encrypt with a new passphrase in the keyring of this machine.")
]


@keys_app.command("generate")
def keys_generate(name: KeyName, keyring: InKeyring = False) -> None:
    """Make an Ed25519 signing key and trust it on this machine.

    With TRADELIB_KEY_PASSPHRASE set, the private half is encrypted with it.
    """
    from tradelib.bundle import TrustStore, generate_key

    key = generate_key(name, keyring=keyring)
    TrustStore().add(key.public_path)
    say(f"key {name} ({key.key_id}) is in {key.public_path.parent}; this machine trusts it")


@keys_app.command("rotate")
def keys_rotate(name: KeyName, keyring: InKeyring = False) -> None:
    """Replace a signing key by a new one of the same name.

    The old private half is destroyed; what it signed is still trusted. Was it stolen? Then revoke it, too.
    """
    from tradelib.bundle import TrustStore, rotate_key

    old, new = rotate_key(name, TrustStore(), keyring=keyring)
    say(f"key {name} is {new.key_id} now, and trusted; {old.key_id} signs no more, and what it signed still counts")


@keys_app.command("trust")
def keys_trust(
    public: Annotated[Path, typer.Argument(help="Public key of somebody else (.pub), got by a way that you trust.")],
    approver: Annotated[bool, typer.Option("--approver", help="Trust it to approve promotions, not to sign.")] = False,
) -> None:
    """Trust the public key of somebody else on this machine."""
    from tradelib.bundle import TrustStore
    from tradelib.home import project_home

    store = TrustStore(project_home() / "approvers") if approver else TrustStore()
    say(f"key {store.add(public)} may {'approve' if approver else 'sign'} from now on ({store.folder})")


@keys_app.command("revoke")
def keys_revoke(
    identity: Annotated[str, typer.Argument(help="Id of the key, as `tradelib keys list` shows it.")],
    reason: Annotated[str, typer.Option(help="Why; it is shown to whoever meets the key again.")],
) -> None:
    """Refuse a key for ever: no bundle that it signed loads on this machine any more."""
    from tradelib.bundle import TrustStore

    TrustStore().revoke(identity, reason)
    say(f"key {identity} is revoked: {reason}")


@keys_app.command("list")
def keys_list(as_json: AsJson = False) -> None:
    """List signing keys and whether this machine trusts them."""
    from tradelib.bundle import TrustStore, list_keys

    store = TrustStore()
    trusted, revoked = store.keys(), store.revoked()
    names = {key.key_id: key.name for key in list_keys()}
    rows = {
        identity: f"{names.get(identity, 'of somebody else')}, "
        + ("revoked" if identity in revoked else "trusted" if identity in trusted else "not trusted")
        for identity in sorted({*names, *trusted})
    }
    if not rows and not as_json:
        say("no keys yet: tradelib keys generate NAME")
        return
    show(rows, "keys", as_json)
