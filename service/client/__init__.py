"""Talk to a robomask service from Python. Needs httpx and numpy, and nothing of what the service itself needs.

    from service.client import Client

    with Client("http://127.0.0.1:8000") as client:
        answer = client.segment(frame, deadline_ms=100)  # uint8 [H,W,3], bytes of a picture, or a Path
        answer.masks  # bool [1,H,W]

`AsyncClient` is the same for asyncio; every error is a `ClientError`.
"""

from service.client.admin import ModelAdmin
from service.client.clients import AsyncClient, Client
from service.client.errors import (
    AddressInvalid,
    AnswerUnreadable,
    BadRequest,
    Busy,
    ClientError,
    DeadlineExceeded,
    HeaderInvalid,
    ModelUnknown,
    NotReady,
    Redirected,
    ServiceFault,
    ServiceRefused,
    Superseded,
    TokenInvalid,
    Unavailable,
    Unreachable,
    Untrusted,
)
from service.client.options import Options
from service.client.pictures import Frame, Frames
from service.client.results import FrameResult, ModelNote, Segmentation
from service.client.retries import Retries
from service.client.stream_protocol import StreamResult
from service.client.streams import AsyncStream, Captured, Stream

__all__ = [
    "AddressInvalid",
    "AnswerUnreadable",
    "AsyncClient",
    "AsyncStream",
    "BadRequest",
    "Busy",
    "Captured",
    "Client",
    "ClientError",
    "DeadlineExceeded",
    "Frame",
    "FrameResult",
    "Frames",
    "HeaderInvalid",
    "ModelAdmin",
    "ModelNote",
    "ModelUnknown",
    "NotReady",
    "Options",
    "Redirected",
    "Retries",
    "Segmentation",
    "ServiceFault",
    "ServiceRefused",
    "Stream",
    "StreamResult",
    "Superseded",
    "TokenInvalid",
    "Unavailable",
    "Unreachable",
    "Untrusted",
]
