"""Requests that come in one piece, in several, or out of the ordinary: real sockets, the same answers."""

import asyncio
import functools
import gc
import io
import re
import socket
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
import uvloop
from service_kit import Running, golden_frames, png, serving

from benchmarks.standin import publish_standin
from service.connection.messages import Reply, Whole
from service.connection.whole import Exchange, WholeRequestProtocol
from service.frames.limits import MemoryBudget

PIXELS = golden_frames()[0].tobytes()
PATH = "/segment?width=64&height=64"


def knock(running: Running) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", running.port), timeout=20)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


def request(body: bytes = PIXELS, path: str = PATH, more: str = "", version: str = "1.1") -> bytes:
    head = (
        f"POST {path} HTTP/{version}\r\nHost: here\r\nContent-Type: application/octet-stream\r\n"
        f"Accept: application/x-npy\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    )
    return head.encode() + body


class Answer:
    """One answer, read off a socket."""

    def __init__(self, file: io.BufferedReader) -> None:
        self.status = int(file.readline().split()[1])
        lines = iter(lambda: file.readline().strip(), b"")
        self.headers = dict(line.decode("latin-1").split(": ", 1) for line in lines)
        self.body = file.read(int(self.headers["content-length"]))

    def mask(self) -> np.ndarray:
        return np.load(io.BytesIO(self.body))


def ask(running: Running, *pieces: bytes) -> Answer:
    """Send pieces; none waits in the client for the next."""
    with knock(running) as client, client.makefile("rb") as file:
        for piece in pieces:
            client.sendall(piece)
        return Answer(file)


def requests_counted(running: Running, status: int) -> float:
    text = running.client.get("/metrics").text
    pattern = rf'robomask_requests_total{{method="POST",route="/segment",status="{status}"}} (\S+)'
    found = re.search(pattern, text)
    return float(found[1]) if found else 0.0


def test_a_request_gets_the_same_answer_in_one_piece_in_two_and_in_many(running: Running) -> None:
    whole = request()
    head, body = whole[: -len(PIXELS)], whole[-len(PIXELS) :]
    many = [whole[start : start + 997] for start in range(0, len(whole), 997)]
    answers = [ask(running, whole), ask(running, head, body), ask(running, *many)]
    for answer in answers:
        assert answer.status == 200
        assert answer.headers.keys() == answers[0].headers.keys()
        assert answer.body == answers[0].body
    assert {"date", "server-timing", "vary", "x-model-version", "x-request-id"} <= answers[0].headers.keys()
    assert answers[0].mask().shape == (1, 64, 64)


def test_a_body_that_comes_later_than_at_once_is_waited_for(running: Running) -> None:
    whole = request()
    with knock(running) as client, client.makefile("rb") as file:
        client.sendall(whole[:-1])
        for _ in range(20):  # each answer is waited for: the moment that the service waits is over
            assert running.client.get("/livez").status_code == 200
        client.sendall(whole[-1:])
        assert Answer(file).status == 200


@pytest.mark.parametrize("how_many", [2, 5])
def test_requests_sent_without_waiting_are_answered_in_their_order(running: Running, how_many: int) -> None:
    names = [f"number-{number}" for number in range(how_many)]
    with knock(running) as client, client.makefile("rb") as file:
        client.sendall(b"".join([request(more=f"X-Request-Id: {name}\r\n") for name in names]))
        answers = [Answer(file) for _ in names]
    assert [answer.headers["x-request-id"] for answer in answers] == names
    assert {answer.status for answer in answers} == {200}


def test_another_route_may_be_asked_right_behind_a_frame(running: Running) -> None:
    with knock(running) as client, client.makefile("rb") as file:
        client.sendall(request() + b"GET /livez HTTP/1.1\r\nHost: here\r\n\r\n" + request())
        assert [Answer(file).status for _ in range(3)] == [200, 200, 200]


def test_a_connection_stays_open_unless_the_client_wants_it_closed(running: Running) -> None:
    with knock(running) as client, client.makefile("rb") as file:
        client.sendall(request())
        assert "connection" not in Answer(file).headers
        client.sendall(request(more="Connection: close\r\n"))
        assert Answer(file).headers["connection"] == "close"
        assert file.read() == b""


def test_http_1_0_is_answered_and_closed(running: Running) -> None:
    with knock(running) as client, client.makefile("rb") as file:
        client.sendall(request(version="1.0"))
        assert Answer(file).status == 200
        assert file.read() == b""


def test_who_expects_to_be_asked_for_the_body_is(running: Running) -> None:
    whole = request(more="Expect: 100-continue\r\n")
    with knock(running) as client, client.makefile("rb") as file:
        client.sendall(whole[: -len(PIXELS)])
        assert file.readline() == b"HTTP/1.1 100 Continue\r\n"
        assert file.readline() == b"\r\n"
        client.sendall(PIXELS)
        assert Answer(file).status == 200


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (request(PIXELS[:-1]), 400, "body-malformed"),
        (request(b""), 400, "body-missing"),
        (request(path="/segment?width=64&height=64&weight=1"), 422, "parameter-invalid"),
        (request(path="/segment?width=64&height=64#top"), 200, None),
        (request(path="http://here/segment?width=64&height=64"), 200, None),
        (request(path="/segments?width=64&height=64"), 404, "not-found"),
        (request(more="X-Forwarded-For: 10.0.0.7\r\n"), 200, None),
        (request(more="X-Deadline-Ms: soon\r\n"), 422, "parameter-invalid"),
    ],
)
def test_errors_and_oddities_are_answered_as_ever(running: Running, sent: bytes, status: int, code: str | None) -> None:
    answer = ask(running, sent)
    assert answer.status == status, answer.body
    assert code is None or code in answer.body.decode()
    assert answer.headers["x-request-id"]


