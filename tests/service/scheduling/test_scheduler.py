"""Jobs run in order, in batches that their model allows, and none of them can hurt another."""

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from service.engine import Prediction
from service.errors import Busy, DeadlineMissed, ModelFault, Superseded
from service.frames.masks import judge_frames
from service.scheduling import scheduler as scheduler_module
from service.scheduling.freshness import Freshness
from service.scheduling.scheduler import Scheduler
from service.scheduling.streams import Streams
from service.scheduling.turns import Turns

POISON = 255


class Sums:
    """A model whose probability is a frame's first value; it fails on poison, and can be held up."""

    def __init__(self, max_batch: int, max_quick: int | None = None) -> None:
        self.max_batch = max_batch
        self.max_quick = max_quick or max_batch
        self.batches: list[list[int]] = []
        self.go = threading.Event()
        self.go.set()
        self.entered = threading.Semaphore(0)
        self.for_one: Sums | None = None

    def alone(self) -> "Sums | None":
        return self.for_one

    def run(self, frames: np.ndarray, latents: bool) -> Prediction:
        self.entered.release()
        assert self.go.wait(20)
        values = frames[:, 0, 0, 0]
        self.batches.append(values.tolist())
        if POISON in values:
            raise ModelFault("expected food, got poison")
        wide = values.astype(np.float32)[:, None, None]
        probability = np.broadcast_to(wide, (len(frames), 64, 64))
        return Prediction(probability, wide if latents else None, 0.5, judge_frames(probability, 0.5))


def frames_of(*values: int) -> np.ndarray:
    return np.stack([np.full((64, 64, 3), value, np.uint8) for value in values])


@contextmanager
def scheduler_of(
    workers: int = 1,
    limit_frames: int = 100,
    limit_s: float = 1000.0,
    cores: int | None = None,
    turns: Turns | None = None,
) -> Iterator[Scheduler]:
    scheduler = Scheduler(workers, limit_frames, lambda _: None, limit_s=limit_s, cores=cores, turns=turns)
    try:
        yield scheduler
    finally:
        scheduler.close()


async def held(scheduler: Scheduler, model: Sums) -> asyncio.Task[object]:
    """Occupy the only worker until the model is let go."""
    model.go.clear()
    task = asyncio.create_task(scheduler.submit(model, frames_of(0), latents=False))
    await asyncio.to_thread(model.entered.acquire)
    return task


def fresh(due_in_s: float = math.inf, stream: str | None = None, captured_s: float | None = None) -> Freshness:
    now = time.perf_counter()
    return Freshness(now, now + due_in_s, captured_s, stream=stream)


async def queued(
    scheduler: Scheduler, model: Sums, *requests: tuple[int, ...], freshness: Freshness | None = None
) -> list[asyncio.Task[object]]:
    """Requests that wait in the queue, in this order."""
    tasks = []
    for values in requests:
        submission = scheduler.submit(model, frames_of(*values), latents=False, freshness=freshness)
        tasks.append(asyncio.create_task(submission))
        await asyncio.sleep(0)  # lets the task run up to where it waits
    return tasks


def test_every_request_gets_its_own_frames_back_however_they_were_batched() -> None:
    async def scenario() -> None:
        with scheduler_of(workers=3, limit_frames=1000) as scheduler:
            model = Sums(max_batch=4)
            outcomes = await asyncio.gather(
                *(scheduler.submit(model, frames_of(*range(n, n + n % 7 + 1)), latents=n % 2 == 0) for n in range(40))
            )
            for n, outcome in enumerate(outcomes):
                values = list(range(n, n + n % 7 + 1))
                assert outcome.prediction.probability[:, 0, 0].tolist() == values
                assert [verdict.confidence for verdict in outcome.prediction.verdicts] == [v or 1 for v in values]
                assert [verdict.area for verdict in outcome.prediction.verdicts] == [64 * 64 * (v > 0) for v in values]
                assert (outcome.prediction.latents is not None) == (n % 2 == 0)
                assert outcome.queue_s >= 0
                assert outcome.infer_s >= 0

    asyncio.run(scenario())


