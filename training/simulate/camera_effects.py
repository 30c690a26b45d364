"""What lies between the scene and the file: window glare, optics, the camera's processing, copies and time stamps.

Pure functions on pictures float [64,64,3] in 0..1, or uint8 where a file format is concerned; those that draw at random
take the generator.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from training.data.changes import as_jpeg
from training.simulate.geometry import gaussian_matrix
from training.simulate.surfaces import Surface

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.random import Generator

    from training.simulate.randomise import LensDraw, Quality

WINDOW = np.array([0.88, 1.0, 1.22])
"""Colour of daylight in a room lit by lamps."""

GLARE_ON = (Surface.NEAR, Surface.BACK, Surface.LEFT, Surface.RIGHT, Surface.FLOOR)
"""Surfaces that reflect the window, in the order of `LensDraw.glare`."""


def glare_fields(lens: LensDraw, size: int) -> dict[Surface, np.ndarray]:
    """The reflections of a scene's windows, float [size,size,3] to be added to each surface.

    On the near wall they stand as broad upright bands, as seen in a table top; elsewhere they are soft spots.
    """
    rng = np.random.default_rng(lens.glare_seed)
    ys, xs = (np.mgrid[:size, :size] + 0.5) / size
    fields = {}
    for surface, strength in zip(GLARE_ON, lens.glare, strict=True):
        field = np.zeros((size, size))
        if surface == Surface.NEAR:
            field += rng.uniform(0, 0.4) + rng.uniform(-0.5, 0.5) * (xs - 0.5)
            for _ in range(int(rng.integers(1, 5))):
                width, middle = rng.uniform(0.06, 0.35), rng.uniform(-0.1, 1.1)
                field += rng.uniform(0.3, 1) * np.exp(-(np.abs((xs - middle) / width) ** rng.choice([2, 4])))
            field *= np.clip(1 + rng.uniform(-2, 2) * (ys - 0.8), 0.2, 2)
        else:
            top = {Surface.BACK: (0.0, 0.2), Surface.FLOOR: (0.2, 0.65)}.get(surface, (0.0, 0.6))
            side = {Surface.LEFT: (0.0, 0.2), Surface.RIGHT: (0.8, 1.0)}.get(surface, (0.2, 0.8))
            for _ in range(int(rng.integers(1, 3))):
                y, x = rng.uniform(*top), rng.uniform(*side)
                high, wide = rng.uniform(0.05, 0.3), rng.uniform(0.08, 0.35)
                field += rng.uniform(0.5, 1) * np.exp(-(((ys - y) / high) ** 2) - ((xs - x) / wide) ** 2)
        colour = WINDOW ** rng.uniform(0.0, 1.3)
        fields[surface] = strength * np.clip(field, 0, 1.3)[..., None] * colour
    return fields


def add_glare(picture: np.ndarray, fields: Mapping[Surface, np.ndarray], shares: np.ndarray) -> np.ndarray:
    """Add reflections where their surface is seen; `shares` [H,W,9] say which part of a pixel each surface covers."""
    lit = picture.copy()
    for surface, field in fields.items():
        lit += shares[..., surface, None] * field
    return lit


def blur(picture: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of a picture [N,N,3] by `sigma` pixels."""
    if sigma < 0.15:
        return picture
    across = _blur_matrix(len(picture), round(sigma, 2))
    rows = np.tensordot(across, picture, (1, 0))
    return np.tensordot(across, rows, (1, 1)).transpose(1, 0, 2)


@lru_cache(maxsize=64)
def _blur_matrix(n: int, sigma: float) -> np.ndarray:
    return gaussian_matrix(n, sigma)


def develop(picture: np.ndarray, lens: LensDraw, rng: Generator) -> np.ndarray:
    """The camera: fall-off, stray light, exposure, highlights that roll off, balance, contrast, sharpening, noise.

    Returns:
        uint8 [N,N,3].
    """
    size = len(picture)
    at = (np.arange(size) + 0.5) / size * 2 - 1
    corner = (at[:, None] ** 2 + at[None, :] ** 2)[..., None] / 2
    x = picture * (1 - lens.falloff * corner * np.array([0.8, 1.0, 1.35]))
    x = (x * (1 - lens.veil) + lens.veil * np.array([1.1, 1.0, 0.8])) * lens.gain * np.asarray(lens.balance)
    over = np.clip(x - 0.82, 0, None)
    x = np.where(x > 0.82, 0.82 + over / (1 + 1.2 * over), x)
    x = np.clip(x, 0, 1) ** lens.gamma
    x = (x - 0.5) * lens.contrast + 0.5
    x = blur(x, lens.blur)
    x = x + lens.sharpen * (x - blur(x, 0.7))
    return to_bytes(x + rng.normal(0, lens.noise / 255, x.shape))


def to_bytes(picture: np.ndarray) -> np.ndarray:
    """A float picture 0..1 as uint8."""
    scaled: np.ndarray = np.rint(np.clip(picture, 0, 1) * 255)
    return scaled.astype(np.uint8)


def extend_to_border(mask: np.ndarray) -> np.ndarray:
    """The mask with its first row and column filled from the second, where the picture is black.

    >>> extend_to_border(np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]])).tolist()
    [[1, 1, 0], [1, 1, 0], [0, 0, 0]]
    """
    extended = mask.copy()
    extended[0] = extended[1]
    extended[:, 0] = extended[:, 1]
    return extended


def copy_as(picture: np.ndarray, quality: Quality, rng: Generator) -> np.ndarray:
    """What a picture uint8 [H,W,3] looks like after it went through a kind of file."""
    image = Image.fromarray(picture)
    if quality == "palette":
        return np.asarray(image.quantize(int(rng.integers(48, 257)), dither=Image.Dither.NONE).convert("RGB"))
    if quality == "dither":
        palette = image.quantize(int(rng.integers(12, 80)))
        return np.asarray(image.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).convert("RGB"))
    if quality == "video":
        return np.asarray(_jpeg(image, int(rng.integers(35, 90)), rng))
    if quality == "averaged":
        scale = int(rng.integers(2, 5))
        wide = image.resize((image.width * scale, image.height * scale), Image.Resampling.BICUBIC)
        return np.asarray(_jpeg(wide, int(rng.integers(25, 75)), rng).resize(image.size, Image.Resampling.BOX))
    if quality == "stamped":
        return np.asarray(_jpeg(stamp(image, rng), int(rng.integers(24, 65)), rng))
    return picture


def stamp(image: Image.Image, rng: Generator) -> Image.Image:
    """The picture with a light time stamp over its top left corner."""
    stamped = image.copy()
    text = f"{rng.integers(0, 30)}.{rng.integers(0, 100):02d}"
    grey = int(rng.integers(215, 256))
    font = ImageFont.load_default(size=float(rng.uniform(8.5, 12.5)))
    at = (float(rng.integers(-1, 2)), float(rng.integers(-2, 2)))
    ImageDraw.Draw(stamped).text(at, text, fill=(grey, grey, grey), font=font, stroke_width=int(rng.random() < 0.5))
    return stamped


def _jpeg(image: Image.Image, quality: int, rng: Generator) -> Image.Image:
    return as_jpeg(image, quality, 2 if rng.random() < 0.7 else 0)
