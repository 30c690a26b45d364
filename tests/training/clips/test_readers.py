"""Every form of data set gives the frames that were put into it, and says what is wrong with it."""

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from training.clips.npz import fill_columns
from training.clips.reading import open_clips, put_on_sides
from training.clips.source import fingerprint, to_square
from training.data.readers import DatasetError

Draw = Callable[..., np.ndarray]
Write = Callable[[Path, dict[str, np.ndarray]], None]


def test_tfrecords_give_each_record_and_camera_as_a_track(bair: Path, draw: Draw) -> None:
    source = open_clips(bair)
    assert [file.parent.name for file in source.files] == ["test", "train", "train"]
    assert {track.n_frames for track in source.tracks} == {6}
    assert len(source.tracks) == 3 * 2 * 2
    for camera, seed in (("image_aux1", 0), ("image_main", 1)):
        wanted = draw(2, 6, seed=seed)[1, 2:5]
        found = [source.read(i, 2, 3) for i, track in enumerate(source.tracks) if track.scene == "train/traj_0_to_1"]
        assert any(np.array_equal(wanted, clip) for clip in found), camera


def test_the_folders_of_bair_are_its_split(bair: Path) -> None:
    source = open_clips(bair)
    sides = put_on_sides(source, 6, val_fraction=0.5, seed=0)
    assert {source.tracks[i].scene for i in sides.val} == {"val/traj_0_to_1"}
    assert len(sides.train) == 8


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda data: data[:-5], "end of the file"),
        (lambda data: b"\x1f\x8b" + data[2:], "not compressed"),
        (lambda data: data[:100] + bytes([data[100] ^ 1]) + data[101:], "does not match its checksum"),
    ],
)
def test_a_damaged_tfrecord_file_is_named(bair: Path, spoil: Callable[[bytes], bytes], says: str) -> None:
    file = bair / "train" / "traj_0_to_1.tfrecords"
    file.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(DatasetError, match=says) as refusal:
        open_clips(bair)
    assert file.name in str(refusal.value)


def test_frames_of_another_size_in_a_tfrecord_are_refused(tmp_path: Path, draw: Draw, write: Write) -> None:
    file = tmp_path / "small.tfrecords"
    write(file, {"image_aux1": draw(1, 2, size=32)})
    with pytest.raises(DatasetError, match=r"expected '0/image_aux1/encoded' to be 12288 bytes"):
        open_clips(file).read(0, 0, 2)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_shards_of_clips_are_read_mapped_or_loaded(tmp_path: Path, draw: Draw, save: Callable[..., None]) -> None:
    for shard in range(2):
        save(tmp_path / f"{shard}.npz", frames=draw(3, 5, seed=shard), masks=np.zeros(1))
    source = open_clips(tmp_path)
    assert len(source.tracks) == 6
    assert source.tracks[4].scene == "1/1"
    clip = source.read(4, 1, 3)
    np.testing.assert_array_equal(clip, draw(3, 5, seed=1)[1, 1:4])
    assert isinstance(clip, np.memmap) == (save is np.savez)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_damaged_member_of_an_npz_file_is_told_of(tmp_path: Path, draw: Draw, save: Callable[..., None]) -> None:
    file = tmp_path / "clips.npz"
    save(file, frames=draw(3, 4), scene=np.array([f"scene{i}" for i in range(3)]))
    content = bytearray(file.read_bytes())
    at = content.index(b"scene.npy") + 60  # within its data, which the archive has a checksum of
    content[at : at + 40] = bytes(40)
    file.write_bytes(content)
    with pytest.raises(DatasetError, match=r"clips\.npz: expected an \.npz file of arrays that is whole"):
        open_clips(file)


