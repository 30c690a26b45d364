"""Messages of websockets that leave off in the middle count against the memory that all requests share."""

import contextlib
import json
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from service_kit import Running, golden_frames, png, publish_tiny, serving
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

LIMIT = 1_000_000
SIDE = 500
LARGE = np.zeros((SIDE, SIDE, 3), np.uint8).tobytes()
"""More than half of the memory, and valid."""
SMALL = png(golden_frames()[0])
TEXT, BINARY, PIECE = 1, 2, 0


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service with memory for one large message."""
    folder = tmp_path_factory.mktemp("models")
    publish_tiny(folder)
    with serving(folder, max_body_bytes=LIMIT, max_inflight_bytes=LIMIT) as running:
        yield running
        wait_until(lambda: held(running) == 0)


def held(running: Running) -> int:
    """Bytes of the memory that are taken."""
    budget = running._server.config.app.express.budget  # type: ignore[union-attr]
    return int(budget.held_bytes)


def wait_until(true: Callable[[], bool]) -> None:
    """The tests' own limit of time ends what never comes true."""
    while not true():
        pass


def counted(running: Running) -> dict[str, float]:
    families = text_string_to_metric_families(running.client.get("/metrics").text)
    return {
        value: sample.value for family in families for sample in family.samples for value in sample.labels.values()
        if sample.name in {"robomask_shed_total", "robomask_frames_total"}
    }  # fmt: skip


def frame(content: bytes, kind: int = BINARY, *, last: bool = True, announced: int | None = None) -> bytes:
    """A frame on the wire, masked with zeros; it may announce more than it has."""
    head = struct.pack("!BBQ", kind | 0x80 * last, 0x80 | 127, len(content) if announced is None else announced)
    return head + bytes(4) + content


@contextmanager
def streaming(running: Running, query: str = f"width={SIDE}&height={SIDE}") -> Iterator[ClientConnection]:
    address = f"ws://127.0.0.1:{running.port}/stream?{query}"
    with connect(address, compression=None, open_timeout=20, close_timeout=0) as stream:
        assert told(stream)["type"] == "hello"
        yield stream


def told(stream: ClientConnection) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(stream.recv(timeout=20))
    return document


def test_who_finds_no_memory_for_the_rest_of_a_message_is_told_and_hung_up_on(narrow: Running) -> None:
    before = counted(narrow)
    with streaming(narrow) as first, streaming(narrow) as second:
        first.socket.sendall(frame(LARGE)[:-1])
        wait_until(lambda: held(narrow) >= len(LARGE) - 1)
        second.socket.sendall(frame(LARGE)[:-1])
        said = told(second)
        assert (said["type"], said["seq"]) == ("error", None)
        assert said["problem"]["type"] == "urn:robomask:problem:busy"
        assert f"at most {LIMIT} bytes" in said["problem"]["detail"]
        with pytest.raises(ConnectionClosed):
            second.recv(timeout=20)
        assert second.close_code == 4503
        first.socket.sendall(LARGE[-1:])
        assert told(first)["answer"]["frames"][0]["area"] == 0
    after = counted(narrow)
    assert after["memory"] - before.get("memory", 0) == 1
    assert after["shed"] - before["shed"] == 1


def test_a_message_that_is_nearly_all_of_the_memory_is_answered(narrow: Running) -> None:
    height = LIMIT // 3 // SIDE
    content = bytes(3 * SIDE * height)
    with streaming(narrow, f"width={SIDE}&height={height}") as stream:
        for seq in range(3):
            stream.send([content[:9], content[9:400_000], content[400_000:]] if seq % 2 else content)
            assert (told(stream)["type"], held(narrow)) == ("answer", 0)


def test_pieces_without_content_are_not_for_nothing(narrow: Running) -> None:
    nothing = frame(b"", PIECE, last=False)
    with streaming(narrow) as stream:
        stream.socket.sendall(frame(b"", last=False))
        with contextlib.suppress(OSError):  # it hangs up before all of them are sent
            stream.socket.sendall(nothing * (LIMIT // 32))
        assert told(stream)["problem"]["type"] == "urn:robomask:problem:busy"


def test_small_frames_are_refused_one_by_one_while_there_is_no_memory(narrow: Running) -> None:
    with streaming(narrow, "") as stream:
        with streaming(narrow) as greedy:
            left_out = len(SMALL) // 2
            greedy.socket.sendall(frame(bytes(LIMIT - left_out - 14), announced=LIMIT))
            wait_until(lambda: held(narrow) > LIMIT - len(SMALL))
            stream.send(SMALL)
            said = told(stream)
            assert (said["seq"], said["problem"]["type"]) == (0, "urn:robomask:problem:busy")
        wait_until(lambda: held(narrow) == 0)
        stream.send(SMALL)
        assert told(stream)["type"] == "answer"


HALF = frame(bytes(300_000), announced=600_000)
IN_PIECES = frame(bytes(300_000), last=False) + frame(bytes(200_000), PIECE, last=False)


@pytest.mark.parametrize(
    "sent",
    [
        HALF,
        IN_PIECES,
        IN_PIECES + HALF[:14],
        IN_PIECES + frame(struct.pack("!H", 1000), 8),
        IN_PIECES + frame(bytes(10)),
        frame(bytes(10), announced=LIMIT + 1),
        frame(b"\xff" * 100_000, TEXT),
        frame(b'{"deadline_ms": 1}' + b" " * 100_000, TEXT),
        b"".join([frame(SMALL)] * 8) + HALF,
    ],
)
def test_however_a_stream_ends_its_memory_is_free_again(narrow: Running, sent: bytes) -> None:
    with streaming(narrow, "") as stream, contextlib.suppress(OSError):
        stream.socket.sendall(sent)
        stream.socket.shutdown(socket.SHUT_WR)
        while True:
            try:
                stream.recv(timeout=20)
            except ConnectionClosed:
                break
    wait_until(lambda: held(narrow) == 0)
    assert narrow.segment(SMALL).status_code == 200


def test_what_comes_where_no_stream_is_leaves_nothing_behind(narrow: Running) -> None:
    head = (
        "GET {} HTTP/1.1\r\nHost: here\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    for path in ("/nowhere", "/stream?nonsense=1"):
        with socket.create_connection(("127.0.0.1", narrow.port), timeout=20) as raw:
            with contextlib.suppress(OSError):
                raw.sendall(head.format(path).encode() + HALF)
            answer = raw.recv(100)
            assert answer.startswith(b"HTTP/1.1 404" if path == "/nowhere" else b"HTTP/1.1 101")
    wait_until(lambda: held(narrow) == 0)
