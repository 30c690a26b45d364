"""The messages of `WS /stream` as a client sees them, without input and output.

What they are is said where the service answers them.
"""

from __future__ import annotations

import json
import math
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlencode, urlsplit

from service.client.errors import (
    AnswerUnreadable,
    ClientError,
    DeadlineExceeded,
    ServiceRefused,
    Superseded,
    Unreachable,
    refusal,
)
from service.client.options import GRACE_S, STREAM_ID, Options, bound_ms, headers_of, query_of, unix_seconds
from service.client.results import JSON, NPZ, ModelNote, Segmentation, read_arrays, read_json, read_model

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

__all__ = ["Bounds", "Protocol", "StreamResult", "bounds_of", "note_of", "stream_address", "stream_headers"]


_MOST_UNTAKEN: Final = 1024
"""Results that wait to be taken, all of them but one being of frames without an answer."""
_SHORTEST_SILENCE_S: Final = 2.0
"""For how long a service may always be silent: networks falter, and processes have to wait for their turn."""
_LONGEST_MS: Final = 3_600_000.0
"""The longest bound that a service takes: it says of a frame that its stream's bound is not its own."""
_AWAY_S: Final = 0.5
"""Who has not looked for so long has heard nothing by his own fault: what has come meanwhile may not be read yet."""


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


class Bounds(NamedTuple):
    """Until when an answer is worth having.

    Attributes:
        captured_at: When the frame was taken: an aware datetime, or Unix seconds.
        deadline_ms: Milliseconds from when it is sent.
        max_age_ms: Milliseconds from when it was taken.
    """

    captured_at: datetime | float | None = None
    deadline_ms: float | None = None
    max_age_ms: float | None = None

    def over(self, others: Bounds) -> Bounds:
        """These, and where there are none, the others."""
        return others._replace(**{name: value for name, value in self._asdict().items() if value is not None})

    def left_s(self, unix_s: float) -> float:
        """Seconds that are left at a moment; infinity without a bound."""
        left_s = math.inf if self.deadline_ms is None else self.deadline_ms / 1000
        if self.max_age_ms is not None and self.captured_at is not None:
            age_s = max(0.0, unix_s - unix_seconds(self.captured_at))  # clocks may differ
            left_s = min(left_s, self.max_age_ms / 1000 - age_s)
        return left_s

    def silence_s(self, unix_s: float) -> float:
        """Seconds after which a service of which nothing at all is heard counts as gone; infinity without a bound."""
        return max(_SHORTEST_SILENCE_S, 3 * self.left_s(unix_s) + GRACE_S)


class _Sent(NamedTuple):
    """A frame of which the service owes word.

    Attributes:
        at_s: When it was sent.
        due_s: Until when an answer is worth having.
        silence_s: For how long nothing at all may be heard.
    """

    at_s: float
    due_s: float
    silence_s: float


