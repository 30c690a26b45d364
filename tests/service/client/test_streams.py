"""Streams: against the service itself where it has them, and against scripted servers for how they end."""

import asyncio
import contextlib
import json
import math
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from service_kit import Running, golden_frames, png, red_probability
from small_servers import answering
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection

from service.client import (
    AnswerUnreadable,
    AsyncClient,
    BadRequest,
    Busy,
    Captured,
    Client,
    DeadlineExceeded,
    ModelUnknown,
    Redirected,
    ServiceFault,
    ServiceRefused,
    StreamResult,
    Superseded,
    Unavailable,
    Unreachable,
)
from service.client.stream_protocol import Bounds, Protocol

HELLO = {"type": "hello", "protocol": 1, "credits": 2, "model": {"name": "tiny", "version": 1, "sha256": "f" * 64}}


@contextmanager
def scripted(script: Callable[[ServerConnection], None]) -> Iterator[Client]:
    """A server that greets, then does what the script says."""

    def handle(socket: ServerConnection) -> None:
        socket.send(json.dumps(HELLO))
        script(socket)

    with answering(handle) as url:
        yield Client(url)


async def open_and_leave(url: str, **options: Any) -> None:
    async with AsyncClient(url, timeout_s=options.pop("timeout_s", 30.0)) as client, client.stream(**options):
        pass


def problem(code: str, status: int) -> dict[str, Any]:
    return {"type": f"urn:robomask:problem:{code}", "status": status, "detail": f"expected {code}"}


def settle(socket: ServerConnection, seq: int | None, code: str, status: int) -> None:
    socket.send(json.dumps({"type": "error", "seq": seq, "problem": problem(code, status)}))


def test_a_frame_waits_for_its_credit() -> None:
    seen: list[int] = []

    def script(socket: ServerConnection) -> None:
        waiting: list[int] = []
        for seq in range(6):
            socket.recv()
            waiting.append(seq)
            seen.append(len(waiting))
            if len(waiting) == 2:
                while waiting:
                    socket.send(json.dumps({"type": "superseded", "seq": waiting.pop(0)}))

    with scripted(script) as client, client.stream() as stream:
        results = list(stream.run([b"frame"] * 6))
    assert max(seen) == 2
    assert [result.seq for result in results] == list(range(6))
    assert all(result.superseded for result in results)
    with pytest.raises(Superseded):
        results[0].unwrap()


def test_an_error_of_one_frame_does_not_end_the_stream() -> None:
    def script(socket: ServerConnection) -> None:
        socket.recv()
        settle(socket, 0, "frame-undecodable", 400)
        socket.recv()
        socket.send(json.dumps({"type": "superseded", "seq": 1}))

    with scripted(script) as client, client.stream() as stream:
        first, second = stream.run([b"bad", b"good"])
    assert isinstance(first.error, BadRequest)
    assert second.superseded


def test_why_a_stream_ends_is_raised() -> None:
    def script(socket: ServerConnection) -> None:
        socket.recv()
        settle(socket, None, "busy", 503)
        socket.close(4429, "greedy")

    with scripted(script) as client, client.stream() as stream, pytest.raises(Busy):
        list(stream.run([b"frame"] * 4))


