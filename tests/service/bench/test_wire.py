"""Where an answer ends."""

import pytest

from service.bench.wire import read_reply, request_bytes


def test_a_request_is_whole() -> None:
    assert request_bytes("h:1", "/p?a=b", {"Accept": "image/png"}, b"xyz") == (
        b"POST /p?a=b HTTP/1.1\r\nHost: h:1\r\nContent-Length: 3\r\nAccept: image/png\r\n\r\nxyz"
    )


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\nX: y\r\n\r\nbody",
        b"HTTP/1.1 503 Busy\r\nX: y\r\ncontent-length: 4\r\n\r\nbody",
        b"HTTP/1.1 503 Busy\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
        b"HTTP/1.1 503 Busy\r\ncontent-length:0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
    ],
)
def test_an_answer_is_whole_at_its_last_byte_and_not_before(answer: bytes) -> None:
    reply = read_reply(answer)
    assert reply is not None
    assert reply.status in {204, 503}
    assert all(read_reply(answer[:length]) is None for length in range(len(answer)))


def test_a_connection_that_is_going_to_close_is_told() -> None:
    reply = read_reply(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nConnection: close\r\n\r\n")
    assert reply is not None
    assert reply.closes


def test_what_is_no_answer_is_an_error() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        read_reply(b"SSH-2.0-something\r\n\r\n")
