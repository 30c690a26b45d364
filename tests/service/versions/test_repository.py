"""A repository behind a URL is a folder with a way to it: copied when wanted, checked, kept when it is lost."""

from pathlib import Path

import fsspec
import pytest
from service_kit import golden_frames, png, publish_tiny, serving

from service.contract import BundleInvalid, open_bundle
from service.errors import StartFailed
from service.versions.repository import Mirror, open_repository

URL = "memory://store/models"


@pytest.fixture
def store() -> fsspec.AbstractFileSystem:
    """An empty store in memory."""
    remote = fsspec.filesystem("memory")
    if remote.exists("/store"):
        remote.rm("/store", recursive=True)
    return remote


def upload(remote: fsspec.AbstractFileSystem, folder: Path, version: int, leave_out: str = "") -> None:
    for file in folder.iterdir():
        if file.name != leave_out:
            remote.pipe(f"/store/models/tiny/{version}/{file.name}", file.read_bytes())


def test_versions_are_copied_when_they_are_wanted_and_serve(tmp_path: Path, store: fsspec.AbstractFileSystem) -> None:
    for version in (1, 2):
        upload(store, publish_tiny(tmp_path / "local").folder, version)
    mirror = Mirror(URL, tmp_path / "cache")
    assert (mirror.names(), mirror.versions("tiny"), mirror.where) == (["tiny"], [1, 2], URL)
    assert list((tmp_path / "cache").rglob("manifest.json")) == []
    assert open_bundle(mirror.fetch("tiny", 2)).manifest.version == 2
    assert len(list((tmp_path / "cache").rglob("manifest.json"))) == 1
    with serving(URL, cache=tmp_path / "cache") as running:  # type: ignore[arg-type] # a setting takes both
        assert running.segment(png(golden_frames()[0])).headers["X-Model-Version"] == "2"


@pytest.mark.parametrize("left_out", ["golden.npz", "manifest.json", "model.fp32.onnx"])
def test_half_an_upload_is_refused_and_leaves_nothing(
    tmp_path: Path, store: fsspec.AbstractFileSystem, left_out: str
) -> None:
    folder = publish_tiny(tmp_path / "local").folder
    upload(store, folder, 1, leave_out=left_out)
    mirror = Mirror(URL, tmp_path / "cache")
    before = mirror.fingerprint("tiny", 1)
    with pytest.raises(BundleInvalid, match="FileNotFoundError"):
        mirror.fetch("tiny", 1)
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []
    upload(store, folder, 1)
    assert mirror.fingerprint("tiny", 1) != before  # or nobody would look at it again
    assert open_bundle(mirror.fetch("tiny", 1)).manifest.version == 1


def test_what_was_tampered_with_is_refused(tmp_path: Path, store: fsspec.AbstractFileSystem) -> None:
    upload(store, publish_tiny(tmp_path / "local").folder, 1)
    store.pipe("/store/models/tiny/1/card.md", b"changed")
    with pytest.raises(BundleInvalid, match=r"memory://store/models/tiny/1/card.md: expected sha256"):
        Mirror(URL, tmp_path / "cache").fetch("tiny", 1)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, store: fsspec.AbstractFileSystem) -> None:
    upload(store, publish_tiny(tmp_path / "local").folder, 1)
    store.pipe("/store/models/tiny/1/manifest.json", b" " * (1024 * 1024 + 1))
    with pytest.raises(BundleInvalid, match="expected at most 1048576 bytes, found 1048577"):
        Mirror(URL, tmp_path / "cache").fetch("tiny", 1)


def test_a_damaged_copy_is_made_anew(tmp_path: Path, store: fsspec.AbstractFileSystem) -> None:
    upload(store, publish_tiny(tmp_path / "local").folder, 1)
    mirror = Mirror(URL, tmp_path / "cache")
    (mirror.fetch("tiny", 1) / "card.md").write_text("changed")
    assert open_bundle(mirror.fetch("tiny", 1)).manifest.version == 1


def test_without_the_store_what_was_copied_still_serves(
    tmp_path: Path, store: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(store, publish_tiny(tmp_path / "local").folder, 1)
    mirror = Mirror(URL, tmp_path / "cache")
    mirror.fetch("tiny", 1)

    def lost(*_: object, **__: object) -> None:
        raise ConnectionError("the way is lost")

    for call in ("ls", "isdir", "exists", "size", "open", "cat_file"):
        monkeypatch.setattr(type(store), call, lost)
    assert (mirror.names(), mirror.versions("tiny")) == (["tiny"], [1])
    assert open_bundle(mirror.fetch("tiny", 1)).manifest.version == 1


def test_a_url_that_cannot_be_opened_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(StartFailed, match=r"expected a URL that fsspec can open, got nowhere://x"):
        open_repository("nowhere://x", tmp_path)
    with pytest.raises(StartFailed, match="s3"):
        open_repository("s3://bucket/models", tmp_path)
