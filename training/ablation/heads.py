"""Trains a head on cached latents: what makes a frozen row cost seconds."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from training.averaging import decay_at
from training.finetune import loss_of, make_optimizer

if TYPE_CHECKING:
    from training.ablation.latents import Cached
    from training.config import OptimConfig

BATCH = 32


class Standardise(nn.Module):
    """Brings every channel of frozen latents to mean 0 and spread 1, as measured on what is learnt from.

    A fixed scale and shift: it adds nothing that a linear layer could not learn, but lets it learn.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, latents: np.ndarray) -> None:
        super().__init__()
        values = torch.from_numpy(latents.astype(np.float32)).flatten(0, 2)
        self.register_buffer("mean", values.mean(0))
        self.register_buffer("spread", values.std(0).clamp(min=1e-4))

    def forward(self, latents: Tensor) -> Tensor:
        """[B, H, W, D] -> the same shape."""
        return (latents - self.mean) / self.spread


def train_head(
    head: nn.Module,
    cached: Cached,
    rows: np.ndarray,
    optim: OptimConfig,
    *,
    steps: int,
    batch_size: int,
    seed: int,
    standardised: bool = True,
) -> nn.Module:
    """Train a head, with the encoder's latents as given.

    Args:
        head: Latents [B, H, W, D] to logits [B, 64, 64]; changed in place.
        cached: Latents and masks of all frames and copies.
        rows: int [n], which frames to learn from.
        optim: Optimiser, schedule and loss.
        steps: Optimiser steps.
        batch_size: Frames a step, each in a copy drawn at random.
        seed: Of the draws.
        standardised: Whether the head sees standardised latents, or latents as they are.

    Returns:
        The moving average of the head's weights, in evaluation mode, behind the standardisation if there is one.
    """
    scale = Standardise(cached.latents[0][rows]) if standardised else nn.Identity()
    average = copy.deepcopy(head)
    optimizer, schedule = make_optimizer([(head.train(), 1.0)], optim, steps)
    for step in range(steps):
        rng = np.random.default_rng([seed, step])
        chosen, copies = rng.choice(rows, batch_size), rng.integers(0, len(cached.latents), batch_size)
        latents = np.stack([cached.latents[c][i] for c, i in zip(copies, chosen, strict=True)]).astype(np.float32)
        masks = torch.from_numpy(cached.masks[copies, chosen])
        loss = loss_of(optim, head(scale(torch.from_numpy(latents))), masks)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call] # torch's own
        nn.utils.clip_grad_norm_(head.parameters(), optim.clip_norm)
        optimizer.step()
        schedule.step()
        follow(average, head, decay_at(step, optim.ema_decay))
    return nn.Sequential(scale, average).eval() if standardised else average.eval()


@torch.no_grad()
def follow(average: nn.Module, module: nn.Module, decay: float) -> None:
    """Move the averaged weights and statistics towards those of the module."""
    for mean, value in zip(average.state_dict().values(), module.state_dict().values(), strict=True):
        if mean.dtype.is_floating_point:
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)


def predict_latents(network: nn.Module, latents: np.ndarray) -> np.ndarray:
    """Masks bool [N, 64, 64] at probability 0.5 from latents [N, H, W, D]."""
    with torch.inference_mode():
        parts = [
            (network(torch.from_numpy(latents[i : i + BATCH].astype(np.float32))) > 0).numpy()
            for i in range(0, len(latents), BATCH)
        ]
    return np.concatenate(parts)
