"""The clips of a run, as Lightning asks for them: each process reads its own share of every step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lightning
import numpy as np
import torch
from torch.utils.data import DistributedSampler

from training.clips.batches import ClipShape, HeldOutClips, Part, TrainClips, loader
from training.clips.reading import open_clips, put_on_sides
from training.clips.source import fingerprint
from training.data.readers import DatasetError
from training.sampler import StretchSampler

if TYPE_CHECKING:
    from torch import Tensor
    from torch.utils.data import DataLoader, Sampler

    from training.pretrain.config import ClipDataConfig, PretrainConfig


def open_parts(config: ClipDataConfig, n_frames: int, seed: int) -> list[Part]:
    """Open the data sets of a run and hold out scenes.

    Raises:
        DatasetError: One of them cannot be read, or has no clips of `n_frames`, or a scene stands on both sides.
    """
    sources = [open_clips(path) for path in config.clips]
    if config.shares and len(config.shares) != len(sources):
        raise DatasetError(f"expected {len(config.shares)} data sets of clips, as many as shares, got {len(sources)}")
    shares = config.shares or (1.0,) * len(sources)
    parts = [
        Part(source, put_on_sides(source, n_frames, val_fraction=config.val_fraction, seed=seed), share)
        for source, share in zip(sources, shares, strict=True)
    ]
    if not any(part.sides.val for part in parts):
        raise DatasetError(
            f"{', '.join(str(path) for path in config.clips)}: expected clips of two scenes or more, so that some can "
            "be held out, found one"
        )
    return parts


def describe(parts: list[Part]) -> list[dict[str, Any]]:
    """What a run record says of its data: names, numbers, hashes, and the scenes that were held out."""
    return [
        {
            "name": part.source.path.name,
            "share": part.share,
            "train_tracks": len(part.sides.train),
            "val_tracks": len(part.sides.val),
            "too_short_tracks": part.sides.n_short,
            "val_scenes": sorted({part.source.tracks[i].scene for i in part.sides.val}),
            **fingerprint(part.source.files)._asdict(),
        }
        for part in parts
    ]


class ClipData(lightning.LightningDataModule):
    """Training and held-out clips."""

    def __init__(self, parts: list[Part], shape: ClipShape, config: PretrainConfig) -> None:
        super().__init__()
        self._config = config
        self._train = TrainClips(parts, shape, config.augment, config.seed)
        self.held_out = HeldOutClips(parts, shape, config.data.val_clips)

    def train_dataloader(self) -> DataLoader[Tensor]:
        """Batches uint8 [B, T, H, W, 3], `steps_per_epoch` an epoch."""
        trainer = self._running()
        sampler = StretchSampler(
            self._config.batch_size, self._config.steps_per_epoch, rank=trainer.global_rank, world=trainer.world_size
        )
        return loader(self._train, self._config.batch_size, workers=self._config.data.workers, sampler=sampler)

    def val_dataloader(self) -> DataLoader[Tensor]:
        """Held-out clips; with several processes each takes its share, the last ones repeated to even them out."""
        trainer = self._running()
        sampler: Sampler[int] | None = None
        if trainer.world_size > 1:
            sampler = DistributedSampler(self.held_out, trainer.world_size, trainer.global_rank, shuffle=False)
        return loader(self.held_out, self._config.batch_size, workers=0, sampler=sampler)

    def some_held_out(self, n: int) -> Tensor:
        """Held-out clips at equal distances, at most n: uint8 [B, T, H, W, 3]."""
        places = np.linspace(0, len(self.held_out) - 1, min(n, len(self.held_out))).round().astype(int)
        return torch.stack([self.held_out[place] for place in places.tolist()])

    def _running(self) -> lightning.Trainer:
        if self.trainer is None:
            raise RuntimeError("clips are shared out between the processes of a trainer: attach one first")
        return self.trainer
