"""What has been done, written down line by line, so that work that was interrupted can go on."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from service.files.errors import FilesError, NotWritten, ResultsInUse
from service.files.journal_head import check_head, head_of
from service.files.names import frame_of_video
from service.files.whole import prepare, put

try:
    import fcntl
except ImportError:  # Windows has none: there two runs are not kept apart
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from pathlib import Path
    from types import TracebackType

    from service.files.sources import Source

__all__ = ["Entry", "Journal"]


class Entry(BaseModel):
    """A frame that is done.

    Attributes:
        name: The frame's name.
        size: Height and width of its mask.
        counts: The mask as COCO's compressed run lengths.
        area: Robot pixels.
        bbox: Left, top, width and height of the box around them.
        confidence: How sure the model is.
        model: The text of the `ModelName` of what answered.
        stamp: Which file of that name it was; empty where it is not known.
    """

    model_config = ConfigDict(frozen=True)

    kind: Literal["frame"] = "frame"
    name: str
    size: tuple[int, int]
    counts: str
    area: int
    bbox: tuple[int, int, int, int]
    confidence: float
    model: str
    stamp: str = ""


class Annotations(BaseModel):
    """A COCO file that was written.

    Attributes:
        sha256: Of all of it.
    """

    model_config = ConfigDict(frozen=True)

    kind: Literal["annotations"] = "annotations"
    sha256: str


_NOTE: Final[TypeAdapter[Entry | Annotations]] = TypeAdapter(
    Annotated[Entry | Annotations, Field(discriminator="kind")]
)


class Journal:
    """A file of one line for the options and one for each frame that is done; one run at a time writes to it.

    A frame is written down before its results are seen, so whatever is seen and not written down is somebody else's.
    A run that fails before anything is done leaves none behind.

    Args:
        path: The file; made if it is not there.
        options: With which it is done.

    Attributes:
        done: The frames that are done, by name.
        forgotten: Those that were done and are to be done anew, as they were.
        is_new: Whether no run has written it before.

    Raises:
        OptionsDiffer: It was begun with others.
        ResultsInUse: Another run writes to it.
        NotWritten: It cannot be written.
    """

    def __init__(self, path: Path, options: Mapping[str, Any]) -> None:
        self.done: dict[str, Entry] = {}
        self.forgotten: dict[str, Entry] = {}
        self._annotations: set[str] = set()
        self._stamps: dict[str, str] = {}
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as held:
            held.enter_context(_alone(path))
            self.is_new = not path.exists()
            self._take_up(options)
            self._file = held.enter_context(path.open("ab", buffering=0))
            self._held = held.pop_all()

    def _take_up(self, options: Mapping[str, Any]) -> None:
        """Read what is done, and write it down anew without what is half written."""
        try:
            # not splitlines: names may have what Unicode, but not JSON, takes for the end of a line
            lines = self._path.read_text("utf-8").split("\n")[:-1] if self._path.exists() else []
        except UnicodeDecodeError as error:
            raise FilesError(
                f"{self._path}: expected what an earlier run has written, got other bytes; give another --out"
            ) from error
        for line in lines[1:]:
            try:
                note = _NOTE.validate_json(line)
            except ValidationError:  # the line at which it was interrupted
                continue
            if isinstance(note, Entry):
                self.done[note.name] = note
            else:
                self._annotations.add(note.sha256)
        if lines:
            check_head(self._path, lines[0], options, self.models)
        notes: list[BaseModel] = [
            *self.done.values(),
            *(Annotations(sha256=each) for each in sorted(self._annotations)),
        ]
        whole = "".join(f"{line}\n" for line in (head_of(options), *(note.model_dump_json() for note in notes)))
        prepare(self._path, lambda path: path.write_text(whole, "utf-8"))
        put(self._path)  # interrupted before, what is done stays written down

    @property
    def models(self) -> set[str]:
        """Name, version and hash of every model that has done any of it."""
        return {entry.model for entry in self.done.values()}

    @property
    def annotations(self) -> AbstractSet[str]:
        """SHA-256 of every COCO file that was written."""
        return self._annotations

    def begin(self, sources: Sequence[Source], files_of: Callable[[str], Sequence[Path]]) -> None:
        """Forget what was done of other files of the same names, or has left no result.

        Args:
            sources: What is to be done; a file of the same name may be another folder's, or recorded anew since.
            files_of: The results that a frame of a name has when it is done.
        """
        self._stamps = {source.name: source.stamp for source in sources}
        for name, entry in list(self.done.items()):
            stamp = self._stamp(name)
            is_other = bool(entry.stamp) and stamp != entry.stamp
            if stamp and (is_other or not all(file.exists() for file in files_of(name))):
                self.forgotten[name] = self.done.pop(name)

    def entries_of(self, sources: Sequence[Source], every: int) -> list[Entry]:
        """What is done of these sources, by name; of a video of every n-th frame."""
        names = {source.name for source in sources}
        return [entry for name, entry in sorted(self.done.items()) if _is_of(name, names, every)]

    def _stamp(self, name: str) -> str:
        """Of the picture of this name, or of the video that it is a frame of."""
        return self._stamps.get(name) or self._stamps.get(name.rpartition("/")[0], "")

    def add(self, entry: Entry) -> None:
        """Write down that a frame is done; its results have to be on disk by then, but not yet seen: see `whole`.

        Raises:
            NotWritten: There is no room for it.
        """
        entry = entry.model_copy(update={"stamp": self._stamp(entry.name)})
        self._write(entry)
        self.done[entry.name] = entry

    def add_annotations(self, sha256: str) -> None:
        """Write down which COCO file is about to be seen.

        Raises:
            NotWritten: There is no room for it.
        """
        if sha256 not in self._annotations:
            self._write(Annotations(sha256=sha256))
            self._annotations.add(sha256)

    def _write(self, note: BaseModel) -> None:
        """Write all of a line or none of it, as another may follow."""
        left = memoryview(f"{note.model_dump_json()}\n".encode())
        end = self._file.seek(0, os.SEEK_END)
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            self._file.truncate(end)
            raise NotWritten(self._path, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and self.is_new and not self.done:
            self._file.close()
            self._path.unlink(missing_ok=True)  # nothing to go on with: what failed may be done with other options
        self._held.close()


def _is_of(name: str, sources: AbstractSet[str], every: int) -> bool:
    """Whether a frame is one of these pictures, or of one of these videos one that is to be taken."""
    video, index = frame_of_video(name) or ("", 0)
    return name in sources or (video in sources and index % every == 0)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other runs from a file, which is replaced now and then, by a lock on one beside it."""
    if fcntl is None:
        yield
        return
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ResultsInUse(
                f"{path.parent}: expected no other run to write there, but one does; wait for it, or give another --out"
            ) from error
        except OSError:  # a file system without locks: as good as it gets
            pass
        yield
