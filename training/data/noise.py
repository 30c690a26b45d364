"""The control of the study: pictures that say nothing, with the masks of pictures that do."""

from __future__ import annotations

import numpy as np

from training.data.frames import FrameSet


def noise_frames(frames: FrameSet, seed: int) -> FrameSet:
    """Draw every pixel's colour from all pixels of the data set, so that colours keep their distribution.

    What is learnt from such frames is where robots tend to be, and on frames that were learnt from, their masks by
    heart.
    """
    rng = np.random.default_rng(seed)
    colours = frames.frames.reshape(-1, 3)
    drawn = colours[rng.integers(0, len(colours), frames.masks.size)].reshape(frames.frames.shape)
    return FrameSet(drawn, frames.masks, frames.scene, frames.split, frames.quality)
