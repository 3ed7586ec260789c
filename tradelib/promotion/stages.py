"""How much of the account a bundle may move, and what it must show before it may move more.

Research hands a bundle to paper; from there it takes the stages in order, each with a larger share of the capital. A
bundle enters a stage on the record of the stage before, made by the very same bundle; while it is there, a breach of
the stage's rules sends it back. Both are gates: a figure, a threshold, a sentence (see `tradelib.promotion.gates`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Self

from pydantic import Field, model_validator

from tradelib.errors import ParameterError
from tradelib.parameters import Parameters, nearest
from tradelib.promotion.gates import GateResult, judge

__all__ = ["PAPER", "Stage", "Stages", "TrackRecord", "breaches", "may_enter"]

PAPER = "paper"
"""The first stage: every decision, no money."""


class Stage(Parameters):
    """One stage: the share of capital, what is asked before it is entered, and what ends it."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,31}$", description="name of the stage")
    capital_share: float = Field(ge=0, le=1, description="share of the strategy's capital that the bundle moves")
    minimum_bars: int = Field(
        default=0, ge=0, description="bars decided in the stage before, by the same bundle, as research would have"
    )
    minimum_days: float = Field(default=0.0, ge=0, description="days that those bars span")
    approvals: int = Field(default=0, ge=0, description="approvers who signed that this bundle may enter this stage")
    maximum_drawdown: float | None = Field(
        default=None, gt=0, le=1, description="fall from the highest equity in this stage that ends it"
    )
    maximum_shortfall: float | None = Field(
        default=None, gt=0, le=1, description="return below that of research in this stage, as a fraction, that ends it"
    )


_DEFAULT = (
    Stage(name=PAPER, capital_share=0.0),
    Stage(
        name="canary_5", capital_share=0.05, minimum_bars=20, approvals=1, maximum_drawdown=0.1, maximum_shortfall=0.02
    ),
    Stage(name="canary_50", capital_share=0.5, minimum_bars=20, maximum_drawdown=0.15, maximum_shortfall=0.03),
    Stage(name="canary_100", capital_share=1.0, minimum_bars=20, maximum_drawdown=0.2, maximum_shortfall=0.04),
    Stage(name="live", capital_share=1.0, minimum_bars=20, approvals=1, maximum_drawdown=0.25, maximum_shortfall=0.05),
)


class Stages(Parameters):
    """All stages in order; the first is paper without capital, the last is live with all of it."""

    stages: tuple[Stage, ...] = _DEFAULT

    @model_validator(mode="after")
    def _is_a_way_up(self) -> Self:
        names = self.names
        if len(names) < 2 or len(set(names)) < len(names):
            raise ValueError("there must be two or more stages, each with a name of its own")
        if names[0] != PAPER or self.stages[0].capital_share != 0.0 or self.stages[-1].capital_share != 1.0:
            raise ValueError("the first stage is paper with a share of 0, the last one has a share of 1")
        for before, after in pairwise(self.stages):
            if after.capital_share < before.capital_share:
                raise ValueError(f"{after.name} has a smaller share than {before.name}: the shares must not fall")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Their names, in order."""
        return tuple(stage.name for stage in self.stages)

    @property
    def last(self) -> str:
        """The stage with everything: live."""
        return self.stages[-1].name

    def get(self, name: str) -> Stage:
        """The stage called `name`; `ParameterError` where there is none."""
        if name not in self.names:
            raise ParameterError(f"there is no stage {name!r}{nearest(name, self.names)}: {', '.join(self.names)}")
        return self.stages[self.names.index(name)]

    def after(self, name: str) -> Stage:
        """The stage that follows `name`; `ParameterError` after the last one."""
        if self.get(name).name == self.last:
            raise ParameterError(f"{name} is the last stage: there is nothing above it")
        return self.stages[self.names.index(name) + 1]


@dataclass(frozen=True)
class TrackRecord:
    """What a runner's journal shows of one bundle in one stage.

    `equal_bars` of `bars` decisions came out as research decides them. `drawdown` is a positive fraction of the highest
    equity; `total_return` and `research_return` are those of the account and of a backtest of the same window. None
    where there is no account yet. `evidence`: what else the gates' results should carry, such as the journal's head.
    """

    bundle: str
    stage: str
    bars: int
    equal_bars: int
    days: float
    drawdown: float | None = None
    total_return: float | None = None
    research_return: float | None = None
    evidence: dict[str, Any] = field(default_factory=dict)

    @property
    def shortfall(self) -> float | None:
        """How far the account's return is below that of research; negative where it is above."""
        if self.total_return is None or self.research_return is None:
            return None
        return self.research_return - self.total_return


def may_enter(
    stage: Stage, record: TrackRecord | None, approvals: int, *, bundle: str, before: str
) -> list[GateResult]:
    """The gates of a stage: a record of the same bundle in the stage before, decisions equal to research, approvals."""
    same = record if record is not None and (record.bundle, record.stage) == (bundle, before) else None
    bars, days = (None, None) if same is None else (same.bars, same.days)
    return [
        _same_bundle(record, bundle, before),
        judge(
            "track_record_bars",
            "evidence",
            bars,
            ">=",
            stage.minimum_bars,
            f"{_number(bars)} bars were decided in {before}; {stage.name} asks for {stage.minimum_bars}.",
            {} if same is None else dict(same.evidence),
        ),
        judge(
            "track_record_days",
            "evidence",
            days,
            ">=",
            stage.minimum_days,
            f"They span {_number(days)} days; {stage.name} asks for {stage.minimum_days:g}.",
        ),
        _parity(same, before),
        judge(
            "approvals",
            "evidence",
            approvals,
            ">=",
            stage.approvals,
            f"{approvals} approver{'' if approvals == 1 else 's'} signed that this bundle may enter {stage.name}; "
            f"{stage.approvals} must.",
        ),
    ]


def breaches(stage: Stage, record: TrackRecord) -> list[GateResult]:
    """What ends a stage and was measured; each result that did not pass is a reason to roll back."""
    found = [_parity(record, stage.name)]
    limits = (
        ("stage_drawdown", record.drawdown, stage.maximum_drawdown, "The account fell {:.1%} from its highest equity"),
        ("stage_shortfall", record.shortfall, stage.maximum_shortfall, "The account is {:.1%} behind research"),
    )
    for name, figure, most, words in limits:
        if most is not None and figure is not None:
            said = f"{words.format(figure)} in {stage.name}; at most {most:.1%} is allowed."
            found.append(judge(name, "safety", figure, "<=", most, said, dict(record.evidence)))
    return found


def _same_bundle(record: TrackRecord | None, bundle: str, before: str) -> GateResult:
    """A record counts for the bundle that made it, and for no other."""
    if record is None:
        words = f"There is no track record in {before}: run the bundle there first."
        return judge("track_record", "evidence", None, "==", bundle[:12], words)
    words = f"The record was made by bundle {record.bundle[:12]} in {record.stage}; asked is {bundle[:12]} in {before}."
    made = record.bundle[:12] if record.stage == before and record.bundle == bundle else f"not {bundle[:12]}"
    return judge("track_record", "evidence", made, "==", bundle[:12], words)


def _parity(record: TrackRecord | None, stage: str) -> GateResult:
    share = record.equal_bars / record.bars if record is not None and record.bars else None
    words = f"There is no decision in {stage} to compare with research."
    if record is not None and share is not None:
        words = f"{record.equal_bars} of {record.bars} decisions in {stage} are those of research, bit for bit."
    return judge("stage_parity", "safety", share, "==", 1.0, words)


def _number(value: float | None) -> str:
    return "No" if value is None else f"{value:g}"
