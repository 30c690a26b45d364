"""What `segment` can be asked for, as query and headers of the request."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Final, Literal, TypedDict

from service.client.results import JSON, NPZ

__all__ = ["GRACE_S", "STREAM_ID", "Options", "bound_ms", "deadline_s", "headers_of", "query_of", "unix_seconds"]

GRACE_S: Final = 0.25
"""How long after a deadline the service's own refusal, which says more than a timeout, is still waited for."""
STREAM_ID: Final = "X-Stream-Id"


class Options(TypedDict, total=False):
    """Keyword arguments of `segment`.

    threshold: From which probability a pixel is robot, 0..1; by default the model's own.
    probability: Whether to answer with probabilities.
    latents: Whether to answer with the encoder's features.
    latents_dtype: Their form; float16 is half the bytes.
    size: Masks at the frame's own size or at the model's 64x64.
    fit: How a frame that is not square becomes 64x64.
    model: The model that has to answer.
    version: Its version.
    deadline_ms: Milliseconds within which the answer is worth having; tries and waits included.
    captured_at: When the frame was taken: an aware datetime, or Unix seconds.
    max_age_ms: Milliseconds after which the frame is too old to be worth an answer; goes with `captured_at`.
    stream_id: Frames of one stream replace each other: only the newest is answered. None is asked again: it would pass
        for the newest. A model on trial answers a stream always or never, by this name.
    """

    threshold: float
    probability: bool
    latents: bool
    latents_dtype: Literal["float32", "float16"]
    size: Literal["input", "model"]
    fit: Literal["stretch", "pad", "crop"]
    model: str
    version: int
    deadline_ms: float
    captured_at: datetime | float
    max_age_ms: float
    stream_id: str


_LONGEST_ID: Final = 128
_QUERY: Final = ("threshold", "latents_dtype", "size", "fit", "model", "version")


def query_of(options: Options) -> dict[str, str]:
    """The parameters of the address.

    >>> query_of({"threshold": 0.4, "latents": True})
    {'threshold': '0.4', 'latents': 'true'}

    Raises:
        TypeError: There is no such option.
    """
    if unknown := options.keys() - Options.__annotations__.keys():
        raise TypeError(f"expected options of segment ({', '.join(Options.__annotations__)}), got {sorted(unknown)}")
    query = {name: str(options[name]) for name in _QUERY if options.get(name) is not None}
    return query | {name: "true" for name in ("latents", "probability") if options.get(name)}


def bound_ms(name: str, value: float | None) -> float | None:
    """A bound in milliseconds; None if there is none, as where it is infinite.

    >>> bound_ms("deadline_ms", 100), bound_ms("max_age_ms", math.inf)
    (100, None)

    Raises:
        ValueError: Not a number.
    """
    if value is None or value == math.inf:
        return None
    if math.isnan(value):
        raise ValueError(f"expected {name} in milliseconds, got a number that is none (NaN)")
    return value


def deadline_s(options: Options) -> float | None:
    """Seconds within which an answer is worth having; None if it always is.

    >>> deadline_s({"deadline_ms": 100}), deadline_s({"deadline_ms": math.inf})
    (0.1, None)

    Raises:
        ValueError: Not a number.
    """
    deadline_ms = bound_ms("deadline_ms", options.get("deadline_ms"))
    return None if deadline_ms is None else deadline_ms / 1000


def headers_of(options: Options, remaining_s: float | None) -> dict[str, str]:
    """The headers that say which form of answer is wanted and how long it is worth having.

    Args:
        options: What was asked for.
        remaining_s: Seconds that are left of the deadline.

    >>> headers_of({"stream_id": "left"}, 0.05)
    {'Accept': 'application/json', 'X-Deadline-Ms': '50', 'X-Stream-Id': 'left'}

    Raises:
        ValueError: A name of a stream, a moment, or a bound that no header can hold.
    """
    headers = {"Accept": NPZ if options.get("probability") else JSON}
    if remaining_s is not None:
        headers["X-Deadline-Ms"] = f"{remaining_s * 1000:.6g}"
    captured = options.get("captured_at")
    if captured is not None:
        headers["X-Captured-At"] = f"{unix_seconds(captured):.6f}"
    if (age := bound_ms("max_age_ms", options.get("max_age_ms"))) is not None:
        headers["X-Max-Age-Ms"] = f"{age:g}"
    if (stream := options.get("stream_id")) is not None:
        if not (stream.isascii() and stream.isprintable() and 1 <= len(stream.strip()) == len(stream) <= _LONGEST_ID):
            raise ValueError(
                f"expected stream_id in ASCII, 1 to {_LONGEST_ID} printable characters, as HTTP's headers hold them, "
                f"got {stream!r}"
            )
        headers[STREAM_ID] = stream
    return headers


def unix_seconds(moment: datetime | float) -> float:
    """A moment in Unix seconds.

    Raises:
        ValueError: A datetime without a time zone, which might mean anything.
    """
    if not isinstance(moment, datetime):
        return float(moment)
    if moment.tzinfo is None:
        raise ValueError(f"expected captured_at with a time zone, or in Unix seconds, got {moment}")
    return moment.timestamp()
