"""Every picture a camera or a person may send becomes the right RGB, and every broken one a clear refusal."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from service_kit import encode, png

from service.errors import FrameUndecodable, MediaTypeUnsupported, TooLarge
from service.frames.decode import Picture, decode
from service.frames.geometry import shrink
from service.frames.limits import Limits, PixelMeter

LIMITS = Limits(
    max_body_bytes=10**9, max_frames=8, max_pixels=25_000_000, max_side=16_384, max_request_pixels=64_000_000
)


def rgb(content: bytes) -> np.ndarray:
    return np.asarray(decode(content, 0, PixelMeter(LIMITS)).image)


def png_that_promises(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header speaks of many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (20, 30, 3), dtype=np.uint8)


@pytest.mark.parametrize(("form", "options"), [("PNG", {}), ("BMP", {}), ("WEBP", {"lossless": True})])
def test_lossless_formats_come_back_exactly(pixels: np.ndarray, form: str, options: dict[str, bool]) -> None:
    assert np.array_equal(rgb(encode(Image.fromarray(pixels), form, **options)), pixels)


def test_jpeg_and_lossy_webp_come_back_closely() -> None:
    smooth = np.linspace(0, 255, 30 * 20 * 3).reshape(20, 30, 3).astype(np.uint8)
    for form in ("JPEG", "WEBP"):
        assert np.abs(rgb(encode(Image.fromarray(smooth), form, quality=95)).astype(int) - smooth).mean() < 5


def test_sixteen_bit_grey_keeps_its_high_byte_and_is_not_clipped() -> None:
    values = np.array([[0, 255, 256, 32768, 65535]], np.uint16)
    got = rgb(encode(Image.fromarray(values), "PNG"))
    assert got[0, :, 0].tolist() == [0, 0, 1, 128, 255]
    assert (got == got[..., :1]).all()


def test_grey_bilevel_and_palette_become_their_colours() -> None:
    grey = np.array([[0, 100, 255]], np.uint8)
    assert rgb(png(grey)).tolist() == [[[0] * 3, [100] * 3, [255] * 3]]
    bits = Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1")
    assert rgb(encode(bits, "PNG")).tolist() == [[[0] * 3, [255] * 3]]
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 200, 100, 50])
    palette.putpixel((1, 0), 1)
    assert rgb(encode(palette, "PNG")).tolist() == [[[10, 20, 30], [200, 100, 50]]]
    assert rgb(encode(palette, "PNG", transparency=b"\x00\x80")).tolist() == [[[10, 20, 30], [200, 100, 50]]]
    assert rgb(encode(palette, "BMP")).tolist() == [[[10, 20, 30], [200, 100, 50]]]


def test_transparency_is_ignored_in_every_format(pixels: np.ndarray) -> None:
    alpha = np.random.default_rng(4).integers(0, 256, (20, 30, 1), dtype=np.uint8)
    image = Image.fromarray(np.concatenate([pixels, alpha], axis=2))
    assert np.array_equal(rgb(encode(image, "PNG")), pixels)
    assert np.array_equal(rgb(encode(image, "WEBP", lossless=True, exact=True)), pixels)
    grey = Image.fromarray(np.dstack([pixels[..., 0], alpha[..., 0]]))
    assert np.array_equal(rgb(encode(grey, "PNG"))[..., 1], pixels[..., 0])


def test_a_cmyk_jpeg_becomes_its_colours() -> None:
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    got = rgb(encode(image, "JPEG", quality=95))
    assert np.abs(got.astype(int) - (255, 0, 0)).max() < 8


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_rotated_jpeg_is_turned_upright(orientation: int) -> None:
    upright = np.zeros((48, 32, 3), np.uint8)
    upright[:24, :16] = (255, 0, 0)
    upright[24:, 16:] = (0, 0, 255)
    undo = {2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }  # fmt: skip
    stored = Image.fromarray(upright)
    if orientation in undo:
        stored = stored.transpose(turns[undo[orientation]])
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = decode(encode(stored, "JPEG", quality=95, exif=exif), 0, PixelMeter(LIMITS))
    assert (picture.width, picture.height) == (32, 48)
    assert np.abs(np.asarray(picture.image).astype(int) - upright).mean() < 5


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_does_not_make_a_picture_unreadable(pixels: np.ndarray) -> None:
    assert rgb(encode(Image.fromarray(pixels), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff garbage")).shape == (
        20,
        30,
        3,
    )


def test_of_an_animation_the_first_frame_counts() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((255, 0, 0), (0, 255, 0))]
    for form, options in (("PNG", {}), ("WEBP", {"lossless": True})):
        content = encode(frames[0], form, save_all=True, append_images=frames[1:], duration=100, **options)
        assert (rgb(content) == (255, 0, 0)).all()


@pytest.mark.parametrize(
    ("size", "decoded"),
    [
        ((4000, 3000), (1000, 750)),
        ((1280, 720), (320, 180)),
        ((3840, 2160), (480, 270)),
        ((640, 480), (320, 240)),
        ((641, 480), (641, 480)),
        ((320, 240), (320, 240)),
    ],
)
def test_a_large_jpeg_is_decoded_at_a_fraction_and_seen_the_same(
    size: tuple[int, int], decoded: tuple[int, int]
) -> None:
    rng = np.random.default_rng(5)
    image = Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)).resize(size)
    content = encode(image, "JPEG", quality=90)
    picture = decode(content, 0, PixelMeter(LIMITS))
    assert (picture.width, picture.height) == size
    assert picture.image.size == decoded
    seen = shrink(picture, "stretch").astype(int)
    whole = shrink(Picture(Image.open(io.BytesIO(content)), *size), "stretch")
    assert np.sqrt(np.mean((seen - whole) ** 2)) < 1


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "BMP"])
def test_half_a_picture_is_refused_in_every_format(pixels: np.ndarray, form: str) -> None:
    content = encode(Image.fromarray(pixels), form)
    for length in (len(content) // 2, 40, 12, 9, 4):
        with pytest.raises(FrameUndecodable, match="frame 3: expected"):
            decode(content[:length], 3, PixelMeter(LIMITS))


def test_no_mangled_picture_gets_past_as_anything_but_a_refusal(pixels: np.ndarray) -> None:
    """Bytes flipped at random: a picture or a refusal, never another exception."""
    rng = np.random.default_rng(6)
    for form in ("PNG", "JPEG", "WEBP", "BMP"):
        whole = encode(Image.fromarray(pixels), form)
        for _ in range(150):
            content = bytearray(whole)
            for at in rng.integers(0, len(content), 4):
                content[at] = rng.integers(256)
            try:
                decode(bytes(content), 0, PixelMeter(LIMITS))
            except (FrameUndecodable, MediaTypeUnsupported, TooLarge):
                continue


def test_a_header_that_promises_too_much_is_refused_before_anything_is_decoded() -> None:
    huge_webp = b"RIFF\x1a\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(4) + (59_999).to_bytes(3, "little") * 2
    huge_bmp = b"BM" + bytes(8) + struct.pack("<IIiiHHI", 54, 40, 60_000, 60_000, 1, 24, 0) + bytes(20)
    for content in (png_that_promises(60_000, 60_000), huge_webp, huge_bmp):
        with pytest.raises(TooLarge, match="got 60000x60000"):
            decode(content, 0, PixelMeter(LIMITS))
    with pytest.raises(TooLarge, match="no side over 16384, got 1x20000"):
        decode(png_that_promises(1, 20_000), 0, PixelMeter(LIMITS))


def test_all_frames_of_a_request_share_one_limit_of_pixels() -> None:
    meter = PixelMeter(LIMITS)
    for frame in range(3):
        meter.admit(5000, 4000, frame)
    with pytest.raises(TooLarge, match="frame 3: expected at most 64000000 pixels in all frames"):
        meter.admit(5000, 4000, 3)


def test_a_run_length_compressed_bmp_is_refused(pixels: np.ndarray) -> None:
    content = bytearray(encode(Image.fromarray(pixels).convert("L"), "BMP"))
    content[30] = 1
    with pytest.raises(FrameUndecodable, match="run-length"):
        decode(bytes(content), 0, PixelMeter(LIMITS))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (encode(Image.new("P", (4, 4)), "GIF"), "a GIF cannot say which of its frames is meant"),
        (encode(Image.new("L", (4, 4)), "TIFF"), "a TIFF"),
        (b"\0\0\0\x20ftypavif" + bytes(40), "HEIC, AVIF or MP4"),
        (b"%PDF-1.7", "a PDF"),
    ],
)
def test_other_formats_are_named(content: bytes, words: str) -> None:
    with pytest.raises(MediaTypeUnsupported, match=words):
        decode(content, 0, PixelMeter(LIMITS))


def test_what_is_no_picture_is_shown_as_it_begins() -> None:
    with pytest.raises(FrameUndecodable, match="start with b'hello, world'"):
        decode(b"hello, world, this is text", 0, PixelMeter(LIMITS))
    with pytest.raises(FrameUndecodable, match="no bytes"):
        decode(b"", 0, PixelMeter(LIMITS))
