"""The control server: who may do what, what is written of it, and what never gets in."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.live.operable import OperableRunner
from tradelib.errors import LedgerError, RunnerError
from tradelib.ledger import journal, open_journal
from tradelib.live.alerts import Alert, Alerter
from tradelib.live.control import ENDPOINTS, ControlServer
from tradelib.live.latch import Latch
from tradelib.live.metrics import Metrics
from tradelib.live.remote import ControlClient, Unreachable
from tradelib.live.settings import AlertSettings, ControlSettings
from tradelib.live.users import Role, Users, new_token, users_from_environment

TOKENS = {name: new_token(name, role) for name, role in
          (("victor", Role.VIEW), ("olga", Role.OPERATE), ("anna", Role.APPROVE))}  # fmt: skip
NAMES = {None: None, "view": "victor", "operate": "olga", "approve": "anna"}
BODIES = {
    "/v1/halt": {"scope": "account", "why": "drill"},
    "/v1/flatten": {"scope": "account", "why": "drill"},
    "/v1/stop": {"why": "drill"},
    "/v1/acknowledge": {"why": "drill", "alerts": ["halt:account"]},
    "/v1/arm": {"scope": "symbol:BTC/USDT", "why": "drill", "numbers": [0]},
    "/v1/adjust": {"asset": "USDT", "amount": "-12.50", "why": "drill"},
}


class Served:
    """A control server in a thread of its own, and what a client needs to talk to it."""

    def __init__(self, folder: Path, settings: ControlSettings) -> None:
        self.path = folder / "operations.sqlite"
        self.settings = settings
        self.runner: Any = None
        self.server: Any = None
        self.alerts = Alerter(AlertSettings(), [lambda _: True])
        self._ready, self._loop = threading.Event(), asyncio.new_event_loop()
        self._done = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=[self._serve()])

    async def _serve(self) -> None:
        users = users_from_environment({"TRADELIB_CONTROL_USERS": " ".join(entry for _, entry in TOKENS.values())})
        metrics = Metrics()
        metrics.follow(self.path)
        with open_journal(self.path) as self.log:
            self.runner = OperableRunner(Latch(self.log))
            made = ControlServer(self.runner, self.log, users, self.settings, metrics=metrics, alerts=self.alerts)
            async with made as self.server:
                self._ready.set()
                await self._done.wait()
        metrics.close()

    def __enter__(self) -> Served:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._done.set)
        self._thread.join()
        self._loop.close()

    def ask(self, method: str, path: str, token: str | None, body: Any = None, **headers: str) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=10)
        named = {"Authorization": f"Bearer {token}"} if token else {}
        sent = body if isinstance(body, str) else json.dumps(body or {})
        if method == "POST":
            named["Content-Type"] = "application/json"
        connection.request(method, path, sent if method == "POST" else None, named | headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, json.loads(text) if "json" in (answer.getheader("Content-Type") or "") else text

    def client(self, name: str) -> ControlClient:
        return ControlClient(self.server.url, environment={"TRADELIB_CONTROL_TOKEN": TOKENS[name][0]})

    def acts(self) -> list[dict[str, Any]]:
        with open_journal(self.path, read_only=True) as log:
            return journal.bodies(log, journal.OPERATOR)

    def on_loop(self, work: Any) -> None:
        """Do `work()` in the server's thread."""
        done = threading.Event()
        self._loop.call_soon_threadsafe(lambda: (work(), done.set()))
        assert done.wait(10)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with Served(tmp_path, ControlSettings(port=0)) as running:
        yield running


