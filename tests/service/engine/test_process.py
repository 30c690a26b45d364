"""A quick model in a process of its own says what it says here, and who waits for it hears when it is gone."""

import asyncio
import os
import shutil
import signal
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvloop
from service_kit import fussy_onnx, golden_frames, publish_tiny

from service.contract import Bundle, BundleInvalid, open_bundle
from service.engine import Prediction, Wanted, open_engine
from service.engine.process import MOST_FRAMES, ModelProcess

FRAMES = golden_frames()


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    for runner in (asyncio.run, uvloop.run):
        runner(scenario())  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return publish_tiny(tmp_path_factory.mktemp("process"), threshold=0.6)


def opened(bundle: Bundle) -> ModelProcess:
    return ModelProcess(bundle, "fp32", in_blocks=True)


def launched(
    process: ModelProcess, parts: Sequence[np.ndarray], *, latents: bool = False
) -> "asyncio.Future[Prediction | None]":
    """What comes of a batch."""
    loop = asyncio.get_running_loop()
    told: asyncio.Future[Prediction | None] = loop.create_future()

    def landed(prediction: Prediction | None, began_s: float, ended_s: float) -> None:
        assert began_s <= ended_s
        told.set_result(prediction)

    assert process.launch(loop, parts, latents=latents, landed=landed)
    return told


async def gone(pid: int) -> None:
    """Wait until there is no such process."""
    await _until(lambda: not Path(f"/proc/{pid}").exists())


def assert_same(found: Prediction | None, expected: Prediction) -> None:
    assert found is not None
    np.testing.assert_allclose(found.probability, expected.probability, atol=1e-6)
    assert (found.latents is None) == (expected.latents is None)
    if found.latents is not None and expected.latents is not None:
        np.testing.assert_allclose(found.latents, expected.latents, atol=1e-6)
    assert found.threshold == expected.threshold
    assert len(found.verdicts) == len(expected.verdicts)
    for one, other in zip(found.verdicts, expected.verdicts, strict=True):
        assert np.array_equal(one.robot, other.robot)
        assert one.area == other.area
        assert one.confidence == pytest.approx(other.confidence, abs=1e-6)


@pytest.mark.parametrize("latents", [False, True])
def test_it_says_what_the_model_says_here(bundle: Bundle, latents: bool) -> None:
    engine = open_engine(bundle, Wanted(provider="cpu"))

    async def scenario() -> None:
        process = opened(bundle)
        for parts in ([FRAMES[:1]], [FRAMES[:1], FRAMES[1:]], [FRAMES] * (MOST_FRAMES // len(FRAMES))):
            assert_same(
                await launched(process, parts, latents=latents), engine.run(np.concatenate(parts), latents=latents)
            )

    run(scenario)


def test_batches_under_way_do_not_touch_each_other_and_what_was_said_stays(bundle: Bundle) -> None:
    async def scenario() -> None:
        process = opened(bundle)
        said, expected = [], []
        for round_ in range(6):
            batches = [np.roll(FRAMES, round_ + shift, axis=0) for shift in range(2)]
            both = [launched(process, [batch]) for batch in batches]
            assert not process.has_place
            said += await asyncio.gather(*both)
            expected += batches
            assert process.has_place
        engine = open_engine(bundle, Wanted(provider="cpu"))
        for found, frames in zip(said, expected, strict=True):
            assert_same(found, engine.run(frames, latents=False))

    run(scenario)


def test_one_that_is_killed_fails_what_is_under_way_and_takes_nothing_more(bundle: Bundle) -> None:
    async def scenario() -> None:
        process = opened(bundle)
        assert await launched(process, [FRAMES]) is not None
        os.kill(process.pid, signal.SIGSTOP)  # so that they are under way
        both = [launched(process, [FRAMES]) for _ in range(2)]
        os.kill(process.pid, signal.SIGKILL)
        assert await asyncio.gather(*both) == [None, None]
        assert not process.is_open

        def never(*_: object) -> None:
            raise AssertionError("expected nobody to be told")

        assert not process.launch(asyncio.get_running_loop(), [FRAMES], latents=False, landed=never)

    run(scenario)


def test_one_that_is_killed_while_it_rests_is_found_out_at_the_next_batch_or_before(bundle: Bundle) -> None:
    async def scenario() -> None:
        process = opened(bundle)
        os.kill(process.pid, signal.SIGKILL)
        await asyncio.to_thread(os.waitid, os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        told: list[object] = []
        took = process.launch(
            asyncio.get_running_loop(), [FRAMES], latents=False, landed=lambda *result: told.append(result)
        )
        await _until(lambda: told or not took)
        assert not process.is_open

    run(scenario)


def test_signals_for_a_whole_group_of_processes_do_not_end_it(bundle: Bundle) -> None:
    async def scenario() -> None:
        process = opened(bundle)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(process.pid, number)
        assert await launched(process, [FRAMES]) is not None

    run(scenario)


def test_it_ends_when_nobody_knows_it_any_more(bundle: Bundle) -> None:
    async def scenario() -> None:
        used, unused = opened(bundle), opened(bundle)
        assert await launched(used, [FRAMES]) is not None
        pids = used.pid, unused.pid
        del used, unused
        for pid in pids:
            await asyncio.wait_for(gone(pid), 20)

    run(scenario)


def test_what_is_no_probability_fails_its_batch_alone(tmp_path: Path) -> None:
    bundle = publish_tiny(tmp_path, precisions={"fp32": fussy_onnx()})
    bad = np.full_like(FRAMES[:1], 255)

    async def scenario() -> None:
        process = opened(bundle)
        assert await launched(process, [bad]) is None
        assert process.is_open
        assert await launched(process, [FRAMES]) is not None

    run(scenario)


def test_a_bundle_that_is_gone_or_another_is_refused_with_the_reason(tmp_path: Path) -> None:
    bundle = publish_tiny(tmp_path)
    model = bundle.folder / bundle.manifest.precisions["fp32"]
    model.write_bytes(model.read_bytes() + b" ")
    with pytest.raises(BundleInvalid, match=r"in a process of its own, but .* the file was changed or damaged"):
        opened(bundle)
    shutil.rmtree(bundle.folder)
    with pytest.raises(BundleInvalid, match="in a process of its own, but "):
        opened(bundle)


def test_a_quick_model_has_one_when_it_is_wanted_where_there_is_a_core_for_it(tmp_path: Path) -> None:
    bundle = open_bundle(publish_tiny(tmp_path).folder)
    lonely = open_engine(bundle, Wanted(provider="cpu", alone_threads=1))
    engine = open_engine(bundle, Wanted(provider="cpu", alone_threads=2))
    for one in (lonely, engine):
        assert one.process() is None
        one.want_process()
    wait_until(lambda: engine.process() is not None)
    assert lonely.process() is None


def wait_until(holds: Callable[[], bool]) -> None:
    asyncio.run(asyncio.wait_for(_until(holds), 30))


async def _until(holds: Callable[[], Any]) -> None:
    while not holds():  # noqa: ASYNC110 - a thread tells nobody
        await asyncio.sleep(0.01)
