"""The command line as a person meets it: it teaches, refuses in one line, and its exit codes are what it says."""

import json
import os
import socket
import subprocess
import sys

import pytest

from tests.live.support import seal, synthetic_bars
from tradelib.data.files import write_bars
from tradelib.ledger import Ledger


@pytest.fixture
def tradelib(home, tmp_path):
    """Run `tradelib ARGUMENTS...` in a folder of its own; `tradelib(..., KEY="value")` adds to the environment."""

    def run(*arguments, **environment):
        known = {"TRADELIB_HOME": str(home), "NO_COLOR": "1", "COLUMNS": "100"}
        return subprocess.run(
            [sys.executable, "-m", "tradelib.cli", *map(str, arguments)],
            env=os.environ | known | environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


@pytest.fixture(scope="module")
def sealed(tmp_path_factory):
    return seal(tmp_path_factory.mktemp("sealed"), synthetic_bars(160))


def refused(done, *words):
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stderr.startswith("tradelib: ")
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


def test_help_teaches_a_first_session(tradelib):
    done = tradelib("--help")
    assert done.returncode == 0
    for words in ("A first session", "tradelib verify", "tradelib venue", "tradelib run", "tradelib replay"):
        assert words in done.stdout


def test_wrong_usage_is_exit_code_2(tradelib):
    assert tradelib("vrify").returncode == 2
    assert tradelib("verify").returncode == 2


def test_version(tradelib):
    assert tradelib("--version").stdout == "tradelib 0.1.0\n"


def test_strategies_are_listed_with_parameters(tradelib):
    assert "bars of the slow average" in tradelib("strategies").stdout
    assert json.loads(tradelib("strategies", "--json").stdout)["TrendFollowing"]["slow"]["default"] == 200


def test_keys_are_made_once_and_listed(tradelib):
    assert "no keys yet" in tradelib("keys", "list").stdout
    assert "this machine trusts it" in tradelib("keys", "generate", "desk").stdout
    refused(tradelib("keys", "generate", "desk"), "a key is never replaced")
    assert list(json.loads(tradelib("keys", "list", "--json").stdout).values()) == ["desk, trusted"]


def test_keys_are_rotated_revoked_and_those_of_others_trusted(tradelib, tmp_path):
    tradelib("keys", "generate", "desk")
    (old,) = json.loads(tradelib("keys", "list", "--json").stdout)
    assert f"{old} signs no more" in tradelib("keys", "rotate", "desk").stdout
    listed = json.loads(tradelib("keys", "list", "--json").stdout)
    assert sorted(listed.values()) == ["desk, trusted", "of somebody else, trusted"]
    assert "is revoked: stolen" in tradelib("keys", "revoke", old, "--reason", "stolen").stdout
    assert json.loads(tradelib("keys", "list", "--json").stdout)[old] == "of somebody else, revoked"
    refused(tradelib("keys", "revoke", "desk", "--reason", "x"), "is not a key id")
    refused(tradelib("keys", "trust", tmp_path / "nobody.pub"), "cannot be read")
    public = next(tmp_path.rglob("keys/desk.pub"))
    assert "may approve from now on" in tradelib("keys", "trust", public, "--approver").stdout


@pytest.mark.integration
def test_a_bundle_of_an_unknown_key_is_refused_and_of_a_trusted_one_verified_up_to_its_code(tradelib, sealed, home):
    refused(tradelib("verify", sealed.bundle.path), "key")
    (home / "trust").mkdir(parents=True)
    for path in (sealed.bundle.path.parent.parent / "trust").glob("*.pub"):
        (home / "trust" / path.name).write_bytes(path.read_bytes())
    done = tradelib("verify", sealed.bundle.path, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["digest"] == sealed.bundle.digest


def test_a_missing_bundle_is_one_line(tradelib):
    refused(tradelib("verify", "nowhere"), "nowhere")


def test_the_venue_needs_keys_and_says_how_to_make_them(tradelib, tmp_path):
    write_bars(synthetic_bars(20), tmp_path / "tape.csv")
    refused(tradelib("venue", "tape.csv"), "TRADELIB_API_KEY", "export")


def test_a_busy_port_is_named(tradelib, tmp_path):
    write_bars(synthetic_bars(20), tmp_path / "tape.csv")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        keys = {"TRADELIB_API_KEY": "k", "TRADELIB_API_SECRET": "s"}
        refused(tradelib("venue", "tape.csv", "--port", port, **keys), str(port))


def test_a_tape_that_is_not_there_is_named(tradelib):
    keys = {"TRADELIB_API_KEY": "k", "TRADELIB_API_SECRET": "s"}
    refused(tradelib("venue", "nothing.csv", **keys), "nothing.csv")


def test_audit_names_the_entry_that_was_edited(tradelib, tmp_path):
    path = tmp_path / "log.sqlite"
    with Ledger(path) as ledger:
        ledger.extend([("note", {"number": number}, None) for number in range(5)])
    done = tradelib("audit", path)
    assert done.returncode == 0
    assert "entries" in done.stdout
    damaged = path.read_bytes().replace(b'{"number":3}', b'{"number":7}')
    path.write_bytes(damaged)
    refused(tradelib("audit", path), "4")
    refused(tradelib("audit", tmp_path / "nothing.sqlite"), "does not exist")


def test_the_runner_refuses_without_a_venue(tradelib, sealed):
    keys = {"TRADELIB_API_KEY": "k", "TRADELIB_API_SECRET": "s"}
    assert tradelib("run", sealed.bundle.path, **keys).returncode == 1
