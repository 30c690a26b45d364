"""What is said of a mask is what an independent count finds."""

import numpy as np
import pytest
from pycocotools import mask as coco

from service.frames.masks import confidence, decide, describe
from service.frames.patch import Patch


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(1, 1), (64, 64), (7, 31), (480, 640)])
def test_run_lengths_area_and_box_agree_with_the_pixels(shape: tuple[int, int], order: str) -> None:
    y, x = np.mgrid[: shape[0], : shape[1]]
    mask = np.asarray(((x * 3 + y) % 11 < 4) & (x >= shape[1] // 4), np.uint8, order=order)
    runs, area, bbox = describe(Patch.of(mask))
    assert runs["size"] == list(shape)
    assert np.array_equal(coco.decode(runs), mask)
    assert area == mask.sum()
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    assert bbox == (columns[0], rows[0], np.ptp(columns) + 1, np.ptp(rows) + 1)


@pytest.mark.parametrize(
    ("left", "top", "width", "height"),
    [(0, 0, 9, 8), (3, 1, 9, 8), (4, 3, 9, 8), (0, 0, 5, 8), (2, 0, 7, 5), (2, 0, 9, 5)],
)
@pytest.mark.parametrize("share", [0.0, 0.2, 0.6, 1.0])
def test_a_part_is_described_as_the_whole_is(left: int, top: int, width: int, height: int, share: float) -> None:
    inside = (np.random.default_rng(3).random((5, 5)) < share).astype(np.uint8)
    patch = Patch(inside, left, top, width, height)
    assert not patch.is_whole
    assert describe(patch) == describe(Patch.of(patch.whole()))


def test_a_part_of_no_pixels_is_described_as_no_robot() -> None:
    nothing = Patch(np.empty((0, 0), np.uint8), 0, 0, 7, 6)
    assert describe(nothing) == describe(Patch.of(np.zeros((6, 7), np.uint8)))


def test_an_empty_mask_has_no_area_and_no_box() -> None:
    runs, area, bbox = describe(Patch.of(np.zeros((5, 9), np.uint8)))
    assert (area, bbox) == (0, (0, 0, 0, 0))
    assert coco.decode(runs).shape == (5, 9)


def test_a_pixel_is_robot_from_the_threshold_on_but_never_at_probability_zero() -> None:
    probability = np.array([[0, 1e-6, 0.5, 1]], np.float32)
    assert decide(probability, 0.0).tolist() == [[0, 1, 1, 1]]
    assert decide(probability, 0.5).tolist() == [[0, 0, 1, 1]]
    assert decide(probability, 1.0).tolist() == [[0, 0, 0, 1]]


def test_confidence_is_high_when_sure_of_either_and_low_when_torn() -> None:
    sure, torn, nothing = (np.full((64, 64), value, np.float32) for value in (0.99, 0.51, 0.01))
    assert confidence(sure, 0.5) > 0.95
    assert confidence(torn, 0.5) < 0.55
    assert confidence(nothing, 0.5) > 0.95
