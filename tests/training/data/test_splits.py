"""Splits never tear a scene apart."""

import numpy as np
import pytest

from training.data.frames import FrameSet
from training.data.splits import apart, everything, fold_split, proposed_split, seeded_split, split_data_sets


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
    with pytest.raises(ValueError, match=r"both sides.*`scene` in the images of annotations\.json"):
        proposed_split(torn)


def test_frames_without_marks_have_no_proposed_split(toys: FrameSet) -> None:
    with pytest.raises(ValueError, match="seeded"):
        proposed_split(toys)


def test_one_scene_cannot_be_split(toys: FrameSet) -> None:
    alone = toys.take(toys.scene == "toy0")
    for divide in (lambda: seeded_split(alone, 0.3, 0), lambda: fold_split(alone, 2, 0, 0)):
        with pytest.raises(ValueError, match=r"two scenes.*the array `scene` of an \.npz file"):
            divide()


def marked(frames: FrameSet, marks: dict[str, str]) -> FrameSet:
    return FrameSet(frames.frames, frames.masks, frames.scene, np.array([marks.get(s, "") for s in frames.scene]))


@pytest.mark.parametrize("folds", [2, 4])
def test_over_all_folds_every_frame_is_held_out_once_in_parts_of_nearly_equal_size(toys: FrameSet, folds: int) -> None:
    uneven = toys.take(np.arange(len(toys)) != 0)
    splits = [fold_split(uneven, folds, fold, seed=3) for fold in range(folds)]
    held = np.sum([~split.in_train for split in splits], axis=0)
    assert (held == 1).all()
    sizes = [len(split.val) for split in splits]
    assert max(sizes) - min(sizes) <= 4  # one scene
    shuffled = uneven.take(np.random.default_rng(0).permutation(len(uneven)))
    assert set(fold_split(shuffled, folds, 0, seed=3).val.scene) == set(splits[0].val.scene)
    assert not set(splits[0].val.scene) & set(splits[0].train.scene)


def test_more_folds_than_scenes_are_refused(toys: FrameSet) -> None:
    with pytest.raises(ValueError, match="2 to 6 folds"):
        fold_split(toys, 7, 0, 0)


def test_scenes_without_a_mark_are_learnt_from(toys: FrameSet) -> None:
    split = proposed_split(marked(toys, {"toy1": "val", "toy2": "train", "toy3": "test"}))
    assert set(split.val.scene) == {"toy1"}
    assert set(split.train.scene) == {"toy0", "toy2", "toy4", "toy5"}


def test_data_sets_without_marks_only_train_beside_one_that_has_them(toys: FrameSet) -> None:
    real, simulated = marked(toys, {"toy1": "val"}), toys.take(toys.scene == "toy0")
    simulated = FrameSet(simulated.frames, simulated.masks, np.full(4, "sim0"), simulated.split)
    for divide in (proposed_split, lambda frames: fold_split(frames, 3, 0, 0)):
        sides = split_data_sets([simulated, real], divide)
        assert len(sides.train[0]) == 4
        assert "sim0" not in sides.val.scene
        assert len(sides.train[1]) + len(sides.val) == len(real)
    with pytest.raises(ValueError, match="both sides"):
        split_data_sets([toys, real], proposed_split)


def test_data_sets_are_divided_together_where_none_has_marks(toys: FrameSet) -> None:
    halves = [toys.take(np.arange(len(toys)) < 12), toys.take(np.arange(len(toys)) >= 12)]
    sides = split_data_sets(halves, lambda frames: seeded_split(frames, 0.3, 1))
    assert set(sides.val.scene) == set(seeded_split(toys, 0.3, 1).val.scene)
    assert sum(len(part) for part in sides.train) + len(sides.val) == len(toys)


def test_everything_holds_out_nothing(toys: FrameSet) -> None:
    sides = split_data_sets([marked(toys, {"toy1": "val"})], everything)
    assert (len(sides.train[0]), len(sides.val)) == (len(toys), 0)


def test_another_data_set_is_measured_on_by_its_marks_or_whole(toys: FrameSet) -> None:
    simulated = FrameSet(toys.frames, toys.masks, np.full(len(toys), "sim0"), toys.split)
    sides = apart([simulated], marked(toys, {"toy1": "val"}))
    assert (len(sides.train[0]), set(sides.val.scene)) == (len(toys), {"toy1"})
    assert len(apart([simulated], toys).val) == len(toys)
    with pytest.raises(ValueError, match="both sides"):
        apart([toys], toys)
