"""A deadline holds to the last: no answer is late because of the time that it takes to write."""

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest
from codec_threads import codec_held, stages_of
from prometheus_client.parser import text_string_to_metric_families
from service_kit import Running, golden_frames, png
from websockets.sync.client import connect

from service.call import Call
from service.errors import DeadlineMissed
from service.scheduling.encoding import Bulk
from service.scheduling.freshness import Freshness

FRAME = png(golden_frames()[0])
LATENTS = "application/x-npz"
TENSOR = golden_frames()[:1].tobytes()
HEAD = json.dumps(
    {"inputs": [{"name": "frames", "datatype": "UINT8", "shape": [1, 64, 64, 3],
                 "parameters": {"binary_data_size": len(TENSOR)}}],
     "outputs": [{"name": "probability"}]}
).encode()  # fmt: skip


def counts(running: Running) -> tuple[float, float]:
    """Answers written, and runs of the model."""
    found = {}
    for family in text_string_to_metric_families(running.client.get("/metrics").text):
        for sample in family.samples:
            found[sample.name, sample.labels.get("stage")] = sample.value
    return found["robomask_stage_seconds_count", "encode"], found["robomask_batch_size_count", None]


def segment(running: Running, deadline_ms: float) -> httpx.Response:
    """Read on the event loop, as it is small; written on a thread, as latents are not."""
    headers = {"Accept": LATENTS, "X-Deadline-Ms": str(deadline_ms)}
    return running.segment(FRAME, params={"latents": "true"}, headers=headers)


def infer(running: Running, deadline_ms: float) -> httpx.Response:
    """The same, as the answer is JSON."""
    headers = {"Inference-Header-Content-Length": str(len(HEAD)), "X-Deadline-Ms": str(deadline_ms)}
    return running.client.post("/v2/models/tiny/infer", content=HEAD + TENSOR, headers=headers)


@pytest.mark.parametrize("ask", [segment, infer])
def test_an_answer_that_still_waits_to_be_written_when_it_is_due_is_refused_and_not_written(
    running: Running, ask: Callable[[Running, float], httpx.Response]
) -> None:
    assert ask(running, 60_000).status_code == 200
    written, _ = counts(running)
    with codec_held(running):
        response = ask(running, 1000)
        assert (response.status_code, response.json()["type"]) == (504, "urn:robomask:problem:deadline-missed")
        assert "still waited to be encoded" in response.json()["detail"]
    assert ask(running, 60_000).status_code == 200
    assert counts(running)[0] == written + 1


def test_a_frame_of_a_websocket_is_refused_as_well(running: Running) -> None:
    address = f"ws://127.0.0.1:{running.port}/stream?accept={LATENTS}&latents=true&deadline_ms=1000"
    with connect(address, compression=None, open_timeout=20) as stream, codec_held(running):
        stream.recv(20)
        stream.send(FRAME)
        assert json.loads(stream.recv(20))["problem"]["status"] == 504


def test_what_takes_too_long_to_write_is_refused_before_the_model_runs_and_smaller_answers_are_not(
    running: Running,
) -> None:
    def ask(side: int) -> httpx.Response:
        picture = png(np.zeros((side, side, 3), np.uint8))
        return running.segment(picture, headers={"Accept": "image/png", "X-Deadline-Ms": "20000"})

    assert ask(1000).status_code == 200
    stages_of(running).encoding.learn(Bulk("image/png", 1_000_000), 1000.0)
    _, runs = counts(running)
    refused = ask(1000)
    assert refused.status_code == 504
    assert "encoding its answer takes about" in refused.json()["detail"]
    assert counts(running)[1] == runs
    assert ask(300).status_code == 200


def test_what_is_written_here_and_is_late_is_refused_as_well(running: Running) -> None:
    async def write(due_in_s: float) -> Any:
        now_s = time.perf_counter()
        call = Call("r", freshness=Freshness(now_s, now_s + due_in_s))
        return await stages_of(running).write(call, lambda: "written", None)

    assert asyncio.run(write(60)) == "written"
    with pytest.raises(DeadlineMissed, match="encoding its answer took longer"):
        asyncio.run(write(0))
