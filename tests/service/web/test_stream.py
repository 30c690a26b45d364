"""A camera on a WebSocket: an answer for every frame, the newest first, and nothing that it sends can harm."""

import io
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco
from service_kit import Running, golden_frames, png, publish_tiny, red_probability, serving
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

FRAME = golden_frames()[0]
MASK = (red_probability(FRAME[None])[0] >= 0.5).astype(np.uint8)


@contextmanager
def streaming(service: Running, query: str = "") -> Iterator[ClientConnection]:
    address = f"ws://127.0.0.1:{service.port}/stream{'?' if query else ''}{query}"
    with connect(address, compression=None, open_timeout=20) as socket:
        yield socket


def told(socket: ClientConnection) -> dict[str, Any]:
    message = socket.recv(timeout=20)
    assert isinstance(message, str)
    document: dict[str, Any] = json.loads(message)
    return document


def ended(socket: ClientConnection, code: int) -> None:
    with pytest.raises(ConnectionClosed):
        socket.recv(timeout=20)
    assert socket.close_code == code


def test_every_frame_is_answered_and_gives_its_credit_back(service: Running) -> None:
    with streaming(service) as socket:
        hello = told(socket)
        assert hello["type"] == "hello"
        assert hello["protocol"] == 1
        assert hello["credits"] == 4
        assert hello["accept"] == "application/json"
        assert hello["model"]["name"] == "tiny"
        for seq in range(3 * hello["credits"]):
            socket.send(png(FRAME))
            message = told(socket)
            assert (message["type"], message["seq"]) == ("answer", seq)
            (frame,) = message["answer"]["frames"]
            assert np.array_equal(coco.decode(dict(frame["mask"])), MASK)


def test_masks_come_as_pictures_or_arrays_when_asked_for(service: Running) -> None:
    for form in ("image/png", "application/x-npy"):
        with streaming(service, f"accept={form}&threshold=0.5") as socket:
            assert told(socket)["accept"] == form
            socket.send(png(FRAME))
            head, body = told(socket), socket.recv(timeout=20)
            assert (head["seq"], head["content_type"], head["bytes"]) == (0, form, len(body))
            assert head["confidence"] == [service.segment(png(FRAME)).json()["frames"][0]["confidence"]]
            assert set(head["timing_ms"]) == {"decode", "queue", "infer", "encode"}
            assert isinstance(body, bytes)
            file = io.BytesIO(body)
            mask = np.asarray(Image.open(file)) // 255 if form == "image/png" else np.load(file)[0]
            assert np.array_equal(mask, MASK)


def test_raw_frames_come_with_their_size_in_the_query(service: Running) -> None:
    with streaming(service, "width=64&height=64") as socket:
        told(socket)
        socket.send(FRAME.tobytes())
        assert told(socket)["answer"]["frames"][0]["area"] == MASK.sum()
        socket.send(FRAME.tobytes()[:-1])
        problem = told(socket)["problem"]
        assert (problem["status"], problem["type"]) == (400, "urn:robomask:problem:body-malformed")


def test_a_bad_frame_is_answered_with_its_problem_and_the_stream_goes_on(service: Running) -> None:
    with streaming(service) as socket:
        told(socket)
        for content in (b"", b"no picture", png(FRAME)[:100]):
            socket.send(content)
            message = told(socket)
            assert message["type"] == "error"
            assert message["problem"]["status"] == 400
            assert message["problem"]["detail"] == message["problem"]["error"]
        socket.send(png(FRAME))
        assert told(socket)["seq"] == 3


def test_a_note_before_a_frame_is_about_that_frame_alone(service: Running) -> None:
    with streaming(service, "max_age_ms=60000") as socket:
        told(socket)
        socket.send(json.dumps({"captured_at": time.time() - 2}))
        socket.send(png(FRAME))
        assert told(socket)["answer"]["age_ms"] >= 2000
        socket.send(json.dumps({"captured_at": time.time() - 2, "max_age_ms": 1000}))
        socket.send(png(FRAME))
        assert told(socket)["problem"]["type"] == "urn:robomask:problem:frame-too-old"
        socket.send(png(FRAME))  # a bound on age, and no capture time
        assert "captured_at" in told(socket)["problem"]["detail"]


def test_a_frame_that_cannot_make_its_deadline_is_refused(service: Running) -> None:
    with streaming(service) as socket:
        told(socket)
        socket.send(png(FRAME))
        told(socket)
        socket.send(json.dumps({"deadline_ms": 0.001}))
        socket.send(png(FRAME))
        assert told(socket)["problem"]["status"] == 504
        socket.send(png(FRAME))
        assert told(socket)["type"] == "answer"


def test_a_flood_of_frames_is_answered_with_the_newest_and_notes_for_the_rest(service: Running) -> None:
    """As many as there are credits, at once: whatever the pace, the last is answered and none is left out."""
    with streaming(service) as socket:
        count = told(socket)["credits"]
        big = png(np.resize(FRAME, (600, 800, 3)))
        for _ in range(count):
            socket.send(big)
        settled = {message["seq"]: message["type"] for message in (told(socket) for _ in range(count))}
        assert set(settled) == set(range(count))
        assert set(settled.values()) <= {"answer", "superseded"}


