"""Variations of a clip: drawn once and applied alike to all its frames, so that what moves is still only the scene.

Every function takes the generator it draws from, so a sample is a pure function of its seed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.random import Generator

    from training.pretrain.config import ClipAugmentConfig


def augment_clip(clip_u8: np.ndarray, config: ClipAugmentConfig, rng: Generator) -> np.ndarray:
    """Draw one variation of a clip uint8 [T, H, W, 3]; same shape and dtype, the input is left as it is."""
    if rng.random() < config.mirror:
        clip_u8 = clip_u8[:, :, ::-1]
    if config.crop_px > 0:
        clip_u8 = crop(clip_u8, rng.uniform(0, config.crop_px), rng.random(2))
    if rng.random() < config.colour:
        clip_u8 = recolour(clip_u8, rng)
    if rng.random() < config.noise:
        clip_u8 = _u8(clip_u8 + rng.normal(0, rng.uniform(1, config.noise_sigma), clip_u8.shape))
    return np.array(clip_u8, order="C")


def crop(clip_u8: np.ndarray, margin_px: float, place: np.ndarray) -> np.ndarray:
    """Cut `margin_px` in all off each axis of a clip uint8 [T, H, W, 3] and enlarge the rest to the old size.

    Args:
        clip_u8: The clip.
        margin_px: Fractions of a pixel count.
        place: Share of the margin that comes off the left and off the top, each in [0, 1].
    """
    height, width = clip_u8.shape[1:3]
    left, top = margin_px * place
    box = (left, top, left + width - margin_px, top + height - margin_px)
    pictures = [Image.fromarray(frame) for frame in np.ascontiguousarray(clip_u8)]
    return np.stack([np.asarray(p.resize((width, height), Image.Resampling.BICUBIC, box)) for p in pictures])


def recolour(clip_u8: np.ndarray, rng: Generator) -> np.ndarray:
    """Another exposure, contrast, white balance and saturation for a clip uint8 [T, H, W, 3]."""
    x = clip_u8.astype(np.float32) / 255
    x *= np.exp(rng.uniform(-0.25, 0.25)) * np.exp(rng.uniform(-0.1, 0.1, 3)).astype(np.float32)
    x = (x - 0.5) * np.float32(np.exp(rng.uniform(-0.2, 0.2))) + 0.5
    grey = x.mean(-1, keepdims=True)
    x = grey + (x - grey) * np.float32(np.exp(rng.uniform(-0.4, 0.3)))
    return _u8(x * 255)


def _u8(x: np.ndarray) -> np.ndarray:
    clipped: np.ndarray = np.clip(np.rint(x), 0, 255)
    return clipped.astype(np.uint8)
