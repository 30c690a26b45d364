"""Soft shadows under a wide light, computed from what the camera sees: heights above the bin, smeared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from training.simulate.geometry import gaussian_matrix
from training.simulate.surfaces import Surface

if TYPE_CHECKING:
    from training.simulate.render import View

CELL = 0.01
ORIGIN = np.array([-0.55, -0.35])
CELLS = np.array([110, 120])
"""A map of the bin from above: metres per cell, its corner, and its size."""

LAYERS = ((0.0, 0.05, 1.3, 1.0), (0.05, 0.16, 3.0, 0.8), (0.16, 1.0, 7.0, 0.8))
"""Heights from and to (metres), blur (cells) and strength: the higher, the softer."""


@dataclass(frozen=True, slots=True)
class Eye:
    """A pinhole camera: where it is, its axes as columns (right, up, back), and its vertical opening in degrees."""

    pos: np.ndarray
    axes: np.ndarray
    fovy: float

    def points(self, depth: np.ndarray) -> np.ndarray:
        """World points [S,S,3] of a picture's pixels, given their depth [S,S] along the viewing axis."""
        size = len(depth)
        at = ((np.arange(size) + 0.5) / size * 2 - 1) * np.tan(np.deg2rad(self.fovy) / 2)
        right, up = np.meshgrid(at, -at)
        rays = np.stack([right, up, np.full_like(right, -1.0)], -1) @ self.axes.T
        world: np.ndarray = self.pos + depth[..., None] * rays
        return world


def soft_shadow(view: View, eye: Eye, lean: tuple[float, float], *, step: int = 4) -> np.ndarray:
    """How much of the light above is blocked at every pixel.

    Args:
        view: What the camera sees, [S,S].
        eye: The camera.
        lean: Metres by which a shadow moves per metre of height, x and y.
        step: Only every `step`-th pixel is looked at.

    Returns:
        Shares 0..1, float [S/step,S/step]; 0 on toys, the arm and what is outside the bin.
    """
    offset = step // 2
    surfaces, depth = (a[offset::step, offset::step] for a in (view.surfaces, view.depth))
    x, y, z = np.moveaxis(eye.points(depth), -1, 0)
    row = np.rint((x + z * lean[0] - ORIGIN[0]) / CELL).astype(int)
    column = np.rint((y + z * lean[1] - ORIGIN[1]) / CELL).astype(int)
    inside = (row >= 0) & (row < CELLS[0]) & (column >= 0) & (column < CELLS[1])
    casts = inside & (surfaces >= Surface.TOY)
    high, rows, columns = z[casts], row[casts], column[casts]
    clear = np.ones(CELLS)
    for bottom, top, sigma, strength in LAYERS:
        layer = (high >= bottom) & (high < top)
        covered = np.zeros(CELLS)
        covered[rows[layer], columns[layer]] = 1
        blurred = gaussian_matrix(CELLS[0], sigma) @ covered @ gaussian_matrix(CELLS[1], sigma).T
        clear *= 1 - strength * np.minimum(1, 1.4 * blurred)
    receives = inside & (surfaces >= Surface.FLOOR) & (surfaces <= Surface.PLATE)
    shade = np.zeros(surfaces.shape)
    shade[receives] = 1 - clear[row[receives], column[receives]]
    return shade
