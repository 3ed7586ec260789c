"""What a runner is told: one TOML file, typed, closed, and without a secret in it.

Everything that decides whether money moves stands here in one place, goes into the journal with its digest (`CONFIG`),
and is refused where it is misspelt. Keys, tokens and the addresses of alerts are secrets: they come from the
environment.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from tradelib.errors import ParameterError, RunnerError
from tradelib.ledger import digest
from tradelib.parameters import Parameters
from tradelib.risk import Limits

__all__ = [
    "AlertSettings",
    "BundleSettings",
    "ControlSettings",
    "FeedSettings",
    "GateSettings",
    "JournalSettings",
    "RunnerSettings",
    "ShutdownSettings",
    "load_settings",
    "settings_template",
]

Policy = Literal["keep", "cancel", "flatten"]
"""What an orderly end does with open orders and positions: keep both, cancel orders, or cancel and close positions."""


class BundleSettings(Parameters):
    """One bundle of the runner."""

    path: Path = Field(description="folder of the sealed bundle")
    share: float | None = Field(
        None, ge=0, le=1, description="fraction of the account that it trades; None: an equal one; 0: it is wound up"
    )
    execution: dict[str, Any] = Field(default_factory=dict, description="how its orders are worked; empty: at once")
    emulate_exits: bool = Field(
        False, description="the runner itself holds exits that the venue cannot: no protection while it is down"
    )

    @field_validator("execution")
    @classmethod
    def _is_a_schedule(cls, execution: dict[str, Any]) -> dict[str, Any]:
        from tradelib.live.execution import schedule_from_config

        schedule_from_config(execution)
        return execution


class GateSettings(Parameters):
    """Thresholds of the gate that every order passes."""

    collar: float = Field(0.05, gt=0, lt=1, description="how far a price may be off the market, fraction")
    maximum_notional: float | None = Field(None, gt=0, description="largest order, quote currency; None: no limit")
    orders_per_minute: int = Field(60, ge=1, description="orders within a minute, adding and reducing apart")
    stale_bars: float = Field(1.0, gt=0, description="age at which a decision is too old, in bars")
    skew_seconds: float = Field(1.0, gt=0, description="tolerated difference to the venue's clock")
    latch_on: tuple[str, ...] = Field(
        ("daily_loss", "maximum_drawdown"), description="limits that halt the account for good when they trip"
    )


class FeedSettings(Parameters):
    """Where closed bars come from."""

    kind: Literal["poll", "stream"] = Field("poll", description="ask for bars, or have them streamed and checked")
    poll_seconds: float = Field(1.0, ge=0, description="pause between two questions")
    turns: Literal["rounds", "free"] = Field(
        "rounds", description="polled on paper: all traders by turns, or each at its own pace as it is live"
    )
    silence_bars: float = Field(2.0, gt=0, description="bars without a word after which the feed counts as dead")
    fallback: str | None = Field(None, description="exchange whose public bars stand in while the venue's fail")


class ShutdownSettings(Parameters):
    """How the runner ends when it is asked to."""

    policy: Policy = Field("keep", description="keep, cancel orders, or flatten positions too")
    seconds: float = Field(30.0, gt=0, description="time that this may take before the process ends anyway")


class ControlSettings(Parameters):
    """The control server on 127.0.0.1. Who may do what comes from TRADELIB_CONTROL_USERS."""

    port: int | None = Field(8790, ge=0, le=65_535, description="0: a free one; 'off': no control server")
    four_eyes: bool = Field(False, description="whoever halted may not arm again")

    @field_validator("port", mode="before")
    @classmethod
    def _is_off(cls, port: Any) -> Any:
        return None if port == "off" else port  # TOML has no word for nothing


class AlertSettings(Parameters):
    """Messages to people. Where they go comes from TRADELIB_ALERT_URLS and TRADELIB_ESCALATION_URLS."""

    name: str = Field("tradelib", description="what the messages say that they come from")
    minimum: Literal["info", "warning", "critical"] = Field("warning", description="what is sent at all")
    repeat_seconds: float = Field(900.0, ge=0, description="silence about the same thing after a message")
    per_minute: int = Field(10, ge=1, description="messages within a minute, of all kinds")
    escalate_seconds: float = Field(600.0, gt=0, description="unacknowledged critical alerts go on after this long")
    escalations: int = Field(3, ge=0, description="times that they do")


class JournalSettings(Parameters):
    """What is kept, and how much of it in one file."""

    rotate_megabytes: float = Field(
        256.0, gt=0, description="size of a file after which the journal goes on in another"
    )
    backup: Path | None = Field(None, description="folder for online backups")
    backup_hours: float = Field(24.0, gt=0, description="hours between two of them")


class RunnerSettings(Parameters):
    """Everything that a runner is told, secrets aside."""

    mode: Literal["paper", "live"] = Field(
        "paper", description="paper reaches this machine only, live the exchange only"
    )
    exchange: str = Field("binance", description="dialect of the venue")
    venue: str | None = Field(None, description="address of the paper venue; none in live mode")
    folder: Path = Field(Path("runner"), description="where journals are kept")
    bundles: tuple[BundleSettings, ...] = Field(min_length=1, description="what is traded")
    limits: Limits = Field(default_factory=Limits, description="limits of the account over all bundles")
    limits_timeframe: str | None = Field(
        None, description="bars at whose close they are measured; None: the bundles' own"
    )
    gate: GateSettings = Field(default_factory=GateSettings)
    feed: FeedSettings = Field(default_factory=FeedSettings)
    shutdown: ShutdownSettings = Field(default_factory=ShutdownSettings)
    control: ControlSettings = Field(default_factory=ControlSettings)
    alerts: AlertSettings = Field(default_factory=AlertSettings)
    journal: JournalSettings = Field(default_factory=JournalSettings)
    dead_man_seconds: float | None = Field(
        None, ge=5, description="the venue cancels all orders when it hears nothing for so long; None: off"
    )

    @field_validator("bundles")
    @classmethod
    def _are_distinct(cls, bundles: tuple[BundleSettings, ...]) -> tuple[BundleSettings, ...]:
        paths = [bundle.path for bundle in bundles]
        if len(set(paths)) < len(paths):
            raise ValueError("a bundle is named twice: its orders would carry the same ids")
        return bundles

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        shares = [bundle.share for bundle in self.bundles]
        given = [share for share in shares if share is not None]
        if given and len(given) < len(shares):
            raise ValueError("some bundles have a share and some have none: give one to each, or to none")
        if sum(given) > 1.0 + 1e-9:
            raise ValueError(f"the shares of the bundles sum to {sum(given):g}: at most 1 can be traded")
        if self.mode == "paper" and self.venue is None:
            raise ValueError("paper mode needs the address of a venue, such as venue = 'http://127.0.0.1:8787'")
        if self.venue is not None and "@" in self.venue.partition("://")[2].partition("/")[0]:
            raise ValueError("venue carries a user or a password: secrets come from the environment, never from here")
        if self.mode == "live" and self.venue is not None:
            raise ValueError("live mode reaches the exchange's own hosts: leave venue out")
        unknown = sorted(set(self.gate.latch_on) - set(Limits.model_fields))
        if unknown:
            raise ValueError(f"gate.latch_on names {', '.join(unknown)}, which no limit is called")
        return self

    @property
    def shares(self) -> tuple[float, ...]:
        """The fraction of the account that each bundle trades."""
        equal = 1.0 / len(self.bundles)
        return tuple(equal if bundle.share is None else bundle.share for bundle in self.bundles)

    @property
    def operations_path(self) -> Path:
        """Journal of the account as a whole: settings, operators' acts, halts."""
        return self.folder / "operations.sqlite"

    def as_config(self) -> dict[str, Any]:
        """Body of the journal's CONFIG entry: the settings and their digest. There is no secret in it."""
        settings = self.model_dump(mode="json")
        return {"settings": settings, "digest": digest(settings)}