@pytest.mark.parametrize("name", ["deadline_ms", "max_age_ms"])
def test_a_bound_that_is_no_number_is_refused_and_one_without_end_is_none(name: str) -> None:
    paths: list[str] = []
    got: list[str | bytes] = []

    def script(socket: ServerConnection) -> None:
        assert socket.request is not None
        paths.append(socket.request.path)
        for seq in range(2):
            got.append(message := socket.recv())
            if isinstance(message, bytes):
                return
            got.append(socket.recv())
            socket.send(json.dumps({"type": "superseded", "seq": seq}))

    with scripted(script) as client:
        with pytest.raises(ValueError, match=f"expected {name} in milliseconds"):
            client.stream(**{name: math.nan}).__enter__()  # type: ignore[arg-type]
        with client.stream(**{name: math.inf}) as stream:  # type: ignore[arg-type]
            with pytest.raises(ValueError, match=f"expected {name} in milliseconds"):
                stream.send(b"frame", **{name: math.nan})  # type: ignore[arg-type]
            stream.send(b"frame", **{name: math.inf})  # type: ignore[arg-type]
            with pytest.raises(Unreachable):
                stream.receive()
        assert got == [b"frame"]
        with client.stream(**{name: 100}) as stream:  # type: ignore[arg-type]
            stream.send(b"frame", captured_at=time.time(), **{name: math.inf})  # type: ignore[arg-type]
            assert stream.receive().superseded
    assert name not in paths[0]
    assert json.loads(got[1])[name] == 3_600_000


@pytest.mark.parametrize(
    ("frame", "kind"),
    [
        ([np.zeros((4, 4, 3), np.uint8)] * 2, TypeError),
        ([b"frame"], TypeError),
        (np.zeros((2, 4, 4, 3), np.uint8), ValueError),
    ],
)
def test_a_message_is_one_frame(frame: Any, kind: type[Exception]) -> None:
    async def send() -> None:
        async with AsyncClient(client._url) as own, own.stream() as stream:
            await stream.send(frame)

    with scripted(at_once) as client:
        with client.stream() as stream, pytest.raises(kind, match="expected"):
            stream.send(frame)
        with pytest.raises(kind, match="expected"):
            asyncio.run(send())


def test_a_stream_that_breaks_is_unreachable() -> None:
    with (
        scripted(lambda socket: socket.close(1001)) as client,
        client.stream() as stream,
        pytest.raises(Unreachable, match="has ended"),
    ):
        stream.receive()


def test_nobody_there_is_said() -> None:
    with pytest.raises(Unreachable, match="does the service run"), Client("http://127.0.0.1:9").stream():
        pass


def test_a_message_of_another_protocol_is_said() -> None:
    with (
        scripted(lambda socket: socket.send("{}")) as client,
        client.stream() as stream,
        pytest.raises(AnswerUnreadable),
    ):
        stream.receive()


def test_what_is_true_of_one_frame_goes_before_it() -> None:
    got: list[str | bytes] = []

    def script(socket: ServerConnection) -> None:
        got.extend([socket.recv(), socket.recv()])
        socket.send(json.dumps({"type": "superseded", "seq": 0}))

    with scripted(script) as client, client.stream() as stream:
        assert stream.send(b"frame", captured_at=1.5, max_age_ms=100) == 0
        stream.receive()
    assert json.loads(got[0]) == {"captured_at": 1.5, "max_age_ms": 100}
    assert got[1] == b"frame"


def test_leaving_early_leaves_nothing_hanging() -> None:
    def script(socket: ServerConnection) -> None:
        for seq, _ in enumerate(socket):
            socket.send(json.dumps({"type": "superseded", "seq": seq}))

    with scripted(script) as client, client.stream() as stream:
        for _ in stream.run(iter(lambda: b"frame", b"")):
            break


def test_options_of_single_frames_are_refused() -> None:
    with pytest.raises(TypeError, match="whole stream"), Client("http://127.0.0.1:9").stream(captured_at=1.0):
        pass


def answer_of(seq: int, version: int = 1) -> str:
    frame = {"mask": {"size": [2, 2], "counts": "4"}, "area": 0, "bbox": [0, 0, 0, 0], "confidence": 0.9}
    model = {"name": "tiny", "version": version, "sha256": "f" * 64}
    return json.dumps({"type": "answer", "seq": seq, "request_id": "r", "answer": {"frames": [frame], "model": model}})


