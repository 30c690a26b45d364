"""What `/segment` reads: a body of any of its content types -> frames, ready for the model."""

from __future__ import annotations

import base64
import binascii
import json
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from PIL import Image

from service.contract import FRAME_SIZE
from service.errors import BodyMalformed, BodyMissing, MediaTypeUnsupported, ParameterInvalid, quoted
from service.frames.decode import Picture, decode, format_of
from service.frames.geometry import Fit, shrink
from service.frames.limits import Limits, PixelMeter
from service.frames.npy import MAGIC, read_npy, shape_of
from service.frames.pieces import is_plain_png
from service.web.multipart import Part, read_multipart

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from service.web.query import Query

__all__ = ["MEDIA_TYPES", "Frame", "check_media_type", "is_quick", "read_frames"]

NPY: Final = "application/x-npy"
RAW: Final = "application/octet-stream"
JSON: Final = "application/json"
MULTIPART: Final = "multipart/form-data"
MEDIA_TYPES: Final = ("image/png", "image/jpeg", "image/webp", "image/bmp", MULTIPART, JSON, NPY, RAW)

_QUICK_SIDE: Final = 128
_QUICK_BYTES: Final = 3 * _QUICK_SIDE * _QUICK_SIDE
_FORM: Final = "application/x-www-form-urlencoded"


class Frame(NamedTuple):
    """A frame as the model sees it, and the size it had.

    Attributes:
        pixels: uint8 [64,64,3] RGB.
        width: Width in pixels before it was shrunk.
        height: Height in pixels before it was shrunk.
        name: What the client calls it, to be told in the answer.
    """

    pixels: NDArray[np.uint8]
    width: int
    height: int
    name: str | None = None


def check_media_type(content_type: str | None, content_encoding: str | None, query: Query) -> None:
    """Say no to a form of request that cannot be read, before its body is.

    Raises:
        MediaTypeUnsupported: Content type or encoding is none of those that are read.
        ParameterInvalid: `width` and `height` do not go with the content type, or are missing.
    """
    if content_encoding not in {None, "", "identity"}:
        raise MediaTypeUnsupported(
            f"expected a body without content encoding, got {quoted(content_encoding or '')}; pictures are compressed "
            "already, send them as they are"
        )
    media_type = _media_type(content_type)
    if media_type == _FORM:
        raise MediaTypeUnsupported(
            f"expected a picture, got {_FORM}, which is what curl and urllib call a body when they are not told; "
            "try: curl -H 'Content-Type: image/png' --data-binary @frame.png ADDRESS/segment"
        )
    if media_type is not None and media_type not in MEDIA_TYPES and not media_type.startswith("image/"):
        raise MediaTypeUnsupported(
            f"expected a content type among {', '.join(MEDIA_TYPES)}, got {quoted(content_type or '')}"
        )
    if media_type == RAW:
        if query.width is None or query.height is None:
            raise ParameterInvalid(
                f"expected ?width= and ?height= with raw RGB24 ({RAW}), got none; "
                "for an encoded picture send its own content type, such as image/png"
            )
    elif query.width is not None or query.height is not None:
        raise ParameterInvalid(
            f"expected width and height only with raw RGB24 ({RAW}), got {quoted(content_type or '')}"
        )


def read_frames(body: bytes, content_type: str | None, query: Query, limits: Limits) -> list[Frame]:
    """Read all frames of a request whose media type has been checked.

    Without a content type the body's first bytes decide between a picture and a `.npy` array. What is said to be one
    kind of picture and is another is read as what it is.

    Raises:
        BodyMissing: Nothing came.
        BodyMalformed: The body is not what its content type says.
        FrameUndecodable: A frame is no picture, or a damaged one.
        MediaTypeUnsupported: A frame is a picture of a format that is not read.
        TooLarge: There are too many frames or pixels.
    """
    if not body:
        raise BodyMissing("expected a frame in the body, got no bytes; is the file empty, or the variable unset?")
    meter = PixelMeter(limits)
    media_type = _media_type(content_type)
    if media_type == NPY or (media_type is None and body.startswith(MAGIC)):
        return _from_npy(body, query.fit, limits, meter)
    if media_type == RAW:
        return [_from_raw(body, query, meter)]
    if media_type == JSON:
        pictures = [Part(content, None) for content in _unpack_json(body, limits)]
        return _from_pictures(pictures, query.fit, meter)
    if media_type == MULTIPART:
        return _from_pictures(read_multipart(body, content_type or "", limits.check_frames), query.fit, meter)
    return _from_pictures([Part(body, None)], query.fit, meter)


