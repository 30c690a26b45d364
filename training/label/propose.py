"""Masks of a robot proposed from motion alone.

Common fate: what moves together belongs together. Over a scene the background is what stays; what differs from it and
hangs down from the upper border is the robot. From those pixels its colours and its places are learnt, over all scenes
together, and every frame is cut anew with what was learnt; so are frames in which nothing moves. Neighbouring frames
speak for each other where the picture stays as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage
from tqdm import tqdm

from training.label.cut import cut
from training.label.evidence import Weights, learn, ratio, steady
from training.label.motion import background, from_above, moving

if TYPE_CHECKING:
    from collections.abc import Sequence

    from training.label.motion import Scene

LEAST_PIXELS = 8
"""Smaller parts are not worth proposing."""


class NothingMoves(ValueError):  # noqa: N818 - reads as what happened
    """There is nothing to learn a robot from."""


def propose(scenes: Sequence[Scene], weights: Weights, rounds: int) -> list[np.ndarray]:
    """Propose masks for all frames of all scenes.

    Args:
        scenes: Frames of equal size, by scene.
        weights: How much each kind of evidence counts.
        rounds: How often to learn before the final cut; at least 1.

    Returns:
        bool [T, H, W] for each scene.

    Raises:
        NothingMoves: In no scene does anything reach into the picture and move.
    """
    nothing = [np.zeros(scene.valid.shape, bool) for scene in scenes]
    grounds = [background(scene, mask) for scene, mask in zip(scenes, nothing, strict=True)]
    robots = [moving(scene, ground) for scene, ground in zip(scenes, grounds, strict=True)]
    ratios: list[np.ndarray] = []
    for _ in range(rounds):
        if not any(mask.any() for mask in robots):
            raise NothingMoves("expected something that moves and reaches in from above, found nothing in any scene")
        grounds = [background(scene, mask) for scene, mask in zip(scenes, robots, strict=True)]
        evidence = learn(scenes, grounds, robots)
        ratios = [
            steady(scene.frames, ratio(scene, ground, mask, evidence, weights))
            for scene, ground, mask in zip(scenes, grounds, robots, strict=True)
        ]
        # Good enough to learn from, and a hundred times as fast as a cut.
        robots = [np.stack([tidy(ndimage.gaussian_filter(r, 0.7) > 0) for r in of_scene]) for of_scene in ratios]
    pairs = list(zip(scenes, ratios, strict=True))
    return [
        np.stack([tidy(cut(r, f, weights.smooth)) for r, f in zip(of_scene, scene.frames, strict=True)])
        for scene, of_scene in tqdm(pairs, desc="scenes", unit="scene", leave=False)
    ]


def tidy(mask: np.ndarray) -> np.ndarray:
    """Keep what reaches the upper border and is not tiny, and fill holes of a few pixels: bool [H, W]."""
    kept = from_above(mask)
    labels, n = ndimage.label(kept, np.ones((3, 3)))
    sizes = ndimage.sum_labels(kept, labels, np.arange(1, n + 1))
    kept = np.isin(labels, 1 + np.flatnonzero(sizes >= LEAST_PIXELS))
    holes, n = ndimage.label(~kept)
    areas = ndimage.sum_labels(~kept, holes, np.arange(1, n + 1))
    return kept | np.isin(holes, 1 + np.flatnonzero(areas <= 6))