def test_what_waits_is_run_together_up_to_the_models_limit_in_order_of_arrival() -> None:
    async def scenario() -> None:
        with scheduler_of() as scheduler:
            model = Sums(max_batch=4)
            first = await held(scheduler, model)
            rest = await queued(scheduler, model, (1,), (2, 3), (4, 5), (6, 7, 8, 9, 10))
            assert scheduler.waiting_frames == 10
            model.go.set()
            await asyncio.gather(first, *rest)
            assert model.batches == [[0], [1, 2, 3], [4, 5], [6, 7, 8, 9], [10]]
            assert scheduler.waiting_frames == 0

    asyncio.run(scenario())


def test_a_request_with_more_frames_than_may_wait_is_let_in_where_nothing_waits() -> None:
    async def scenario() -> None:
        with scheduler_of(limit_frames=4) as scheduler:
            model = Sums(max_batch=2)
            first = await held(scheduler, model)
            waiting = await queued(scheduler, model, tuple(range(10)))
            assert scheduler.waiting_frames == 10
            for values in ((1,), tuple(range(10))):
                with pytest.raises(Busy, match="10 wait already and 4 may"):
                    await scheduler.submit(model, frames_of(*values), latents=False)
            model.go.set()
            await asyncio.gather(first, *waiting)
            await scheduler.submit(model, frames_of(*range(10)), latents=False)

    asyncio.run(scenario())


def test_runs_that_were_shared_count_in_part() -> None:
    async def scenario() -> None:
        with scheduler_of() as scheduler:
            model = Sums(max_batch=4)
            first = await held(scheduler, model)
            waiting = await queued(scheduler, model, (1,), (2, 3), tuple(range(4, 13)), (13,))
            model.go.set()
            await first
            shares = [(await task).runs for task in waiting]
            assert model.batches == [[0], [1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13]]
            assert shares == [0.5, 0.5, 2.5, 0.5]

    asyncio.run(scenario())


def test_frames_for_different_models_never_share_a_batch() -> None:
    async def scenario() -> None:
        with scheduler_of() as scheduler:
            one, other = Sums(max_batch=8), Sums(max_batch=8)
            first = await held(scheduler, one)
            rest = [*await queued(scheduler, one, (1,)), *await queued(scheduler, other, (2,))]
            rest += await queued(scheduler, one, (3,))
            one.go.set()
            await asyncio.gather(first, *rest)
            assert (one.batches, other.batches) == ([[0], [1], [3]], [[2]])

    asyncio.run(scenario())


@pytest.mark.parametrize("position", range(4))
def test_a_bad_job_fails_alone(position: int) -> None:
    async def scenario() -> None:
        with scheduler_of() as scheduler:
            model = Sums(max_batch=4)
            first = await held(scheduler, model)
            values = [(POISON if index == position else index + 1,) for index in range(4)]
            rest = await queued(scheduler, model, *values)
            model.go.set()
            results = await asyncio.gather(first, *rest, return_exceptions=True)
            assert [isinstance(result, ModelFault) for result in results[1:]] == [i == position for i in range(4)]

    asyncio.run(scenario())


@pytest.mark.parametrize("position", range(4))
def test_a_client_that_leaves_takes_its_job_out_of_the_queue_and_nobody_elses(position: int) -> None:
    async def scenario() -> None:
        with scheduler_of() as scheduler:
            model = Sums(max_batch=4)
            first = await held(scheduler, model)
            rest = await queued(scheduler, model, (1,), (2,), (3,), (4,))
            rest[position].cancel()
            await asyncio.sleep(0)
            assert scheduler.waiting_frames == 3
            model.go.set()
            results = await asyncio.gather(first, *rest, return_exceptions=True)
            assert [isinstance(result, asyncio.CancelledError) for result in results[1:]] == [
                i == position for i in range(4)
            ]
            assert model.batches == [[0], [value for value in (1, 2, 3, 4) if value != position + 1]]

    asyncio.run(scenario())


def test_a_full_queue_refuses_at_once_and_takes_all_frames_of_a_request_or_none() -> None:
    async def scenario() -> None:
        with scheduler_of(limit_frames=3) as scheduler:
            model = Sums(max_batch=1)
            first = await held(scheduler, model)
            waiting = await queued(scheduler, model, (1, 2))
            with pytest.raises(Busy, match="room for 2 more frames, but 2 wait already and 3 may") as refused:
                await scheduler.submit(model, frames_of(3, 4), latents=False)
            assert refused.value.retry_after_s >= 1
            assert scheduler.waiting_frames == 2
            model.go.set()
            await asyncio.gather(first, *waiting)

    asyncio.run(scenario())


