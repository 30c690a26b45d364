"""Where a run runs: what PyTorch and Lightning are told of threads, devices and nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lightning
import torch

if TYPE_CHECKING:
    from training.config import MachineConfig


def settled(config: MachineConfig) -> MachineConfig:
    """The same with the precision that `auto` comes to on this machine, so that a run's record says which."""
    if config.precision != "auto":
        return config
    return config.model_copy(update={"precision": "bf16-mixed" if computes_in_bfloat16(config) else "32-true"})


def computes_in_bfloat16(config: MachineConfig) -> bool:
    """Whether the device has instructions for bfloat16.

    Without them it is emulated, and dearer than float32: on a CPU with AVX2 alone a step of finetuning takes several
    times as long.
    """
    if _on_gpu(config):
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    has = torch.cpu.get_capabilities()
    return any(has.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def prepare(config: MachineConfig, seed: int) -> None:
    """Set this process's threads and the random numbers that it starts with."""
    if config.threads:
        torch.set_num_threads(config.threads)
    lightning.seed_everything(seed, verbose=False)


def _on_gpu(config: MachineConfig) -> bool:
    return config.accelerator == "gpu" or (config.accelerator == "auto" and torch.cuda.is_available())


def trainer_arguments(config: MachineConfig) -> dict[str, Any]:
    """The trainer's arguments for a machine whose precision is settled."""
    on_gpu = _on_gpu(config)
    return {
        "accelerator": "gpu" if on_gpu else "cpu",
        "devices": config.devices if config.devices > 0 or on_gpu else 1,
        "num_nodes": config.nodes,
        "precision": config.precision,
    }
