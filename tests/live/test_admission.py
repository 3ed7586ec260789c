"""What is refused before anything is traded."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pandas as pd
import pytest

from tests.live import support
from tests.live.support import GOLDEN, HASTE, Sealed, exchange, forged, seal, synthetic_bars, venue
from tradelib.backtest.costs import Costs
from tradelib.bundle import Execution, TrustStore
from tradelib.errors import BundleError, ParameterError, RunnerError
from tradelib.ledger import journal, open_journal
from tradelib.live import Patience, Runner, admission, run_bundle
from tradelib.live.admission import admit_journal, locked
from tradelib.risk import Exits, Limits
from tradelib.strategies.trend import TrendFollowing

NOWHERE = "http://127.0.0.1:9"


def refuse(sealed: Sealed, tmp_path: Path, **options: object) -> None:
    """Start a run that must not begin; it must leave no journal."""
    path = options.pop("path", sealed.bundle.path)
    settings = {"venue_url": NOWHERE, "trust": sealed.trust, "journal_path": tmp_path / "j", **options}
    try:
        run_bundle(path, **settings)  # type: ignore[arg-type]
    finally:
        assert not (tmp_path / "j").exists()


def refuse_started(sealed: Sealed, tmp_path: Path, **options: object) -> None:
    """Start a run that is admitted, where nobody answers."""
    settings = {"venue_url": NOWHERE, "trust": sealed.trust, "journal_path": tmp_path / "j", "patience": HASTE}
    run_bundle(sealed.bundle.path, **settings, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["rule.json", "golden/bars.csv", "golden/decisions.json", "manifest.json"])
def test_one_altered_byte_is_refused(sealed: Sealed, tmp_path: Path, name: str) -> None:
    copy = tmp_path / sealed.bundle.path.name
    shutil.copytree(sealed.bundle.path, copy)
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(BundleError, match=r"altered|not valid JSON|manifest"):
        refuse(sealed, tmp_path, path=copy)


def test_a_key_that_is_not_trusted_is_refused(sealed: Sealed, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="not trusted"):
        refuse(sealed, tmp_path, trust=TrustStore(tmp_path / "empty"))
    with pytest.raises(BundleError, match="not trusted"):
        refuse(sealed, tmp_path, trust=None)


def test_a_machine_that_decides_otherwise_is_refused(
    sealed: Sealed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = TrendFollowing.signals

    def biased(self: TrendFollowing, bars: pd.DataFrame) -> pd.Series:
        return honest(self, bars) * (1.0 - 2**-52)

    monkeypatch.setattr(TrendFollowing, "signals", biased)
    with pytest.raises(BundleError, match=r"does not decide as research did.*signal at 2020-"):
        refuse(sealed, tmp_path)


def test_a_bundle_that_needs_more_than_this_runner_can_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a bundle with exits and limits, a runner of market orders would hold what research had closed."""
    protected = support.rule().replace(
        rebalance_band=None, exits=Exits(stop_loss=0.02, take_profit=0.05), limits=Limits(maximum_drawdown=0.2)
    )
    monkeypatch.setattr(support, "rule", lambda: protected)
    sealed = seal(tmp_path, synthetic_bars())
    assert sealed.bundle.needs == ("exits", "limits", "maker_orders")
    monkeypatch.setattr(admission, "PROVIDES", frozenset[str]())
    told = r"cannot do: exits \(protective orders.*limits \(limits of risk.*maker_orders \(limit orders that rest"
    with pytest.raises(RunnerError, match=told):
        refuse(sealed, tmp_path)
    monkeypatch.setattr(admission, "PROVIDES", frozenset({"exits", "limits"}))
    with pytest.raises(RunnerError, match=r"cannot do: maker_orders \("):
        refuse(sealed, tmp_path)
    monkeypatch.setattr(admission, "PROVIDES", frozenset(sealed.bundle.needs))
    assert admission.admit_bundle(sealed.bundle.path, "paper", trust=sealed.trust).digest == sealed.bundle.digest


