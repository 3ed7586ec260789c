"""What surrounds a runner in `ops/`: every metric exists, every alert has its section, every command can be typed."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from tests.checks.files import code_blocks
from tests.environment import PROJECT
from tradelib.cli import app
from tradelib.live.metrics import COUNTERS, GAUGES, HISTOGRAMS, NAMES
from tradelib.live.settings import ShutdownSettings

yaml = pytest.importorskip("yaml")

OPS = PROJECT / "ops"
UNIT = (OPS / "tradelib@.service").read_text(encoding="utf-8")
CONTAINER = (OPS / "Containerfile").read_text(encoding="utf-8")
BOARD = json.loads((OPS / "grafana-dashboard.json").read_text(encoding="utf-8"))
RULES = yaml.safe_load((OPS / "alerts.yml").read_text(encoding="utf-8"))["groups"][0]["rules"]
RUNBOOK = (PROJECT / "docs" / "runbook.md").read_text(encoding="utf-8")

OWN_LABELS = {
    "tradelib_request_failures_total": ("endpoint", "error"),
    "tradelib_control_requests_total": ("endpoint", "status"),
}


def labels_of(name: str) -> set[str]:
    """The labels that a metric can carry."""
    base = name.removesuffix("_total")
    told = COUNTERS.get(base) or GAUGES.get(name) or HISTOGRAMS.get(re.sub("_(bucket|sum|count)$", "", name))
    own = set(told[1]) if told else set(OWN_LABELS.get(name, ()))
    return own | {"job", "le"}


def expressions() -> Iterator[tuple[str, str]]:
    for panel in BOARD["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]
    for rule in RULES:
        yield rule["alert"], rule["expr"]


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What a runner with a control server tells Prometheus after some bars."""
    from tests.live.support import GOLDEN, HASTE, KEY, SECRET, exchange, seal, synthetic_bars
    from tests.live.support import venue as served
    from tradelib.live.fleet import Fleet
    from tradelib.live.remote import ControlClient
    from tradelib.live.settings import BundleSettings, ControlSettings, FeedSettings, RunnerSettings
    from tradelib.live.users import Role, new_token

    folder = tmp_path_factory.mktemp("scraped")
    sealed = seal(folder, synthetic_bars())
    token, entry = new_token("prometheus", Role.VIEW)
    found: list[str] = []

    async def run(fleet: Fleet) -> None:
        running = asyncio.create_task(fleet.run())
        try:
            while not (fleet.seats and fleet.seats[0].trader.started and enough.is_set()):
                assert not running.done(), "the runner ended"
                await asyncio.sleep(0.01)
            client = ControlClient(fleet.control.url, environment={"TRADELIB_CONTROL_TOKEN": token})
            for _ in range(2):  # requests of the control server itself are told at the next scrape
                found.append(await asyncio.to_thread(client.text, "/metrics"))
        finally:
            fleet.end("seen")
            await running

    def seen(_: str, step: Any) -> None:
        if step.time >= sealed.bars.index[GOLDEN + 15].isoformat():
            enough.set()

    with pytest.MonkeyPatch.context() as patch, served(exchange(sealed)) as venue:
        for name, value in (("API_KEY", KEY), ("API_SECRET", SECRET), ("CONTROL_USERS", entry)):
            patch.setenv(f"TRADELIB_{name}", value)
        settings = RunnerSettings(
            venue=venue.url,
            folder=folder / "runner",
            bundles=(BundleSettings(path=sealed.bundle.path),),
            control=ControlSettings(port=0),
            feed=FeedSettings(poll_seconds=0.02),
        )
        enough = asyncio.Event()
        asyncio.run(run(Fleet([sealed.bundle], settings, patience=HASTE, on_progress=seen)))
    return found[-1]


@pytest.mark.parametrize(("title", "expression"), list(expressions()))
def test_every_expression_asks_for_what_exists(title: str, expression: str) -> None:
    names = re.findall(r"\b(?:tradelib|process)_[a-z_]+", expression)
    assert names or "up{" in expression, title
    assert set(names) <= NAMES, title
    for name, selector in re.findall(r"\b((?:tradelib|process)_[a-z_]+)\{([^}]*)\}", expression):
        assert set(re.findall(r"(\w+)\s*(?:=~|!=|!~|=)", selector)) <= labels_of(name), title
    for grouped in re.findall(r"by \(([^)]*)\)", expression):
        known = set().union(*(labels_of(name) for name in names))
        assert {label.strip() for label in grouped.split(",")} <= known, title
    for opening, closing in ("()", "{}", "[]"):
        assert expression.count(opening) == expression.count(closing), title


def test_everything_that_is_measured_can_be_seen() -> None:
    shown = {
        name for _, expression in expressions() for name in re.findall(r"\b(?:tradelib|process)_[a-z_]+", expression)
    }
    left_out = {"process_max_fds", "process_open_fds", "process_start_time_seconds", "process_virtual_memory_bytes"}
    sums = {f"{name}_{end}" for name in HISTOGRAMS for end in ("sum", "count")}

    assert NAMES - left_out - sums <= shown


