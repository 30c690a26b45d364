"""Quick frames go to the process of their model, several together, and whatever becomes of it, each has its answer."""

import asyncio
import math
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import uvloop
from numpy.typing import NDArray
from service_kit import fussy_onnx, publish_tiny, red_probability

from service.contract import Bundle
from service.engine import Engine, Wanted, open_engine
from service.engine.on_demand import OnDemand
from service.engine.process import MOST_FRAMES, ModelProcess
from service.errors import DeadlineMissed, ModelFault
from service.scheduling.freshness import Freshness
from service.scheduling.scheduler import Outcome, Scheduler
from service.scheduling.turns import Turns


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    for runner in (asyncio.run, uvloop.run):
        runner(scenario())  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return publish_tiny(tmp_path_factory.mktemp("launches"))


class Here:
    """Runs of a model in this process, counted."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.frames = 0

    def __call__(self, frames: NDArray[np.uint8], *, latents: bool) -> list[NDArray[np.float32]]:
        self.frames += len(frames)
        said = self._engine.run(frames, latents)
        return [said.probability, *([] if said.latents is None else [said.latents])]


def engine_of(bundle: Bundle) -> tuple[Engine, Here]:
    """A model with a process of its own, once that is wanted."""
    here = Here(open_engine(bundle, Wanted(provider="cpu", max_batch=4)))
    process = OnDemand(lambda: ModelProcess(bundle, "fp32", in_blocks=True), "expected a process")
    return Engine(here, "cpu", "fp32", 4, threshold=bundle.manifest.threshold, process=process), here


async def opened(engine: Engine) -> ModelProcess:
    """Its process, when it is open."""
    engine.want_process()
    while (process := engine.process()) is None:  # noqa: ASYNC110 - a thread tells nobody
        await asyncio.sleep(0.01)
    return process


@contextmanager
def scheduler_of(limit_s: float = 1000.0, turns: Turns | None = None) -> Iterator[Scheduler]:
    scheduler = Scheduler(2, 1000, lambda _: None, limit_s=limit_s, cores=2, turns=turns)
    try:
        yield scheduler
    finally:
        scheduler.close()


def frames_of(number: int, count: int = 1) -> NDArray[np.uint8]:
    return np.random.default_rng(number).integers(0, 250, (count, 64, 64, 3), dtype=np.uint8)


async def asked(
    scheduler: Scheduler,
    engine: Engine,
    frames: NDArray[np.uint8],
    *,
    latents: bool = False,
    due_in_s: float = math.inf,
) -> Outcome:
    now_s = time.perf_counter()
    return await scheduler.submit(engine, frames, latents=latents, freshness=Freshness(now_s, now_s + due_in_s))


async def known(scheduler: Scheduler, engine: Engine) -> None:
    """Let it be known that the model is a quick one, even where the machine is busy."""
    for _ in range(20):
        await asked(scheduler, engine, frames_of(0))


def assert_right(outcome: Outcome, frames: NDArray[np.uint8]) -> None:
    np.testing.assert_allclose(outcome.prediction.probability, red_probability(frames), atol=1e-4)
    assert len(outcome.prediction.verdicts) == len(frames)
    assert outcome.queue_s >= 0
    assert outcome.infer_s >= 0


def test_frames_that_come_together_are_run_there_and_each_request_gets_its_own(bundle: Bundle) -> None:
    async def scenario() -> None:
        engine, here = engine_of(bundle)
        with scheduler_of() as scheduler:
            await known(scheduler, engine)
            await opened(engine)
            before = here.frames
            for round_ in range(3):
                requests = [frames_of(100 * round_ + n, 1 + n % 5) for n in range(30)]
                outcomes = await asyncio.gather(
                    *(asked(scheduler, engine, frames, latents=n % 3 == 0) for n, frames in enumerate(requests))
                )
                for n, (outcome, frames) in enumerate(zip(outcomes, requests, strict=True)):
                    assert_right(outcome, frames)
                    assert (outcome.prediction.latents is not None) == (n % 3 == 0)
            assert here.frames == before

    run(scenario)


def test_a_request_with_more_frames_than_a_batch_there_may_have_is_run_here(bundle: Bundle) -> None:
    async def scenario() -> None:
        here = Here(open_engine(bundle, Wanted(provider="cpu", max_batch=32)))
        process = OnDemand(lambda: ModelProcess(bundle, "fp32", in_blocks=True), "expected a process")
        engine = Engine(here, "cpu", "fp32", 32, threshold=0.5, process=process)
        with scheduler_of() as scheduler:
            await known(scheduler, engine)
            await opened(engine)
            before = here.frames
            many = [frames_of(2, MOST_FRAMES + 1), frames_of(3, MOST_FRAMES + 1)]
            for outcome, frames in zip(
                await asyncio.gather(*(asked(scheduler, engine, frames) for frames in many)), many, strict=True
            ):
                assert_right(outcome, frames)
            assert here.frames == before + 2 * (MOST_FRAMES + 1)

    run(scenario)


def test_when_the_process_ends_its_frames_and_all_that_follow_are_run_here(bundle: Bundle) -> None:
    async def scenario() -> None:
        engine, here = engine_of(bundle)
        with scheduler_of() as scheduler:
            await known(scheduler, engine)
            process = await opened(engine)
            before = here.frames
            os.kill(process.pid, signal.SIGSTOP)
            requests = [frames_of(n) for n in range(40)]
            tasks = [asyncio.create_task(asked(scheduler, engine, frames)) for frames in requests]
            for _ in range(5):  # turns of the event loop: they are under way by then
                await asyncio.sleep(0)
            assert not any(task.done() for task in tasks)
            os.kill(process.pid, signal.SIGKILL)
            for outcome, frames in zip(await asyncio.gather(*tasks), requests, strict=True):
                assert_right(outcome, frames)
            assert here.frames == before + 40
            more = await asyncio.gather(*(asked(scheduler, engine, frames) for frames in requests))
            for outcome, frames in zip(more, requests, strict=True):
                assert_right(outcome, frames)

    run(scenario)


def test_what_is_due_while_the_process_is_held_up_is_told_so_and_what_is_not_wanted_any_more_is_left(
    bundle: Bundle,
) -> None:
    async def scenario() -> None:
        engine, here = engine_of(bundle)
        with scheduler_of() as scheduler:
            await known(scheduler, engine)
            process = await opened(engine)
            before = here.frames
            os.kill(process.pid, signal.SIGSTOP)
            patient = [asyncio.create_task(asked(scheduler, engine, frames_of(n))) for n in range(20)]
            hasty = [asyncio.create_task(asked(scheduler, engine, frames_of(n), due_in_s=0.2)) for n in range(3)]
            gone = [asyncio.create_task(asked(scheduler, engine, frames_of(n))) for n in range(3)]
            await asyncio.sleep(0)
            for task in gone:
                task.cancel()
            for met in await asyncio.gather(*hasty, return_exceptions=True):
                assert isinstance(met, DeadlineMissed)
            os.kill(process.pid, signal.SIGCONT)
            for n, outcome in enumerate(await asyncio.gather(*patient)):
                assert_right(outcome, frames_of(n))
            assert here.frames == before
            assert scheduler.waiting_frames == 0

    run(scenario)


def test_of_frames_run_together_the_one_at_fault_fails_alone(tmp_path: Path) -> None:
    bundle = publish_tiny(tmp_path, precisions={"fp32": fussy_onnx()})

    async def scenario() -> None:
        engine, _ = engine_of(bundle)
        white = np.full((1, 64, 64, 3), 255, np.uint8)
        with scheduler_of() as scheduler:
            await known(scheduler, engine)
            await opened(engine)
            requests = [white if n == 4 else frames_of(n) for n in range(12)]
            met = await asyncio.gather(
                *(asked(scheduler, engine, frames) for frames in requests), return_exceptions=True
            )
            for n, (found, frames) in enumerate(zip(met, requests, strict=True)):
                if n == 4:
                    assert isinstance(found, ModelFault)
                else:
                    assert isinstance(found, Outcome)
                    assert_right(found, frames)

    run(scenario)


def test_one_is_begun_where_the_event_loop_is_behind(bundle: Bundle) -> None:
    async def scenario() -> None:
        passing = [0.0]
        engine, _ = engine_of(bundle)
        with scheduler_of(turns=Turns(lambda: time.perf_counter() + passing[0])) as scheduler:
            await known(scheduler, engine)
            await asyncio.gather(*(asked(scheduler, engine, frames_of(n)) for n in range(3)))
            assert engine.process() is None
            tasks = []
            while engine.process() is None:
                tasks += [asyncio.create_task(asked(scheduler, engine, frames_of(n))) for n in range(10)]
                passing[0] += 0.02  # in every turn
                await asyncio.sleep(0)
            await asyncio.gather(*tasks)

    run(scenario)
