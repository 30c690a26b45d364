"""In which order clips are seen: pure functions of a seed and a position, so that resuming needs no replay.

Positions count samples from 0 over the whole run and all processes.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

MIXED_TOGETHER = 1024
"""Positions within which the sources of a mixture change places at random."""

SHARDS_TOGETHER = 4
"""Files whose clips are shuffled together."""


class Turn(NamedTuple):
    """Which source's turn it is, and how many turns it has had before."""

    source: int
    place: int


def mixture_turn(position: int, shares: Sequence[float], seed: int) -> Turn:
    """The source of a sample; over any stretch sources appear by their shares, within it at random.

    Args:
        position: The sample's, from 0.
        shares: Weight of each source; they need not sum to one.
        seed: Decides the order within each stretch of `MIXED_TOGETHER` samples.
    """
    block, within = divmod(position, MIXED_TOGETHER)
    index = block * MIXED_TOGETHER + int(_block_order(seed, block)[within])
    rest = float(sum(shares))
    for source, share in enumerate(shares[:-1]):
        before, after = int(index * (share / rest)), int((index + 1) * (share / rest))
        if after > before:
            return Turn(source, before)
        index -= before
        rest -= share
    return Turn(len(shares) - 1, index)


@lru_cache(maxsize=8)
def _block_order(seed: int, block: int) -> np.ndarray:
    return np.random.default_rng([seed, block, 1]).permutation(MIXED_TOGETHER)


class ShuffledTracks:
    """Pass after pass over tracks, each pass in a new order in which tracks of one file stay near one another.

    Files are shuffled, then the clips of each `SHARDS_TOGETHER` files among themselves: what a shuffle buffer does to a
    stream, but any place can be asked for.

    Args:
        shards: The file of each track.
        repeats: How often a pass visits each track: long tracks hold several clips.
        seed: Decides the orders.
    """

    def __init__(self, shards: Sequence[int], repeats: Sequence[int], seed: int) -> None:
        self._shards = np.repeat(np.asarray(shards), repeats)
        self._tracks = np.repeat(np.arange(len(shards)), repeats)
        self._seed = seed
        self._pass_orders: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        """Places in a pass."""
        return len(self._tracks)

    def __getitem__(self, place: int) -> int:
        """The track at a place >= 0 of the endless sequence."""
        turn, within = divmod(place, len(self))
        if turn not in self._pass_orders:
            self._pass_orders = {k: v for k, v in self._pass_orders.items() if k >= turn - 1}
            self._pass_orders[turn] = self._pass_order(turn)
        return int(self._tracks[self._pass_orders[turn][within]])

    def _pass_order(self, turn: int) -> np.ndarray:
        rng = np.random.default_rng([self._seed, turn, 2])
        files = rng.permutation(np.unique(self._shards))
        by_file = np.argsort(self._shards, kind="stable")
        bounds = (
            np.searchsorted(self._shards[by_file], files, "left"),
            np.searchsorted(self._shards[by_file], files, "right"),
        )
        pieces = [by_file[a:b] for a, b in zip(*bounds, strict=True)]
        groups = [pieces[i : i + SHARDS_TOGETHER] for i in range(0, len(pieces), SHARDS_TOGETHER)]
        return np.concatenate([rng.permutation(np.concatenate(group)) for group in groups])
