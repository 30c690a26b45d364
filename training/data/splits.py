"""Scene-wise splits: frames of one scene never stand on both sides."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from training.data.frames import FrameSet


class Split(NamedTuple):
    """The two sides of a split."""

    train: FrameSet
    val: FrameSet


def proposed_split(frames: FrameSet) -> Split:
    """The split that the data set itself proposes in its `split` array.

    Raises:
        ValueError: It proposes none, or puts one scene on both sides.
    """
    sides = set(frames.split.tolist())
    if not {"train", "val"} <= sides:
        raise ValueError(f"expected frames marked 'train' and 'val', found {sorted(sides)}: use a seeded split instead")
    return _checked(Split(frames.take(frames.split == "train"), frames.take(frames.split == "val")))


def seeded_split(frames: FrameSet, val_fraction: float, seed: int) -> Split:
    """Draw scenes for validation until they hold at least `val_fraction` of the frames.

    Args:
        frames: All frames.
        val_fraction: Share of frames, strictly between 0 and 1.
        seed: Equal seeds and equal sets of scenes give equal splits, whatever the order of the frames.

    Raises:
        ValueError: Fewer than two scenes, or a share that leaves one side empty.
    """
    scenes, counts = np.unique(frames.scene, return_counts=True)
    if len(scenes) < 2:
        raise ValueError(f"expected at least two scenes to split by, found {scenes.tolist()}")
    if not 0 < val_fraction < 1:
        raise ValueError(f"expected val_fraction between 0 and 1, got {val_fraction}")
    order = np.random.default_rng(seed).permutation(len(scenes))
    held = np.cumsum(counts[order])
    n_val = min(int(np.searchsorted(held, val_fraction * len(frames))) + 1, len(scenes) - 1)
    in_val = np.isin(frames.scene, scenes[order[:n_val]])
    return _checked(Split(frames.take(~in_val), frames.take(in_val)))


def _checked(split: Split) -> Split:
    both = set(split.train.scene.tolist()) & set(split.val.scene.tolist())
    if both:
        raise ValueError(f"scenes stand on both sides of the split: {sorted(both)[:5]}")
    return split
