"""What has been done, written down line by line, so that work that was interrupted can go on."""

from __future__ import annotations

import contextlib
import json
from typing import IO, TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from service.files.errors import FilesError, OptionsDiffer, ResultsInUse
from service.files.names import mask_name

try:
    import fcntl
except ImportError:  # Windows has none: there two runs are not kept apart
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
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
        model: What answered.
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


class Journal:
    """A file of one line for the options and one for each frame that is done; one run at a time writes to it.

    Args:
        path: The file; made if it is not there.
        options: With which it is done.

    Attributes:
        done: The frames that are done, by name.

    Raises:
        OptionsDiffer: It was begun with others.
        ResultsInUse: Another run writes to it.
    """

    def __init__(self, path: Path, options: Mapping[str, Any]) -> None:
        self.done: dict[str, Entry] = {}
        self._stamps: dict[str, str] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as held:
            held.enter_context(_alone(path))
            self._file = held.enter_context(self._taken_up(path, options))
            self._held = held.pop_all()

    def _taken_up(self, path: Path, options: Mapping[str, Any]) -> IO[str]:
        """Read what is done, write it down anew without what is half written, and go on from there."""
        head = json.dumps({"kind": "options", **options}, sort_keys=True)
        try:
            # not splitlines: names may have what Unicode, but not JSON, takes for the end of a line
            lines = path.read_text("utf-8").split("\n")[:-1] if path.exists() else []
        except UnicodeDecodeError as error:
            raise FilesError(
                f"{path}: expected what an earlier run has written, got other bytes; give another --out"
            ) from error
        for line in lines[1:]:
            try:
                entry = Entry.model_validate_json(line)
            except ValidationError:  # the line at which it was interrupted
                continue
            self.done[entry.name] = entry
        if lines and lines[0] not in {head, self._head_without_version(options)}:
            raise OptionsDiffer(
                f"{path}: expected work begun with the same options, found {lines[0]}; "
                "give those again, or another --out"
            )
        whole = "".join(f"{line}\n" for line in (head, *(entry.model_dump_json() for entry in self.done.values())))
        temporary = path.with_name(f".{path.name}.tmp")  # interrupted here, what is done stays written down
        temporary.write_text(whole, "utf-8")
        temporary.replace(path)
        return path.open("a", encoding="utf-8")

    @property
    def models(self) -> set[str]:
        """Name, version and hash of every model that has done any of it."""
        return {entry.model for entry in self.done.values()}

    def _head_without_version(self, options: Mapping[str, Any]) -> str | None:
        """The first line as it was written when the version that was chosen did not stand there, if it was this one."""
        chosen = {entry.model.split()[1] for entry in self.done.values() if " " in entry.model}
        if chosen != {str(options.get("version"))}:
            return None
        return json.dumps({"kind": "options", **options, "version": None}, sort_keys=True)

    def begin(self, sources: Sequence[Source], results: Sequence[Path]) -> None:
        """Forget what was done of other files of the same names, or has left no result.

        Args:
            sources: What is to be done; a file of the same name may be another folder's, or recorded anew since.
            results: Folders in which each frame that is done has a file.
        """
        self._stamps = {source.name: source.stamp for source in sources}
        for name, entry in list(self.done.items()):
            stamp = self._stamp(name)
            is_other = bool(entry.stamp) and stamp != entry.stamp
            if stamp and (is_other or not all((folder / mask_name(name)).exists() for folder in results)):
                del self.done[name]

    def _stamp(self, name: str) -> str:
        """Of the picture of this name, or of the video that it is a frame of."""
        return self._stamps.get(name) or self._stamps.get(name.rpartition("/")[0], "")

    def add(self, entry: Entry) -> None:
        """Write down that a frame is done; its results have to be on disk by then."""
        entry = entry.model_copy(update={"stamp": self._stamp(entry.name)})
        self._file.write(entry.model_dump_json() + "\n")
        self._file.flush()
        self.done[entry.name] = entry

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.close()


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
