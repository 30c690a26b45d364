"""How long a frame is worth an answer: what the headers say, and what the service makes of it."""

import asyncio
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from service_kit import Running, golden_frames, png, publish_tiny, serving

from service.engine import Prediction
from service.errors import DeadlineMissed, FrameTooOld, ParameterInvalid
from service.scheduling.freshness import Freshness, read_freshness

Check = Callable[..., dict[str, Any]]
FRAME = png(golden_frames()[0])
NOW = 1_764_000_000.0


def read(**headers: str) -> Freshness:
    named = {f"x-{name.replace('_', '-')}".encode(): value.encode() for name, value in headers.items()}
    return read_freshness(named, 100.0, lambda _: NOW)


def value_of(running: Running, name: str, **labels: str) -> float:
    text = running.client.get("/metrics").text
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return sample.value
    return 0.0


def test_without_headers_a_frame_may_take_its_time() -> None:
    freshness = read()
    assert (freshness.due_s, freshness.captured_s, freshness.stream) == (math.inf, None, None)


def test_a_deadline_counts_from_arrival() -> None:
    assert read(deadline_ms="250").due_s == pytest.approx(100.25)


def test_a_greatest_age_counts_from_capture_and_the_nearer_bound_wins() -> None:
    freshness = read(captured_at=f"{NOW - 0.3}", max_age_ms="500")
    assert freshness.due_s == pytest.approx(100.2, abs=1e-3)
    assert freshness.by_age
    assert freshness.age_s(100.1) == pytest.approx(0.4, abs=1e-3)
    both = read(captured_at=f"{NOW - 0.3}", max_age_ms="500", deadline_ms="50")
    assert both.due_s == pytest.approx(100.05)
    assert not both.by_age


def test_a_clock_that_is_a_little_ahead_makes_a_frame_new_not_wrong() -> None:
    ahead = read(captured_at=f"{NOW + 5}", max_age_ms="500")
    assert ahead.age_s(100.0) == 0
    assert ahead.due_s == pytest.approx(100.5)
    assert "at most 500 ms old" in str(ahead.missed("it is not"))


def test_frames_of_a_camera_whose_clock_is_ahead_keep_their_order() -> None:
    later, sooner = read(captured_at=f"{NOW + 0.5}"), read(captured_at=f"{NOW + 0.4}")
    assert later.newness > sooner.newness


def test_the_order_of_a_streams_frames_counts_more_than_their_capture() -> None:
    sooner, later = read(captured_at=f"{NOW}")._replace(order=1), read(captured_at=f"{NOW - 1}")._replace(order=2)
    assert later.newness > sooner.newness


def test_a_frame_that_is_too_old_on_arrival_is_refused() -> None:
    with pytest.raises(FrameTooOld, match="at most 200 ms old when answered, but it was 300 ms old when it came"):
        read(captured_at=f"{NOW - 0.3}", max_age_ms="200")


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"deadline_ms": "soon"}, "X-Deadline-Ms as milliseconds"),
        ({"deadline_ms": "0"}, "more than 0"),
        ({"deadline_ms": "-5"}, "more than 0"),
        ({"deadline_ms": "nan"}, "milliseconds"),
        ({"deadline_ms": "inf"}, "milliseconds"),
        ({"deadline_ms": "1e9"}, "at most 3600000"),
        ({"deadline_ms": "1_000"}, "milliseconds"),
        ({"deadline_ms": "9" * 5000}, "milliseconds"),
        ({"max_age_ms": "100"}, "X-Captured-At .Unix seconds. beside X-Max-Age-Ms"),
        ({"captured_at": "yesterday"}, "Unix seconds"),
        ({"captured_at": "-1"}, "Unix seconds"),
        ({"captured_at": f"{NOW * 1000}"}, "looks like milliseconds"),
        ({"captured_at": f"{NOW + 3600}"}, "camera host's clock"),
        ({"stream_id": ""}, "1 to 128 printable"),
        ({"stream_id": "x" * 129}, "1 to 128 printable"),
        ({"stream_id": "tab\there"}, "1 to 128 printable"),
    ],
)
def test_values_that_are_wrong_are_named(headers: dict[str, str], words: str) -> None:
    with pytest.raises(ParameterInvalid, match=words):
        read(**headers)


