"""Where a run runs: what PyTorch and Lightning are told of threads, devices and nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lightning
import torch

if TYPE_CHECKING:
    from training.config import MachineConfig


def prepare(config: MachineConfig, seed: int) -> None:
    """Set this process's threads and the random numbers that it starts with."""
    if config.threads:
        torch.set_num_threads(config.threads)
    lightning.seed_everything(seed, verbose=False)


def trainer_arguments(config: MachineConfig) -> dict[str, Any]:
    """The trainer's arguments for a machine."""
    on_gpu = config.accelerator == "gpu" or (config.accelerator == "auto" and torch.cuda.is_available())
    return {
        "accelerator": "gpu" if on_gpu else "cpu",
        "devices": config.devices if config.devices > 0 or on_gpu else 1,
        "num_nodes": config.nodes,
        "precision": config.precision,
    }
