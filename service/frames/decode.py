"""Encoded pictures -> RGB: PNG, JPEG, WebP and BMP, whatever a client calls them and however broken they are.

Decided here, for every format alike: transparency is ignored (the colours under it count), 16-bit samples keep their
high byte, EXIF orientation is applied, and of an animated PNG or WebP the first frame counts.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from PIL import Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from service.errors import FrameUndecodable, MediaTypeUnsupported, RobomaskError
from service.frames.pieces import PiecesError, check_pieces
from service.frames.small_png import small_png

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from service.frames.limits import PixelMeter

__all__ = ["Picture", "decode", "format_of", "pixels"]

_READABLE: Final = "PNG, JPEG, WebP or BMP"
_ORIENTATION: Final = 0x0112
_LEAST_SIDE: Final = 180
"""A JPEG is not decoded at a lower resolution than this: nearly three pixels a cell are left to average.

A 1280x720 frame decoded at a quarter gives the averages of the full one but for 0.6 of 255 grey levels (rms).
"""

_OPENERS: Final[dict[str, Callable[[io.BytesIO], ImageFile.ImageFile]]] = {
    "PNG": PngImageFile,
    "JPEG": JpegImageFile,
    "WebP": WebPImageFile,
    "BMP": BmpImageFile,
}

_FOREIGN: Final = (
    (b"GIF8", "a GIF", "a GIF cannot say which of its frames is meant; send the frame itself"),
    (b"II*\0", "a TIFF", "send it"),
    (b"MM\0*", "a TIFF", "send it"),
    (b"%PDF", "a PDF", "send the picture"),
    (b"<svg", "an SVG", "send the picture"),
    (b"\xff\x0a", "a JPEG XL", "send it"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL", "send it"),
    (b"\x1a\x45\xdf\xa3", "a WebM or Matroska video", "send its frames"),
)

_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SWAP_SIDES: Final = {5, 6, 7, 8}


class Picture(NamedTuple):
    """A decoded frame.

    Attributes:
        image: RGB, upright. A large JPEG comes at an even fraction of its size, as the model needs no more.
        width: Full width in pixels, upright.
        height: Full height in pixels, upright.
    """

    image: Image.Image
    width: int
    height: int


def decode(content: bytes, frame: int, meter: PixelMeter) -> Picture:
    """Decode one picture by its content; nothing is decoded before the size in its header is admitted.

    Args:
        content: The encoded picture.
        frame: Its index in the request, for the errors.
        meter: Says how many pixels are too many.

    Raises:
        FrameUndecodable: Not a picture, or a damaged one.
        MediaTypeUnsupported: A picture or video of another format.
        TooLarge: More pixels than allowed.
    """
    if not content:
        raise FrameUndecodable(f"expected a {_READABLE} picture, got no bytes at all", frame=frame)
    name = format_of(content)
    if name is None:
        raise _refusal(content, frame)
    try:
        return _decode(content, name, frame, meter)
    except RobomaskError:
        raise
    except PiecesError as error:
        raise FrameUndecodable(
            f"expected a {name} picture as cameras write it, got one of {error}; save it again without its notes, and "
            "not progressive",
            frame=frame,
        ) from error
    except Exception as error:
        raise FrameUndecodable(
            f"expected a whole {name} picture, got {len(content)} bytes that do not decode ({error}); "
            "check that the file is complete",
            frame=frame,
        ) from error


def _decode(content: bytes, name: str, frame: int, meter: PixelMeter) -> Picture:
    """`decode` for a picture of a known format, with whatever errors the decoders have."""
    small = small_png(content) if name == "PNG" else None
    if small is not None:
        size: tuple[int, int] | None = small.size
    else:
        check_pieces(content, name)
        # opening a WebP allocates its canvas, opening the others reads the header only
        size = _webp_canvas(content) if name == "WebP" else None
    if size is not None:
        meter.admit(*size, frame)
    if small is not None and (whole := small.image()) is not None:
        return Picture(whole, *small.size)
    image = _OPENERS[name](io.BytesIO(content))
    if size is None:
        meter.admit(*image.size, frame)
    return _upright(image)


def pixels(content: bytes) -> NDArray[np.uint8]:
    """All pixels of a picture that `decode` takes, as it takes them, but for none left out: uint8 [H,W,3], upright."""
    image = _OPENERS[format_of(content) or "PNG"](io.BytesIO(content))
    image.load()
    turn = _orientation(image)
    upright = _rgb(image)
    return np.asarray(upright.transpose(_TURNS[turn]) if turn in _TURNS else upright)


def format_of(content: bytes) -> str | None:
    """The readable format that a picture's first bytes show, if any.

    >>> format_of(b"BM...."), format_of(b"GIF89a")
    ('BMP', None)
    """
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if content.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return "WebP"
    return "BMP" if content.startswith(b"BM") else None


def _refusal(content: bytes, frame: int) -> RobomaskError:
    """What to say of bytes in no readable format: another format is 415, no picture at all is 400."""
    for start, what, advice in _FOREIGN:
        if content.startswith(start):
            return MediaTypeUnsupported(f"expected {_READABLE}, got {what}; {advice} as PNG", frame=frame)
    if content[4:8] == b"ftyp":
        return MediaTypeUnsupported(
            f"expected {_READABLE}, got a HEIC, AVIF or MP4 file; send single frames as PNG or JPEG", frame=frame
        )
    return FrameUndecodable(
        f"expected {_READABLE} (by content, not by name), got bytes that start with {content[:12]!r}", frame=frame
    )


def _webp_canvas(content: bytes) -> tuple[int, int] | None:
    """Width and height in a WebP's header; None if there is no header to read.

    Source: RFC 9649, sections 2.5 to 2.7.
    """
    chunk, data = content[12:16], content[20:30]
    if len(data) < 10:
        return None
    if chunk == b"VP8X":
        return 1 + int.from_bytes(data[4:7], "little"), 1 + int.from_bytes(data[7:10], "little")
    if chunk == b"VP8L":
        bits = int.from_bytes(data[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return int.from_bytes(data[6:8], "little") & 0x3FFF, int.from_bytes(data[8:10], "little") & 0x3FFF


def _upright(image: ImageFile.ImageFile) -> Picture:
    """Decode the pixels, make them RGB and turn them as EXIF says."""
    width, height = image.size
    if isinstance(image, JpegImageFile):
        _decode_at_fraction(image)
    if isinstance(image, BmpImageFile) and image.info.get("compression", 0) in {1, 2}:
        raise ValueError("run-length compressed")  # decoded byte by byte in Python: minutes for a hostile file
    image.load()
    turn = _orientation(image)
    upright = _rgb(image)
    if turn in _TURNS:
        upright = upright.transpose(_TURNS[turn])
    return Picture(upright, *((height, width) if turn in _SWAP_SIDES else (width, height)))


def _decode_at_fraction(image: JpegImageFile) -> None:
    """Have libjpeg decode at 1/2, 1/4 or 1/8 where blocks of pixels are going to be averaged anyway.

    Only where the fraction is exact and stays so when the frame is padded or cropped to a square.
    """
    width, height = image.size
    for fraction in (8, 4, 2):
        exact = width % (2 * fraction) == 0 and height % (2 * fraction) == 0
        if exact and min(width, height) >= fraction * _LEAST_SIDE:
            image.draft(image.mode, (width // fraction, height // fraction))
            return


def _orientation(image: ImageFile.ImageFile) -> int:
    """EXIF orientation, 1 to 8; 1, upright, where there is none or none that can be read."""
    if "exif" not in image.info:
        return 1
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - a damaged note about the picture does not make the picture unreadable
        return 1


def _rgb(image: Image.Image) -> Image.Image:
    """Any mode -> RGB; transparency is ignored."""
    if image.mode.startswith("I"):  # 16-bit grey; Pillow's own conversion would clip at 255
        return Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "RGB":
        return image
    image.info.pop("transparency", None)
    return image.convert("RGB")