def test_the_whole_matrix_of_roles_and_endpoints(served: Served) -> None:
    """Every endpoint, asked by nobody, a stranger and each role, answers exactly what the table of roles says."""
    allowed = {None: 0, "stranger": 0, "view": 1, "operate": 2, "approve": 3}
    for endpoint in ENDPOINTS:
        for name, rank in allowed.items():
            token = "x" * 43 if name == "stranger" else TOKENS[NAMES[name]][0] if name else None
            body = dict(BODIES.get(endpoint.path, {}))
            if endpoint.path == "/v1/arm" and rank == 3:
                _, made = served.ask("POST", "/v1/halt", token, {"scope": "symbol:BTC/USDT", "why": "to be armed"})
                body["numbers"] = [made["result"]["number"]]
            before = len(served.runner.did)
            status, _ = served.ask(endpoint.method, endpoint.path, token, body)
            needed = endpoint.role or 0
            expected = 200 if rank >= needed else 401 if rank == 0 else 403

            assert status == expected, (endpoint, name)
            if status != 200:
                assert len(served.runner.did) == before, (endpoint, name)


ROLES = {
    "": "/healthz /readyz",
    "view": "/metrics /v1/status /v1/orders /v1/positions /v1/halts /v1/alerts",
    "operate": "/v1/halt /v1/flatten /v1/stop /v1/acknowledge",
    "approve": "/v1/arm /v1/adjust",
}


def test_the_roles_are_these() -> None:
    written = {path: role for role, paths in ROLES.items() for path in paths.split()}

    assert {endpoint.path: endpoint.role.name.lower() if endpoint.role else "" for endpoint in ENDPOINTS} == written
    assert all((endpoint.method == "POST") == (endpoint.role in (Role.OPERATE, Role.APPROVE)) for endpoint in ENDPOINTS)


def test_what_needs_no_token_tells_nothing(served: Served) -> None:
    assert served.ask("GET", "/healthz", None) == (200, {"alive": True})
    assert served.ask("GET", "/readyz", None) == (200, {"ready": True})

    served.on_loop(lambda: setattr(served.runner, "state", replace(served.runner.state, phase="degraded")))
    assert served.ask("GET", "/healthz", None) == (200, {"alive": True})
    assert served.ask("GET", "/readyz", None) == (503, {"ready": False})

    served.on_loop(lambda: setattr(served.runner, "state", replace(served.runner.state, heartbeat=61.0)))
    assert served.ask("GET", "/healthz", None) == (503, {"alive": False})


def test_a_halt_is_done_and_written_with_who_asked(served: Served) -> None:
    done = served.client("olga").post("/v1/halt", scope="symbol:BTC/USDT", why="spread is odd", level="stop")

    assert done["result"]["level"] == "stop"
    assert served.client("victor").get("/v1/halts")["halts"][0]["why"] == "spread is odd"
    asked, written = served.acts()
    assert (asked["act"], asked["subject"], asked["by"], asked["role"]) == (
        "halt",
        "symbol:BTC/USDT",
        "olga",
        "operate",
    )
    assert (asked["reason"], asked["outcome"], written["outcome"]) == ("spread is odd", "asked", "done")


def test_arming_needs_the_halt_that_was_looked_at(served: Served) -> None:
    first = served.client("olga").post("/v1/halt", scope="account", why="drill")["result"]["number"]
    with pytest.raises(RunnerError, match="olga has the role operate, this needs approve"):
        served.client("olga").post("/v1/arm", scope="account", why="fine", numbers=[first])
    with pytest.raises(RunnerError, match="look at them, then arm by number"):
        served.client("anna").post("/v1/arm", scope="account", why="fine", numbers=[first - 1])
    with pytest.raises(RunnerError, match="'numbers' must list the entries of the halts that were looked at"):
        served.client("anna").post("/v1/arm", scope="account", why="fine")

    lifted = served.client("anna").post("/v1/arm", scope="account", why="fine", numbers=[first])["result"]
    assert [(halt["number"], halt["why"]) for halt in lifted] == [(first, "drill")]

    assert served.client("victor").get("/v1/halts") == {"halts": []}
    assert [act["outcome"].partition(":")[0] for act in served.acts()] == [
        "asked", "done", "asked", "refused", "asked", "done",
    ]  # fmt: skip


