"""What a head with one number left for each patch can draw at best."""

import numpy as np
import pytest

from training.ablation.ceiling import ceiling


def test_patches_that_are_all_robot_or_none_of_it_are_drawn_exactly() -> None:
    masks = np.kron(np.eye(4, dtype=np.uint8), np.ones((4, 4), np.uint8))[None]
    assert ceiling(masks, 4) == (1.0, 1.0)


def test_one_pattern_for_all_patches_is_found_whatever_it_is() -> None:
    patch = np.array([[1, 1], [0, 0]], np.uint8)
    masks = np.kron(np.eye(4, dtype=np.uint8), patch)[None]
    assert ceiling(masks, 2) == (pytest.approx(0.5), 1.0)


def test_two_patterns_of_which_neither_holds_the_other_cannot_both_be_drawn() -> None:
    upper, left = np.array([[1, 1], [0, 0]], np.uint8), np.array([[1, 0], [1, 0]], np.uint8)
    masks = np.concatenate([np.tile(upper, (8, 4)), np.tile(left, (8, 4))], axis=1)[None]
    _, one_number = ceiling(masks, 2)
    assert 0.5 < one_number < 1


def test_smaller_patches_lose_less() -> None:
    y, x = np.mgrid[:64, :64]
    masks = np.stack([np.hypot(y - 32, x - centre) < 14 for centre in (20, 32, 41)]).astype(np.uint8)
    assert ceiling(masks, 4)[1] < ceiling(masks, 2)[1] < 1
