"""Frames that a model has not learned from, neither itself nor what it started from: only those say how good it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from export.learned import learned_by, unseen

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from export.sources import Source
    from training.data.frames import FrameSet

__all__ = ["Fresh", "fresh_frames"]


class Fresh(NamedTuple):
    """What is left of some frames.

    Attributes:
        frames: Those of scenes from which the model has learned nothing, as far as that is known; may be none.
        known: Whether it is known of all that it came from. If not, some of the frames may be among it.
    """

    frames: FrameSet
    known: bool


def fresh_frames(source: Source, frames: FrameSet, sets: Mapping[Path, FrameSet]) -> Fresh:
    """Leave out the frames that a model may know.

    Args:
        source: The model.
        frames: Labelled frames.
        sets: Data sets that may be among those that it has learned from, by their paths.
    """
    theirs = [learned_by(lineage, sets) for lineage in (source.lineage, *source.ancestry.lineages)]
    fresh = unseen(frames, theirs)
    # What a run noted when it began it knows even if the models that it started from are not at hand any more.
    fresh = fresh.take(~np.isin(fresh.scene, list(source.known_scenes)))
    return Fresh(fresh, source.ancestry.whole and all(one.known for one in theirs))
