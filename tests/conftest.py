"""A toy data set: a dark arm that reaches into a light bin from above, drawn by the test itself."""

import numpy as np
import pytest

from training.data.frames import FrameSet


def draw_frames(n_scenes: int, per_scene: int, seed: int = 0) -> FrameSet:
    """Frames whose mask is a dark vertical bar, on backgrounds that differ by scene."""
    rng = np.random.default_rng(seed)
    frames, masks, scenes = [], [], []
    for s in range(n_scenes):
        background = rng.integers(150, 230, 3)
        for _ in range(per_scene):
            frame = np.clip(background + rng.normal(0, 8, (64, 64, 3)), 0, 255).astype(np.uint8)
            mask = np.zeros((64, 64), np.uint8)
            x, length = rng.integers(8, 48), rng.integers(16, 50)
            mask[:length, x : x + 9] = 1
            frame[mask == 1] = rng.integers(10, 50, 3)
            frames.append(frame)
            masks.append(mask)
            scenes.append(f"toy{s}")
    n = len(frames)
    return FrameSet(np.stack(frames), np.stack(masks), np.array(scenes), np.full(n, "", dtype="<U5"))


@pytest.fixture(scope="session")
def toys() -> FrameSet:
    """Six scenes of four frames."""
    return draw_frames(6, 4)