def test_wrong_headers_are_answered_422_and_the_service_goes_on(service: Running, assert_problem: Check) -> None:
    for name, value in (
        ("X-Deadline-Ms", "x"),
        ("X-Captured-At", "x"),
        ("X-Max-Age-Ms", "5"),
        ("X-Stream-Id", "x" * 200),
    ):
        response = service.segment(FRAME, headers={name: value})
        assert_problem(response, 422, "parameter-invalid", name)


def test_a_deadline_that_can_be_met_is_met(service: Running) -> None:
    assert service.segment(FRAME, headers={"X-Deadline-Ms": "20000"}).status_code == 200


def test_a_deadline_that_cannot_be_met_is_refused_and_counted(tmp_path: Path) -> None:
    publish_tiny(tmp_path)
    with serving(tmp_path) as running:
        running.segment(FRAME)  # now it is known how long a frame takes
        response = running.segment(FRAME, headers={"X-Deadline-Ms": "0.001"})
        assert response.status_code == 504
        assert response.json()["type"] == "urn:robomask:problem:deadline-missed"
        assert response.headers["X-Model-Name"] == "tiny"
        assert value_of(running, "robomask_deadline_missed_total") == 1
        assert value_of(running, "robomask_shed_total", reason="deadline") == 1
        assert value_of(running, "robomask_frames_total", outcome="late") == 1
        assert value_of(running, "robomask_batch_size_count") == 1


def test_a_request_that_is_refused_before_its_body_is_read_leaves_the_connection_usable(service: Running) -> None:
    service.segment(FRAME)
    for _ in range(3):
        refused = service.segment(bytes(20_000_000), "image/bmp", headers={"X-Deadline-Ms": "0.001"})
        assert refused.status_code == 504
        assert service.segment(FRAME).status_code == 200


def test_the_age_of_frames_is_told_and_counted(tmp_path: Path) -> None:
    publish_tiny(tmp_path)
    with serving(tmp_path) as running:
        headers = {"X-Captured-At": f"{time.time() - 3:.6f}", "X-Max-Age-Ms": "60000"}
        answer = running.segment(FRAME, headers=headers).json()
        assert 3000 <= answer["age_ms"] < 60_000
        old = running.segment(FRAME, headers=headers | {"X-Max-Age-Ms": "1000"})
        assert (old.status_code, old.json()["type"]) == (504, "urn:robomask:problem:frame-too-old")
        assert value_of(running, "robomask_frame_age_seconds_count") == 1
        assert value_of(running, "robomask_frame_age_seconds_sum") >= 3


def test_hostile_stream_ids_leave_nothing_behind(service: Running) -> None:
    for number in range(200):
        assert service.segment(FRAME, headers={"X-Stream-Id": f"{number:x<100}"}).status_code == 200


def test_a_model_that_takes_longer_than_ever_does_not_make_a_client_wait_past_its_deadline() -> None:
    from service.scheduling.scheduler import Scheduler

    class Stuck:
        max_batch = max_quick = 1

        def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
            self.go = asyncio.Event()
            self.loop = loop

        def alone(self) -> None:
            return None

        def run(self, frames: np.ndarray, latents: bool) -> Prediction:  # noqa: ARG002
            asyncio.run_coroutine_threadsafe(self.go.wait(), self.loop).result(20)
            return Prediction(np.zeros((len(frames), 64, 64), np.float32), None)

    async def scenario() -> None:
        scheduler = Scheduler(1, 10, lambda _: None)
        model = Stuck(asyncio.get_running_loop())
        now = time.perf_counter()
        with pytest.raises(DeadlineMissed, match="took longer than expected"):
            await scheduler.submit(
                model, np.zeros((1, 64, 64, 3), np.uint8), latents=False, freshness=Freshness(now, now + 0.05)
            )
        model.go.set()
        await asyncio.to_thread(scheduler.close)

    asyncio.run(scenario())
