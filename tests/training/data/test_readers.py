"""Reading labelled data sets."""

import io
from pathlib import Path

import numpy as np
import pytest

from training.data.frames import FrameSet
from training.data.readers import DatasetError, read_frames


def save(path: Path, toys: FrameSet, **arrays: np.ndarray) -> Path:
    np.savez(path, **{"frames": toys.frames, "masks": toys.masks, "scene": toys.scene, **arrays})
    return path


def test_an_npz_file_is_read_as_it_is(tmp_path: Path, toys: FrameSet) -> None:
    read = read_frames(save(tmp_path / "a.npz", toys))
    assert np.array_equal(read.frames, toys.frames)
    assert np.array_equal(read.masks, toys.masks)
    assert read.scene.tolist() == toys.scene.tolist()
    assert read.sha256() == toys.sha256()


def test_a_file_may_say_of_what_quality_each_frame_is(tmp_path: Path, toys: FrameSet) -> None:
    read = read_frames(save(tmp_path / "a.npz", toys, quality=np.arange(len(toys)) % 3))
    assert read.take(np.arange(4)).qualities.tolist() == ["0", "1", "2", "0"]


def test_where_a_data_set_says_nothing_of_quality_the_others_still_do(tmp_path: Path, toys: FrameSet) -> None:
    save(tmp_path / "a.npz", toys.take(np.arange(2)))
    save(tmp_path / "b.npz", toys.take(np.arange(2)), quality=np.array(["gif", "video"]))
    assert read_frames(tmp_path).qualities.tolist() == ["", "", "gif", "video"]


def test_a_folder_of_shards_is_read_in_order(tmp_path: Path, toys: FrameSet) -> None:
    save(tmp_path / "b.npz", toys.take(np.arange(4, 8)))
    save(tmp_path / "a.npz", toys.take(np.arange(4)))
    assert np.array_equal(read_frames(tmp_path).frames, toys.frames[:8])


def test_every_clip_is_a_scene_of_its_own(tmp_path: Path, toys: FrameSet) -> None:
    file = tmp_path / "clips.npz"
    np.savez(file, frames=toys.frames.reshape(6, 4, 64, 64, 3), masks=toys.masks.reshape(6, 4, 64, 64))
    read = read_frames(file)
    assert np.array_equal(read.frames, toys.frames)
    assert [name.rpartition("/")[2] for name in read.scene[:5]] == ["0"] * 4 + ["1"]
    assert read.scene[0].startswith("clips-")


def test_scenes_of_files_that_have_one_name_by_chance_have_not(tmp_path: Path, toys: FrameSet) -> None:
    for folder, first in (("a", 0), ("b", 1), ("moved", 0)):
        (tmp_path / folder).mkdir()
        np.savez(tmp_path / folder / "frames.npz", frames=toys.frames[first:], masks=toys.masks[first:])
    a, b, moved = (set(read_frames(tmp_path / folder / "frames.npz").scene.tolist()) for folder in ("a", "b", "moved"))
    assert not a & b
    assert a == moved


def test_larger_frames_are_averaged_down_to_the_models_size(tmp_path: Path, toys: FrameSet) -> None:
    file = tmp_path / "large.npz"
    np.savez(file, frames=toys.frames.repeat(3, 1).repeat(2, 2), masks=toys.masks.repeat(3, 1).repeat(2, 2))
    read = read_frames(file)
    assert np.array_equal(read.frames, toys.frames)
    assert np.array_equal(read.masks, toys.masks)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"frames": np.zeros((2, 8, 8, 3), np.float32), "masks": np.zeros((2, 8, 8), np.uint8)}, "float32"),
        ({"frames": np.zeros((2, 8, 8, 3), np.uint8), "masks": np.zeros((2, 8, 9), np.uint8)}, r"\[2, 8, 9\]"),
        ({"frames": np.zeros((2, 64, 64, 3), np.uint8), "masks": np.full((2, 64, 64), 255, np.uint8)}, "divide"),
        ({"frames": np.zeros((2, 128, 128, 3), np.uint8), "masks": np.full((2, 128, 128), 255, np.uint8)}, "divide"),
        ({"frames": np.zeros((2, 8, 8, 3), np.uint8)}, "'masks'"),
        ({"frames": np.zeros((2, 8, 8, 3), np.uint8), "masks": np.zeros((2, 8, 8), np.uint8), "scene": "a"}, "scene"),
        ({"frames": np.zeros((0, 8, 8, 3), np.uint8), "masks": np.zeros((0, 8, 8), np.uint8)}, "at least one"),
    ],
)
def test_wrong_arrays_are_refused_with_what_was_found(
    tmp_path: Path, arrays: dict[str, np.ndarray], message: str
) -> None:
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(DatasetError, match=message):
        read_frames(tmp_path / "bad.npz")


def whole_npy() -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    return file.getvalue()


@pytest.mark.parametrize("content", [b"", b"PK no archive", b"\x93NUMPY", whole_npy()])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.npz").write_bytes(content)
    with pytest.raises(DatasetError, match=r"bad\.npz: expected an \.npz file"):
        read_frames(tmp_path / "bad.npz")


def test_a_path_that_holds_nothing_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such file"):
        read_frames(tmp_path / "absent")
