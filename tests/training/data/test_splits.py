"""Splits never tear a scene apart."""

import numpy as np
import pytest

from training.data.frames import FrameSet
from training.data.splits import proposed_split, seeded_split


@pytest.mark.parametrize("seed", range(5))
def test_no_scene_stands_on_both_sides(toys: FrameSet, seed: int) -> None:
    split = seeded_split(toys, 0.3, seed)
    assert not set(split.train.scene) & set(split.val.scene)
    assert len(split.train) + len(split.val) == len(toys)
    assert len(split.val) >= 0.3 * len(toys)


def test_the_split_depends_on_the_seed_and_not_on_the_order_of_frames(toys: FrameSet) -> None:
    shuffled = toys.take(np.random.default_rng(0).permutation(len(toys)))
    assert set(seeded_split(toys, 0.3, 1).val.scene) == set(seeded_split(shuffled, 0.3, 1).val.scene)
    assert len({frozenset(seeded_split(toys, 0.3, s).val.scene.tolist()) for s in range(8)}) > 1


def test_a_proposed_split_that_tears_a_scene_apart_is_refused(toys: FrameSet) -> None:
    marks = np.array(["train", "val"] * (len(toys) // 2))
    torn = FrameSet(toys.frames, toys.masks, toys.scene, marks)
    with pytest.raises(ValueError, match="both sides"):
        proposed_split(torn)


def test_frames_without_marks_have_no_proposed_split(toys: FrameSet) -> None:
    with pytest.raises(ValueError, match="seeded"):
        proposed_split(toys)


def test_one_scene_cannot_be_split(toys: FrameSet) -> None:
    with pytest.raises(ValueError, match="two scenes"):
        seeded_split(toys.take(toys.scene == "toy0"), 0.3, 0)