def test_a_stream_has_a_name_if_it_is_given_one() -> None:
    names: list[str | None] = []

    def script(socket: ServerConnection) -> None:
        assert socket.request is not None
        names.append(socket.request.headers.get("X-Stream-Id"))

    with scripted(script) as client:
        for options in ({"stream_id": "wrist"}, {}):
            with client.stream(**options) as stream, pytest.raises(Unreachable):  # type: ignore[arg-type]
                stream.receive()
    assert names == ["wrist", None]


def at_once(socket: ServerConnection) -> None:
    for seq, _ in enumerate(socket):
        socket.send(answer_of(seq))


class Camera:
    """Always has a frame, and knows which was the last."""

    def __init__(self, frames: int) -> None:
        self.left = frames
        self.taken = 0

    def __next__(self) -> bytes:
        if self.taken == self.left:
            raise StopIteration
        self.taken += 1
        return b"frame"

    def __iter__(self) -> Iterator[bytes]:
        return self


def test_who_takes_results_slowly_gets_the_newest() -> None:
    with scripted(at_once) as client, client.stream() as stream:
        camera, given = Camera(100), []
        for result in stream.run(camera):
            given.append(result.seq)
            assert result.answer is None or camera.taken - result.seq <= 3
            while camera.taken < min(len(given) + 2, camera.left):  # as long as the use of a result takes
                pass
    assert sorted(given) == list(range(100))


def test_who_takes_nothing_is_sent_no_more_in_the_end() -> None:
    protocol = Protocol()
    protocol.receive(json.dumps(HELLO))
    sent = 0
    while protocol.has_room(None):
        protocol.receive(json.dumps({"type": "superseded", "seq": protocol.sent()}))
        sent += 1
    assert sent == 1024
    assert protocol.take_newest() is not None
    assert protocol.has_room(1)
    with pytest.raises(ValueError, match="at least one"), scripted(at_once) as client, client.stream() as stream:
        next(stream.run([], in_flight=0))


def test_of_answers_that_wait_the_newest_is_kept_and_comes_first() -> None:
    protocol = Protocol()
    protocol.receive(json.dumps(HELLO))
    for seq in range(4):
        assert protocol.sent() == seq
        protocol.receive(answer_of(seq) if seq < 3 else json.dumps({"type": "superseded", "seq": seq}))
    protocol.supersede()
    assert [result.seq for result in protocol.settled if result.answer is not None] == [2]
    taken = [protocol.take_newest() for _ in range(5)]
    assert [result and result.seq for result in taken] == [2, 0, 1, 3, None]


def test_a_deadline_counts_though_the_answer_was_waited_for_before_there_was_a_frame() -> None:
    over = threading.Event()
    with scripted(lambda _: over.wait()) as client, client.stream(deadline_ms=10) as stream:  # type: ignore[arg-type, return-value]
        results: list[StreamResult] = []
        receiving = threading.Thread(target=lambda: results.append(stream.receive()))
        receiving.start()
        stream.send(b"frame")
        receiving.join()
        over.set()
    assert isinstance(results[0].error, DeadlineExceeded)


def test_an_async_run_ends_when_the_service_does_though_frames_go_on() -> None:
    async def camera() -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(0.02)
            yield b"frame"

    async def run() -> None:
        async with AsyncClient(client._url) as own, own.stream() as stream:
            async for _ in stream.run(camera()):
                pass

    with scripted(lambda socket: socket.close(1001)) as client, pytest.raises(Unreachable):
        asyncio.run(run())


def test_a_run_may_have_one_frame_in_flight() -> None:
    seen: list[bool] = []

    def script(socket: ServerConnection) -> None:
        for seq in range(5):
            socket.recv()
            with contextlib.suppress(TimeoutError):
                socket.recv(timeout=0.02)
                seen.append(True)
            socket.send(answer_of(seq))

    async def camera() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b"frame"

    async def run() -> list[StreamResult]:
        async with AsyncClient(client._url) as own, own.stream() as stream:
            return [result async for result in stream.run(camera(), in_flight=1)]

    with scripted(script) as client:
        with client.stream() as stream:
            assert [result.seq for result in stream.run([b"frame"] * 5, in_flight=1)] == list(range(5))
        assert [result.seq for result in asyncio.run(run())] == list(range(5))
    assert seen == []


