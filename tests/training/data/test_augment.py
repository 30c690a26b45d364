"""Augmentation: what it may change, and what it may not."""

import numpy as np
import pytest

from training.config import AugmentConfig
from training.data.augment import augment, occlude, warp
from training.data.batches import Samples
from training.data.frames import FrameSet
from training.sampler import StretchSampler

OFF = AugmentConfig(
    mirror=0, turn_deg=0, scale_log=0, stretch_log=0, shift_px=0, occlude=0, colour=0, blur=0, noise=0, compress=0,
    black_edge=0, stamp=0, blank=0,
)  # fmt: skip


def test_with_everything_off_only_the_first_row_and_column_are_replaced(toys: FrameSet) -> None:
    frame, mask = augment(toys.frames[0], toys.masks[0], OFF, np.random.default_rng(0))
    assert np.array_equal(frame[1:, 1:], toys.frames[0][1:, 1:])
    assert np.array_equal(mask[1:, 1:], toys.masks[0][1:, 1:])


@pytest.mark.parametrize("seed", range(20))
def test_frame_and_mask_move_together(toys: FrameSet, seed: int) -> None:
    config = AugmentConfig(colour=0, occlude=0, blur=0, noise=0, compress=0, stamp=0)
    frame, mask = warp(toys.frames[0], toys.masks[0], config, np.random.default_rng(seed))
    dark = frame.astype(int).mean(-1) < 100
    assert (dark == mask.astype(bool)).mean() > 0.97


def test_what_an_occluder_hides_is_no_longer_robot(toys: FrameSet) -> None:
    for seed in range(20):
        frame, mask = occlude(toys.frames[0], toys.masks[0], np.random.default_rng(seed))
        changed = (frame != toys.frames[0]).any(-1)
        assert not (mask[changed]).any()
        assert not (mask & ~toys.masks[0] & 1).any()


def test_inputs_are_left_alone(toys: FrameSet) -> None:
    frame, mask = toys.frames[0].copy(), toys.masks[0].copy()
    for seed in range(20):
        augment(frame, mask, AugmentConfig(occlude=1, stamp=1, black_edge=1), np.random.default_rng(seed))
    assert np.array_equal(frame, toys.frames[0])
    assert np.array_equal(mask, toys.masks[0])


def test_a_sample_is_a_function_of_its_seed_and_place(toys: FrameSet) -> None:
    first, second, other = (Samples(toys, AugmentConfig(), seed) for seed in (3, 3, 4))
    for index in (0, 17, 999):
        assert all((a == b).all() for a, b in zip(first[index], second[index], strict=True))
    assert (first[0][0] != other[0][0]).any()


def test_each_pass_shows_every_frame_once_in_a_new_order(toys: FrameSet) -> None:
    samples = Samples(toys, OFF, 0)
    n = len(toys)
    passes = [[samples[turn * n + i][0][1:, 1:].numpy().tobytes() for i in range(n)] for turn in range(2)]
    assert len(set(passes[0])) == n
    assert set(passes[0]) == set(passes[1])
    assert passes[0] != passes[1]


def test_epochs_are_stretches_of_one_sequence() -> None:
    sampler = StretchSampler(2, 3, rank=0, world=1)
    sampler.set_epoch(2)
    assert list(sampler) == [12, 13, 14, 15, 16, 17]


def test_the_black_edge_is_as_blurred_as_the_rest_of_the_picture() -> None:
    """As it is in copies of the recordings; with a sharp one alone a model takes a soft one for robot."""
    white, mask = np.full((64, 64, 3), 255, np.uint8), np.zeros((64, 64), np.uint8)
    edged = OFF.model_copy(update={"black_edge": 1.0, "blur": 1.0})
    columns = [augment(white, mask, edged, np.random.default_rng(seed))[0][32, :3, 0] for seed in range(20)]
    assert any(0 < first < second < 255 for first, second, _ in columns)
    sharp = augment(white, mask, edged.model_copy(update={"blur": 0.0}), np.random.default_rng(0))[0]
    assert sharp[32, :3, 0].tolist() == [0, 255, 255]


def test_the_black_column_is_not_robot_and_the_black_row_is_where_the_row_below_is() -> None:
    """As BAIR's labels have it."""
    frame, mask = np.full((64, 64, 3), 255, np.uint8), np.zeros((64, 64), np.uint8)
    mask[:20, :9] = 1
    edged = augment(frame, mask, OFF.model_copy(update={"black_edge": 1.0}), np.random.default_rng(0))[1]
    assert not edged[:, 0].any()
    assert edged[:20, 1:9].all()
    assert augment(frame, mask, OFF, np.random.default_rng(0))[1][:20, 0].all()


def test_a_picture_of_nothing_has_no_robot_and_nothing_of_the_scene(toys: FrameSet) -> None:
    shown = []
    for seed in range(20):
        frame, mask = augment(
            toys.frames[0], toys.masks[0], OFF.model_copy(update={"blank": 1.0}), np.random.default_rng(seed)
        )
        assert (frame.shape, frame.dtype, mask.dtype) == ((64, 64, 3), np.uint8, np.uint8)
        assert not mask.any()
        shown.append(frame)
    scene = toys.frames[0].reshape(-1).astype(float)
    assert np.mean([abs(np.corrcoef(frame.reshape(-1), scene)[0, 1]) for frame in shown]) < 0.3
    assert min(frame.mean() for frame in shown) < 20


def test_without_pictures_of_nothing_a_seed_gives_the_same_as_ever(toys: FrameSet) -> None:
    some = AugmentConfig(blank=0.2)
    pairs = [
        [augment(toys.frames[0], toys.masks[0], config, np.random.default_rng(seed))[0] for seed in range(30)]
        for config in (AugmentConfig(), some)
    ]
    same = sum(np.array_equal(a, b) for a, b in zip(*pairs, strict=True))
    assert 15 < same < 30
