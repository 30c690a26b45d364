"""What makes a step depend on nothing but the seed and its number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning.pytorch.callbacks import Callback

from training.schedule import lr_ratio

if TYPE_CHECKING:
    from collections.abc import Iterable

    import lightning
    from torch import nn

    from training.pretrain.config import AdamConfig


class SeededSteps(Callback):
    """Seeds PyTorch anew before every step: dropout and codebook restarts are then the same after resuming."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def on_train_batch_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Draw this step's seed; each process has its own."""
        sequence = np.random.SeedSequence([self._seed, trainer.global_step, trainer.global_rank])
        torch.manual_seed(int(sequence.generate_state(1, np.uint64)[0] >> 1))


def adam(parameters: Iterable[nn.Parameter], config: AdamConfig, steps: int) -> Any:
    """Adam over the parameters that train, with the learning rate a pure function of the step."""
    optimizer = torch.optim.Adam([p for p in parameters if p.requires_grad], lr=config.lr)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: lr_ratio(step, steps=steps, warmup_steps=config.warmup_steps, final_ratio=config.final_lr_ratio),
    )
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
