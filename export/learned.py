"""Which frames a model has learned from, so that nobody measures it on them without knowing."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from pydantic import ValidationError

from training.config import DataConfig
from training.data.frames import concatenate
from training.data.sides import read_sides

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from service.contract import Lineage
    from training.data.frames import FrameSet


class Learned(NamedTuple):
    """Frames that a model was trained on.

    Attributes:
        digests: One for each frame's pixels.
        known: Whether these are all of them; if not, its data are not at hand.
    """

    digests: frozenset[bytes]
    known: bool


def digests(frames: np.ndarray) -> list[bytes]:
    """One digest for each of the frames uint8 [N,64,64,3]; equal pixels have equal ones."""
    return [hashlib.blake2b(frame.tobytes(), digest_size=16).digest() for frame in frames]


def learned_by(lineage: Lineage | None, sets: Mapping[Path, FrameSet]) -> Learned:
    """What a model has learned from, worked out from its lineage and those of its data sets that are at hand.

    Args:
        lineage: The model's; None if it is not known.
        sets: Data sets that may be among its own; their hashes say so. Of equal ones the first counts.
    """
    at_hand: dict[str, Path] = {}
    for path, frames in sets.items():
        at_hand.setdefault(frames.sha256(), path)  # marks are no part of the hash: the first is the run's own
    if lineage is None or not lineage.data:
        return Learned(frozenset(), known=False)
    paths = [at_hand.get(source.sha256) for source in lineage.data]
    found = [path for path in paths if path is not None]
    if len(found) == len(paths):
        train = _trained_on(lineage, found)
        if train is not None:
            return Learned(frozenset(digests(train.frames)), known=True)
    # Without all of them the split cannot be made again: whatever is not marked to be held out may have been seen.
    seen = [sets[path].take(sets[path].split != "val") for path in found]
    return Learned(frozenset(d for frames in seen for d in digests(frames.frames)), known=False)


def unseen(frames: FrameSet, learned: Sequence[Learned]) -> FrameSet:
    """The frames of scenes of which none of the models has learned from a single frame."""
    seen = frozenset[bytes]().union(*(one.digests for one in learned))
    is_seen = np.array([digest in seen for digest in digests(frames.frames)], bool)
    return frames.take(~np.isin(frames.scene, frames.scene[is_seen]))


def _trained_on(lineage: Lineage, paths: Sequence[Path]) -> FrameSet | None:
    """The training side of a run's split, made again; None if this version cannot."""
    told = lineage.config.get("data")
    if not isinstance(told, dict) or lineage.seed is None:
        return None
    train = told.get("train")
    n_train = len(train) if isinstance(train, list) else 0
    try:
        val = paths[-1] if told.get("val") else None
        config = DataConfig.model_validate({**told, "train": paths[:n_train], "val": val})
        return concatenate(list(read_sides(config, lineage.seed).train))
    except (ValidationError, ValueError):
        return None
