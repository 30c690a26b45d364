"""From which probability on a pixel is robot.

The losses reward overlap, and what they come to says robot too readily: of the pixels of held-out BAIR frames to which
the shipped network gives 0.6 to 0.8, four in ten are robot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from training.data.frames import concatenate
from training.scores import per_image_iou

if TYPE_CHECKING:
    from collections.abc import Sequence

    from training.data.frames import FrameSet

__all__ = ["DEFAULT", "calibrate", "frames_to_calibrate_on"]

DEFAULT: Final = 0.5
"""Where there is nothing to calibrate on."""
_CANDIDATES: Final = tuple(round(0.05 * step, 2) for step in range(6, 19))
_MOST_FRAMES: Final = 256
"""More would tell little more of a single number, at a tenth of a second each at the end of every run."""


def calibrate(probability: np.ndarray, masks: np.ndarray) -> float:
    """The threshold of 0.3 to 0.9, in steps of 0.05, that suits labelled frames.

    Of those whose mean IoU is within a standard error of the best one's, the nearest to 0.5: frames that were learned
    from flatter high thresholds a little, and one that is no better than chance is not worth a change.

    Source: Breiman, Friedman, Olshen, Stone 1984, "Classification and Regression Trees", section 3.4.3, the
    one-standard-error rule; the error is that of the difference to the best, frame by frame.

    Args:
        probability: float [N,H,W], what a network says of them.
        masks: bool or 0/1 [N,H,W], what they are.

    >>> truth = np.tile(np.array([[0, 0, 0, 1]]), (9, 1, 1))
    >>> calibrate(np.tile(np.array([[0.1, 0.2, 0.62, 0.99]]), (9, 1, 1)), truth)
    0.65
    >>> calibrate(np.zeros((0, 1, 4)), np.zeros((0, 1, 4)))
    0.5
    """
    if len(masks) < 2:
        return DEFAULT
    ious = np.stack([per_image_iou(probability >= threshold, masks) for threshold in _CANDIDATES])
    best = int(ious.mean(axis=1).argmax())
    behind = ious[best] - ious
    good = behind.mean(axis=1) <= behind.std(axis=1, ddof=1) / np.sqrt(len(masks))
    worthy = [threshold for threshold, is_good in zip(_CANDIDATES, good, strict=True) if is_good]
    return min(worthy, key=lambda threshold: (round(abs(threshold - DEFAULT), 2), threshold))


def frames_to_calibrate_on(train: Sequence[FrameSet], divided: Sequence[bool]) -> FrameSet:
    """Of the frames that a run learned from, those of the kind that it is measured on; of many, some evenly drawn.

    Args:
        train: What each data set gave to learn from.
        divided: Which of them scenes were held out of; if none were, all count.
    """
    kin = [frames for frames, was in zip(train, divided, strict=True) if was] or list(train)
    frames = concatenate(kin)
    if len(frames) <= _MOST_FRAMES:
        return frames
    return frames.take(np.linspace(0, len(frames) - 1, _MOST_FRAMES).astype(int))
