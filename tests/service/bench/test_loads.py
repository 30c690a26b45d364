"""Loads against real servers: what is sent, when, and what is noted of it."""

import numpy as np
import pytest
from service_kit import Running
from small_servers import BUSY, GOOD, small_server

from service.bench.connections import BROKEN, UNANSWERED
from service.bench.errors import BenchError
from service.bench.generator import Timetable, open_loop
from service.bench.loads import Closed, Open, run_load
from service.bench.payloads import KINDS, payloads_of
from service.bench.targets import Target, probe, segment_target, v2_target


@pytest.fixture
def target(service: Running) -> Target:
    return segment_target(f"http://127.0.0.1:{service.port}", payloads_of(["png"]), "application/json")


PLAIN = [b"POST / HTTP/1.1\r\n\r\n"]


def at_once(count: int) -> Timetable:
    return Timetable([0.0] * count, seconds=1.0)


def test_a_closed_loop_notes_every_answer_in_its_time(service: Running, target: Target) -> None:
    run = run_load(("127.0.0.1", service.port), target.requests({}), Closed(4, 0.3, warm_s=0.1))
    assert len(run.status) > 4
    assert (run.status == 200).all()
    assert (run.done_s > run.sent_s).all()
    assert ((run.done_s >= run.started_s) & (run.done_s <= run.ended_s + 0.1)).all()
    assert run.seconds >= 0.3
    assert run.cpu_share > 0


def test_a_closed_loop_tells_how_many_requests_were_sent_in_all(service: Running, target: Target) -> None:
    run = run_load(("127.0.0.1", service.port), target.requests({}), Closed(4, 0.1, warm_s=0.5))
    assert run.requests > 2 * len(run.status)


def test_a_closed_loop_tells_how_many_clients_it_lost() -> None:
    good_bye = GOOD.replace(b"server-timing", b"connection: close\r\nserver-timing")
    with small_server(good_bye, *[GOOD] * 9999, takes=2) as server:
        run = run_load(server.address, PLAIN, Closed(2, 0.2, warm_s=0.0))
    assert run.lost == 1
    assert np.count_nonzero(run.status == 200) > 1  # the other goes on


@pytest.mark.parametrize(("robots", "bodies"), [(1, 4), (3, 4), (4, 3), (2, 2)])
def test_an_open_loop_sends_every_payload_whatever_the_number_of_robots(robots: int, bodies: int) -> None:
    with small_server(GOOD) as server:
        target = Target(*server.address, "/", {}, [b"x" * size for size in range(1, bodies + 1)])
        run_load(server.address, target.requests({}), Open(robots, hz=50, seconds=0.2))
        plain = list(server.heads)
        server.heads.clear()
        run_load(server.address, target.requests({}, streams=robots), Open(robots, hz=50, seconds=0.2, connections=1))
        named = list(server.heads)
    for heads in (plain, named):
        assert all(any(b"Content-Length: %d\r\n" % size in head for head in heads) for size in range(1, bodies + 1))
    assert all(sum(b"X-Stream-Id: robot-%d\r\n" % robot in head for head in named) == 10 for robot in range(robots))


def test_an_open_loop_keeps_its_timetable_whatever_the_answers_take(service: Running, target: Target) -> None:
    run = run_load(("127.0.0.1", service.port), target.requests({}), Open(robots=5, hz=20, seconds=0.5))
    assert len(run.status) == 50
    assert (run.status == 200).all()
    assert np.allclose(np.diff(np.sort(run.due_s)), 0.01)
    assert (run.sent_s >= run.due_s).all()


@pytest.mark.parametrize(("robots", "hz", "seconds"), [(5, 20, 0.2), (1, 1, 1), (3, 10, 0.21)])
def test_frames_at_one_rate_take_as_many_periods_as_there_are_frames(robots: int, hz: float, seconds: float) -> None:
    with small_server(GOOD) as server:
        run = run_load(server.address, PLAIN, Open(robots, hz, seconds))
    assert len(run.status) / run.seconds == pytest.approx(robots * hz)


def test_what_waits_for_a_connection_counts_from_when_it_was_due() -> None:
    with small_server(GOOD) as server:
        span = open_loop(server.address, PLAIN, at_once(30), connections=1, most_connections=1, drain_s=5.0)
    log = span.log
    assert len(log.status) == 30
    assert set(log.due_s) == {span.started_s}
    assert list(log.sent_s) == sorted(log.sent_s)
    assert all(sent >= done for sent, done in zip(log.sent_s[1:], log.done_s, strict=False))


