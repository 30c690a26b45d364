"""What is sent: a drawn camera frame in one of the forms that clients send, or the user's own files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from PIL import Image

from service.bench.errors import BenchError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["KINDS", "Payload", "draw_frame", "payloads_of"]

KINDS: Final = ("png", "raw", "jpeg")
_TYPES: Final = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".bmp": "image/bmp",
    ".npy": "application/x-npy",
}


class Payload(NamedTuple):
    """A body, what it is, and what the address has to say of it."""

    content: bytes
    content_type: str
    query: str = ""


def payloads_of(kinds: Sequence[str]) -> list[Payload]:
    """One payload for each of `png` (64x64), `raw` (64x64 RGB), `jpeg` (1280x720), or a file.

    Raises:
        BenchError: A file cannot be read, or its name does not say what it is.
    """
    return [_payload(kind) for kind in kinds]


def draw_frame(width: int, height: int, seed: int = 0) -> NDArray[np.uint8]:
    """A drawn camera frame uint8 [height,width,3]: a shaded table, an arm across it, sensor noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 1 : 1j * height, 0 : 1 : 1j * width]
    shade = np.stack([90 + 120 * x, 80 + 110 * y, 120 + 40 * x * y], axis=-1)
    shade[(np.abs(x - 0.35 - 0.3 * y) < 0.08) & (y < 0.7)] = (60, 50, 55)
    noisy = shade + rng.normal(0, 3, shade.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def _payload(kind: str) -> Payload:
    if kind == "png":
        return Payload(_encoded(draw_frame(64, 64), "PNG"), "image/png")
    if kind == "raw":
        return Payload(draw_frame(64, 64).tobytes(), "application/octet-stream", "width=64&height=64")
    if kind == "jpeg":
        return Payload(_encoded(draw_frame(1280, 720), "JPEG", quality=90), "image/jpeg")
    path = Path(kind)
    content_type = _TYPES.get(path.suffix.lower())
    if content_type is None:
        raise BenchError(f"expected a payload of {', '.join(KINDS)} or a file {'/'.join(_TYPES)}, got {kind!r}")
    try:
        return Payload(path.read_bytes(), content_type)
    except OSError as error:
        raise BenchError(f"expected a file to send, {path} cannot be read: {error.strerror}") from error


def _encoded(frame: NDArray[np.uint8], form: str, **options: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(frame).save(file, form, **options)
    return file.getvalue()