@pytest.mark.parametrize(
    ("query", "code", "words"),
    [
        ("accept=text/html", 4422, "accept to be one of"),
        ("threshold=2", 4422, "threshold"),
        ("nonsense=1", 4422, "nonsense"),
        ("width=64", 4422, "width and height"),
        ("deadline_ms=soon", 4422, "deadline_ms"),
        ("deadline_ms=5&deadline_ms=6", 4422, "deadline_ms once"),
        ("max_age_ms=-1", 4422, "max_age_ms"),
        ("model=other", 4404, "tiny version 1"),
    ],
)
def test_a_wrong_query_is_told_and_hung_up_on(service: Running, query: str, code: int, words: str) -> None:
    with streaming(service, query) as socket:
        message = told(socket)
        assert (message["type"], message["seq"]) == ("error", None)
        assert words in message["problem"]["detail"]
        ended(socket, code)


@pytest.mark.parametrize(
    "note", ["", "{", "[]", "1", '{"seq": 1}', '{"deadline_ms": "5"}', '{"deadline_ms": true}', "[" * 1000, "x" * 2000]
)
def test_a_note_that_is_none_is_told_and_hung_up_on(service: Running, note: str) -> None:
    with streaming(service) as socket:
        told(socket)
        socket.send(note)
        assert "captured_at" in told(socket)["problem"]["detail"]
        ended(socket, 4422)


def test_numbers_that_are_none_are_refused_with_their_frame(service: Running) -> None:
    for number in ("NaN", "1e999", "-1", "0", "9" * 300):
        with streaming(service) as socket:
            told(socket)
            socket.send(f'{{"deadline_ms": {number}}}')
            socket.send(png(FRAME))
            assert told(socket)["problem"]["status"] == 422


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service that allows streams hardly anything."""
    folder = tmp_path_factory.mktemp("models")
    publish_tiny(folder)
    with serving(folder, stream_idle_s=0.1, stream_limit=1, max_body_bytes=20_000, stream_credits=2) as running:
        yield running


def test_a_stream_on_which_nothing_comes_is_closed(narrow: Running) -> None:
    with streaming(narrow) as socket:
        told(socket)
        assert told(socket)["problem"]["type"] == "urn:robomask:problem:stream-idle"
        ended(socket, 4408)


def test_notes_alone_do_not_keep_a_stream_open(narrow: Running) -> None:
    with streaming(narrow) as socket:
        told(socket)
        with pytest.raises(TimeoutError):
            socket.recv(timeout=0.05)
        socket.send("{}")
        sent_s = time.monotonic()
        assert told(socket)["problem"]["type"] == "urn:robomask:problem:stream-idle"
        ended(socket, 4408)
    assert time.monotonic() - sent_s < 20


def test_notes_without_a_frame_are_told_and_hung_up_on(service: Running) -> None:
    with streaming(service) as socket:
        told(socket)
        for _ in range(17):
            socket.send("{}")
        assert "expected a frame after its note, got 17 notes" in told(socket)["problem"]["detail"]
        ended(socket, 4422)


def test_a_frame_is_newer_than_those_before_it_whatever_is_said_of_their_capture(service: Running) -> None:
    with streaming(service) as socket:
        told(socket)
        socket.send(png(FRAME))
        socket.send(json.dumps({"captured_at": time.time() - 1}))
        socket.send(png(FRAME))
        came = {message["seq"]: message["type"] for message in (told(socket), told(socket))}
        assert came[1] == "answer"  # whatever became of the other, and was told before or after it
        assert came.keys() == {0, 1}


def test_a_message_that_is_too_large_ends_the_stream_and_nothing_else(narrow: Running) -> None:
    with streaming(narrow) as socket:
        told(socket)
        socket.send(bytes(30_000))
        ended(socket, 1009)
    assert narrow.segment(png(FRAME)).status_code == 200


def test_one_stream_too_many_is_told_so(tmp_path: Path) -> None:
    publish_tiny(tmp_path)
    with serving(tmp_path, stream_limit=1) as running, streaming(running) as first:
        told(first)
        with streaming(running) as second:
            assert told(second)["problem"]["type"] == "urn:robomask:problem:busy"
            ended(second, 4503)
        first.send(png(FRAME))
        assert told(first)["type"] == "answer"


def test_clients_that_leave_at_any_point_leave_nothing_behind(service: Running) -> None:
    for sent in range(4):
        with streaming(service) as socket:
            for _ in range(sent):
                socket.send(png(np.resize(FRAME, (600, 800, 3))))
    with streaming(service) as socket:
        told(socket)
        socket.send(png(FRAME))
        assert told(socket)["type"] == "answer"
    assert "robomask_queue_depth 0.0" in service.client.get("/metrics").text


def test_a_client_that_sends_more_than_it_has_credits_for_is_told_and_hung_up_on(service: Running) -> None:
    with streaming(service) as socket:
        told(socket)
        large = png(np.zeros((3000, 3000, 3), np.uint8))
        with suppress(ConnectionClosed):  # it may hang up before all are sent
            for _ in range(12):
                socket.send(large)
        messages = []
        while not messages or messages[-1]["seq"] is not None:
            messages.append(told(socket))
        assert "at most 4 frames in flight" in messages[-1]["problem"]["detail"]
        ended(socket, 4429)
    assert service.segment(png(FRAME)).status_code == 200
