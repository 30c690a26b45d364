"""The client against a real server, and what it does when there is none or one that has too much to do."""

import asyncio
import contextlib
import importlib.util
import io
import json
import math
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from service_kit import TOKEN, Running, golden_frames, png, publish_tiny, red_probability, serving

from service.client import (
    AddressInvalid,
    AnswerUnreadable,
    AsyncClient,
    BadRequest,
    Busy,
    Client,
    ClientError,
    DeadlineExceeded,
    HeaderInvalid,
    ModelAdmin,
    ModelUnknown,
    NotReady,
    Redirected,
    Retries,
    ServiceFault,
    Superseded,
    TokenInvalid,
    Unreachable,
)
from service.client.results import read_answer, read_arrays
from service.client.stream_protocol import Protocol

SERVER = {"fastapi", "starlette", "uvicorn", "pydantic", "pydantic_settings", "onnxruntime", "pycocotools", "PIL"}


@pytest.fixture
def client(service: Running) -> Client:
    return Client(f"http://127.0.0.1:{service.port}")


def masks_of(frames: np.ndarray) -> np.ndarray:
    return red_probability(frames) >= 0.5


def test_it_imports_nothing_of_the_server() -> None:
    code = "import sys, service.client; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert "httpx" in loaded
    assert not loaded & SERVER


def test_an_array_of_frames_comes_back_as_masks(client: Client) -> None:
    frames = golden_frames()
    answer = client.segment(frames)
    assert answer.masks.dtype == bool
    assert (answer.masks == masks_of(frames)).all()
    assert answer.model.name == "tiny"
    assert len(answer.model.sha256) == 64
    assert answer.timing_ms.keys() == {"decode", "queue", "infer", "encode"}
    assert answer.request_id


def test_one_frame_may_be_an_array_a_picture_or_a_path(client: Client, tmp_path: Path) -> None:
    frame = golden_frames()[0]
    path = tmp_path / "frame.png"
    path.write_bytes(png(frame))
    for form in (frame, png(frame), path, [frame], [path]):
        answer = client.segment(form)
        assert (answer.masks == masks_of(frame[None])).all()


def test_frames_of_several_sizes_go_in_one_request(client: Client) -> None:
    small, wide = golden_frames()[0], np.full((48, 90, 3), (255, 0, 0), np.uint8)
    answer = client.segment([small, wide, png(small)])
    assert [frame.mask.shape for frame in answer.frames] == [(64, 64), (48, 90), (64, 64)]
    assert answer.frames[1].mask.all()
    assert answer.frames[1].bbox == (0, 0, 90, 48)
    assert (answer.frames[0].mask == answer.frames[2].mask).all()
    with pytest.raises(ValueError, match="one size"):
        _ = answer.masks


@pytest.mark.parametrize("width", [1, 2, 3, 5])
def test_the_bmp_of_an_array_is_that_array(client: Client, width: int) -> None:
    frame = np.random.default_rng(width).integers(0, 256, (7, width, 3), dtype=np.uint8)
    as_bmp = client.segment([frame, golden_frames()[0]]).frames[0]
    assert (as_bmp.mask == client.segment(frame).masks[0]).all()


def test_probabilities_and_latents_come_when_asked_for(client: Client) -> None:
    frames = golden_frames()
    answer = client.segment(frames, probability=True, latents=True)
    assert np.allclose(answer.probability, red_probability(frames), atol=1e-5)
    assert answer.latents.shape == (3, 16, 16, 240)
    assert np.array_equal(answer.latents, client.segment(frames, latents=True).latents)
    with pytest.raises(ValueError, match="probability=True"):
        _ = client.segment(frames).probability