def test_with_four_eyes_whoever_halted_cannot_arm(tmp_path: Path) -> None:
    with Served(tmp_path, ControlSettings(port=0, four_eyes=True)) as served:
        anna, olga = served.client("anna"), served.client("olga")
        hers = anna.post("/v1/halt", scope="account", why="drill")["result"]["number"]
        other = olga.post("/v1/halt", scope="account", why="another drill")["result"]["number"]
        for numbers in ([hers], [hers, other]):
            with pytest.raises(RunnerError, match="somebody else must look at it"):
                anna.post("/v1/arm", scope="account", why="fine", numbers=numbers)
        anna.post("/v1/arm", scope="account", why="fine", numbers=[other])
        assert [halt["number"] for halt in anna.get("/v1/halts")["halts"]] == [hers]


def test_a_full_disk_stops_arming_and_nothing_that_makes_safer(served: Served, monkeypatch) -> None:
    served.client("olga").post("/v1/halt", scope="account", why="before")

    def full(*_: object) -> None:
        raise LedgerError("the disk is full")

    monkeypatch.setattr(served.log, "append", full)

    with pytest.raises(RunnerError, match="the disk is full"):
        served.client("anna").post("/v1/arm", scope="account", why="fine", numbers=[2])
    assert "arm" not in {act for act, *_ in served.runner.did}
    served.client("olga").post("/v1/stop", policy="cancel", why="disk")
    assert served.runner.did[-1] == ("stop", "cancel", "olga")
    with pytest.raises(RunnerError, match="the disk is full"):  # told, and halted all the same
        served.client("olga").post("/v1/halt", scope="bundle:trend", why="disk")
    assert {halt["scope"] for halt in served.client("victor").get("/v1/halts")["halts"]} == {"account", "bundle:trend"}


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/v1/halt", {"scope": "account"}, "'why' must be given"),
        ("/v1/halt", {"scope": "account", "why": " "}, "'why' is empty"),
        ("/v1/halt", {"scope": "account", "why": "x\ny"}, "one line of text"),
        ("/v1/halt", {"scope": "account", "why": "x" * 501}, "one line of text"),
        ("/v1/halt", {"scope": "everything", "why": "x"}, "bundle:<name>"),
        ("/v1/halt", {"scope": ["account"], "why": "x"}, "'scope' must be given"),
        ("/v1/halt", {"scope": "account", "why": "x", "level": "all"}, "'reduce'"),
        ("/v1/halt", {"scope": "account", "why": "x", "force": True}, "unknown field 'force': nothing was done"),
        ("/v1/arm", {"scope": "account", "why": "x", "numbers": ["1"]}, "'numbers'"),
        ("/v1/arm", {"scope": "account", "why": "x", "numbers": [True]}, "'numbers'"),
        ("/v1/arm", {"scope": "account", "why": "x", "numbers": []}, "'numbers'"),
        ("/v1/arm", {"scope": "account", "why": "x", "number": 1}, "'numbers'"),
        ("/v1/acknowledge", {"why": "x"}, "'alerts'"),
        ("/v1/stop", {"policy": "hope", "why": "x"}, "'keep', 'cancel' or 'flatten'"),
        ("/v1/halt", "no json", "one JSON object"),
        ("/v1/halt", "[1]", "one JSON object"),
    ],
)
def test_a_request_that_is_wrong_does_nothing(served: Served, path: str, body: Any, words: str) -> None:
    status, said = served.ask("POST", path, TOKENS["anna"][0], body)

    assert status == 400
    assert words in said["error"]
    assert served.runner.did == []


