"""Read `multipart/form-data` that is wholly in memory: the parts named `frame`, and nothing else.

Source: RFC 7578; the parsing itself is python-multipart's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from python_multipart.multipart import MultipartParser, parse_options_header

from service.errors import BodyMalformed, quoted

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Part", "read_multipart"]

_LONGEST_NAME: Final = 255


class Part(NamedTuple):
    """A frame among several.

    Attributes:
        content: The encoded picture.
        name: The part's file name, cut if it is long; to tell cameras apart.
    """

    content: bytes
    name: str | None


def read_multipart(body: bytes, content_type: str, check_count: Callable[[int], None]) -> list[Part]:
    """Every part, in order; each has to be named `frame`.

    Args:
        body: The whole body.
        content_type: The request's content type, which names the boundary.
        check_count: Called with the number of parts so far, to say no if they are too many.

    Raises:
        BodyMalformed: Not such a body, cut off, without a part, or with a part of another name.
    """
    boundary = _options(content_type).get(b"boundary")
    if not boundary or len(boundary) > 70:  # RFC 2046, 5.1.1
        raise BodyMalformed(
            "expected a boundary of 1 to 70 characters in the content type of multipart/form-data, got "
            f"{quoted(content_type)}; let the HTTP library write this header"
        )
    parts = _Parts(check_count)
    parser = MultipartParser(
        boundary,
        {
            "on_part_begin": parts.begin,
            "on_header_field": parts.header_name,
            "on_header_value": parts.header_value,
            "on_header_end": parts.header_end,
            "on_part_data": parts.data,
            "on_part_end": parts.end,
            "on_end": parts.finish,
        },
    )
    try:
        parser.write(body)
        parser.finalize()
    except (TypeError, ValueError) as error:  # the parser's own errors are of the latter kind
        raise _malformed(error) from error
    if not parts.finished:
        raise BodyMalformed("expected multipart/form-data up to its closing boundary, got a body that is cut off")
    if not parts.contents:
        raise BodyMalformed("expected at least one part named 'frame', got none")
    return parts.contents


def _options(header: str | bytes) -> dict[bytes, bytes]:
    """What a header says behind its first value.

    Raises:
        BodyMalformed: It cannot be read.
    """
    try:
        return parse_options_header(header)[1]
    except (TypeError, ValueError) as error:  # extended parameters that contradict themselves, numbers without end
        raise _malformed(error) from error


def _malformed(error: Exception) -> BodyMalformed:
    return BodyMalformed(f"expected multipart/form-data, got a body that breaks its rules: {error}")


class _Parts:
    """Collects what the parser reports."""

    def __init__(self, check_count: Callable[[int], None]) -> None:
        self.contents: list[Part] = []
        self.finished = False
        self._check_count = check_count
        self._pieces: list[bytes] = []
        self._name = self._value = b""
        self._disposition = b""

    def begin(self) -> None:
        self._check_count(len(self.contents) + 1)
        self._pieces, self._disposition = [], b""

    def header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def header_end(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = self._value
        self._name = self._value = b""

    def data(self, data: bytes, start: int, end: int) -> None:
        self._pieces.append(data[start:end])

    def end(self) -> None:
        options = _options(self._disposition)
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if name != "frame":
            raise BodyMalformed(f"expected every part to be named 'frame', got {quoted(name)}: curl -F frame=@x.png")
        file_name = options.get(b"filename", b"").decode("utf-8", "replace")[:_LONGEST_NAME]
        self.contents.append(Part(b"".join(self._pieces), file_name or None))

    def finish(self) -> None:
        self.finished = True