def test_latents_come_in_half_the_bytes_when_asked_for(client: Client) -> None:
    whole = client.segment(golden_frames()[:1], latents=True).frames[0].latents
    half = client.segment(golden_frames()[:1], latents=True, latents_dtype="float16").frames[0].latents
    assert whole is not None
    assert half is not None
    assert half.dtype == np.float16
    np.testing.assert_allclose(half, whole, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("size", [(64, 64), (320, 180)])
def test_both_forms_of_answer_say_the_same_of_a_mask(client: Client, size: tuple[int, int]) -> None:
    frames = [np.asarray(Image.fromarray(frame).resize(size)) for frame in golden_frames()]
    as_json, as_arrays = client.segment(frames), client.segment(frames, probability=True)
    assert (as_json.masks == as_arrays.masks).all()
    assert (as_json.bbox == as_arrays.bbox).all()
    assert (as_json.confidence == as_arrays.confidence).all()
    with client.stream(probability=True) as stream:
        (result,) = stream.run(frames[:1])
    assert result.answer is not None
    assert result.answer.confidence == as_json.confidence[0]
    assert as_json.model == as_arrays.model
    assert as_arrays.timing_ms.keys() == as_json.timing_ms.keys()


def test_a_threshold_reaches_the_service(client: Client) -> None:
    assert not client.segment(np.zeros((8, 8, 3), np.uint8), threshold=1.0).present.any()
    assert client.segment(np.zeros((8, 8, 3), np.uint8), threshold=0.0).present.all()


def test_the_async_client_answers_the_same(service: Running) -> None:
    async def both() -> tuple[np.ndarray, bool]:
        async with AsyncClient(f"http://127.0.0.1:{service.port}") as client:
            first, second = await asyncio.gather(client.segment(golden_frames()), client.segment(golden_frames()))
            assert (first.masks == second.masks).all()
            return first.masks, await client.ready()

    masks, ready = asyncio.run(both())
    assert (masks == masks_of(golden_frames())).all()
    assert ready


def test_a_frame_at_fault_is_named(client: Client) -> None:
    with pytest.raises(BadRequest, match="frame 1") as caught:
        client.segment([golden_frames()[0], b"no picture"])
    assert (caught.value.code, caught.value.status, caught.value.frame) == ("frame-undecodable", 400, 1)
    assert caught.value.request_id


def test_a_change_of_models_that_is_refused_is_no_frame_that_was_superseded(tmp_path: Path) -> None:
    publish_tiny(tmp_path)
    (publish_tiny(tmp_path).folder / "card.md").write_text("changed")
    with serving(tmp_path, version=1, admin_token=TOKEN) as running:
        with ModelAdmin(str(running.client.base_url), TOKEN) as admin, pytest.raises(BadRequest) as caught:
            admin.activate(2)
        assert (caught.value.status, caught.value.code) == (409, "model-fixed")
        assert "expected sha256" in str(caught.value)
        assert caught.value.request_id


def test_a_stream_that_is_one_too_many_is_told_when_to_come_again(tmp_path: Path) -> None:
    publish_tiny(tmp_path)
    with (
        serving(tmp_path, stream_limit=1) as running,
        Client(f"http://127.0.0.1:{running.port}") as client,
        client.stream() as first,
    ):
        (result,) = first.run([golden_frames()[0]])
        assert result.answer
        with pytest.raises(Busy) as caught, client.stream():
            pass
    assert caught.value.retry_after_s == 1
    assert caught.value.request_id


def test_a_frame_of_a_stream_that_fails_names_its_request(client: Client) -> None:
    with client.stream() as stream:
        (result,) = stream.run([b"no picture"])
    assert isinstance(result.error, BadRequest)
    assert result.error.request_id
    assert result.error.request_id.endswith("-0")  # the first frame of its connection


def test_a_model_that_is_not_there_is_an_error_of_its_own(client: Client) -> None:
    with pytest.raises(ModelUnknown):
        client.segment(golden_frames(), version=77)


@pytest.mark.parametrize(
    ("frames", "kind"),
    [
        (np.zeros((4, 4, 3)), ValueError),
        (np.zeros((4, 4), np.uint8), ValueError),
        (np.zeros((0, 4, 4, 3), np.uint8), ValueError),
        ([], ValueError),
        ("frame.png", TypeError),
        ([1, 2], TypeError),
    ],
)
def test_what_is_no_frame_is_refused_before_it_is_sent(client: Client, frames: object, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="expected"):
        client.segment(frames)  # type: ignore[arg-type]


def test_a_misspelt_option_is_refused(client: Client) -> None:
    with pytest.raises(TypeError, match="deadline"):
        client.segment(golden_frames(), deadline=5)  # type: ignore[call-arg]


class Script:
    """Answers one after the other, a clock that only sleep and answers that take time move on, and what was asked."""

    def __init__(self, *answers: httpx.Response | Exception, takes_s: float = 0.0) -> None:
        self.answers = list(answers)
        self.takes_s = takes_s
        self.asked: list[httpx.Request] = []
        self.now = 100.0
        self.slept: list[float] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        self.now += self.takes_s
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def client(self, draw: Callable[[], float] = lambda: 0.5) -> Client:
        return Client(
            "http://service",
            transport=httpx.MockTransport(self),
            retries=Retries(draw=draw),
            clock=lambda: self.now,
            sleep=self.sleep,
        )


def problem(status: int, code: str, **headers: str) -> httpx.Response:
    body = {"type": f"urn:robomask:problem:{code}", "detail": f"expected {code}", "request_id": "r1"}
    return httpx.Response(status, json=body, headers=headers)


@pytest.fixture
def good(service: Running) -> httpx.Response:
    answer = service.segment(png(golden_frames()[0]))
    return httpx.Response(200, content=answer.content, headers={"Content-Type": "application/json"})


def test_a_busy_service_is_asked_again_when_it_said(good: httpx.Response) -> None:
    script = Script(problem(503, "busy", **{"Retry-After": "2"}), httpx.ConnectError("refused"), good)
    assert script.client().segment(golden_frames()[0]).frames
    assert script.slept == [2.05, 0.1]
    assert len({bytes(request.content) for request in script.asked}) == 1


def test_waits_differ_from_client_to_client(good: httpx.Response) -> None:
    script = Script(problem(503, "busy"), good)
    script.client(draw=lambda: 0.25).segment(golden_frames()[0])
    assert script.slept == [0.025]


def test_it_gives_up_in_the_end_and_says_when_to_come_again() -> None:
    script = Script(*[problem(503, "busy", **{"Retry-After": "1"})] * 4)
    with pytest.raises(Busy, match="expected busy") as caught:
        script.client().segment(golden_frames()[0])
    assert caught.value.retry_after_s == 1
    assert len(script.asked) == 4


def test_a_wait_that_ends_after_the_deadline_is_not_begun() -> None:
    script = Script(problem(503, "busy", **{"Retry-After": "1"}))
    with pytest.raises(Busy):
        script.client().segment(golden_frames()[0], deadline_ms=200)
    assert script.slept == []


def test_a_frame_of_a_stream_is_not_asked_again_as_it_would_pass_for_the_newest(good: httpx.Response) -> None:
    for failure, kind in ((problem(503, "busy"), Busy), (httpx.ReadError("closed"), Unreachable)):
        script = Script(failure, good)
        with pytest.raises(kind):
            script.client().segment(golden_frames()[0], stream_id="wrist")
        assert len(script.asked) == 1


@pytest.mark.parametrize("after_s", [0.2, 5.0])
def test_an_answer_after_the_deadline_is_none(good: httpx.Response, after_s: float) -> None:
    with pytest.raises(DeadlineExceeded, match="within 100 ms, got it later"):
        Script(good, takes_s=after_s).client().segment(golden_frames()[0], deadline_ms=100)


def test_a_refusal_a_little_after_the_deadline_is_the_services_own() -> None:
    with pytest.raises(DeadlineExceeded, match="expected deadline-missed"):
        Script(problem(504, "deadline-missed"), takes_s=0.2).client().segment(golden_frames()[0], deadline_ms=100)


@contextmanager
def listening(script: Callable[[socket.socket, threading.Event], None]) -> Iterator[str]:
    """A server of single connections that knows nothing of HTTP; the event says that the test is over."""
    over = threading.Event()

    def handle() -> None:
        while not over.is_set():
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                if not over.is_set():
                    script(connection, over)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=handle)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            over.set()
            with contextlib.suppress(OSError):  # it may be just at the end of one
                socket.create_connection(server.getsockname()).close()
            thread.join()


