"""Rotations as quaternions w, x, y, z, and small matrices."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.random import Generator


def turn(axis: tuple[float, float, float], radians: float) -> np.ndarray:
    """The rotation about an axis of any length.

    >>> turn((0, 0, 2), np.pi).round(3).tolist()
    [0.0, 0.0, 0.0, 1.0]
    """
    direction = np.asarray(axis, float) / np.linalg.norm(axis)
    return np.concatenate([[np.cos(radians / 2)], np.sin(radians / 2) * direction])


def times(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The rotation `b` followed by `a`."""
    w, v, x, u = a[0], a[1:], b[0], b[1:]
    return np.concatenate([[w * x - v @ u], w * u + x * v + np.cross(v, u)])


def matrix(quat: np.ndarray) -> np.ndarray:
    """The rotation as a matrix [3,3].

    >>> matrix(turn((0, 0, 1), np.pi / 2)).round(3).tolist()
    [[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    w, x, y, z = quat
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def any_rotation(rng: Generator) -> np.ndarray:
    """A rotation drawn evenly from all."""
    quat = rng.standard_normal(4)
    return quat / np.linalg.norm(quat)


def direction(rng: Generator) -> np.ndarray:
    """A unit vector drawn evenly from all directions."""
    v = rng.standard_normal(3)
    return v / np.linalg.norm(v)


@lru_cache(maxsize=32)
def gaussian_matrix(n: int, sigma: float) -> np.ndarray:
    """The matrix [n,n] that blurs n samples by `sigma` samples, its rows adding to one; not to be written to.

    >>> gaussian_matrix(3, 0.5).sum(1).round(6).tolist()
    [1.0, 1.0, 1.0]
    """
    at = np.arange(n)
    weights: np.ndarray = np.exp(-0.5 * ((at[:, None] - at[None, :]) / max(sigma, 1e-3)) ** 2)
    weights /= weights.sum(1, keepdims=True)
    weights.flags.writeable = False
    return weights
