"""Tiny runs: clips of 8 frames of 16x16 in which a bright square moves, and models of a few thousand parameters."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from training.commands.train import quieten_lightning
from training.pretrain.config import PriorRunConfig, VQVAERunConfig
from training.pretrain.trainer import pretrain_vqvae

VQVAE_SIZE = {
    "embedding_dim": 4,
    "n_codes": 16,
    "n_hiddens": 8,
    "n_res_layers": 1,
    "downsample": [4, 4, 4],
    "sequence_length": 8,
    "resolution": 16,
}
PRIOR_SIZE = {"hidden_dim": 12, "heads": 2, "layers": 1, "resnet_layers": [1, 1, 1, 1], "resnet_dim": 12}


@pytest.fixture(autouse=True)
def quiet() -> None:
    """As the command does."""
    quieten_lightning()


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors gain nothing from more, and sums keep their order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve clips, uint8 [N, T, H, W, 3], each with its own colours, start and direction."""
    rng = np.random.default_rng(0)
    clips = np.empty((12, 8, 16, 16, 3), np.uint8)
    for clip in clips:
        background, square = rng.integers(20, 120, 3), rng.integers(140, 250, 3)
        place, speed = rng.integers(0, 12, 2), rng.choice([-1, 1], 2)
        for t, frame in enumerate(clip):
            frame[:] = background
            y, x = (place + speed * t) % 12
            frame[y : y + 4, x : x + 4] = square
    file = tmp_path_factory.mktemp("squares") / "squares.npz"
    np.savez(file, frames=clips)
    return file


@pytest.fixture(scope="session")
def settings(squares: Path) -> Callable[..., dict[str, Any]]:
    """Settings that both kinds of run share; keywords change them."""

    def make(out: Path, **changes: Any) -> dict[str, Any]:
        return {
            "out": out,
            "data": {"clips": [squares], "val_fraction": 0.2, "val_clips": 3},
            "optim": {"lr": 1e-3, "warmup_steps": 2, "final_lr_ratio": 0.1},
            "machine": {"precision": "32-true", "accelerator": "cpu", "threads": 1},
            "log": {"pictures_every": 2, "picture_clips": 2, "every_steps": 1},
            "epochs": 2,
            "steps_per_epoch": 2,
            "batch_size": 2,
            **changes,
        }

    return make


@pytest.fixture(scope="session")
def vqvae_config(settings: Callable[..., dict[str, Any]]) -> Callable[..., VQVAERunConfig]:
    return lambda out, **changes: VQVAERunConfig.model_validate({"model": VQVAE_SIZE, **settings(out, **changes)})


@pytest.fixture(scope="session")
def vqvae_run(tmp_path_factory: pytest.TempPathFactory, vqvae_config: Callable[..., VQVAERunConfig]) -> Path:
    """A finished run of a VQ-VAE."""
    config = vqvae_config(tmp_path_factory.mktemp("vqvae") / "run", keep="last")
    pretrain_vqvae(config)
    return config.out


@pytest.fixture(scope="session")
def prior_config(settings: Callable[..., dict[str, Any]], vqvae_run: Path) -> Callable[..., PriorRunConfig]:
    def make(out: Path, **changes: Any) -> PriorRunConfig:
        given = {"vqvae": vqvae_run, "model": PRIOR_SIZE, **settings(out, **changes)}
        return PriorRunConfig.model_validate({key: value for key, value in given.items() if value is not None})

    return make