def load_settings(path: Path) -> RunnerSettings:
    """The settings in the TOML file `path`; relative paths in it start at its folder.

    Raises `RunnerError` for a file that cannot be read, `ParameterError` for what it says.
    """
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise RunnerError(f"the settings {path} cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise RunnerError(f"the settings {path} are no TOML: {error}") from None
    try:
        return _placed(RunnerSettings(**told), path.resolve().parent)
    except ParameterError as error:
        raise ParameterError(f"{path}: {error}") from None


def _placed(settings: RunnerSettings, folder: Path) -> RunnerSettings:
    """The same settings with every path absolute."""
    bundles = tuple(bundle.replace(path=folder / bundle.path) for bundle in settings.bundles)
    backup = settings.journal.backup
    journal = settings.journal if backup is None else settings.journal.replace(backup=folder / backup)
    return settings.replace(folder=folder / settings.folder, bundles=bundles, journal=journal)


def settings_template(bundles: Sequence[Path], venue: str) -> str:
    """A TOML file for these bundles on a paper venue; what is not needed is a comment in it, with its default."""
    lines = ["# Settings of a runner: tradelib run --settings FILE. Lines with a # show what holds without them.", ""]
    lines += [_line("mode", "paper", RunnerSettings), _line("venue", venue, RunnerSettings)]
    lines += [_line("folder", "runner", RunnerSettings)]
    lines += [f"# {_line(name, _default(RunnerSettings, name), RunnerSettings)}" for name in _OTHERS]
    for bundle in bundles:
        lines += ["", "[[bundles]]", _line("path", str(bundle), BundleSettings)]
        lines += [f"# {_line('share', round(1.0 / len(bundles), 6), BundleSettings)}"]
        lines += [f"# {_line('emulate_exits', False, BundleSettings)}"]
    for name in _TABLES:
        section = type(RunnerSettings.model_fields[name].get_default(call_default_factory=True))
        lines += ["", f"[{name}]", *_section(section)]
    return "\n".join(lines) + "\n"


_OTHERS = ("exchange", "limits_timeframe", "dead_man_seconds")
_TABLES = ("limits", "gate", "feed", "shutdown", "control", "alerts", "journal")


def _section(section: type[Parameters]) -> list[str]:
    return [f"# {_line(name, _default(section, name), section)}" for name in section.model_fields]


def _default(section: type[Parameters], name: str) -> Any:
    return section.model_fields[name].get_default(call_default_factory=True)


def _line(name: str, value: Any, section: type[Parameters]) -> str:
    """`name = value  # what it means`; a setting that is off has no value to show."""
    told = section.model_fields[name].description
    written = "..." if value is None else json.dumps(list(value) if isinstance(value, tuple) else value, default=str)
    return f"{name} = {written}  # {told}"
