"""Write masks as PNG, many times as fast as a general encoder: one filter, and a quick packer.

Source: Portable Network Graphics (PNG) Specification, third edition, sections 5 and 11.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Final

import numpy as np
from isal import isal_zlib

if TYPE_CHECKING:
    from service.frames.patch import Patch

__all__ = ["write_grey"]

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_LEVEL: Final = 1
"""As small as zlib's run lengths make a mask, in a fifteenth of the time; level 0 would be five times as large."""
_GREY_8_BIT: Final = (8, 0, 0, 0, 0)  # bit depth, colour type, compression, filter method, no interlace


def write_grey(mask: Patch) -> bytes:
    """A mask as an 8-bit grey PNG of 0 and 255."""
    lines = np.zeros((mask.height, 1 + mask.width), np.uint8)  # each begins with its filter: 0, none
    mask.paste(lines[:, 1:], ink=255)
    packed = isal_zlib.compress(lines.data, _LEVEL)
    header = struct.pack(">IIBBBBB", mask.width, mask.height, *_GREY_8_BIT)
    return b"".join((_SIGNATURE, _chunk(b"IHDR", header), _chunk(b"IDAT", packed), _chunk(b"IEND", b"")))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))
