"""Where bundles come from: a folder, or any place that fsspec reaches, mirrored into a local cache."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from service.contract import MANIFEST, BundleInvalid, file_limit, model_names, open_bundle, read_manifest, versions
from service.errors import StartFailed

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
        """Models that have a version, sorted."""

    def versions(self, name: str) -> list[int]:
        """Versions of a model, oldest first, valid or not."""

    def fetch(self, name: str, version: int) -> Path:
        """The folder of a version on this machine; to be verified when it is opened.

        Raises:
            BundleInvalid: It cannot be had whole.
        """

    def fingerprint(self, name: str, version: int) -> Hashable:
        """Something that is another when the version's files have changed."""


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
        return model_names(self._root)

    def versions(self, name: str) -> list[int]:
        """See `Repository`."""
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


class Mirror:
    """A repository behind a URL. A version is copied when it is wanted, and is in its place only when it is whole.

    As long as the URL cannot be reached, what has been copied before is what there is.

    Args:
        url: Where it is.
        cache: Folder for the copies; each URL has its own part of it.

    Raises:
        StartFailed: fsspec, or what it needs for this URL, is not installed.
    """

    def __init__(self, url: str, cache: Path) -> None:
        self._url = url
        self._root = cache / hashlib.sha256(url.encode()).hexdigest()[:16]
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
        place = self._root / name / str(version)
        source = f"{self._base}/{name}/{version}"
        try:
            wanted = self._read(f"{source}/{MANIFEST}", file_limit(MANIFEST))
        except BundleInvalid:
            raise
        except Exception as error:  # whatever the store's own library raises
            if _content(place / MANIFEST) is not None:
                _log.warning("%s cannot be reached, using the copy of version %d: %s", self._url, version, error)
                return place
            raise BundleInvalid(
                f"{self._url}/{name}/{version}: expected a bundle with {MANIFEST}, got {_sentence(error)}"
            ) from error
        if _content(place / MANIFEST) != wanted or not _is_whole(place):
            self._copy(source, place, wanted, f"{self._url}/{name}/{version}")
            self._forget_oldest(name, version)
        return place

    def fingerprint(self, name: str, version: int) -> Hashable:
        """See `Repository`."""
        folder = f"{self._base}/{name}/{version}"
        try:  # the other files too: stores have no folder that is renamed when whole, so any may be the last to come
            content: bytes = self._remote.cat_file(f"{folder}/{MANIFEST}")
            entries = self._remote.ls(folder, detail=True, refresh=True)
        except Exception:  # noqa: BLE001 - whatever the store's own library raises, it is not there
            return None
        facts = tuple(sorted((entry["name"], entry.get("size")) for entry in entries))
        return hashlib.sha256(content).hexdigest(), facts

    def _copy(self, source: str, place: Path, manifest: bytes, called: str) -> None:
        files = read_manifest(manifest, f"{called}/{MANIFEST}").files
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(prefix=f".{place.name}.", suffix=".tmp", dir=place.parent))
        except OSError as error:
            raise BundleInvalid(f"{called}: expected to copy it into {place.parent}, which fails: {error}") from error
        try:
            whole = temporary / place.parent.name / place.name
            whole.mkdir(parents=True)
            (whole / MANIFEST).write_bytes(manifest)
            for file in files:  # their names are plain ones: the manifest's schema sees to that
                try:
                    self._save(f"{source}/{file}", whole / file, file_limit(file))
                except BundleInvalid:
                    raise
                except Exception as error:
                    raise BundleInvalid(f"{called}/{file}: expected a file, got {_sentence(error)}") from error
            try:
                open_bundle(whole)
            except BundleInvalid as error:
                raise BundleInvalid(str(error).replace(str(whole), called)) from error
            shutil.rmtree(place, ignore_errors=True)
            whole.rename(place)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

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
        """What a file holds, and not one piece more than it may."""
        size = self._remote.size(source)
        left = limit + 1
        if size is None or size <= limit:
            with self._remote.open(source, "rb") as remote:
                while left > 0 and (piece := remote.read(min(left, _PIECE_BYTES))):
                    left -= len(piece)
                    yield piece
        if left <= 0 or (size or 0) > limit:
            raise BundleInvalid(f"{source}: expected at most {limit} bytes, found {size or 'more'}")

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
            return ask()
        except Exception as error:  # noqa: BLE001 - whatever the store's own library raises
            _log.warning("%s cannot be reached, what was copied from it has to do: %s", self._url, _sentence(error))
            return otherwise()


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
