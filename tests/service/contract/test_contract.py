"""A bundle is published whole, and opened only if every byte of it is what it says."""

import errno
import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from service_kit import golden_frames, publish_tiny, red_probability, tiny_onnx

from service.contract import BundleInvalid, BundleOutOfReach, Golden, model_names, open_bundle, versions

Edit = Callable[[dict[str, Any]], object]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return publish_tiny(tmp_path / "models").folder


def rewrite(folder: Path, edit: Edit) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    edit(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_a_published_bundle_opens_and_gives_back_what_was_put_in(folder: Path) -> None:
    bundle = open_bundle(folder)
    assert bundle.manifest.name == "tiny"
    assert bundle.manifest.version == 1
    assert bundle.model("fp32") == tiny_onnx()
    assert bundle.sha256 == hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
    assert np.array_equal(bundle.golden().frames, golden_frames())
    assert sorted(path.name for path in folder.iterdir()) == [
        "card.md", "example.png", "golden.npz", "manifest.json", "model.fp32.onnx",
    ]  # fmt: skip


def test_versions_count_up_and_nothing_else_counts_as_one(tmp_path: Path) -> None:
    publish_tiny(tmp_path)
    publish_tiny(tmp_path, version=9)
    assert publish_tiny(tmp_path).manifest.version == 10
    for other in (".11.x.tmp", "latest", "011", "-1"):
        (tmp_path / "tiny" / other).mkdir()
    (tmp_path / "empty").mkdir()
    assert versions(tmp_path, "tiny") == [1, 9, 10]
    assert versions(tmp_path, "..") == []
    assert model_names(tmp_path) == ["tiny"]
    assert model_names(tmp_path / "nowhere") == []


def test_a_published_version_is_never_overwritten(folder: Path) -> None:
    before = (folder / "manifest.json").read_bytes()
    with pytest.raises(BundleInvalid, match="never overwritten"):
        publish_tiny(folder.parents[1], version=1)
    assert (folder / "manifest.json").read_bytes() == before


def test_a_failed_publication_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(BundleInvalid, match="threshold"):
        publish_tiny(tmp_path, threshold=2.0)
    with pytest.raises(FileNotFoundError):
        publish_tiny(tmp_path, precisions={"fp32": tmp_path / "nowhere.onnx"})
    with pytest.raises(BundleInvalid, match=re.escape("'../x'")):
        publish_tiny(tmp_path, name="../x")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_bundle_can_be_read_by_another_user(folder: Path) -> None:
    assert folder.stat().st_mode & 0o755 == 0o755


def test_a_flipped_byte_is_found(folder: Path) -> None:
    model = folder / "model.fp32.onnx"
    content = bytearray(model.read_bytes())
    content[100] ^= 1
    model.write_bytes(content)
    with pytest.raises(BundleInvalid, match=r"model\.fp32\.onnx: expected sha256 .* changed or damaged"):
        open_bundle(folder)


def test_a_file_that_changes_after_opening_is_found_when_it_is_read(folder: Path) -> None:
    bundle = open_bundle(folder)
    (folder / "card.md").write_text("another")
    with pytest.raises(BundleInvalid, match="expected sha256"):
        bundle.read("card.md")


@pytest.mark.parametrize("name", ["card.md", "model.fp32.onnx", "golden.npz", "manifest.json"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(BundleInvalid, match=f"{name}: expected a plain file, found nothing"):
        open_bundle(folder)


def test_a_disk_that_fails_is_no_fault_of_the_bundle(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(os, "open", fails)
        with pytest.raises(
            BundleOutOfReach, match=r"manifest\.json: expected a readable file, found Input/output error"
        ):
            open_bundle(folder)
    with monkeypatch.context() as broken:
        broken.setattr(os, "stat", fails)
        with pytest.raises(BundleOutOfReach, match="expected to see what is there, found Input/output error"):
            open_bundle(folder)
    assert open_bundle(folder).manifest.name == "tiny"


def test_a_symbolic_link_is_refused_even_to_the_right_content(folder: Path, tmp_path: Path) -> None:
    shutil.move(folder / "card.md", tmp_path / "elsewhere.md")
    (folder / "card.md").symlink_to(tmp_path / "elsewhere.md")
    with pytest.raises(BundleInvalid, match="found a symbolic link"):
        open_bundle(folder)


@pytest.mark.parametrize("name", ["../../secret", "/etc/passwd", "a/b", "..", ".hidden", ""])
def test_a_path_that_leads_elsewhere_is_refused(folder: Path, name: str) -> None:
    rewrite(folder, lambda manifest: manifest["files"].update({name: "0" * 64}))
    with pytest.raises(BundleInvalid, match="files"):
        open_bundle(folder)
    rewrite(folder, lambda manifest: (manifest["files"].pop(name), manifest["precisions"].update(fp32=name)))
    with pytest.raises(BundleInvalid, match=r"precisions\.fp32"):
        open_bundle(folder)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda m: m.update(schema_version=2), "schema_version"),
        (lambda m: m.update(surprise=1), "surprise"),
        (lambda m: m.pop("threshold"), "threshold"),
        (lambda m: m.update(default_precision="int8"), "default_precision to be one of"),
        (lambda m: m["files"].pop("golden.npz"), r"expected a sha256 in `files` for \['golden.npz'\]"),
        (lambda m: m["tensors"]["outputs"][0].update(shape=["N", 32, 32]), r"probability float32 \[N,32,32\]"),
        (lambda m: m.update(version=2), "expected its place to be tiny/2"),
    ],
)  # fmt: skip
def test_a_manifest_that_breaks_the_schema_is_refused_for_its_reason(folder: Path, edit: Edit, words: str) -> None:
    rewrite(folder, edit)
    with pytest.raises(BundleInvalid, match=words):
        open_bundle(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 100_000])
