"""What other cameras make of a frame, and how well a model bears it."""

import json
from pathlib import Path

import numpy as np
import pytest

from export.bench_conditions import changed, main
from export.conditions import CONDITIONS, NOTHING
from training.data.frames import FrameSet

MOVING = [name for name in CONDITIONS if name.startswith(("mirrored", "turned", "from", "nearer"))]


@pytest.mark.parametrize("name", CONDITIONS)
def test_a_condition_gives_frames_of_the_same_kind_each_time_and_leaves_what_it_is_given_alone(
    name: str, toys: FrameSet
) -> None:
    frame, mask = toys.frames[0].copy(), toys.masks[0].copy()
    shown, kept = CONDITIONS[name](frame, mask)
    assert (shown.shape, shown.dtype, kept.shape, kept.dtype) == ((64, 64, 3), np.uint8, (64, 64), np.uint8)
    assert set(np.unique(kept)) <= {0, 1}
    again = CONDITIONS[name](frame, mask)
    assert all(np.array_equal(first, second) for first, second in zip((shown, kept), again, strict=True))
    assert np.array_equal(frame, toys.frames[0])
    assert np.array_equal(mask, toys.masks[0])
    assert (name == "as it is") == np.array_equal(shown, frame)


@pytest.mark.parametrize("name", MOVING)
def test_frame_and_mask_move_together(name: str, toys: FrameSet) -> None:
    shown, mask = CONDITIONS[name](toys.frames[0], toys.masks[0])
    assert not np.array_equal(mask, toys.masks[0])
    dark = shown.astype(int).mean(-1) < 100
    assert (dark == mask.astype(bool)).mean() > 0.97


@pytest.mark.parametrize("name", [name for name in CONDITIONS if name not in MOVING])
def test_what_moves_nothing_leaves_the_mask(name: str, toys: FrameSet) -> None:
    assert np.array_equal(CONDITIONS[name](toys.frames[0], toys.masks[0])[1], toys.masks[0])


def test_frames_with_too_little_robot_left_are_left_out(toys: FrameSet) -> None:
    areas = toys.masks.sum((1, 2))
    found = changed(toys, CONDITIONS["as it is"], int(np.median(areas)))
    assert len(found.frames) == len(found.masks) == (areas >= int(np.median(areas))).sum()


def test_models_are_measured_side_by_side(toy_run: Path, toy_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(toy_run)
    assert main([run, "--data", str(toy_file), "--least", "1", "--as-json"]) == 0
    found = json.loads(capsys.readouterr().out)
    scores, shares = found["iou"][run], found["robot_in_nothing"][run]
    assert (list(scores), list(shares)) == (list(CONDITIONS), list(NOTHING))
    assert all(0 <= share <= 1 for share in shares.values())
    assert main([run, f"{run}/.", "--data", str(toy_file), "--least", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + len(CONDITIONS) + 3 + len(NOTHING)
    mean = f"{scores['as it is']['mean']:.3f} | {scores['as it is']['p5']:.3f}"
    assert lines[2].startswith("| as it is | 8 |")
    assert lines[2].count(mean) == 2
    assert lines[-len(NOTHING)].split("|")[1:4] == [" black ", *[f" {shares['black']:.1%} "] * 2]


def test_a_condition_that_leaves_no_frame_to_measure_is_named(
    toy_run: Path, toy_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(toy_run), "--data", str(toy_file), "--least", "4096"]) == 1
    assert "as it is" in capsys.readouterr().err


def test_what_is_no_model_is_refused_by_name(
    toy_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path), "--data", str(toy_file)]) == 1
    assert str(tmp_path) in capsys.readouterr().err
