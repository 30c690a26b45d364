"""Jobs run in order, in batches that their model allows, and none of them can hurt another."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from service.engine import Prediction
from service.errors import Busy, ModelFault
from service.scheduler import Scheduler

POISON = 255


class Sums:
    """A model whose probability is a frame's first value; it fails on poison, and can be held up."""

    def __init__(self, max_batch: int) -> None:
        self.max_batch = max_batch
        self.batches: list[list[int]] = []
        self.go = threading.Event()
        self.go.set()
        self.entered = threading.Semaphore(0)

    def run(self, frames: np.ndarray, latents: bool) -> Prediction:
        self.entered.release()
        assert self.go.wait(20)
        values = frames[:, 0, 0, 0]
        self.batches.append(values.tolist())
        if POISON in values:
            raise ModelFault("expected food, got poison")
        wide = values.astype(np.float32)[:, None, None]
        return Prediction(np.broadcast_to(wide, (len(frames), 64, 64)), wide if latents else None)


def frames_of(*values: int) -> np.ndarray:
    return np.stack([np.full((64, 64, 3), value, np.uint8) for value in values])


@contextmanager
def scheduler_of(workers: int = 1, limit_frames: int = 100) -> Iterator[Scheduler]:
    scheduler = Scheduler(workers, limit_frames, lambda _: None)
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


async def queued(scheduler: Scheduler, model: Sums, *requests: tuple[int, ...]) -> list[asyncio.Task[object]]:
    """Requests that wait in the queue, in this order."""
    tasks = []
    for values in requests:
        tasks.append(asyncio.create_task(scheduler.submit(model, frames_of(*values), latents=False)))
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
                assert outcome.prediction.probability[:, 0, 0].tolist() == list(range(n, n + n % 7 + 1))
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


def test_a_model_that_raises_anything_becomes_a_fault_of_the_model() -> None:
    class Broken:
        max_batch = 1

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
