"""Labelled frames in memory: what every reader gives and every trainer takes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from training.area import area_average

SIZE = 64
"""Height and width of the frames that VideoGPT's BAIR models see."""


@dataclass(frozen=True, slots=True)
class FrameSet:
    """Frames with their robot masks.

    Attributes:
        frames: uint8 [N, 64, 64, 3], RGB.
        masks: uint8 [N, 64, 64], 1 where the robot is.
        scene: str [N]; frames of one scene share background and lighting, so splits keep them together.
        split: str [N], the split that the data set itself proposes ("train", "val", ...), or "" where it proposes none.
        quality: str [N], what kind of picture each is ("lossless", "gif", ...), "" where nobody says; None for all "".
    """

    frames: np.ndarray
    masks: np.ndarray
    scene: np.ndarray
    split: np.ndarray
    quality: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Check what the attributes promise.

        Raises:
            ValueError: With the shape, dtype or values expected and found.
        """
        n = len(self.frames)
        if self.frames.shape != (n, SIZE, SIZE, 3) or self.frames.dtype != np.uint8:
            raise ValueError(
                f"expected frames uint8 [N,{SIZE},{SIZE},3], got {self.frames.dtype} {list(self.frames.shape)}"
            )
        if self.masks.shape != (n, SIZE, SIZE) or self.masks.dtype != np.uint8:
            raise ValueError(
                f"expected masks uint8 [{n},{SIZE},{SIZE}], got {self.masks.dtype} {list(self.masks.shape)}"
            )
        if n and self.masks.max() > 1:
            raise ValueError(f"expected mask values 0 and 1, got up to {self.masks.max()}: divide 0/255 masks by 255")
        if len(self.scene) != n or len(self.split) != n:
            raise ValueError(f"expected {n} scenes and splits, got {len(self.scene)} and {len(self.split)}")
        if self.quality is not None and len(self.quality) != n:
            raise ValueError(f"expected {n} qualities, got {len(self.quality)}")

    def __len__(self) -> int:
        return len(self.frames)

    def take(self, index: np.ndarray) -> FrameSet:
        """The frames at `index` (integers or a boolean selection)."""
        quality = None if self.quality is None else self.quality[index]
        return FrameSet(self.frames[index], self.masks[index], self.scene[index], self.split[index], quality)

    @property
    def qualities(self) -> np.ndarray:
        """`quality`, "" where nobody says: str [N]."""
        return np.full(len(self), "") if self.quality is None else self.quality

    def sha256(self) -> str:
        """A fingerprint of pixels, masks and scenes, which lineage records."""
        digest = hashlib.sha256()
        for part in (self.frames, self.masks, "\n".join(self.scene.tolist()).encode()):
            digest.update(part.tobytes() if isinstance(part, np.ndarray) else part)
        return digest.hexdigest()


def concatenate(sets: list[FrameSet]) -> FrameSet:
    """All frames of several data sets, in order."""
    return FrameSet(
        np.concatenate([s.frames for s in sets]),
        np.concatenate([s.masks for s in sets]),
        np.concatenate([s.scene for s in sets]),
        np.concatenate([s.split for s in sets]),
        np.concatenate([s.qualities for s in sets]),
    )


def small_frames(
    frames: list[np.ndarray], masks: list[np.ndarray], scene: np.ndarray, split: np.ndarray, quality: np.ndarray
) -> FrameSet:
    """Frames uint8 [H,W,3] of any sizes and their masks uint8 [H,W], brought to the model's size.

    Raises:
        ValueError: No frames, or what `FrameSet` refuses.
    """
    if not frames:
        raise ValueError("expected at least one frame, found none")
    small = [to_model_size(frame, mask) for frame, mask in zip(frames, masks, strict=True)]
    return FrameSet(np.stack([f for f, _ in small]), np.stack([m for _, m in small]), scene, split, quality)


def to_model_size(frame: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Area-average a frame uint8 [H,W,3] and its mask uint8 [H,W] in {0,1} to 64x64; smaller ones are interpolated.

    A pixel of the small mask is robot where at least half of its area is.
    """
    if frame.shape[:2] == (SIZE, SIZE):
        return frame, mask
    small = np.rint(area_average(frame, SIZE, SIZE)).astype(np.uint8)
    share = area_average(mask * np.uint8(255), SIZE, SIZE) / 255
    return small, (share.round(5) >= 0.5).astype(np.uint8)  # sums of parts may end just below the half that they make