def test_the_same_of_the_async_stream() -> None:
    async def camera() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"frame"

    async def run() -> list[StreamResult]:
        async with AsyncClient(client._url) as own, own.stream() as stream:
            results = []
            async for result in stream.run(camera()):
                results.append(result)
                time.sleep(0.01)  # noqa: ASYNC251 - who blocks the event loop
            return results

    with scripted(at_once) as client:
        results = asyncio.run(run())
    assert sorted(result.seq for result in results) == list(range(20))
    assert all(result.superseded for result in results if result.answer is None)
    answered = [result.seq for result in results if result.answer is not None]
    assert answered == sorted(answered)
    assert len(answered) > 5  # all, if the other side had been no quicker


def test_an_answer_that_is_too_late_and_none_at_all_are_told() -> None:
    go = threading.Event()

    def script(socket: ServerConnection) -> None:
        socket.recv()
        go.wait()
        socket.send(answer_of(0))
        socket.recv()  # what is true of the next frame alone, and that frame
        socket.recv()
        socket.send(answer_of(1))

    with scripted(script) as client, client.stream(deadline_ms=10) as stream:
        stream.send(b"frame")
        late = stream.receive()
        assert isinstance(late.error, DeadlineExceeded)
        assert "nothing has been heard" in str(late.error)
        go.set()
        stream.send(b"frame", deadline_ms=60_000)
        assert stream.receive().seq == 1


def test_time_decides_what_an_answer_is_worth() -> None:
    now = [100.0]
    protocol = Protocol(Bounds(deadline_ms=300), lambda: now[0], lambda: 1_700_000_000.0)
    protocol.receive(json.dumps(HELLO))
    for bounds in (Bounds(), Bounds(deadline_ms=5000), Bounds(captured_at=1_699_999_999.0, max_age_ms=900)):
        protocol.sent(bounds)
    assert protocol.patience_s(1.0) == pytest.approx(0.15)  # the last was too old by 0.1 s when it was sent
    now[0] += 2
    for seq in range(3):
        protocol.receive(answer_of(seq))
    assert [result.answer is not None for result in protocol.settled] == [False, True, False]
    assert protocol.credits == 2
    assert protocol.pending == 0


@contextmanager
def frozen() -> Iterator[Client]:
    """A service that says and reads nothing any more after its hello, not even pings, as a process that is stopped."""
    over = threading.Event()

    def script(socket: ServerConnection) -> None:
        with socket.protocol_mutex:
            over.wait()

    with scripted(script) as client:
        try:
            yield client
        finally:
            over.set()


def without_end() -> Iterator[bytes]:
    while True:
        yield b"frame"


def test_a_service_that_freezes_ends_a_stream_within_a_few_deadlines() -> None:
    async def camera() -> AsyncIterator[bytes]:
        for frame in without_end():
            yield frame

    def run() -> None:
        with client.stream(deadline_ms=50) as stream:
            for result in stream.run(without_end()):
                seen.append(result)  # noqa: PERF402 - what has come before it ends

    async def run_async() -> None:
        async with AsyncClient(client._url) as own, own.stream(deadline_ms=50) as stream:
            async for result in stream.run(camera()):
                seen.append(result)  # noqa: PERF401 - the same

    seen: list[StreamResult] = []
    with frozen() as client:
        begun_s = time.monotonic()
        with pytest.raises(Unreachable, match="nothing has been heard"):
            run()
        with pytest.raises(Unreachable, match="nothing has been heard"):
            asyncio.run(run_async())
        assert time.monotonic() - begun_s < 10
    assert [(result.seq, type(result.error)) for result in seen] == [(0, DeadlineExceeded), (1, DeadlineExceeded)] * 2


