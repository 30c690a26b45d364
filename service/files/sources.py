"""Pictures, folders and videos -> frames, one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from service.files.errors import FilesError, FrameFailed
from service.files.folders import walk
from service.files.names import VIDEOS, frame_name, mask_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path
    from types import ModuleType

    from av import VideoFrame

__all__ = ["Content", "Source", "count_frames", "find", "frames_of"]

Content: TypeAlias = bytes | NDArray[np.uint8]
"""An encoded picture, or a decoded frame uint8 [H,W,3] RGB."""

_PICTURES: Final = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})


class Source(NamedTuple):
    """A picture or a video.

    Attributes:
        path: Where it is.
        name: What it is called in the results: its path from the folder in which it was found.
        fault: Why it cannot be read, where that is known before: then it is perhaps a whole folder.
    """

    path: Path
    name: str
    fault: str | None = None

    @property
    def stamp(self) -> str:
        """Tells the file from others that had its name; empty if it cannot be known."""
        try:
            facts = self.path.stat()
        except OSError:
            return ""
        return f"{facts.st_size} {facts.st_mtime_ns}"

    @property
    def is_video(self) -> bool:
        """Whether it has many frames."""
        return self.path.suffix.lower() in VIDEOS


def find(paths: Sequence[Path], results: Sequence[Path] = ()) -> list[Source]:
    """All pictures and videos that these paths name; a folder stands for all that is in it, by name.

    Args:
        paths: Of pictures, videos and folders.
        results: Folders of masks and overlays; what lies in them is no frame, unless it is named itself. Those of
            earlier runs are known by the journal beside them.

    Returns:
        They, and what cannot be read, with its `fault`.

    Raises:
        FilesError: A path is not there, a folder holds none, nothing can be read, or two would have one name's results.
    """
    found: list[Source] = []
    for path in paths:
        if path.is_dir():
            inside = _inside(path, results)
            if not inside:
                kinds = f"pictures ({_list(_PICTURES)}) or videos ({_list(VIDEOS)})"
                raise FilesError(f"{path}: expected {kinds}, found none")
            found.extend(inside)
        elif path.is_file():
            found.append(Source(path, path.name))
        else:
            raise FilesError(f"{path}: expected a picture, a video or a folder, found nothing")
    if all(source.fault is not None for source in found):
        raise FilesError("; ".join(f"{source.path}: {source.fault}" for source in found))
    _refuse_clashes(source for source in found if source.fault is None)
    return found


def _refuse_clashes(found: Iterable[Source]) -> None:
    by_name: dict[str, Source] = {}
    for source in found:
        other = by_name.setdefault(mask_name(source.name), source)
        if other is not source:
            hint = "give one folder that holds both" if other.name == source.name else "rename one"
            raise FilesError(f"expected names that differ, got {other.path} and {source.path}: {hint}")


def _inside(folder: Path, results: Sequence[Path]) -> list[Source]:
    """Pictures and videos in a folder, and what cannot be read."""
    listed = walk(folder, results)
    fitting = [Source(path, _name(path, folder)) for path in listed.files if path.suffix.lower() in _PICTURES | VIDEOS]
    return sorted([*fitting, *(Source(path, _name(path, folder), fault) for path, fault in listed.faults)])


def _name(path: Path, folder: Path) -> str:
    return str(folder) if path == folder else path.relative_to(folder).as_posix()


def count_frames(sources: Sequence[Source], every: int) -> int:
    """Frames to expect; of a video what its header says, which may be wrong."""
    return sum(_length(source, every) if source.is_video and source.fault is None else 1 for source in sources)


def frames_of(source: Source, every: int) -> Iterator[tuple[str, Content]]:
    """The frames of a source and their names; of a video every n-th, named by its index.

    Raises:
        FrameFailed: The file cannot be read; of a video, from here on.
        FilesError: The package that reads videos is not installed.
    """
    try:
        source.name.encode()
    except UnicodeEncodeError as error:
        raise FrameFailed("expected a name in UTF-8, got other bytes; rename it") from error
    if not source.is_video:
        try:
            yield source.name, source.path.read_bytes()
        except OSError as error:
            raise FrameFailed(f"expected a readable file, got: {error.strerror}") from error
        return
    av = _av()
    try:
        with av.open(str(source.path)) as container:
            if not container.streams.video:
                raise FrameFailed("expected a whole video, got a file without pictures")
            count, cut = 0, False
            for packet in container.demux(video=0):
                cut |= packet.is_corrupt  # so FFmpeg tells of MP4 and AVI that end too early; of Matroska it does not
                for frame in packet.decode():
                    if count % every == 0:
                        yield frame_name(source.name, count), _upright(frame)
                    count += 1
            if cut or not count:
                raise FrameFailed(f"expected a whole video, got one that is damaged or cut short, of {count} frames")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise FrameFailed(f"expected a whole video, got: {error}") from error


def _upright(frame: VideoFrame) -> NDArray[np.uint8]:
    """Pixels uint8 [H,W,3] as a player shows them: phones film lying down and say by how much to turn."""
    turned = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
    return np.ascontiguousarray(turned, np.uint8)


def _length(source: Source, every: int) -> int:
    try:
        with _av().open(str(source.path)) as container:
            return -(-int(container.streams.video[0].frames) // every)
    except (_av().error.FFmpegError, OSError, ValueError, IndexError):
        return 0


def _av() -> ModuleType:
    try:
        import av  # noqa: PLC0415 - only videos need it
    except ModuleNotFoundError as error:
        raise FilesError("expected PyAV to read a video: pip install 'robomask[segment]'") from error
    return av


def _list(suffixes: frozenset[str]) -> str:
    return ", ".join(sorted(suffixes))
