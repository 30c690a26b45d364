"""Masks enlarged where they change: the same pixels as enlarging everything, whatever the mask."""

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from service.frames.enlarge import enlarged_mask

WHOLE = (0.0, 0.0, 64.0, 64.0)


def blob(share: float) -> NDArray[np.float32]:
    """Smooth probabilities of a disc that covers about such a share."""
    y, x = np.mgrid[:64, :64]
    radius = 64 * np.sqrt(share / np.pi)
    edge: NDArray[np.float64] = np.hypot(x - 30, y - 25) - radius
    return (1 / (1 + np.exp(0.7 * edge))).astype(np.float32)


def everywhere(values: NDArray[np.float32], threshold: float, size: tuple[int, int]) -> NDArray[np.bool_]:
    enlarged: NDArray[np.float32] = np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BILINEAR))
    return enlarged >= threshold


@pytest.mark.parametrize("size", [(64, 64), (65, 64), (640, 360), (1280, 720), (333, 1001)])
@pytest.mark.parametrize("share", [0.01, 0.15, 0.6, 1.5])
def test_every_pixel_is_as_if_all_were_computed(size: tuple[int, int], share: float) -> None:
    values = blob(share)
    mask = enlarged_mask(values, 0.4, *size, WHOLE)
    assert mask is not None
    assert mask.dtype == np.uint8
    assert (mask != everywhere(values, 0.4, size)).mean() <= 1e-5  # a pixel on the threshold may round either way


def test_a_part_is_what_it_is_in_the_whole() -> None:
    values = blob(0.2)
    whole = enlarged_mask(values, 0.5, 640, 640, WHOLE)
    part = enlarged_mask(values, 0.5, 200, 300, (10.0, 5.0, 30.0, 35.0))
    assert whole is not None
    assert part is not None
    np.testing.assert_array_equal(part, whole[50:350, 100:300])


def test_all_robot_and_no_robot_change_nowhere() -> None:
    for value in (0.0, 1.0):
        mask = enlarged_mask(np.full((64, 64), value, np.float32), 0.5, 100, 90, WHOLE)
        assert mask is not None
        assert (mask == value).all()


def test_noise_is_left_to_who_computes_everything() -> None:
    values = np.random.default_rng(0).random((64, 64), dtype=np.float32)
    assert enlarged_mask(values, 0.5, 640, 640, WHOLE) is None