def test_frames_that_come_one_at_a_time_run_on_the_form_for_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler_module, "_ALONE_FROM", 2)
    model = Sums(1)
    model.for_one = Sums(1)

    async def scenario() -> None:
        with scheduler_of(workers=2) as scheduler:
            known(scheduler, model, 1.0)
            known(scheduler, model.for_one, 0.1)
            for value in (1, 2, 3):
                outcome = await scheduler.submit(model, frames_of(value), latents=False)
                assert outcome.prediction.probability[0, 0, 0] == value
            await asyncio.gather(*(scheduler.submit(model, frames_of(value), latents=False) for value in (4, 5)))
            await scheduler.submit(model, frames_of(6), latents=False)  # it has been crowded just now
            await scheduler.submit(model, frames_of(7), latents=False)
            await scheduler.submit(model, frames_of(8, 9), latents=False)  # two of one request are two

    asyncio.run(scenario())
    assert sorted(model.for_one.batches) == [[2], [3], [4], [7]]
    assert sorted(model.batches) == [[1], [5], [6], [8], [9]]


def test_a_frame_that_only_the_form_for_one_frame_can_answer_in_time_is_run_by_that() -> None:
    model = Sums(1)
    model.for_one = Sums(1)

    async def scenario() -> None:
        with scheduler_of() as scheduler:
            known(scheduler, model, 10.0)
            for value in (1, 2):
                scheduler.check(model, fresh(5.0))
                await scheduler.submit(model, frames_of(value), latents=False, freshness=fresh(5.0))
            await scheduler.submit(model, frames_of(3), latents=False, freshness=fresh(15.0))  # has time
            with pytest.raises(DeadlineMissed):
                await scheduler.submit(model, frames_of(4, 5), latents=False, freshness=fresh(5.0))
            known(scheduler, model, 10.0)
            first = await held(scheduler, model)
            with pytest.raises(DeadlineMissed):  # it would have to share the machine
                scheduler.check(model, fresh(5.0))
            model.go.set()
            await first

    asyncio.run(scenario())
    assert model.for_one.batches == [[1], [2]]
    assert model.batches == [[3], [0]]


def test_the_form_for_one_frame_is_not_asked_where_it_is_slower_or_the_frame_hopeless() -> None:
    model = Sums(1)
    model.for_one = Sums(1)

    async def scenario() -> None:
        with scheduler_of() as scheduler:
            known(scheduler, model, 10.0)
            with pytest.raises(DeadlineMissed, match="takes 10000 ms"):
                scheduler.check(model, fresh(0.1))
            known(scheduler, model.for_one, 20.0)
            with pytest.raises(DeadlineMissed, match="takes 10000 ms"):
                scheduler.check(model, fresh(9.0))

    asyncio.run(scenario())


@pytest.mark.parametrize("slow_s", [0.0, 1000.0])
def test_a_quick_model_and_one_without_such_a_form_run_as_they_are(
    monkeypatch: pytest.MonkeyPatch, slow_s: float
) -> None:
    monkeypatch.setattr(scheduler_module, "_SLOW_S", slow_s)
    monkeypatch.setattr(scheduler_module, "_ALONE_FROM", 1)
    model = Sums(1)
    model.for_one = Sums(1) if slow_s else None

    async def scenario() -> None:
        with scheduler_of() as scheduler:
            await scheduler.submit(model, frames_of(1), latents=False)

    asyncio.run(scenario())
    assert model.batches == [[1]]


def test_a_model_that_raises_anything_becomes_a_fault_of_the_model() -> None:
    class Broken:
        max_batch = max_quick = 1

        def alone(self) -> None:
            return None

        def run(self, frames: np.ndarray, latents: bool) -> Prediction:
            raise ZeroDivisionError(len(frames), latents)

    async def scenario() -> None:
        with scheduler_of() as scheduler:
            with pytest.raises(ModelFault, match="ZeroDivisionError"):
                await scheduler.submit(Broken(), frames_of(1, 2, 3), latents=False)
            outcome = await scheduler.submit(Sums(1), frames_of(7), latents=False)
            assert outcome.prediction.probability[0, 0, 0] == 7

    asyncio.run(scenario())


def test_closing_finishes_what_waits() -> None:
    async def scenario() -> None:
        model = Sums(max_batch=1)
        with scheduler_of() as scheduler:
            first = await held(scheduler, model)
            rest = await queued(scheduler, model, (1,), (2,))
            closing = asyncio.create_task(asyncio.to_thread(scheduler.close))
            model.go.set()
            await asyncio.gather(first, *rest, closing)
        assert model.batches == [[0], [1], [2]]

    asyncio.run(scenario())


