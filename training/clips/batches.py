"""Batches of clips whose content depends only on the seed, the step and the number of processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from training.clips.augment import augment_clip
from training.clips.order import ShuffledTracks, mixture_turn
from training.clips.source import to_square

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch.utils.data import Sampler

    from training.clips.reading import Sides
    from training.clips.source import ClipSource
    from training.pretrain.config import ClipAugmentConfig


class Part(NamedTuple):
    """A source in a mixture."""

    source: ClipSource
    sides: Sides
    share: float
    """Its weight among the samples."""


class ClipShape(NamedTuple):
    """What a clip is."""

    n_frames: int
    size: int
    """Height and width."""


class TrainClips(Dataset[Tensor]):
    """An endless sequence of clips: sources by their shares, tracks in shuffled passes, random windows, variations."""

    def __init__(self, parts: Sequence[Part], shape: ClipShape, augment: ClipAugmentConfig, seed: int) -> None:
        self._parts = list(parts)
        self._shape = shape
        self._augment = augment
        self._seed = seed
        self._orders = [_order(part, shape.n_frames, seed) for part in parts]

    def __getitem__(self, position: int) -> Tensor:
        """The clip at a position >= 0: uint8 [T, H, W, 3]."""
        turn = mixture_turn(position, [part.share for part in self._parts], self._seed)
        part = self._parts[turn.source]
        index = part.sides.train[self._orders[turn.source][turn.place]]
        rng = np.random.default_rng([self._seed, position])
        start = int(rng.integers(part.source.tracks[index].n_frames - self._shape.n_frames + 1))
        clip = to_square(part.source.read(index, start, self._shape.n_frames), self._shape.size)
        return torch.from_numpy(augment_clip(clip, self._augment, rng))


class HeldOutClips(Dataset[Tensor]):
    """Held-out clips as they are: the middle of tracks at equal distances, at most `n_clips` from each source."""

    def __init__(self, parts: Sequence[Part], shape: ClipShape, n_clips: int) -> None:
        self._shape = shape
        self._chosen: list[tuple[ClipSource, int]] = []
        for source, (_, val, _), _ in parts:
            places = np.linspace(0, len(val) - 1, min(n_clips, len(val))).round().astype(int)
            self._chosen += [(source, val[place]) for place in places]

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, index: int) -> Tensor:
        """Clip uint8 [T, H, W, 3]."""
        source, track = self._chosen[index]
        start = (source.tracks[track].n_frames - self._shape.n_frames) // 2
        clip = to_square(source.read(track, start, self._shape.n_frames), self._shape.size)
        return torch.from_numpy(np.array(clip))


def loader(
    clips: Dataset[Tensor], batch_size: int, *, workers: int, sampler: Sampler[int] | None = None
) -> DataLoader[Tensor]:
    """Batches uint8 [B, T, H, W, 3]; without a sampler, every clip once and in order."""
    return DataLoader(
        clips,
        batch_size,
        sampler=sampler,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
    )


def _order(part: Part, n_frames: int, seed: int) -> ShuffledTracks:
    tracks = [part.source.tracks[i] for i in part.sides.train]
    return ShuffledTracks([t.shard for t in tracks], [t.n_frames // n_frames for t in tracks], seed)
