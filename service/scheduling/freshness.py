"""How long a frame is worth an answer: what `X-Deadline-Ms`, `X-Captured-At`, `X-Max-Age-Ms` and `X-Stream-Id` say."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from service.errors import DeadlineMissed, FrameTooOld, ParameterInvalid, Stale, quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

__all__ = ["HEADERS", "STREAM", "Freshness", "Names", "read_freshness", "wall_at"]

DEADLINE: Final = b"x-deadline-ms"
CAPTURED: Final = b"x-captured-at"
MAX_AGE: Final = b"x-max-age-ms"
STREAM: Final = b"x-stream-id"
HEADERS: Final = frozenset({DEADLINE, CAPTURED, MAX_AGE, STREAM})

_LONGEST_MS: Final = 3_600_000.0
_SKEW_S: Final = 60.0
_LONGEST_ID: Final = 128
_MILLISECONDS: Final = 1e11  # seconds until the year 5138; as milliseconds, the year 1973


class Names(NamedTuple):
    """What the client calls them, for the errors."""

    deadline: str = "X-Deadline-Ms"
    captured: str = "X-Captured-At"
    max_age: str = "X-Max-Age-Ms"


_HTTP: Final = Names()


class Freshness(NamedTuple):
    """When a frame was taken and until when its answer is wanted, in seconds of `time.perf_counter`.

    Attributes:
        arrived_s: When its request came.
        due_s: When the answer has to be there; infinity if it may take its time.
        captured_s: When the frame was taken, if known, by a clock that may be a little ahead: frames of one camera keep
            their order by it, but none is younger than new.
        by_age: Whether it is the frame's age that sets `due_s`, not the client's budget.
        stream: The stream that the frame belongs to, if any; only its newest frame is wanted.
        order: Its place among the frames of its stream, where that is known.
    """

    arrived_s: float = 0.0
    due_s: float = math.inf
    captured_s: float | None = None
    by_age: bool = False
    stream: Hashable | None = None
    order: int | None = None

    @property
    def newness(self) -> float:
        """Of two frames of one stream, the one with more is the newer."""
        if self.order is not None:
            return self.order
        return self.arrived_s if self.captured_s is None else self.captured_s

    def age_s(self, now_s: float) -> float | None:
        """How old the frame is, if that is known."""
        return None if self.captured_s is None else max(0.0, now_s - self.captured_s)

    def missed(self, reason: str) -> Stale:
        """The error for a frame that does not make it; the reason is a half-sentence that says why."""
        if self.by_age and self.captured_s is not None:
            most = (self.due_s - min(self.captured_s, self.arrived_s)) * 1000
            return FrameTooOld(
                f"expected a frame that is at most {most:.0f} ms old when answered, but {reason}; "
                "send a newer one, or allow a greater age"
            )
        budget = (self.due_s - self.arrived_s) * 1000
        return DeadlineMissed(
            f"expected to answer within {budget:.0f} ms of arrival, but {reason}; "
            "send the next frame, or allow more time"
        )


def wall_at(moment_s: float) -> float:
    """A moment of `time.perf_counter` in Unix seconds.

    A request's head may be read a while after it came; taken for one, frames would change their order by that.
    """
    return time.time() - (time.perf_counter() - moment_s)


def read_freshness(
    headers: Mapping[bytes, bytes],
    arrived_s: float,
    wall_s: Callable[[float], float],
    names: Names = _HTTP,
    *,
    stream: Hashable | None = None,
) -> Freshness:
    """Read a request's headers, names in lower case.

    Args:
        headers: The request's.
        arrived_s: When it came, in seconds of `time.perf_counter`.
        wall_s: Tells such a moment in Unix seconds; asked only if a capture time is there to compare.
        names: What the client calls its values.
        stream: The stream that the frame belongs to, if it does not say so itself.

    Raises:
        ParameterInvalid: A value is not what it should be.
        FrameTooOld: The frame is too old already.
    """
    if HEADERS.isdisjoint(headers):
        return Freshness(arrived_s, stream=stream)
    budget_s = _milliseconds(headers, DEADLINE, names.deadline)
    max_age_s = _milliseconds(headers, MAX_AGE, names.max_age)
    stream = _stream(headers) or stream
    due_s = math.inf if budget_s is None else arrived_s + budget_s
    if CAPTURED not in headers:
        if max_age_s is not None:
            raise ParameterInvalid(
                f"expected {names.captured} (Unix seconds) beside {names.max_age}, got none; without it no age is known"
            )
        return Freshness(arrived_s, due_s, stream=stream)
    age_s = _age(headers[CAPTURED], wall_s(arrived_s), names.captured)
    too_old_s = math.inf if max_age_s is None else arrived_s - max(0.0, age_s) + max_age_s
    by_age = too_old_s < due_s
    due_s = min(due_s, too_old_s)
    freshness = Freshness(arrived_s, due_s, arrived_s - age_s, by_age, stream)
    if due_s <= arrived_s:
        raise freshness.missed(f"it was {age_s * 1000:.0f} ms old when it came")
    return freshness


def _number(text: bytes) -> float:
    """The value of a header as a number; not a number if it is none."""
    try:
        return float(text) if len(text) <= 32 and b"_" not in text else math.nan
    except ValueError:
        return math.nan


def _milliseconds(headers: Mapping[bytes, bytes], name: bytes, shown: str) -> float | None:
    text = headers.get(name)
    if text is None:
        return None
    value = _number(text)
    if not 0 < value <= _LONGEST_MS:
        raise ParameterInvalid(
            f"expected {shown} as milliseconds, more than 0 and at most {_LONGEST_MS:.0f}, such as 100, "
            f"got {_shown(text)}"
        )
    return value / 1000


def _age(text: bytes, wall_s: float, shown: str) -> float:
    """Seconds since capture; less than 0 where the camera's clock is a little ahead."""
    captured = _number(text)
    if not 0 < captured < math.inf:
        raise ParameterInvalid(
            f"expected {shown} as Unix seconds, such as {wall_s:.3f}, got {_shown(text)}; in Python that is time.time()"
        )
    age = wall_s - captured
    if age < -_SKEW_S:
        hint = "this looks like milliseconds or finer" if captured > _MILLISECONDS else "check the camera host's clock"
        raise ParameterInvalid(f"expected {shown} as Unix seconds up to now ({wall_s:.3f}), got {_shown(text)}; {hint}")
    return age


def _stream(headers: Mapping[bytes, bytes]) -> str | None:
    text = headers.get(STREAM)
    if text is None:
        return None
    name = text.decode("latin-1")
    if not 1 <= len(name) <= _LONGEST_ID or not (name.isascii() and name.isprintable()):
        raise ParameterInvalid(
            f"expected X-Stream-Id of 1 to {_LONGEST_ID} printable ASCII characters, such as arm-7/wrist, "
            f"got {_shown(text)}"
        )
    return name


def _shown(text: bytes) -> str:
    return quoted(text.decode("latin-1"))