def slow_reader(connection: socket.socket, over: threading.Event) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 18)
    while connection.recv(1 << 16) and not over.wait(0.02):
        pass


def trickling_headers(connection: socket.socket, over: threading.Event) -> None:
    connection.recv(1 << 16)
    for byte in b"HTTP/1.1 200 OK\r\nX-Pad: " + b"a" * 200:
        connection.sendall(bytes([byte]))
        if over.wait(0.05):
            return


@pytest.mark.parametrize("script", [slow_reader, trickling_headers])
def test_neither_a_slow_upload_nor_headers_that_trickle_outlast_the_deadline(
    script: Callable[[socket.socket, threading.Event], None],
) -> None:
    frame = np.zeros((2000, 2000, 3), np.uint8)

    async def ask() -> None:
        async with AsyncClient(url) as client:
            await client.segment(frame, deadline_ms=200)

    with listening(script) as url, Client(url) as client:
        begun_s = time.monotonic()
        with pytest.raises(DeadlineExceeded, match="within 200 ms, got none"):
            client.segment(frame, deadline_ms=200)
        between_s = time.monotonic()
        with pytest.raises(DeadlineExceeded, match="within 200 ms, got none"):
            asyncio.run(ask())
        assert between_s - begun_s < 1.5
        assert time.monotonic() - between_s < 1.5


