"""A bundle on disk, `<repository>/<model>/<version>/`: find it, open it without trusting it, publish a new one."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from service.contract.golden import Golden
from service.contract.manifest import (
    CARD,
    EXAMPLE,
    GOLDEN,
    SCHEMA_VERSION,
    Lineage,
    Manifest,
    Metric,
    Precision,
    Tensors,
    is_model_name,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from service.contract.manifest import Comparison

__all__ = [
    "MANIFEST",
    "Bundle",
    "BundleInvalid",
    "BundleOutOfReach",
    "file_limit",
    "model_names",
    "open_bundle",
    "publish",
    "read_manifest",
    "sweep_abandoned",
    "versions",
]

MANIFEST: Final = "manifest.json"
_MIB: Final = 1024 * 1024
_MAX_MANIFEST_BYTES: Final = _MIB
_MAX_MODEL_BYTES: Final = 1024 * _MIB
_MAX_OTHER_BYTES: Final = 64 * _MIB
_PIECE_BYTES: Final = _MIB
_ABANDONED_S: Final = 24 * 3600
_NOTHING: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})
"""What a file system says of a path at which nothing is that could be read; all else says something of the system."""


class BundleInvalid(Exception):  # noqa: N818 - the name says what is wrong, as "not found" would
    """A bundle that is refused; the message says what was expected, what was found, and where."""


class BundleOutOfReach(BundleInvalid):
    """A bundle that is refused for now: a disk, a store or a process failed, and the bundle may be as good as any."""


@dataclass(frozen=True)
class Bundle:
    """A folder whose every file had the hash that its manifest promises.

    Attributes:
        folder: Where it is.
        manifest: What it says of itself.
        sha256: The bundle's identity: the hash of `manifest.json`, which holds the hashes of all other files.
    """

    folder: Path
    manifest: Manifest
    sha256: str

    def read(self, name: str) -> bytes:
        """The content of one file of the bundle, verified again: what is returned is what was promised.

        Raises:
            BundleInvalid: The file is not in the manifest, is gone, is no plain file, is too large, or has changed.
        """
        promised = self._promised(name)
        content = b"".join(_pieces(self.folder / name, file_limit(name)))
        self._compare(name, promised, hashlib.sha256(content).hexdigest())
        return content

    def check(self, name: str) -> None:
        """Verify one file without keeping its content.

        Raises:
            BundleInvalid: See `read`.
        """
        promised = self._promised(name)
        digest = hashlib.sha256()
        for piece in _pieces(self.folder / name, file_limit(name)):
            digest.update(piece)
        self._compare(name, promised, digest.hexdigest())

    def _promised(self, name: str) -> str:
        promised = self.manifest.files.get(name)
        if promised is None:
            raise BundleInvalid(f"{self.folder}: expected one of {sorted(self.manifest.files)}, got {name!r}")
        return promised

    def _compare(self, name: str, promised: str, found: str) -> None:
        if found != promised:
            raise BundleInvalid(
                f"{self.folder / name}: expected sha256 {promised}, found {found}: the file was changed or damaged; "
                "copy the bundle again or publish a new version"
            )

    def model(self, precision: Precision) -> bytes:
        """The ONNX file of one precision.

        Raises:
            BundleInvalid: The bundle has no such precision, or its file is not what was promised.
        """
        name = self.manifest.precisions.get(precision)
        if name is None:
            raise BundleInvalid(
                f"{self.folder}: expected a model of precision {precision!r}, found {sorted(self.manifest.precisions)}"
            )
        return self.read(name)

    def beside(self, precision: Precision) -> dict[str, bytes]:
        """Files, by name, in which the ONNX file of a precision may keep its weights: fp16's may be in the fp32 file.

        Raises:
            BundleInvalid: The file is not what was promised.
        """
        shared = self.manifest.precisions.get("fp32")
        return {shared: self.read(shared)} if precision == "fp16" and shared is not None else {}

    def golden(self) -> Golden:
        """The frames of the self-test and what is expected for them.

        Raises:
            BundleInvalid: `golden.npz` is not what was promised or cannot be read.
        """
        content = self.read(GOLDEN)
        try:
            return Golden.from_bytes(content)
        except ValueError as error:
            raise BundleInvalid(f"{self.folder / GOLDEN}: {error}") from error


def model_names(repository: Path) -> list[str]:
    """Names of the models in a repository that have at least one version, sorted."""
    if not repository.is_dir():
        return []
    return sorted(entry.name for entry in repository.iterdir() if versions(repository, entry.name))


def versions(repository: Path, model: str) -> list[int]:
    """Versions of a model, oldest first; whether they are valid is for `open_bundle` to say."""
    folder = repository / model
    if not is_model_name(model) or not folder.is_dir():
        return []
    named = (entry.name for entry in folder.iterdir() if entry.is_dir())
    return sorted(int(name) for name in named if re.fullmatch(r"[1-9][0-9]{0,9}", name))


def file_limit(name: str) -> int:
    """Most bytes that a bundle's file of this name may have; it is looked at before a byte is read."""
    if name == MANIFEST:
        return _MAX_MANIFEST_BYTES
    return _MAX_MODEL_BYTES if name.endswith(".onnx") else _MAX_OTHER_BYTES


