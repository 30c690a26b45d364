"""The audit trail: what was done to the models, by whom, and what came of it."""

from __future__ import annotations

import logging
import os
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from service.telemetry.logs import fields
from service.versions.listing import SwapNote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import BinaryIO

    from service.telemetry.metrics import Metrics

__all__ = ["Audit"]

_log = logging.getLogger(__name__)

_KEPT: Final = 100
_PIECE_BYTES: Final = 64 * 1024


class Audit:
    """Keeps the last notes, logs each of them, counts it, and appends it to a file if there is one.

    Attributes:
        declined: Versions that somebody or a gate has turned away; they do not come back by themselves. Every line of
            the file has them, and the next process begins with those of the model's last line.

    Args:
        metrics: Where results are counted.
        model: The model whose versions they are; several may share a file.
        wall: The time of now.
        file: A file to which each note is added as a line of JSON; None for no file.

    Raises:
        OSError: Nothing can be added to that file.
    """

    def __init__(
        self,
        metrics: Metrics,
        model: str,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
        file: Path | None = None,
    ) -> None:
        self._metrics = metrics
        self._model = model
        self._wall = wall
        self._file = file
        self._notes: deque[SwapNote] = deque(maxlen=_KEPT)
        self.declined: set[int] = set() if file is None else _last_declined(file, model)

    def add(self, action: str, version: int | None, by: str, result: str, reason: str | None = None) -> None:
        """Note what was done.

        Args:
            action: `activate`, `rollback`, `shadow`, `canary`, `end-trial`, `gate` or `unload`.
            version: Which version it was done to.
            by: `api`, `protocol`, `poll`, `SIGHUP` or `gate`.
            result: From a closed set; the label of a metric.
            reason: Why, if there is more to say.
        """
        at = self._wall().isoformat(timespec="milliseconds")
        note = SwapNote(
            at=at,
            model=self._model,
            action=action,
            version=version,
            by=by,
            result=result,
            reason=reason,
            declined=sorted(self.declined) or None,
        )
        self._notes.append(note)
        self._metrics.swaps.labels(result).inc()
        level = logging.ERROR if result == "refused" else logging.INFO
        _log.log(level, "models: %s", action, extra=fields(version=version, by=by, result=result, reason=reason))
        if self._file is not None:
            try:
                with self._file.open("ab+") as file:
                    file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
                    torn = file.read(1) not in {b"", b"\n"}  # a process died while it wrote the last line
                    file.write(b"\n" * torn + note.model_dump_json(exclude_none=True).encode() + b"\n")
            except OSError as error:
                _log.error("the audit trail cannot be written to %s: %s", self._file, error)

    def notes(self) -> list[SwapNote]:
        """The last notes, the newest first."""
        return list(reversed(self._notes))


def _last_declined(path: Path, model: str) -> set[int]:
    """What the last whole line of a model says has been turned away; a process may have died in a later one."""
    with path.open("ab+") as file:  # as for every note: what cannot be written later is to be known now
        for line in _from_the_end(file):
            try:
                note = SwapNote.model_validate_json(line)
            except ValidationError:
                continue
            if note.model == model:
                return set(note.declined or ())
    return set()


def _from_the_end(file: BinaryIO) -> Iterator[bytes]:
    """Lines of a file, the last first; other models' notes may be many."""
    place = file.seek(0, os.SEEK_END)
    rest = b""
    while place > 0:
        size = min(place, _PIECE_BYTES)
        place -= size
        file.seek(place)
        rest, *lines = (file.read(size) + rest).split(b"\n")
        yield from reversed(lines)
    yield rest
