"""A version that cannot be had now is no bad version: it is left alone for a while, and then serves."""

import errno
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import fsspec
import httpx
import pytest
from fsspec.implementations.memory import MemoryFile
from service_kit import ADMIN, TOKEN, Running, golden_frames, png, publish_tiny, serving

from service.contract import BundleOutOfReach, open_bundle
from service.versions import repository
from service.versions.repository import Mirror

URL: Any = "memory://reach/models"
MODEL = "/reach/models/tiny/2/model.fp32.onnx"
FRAME = png(golden_frames()[0])


@pytest.fixture
def store() -> fsspec.AbstractFileSystem:
    """An empty store in memory."""
    remote = fsspec.filesystem("memory")
    with suppress(FileNotFoundError):
        remote.rm("/reach", recursive=True)
    return remote


@pytest.fixture
def one(tmp_path: Path, store: fsspec.AbstractFileSystem) -> Path:
    """Where version 1 was published from, which is in the store."""
    publish(store, tmp_path / "local")
    return tmp_path / "local"


def publish(remote: fsspec.AbstractFileSystem, local: Path) -> None:
    """Publish the next version, all of its files at one moment."""
    folder = publish_tiny(local).folder
    paths = {f"/reach/models/tiny/{folder.name}/{file.name}": file.read_bytes() for file in folder.iterdir()}
    remote.store.update({path: MemoryFile(remote, path, content) for path, content in paths.items()})


def before_opening(monkeypatch: pytest.MonkeyPatch, store: fsspec.AbstractFileSystem, do: Callable[[], None]) -> None:
    """Have something happen before the store opens the model of version 2."""
    really = type(store).open

    def opened(self: fsspec.AbstractFileSystem, path: str, *arguments: object, **options: object) -> object:
        if path == MODEL:
            do()
        return really(self, path, *arguments, **options)

    monkeypatch.setattr(type(store), "open", opened)


def failing(times: int, error: Exception) -> Callable[[], None]:
    left = [times]

    def fail() -> None:
        left[0] -= 1
        if left[0] >= 0:
            raise error

    return fail


def until_it_serves(running: Running, version: int) -> list[dict[str, Any]]:
    """Wait until a version serves, which the test's own time limit ends; the events up to then, the newest first."""
    while running.client.get("/readyz").json()["model"]["version"] != version:
        assert running.segment(FRAME).status_code == 200
    events: list[dict[str, Any]] = running.client.get("/models").json()["events"]
    return events


