"""Read `multipart/form-data` that is wholly in memory: the parts named `frame`, and nothing else.

Source: RFC 7578; the parsing itself is python-multipart's.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from python_multipart.multipart import MultipartParser, parse_options_header

from service.errors import BodyMalformed, quoted

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Part", "read_multipart"]

_LONGEST_NAME: Final = 255
_LINE_END: Final = re.compile(rb"[ \t]{0,64}\r\n")


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
    _check_boundaries(body, boundary, check_count)
    parts = _Parts()
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


def _check_boundaries(body: bytes, boundary: bytes, check_count: Callable[[int], None]) -> None:
    """Say no to lines that begin like a boundary and are none, and to too many that are one, before any is parsed.

    The parser goes byte by byte through each of them and the blanks behind it: half a second for a megabyte. Frames do
    not have any: a boundary is chosen so that no line of theirs begins with it (RFC 2046, section 5.1.1).

    Raises:
        BodyMalformed: There is such a line.
    """
    delimiter = b"--" + boundary
    line = b"\r\n" + delimiter
    after = len(delimiter) if body.startswith(delimiter) else _behind(body, line, 0)
    count = 0
    while after is not None and not body.startswith(b"--", after):  # what comes behind the last is skipped
        count += 1
        check_count(count)
        if not _LINE_END.match(body, after):
            raise BodyMalformed(
                "expected a boundary of multipart/form-data to end its line, got one with more behind it: "
                f"{body[after - len(delimiter) : after + 20]!r}; let the HTTP library write the body"
            )
        after = _behind(body, line, after)


def _behind(body: bytes, what: bytes, start: int) -> int | None:
    found = body.find(what, start)
    return None if found < 0 else found + len(what)


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

    def __init__(self) -> None:
        self.contents: list[Part] = []
        self.finished = False
        self._pieces: list[bytes] = []
        self._name = self._value = b""
        self._disposition = b""

    def begin(self) -> None:
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
