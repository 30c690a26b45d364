"""Batches whose content depends only on the seed and the step, so that a resumed run sees what it would have seen."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from training.data.augment import augment
from training.data.frames import concatenate
from training.sampler import StretchSampler

if TYPE_CHECKING:
    from collections.abc import Sequence

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


class SharedSamples(Dataset[tuple[Tensor, Tensor]]):
    """Several endless sequences woven into one, each data set with its share of every stretch of it."""

    def __init__(self, sets: Sequence[FrameSet], shares: Sequence[float], config: AugmentConfig, seed: int) -> None:
        seeds = np.random.SeedSequence(seed).generate_state(len(sets), np.uint32)
        self.sequences = [Samples(frames, config, int(own)) for frames, own in zip(sets, seeds, strict=True)]
        self.shares = tuple(shares)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Sample `index` >= 0: frame uint8 [64,64,3], mask uint8 [64,64]."""
        which, place = weave(index, self.shares)
        return self.sequences[which][place]


def weave(index: int, shares: Sequence[float]) -> tuple[int, int]:
    """Which of several sequences gives sample `index` >= 0, and its place in that sequence.

    The last sequence takes its share of the samples, as evenly as whole numbers allow; the others share what is left.

    >>> [weave(i, (1, 3)) for i in range(5)]
    [(0, 0), (1, 0), (1, 1), (1, 2), (0, 1)]
    """
    for which in range(len(shares) - 1, 0, -1):
        share = shares[which] / sum(shares[: which + 1])
        before = math.floor(index * share)
        if math.floor((index + 1) * share) > before:
            return which, before
        index -= before
    return 0, index


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
    sets: Sequence[FrameSet],
    config: AugmentConfig,
    *,
    shares: Sequence[float] = (),
    seed: int,
    batch_size: int,
    steps_per_epoch: int,
    rank: int = 0,
    world: int = 1,
) -> DataLoader[tuple[Tensor, Tensor]]:
    """Batches (frames uint8 [B,64,64,3], masks uint8 [B,64,64]), `steps_per_epoch` an epoch.

    Args:
        sets: The data sets; empty ones are allowed where there are no shares.
        config: How frames are varied.
        shares: Weight of each data set among the samples; without them all frames weigh the same.
        seed: Of order and variations.
        batch_size: B.
        steps_per_epoch: Batches.
        rank: Which of the processes that train together this one is, from 0.
        world: How many they are; a step takes B samples for each.

    Raises:
        ValueError: No frames, or a share for a data set without any.
    """
    sizes = [len(frames) for frames in sets]
    if sum(sizes) == 0 or (shares and min(sizes) == 0):
        raise ValueError(f"expected frames to learn from in every data set that has a share, found {sizes}")
    samples = SharedSamples(sets, shares, config, seed) if shares else Samples(concatenate(list(sets)), config, seed)
    sampler = StretchSampler(batch_size, steps_per_epoch, rank=rank, world=world)
    return DataLoader(samples, batch_size, sampler=sampler)


def val_loader(frames: FrameSet, batch_size: int) -> DataLoader[tuple[Tensor, Tensor]]:
    """Every frame once, in order."""
    return DataLoader(Still(frames), batch_size)
