"""Reading labelled data sets."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from training.data.frames import FrameSet, concatenate
from training.data.readers import DatasetError, read_frames
from training.data.splits import apart, seeded_split


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


def write_coco(folder: Path, toys: FrameSet, name: str) -> None:
    images, annotations = [], []
    for i, (frame, mask) in enumerate(zip(toys.frames, toys.masks, strict=True)):
        file = f"{toys.scene[i]}_{i:03d}.png"
        Image.fromarray(frame).save(folder / file)
        images.append({"id": i + 5, "file_name": file, "width": 64, "height": 64})
        if i % 2:
            rle = coco_mask.encode(np.asfortranarray(mask))
            segmentation = {"size": rle["size"], "counts": rle["counts"].decode()}
        else:
            ys, xs = np.nonzero(mask)
            x0, x1, y0, y1 = (float(v) for v in (xs.min(), xs.max() + 1, ys.min(), ys.max() + 1))
            segmentation = [[x0, y0, x1, y0, x1, y1, x0, y1]]
        annotations.append({"id": i, "image_id": i + 5, "category_id": 1, "segmentation": segmentation, "iscrowd": 0})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "robot"}]}
    (folder / name).write_text(json.dumps(content))


@pytest.mark.parametrize("name", ["_annotations.coco.json", "annotations.json"])
def test_coco_polygons_and_run_lengths_become_masks(tmp_path: Path, toys: FrameSet, name: str) -> None:
    write_coco(tmp_path, toys, name)
    read = read_frames(tmp_path)
    assert np.array_equal(read.frames, toys.frames)
    assert np.array_equal(read.masks, toys.masks)
    assert read.scene.tolist() == toys.scene.tolist()


def test_a_missing_image_is_named(tmp_path: Path, toys: FrameSet) -> None:
    write_coco(tmp_path, toys, "annotations.json")
    (tmp_path / "toy1_005.png").unlink()
    with pytest.raises(DatasetError, match=r"toy1_005\.png"):
        read_frames(tmp_path)


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
def test_a_damaged_file_is_named(tmp_path: Path, toys: FrameSet, content: bytes) -> None:
    (tmp_path / "bad.npz").write_bytes(content)
    with pytest.raises(DatasetError, match=r"bad\.npz: expected an \.npz file"):
        read_frames(tmp_path / "bad.npz")
    write_coco(tmp_path, toys, "annotations.json")
    (tmp_path / "toy1_005.png").write_bytes(content)
    with pytest.raises(DatasetError, match=r"toy1_005\.png: expected a picture that is whole"):
        read_frames(tmp_path)
    (tmp_path / "annotations.json").write_text(json.dumps({"images": [{"id": 1}], "annotations": []}))
    with pytest.raises(DatasetError, match="expected COCO annotations"):
        read_frames(tmp_path)


def test_a_path_that_holds_nothing_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such file"):
        read_frames(tmp_path / "absent")


def video(folder: Path, frames: np.ndarray, name: str = "frame_{:06d}.PNG", **image: object) -> Path:
    """Frames of one video as an annotation tool exports them, with nothing on them."""
    folder.mkdir(parents=True)
    images = []
    for i, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / name.format(i))
        images.append({"id": i, "file_name": name.format(i), "width": 64, "height": 64, **image})
    (folder / "annotations.json").write_text(json.dumps({"images": images, "annotations": [], "categories": []}))
    return folder


@pytest.mark.parametrize("name", ["frame_{:06d}.PNG", "{:04d}.png", "IMG-{}.png"])
def test_videos_whose_frames_a_tool_has_named_alike_are_scenes_of_their_own(
    tmp_path: Path, toys: FrameSet, name: str
) -> None:
    one, other = (read_frames(video(tmp_path / str(n), toys.frames[4 * n :][:4], name)) for n in range(2))
    assert not set(one.scene.tolist()) & set(other.scene.tolist())
    split = seeded_split(concatenate([one, other]), 0.5, 0)
    assert len(split.train) == len(split.val) == 4
    assert len(apart([one], other).val) == 4


def test_what_a_scene_is_called_does_not_hang_on_where_the_folder_lies_nor_on_its_masks(
    tmp_path: Path, toys: FrameSet
) -> None:
    plain = read_frames(video(tmp_path / "video1", toys.frames[:4]))
    moved = read_frames(video(tmp_path / "elsewhere/video2", toys.frames[:4]))
    assert plain.sha256() == moved.sha256()
    content = json.loads((tmp_path / "video1/annotations.json").read_text())
    corrected = {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "segmentation": square(0, 0)}
    content |= {"annotations": [corrected], "categories": [{"id": 1, "name": "robot"}]}
    (tmp_path / "video1/annotations.json").write_text(json.dumps(content))
    again = read_frames(tmp_path / "video1")
    assert again.masks.any()
    assert again.scene.tolist() == plain.scene.tolist()


def test_scenes_that_are_named_are_taken_by_their_name(tmp_path: Path, toys: FrameSet) -> None:
    frames = toys.frames[:2]
    assert set(read_frames(video(tmp_path / "told", frames, scene="bin 3")).scene) == {"bin 3"}
    assert set(read_frames(video(tmp_path / "kitchen", frames, "kitchen_{}.png")).scene) == {"kitchen"}


def annotated(
    folder: Path, toys: FrameSet, annotations: list[dict[str, object]], *, robot: str = "robot", **image: object
) -> Path:
    """One picture, two categories, and these annotations."""
    folder.mkdir()
    Image.fromarray(toys.frames[0]).save(folder / "s_1.png")
    content = {
        "images": [{"id": 1, "file_name": "s_1.png", "width": 64, "height": 64, **image}],
        "categories": [{"id": 1, "name": robot}, {"id": 2, "name": "toy"}],
        "annotations": [{"id": i, "image_id": 1, "iscrowd": 0, **one} for i, one in enumerate(annotations)],
    }
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder


def square(left: int, top: int) -> list[list[int]]:
    return [[left, top, left + 8, top, left + 8, top + 8, left, top + 8]]


def test_of_several_categories_the_robot_alone_is_the_mask(tmp_path: Path, toys: FrameSet) -> None:
    arm, finger, toy = (
        {"category_id": c, "segmentation": square(*at)} for c, at in ((1, (0, 0)), (1, (20, 8)), (2, (40, 40)))
    )
    mask = read_frames(annotated(tmp_path / "set", toys, [arm, finger, toy])).masks[0]
    assert mask[2, 2] == mask[10, 24] == 1
    assert mask[44, 44] == 0


def test_a_robot_of_another_name_is_taken_where_nothing_else_is_labelled(tmp_path: Path, toys: FrameSet) -> None:
    arm, toy = ({"category_id": c, "segmentation": square(*at)} for c, at in ((1, (0, 0)), (2, (40, 40))))
    for number, name in enumerate(("Robot", "robot-arm")):
        file = annotated(tmp_path / f"alone{number}", toys, [arm], robot=name)
        assert read_frames(file).masks[0].sum() > 0
    assert read_frames(annotated(tmp_path / "both", toys, [arm, toy], robot="Robot")).masks[0, 44, 44] == 0
    with pytest.raises(DatasetError, match=r"\['robot-arm', 'toy'\]"):
        read_frames(annotated(tmp_path / "which", toys, [arm, toy], robot="robot-arm"))


def test_of_16_bit_grey_the_high_byte_counts(tmp_path: Path, toys: FrameSet) -> None:
    folder = annotated(tmp_path / "set", toys, [{"category_id": 1, "segmentation": square(0, 0)}])
    ramp = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16
    Image.fromarray(ramp).save(folder / "s_1.png")
    assert (read_frames(folder).frames[0] == (ramp >> 8)[..., None]).all()


@pytest.mark.parametrize(
    ("annotation", "image", "words"),
    [
        ({"category_id": 1, "bbox": [0, 0, 8, 8]}, {}, "a box alone is no mask"),
        ({"category_id": 1, "segmentation": []}, {}, "a box alone is no mask"),
        ({"category_id": 1, "segmentation": [[1, 2]]}, {}, "s_1.png"),
        ({"category_id": 1, "segmentation": square(0, 0)}, {"width": 32, "height": 80}, "found 32x80"),
    ],
)
def test_a_segmentation_that_is_none_is_named_with_its_picture(
    tmp_path: Path, toys: FrameSet, annotation: dict[str, object], image: dict[str, object], words: str
) -> None:
    with pytest.raises(DatasetError, match=words):
        read_frames(annotated(tmp_path / "set", toys, [annotation], **image))
