"""Masks from motion, on drawn scenes: a dark arm moves over still toys, one of them as dark as the arm."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from training.commands.label import main
from training.data.frames import FrameSet
from training.data.readers import read_frames
from training.label.by_networks import propose_by
from training.label.coco import write_coco
from training.label.contours import polygons
from training.label.cut import cut
from training.label.evidence import Weights
from training.label.motion import Scene, background, from_above, moving
from training.label.propose import NothingMoves, propose
from training.run import load_segmenter
from training.scores import per_image_iou
from training.trainer import predict


def draw_scene(seed: int, n_frames: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Frames uint8 [T, 64, 64, 3] and masks uint8 [T, 64, 64]."""
    rng = np.random.default_rng(seed)
    ground = np.clip(rng.integers(170, 220, 3) + rng.normal(0, 2, (64, 64, 3)), 0, 255)
    for colour in ((30, 30, 34), (220, 60, 40), (60, 160, 70)):
        y, x = rng.integers(34, 52, 2)
        ground[y : y + 7, x : x + 7] = colour
    frames, masks = [], []
    for column in rng.permutation(np.linspace(2, 50, n_frames).astype(int)):
        mask = np.zeros((64, 64), np.uint8)
        mask[: int(rng.integers(18, 30)), column : column + 9] = 1
        frame = ground + rng.normal(0, 2, ground.shape)
        frame[mask == 1] = np.array([30, 26, 28]) + rng.normal(0, 3, (int(mask.sum()), 3))
        frames.append(np.clip(frame, 0, 255).astype(np.uint8))
        masks.append(mask)
    return np.stack(frames), np.stack(masks)


@pytest.fixture(scope="module")
def drawn() -> list[tuple[np.ndarray, np.ndarray]]:
    return [draw_scene(seed) for seed in range(3)]