def test_a_head_that_comes_again_and_again_is_answered_as_the_first_time(running: Running) -> None:
    black, grey = bytes(64 * 64 * 3), bytes([90]) * (64 * 64 * 3)
    expected = {body: ask(running, request(body)).body for body in (PIXELS, black, grey)}
    with knock(running) as client, client.makefile("rb") as file:
        for body in [PIXELS, black, grey] * 5:  # more than all heads together may have
            client.sendall(request(body))
            answer = Answer(file)
            assert answer.status == 200
            assert answer.body == expected[body]


def test_ids_and_times_are_those_of_each_request_though_its_head_is_known(running: Running) -> None:
    with knock(running) as client, client.makefile("rb") as file:
        ids = set()
        for _ in range(4):
            client.sendall(request())
            ids.add(Answer(file).headers["x-request-id"])
    assert len(ids) == 4


def test_whatever_follows_a_known_head_is_read_as_ever(running: Running) -> None:
    whole = request()
    head, body = whole[: -len(PIXELS)], whole[-len(PIXELS) :]
    livez = b"GET /livez HTTP/1.1\r\nHost: here\r\n\r\n"
    other = request(path="/segment?width=64&height=64&size=model")
    with knock(running) as client, client.makefile("rb") as file:
        for pieces, answers in [
            ((whole,), 1),
            ((head, body), 1),
            ((whole,), 1),
            ((whole + whole,), 2),
            ((whole + livez,), 2),
            ((whole,), 1),
            ((whole[:700], whole[700:]), 1),
            ((other,), 1),
            ((whole,), 1),
            ((whole[:-1], whole[-1:]), 1),
            ((b"\r\n" + whole,), 1),
            ((whole,), 1),
        ]:
            for piece in pieces:
                client.sendall(piece)
                if len(pieces) > 1:  # so that they come one by one
                    assert running.client.get("/livez").status_code == 200
            assert [Answer(file).status for _ in range(answers)] == [200] * answers
        client.sendall(whole.replace(b"Host: here", b"Host here"))
        assert Answer(file).status == 400


def test_line_breaks_between_requests_are_none(running: Running) -> None:
    with knock(running) as client, client.makefile("rb") as file:
        for sent, status in ((request(b""), 400), (request(), 200)):
            client.sendall(sent)
            assert Answer(file).status == status
            for _ in range(3):
                client.sendall(b"\r\n")
                assert running.client.get("/livez").status_code == 200
            client.sendall(sent)
            assert Answer(file).status == status


def test_a_body_that_reads_like_a_known_request_is_a_body(running: Running) -> None:
    known = request()
    body = known + bytes(128 * 96 * 3 - len(known))
    posing = request(body, path="/segment?width=128&height=96")
    with knock(running) as client, client.makefile("rb") as file:
        client.sendall(known)
        assert Answer(file).status == 200
        for piece in (posing[: -len(body)], known, bytes(len(body) - len(known))):
            client.sendall(piece)
            assert running.client.get("/livez").status_code == 200
        assert Answer(file).mask().shape == (1, 96, 128)
        client.sendall(known)
        assert Answer(file).mask().shape == (1, 64, 64)


def test_what_no_http_follows_a_frame_is_refused(running: Running) -> None:
    with knock(running) as client, client.makefile("rb") as file:
        client.sendall(request())
        assert Answer(file).status == 200
        client.sendall(b"\x00\x01\x02 what is this\r\n\r\n")
        assert Answer(file).status == 400
        assert file.read() == b""


def test_who_hangs_up_is_counted_and_takes_nobody_along(tmp_path: Path) -> None:
    publish_standin(tmp_path, scale=64)  # takes about half a second for a frame
    with serving(tmp_path, workers=1, provider="cpu") as slow:
        with knock(slow) as client:
            client.sendall(request())
            for _ in range(3):  # the service has looked at what came before these
                assert slow.client.get("/livez").status_code == 200
        while requests_counted(slow, 499) == 0:
            assert requests_counted(slow, 200) == 0
        assert ask(slow, request()).status == 200


ASKS_FOR_H2C = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"


