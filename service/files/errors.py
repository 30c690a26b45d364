"""What can go wrong with frames in files."""
# ruff: noqa: N818 - the names say what is wrong

__all__ = ["FilesError", "FrameFailed", "OptionsDiffer", "ResultsInUse", "SegmenterFailed"]


class FilesError(Exception):
    """Root: nothing can be done; the message says what was expected, what came, and what to do."""


class OptionsDiffer(FilesError):
    """Work was begun with other options than those given now."""


class ResultsInUse(FilesError):
    """Another run writes to the same folder."""


class FrameFailed(FilesError):
    """One frame cannot be segmented; the others can."""


class SegmenterFailed(FilesError):
    """No more frames can be segmented: the service is gone, or the model fails."""
