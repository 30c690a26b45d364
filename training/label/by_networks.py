"""Masks proposed by networks that have learnt from labels, for frames that have none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from training.area import area_average
from training.data.frames import SIZE
from training.trainer import predict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from training.segmenter import Segmenter


def propose_by(networks: Sequence[Segmenter], frames: np.ndarray) -> np.ndarray:
    """Masks where robot is more likely than not, by the mean of all networks on the frames and on their mirror images.

    Args:
        networks: At least one.
        frames: uint8 [T, H, W, 3], RGB; averaged to 64x64 for the networks, and what they say is enlarged again.

    Returns:
        bool [T, H, W].
    """
    small = np.stack([np.rint(area_average(frame, SIZE, SIZE)).astype(np.uint8) for frame in frames])
    seen = [predict(network, small) for network in networks]
    seen += [predict(network, np.ascontiguousarray(small[:, :, ::-1]))[:, :, ::-1] for network in networks]
    height, width = frames.shape[1:3]
    return np.stack([_enlarged(probability, height, width) > 0.5 for probability in np.mean(seen, axis=0)])


def _enlarged(probability: np.ndarray, height: int, width: int) -> np.ndarray:
    if probability.shape == (height, width):
        return probability
    return np.asarray(Image.fromarray(probability).resize((width, height), Image.Resampling.BILINEAR))
