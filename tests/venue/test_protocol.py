"""Binance's dialect: the documentation's own signature examples, numbers, parameters, windows."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.venue.support import market
from tradelib.venue.protocol import (
    BinanceError,
    Parameters,
    check_key,
    check_signature,
    check_window,
    number,
    read_parameters,
    signature,
)

# Example of "SIGNED endpoint examples for POST /api/v3/order" in Binance's REST documentation.
SECRET = "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j"
QUERY = "symbol=LTCBTC&side=BUY&type=LIMIT&timeInForce=GTC"
BODY = "quantity=1&price=0.1&recvWindow=5000&timestamp=1499827319559"
WHOLE = "c8db56825ae71d6d79447849e617115f4a920fa2acdcab2b053c4b2838bd6b71"
MIXED = "0fd168b8ddb4876a0358a8d14d0c9f3da0e9b20c5d52b2a00fcf7d1c602f9a77"


@pytest.mark.parametrize(
    ("query", "body"),
    [
        ("", f"{QUERY}&{BODY}&signature={WHOLE}"),  # example 1: a request body
        (f"{QUERY}&{BODY}&signature={WHOLE}", ""),  # example 2: a query string
        (QUERY, f"{BODY}&signature={MIXED}"),  # example 3: both, joined without "&"
        (f"{QUERY}&{BODY}&signature={WHOLE.upper()}", ""),  # "the signature is not case sensitive"
    ],
)
def test_binances_documented_examples_verify(query: str, body: str) -> None:
    check_signature(SECRET, query, body)


@pytest.mark.parametrize(
    ("query", "body", "code"),
    [
        (f"{QUERY}&{BODY}", "", -1102),
        (f"{QUERY}&{BODY}&signature=", "", -1102),
        (f"{QUERY}&{BODY}&signature={MIXED}", "", -1022),
        (f"{QUERY}&{BODY.replace('0.1', '0.2')}&signature={WHOLE}", "", -1022),
        (f"{QUERY}&{BODY.replace('=1&', '=%31&')}&signature={WHOLE}", "", -1022),  # same meaning, other characters
        (f"{BODY}&{QUERY}&signature={WHOLE}", "", -1022),
        (f"{QUERY}&{BODY}&signature=ä", "", -1022),
    ],
)
def test_a_signature_covers_the_exact_characters(query: str, body: str, code: int) -> None:
    with pytest.raises(BinanceError) as refused:
        check_signature(SECRET, query, body)
    assert refused.value.code == code


def test_the_signature_is_hmac_sha256_in_hex() -> None:
    assert signature(SECRET, f"{QUERY}&{BODY}") == WHOLE


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_on_the_wire_reads_back_as_the_same_float(value: float) -> None:
    text = number(value)
    assert float(text) == value
    assert set(text) <= set("-.0123456789")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.1, "0.1"), (1e-9, "0.000000001"), (1e22, "10000000000000000000000"), (-0.0, "0"), (100.0, "100.0")],
)
def test_numbers_have_no_exponent(value: float, text: str) -> None:
    assert number(value) == text
    assert number(Decimal("1E+3")) == "1000"


@pytest.mark.parametrize(
    ("timestamp", "window", "code"),
    [
        ("100000", None, None),
        ("95000", None, None),  # now - timestamp <= 5000
        ("94999", None, -1021),
        ("100999", None, None),  # timestamp < now + 1000
        ("101000", None, -1021),
        ("40000", "60000", None),
        ("39999", "60000", -1021),
        ("100000", "60001", -1131),
        ("99999", "0", -1021),
        ("", None, -1102),
        ("soon", None, -1100),
        ("-1", None, -1100),
        ("100000", "x", -1100),
    ],
)
def test_the_time_window(timestamp: str, window: str | None, code: int | None) -> None:
    values = {"timestamp": timestamp} | ({} if window is None else {"recvWindow": window})
    if code is None:
        check_window(Parameters(values), 100_000)
        return
    with pytest.raises(BinanceError) as refused:
        check_window(Parameters(values), 100_000)
    assert refused.value.code == code


def test_keys() -> None:
    check_key("mine", "mine")
    for sent, code in ((None, -2014), ("", -2014), ("other", -2015), ("é", -2015)):
        with pytest.raises(BinanceError) as refused:
            check_key(sent, "mine")
        assert (refused.value.code, refused.value.status) == (code, 401)


def test_a_parameter_in_the_query_string_wins_over_the_body() -> None:
    assert read_parameters("a=1", "a=2&b=3", {"a", "b"}).values == {"a": "1", "b": "3"}


@pytest.mark.parametrize(
    ("query", "body", "code", "message"),
    [
        ("a=1&a=1", "", -1101, "Duplicate values"),
        ("", "b=1&b=2", -1101, "Duplicate values"),
        ("a=1&x=1&y=1", "", -1104, "read '1' parameter\\(s\\) but was sent '3'"),
    ],
)
def test_parameters_that_are_not_read_are_refused(query: str, body: str, code: int, message: str) -> None:
    with pytest.raises(BinanceError, match=message) as refused:
        read_parameters(query, body, {"a", "b"})
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", -1102),
        ("abc", -1100),
        ("-1", -1100),
        ("1e3", -1100),
        ("1.", -1100),
        (".5", -1100),
        ("1\n", -1100),
        ("١", -1100),  # a digit, but not an ASCII one
        ("1" * 21, -1100),
        ("1.000000001", -1111),
        ("0", -1013),
        ("0.00", -1013),
    ],
)
def test_quantities_that_binance_refuses(text: str, code: int) -> None:
    with pytest.raises(BinanceError) as refused:
        Parameters({"quantity": text}).quantity(market())
    assert refused.value.code == code


def test_quantities_that_binance_takes() -> None:
    assert Parameters({"quantity": "1.50"}).quantity(market()) == Decimal("1.5")
    assert Parameters({"quantity": "1.5000000000"}).quantity(market()) == Decimal("1.5")
    assert Parameters({"quantity": "0.0000000001"}).quantity(market(lots_per_unit=1e10)) == Decimal("1e-10")


def test_limits_and_ids() -> None:
    assert [Parameters(values).limit() for values in ({}, {"limit": "7"}, {"limit": "5000"})] == [500, 7, 1000]
    for values, code in (({"limit": "0"}, -1130), ({"limit": ""}, -1105), ({"limit": "many"}, -1100)):
        with pytest.raises(BinanceError) as refused:
            Parameters(values).limit()
        assert refused.value.code == code
    assert Parameters({"id": "x-1_A"}).client_order_id("id") == "x-1_A"
    for name in ("a" * 37, "a b", "a\n", "é"):
        with pytest.raises(BinanceError, match="legal range"):
            Parameters({"id": name}).client_order_id("id")
    with pytest.raises(BinanceError, match="'origClientOrderId' or 'orderId' must be sent"):
        Parameters({}).order_reference()
