"""Write masks as PNG, several times as fast as a general encoder: one filter, and run lengths in place of a search.

Source: Portable Network Graphics (PNG) Specification, third edition, sections 5 and 11.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["write_grey"]

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_GREY_8_BIT: Final = (8, 0, 0, 0, 0)  # bit depth, colour type, compression, filter method, no interlace


def write_grey(mask: NDArray[np.uint8]) -> bytes:
    """A mask [H,W] of 0 and 1 as an 8-bit grey PNG of 0 and 255."""
    height, width = mask.shape
    lines = np.zeros((height, 1 + width), np.uint8)  # each begins with its filter: 0, none
    np.multiply(mask, np.uint8(255), out=lines[:, 1:])
    packer = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_RLE)
    packed = packer.compress(lines.data) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, *_GREY_8_BIT)
    return b"".join((_SIGNATURE, _chunk(b"IHDR", header), _chunk(b"IDAT", packed), _chunk(b"IEND", b"")))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))
