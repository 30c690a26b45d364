"""Which samples of an endless sequence an epoch and a process take: a function of the step alone, so runs resume."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.utils.data import Sampler

if TYPE_CHECKING:
    from collections.abc import Iterator


class StretchSampler(Sampler[int]):
    """The positions of an epoch that belong to one process; the trainer calls `set_epoch`.

    A step takes the next `batch_size * world` positions; each process takes every `world`-th of them.
    """

    def __init__(self, batch_size: int, steps_per_epoch: int, *, rank: int, world: int) -> None:
        self._samples = batch_size * steps_per_epoch
        self._rank = rank
        self._world = world
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, counted from 0."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._samples

    def __iter__(self) -> Iterator[int]:
        first = self._epoch * self._samples * self._world
        return iter(range(first + self._rank, first + self._samples * self._world, self._world))
