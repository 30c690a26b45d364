"""How good masks are: intersection over union of the robot pixels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Score(NamedTuple):
    """IoU over a data set.

    Attributes:
        mean: Mean over images of the per-image IoU, the figure that the paper reports.
        p5: 5th percentile over images.
        lowest: The worst image.
        dataset: IoU of all pixels of all images together.
        n: Images.
        sd: Standard deviation over images.
    """

    mean: float
    p5: float
    lowest: float
    dataset: float
    n: int
    sd: float

    def in_words(self) -> str:
        """What commands say at their end."""
        return f"mean IoU {self.mean:.4f}, 5th percentile {self.p5:.4f} on {self.n} held-out frames"


def per_image_iou(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """IoU of each image.

    Args:
        predicted: bool or 0/1 [N, H, W].
        truth: The same shape.

    Returns:
        float64 [N]; 1 where both masks are empty.

    >>> per_image_iou(np.array([[[1, 1]], [[0, 0]]]), np.array([[[0, 1]], [[0, 0]]]))
    array([0.5, 1. ])
    """
    p, t = predicted.astype(bool), truth.astype(bool)
    intersection = (p & t).sum((1, 2))
    union = (p | t).sum((1, 2))
    return np.where(union == 0, 1.0, intersection / np.maximum(union, 1))


def score(predicted: np.ndarray, truth: np.ndarray) -> Score:
    """Score masks [N, H, W] (bool or 0/1) against the truth; N >= 1."""
    iou = per_image_iou(predicted, truth)
    p, t = predicted.astype(bool), truth.astype(bool)
    return Score(
        mean=float(iou.mean()),
        p5=float(np.percentile(iou, 5)),
        lowest=float(iou.min()),
        dataset=float((p & t).sum() / max(1, (p | t).sum())),
        n=len(iou),
        sd=float(iou.std()),
    )


def score_by_quality(predicted: np.ndarray, truth: np.ndarray, quality: np.ndarray) -> dict[str, Score]:
    """Score each kind of picture by itself.

    Args:
        predicted: bool or 0/1 [N, H, W].
        truth: The same shape.
        quality: str [N], the kinds; "" where nobody says.

    Returns:
        Scores by kind, in the kinds' order; none if all frames are of one kind, of which the score of all says enough.

    >>> found = score_by_quality(np.ones((3, 2, 2)), np.ones((3, 2, 2)), np.array(["gif", "video", "gif"]))
    >>> {kind: (one.mean, one.n) for kind, one in found.items()}
    {'gif': (1.0, 2), 'video': (1.0, 1)}
    """
    kinds = sorted(set(quality.tolist()))
    if len(kinds) < 2:
        return {}
    return {kind: score(predicted[quality == kind], truth[quality == kind]) for kind in kinds}
