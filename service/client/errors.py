"""What can go wrong between a client and the service, as one tree.

    ClientError
    ├── ServiceRefused             the service answered with a problem
    │   ├── BadRequest                 the caller has to change something
    │   │   ├── ModelUnknown               the model or version is not in service
    │   │   └── Redirected                 the service is at another address
    │   ├── Superseded                 a newer frame of the same stream took this one's place
    │   ├── DeadlineExceeded           no answer in time, by the service's clock or by this one
    │   ├── Unavailable                come again
    │   │   ├── Busy                       too much to do
    │   │   └── NotReady                   no model answers yet, or none does any more
    │   └── ServiceFault               the service failed
    ├── AddressInvalid             no address of a service, or no way to it; a ValueError too
    ├── TokenInvalid               no token that can be sent; a ValueError too
    ├── HeaderInvalid              no header that can be sent; a ValueError too
    ├── Unreachable                nobody answered
    │   └── Untrusted                  somebody did, with a certificate that is not trusted here
    └── AnswerUnreadable           an answer that is none of this service's

Frames that are none (another type or shape) are a plain TypeError or ValueError, before anything is sent.
"""
# ruff: noqa: N818 - the names say what is wrong; each of them is an error by its place in the tree

from __future__ import annotations

import json
import math
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "AddressInvalid",
    "AnswerUnreadable",
    "BadRequest",
    "Busy",
    "ClientError",
    "DeadlineExceeded",
    "HeaderInvalid",
    "ModelUnknown",
    "NotReady",
    "Redirected",
    "ServiceFault",
    "ServiceRefused",
    "Superseded",
    "TokenInvalid",
    "Unavailable",
    "Unreachable",
    "Untrusted",
    "refusal",
    "retry_after_s",
]

_PREFIX: Final = "urn:robomask:problem:"


class ClientError(Exception):
    """Root of the tree."""


class AddressInvalid(ClientError, ValueError):
    """What was given is no address of a service, or the environment's proxy is none that can be used to get there."""


class TokenInvalid(ClientError, ValueError):
    """What was given is no token that can be sent."""


class HeaderInvalid(ClientError, ValueError):
    """What was given is no header that can be sent."""


class Unreachable(ClientError):
    """Nobody answered: no connection, or one that broke."""


class Untrusted(Unreachable):
    """Who answers at the address has a certificate that is not trusted here; asking again would not help."""


class AnswerUnreadable(ClientError):
    """The answer is not one that this service gives; is the address right?"""


class ServiceRefused(ClientError):
    """The service answered with a problem; the message is the service's own.

    Attributes:
        status: HTTP status.
        code: Stable name of the kind of problem, `frame-undecodable` for instance; empty if there is none.
        frame: Index of the frame that is at fault, where it is one frame's fault.
        request_id: Under which the service's log has it.
        retry_after_s: In how many seconds the service wants to be asked again, if it says.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str = "",
        frame: int | None = None,
        request_id: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.frame = frame
        self.request_id = request_id
        self.retry_after_s = retry_after_s


class BadRequest(ServiceRefused):
    """The caller has to change something; asking again would not help."""


class ModelUnknown(BadRequest):
    """The model or version asked for is not in service."""


class Redirected(BadRequest):
    """Who answers at this address sends on to another one, whatever the frame; the message names it."""


class Superseded(ServiceRefused):
    """A newer frame of the same stream took this one's place."""


class DeadlineExceeded(ServiceRefused):
    """No answer in time: the service saw that it would be late, or nothing came in time."""


class Unavailable(ServiceRefused):
    """The service cannot answer now."""


class Busy(Unavailable):
    """The service has too much to do."""


class NotReady(Unavailable):
    """No model answers yet, or none does any more."""


class ServiceFault(ServiceRefused):
    """The service failed."""


_BY_CODE: Final[dict[str, type[ServiceRefused]]] = {
    "superseded": Superseded,
    "deadline-missed": DeadlineExceeded,
    "frame-too-old": DeadlineExceeded,
    "busy": Busy,
    "stream-idle": Unavailable,
    "not-ready": NotReady,
    "version-unavailable": Unavailable,
    "model-unknown": ModelUnknown,
}
_BY_STATUS: Final[dict[int, type[ServiceRefused]]] = {
    429: Busy,
    503: Busy,
    504: DeadlineExceeded,
}


def refusal(status: int, headers: Mapping[str, str], content: bytes, now: float, route: str = "") -> ServiceRefused:
    """The exception for an answer that is no success.

    Args:
        status: HTTP status, 300 or above.
        headers: The answer's headers; names in any case if the mapping takes them so.
        content: Its body: problem details, or whatever a proxy in between wrote.
        now: Unix time, for a `Retry-After` that is a date.
        route: What was asked for, as a `Location` has it behind the address.

    >>> error = refusal(503, {"Retry-After": "2"}, b'{"type": "urn:robomask:problem:busy", "detail": "256 wait"}', 0)
    >>> type(error).__name__, str(error), error.retry_after_s
    ('Busy', '256 wait', 2.0)
    """
    body = _document(content)
    kind_of_problem, detail, frame = body.get("type"), body.get("detail"), body.get("frame")
    named, again_s = body.get("request_id"), body.get("retry_after_s")  # a message of a stream has no headers
    code = kind_of_problem.removeprefix(_PREFIX) if isinstance(kind_of_problem, str) else ""
    kind = _BY_CODE.get(code) or _BY_STATUS.get(status) or _by_class(status)
    location = headers.get("Location") if kind is Redirected else None
    fallback = f"expected an answer, got status {status}: {content[:200].decode('utf-8', 'replace')!r}"
    if location:
        fallback = (
            f"expected a service at this address, got sent on to {_address_in(location, route)!r} (status {status}): "
            "if the service is there, give that address"
        )
    return kind(
        detail if isinstance(detail, str) else fallback,
        status=status,
        code=code,
        frame=frame if isinstance(frame, int) else None,
        request_id=headers.get("X-Request-Id") or (named if isinstance(named, str) else None),
        retry_after_s=retry_after_s(
            headers.get("Retry-After") or (str(again_s) if isinstance(again_s, int | float) else None), now
        ),
    )


def retry_after_s(value: str | None, now: float) -> float | None:
    """Seconds that a `Retry-After` header asks for: a number or a date; None if it says nothing readable.

    Source: RFC 9110, section 10.2.3; fractions are read too.

    >>> retry_after_s("1.5", 0), retry_after_s("Thu, 01 Jan 1970 00:01:00 GMT", 50.0), retry_after_s("soon", 0)
    (1.5, 10.0, None)
    """
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - now
        except ValueError:
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _by_class(status: int) -> type[ServiceRefused]:
    if status < 400:
        return Redirected
    return BadRequest if status < 500 else ServiceFault


def _address_in(location: str, route: str) -> str:
    """The address of the service, by where a route of it is said to be.

    >>> _address_in("https://robots.example/segment?fit=pad", "/segment")
    'https://robots.example'
    """
    return location.partition("?")[0].rstrip("/").removesuffix(route)


def _document(content: bytes) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