def trickling_body(connection: socket.socket, over: threading.Event) -> None:
    connection.recv(1 << 16)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 200\r\n\r\n")
    for _ in range(200):
        connection.sendall(b" ")
        if over.wait(0.05):
            return


@pytest.mark.parametrize("script", [trickling_body, trickling_headers])
def test_without_a_deadline_no_try_outlasts_the_clients_patience(
    script: Callable[[socket.socket, threading.Event], None],
) -> None:
    async def segment() -> None:
        async with AsyncClient(url, timeout_s=0.3) as client:
            await client.segment(b"frame")

    async def is_ready() -> bool:
        async with AsyncClient(url, timeout_s=0.3) as client:
            return await client.ready()

    def ask() -> None:
        with Client(url, timeout_s=0.3) as client:
            client.segment(b"frame")

    def listing() -> None:
        with ModelAdmin(url, timeout_s=0.3) as admin:
            admin.listing()

    asked: list[tuple[Callable[[], object], type[Exception] | None]] = [
        (ask, DeadlineExceeded),
        (lambda: asyncio.run(segment()), DeadlineExceeded),
        (lambda: Client(url, timeout_s=0.3).ready(), None),
        (lambda: asyncio.run(is_ready()), None),
        (listing, Unreachable),
    ]
    for action, kind in asked:
        with listening(script) as url:
            begun_s = time.monotonic()
            if kind is None:
                assert not action()
            else:
                with pytest.raises(kind):
                    action()
            assert time.monotonic() - begun_s < 2


@pytest.mark.parametrize("deadline_ms", [None, math.inf])
def test_without_a_deadline_it_is_said_how_long_was_waited(deadline_ms: float | None) -> None:
    def silent(connection: socket.socket, over: threading.Event) -> None:
        connection.recv(1 << 16)
        over.wait()

    with listening(silent) as url, pytest.raises(DeadlineExceeded, match="within 200 ms, got none"):
        Client(url, timeout_s=0.2).segment(golden_frames()[0], deadline_ms=deadline_ms)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected deadline_ms"):
        Client(url).segment(golden_frames()[0], deadline_ms=math.nan)