def test_a_frame_that_finds_no_credit_is_not_waited_with_for_long() -> None:
    with frozen() as client, client.stream(deadline_ms=50) as stream:
        stream.send(b"frame")
        stream.send(b"frame")
        begun_s = time.monotonic()
        with pytest.raises(Unreachable, match="nothing has been heard"):
            stream.send(b"frame")
        assert time.monotonic() - begun_s < 5


@pytest.mark.parametrize("size", [10, 30_000_000])
def test_a_stream_of_which_nothing_is_heard_is_left_at_once(size: int) -> None:
    async def leave() -> float:
        async with AsyncClient(client._url) as own, own.stream(max_age_ms=9000, deadline_ms=9000) as stream:
            sending = asyncio.create_task(stream.send(frame, captured_at=time.time(), deadline_ms=50))
            assert isinstance((await stream.receive()).error, DeadlineExceeded)
            left_s = time.monotonic()
        with contextlib.suppress(Unreachable):  # if it waited for room
            await sending
        return time.monotonic() - left_s

    frame = b"f" * size
    with frozen() as client:
        with client.stream(max_age_ms=9000) as stream:
            for result in stream.run([Captured(frame, time.time() - 8.9)]):
                assert isinstance(result.error, DeadlineExceeded)
                break
            left_s = time.monotonic()
        assert time.monotonic() - left_s < 3
        assert asyncio.run(leave()) < 3


def test_what_ends_a_stream_is_not_logged_besides(caplog: pytest.LogCaptureFixture) -> None:
    with frozen() as client:
        own = Client(client._url, timeout_s=0.4)
        with pytest.raises(Unreachable, match="has ended"), own.stream() as stream:
            stream.receive()
        assert stream._socket.keepalive_thread is not None
        stream._socket.keepalive_thread.join()
    assert [record.message for record in caplog.records if record.name.startswith("service.client")] == []
    assert "keepalive" not in caplog.text


def test_who_has_not_listened_holds_nobody_silent() -> None:
    now = [100.0]
    protocol = Protocol(Bounds(deadline_ms=100), lambda: now[0])
    protocol.receive(json.dumps(HELLO))
    protocol.sent()
    now[0] += 60  # of a process that was stopped itself: what has come meanwhile may not be read yet
    protocol.expire()
    assert protocol.ended is None
    for _ in range(7):
        now[0] += 0.25
        protocol.expire()
    assert protocol.ended is None
    now[0] += 0.25
    protocol.expire()
    assert isinstance(protocol.ended, Unreachable)


def test_a_service_that_says_anything_is_not_gone_and_what_has_no_bound_waits_for_ever() -> None:
    now = [100.0]
    protocol = Protocol(Bounds(), lambda: now[0])
    protocol.receive(json.dumps(HELLO))
    protocol.sent()
    protocol.sent(Bounds(deadline_ms=100))
    for _ in range(9):
        now[0] += 0.2
        protocol.expire()
        protocol.receive(json.dumps({"type": "news"}))
    assert protocol.settled[0].seq == 1
    assert not protocol.is_unheard
    protocol.receive(answer_of(1))
    for _ in range(1000):
        now[0] += 0.2
        protocol.expire()
    assert protocol.ended is None
    assert protocol.pending == 1


def test_a_frame_that_was_too_old_when_it_was_sent_is_not_blamed_on_the_service() -> None:
    over = threading.Event()
    with scripted(lambda _: over.wait()) as client, client.stream(max_age_ms=100) as stream:  # type: ignore[arg-type, return-value]
        (result,) = stream.run([Captured(b"frame", time.time() - 5)])
        over.set()
    assert isinstance(result.error, DeadlineExceeded)
    assert "too old when it was sent" in str(result.error)


