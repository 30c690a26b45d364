"""What has been done, written down line by line, so that work that was interrupted can go on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from service.files.errors import OptionsDiffer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

__all__ = ["NAME", "Entry", "Journal"]

NAME: Final = "segment.jsonl"


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


class Journal:
    """A file of one line for the options and one for each frame that is done.

    Args:
        path: The file; made if it is not there.
        options: With which it is done.

    Attributes:
        done: The frames that are done, by name.

    Raises:
        OptionsDiffer: It was begun with others.
    """

    def __init__(self, path: Path, options: Mapping[str, Any]) -> None:
        self.done: dict[str, Entry] = {}
        head = json.dumps({"kind": "options", **options}, sort_keys=True)
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        if lines and lines[0] != head:
            raise OptionsDiffer(
                f"{path}: expected work begun with the same options, found {lines[0]}; "
                "give those again, or another --out"
            )
        for line in lines[1:]:
            try:
                entry = Entry.model_validate_json(line)
            except ValidationError:  # the line at which it was interrupted
                continue
            self.done[entry.name] = entry
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = "".join(f"{line}\n" for line in (head, *(entry.model_dump_json() for entry in self.done.values())))
        path.write_text(whole, "utf-8")
        self._file = path.open("a", encoding="utf-8")

    def add(self, entry: Entry) -> None:
        """Write down that a frame is done; its results have to be on disk by then."""
        self._file.write(entry.model_dump_json() + "\n")
        self._file.flush()
        self.done[entry.name] = entry

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
