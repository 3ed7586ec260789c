"""The operator's end of the control server: plain HTTP to this machine, with one token, and errors that can be read."""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from tradelib.errors import RunnerError
from tradelib.live.users import TOKEN_VARIABLE

__all__ = ["URL_VARIABLE", "ControlClient", "NoToken", "Unreachable"]

URL_VARIABLE = "TRADELIB_CONTROL_URL"
DEFAULT_URL = "http://127.0.0.1:8790"
_LOOPBACK = ("127.0.0.1", "localhost")


class Unreachable(RunnerError):
    """Nobody answers at the address of the runner."""


class NoToken(RunnerError):
    """The operator has named no token."""


class ControlClient:
    """Asks the runner at `url` (default: `TRADELIB_CONTROL_URL`, else port 8790 of this machine).

    The token comes from `TRADELIB_CONTROL_TOKEN`. It is sent to this machine only: a runner elsewhere is reached
    through a tunnel (`ssh -L 8790:127.0.0.1:8790 host`). `timeout`: seconds that one request may take.
    """

    def __init__(
        self, url: str | None = None, *, environment: Mapping[str, str] | None = None, timeout: float = 120.0
    ) -> None:
        environment = os.environ if environment is None else environment
        self.url = url or environment.get(URL_VARIABLE) or DEFAULT_URL
        self._token = environment.get(TOKEN_VARIABLE, "").strip()
        self._timeout = timeout
        self._parts = urlsplit(self.url)
        if self._parts.scheme != "http" or self._parts.hostname not in _LOOPBACK:
            raise RunnerError(
                f"{self.url} is not http on this machine: the token goes nowhere else. Reach a runner elsewhere "
                "through a tunnel: ssh -L 8790:127.0.0.1:8790 HOST"
            )

    def get(self, path: str) -> Any:
        """What `GET path` answers."""
        return self._ask("GET", path, None)

    def post(self, path: str, **body: Any) -> Any:
        """What `POST path` answers to `body`; values that are None are left out."""
        return self._ask("POST", path, {name: value for name, value in body.items() if value is not None})

    def health(self) -> dict[str, bool]:
        """Whether the runner is alive and ready; False for both where nobody answers. Needs no token."""
        found = {"alive": "/healthz", "ready": "/readyz"}
        try:
            return {name: self._exchange("GET", path, None)[0] == 200 for name, path in found.items()}
        except Unreachable:
            return dict.fromkeys(found, False)

    def text(self, path: str) -> str:
        """What `GET path` answers, as it is: `text("/metrics")`."""
        return self._said("GET", path, None)

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        try:
            return json.loads(self._said(method, path, body))
        except ValueError:
            raise RunnerError(f"{self.url}{path} does not answer as a runner of tradelib does") from None

    def _said(self, method: str, path: str, body: Mapping[str, Any] | None) -> str:
        """The text of a reply; `RunnerError` with the runner's own words where it refuses."""
        if not self._token:
            raise NoToken(
                f"no token: set {TOKEN_VARIABLE} to the token that `tradelib token NAME --role ROLE` printed for you"
            )
        status, text = self._exchange(method, path, body)
        if status == 200:
            return text
        try:
            raise RunnerError(str(json.loads(text)["error"]))
        except (ValueError, KeyError, TypeError):
            raise RunnerError(f"{self.url}{path} answered {status}, not as a runner of tradelib does") from None

    def _exchange(self, method: str, path: str, body: Mapping[str, Any] | None) -> tuple[int, str]:
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        connection = http.client.HTTPConnection(self._parts.hostname or "", self._parts.port, timeout=self._timeout)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode("utf-8", "replace")
        except ConnectionRefusedError:
            raise Unreachable(
                f"no runner answers at {self.url}: is it running, and is its [control] port this one"
            ) from None
        except (OSError, http.client.HTTPException) as error:
            told = "does not answer in time" if isinstance(error, TimeoutError) else "broke off"
            raise Unreachable(f"the runner at {self.url} {told}: whether it did what was asked is not known") from None
        finally:
            connection.close()
