"""Everything that can go wrong, as one tree; what each means over HTTP is a table in `problems.py`.

    RobomaskError
    ├── BadRequest                 the client has to change something
    │   ├── BodyMissing                nothing came
    │   ├── BodyMalformed              JSON, multipart, .npy or raw pixels that are not what they claim to be
    │   ├── BodySlow                   the body did not arrive in time
    │   ├── FrameUndecodable           a frame that is no picture, or half of one
    │   ├── TooLarge                   bytes, pixels or frames beyond a limit
    │   ├── MediaTypeUnsupported       a form of request that is not read here
    │   ├── WebSocketExpected          a plain request where there are websockets alone
    │   ├── StreamIdle                 nothing came on a stream for a long time
    │   ├── NotAcceptable              a form of answer that cannot be given
    │   ├── ParameterInvalid           a query parameter unknown, repeated or out of range
    │   ├── TensorInvalid              a tensor that is not the model's: name, type, shape or data
    │   ├── ModelUnknown               a model or version that is not in service
    │   ├── ModelFixed                 a model or version that cannot be put into or taken out of service
    │   ├── AdminClosed                what needs the admin token, where none is set
    │   └── AdminTokenWrong            what needs the admin token, without it
    ├── Unavailable                the client may come again
    │   ├── Busy                       a queue or the memory for requests is full
    │   ├── NotReady                   no model answers yet, or none does any more
    │   └── VersionUnavailable         a version that cannot be had or tried now
    ├── Stale                      the frame is not worth an answer any more
    │   ├── DeadlineMissed             it cannot be answered within the client's budget
    │   ├── FrameTooOld                it was taken too long ago
    │   └── Superseded                 a newer frame of its stream has come
    ├── ModelFault                 the model failed on valid input
    └── StartFailed                the service cannot start; never an answer
        └── ProviderMissing            the device that was asked for is not there

`service.contract.BundleInvalid` stands beside the tree: a bundle is refused, for good or for now, the service goes on.
"""
# ruff: noqa: N818 - the names say what is wrong; each of them is an error by its place in the tree

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "AdminClosed",
    "AdminTokenWrong",
    "BadRequest",
    "BodyMalformed",
    "BodyMissing",
    "BodySlow",
    "Busy",
    "DeadlineMissed",
    "FrameTooOld",
    "FrameUndecodable",
    "MediaTypeUnsupported",
    "ModelFault",
    "ModelFixed",
    "ModelUnknown",
    "NotAcceptable",
    "NotReady",
    "ParameterInvalid",
    "ProviderMissing",
    "RobomaskError",
    "Stale",
    "StartFailed",
    "StreamIdle",
    "Superseded",
    "TensorInvalid",
    "TooLarge",
    "Unavailable",
    "VersionUnavailable",
    "WebSocketExpected",
    "quoted",
]


class RobomaskError(Exception):
    """Root of the tree. The message says what was expected, what came, and what to do.

    Attributes:
        code: Stable name of the kind of error; clients may rely on it.
        title: The kind in words.
        frame: Index of the frame that is at fault, where it is one frame's fault.
    """

    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"

    def __init__(self, message: str, *, frame: int | None = None) -> None:
        super().__init__(message if frame is None else f"frame {frame}: {message}")
        self.frame = frame


class BadRequest(RobomaskError):
    """The client has to change something."""

    code = "bad-request"
    title = "Bad request"


class WebSocketExpected(BadRequest):
    """The route speaks over websockets alone."""

    code = "websocket-expected"
    title = "Websocket expected"


class BodyMissing(BadRequest):
    """Nothing came."""

    code = "body-missing"
    title = "Body missing"


class BodyMalformed(BadRequest):
    """The body is not what its content type says."""

    code = "body-malformed"
    title = "Body malformed"


class BodySlow(BadRequest):
    """The body did not arrive in time."""

    code = "body-slow"
    title = "Body too slow"


class StreamIdle(BadRequest):
    """Nothing came on a stream for a long time."""

    code = "stream-idle"
    title = "Stream idle"


class FrameUndecodable(BadRequest):
    """A frame is no picture, or half of one."""

    code = "frame-undecodable"
    title = "Frame cannot be decoded"


class TooLarge(BadRequest):
    """Bytes, pixels or frames are beyond a limit."""

    code = "too-large"
    title = "Too large"


class MediaTypeUnsupported(BadRequest):
    """Requests of this form are not read here."""

    code = "media-type-unsupported"
    title = "Media type not supported"


class NotAcceptable(BadRequest):
    """No form of answer that the client accepts can hold this answer."""

    code = "not-acceptable"
    title = "No acceptable form of answer"


class ParameterInvalid(BadRequest):
    """A query parameter is unknown, repeated or out of range."""

    code = "parameter-invalid"
    title = "Parameter invalid"


class TensorInvalid(BadRequest):
    """A tensor is not the model's: its name, type, shape or data."""

    code = "tensor-invalid"
    title = "Tensor invalid"


class ModelUnknown(BadRequest):
    """The model or version asked for is not in service."""

    code = "model-unknown"
    title = "Model not in service"


class ModelFixed(BadRequest):
    """The model or version cannot be put into or taken out of service."""

    code = "model-fixed"
    title = "Model cannot be changed"


class AdminClosed(BadRequest):
    """It needs the admin token, and the service has none."""

    code = "admin-closed"
    title = "Closed"


class AdminTokenWrong(BadRequest):
    """It needs the admin token, and the request has none or another."""

    code = "admin-token-wrong"
    title = "Admin token needed"


class Unavailable(RobomaskError):
    """The service cannot answer now.

    Attributes:
        retry_after_s: When the client may come again.
        reason: Why, from a closed set; a metric's label.
    """

    def __init__(self, message: str, *, reason: str, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_after_s = retry_after_s


class Busy(Unavailable):
    """A queue or the memory for requests is full."""

    code = "busy"
    title = "Too much to do"


class NotReady(Unavailable):
    """No model answers yet, or none does any more."""

    code = "not-ready"
    title = "Not ready"


class VersionUnavailable(Unavailable):
    """A version that cannot be had or tried now, for a fault that may pass."""

    code = "version-unavailable"
    title = "Version not to be had now"


class Stale(RobomaskError):
    """The frame is not worth an answer any more."""


class DeadlineMissed(Stale):
    """It cannot be answered within the budget that came with it, or could not."""

    code = "deadline-missed"
    title = "Deadline missed"


class FrameTooOld(Stale):
    """It was taken too long ago, or would have been by the time of its answer."""

    code = "frame-too-old"
    title = "Frame too old"


class Superseded(Stale):
    """A newer frame of its stream has come."""

    code = "superseded"
    title = "Superseded by a newer frame"


class ModelFault(RobomaskError):
    """The model failed on valid input."""

    code = "model-fault"
    title = "The model failed"


class StartFailed(RobomaskError):
    """The service cannot start."""


class ProviderMissing(StartFailed):
    """The device that was asked for is not there."""


def quoted(text: str, longest: int = 60) -> str:
    """What a client sent, safe to repeat: quoted, without control characters, cut if long.

    >>> print(quoted("image/gif"), quoted("x" * 100, longest=5))
    'image/gif' 'xxxxx'...
    """
    return repr(text) if len(text) <= longest else f"{text[:longest]!r}..."
