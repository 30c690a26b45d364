"""Reading what annotation tools write."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from training.data.frames import FrameSet, concatenate
from training.data.readers import DatasetError, read_frames
from training.data.splits import apart, seeded_split


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


@pytest.mark.parametrize("content", [b"", b"PK no archive"])
def test_a_damaged_picture_is_named(tmp_path: Path, toys: FrameSet, content: bytes) -> None:
    write_coco(tmp_path, toys, "annotations.json")
    (tmp_path / "toy1_005.png").write_bytes(content)
    with pytest.raises(DatasetError, match=r"toy1_005\.png: expected a picture that is whole"):
        read_frames(tmp_path)


def test_what_is_no_coco_is_refused(tmp_path: Path) -> None:
    (tmp_path / "annotations.json").write_text(json.dumps({"images": [{"id": 1}], "annotations": []}))
    with pytest.raises(DatasetError, match="expected COCO annotations"):
        read_frames(tmp_path)


@pytest.mark.parametrize("pictures", ["images", "images/default"])
def test_an_export_of_cvat_is_read_as_it_lies(tmp_path: Path, toys: FrameSet, pictures: str) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / pictures).mkdir(parents=True)
    write_coco(tmp_path, toys, "annotations/instances_default.json")
    for file in tmp_path.glob("*.png"):
        file.rename(tmp_path / pictures / file.name)
    assert np.array_equal(read_frames(tmp_path).masks, toys.masks)


def test_instances_of_anything_but_the_robot_are_no_frames_without_one(tmp_path: Path, toys: FrameSet) -> None:
    toy = {"category_id": 2, "segmentation": square(0, 0)}
    with pytest.raises(DatasetError, match=r"expected instances of its category 'robot', found those of \['toy'\]"):
        read_frames(annotated(tmp_path / "set", toys, [toy]))


def test_instances_of_no_image_are_refused(tmp_path: Path, toys: FrameSet) -> None:
    arm, lost = ({"category_id": 1, "segmentation": square(0, 0), **more} for more in ({}, {"image_id": 7}))
    with pytest.raises(DatasetError, match="found 1 with an image_id that no image has, the first with the id 1"):
        read_frames(annotated(tmp_path / "set", toys, [arm, lost]))


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
