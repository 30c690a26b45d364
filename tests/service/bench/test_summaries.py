"""Figures from runs made up for it."""

from dataclasses import replace

import numpy as np
import pytest

from service.bench.loads import Run
from service.bench.summaries import summarise_closed, summarise_open, summarise_server
from service.bench.watching import Sample


def run_of(latencies_s: list[float], statuses: list[int]) -> Run:
    """Frames at one rate for two seconds."""
    due = 2.0 * np.arange(len(latencies_s)) / len(latencies_s)
    return Run(
        due_s=due,
        sent_s=due + 0.001,
        done_s=due + latencies_s,
        status=np.array(statuses, np.int16),
        started_s=0.0,
        ended_s=2.0,
        cpu_share=0.1,
        nice=0,
        requests=len(latencies_s),
        lost=0,
        heads=["HTTP/1.1 200 OK\r\nServer-Timing: queue;dur=2, infer;dur=4"],
    )


def samples_of(memory: list[float]) -> list[Sample]:
    return [Sample(10.0 * i, mib * 2**20, 5.0 * i, 3.0) for i, mib in enumerate(memory)]


def test_an_answer_counts_as_in_time_up_to_its_deadline_and_as_late_beyond() -> None:
    run = run_of([0.05, 0.099, 0.13, 0.02, 0.5, 0.01], [200, 200, 200, 503, -1, 504])
    result = summarise_open(run, 6, 0.5, 100, samples_of([1, 1]))
    assert (result.in_time, result.answered, result.late) == (1.0, 1.5, 1)
    assert result.late_ms is not None
    assert result.late_ms.max == pytest.approx(30)
    assert result.refusals == {-1: 1, 503: 1, 504: 1}
    assert result.refusal_ms is not None
    assert result.refusal_ms.max == pytest.approx(20)
    assert result.misses == pytest.approx(4 / 6)
    assert result.stages_ms == {"queue": 2, "infer": 4}
    assert result.generator.lag_ms is not None
    assert result.generator.lag_ms.p50 == pytest.approx(1)


def overloaded(capacity: float, offered: float) -> Run:
    """What a server makes of two seconds of frames that answers one after the other, and each of them in the end."""
    count = round(2 * offered)
    answered_s, due_s = (np.arange(count) + 1) / capacity, np.arange(count) / offered
    return run_of(list(answered_s - due_s), [200] * count)


@pytest.mark.parametrize("deadline_ms", [None, 10_000])
def test_what_a_server_answers_once_no_frame_comes_any_more_is_in_no_rate(deadline_ms: float | None) -> None:
    result = summarise_open(overloaded(capacity=50, offered=100), 10, 10, deadline_ms, samples_of([1, 1]))
    assert (result.offered, result.answered, result.in_time) == (100, 50, 50)
    assert result.drained == 100
    assert (result.misses, result.late) == (0, 0)


def test_a_server_that_keeps_up_is_given_the_answers_that_come_a_little_after_the_end() -> None:
    run = run_of([0.09] * 200, [200] * 200)
    assert run.done_s[-1] > run.ended_s
    result = summarise_open(run, 10, 10, 100, samples_of([1, 1]))
    assert (result.offered, result.answered, result.in_time) == (100, 100, 100)
    assert (result.drained, result.misses) == (0, 0)


def test_the_cpu_time_of_a_closed_loop_is_that_of_all_its_requests_the_generator_s_start_has_no_part_in_it() -> None:
    starts_warms_up_and_counts = [Sample(0, None, 0, None), Sample(9, None, 0, None), Sample(12, None, 3, None)]
    run = replace(run_of([0.01] * 200, [200] * 200), requests=300)
    assert summarise_closed(run, 1, starts_warms_up_and_counts).server.cpu_ms_per_request == pytest.approx(10)


def test_the_cpu_time_of_an_open_loop_is_that_of_all_its_frames_drained_ones_too() -> None:
    seven_seconds = [Sample(0.0, None, 1.0, None), Sample(7.0, None, 3.0, None)]
    result = summarise_open(overloaded(capacity=50, offered=100), 10, 10, None, seven_seconds)
    assert result.server.cpu_ms_per_request == pytest.approx(2000 / 200)


def test_a_closed_loop_counts_what_was_answered() -> None:
    result = summarise_closed(run_of([0.1, 0.2, 0.1], [200, 503, 200]), 1, samples_of([1, 1]))
    assert result.rate == 1.0
    assert result.refusals == {503: 1}
    assert result.server.cpu_ms_per_request == pytest.approx(5000 / 3, abs=1e-3)


def test_memory_that_grows_is_told_from_memory_that_has_grown() -> None:
    grows = summarise_server(samples_of([100, 110, 120, 130, 140, 150]), 1)
    has_grown = summarise_server(samples_of([100, 140, 150, 150, 150, 150]), 1)
    assert grows.memory_growth_mib_per_min == pytest.approx(60)
    assert has_grown.memory_growth_mib_per_min == pytest.approx(0)
    assert has_grown.memory_mib == (100, 150, 150)


def test_what_cannot_be_known_is_none() -> None:
    server = summarise_server([Sample(0, None, None, None), Sample(1, None, None, None)], 1)
    assert server.model_dump() == dict.fromkeys(server.model_dump())


def test_no_answer_at_all_is_no_latency() -> None:
    result = summarise_open(run_of([0.1], [503]), 1, 1, None, samples_of([1, 1]))
    assert result.latency_ms is None
    assert (result.in_time, result.misses) == (0, 1)
