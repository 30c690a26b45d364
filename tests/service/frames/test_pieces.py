"""Pictures that are small in bytes and in pixels and would take a decoder minutes all the same."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from service.errors import FrameUndecodable
from service.frames.decode import decode
from service.frames.limits import Limits, PixelMeter
from service.frames.pieces import PiecesError, check_pieces, is_plain_png

LIMITS = Limits(
    max_body_bytes=2**26, max_frames=64, max_pixels=25_000_000, max_side=16_384, max_request_pixels=64_000_000
)
PICTURE = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)


def encoded(form: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PICTURE).save(file, form, **options)
    return file.getvalue()


def chunk(kind: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def segment(code: int, content: bytes = b"") -> bytes:
    return bytes([0xFF, code]) + struct.pack(">H", 2 + len(content)) + content


def in_front(jpeg: bytes, more: bytes) -> bytes:
    return jpeg[:2] + more + jpeg[2:]


BASELINE = encoded("JPEG")
PROGRESSIVE = encoded("JPEG", progressive=True)
PNG = encoded("PNG")
LAST_SCAN = PROGRESSIVE[PROGRESSIVE.rindex(b"\xff\xda") : -2]


@pytest.mark.parametrize(
    "content",
    [
        PROGRESSIVE[:-2] + LAST_SCAN * 60 + b"\xff\xd9",
        in_front(BASELINE, segment(0xE5) * 1025),
        in_front(BASELINE, segment(0xFE) * 1025),
        in_front(BASELINE, b"\xff\xd0" * 1025),
        in_front(BASELINE, b"\xff" * 1025),
        in_front(BASELINE, segment(0xE5) + b"\0" * 1025),
        in_front(BASELINE, segment(0xE1, b"Exif\0\0") * 17),
        in_front(BASELINE, segment(0xED, b"Photoshop 3.0\0") * 17),
        PNG[:33] + chunk(b"abCd") * 257 + PNG[33:],
        PNG[:-12] + chunk(b"IDAT") * 5000 + PNG[-12:],
    ],
    ids=[
        "scans", "segments", "comments", "restarts", "padding", "junk", "EXIF", "Photoshop", "chunks", "pixel chunks",
    ],
)  # fmt: skip
def test_a_picture_of_more_pieces_than_cameras_write_is_refused_in_words(content: bytes) -> None:
    with pytest.raises(FrameUndecodable, match=r"as cameras write it, got one of (more than|64 scans)"):
        decode(content, 0, PixelMeter(LIMITS))


@pytest.mark.parametrize(
    "content",
    [
        BASELINE,
        PROGRESSIVE,
        encoded("JPEG", quality=100, subsampling=0),
        encoded("JPEG", exif=b"Exif\0\0" + bytes(60_000), icc_profile=bytes(300_000), comment=b"by hand"),
        in_front(BASELINE, segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + bytes(60_000)) * 100),
        PNG,
        encoded("PNG", compress_level=0),
        encoded("PNG", save_all=True, append_images=[Image.fromarray(255 - PICTURE)] * 40),
    ],
    ids=["baseline", "progressive", "fine", "profile and EXIF", "depth map", "PNG", "not compressed", "animated"],
)
def test_what_cameras_and_programs_write_is_decoded(content: bytes) -> None:
    picture = decode(content, 0, PixelMeter(LIMITS))
    assert (picture.width, picture.height) == (120, 90)


def test_a_scan_inside_a_thumbnail_or_behind_the_only_scan_is_no_scan() -> None:
    check_pieces(in_front(PROGRESSIVE, segment(0xE1, b"Exif\0\0" + b"\xff\xda" * 100)), "JPEG")
    check_pieces(BASELINE + b"\xff\xda" * 100, "JPEG")
    with pytest.raises(PiecesError, match="64 scans or more"):
        check_pieces(PROGRESSIVE + b"\xff\xda" * 100, "JPEG")


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff", BASELINE[:30], PNG[:8], PNG[:20], b"\x89PNG\r\n\x1a\n\0\0"])
def test_what_is_cut_off_is_for_its_decoder_to_say(content: bytes) -> None:
    check_pieces(content, "JPEG")
    check_pieces(content, "PNG")


def test_a_plain_png_has_pixels_and_a_few_facts() -> None:
    assert is_plain_png(PNG)
    assert is_plain_png(PNG[:33] + chunk(b"gAMA", bytes(4)) + chunk(b"tEXt", b"Software\0x") + PNG[33:])
    assert not is_plain_png(PNG[:33] + chunk(b"eXIf", bytes(8)) + PNG[33:])
    assert not is_plain_png(PNG[:33] + chunk(b"tEXt", b"a\0b") * 20 + PNG[33:])
