"""Frames for a bundle's self-test, drawn from a seed: nobody's data has to travel with the model."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter


def golden_frames(seed: int = 0) -> np.ndarray:
    """Four frames uint8 [4,64,64,3]: two drawn arms over a bin of toys, the bin alone, and noise."""
    rng = np.random.default_rng(seed)
    drawn = [draw_bin(rng, arm=arm) for arm in (True, True, False)]
    return np.stack([*drawn, rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)])


def draw_bin(rng: np.random.Generator, *, arm: bool) -> np.ndarray:
    """A wooden bin with toys and, if asked, a dark arm with a red band that reaches in from above: uint8 [64,64,3].

    Drawn at four times the size and averaged down.
    """
    picture = Image.new("RGB", (256, 256), (140, 150, 165))
    draw = ImageDraw.Draw(picture)
    draw.polygon([(40, 30), (216, 30), (250, 215), (6, 215)], fill=(216, 202, 172))
    draw.rectangle((0, 215, 256, 256), fill=(110, 84, 60))
    for _ in range(12):
        x, y, rx, ry = *rng.integers((30, 50), (226, 200)), *rng.integers(6, 17, 2)
        draw.ellipse((x - rx, y - ry, x + rx, y + ry), fill=tuple(rng.integers(20, 236, 3).tolist()))
    if arm:
        x, y = (int(v) for v in rng.integers((90, 100), (166, 170)))
        lean = int(rng.integers(-30, 31))
        draw.polygon([(x - 34 + lean, 0), (x + 22 + lean, 0), (x + 14, y - 50), (x - 16, y - 50)], fill=(28, 22, 24))
        draw.rectangle((x - 15, y - 62, x + 13, y - 48), fill=(120, 20, 28))
        draw.rectangle((x - 12, y - 48, x - 6, y), fill=(22, 20, 20))
        draw.rectangle((x + 5, y - 48, x + 11, y), fill=(22, 20, 20))
    smooth = picture.filter(ImageFilter.GaussianBlur(1.5)).resize((64, 64), Image.Resampling.BOX)
    grain = np.asarray(smooth, np.float32) + rng.normal(0, 3, (64, 64, 3))
    frame: np.ndarray = np.clip(np.rint(grain), 0, 255).astype(np.uint8)
    frame[0], frame[:, 0] = 0, 0  # BAIR's frames have a black first row and column
    return frame
