"""Exchange history: finished pages survive, only closed bars arrive, a bad exchange can neither fool nor hang us."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ccxt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.support import changed, market, raw_market
from tests.environment import PROJECT
from tradelib.data.bars import make_bars, window
from tradelib.data.exchange import _uncovered, download_history
from tradelib.data.files import read_bars, write_bars
from tradelib.errors import DataError, ParameterError
from tradelib.venue import PaperExchange, VenueMarket, VenueThread

HOUR = 3_600_000


class Exchange:
    """An exchange in memory with the part of a ccxt client that is used; faults are planted by its attributes."""

    id = "memory"
    enableRateLimit = True

    def __init__(self, bars: pd.DataFrame, *, most: int = 1_000) -> None:
        times = bars.index.as_unit("ns").asi8 // 10**6
        self.rows = [[int(time), *values] for time, values in zip(times, bars.to_numpy().tolist(), strict=True)]
        self.now = self.rows[-1][0] + HOUR // 2  # the last bar is still forming
        self.most = most
        self.has: dict[str, Any] = {"fetchOHLCV": True, "fetchTime": True}
        self.timeframes = {"1h": "1h", "1d": "1d"}
        self.asked: list[int | None] = []
        self.slept: list[int] = []
        self.failures: list[Exception] = []

    def load_markets(self) -> dict[str, Any]:
        return {"BTC/EUR": {}, "ETH/EUR": {}}

    def fetch_time(self) -> int:
        return self.now

    def fetch_ohlcv(self, symbol: str, timeframe: str, since: int | None = None, limit: int = 500) -> list[list[Any]]:
        self.asked.append(since)
        if self.failures and since is not None:
            raise self.failures.pop(0)
        rows = self.rows if since is None else [row for row in self.rows if row[0] >= since]
        size = min(limit, self.most)
        return rows[-size:] if since is None else rows[:size]

    def sleep(self, milliseconds: int) -> None:
        self.slept.append(milliseconds)


def download(client: Any, store: Path, **options: Any) -> tuple[pd.DataFrame, Any]:
    return download_history(client, "BTC/EUR", "1h", **{"start": "2024-01-01", "store": store, **options})


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store.csv.gz"


def test_closed_bars_arrive_in_pages_and_the_forming_one_does_not(store: Path) -> None:
    bars = market(250)
    done: list[tuple[int, int]] = []

    got, gaps = download(Exchange(bars), store, page_limit=100, progress=lambda *counts: done.append(counts))

    pd.testing.assert_frame_equal(got, bars.iloc[:-1], check_exact=True)
    assert got.attrs == {"symbol": "BTC/EUR", "timeframe": "1h", "source": "memory", "calendar": "24/7"} | {
        "digest": make_bars(bars.iloc[:-1]).attrs["digest"]
    }
    assert done == [(100, 249), (200, 249), (249, 249)]
    assert (gaps.expected, gaps.missing, gaps.gaps) == (249, 0, ())
    assert read_bars(store).attrs["digest"] == got.attrs["digest"]
    assert [path.name for path in store.parent.iterdir()] == ["store.csv.gz"]


def test_a_bar_closes_by_the_exchanges_clock_and_with_a_later_bar_after_it(store: Path) -> None:
    slow, quiet = Exchange(market(20)), Exchange(market(20))
    slow.now = slow.rows[-3][0]  # its clock lags behind the bars it shows
    quiet.now = quiet.rows[-1][0] + 5 * HOUR  # nothing traded since: the newest bar has no successor yet

    assert download(slow, store)[0].index[-1] == market(20).index[-4]
    assert download(quiet, store.with_name("quiet.csv"))[0].index[-1] == market(20).index[-2]


def test_a_second_call_asks_only_for_what_is_new(store: Path) -> None:
    bars = market(250)
    download(Exchange(bars.iloc[:120]), store)
    client = Exchange(bars)

    got, _ = download(client, store)

    pd.testing.assert_frame_equal(got, bars.iloc[:-1], check_exact=True)
    assert client.asked == [None, client.rows[118][0]]  # the newest, then from the last stored bar on
    again = Exchange(bars)
    before = store.stat().st_mtime_ns
    download(again, store)
    assert again.asked == [None]
    assert store.stat().st_mtime_ns == before


def test_a_store_grows_at_both_ends_and_never_gets_a_hole_of_ours(store: Path) -> None:
    bars = market(400)
    client = Exchange(bars)

    download(client, store, start=bars.index[200], end=bars.index[220])
    early, _ = download(client, store, start=bars.index[50], end=bars.index[60])
    late, _ = download(client, store, start=bars.index[300], end=bars.index[320])

    assert (len(early), early.index[-1]) == (11, bars.index[60])
    assert (len(late), late.index[0]) == (21, bars.index[300])
    pd.testing.assert_frame_equal(read_bars(store), bars.iloc[50:321], check_exact=True)


@pytest.mark.parametrize("stop", [1, 2, 3, 4])
def test_interrupted_at_any_page_nothing_is_lost_and_nothing_is_asked_twice(stop: int, store: Path) -> None:
    bars = market(450)
    pages: list[int] = []

    def interrupt(done: int, total: int) -> None:
        pages.append(done)
        if len(pages) == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(Exchange(bars), store, page_limit=100, progress=interrupt)
    assert not store.exists()
    client = Exchange(bars)
    got, _ = download(client, store, page_limit=100)

    pd.testing.assert_frame_equal(got, bars.iloc[:-1], check_exact=True)
    assert len(client.asked) == 1 + 5 - stop
    assert not store.with_name("store.csv.gz.pages").exists()


@pytest.mark.parametrize("cut", [1, 7, 40])
def test_a_torn_last_page_is_downloaded_again(cut: int, store: Path) -> None:
    bars = market(450)

    def interrupt(done: int, total: int) -> None:
        if done >= 200:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(Exchange(bars), store, page_limit=100, progress=interrupt)
    pages = store.with_name("store.csv.gz.pages")
    os.truncate(pages, pages.stat().st_size - cut)

    got, _ = download(Exchange(bars), store, page_limit=100)

    pd.testing.assert_frame_equal(got, bars.iloc[:-1], check_exact=True)


def test_pages_that_are_damaged_or_of_another_market_are_refused(store: Path) -> None:
    pages = store.with_name("store.csv.gz.pages")
    pages.write_text('{"symbol":"BTC/EUR"}\n[1,2]\n')
    with pytest.raises(DataError, match=r"store\.csv\.gz\.pages is damaged"):
        download(Exchange(market(20)), store)
    pages.write_text('{"symbol":"ETH/EUR"}\n')
    with pytest.raises(DataError, match="use another store, or delete it"):
        download(Exchange(market(20)), store)


def test_a_store_of_another_market_is_refused(store: Path) -> None:
    write_bars(make_bars(raw_market(20), symbol="ETH/EUR", source="memory"), store)

    with pytest.raises(DataError, match=r"store\.csv\.gz holds .*'ETH/EUR'.*use another store"):
        download(Exchange(market(20)), store)


def test_network_failures_are_waited_out_and_then_reported(store: Path) -> None:
    client = Exchange(market(250))
    client.failures = [ccxt.RequestTimeout("slow"), ccxt.DDoSProtection("429")]

    got, _ = download(client, store)

    assert len(got) == 249
    assert client.slept == [1_000, 2_000]

    client.failures = [ccxt.ExchangeNotAvailable("gone")] * 9
    with pytest.raises(DataError, match=r"memory did not answer BTC/EUR 1h bars from 2024-01-01.*run it again"):
        download(client, store.with_name("other.csv"), retries=2)


def test_a_page_that_fails_keeps_the_pages_before_it(store: Path) -> None:
    client = Exchange(market(450))

    def fail(done: int, total: int) -> None:
        if done == 200:
            client.failures = [ccxt.BadRequest("no")]

    with pytest.raises(DataError, match=r"memory refused BTC/EUR 1h bars from 2024-01-09T08:00:00.*BadRequest: no"):
        download(client, store, page_limit=100, progress=fail)

    resumed = Exchange(market(450))
    assert len(download(resumed, store, page_limit=100)[0]) == 449
    assert len(resumed.asked) == 1 + 3


def test_the_same_bar_with_other_numbers_is_refused(store: Path) -> None:
    client = Exchange(market(50))
    client.rows.insert(11, [client.rows[10][0], *market(50, seed=9).iloc[10].tolist()])
    with pytest.raises(DataError, match="two bars of 2024-01-01T10:00:00"):
        download(client, store)

    download(Exchange(market(50)), store.with_name("b.csv"))
    revised = Exchange(changed(market(80), 48, volume=1.0))
    with pytest.raises(DataError, match="two bars of 2024-01-03T00:00:00"):
        download(revised, store.with_name("b.csv"))


def test_equal_duplicates_and_any_order_within_a_page_are_harmless(store: Path) -> None:
    client = Exchange(market(50))
    client.rows = [*client.rows[:10], client.rows[5], *client.rows[10:]]
    honest = client.fetch_ohlcv
    client.fetch_ohlcv = lambda *args, **options: honest(*args, **options)[::-1]

    pd.testing.assert_frame_equal(download(client, store)[0], market(50).iloc[:-1], check_exact=True)


def test_an_exchange_that_always_sends_the_same_page_is_refused(store: Path) -> None:
    client = Exchange(market(300))
    first = client.rows[:100]
    honest = client.fetch_ohlcv
    client.fetch_ohlcv = lambda *a, since=None, **k: first if since else honest(*a, since=since, **k)

    with pytest.raises(DataError, match="it does not page by time"):
        download(client, store, page_limit=100)


def test_an_exchange_that_sends_empty_pages_for_holes_is_walked_through(store: Path) -> None:
    bars = make_bars(raw_market(2_000).drop(raw_market(2_000).index[100:1_500]))
    client = Exchange(bars)
    honest = client.fetch_ohlcv

    def windowed(*args: Any, since: int | None = None, limit: int = 500) -> list[list[Any]]:
        rows = honest(*args, since=since, limit=limit)
        return rows if since is None else [row for row in rows if row[0] < since + limit * HOUR]

    client.fetch_ohlcv = windowed

    got, gaps = download(client, store, page_limit=200)

    pd.testing.assert_frame_equal(got, bars.iloc[:-1], check_exact=True)
    assert [gap.bars for gap in gaps.gaps] == [1_400]
    assert gaps.summary() == "BTC/EUR 1h on '24/7': 1,999 bars expected, 1,400 missing in 1 gaps, longest 1,400"
    assert json.loads(json.dumps(gaps.to_dict()))["missing"] == 1_400


def test_a_market_listed_later_begins_where_it_began(store: Path) -> None:
    got, gaps = download(Exchange(market(50)), store, start="2023-06-01")

    assert got.index[0] == market(50).index[0]
    assert gaps.missing == 0


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([1_704_067_200_000, 1.0, None, 1.0, 1.0, 1.0], "instead of a bar of six numbers"),
        ([1_704_067_200_000, 1.0, float("nan"), 1.0, 1.0, 1.0], "a missing number"),
        ([1_704_067_200_001, 1.0, 1.0, 1.0, 1.0, 1.0], "not on the grid of 1h"),
        ([1_704_067_200_000, 1.0, 1.0], "instead of a bar of six numbers|missing"),
        (None, "instead of a bar"),
    ],
)
def test_rows_that_are_no_bars_are_refused(row: Any, message: str, store: Path) -> None:
    client = Exchange(market(50))
    honest = client.fetch_ohlcv
    client.fetch_ohlcv = lambda *a, since=None, **k: [row] if since else honest(*a, since=since, **k)

    with pytest.raises(DataError, match=message):
        download(client, store)


def test_inconsistent_bars_end_in_the_contracts_message_and_stay_in_the_pages(store: Path) -> None:
    with pytest.raises(DataError, match="high does not enclose open and close"):
        download(Exchange(changed(market(50), 20, high=1.0)), store)

    assert not store.exists()


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"enableRateLimit": False}, {}, "enableRateLimit off"),
        ({"has": {"fetchOHLCV": True}}, {}, "has no fetchTime"),
        ({"has": {"fetchOHLCV": "emulated", "fetchTime": True}}, {}, "has no fetchOHLCV"),
        ({}, {"timeframe": "7m"}, "choose one of 1h, 1d"),
        ({}, {"symbol": "BTC/EURO"}, "did you mean BTC/EUR"),
        ({}, {"timeframe": "hour"}, "timeframe 'hour' is not understood"),
        ({}, {"start": "soon"}, "start 'soon' is not a point in time"),
        ({}, {"page_limit": 0}, "page_limit is 0"),
        ({}, {"end": "later"}, "end 'later' is not a point in time"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_downloaded(
    change: dict[str, Any], options: dict[str, Any], message: str, store: Path
) -> None:
    client = Exchange(market(20))
    for name, value in change.items():
        setattr(client, name, value)
    given = {"symbol": "BTC/EUR", "timeframe": "1h", "start": "2024-01-01", "store": store, **options}

    with pytest.raises(ParameterError, match=message):
        download_history(client, given.pop("symbol"), given.pop("timeframe"), **given)

    assert list(store.parent.iterdir()) == []


def test_a_store_of_an_unknown_form_is_refused(store: Path) -> None:
    with pytest.raises(ParameterError, match="choose one of these endings"):
        download(Exchange(market(20)), store.with_name("store.xls"))

    assert list(store.parent.iterdir()) == []


def test_a_span_without_closed_bars_is_refused(store: Path) -> None:
    with pytest.raises(DataError, match="no bar has closed between"):
        download(Exchange(market(20)), store, start="2024-01-01T19:00Z")
    with pytest.raises(DataError, match="move start or end"):
        download(Exchange(market(20)), store, start="2024-01-01T10:00Z", end="2024-01-01T09:00Z")


@given(
    first=st.integers(0, 20),
    length=st.integers(0, 30),
    spans=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 8)), max_size=6),
)
def test_what_is_uncovered_is_the_difference_of_sets(first: int, length: int, spans: list[tuple[int, int]]) -> None:
    last = first + length
    covered = {time for start, size in spans for time in range(start, start + size + 1)}

    parts = _uncovered(first * 5, last * 5, [(start * 5, (start + size) * 5) for start, size in spans], 5)

    told = [time for start, end in parts for time in range(start // 5, end // 5 + 1)]
    assert told == [time for time in range(first, last + 1) if time not in covered]


# --- the real ccxt client and the local venue


def connected(url: str) -> ccxt.Exchange:
    spot = {"fetchMarkets": {"types": ["spot"]}, "fetchCurrencies": False, "fetchMargins": False}
    client = ccxt.binance({"enableRateLimit": True, "rateLimit": 1, "timeout": 5_000, "options": spot})
    client.urls["api"] = {
        name: f"{url}/{text.split('/', 3)[3]}" if isinstance(text, str) else text
        for name, text in client.urls["api"].items()
    }
    return client


@pytest.fixture
def venue() -> Iterator[VenueThread]:
    tape = VenueMarket("BTC/EUR", market(600), lots_per_unit=100.0, minimum_notional=5.0)
    with VenueThread(PaperExchange([tape], start=market(600).index[500], pace="manual"), key="k", secret="s") as thread:
        yield thread


@pytest.mark.integration
def test_the_real_client_downloads_from_the_local_venue_bit_for_bit(venue: VenueThread, store: Path) -> None:
    client = connected(venue.url)

    got, gaps = download(client, store, page_limit=64)

    pd.testing.assert_frame_equal(got, market(600).iloc[:500], check_exact=True)
    assert (got.attrs["source"], gaps.missing) == ("binance", 0)

    venue.exchange.step(10)
    assert len(download(client, store, page_limit=64)[0]) == 510
    assert len(window(read_bars(store), "2024-01-03", "2024-01-03")) == 24


@pytest.mark.integration
def test_a_killed_download_is_continued(venue: VenueThread, store: Path) -> None:
    code = f"""
    import sys
    sys.path.insert(0, {str(PROJECT)!r})
    from tests.data.test_exchange import connected, download
    from pathlib import Path
    def tell(done, total):
        print(done, flush=True)
        if done >= 200:
            sys.stdin.read()
    download(connected({venue.url!r}), Path({str(store)!r}), page_limit=50, progress=tell)
    """
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    told = [int(child.stdout.readline()) for _ in range(4)]
    child.send_signal(signal.SIGKILL)
    child.communicate()

    assert told == [50, 100, 150, 200]
    assert not store.exists()
    pages: list[int] = []
    got, _ = download(connected(venue.url), store, page_limit=50, progress=lambda done, total: pages.append(done))

    pd.testing.assert_frame_equal(got, market(600).iloc[:500], check_exact=True)
    assert pages[0] > 200
    assert np.isfinite(got.to_numpy()).all()
