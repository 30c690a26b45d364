"""What training sees of a picture is what the service sees of it."""

import numpy as np
import pytest
from PIL import Image

from service.frames.average import area_average as served_average
from training.area import area_average


@pytest.mark.parametrize("size", [(64, 65), (44, 32), (20, 400), (100, 100), (128, 96), (320, 180), (640, 480)])
def test_a_picture_is_averaged_like_in_the_service(size: tuple[int, int]) -> None:
    width, height = size
    picture = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    served = served_average(Image.fromarray(picture), (0, 0, width, height), 0)
    assert np.abs(area_average(picture, 64, 64) - served).max() < 0.51 + 0.5 * (width > 512)


def test_cells_of_whole_pixels_are_their_means_and_the_same_size_changes_nothing() -> None:
    mask = np.random.default_rng(1).integers(0, 2, (128, 192), dtype=np.uint8)
    assert np.allclose(area_average(mask, 64, 64), mask.reshape(64, 2, 64, 3).mean(axis=(1, 3)), atol=1e-6)
    assert (area_average(mask, 128, 192) == mask).all()
