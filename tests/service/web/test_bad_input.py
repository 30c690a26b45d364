"""Whatever a client sends, it is told what was expected, and the service goes on."""

import base64
import io
import json
import pickle
import socket
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from service_kit import Running, encode, golden_frames, png, publish_tiny, serving

Check = Callable[..., dict[str, Any]]
FRAME = golden_frames()[0]


def npy(array: np.ndarray, header: str | None = None) -> bytes:
    """A `.npy` file; with a header of one's own for lies."""
    if header is None:
        file = io.BytesIO()
        np.save(file, array)
        return file.getvalue()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + array.tobytes()


def describe(descr: str, shape: str) -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"


def head(**headers: str) -> bytes:
    """The head of a POST to /segment, written by hand."""
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"POST /segment HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n{lines}\r\n".encode()


def parts(*contents: bytes, name: str = "frame") -> list[tuple[str, tuple[str, bytes, str]]]:
    return [(name, ("x.png", content, "image/png")) for content in contents]


def exchange(port: int, data: bytes) -> bytes:
    """Send raw bytes and read until the server hangs up."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(data)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
        return answer


@pytest.mark.parametrize("content_type", ["image/png", "application/json", "application/x-npy", None])
def test_an_empty_body(service: Running, assert_problem: Check, content_type: str | None) -> None:
    assert_problem(service.segment(b"", content_type), 400, "body-missing", "no bytes")


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "BMP"])
def test_half_a_picture(service: Running, assert_problem: Check, form: str) -> None:
    content = encode(Image.fromarray(FRAME), form)
    body = assert_problem(
        service.segment(content[: len(content) // 2]), 400, "frame-undecodable", "frame 0", "complete"
    )
    assert body["frame"] == 0


def test_text_that_is_called_a_picture(service: Running, assert_problem: Check) -> None:
    assert_problem(service.segment(b"hello, I am a text"), 400, "frame-undecodable", "PNG, JPEG, WebP or BMP", "hello")


def test_a_header_that_promises_too_many_pixels(service: Running, assert_problem: Check) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100)))
    assert_problem(service.segment(bomb), 413, "too-large", "60000x60000", "25000000 pixels")


def test_an_animated_gif(service: Running, assert_problem: Check) -> None:
    frames = [Image.new("P", (8, 8), colour) for colour in (0, 1)]
    gif = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    for content_type in ("image/gif", "image/png", None):
        assert_problem(
            service.segment(gif, content_type), 415, "media-type-unsupported", "GIF", "send the frame itself"
        )


def test_too_many_frames_in_every_form(service: Running, assert_problem: Check) -> None:
    small = png(np.zeros((2, 2, 3), np.uint8))
    many = [
        service.client.post("/segment", files=parts(*[small] * 1000)),
        service.client.post("/segment", json={"frames": [base64.b64encode(small).decode()] * 1000}),
        service.segment(npy(np.zeros((1000, 2, 2, 3), np.uint8)), "application/x-npy"),
    ]
    for response in many:
        assert_problem(response, 413, "too-large", "at most 8 frames")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("not base64!", "'not base64!'"),
        ("YQ", "padding"),
        ("é" * 4, "frame 1"),
        ("data:image/png;base64,AA==", "prefix"),
    ],
)
def test_base64_that_is_none(service: Running, assert_problem: Check, text: str, words: str) -> None:
    good = base64.b64encode(png(FRAME)).decode()
    body = assert_problem(
        service.client.post("/segment", json={"frames": [good, text]}), 400, "body-malformed", "frame 1", words
    )
    assert body["frame"] == 1


def test_the_bad_frame_among_good_ones_is_named(service: Running, assert_problem: Check) -> None:
    response = service.client.post("/segment", files=parts(png(FRAME), png(FRAME), b"rubbish"))
    assert assert_problem(response, 400, "frame-undecodable")["frame"] == 2
    good, bad = (base64.b64encode(content).decode() for content in (png(FRAME), png(FRAME)[:99]))
    response = service.client.post("/segment", json={"frames": [good, bad]})
    assert assert_problem(response, 400, "frame-undecodable")["frame"] == 1


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("treshold=0.5", ("'treshold'", "threshold, latents")),
        ("threshold=2", ("0 to 1", "'2'")),
        ("threshold=nan", ("'nan'",)),
        ("threshold=inf", ("'inf'",)),
        ("threshold=", ("''",)),
        ("threshold=0.1&threshold=0.2", ("threshold once", "2 times")),
        ("latents=yes", ("true or false", "'yes'")),
        ("size=huge", ("input or model",)),
        ("fit=squash", ("stretch or pad or crop",)),
        ("version=one", ("whole number",)),
        ("version=-1", ("whole number",)),
        ("version=99999999999999999999", ("whole number",)),
        ("width=64&height=64", ("only with raw RGB24",)),
        ("%00%ff=%0a", ("expected parameters among",)),
        ("x" * 5000 + "=1", ("...",)),
    ],
)
def test_a_parameter_that_is_wrong(service: Running, assert_problem: Check, query: str, words: tuple[str, ...]) -> None:
    response = service.client.post(f"/segment?{query}", content=png(FRAME), headers={"Content-Type": "image/png"})
    assert_problem(response, 422, "parameter-invalid", *words)


def test_raw_pixels_without_or_with_the_wrong_size(service: Running, assert_problem: Check) -> None:
    raw = "application/octet-stream"
    assert_problem(service.segment(FRAME.tobytes(), raw), 422, "parameter-invalid", "?width= and ?height=")
    wrong = service.segment(FRAME.tobytes(), raw, params={"width": 64, "height": 63})
    assert_problem(wrong, 400, "body-malformed", "12096 bytes", "64x63", "got 12288")
    picture = service.segment(png(FRAME), raw, params={"width": 64, "height": 64})
    assert_problem(picture, 400, "body-malformed", "look like a PNG")
    huge = service.segment(b"x", raw, params={"width": 16_000, "height": 16_000})
    assert_problem(huge, 413, "too-large", "16000x16000")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (npy(FRAME.astype(np.float32)), "'<f4'"),
        (npy(FRAME.astype(bool)), "'|b1'"),
        (npy(FRAME[..., 0]), "[64, 64]"),
        (npy(np.zeros((64, 64, 4), np.uint8)), "[64, 64, 4]"),
        (npy(np.zeros((0, 64, 64, 3), np.uint8)), "[0, 64, 64, 3]"),
        (npy(FRAME)[:-1], "got 12287"),
        (npy(FRAME) + b"x", "got 12289"),
        (npy(FRAME)[:20], "cannot be read"),
        (b"\x93NUMPY", "start with"),
        (b"PK\3\4 an npz", "start with"),
        (npy(np.array([{}], object)), "'|O'"),
        (npy(FRAME, describe("[('a', '|u1')]", "(64, 64, 3)")), "records"),
        (npy(FRAME, describe("'|u1'", "(-64, -64, 3)")), "[-64, -64, 3]"),
        (npy(FRAME, describe("'|u1'", "(64.0, 64, 3)")), "whole numbers"),
        (npy(FRAME, describe("'|u1'", "(True, 64, 3)")), "whole numbers"),
        (npy(FRAME, "{'descr': '|u1'}"), "without"),
        (npy(FRAME, "__import__('os').abort()"), "cannot be read"),
        (npy(FRAME, "(" * 900), "cannot be read"),
        (npy(FRAME, " " * 5000), "header of 5000 bytes"),
        (pickle.dumps(FRAME), "start with"),
    ],
)
def test_an_array_that_is_none_of_frames(service: Running, assert_problem: Check, content: bytes, words: str) -> None:
    assert_problem(service.segment(content, "application/x-npy"), 400, "body-malformed", words)


def test_an_array_whose_header_promises_too_much(service: Running, assert_problem: Check) -> None:
    wide = npy(FRAME, describe("'|u1'", "(60000, 60000, 3)"))
    assert_problem(service.segment(wide, "application/x-npy"), 413, "too-large", "60000x60000")
    many = npy(FRAME, describe("'|u1'", f"({10**30}, 64, 64, 3)"))
    assert_problem(service.segment(many, "application/x-npy"), 413, "too-large", "frames")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "no JSON"),
        (b"\xff\xfe\xfa", "no JSON"),
        (b"[]", "got list"),
        (b"null", "got NoneType"),
        (b'{"frame": []}', "'frame'"),
        (b'{"frames": [], "threshold": 1}', "threshold"),
        (b'{"frames": "aGVsbG8="}', "the keys 'frames'"),
        (b'{"frames": [1]}', "frame 0: expected base64 of a picture as text, got int"),
        (b"[" * 100_000, "deeper"),
        (b'{"a":' * 100_000, "deeper"),
        (b'{"frames": ' + b"[" * 15 + b"]" * 15 + b"}", "got list"),
        (b'{"frames": [' + b"9" * 5000 + b"]}", "no JSON"),
    ],
)
def test_json_that_is_not_what_is_expected(service: Running, assert_problem: Check, content: bytes, words: str) -> None:
    assert_problem(service.segment(content, "application/json"), 400, "body-malformed", words)


def test_json_without_frames(service: Running, assert_problem: Check) -> None:
    assert_problem(service.client.post("/segment", json={"frames": []}), 400, "body-missing", "an empty list")


GOOD_PART = b'--b\r\nContent-Disposition: form-data; name="frame"\r\n\r\nx\r\n'


@pytest.mark.parametrize(
    ("content", "content_type", "words"),
    [
        (b"no multipart at all", "multipart/form-data; boundary=b", "breaks its rules"),
        (GOOD_PART, "multipart/form-data; boundary=b", "cut off"),
        (b"--b--\r\n", "multipart/form-data; boundary=b", ""),
        (GOOD_PART + b"--b--\r\n", "multipart/form-data", "boundary"),
        (GOOD_PART + b"--b--\r\n", "multipart/form-data; boundary=" + "b" * 500, "boundary"),
        (GOOD_PART.replace(b"frame", b"image") + b"--b--\r\n", "multipart/form-data; boundary=b", "got 'image'"),
        (b"--b\r\n\r\nx\r\n--b--\r\n", "multipart/form-data; boundary=b", "got ''"),
        (b"--b\r\n" + b"A: b\r\n" * 5000 + b"\r\nx\r\n--b--\r\n", "multipart/form-data; boundary=b", ""),
        (
            GOOD_PART.replace(b"name=", b"filename*=a; filename*0=b; x=") + b"--b--\r\n",
            "multipart/form-data; boundary=b",
            "",
        ),
        (
            GOOD_PART.replace(b"name=", b"filename*%s=a; x=" % (b"9" * 5000)) + b"--b--\r\n",
            "multipart/form-data; boundary=b",
            "",
        ),
        (GOOD_PART, "multipart/form-data; boundary*=b; boundary*0=b", ""),
        (GOOD_PART + b"--b" + b" " * 1_000_000, "multipart/form-data; boundary=b", "to end its line"),
        (GOOD_PART + b"\r\n--bX" * 200_000 + b"\r\n--b--", "multipart/form-data; boundary=b", "b'--bX"),
    ],
)
def test_multipart_that_is_broken(
    service: Running, assert_problem: Check, content: bytes, content_type: str, words: str
) -> None:
    assert_problem(service.segment(content, content_type), 400, "body-malformed", words)


def test_what_curl_sends_when_it_is_not_told_what_it_sends(service: Running, assert_problem: Check) -> None:
    response = service.segment(png(FRAME), "application/x-www-form-urlencoded")
    assert_problem(
        response, 415, "media-type-unsupported", "curl -H 'Content-Type: image/png' --data-binary @frame.png"
    )


def test_media_types_and_encodings_that_are_not_read(service: Running, assert_problem: Check) -> None:
    assert_problem(
        service.segment(png(FRAME), "text/plain"), 415, "media-type-unsupported", "'text/plain'", "image/png"
    )
    packed = service.segment(zlib.compress(png(FRAME)), headers={"Content-Encoding": "gzip"})
    assert_problem(packed, 415, "media-type-unsupported", "without content encoding", "'gzip'")


@pytest.mark.parametrize(
    ("accept", "query", "words"),
    [
        ("text/html", {}, "'text/html'"),
        ("application/json;q=0", {}, "application/json"),
        ("application/json;q=fish", {}, "one of"),
        (";;;,,,", {}, "one of"),
        ("image/png", {"latents": "true"}, "latents=true, got image/png"),
        ("application/x-npy", {"probability": "true"}, "Accept: application/x-npz"),
        ("*/*", {"probability": "true", "size": "model"}, ""),
    ],
)
def test_answers_that_cannot_be_given(
    service: Running, assert_problem: Check, accept: str, query: dict[str, str], words: str
) -> None:
    response = service.segment(png(FRAME), params=query, headers={"Accept": accept})
    if accept == "*/*":
        assert response.headers["Content-Type"] == "application/x-npz"
    else:
        assert_problem(response, 406, "not-acceptable", words)


def test_several_frames_do_not_fit_into_one_png_nor_several_sizes_into_one_array(
    service: Running, assert_problem: Check
) -> None:
    two = parts(png(FRAME), png(FRAME[:32]))
    drawn = service.client.post("/segment", files=two, headers={"Accept": "image/png"})
    assert_problem(drawn, 406, "not-acceptable", "one frame", "got 2", "application/json")
    array = service.client.post("/segment", files=two, headers={"Accept": "application/x-npy"})
    assert_problem(array, 406, "not-acceptable", "one size", "size=model")


@pytest.mark.parametrize("query", ["model=other", "version=2", "model=tiny&version=7", "model=../../etc"])
def test_a_model_that_is_not_in_service(service: Running, assert_problem: Check, query: str) -> None:
    response = service.client.post(f"/segment?{query}", content=png(FRAME), headers={"Content-Type": "image/png"})
    assert_problem(response, 404, "model-unknown", "tiny version 1", "/models")


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"])
def test_a_method_that_segment_does_not_have(service: Running, assert_problem: Check, method: str) -> None:
    response = service.client.request(method, "/segment")
    if method == "HEAD":
        assert response.status_code == 405
    elif method == "BREW":
        assert response.status_code == 400  # no method that HTTP knows
    else:
        assert_problem(response, 405, "method-not-allowed", "POST for '/segment'", f"'{method}'")
    if method != "BREW":
        assert response.headers["Allow"] == "POST"


@pytest.mark.parametrize("path", ["/nowhere", "/segment/", "/x//y", "/%2e%2e/etc/passwd", "/livez/x", "/segment%00"])
def test_a_path_that_does_not_exist(service: Running, assert_problem: Check, path: str) -> None:
    assert_problem(service.client.post(path, content=b"x"), 404, "not-found", "/docs")


def test_a_body_that_says_it_is_too_large_is_refused_unread(service: Running) -> None:
    answer = exchange(service.port, head(Content_Length="40000001", Connection="close"))
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"at most 40000000 bytes" in answer


def test_a_chunked_body_is_cut_off_where_it_becomes_too_large(service: Running, assert_problem: Check) -> None:
    piece = bytes(1_000_000)
    response = service.client.post(
        "/segment", content=(piece for _ in range(41)), headers={"Content-Type": "image/png"}
    )
    assert_problem(response, 413, "too-large", "at most 40000000 bytes")


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS hello",
        b"GET\r\n\r\n",
        b"POST /segment HTTP/9.9\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /segment HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\n",
        b"POST /segment HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /segment HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 300_000,
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X%d: y\r\n" % n for n in range(20_000)),
        b"POST /segment HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"T: x\r\n" * 20_000,
        bytes(1000),
    ],
)
def test_what_is_no_http_is_answered_400_and_hung_up_on(
    service: Running, assert_problem: Check, garbage: bytes
) -> None:
    try:
        answer = exchange(service.port, garbage)
    except ConnectionError:  # hung up on before all of it was sent
        answer = b""
    if answer:
        top, _, body = answer.partition(b"\r\n\r\n")
        assert b" 400 " in top.splitlines()[0]
        if b"problem+json" in top:
            assert json.loads(body)["type"].startswith("urn:robomask:problem:")
    assert_problem(service.segment(b""), 400, "body-missing")


def test_clients_that_leave_at_any_point_leave_nothing_behind(service: Running, assert_problem: Check) -> None:
    body = png(FRAME)
    start = head(Content_Length=str(len(body)))
    request = start + body
    for length in (10, len(start), len(start) + 100, len(request)):
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", service.port)) as connection:
                connection.sendall(request[:length])
    assert_problem(service.segment(b""), 400, "body-missing")


@pytest.fixture(scope="module")
def hurried(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service that waits for no body and has hardly any memory."""
    folder = tmp_path_factory.mktemp("models")
    publish_tiny(folder)
    with serving(folder, body_timeout_s=0.05, max_body_bytes=50_000, max_inflight_bytes=50_000) as running:
        yield running