def test_flat_frames_become_tracks_wherever_times_follow_one_another(tmp_path: Path, draw: Draw) -> None:
    frames = draw(1, 9)[0]
    scene = np.array(["a"] * 5 + ["b"] * 4)
    time = np.array([0, 1, 2, 4, 5, 0, 1, 2, 3])
    split = np.array(["train"] * 5 + ["val"] * 4)
    valid = np.ones(frames.shape[:3], bool)
    valid[7, :4, 5] = False
    np.savez_compressed(tmp_path / "flat.npz", frames=frames, scene=scene, time=time, split=split, valid=valid)
    source = open_clips(tmp_path / "flat.npz")
    assert [(t.scene, t.n_frames) for t in source.tracks] == [("a", 3), ("a", 2), ("b", 4)]
    np.testing.assert_array_equal(source.read(0, 1, 2), frames[1:3])
    painted = source.read(2, 2, 1)[0]
    np.testing.assert_array_equal(painted[:4, 5], np.broadcast_to(frames[7, 4, 5], (4, 3)))
    np.testing.assert_array_equal(painted[:, 6], frames[7, :, 6])
    sides = put_on_sides(source, 3, val_fraction=0.1, seed=0)
    assert (sides.train, sides.val, sides.n_short) == ([0], [2], 1)


def test_a_scene_that_is_marked_for_both_sides_is_refused(tmp_path: Path, draw: Draw) -> None:
    time, scene = np.array([0, 1, 2, 3, 4, 5]), np.full(6, "a")
    for file, split in (("mixed", ["train"] * 3 + ["val"] * 3), ("learnt", ["train"] * 6)):
        np.savez(tmp_path / f"{file}.npz", frames=draw(1, 6)[0], scene=scene, time=time, split=np.array(split))
    mixed = open_clips(tmp_path / "mixed.npz")
    assert [track.n_frames for track in mixed.tracks] == [3, 3]
    with pytest.raises(DatasetError, match="1 marked both to be learnt from and to be held out, such as 'a'"):
        put_on_sides(mixed, 3, val_fraction=0.1, seed=0)
    assert put_on_sides(open_clips(tmp_path / "learnt.npz"), 3, val_fraction=0.1, seed=0).train == [0]


def test_where_all_is_marked_to_be_learnt_from_some_is_held_out_all_the_same(tmp_path: Path, draw: Draw) -> None:
    np.savez(tmp_path / "a.npz", frames=draw(9, 4, size=8), split=np.full(9, "train"))
    sides = put_on_sides(open_clips(tmp_path), 4, val_fraction=0.2, seed=0)
    assert sides.val
    assert len(sides.train) + len(sides.val) == 9


def test_columns_without_a_valid_pixel_keep_what_they_have() -> None:
    frames = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)
    np.testing.assert_array_equal(fill_columns(frames, np.zeros((1, 2, 2), bool)), frames)


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"pictures": np.zeros(3)}, "expected an array 'frames', found ['pictures']"),
        ({"frames": np.zeros((2, 3, 8, 8, 3))}, "expected frames uint8 [N,T,H,W,3]"),
        ({"frames": np.zeros((2, 8, 8, 3), np.uint8)}, "expected 'scene' and 'time' beside them"),
        ({"frames": np.zeros((2, 3, 8, 8, 3), np.uint8), "scene": np.array(["a"])}, "expected scene [2]"),
    ],
)
def test_arrays_that_are_no_clips_are_refused(tmp_path: Path, arrays: dict[str, np.ndarray], says: str) -> None:
    file = tmp_path / "odd.npz"
    np.savez(file, **arrays)
    with pytest.raises(DatasetError) as refusal:
        open_clips(file)
    assert says in str(refusal.value)
    assert "odd.npz" in str(refusal.value)


