"""Where bundles come from: a folder, or any place that fsspec reaches, mirrored into a local cache."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import shutil
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from service.contract import (
    MANIFEST,
    BundleInvalid,
    BundleOutOfReach,
    file_limit,
    model_names,
    open_bundle,
    read_manifest,
    sweep_abandoned,
    versions,
)
from service.errors import NotReady, StartFailed
from service.machine.background import LeftBehind, leavable

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

__all__ = ["Folder", "Mirror", "Repository", "is_url", "open_repository"]

_log = logging.getLogger(__name__)

_T = TypeVar("_T")

_URL: Final = re.compile(r"[a-z][a-z0-9+.-]*(?:::[a-z][a-z0-9+.-]*)*://", re.IGNORECASE)
_VERSION: Final = re.compile(r"[1-9][0-9]{0,9}")
_PIECE_BYTES: Final = 1024 * 1024
_CACHED_VERSIONS: Final = 8


class Repository(Protocol):
    """Models and their versions."""

    @property
    def where(self) -> str:
        """What people call this place."""

    @property
    def exists(self) -> bool:
        """Whether there is such a place at all."""

    def names(self) -> list[str]:
        """Models that have a version, sorted.

        Raises:
            BundleOutOfReach: They cannot be looked at now.
        """

    def versions(self, name: str) -> list[int]:
        """Versions of a model, oldest first, valid or not.

        Raises:
            BundleOutOfReach: They cannot be looked at now.
        """

    def fetch(self, name: str, version: int) -> Path:
        """The folder of a version on this machine; to be verified when it is opened.

        Raises:
            BundleInvalid: It is not there whole, or not what its manifest promises.
            BundleOutOfReach: It cannot be had now.
            NotReady: This has been closed.
        """

    def fingerprint(self, name: str, version: int) -> Hashable:
        """Something that is another when the version's files have changed; None if they cannot be looked at."""

    def close(self) -> None:
        """Wait no longer for anything that hangs; any thread may ask."""


def is_url(place: str) -> bool:
    """Whether a place is to be reached through fsspec.

    >>> is_url("s3://bucket/models"), is_url("models"), is_url("C:/models")
    (True, False, False)
    """
    return _URL.match(place) is not None


def open_repository(place: str, cache: Path) -> Repository:
    """The repository at a path or a URL.

    Args:
        place: The path or URL.
        cache: Folder for copies of what comes from a URL.

    Raises:
        StartFailed: What the URL needs is not installed.
    """
    return Mirror(place, cache) if is_url(place) else Folder(Path(place))


