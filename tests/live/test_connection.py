"""The client reaches the host of its mode and no other, and keeps its keys to itself."""

from __future__ import annotations

import asyncio
import logging

import pytest

from tests.live.faults import Fault, FaultProxy, status
from tests.live.support import KEY, SECRET
from tradelib.errors import RunnerError
from tradelib.live.connection import (
    Credentials,
    assert_hosts,
    check_host,
    credentials_from_environment,
    describe_error,
    make_client,
    venue_reply,
)

PAPER = "http://127.0.0.1:8080"


@pytest.mark.parametrize(
    ("mode", "url", "allowed"),
    [
        ("paper", "http://127.0.0.1:8080", True),
        ("paper", "http://127.8.9.1/api", True),
        ("paper", "http://[::1]:8080", True),
        ("paper", "http://localhost:8080", True),
        ("paper", "https://api.binance.com/api/v3", False),
        ("paper", "https://testnet.binance.vision/api/v3", False),
        ("paper", "http://127.0.0.1.example.com", False),
        ("paper", "http://127.0.0.1@example.com/", False),
        ("paper", "http://example.com#127.0.0.1", False),
        ("paper", "http://2130706433", False),
        ("paper", "http://0.0.0.0:8080", False),
        ("paper", "http://10.0.0.7:8080", False),
        ("paper", "http://[::ffff:8.8.8.8]", False),
        ("paper", "http://localhost.example.com", False),
        ("paper", "http://", False),
        ("live", "https://api.binance.com/api/v3", True),
        ("live", "https://fapi.binance.com/fapi/v1", True),
        ("live", "http://api.binance.com/api/v3", False),
        ("live", "https://api.binance.com.example.com", False),
        ("live", "https://api.binance.com@example.com", False),
        ("live", "https://testnet.binance.vision/api/v3", False),
        ("live", "https://127.0.0.1", False),
        ("live", "https://localhost", False),
    ],
)
def test_each_mode_allows_its_own_hosts_only(mode: str, url: str, allowed: bool) -> None:
    if allowed:
        check_host(url, mode)
    else:
        with pytest.raises(RunnerError, match="may only reach"):
            check_host(url, mode)


def test_in_paper_mode_every_address_of_the_client_is_moved_and_keeps_its_path() -> None:
    client = make_client(PAPER, "paper", KEY, SECRET)
    assert set(client.urls["api"]) > {"public", "private", "sapi", "fapiPublic", "papi"}
    assert all(url.startswith(PAPER + "/") for url in client.urls["api"].values())
    assert client.urls["api"]["private"] == f"{PAPER}/api/v3"


def test_paper_and_live_differ_in_host_key_and_pace_only() -> None:
    paper, live = make_client(PAPER, "paper", KEY, SECRET), make_client(None, "live", "other", "other")
    differing = {name for name in vars(live) if repr(vars(paper)[name]) != repr(vars(live)[name])}
    ours = {"apiKey", "secret", "urls", "enableRateLimit"}
    bound_to_the_instance = {
        "client",
        "fetch",
        "handle_errors",
        "handle_http_status_code",
        "logger",
        "origin",
        "throttler",
        "tokenBucket",
    }
    assert ours <= differing <= ours | bound_to_the_instance
    assert paper.options == live.options


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None, "paper"), "needs the address"),
        (("https://api.binance.com", "paper"), "may only reach this machine"),
        ((PAPER, "live"), "may only reach binance's own"),
        (("ftp://127.0.0.1", "paper"), "must be http"),
        (("http://user:pass@127.0.0.1:1", "paper"), "must be http"),
        ((PAPER, "dry"), "mode is 'dry'"),
        ((PAPER, "paper", KEY, SECRET, "mtgox"), "not supported"),
    ],
)
def test_a_client_for_the_wrong_host_is_not_made(arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(RunnerError, match=message):
        make_client(*arguments[:2], *(arguments[2:] or (KEY, SECRET)))


def test_a_client_that_was_led_elsewhere_is_found_out() -> None:
    client = make_client(PAPER, "paper", KEY, SECRET)
    client.urls["api"]["nested"] = {"deep": "https://api.binance.com/api/v3"}
    with pytest.raises(RunnerError, match=r"not 'api\.binance\.com'"):
        assert_hosts(client, "paper")
    client.urls["api"]["public"] = "https://api.binance.com/api/v3"
    with pytest.raises(RunnerError, match="may only reach this machine"):
        asyncio.run(_and_close(client, client.fetch_time()))


def test_a_redirect_is_not_followed() -> None:
    away = Fault("redirect", status(302, Location="https://api.binance.com/api/v3/time"))
    with FaultProxy(PAPER, lambda *_: away) as proxy:
        client = make_client(proxy.url, "paper", KEY, SECRET)
        with pytest.raises(RunnerError, match="redirect"):
            asyncio.run(_and_close(client, client.fetch_time()))


def test_keys_come_from_the_environment_and_are_shown_nowhere(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert credentials_from_environment() == Credentials(KEY, SECRET)
    assert KEY not in repr(credentials_from_environment())
    caplog.set_level(logging.DEBUG)
    refused = Fault("refused", status(401, b'{"code":-2015,"msg":"Invalid API-key, IP, or permissions for action."}'))
    with FaultProxy(PAPER, lambda *_: refused) as proxy:
        client = make_client(proxy.url, "paper", KEY, SECRET)
        with pytest.raises(Exception, match="Invalid API-key") as caught:
            asyncio.run(_and_close(client, client.private_get_account()))
    reply = venue_reply(caught.value)
    assert reply is not None
    assert (reply.status, reply.code) == (401, -2015)
    shown = " ".join([str(caught.value), describe_error(caught.value), repr(client), caplog.text])
    assert KEY not in shown
    assert SECRET not in shown
    assert "signature" not in describe_error(caught.value)
    monkeypatch.delenv("TRADELIB_API_SECRET")
    with pytest.raises(RunnerError, match="set TRADELIB_API_SECRET"):
        credentials_from_environment()


async def _and_close(client: object, request: object) -> object:
    try:
        return await request  # type: ignore[misc]
    finally:
        await client.close()  # type: ignore[attr-defined]
