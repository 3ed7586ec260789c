"""How a submit can fail on the Binance dialect: fourteen shapes that were seen with ccxt, and some beyond them."""

from __future__ import annotations

from tests.live import faults
from tests.live.faults import Reply, refusal, status

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
