"""Versions as the protocol writes them."""

from __future__ import annotations

from service.errors import ModelUnknown, quoted

__all__ = ["read_version"]

_DIGITS = 10


def read_version(value: object) -> int | None:
    """A version, which the protocol writes as text.

    >>> read_version("12"), read_version(None)
    (12, None)

    Raises:
        ModelUnknown: No version is written like this.
    """
    if value is None:
        return None
    text = str(value) if type(value) is str or type(value) is int else ""
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS and int(text) >= 1):
        raise ModelUnknown(
            f"expected a version as a whole number from 1, got {quoted(str(value))}; see /v2 and /models"
        )
    return int(text)
