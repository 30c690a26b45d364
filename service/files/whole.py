"""Files that whoever looks sees whole or not at all: written beside their place first, then put there."""

from __future__ import annotations

import contextlib
import hashlib
import os
from typing import TYPE_CHECKING

from service.files.errors import NotWritten

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["discard", "is_there", "prepare", "put"]


def prepare(path: Path, write: Callable[[Path], object]) -> None:
    """Write what is going to be at a path; until it is `put` there it has another name, which is hidden.

    Args:
        path: Where it is going to be; its folder is made if it is not there.
        write: Writes it to the path that it is given.

    Raises:
        NotWritten: It cannot be: no room, no right, a name that is too long; nothing is left of it.
    """
    beside = _beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            path.lstat()  # whether its name is too long is told now, not when it is put there
        write(beside)
    except OSError as error:  # the disk is full, most likely: half a file would only take more of it
        beside.unlink(missing_ok=True)
        raise NotWritten(path, error) from error


def put(path: Path) -> None:
    """Let what was prepared be seen, in the place of what may be there."""
    _beside(path).replace(path)


def is_there(path: Path) -> bool:
    """Whether what was prepared is what is there already, to the byte."""
    return path.read_bytes() == _beside(path).read_bytes()


def discard(path: Path) -> None:
    """Let what was prepared go."""
    _beside(path).unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    """A name that is not too long where the path's own is not."""
    return path.with_name(f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}.tmp")
