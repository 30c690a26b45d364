"""Read a `.npy` array of frames without trusting its header.

Source: NumPy's own description of the format, numpy.lib.format.
"""

from __future__ import annotations

import ast
import re
import threading
from typing import TYPE_CHECKING, Final

import numpy as np

from service.errors import BodyMalformed, quoted

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["MAGIC", "read_npy", "shape_of"]

MAGIC: Final = b"\x93NUMPY"
_LONGEST_HEADER: Final = 1024
_WANTED: Final = "expected a .npy array uint8 [H,W,3] or [N,H,W,3] as numpy.save writes it"
_USUAL: Final = re.compile(
    r"\{'descr': '([^'\\]*)', 'fortran_order': (True|False), 'shape': \(((?:[0-9]{1,18}, )+[0-9]{1,18})\), \}"
)
"""As NumPy writes it; other programs may write the same in other ways."""
_PARSING: Final = threading.Lock()
"""Python 3.11 counts the depth of all syntax trees in one place: two at once, and one is a SystemError (gh-106905)."""


def read_npy(body: bytes, admit: Callable[[int, int, int], None]) -> NDArray[np.uint8]:
    """A view of the body as uint8 [N,H,W,3].

    Args:
        body: The file.
        admit: Called with N, H and W before the pixels are looked at, to say no if they are too many.

    Raises:
        BodyMalformed: Not such an array, or more or fewer bytes than its header promises. Nothing is ever unpickled.
    """
    descr, fortran, shape, start = _header(body)
    if descr not in {"|u1", "u1", "<u1", ">u1", "B"}:
        raise BodyMalformed(f"{_WANTED}, got type {quoted(descr)}; convert with array.astype(numpy.uint8)")
    if len(shape) not in {3, 4} or shape[-1] != 3 or min(shape) < 1:
        raise BodyMalformed(f"{_WANTED}, got shape {list(shape[:8])}")
    count, height, width = shape[:3] if len(shape) == 4 else (1, *shape[:2])
    admit(count, height, width)
    wanted, got = count * height * width * 3, len(body) - start
    if got != wanted:
        raise BodyMalformed(f"expected {wanted} bytes after the header for shape {list(shape)}, got {got}")
    array: NDArray[np.uint8] = np.frombuffer(body, np.uint8, offset=start)
    array = array.reshape(shape, order="F" if fortran else "C")
    return array if len(shape) == 4 else array[np.newaxis]


def shape_of(body: bytes) -> tuple[int, ...]:
    """The shape that a `.npy` file's header promises; empty if it cannot be read."""
    try:
        return _header(body)[2]
    except BodyMalformed:
        return ()


def _header(body: bytes) -> tuple[str, bool, tuple[int, ...], int]:
    """Element type, whether it is column-major, shape, and where the array starts."""
    if not body.startswith(MAGIC) or len(body) < 12:
        raise BodyMalformed(f"{_WANTED}, got bytes that start with {body[:8]!r}")
    wide = body[6] > 1  # version 1 has two bytes of length, later ones four
    first = 12 if wide else 10
    length = int.from_bytes(body[8:first], "little")
    if length > _LONGEST_HEADER:
        raise BodyMalformed(f"{_WANTED}, got a header of {length} bytes")
    text = body[first : first + length].decode("latin-1").strip()
    if (usual := _USUAL.fullmatch(text)) is not None:
        descr, order, sides = usual.groups()
        shape = tuple(int(side) for side in sides.replace(",", " ").split())
        return descr, order == "True", shape, first + length
    try:
        with _PARSING:
            header = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise BodyMalformed(f"{_WANTED}, got a header that cannot be read") from error
    if not isinstance(header, dict) or header.keys() != {"descr", "fortran_order", "shape"}:
        raise BodyMalformed(f"{_WANTED}, got a header without descr, fortran_order and shape, or with more")
    shape = header["shape"]
    if not isinstance(shape, tuple) or not all(type(size) is int for size in shape):
        raise BodyMalformed(f"{_WANTED}, got a shape that is no tuple of whole numbers")
    descr, fortran = header["descr"], header["fortran_order"]
    if not isinstance(descr, str) or not isinstance(fortran, bool):
        raise BodyMalformed(f"{_WANTED}, got records, or an order that is neither True nor False")
    return descr, fortran, shape, first + length