def test_who_answers_for_another_address_is_an_error_that_names_it() -> None:
    def elsewhere(connection: socket.socket, _: threading.Event) -> None:
        path = connection.recv(1 << 16).split(b" ")[1]
        location = b"https://robots.example/lab" + path
        connection.sendall(b"HTTP/1.1 308 x\r\nContent-Length: 0\r\nLocation: %b\r\n\r\n" % location)

    there = "'https://robots.example/lab' \\(status 308\\): if the service is there"
    with listening(elsewhere) as url:
        with pytest.raises(Redirected, match=there) as caught:
            Client(url).segment(png(golden_frames()[0]))
        with pytest.raises(Redirected, match=there):
            ModelAdmin(url).listing()
    assert isinstance(caught.value, BadRequest)
    assert caught.value.status == 308


class Trickling(httpx.SyncByteStream):
    """A body of which every byte takes a fifth of a second."""

    def __init__(self, script: Script) -> None:
        self.script = script

    def __iter__(self) -> Iterator[bytes]:
        while True:
            self.script.sleep(0.2)
            yield b" "


def test_an_answer_that_trickles_is_not_waited_for_beyond_the_deadline() -> None:
    script = Script()
    script.answers.append(httpx.Response(200, stream=Trickling(script)))
    with pytest.raises(DeadlineExceeded, match="within 100 ms"):
        script.client().segment(golden_frames()[0], deadline_ms=100)
    assert script.now < 101


def test_a_service_that_names_a_wait_gets_it_if_it_is_not_too_long(good: httpx.Response) -> None:
    script = Script(problem(503, "busy", **{"Retry-After": "10"}), good)
    script.client(draw=lambda: 1.0).segment(golden_frames()[0])
    assert script.slept == [10]
    with pytest.raises(Busy):
        Script(problem(503, "busy", **{"Retry-After": "11"})).client().segment(golden_frames()[0])


@pytest.mark.parametrize(
    "url",
    [
        *("localhost:8000", "http://", "http://here:port", "http://here:99999", "ws://here", "http://[::1"),
        *("http://a..b:80", f"http://{'a' * 64}.example", "http://a\tb:80"),
    ],
)
def test_what_is_no_address_is_said_when_the_client_is_made(url: str) -> None:
    for make in (Client, AsyncClient, ModelAdmin):
        with pytest.raises(AddressInvalid, match="expected the address of a service"):
            make(url)


def test_an_address_may_have_blanks_around_it(service: Running) -> None:
    with Client(f" http://127.0.0.1:{service.port}\n") as client:
        assert client.segment(golden_frames()[0]).frames
        with client.stream() as stream:
            assert stream.model is not None
    assert ModelAdmin(f"http://127.0.0.1:{service.port}\n").listing()["ready"]


def test_a_proxy_that_cannot_be_used_is_said_with_what_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    for proxy in ("socks4://127.0.0.1:1080", "socks5://127.0.0.1:1080"):
        if proxy.startswith("socks5") and importlib.util.find_spec("socksio"):
            continue
        monkeypatch.setenv("ALL_PROXY", proxy)
        for make in (Client, AsyncClient, ModelAdmin):
            with pytest.raises(AddressInvalid, match="pip install 'httpx\\[socks\\]'"):
                make("http://service.example")


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer s3cret\n"},
        {"X-Robot": "J\u00fcrgen"},
        {"X-Robot": " left"},
        {"X Robot": "a"},
        {"": "a"},
    ],
)
def test_a_header_that_cannot_be_sent_is_said_when_the_client_is_made(headers: dict[str, str]) -> None:
    for make in (Client, AsyncClient):
        with pytest.raises(HeaderInvalid, match="expected") as caught:
            make("http://service", headers=headers)
        assert isinstance(caught.value, ValueError)
        assert "s3cret" not in str(caught.value)
    Client("http://service", headers={"Authorization": "Basic YTpi", "X-Robot": ""}).close()


