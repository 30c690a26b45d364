"""Name, version and hash of a model as one text, as it stands in results."""

from __future__ import annotations

from typing import NamedTuple, Self

__all__ = ["ModelName"]

_DIGITS = 12


class ModelName(NamedTuple):
    """Which model has segmented a frame.

    Attributes:
        name: The model's name.
        version: Its version.
        sha256: The first digits of its hash.

    >>> str(ModelName.of("arm", 2, "0123456789abcdef"))
    'arm 2 0123456789ab'
    >>> ModelName.parse("arm 2 0123456789ab")
    ModelName(name='arm', version=2, sha256='0123456789ab')
    """

    name: str
    version: int
    sha256: str

    @classmethod
    def of(cls, name: str, version: int, sha256: str) -> Self:
        """By its whole hash."""
        return cls(name, version, sha256[:_DIGITS])

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str` has made of one.

        Raises:
            ValueError: It is none.
        """
        name, version, sha256 = text.rsplit(" ", 2)
        return cls(name, int(version), sha256)

    def __str__(self) -> str:
        return f"{self.name} {self.version} {self.sha256}"