@pytest.fixture(scope="module")
def clips(drawn: list[tuple[np.ndarray, np.ndarray]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All frames as a flat file, and every third as a labelled one."""
    folder = tmp_path_factory.mktemp("clips")
    frames, masks = (np.concatenate(part) for part in zip(*drawn, strict=True))
    scene, time = np.repeat(["a", "b", "c"], 10), np.tile(np.arange(10), 3)
    np.savez(folder / "clips.npz", frames=frames, scene=scene, time=time)
    np.savez(folder / "labelled.npz", frames=frames[::3], masks=masks[::3], scene=scene[::3], time=time[::3])
    np.savez(folder / "untimed.npz", frames=frames[1::3], masks=masks[1::3], scene=scene[1::3])
    return folder


def scene_of(frames: np.ndarray) -> Scene:
    return Scene(frames, np.ones(frames.shape[:3], bool))


def test_what_moves_in_from_above_is_found_and_still_toys_of_its_colour_are_not(
    drawn: list[tuple[np.ndarray, np.ndarray]],
) -> None:
    proposals = propose([scene_of(frames) for frames, _ in drawn], Weights(), rounds=2)
    for masks, (_, truth) in zip(proposals, drawn, strict=True):
        assert per_image_iou(masks, truth).mean() > 0.9


def test_the_background_is_what_stays_and_knows_where_it_was_never_seen() -> None:
    frames, masks = draw_scene(5)
    ground = background(scene_of(frames), masks.astype(bool))
    assert ground.known.all()
    assert ground.distance(frames)[masks == 0].mean() < 3
    assert ground.distance(frames)[masks == 1].mean() > 20
    always = np.ones_like(masks, bool)
    assert not background(scene_of(frames), always).known.any()
    assert moving(scene_of(frames), background(scene_of(frames), ~always))[masks == 1].mean() > 0.7


def test_pixels_that_were_painted_over_say_nothing_of_the_background() -> None:
    frames, masks = draw_scene(6)
    stamped, valid = frames.copy(), np.ones(masks.shape, bool)
    stamped[:7, 60:, 60:], valid[:7, 60:, 60:] = 255, False
    plain = background(scene_of(frames), masks.astype(bool))
    found = background(Scene(stamped, valid), masks.astype(bool))
    np.testing.assert_allclose(found.colour[60:, 60:], plain.colour[60:, 60:], atol=8)


def test_a_scene_in_which_nothing_moves_is_an_error() -> None:
    frames = np.repeat(draw_scene(0)[0][:1], 6, 0)
    with pytest.raises(NothingMoves, match="nothing"):
        propose([scene_of(frames)], Weights(), rounds=1)


def test_a_cut_follows_edges_where_evidence_is_weak() -> None:
    frame = np.full((12, 12, 3), 200, np.uint8)
    frame[:, :6] = 20
    evidence = np.full((12, 12), -0.1)
    evidence[:, :6] = 0.1
    evidence[4, 3], evidence[8, 9] = -0.8, 0.8  # two pixels that disagree with all around them
    mask = cut(evidence, frame, smooth=2.0)
    assert mask[:, :6].all()
    assert not mask[:, 6:].any()
    assert (cut(evidence, frame, smooth=0.0) == (evidence > 0)).all()


def test_only_what_reaches_the_upper_border_is_kept() -> None:
    mask = np.zeros((10, 10), bool)
    mask[:4, 1], mask[6:, 5] = True, True
    assert from_above(mask).sum() == 4


def test_proposals_come_back_from_coco_to_the_pixel(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    masks = rng.random((4, 64, 64)) < 0.3
    masks[1], masks[2, 0, 0] = False, True  # an empty one, and one that starts with a robot pixel
    written = write_coco(tmp_path / "set", ((f"s-{i // 2}_{i}", f"s/{i // 2}", frames[i], masks[i]) for i in range(4)))
    read = read_frames(tmp_path / "set")
    assert written == (4, 0)
    assert np.array_equal(read.frames, frames)
    assert np.array_equal(read.masks, masks)
    assert read.scene.tolist() == ["s/0", "s/0", "s/1", "s/1"]
    with pytest.raises(FileExistsError, match="corrected"):
        write_coco(tmp_path / "set", [])


def test_polygons_come_back_from_coco_to_the_pixel_but_for_holes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    masks = ndimage.gaussian_filter(rng.normal(size=(4, 64, 64)), (0, 2, 2)) > 0
    masks[1], masks[2] = False, rng.random((64, 64)) < 0.3  # an empty one, and many parts that touch by corners
    written = write_coco(tmp_path / "set", ((str(i), "s", frames[i], masks[i]) for i in range(4)), as_polygons=True)
    filled = np.stack([~_reached_from_outside(mask) for mask in masks])
    assert np.array_equal(read_frames(tmp_path / "set").masks, filled)
    assert written == (4, int(filled.sum() - masks.sum()))
    annotations = json.loads((tmp_path / "set/annotations.json").read_text())["annotations"]
    assert [one["image_id"] for one in annotations] == [1, 3, 4]
    assert all(one["iscrowd"] == 0 and isinstance(one["segmentation"], list) for one in annotations)
    assert [one["area"] for one in annotations] == [int(filled[i].sum()) for i in (0, 2, 3)]


def _reached_from_outside(mask: np.ndarray) -> np.ndarray:
    """What is not mask and hangs together, across corners too, with what lies around the picture: bool [H, W]."""
    parts, _ = ndimage.label(~np.pad(mask, 1), np.ones((3, 3)))
    outside: np.ndarray = (parts == parts[0, 0])[1:-1, 1:-1]
    return outside


def test_the_corners_of_a_part_turn_clockwise_and_parts_that_touch_by_a_corner_are_two() -> None:
    assert polygons(np.array([[1, 0], [0, 1]], bool)) == [[0, 0, 1, 0, 1, 1, 0, 1], [1, 1, 2, 1, 2, 2, 1, 2]]
    ring = np.ones((3, 3), bool)
    ring[1, 1] = False
    assert polygons(ring) == [[0, 0, 3, 0, 3, 3, 0, 3]]
    assert polygons(np.zeros((2, 2), bool)) == []


def test_the_command_writes_polygons_where_they_are_asked_for(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["--clips", str(clips / "clips.npz"), "--out"]
    assert main([*call, str(tmp_path / "lengths")]) == 0
    assert main([*call, str(tmp_path / "outlines"), "--polygons"]) == 0
    lengths, outlines = (read_frames(tmp_path / name) for name in ("lengths", "outlines"))
    assert (lengths.masks != outlines.masks).mean() < 0.001
    told = f"have filled {(lengths.masks != outlines.masks).sum()} pixels"
    assert (told in capsys.readouterr().out) == bool((lengths.masks != outlines.masks).any())


def test_frames_beyond_the_cap_are_told_of_with_the_cap_that_reads_them(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["--clips", str(clips / "clips.npz"), "--out", str(tmp_path / "out"), "--max-frames"]
    assert main([*call, "25", "--evaluate", str(clips / "labelled.npz")]) == 0
    printed = capsys.readouterr()
    assert "10 of 30 frames are left out, the last 1 tracks, by --max-frames 25: --max-frames 30 reads" in printed.err
    assert "20 frames" in printed.out
    report = json.loads(printed.out[printed.out.index("{") :])
    assert report["iou"]["all"]["n"] == 7
    assert report["labelled_frames_left_out_by_max_frames"] == 3
    assert report["labelled_frames_not_among_the_clips"] == 0

    assert main([*call[:2], "--max-frames", "30", "--evaluate", str(clips / "labelled.npz")]) == 0
    assert "left out, " not in capsys.readouterr().err


@pytest.mark.parametrize("labels", ["labelled.npz", "untimed.npz"])
def test_labelled_frames_that_were_not_read_are_told_from_those_that_are_not_there(
    labels: str, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with np.load(clips / "clips.npz") as file:
        split = np.repeat(["train", "val", "train"], 10)
        np.savez(tmp_path / "clips.npz", **{name: file[name] for name in file.files}, split=split)
    with np.load(clips / labels) as file:
        arrays = {name: file[name].copy() for name in file.files}
    arrays["frames"][0] = 7  # of another picture, and of another time
    if "time" in arrays:
        arrays["time"][0] = 99
    np.savez(tmp_path / "labelled.npz", **arrays)
    call = ["--clips", str(tmp_path / "clips.npz"), "--evaluate", str(tmp_path / "labelled.npz")]
    assert main([*call, "--split", "train", "--max-frames", "15"]) == 0
    report = json.loads(capsys.readouterr().out)
    n_read = report["iou"]["all"]["n"]
    assert report["labelled_frames_left_out_by_max_frames"] == 3
    assert report["labelled_frames_of_other_splits"] == 10 - 1 - n_read - 3
    assert report["labelled_frames_not_among_the_clips"] == 1


def test_a_second_frame_of_one_file_name_is_refused(tmp_path: Path) -> None:
    frame, mask = np.zeros((64, 64, 3), np.uint8), np.ones((64, 64), bool)
    for name in ("a_0", "A_0"):
        with pytest.raises(ValueError, match="a second frame of scene 'b'"):
            write_coco(tmp_path, [("a_0", "a", frame, mask), (name, "b", frame, mask)])
    assert not (tmp_path / "annotations.json").exists()


def test_videos_whose_places_look_alike_in_a_file_name_keep_their_own_pictures_and_masks(
    drawn: list[tuple[np.ndarray, np.ndarray]], tmp_path: Path
) -> None:
    names = ("day1/left", "day1-left", "day1-left-2")
    frames, masks = (np.concatenate(part) for part in zip(*drawn, strict=True))
    scene, time = np.repeat(names, 10), np.tile(np.arange(10), 3)
    np.savez(tmp_path / "clips.npz", frames=frames, scene=scene, time=time)
    assert main(["--clips", str(tmp_path / "clips.npz"), "--out", str(tmp_path / "out")]) == 0
    read = read_frames(tmp_path / "out")
    assert read.scene.tolist() == scene.tolist()
    assert np.array_equal(read.frames, frames)
    assert per_image_iou(read.masks, masks).mean() > 0.9

    document = json.loads((tmp_path / "out/annotations.json").read_text())
    for image in document["images"]:
        del image["scene"]  # a tool that knows no such field
    (tmp_path / "out/annotations.json").write_text(json.dumps(document))
    assert [len(set(read_frames(tmp_path / "out").scene[scene == name])) for name in names] == [1, 1, 1]
    assert len(set(read_frames(tmp_path / "out").scene)) == 3


def test_the_command_writes_measures_and_leaves_corrections_alone(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, picture = tmp_path / "proposed", tmp_path / "worst.png"
    call = ["--clips", str(clips / "clips.npz"), "--out", str(out), "--every", "2"]
    assert main([*call, "--evaluate", str(clips / "labelled.npz"), "--picture", str(picture)]) == 0
    printed = capsys.readouterr().out
    report = json.loads(printed[printed.index("{") : printed.rindex("}") + 1])
    assert report["iou"]["all"]["n"] == 10
    assert report["iou"]["all"]["mean"] > 0.9
    assert report["labelled_frames_not_among_the_clips"] == 0
    Image.open(picture).verify()
    assert len(read_frames(out)) == 15

    before = (out / "annotations.json").read_bytes()
    assert main(call) == 1
    assert "corrected" in capsys.readouterr().err
    assert (out / "annotations.json").read_bytes() == before


def test_labels_without_times_are_found_by_their_pixels(clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--clips", str(clips / "clips.npz"), "--evaluate", str(clips / "untimed.npz")]) == 0
    assert '"n": 10' in capsys.readouterr().out


def test_pixels_say_more_than_times_that_are_counted_from_elsewhere(
    drawn: list[tuple[np.ndarray, np.ndarray]], tmp_path: Path, clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames, masks = drawn[0]
    np.savez(tmp_path / "late.npz", frames=frames[4:], masks=masks[4:], scene=np.repeat("a", 6), time=np.arange(6))
    assert main(["--clips", str(clips / "clips.npz"), "--evaluate", str(tmp_path / "late.npz")]) == 0
    printed = capsys.readouterr().out
    assert json.loads(printed)["iou"]["all"]["mean"] > 0.9


def test_times_of_a_scene_that_pixels_contradict_say_nothing(
    drawn: list[tuple[np.ndarray, np.ndarray]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames, masks = drawn[0]
    np.savez(tmp_path / "clips.npz", frames=frames[:7], scene=np.repeat("a", 7), time=np.arange(7))
    np.savez(tmp_path / "late.npz", frames=frames[4:], masks=masks[4:], scene=np.repeat("a", 6), time=np.arange(6))
    assert main(["--clips", str(tmp_path / "clips.npz"), "--evaluate", str(tmp_path / "late.npz")]) == 0
    assert json.loads(capsys.readouterr().out)["labelled_frames_not_among_the_clips"] == 3


def test_trained_models_propose_the_masks_that_they_predict(
    toy_run: Path, toy_bundle: Path, toys: FrameSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "clips.npz", frames=toys.frames, scene=toys.scene, time=np.arange(len(toys)))
    call = ["--clips", str(tmp_path / "clips.npz"), "--models"]
    assert main([*call, str(toy_run), str(toy_bundle), "--out", str(tmp_path / "out")]) == 0
    mirrored = np.ascontiguousarray(toys.frames[:, :, ::-1])
    network = load_segmenter(toy_run)
    expected = (predict(network, toys.frames) + predict(network, mirrored)[:, :, ::-1]) / 2
    proposed = read_frames(tmp_path / "out")
    assert np.array_equal(proposed.scene, toys.scene)
    sure = abs(expected - 0.5) > 0.01  # the bundle's weights are float16 numbers
    assert np.array_equal(proposed.masks[sure], expected[sure] > 0.5)

    assert main([*call, str(tmp_path), "--out", str(tmp_path / "other")]) == 1
    assert "expected a finished run" in capsys.readouterr().err


def test_masks_come_at_the_size_of_the_frames(toy_run: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 96, 128, 3), dtype=np.uint8)
    masks = propose_by([load_segmenter(toy_run)], frames)
    assert masks.shape == (2, 96, 128)
    assert masks.dtype == bool


def test_only_tracks_of_the_split_that_was_asked_for_get_proposals(
    drawn: list[tuple[np.ndarray, np.ndarray]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = np.concatenate([frames for frames, _ in drawn])
    scene, time = np.repeat(["a", "b", "c"], 10), np.tile(np.arange(10), 3)
    split = np.repeat(["train", "val", "train"], 10)
    np.savez(tmp_path / "clips.npz", frames=frames, scene=scene, time=time, split=split)
    call = ["--clips", str(tmp_path / "clips.npz"), "--out", str(tmp_path / "out"), "--split"]
    assert main([*call, "test"]) == 1
    assert "marks ['train', 'val']" in capsys.readouterr().err
    assert main([*call, "train"]) == 0
    assert set(read_frames(tmp_path / "out").scene.tolist()) == {"a", "c"}
