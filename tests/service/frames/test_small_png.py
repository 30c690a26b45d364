"""The short way through a PNG gives what Pillow gives, and leaves to it whatever is out of the ordinary."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from service.frames.small_png import small_png

PIXELS = np.random.default_rng(0).integers(0, 256, (48, 40, 3), np.uint8)
SMOOTH = np.add.outer(np.arange(48) * 3, np.arange(40) * 2)[..., None] + np.array([0, 20, 40])


def encoded(pixels: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", **options)
    return file.getvalue()


def chunk(kind: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def filtered(pixels: np.ndarray, kind: int) -> bytes:
    """A PNG all of whose lines have the same filter (section 9.2 of the specification)."""
    height, width = pixels.shape[:2]
    wide = np.zeros((height + 1, width + 1, 3), int)
    wide[1:, 1:] = pixels
    here, left, up, corner = wide[1:, 1:], wide[1:, :-1], wide[:-1, 1:], wide[:-1, :-1]
    guess = left + up - corner
    distances = np.stack([abs(guess - near) for near in (left, up, corner)])
    paeth = np.choose(distances.argmin(axis=0), [left, up, corner])
    residue = here - [0, left, up, (left + up) // 2, paeth][kind]
    lines = np.concatenate([np.full((height, 1), kind), residue.reshape(height, -1) % 256], axis=1).astype(np.uint8)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(lines.tobytes())), chunk(b"IEND")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("kind", range(5))
def test_every_filter_is_undone(kind: int) -> None:
    small = small_png(filtered(PIXELS, kind))
    assert small is not None
    assert small.size == (40, 48)
    image = small.image()
    assert image is not None
    assert image.mode == "RGB"
    assert np.array_equal(np.asarray(image), PIXELS)


@pytest.mark.parametrize("level", [0, 1, 6, 9])
@pytest.mark.parametrize("size", [(1, 1), (64, 64), (127, 3), (147, 148)])
def test_frames_of_any_size_come_back_exactly(size: tuple[int, int], level: int) -> None:
    for pixels in (PIXELS, np.clip(SMOOTH, 0, 255).astype(np.uint8)):
        frame = np.asarray(Image.fromarray(pixels).resize(size))
        small = small_png(encoded(frame, compress_level=level))
        assert small is not None
        image = small.image()
        assert image is not None
        assert np.array_equal(np.asarray(image), frame)


def test_pixels_may_come_in_several_pieces() -> None:
    content = encoded(PIXELS)
    start = content.index(b"IDAT") - 4
    packed = content[start + 8 : -16]
    parts = [packed[:1], packed[1:100], b"", packed[100:]]
    small = small_png(content[:start] + b"".join(chunk(b"IDAT", part) for part in parts) + chunk(b"IEND"))
    assert small is not None
    assert small.packed == packed


def of_many_pieces() -> bytes:
    content = encoded(PIXELS)
    start = content.index(b"IDAT") - 4
    packed = content[start + 8 : -16]
    return content[:start] + b"".join(chunk(b"IDAT", packed[i : i + 1]) for i in range(len(packed))) + chunk(b"IEND")


def wrong_header_sum() -> bytes:
    content = bytearray(encoded(PIXELS))
    content[30] ^= 1
    return bytes(content)


def no_pixels() -> bytes:
    header = struct.pack(">IIBBBBB", 0, 5, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x89PNG\r\n\x1a\n",
        encoded(PIXELS)[:-1],
        encoded(PIXELS)[:-12],
        encoded(PIXELS)[:60],
        encoded(PIXELS)[:33] + encoded(PIXELS)[-12:-4],
        encoded(PIXELS) + b"more",
        encoded(PIXELS, dpi=(72, 72)),
        encoded(PIXELS[..., 0]),
        encoded(np.dstack([PIXELS, PIXELS[..., :1]])),
        of_many_pieces(),
        wrong_header_sum(),
        no_pixels(),
        encoded(np.zeros((480, 640, 3), np.uint8)),
    ],
)
def test_anything_else_is_left_to_another_reader(content: bytes) -> None:
    assert small_png(content) is None


@pytest.mark.parametrize("size", [(64, 64), (120, 100)])
def test_damaged_pixels_are_no_picture(size: tuple[int, int]) -> None:
    content = encoded(np.asarray(Image.fromarray(PIXELS).resize(size)))
    start = content.index(b"IDAT") - 4
    packed = content[start + 8 : -16]
    broken = bytearray(packed)
    broken[2] = 0xFF  # a kind of block that there is none of
    for damaged in (packed[: len(packed) // 2], bytes(broken), packed[:-4] + b"four", b""):
        small = small_png(content[:start] + chunk(b"IDAT", damaged) + chunk(b"IEND"))
        assert small is not None
        assert small.image() is None


def test_what_unpacks_to_far_more_than_its_pixels_takes_no_more_memory_than_they_do() -> None:
    header = struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 0)
    bomb = zlib.compress(bytes(10**8), 9)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", bomb) + chunk(b"IEND")
    small = small_png(content)
    assert small is not None
    image = small.image()
    assert image is not None
    assert not np.asarray(image).any()
