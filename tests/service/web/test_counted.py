"""What became of a frame is counted, once, wherever it was turned away."""

import json
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from service_kit import Running, golden_frames, png, publish_tiny, serving
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

FRAME = png(golden_frames()[0])
PNG = {"Content-Type": "image/png"}
LIMIT = 50_000
TENSOR = golden_frames()[:1].tobytes()
HEAD = json.dumps(
    {"inputs": [{"name": "frames", "datatype": "UINT8", "shape": [1, 64, 64, 3],
                 "parameters": {"binary_data_size": len(TENSOR)}}],
     "outputs": [{"name": "probability", "parameters": {"binary_data": True}}]}
).encode()  # fmt: skip
BINARY = {"Inference-Header-Content-Length": str(len(HEAD))}
INFER = "/v2/models/tiny/infer"


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service with hardly any memory."""
    folder = tmp_path_factory.mktemp("models")
    publish_tiny(folder)
    with serving(folder, max_body_bytes=LIMIT, max_inflight_bytes=LIMIT, max_frames=4) as running:
        yield running


def outcomes(running: Running) -> dict[str, float]:
    families = text_string_to_metric_families(running.client.get("/metrics").text)
    samples = (sample for family in families for sample in family.samples)
    return {sample.labels["outcome"]: sample.value for sample in samples if sample.name == "robomask_frames_total"}


def became(running: Running, before: Mapping[str, float]) -> dict[str, float]:
    """What has become of frames since."""
    return {outcome: value - before[outcome] for outcome, value in outcomes(running).items() if value > before[outcome]}


def too_old() -> dict[str, str]:
    return {"X-Captured-At": f"{time.time() - 10:.3f}", "X-Max-Age-Ms": "100"}


def segment(running: Running, **headers: str) -> httpx.Response:
    return running.client.post("/segment", content=FRAME, headers=PNG | headers)


def segment_in_pieces(running: Running, **headers: str) -> httpx.Response:
    return running.client.post("/segment", content=iter([FRAME[:100], FRAME[100:]]), headers=PNG | headers)


def infer(running: Running, **headers: str) -> httpx.Response:
    return running.client.post(INFER, content=HEAD + TENSOR, headers=BINARY | headers)


WAYS = [segment, segment_in_pieces, infer]


@pytest.mark.parametrize("ask", WAYS)
def test_a_frame_that_is_too_old_when_it_comes_is_late(narrow: Running, ask: Callable[..., httpx.Response]) -> None:
    before = outcomes(narrow)
    assert ask(narrow, **too_old()).status_code == 504
    assert became(narrow, before) == {"late": 1}


@pytest.mark.parametrize("ask", WAYS)
def test_a_frame_that_cannot_make_its_deadline_is_late_once(
    narrow: Running, ask: Callable[..., httpx.Response]
) -> None:
    assert ask(narrow).status_code == 200  # from here on it is known what takes how long
    before = outcomes(narrow)
    assert ask(narrow, **{"X-Deadline-Ms": "0.001"}).status_code == 504
    assert became(narrow, before) == {"late": 1}


@pytest.mark.parametrize("ask", WAYS)
def test_a_frame_for_which_there_is_no_memory_is_shed(narrow: Running, ask: Callable[..., httpx.Response]) -> None:
    with connect(f"ws://127.0.0.1:{narrow.port}/stream", compression=None, close_timeout=0) as greedy:
        greedy.recv(timeout=20)
        greedy.socket.sendall(struct.pack("!BBQI", 0x82, 0x80 | 127, LIMIT, 0) + bytes(LIMIT - 1000))
        before = outcomes(narrow)
        while (answer := ask(narrow)).status_code == 200:  # until its bytes have come
            before = outcomes(narrow)
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:robomask:problem:busy")
    assert became(narrow, before) == {"shed": 1}


@pytest.mark.parametrize(
    ("path", "content", "headers", "status"),
    [
        ("/segment", FRAME, {"Content-Type": "text/plain"}, 415),
        ("/segment", FRAME, PNG | {"Content-Encoding": "gzip"}, 415),
        ("/segment", bytes(LIMIT + 1), PNG, 413),
        ("/segment", FRAME, PNG | {"Accept": "text/html"}, 406),
        ("/segment", FRAME, PNG | {"X-Deadline-Ms": "soon"}, 422),
        ("/segment?threshold=2", FRAME, PNG, 422),
        ("/segment?model=other", FRAME, PNG, 404),
        ("/segment", b"", PNG, 400),
        ("/segment", FRAME[:100], PNG, 400),
        (INFER, bytes(LIMIT + 1), {}, 413),
        (INFER, HEAD + TENSOR, BINARY | {"Content-Encoding": "br"}, 415),
        (INFER, HEAD + TENSOR[:-1], BINARY, 400),
        (INFER, b"{", {}, 400),
        ("/v2/models/other/infer", HEAD + TENSOR, BINARY, 404),
        ("/v2/models/tiny/versions/9/infer", HEAD + TENSOR, BINARY, 404),
    ],
)
def test_what_the_client_has_to_change_is_refused(
    narrow: Running, path: str, content: bytes, headers: dict[str, str], status: int
) -> None:
    before = outcomes(narrow)
    assert narrow.client.post(path, content=content, headers=headers).status_code == status
    assert became(narrow, before) == {"refused": 1}


def test_the_frames_of_a_request_that_was_read_are_all_counted(narrow: Running) -> None:
    before = outcomes(narrow)
    parts = [("frame", ("x.png", FRAME, "image/png"))] * 3
    assert narrow.client.post("/segment", files=parts, headers={"Accept": "image/png"}).status_code == 406
    assert narrow.client.post("/segment", files=parts).status_code == 200
    assert became(narrow, before) == {"refused": 3, "ok": 3}


def test_questions_that_bring_no_frame_are_not_counted(narrow: Running) -> None:
    before = outcomes(narrow)
    assert narrow.client.get("/v2/models/other").status_code == 404
    assert narrow.client.get("/segment").status_code == 405
    assert narrow.client.post("/v2/repository/models/tiny/load", content=b"{").status_code == 403
    assert became(narrow, before) == {}


def test_frames_of_a_stream_are_counted_wherever_they_end(narrow: Running) -> None:
    before = outcomes(narrow)

    def settled(note: dict[str, Any] | None, content: bytes) -> int:
        if note is not None:
            stream.send(json.dumps(note))
        stream.send(content)
        said = json.loads(stream.recv(timeout=20))
        return 200 if said["type"] == "answer" else int(said["problem"]["status"])

    with connect(f"ws://127.0.0.1:{narrow.port}/stream", compression=None) as stream:
        stream.recv(timeout=20)
        assert settled({"captured_at": time.time() - 10, "max_age_ms": 100}, FRAME) == 504
        assert settled({"deadline_ms": 0.001}, FRAME) == 504
        assert settled({"deadline_ms": -1}, FRAME) == 422
        assert settled(None, b"no picture") == 400
        assert settled(None, FRAME) == 200
    assert became(narrow, before) == {"late": 2, "refused": 2, "ok": 1}


def test_a_frame_without_a_credit_is_shed(service: Running) -> None:
    before = outcomes(service)
    large = png(np.zeros((3000, 3000, 3), np.uint8))
    with connect(f"ws://127.0.0.1:{service.port}/stream", compression=None, close_timeout=0) as stream:
        stream.recv(timeout=20)
        with suppress(ConnectionClosed):  # it may hang up before all are sent
            for _ in range(12):
                stream.send(large)
        while (said := json.loads(stream.recv(timeout=20)))["seq"] is not None:
            pass
    assert "frames in flight" in said["problem"]["detail"]
    assert became(service, before)["shed"] == 1
