"""The runner's settings: what is misspelt or contradicts itself is refused, and no secret has a place in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tradelib.errors import ParameterError, RunnerError
from tradelib.ledger import journal, open_journal
from tradelib.live.settings import RunnerSettings, load_settings, settings_template

BASIC = """
venue = "http://127.0.0.1:8787"
folder = "state"

[[bundles]]
path = "bundles/trend"
share = 0.6

[[bundles]]
path = "/srv/bundles/pairs"
share = 0.4

[limits]
maximum_drawdown = 0.2

[gate]
collar = 0.02

[shutdown]
policy = "flatten"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "runner.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_is_read_and_its_paths_start_beside_it(tmp_path: Path) -> None:
    settings = load_settings(written(tmp_path, BASIC))

    assert settings.folder == tmp_path / "state"
    assert [str(bundle.path) for bundle in settings.bundles] == [f"{tmp_path}/bundles/trend", "/srv/bundles/pairs"]
    assert settings.shares == (0.6, 0.4)
    assert (settings.limits.maximum_drawdown, settings.gate.collar) == (0.2, 0.02)
    assert (settings.shutdown.policy, settings.mode, settings.feed.kind) == ("flatten", "paper", "poll")
    assert settings.operations_path == tmp_path / "state" / "operations.sqlite"


def test_bundles_without_a_share_share_equally() -> None:
    settings = RunnerSettings(venue="http://127.0.0.1:1", bundles=[{"path": "a"}, {"path": "b"}])

    assert settings.shares == (0.5, 0.5)


@pytest.mark.parametrize(
    ("said", "instead", "words"),
    [
        ("collar = 0.02", "colar = 0.02", "did you mean 'collar'"),
        ("collar = 0.02", "collar = 2.0", "less than 1"),
        ("maximum_drawdown", "maximum_drawdwn", "did you mean 'maximum_drawdown'"),
        ('policy = "flatten"', 'policy = "pray"', "'keep', 'cancel' or 'flatten'"),
        ("share = 0.6", "share = 0.7", "sum to 1.1"),
        ("share = 0.6", "", "one to each, or to none"),
        ('path = "bundles/trend"', 'path = "/srv/bundles/pairs"', "named twice"),
        ('venue = "http://127.0.0.1:8787"', "", "needs the address of a venue"),
        ('venue = "http', 'mode = "live"\nvenue = "http', "leave venue out"),
        ("collar = 0.02", 'latch_on = ["drawdown"]', "latch_on names drawdown"),
        ('folder = "state"', 'api_secret = "x"', "has no parameter 'api_secret'"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, said: str, instead: str, words: str) -> None:
    path = written(tmp_path, BASIC.replace(said, instead, 1))

    with pytest.raises(ParameterError) as refused:
        load_settings(path)

    assert str(path) in str(refused.value)
    assert words in str(refused.value)


@pytest.mark.parametrize("text", ["folder = ", "\xff"])
def test_what_is_no_toml_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "runner.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(RunnerError, match=r"runner\.toml"):
        load_settings(path)
    with pytest.raises(RunnerError, match="cannot be read"):
        load_settings(tmp_path / "nowhere.toml")


def test_the_settings_go_into_the_journal_with_their_digest(tmp_path: Path) -> None:
    settings = load_settings(written(tmp_path, BASIC))
    with open_journal(settings.operations_path) as log:
        journal.record(log, journal.CONFIG, **settings.as_config())
        kept = journal.bodies(log, journal.CONFIG)[0]

    assert RunnerSettings(**kept["settings"]) == settings
    assert kept["digest"] != settings.replace(exchange="kraken").as_config()["digest"]


def test_the_template_loads_as_it_stands_and_with_every_line_that_it_comments_out(tmp_path: Path) -> None:
    bundles = [Path("bundles/a"), Path("bundles/b")]
    text = settings_template(bundles, "http://127.0.0.1:8787")
    plain = load_settings(written(tmp_path, text))
    idle = ("_pause", "cluster_", "risk_window", "risk_alpha", "volatility_window", "leverage_")  # limit nothing alone
    lines = [
        line if " = ..." in line or any(name in line for name in idle) else line.removeprefix("# ")
        for line in text.splitlines()
        if not line.startswith("# Settings")
    ]

    assert load_settings(written(tmp_path, "\n".join(lines))) == plain.replace(
        bundles=[bundle.replace(share=0.5) for bundle in plain.bundles]
    )
    assert plain == RunnerSettings(
        venue="http://127.0.0.1:8787",
        folder=tmp_path / "runner",
        bundles=[{"path": tmp_path / bundle} for bundle in bundles],
    )


def test_the_control_server_can_be_left_out(tmp_path: Path) -> None:
    settings = load_settings(written(tmp_path, BASIC + '[control]\nport = "off"\n'))

    assert settings.control.port is None
    assert RunnerSettings(**settings.as_config()["settings"]) == settings
