"""`robomask segment --engine ray`: two processes on this machine give what one gives."""

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from service_kit import golden_frames, png, publish_tiny

from service.commands.segment import main

if importlib.util.find_spec("ray") is None:
    pytest.skip("needs Ray: pip install 'robomask[ray]'", allow_module_level=True)

import ray


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """A cluster of two CPUs, unless RAY_ADDRESS names one."""
    if "RAY_ADDRESS" in os.environ:
        ray.init(logging_level="warning")
    else:
        ray.init(num_cpus=2, include_dashboard=False, object_store_memory=100 * 2**20, logging_level="warning")
    yield
    ray.shutdown()


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    """Forty pictures, one that is none, and two short videos."""
    folder = tmp_path / "collection"
    (folder / "deep").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(40):
        (folder / f"deep/{index:02}.png").write_bytes(png(rng.integers(0, 256, (50, 70, 3), dtype=np.uint8)))
    (folder / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    for name in ("a.mp4", "b.mp4"):
        with av.open(str(folder / name), "w") as container:
            stream = container.add_stream("mpeg4", rate=5)
            stream.width = stream.height = 64
            stream.pix_fmt = "yuv420p"
            for frame in [*golden_frames(), None]:
                picture = None if frame is None else av.VideoFrame.from_ndarray(frame, format="rgb24")
                container.mux(stream.encode(picture))
    return folder


def files_in(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in {"segment.jsonl", ".segment.jsonl.lock"}
    }


def test_a_cluster_finds_what_one_process_finds(
    collection: Path, repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [str(collection), "--models", str(repository), "--coco", "--overlays", "--every", "2"]
    here, there = tmp_path / "here", tmp_path / "there"
    assert main([*command, "--out", str(here)]) == 1
    assert main([*command, "--out", str(there), "--engine", "ray", "--actors", "2"]) == 1
    said = capsys.readouterr()
    assert said.out.count("44 frames segmented, 1 failed") == 2
    assert said.err.count("bad.png: expected a whole PNG") == 2
    assert files_in(there) == files_in(here)
    assert len(files_in(here)) == 2 * 44 + 1


def test_what_is_done_is_not_done_again(collection: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish_tiny(tmp_path / "models")
    (collection / "bad.png").unlink()
    command = [str(collection), "--models", str(tmp_path / "models"), "--out", str(tmp_path / "out"), "--engine", "ray"]
    assert main(command) == 0
    journal = tmp_path / "out" / "segment.jsonl"
    lines = journal.read_text().splitlines()
    journal.write_text("\n".join(lines[:-10]) + "\n")
    assert main(command) == 0
    assert "10 frames segmented, 36 had been before, 0 failed" in capsys.readouterr().out
    assert sorted(journal.read_text().splitlines()) == sorted(lines)


def test_a_repository_without_a_model_is_named_before_anything_starts(
    collection: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(collection), "--models", str(tmp_path), "--out", str(tmp_path / "out"), "--engine", "ray"]) == 1
    assert "expected" in capsys.readouterr().err
