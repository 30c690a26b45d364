"""Simulated frames beside real ones: figures, and a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from training.simulate.generate import Job, clips

if TYPE_CHECKING:
    from pathlib import Path

    from training.data.frames import FrameSet
    from training.simulate.config import SimulateConfig

GAP = 2


def statistics(frames: np.ndarray, masks: np.ndarray) -> dict[str, Any]:
    """What can be said of frames uint8 [N,64,64,3] and masks uint8 [N,64,64] without a model.

    The first row and column, black in BAIR's pictures, are left out.
    """
    inner = frames[:, 1:, 1:].astype(np.float32)
    grey = inner.mean(-1)
    robot = masks[:, 1:, 1:].astype(bool)
    return {
        "frames": len(frames),
        "arm share, %, 5/25/50/75/95th percentile": _round(
            np.percentile(masks.mean((1, 2)) * 100, [5, 25, 50, 75, 95])
        ),
        "mean colour": _round(inner.mean((0, 1, 2))),
        "spread of frames' mean colours": _round(inner.mean((1, 2)).std(0)),
        "contrast": _round(inner.std((1, 2)).mean(0)),
        "gradient, down and across": _round(np.array([np.abs(np.diff(grey, axis=axis)).mean() for axis in (1, 2)])),
        "median colour of the arm": _round(np.median(inner[robot], 0)),
        "crimson share of the arm": float(np.round(_crimson(inner[robot]).mean(), 3)),
    }


def simulate_frames(config: SimulateConfig, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first frames of the first clips of a seed: uint8 [count,64,64,3] and masks uint8 [count,64,64]."""
    with clips([Job(config.seed, i, 1, 1) for i in range(count)], config) as made:
        both = [(clip.frames[0], clip.masks[0]) for clip, _ in made]
    return np.stack([frame for frame, _ in both]), np.stack([mask for _, mask in both])


def side_by_side(
    simulated: np.ndarray, real: FrameSet, *, columns: int = 4, rows: int = 5, scale: int = 2
) -> Image.Image:
    """A picture with simulated frames on the left and real ones, each of another scene, on the right."""
    _, first = np.unique(real.scene, return_index=True)
    spread = first[np.linspace(0, len(first) - 1, min(len(first), columns * rows)).astype(int)]
    halves = [_grid(simulated[: columns * rows], columns, scale), _grid(real.frames[spread], columns, scale)]
    head, between = 18, 12
    width, height = sum(half.width for half in halves) + between, max(half.height for half in halves) + head
    sheet = Image.new("RGB", (width, height), "white")
    draw, left = ImageDraw.Draw(sheet), 0
    for half, title in zip(halves, ("simulated", "real"), strict=True):
        draw.text((left + 2, 2), title, fill="black", font=ImageFont.load_default(size=12))
        sheet.paste(half, (left, head))
        left += half.width + between
    return sheet


def save_picture(picture: Image.Image, file: Path) -> None:
    """Write a PNG, its colours reduced to 256 to keep it small."""
    file.parent.mkdir(parents=True, exist_ok=True)
    picture.quantize(256).save(file, optimize=True)


def _grid(frames: np.ndarray, columns: int, scale: int) -> Image.Image:
    size = frames.shape[1]
    rows = -(-len(frames) // columns)
    sheet = np.full((rows * (size + GAP), columns * (size + GAP), 3), 255, np.uint8)
    for i, frame in enumerate(frames):
        y, x = (i // columns) * (size + GAP), (i % columns) * (size + GAP)
        sheet[y : y + size, x : x + size] = frame
    return Image.fromarray(sheet).resize((sheet.shape[1] * scale, sheet.shape[0] * scale), Image.Resampling.NEAREST)


def _crimson(colours: np.ndarray) -> np.ndarray:
    red, green, blue = colours.T
    dark_red: np.ndarray = (red > 45) & (red > 1.8 * green) & (red > 1.8 * blue)
    return dark_red


def _round(values: np.ndarray) -> list[float]:
    return [round(float(value), 1) for value in values]
