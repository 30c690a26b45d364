"""Frames as cameras give them to clips as VideoGPT takes them.

Yan et al. 2021, "VideoGPT: Video Generation using VQ-VAE and Transformers", public PyTorch version.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor


def preprocess_clip(clip_u8: Tensor, resolution: int, n_frames: int | None = None) -> Tensor:
    """Scale the shorter side to `resolution`, cut out the middle, centre the values.

    Bilinear without antialiasing: enlarged or slightly reduced clips are meant. Frames that are already of the right
    size keep their pixels.

    Args:
        clip_u8: RGB uint8 [T, H, W, 3].
        resolution: Height and width of the result.
        n_frames: Keep only the first frames.

    Returns:
        float32 [3, T, resolution, resolution] in [-0.5, 0.5].

    Raises:
        ValueError: Another shape, or fewer frames than asked for.
    """
    if clip_u8.ndim != 4 or clip_u8.shape[-1] != 3:
        raise ValueError(f"expected a clip [T, H, W, 3], got {list(clip_u8.shape)}")
    if n_frames is not None and n_frames > len(clip_u8):
        raise ValueError(f"expected at least {n_frames} frames, got {len(clip_u8)}")
    frames = clip_u8[:n_frames].permute(0, 3, 1, 2).float() / 255  # [T, 3, H, W]
    height, width = frames.shape[-2:]
    scale = resolution / min(height, width)
    size = [resolution if side == min(height, width) else math.ceil(side * scale) for side in (height, width)]
    frames = functional.interpolate(frames, size=size, mode="bilinear", align_corners=False)
    top, left = ((side - resolution) // 2 for side in size)
    frames = frames[:, :, top : top + resolution, left : left + resolution]
    return frames.transpose(0, 1).contiguous() - 0.5
