"""What a running service serves, and changing it, from Python; changes need the service's admin token."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, Literal, Self

import httpx

from service.client.address import check_address, connections_to, shown, untrusted
from service.client.errors import AnswerUnreadable, TokenInvalid, Unreachable, refusal
from service.client.network import Until, end_with_their_tries

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

__all__ = ["SHARES", "Listing", "Mode", "ModelAdmin", "gate_of", "serving_in"]

Listing = dict[str, Any]
"""The document of `/models`: `name`, `ready`, `versions`, `trial` and `events`, the newest event first."""

Mode = Literal["shadow", "canary"]

SHARES: Final[Mapping[Mode, float]] = {"shadow": 1.0, "canary": 0.1}
"""Share of streams for who names none: an untried version answers few of them."""


class ModelAdmin:
    """The models of one service.

    Args:
        url: The service's address.
        token: Its ROBOMASK_ADMIN_TOKEN; None to look only.
        timeout_s: How long an answer may take; a version is verified and opened before it comes.
        transport: How requests travel, in place of the network.

    Raises:
        AddressInvalid: The URL is no address of a service.
        TokenInvalid: No header can hold the token.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        timeout_s: float = 600.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        token = (token or "").strip()  # one that comes from a file may end in a new line
        if not (token.isascii() and token.isprintable()):
            raise TokenInvalid(
                "expected an admin token of printable ASCII, as HTTP's headers are, got other characters"
            )
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._url = check_address(url)
        self._http = connections_to(self._url, httpx.Client, headers=headers, timeout=timeout_s, transport=transport)
        end_with_their_tries(self._http)
        self._timeout_s = timeout_s

    def listing(self) -> Listing:
        """Versions, what each is doing, the trial, and what was done lately.

        Raises:
            ClientError: No answer; which of its kinds says why. So do all methods.
        """
        return self._ask("GET", "/models")

    def activate(self, version: int) -> Listing:
        """Put a version into service; returns when it answers."""
        return self._ask("POST", f"/models/{version}/activate")

    def rollback(self) -> Listing:
        """Go back to the version that served before."""
        return self._ask("POST", "/models/rollback")

    def attempt(
        self,
        mode: Mode,
        version: int,
        *,
        share: float,
        promote_if: Mapping[str, str] | None = None,
    ) -> Listing:
        """Let a version run (shadow) or answer (canary) a share of streams, and compare.

        Args:
            mode: Which of both.
            version: The version.
            share: Share of streams, 0..1; 0 ends the trial.
            promote_if: When it takes over or is dropped by itself; see `gate_of`.
        """
        body: dict[str, Any] = {"version": version, "share": share}
        if promote_if:
            body["promote_if"] = dict(promote_if)
        return self._ask("POST", f"/models/{mode}", body)

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Listing:
        until_s = time.monotonic() + self._timeout_s
        timeout = httpx.Timeout(Until(lambda: until_s - time.monotonic()))
        try:
            answer = self._http.request(method, path, json=body, timeout=timeout)
        except httpx.HTTPError as error:
            raise untrusted(self._url, error) or Unreachable(
                f"expected a service at {shown(self._url)}, got {error!r}; does it run?"
            ) from error
        if not answer.is_success:
            raise refusal(answer.status_code, answer.headers, answer.content, time.time(), path)
        try:
            document = answer.json()
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict) or not {"name", "versions", "events"} <= document.keys():
            raise AnswerUnreadable(
                f"expected the models of a service from {shown(self._url)}{path}, got status {answer.status_code} and "
                f"{answer.content[:200]!r}: is the address right?"
            )
        return document


def serving_in(listing: Listing) -> Mapping[str, Any] | None:
    """The entry of the version in service; None as long as none is.

    >>> serving_in({"versions": [{"version": 1, "state": "available"}, {"version": 2, "state": "serving"}]})["version"]
    2
    """
    return next((entry for entry in listing["versions"] if entry["state"] == "serving"), None)


def gate_of(text: str) -> dict[str, str]:
    """A gate as people write it; its numbers are the service's to read.

    >>> gate_of("frames=1000, min_iou=0.9")
    {'frames': '1000', 'min_iou': '0.9'}
    """
    pairs = (part.partition("=") for part in text.replace(",", " ").split())
    return {name: value for name, _, value in pairs}
