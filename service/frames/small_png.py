"""Small PNGs as robots write them, header, RGB pixels, end: read in half a dozen steps.

Pillow's reader looks at every chunk of a PNG for all that one may hold, and its decoder unpacks line by line, which for
short lines takes zlib three times as long as in one go. Here the lines are unpacked first, and its decoder is given
them to undo their filters. Of larger frames that would be a small part of the time, and a second copy in memory.

Sources: Portable Network Graphics (PNG) Specification, third edition, sections 5, 9 and 11; RFC 1950; RFC 1951, section
3.2.4.
"""

from __future__ import annotations

import struct
import zlib
from typing import Final, NamedTuple

from isal import isal_zlib
from PIL import Image

__all__ = ["SmallPng", "small_png"]

_HEADER: Final = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
_RGB_8_BIT: Final = bytes((8, 2, 0, 0, 0))  # bit depth, colour type, compression, filter method, no interlace
_FIRST_CHUNK: Final = len(_HEADER) + 13 + 4
_END: Final = b"\0\0\0\0IEND\xaeB`\x82"
_CHUNK: Final = struct.Struct(">I4s")
_MOST_PIECES: Final = 256
_STORED: Final = b"\x78\x01\x01"  # the start of a zlib stream, and of a last block that is not compressed
_MOST_STORED: Final = 0xFFFF


class SmallPng(NamedTuple):
    """What such a PNG has.

    Attributes:
        size: Width and height in pixels, as its header says.
        packed: Its pixels, filtered and compressed.
    """

    size: tuple[int, int]
    packed: bytes

    def image(self) -> Image.Image | None:
        """The picture, RGB; None if it is damaged, or so much out of the ordinary that Pillow is to look at it."""
        count = _line_bytes(*self.size)
        try:
            lines = isal_zlib.decompressobj().decompress(self.packed, count)
            stored = b"".join((_STORED, struct.pack("<HH", count, count ^ _MOST_STORED), lines))
            return Image.frombytes("RGB", self.size, stored, "zip", "RGB")
        except (isal_zlib.error, ValueError):  # type: ignore[misc] # a class, whatever its stub says
            return None


def small_png(content: bytes) -> SmallPng | None:
    """Read the chunks of a PNG of a few 8-bit RGB pixels that has no others than it must.

    Returns:
        None if the content is anything else, such as a damaged one or one in very many pieces: that is for Pillow.
    """
    if not content.startswith(_HEADER) or not content.endswith(_END) or content[24:29] != _RGB_8_BIT:
        return None
    width, height, check = struct.unpack_from(">II5xI", content, 16)
    if not 0 < _line_bytes(width, height) <= _MOST_STORED or not width or check != zlib.crc32(content[12:29]):
        return None
    pieces: list[bytes] = []
    position, end = _FIRST_CHUNK, len(content) - len(_END)
    while position < end:
        length, kind = _CHUNK.unpack_from(content, position)  # there are as many bytes: the end is longer
        if kind != b"IDAT" or len(pieces) == _MOST_PIECES:
            return None
        pieces.append(content[position + 8 : position + 8 + length])
        position += 12 + length
    return SmallPng((width, height), pieces[0] if len(pieces) == 1 else b"".join(pieces)) if position == end else None


def _line_bytes(width: int, height: int) -> int:
    return height * (1 + 3 * width)  # every line begins with its filter
