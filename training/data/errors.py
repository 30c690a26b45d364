"""What is raised where data are not what they should be."""

from __future__ import annotations

__all__ = ["DatasetError"]


class DatasetError(ValueError):
    """A data set that cannot be read; the message says what was expected, what was found, and what to do."""