def test_a_bundle_whose_exits_the_exchange_cannot_hold_is_refused_and_the_choice_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRADELIB_API_PASSPHRASE", "tests")
    protected = support.rule().replace(rebalance_band=None, exits=Exits(stop_loss=0.02))
    sealed = seal(tmp_path, synthetic_bars(), decides=protected)
    with pytest.raises(RunnerError, match=r"needs what bitget does not hold: stop_loss .*--emulate-exits"):
        refuse(sealed, tmp_path, exchange="bitget")
    with pytest.raises(RunnerError, match="does not answer for its markets"):
        refuse_started(sealed, tmp_path, exchange="bitget", emulate_exits=True)


def test_a_rule_that_goes_short_is_refused_before_it_trades(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given golden decisions below zero: nothing but them says so, and a spot account lends nothing."""
    falling = support.rule().replace(strategy=TrendFollowing(fast=3, slow=8, direction="long_short"))
    monkeypatch.setattr(support, "rule", lambda: falling)
    sealed = seal(tmp_path, synthetic_bars())
    assert sealed.bundle.needs == ("short",)
    assert min(row["target_weight"] or 0.0 for row in sealed.bundle.golden_decisions) < 0.0
    assert "positions below zero, of assets on loan" in (sealed.bundle.path / "README.md").read_text()
    with pytest.raises(RunnerError, match=r"cannot do: short \(positions below zero, of assets on loan\)"):
        refuse(sealed, tmp_path)


def test_a_machine_that_trades_the_golden_bars_otherwise_is_refused(
    sealed: Sealed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The decisions come out and the orders do not: other costs on this machine (planted)."""
    monkeypatch.setattr(Execution, "costs", property(lambda self: Costs(fee_rate=self.fee_rate, slippage=0.0)))
    with pytest.raises(BundleError, match=r"does not decide as research did.*of orders at 2020-.*by the backtest"):
        refuse(sealed, tmp_path)


def test_a_paper_bundle_does_not_go_live_and_the_failing_gates_are_named(sealed: Sealed, tmp_path: Path) -> None:
    with pytest.raises(RunnerError, match="paper only; gates that failed: out_of_sample_sharpe"):
        refuse(sealed, tmp_path, mode="live", venue_url=None, confirm_live=True)


def test_a_live_bundle_needs_an_explicit_word_and_a_runner_with_a_kill_switch(tmp_path: Path) -> None:
    live = seal(tmp_path, synthetic_bars(), permission="live")
    with pytest.raises(RunnerError, match="confirm it explicitly with confirm_live=True"):
        refuse(live, tmp_path, mode="live", venue_url=None)
    with pytest.raises(RunnerError, match="gate, kill switch and control belong to a runner with settings"):
        refuse(live, tmp_path, mode="live", venue_url=None, confirm_live=True)
    with pytest.raises(RunnerError, match="may only reach this machine"):
        refuse(live, tmp_path, venue_url="https://api.binance.com")


def test_arguments_are_checked_before_anything_is_opened(sealed: Sealed, tmp_path: Path) -> None:
    with pytest.raises(RunnerError, match="mode is 'dry'"):
        refuse(sealed, tmp_path, mode="dry")
    with pytest.raises(RunnerError, match="poll_seconds is -1"):
        refuse(sealed, tmp_path, poll_seconds=-1)
    with pytest.raises(RunnerError, match="needs the address of a paper venue"):
        refuse(sealed, tmp_path, venue_url=None)
    with pytest.raises(ParameterError, match="attempts is 0"):
        Patience(attempts=0)
    with pytest.raises(ParameterError, match="backoff is 9"):
        Patience(backoff=9.0)


def test_without_keys_nothing_starts(sealed: Sealed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRADELIB_API_KEY")
    monkeypatch.setenv("TRADELIB_API_SECRET", " ")
    with pytest.raises(RunnerError, match="set TRADELIB_API_KEY and TRADELIB_API_SECRET"):
        refuse(sealed, tmp_path)


def test_a_key_that_the_venue_refuses_halts_at_once(
    sealed: Sealed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRADELIB_API_SECRET", "wrong")
    until = sealed.bars.index[GOLDEN].isoformat()
    with venue(exchange(sealed)) as served, pytest.raises(RunnerError, match="refuses this key for the balances"):
        run_bundle(
            sealed.bundle.path, venue_url=served.url, journal_path=tmp_path / "j", trust=sealed.trust, until=until
        )
    with open_journal(tmp_path / "j", read_only=True) as log:
        (reason,) = [entry["reason"] for entry in journal.halts(log)]
    assert "-1022" in reason
    assert "wrong" not in reason


def test_a_venue_that_is_not_there_or_trades_something_else_halts(sealed: Sealed, tmp_path: Path) -> None:
    with pytest.raises(RunnerError, match="does not answer for its markets"):
        run_bundle(
            sealed.bundle.path, venue_url=NOWHERE, journal_path=tmp_path / "j", trust=sealed.trust, patience=HASTE
        )
    other = seal(tmp_path / "other", synthetic_bars(symbol="ETH/USDT"))
    with venue(exchange(other)) as served, pytest.raises(RunnerError, match="does not list 'BTC/USDT', only ETH/USDT"):
        run_bundle(sealed.bundle.path, venue_url=served.url, journal_path=tmp_path / "k", trust=sealed.trust)


def test_a_venue_with_coarser_lots_than_the_bundle_is_refused(sealed: Sealed, tmp_path: Path) -> None:
    coarse = seal(tmp_path, synthetic_bars(), lots_per_unit=1000.0)
    with (
        venue(exchange(coarse)) as served,
        pytest.raises(RunnerError, match=r"lots of 0\.001 here, the bundle in lots"),
    ):
        run_bundle(sealed.bundle.path, venue_url=served.url, journal_path=tmp_path / "j", trust=sealed.trust)


def test_a_journal_of_another_bundle_or_mode_is_refused(sealed: Sealed, tmp_path: Path) -> None:
    body = Runner(sealed.bundle, venue_url=NOWHERE, journal_path=tmp_path / "j")._start_body()
    with open_journal(tmp_path / "j") as log:
        journal.record(log, journal.START, **body)
        admit_journal(log, sealed.bundle, "paper")
        with pytest.raises(RunnerError, match="give each bundle its own journal"):
            admit_journal(log, forged(sealed, digest="0" * 64), "paper")
        with pytest.raises(RunnerError, match="written in mode paper"):
            admit_journal(log, sealed.bundle, "live")


def test_a_journal_whose_past_was_changed_is_refused(sealed: Sealed, tmp_path: Path) -> None:
    body = Runner(sealed.bundle, venue_url=NOWHERE, journal_path=tmp_path / "j")._start_body()
    with open_journal(tmp_path / "j") as log:
        journal.record(log, journal.START, **body)
        journal.record(log, journal.STOP, reason="until")
    with sqlite3.connect(tmp_path / "j") as raw:
        triggers = raw.execute("select name, tbl_name, sql from sqlite_master where type = 'trigger'").fetchall()
        for name, _, _ in triggers:
            raw.execute(f"drop trigger {name}")
        raw.execute(f"update {triggers[0][1]} set body = replace(body, 'until', 'never')")
        for _, _, text in triggers:
            raw.execute(text)
    with pytest.raises(RunnerError, match="journal is not trustworthy"), open_journal(tmp_path / "j") as log:
        admit_journal(log, sealed.bundle, "paper")


def test_two_runners_do_not_share_a_journal(sealed: Sealed, tmp_path: Path) -> None:
    with (
        locked(tmp_path / "j"),
        pytest.raises(RunnerError, match="another runner writes j"),
    ):
        run_bundle(sealed.bundle.path, venue_url=NOWHERE, journal_path=tmp_path / "j", trust=sealed.trust)