def test_a_token_that_no_header_can_hold_is_said() -> None:
    for token in ("na\u00efve", "two\nlines"):
        with pytest.raises(TokenInvalid, match="printable ASCII"):
            ModelAdmin("http://service", token)


@pytest.mark.parametrize("name", ["a\nX-Evil: 1", "", " left", "x" * 129, "kamera-\u00fc"])
def test_a_name_of_a_stream_that_no_header_can_hold_is_refused_before_anything_is_sent(name: str) -> None:
    client = Script().client()
    with pytest.raises(ValueError, match="expected stream_id in ASCII, 1 to 128"):
        client.segment(golden_frames()[0], stream_id=name)
    with pytest.raises(ValueError, match="expected stream_id in ASCII, 1 to 128"), client.stream(stream_id=name):
        pass


@pytest.mark.parametrize(("said", "expected"), [([0.625], 0.625), (None, 0.75)])
def test_how_sure_the_model_is_comes_from_the_service_if_it_says_so(said: list[float] | None, expected: float) -> None:
    probability = np.array([[[0.75, 0.25]]], np.float32)
    file = io.BytesIO()
    np.savez(file, masks=(probability > 0.5).astype(np.uint8), probability=probability)
    (frame,) = read_arrays(file.getvalue(), said)
    assert frame.confidence == expected
    assert frame.probability is not None


def test_options_may_be_numbers_of_numpy_and_streams_are_named_in_ascii(good: httpx.Response) -> None:
    script = Script(good)
    script.client().segment(
        golden_frames()[0], captured_at=np.int64(1_700_000_000), deadline_ms=math.inf, max_age_ms=math.inf
    )
    assert "X-Max-Age-Ms" not in script.asked[0].headers
    assert script.asked[0].headers["X-Captured-At"] == "1700000000.000000"
    assert "X-Deadline-Ms" not in script.asked[0].headers
    with pytest.raises(ValueError, match="expected max_age_ms in milliseconds"):
        script.client().segment(golden_frames()[0], captured_at=1, max_age_ms=math.nan)
    with pytest.raises(ValueError, match="expected stream_id in ASCII"):
        script.client().segment(golden_frames()[0], stream_id="kamera-\u00fc")


def test_every_try_tells_what_is_left_of_the_deadline(good: httpx.Response) -> None:
    script = Script(httpx.ConnectError("refused"), good)
    script.client().segment(golden_frames()[0], deadline_ms=200)
    assert [request.headers["X-Deadline-Ms"] for request in script.asked] == ["200", "150"]


def test_capture_time_age_and_stream_are_sent(good: httpx.Response) -> None:
    script = Script(good)
    taken = datetime(2026, 1, 1, tzinfo=UTC)
    script.client().segment(golden_frames()[0], captured_at=taken, max_age_ms=150, stream_id="left")
    headers = script.asked[0].headers
    assert float(headers["X-Captured-At"]) == taken.timestamp()
    assert (headers["X-Max-Age-Ms"], headers["X-Stream-Id"]) == ("150", "left")
    assert "X-Deadline-Ms" not in headers


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (problem(409, "superseded"), Superseded),
        (problem(409, "model-fixed"), BadRequest),
        (problem(504, "deadline"), DeadlineExceeded),
        (problem(500, "model-fault"), ServiceFault),
        (problem(413, "too-large"), BadRequest),
        (httpx.Response(401, text="who are you?"), BadRequest),
        (httpx.ReadTimeout("slow"), DeadlineExceeded),
        (httpx.Response(200, text="<html>"), AnswerUnreadable),
        (httpx.Response(200, json={"frames": 3}), AnswerUnreadable),
    ],
)
def test_what_asking_again_would_not_help_is_raised_at_once(answer: httpx.Response, kind: type[Exception]) -> None:
    script = Script(answer)
    with pytest.raises(kind):
        script.client().segment(golden_frames()[0])
    assert len(script.asked) == 1