async def in_stream(
    scheduler: Scheduler, streams: Streams, model: Sums, value: int, freshness: Freshness
) -> asyncio.Task[object]:
    """A frame of a stream that waits in the queue, or has been refused."""

    async def submit() -> object:
        turn = streams.open(freshness.stream, freshness.newness)
        try:
            return await scheduler.submit(model, frames_of(value), latents=False, freshness=freshness, turn=turn)
        finally:
            turn.leave()

    task = asyncio.create_task(submit())
    await asyncio.sleep(0)
    return task


def test_a_newer_frame_of_a_stream_takes_the_place_of_an_older_one_that_waits() -> None:
    async def scenario() -> None:
        with scheduler_of() as scheduler:
            model = Sums(max_batch=1)
            first = await held(scheduler, model)
            older = await queued(scheduler, model, (1,), freshness=fresh(stream="a"))
            other = await queued(scheduler, model, (2,), freshness=fresh(stream="b"))
            newer = await queued(scheduler, model, (3,), freshness=fresh(stream="a"))
            await asyncio.wait(older)
            assert isinstance(older[0].exception(), Superseded)
            assert scheduler.waiting_frames == 2
            model.go.set()
            await asyncio.gather(first, *other, *newer)
            assert model.batches == [[0], [3], [2]]

    asyncio.run(scenario())


def test_a_full_queue_lets_the_newer_frame_of_a_waiting_stream_in_before_it_is_read() -> None:
    async def scenario() -> None:
        with scheduler_of(limit_frames=1) as scheduler:
            model = Sums(max_batch=1)
            known(scheduler, model, 10.0)
            first = await held(scheduler, model)
            known(scheduler, model, 10.0)
            older = await queued(scheduler, model, (1,), freshness=fresh(40.0, stream="a"))
            with pytest.raises(Busy, match="room"):
                scheduler.check(model, fresh(stream="b"))
            with pytest.raises(DeadlineMissed):  # it would stand behind the other
                scheduler.check(model, fresh(41.0, stream="b"))
            scheduler.check(model, fresh(stream="a"))
            scheduler.check(model, fresh(41.0, stream="a"))
            newer = await queued(scheduler, model, (2,), freshness=fresh(41.0, stream="a"))
            await asyncio.wait(older)
            assert isinstance(older[0].exception(), Superseded)
            model.go.set()
            await asyncio.gather(first, *newer)
            assert model.batches == [[0], [2]]

    asyncio.run(scenario())


def test_a_frame_that_waits_makes_no_room_for_many_nor_for_an_older_one() -> None:
    async def scenario() -> None:
        with scheduler_of(limit_frames=3) as scheduler:
            model = Sums(max_batch=1)
            first = await held(scheduler, model)
            waiting = await queued(scheduler, model, (1,), freshness=fresh(stream="a", captured_s=50.0))
            others = await queued(scheduler, model, (2,), (3,))
            with pytest.raises(Busy, match="room for 1 more"):
                await scheduler.submit(model, frames_of(4, 5), latents=False, freshness=fresh(stream="a"))
            with pytest.raises(Busy):
                scheduler.check(model, fresh(stream="a", captured_s=49.0))
            scheduler.check(model, fresh(stream="a", captured_s=51.0))
            model.go.set()
            await asyncio.gather(first, *waiting, *others)
            assert model.batches == [[0], [1], [2], [3]]

    asyncio.run(scenario())


def test_a_frame_taken_before_one_that_waits_is_the_older_one_even_if_it_comes_later() -> None:
    async def scenario() -> None:
        with scheduler_of() as scheduler:
            model = Sums(max_batch=1)
            first = await held(scheduler, model)
            streams = Streams()
            newer = await in_stream(scheduler, streams, model, 1, fresh(stream="a", captured_s=50.0))
            with pytest.raises(Superseded):
                await (await in_stream(scheduler, streams, model, 2, fresh(stream="a", captured_s=49.0)))
            model.go.set()
            await asyncio.gather(first, newer)
            assert model.batches == [[0], [1]]

    asyncio.run(scenario())