class Protocol:
    """The messages of a stream, and who owes whom.

    Args:
        bounds: Those of all frames.
        clock: Seconds from any fixed moment.
        wall: Unix seconds.

    Attributes:
        bounds: Those of all frames.
        credits: Frames that may be sent now.
        model: Which model answers, once the service has said hello.
        settled: What has become of frames and nobody has taken yet.
        ended: Why the stream has ended, once the service has said so, or nothing has been heard of it for too long.
    """

    def __init__(
        self,
        bounds: Bounds = Bounds(),  # noqa: B008 - it cannot be changed
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.credits = 0
        self.model: ModelNote | None = None
        self.settled: deque[StreamResult] = deque()
        self.ended: ClientError | None = None
        self.bounds = bounds
        self._clock = clock
        self._wall = wall
        self._seq = 0
        self._head: dict[str, Any] | None = None
        self._pending: dict[int, _Sent] = {}
        self._given_up: dict[int, _Sent] = {}
        self._heard_s = -math.inf
        self._looked_s = self._listening_s = clock()

    @property
    def pending(self) -> int:
        """Frames that are sent and not settled."""
        return len(self._pending)

    @property
    def is_unheard(self) -> bool:
        """Whether nothing at all has been heard yet, or since a frame should have been settled that was given up."""
        return self._heard_s == -math.inf or any(sent.due_s >= self._heard_s for sent in self._given_up.values())

    def sent(self, bounds: Bounds = Bounds()) -> int:  # noqa: B008 - it cannot be changed
        """A frame is sent, with bounds of its own, perhaps: which it is."""
        now_s, unix_s, true = self._clock(), self._wall(), bounds.over(self.bounds)
        self._pending[self._seq] = _Sent(now_s, now_s + true.left_s(unix_s), true.silence_s(unix_s))
        self.credits -= 1
        self._seq += 1
        return self._seq - 1

    def has_room(self, in_flight: int | None) -> bool:
        """Whether to send another frame beside those in flight, to who takes the newest and is not far behind."""
        is_free = self.credits > 0 and (in_flight is None or self.pending < in_flight)
        return is_free and not self.is_full

    @property
    def is_full(self) -> bool:
        """Whether too many results wait to be taken."""
        return len(self.settled) >= _MOST_UNTAKEN

    def patience_s(self, most_s: float) -> float:
        """For how long a message is to be waited for, this at most, before it is looked at what has become late."""
        due_s = min((sent.due_s for sent in self._pending.values()), default=math.inf)
        return min(most_s, max(0.0, due_s + GRACE_S - self._clock()))

    def expire(self) -> None:
        """Settle what nothing has been heard of within its time: the service, or the way to it, stands still.

        If it does so for long, the stream has ended: frames that are given up keep their credits, so no other could be
        sent, and nothing would ever be said again. To be called when no message lies there unread.
        """
        now_s = self._clock()
        for seq in [seq for seq, sent in self._pending.items() if now_s >= sent.due_s + GRACE_S]:
            sent = self._given_up[seq] = self._pending.pop(seq)
            was_old = sent.due_s <= sent.at_s
            why = "it was too old when it was sent" if was_old else "nothing has been heard of the service"
            self.settled.append(StreamResult(seq, None, _too_late(why)))
        if now_s - self._looked_s > _AWAY_S:
            self._listening_s = now_s
        self._looked_s = now_s
        if self.ended is None and self._is_gone(now_s):
            self.ended = Unreachable("expected word of the service, nothing has been heard of it for several deadlines")

    def _is_gone(self, now_s: float) -> bool:
        since_s = max(self._heard_s, self._listening_s)
        owed = (*self._given_up.values(), *self._pending.values())
        return any(now_s - max(since_s, sent.at_s) >= sent.silence_s for sent in owed)

    def supersede(self) -> None:
        """Let the newest answer that nobody has taken be the only one."""
        newest = max((result.seq for result in self.settled if result.answer is not None), default=None)
        if newest is not None:
            self.settled = deque(
                StreamResult(result.seq, None, _superseded())
                if result.answer is not None and result.seq != newest
                else result
                for result in self.settled
            )

    def take_newest(self) -> StreamResult | None:
        """The newest answer, if there is one, else what was settled first; None if there is nothing.

        Older answers that nobody has taken are superseded by it. It comes before them: who looks at one result in the
        time of several frames would find nothing else.
        """
        self.supersede()
        found = next((result for result in self.settled if result.answer is not None), None)
        if found is None:
            return self.settled.popleft() if self.settled else None
        self.settled.remove(found)
        return found

    def receive(self, message: str | bytes) -> None:
        """Take a message of the service.

        Raises:
            ServiceRefused: The service ends the stream.
            AnswerUnreadable: It is no message of this protocol.
        """
        self._heard_s = self._looked_s = self._clock()
        try:
            if isinstance(message, bytes):
                self._receive_body(message)
            else:
                self._receive_text(json.loads(message))
        except ServiceRefused:
            raise
        except Exception as error:  # whatever json, zipfile, zlib and numpy raise of what is not ours
            self.ended = AnswerUnreadable(f"expected a message of robomask's stream, got {message[:80]!r}: {error!r}")
            raise self.ended from error

    def _receive_text(self, document: Mapping[str, Any]) -> None:
        kind = document["type"]
        if kind == "hello":
            self.model = read_model(document["model"])
            self.credits = int(document["credits"])
        elif kind == "answer" and "answer" in document:
            request_id = str(document.get("request_id", ""))
            self._settle(document["seq"], read_json(document["answer"], request_id), None)
        elif kind == "answer":
            self._head = dict(document)
        elif kind == "superseded":
            self._settle(document["seq"], None, _superseded())
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
        model = read_model(head["model"]) if "model" in head else self.model
        age_ms = head.get("age_ms")
        answer = Segmentation(
            read_arrays(content, head.get("confidence")),
            model,
            timing,
            str(head.get("request_id", "")),
            None if age_ms is None else float(age_ms),
        )
        self._settle(head["seq"], answer, None)

    def _settle(self, seq: int, answer: Segmentation | None, error: ServiceRefused | None) -> None:
        self.credits += 1
        sent = self._pending.pop(int(seq), None)
        if sent is None:
            self._given_up.pop(int(seq), None)
            return
        if answer is not None and self._clock() > sent.due_s:
            answer, error = None, _too_late("got it later")
        self.settled.append(StreamResult(int(seq), answer, error))


def _superseded() -> Superseded:
    return Superseded("a newer frame of this stream took this one's place", status=409, code="superseded")


def _too_late(instead: str) -> DeadlineExceeded:
    return DeadlineExceeded(f"expected an answer while it is worth having, {instead}", status=504)


def stream_address(url: str, options: Options) -> str:
    """The address of a stream, with all that is true of every frame in its query.

    >>> stream_address("http://host:8000", {"deadline_ms": 100, "probability": True})
    'ws://host:8000/stream?probability=true&accept=application%2Fx-npz&deadline_ms=100'

    Raises:
        TypeError: There is no such option, or none of a whole stream.
        ValueError: A bound that is no number.
    """
    if "captured_at" in options:
        raise TypeError("expected options of a whole stream, got captured_at; `send` takes it, and `Captured` has it")
    query = query_of(options)
    query["accept"] = NPZ if options.get("probability") else JSON
    bounds = bounds_of(options)._asdict()
    query |= {name: f"{value:g}" for name, value in bounds.items() if value is not None}
    parts = urlsplit(url)
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    return f"{scheme}://{parts.netloc}{parts.path.rstrip('/')}/stream?{urlencode(query)}"


def bounds_of(options: Options) -> Bounds:
    """The bounds of all frames of a stream.

    Raises:
        ValueError: One is no number.
    """
    return Bounds(
        deadline_ms=bound_ms("deadline_ms", options.get("deadline_ms")),
        max_age_ms=bound_ms("max_age_ms", options.get("max_age_ms")),
    )


def stream_headers(options: Options, headers: Mapping[str, str]) -> dict[str, str]:
    """The headers of the request that becomes the stream: those of every request, and the stream's name.

    >>> stream_headers({"stream_id": "wrist"}, {})
    {'X-Stream-Id': 'wrist'}

    Raises:
        ValueError: A name that no header can hold.
    """
    named = headers_of(options, None).get(STREAM_ID)
    return dict(headers) if named is None else {**headers, STREAM_ID: named}


def note_of(bounds: Bounds, of_stream: Bounds = Bounds()) -> str | None:  # noqa: B008 - it cannot be changed
    """The message that says what is true of the next frame alone; None if there is nothing to say.

    Args:
        bounds: The frame's.
        of_stream: Those of all frames, of which one without end stands in for none.

    >>> note_of(Bounds(captured_at=12.5, max_age_ms=100))
    '{"captured_at": 12.5, "max_age_ms": 100}'

    Raises:
        ValueError: A bound that is no number.
    """
    said = {} if bounds.captured_at is None else {"captured_at": unix_seconds(bounds.captured_at)}
    for name, own, others in (
        ("deadline_ms", bounds.deadline_ms, of_stream.deadline_ms),
        ("max_age_ms", bounds.max_age_ms, of_stream.max_age_ms),
    ):
        value = bound_ms(name, own)
        if value is None and own is not None and others is not None:
            value = _LONGEST_MS
        if value is not None:
            said[name] = value
    return json.dumps(said) if said else None
