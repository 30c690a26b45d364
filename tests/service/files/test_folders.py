"""What `robomask segment` finds in folders: all that can be read, and by name what cannot."""

from pathlib import Path

import pytest
from service_kit import golden_frames, png

from service.commands.segment import main
from service.files.folders import walk
from service.files.sources import find


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A picture, and one in a folder below."""
    place = tmp_path / "frames"
    (place / "deep").mkdir(parents=True)
    for name in ("a.png", "deep/c.png"):
        (place / name).write_bytes(png(golden_frames()[0]))
    return place


@pytest.fixture
def command(folder: Path, repository: Path, tmp_path: Path) -> list[str]:
    return [str(folder), "--out", str(tmp_path / "out"), "--models", str(repository)]


def closed(folder: Path) -> Path:
    folder.mkdir()
    (folder / "d.png").write_bytes(png(golden_frames()[0]))
    folder.chmod(0)
    try:
        list(folder.iterdir())
    except PermissionError:
        return folder
    folder.chmod(0o700)
    pytest.skip("may read everything")


def test_links_that_lead_nowhere_are_named_and_the_rest_goes_on(
    folder: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    (folder / "camera").symlink_to(folder / "nowhere")
    (folder / "round").symlink_to(folder / "round")
    assert main(command) == 1
    said = capsys.readouterr()
    assert "2 frames segmented, 3 failed" in said.out
    for name in ("gone.png", "camera", "round"):
        assert f"robomask segment: {name}: expected a link that leads somewhere, got: " in said.err


def test_folders_that_cannot_be_read_are_named_and_the_rest_goes_on(
    folder: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    place = closed(folder / "closed")
    try:
        assert main(command) == 1
        said = capsys.readouterr()
        assert "2 frames segmented, 1 failed" in said.out
        assert "robomask segment: closed: expected a readable folder, got: Permission denied" in said.err
        assert main([str(place), *command[1:]]) == 1
        assert f"{place}: expected a readable folder, got: Permission denied" in capsys.readouterr().err
    finally:
        place.chmod(0o700)
    assert main(command) == 0


def test_links_to_folders_are_followed_each_folder_once(folder: Path, tmp_path: Path, command: list[str]) -> None:
    other = tmp_path / "other"
    (other / "masks").mkdir(parents=True)
    (other / "segment.jsonl").write_text("")
    for name in ("d.png", "masks/d.png"):
        (other / name).write_bytes(png(golden_frames()[1]))
    (folder / "camera").symlink_to(other)
    (folder / "camera2").symlink_to(other)
    (folder / "aardvark").symlink_to(folder / "deep")  # which is called by its own name
    (other / "back").symlink_to(folder)
    assert [source.name for source in find([folder])] == ["a.png", "camera/d.png", "deep/c.png"]
    assert main(command) == 0
    assert (tmp_path / "out" / "masks" / "camera" / "d.png").exists()


def test_results_are_left_out_also_behind_links(folder: Path, tmp_path: Path) -> None:
    masks = tmp_path / "out" / "masks"
    (masks / "deep").mkdir(parents=True)
    (masks / "deep" / "c.png").write_bytes(png(golden_frames()[0]))
    (folder / "made").symlink_to(masks)
    (folder / "made-below").symlink_to(masks / "deep")
    assert [path.name for path in walk(folder, [masks]).files] == ["a.png", "c.png"]
    assert [path.name for path in walk(masks / "deep", [masks]).files] == ["c.png"]