def test_a_frame_that_runs_is_not_superseded_and_streams_are_forgotten_with_their_frames() -> None:
    async def scenario() -> None:
        with scheduler_of() as scheduler:
            model = Sums(max_batch=1)
            model.go.clear()
            streams = Streams()
            running = await in_stream(scheduler, streams, model, 1, fresh(stream="a"))
            await asyncio.to_thread(model.entered.acquire)
            newer = await in_stream(scheduler, streams, model, 2, fresh(stream="a"))
            assert len(streams) == 1
            model.go.set()
            await asyncio.gather(running, newer)
            assert model.batches == [[1], [2]]
            assert len(streams) == 0

    asyncio.run(scenario())


def test_what_is_due_earlier_is_run_earlier_and_what_has_no_deadline_is_not_starved() -> None:
    async def scenario() -> None:
        with scheduler_of(limit_s=500.0) as scheduler:
            model = Sums(max_batch=1)
            first = await held(scheduler, model)
            rest = [
                *await queued(scheduler, model, (1,), freshness=fresh(900.0)),
                *await queued(scheduler, model, (2,)),
                *await queued(scheduler, model, (3,), freshness=fresh(100.0)),
            ]
            model.go.set()
            await asyncio.gather(first, *rest)
            assert model.batches == [[0], [3], [2], [1]]

    asyncio.run(scenario())


def known(scheduler: Scheduler, model: Sums, frame_s: float) -> None:
    """Let the scheduler know what a frame takes, as if it had run some."""
    for _ in range(20):
        scheduler._run_time(model).add(1, frame_s, time.perf_counter())


def test_a_frame_that_would_be_late_is_refused_before_the_model_runs() -> None:
    async def scenario() -> None:
        with scheduler_of() as scheduler:
            model = Sums(max_batch=1)
            known(scheduler, model, 10.0)
            with pytest.raises(DeadlineMissed, match="wait is about 0 ms and the model takes 10000 ms"):
                await scheduler.submit(model, frames_of(1), latents=False, freshness=fresh(5.0))
            with pytest.raises(DeadlineMissed):
                scheduler.check(model, fresh(5.0))
            scheduler.check(model, fresh(15.0))
            assert model.batches == []

    asyncio.run(scenario())


def test_the_wait_counts_and_what_has_been_let_in_is_not_sacrificed() -> None:
    async def scenario() -> None:
        with scheduler_of() as scheduler:
            model = Sums(max_batch=1)
            known(scheduler, model, 10.0)
            first = await held(scheduler, model)
            known(scheduler, model, 10.0)
            let_in = await queued(scheduler, model, (1,), freshness=fresh(34.9))
            sooner = await queued(scheduler, model, (2,), freshness=fresh(34.5))  # both can still make it
            with pytest.raises(DeadlineMissed, match="let in before"):
                await scheduler.submit(model, frames_of(3), latents=False, freshness=fresh(34.0))
            with pytest.raises(DeadlineMissed, match="wait is about"):
                await scheduler.submit(model, frames_of(3), latents=False, freshness=fresh(34.95))
            third = await queued(scheduler, model, (4,), freshness=fresh(80.0))
            model.go.set()
            await asyncio.gather(first, *let_in, *sooner, *third)
            assert model.batches == [[0], [2], [1], [4]]

    asyncio.run(scenario())


def test_an_estimate_of_another_time_does_not_refuse_for_ever() -> None:
    async def scenario() -> None:
        with scheduler_of() as scheduler:
            model = Sums(max_batch=1)
            run_time = scheduler._run_time(model)
            long_ago_s = time.perf_counter() - 60
            for _ in range(50):
                run_time.add(1, 10.0, long_ago_s)
            assert run_time.least_s == 10
            await scheduler.submit(model, frames_of(1), latents=False, freshness=fresh(5.0))
            assert model.batches == [[1]]

    asyncio.run(scenario())


def test_a_queue_that_is_too_long_in_time_refuses_and_says_when_it_will_be_gone() -> None:
    async def scenario() -> None:
        with scheduler_of(limit_s=15.0) as scheduler:
            model = Sums(max_batch=1)
            known(scheduler, model, 10.0)
            first = await held(scheduler, model)
            waiting = await queued(scheduler, model, (1,))
            with pytest.raises(Busy, match="a wait of at most 15000 ms") as refused:
                await scheduler.submit(model, frames_of(2), latents=False)
            assert refused.value.reason == "wait"
            assert 10 < refused.value.retry_after_s <= 20
            model.go.set()
            await asyncio.gather(first, *waiting)

    asyncio.run(scenario())


