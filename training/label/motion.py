"""What moves: a scene's background without the robot, and how far each pixel is from it.

Axis letters: T frames of one scene, H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

MIN_FRAMES = 4
"""Fewer frames of a scene than this say nothing about what moves."""

BAND = 3
"""Rows below the upper border in which the robot enters the picture; BAIR's first row is black."""


@dataclass(frozen=True, slots=True)
class Scene:
    """Frames of one scene, seen by a camera that stands still.

    Attributes:
        frames: uint8 [T, H, W, 3], RGB.
        valid: bool [T, H, W]; False where something was painted over the picture.
    """

    frames: np.ndarray
    valid: np.ndarray


@dataclass(frozen=True, slots=True)
class Background:
    """A scene without what moves in it.

    Attributes:
        colour: float32 [H, W, 3].
        known: bool [H, W]; False where the robot never gave the view free.
        noise: Typical distance of a pixel from its background, grey levels; at least 1.
    """

    colour: np.ndarray
    known: np.ndarray
    noise: float

    def distance(self, frames: np.ndarray) -> np.ndarray:
        """How far frames uint8 [T, H, W, 3] are from the background, in units of its noise: float32 [T, H, W].

        The largest of the three channels counts; the noise never counts for less than 2 grey levels.
        """
        difference: np.ndarray = np.abs(frames.astype(np.float32) - self.colour).max(-1)
        return difference / max(self.noise, 2.0)


def background(scene: Scene, robot: np.ndarray) -> Background:
    """The median of each pixel over the frames in which the robot does not cover it.

    Args:
        scene: The frames.
        robot: bool [T, H, W], where the robot is thought to be; a margin of a pixel around it does not count either.
    """
    margin = np.stack([ndimage.binary_dilation(mask) for mask in robot])
    seen = scene.valid & ~margin
    values = np.where(seen[..., None], scene.frames.astype(np.float32), np.nan)
    known = seen.sum(0) >= min(MIN_FRAMES - 1, len(scene.frames))
    plain = np.median(scene.frames, axis=0).astype(np.float32)
    colour = plain.copy()
    colour[known] = np.nanmedian(values[:, known], axis=0)
    known &= len(scene.frames) >= MIN_FRAMES
    away = np.abs(scene.frames.astype(np.float32) - colour).max(-1)[seen & known]
    noise = float(np.median(away)) if len(away) else 1.0
    return Background(colour, known, max(1.0, noise))


def moving(scene: Scene, first: Background) -> np.ndarray:
    """What clearly moves and hangs together with the upper border, where the robot comes in: bool [T, H, W].

    Toys that were pushed move too, but do not reach the border; single noisy pixels are opened away.
    """
    far = (first.distance(scene.frames) > 6) & (np.abs(scene.frames - first.colour).max(-1) > 30) & scene.valid
    if len(scene.frames) < MIN_FRAMES:
        far[:] = False
    return np.stack([from_above(ndimage.binary_opening(mask, np.ones((2, 2)))) for mask in far])


def from_above(mask: np.ndarray) -> np.ndarray:
    """The connected parts of a mask bool [H, W] that reach the upper border.

    >>> from_above(np.array([[1, 0, 0], [1, 0, 1], [0, 0, 1], [0, 0, 0], [0, 0, 1]], bool)).astype(int).tolist()
    [[1, 0, 0], [1, 0, 1], [0, 0, 1], [0, 0, 0], [0, 0, 0]]
    """
    labels, _ = ndimage.label(mask, np.ones((3, 3)))
    reaching = np.setdiff1d(np.unique(labels[:BAND]), [0])
    return np.isin(labels, reaching)