def test_web_pages_do_not_get_in(served: Served) -> None:
    token = TOKENS["anna"][0]
    for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Host": "evil.example"}):
        assert served.ask("POST", "/v1/halt", token, BODIES["/v1/halt"], **headers)[0] == 403
    assert served.ask("POST", "/v1/halt", token, BODIES["/v1/halt"], **{"Content-Type": "text/plain"})[0] == 415
    assert served.ask("GET", "/v1/halt", token)[0] == 405
    assert served.runner.did == []


def test_it_listens_on_this_machine_only(served: Served) -> None:
    assert served.server.url.startswith("http://127.0.0.1:")
    with pytest.raises(RunnerError, match="another runner may use the port"):
        asyncio.run(_listen_again(served))


async def _listen_again(served: Served) -> None:
    async with ControlServer(served.runner, served.log, Users(), ControlSettings(port=served.server.port)):
        pass


def test_numbers_that_json_lacks_are_null(served: Served) -> None:
    served.on_loop(lambda: setattr(served.runner, "state", replace(served.runner.state, equity=float("nan"))))

    assert served.client("victor").get("/v1/status")["equity"] is None


def test_requests_are_counted_and_the_figures_need_a_token(served: Served) -> None:
    served.ask("GET", "/metrics", None)
    status, text = served.ask("GET", "/metrics", TOKENS["victor"][0])

    assert status == 200
    assert 'tradelib_control_requests_total{endpoint="/metrics",status="401"} 1.0' in text
    assert 'tradelib_equity_quote{bundle="trend",symbol="BTC/USDT"} 1100.0' in text


def test_only_what_is_named_is_acknowledged(served: Served) -> None:
    for key in ("halt:account", "disk"):
        served.alerts.rules.offer(Alert("critical", key, "halted"), 0.0)
    olga = served.client("olga")
    assert olga.get("/v1/alerts")["open"] == ["halt:account", "disk"]

    olga.post("/v1/stop", policy="keep", why="nobody has seen the alerts for that")
    assert olga.get("/v1/status")["open_alerts"] == ["halt:account", "disk"]

    assert olga.post("/v1/acknowledge", why="on it", alerts=["halt:account", "gone"])["result"] == ["halt:account"]
    assert olga.get("/v1/status")["open_alerts"] == ["disk"]


def test_a_client_names_what_is_wrong(served: Served) -> None:
    with pytest.raises(RunnerError, match="TRADELIB_CONTROL_TOKEN"):
        ControlClient(served.server.url, environment={}).get("/v1/status")
    with pytest.raises(RunnerError, match="a token that the runner knows"):
        ControlClient(served.server.url, environment={"TRADELIB_CONTROL_TOKEN": "old"}).get("/v1/status")
    with pytest.raises(Unreachable, match="no runner answers"):
        ControlClient("http://127.0.0.1:1", environment={"TRADELIB_CONTROL_TOKEN": "x"}).get("/v1/status")
    for elsewhere in ("http://192.0.2.1:8790", "https://127.0.0.1:8790", "http://127.0.0.1.evil.example:1"):
        with pytest.raises(RunnerError, match="the token goes nowhere else"):
            ControlClient(elsewhere, environment={})


def test_the_environment_of_the_runner_holds_no_token() -> None:
    token, entry = new_token("alice", Role.OPERATE)

    assert token not in entry
    users = users_from_environment({"TRADELIB_CONTROL_USERS": entry})
    assert users.find(token).name == "alice"
    assert users.find(entry.rpartition(":")[2]) is None
    assert len(token) >= 43  # 32 bytes in base64


@pytest.mark.parametrize("told", ["alice", "alice:root:" + "0" * 64, "alice:view:short", "runner:view:" + "0" * 64])
def test_operators_that_cannot_be_read_are_named_by_position_and_never_shown(told: str) -> None:
    with pytest.raises(RunnerError) as refused:
        users_from_environment({"TRADELIB_CONTROL_USERS": told})
    assert "0" * 64 not in str(refused.value)
    with pytest.raises(RunnerError, match="cannot be the name"):
        new_token("runner", Role.VIEW)