def write_video(file: Path, levels: list[int], height: int = 64, width: int = 96) -> None:
    """A video whose frames are plain grey; one key frame at the start."""
    with av.open(file, "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.gop_size = 8
        for level in levels:
            picture = np.full((height, width, 3), level, np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def test_any_stretch_of_a_video_is_read(tmp_path: Path) -> None:
    levels = [40 + 8 * t for t in range(20)]
    write_video(tmp_path / "arm.mp4", levels)
    source = open_clips(tmp_path)
    assert [track.n_frames for track in source.tracks] == [20]
    for start in (0, 5, 13):
        clip = source.read(0, start, 6)
        assert clip.shape == (6, 64, 96, 3)
        np.testing.assert_allclose(clip.mean((1, 2, 3)), levels[start : start + 6], atol=5)
    assert to_square(source.read(0, 0, 2), 32).shape == (2, 32, 32, 3)


def test_videos_of_one_name_in_two_folders_are_two_scenes(tmp_path: Path) -> None:
    for folder in ("left", "right"):
        (tmp_path / folder).mkdir()
        write_video(tmp_path / folder / "arm.mp4", [0, 80])
    assert [track.scene for track in open_clips(tmp_path).tracks] == ["left/arm", "right/arm"]
    assert open_clips(tmp_path / "left/arm.mp4").tracks[0].scene == "arm"


def test_a_file_that_is_no_video_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.mp4").write_text("not a video")
    with pytest.raises(DatasetError, match=r"notes\.mp4: expected a video"):
        open_clips(tmp_path)


def test_a_folder_without_clips_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="found nothing of the kind"):
        open_clips(tmp_path)
    with pytest.raises(DatasetError, match="no such file or folder"):
        open_clips(tmp_path / "absent")


def test_clips_that_are_too_short_are_counted_and_their_length_told(tmp_path: Path, draw: Draw) -> None:
    np.savez(tmp_path / "short.npz", frames=draw(2, 5))
    with pytest.raises(DatasetError, match="expected clips of 16 frames to learn from, found 2 tracks of at most 5"):
        put_on_sides(open_clips(tmp_path), 16, val_fraction=0.1, seed=0)


def test_unmarked_scenes_are_held_out_whole_by_the_seed(tmp_path: Path, draw: Draw) -> None:
    scene = np.array([f"s{i // 2}" for i in range(40)])
    np.savez(tmp_path / "a.npz", frames=draw(40, 4, size=8), scene=scene)
    source = open_clips(tmp_path)
    sides = put_on_sides(source, 4, val_fraction=0.3, seed=1)
    train, val = ({source.tracks[i].scene for i in side} for side in (sides.train, sides.val))
    assert not train & val
    assert 1 <= len(val) <= 12
    assert put_on_sides(source, 4, val_fraction=0.3, seed=1) == sides
    assert put_on_sides(source, 4, val_fraction=0.3, seed=2) != sides
    assert len(put_on_sides(source, 4, val_fraction=1e-9, seed=1).val) == 2, "one scene at least"


def test_fingerprints_tell_contents_and_large_sources_are_hashed_by_their_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.bin"
    file.write_bytes(bytes(5 << 20))
    zeros = fingerprint([file])
    assert zeros.whole
    assert zeros.n_bytes == 5 << 20
    file.write_bytes(bytes(2 << 20) + b"1" + bytes((3 << 20) - 1))
    assert fingerprint([file]).sha256 != zeros.sha256
    monkeypatch.setattr("training.clips.source.HASH_WHOLE_BYTES", 0)
    ends = fingerprint([file])
    assert not ends.whole
    file.write_bytes(bytes((5 << 20) - 1) + b"1")
    assert fingerprint([file]).sha256 != ends.sha256


@pytest.mark.parametrize(
    ("name", "codec"),
    [("arm.avi", "libx264"), ("arm.avi", "mpeg4"), ("arm.mp4", "mpeg4"), ("arm.mp4", "libx265")],
)
def test_every_stretch_of_a_video_is_found_whatever_its_format_makes_of_a_jump(
    tmp_path: Path, name: str, codec: str
) -> None:
    with av.open(str(tmp_path / name), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        stream.options = {"bf": "2", "g": "12", "x265-params": "log-level=none"}
        stream.bit_rate = 4_000_000
        stream.codec_context.thread_count = 1
        for i in range(40):
            grey = np.full((64, 64, 3), 6 * i, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(stream.encode())
    clips = open_clips(tmp_path / name)
    assert clips.tracks[0].n_frames == 40
    for start in range(36):
        levels = clips.read(0, start, 4).mean(axis=(1, 2, 3))
        assert (np.diff(levels) > 0).all()
        assert abs(levels[0] - 6 * start) <= 12  # some formats' times are off by a frame or two, by all alike
