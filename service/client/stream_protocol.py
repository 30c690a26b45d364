"""The messages of `WS /stream` as a client sees them, without input and output.

What they are is said where the service answers them.
"""

from __future__ import annotations

import json
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from service.client.errors import AnswerUnreadable, ClientError, ServiceRefused, Superseded, refusal
from service.client.options import Options, query_of, unix_seconds
from service.client.results import JSON, NPZ, ModelNote, Segmentation, read_arrays, read_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

__all__ = ["Protocol", "StreamResult", "note_of", "stream_address"]


@dataclass(frozen=True, slots=True, eq=False)
class StreamResult:
    """What became of one frame.

    Attributes:
        seq: Which frame, counted from 0 on.
        answer: Its answer, if it has one.
        error: Why it has none, otherwise: `Superseded` if a newer frame took its place.
    """

    seq: int
    answer: Segmentation | None
    error: ServiceRefused | None

    @property
    def superseded(self) -> bool:
        """Whether a newer frame took this one's place."""
        return isinstance(self.error, Superseded)

    def unwrap(self) -> Segmentation:
        """The answer.

        Raises:
            ServiceRefused: There is none.
        """
        if self.answer is None:
            raise self.error or AnswerUnreadable("expected an answer or an error, got neither")
        return self.answer


class Protocol:
    """The messages of a stream, and who owes whom.

    Attributes:
        credits: Frames that may be sent now.
        pending: Frames that are sent and not settled.
        model: Which model answers, once the service has said hello.
        settled: What has become of frames and nobody has taken yet.
        ended: Why the stream has ended, once the service has said so.
    """

    def __init__(self) -> None:
        self.credits = 0
        self.pending = 0
        self.model: ModelNote | None = None
        self.settled: deque[StreamResult] = deque()
        self.ended: ClientError | None = None
        self._seq = 0
        self._head: dict[str, Any] | None = None

    def sent(self) -> int:
        """A frame is sent: which it is."""
        self.credits -= 1
        self.pending += 1
        self._seq += 1
        return self._seq - 1

    def receive(self, message: str | bytes) -> None:
        """Take a message of the service.

        Raises:
            ServiceRefused: The service ends the stream.
            AnswerUnreadable: It is no message of this protocol.
        """
        try:
            if isinstance(message, bytes):
                self._receive_body(message)
            else:
                self._receive_text(json.loads(message))
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise AnswerUnreadable(
                f"expected a message of robomask's stream, got {message[:80]!r}: {error!r}"
            ) from error

    def _receive_text(self, document: Mapping[str, Any]) -> None:
        kind = document["type"]
        if kind == "hello":
            note = document["model"]
            self.model = ModelNote(str(note["name"]), int(note["version"]), str(note["sha256"]))
            self.credits = int(document["credits"])
        elif kind == "answer" and "answer" in document:
            self._settle(document["seq"], read_json(document["answer"], ""), None)
        elif kind == "answer":
            self._head = dict(document)
        elif kind == "superseded":
            taken = Superseded("a newer frame of this stream took this one's place", status=409, code="superseded")
            self._settle(document["seq"], None, taken)
        elif kind == "error":
            problem = document["problem"]
            error = refusal(int(problem["status"]), {}, json.dumps(problem).encode(), time.time())
            if document["seq"] is None:
                self.ended = error
                raise error
            self._settle(document["seq"], None, error)

    def _receive_body(self, content: bytes) -> None:
        if self._head is None or self.model is None or self._head["content_type"] != NPZ:
            raise ValueError("a body that was not announced")
        head, self._head = self._head, None
        timing = {stage: float(ms) for stage, ms in head.get("timing_ms", {}).items()}
        self._settle(head["seq"], Segmentation(read_arrays(content), self.model, timing, ""), None)

    def _settle(self, seq: int, answer: Segmentation | None, error: ServiceRefused | None) -> None:
        self.settled.append(StreamResult(int(seq), answer, error))
        self.credits += 1
        self.pending -= 1


def stream_address(url: str, options: Options) -> str:
    """The address of a stream, with all that is true of every frame in its query.

    >>> stream_address("http://host:8000", {"deadline_ms": 100, "probability": True})
    'ws://host:8000/stream?probability=true&accept=application%2Fx-npz&deadline_ms=100'

    Raises:
        TypeError: There is no such option, or none of a whole stream.
    """
    if of_frames := options.keys() & {"captured_at", "stream_id"}:
        raise TypeError(f"expected options of a whole stream, got {sorted(of_frames)}; `send` takes captured_at")
    query = query_of(options)
    query["accept"] = NPZ if options.get("probability") else JSON
    query |= {name: f"{value:g}" for name in ("deadline_ms", "max_age_ms") if (value := options.get(name)) is not None}
    parts = urlsplit(url)
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    return f"{scheme}://{parts.netloc}{parts.path.rstrip('/')}/stream?{urlencode(query)}"


def note_of(captured_at: datetime | float | None, deadline_ms: float | None, max_age_ms: float | None) -> str | None:
    """The message that says what is true of the next frame alone; None if there is nothing to say.

    >>> note_of(12.5, None, 100)
    '{"captured_at": 12.5, "max_age_ms": 100}'
    """
    captured = None if captured_at is None else unix_seconds(captured_at)
    values = {"captured_at": captured, "deadline_ms": deadline_ms, "max_age_ms": max_age_ms}
    said = {name: value for name, value in values.items() if value is not None}
    return json.dumps(said) if said else None
