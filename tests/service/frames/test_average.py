"""Every cell is the mean of just the part of the frame that it covers."""

import itertools

import numpy as np
import pytest
from PIL import Image

from service.frames.average import area_average, averages


def mean_by_hand(values: np.ndarray, start: float, stop: float, count: int) -> np.ndarray:
    """Means of even parts of the first axis, each value counted by the length of it that lies in a part."""
    bounds = np.linspace(start, stop, count + 1)
    parts = []
    for low, high in itertools.pairwise(bounds):
        shares = [max(0.0, min(high, index + 1) - max(low, index)) for index in range(len(values))]
        parts.append(np.tensordot(shares, values, axes=1) / (high - low))
    return np.stack(parts)


@pytest.mark.parametrize("size", [(64, 65), (66, 64), (100, 100), (130, 70), (320, 180), (200, 313), (639, 64)])
def test_a_frame_is_averaged_as_worked_out_by_hand(size: tuple[int, int]) -> None:
    width, height = size
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    lines = mean_by_hand(pixels.astype(float), 0, height, 64)
    expected = mean_by_hand(lines.swapaxes(0, 1), 0, width, 64).swapaxes(0, 1)
    seen = area_average(Image.fromarray(pixels), (0, 0, width, height), 0)
    assert seen.dtype == np.uint8
    assert np.abs(seen - expected).max() < 0.51


@pytest.mark.parametrize("size", [(1280, 720), (640, 480), (1000, 70), (1999, 1501)])
def test_a_large_frame_is_averaged_in_blocks_first_and_nearly_the_same(size: tuple[int, int]) -> None:
    width, height = size
    pixels = np.random.default_rng(width).integers(100, 156, (height, width, 3), dtype=np.uint8)
    lines = mean_by_hand(pixels.astype(float), 0, height, 64)
    expected = mean_by_hand(lines.swapaxes(0, 1), 0, width, 64).swapaxes(0, 1)
    seen = area_average(Image.fromarray(pixels), (0, 0, width, height), 0)
    assert np.sqrt(np.mean((seen - expected) ** 2)) < 1


def test_what_lies_beyond_the_frame_counts_as_grey_by_its_share() -> None:
    white = Image.new("RGB", (90, 30), (255, 255, 255))
    seen = area_average(white, (0, -30, 90, 60), 55)
    assert (seen[:21] == 55).all()
    assert (seen[21] == round(255 * 2 / 3 + 55 / 3)).all() or (seen[21] == round(255 / 3 + 55 * 2 / 3)).all()
    assert (seen[22:42] == 255).all()
    assert (seen[43:] == 55).all()


def test_a_rectangle_within_the_frame_is_averaged_alone() -> None:
    pixels = np.zeros((700, 900, 3), np.uint8)
    pixels[30:670, 130:770] = 77
    assert (area_average(Image.fromarray(pixels), (130, 30, 770, 670), 0) == 77).all()


def test_rows_are_averaged_between_any_two_places() -> None:
    rows = np.random.default_rng(0).random((64, 5)).astype(np.float32)
    for start, stop, count in ((0, 64, 48), (0.25, 63.9, 63), (10.5, 20.5, 3), (5, 6, 1)):
        assert np.allclose(averages(rows, start, stop, count), mean_by_hand(rows, start, stop, count), atol=1e-5)
