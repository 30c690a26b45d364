"""Clients that keep a connection waiting: real sockets."""

import socket
from collections.abc import Iterator

import numpy as np
import pytest
from service_kit import Running, golden_frames, png, publish_tiny, serving
from websockets.sync.client import connect

FRAME = png(golden_frames()[0])
LARGE = png(np.zeros((2000, 2000, 3), np.uint8))
WANTS_ALL = "/segment?probability=true"


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service that waits two seconds for anybody, and has memory for one large answer."""
    folder = tmp_path_factory.mktemp("models")
    publish_tiny(folder)
    with serving(folder, body_timeout_s=2, max_body_bytes=1_000_000, max_inflight_bytes=30_000_000) as running:
        yield running


def knock(running: Running) -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    made.settimeout(20)
    made.connect(("127.0.0.1", running.port))
    return made


@pytest.mark.parametrize("sent", [b"", b"POST /seg", b"POST /segment HTTP/1.1\r\nHost: here\r\n", b"\r\n"])
def test_who_leaves_off_in_the_head_of_a_request_is_hung_up_on(hasty: Running, sent: bytes) -> None:
    with knock(hasty) as client:
        client.sendall(sent)
        assert client.recv(100) == b""


def test_so_is_who_does_so_after_an_answer(hasty: Running) -> None:
    with knock(hasty) as client:
        client.sendall(b"GET /livez HTTP/1.1\r\nHost: here\r\n\r\n")
        answer = client.recv(10_000)
        assert answer.startswith(b"HTTP/1.1 200")
        client.sendall(b"GET /livez HT")
        while answer:
            answer = client.recv(10_000)


def test_who_takes_nothing_of_an_answer_is_hung_up_on_and_its_memory_is_free_again(hasty: Running) -> None:
    with knock(hasty) as client:
        head = (
            f"POST {WANTS_ALL} HTTP/1.1\r\nHost: here\r\nAccept: application/x-npz\r\nContent-Length: {len(LARGE)}\r\n"
        )
        client.sendall(f"{head}\r\n".encode() + LARGE)
        client.recv(1)
        statuses = []
        while not statuses or statuses[-1] != 200:
            answer = hasty.client.post(WANTS_ALL, content=LARGE, headers={"Accept": "application/x-npz"})
            statuses.append(answer.status_code)
        assert set(statuses[:-1]) == {503}


def test_who_takes_its_answer_slowly_gets_all_of_it(hasty: Running) -> None:
    with hasty.client.stream("POST", WANTS_ALL, content=LARGE, headers={"Accept": "application/x-npz"}) as answer:
        received = sum(len(piece) for piece in answer.iter_raw(1024))
        assert received == int(answer.headers["Content-Length"])


def test_a_stream_outlives_the_time_that_a_head_may_take(hasty: Running) -> None:
    with connect(f"ws://127.0.0.1:{hasty.port}/stream") as stream, knock(hasty) as idle:
        stream.recv()
        assert idle.recv(1) == b""  # came later, and has been hung up on
        stream.send(FRAME)
        assert '"answer"' in stream.recv()


def test_a_stream_whose_client_takes_no_answers_ends_and_its_place_is_free(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("models")
    publish_tiny(folder)
    with serving(folder, body_timeout_s=2, stream_limit=1) as running:
        url = f"ws://127.0.0.1:{running.port}/stream?accept=application/x-npz&probability=true"
        raw = knock(running)
        with connect(url, sock=raw, max_size=None, max_queue=1, open_timeout=20, close_timeout=0.1) as stream:
            stream.recv()
            for _ in range(2):
                stream.send(LARGE)
            while True:
                with connect(url, max_size=None) as other:
                    if '"hello"' in str(other.recv()):
                        break
