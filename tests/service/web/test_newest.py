"""The newest frame of a stream wins wherever the older ones are, and nobody gets an older mask after a newer one."""

import asyncio
import json
import socket
import time
from concurrent.futures import Future, ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from codec_threads import codec_held, stages_of
from prometheus_client.parser import text_string_to_metric_families
from service_kit import Running, golden_frames, png
from websockets.sync.client import connect

SMALL = png(golden_frames()[0])
LARGE = png(np.resize(golden_frames()[0], (300, 400, 3)))


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A stream that no other test has sent to."""
    return str(request.node.name[:120])


class Camera:
    """Sends frames on connections of their own and does not wait for their answers."""

    def __init__(self, running: Running, name: str) -> None:
        self.running = running
        self.name = name
        self.pool = ThreadPoolExecutor(16)
        self.started_s = time.time()

    def headers(self, number: int) -> dict[str, str]:
        return {"X-Stream-Id": self.name, "X-Captured-At": f"{self.started_s - 10 + number}"}

    def head(self, number: int, content: bytes) -> bytes:
        named = {"Host": "x", "Content-Length": str(len(content)), "Connection": "close"} | self.headers(number)
        return "\r\n".join(["POST /segment HTTP/1.1", *map(": ".join, named.items()), "", ""]).encode()

    def send(self, number: int, content: bytes, **headers: str) -> Future[httpx.Response]:
        told = {"Content-Type": "image/png"} | self.headers(number) | headers
        url = f"http://127.0.0.1:{self.running.port}/segment"
        return self.pool.submit(httpx.post, url, content=content, headers=told, timeout=60)

    def send_and_see_it_wait(self, number: int, content: bytes) -> Future[httpx.Response]:
        decoding = stages_of(self.running).decoding
        before = decoding._inside
        answer = self.send(number, content)
        while decoding._inside == before:
            assert not answer.done(), answer.result().text
        return answer


def assert_superseded(answer: Future[httpx.Response]) -> None:
    response = answer.result(60)
    assert (response.status_code, response.json()["type"]) == (409, "urn:robomask:problem:superseded")


def value_of(running: Running, name: str, **labels: str) -> float:
    for family in text_string_to_metric_families(running.client.get("/metrics").text):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return sample.value
    return 0.0


def counted(running: Running) -> tuple[float, float]:
    """Frames that have been decoded, and those that have been superseded."""
    decoded = value_of(running, "robomask_stage_seconds_count", stage="decode")
    return decoded, value_of(running, "robomask_superseded_total")


def test_of_frames_that_wait_to_be_decoded_only_the_newest_is(running: Running, name: str) -> None:
    camera, other = Camera(running, name), Camera(running, "other")
    decoded, superseded = counted(running)
    with codec_held(running):
        before = camera.send_and_see_it_wait(0, LARGE)
        besides = other.send_and_see_it_wait(0, LARGE)
        for number in range(1, 8):
            newer = camera.send(number, LARGE)
            assert_superseded(before)
            before = newer
    assert before.result(60).status_code == besides.result(60).status_code == 200
    assert counted(running) == (decoded + 2, superseded + 7)
    assert value_of(running, "robomask_frames_total", outcome="superseded") == superseded + 7


def test_a_small_frame_ends_the_wait_of_older_large_ones_for_good(running: Running, name: str) -> None:
    camera = Camera(running, name)
    decoded, _ = counted(running)
    with codec_held(running):
        older = camera.send_and_see_it_wait(1, LARGE)
        assert camera.send(5, SMALL).result(60).status_code == 200
        assert_superseded(older)
        for content in (LARGE, SMALL):  # an older one that was longer on its way
            assert_superseded(camera.send(4, content))
        assert camera.send(5, SMALL).result(60).status_code == 200
    assert camera.send(6, LARGE).result(60).status_code == 200
    assert counted(running)[0] == decoded + 3


def test_a_frame_whose_body_is_slow_is_not_answered_after_a_newer_one(running: Running, name: str) -> None:
    camera = Camera(running, name)
    with socket.create_connection(("127.0.0.1", running.port)) as slow:
        slow.sendall(camera.head(1, LARGE) + LARGE[:-1])
        assert camera.send(2, SMALL).result(60).status_code == 200
        slow.sendall(LARGE[-1:])
        assert b" 409 " in slow.recv(100)


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (SMALL[:100], {}, 400),
        (LARGE, {"Content-Type": "text/plain"}, 415),
        (LARGE, {"Accept": "text/html"}, 406),
        (LARGE, {"X-Max-Age-Ms": "1"}, 504),
        (bytes(70_000_000), {}, 413),
    ],
)
def test_a_newer_frame_that_is_refused_before_it_waits_ends_the_wait_of_none(
    running: Running, name: str, content: bytes, headers: dict[str, str], status: int
) -> None:
    camera = Camera(running, name)
    with codec_held(running):
        older = camera.send_and_see_it_wait(1, LARGE)
        assert camera.send(2, content, **headers).result(60).status_code == status
    assert older.result(60).status_code == 200


def test_many_frames_in_one_request_are_superseded_and_answered_together(running: Running, name: str) -> None:
    camera = Camera(running, name)

    def send(number: int) -> httpx.Response:
        parts = [("frame", ("x.png", LARGE, "image/png"))] * 3
        url = f"http://127.0.0.1:{running.port}/segment"
        return httpx.post(url, files=parts, headers=camera.headers(number), timeout=60)

    with codec_held(running):
        older = camera.send_and_see_it_wait(1, LARGE)
        newer = camera.pool.submit(send, 2)
        assert_superseded(older)
    assert len(newer.result(60).json()["frames"]) == 3
    assert_superseded(camera.pool.submit(send, 1))


def test_without_a_name_or_under_another_all_are_answered(running: Running) -> None:
    pool = ThreadPoolExecutor(4)
    with codec_held(running):
        answers = [Camera(running, name).send_and_see_it_wait(5 - index, LARGE) for index, name in enumerate("ab")]
        url = f"http://127.0.0.1:{running.port}/segment"
        answers += [pool.submit(httpx.post, url, content=LARGE, timeout=60) for _ in range(3)]
    assert [answer.result(60).status_code for answer in answers] == [200] * 5


def test_on_a_websocket_frames_that_wait_to_be_decoded_are_superseded_as_newer_ones_come(running: Running) -> None:
    _, superseded = counted(running)
    with connect(f"ws://127.0.0.1:{running.port}/stream", compression=None, open_timeout=20) as stream:
        assert json.loads(stream.recv(20))["credits"] == 4
        with codec_held(running):
            for _ in range(4):
                stream.send(LARGE)
            told = [json.loads(stream.recv(20)) for _ in range(3)]
            assert [(said["type"], said["seq"]) for said in told] == [("superseded", seq) for seq in range(3)]
        last = json.loads(stream.recv(20))
        assert (last["type"], last["seq"]) == ("answer", 3)
        with codec_held(running):
            stream.send(LARGE)
            stream.send(SMALL)
            told = [json.loads(stream.recv(20)) for _ in range(2)]
    assert {(said["type"], said["seq"]) for said in told} == {("superseded", 4), ("answer", 5)}
    assert counted(running)[1] == superseded + 4


def test_answers_of_a_stream_go_out_in_the_order_of_their_capture(running: Running, name: str) -> None:
    """Frames of all sizes on many connections, so close together that several are at work at one time."""
    sizes = [LARGE, SMALL, png(np.resize(golden_frames()[0], (900, 1200, 3)))]
    statuses: dict[int, int] = {}
    camera = Camera(running, name)

    async def send(number: int) -> None:
        content = sizes[number % 3]
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(camera.head(number, content) + content)
        await reader.readuntil(b" ")
        statuses[number] = int(await reader.readexactly(3))
        writer.close()

    async def send_all() -> None:
        await asyncio.gather(*(send(number) for number in range(60)))

    asyncio.run(send_all())
    answered = [number for number, status in statuses.items() if status == 200]
    assert set(statuses.values()) == {200, 409}
    assert answered == sorted(answered)
    assert answered[-1] == 59  # nothing newer has come
    assert all(not flow.frames for flow in stages_of(running)._streams._flows.values())
