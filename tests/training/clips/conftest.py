"""Small data sets of clips in every supported form, drawn by the tests themselves."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tfrecord import TFRecordWriter


def draw_clips(n: int, n_frames: int, seed: int = 0, size: int = 64) -> np.ndarray:
    """Clips uint8 [N, T, H, W, 3]: noise whose red tells the clip and whose green tells the frame."""
    clips = np.random.default_rng(seed).integers(0, 256, (n, n_frames, size, size, 3), dtype=np.uint8)
    clips[..., 0] = np.arange(n)[:, None, None, None]
    clips[..., 1] = np.arange(n_frames)[:, None, None]
    return clips


def write_tfrecords(file: Path, clips: dict[str, np.ndarray]) -> None:
    """Write BAIR's layout: clips [N, T, 64, 64, 3] of each camera, and the arm's state beside them."""
    file.parent.mkdir(parents=True, exist_ok=True)
    writer = TFRecordWriter(str(file))
    for i in range(len(next(iter(clips.values())))):
        features: dict[str, tuple[object, str]] = {"0/endeffector_pos": ([0.1, 0.2, 0.3], "float")}
        for camera, pixels in clips.items():
            for t, frame in enumerate(pixels[i]):
                features[f"{t}/{camera}/encoded"] = (frame.tobytes(), "byte")
        writer.write(features)
    writer.close()


@pytest.fixture
def draw() -> Callable[..., np.ndarray]:
    return draw_clips


@pytest.fixture
def write() -> Callable[[Path, dict[str, np.ndarray]], None]:
    return write_tfrecords


@pytest.fixture
def bair(tmp_path: Path) -> Path:
    """`softmotion30_44k` in small: two training files of two records, one test file; six frames, two cameras."""
    for k, name in enumerate(("train/traj_0_to_1", "train/traj_2_to_3", "test/traj_0_to_1")):
        cameras = {
            "image_aux1": draw_clips(2, 6, seed=2 * k),
            "image_main": draw_clips(2, 6, seed=2 * k + 1),
        }
        write_tfrecords(tmp_path / "softmotion30_44k" / f"{name}.tfrecords", cameras)
    return tmp_path / "softmotion30_44k"