def is_quick(body: bytes, content_type: str | None) -> bool:
    """Whether reading these frames takes less than waking another thread to do it: a few pixels, raw or in a PNG."""
    if len(body) > _QUICK_BYTES:
        return False
    media_type = _media_type(content_type)
    if media_type == RAW:
        return True
    if media_type == NPY:  # many frames of few pixels take long to average; those of the model's own size are not
        shape = shape_of(body)
        return len(shape) == 3 or shape[:1] == (1,) or shape[1:3] == (FRAME_SIZE, FRAME_SIZE)
    if format_of(body) != "PNG" or not is_plain_png(body):
        return False
    return max(int.from_bytes(body[16:20]), int.from_bytes(body[20:24])) <= _QUICK_SIDE


@lru_cache(maxsize=64)
def _media_type(content_type: str | None) -> str | None:
    """Type and subtype without parameters, in lower case; None if there is none."""
    return (content_type or "").partition(";")[0].strip().lower() or None


def _from_pictures(parts: Iterable[Part], fit: Fit, meter: PixelMeter) -> list[Frame]:
    frames = []
    for index, (content, name) in enumerate(parts):
        picture = decode(content, index, meter)
        frames.append(Frame(shrink(picture, fit), picture.width, picture.height, name))
    return frames


def _from_npy(body: bytes, fit: Fit, limits: Limits, meter: PixelMeter) -> list[Frame]:
    def admit(count: int, height: int, width: int) -> None:
        limits.check_frames(count)
        for index in range(count):
            meter.admit(width, height, index)

    return [_from_pixels(pixels, fit) for pixels in read_npy(body, admit)]


def _from_raw(body: bytes, query: Query, meter: PixelMeter) -> Frame:
    width, height = query.width or 0, query.height or 0
    meter.admit(width, height, 0)
    if len(body) != width * height * 3:
        hint = f"; these look like a {kind}: send its own content type" if (kind := format_of(body)) else ""
        raise BodyMalformed(
            f"expected {width * height * 3} bytes, {width}x{height} pixels of 3 (R, G, B), got {len(body)}{hint}"
        )
    return _from_pixels(np.frombuffer(body, np.uint8).reshape(height, width, 3), query.fit)


def _from_pixels(pixels: NDArray[np.uint8], fit: Fit) -> Frame:
    height, width = pixels.shape[:2]
    if (height, width) == (FRAME_SIZE, FRAME_SIZE):
        return Frame(pixels, width, height)
    picture = Picture(Image.fromarray(np.ascontiguousarray(pixels)), width, height)
    return Frame(shrink(picture, fit), width, height)


def _unpack_json(body: bytes, limits: Limits) -> list[bytes]:
    """The encoded pictures in `{"frames": ["<base64>", ...]}`."""
    wanted = 'expected {"frames": ["<base64 of a picture>", ...]}'
    # Base64 has none of these: whatever has more of them than frames is refused before it becomes a million objects.
    if sum(map(body.count, (b"[", b"{", b","))) > 2 * limits.max_frames + 16:
        limits.check_frames(body.count(b",") + 1)
        raise BodyMalformed(f"{wanted}, got a deeper structure")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BodyMalformed(f"{wanted}, got a body that is no JSON: {error}") from error
    if not isinstance(document, dict) or document.keys() != {"frames"} or not isinstance(document["frames"], list):
        got = f"the keys {quoted(', '.join(document))}" if isinstance(document, dict) else type(document).__name__
        raise BodyMalformed(f"{wanted}, got {got}")
    texts = document["frames"]
    limits.check_frames(len(texts))
    if not texts:
        raise BodyMissing(f"{wanted}, got an empty list")
    return [_from_base64(text, index) for index, text in enumerate(texts)]


def _from_base64(text: object, frame: int) -> bytes:
    if not isinstance(text, str):
        raise BodyMalformed(f"expected base64 of a picture as text, got {type(text).__name__}", frame=frame)
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        hint = "; leave the prefix up to the comma out" if text.startswith("data:") else ""
        raise BodyMalformed(f"expected base64, got {quoted(text, 24)} ({error}){hint}", frame=frame) from error
