"""Write masks as PNG, many times as fast as a general encoder: one filter, a quick packer, and only lines with robot.

Lines without any pack to the same few bytes every time; those are kept. What is packed apart is put together by what
DEFLATE is made of, blocks, and by the rule of Adler's sum.

Sources: Portable Network Graphics (PNG) Specification, third edition, sections 5 and 11; RFC 1950, section 8; RFC 1951,
section 3.2.
"""

from __future__ import annotations

import struct
import zlib
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from isal import isal_zlib

if TYPE_CHECKING:
    from service.frames.patch import Patch

__all__ = ["write_grey"]

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_LEVEL: Final = 1
"""As small as zlib's run lengths make a mask, in a fifteenth of the time; level 0 would be five times as large."""
_GREY_8_BIT: Final = (8, 0, 0, 0, 0)  # bit depth, colour type, compression, filter method, no interlace
_STREAM: Final = b"\x78\x01"  # the start of a zlib stream: a window of 32 KiB, packed quickly
_LAST_BLOCK: Final = b"\x03\x00"  # an empty one that says so
_ADLER: Final = 65521


def write_grey(mask: Patch) -> bytes:
    """A mask as an 8-bit grey PNG of 0 and 255."""
    header = struct.pack(">IIBBBBB", mask.width, mask.height, *_GREY_8_BIT)
    return b"".join((_SIGNATURE, _chunk(b"IHDR", header), _chunk(b"IDAT", _packed(mask)), _chunk(b"IEND", b"")))


def _packed(mask: Patch) -> bytes:
    """The lines of a mask, each after its filter, 0 for none, as a zlib stream."""
    height, length = len(mask.inside), 1 + mask.width
    below = mask.height - mask.top - height
    lines = np.zeros((height, length), np.uint8)
    mask._replace(top=0, height=height).paste(lines[:, 1:], ink=255)
    check = isal_zlib.adler32(lines.data, _followed_by_zeros(1, mask.top * length))
    check = _followed_by_zeros(check, below * length)
    parts = (*_black(mask.top, length), _blocks(lines.data), *_black(below, length))
    return b"".join((_STREAM, *parts, _LAST_BLOCK, struct.pack(">I", check)))


def _black(count: int, length: int) -> list[bytes]:
    """Blocks of so many lines of zeros, each of so many bytes."""
    return [_black_lines(power, length) for power in range(count.bit_length()) if count >> power & 1]


@lru_cache(maxsize=256)
def _black_lines(power: int, length: int) -> bytes:
    return _blocks(bytes(length << power))


def _blocks(content: Any) -> bytes:
    """Bytes packed into blocks that need none before them, up to the end of a byte."""
    packer = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, -15)
    return packer.compress(content) + packer.flush(isal_zlib.Z_FULL_FLUSH)


def _followed_by_zeros(check: int, count: int) -> int:
    """Adler's sum of what has this one, and so many zeros after it."""
    low, high = check & 0xFFFF, check >> 16
    return (high + count * low) % _ADLER << 16 | low


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))
