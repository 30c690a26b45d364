"""Websockets that do not come about: real sockets, bytes as no library writes them."""

import json
import logging
import socket

import pytest
from service_kit import Running, publish_tiny, serving

KEY = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="
VERSION = "Sec-WebSocket-Version: 13"


def asking(*lines: str, path: str = "/stream", method: str = "GET") -> bytes:
    head = [f"{method} {path} HTTP/1.1", "Host: here", "Connection: Upgrade", "Upgrade: websocket", *lines, "", ""]
    return "\r\n".join(head).encode("latin-1")


def answer_to(running: Running, sent: bytes) -> tuple[int, dict[str, str], dict[str, object]]:
    """Status, headers and body of all that comes until the service hangs up."""
    with socket.create_connection(("127.0.0.1", running.port), timeout=20) as client:
        client.sendall(sent)
        got = b""
        while piece := client.recv(65536):
            got += piece
    head, _, body = got.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return int(first.split()[1]), headers, json.loads(body)


@pytest.mark.parametrize(
    ("sent", "status", "words"),
    [
        (asking(VERSION, KEY, "Content-Length: 5") + b"abcde", 400, "body"),
        (asking(VERSION, KEY, "Content-Length: 5"), 400, "body"),
        (asking(VERSION, KEY, "Transfer-Encoding: chunked") + b"0\r\n\r\n", 400, "transfer"),
        (asking(VERSION, KEY, path="/stream?" + "a" * 9000), 414, "too long"),
        (asking(VERSION, KEY, "A: " + "b" * 9000), 431, "too large"),
        (asking(VERSION, KEY, *(f"a{number}: b" for number in range(200))), 431, "too large"),
        (asking(VERSION), 400, "Sec-WebSocket-Key"),
        (asking(KEY), 400, "Sec-WebSocket-Version"),
        (asking(VERSION, "Sec-WebSocket-Key: short"), 400, "Sec-WebSocket-Key"),
    ],
)
def test_a_handshake_that_cannot_be_is_answered_with_a_problem_and_hung_up_on(
    service: Running, sent: bytes, status: int, words: str
) -> None:
    found, headers, body = answer_to(service, sent)
    assert (found, headers["content-type"], body["status"]) == (status, "application/problem+json", status)
    assert "RFC 6455" in str(body["detail"])
    assert words.lower() in str(body["detail"]).lower()
    assert headers["x-request-id"] == body["request_id"]


def test_after_them_the_service_stops_as_ever(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("models")
    publish_tiny(folder)
    with serving(folder) as stopping, socket.create_connection(("127.0.0.1", stopping.port), timeout=20) as client:
        client.sendall(asking(VERSION, KEY, "Content-Length: 5"))
        assert client.recv(10) == b"HTTP/1.1 4"


def test_a_websocket_to_another_path_is_answered_and_is_no_fault(
    service: Running, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        status, headers, body = answer_to(service, asking(VERSION, KEY, path="/streams"))
    assert (status, headers["content-type"], body["status"]) == (404, "application/problem+json", 404)
    assert not [record for record in caplog.records if record.name.startswith("uvicorn")]


def test_what_is_no_http_is_told_what_cannot_be_read(service: Running) -> None:
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as client:
        client.sendall(b"POST /segment HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n")
        assert b"Content-Length" in client.recv(10_000).partition(b"\r\n\r\n")[2]
