"""Which bodies are read on the event loop: only those that are sure to take less than waking a thread."""

import io
import struct
import zlib

import numpy as np
import pytest
from service_kit import png

from service.errors import BodyMalformed, TooLarge
from service.web import multipart
from service.web.multipart import read_multipart
from service.web.requests import is_quick

SMALL = png(np.zeros((64, 64, 3), np.uint8))
HEADER = struct.pack(">IIBBBBB", 5000, 5000, 8, 0, 0, 0, 0)


def with_chunk(name: bytes, content: bytes) -> bytes:
    """The small picture with another chunk behind its header."""
    chunk = struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
    return SMALL[:33] + chunk + SMALL[33:]


def npy(*shape: int) -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros(shape, np.uint8))
    return file.getvalue()


def test_of_arrays_one_frame_is_and_frames_of_the_models_own_size_are() -> None:
    assert is_quick(npy(120, 130, 3), "application/x-npy")
    assert is_quick(npy(1, 120, 130, 3), "application/x-npy")
    assert is_quick(npy(3, 64, 64, 3), "application/x-npy")
    assert not is_quick(npy(64, 15, 15, 3), "application/x-npy")  # each would have to be brought to 64x64
    assert not is_quick(npy(64, 1, 1, 3), "application/x-npy")
    assert not is_quick(b"\x93NUMPY and no header", "application/x-npy")


def test_a_small_png_and_raw_pixels_are() -> None:
    assert is_quick(SMALL, "image/png")
    assert is_quick(bytes(64 * 64 * 3), "application/octet-stream")


@pytest.mark.parametrize(
    "body",
    [
        png(np.zeros((129, 64, 3), np.uint8)),
        with_chunk(b"IHDR", HEADER),
        with_chunk(b"zTXt", b"note\0\0" + zlib.compress(bytes(1_000_000))),
        SMALL[:8] + b"\0\0\0\0gAMA" + SMALL[16:],
        b"\xff\xd8\xff" + bytes(100),
    ],
    ids=["large", "two headers", "compressed text", "no header first", "jpeg"],
)
def test_what_may_be_large_inside_is_not(body: bytes) -> None:
    assert not is_quick(body, "image/png")


@pytest.mark.parametrize("fault", [TypeError("expected str, got tuple"), ValueError("too many digits for an int")])
def test_whatever_the_parser_of_headers_stumbles_over_is_the_clients_fault(
    monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    """Releases of it have; a client decides what it reads."""

    def stumble(_: str | bytes) -> tuple[bytes, dict[bytes, bytes]]:
        raise fault

    whole = b'--b\r\nContent-Disposition: form-data; name="frame"\r\n\r\nx\r\n--b--\r\n'
    content_type = "multipart/form-data; boundary=b"
    assert read_multipart(whole, content_type, lambda _: None)[0].content == b"x"
    monkeypatch.setattr(multipart, "parse_options_header", stumble)
    with pytest.raises(BodyMalformed, match="breaks its rules"):
        read_multipart(whole, content_type, lambda _: None)
    of_the_part = iter([(b"", {b"boundary": b"b"})])
    monkeypatch.setattr(multipart, "parse_options_header", lambda text: next(of_the_part, None) or stumble(text))
    with pytest.raises(BodyMalformed, match="breaks its rules"):
        read_multipart(whole, content_type, lambda _: None)


def test_blanks_may_stand_behind_a_boundary_and_anything_behind_the_last() -> None:
    part = b'--b\r\nContent-Disposition: form-data; name="frame"\r\n\r\nx\r\n'
    body = part + part.replace(b"--b", b"--b \t") + b"--b--\r\n" + b"\r\n--bX" * 10
    parts = read_multipart(body, "multipart/form-data; boundary=b", lambda _: None)
    assert [read.content for read in parts] == [b"x", b"x"]


def test_parts_are_counted_before_any_is_read() -> None:
    seen: list[int] = []

    def at_most_two(count: int) -> None:
        seen.append(count)
        if count > 2:
            raise TooLarge("expected at most 2 frames")

    part = b'--b\r\nContent-Disposition: form-data; name="other"\r\n\r\nx\r\n'
    with pytest.raises(TooLarge):
        read_multipart(part * 9 + b"--b--", "multipart/form-data; boundary=b", at_most_two)
    assert seen == [1, 2, 3]