def test_who_would_like_to_speak_http_2_is_answered_in_http_1_1(running: Running) -> None:
    whole = request(more=ASKS_FOR_H2C)
    head, body = whole[: -len(PIXELS)], whole[-len(PIXELS) :]
    for pieces in ((whole,), (head, body), (head[:-3], head[-3:] + body[:7], body[7:])):
        assert ask(running, *pieces).mask().shape == (1, 64, 64)
    with knock(running) as client, client.makefile("rb") as file:
        client.sendall(whole + request() + b"GET /livez HTTP/1.1\r\nHost: here\r\n" + ASKS_FOR_H2C.encode() + b"\r\n")
        assert [Answer(file).status for _ in range(3)] == [200, 200, 200]
        client.sendall(request(more="Upgrade: h2c\r\nConnection: upgrade, close\r\n"))
        assert Answer(file).headers["connection"] == "close"
        assert file.read() == b""


def test_a_client_that_resets_its_connection_leaves_nothing_behind(running: Running) -> None:
    reset = struct.pack("ii", 1, 0)
    before = transports()
    for sent in (request(), b"GET /livez HTTP/1.1\r\nHost: here\r\n\r\n", request()[:900]):
        for _ in range(5):
            with knock(running) as client:
                client.sendall(sent)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
    for _ in range(10):
        assert running.client.get("/livez").status_code == 200
    gc.collect()
    assert transports() <= before + 2


def test_a_url_without_end_is_refused_whether_its_body_comes_or_not(running: Running) -> None:
    with knock(running) as client, client.makefile("rb") as file:
        client.sendall(request(path="/segment?" + "a" * 75_000)[:-1])
        assert Answer(file).status == 400
        assert file.read() == b""


def test_a_deadline_counts_from_the_head_not_from_the_body(running: Running) -> None:
    whole = request(more="X-Deadline-Ms: 30\r\n")
    with knock(running) as client, client.makefile("rb") as file:
        client.sendall(whole[:-1])
        until = time.monotonic() + 0.06
        while time.monotonic() < until:
            assert running.client.get("/livez").status_code == 200
        client.sendall(whole[-1:])
        assert Answer(file).status == 504


def test_a_large_answer_arrives_whole_and_the_next_one_after_it(running: Running) -> None:
    large = png(np.zeros((900, 1200, 3), np.uint8))
    asked = request(large, "/segment").replace(b"application/octet-stream", b"image/png")
    with knock(running) as client, client.makefile("rb") as file:
        client.sendall(asked + request())
        assert Answer(file).mask().shape == (1, 900, 1200)
        assert Answer(file).mask().shape == (1, 64, 64)


def transports() -> int:
    """Connections of this process that are open or have left something behind."""
    return sum(type(each).__name__ == "TCPTransport" for each in gc.get_objects())


def test_of_two_requests_in_one_piece_the_second_is_not_answered_where_the_first_ends_the_connection(
    running: Running,
) -> None:
    refused = request(path="/segment?width=no", more="Connection: close\r\n")
    with knock(running) as client, client.makefile("rb") as file:
        client.sendall(refused + request())
        assert Answer(file).status == 422
        assert file.read() == b""


def test_of_two_requests_in_one_piece_the_second_is_answered_where_the_first_is_refused(running: Running) -> None:
    with knock(running) as client, client.makefile("rb") as file:
        client.sendall(request(path="/segment?width=no") + request())
        assert [Answer(file).status for _ in range(2)] == [422, 200]


class Answering:
    """Answers requests at once or a little later, or fails."""

    path = b"/segment"
    budget = MemoryBudget(1 << 20)

    async def answer(self, request: Whole, exchange: Exchange) -> None:
        if request.query == b"fail":
            raise ValueError("expected better")
        if request.query == b"wait":
            later = asyncio.Event()
            asyncio.get_running_loop().call_later(0.05, later.set)
            await later.wait()
        await exchange.send(Reply(200, [(b"content-length", b"2")], b"ok"))


def heard(*requests: bytes, keep_alive_s: int = 75) -> bytes:
    """What a client hears that sends requests in one piece."""

    async def nobody(scope: object, receive: object, send: object) -> None:
        """An application that nobody asks."""

    def hear(port: int) -> bytes:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
            client.sendall(b"".join(requests))
            return b"".join(iter(lambda: client.recv(65536), b""))

    async def scenario() -> bytes:
        protocol = functools.partial(WholeRequestProtocol, answerer=Answering())
        options: dict[str, Any] = {"http": protocol, "timeout_keep_alive": keep_alive_s, "log_config": None}
        config = uvicorn.Config(nobody, port=0, lifespan="off", **options)
        server = uvicorn.Server(config)
        config.load()
        server.lifespan = config.lifespan_class(config)
        await server.startup()
        hearing = asyncio.create_task(asyncio.to_thread(hear, server.servers[0].sockets[0].getsockname()[1]))
        answer = await hearing
        server.force_exit = True
        await server.shutdown()
        return answer

    return uvloop.run(scenario())


def test_a_fault_before_the_answer_is_none_of_the_clients_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    assert heard(request(path="/segment?fail")) == b""
    assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == ["expected better"]
    assert "a fault of this service" in caplog.text


def test_a_request_is_answered_however_short_idle_connections_are_kept_after_the_one_before_it() -> None:
    at_once, later = request(path="/segment?now"), request(path="/segment?wait", more="Connection: close\r\n")
    assert heard(at_once, later, keep_alive_s=0).count(b"200 OK") == 2
