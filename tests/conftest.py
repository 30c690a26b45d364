"""A toy data set: a dark arm that reaches into a light bin from above, drawn by the test itself."""

from pathlib import Path

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


@pytest.fixture(scope="session")
def toy_file(tmp_path_factory: pytest.TempPathFactory, toys: FrameSet) -> Path:
    """The toys as a data set; the last two scenes are marked to be held out."""
    file = tmp_path_factory.mktemp("data") / "toys.npz"
    split = np.where(np.isin(toys.scene, ["toy4", "toy5"]), "val", "train")
    np.savez(file, frames=toys.frames, masks=toys.masks, scene=toys.scene, split=split)
    return file


@pytest.fixture(scope="session")
def toy_run(tmp_path_factory: pytest.TempPathFactory, toy_file: Path) -> Path:
    """A finished run of the smallest network, which has learned next to nothing."""
    from training.config import DataConfig, ModelConfig, TrainConfig
    from training.trainer import train

    out = tmp_path_factory.mktemp("runs") / "toy-run"
    data, model = DataConfig(train=(toy_file,)), ModelConfig(layers=(1, 1, 1, 1))
    train(TrainConfig(out=out, data=data, model=model, epochs=1, steps_per_epoch=1, batch_size=2, precision="32-true"))
    return out


@pytest.fixture(scope="session")
def toy_bundle(tmp_path_factory: pytest.TempPathFactory, toy_run: Path) -> Path:
    """That run as `<repository>/toy/1`, fp32 alone; to be left as it is."""
    from export.pack import pack

    return pack(toy_run, tmp_path_factory.mktemp("models"), name="toy", precisions=["fp32"]).folder