def test_a_batch_does_not_grow_so_far_that_its_most_urgent_frame_is_late() -> None:
    async def scenario() -> None:
        with scheduler_of() as scheduler:
            model = Sums(max_batch=8)
            first = await held(scheduler, model)
            known(scheduler, model, 10.0)
            urgent = await queued(scheduler, model, (1,), freshness=fresh(34.0))
            rest = await queued(scheduler, model, (2,), (3,), (4,), (5,))
            model.go.set()
            await asyncio.gather(first, *urgent, *rest)
            assert [len(batch) for batch in model.batches[:2]] == [1, 3]

    asyncio.run(scenario())


def batches_behind_another(model: Sums, frame_s: float, together_s: float | None = None) -> list[list[int]]:
    """How six frames run that come while the only worker is held up, if a frame is known to take so long."""
    other = Sums(max_batch=1)  # how long it is held up for is nothing that is learnt of the model

    async def scenario() -> None:
        with scheduler_of() as scheduler:
            first = await held(scheduler, other)
            known(scheduler, model, frame_s)
            if together_s is not None:
                for _ in range(20):
                    scheduler._run_time(model).add(4, 4 * together_s, time.perf_counter())
            rest = await queued(scheduler, model, *((value,) for value in range(1, 7)))
            other.go.set()
            await asyncio.gather(first, *rest)

    asyncio.run(scenario())
    return model.batches


def test_frames_that_are_no_quicker_together_are_run_one_by_one() -> None:
    assert batches_behind_another(Sums(max_batch=4), 1.0, together_s=1.0) == [[value] for value in range(1, 7)]


def test_frames_so_quick_that_handing_them_over_costs_as_much_run_together_for_a_turn_all_the_same() -> None:
    model = Sums(max_batch=1, max_quick=8)
    assert batches_behind_another(model, 0.00045, together_s=0.00045) == [[1, 2, 3, 4], [5, 6]]  # a turn is 2 ms


def test_a_turn_of_quick_frames_is_no_more_than_the_model_takes() -> None:
    assert batches_behind_another(Sums(max_batch=1, max_quick=3), 0.0001) == [[1, 2, 3], [4, 5, 6]]


def test_frames_that_take_long_run_one_by_one_where_the_model_says_so() -> None:
    assert batches_behind_another(Sums(max_batch=1, max_quick=8), 0.1) == [[value] for value in range(1, 7)]


@pytest.mark.parametrize(("cores", "most"), [(1, 1), (2, 1), (3, 2)])
def test_quick_frames_leave_a_core_to_the_event_loop(cores: int, most: int) -> None:
    class Crowded(Sums):
        inside = seen = 0
        lock = threading.Lock()

        def run(self, frames: np.ndarray, latents: bool) -> Prediction:
            with self.lock:
                self.inside += 1
                self.seen = max(self.seen, self.inside)
            try:
                return super().run(frames, latents)
            finally:
                with self.lock:
                    self.inside -= 1

    async def scenario() -> None:
        model = Crowded(max_batch=1)
        with scheduler_of(workers=3, limit_frames=1000, cores=cores) as scheduler:
            known(scheduler, model, 0.0001)
            for _ in range(20):
                await asyncio.gather(*(scheduler.submit(model, frames_of(n), latents=False) for n in range(30)))
        assert model.seen <= most
        assert len(model.batches) == 600

    asyncio.run(scenario())


async def both_held(scheduler: Scheduler, model: Sums) -> list[asyncio.Task[object]]:
    """Occupy a worker with two quick frames that come at once; one would be run on the event loop."""
    tasks: list[asyncio.Task[object]] = [
        asyncio.create_task(scheduler.submit(model, frames_of(n), latents=False)) for n in (1, 2)
    ]
    await asyncio.to_thread(model.entered.acquire)
    return tasks


def test_other_workers_run_slow_frames_meanwhile_and_what_was_held_back_is_run_after_that() -> None:
    async def scenario() -> None:
        quick, slow = Sums(max_batch=1), Sums(max_batch=1)
        with scheduler_of(workers=2, cores=2) as scheduler:
            known(scheduler, quick, 0.0001)
            known(scheduler, slow, 10.0)
            quick.go.clear()
            first = await both_held(scheduler, quick)
            first += await queued(scheduler, quick, (3,), (4,))
            slow.go.clear()
            second = await queued(scheduler, slow, (5,), freshness=fresh(500))
            await asyncio.to_thread(slow.entered.acquire)
            assert quick.batches == []
            quick.go.set()
            await asyncio.gather(*first)
            assert quick.batches == [[1], [2], [3], [4]]
            slow.go.set()
            await asyncio.gather(*second)

    asyncio.run(scenario())