def test_panels_do_not_overlap_and_have_ids_of_their_own() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_every_alert_says_what_to_do(rule: dict[str, Any]) -> None:
    sections = {
        re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in re.findall(r"(?m)^## (.*)$", RUNBOOK)
    }

    assert rule["labels"]["severity"] in ("warning", "critical")
    assert rule["annotations"]["summary"].endswith(".")
    assert rule["annotations"]["runbook"] in sections


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_prometheus_accepts_the_rules() -> None:
    subprocess.run(["promtool", "check", "rules", str(OPS / "alerts.yml")], check=True)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_prometheus_can_read_every_expression(tmp_path: Path) -> None:
    """Those of the dashboard too, as rules; its variables stand inside of texts."""
    rules = [{"record": f"panel:{number}", "expr": expression} for number, (_, expression) in enumerate(expressions())]
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "board", "rules": rules}]}), encoding="utf-8")

    subprocess.run(["promtool", "check", "rules", str(path)], check=True)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_prometheus_accepts_its_settings_and_the_figures_of_a_runner(tmp_path: Path, scraped: str) -> None:
    """The token's file is where the settings say on the machine that scrapes, and here is another."""
    (tmp_path / "token").write_text("t", encoding="ascii")
    shutil.copy(OPS / "alerts.yml", tmp_path)
    given = (OPS / "prometheus.yml").read_text(encoding="utf-8")
    path = tmp_path / "prometheus.yml"
    path.write_text(given.replace("/etc/prometheus/tradelib.token", str(tmp_path / "token")), encoding="utf-8")

    subprocess.run(["promtool", "check", "config", str(path)], check=True)
    subprocess.run(["promtool", "check", "metrics"], input=scraped, text=True, check=True, capture_output=True)


@pytest.mark.integration
def test_a_running_runner_tells_everything_that_is_asked_for(scraped: str) -> None:
    families = [line.split()[2:] for line in scraped.splitlines() if line.startswith("# TYPE")]
    told = {name for name, kind in families if kind != "histogram"}
    told |= {f"{name}_{end}" for name, kind in families if kind == "histogram" for end in ("bucket", "sum", "count")}
    asked = {
        name for _, expression in expressions() for name in re.findall(r"\b(?:tradelib|process)_[a-z_]+", expression)
    }

    assert asked - told == set()
    with_figures = {re.split(r"[ {]", line)[0] for line in scraped.splitlines() if not line.startswith("#")}
    events = {"tradelib_halted", "tradelib_halts_total", "tradelib_operator_acts_total", "tradelib_refusals_total"}
    events |= {"tradelib_incidents_total", "tradelib_foreign_trades_total", "tradelib_request_failures_total"}
    assert asked - with_figures <= events | {"tradelib_reconciliations_total", "tradelib_alerts_total"}


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "tradelib@paper.service"
    unit.write_text(UNIT.replace("/opt/tradelib/bin/tradelib", sys.executable), encoding="utf-8")

    done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")


def test_the_unit_gives_the_runner_time_and_does_not_overrule_it() -> None:
    setting = dict(line.split("=", 1) for line in UNIT.splitlines() if re.match(r"\w+=", line))

    assert float(setting["TimeoutStopSec"]) > ShutdownSettings().seconds + 30
    assert setting["Restart"] == "on-abnormal"  # a refusal, exit code 1, is not overruled
    assert setting["SuccessExitStatus"] == "130"
    assert setting["Type"] == "notify"
    assert setting["NoNewPrivileges"] == "yes"
    assert not re.search(r"TRADELIB_\w*(KEY|SECRET|TOKEN)", UNIT)


def test_the_image_runs_as_nobody_in_particular_and_takes_what_the_bundle_seals() -> None:
    last = CONTAINER.rpartition("\nFROM ")[2]

    assert "USER 10001:10001" in last
    assert "HEALTHCHECK" in last
    assert "--require-hashes -r /package/runner.lock" in CONTAINER
    assert not re.search(r"(?m)^(ENV|ARG).*(KEY|SECRET|TOKEN)", CONTAINER)


# Commands, wherever they are written down


def commands() -> dict[str, set[str]]:
    """Each command -> its options."""
    group: Any = typer.main.get_command(app)
    return {
        name: {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        for name, command in group.commands.items()
    }


def written() -> Iterator[tuple[str, str]]:
    """Where a command of tradelib is written, and the line."""
    for page in ("running", "runbook"):
        text = (PROJECT / "docs" / f"{page}.md").read_text(encoding="utf-8")
        lines = [line for block in code_blocks(text, "console") for line in block.splitlines()]
        lines += re.findall(r"`(tradelib [^`]+)`", text)
        yield from ((page, line) for line in lines if "tradelib " in line)
    yield "unit", next(line for line in UNIT.splitlines() if line.startswith("ExecStart="))
    for instruction in re.findall(r"(?m)^(?:ENTRYPOINT|HEALTHCHECK.*CMD) (\[.*\])$", CONTAINER):
        yield "image", " ".join(json.loads(instruction))
    group: Any = typer.main.get_command(app)
    for name, command in group.commands.items():
        yield from ((f"{name} --help", line) for line in re.findall(r"\[cyan\](tradelib [^\[]*)", command.help or ""))


@pytest.mark.parametrize(("where", "line"), sorted(set(written())))
def test_every_command_that_is_written_down_can_be_typed(where: str, line: str) -> None:
    known = commands()
    typed = line.partition("#")[0].rpartition("tradelib ")[2].split()
    name = typed[0].strip("`,.│ ")

    assert name in known, where
    for option in re.findall(r"(?<= )--[a-z-]+", " " + " ".join(typed[1:])):
        assert option in known[name] | {"--help"}, where