def test_a_body_that_never_ends_is_given_up_on(hurried: Running) -> None:
    answer = exchange(hurried.port, head(Content_Length="100", Connection="close") + b"abc")
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"got 3 bytes" in answer


def test_an_answer_too_large_for_the_memory_there_is_comes_later(hurried: Running) -> None:
    picture = encode(Image.new("RGB", (300, 300)), "PNG")
    headers = {"Accept": "application/x-npy"}
    response = hurried.segment(picture, headers=headers)
    assert response.status_code == 503
    assert response.headers["Retry-After"] == "1"
    assert response.json()["type"] == "urn:robomask:problem:busy"
    assert hurried.segment(picture).status_code == 200
    assert hurried.segment(png(np.zeros((100, 100, 3), np.uint8)), headers=headers).status_code == 200
    assert 'robomask_shed_total{reason="memory"} 1.0' in hurried.client.get("/metrics").text


def test_errors_on_every_route_have_one_shape(service: Running, assert_problem: Check, repository: Path) -> None:
    paths = service.client.get("/openapi.json").json()["paths"]
    assert {"/segment", "/livez", "/readyz", "/metrics", "/models", "/example.png"} <= set(paths)
    for path in [*paths, "/", "/docs", "/openapi.json"]:
        response = service.client.request("DELETE", path)
        assert_problem(response, 405, "method-not-allowed", path)
        answered = set(response.headers["Allow"].split(", "))
        assert "POST" in answered or answered == {"GET", "HEAD"}
    assert repository.is_dir()
