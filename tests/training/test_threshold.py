"""Thresholds that suit labelled frames."""

import json
from pathlib import Path

import numpy as np
import pytest

from training.data.frames import FrameSet
from training.run import RECORD, read_run
from training.threshold import calibrate, frames_to_calibrate_on


def edges_at(probability: float, frames: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities [N,8,8] of arms that are sure inside, and of pixels beside them, which are none; and the truth."""
    rng = np.random.default_rng(0)
    truth = np.zeros((frames, 8, 8), np.uint8)
    truth[:, :5, 2:5] = 1
    found = np.where(truth == 1, 0.97, 0.02)
    beside = rng.integers(1, 5, frames)
    for one, count in zip(found, beside, strict=True):
        one[:count, 5] = probability
    return found, truth


@pytest.mark.parametrize(("beside", "expected"), [(0.2, 0.5), (0.48, 0.5), (0.52, 0.55), (0.71, 0.75)])
def test_it_goes_as_far_from_one_half_as_frames_show_and_no_further(beside: float, expected: float) -> None:
    assert calibrate(*edges_at(beside)) == expected


def test_robot_that_is_found_faintly_lowers_it() -> None:
    found, truth = edges_at(0.02)
    faint = truth.copy()
    faint[:, :4] = 0
    assert calibrate(np.where(faint == 1, 0.42, found), truth) == 0.4


def test_what_a_few_frames_happen_to_show_does_not_move_it() -> None:
    found, truth = edges_at(0.02, frames=6)
    found[0, 0, 5] = 0.6
    assert calibrate(found, truth) == 0.5
    assert calibrate(found[:1], truth[:1]) == 0.5


def test_it_is_calibrated_on_frames_of_the_kind_that_is_measured_on(toys: FrameSet) -> None:
    real, simulated = toys.take(np.arange(8)), toys.take(np.arange(8, 24))
    assert frames_to_calibrate_on([real, simulated], [True, False]).sha256() == real.sha256()
    assert len(frames_to_calibrate_on([real, simulated], [False, False])) == 24


def test_of_very_many_frames_some_are_enough(toys: FrameSet) -> None:
    many = toys.take(np.arange(24 * 50) // 50)
    some = frames_to_calibrate_on([many], [True])
    assert len(some) == 256
    assert set(some.scene) == set(toys.scene)


def test_a_run_says_from_which_probability_on_it_takes_a_pixel_for_robot(toy_run: Path, tmp_path: Path) -> None:
    assert 0.3 <= read_run(toy_run).threshold <= 0.9
    record = json.loads((toy_run / RECORD).read_text())
    del record["threshold"]  # as runs of before have it
    (tmp_path / RECORD).write_text(json.dumps(record))
    assert read_run(tmp_path).threshold == 0.5
