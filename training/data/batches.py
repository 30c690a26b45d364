"""Batches whose content depends only on the seed and the step, so that a resumed run sees what it would have seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from training.data.augment import augment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from training.config import AugmentConfig
    from training.data.frames import FrameSet


class Samples(Dataset[tuple[Tensor, Tensor]]):
    """An endless sequence: pass after pass over the frames, each in a new order and with new variations."""

    def __init__(self, frames: FrameSet, config: AugmentConfig, seed: int) -> None:
        self.frames = frames
        self.config = config
        self.seed = seed

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Sample `index` >= 0: frame uint8 [64,64,3], mask uint8 [64,64]."""
        turn, place = divmod(index, len(self.frames))
        row = np.random.default_rng([self.seed, turn]).permutation(len(self.frames))[place]
        rng = np.random.default_rng([self.seed, turn, place])
        frame, mask = augment(self.frames.frames[row], self.frames.masks[row], self.config, rng)
        return torch.from_numpy(frame.copy()), torch.from_numpy(mask.copy())


class EpochSampler(Sampler[int]):
    """The stretch of the endless sequence that belongs to an epoch; the trainer calls `set_epoch`."""

    def __init__(self, samples_per_epoch: int) -> None:
        self.samples_per_epoch = samples_per_epoch
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, counted from 0."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.samples_per_epoch

    def __iter__(self) -> Iterator[int]:
        start = self.epoch * self.samples_per_epoch
        return iter(range(start, start + self.samples_per_epoch))


class Still(Dataset[tuple[Tensor, Tensor]]):
    """The frames as they are, for evaluation."""

    def __init__(self, frames: FrameSet) -> None:
        self.frames = frames

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Frame uint8 [64,64,3] and mask uint8 [64,64]."""
        return torch.from_numpy(self.frames.frames[index]), torch.from_numpy(self.frames.masks[index])


def train_loader(
    frames: FrameSet, config: AugmentConfig, *, seed: int, batch_size: int, steps_per_epoch: int
) -> DataLoader[tuple[Tensor, Tensor]]:
    """Batches (frames uint8 [B,64,64,3], masks uint8 [B,64,64]), `steps_per_epoch` an epoch."""
    sampler = EpochSampler(batch_size * steps_per_epoch)
    return DataLoader(Samples(frames, config, seed), batch_size, sampler=sampler)


def val_loader(frames: FrameSet, batch_size: int) -> DataLoader[tuple[Tensor, Tensor]]:
    """Every frame once, in order."""
    return DataLoader(Still(frames), batch_size)