def test_a_connection_is_opened_when_none_is_free() -> None:
    with small_server(b"") as server:
        span = open_loop(server.address, PLAIN, at_once(5), connections=1, most_connections=9, drain_s=0.1)
    assert list(span.log.status) == [UNANSWERED] * 5
    assert all(sent <= done for sent, done in zip(span.log.sent_s, span.log.done_s, strict=True))


def test_a_connection_that_breaks_is_noted_and_opened_again() -> None:
    with small_server(None) as server:
        span = open_loop(server.address, PLAIN, at_once(5), connections=1, most_connections=2, drain_s=5.0)
    assert list(span.log.status) == [BROKEN] * 5


def test_of_refusals_no_headers_are_kept() -> None:
    with small_server(BUSY, GOOD) as server:
        run = run_load(server.address, PLAIN, Open(robots=1, hz=40, seconds=1.0, connections=1, most_connections=1))
    assert (run.status == 503).sum() == (run.status == 200).sum() == 20
    assert [head[:12] for head in run.heads] == ["HTTP/1.1 200"] * 3  # one of eight


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
    assert target.bodies[0][:length].endswith(b"}")
    assert len(target.bodies[0]) == length + 64 * 64 * 3


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("", "/v2/models/seg/infer"),
        ("/", "/v2/models/seg/infer"),
        ("/v2", "/v2/models/seg/infer"),
        ("/robomask", "/robomask/v2/models/seg/infer"),
        ("/robomask/?key=1", "/robomask/v2/models/seg/infer?key=1"),
        ("/robomask/v2/models/other/versions/2/infer", "/robomask/v2/models/other/versions/2/infer"),
    ],
)
def test_a_v2_request_goes_to_where_a_gateway_has_put_the_server(path: str, route: str) -> None:
    assert v2_target(f"http://gateway{path}", "seg", "image", "mask").path == route


def test_a_server_is_named_to_itself_in_the_same_way_by_the_probe_and_under_load() -> None:
    with small_server(GOOD, host="::1") as server:
        port = server.address[1]
        target = segment_target(f"http://[::1]:{port}", payloads_of(["png"]), "*/*")
        probe(target)
        run_load(("::1", port), target.requests({}), Open(robots=1, hz=10, seconds=0.1))
    assert [head.count(b"Host: [::1]:%d\r\n" % port) for head in server.heads] == [1, 1]


def test_nobody_there_is_said_in_one_line() -> None:
    with pytest.raises(BenchError, match="start it"):
        probe(segment_target("http://127.0.0.1:9", payloads_of(["png"]), "*/*"))
    for load in (Closed(1, 0.1), Open(1, 10, 0.1)):
        with pytest.raises(BenchError, match=r"^expected a server at 127\.0\.0\.1:9, got: .*Connection refused$"):
            run_load(("127.0.0.1", 9), [b""], load)


@pytest.mark.parametrize("load", [Closed(2, 60.0, 0.0), Closed(2, 60.0, 60.0), Open(1, 100.0, 60.0, connections=2)])
def test_a_server_that_goes_away_is_said_at_once_and_in_one_line(load: Closed | Open) -> None:
    with small_server(GOOD, connections=1) as server, pytest.raises(BenchError) as caught:
        run_load(server.address, PLAIN, load)
    host, port = server.address
    assert str(caught.value) == (
        f"expected the server at {host}:{port} to go on answering, it went away: "
        "none of 2 connections could be opened again"
    )


def test_a_closed_loop_of_no_time_measures_nothing() -> None:
    with small_server(GOOD) as server, pytest.raises(BenchError, match="expected a time"):
        run_load(server.address, PLAIN, Closed(1, 1e-15, warm_s=0.0))


def test_a_redirection_is_said_with_where_it_leads() -> None:
    moved = b"HTTP/1.1 308 Permanent Redirect\r\nLocation: https://robots.example/segment\r\nContent-Length: 0\r\n\r\n"
    with small_server(moved) as server, pytest.raises(BenchError, match=r"308: .* to https://robots\.example/segment;"):
        probe(segment_target("http://{}:{}".format(*server.address), payloads_of(["png"]), "*/*"))


def test_a_refusal_is_said_before_anything_is_measured(service: Running) -> None:
    with pytest.raises(BenchError, match="406"):
        probe(segment_target(f"http://127.0.0.1:{service.port}", payloads_of(["png"]), "text/plain"))


@pytest.mark.parametrize("payload", ["gif", "missing.png"])
def test_a_payload_that_is_none_is_said(payload: str) -> None:
    with pytest.raises(BenchError, match="expected"):
        payloads_of([payload])
