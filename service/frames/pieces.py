"""Pictures made of more pieces than any camera writes, told before a decoder goes through them one by one.

Pixels say how long a picture takes to decode only as long as each is met once. A JPEG of several scans goes over all of
them in each; and Pillow walks through segments and chunks in Python, and keeps what it finds in them.

Sources: ITU-T T.81, annex B; Portable Network Graphics (PNG) Specification, third edition, section 5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from PIL.JpegImagePlugin import MARKER

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["PiecesError", "check_pieces", "is_plain_png"]

_MOST_SCANS: Final = 64  # libjpeg writes ten, other encoders a few more
_MOST_SEGMENTS: Final = 1024
_MOST_NOTES: Final = 16
"""Segments of EXIF and of Photoshop: Pillow joins the former anew at each, and looks into every part of the latter."""
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE: Final = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_START_OF_SCAN: Final = 0xDA
_NOTES: Final = frozenset({b"Exif", b"Phot"})

_MOST_CHUNKS: Final = 256
_MOST_DATA_CHUNKS: Final = 4096
_DATA_BYTES: Final = 1024
"""Beyond some thousand chunks of pixels each has to be as long as this on average; most encoders write 8 KiB."""
_DATA: Final = frozenset({b"IDAT", b"fdAT", b"fcTL"})
_PLAIN: Final = frozenset({b"PLTE", b"tRNS", b"IDAT", b"IEND", b"gAMA", b"cHRM", b"sRGB", b"pHYs", b"tEXt", b"tIME"})
_PLAIN_CHUNKS: Final = 16


class PiecesError(ValueError):
    """The reason is a half-sentence."""


def check_pieces(content: bytes, name: str) -> None:
    """Refuse a picture of too many pieces; whether it is whole is for its decoder to say.

    Args:
        content: The encoded picture.
        name: Its format, as `format_of` has it.

    Raises:
        PiecesError: It has too many.
    """
    if name == "JPEG":
        _check_jpeg(content)
    elif name == "PNG":
        _check_png(content)


def is_plain_png(content: bytes) -> bool:
    """Whether a PNG has a header, pixels and little else: nothing that is compressed or read apart from the pixels."""
    if content[12:16] != b"IHDR":
        return False
    for index, kind in enumerate(_chunks(content)):
        if index and (kind not in _PLAIN or index == _PLAIN_CHUNKS):
            return False  # a second header too: it would be believed
    return True


def _check_png(content: bytes) -> None:
    chunks = data = 0
    most_data = _MOST_DATA_CHUNKS + len(content) // _DATA_BYTES
    for kind in _chunks(content):
        if kind in _DATA:
            data += 1
        else:
            chunks += 1
        if data > most_data or chunks > _MOST_CHUNKS:
            raise PiecesError(f"more than {most_data} chunks of pixels or {_MOST_CHUNKS} others")


def _chunks(content: bytes) -> Iterator[bytes]:
    """The kind of every chunk of a PNG."""
    position = 8
    while position + 8 <= len(content):
        yield content[position + 4 : position + 8]
        position += 12 + int.from_bytes(content[position : position + 4], "big")


def _check_jpeg(content: bytes) -> None:
    """Walk from marker to marker as Pillow does, up to the first scan, and count the scans from there."""
    pieces = notes = components = 0
    progressive = False
    for code, position, steps in _segments(content):
        pieces += steps
        notes += content[position + 2 : position + 6] in _NOTES and code in {0xE1, 0xED}
        if pieces > _MOST_SEGMENTS or notes > _MOST_NOTES:
            raise PiecesError(f"more than {_MOST_SEGMENTS} segments, or {_MOST_NOTES} of EXIF and the like")
        if code == _START_OF_SCAN:
            in_scan = int.from_bytes(content[position + 2 : position + 3], "big")
            # A first scan of all components is the only one; pixels of it are never mistaken for a marker.
            if (progressive or in_scan < components) and content.count(b"\xff\xda", position) >= _MOST_SCANS:
                raise PiecesError(f"{_MOST_SCANS} scans or more")
        elif code in _FRAMES:
            progressive = code in _PROGRESSIVE
            components = int.from_bytes(content[position + 7 : position + 8], "big")


def _segments(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Code and place of every segment up to the first scan, and how many steps of Pillow's it takes to get there."""
    position, steps = 2, 0
    while (start := content.find(b"\xff", position)) >= 0 and start + 1 < len(content):
        steps += 1 + start - position
        code = content[start + 1]
        position = start + (1 if code == 0xFF else 2)
        if code not in {0x00, 0xFF}:
            if 0xFF00 | code not in MARKER:
                return  # Pillow refuses it
            if MARKER[0xFF00 | code][2] is not None:
                yield code, position, steps
                if code == _START_OF_SCAN:
                    return
                position += max(2, int.from_bytes(content[position : position + 2], "big"))
                steps = 0
        if steps > _MOST_SEGMENTS:
            raise PiecesError(f"more than {_MOST_SEGMENTS} bytes between two segments")
