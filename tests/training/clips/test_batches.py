"""Order, mixture and variation of clips: functions of the seed and the position alone."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from training.clips.augment import augment_clip
from training.clips.batches import ClipShape, HeldOutClips, Part, TrainClips, loader
from training.clips.order import MIXED_TOGETHER, ShuffledTracks, mixture_turn
from training.clips.reading import open_clips, put_on_sides
from training.pretrain.config import ClipAugmentConfig
from training.sampler import StretchSampler

AS_THEY_ARE = ClipAugmentConfig()
VARIED = ClipAugmentConfig(mirror=0.5, crop_px=8, colour=0.5, noise=0.5)
Draw = Callable[..., np.ndarray]


def part(folder: Path, n: int, n_frames: int, draw: Draw, *, share: float = 1.0, seed: int = 0) -> Part:
    folder.mkdir()
    for shard in range(2):
        np.savez(folder / f"{shard}.npz", frames=draw(n, n_frames, seed=seed + shard, size=16))
    source = open_clips(folder)
    return Part(source, put_on_sides(source, 4, val_fraction=0.2, seed=0), share)


def test_a_pass_visits_every_track_as_often_as_it_holds_clips() -> None:
    order = ShuffledTracks([0, 0, 1, 2, 2, 2], [1, 3, 1, 1, 2, 1], seed=3)
    assert len(order) == 9
    for turn in range(3):
        seen = Counter(order[turn * 9 + place] for place in range(9))
        assert seen == {0: 1, 1: 3, 2: 1, 3: 1, 4: 2, 5: 1}
    assert [order[i] for i in range(9)] != [order[i] for i in range(9, 18)]
    again = ShuffledTracks([0, 0, 1, 2, 2, 2], [1, 3, 1, 1, 2, 1], seed=3)
    assert again[14] == order[14], "asked for first, as after resuming"


def test_clips_of_a_few_files_are_seen_together() -> None:
    shards = [i // 10 for i in range(200)]
    order = ShuffledTracks(shards, [1] * 200, seed=0)
    for start in range(0, 200, 40):
        assert len({shards[order[place]] for place in range(start, start + 40)}) == 4


def test_sources_appear_by_their_shares_and_none_of_their_places_is_left_out() -> None:
    turns = [mixture_turn(i, [3.0, 1.0, 1.0], seed=5) for i in range(5 * MIXED_TOGETHER)]
    counts = Counter(turn.source for turn in turns)
    for source, share in enumerate((0.6, 0.2, 0.2)):
        assert abs(counts[source] - share * len(turns)) <= 2
        places = sorted(turn.place for turn in turns if turn.source == source)
        assert places == list(range(counts[source]))
    assert len({turn.source for turn in turns[:16]}) > 1


def test_a_sample_depends_on_seed_and_position_alone(tmp_path: Path, draw: Draw) -> None:
    parts = [part(tmp_path / "a", 6, 9, draw), part(tmp_path / "b", 6, 4, draw, share=0.5, seed=9)]
    clips = TrainClips(parts, ClipShape(4, 16), VARIED, seed=1)
    in_order = [clips[i] for i in range(30)]
    fresh = TrainClips(parts, ClipShape(4, 16), VARIED, seed=1)
    assert torch.equal(fresh[29], in_order[29])
    assert torch.equal(fresh[3], in_order[3])
    assert not torch.equal(TrainClips(parts, ClipShape(4, 16), VARIED, seed=2)[3], in_order[3])


def test_windows_are_consecutive_frames_cut_at_random(tmp_path: Path, draw: Draw) -> None:
    clips = TrainClips([part(tmp_path / "a", 6, 9, draw)], ClipShape(4, 16), AS_THEY_ARE, seed=1)
    starts = set()
    for i in range(60):
        times = clips[i][:, 0, 0, 1].tolist()
        assert times == list(range(times[0], times[0] + 4))
        starts.add(times[0])
    assert starts == set(range(6))


def test_what_is_held_out_is_never_learnt_from(tmp_path: Path, draw: Draw) -> None:
    parts = [part(tmp_path / "a", 6, 4, draw)]
    train = TrainClips(parts, ClipShape(4, 16), AS_THEY_ARE, seed=1)
    held_out = HeldOutClips(parts, ClipShape(4, 16), n_clips=8)
    seen = {train[i].numpy().tobytes() for i in range(100)}
    assert len(seen) == len(parts[0].sides.train)
    assert not seen & {held_out[i].numpy().tobytes() for i in range(len(held_out))}


@pytest.mark.parametrize("world", [1, 3])
def test_processes_share_out_the_positions_of_every_epoch(world: int) -> None:
    samplers = [StretchSampler(2, 5, rank=rank, world=world) for rank in range(world)]
    seen = []
    for epoch in range(2):
        for sampler in samplers:
            sampler.set_epoch(epoch)
            seen += list(sampler)
            assert len(list(sampler)) == len(sampler) == 10
    assert sorted(seen) == list(range(20 * world))


def test_worker_processes_give_the_batches_that_one_process_gives(tmp_path: Path, draw: Draw) -> None:
    clips = TrainClips([part(tmp_path / "a", 6, 9, draw)], ClipShape(4, 16), VARIED, seed=1)
    sampler = StretchSampler(2, 3, rank=0, world=1)
    alone, shared = (list(loader(clips, 2, workers=n, sampler=sampler)) for n in (0, 2))
    assert all(torch.equal(a, b) for a, b in zip(alone, shared, strict=True))


def test_a_variation_is_the_same_for_all_frames_of_a_clip(draw: Draw) -> None:
    still = np.repeat(draw(1, 1, size=32)[0], 6, axis=0)
    for seed in range(10):
        varied = augment_clip(still, ClipAugmentConfig(mirror=0.5, crop_px=8, colour=1), np.random.default_rng(seed))
        assert varied.shape == still.shape
        assert (varied == varied[:1]).all()
        assert not np.array_equal(varied, still)
    noisy = augment_clip(still, ClipAugmentConfig(noise=1), np.random.default_rng(0))
    assert 0 < np.abs(noisy.astype(int) - still).mean() < 8


def test_a_mirrored_clip_is_the_clip_from_right_to_left(draw: Draw) -> None:
    clip = draw(1, 3, size=8)[0]
    mirrored = augment_clip(clip, ClipAugmentConfig(mirror=1), np.random.default_rng(0))
    np.testing.assert_array_equal(mirrored, clip[:, :, ::-1])