def test_after_the_deadline_a_refusal_is_still_heard_and_an_answer_is_none() -> None:
    now = [100.0]
    protocol = Protocol(Bounds(deadline_ms=100), lambda: now[0])
    protocol.receive(json.dumps(HELLO))
    protocol.sent()
    protocol.sent()
    now[0] += 0.12
    protocol.receive(json.dumps({"type": "error", "seq": 0, "problem": problem("deadline-missed", 504)}))
    protocol.receive(answer_of(1))
    refused, late = protocol.settled
    assert "expected deadline-missed" in str(refused.error)
    assert late.answer is None
    assert "got it later" in str(late.error)


def test_a_stream_that_is_elsewhere_is_told_where() -> None:
    def elsewhere(connection: ServerConnection, _: Request) -> Response:
        answer = connection.respond(308, "")
        answer.headers["Location"] = "https://robots.example/stream?accept=json"
        return answer

    with (
        answering(lambda _: None, process_request=elsewhere) as url,
        pytest.raises(Redirected, match=r"'https://robots.example' \(status 308\)"),
        Client(url).stream(),
    ):
        pass


@pytest.mark.parametrize("frozen_too", [False, True])
def test_a_server_that_never_says_hello_is_not_waited_for(frozen_too: bool) -> None:
    over = threading.Event()

    def silent(socket: ServerConnection) -> None:
        with socket.protocol_mutex if frozen_too else contextlib.nullcontext():
            over.wait()

    with answering(silent) as url:
        begun_s = time.monotonic()
        with pytest.raises(Unreachable, match=r"robomask's hello.* within 0\.5 s, got none; is the address right"):
            Client(url, timeout_s=0.5).stream().__enter__()
        with pytest.raises(Unreachable, match=r"robomask's hello.* within 2 s"):
            asyncio.run(open_and_leave(url, deadline_ms=50))
        assert time.monotonic() - begun_s < 5
        over.set()


def test_news_that_are_no_hello_do_not_count_as_one() -> None:
    over = threading.Event()

    def chatter(socket: ServerConnection) -> None:
        while not over.wait(0.02):
            socket.send(json.dumps({"type": "news"}))

    with answering(chatter) as url:
        with pytest.raises(Unreachable, match="robomask's hello"):
            Client(url, timeout_s=0.3).stream().__enter__()
        with pytest.raises(Unreachable, match="robomask's hello"):
            asyncio.run(open_and_leave(url, timeout_s=0.3))
        over.set()


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *((401, BadRequest), (403, BadRequest), (404, BadRequest), (422, BadRequest)),
        *((429, Busy), (503, Busy), (500, ServiceFault), (502, ServiceFault)),
    ],
)
def test_who_refuses_a_stream_is_heard_as_with_single_frames(status: int, kind: type[ServiceRefused]) -> None:
    def refuse(connection: ServerConnection, _: Request) -> Response:
        answer = connection.respond(status, json.dumps({"detail": "expected a key", "request_id": "r1"}))
        for _ in range(2):
            answer.headers["X-Twice"] = "caf\u00e9"
        answer.headers["Retry-After"] = "2"
        return answer

    with answering(lambda _: None, process_request=refuse) as url:
        with pytest.raises(kind, match="expected a key") as caught, Client(url).stream():
            pass
        with pytest.raises(kind, match="expected a key"):
            asyncio.run(open_and_leave(url))
    assert (caught.value.status, caught.value.retry_after_s, caught.value.request_id) == (status, 2, "r1")


def test_who_answers_without_a_stream_is_no_robomask() -> None:
    with (
        answering(lambda _: None, process_request=lambda connection, _: connection.respond(200, "<html>")) as url,
        pytest.raises(AnswerUnreadable, match="got status 200; is the address right"),
        Client(url).stream(),
    ):
        pass


def test_an_answer_names_its_model_and_its_request() -> None:
    protocol = Protocol()
    protocol.receive(json.dumps(HELLO))
    protocol.sent()
    protocol.receive(answer_of(0, version=2))
    answer = protocol.settled[0].unwrap()
    assert (answer.model.version, answer.request_id) == (2, "r")


