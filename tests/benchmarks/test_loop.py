"""What the loop keeps of its steps, and what its camera notes; the loop itself takes a training."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.loop import Camera, Steps
from service.client import Client
from training.data.frames import FrameSet

NOBODY = "http://127.0.0.1:9"
FAILS = ("models", "list", "--url", NOBODY)


def test_a_step_that_failed_is_run_again_and_one_that_has_ended_is_not(tmp_path: Path) -> None:
    steps = Steps(tmp_path / "loop.json")
    with pytest.raises(SystemExit, match="expected status 0 or 3, got 1"):
        steps.run("ask", *FAILS, final=(0, 3))
    assert steps.done == {}
    assert steps.run("ask", *FAILS, final=(0, 1)) == 1
    assert json.loads((tmp_path / "loop.json").read_text())["ask"]["status"] == 1
    again = Steps(tmp_path / "loop.json")
    assert again.run("ask", "no such command", final=(0, 1)) == 1
    with pytest.raises(SystemExit, match="expected status 0, got 1"):  # noted by an earlier loop that took it as done
        again.run("ask", *FAILS)


def test_a_frame_without_an_answer_took_no_time() -> None:
    frames = FrameSet(np.zeros((1, 64, 64, 3), np.uint8), np.zeros((1, 64, 64), np.uint8), np.zeros(1), np.zeros(1))
    camera = Camera(NOBODY, frames, 30.0)
    with Client(NOBODY) as client:
        camera.send(client, frames.frames[0])
    assert str(camera) == "1 frames sent, none answered, 1 failed; median none"