def test_closing_finishes_quick_frames_that_are_held_back() -> None:
    async def scenario() -> None:
        model = Sums(max_batch=1)
        with scheduler_of(workers=2, cores=2) as scheduler:
            known(scheduler, model, 0.0001)
            model.go.clear()
            tasks = await both_held(scheduler, model)
            tasks += await queued(scheduler, model, (3,), (4,))
            closing = asyncio.create_task(asyncio.to_thread(scheduler.close))
            model.go.set()
            await asyncio.gather(*tasks, closing)
        assert sorted(model.batches) == [[1], [2], [3], [4]]

    asyncio.run(scenario())


async def let_fall_behind(scheduler: Scheduler, model: Sums, passing: list[float]) -> None:
    """Let the event loop have turns with many requests that take long."""
    for _ in range(3):
        for _ in range(10):
            with contextlib.suppress(DeadlineMissed):
                scheduler.check(model, fresh(due_in_s=0.001))
        passing[0] += 0.02
        await asyncio.sleep(0)


def test_where_the_event_loop_is_behind_quick_frames_are_run_on_it_as_well() -> None:
    async def scenario() -> None:
        passing = [0.0]
        with scheduler_of(turns=Turns(lambda: time.perf_counter() + passing[0])) as scheduler:
            quick, held_up = Sums(max_batch=4), Sums(max_batch=4)
            await scheduler.submit(quick, frames_of(1), latents=False)  # is known to be quick
            first = await held(scheduler, held_up)
            submission = asyncio.create_task(scheduler.submit(quick, frames_of(2), latents=False))
            for _ in range(5):
                await asyncio.sleep(0)
            assert quick.batches == [[1]]
            await let_fall_behind(scheduler, quick, passing)
            second = asyncio.create_task(scheduler.submit(quick, frames_of(3), latents=False))
            await let_fall_behind(scheduler, quick, passing)
            outcomes = await asyncio.gather(submission, second)
            assert [outcome.prediction.probability[0, 0, 0] for outcome in outcomes] == [2, 3]
            assert not first.done()
            held_up.go.set()
            await first

    asyncio.run(scenario())


def test_where_the_event_loop_is_behind_what_would_be_late_by_that_is_refused_before_it_is_read() -> None:
    async def scenario() -> None:
        passing = [0.0]
        with scheduler_of(turns=Turns(lambda: time.perf_counter() + passing[0])) as scheduler:
            model = Sums(max_batch=4)
            await scheduler.submit(model, frames_of(1), latents=False)
            scheduler.check(model, fresh(due_in_s=0.05))
            await let_fall_behind(scheduler, model, passing)
            with pytest.raises(DeadlineMissed, match="so many have come that each waits about"):
                scheduler.check(model, fresh(due_in_s=0.05))
            scheduler.check(model, fresh(due_in_s=20))
            scheduler.check(model, fresh())

    asyncio.run(scenario())


def test_where_the_event_loop_is_behind_it_leaves_to_the_workers_what_takes_long() -> None:
    async def scenario() -> None:
        passing = [0.0]
        with scheduler_of(turns=Turns(lambda: time.perf_counter() + passing[0])) as scheduler:
            quick, unknown = Sums(max_batch=4), Sums(max_batch=4)
            await scheduler.submit(quick, frames_of(1), latents=False)
            first = await held(scheduler, unknown)  # for all that is known, of a slow model, as the next
            overdue = asyncio.create_task(
                scheduler.submit(quick, frames_of(2), latents=False, freshness=fresh(due_in_s=0.01))
            )
            waiting = asyncio.create_task(scheduler.submit(unknown, frames_of(3), latents=False))
            await let_fall_behind(scheduler, quick, passing)
            await asyncio.gather(overdue, return_exceptions=True)
            await let_fall_behind(scheduler, quick, passing)
            assert unknown.batches == []
            unknown.go.set()
            await asyncio.gather(first, waiting)
            assert unknown.batches == [[0], [3]]

    asyncio.run(scenario())