def read_manifest(content: bytes, where: str) -> Manifest:
    """Read the content of a `manifest.json` found there.

    Raises:
        BundleInvalid: It does not keep to the schema.
    """
    try:
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        raise BundleInvalid(f"{where}: {_sentence(error)}") from error


def open_bundle(folder: Path) -> Bundle:
    """Open `<repository>/<model>/<version>`: check its place, its schema, and the hash of every file it lists.

    Files that the manifest does not list are never read. The model itself is not run here.

    Raises:
        BundleInvalid: Anything that is not as promised.
        BundleOutOfReach: It cannot be read now.
    """
    bundle = _verify(folder)
    place = (folder.absolute().parent.name, folder.name)
    promised = (bundle.manifest.name, str(bundle.manifest.version))
    if place != promised:
        raise BundleInvalid(
            f"{folder}: expected its place to be {'/'.join(promised)}, as its manifest says, found {'/'.join(place)}"
        )
    return bundle


def publish(
    repository: Path,
    *,
    name: str,
    precisions: Mapping[Precision, bytes | Path],
    default_precision: Precision,
    threshold: float,
    golden: Golden,
    metrics: Sequence[Metric],
    lineage: Lineage,
    card: str,
    example_png: bytes | Path,
    version: int | None = None,
    comparison: Comparison | None = None,
) -> Bundle:
    """Put a new bundle into a repository; nobody ever sees half of it.

    It is written under a temporary name beside its place, made durable, verified, and renamed when whole.

    Args:
        repository: The folder of all models; made if it is not there.
        name: The model's name.
        precisions: The ONNX file of each precision, as content or as a path. Weights have to be inside the
            file, but for fp16, which may refer to those in the fp32 file.
        default_precision: The precision that is served when nobody asks for another.
        threshold: The probability from which a pixel is robot, above 0 and below 1.
        golden: Frames of the self-test.
        metrics: What was measured, each with the data it was measured on.
        lineage: Where the model comes from.
        card: The model card, Markdown.
        example_png: A picture that shows what the model does.
        version: The version; by default the one after the newest.
        comparison: How it compares with the version before it, if that was measured.

    Returns:
        The bundle in its place, opened and verified.

    Raises:
        BundleInvalid: An argument breaks the manifest's schema, or the version is already there.
    """
    if not is_model_name(name):
        raise BundleInvalid(f"expected a name of lower-case letters, digits, '-' and '_', got {name!r}")
    parent = repository / name
    version = version if version is not None else max(versions(repository, name), default=0) + 1
    place = parent / str(version)
    if place.exists():
        raise BundleInvalid(f"{place}: expected a version that is not there yet; versions are never overwritten")
    onnx_files = {precision: f"model.{precision}.onnx" for precision in precisions}
    contents: dict[str, bytes] = {onnx_files[p]: _content(source) for p, source in precisions.items()}
    contents |= {GOLDEN: golden.to_bytes(), CARD: card.encode(), EXAMPLE: _content(example_png)}
    try:
        manifest = Manifest(
            schema_version=SCHEMA_VERSION,
            name=name,
            version=version,
            tensors=Tensors(),
            precisions=onnx_files,
            default_precision=default_precision,
            threshold=threshold,
            metrics=tuple(metrics),
            lineage=lineage,
            comparison=comparison,
            files={file: hashlib.sha256(content).hexdigest() for file, content in contents.items()},
        )
    except ValidationError as error:
        raise BundleInvalid(f"{place}: {_sentence(error)}") from error
    parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{version}.", suffix=".tmp", dir=parent))
    try:
        for file, content in (contents | {MANIFEST: manifest.model_dump_json(indent=2).encode()}).items():
            _write_durably(temporary / file, content)
        temporary.chmod(0o755)  # mkdtemp lets only its owner in, but the service may run as somebody else
        _sync_folder(temporary)
        _verify(temporary)
        temporary.rename(place)
        _sync_folder(parent)
        sweep_abandoned(parent, place.stat().st_mtime)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, OSError) and place.exists():
            raise BundleInvalid(f"{place}: published by somebody else meanwhile; publish again") from error
        raise
    return open_bundle(place)


