"""What a run learns from and is measured on."""

import logging
from pathlib import Path

import numpy as np
import pytest

from training.config import DataConfig
from training.data.frames import FrameSet
from training.data.sides import read_sides


def save(path: Path, toys: FrameSet, **arrays: np.ndarray) -> Path:
    np.savez(path, **{"frames": toys.frames, "masks": toys.masks, **arrays})
    return path


def test_frames_without_any_robot_are_not_learned_from_alone(tmp_path: Path, toys: FrameSet) -> None:
    nothing = save(tmp_path / "nothing.npz", toys, masks=0 * toys.masks)
    with pytest.raises(ValueError, match=r"expected robot in some of the \d+ frames to learn from, found none"):
        read_sides(DataConfig(train=[nothing], split="all"), seed=0)
    arms = save(tmp_path / "arms.npz", toys)
    sides = read_sides(DataConfig(train=[arms, nothing], split="all"), seed=0)
    assert [len(frames) for frames in sides.train] == [len(toys)] * 2


def test_frames_without_any_robot_are_not_measured_on_alone(tmp_path: Path, toys: FrameSet) -> None:
    nothing = save(tmp_path / "nothing.npz", toys.take(np.arange(4)), masks=0 * toys.masks[:4])
    arms = save(tmp_path / "arms.npz", toys)
    with pytest.raises(ValueError, match="expected robot in some of the 4 frames to measure on, found none"):
        read_sides(DataConfig(train=[arms], val=nothing), seed=0)


@pytest.mark.parametrize("how", [{"split": "seeded"}, {"folds": 3, "fold": 0}])
def test_it_is_said_where_every_frame_counts_as_a_scene(
    tmp_path: Path, toys: FrameSet, caplog: pytest.LogCaptureFixture, how: dict[str, object]
) -> None:
    for arrays, told in (({}, True), ({"scene": toys.scene}, False)):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            read_sides(DataConfig(train=[save(tmp_path / "a.npz", toys, **arrays)], **how), seed=0)
        assert ("counts as a scene of its own" in caplog.text) is told
