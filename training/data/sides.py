"""The frames that a run learns from and those that it is measured on, for the run and for whoever looks at it later."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from training.data.noise import noise_frames
from training.data.readers import DatasetError, read_frames
from training.data.scene_names import NAME_THEM
from training.data.splits import (
    Sides,
    Split,
    apart,
    everything,
    fold_split,
    proposed_split,
    seeded_split,
    split_data_sets,
)

if TYPE_CHECKING:
    from training.config import DataConfig
    from training.data.frames import FrameSet
    from training.run import Run

_log = logging.getLogger(__name__)


def read_sides(config: DataConfig, seed: int) -> Sides:
    """Read the labelled frames and put their scenes on two sides.

    Raises:
        DatasetError: A data set that cannot be read.
        ValueError: A split that is not possible, or a side without any robot.
    """
    sets = [read_frames(path) for path in config.train]
    if config.noise:
        sets = [noise_frames(frames, seed=i) for i, frames in enumerate(sets)]
    if config.val is not None:
        sides = apart(sets, read_frames(config.val))
    else:
        sides = split_data_sets(sets, lambda frames: _divide(frames, config, seed))
    _check_robot(sides)
    return sides


def _check_robot(sides: Sides) -> None:
    """Frames without robot are welcome among others; alone, a model that says nothing is perfect.

    Raises:
        ValueError: No mask has any robot, of all to learn from or of all to measure on.
    """
    if not any(frames.masks.any() for frames in sides.train):
        count = sum(map(len, sides.train))
        raise ValueError(f"expected robot in some of the {count} frames to learn from, found none: are they annotated?")
    if len(sides.val) and not sides.val.masks.any():
        raise ValueError(
            f"expected robot in some of the {len(sides.val)} frames to measure on, found none: are they annotated?"
        )


def remark_lone_frames(frames: FrameSet) -> None:
    """Say so where every frame counts as a scene of its own: those of one place may then stand on both sides."""
    if len(np.unique(frames.scene)) == len(frames):
        _log.warning(
            "each of the %d frames counts as a scene of its own, so that nearly equal ones may stand on both sides of "
            "the split and make scores look better than they are: if some are of one place, %s",
            len(frames),
            NAME_THEM,
        )


def _divide(frames: FrameSet, config: DataConfig, seed: int) -> Split:
    if config.folds is not None or config.split == "seeded":
        remark_lone_frames(frames)
    if config.folds is not None:
        return fold_split(frames, config.folds, config.fold, config.fold_seed)
    if config.split == "all":
        return everything(frames)
    if config.split == "seeded":
        return seeded_split(frames, config.val_fraction, seed)
    return proposed_split(frames)


def hashes_of(config: DataConfig) -> list[dict[str, str]]:
    """Which data sets a run has, by `name` and `sha256`, as its record keeps them."""
    return [{"name": path.name, "sha256": read_frames(path).sha256()} for path in config.files]


def read_sides_again(run: Run) -> Sides:
    """The sides of a finished run, if they can be had as they were.

    Raises:
        DatasetError: Data that are not there any more, not what they were, or divided in another way by now.
    """
    now = hashes_of(run.config.data)
    if now != run.record["data"]:
        raise DatasetError(
            f"{run.folder}: expected the run's data, to measure on what it has held out of them, found "
            f"{', '.join(one['name'] for one in now)}, not all of which is what it was"
        )
    sides = read_sides(run.config.data, run.config.seed)
    if sorted(set(sides.val.scene.tolist())) != run.record["split"]["val"]:
        raise DatasetError(
            f"{run.folder}: expected its data sets to be split as they were, found other scenes held out: the marks "
            "have changed, and it may have learned from these"
        )
    return sides
