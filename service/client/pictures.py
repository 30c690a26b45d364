"""Frames in every form that callers have them -> the body of a request. Nothing is compressed, nothing decoded."""

from __future__ import annotations

import io
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Body", "Frame", "Frames", "body_of", "one_frame", "picture_of"]

Frame: TypeAlias = NDArray[np.uint8] | bytes | Path
"""uint8 [H,W,3] RGB, the bytes of a PNG, JPEG, WebP or BMP, or the path of one."""

Frames: TypeAlias = Frame | list[Frame] | tuple[Frame, ...]
"""One frame, uint8 [N,H,W,3] RGB, or a list or tuple of frames, which may have several sizes."""

_NPY: Final = "application/x-npy"
_MAGIC: Final = (
    (b"\x89PNG", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"RIFF", "image/webp"),
    (b"BM", "image/bmp"),
)


class Body(NamedTuple):
    """A request's body and what it is."""

    content: bytes
    content_type: str


def body_of(frames: Frames) -> Body:
    r"""The shortest form that holds these frames.

    Raises:
        TypeError: Not frames.
        ValueError: An array of another type or shape, or no frames at all.
        OSError: A path that cannot be read.

    >>> body_of(np.zeros((2, 4, 4, 3), np.uint8)).content_type
    'application/x-npy'
    >>> body_of([b"\x89PNG...", np.zeros((4, 4, 3), np.uint8)]).content_type.partition(";")[0]
    'multipart/form-data'
    """
    if isinstance(frames, np.ndarray):
        return Body(_npy(_checked(frames, (3, 4))), _NPY)
    if isinstance(frames, bytes | Path):
        return _encoded(frames)
    if not isinstance(frames, list | tuple):
        raise TypeError(
            "expected a frame (uint8 [H,W,3], bytes of a picture, or pathlib.Path) or a list of them, "
            f"got {type(frames).__name__}"
        )
    if not frames:
        raise ValueError("expected at least one frame, got an empty list")
    arrays = [_checked(frame, (3,)) for frame in frames if isinstance(frame, np.ndarray)]
    if len(arrays) == len(frames) and len({array.shape for array in arrays}) == 1:
        return Body(_npy(np.stack(arrays)), _NPY)
    if len(frames) == 1:
        return picture_of(frames[0])
    return _multipart([picture_of(frame) for frame in frames])


def one_frame(frame: Frame) -> bytes:
    """A frame as a stream takes it: one for each message.

    Raises:
        TypeError: Not a frame, or a list of them.
        ValueError: An array of another type or shape.
        OSError: A path that cannot be read.
    """
    if isinstance(frame, np.ndarray):
        return _npy(_checked(frame, (3,)))
    return picture_of(frame).content


def picture_of(frame: Frame) -> Body:
    """One frame as a picture; an array becomes a BMP, which loses nothing and takes no time.

    Raises:
        TypeError: Not a frame.
        ValueError: An array of another type or shape.
        OSError: A path that cannot be read.
    """
    if isinstance(frame, np.ndarray):
        return Body(_bmp(_checked(frame, (3,))), "image/bmp")
    if isinstance(frame, bytes | Path):
        return _encoded(frame)
    raise TypeError(
        f"expected one frame as uint8 [H,W,3], bytes of a picture, or pathlib.Path, got {type(frame).__name__}"
    )


def _checked(array: NDArray[Any], dimensions: tuple[int, ...]) -> NDArray[np.uint8]:
    if array.dtype != np.uint8 or array.ndim not in dimensions or array.shape[-1] != 3 or array.size == 0:
        wanted = " or ".join("[H,W,3]" if n == 3 else "[N,H,W,3]" for n in dimensions)
        raise ValueError(f"expected frames as uint8 {wanted} RGB, got {array.dtype} {list(array.shape)}")
    return array


def _encoded(picture: bytes | Path) -> Body:
    content = picture.read_bytes() if isinstance(picture, Path) else picture
    # The service goes by content, so a picture of a format that it does not read is for it to explain.
    kinds = (kind for start, kind in _MAGIC if content.startswith(start))
    return Body(content, next(kinds, "image/png"))


def _npy(array: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def _bmp(pixels: NDArray[np.uint8]) -> bytes:
    """uint8 [H,W,3] RGB -> an uncompressed 24-bit BMP: rows from the bottom up, B G R, each padded to four bytes."""
    height, width = pixels.shape[:2]
    rows = np.zeros((height, (width * 3 + 3) // 4 * 4), np.uint8)
    rows[:, : width * 3] = pixels[::-1, :, ::-1].reshape(height, width * 3)
    header = b"BM" + b"".join(
        value.to_bytes(size, "little")
        for value, size in (
            *((54 + rows.size, 4), (0, 4), (54, 4)),  # file size, reserved, where the pixels start
            *((40, 4), (width, 4), (height, 4), (1, 2), (24, 2)),  # this header's size, ..., planes, bits
            *((0, 4), (rows.size, 4), (2835, 4), (2835, 4), (0, 4), (0, 4)),  # uncompressed, ..., 72 dpi, no palette
        )
    )
    return header + rows.tobytes()


def _multipart(pictures: Sequence[Body]) -> Body:
    boundary = secrets.token_hex(16)
    parts = [
        b'--%b\r\nContent-Disposition: form-data; name="frame"; filename="%d"\r\nContent-Type: %b\r\n\r\n%b\r\n'
        % (boundary.encode(), index, picture.content_type.encode(), picture.content)
        for index, picture in enumerate(pictures)
    ]
    return Body(b"".join(parts) + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}")
