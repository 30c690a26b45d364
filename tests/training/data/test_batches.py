"""What a training run is fed."""

import numpy as np
import pytest

from training.config import AugmentConfig, DataConfig
from training.data.batches import SharedSamples, train_loader, weave
from training.data.frames import FrameSet
from training.data.noise import noise_frames

PLAIN = AugmentConfig(
    mirror=0, turn_deg=0, scale_log=0, stretch_log=0, shift_px=0, occlude=0, colour=0, blur=0, noise=0, compress=0,
    black_edge=0, stamp=0, blank=0,
)  # fmt: skip


@pytest.mark.parametrize("shares", [(1.0,), (0.5, 0.5), (0.2, 0.7, 0.1), (3, 1, 1)])
def test_every_data_set_gives_its_share_in_order_and_without_gaps(shares: tuple[float, ...]) -> None:
    places: dict[int, list[int]] = {}
    for index in range(1000):
        which, place = weave(index, shares)
        places.setdefault(which, []).append(place)
    for which, share in enumerate(shares):
        assert places[which] == list(range(len(places[which])))
        assert len(places[which]) == pytest.approx(1000 * share / sum(shares), abs=3)


def test_a_small_data_set_fills_its_share_by_coming_again(toys: FrameSet) -> None:
    dark = FrameSet(np.zeros_like(toys.frames[:2]), toys.masks[:2], toys.scene[:2], toys.split[:2])
    samples = SharedSamples([toys, dark], [0.5, 0.5], PLAIN, seed=1)
    is_dark = [not samples[i][0].any() for i in range(20)]
    assert sum(is_dark) == 10
    again = SharedSamples([toys, dark], [0.5, 0.5], AugmentConfig(), seed=1)
    assert all((again[i][0] == again[i][0]).all() for i in range(4))


def test_a_share_without_frames_is_an_error(toys: FrameSet) -> None:
    none = toys.take(np.zeros(len(toys), bool))
    with pytest.raises(ValueError, match="every data set"):
        train_loader([toys, none], PLAIN, shares=(0.5, 0.5), seed=0, batch_size=2, steps_per_epoch=1)


def test_there_is_one_share_for_each_data_set() -> None:
    with pytest.raises(ValueError, match="one positive share"):
        DataConfig.model_validate({"train": ["a.npz"], "shares": [0.5, 0.5]})
    with pytest.raises(ValueError, match="either split or folds"):
        DataConfig.model_validate({"train": ["a.npz"], "folds": 3, "split": "all"})


def test_noise_keeps_the_masks_and_the_colours_and_nothing_else(toys: FrameSet) -> None:
    noise = noise_frames(toys, 0)
    assert (noise.masks == toys.masks).all()
    assert set(np.unique(noise.frames)) <= set(np.unique(toys.frames))
    assert noise.frames.mean() == pytest.approx(toys.frames.mean(), rel=0.02)
    inside, outside = (noise.frames[noise.masks == k].mean() for k in (1, 0))
    assert inside == pytest.approx(outside, rel=0.05)
    assert (noise_frames(toys, 0).frames == noise.frames).all()
