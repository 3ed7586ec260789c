"""How a submit can fail: fourteen shapes that were seen with ccxt, on three dialects, and some more on Binance."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from tests.live import faults
from tests.live.faults import Reply, refusal, status
from tradelib.live.dialects import Verdict

AMBIGUOUS: dict[str, Reply] = {
    "hang": faults.hang(1.0),
    "-1007 in a 504": refusal(-1007, "Timeout waiting for response from backend server.", 504),
    "connection dropped": faults.drop,
    "500": status(500, b"<html>oops</html>"),
    "502": status(502, b"<html>bad gateway</html>"),
    "-1006": refusal(-1006, "An unexpected response was received from the message bus. Execution status unknown."),
    "200 empty": status(200),
    "200 truncated": faults.truncated,
    "429": refusal(-1003, "Too many requests.", 429),
    "418": refusal(-1003, "Way too many requests; IP banned.", 418),
    # beyond the fourteen
    "body cut in mid-air": faults.cut,
    "fields of wrong types": faults.malformed,
    "403 of a firewall": status(403, b"<html>request blocked</html>"),
    "-1001 in a 400": refusal(-1001, "Internal error; unable to process your request."),
    "-2010 in a 503": refusal(-2010, "Account has insufficient balance for requested action.", 503),
    "redirect": status(307, Location="https://api.binance.com/api/v3/order"),
    "somebody else's order": status(
        200, b'{"symbol":"BTCUSDT","orderId":9,"clientOrderId":"x","status":"FILLED","executedQty":"1"}'
    ),
}
PROVEN: dict[str, Reply] = {
    "-2010 balance": refusal(-2010, "Account has insufficient balance for requested action."),
    "-1013 filter": refusal(-1013, "Filter failure: LOT_SIZE"),
    "-1111 precision": refusal(-1111, "Parameter 'quantity' has too much precision."),
}


@dataclass(frozen=True)
class Shape:
    """One way in which a submit fails: what comes back, and what that proves."""

    reply: Reply = field(repr=False)
    verdict: Verdict = Verdict.UNKNOWN


def _words(*errors: str, http: int = 200) -> Reply:
    """An error in Kraken's words."""
    return status(http, json.dumps({"error": list(errors)}).encode())


def _coded(code: str, message: str, http: int = 400) -> Reply:
    """An error of Bitget."""
    return status(http, json.dumps({"code": code, "msg": message, "requestTime": 0, "data": None}).encode())


_LOST: dict[str, Shape] = {
    "hang": Shape(faults.hang(1.0)),
    "connection dropped": Shape(faults.drop),
    "500": Shape(status(500, b"<html>oops</html>")),
    "502": Shape(status(502, b"<html>bad gateway</html>")),
    "200 empty": Shape(status(200)),
    "200 truncated": Shape(faults.truncated),
}
"""The six that no venue puts into words of its own."""

FOURTEEN: dict[str, dict[str, Shape]] = {
    "binance": {
        **_LOST,
        "timeout of the back end": Shape(refusal(-1007, "Timeout waiting for response from backend server.", 504)),
        "execution status unknown": Shape(refusal(-1006, "An unexpected response was received. Execution unknown.")),
        "too many requests": Shape(refusal(-1003, "Too many requests.", 429), Verdict.BUSY),
        "banned": Shape(refusal(-1003, "Way too many requests; IP banned.", 418), Verdict.BUSY),
        "clock": Shape(refusal(-1021, "Timestamp for this request is outside of the recvWindow."), Verdict.CLOCK),
        "balance": Shape(refusal(-2010, "Account has insufficient balance for requested action."), Verdict.REFUSED),
        "duplicate": Shape(refusal(-2010, "Duplicate order sent."), Verdict.DUPLICATE),
        "filter": Shape(refusal(-1013, "Filter failure: LOT_SIZE"), Verdict.REFUSED),
    },
    "kraken": {
        **_LOST,
        "timeout of the back end": Shape(_words("EService:Timeout", http=504)),
        "execution status unknown": Shape(_words("EGeneral:Internal error")),
        "too many requests": Shape(_words("EAPI:Rate limit exceeded"), Verdict.BUSY),
        "banned": Shape(_words("EGeneral:Temporary lockout"), Verdict.BUSY),
        "clock": Shape(_words("EAPI:Invalid nonce"), Verdict.NONCE),
        "balance": Shape(_words("EOrder:Insufficient funds"), Verdict.REFUSED),
        "duplicate": Shape(_words("EGeneral:Invalid arguments:cl_ord_id"), Verdict.DUPLICATE),
        "filter": Shape(_words("EOrder:Order minimum not met"), Verdict.REFUSED),
    },
    "bitget": {
        **_LOST,
        "timeout of the back end": Shape(_coded("40010", "Request timed out", 504)),
        "execution status unknown": Shape(_coded("40015", "System is abnormal, please try again later")),
        "too many requests": Shape(_coded("429", "Too Many Requests", 429), Verdict.BUSY),
        "banned": Shape(status(418, b"<html>banned</html>"), Verdict.BUSY),
        "clock": Shape(_coded("40008", "Request timestamp expired"), Verdict.CLOCK),
        "balance": Shape(_coded("43012", "Insufficient balance"), Verdict.REFUSED),
        "duplicate": Shape(_coded("40786", "Duplicate clientOid"), Verdict.DUPLICATE),
        "filter": Shape(_coded("45110", "less than the minimum amount 5 USDT"), Verdict.REFUSED),
    },
}
"""Exchange -> the fourteen shapes of a failed submit, each in the words of that exchange."""