@pytest.mark.parametrize("error", [ConnectionResetError("reset by peer"), TimeoutError("slow"), PermissionError("403")])
def test_a_store_that_fails_once_is_asked_again(
    tmp_path: Path, store: fsspec.AbstractFileSystem, one: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    before_opening(monkeypatch, store, failing(1, error))
    with serving(URL, cache=tmp_path / "cache", poll_s=0.05, vet_s=0) as running:
        publish(store, one)
        events = until_it_serves(running, 2)
        assert [event["result"] for event in events] == ["activated", "unavailable"]
        assert type(error).__name__ in events[1]["reason"]
        assert 'robomask_swaps_total{result="refused"} 0.0' in running.client.get("/metrics").text


def test_at_the_start_too_and_the_version_before_serves_meanwhile(
    tmp_path: Path, store: fsspec.AbstractFileSystem, one: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(store, one)
    back = threading.Event()

    def fail() -> None:
        if not back.is_set():
            raise ConnectionResetError("reset by peer")

    before_opening(monkeypatch, store, fail)
    with serving(URL, cache=tmp_path / "cache", poll_s=0.05, vet_s=0) as running:
        assert running.client.get("/readyz").json()["model"]["version"] == 1
        newest = running.client.get("/models").json()["versions"][0]
        assert (newest["version"], newest["state"]) == (2, "available")
        assert "reset by peer" in newest["reason"]
        back.set()
        until_it_serves(running, 2)


def test_who_asks_for_it_meanwhile_is_told_to_come_again_and_may_at_once(
    tmp_path: Path, store: fsspec.AbstractFileSystem, one: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(store, one)
    before_opening(monkeypatch, store, failing(1, ConnectionResetError("reset by peer")))
    with serving(URL, cache=tmp_path / "cache", version=1, admin_token=TOKEN, vet_s=0) as running:
        answer = running.client.post("/models/2/activate", headers=ADMIN)
        assert answer.status_code == 503
        assert answer.headers["Retry-After"] == "1"
        assert answer.json()["type"] == "urn:robomask:problem:version-unavailable"
        assert "reset by peer" in answer.json()["detail"]
        assert running.client.post("/models/2/activate", headers=ADMIN).status_code == 200


def test_a_service_that_stops_does_not_wait_for_a_store_that_hangs(
    tmp_path: Path, store: fsspec.AbstractFileSystem, one: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs, goes_on = threading.Event(), threading.Event()

    def hang() -> None:
        hangs.set()
        goes_on.wait(60)

    before_opening(monkeypatch, store, hang)
    with serving(URL, cache=tmp_path / "cache", poll_s=0.05, vet_s=0) as running:
        publish(store, one)
        assert hangs.wait(60)
        assert running.segment(FRAME).status_code == 200
        stopped_s = time.monotonic()
    assert time.monotonic() - stopped_s < 30
    goes_on.set()


@pytest.mark.usefixtures("one")
def test_nor_do_listings_that_wait_for_it_keep_it_from_stopping(
    tmp_path: Path, store: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs, goes_on = threading.Event(), threading.Event()
    really = type(store).ls

    def hang(self: fsspec.AbstractFileSystem, *arguments: object, **options: object) -> object:
        if hangs.is_set():
            goes_on.wait(60)
        return really(self, *arguments, **options)

    monkeypatch.setattr(type(store), "ls", hang)
    with serving(URL, cache=tmp_path / "cache", vet_s=0, shutdown_s=1) as running:
        hangs.set()
        address = f"http://127.0.0.1:{running.port}/v2/repository/index"

        def ask() -> None:
            with suppress(httpx.HTTPError):
                httpx.post(address, timeout=1)

        clients = [threading.Thread(target=ask) for _ in range(40)]  # more than asyncio's threads on most machines
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        stopped_s = time.monotonic()
    assert time.monotonic() - stopped_s < 30
    goes_on.set()


def test_a_folder_that_cannot_be_looked_into_for_a_while_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_tiny(tmp_path)
    publish_tiny(tmp_path)
    really, fails = repository.versions, threading.Event()

    def versions(*place: Any) -> list[int]:
        if fails.is_set():
            raise OSError(errno.ESTALE, "Stale file handle")
        return really(*place)

    monkeypatch.setattr(repository, "versions", versions)
    with serving(tmp_path, version=1, admin_token=TOKEN, vet_s=0) as running:
        body = {"version": 2, "promote_if": {"frames": 5, "min_iou": 0.5}}
        assert running.client.post("/models/shadow", headers=ADMIN, json=body).status_code == 200
        fails.set()
        until_it_serves(running, 2)  # by its gate, which needs no folder
        listing = running.client.get("/models").json()
        assert [version["version"] for version in listing["versions"]] == [2, 1]
        back = running.client.post("/models/rollback", headers=ADMIN)
        assert (back.status_code, back.headers["Retry-After"]) == (503, "1")
        assert "Stale file handle" in back.json()["detail"]
        fails.clear()
        assert running.client.post("/models/rollback", headers=ADMIN).status_code == 200


@pytest.mark.usefixtures("one")
def test_a_cache_that_takes_no_files_refuses_nothing_for_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = Mirror(URL, tmp_path / "cache")
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(BundleOutOfReach, match="expected to copy it into"):
        mirror.fetch("tiny", 1)
    (tmp_path / "cache").unlink()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(Path, "write_bytes", full)
        with pytest.raises(BundleOutOfReach, match="No space left on device"):
            mirror.fetch("tiny", 1)
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []
    assert open_bundle(mirror.fetch("tiny", 1)).manifest.version == 1


@pytest.mark.usefixtures("one")
def test_a_file_that_breaks_off_is_no_damaged_file(
    tmp_path: Path, store: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = Mirror(URL, tmp_path / "cache")
    really = type(store).size
    with monkeypatch.context() as connection:
        connection.setattr(type(store), "size", lambda self, path: really(self, path) + 1)
        with pytest.raises(BundleOutOfReach, match=r"manifest\.json: expected \d+ bytes, got \d+ before it broke off"):
            mirror.fetch("tiny", 1)
    assert open_bundle(mirror.fetch("tiny", 1)).manifest.version == 1


def test_copies_that_were_left_long_ago_are_removed(
    tmp_path: Path, store: fsspec.AbstractFileSystem, one: Path
) -> None:
    mirror = Mirror(URL, tmp_path / "cache")
    place = mirror.fetch("tiny", 1).parent
    for name, age_s in ((".7.old.tmp", 2 * 86_400), (".8.new.tmp", 60)):
        (place / name).mkdir()
        moment_s = time.time() - age_s
        os.utime(place / name, (moment_s, moment_s))
    publish(store, one)
    mirror.fetch("tiny", 2)
    assert sorted(path.name for path in place.iterdir()) == [".8.new.tmp", "1", "2"]
