"""What can go wrong with frames in files."""
# ruff: noqa: N818 - the names say what is wrong

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["FilesError", "FrameFailed", "NotOurs", "NotWritten", "OptionsDiffer", "ResultsInUse", "SegmenterFailed"]


class FilesError(Exception):
    """Root: nothing can be done; the message says what was expected, what came, and what to do."""


class OptionsDiffer(FilesError):
    """Work was begun with other options than those given now."""


class ResultsInUse(FilesError):
    """Another run writes to the same folder."""


class NotOurs(FilesError):
    """A result would take the place of something that no run has written, or that was changed since."""


class NotWritten(FilesError):
    """A file cannot be written.

    Args:
        path: Which.
        error: Why.

    Attributes:
        errno: The system's number for why; None if it has none.
    """

    def __init__(self, path: Path, error: OSError) -> None:
        why = error.strerror or error
        super().__init__(
            f"{path}: expected to be able to write it, got: {why}; mend that, and the same command goes on"
        )
        self.errno = error.errno


class FrameFailed(FilesError):
    """One frame cannot be segmented; the others can."""


class SegmenterFailed(FilesError):
    """No more frames can be segmented: the service is gone, or the model fails."""