def test_a_stream_that_ends_while_the_camera_rests_is_noticed() -> None:
    def script(socket: ServerConnection) -> None:
        settle(socket, None, "stream-idle", 408)
        socket.close(4408, "idle")

    over = threading.Event()

    def camera() -> Iterator[bytes]:
        over.wait()
        yield b"frame"

    with scripted(script) as client, client.stream() as stream, pytest.raises(Unavailable, match="stream-idle"):
        list(stream.run(camera()))
    over.set()


def test_a_body_without_its_announcement_is_refused() -> None:
    protocol = Protocol()
    protocol.receive(json.dumps(HELLO))
    with pytest.raises(AnswerUnreadable):
        protocol.receive(b"body")


class TestWithTheService:
    """The real thing."""

    def test_a_frame_may_be_free_of_its_streams_bounds(self, service: Running) -> None:
        with Client(f"http://127.0.0.1:{service.port}").stream(deadline_ms=0.001, max_age_ms=1000) as stream:
            taken_s = time.time() - 5
            stream.send(golden_frames()[0], captured_at=taken_s, deadline_ms=math.inf, max_age_ms=math.inf)
            assert stream.receive().answer is not None

    @pytest.fixture(autouse=True)
    def _has_streams(self) -> None:
        pytest.importorskip("service.web.stream")

    @pytest.mark.parametrize("probability", [False, True])
    def test_every_frame_is_settled_and_answers_are_those_of_segment(self, service: Running, probability: bool) -> None:
        client = Client(f"http://127.0.0.1:{service.port}")
        frames = golden_frames()
        with client.stream(probability=probability) as stream:
            assert stream.model == client.segment(frames[0]).model
            for index, frame in enumerate([frames[0], png(frames[1])]):
                assert stream.send(frame) == index
                answer = stream.receive().unwrap()
                assert (answer.masks[0] == (red_probability(frames)[index] >= 0.5)).all()
                assert answer.model == stream.model
                assert "infer" in answer.timing_ms
                assert answer.request_id.endswith(f"-{index}")
                if probability:
                    assert np.allclose(answer.probability[0], red_probability(frames)[index], atol=1e-5)

    def test_a_run_settles_all_it_was_given(self, service: Running) -> None:
        with Client(f"http://127.0.0.1:{service.port}").stream() as stream:
            results = list(stream.run([*golden_frames(), b"no picture", *golden_frames()]))
        assert sorted(result.seq for result in results) == list(range(7))
        assert all(result.answer or result.superseded or result.seq == 3 for result in results)

    def test_the_async_stream_does_the_same(self, service: Running) -> None:
        async def camera() -> AsyncIterator[np.ndarray]:
            for frame in golden_frames():
                yield frame

        async def run() -> list[StreamResult]:
            async with AsyncClient(f"http://127.0.0.1:{service.port}") as client, client.stream() as stream:
                return [result async for result in stream.run(camera())]

        results = asyncio.run(run())
        assert sorted(result.seq for result in results) == [0, 1, 2]
        assert any(result.answer for result in results)

    def test_a_model_that_is_not_there_is_said(self, service: Running) -> None:
        with pytest.raises(ModelUnknown), Client(f"http://127.0.0.1:{service.port}").stream(version=77):
            pass

    def test_a_frame_too_old_is_an_error_of_its_own(self, service: Running) -> None:
        with Client(f"http://127.0.0.1:{service.port}").stream(max_age_ms=60_000) as stream:
            stream.send(golden_frames()[0], captured_at=1.0)
            old = stream.receive()
            assert old.error is not None
            assert old.error.status == 504
            (new,) = stream.run([Captured(golden_frames()[0], time.time())])
            assert new.unwrap().age_ms is not None
            assert 0 < new.unwrap().age_ms < 60_000
