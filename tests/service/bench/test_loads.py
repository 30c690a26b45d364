"""Loads against real servers: what is sent, when, and what is noted of it."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from service_kit import Running

from service.bench.connections import BROKEN, UNANSWERED
from service.bench.errors import BenchError
from service.bench.generator import open_loop
from service.bench.loads import Closed, Open, run_load
from service.bench.payloads import KINDS, payloads_of
from service.bench.targets import Target, probe, segment_target, v2_target


@pytest.fixture
def target(service: Running) -> Target:
    return segment_target(f"http://127.0.0.1:{service.port}", payloads_of(["png"]), "application/json")


@contextmanager
def raw_server(answer: bytes | None) -> Iterator[tuple[str, int]]:
    """Reads a request and gives this answer, again and again; with None it hangs up, with b"" it says nothing."""
    listener = socket.create_server(("127.0.0.1", 0))

    def talk(connection: socket.socket) -> None:
        with connection:
            while connection.recv(65536):
                if answer is None:
                    return
                connection.sendall(answer)

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=talk, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


GOOD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nserver-timing: infer;dur=1.5\r\n\r\nok"


def test_a_closed_loop_notes_every_answer_in_its_time(service: Running, target: Target) -> None:
    run = run_load(("127.0.0.1", service.port), target.requests({}), Closed(4, 0.3, warm_s=0.1))
    assert len(run.status) > 4
    assert (run.status == 200).all()
    assert (run.done_s > run.sent_s).all()
    assert ((run.done_s >= run.started_s) & (run.done_s <= run.ended_s + 0.1)).all()
    assert run.seconds >= 0.3
    assert run.cpu_share > 0


def test_an_open_loop_keeps_its_timetable_whatever_the_answers_take(service: Running, target: Target) -> None:
    run = run_load(("127.0.0.1", service.port), target.requests({}), Open(robots=5, hz=20, seconds=0.5))
    assert len(run.status) == 50
    assert (run.status == 200).all()
    assert np.allclose(np.diff(np.sort(run.due_s)), 0.01)
    assert (run.sent_s >= run.due_s).all()


def test_what_waits_for_a_connection_counts_from_when_it_was_due() -> None:
    with raw_server(GOOD) as address:
        span = open_loop(
            address, [b"POST / HTTP/1.1\r\n\r\n"], [(0.0, 0)] * 30, connections=1, most_connections=1, drain_s=5.0
        )
    log = span.log
    assert len(log.status) == 30
    assert set(log.due_s) == {span.started_s}
    assert list(log.sent_s) == sorted(log.sent_s)
    assert all(sent >= done for sent, done in zip(log.sent_s[1:], log.done_s, strict=False))


def test_a_connection_is_opened_when_none_is_free() -> None:
    with raw_server(b"") as address:
        span = open_loop(
            address, [b"POST / HTTP/1.1\r\n\r\n"], [(0.0, 0)] * 5, connections=1, most_connections=9, drain_s=0.1
        )
    assert list(span.log.status) == [UNANSWERED] * 5
    assert all(sent <= done for sent, done in zip(span.log.sent_s, span.log.done_s, strict=True))


def test_a_connection_that_breaks_is_noted_and_opened_again() -> None:
    with raw_server(None) as address:
        span = open_loop(
            address, [b"POST / HTTP/1.1\r\n\r\n"], [(0.0, 0)] * 5, connections=1, most_connections=2, drain_s=5.0
        )
    assert list(span.log.status) == [BROKEN] * 5


@pytest.mark.parametrize("kind", KINDS)
def test_every_payload_is_answered(service: Running, kind: str) -> None:
    target = segment_target(f"http://127.0.0.1:{service.port}", payloads_of([kind]), "image/png")
    assert probe(target).startswith(b"\x89PNG")
    run = run_load(("127.0.0.1", service.port), target.requests({}), Open(robots=2, hz=10, seconds=0.2))
    assert (run.status == 200).all()


def test_streams_have_names_of_their_own(target: Target) -> None:
    requests = target.requests({"X-Deadline-Ms": "100"}, streams=3)
    assert [b"X-Stream-Id: robot-%d\r\n" % index in request for index, request in enumerate(requests)] == [True] * 3
    assert all(b"X-Deadline-Ms: 100\r\n" in request for request in requests)


def test_a_v2_request_is_a_header_and_a_tensor() -> None:
    target = v2_target("http://127.0.0.1:9", "seg", "image", "mask")
    length = int(target.headers["Inference-Header-Content-Length"])
    assert target.path == "/v2/models/seg/infer"
    assert target.bodies[0][:length].endswith(b"}")
    assert len(target.bodies[0]) == length + 64 * 64 * 3


def test_nobody_there_is_said() -> None:
    with pytest.raises(BenchError, match="start it"):
        probe(segment_target("http://127.0.0.1:9", payloads_of(["png"]), "*/*"))
    with pytest.raises(BenchError, match="ConnectionRefused"):
        run_load(("127.0.0.1", 9), [b""], Closed(1, 0.1))


def test_a_refusal_is_said_before_anything_is_measured(service: Running) -> None:
    with pytest.raises(BenchError, match="406"):
        probe(segment_target(f"http://127.0.0.1:{service.port}", payloads_of(["png"]), "text/plain"))


@pytest.mark.parametrize("payload", ["gif", "missing.png"])
def test_a_payload_that_is_none_is_said(payload: str) -> None:
    with pytest.raises(BenchError, match="expected"):
        payloads_of([payload])
