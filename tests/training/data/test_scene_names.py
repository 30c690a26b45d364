"""What the names of files say of scenes."""

import pytest

from training.data.scene_names import scene_among, scene_of


def test_scenes_come_from_file_names() -> None:
    assert [scene_of(s) for s in ("scene03_012", "kitchen-left-7", "alone")] == ["scene03", "kitchen-left", "alone"]
    assert {scene_of(f"frame{number:04}.png") for number in range(20)} == {"frame"}
    assert scene_of("0001.png") == "0001"


@pytest.mark.parametrize("name", ["frame_01.PNG", "Image (3).png", "video-frame.7.png", "images/default/12.png"])
def test_a_name_that_any_frame_could_have_is_told_apart_by_content(name: str) -> None:
    assert scene_among(name, "0a1b2c3d") == f"{scene_of(name)}-0a1b2c3d"


@pytest.mark.parametrize("name", ["frame3_01.png", "day1/frame_01.png", "2024_07.png", "left0001.png", "toy0_000.png"])
def test_a_name_that_says_more_is_the_same_in_every_data_set(name: str) -> None:
    assert scene_among(name, "0a1b2c3d") == scene_of(name)


def test_the_folders_of_one_export_that_has_dealt_out_its_frames_share_scenes() -> None:
    assert scene_among("frame_0001_png.rf.0a1b2c.jpg", "0a1b2c3d") == "frame"
