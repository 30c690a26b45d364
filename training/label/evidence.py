"""How much a pixel looks like the robot: colour, distance from the background, and place.

All three are learnt from what is thought to be the robot so far, over all scenes; none knows what a robot looks like
beforehand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from training.label.motion import Background, Scene

LEVELS = 16
"""Bins of each colour channel."""

REACH = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, np.inf])
"""Bins of the distance from the background, in units of the noise."""

OWN_SHARE = 0.2
"""How much a scene's own colours count beside those of all scenes."""


SAME = 6
"""Pixels within this distance of their background, in units of the noise, are it."""

ALWAYS = 0.93
"""A pixel that is its background in more than this share of frames never has the robot before it."""


NEIGHBOURS = 2
"""So many frames before and after a frame speak for its pixels too."""

ALIKE = 30.0
"""Grey levels by which a pixel may change from frame to frame and still be thought to show the same thing."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Log ratios of likelihoods, robot to background.

    Attributes:
        robot: Probability of each colour bin on the robot, float [16, 16, 16].
        others: The same elsewhere.
        reach: Of each bin of distance, float [13].
        place: Of each pixel, float [H, W].
    """

    robot: np.ndarray
    others: np.ndarray
    reach: np.ndarray
    place: np.ndarray


def bins(frames: np.ndarray) -> np.ndarray:
    """The colour bin of each pixel: uint8 [..., 3] to int [...]."""
    q = (frames // (256 // LEVELS)).astype(np.int32)
    flat: np.ndarray = (q[..., 0] * LEVELS + q[..., 1]) * LEVELS + q[..., 2]
    return flat


def histogram(flat: np.ndarray) -> np.ndarray:
    """Smoothed probability of each colour bin, float [16, 16, 16]."""
    counts = np.bincount(flat, minlength=LEVELS**3).astype(float).reshape((LEVELS,) * 3)
    smooth: np.ndarray = ndimage.gaussian_filter(counts, 0.7, mode="nearest") + 1e-6
    share: np.ndarray = smooth / smooth.sum()
    return share


def learn(scenes: Sequence[Scene], backgrounds: Sequence[Background], robots: Sequence[np.ndarray]) -> Evidence:
    """Learn from where the robot is thought to be, bool [T, H, W] for each scene.

    Scenes in which nothing was found do not count.
    """
    robot, others, near, far = [], [], [], []
    place = np.zeros(scenes[0].frames.shape[1:3])
    n_frames = 0
    for scene, ground, mask in zip(scenes, backgrounds, robots, strict=True):
        if not mask.any():
            continue
        outside = scene.valid & ~np.stack([ndimage.binary_dilation(m, iterations=2) for m in mask])
        colour = bins(scene.frames)
        robot.append(colour[mask & scene.valid])
        others.append(colour[outside])
        place += mask.sum(0)
        n_frames += len(mask)
        distance = np.digitize(ground.distance(scene.frames), REACH[1:-1])
        near.append(distance[outside & ground.known])
        far.append(distance[mask & ground.known & scene.valid])
    counts = [np.bincount(np.concatenate(x), minlength=len(REACH) - 1) + 1.0 for x in (far, near)]
    reach = np.log(counts[0] / counts[0].sum()) - np.log(counts[1] / counts[1].sum())
    there = ndimage.gaussian_filter(place / n_frames, 3, mode="nearest")
    there = 0.5 * (there + there[:, ::-1])  # where the arm happened to go must not decide between left and right
    there = np.clip(there, 2e-3, 0.5)
    odds = np.log(there / (1 - there))
    odds -= odds.max()  # the likeliest place says nothing: at first little of the robot is found anywhere
    return Evidence(histogram(np.concatenate(robot)), histogram(np.concatenate(others)), reach, odds)


def ratio(scene: Scene, ground: Background, robot: np.ndarray, evidence: Evidence, weights: Weights) -> np.ndarray:
    """Log ratio of each pixel, robot to background: float [T, H, W]; positive where the robot is likelier.

    Args:
        scene: The frames.
        ground: Their background.
        robot: bool [T, H, W], what is thought so far, for the scene's own colours.
        evidence: What was learnt.
        weights: How much each kind counts.
    """
    on, off = evidence.robot, evidence.others
    if OWN_SHARE and robot.sum() > 500:  # fewer pixels say too little about a scene's own colours
        colour = bins(scene.frames)
        outside = scene.valid & ~np.stack([ndimage.binary_dilation(m, iterations=2) for m in robot])
        on = (1 - OWN_SHARE) * on + OWN_SHARE * histogram(colour[robot & scene.valid])
        off = (1 - OWN_SHARE) * off + OWN_SHARE * histogram(colour[outside])
    of_bin = np.clip(np.log(on.ravel()) - np.log(off.ravel()), -6, 6)
    by_colour = of_bin[bins(scene.frames)]
    distance = ground.distance(scene.frames)
    by_motion = np.clip(evidence.reach[np.digitize(distance, REACH[1:-1])], -5, 5)
    # Where the robot stood so long that the background itself looks like it, what differs is what it uncovered, and
    # what does not differ may be the robot as well as not. What looks like it but never changes is something else.
    lingers = of_bin[bins(ground.colour.astype(np.uint8))] > 0
    lingers &= (distance < SAME).mean(0) < ALWAYS
    by_motion = np.where(lingers, -np.maximum(by_motion, 0), by_motion)
    by_motion = np.where(ground.known, by_motion, 0)
    total: np.ndarray = weights.colour * by_colour + weights.motion * by_motion + weights.place * evidence.place
    total[~scene.valid] = (weights.place * np.broadcast_to(evidence.place, total.shape))[~scene.valid]
    return total


def steady(frames: np.ndarray, log_ratio: np.ndarray) -> np.ndarray:
    """Let what a pixel shows in neighbouring frames speak for it too, the more the less its colour changes.

    What is robot in one frame is robot in the next where the picture stays as it is; where it changes, the robot may
    have come or gone.

    Args:
        frames: uint8 [T, H, W, 3], in time order.
        log_ratio: float [T, H, W], of each frame on its own.

    Returns:
        float [T, H, W], the weighted mean over frames.
    """
    colour = frames.astype(np.float32)
    total, weight = log_ratio.copy(), np.ones_like(log_ratio)
    for step in range(1, min(NEIGHBOURS, len(frames) - 1) + 1):
        alike = np.exp(-((np.abs(colour[step:] - colour[:-step]).max(-1) / ALIKE) ** 2))
        total[step:] += alike * log_ratio[:-step]
        total[:-step] += alike * log_ratio[step:]
        weight[step:] += alike
        weight[:-step] += alike
    mean: np.ndarray = total / weight
    return mean


@dataclass(frozen=True, slots=True)
class Weights:
    """How much each kind of evidence counts, and how much neighbours want to agree."""

    colour: float = 0.8
    motion: float = 0.6
    place: float = 0.9
    smooth: float = 4.0
