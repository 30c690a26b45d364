"""`robomask segment --coco` makes data sets that training reads: of the pictures that this run was given."""

import json
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from service_kit import golden_frames, png

from service.commands.segment import main
from training.data.readers import read_frames

COCO = "annotations.coco.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures."""
    place = tmp_path / "frames"
    place.mkdir()
    for name, frame in zip(("a.png", "b.png"), golden_frames(), strict=False):
        (place / name).write_bytes(png(frame))
    return place


@pytest.fixture
def command(folder: Path, repository: Path) -> list[str]:
    return [str(folder), "--out", str(folder), "--models", str(repository), "--coco"]


def video(path: Path, frames: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height = 64, 48
        for _ in range(frames):
            picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), (255, 0, 0), np.uint8), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def listed(folder: Path) -> list[str]:
    return [image["file_name"] for image in json.loads((folder / COCO).read_text())["images"]]


def test_a_picture_that_was_deleted_is_not_in_it(folder: Path, command: list[str]) -> None:
    assert main(command) == 0
    (folder / "a.png").unlink()
    assert main(command) == 0
    assert listed(folder) == ["b.png"]
    assert len(read_frames(folder)) == 1


def test_frames_of_videos_are_left_out_and_that_is_said(
    folder: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    video(folder / "clip.mp4", 5)
    assert main(command) == 0
    said = capsys.readouterr().err
    assert f"{folder / COCO}: expected a picture for each frame, found none for 5 frames of videos" in said
    assert "give --frames and another --out" in said
    assert listed(folder) == ["a.png", "b.png"]
    assert len(read_frames(folder)) == 2


def test_frames_of_videos_that_have_pictures_beside_it_are_in_it_as_far_as_they_are_to_be_taken(
    tmp_path: Path, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video(tmp_path / "videos" / "clip.mp4", 6)
    out = tmp_path / "out"
    command = [str(tmp_path / "videos"), "--out", str(out), "--models", str(repository), "--coco"]
    (out / "clip.mp4").mkdir(parents=True)
    for index in range(6):
        (out / "clip.mp4" / f"{index:06}.png").write_bytes(png(np.zeros((48, 64, 3), np.uint8)))
    assert main(command) == 0
    assert len(listed(out)) == len(read_frames(out)) == 6
    assert main([*command, "--every", "4"]) == 0
    assert listed(out) == ["clip.mp4/000000.png", "clip.mp4/000004.png"]
    assert "left out" not in capsys.readouterr().err


def test_frames_of_videos_are_written_where_that_is_asked_for_and_make_a_data_set(
    folder: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    video(folder / "clip.mp4", 5)
    (folder / "000001.png").write_bytes(png(golden_frames()[2]))  # a picture, though named as a frame
    for _ in range(2):  # what is written is no input the next time
        assert main([*command, "--frames", "--every", "2"]) == 0
        names = [f"video-frames/clip.mp4/{index:06}.png" for index in (0, 2, 4)]
        assert listed(folder) == ["000001.png", "a.png", "b.png", *names]
    assert "6 frames segmented, 0 failed" in (said := capsys.readouterr().out)
    assert "0 frames segmented, 6 had been before" in said
    shown = np.asarray(Image.open(folder / names[0]))
    assert shown.shape == (48, 64, 3)
    assert shown[..., 0].min() > 200
    assert sorted(path.name for path in (folder / "video-frames").iterdir()) == ["clip.mp4"]
    assert len(read_frames(folder)) == 6


def test_a_frame_that_was_deleted_is_written_again_and_what_somebody_put_there_stays(
    tmp_path: Path, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video(tmp_path / "clip.mp4", 2)
    place = tmp_path / "out" / "video-frames" / "clip.mp4"
    place.mkdir(parents=True)
    own = place / "000001.png"
    own.write_bytes(b"somebody's")
    command = [str(tmp_path / "clip.mp4"), "--out", str(tmp_path / "out"), "--models", str(repository)]
    assert main([*command, "--frames"]) == 1
    assert "expected no file but what robomask segment has written" in capsys.readouterr().err
    assert own.read_bytes() == b"somebody's"
    own.unlink()
    assert main([*command, "--frames"]) == 0
    (place / "000000.png").unlink()
    assert main([*command, "--frames"]) == 0
    assert len(list(place.iterdir())) == 2
    assert main(command) == 1
    assert "same options" in capsys.readouterr().err
