"""What cameras, compressors and scenes do to a frame, drawn at random and applied to frame and mask alike.

Every function takes the generator it draws from, so a sample is a pure function of its seed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from training.data import changes
from training.data.frames import SIZE

if TYPE_CHECKING:
    from numpy.random import Generator

    from training.config import AugmentConfig

VERSION = 3
"""Goes up with every change after which the same seed gives other pictures: what is kept of them is of one version."""


def augment(
    frame: np.ndarray, mask: np.ndarray, config: AugmentConfig, rng: Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one variation of a frame uint8 [64,64,3] and its mask uint8 [64,64]; same shapes and dtypes."""
    frame, mask = warp(frame, mask, config, rng)
    if rng.random() < config.occlude:
        frame, mask = occlude(frame, mask, rng)
    if rng.random() < config.colour:
        frame = recolour(frame, rng)
    if rng.random() < config.black_edge:  # it is in the recordings: every copy of them blurs and compresses it too
        frame, mask = black_edge(frame, mask)
    if rng.random() < config.blur:
        frame = blur(frame, rng)
    if rng.random() < config.noise:
        sigma = rng.uniform(1, 12)
        frame = _u8(frame + rng.normal(0, sigma, frame.shape))
    if rng.random() < config.compress:
        frame = compress(frame, rng)
    if rng.random() < config.stamp:
        frame = stamp(frame, rng)
    if rng.random() < config.blank:  # drawn last: with a share of none the pictures of a seed are what they were
        return nothing(rng), np.zeros_like(mask)
    return frame, mask


def warp(frame: np.ndarray, mask: np.ndarray, config: AugmentConfig, rng: Generator) -> tuple[np.ndarray, np.ndarray]:
    """Mirror, turn, scale, stretch and shift about the centre."""
    turn = changes.turn_of(rng.uniform(-config.turn_deg, config.turn_deg))
    scale = np.exp(rng.uniform(-config.scale_log, config.scale_log))
    stretch = np.exp(rng.uniform(-config.stretch_log, config.stretch_log))
    shift = rng.uniform(-config.shift_px, config.shift_px, 2)
    mirror = -1.0 if rng.random() < config.mirror else 1.0
    return changes.seen(frame, mask, turn @ np.diag([mirror * stretch / scale, 1 / (stretch * scale)]), shift)


def occlude(frame: np.ndarray, mask: np.ndarray, rng: Generator) -> tuple[np.ndarray, np.ndarray]:
    """Lay a plain or patterned ellipse over the frame; what it hides is no longer robot."""
    frame, mask = frame.copy(), mask.copy()
    centre, radius = rng.uniform(0, SIZE, 2), rng.uniform(2, 9, 2)
    ys, xs = np.mgrid[:SIZE, :SIZE]
    inside = ((ys - centre[0]) / radius[0]) ** 2 + ((xs - centre[1]) / radius[1]) ** 2 < 1
    if rng.random() < 0.5:
        frame[inside] = _u8(rng.integers(0, 256, 3) + rng.normal(0, 20, (int(inside.sum()), 3)))
    else:  # a piece of the scene itself, robot excluded
        dy, dx = rng.integers(0, SIZE, 2)
        moved, moved_mask = np.roll(frame, (dy, dx), (0, 1)), np.roll(mask, (dy, dx), (0, 1))
        inside &= moved_mask == 0
        frame[inside] = moved[inside]
    mask[inside] = 0
    return frame, mask


def recolour(frame: np.ndarray, rng: Generator) -> np.ndarray:
    """Exposure, contrast, white balance, saturation and gamma."""
    x = frame.astype(np.float32) / 255
    x = x ** np.exp(rng.uniform(-0.3, 0.3))
    x = x * np.exp(rng.uniform(-0.3, 0.3)) * np.exp(rng.uniform(-0.12, 0.12, 3))
    x = (x - 0.5) * np.exp(rng.uniform(-0.3, 0.3)) + 0.5 + rng.uniform(-0.08, 0.08)
    grey = x.mean(-1, keepdims=True)
    x = grey + (x - grey) * np.exp(rng.uniform(-0.7, 0.4))
    return _u8(x * 255)


def black_edge(frame: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """BAIR's black first row and column, with the mask that its labels have there.

    Those of the row are robot where the row below is, always. Those of the column are not, in thirteen of the seventeen
    labelled frames in which the arm leaves the picture on the left.
    """
    mask = mask.copy()
    mask[:, 0] = 0
    return changes.black_border(frame), mask


def blur(frame: np.ndarray, rng: Generator) -> np.ndarray:
    """Out of focus, or enlarged from a smaller picture."""
    picture = Image.fromarray(frame)
    if rng.random() < 0.6:
        return np.asarray(changes.out_of_focus(picture, rng.uniform(0.2, 1.3)))
    return np.asarray(changes.enlarged_from(picture, int(rng.integers(28, SIZE))))


def compress(frame: np.ndarray, rng: Generator) -> np.ndarray:
    """JPEG, or a small palette with or without dither (GIF)."""
    picture = Image.fromarray(frame)
    if rng.random() < 0.65:
        return np.asarray(changes.as_jpeg(picture, int(rng.integers(20, 85)), int(rng.integers(0, 3))))
    dither = Image.Dither.FLOYDSTEINBERG if rng.random() < 0.5 else Image.Dither.NONE
    palette = picture.quantize(int(rng.integers(12, 129)))
    return np.asarray(picture.quantize(palette=palette, dither=dither).convert("RGB"))


def stamp(frame: np.ndarray, rng: Generator) -> np.ndarray:
    """A light time stamp in the top left corner, as some recordings carry; what lies under it keeps its label."""
    picture = Image.fromarray(frame)
    text = f"{rng.integers(0, 100)}.{rng.integers(0, 100):02d}"
    grey = int(rng.integers(200, 256))
    place = (float(rng.integers(0, 3)), float(rng.integers(0, 4)))
    font = ImageFont.load_default(size=float(rng.integers(8, 12)))
    ImageDraw.Draw(picture).text(place, text, fill=(grey, grey, grey), font=font, stroke_width=int(rng.integers(0, 2)))
    return np.asarray(picture)


def nothing(rng: Generator) -> np.ndarray:
    """What a camera gives that sees nothing: dark half the time, one colour or soft blotches; uint8 [64,64,3]."""
    cells = int(rng.choice((1, 2, 3, 5)))
    level = rng.uniform(0, 24) if rng.random() < 0.5 else rng.uniform(0, 255)
    tint = rng.normal(0, rng.uniform(0, 16), 3)
    blotches = level + tint + rng.normal(0, rng.uniform(0, 24), (cells, cells, 3)) * (cells > 1)
    smooth = np.asarray(Image.fromarray(_u8(blotches)).resize((SIZE, SIZE), Image.Resampling.BICUBIC))
    return _u8(smooth + rng.normal(0, rng.uniform(0, 8), smooth.shape))


def _u8(x: np.ndarray) -> np.ndarray:
    clipped: np.ndarray = np.clip(np.rint(x), 0, 255)
    return clipped.astype(np.uint8)