def test_a_manifest_that_is_no_manifest_is_refused(folder: Path, content: bytes) -> None:
    (folder / "manifest.json").write_bytes(content)
    with pytest.raises(BundleInvalid, match="manifest"):
        open_bundle(folder)


def test_a_precision_that_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(BundleInvalid, match=r"precision 'int8', found \['fp32'\]"):
        open_bundle(folder).model("int8")


def test_golden_frames_survive_the_file_and_carry_a_tolerance_for_each_precision() -> None:
    frames = golden_frames()
    golden = Golden(frames, red_probability(frames).astype(np.float32), 1e-3, {"int8": 0.1})
    again = Golden.from_bytes(golden.to_bytes())
    assert np.array_equal(again.frames, golden.frames)
    assert np.array_equal(again.probability, golden.probability)
    assert (again.allowed("fp32"), again.allowed("int8")) == (1e-3, 0.1)


def test_golden_files_that_are_none_are_refused_and_never_unpickled() -> None:
    frames = golden_frames()
    pickled = io.BytesIO()
    np.savez(pickled, frames=frames, probability=np.array([{}], object), tolerance=0.1)
    huge = io.BytesIO()
    np.savez_compressed(huge, frames=np.zeros((65, 1024, 1024), np.uint8))
    for content in (b"", b"PK\3\4 no zip", pickled.getvalue(), huge.getvalue()):
        with pytest.raises(ValueError, match=r"expected|pickle"):
            Golden.from_bytes(content)


@pytest.mark.parametrize(
    ("frames", "probability", "tolerance"),
    [
        ((0, 64, 64, 3), (0, 64, 64), 0.1),
        ((2, 32, 64, 3), (2, 64, 64), 0.1),
        ((2, 64, 64, 3), (1, 64, 64), 0.1),
        ((2, 64, 64, 3), (2, 64, 64), float("nan")),
    ],
)
def test_golden_arrays_of_the_wrong_shape_are_refused(
    frames: tuple[int, ...], probability: tuple[int, ...], tolerance: float
) -> None:
    with pytest.raises(ValueError, match="expected"):
        Golden(np.zeros(frames, np.uint8), np.zeros(probability, np.float32), tolerance)