class Folder:
    """A repository in a local folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def where(self) -> str:
        """See `Repository`."""
        return str(self._root.absolute())

    @property
    def exists(self) -> bool:
        """See `Repository`."""
        return self._root.is_dir()

    def names(self) -> list[str]:
        """See `Repository`."""
        with self._looked_at():
            return model_names(self._root)

    def versions(self, name: str) -> list[int]:
        """See `Repository`."""
        with self._looked_at():
            return versions(self._root, name)

    def fetch(self, name: str, version: int) -> Path:
        """See `Repository`; nothing is copied."""
        return self._root / name / str(version)

    def fingerprint(self, name: str, version: int) -> Hashable:
        """See `Repository`."""
        try:
            entries = list(os.scandir(self._root / name / str(version)))
            facts = [(entry.name, entry.stat(follow_symlinks=False)) for entry in entries]
        except OSError:
            return None
        return tuple(sorted((name, stat.st_size, stat.st_mtime_ns) for name, stat in facts))

    def close(self) -> None:
        """See `Repository`; nothing hangs here but the file system, which nobody can leave."""

    @contextlib.contextmanager
    def _looked_at(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise BundleOutOfReach(f"{self.where}: expected to look into it, which fails for now: {error}") from error


class Mirror:
    """A repository behind a URL. A version is copied when it is wanted, and is in its place only when it is whole.

    As long as the URL cannot be reached, what has been copied before is what there is. A store that hangs is waited for
    until this is closed.

    Args:
        url: Where it is.
        cache: Folder for the copies; each URL has its own part of it.

    Raises:
        StartFailed: fsspec, or what it needs for this URL, is not installed.
    """

    def __init__(self, url: str, cache: Path) -> None:
        self._url = url
        self._root = cache / hashlib.sha256(url.encode()).hexdigest()[:16]
        self._closed = threading.Event()
        try:
            from fsspec.core import url_to_fs  # noqa: PLC0415 - only who has a URL needs it

            self._remote, self._base = url_to_fs(url, use_listings_cache=False)
        except ModuleNotFoundError as error:
            raise StartFailed(
                f"expected the package {error.name!r} to read {url}; install it: pip install 'robomask[remote]'"
            ) from error
        except (ImportError, ValueError) as error:  # fsspec says which package or that there is no such scheme
            raise StartFailed(f"expected a URL that fsspec can open, got {url}: {error}") from error

    @property
    def where(self) -> str:
        """See `Repository`."""
        return self._url

    @property
    def exists(self) -> bool:
        """See `Repository`."""
        return self._there(lambda: bool(self._remote.exists(self._base)), self._root.is_dir)

    def names(self) -> list[str]:
        """See `Repository`."""
        return self._there(
            lambda: sorted(name for name in self._folders(self._base) if any(self._versions(name))),
            lambda: model_names(self._root),
        )

    def versions(self, name: str) -> list[int]:
        """See `Repository`."""
        return self._there(lambda: sorted(self._versions(name)), lambda: versions(self._root, name))

    def fetch(self, name: str, version: int) -> Path:
        """See `Repository`; what is here already and still the same there is not copied again."""
        return self._ask(lambda: self._fetch(name, version))

    def fingerprint(self, name: str, version: int) -> Hashable:
        """See `Repository`."""
        folder = f"{self._base}/{name}/{version}"
        try:  # the other files too: stores have no folder that is renamed when whole, so any may be the last to come
            content: bytes = self._ask(lambda: self._remote.cat_file(f"{folder}/{MANIFEST}"))
            entries = self._ask(lambda: self._remote.ls(folder, detail=True, refresh=True))
        except Exception:  # noqa: BLE001 - whatever the store's own library raises, it is not there
            return None
        facts = tuple(sorted((entry["name"], entry.get("size")) for entry in entries))
        return hashlib.sha256(content).hexdigest(), facts

    def close(self) -> None:
        """See `Repository`. A copy that is being made is left where it is; it is in nobody's way."""
        self._closed.set()

    def _fetch(self, name: str, version: int) -> Path:
        place = self._root / name / str(version)
        source = f"{self._base}/{name}/{version}"
        try:
            wanted = self._read(f"{source}/{MANIFEST}", file_limit(MANIFEST))
        except (_Absent, BundleOutOfReach) as error:
            if _content(place / MANIFEST) is None:
                raise
            _log.warning("%s cannot be reached, using the copy of version %d: %s", self._url, version, error)
            return place
        if _content(place / MANIFEST) != wanted or not _is_whole(place):
            self._copy(source, place, wanted)
            self._forget_oldest(name, version)
        return place

    def _copy(self, source: str, place: Path, manifest: bytes) -> None:
        called = self._called(source)
        files = read_manifest(manifest, f"{called}/{MANIFEST}").files
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            sweep_abandoned(place.parent, time.time())
            temporary = Path(tempfile.mkdtemp(prefix=f".{place.name}.", suffix=".tmp", dir=place.parent))
            try:
                whole = temporary / place.parent.name / place.name
                whole.mkdir(parents=True)
                (whole / MANIFEST).write_bytes(manifest)
                for file in files:  # their names are plain ones: the manifest's schema sees to that
                    self._save(f"{source}/{file}", whole / file, file_limit(file))
                _check(whole, called)
                shutil.rmtree(place, ignore_errors=True)
                whole.rename(place)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
        except OSError as error:  # of this machine: what the store raises has become another
            raise BundleOutOfReach(
                f"{called}: expected to copy it into {place.parent}, which fails for now: {error}"
            ) from error

    def _forget_oldest(self, name: str, version: int) -> None:
        """Keep the cache from growing for ever; what a session was opened from is in memory and needs no file."""
        for old in versions(self._root, name)[:-_CACHED_VERSIONS]:
            if old != version:
                shutil.rmtree(self._root / name / str(old), ignore_errors=True)

    def _save(self, source: str, place: Path, limit: int) -> None:
        with place.open("wb") as file:
            for piece in self._pieces(source, limit):
                file.write(piece)

    def _read(self, source: str, limit: int) -> bytes:
        return b"".join(self._pieces(source, limit))

    def _pieces(self, source: str, limit: int) -> Iterator[bytes]:
        """What a file holds, and not one piece more than it may.

        Raises:
            BundleInvalid: It is not there, or too large.
            BundleOutOfReach: The store fails, or breaks off.
        """
        called = self._called(source)
        left = limit + 1
        try:
            size = self._remote.size(source)
            if size is None or size <= limit:
                with self._remote.open(source, "rb") as remote:
                    while left > 0 and not self._closed.is_set() and (piece := remote.read(min(left, _PIECE_BYTES))):
                        left -= len(piece)
                        yield piece
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise _Absent(f"{called}: expected a file, got {_sentence(error)}") from error
        except Exception as error:  # whatever else the store's own library raises
            raise BundleOutOfReach(f"{called}: expected to read it, which fails for now: {_sentence(error)}") from error
        if left <= 0 or (size or 0) > limit:
            raise BundleInvalid(f"{called}: expected at most {limit} bytes, found {size or 'more'}")
        if limit + 1 - left < (size or 0):
            raise BundleOutOfReach(f"{called}: expected {size} bytes, got {limit + 1 - left} before it broke off")

    def _called(self, path: str) -> str:
        """What people call a path in the store."""
        return self._url.rstrip("/") + path.removeprefix(self._base)

    def _versions(self, name: str) -> Iterator[int]:
        for folder in self._folders(f"{self._base}/{name}"):
            if _VERSION.fullmatch(folder):
                yield int(folder)

    def _folders(self, path: str) -> list[str]:
        if not self._remote.isdir(path):
            return []
        entries: list[dict[str, Any]] = self._remote.ls(path, detail=True, refresh=True)
        return [entry["name"].rstrip("/").rsplit("/", 1)[-1] for entry in entries if entry["type"] == "directory"]

    def _there(self, ask: Callable[[], _T], otherwise: Callable[[], _T]) -> _T:
        try:
            return self._ask(ask)
        except Exception as error:  # noqa: BLE001 - whatever the store's own library raises
            _log.warning("%s cannot be reached, what was copied from it has to do: %s", self._url, _sentence(error))
            return otherwise()

    def _ask(self, ask: Callable[[], _T]) -> _T:
        """Have the store asked; it may hang.

        Raises:
            NotReady: This has been closed meanwhile.
        """
        try:
            return leavable(ask, self._closed.is_set)
        except LeftBehind as error:
            raise NotReady(
                f"{self._url}: expected an answer of the store, but the service stops; ask again", reason="stopping"
            ) from error


class _Absent(BundleInvalid):
    """A file that is not in the store, which says so."""


def _check(copy: Path, called: str) -> None:
    """Verify a copy; what is wrong with it is said of where it comes from."""
    try:
        open_bundle(copy)
    except BundleInvalid as error:
        raise type(error)(str(error).replace(str(copy), called)) from error


def _is_whole(place: Path) -> bool:
    try:
        open_bundle(place)
    except BundleInvalid:
        return False
    return True


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _sentence(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
