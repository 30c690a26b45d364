"""The query of `/segment`: every parameter known, given once, and in range, or a 422 that says which is not."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeVar, get_args
from urllib.parse import parse_qsl

from service.errors import ParameterInvalid, quoted
from service.frames.geometry import Fit

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["PARAMETERS", "LatentsType", "Query", "Size", "parse_query", "read_query"]

Size = Literal["input", "model"]
LatentsType = Literal["float32", "float16"]

_Choice = TypeVar("_Choice", bound=str)


@dataclass(frozen=True, slots=True)
class Query:
    """What `/segment` was asked for.

    Attributes:
        threshold: From which probability a pixel is robot; None for the bundle's own.
        latents: Whether to answer with latents.
        latents_dtype: In which type of number.
        probability: Whether to answer with probabilities.
        size: Masks at the frame's size or at the model's 64x64.
        fit: How a frame becomes 64x64.
        model: The model that has to answer; None for whichever serves.
        version: Its version; None for whichever serves.
        width: Width of raw frames in pixels.
        height: Height of raw frames in pixels.
    """

    threshold: float | None = None
    latents: bool = False
    latents_dtype: LatentsType = "float32"
    probability: bool = False
    size: Size = "input"
    fit: Fit = "stretch"
    model: str | None = None
    version: int | None = None
    width: int | None = None
    height: int | None = None


PARAMETERS: Final = tuple(Query.__dataclass_fields__)


def parse_query(query_string: bytes) -> Query:
    """Read a query string as it came.

    Raises:
        ParameterInvalid: A parameter is unknown, comes twice, or is out of its range.
    """
    return read_query(parse_qsl(query_string.decode("latin-1"), keep_blank_values=True))


def read_query(items: Iterable[tuple[str, str]]) -> Query:
    """Read the decoded pairs of a query string.

    Raises:
        ParameterInvalid: A parameter is unknown, comes twice, or is out of its range.
    """
    pairs = list(items)
    if not pairs:
        return Query()
    counts = Counter(name for name, _ in pairs)
    for name, count in counts.items():
        if name not in PARAMETERS:
            raise ParameterInvalid(f"expected parameters among {', '.join(PARAMETERS)}, got {quoted(name)}")
        if count > 1:
            raise ParameterInvalid(f"expected {name} once, got it {count} times")
    given = dict(pairs)
    if "latents_dtype" in given and given.get("latents") != "true":
        raise ParameterInvalid("expected latents_dtype only beside latents=true, got it alone; add latents=true")
    return Query(
        threshold=_ratio(given, "threshold"),
        latents=_flag(given, "latents"),
        latents_dtype=_one_of(given, "latents_dtype", get_args(LatentsType), "float32"),
        probability=_flag(given, "probability"),
        size=_one_of(given, "size", get_args(Size), "input"),
        fit=_one_of(given, "fit", get_args(Fit), "stretch"),
        model=given.get("model"),
        version=_count(given, "version"),
        width=_count(given, "width"),
        height=_count(given, "height"),
    )


def _ratio(given: Mapping[str, str], name: str) -> float | None:
    if name not in given:
        return None
    try:
        value = float(given[name])
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:  # not a number is neither
        raise ParameterInvalid(f"expected {name} as a number from 0 to 1, got {quoted(given[name])}")
    return value


def _flag(given: Mapping[str, str], name: str) -> bool:
    return _one_of(given, name, ("true", "false"), "false") == "true"


def _one_of(given: Mapping[str, str], name: str, choices: tuple[_Choice, ...], default: _Choice) -> _Choice:
    value = given.get(name, default)
    for choice in choices:
        if choice == value:
            return choice
    raise ParameterInvalid(f"expected {name} to be {' or '.join(choices)}, got {quoted(value)}")


def _count(given: Mapping[str, str], name: str) -> int | None:
    if name not in given:
        return None
    text = given[name]
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and int(text) >= 1):
        raise ParameterInvalid(f"expected {name} as a whole number from 1 on, got {quoted(text)}")
    return int(text)
