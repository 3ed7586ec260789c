"""The operators' commands against a control server that runs: what they print, refuse and leave in the journal."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.live.test_control import TOKENS, Served
from tradelib.cli import app
from tradelib.errors import LedgerError, RunnerError
from tradelib.ledger import journal, open_journal
from tradelib.live.alerts import Alert
from tradelib.live.latch import Latch, Scope
from tradelib.live.settings import ControlSettings, load_settings

Command = Callable[..., Result]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with Served(tmp_path, ControlSettings(port=0)) as running:
        yield running


def run(*arguments: str, **environment: str) -> Result:
    known = {"COLUMNS": "160", "NO_COLOR": "1", "TRADELIB_CONTROL_URL": None, "TRADELIB_CONTROL_TOKEN": None}
    return CliRunner().invoke(app, [*map(str, arguments)], env=known | environment)  # type: ignore[arg-type]


@pytest.fixture
def command(served: Served) -> Command:
    """Run a command as one of the operators; it must succeed."""

    def invoke(name: str, *arguments: str) -> Result:
        done = run(*arguments, TRADELIB_CONTROL_URL=served.server.url, TRADELIB_CONTROL_TOKEN=TOKENS[name][0])
        assert done.exit_code == 0, done.output + repr(done.exception)
        return done

    return invoke


def refused(done: Result, *words: str) -> None:
    assert isinstance(done.exception, RunnerError), done.output + repr(done.exception)
    for word in words:
        assert word in str(done.exception)


def test_status_shows_what_an_operator_looks_for(command: Command) -> None:
    before = command("victor", "status").output
    command("olga", "halt", "symbol:BTC/USDT", "--why", "spread is odd")
    after = command("victor", "status").output

    assert "running, paper on binance, equity 1,100.00, since 2026-01-01 00:00" in before
    assert all(word in before for word in ("trend", "BTC/USDT", "2020-05-01 00:00", "1,100.00"))
    assert "1 open, 1 held by the runner" in before
    assert "HELD BY THE RUNNER trend BTC/USDT 1d: sell 2 stop 95; it does nothing while the runner is down" in before
    assert "HALTED" not in before
    assert "HALTED symbol:BTC/USDT (exits pass) by olga" in after
    assert "spread is odd  [entry 2]" in after


def test_orders_and_positions_are_listed(command: Command) -> None:
    assert "c1" in command("victor", "orders").output
    assert "200" in command("victor", "positions").output
    assert json.loads(command("victor", "orders", "--json").output)["rows"][0]["client_order_id"] == "c1"


def test_halting_and_arming_are_a_look_a_reason_and_a_yes(command: Command, served: Served) -> None:
    assert (
        "HALTED account (nothing passes) by olga" in command("olga", "halt", "--why", "drill", "--level", "stop").output
    )

    armed = command("anna", "arm", "account", "--why", "drill is over", "--yes").output

    assert "account (nothing passes) by olga" in armed
    assert "account may trade again" in armed
    assert served.runner.did[-1] == ("arm", "account", "anna", (2,))  # the halt that was looked at, entry 2
    assert [(act["by"], act["act"]) for act in served.acts()] == [("olga", "halt")] * 2 + [("anna", "arm")] * 2


def test_of_several_halts_those_are_lifted_that_were_shown_or_named(command: Command, served: Served) -> None:
    for why in ("first", "second", "third"):
        command("olga", "halt", "--why", why)
    first, second, third = (halt["number"] for halt in served.client("victor").get("/v1/halts")["halts"])

    one = command("anna", "arm", "account", "--entry", str(second), "--why", "seen", "--yes").output
    assert f"account is lifted of entry {second}; still halted: account" in one
    assert "second" in one
    assert "first" not in one

    assert "account may trade again" in command("anna", "arm", "account", "--why", "seen", "--yes").output
    assert served.runner.did[-1][-1] == (first, third)


def test_flattening_asks_back_and_says_what_was_sent(command: Command, served: Served) -> None:
    done = command("olga", "flatten", "--why", "venue halts", "--yes")

    assert "account is being closed, and is halted" in done.output
    assert "sent: 1" in done.output
    assert served.runner.did == [("flatten", "account", "olga")]


def test_stop_and_acknowledge(command: Command, served: Served) -> None:
    assert "is ending" in command("olga", "stop", "--policy", "cancel", "--why", "upgrade").output
    assert served.runner.did == [("stop", "cancel", "olga")]
    assert "nothing was open" in command("olga", "acknowledge", "--why", "on it").output
    served.alerts.rules.offer(Alert("critical", "halt:account", "halted"), 0.0)
    assert "acknowledged: halt:account" in command("olga", "acknowledge", "--why", "on it").output


def test_who_may_not_is_told_what_is_missing(served: Served) -> None:
    as_viewer = {"TRADELIB_CONTROL_URL": served.server.url, "TRADELIB_CONTROL_TOKEN": TOKENS["victor"][0]}
    refused(run("halt", "--why", "x", **as_viewer), "victor has the role view, this needs operate")
    refused(run("status", TRADELIB_CONTROL_URL=served.server.url), "TRADELIB_CONTROL_TOKEN", "tradelib token")
    refused(run("arm", "--why", "x", **as_viewer), "account is not halted: nothing is halted")
    assert served.runner.did == []


def test_a_script_is_never_asked(served: Served) -> None:
    as_operator = {"TRADELIB_CONTROL_URL": served.server.url, "TRADELIB_CONTROL_TOKEN": TOKENS["olga"][0]}
    refused(run("halt", **as_operator), "tradelib halt --why 'the reason'")
    refused(run("flatten", "--why", "x", **as_operator), "add --yes")
    assert served.runner.did == []


def test_a_runner_that_does_not_answer_is_halted_through_its_journal(tmp_path: Path) -> None:
    with open_journal(tmp_path / "operations.sqlite") as log:
        Latch(log)
    nobody = {"TRADELIB_CONTROL_URL": "http://127.0.0.1:1"}
    refused(run("halt", "--why", "x", TRADELIB_CONTROL_TOKEN="t", **nobody), "no runner answers", "--folder FOLDER")
    refused(run("halt", "--why", "x", "--folder", str(tmp_path / "else"), **nobody), "is not the folder of a runner")

    with open_journal(tmp_path / "trend.sqlite") as log:
        names = dict.fromkeys(journal.VOCABULARY[journal.START], "x") | {"name": "trend", "symbol": "BTC/USDT"}
        journal.record(log, journal.START, **names)
    misspelt = run("halt", "symbol:BTC/EUR", "--why", "x", "--folder", str(tmp_path), **nobody)
    refused(misspelt, "symbol:BTC/EUR covers nobody", "bundle:trend in symbol:BTC/USDT")

    done = run("halt", "--why", "hangs", "--folder", str(tmp_path), **nobody)

    assert done.exit_code == 0, done.exception
    assert "finds it before its next order" in done.output
    with open_journal(tmp_path / "operations.sqlite") as log:
        (halt,) = Latch(log).halts
        assert (halt.why, halt.who.endswith("@shell")) == ("hangs", True)
        assert log.verify().ok
        assert journal.latches(log)[("account", "")]["engaged"] is True


def test_health_is_an_exit_code_and_needs_no_token(served: Served) -> None:
    fine = run("health", TRADELIB_CONTROL_URL=served.server.url)
    gone = run("health", "--json", TRADELIB_CONTROL_URL="http://127.0.0.1:1")

    assert (fine.exit_code, fine.output) == (0, "alive, ready\n")
    assert (gone.exit_code, json.loads(gone.output)) == (1, {"alive": False, "ready": False})


def test_a_token_is_shown_once_and_its_hash_goes_to_the_runner() -> None:
    from tradelib.live.users import users_from_environment

    made = json.loads(run("token", "alice", "--role", "approve", "--json").output)

    users = users_from_environment({"TRADELIB_CONTROL_USERS": made["user"]})
    assert users.find(made["token"]).name == "alice"
    assert "export TRADELIB_CONTROL_TOKEN=" in run("token", "bob").output
    refused(run("token", "bob", "--role", "god"), "view, operate or approve")


def test_run_wants_a_bundle_or_settings_and_not_both(tmp_path: Path) -> None:
    refused(run("run"), "name one bundle, or --settings FILE")
    refused(run("run", "bundle", "--settings", "runner.toml"), "name one bundle, or --settings FILE")
    refused(run("run", "bundle", "--log", "loud"), "plain, json or off")
    refused(run("run", "--settings", "runner.toml", "--emulate-exits"), "emulate_exits = true there")
    refused(run("run", "--settings", str(tmp_path / "nowhere.toml")), "nowhere.toml cannot be read")


def test_settings_are_printed_to_be_edited(tmp_path: Path) -> None:
    path = tmp_path / "runner.toml"
    path.write_text(run("settings", "bundles/a", "bundles/b").output, encoding="utf-8")

    assert [bundle.path.name for bundle in load_settings(path).bundles] == ["a", "b"]


def test_a_folder_of_journals_is_backed_up_and_restored(tmp_path: Path) -> None:
    folder, copies = tmp_path / "runner", tmp_path / "copies"
    with open_journal(folder / "operations.sqlite") as log:
        Latch(log).halt(Scope("account"), "alice", "drill")

    assert "operations.sqlite" in run("backup", str(folder), str(copies)).output
    again = tmp_path / "again" / "operations.sqlite"
    assert "restored to" in run("restore", str(copies), str(again)).output

    with open_journal(again) as log:
        assert Latch(log).halts[0].why == "drill"
    assert isinstance(run("restore", str(copies), str(again)).exception, LedgerError)
    assert isinstance(run("backup", str(tmp_path / "nothing"), str(copies)).exception, LedgerError)


def test_an_audit_walks_all_journals_and_misses_an_end_that_was_cut_off(tmp_path: Path) -> None:
    for name in ("a", "b"):
        with open_journal(tmp_path / f"{name}.sqlite") as log:
            journal.record(log, journal.STOP, reason=name)
    found = json.loads(run("audit", str(tmp_path), "--json").output)
    assert [head.partition(":")[0] for head in found.values()] == ["1", "1"]

    one = str(tmp_path / "a.sqlite")
    assert run("audit", one, "--head", found["a.sqlite"]).exit_code == 0
    longer = run("audit", one, "--head", "2:" + "0" * 64).exception
    assert "the tail up to entry 2 was cut off" in str(longer)
    refused(run("audit", one, "--head", "2"), "ENTRY:HASH")


@pytest.mark.parametrize("name", ["status", "orders", "positions", "halt", "arm", "flatten", "stop", "acknowledge"])
def test_help_says_which_role_it_needs(name: str) -> None:
    assert "role" in run(name, "--help").output.lower()