MODEL = {"name": "tiny", "version": 1, "sha256": "f" * 64}
FRAME = {"mask": {"counts": "4", "size": [2, 2]}, "area": 0, "bbox": [0, 0, 0, 0], "confidence": 1}


@pytest.mark.parametrize(
    "document",
    [
        {"frames": [FRAME], "model": MODEL, "timing_ms": None},
        {"frames": [FRAME], "model": MODEL, "timing_ms": [1]},
        {"frames": [FRAME | {"mask": {"counts": 5, "size": [2, 2]}}], "model": MODEL},
        {"frames": [FRAME | {"area": math.inf}], "model": MODEL},
        {"frames": [FRAME], "model": MODEL, "latents": [1]},
        {"frames": {"a": 1}, "model": []},
        [],
    ],
)
def test_an_answer_of_another_form_is_one_that_cannot_be_read(document: Any) -> None:
    content = json.dumps(document).encode()
    with pytest.raises(AnswerUnreadable, match="does not decode"):
        read_answer({"Content-Type": "application/json"}, content)
    protocol = Protocol()
    protocol.sent()
    with pytest.raises(AnswerUnreadable, match="expected a message of robomask's stream"):
        protocol.receive(json.dumps({"type": "answer", "seq": 0, "answer": document}))
    assert isinstance(protocol.ended, AnswerUnreadable)


def test_answers_nested_without_end_are_ones_that_cannot_be_read() -> None:
    content = b"[" * 100_000
    with pytest.raises(AnswerUnreadable):
        read_answer({"Content-Type": "application/json"}, content)
    with pytest.raises(AnswerUnreadable):
        Protocol().receive(content.decode())
    with pytest.raises(ServiceFault):
        Script(httpx.Response(500, content=content)).client().segment(b"frame")
    with pytest.raises(AnswerUnreadable):
        ModelAdmin(
            "http://service", transport=httpx.MockTransport(Script(httpx.Response(200, content=content)))
        ).listing()


def test_an_answer_damaged_anywhere_is_one_that_cannot_be_read() -> None:
    file = io.BytesIO()
    masks = np.random.default_rng(3).integers(0, 2, (1, 64, 64), dtype=np.uint8)
    np.savez_compressed(file, masks=masks)
    headers = {"Content-Type": "application/x-npz", "X-Model-Name": "tiny", "X-Model-Version": "1"}
    assert (read_answer(headers, file.getvalue()).masks == masks.astype(bool)).all()
    unread = 0
    for at in range(len(file.getvalue())):
        damaged = bytearray(file.getvalue())
        damaged[at] ^= 0xFF
        try:
            read_answer(headers, bytes(damaged))
        except AnswerUnreadable:
            unread += 1
    assert unread > 500  # times in a zip are no part of the answer


def test_a_service_that_starts_is_waited_for(good: httpx.Response) -> None:
    script = Script(problem(503, "not-ready"), good)
    assert script.client().segment(golden_frames()[0]).frames
    with pytest.raises(NotReady):
        Script(*[problem(503, "not-ready")] * 4).client().segment(golden_frames()[0])


def test_nobody_there_is_said_with_the_address() -> None:
    script = Script(*[httpx.ConnectError("refused")] * 4)
    with pytest.raises(Unreachable, match="http://service"):
        script.client().segment(golden_frames()[0])


@pytest.mark.parametrize(
    "ask",
    [
        lambda url: Client(url, retries=Retries(tries=1)).segment(golden_frames()[0]),
        lambda url: Client(url).stream().__enter__(),
        lambda url: ModelAdmin(url, "token").listing(),
    ],
)
@pytest.mark.parametrize("url", ["http://me:open sesame@127.0.0.1:9", "http://me:sesame@127.0.0.1:none", "me:sesame@x"])
def test_a_password_in_an_address_is_not_repeated(ask: Callable[[str], object], url: str) -> None:
    with pytest.raises(ClientError) as caught:
        ask(url)
    assert "sesame" not in str(caught.value)
    assert url.rpartition("@")[2] in str(caught.value)