def sweep_abandoned(parent: Path, now_s: float) -> None:
    """Remove what processes that were killed while they wrote a version have left long ago.

    Args:
        parent: The model's folder.
        now_s: The time of now, best by the file system's own clock.
    """
    for left in parent.glob(".*.tmp"):
        with contextlib.suppress(OSError):  # somebody else was quicker
            if now_s - left.stat().st_mtime > _ABANDONED_S:
                shutil.rmtree(left, ignore_errors=True)


def _verify(folder: Path) -> Bundle:
    if not stat.S_ISDIR(_mode(folder, follows=True)):
        raise BundleInvalid(f"{folder}: expected a bundle's folder, found {_kind(folder)}")
    if folder.is_symlink() and folder.resolve().parent != folder.parent.resolve():
        raise BundleInvalid(f"{folder}: expected a folder, found a symbolic link that leads out of the repository")
    content = b"".join(_pieces(folder / MANIFEST, _MAX_MANIFEST_BYTES))
    bundle = Bundle(folder, read_manifest(content, str(folder / MANIFEST)), hashlib.sha256(content).hexdigest())
    for name in bundle.manifest.files:
        bundle.check(name)
    return bundle


def _pieces(path: Path, limit: int) -> Iterator[bytes]:
    """Read a regular file; a symbolic link is refused, whatever it points at, and so is more than the limit."""
    kind = _kind(path)
    if kind != "a file":
        raise BundleInvalid(f"{path}: expected a plain file, found {kind}")
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0))
        with open(descriptor, "rb") as file:  # noqa: PTH123 - what was looked at is what is read
            size = os.fstat(descriptor).st_size
            if size > limit:
                raise BundleInvalid(f"{path}: expected at most {limit} bytes, found {size}")
            left = limit + 1
            while left > 0 and (piece := file.read(min(left, _PIECE_BYTES))):
                left -= len(piece)
                yield piece
    except OSError as error:
        refused = BundleInvalid if error.errno in _NOTHING else BundleOutOfReach
        raise refused(f"{path}: expected a readable file, found {error.strerror}") from error
    if left <= 0:
        raise BundleInvalid(f"{path}: expected at most {limit} bytes, found a file that grows")


def _kind(path: Path) -> str:
    kinds = {0: "nothing", stat.S_IFREG: "a file", stat.S_IFDIR: "a folder", stat.S_IFLNK: "a symbolic link"}
    return kinds.get(stat.S_IFMT(_mode(path)), "something else")


def _mode(path: Path, *, follows: bool = False) -> int:
    """What is at a path, as `stat` has it; 0 for nothing.

    Raises:
        BundleOutOfReach: That cannot be told now.
    """
    try:
        return path.stat(follow_symlinks=follows).st_mode
    except OSError as error:
        if error.errno in _NOTHING:
            return 0
        raise BundleOutOfReach(f"{path}: expected to see what is there, found {error.strerror}") from error


def _content(source: bytes | Path) -> bytes:
    return source.read_bytes() if isinstance(source, Path) else source


def _write_durably(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sentence(error: ValidationError) -> str:
    """All that a schema finds wrong, in one line."""
    return "; ".join(
        f"{'.'.join(map(str, fault['loc'])) or 'manifest'}: {fault['msg']}"
        for fault in error.errors(include_url=False, include_context=False, include_input=False)
    )
