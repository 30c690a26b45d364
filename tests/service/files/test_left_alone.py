"""`robomask segment` leaves alone what it has not written, and goes on from wherever it was killed."""

import json
import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from service_kit import Running, golden_frames, png

from service.commands.segment import main
from service.files.errors import SegmenterFailed
from service.files.journal import Journal
from service.files.model_name import ModelName
from service.files.names import JOURNAL
from service.files.results import Writing
from service.files.running import segment_all
from service.files.segmenters import Found
from service.files.sources import Content, find

COCO = "annotations.coco.json"

# Goes on with work in a fork that kills itself (SIGKILL) when it is about to do the n-th thing to the file system, for
# n = 1, 2, ... until one gets to its end; and goes on once more each time.
PROGRAM = """
import os, shutil, signal, sys
from service.commands.segment import main
began, killed, images, *options = sys.argv[1:]
def run(step):
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    left = [step]
    def hook(event, arguments):
        if event in ("os.remove", "os.rename"):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)
    os._exit(main([images, "--out", out, *options]))
step, status = 0, 1
while status:
    step += 1
    out = f"{killed}/{step}"
    shutil.copytree(began, out)
    status = run(step)
    assert run(0) == 0
print(step)
"""


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A folder with two pictures in `images`."""
    place = tmp_path / "lab"
    (place / "images").mkdir(parents=True)
    for frame, name in zip(golden_frames(), ("a.png", "b.png"), strict=False):
        (place / "images" / name).write_bytes(png(frame))
    return place


@pytest.fixture
def command(lab: Path, repository: Path) -> list[str]:
    return [str(lab / "images"), "--out", str(lab), "--models", str(repository)]


@pytest.mark.parametrize("kind", ["masks", "overlays"])
def test_a_folder_with_masks_of_somebody_else_is_refused_and_left_as_it_is(
    lab: Path, command: list[str], capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    theirs = lab / kind / "b.png"
    theirs.parent.mkdir()
    theirs.write_bytes(png(golden_frames()[2]))
    assert main([*command, "--overlays"]) == 1
    assert capsys.readouterr().err == (
        f"robomask segment: {theirs}: expected no file but what robomask segment has written, found another; "
        "move it, or give another --out\n"
    )
    assert theirs.read_bytes() == png(golden_frames()[2])
    assert {path.name for path in lab.rglob("*") if path.is_file()} == {f".{JOURNAL}.lock", "a.png", "b.png"}


def test_a_mask_that_comes_between_two_runs_is_left_and_named(
    lab: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command) == 0
    for name in ("c.png", "d.png"):
        (lab / "images" / name).write_bytes(png(golden_frames()[0]))
    (lab / "masks" / "c.png").write_bytes(b"drawn by hand")
    assert main(command) == 1
    said = capsys.readouterr()
    assert "1 frames segmented, 2 had been before, 1 failed" in said.out
    assert f"c.png: {lab}/masks/c.png: expected no file but what robomask segment has written" in said.err
    assert (lab / "masks" / "c.png").read_bytes() == b"drawn by hand"
    assert sorted(path.name for path in (lab / "masks").iterdir()) == ["a.png", "b.png", "c.png", "d.png"]


@pytest.mark.parametrize("corrected", [True, False])
def test_a_mask_is_made_anew_for_a_new_picture_unless_a_person_has_changed_it(
    lab: Path, command: list[str], capsys: pytest.CaptureFixture[str], *, corrected: bool
) -> None:
    assert main(command) == 0
    mask = lab / "masks" / "a.png"
    if corrected:
        Image.fromarray(np.full((64, 64), 255, np.uint8)).save(mask)
    before = mask.read_bytes()
    (lab / "images" / "a.png").write_bytes(png(golden_frames()[2]))
    assert main(command) == int(corrected)
    assert ("expected the mask as it was written, found one changed since" in capsys.readouterr().err) is corrected
    assert (mask.read_bytes() == before) is corrected


def test_a_corrected_mask_is_kept_where_its_overlay_is_gone(lab: Path, command: list[str]) -> None:
    assert main([*command, "--overlays"]) == 0
    mask, overlay = lab / "masks" / "a.png", lab / "overlays" / "a.png"
    Image.fromarray(np.full((64, 64), 255, np.uint8)).save(mask)
    overlay.unlink()
    assert main([*command, "--overlays"]) == 1
    assert (np.asarray(Image.open(mask)) == 255).all()


def test_annotations_that_somebody_has_corrected_are_refused_before_anything_is_done(
    lab: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--coco"]) == 0
    corrected = (lab / COCO).read_text().replace('"score": 0.', '"score": 1.')
    (lab / COCO).write_text(corrected)
    (lab / "images" / "c.png").write_bytes(png(golden_frames()[2]))
    assert main([*command, "--coco"]) == 1
    said = capsys.readouterr().err
    assert f"{lab / COCO}: expected annotations as robomask segment has written them, found others" in said
    assert "move it, or give another --out" in said
    assert (lab / COCO).read_text() == corrected
    assert not (lab / "masks" / "c.png").exists()
    (lab / COCO).rename(lab / "corrected.json")
    assert main([*command, "--coco"]) == 0
    assert len(json.loads((lab / COCO).read_text())["images"]) == 3


def test_annotations_that_robomask_never_wrote_are_left(lab: Path, command: list[str]) -> None:
    (lab / COCO).write_text("{}")
    assert main([*command, "--coco"]) == 1
    assert (lab / COCO).read_text() == "{}"
    assert not (lab / JOURNAL).exists()
    assert main(command) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_run_that_was_killed_at_any_step_goes_on(lab: Path, repository: Path) -> None:
    options = ["--models", str(repository), "--overlays"]
    began, fresh = lab / "began", lab / "fresh"
    assert main([str(lab / "images"), "--out", str(began), *options]) == 0
    (lab / "images" / "a.png").write_bytes(png(golden_frames()[2]))  # the results of the one before have to go
    assert main([str(lab / "images"), "--out", str(fresh), *options]) == 0
    program = [sys.executable, "-c", PROGRAM, str(began), str(lab / "killed"), str(lab / "images"), *options]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    steps = int(subprocess.run(program, env=environment, check=True, capture_output=True, text=True).stdout.split()[-1])
    assert steps > 4  # each of two results is removed and put there
    for step in range(1, steps + 1):
        for kind in ("masks", "overlays"):
            for name in ("a.png", "b.png"):
                made = lab / "killed" / str(step) / kind / name
                assert made.read_bytes() == (fresh / kind / name).read_bytes(), f"killed at step {step}"


def test_what_is_in_work_when_the_work_ends_is_kept(lab: Path) -> None:
    others = threading.Barrier(2)

    class Failing:
        def segment(self, frame: Content) -> Found:
            others.wait(60)
            if frame == png(golden_frames()[0]):
                raise SegmenterFailed("the service is gone")
            return Found(np.ones((4, 5), np.uint8), 0.9, str(ModelName("m", 1, "0")))

        def close(self) -> None:
            pass

    writing = Writing(lab / "masks", None)
    with Journal(lab / JOURNAL, {}) as journal, pytest.raises(SegmenterFailed, match="gone"):
        segment_all(find([lab / "images"]), Failing(), journal, writing, every=1, jobs=2, on_frame=lambda _: None)
    with Journal(lab / JOURNAL, {}) as journal:
        assert list(journal.done) == ["b.png"]
    assert [path.name for path in (lab / "masks").iterdir()] == ["b.png"]


def test_a_run_that_fails_before_anything_is_done_may_be_tried_with_other_options(lab: Path, service: Running) -> None:
    command = [str(lab / "images"), "--out", str(lab / "out"), "--url", f"http://127.0.0.1:{service.port}"]
    assert main([*command, "--model", "unknown"]) == 1
    assert not (lab / "out" / JOURNAL).exists()
    assert main(command) == 0


@pytest.mark.parametrize("room", [64, 600, 4000])
def test_a_full_disk_is_said_with_the_file_and_the_same_command_goes_on(
    lab: Path, command: list[str], capsys: pytest.CaptureFixture[str], room: int
) -> None:
    for name in ("a.png", "b.png"):
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        (lab / "images" / name).write_bytes(png(noise))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))  # as a full disk, but for the words
    try:
        assert main([*command, "--overlays"]) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    said = capsys.readouterr().err
    assert f"{lab}" in said
    assert "expected to be able to write it, got: File too large" in said
    assert said.count("the same command goes on") == 1
    assert main([*command, "--overlays"]) == 0
    assert len((lab / JOURNAL).read_text().splitlines()) == 3
    assert not [path for path in lab.rglob(".*.tmp") if path.is_file()]
