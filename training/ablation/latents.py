"""Latents of frozen encoders, computed once for each data set and encoder, and kept."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from training.data.augment import VERSION, augment
from training.data.frames import FrameSet
from training.segmenter import normalise

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from training.config import AugmentConfig

BATCH = 16


class Cached(NamedTuple):
    """Latents of all frames, as they are and in augmented copies.

    Attributes:
        latents: One array float16 [N, H, W, D] for each copy, mapped from its file; the first is of the frames as
            they are.
        masks: uint8 [copies, N, 64, 64].
    """

    latents: list[np.ndarray]
    masks: np.ndarray


def digest(*parts: object) -> str:
    """A name for what was computed from these numbers and names."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def weights_digest(module: nn.Module) -> str:
    """A fingerprint of all weights."""
    seen = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        seen.update(name.encode())
        seen.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return seen.hexdigest()


def copy_of(frames: FrameSet, copy: int, config: AugmentConfig) -> FrameSet:
    """The frames with variations drawn for this copy; copy 0 is the frames as they are."""
    if copy == 0:
        return frames
    pairs = [
        augment(frame, mask, config, np.random.default_rng([copy, i]))
        for i, (frame, mask) in enumerate(zip(frames.frames, frames.masks, strict=True))
    ]
    return FrameSet(
        np.stack([f for f, _ in pairs]), np.stack([m for _, m in pairs]), frames.scene, frames.split, frames.quality
    )


def cached_latents(
    folder: Path, encoder: nn.Module, frames: FrameSet, *, copies: int, augmentation: AugmentConfig, key: str
) -> Cached:
    """Read the latents of all copies, or compute those that are missing.

    Args:
        folder: Where they are kept.
        encoder: Frames [B, 3, 64, 64] to latents [B, H, W, D].
        frames: What to encode.
        copies: Augmented copies beside the frames as they are.
        augmentation: How they are varied.
        key: What else the latents depend on.
    """
    encoder.eval()
    name = digest(key, frames.sha256(), weights_digest(encoder))
    arrays, masks = [], []
    for copy in range(copies + 1):
        varied = copy_of(frames, copy, augmentation)
        variation = digest(augmentation.model_dump(mode="json"), VERSION) if copy else "plain"
        file = folder / f"{name}.{variation}.{copy}.npy"
        if not file.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            temporary = file.with_suffix(".tmp")
            with temporary.open("wb") as stream:
                np.save(stream, encode(encoder, varied.frames, f"latents {copy + 1}/{copies + 1}"))
            temporary.replace(file)
        arrays.append(np.load(file, mmap_mode="r"))
        masks.append(varied.masks)
    return Cached(arrays, np.stack(masks))


def encode(encoder: nn.Module, frames: np.ndarray, what: str) -> np.ndarray:
    """Latents float16 [N, H, W, D] of frames uint8 [N, 64, 64, 3]."""
    with torch.inference_mode():
        parts = [
            encoder(normalise(torch.from_numpy(frames[i : i + BATCH]))).half().numpy()
            for i in tqdm(range(0, len(frames), BATCH), desc=what, unit="batch", leave=False)
        ]
    return np.concatenate(parts)
