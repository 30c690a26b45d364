"""The labelled frames of a run, as Lightning asks for them: each process learns from its own share of every step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lightning

from training.data.batches import train_loader, val_loader

if TYPE_CHECKING:
    from torch import Tensor
    from torch.utils.data import DataLoader

    from training.config import TrainConfig
    from training.data.splits import Sides


class LabelledFrames(lightning.LightningDataModule):
    """Frames with masks to learn from, and held-out ones.

    Every process measures on all frames that are held out, for a mean over shares of them would not be the mean of all.

    Args:
        sides: The frames.
        config: The run.
        val_batch: Held-out frames at a time.
    """

    def __init__(self, sides: Sides, config: TrainConfig, val_batch: int) -> None:
        super().__init__()
        self._sides = sides
        self._config = config
        self._val_batch = val_batch

    def train_dataloader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        """Batches (frames uint8 [B,64,64,3], masks uint8 [B,64,64]), `steps_per_epoch` an epoch."""
        if self.trainer is None:
            raise RuntimeError("frames are shared out between the processes of a trainer: attach one first")
        return train_loader(
            self._sides.train,
            self._config.augment,
            shares=self._config.data.shares,
            seed=self._config.seed,
            batch_size=self._config.batch_size,
            steps_per_epoch=self._config.steps_per_epoch,
            rank=self.trainer.global_rank,
            world=self.trainer.world_size,
        )

    def val_dataloader(self) -> list[DataLoader[tuple[Tensor, Tensor]]]:
        """Held-out frames as they are; none if none are held out."""
        return [val_loader(self._sides.val, self._val_batch)] if len(self._sides.val) else []
