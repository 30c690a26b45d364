"""`robomask segment` on pictures, folders and videos: by a service and with none, whole and interrupted."""

import io
import json
import threading
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco
from service_kit import Running, golden_frames, png, publish_cells, publish_tiny, red_probability, serving
from small_servers import small_server

from service.commands.segment import main
from service.files.journal import Journal
from service.files.names import JOURNAL
from service.files.results import Writing
from service.files.running import segment_all
from service.files.segmenters import Asked, Found, Segmenter, open_local
from service.files.sources import Content, find


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures, one of them in a folder below."""
    place = tmp_path / "frames"
    (place / "deep").mkdir(parents=True)
    for frame, name in zip(golden_frames(), ("a.png", "b.png", "deep/c.png"), strict=True):
        (place / name).write_bytes(png(frame))
    return place


def mask_in(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def expected(index: int) -> np.ndarray:
    return np.where(red_probability(golden_frames())[index] >= 0.5, 255, 0)


@pytest.fixture(params=["local", "url"])
def by(request: pytest.FixtureRequest, service: Running, repository: Path) -> list[str]:
    """Options of both ways."""
    return ["--models", str(repository)] if request.param == "local" else ["--url", f"http://127.0.0.1:{service.port}"]


def test_a_folder_becomes_masks_overlays_and_coco(
    folder: Path, tmp_path: Path, by: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main([str(folder), "--out", str(out), "--overlays", "--coco", *by]) == 0
    assert f"{out}: 3 frames segmented, 0 failed" in capsys.readouterr().out
    for index, name in enumerate(("a.png", "b.png", "deep/c.png")):
        assert (mask_in(out / "masks" / name) == expected(index)).all()
    drawn, mask = mask_in(out / "overlays" / "a.png"), expected(0) == 255
    assert (drawn[~mask] == golden_frames()[0][~mask]).all()
    assert (drawn[mask] != golden_frames()[0][mask]).any()
    document = json.loads((out / "annotations.coco.json").read_text())
    assert [image["file_name"] for image in document["images"]] == ["a.png", "b.png", "deep/c.png"]
    assert [image["width"] for image in document["images"]] == [64] * 3
    first = document["annotations"][0]
    assert (coco.decode(first["segmentation"]) * 255 == expected(0)).all()
    assert first["area"] == np.count_nonzero(expected(0))
    assert "tiny 1 " in document["info"]["description"]


def test_an_unreadable_picture_is_named_and_counted_and_the_rest_goes_on(
    folder: Path, tmp_path: Path, by: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    out = tmp_path / "out"
    assert main([str(folder), "--out", str(out), *by]) == 1
    said = capsys.readouterr()
    assert "3 frames segmented, 1 failed" in said.out
    assert "bad.png: expected a whole PNG" in said.err
    assert (out / "masks" / "b.png").exists()


def test_the_same_command_again_does_only_what_is_missing(
    folder: Path, tmp_path: Path, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [str(folder), "--out", str(tmp_path / "out"), "--models", str(repository), "--coco"]
    assert main(command) == 0
    (folder / "d.png").write_bytes(png(golden_frames()[0]))
    assert main(command) == 0
    assert "1 frames segmented, 3 had been before, 0 failed" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "out" / "annotations.coco.json").read_text())["images"]) == 4


def test_other_options_need_another_folder(
    folder: Path, tmp_path: Path, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [str(folder), "--out", str(tmp_path / "out"), "--models", str(repository)]
    assert main(command) == 0
    assert main([*command, "--threshold", "0.9"]) == 1
    assert "another --out" in capsys.readouterr().err


def test_two_runs_do_not_write_to_one_folder(
    folder: Path, tmp_path: Path, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = [str(folder), "--out", str(out), "--models", str(repository)]
    with Journal(out / JOURNAL, {}):
        assert main(command) == 1
    assert capsys.readouterr().err == (
        f"robomask segment: {out}: expected no other run to write there, but one does; wait for it, or give another "
        "--out\n"
    )
    (out / JOURNAL).unlink()
    assert main(command) == 0


def test_a_frame_whose_name_is_too_long_fails_alone(
    folder: Path, tmp_path: Path, by: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a" * 249 + ".jpg", "a" * 251 + ".png", "a" * 247 + ".jpg"):
        (folder / name).write_bytes(png(golden_frames()[0]))
    assert main([str(folder), "--out", str(tmp_path / "out"), *by]) == 1
    said = capsys.readouterr()
    assert "5 frames segmented, 1 failed" in said.out
    assert f"{'a' * 249}.jpg: expected a name that leaves room for .png" in said.err


@pytest.mark.parametrize("name", ["a\u2028b.png", "a\x85b.png", "a\nb.png", "a\x0bb.png"])
def test_a_frame_may_have_any_name_and_is_done_once(
    tmp_path: Path, repository: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / name).write_bytes(png(golden_frames()[0]))
    for said in ("1 frames segmented, 0 failed", "0 frames segmented, 1 had been before, 0 failed"):
        assert main([str(tmp_path / "frames"), "--out", str(tmp_path / "out"), "--models", str(repository)]) == 0
        assert said in capsys.readouterr().out


@pytest.mark.parametrize("keep_previous", [True, False])
def test_all_frames_are_one_models_whatever_is_swapped_on_the_service(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], *, keep_previous: bool
) -> None:
    for _ in range(2):
        publish_tiny(tmp_path / "models")
    admin = {"Authorization": "Bearer open sesame"}
    with serving(tmp_path / "models", version=1, admin_token="open sesame", keep_previous=keep_previous) as running:  # noqa: S106
        command = [str(folder), "--out", str(tmp_path / "out"), "--url", f"http://127.0.0.1:{running.port}"]
        assert main(command) == 0
        (folder / "d.png").write_bytes(png(golden_frames()[0]))
        running.client.post("/models/2/activate", headers=admin).raise_for_status()
        status = main(command)
    models = {json.loads(line)["model"] for line in (tmp_path / "out" / JOURNAL).read_text().splitlines()[1:]}
    assert len(models) == 1
    if keep_previous:
        assert status == 0
        return
    assert status == 1
    said = capsys.readouterr().err
    assert "version 1" in said
    assert "frames before are by that one: give another --out for a new one" in said


def test_an_address_that_sends_on_to_another_is_said_once(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = b"HTTP/1.1 308 Permanent Redirect\r\nLocation: https://robots.example/segment\r\nContent-Length: 0\r\n\r\n"
    with small_server(moved) as server:
        assert main([str(folder), "--out", str(tmp_path), "--url", "http://{}:{}".format(*server.address)]) == 1
    said = capsys.readouterr().err
    assert (
        said.count("robomask segment: expected a service at this address, got sent on to 'https://robots.example'") == 1
    )


def test_work_goes_on_at_another_address_of_the_service_and_no_password_is_written_down_or_said(
    folder: Path, tmp_path: Path, service: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [str(folder), "--out", str(tmp_path / "out"), "--url"]
    assert main([*command, f"http://me:secret@127.0.0.1:{service.port}"]) == 0
    journal = tmp_path / "out" / JOURNAL
    assert "secret" not in journal.read_text()
    old = journal.read_text().replace('"service": true', f'"url": "http://me:secret@127.0.0.1:{service.port}"', 1)
    journal.write_text(old)  # as it was written when the address stood in it
    assert main([*command, f"http://localhost:{service.port}/"]) == 0
    assert "0 frames segmented, 3 had been before" in capsys.readouterr().out
    assert "secret" not in journal.read_text()
    for url in ("http://me:secret@127.0.0.1:9", "http://me:secret@127.0.0.1:none", "me:secret@127.0.0.1:9"):
        assert main([str(folder), "--out", str(tmp_path / "o"), "--jobs", "1", "--url", url]) == 1
        said = capsys.readouterr().err
        assert "127.0.0.1" in said
        assert "secret" not in said


def test_work_of_a_service_is_not_gone_on_with_without_one(
    folder: Path, tmp_path: Path, service: Running, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [str(folder), "--out", str(tmp_path / "out"), "--models", str(repository)]
    assert main([*command, "--url", f"http://127.0.0.1:{service.port}"]) == 0
    assert main(command) == 1
    assert '"service": true' in capsys.readouterr().err


def test_a_half_written_line_is_done_again(folder: Path, tmp_path: Path, repository: Path) -> None:
    command = [str(folder), "--out", str(tmp_path / "out"), "--models", str(repository)]
    assert main(command) == 0
    journal = tmp_path / "out" / JOURNAL
    whole = journal.read_text()
    journal.write_text(whole[:-20])
    assert main(command) == 0
    assert sorted(journal.read_text().splitlines()) == sorted(whole.splitlines())


def test_what_was_done_before_an_interruption_is_kept(folder: Path, tmp_path: Path) -> None:
    class Interrupted:
        def __init__(self) -> None:
            self.calls = 0
            self.lock = threading.Lock()

        def segment(self, frame: Content) -> Found:
            del frame
            with self.lock:
                self.calls += 1
                if self.calls >= 2:  # the third may be in work by then, and would be kept
                    raise KeyboardInterrupt
            return Found(np.ones((4, 5), np.uint8), 0.9, "m")

        def close(self) -> None:
            pass

    segmenter: Segmenter = Interrupted()
    with Journal(tmp_path / JOURNAL, {}) as journal, pytest.raises(KeyboardInterrupt):
        segment_all(find([folder]), segmenter, journal, Writing(None, None), every=1, jobs=1, on_frame=lambda _: None)
    with Journal(tmp_path / JOURNAL, {}) as journal:
        assert list(journal.done) == ["a.png"]


def test_files_of_the_same_name_are_not_taken_for_those_that_are_done(
    folder: Path, tmp_path: Path, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--out", str(tmp_path / "out"), "--models", str(repository)]
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.png").write_bytes(png(golden_frames()[1][:32]))
    assert [main([str(place), *options]) for place in (folder, other, other)] == [0, 0, 0]
    assert mask_in(tmp_path / "out" / "masks" / "a.png").shape == (32, 64)
    assert "1 frames segmented, 0 failed" in (said := capsys.readouterr().out)
    assert "0 frames segmented, 1 had been before" in said


def test_a_mask_that_is_gone_is_made_again(folder: Path, tmp_path: Path, repository: Path) -> None:
    command = [str(folder), "--out", str(tmp_path / "out"), "--models", str(repository)]
    assert main(command) == 0
    (tmp_path / "out" / "masks" / "b.png").unlink()
    assert main(command) == 0
    assert np.array_equal(mask_in(tmp_path / "out" / "masks" / "b.png"), expected(1))


def test_a_newer_version_does_not_go_on_with_the_work_of_another(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish_tiny(tmp_path / "models")
    command = [str(folder), "--out", str(tmp_path / "out"), "--models", str(tmp_path / "models")]
    assert main(command) == 0
    publish_tiny(tmp_path / "models")
    assert main(command) == 1
    assert '"version": 1' in capsys.readouterr().err
    assert main([*command, "--version", "1"]) == 0
    journal = tmp_path / "out" / JOURNAL  # as it was written before the version stood in it
    journal.write_text(journal.read_text().replace('"version": 1', '"version": null', 1))
    assert main([*command, "--version", "1"]) == 0


def test_the_environment_is_not_taken_for_options(
    folder: Path, tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("url", "http://127.0.0.1:9")
    monkeypatch.setenv("threshold", "2")
    assert main([str(folder), "--out", str(tmp_path / "out"), "--models", str(repository)]) == 0


def test_an_option_without_its_value_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["frames", "--out"])
    assert "argument --out" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["2024", "c,d", "[old]"])
def test_a_folder_may_have_any_name(
    folder: Path, tmp_path: Path, repository: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert (
        main(["--every", "1", name, "--coco", "--out", "out", "--threshold", "0.5", "--models", str(repository)]) == 0
    )
    assert len(list((tmp_path / "out" / "masks").rglob("*.png"))) == 3


def test_what_cannot_be_written_is_said(
    folder: Path, tmp_path: Path, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main([str(folder), "--out", str(tmp_path / "file"), "--models", str(repository)]) == 1
    assert "File exists" in capsys.readouterr().err


def test_an_address_that_is_none_is_said_at_once(
    folder: Path, tmp_path: Path, service: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    for url, words in (
        ("localhost:8000", "such as http://127.0.0.1:8000"),
        ("http://here:port", "such as http://127.0.0.1:8000"),
        (f"http://127.0.0.1:{service.port}/segment", "is the address right?"),
    ):
        assert main([str(folder), "--out", str(tmp_path / "o"), "--url", url]) == 1
        assert words in capsys.readouterr().err


def test_hidden_folders_and_the_results_of_earlier_runs_are_no_frames(folder: Path, repository: Path) -> None:
    (folder / ".thumbs").mkdir()
    (folder / ".thumbs" / "a.png").write_bytes(png(golden_frames()[0]))
    for threshold in ("0.5", "0.7"):
        options = ["--threshold", threshold, "--out", str(folder / f"masked{threshold}"), "--models", str(repository)]
        assert main([str(folder), *options]) == 0
    assert len(list((folder / "masked0.7" / "masks").rglob("*.png"))) == 3


def test_an_overlay_shows_what_the_model_saw(tmp_path: Path, repository: Path) -> None:
    steps = (np.arange(64, dtype=np.uint16) * 1000)[:, None].repeat(96, axis=1)
    Image.fromarray(steps).save(tmp_path / "sixteen.png")
    turned = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    Image.new("RGB", (96, 64)).save(tmp_path / "xmp.jpg", xmp=turned)
    out = tmp_path / "out"
    inputs = [str(tmp_path / "sixteen.png"), str(tmp_path / "xmp.jpg")]
    assert main([*inputs, "--out", str(out), "--overlays", "--models", str(repository)]) == 0
    dark = steps[:9, 0] >> 8  # where it says no robot
    assert np.array_equal(mask_in(out / "overlays" / "sixteen.png")[:9, 0, 0], dark)
    assert mask_in(out / "overlays" / "xmp.jpg.png").shape == (64, 96, 3)


def test_a_video_without_pictures_or_cut_short_is_not_taken_for_whole(
    tmp_path: Path, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video(tmp_path / "whole.avi", 30)
    content = (tmp_path / "whole.avi").read_bytes()
    (tmp_path / "empty.avi").write_bytes(content[: content.index(b"movi")])
    (tmp_path / "cut.avi").write_bytes(content[: len(content) * 2 // 3])
    options = ["--out", str(tmp_path / "out"), "--models", str(repository)]
    assert main([str(tmp_path / "empty.avi"), str(tmp_path / "cut.avi"), *options]) == 1
    said = capsys.readouterr().err
    assert "empty.avi: expected a whole video" in said
    assert "cut.avi: expected a whole video, got one that is damaged or cut short, of" in said
    assert 0 < len(list((tmp_path / "out" / "masks" / "cut.avi").iterdir())) < 30


def video(path: Path, frames: int) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height = 64, 48
        for index in range(frames):
            pixels = np.full((48, 64, 3), (255, 0, 0) if index % 2 else (0, 255, 0), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def test_a_video_becomes_a_mask_for_every_nth_frame(tmp_path: Path, by: list[str]) -> None:
    video(tmp_path / "clip.mp4", 9)
    out = tmp_path / "out"
    assert main([str(tmp_path / "clip.mp4"), "--out", str(out), "--every", "3", *by]) == 0
    masks = sorted((out / "masks" / "clip.mp4").iterdir())
    assert [mask.name for mask in masks] == ["000000.png", "000003.png", "000006.png"]
    assert [mask_in(mask).mean() > 250 for mask in masks] == [False, True, False]
    assert mask_in(masks[0]).shape == (48, 64)


def test_a_video_that_breaks_off_keeps_what_came_before(
    tmp_path: Path, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "clip.avi").write_bytes(b"RIFF....AVI nothing")
    (tmp_path / "ok.png").write_bytes(png(golden_frames()[0]))
    assert main([str(tmp_path), "--out", str(tmp_path.parent / "out"), "--models", str(repository)]) == 1
    said = capsys.readouterr()
    assert "clip.avi: expected a whole video" in said.err
    assert "1 frames segmented, 1 failed" in said.out


def test_a_picture_turned_by_exif_has_its_mask_upright(tmp_path: Path, repository: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.fromarray(np.full((20, 40, 3), (255, 0, 0), np.uint8)).save(file, "JPEG", exif=exif)
    (tmp_path / "turned.jpg").write_bytes(file.getvalue())
    out = tmp_path / "out"
    options = ["--out", str(out), "--overlays", "--models", str(repository)]
    assert main([str(tmp_path / "turned.jpg"), *options]) == 0
    assert mask_in(out / "masks" / "turned.jpg.png").shape == (40, 20)
    assert mask_in(out / "overlays" / "turned.jpg.png").shape == (40, 20, 3)


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (["missing.png", "--out", "o"], 1, "found nothing"),
        (["x.png", "--out", "o", "--no-masks"], 2, "--masks"),
        (["x.png", "--out", "o", "--url", "http://here", "--precision", "fp32"], 2, "got both"),
    ],
)
def test_what_cannot_be_done_is_said(
    options: list[str], status: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(options) == status
    assert words in capsys.readouterr().err


def test_a_folder_without_pictures_and_names_that_clash_are_refused(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert main([str(tmp_path / "empty"), "--out", str(tmp_path / "o")]) == 1
    assert "found none" in capsys.readouterr().err
    assert main([str(folder), str(folder), "--out", str(tmp_path / "o")]) == 1
    assert "names that differ" in capsys.readouterr().err


def test_two_pictures_whose_masks_would_have_one_name_are_refused(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "a.bmp").write_bytes(png(golden_frames()[0]))
    (folder / "a.bmp.png").write_bytes(png(golden_frames()[1]))
    assert main([str(folder), "--out", str(tmp_path / "o")]) == 1
    assert "rename one" in capsys.readouterr().err


@pytest.mark.parametrize("place", [".", "out"])
def test_results_inside_the_folder_of_frames_are_not_taken_for_frames(
    folder: Path, repository: Path, place: str
) -> None:
    out = folder / place
    options = [str(folder), "--out", str(out), "--overlays", "--models", str(repository)]
    assert [main(options) for _ in range(2)] == [0, 0]
    assert len(list((out / "masks").rglob("*.png"))) == 3
    found = find([out / "masks"], [out / "masks", out / "overlays"])
    assert [source.name for source in found] == ["a.png", "b.png", "deep/c.png"]


def test_no_bundle_and_no_service_are_said(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(folder), "--out", str(tmp_path / "o"), "--models", str(tmp_path / "none")]) == 1
    said = capsys.readouterr().err
    assert "expected a model repository" in said
    assert "say with --models where it is" in said  # and not with a variable, which is the service's


def test_the_local_engine_says_what_the_service_says(service: Running, repository: Path) -> None:
    frame = np.random.default_rng(3).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    asked = Asked(repository, None, None, None, 0.4, "pad")
    here = open_local(asked).segment(frame)
    there = service.segment(png(frame), params={"threshold": 0.4, "fit": "pad"}).json()["frames"][0]
    assert (here.mask == coco.decode(there["mask"])).all()
    assert here.confidence == pytest.approx(there["confidence"], abs=1e-5)


@pytest.mark.parametrize("side", [32, 100])
def test_the_local_engine_is_not_sure_of_robot_that_no_pixel_of_the_frame_shows(tmp_path: Path, side: int) -> None:
    cells = np.full((64, 64), 0.01, np.float32)
    cells[20, 20] = 0.99
    publish_cells(tmp_path, cells)
    found = open_local(Asked(tmp_path, None, None, None, None, "stretch")).segment(np.zeros((side, side, 3), np.uint8))
    assert not found.mask.any()
    assert found.confidence == pytest.approx(0.01, abs=1e-4)
