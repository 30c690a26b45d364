"""Scene-wise splits: frames of one scene never stand on both sides."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from training.data.frames import concatenate
from training.data.scene_names import NAME_THEM

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from training.data.frames import FrameSet


class Split(NamedTuple):
    """The two sides of a split.

    Attributes:
        train: Frames to learn from.
        val: Frames held out.
        in_train: bool [N], which of the frames that were split are in `train`.
    """

    train: FrameSet
    val: FrameSet
    in_train: np.ndarray


class Sides(NamedTuple):
    """The two sides of a split over several data sets.

    Attributes:
        train: What each data set gives to learn from, in their order; may be empty for some.
        val: What all of them hold out together; empty where everything is learnt from.
        divided: Which of the data sets frames were held out of, or would have been.
    """

    train: tuple[FrameSet, ...]
    val: FrameSet
    divided: tuple[bool, ...]


def proposed_split(frames: FrameSet) -> Split:
    """The split that the data set itself proposes in its `split` array; frames without a mark are learnt from.

    Raises:
        ValueError: It holds out none or all, or puts one scene on both sides.
    """
    marks = sorted(set(frames.split.tolist()))
    in_train = np.isin(frames.split, ["train", ""])
    in_val = frames.split == "val"
    if not in_val.any() or not in_train.any():
        raise ValueError(
            f"expected frames marked 'train' and 'val', found {marks}: add --data.split seeded, which draws scenes to "
            "hold out"
        )
    return _split(frames, in_train, in_val)


def seeded_split(frames: FrameSet, val_fraction: float, seed: int) -> Split:
    """Draw scenes for validation until they hold at least `val_fraction` of the frames.

    Args:
        frames: All frames.
        val_fraction: Share of frames, strictly between 0 and 1.
        seed: Equal seeds and equal sets of scenes give equal splits, whatever the order of the frames.

    Raises:
        ValueError: Fewer than two scenes, or a share that leaves one side empty.
    """
    scenes, counts = _scenes(frames)
    if not 0 < val_fraction < 1:
        raise ValueError(f"expected val_fraction between 0 and 1, got {val_fraction}")
    order = np.random.default_rng(seed).permutation(len(scenes))
    held = np.cumsum(counts[order])
    n_val = min(int(np.searchsorted(held, val_fraction * len(frames))) + 1, len(scenes) - 1)
    in_val = np.isin(frames.scene, scenes[order[:n_val]])
    return _split(frames, ~in_val, in_val)


def fold_split(frames: FrameSet, folds: int, fold: int, seed: int) -> Split:
    """Hold out one of `folds` groups of scenes, as nearly equal in frames as whole scenes allow.

    Args:
        frames: All frames; their own marks do not count.
        folds: At least 2.
        fold: Which group to hold out, from 0. Over all of them every frame is held out exactly once.
        seed: Which scenes go together; equal whatever the order of the frames.

    Raises:
        ValueError: Fewer scenes than folds or than two, or no such fold.
    """
    scenes, counts = _scenes(frames)
    if not 2 <= folds <= len(scenes):
        raise ValueError(f"expected 2 to {len(scenes)} folds, one scene in each at least, got {folds}")
    if not 0 <= fold < folds:
        raise ValueError(f"expected a fold from 0 to {folds - 1}, got {fold}")
    order = np.random.default_rng(seed).permutation(len(scenes))
    order = order[np.argsort(-counts[order], kind="stable")]  # the largest first, each to the group with the least
    held = np.zeros(folds, int)
    group = np.empty(len(scenes), int)
    for index in order:
        group[index] = held.argmin()
        held[group[index]] += counts[index]
    in_val = np.isin(frames.scene, scenes[group == fold])
    return _split(frames, ~in_val, in_val)


def everything(frames: FrameSet) -> Split:
    """Learn from all frames and hold out none."""
    return _split(frames, np.ones(len(frames), bool), np.zeros(len(frames), bool))


def split_data_sets(sets: Sequence[FrameSet], divide: Callable[[FrameSet], Split]) -> Sides:
    """Divide several data sets as one, and say what each gives to learn from.

    Where some data sets carry marks of their own in `split`, only those are divided: what is unmarked beside them
    (simulated frames, say) is learnt from. Where none does, all are divided.

    Raises:
        ValueError: A scene on both sides, or what `divide` refuses.
    """
    marked = [bool((frames.split != "").any()) for frames in sets]
    divided = [i for i in range(len(sets)) if marked[i] or not any(marked)]
    split = divide(concatenate([sets[i] for i in divided]))
    ends = np.cumsum([len(sets[i]) for i in divided])[:-1]
    train = list(sets)
    for i, in_train in zip(divided, np.split(split.in_train, ends), strict=True):
        train[i] = sets[i].take(in_train)
    _refuse_torn(concatenate(train), split.val)
    return Sides(tuple(train), split.val, tuple(i in divided for i in range(len(sets))))


def apart(sets: Sequence[FrameSet], other: FrameSet) -> Sides:
    """Learn from all of some data sets and measure on another.

    Args:
        sets: Learnt from as a whole.
        other: Its frames marked `val` are measured on, or all if none are.

    Raises:
        ValueError: A scene on both sides.
    """
    val = held_out_of(other)
    _refuse_torn(concatenate(list(sets)), val)
    return Sides(tuple(sets), val, (False,) * len(sets))


def held_out_of(frames: FrameSet) -> FrameSet:
    """Frames of a data set to measure on: those marked `val`, or all if none are."""
    marked = frames.split == "val"
    return frames.take(marked) if marked.any() else frames


def _scenes(frames: FrameSet) -> tuple[np.ndarray, np.ndarray]:
    """The scenes str [S] and how many frames each has, int [S].

    Raises:
        ValueError: Fewer than two.
    """
    scenes, counts = np.unique(frames.scene, return_counts=True)
    if len(scenes) < 2:
        raise ValueError(
            f"expected at least two scenes to split by, found {scenes.tolist()}: if there are more, {NAME_THEM}"
        )
    return scenes, counts


def _split(frames: FrameSet, in_train: np.ndarray, in_val: np.ndarray) -> Split:
    split = Split(frames.take(in_train), frames.take(in_val), in_train)
    _refuse_torn(split.train, split.val)
    return split


def _refuse_torn(train: FrameSet, val: FrameSet) -> None:
    both = set(train.scene.tolist()) & set(val.scene.tolist())
    if both:
        raise ValueError(
            f"scenes stand on both sides of the split: {sorted(both)[:5]}: put each on one side or, where different "
            f"scenes have one name, {NAME_THEM}"
        )
