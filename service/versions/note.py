"""How a model is named in answers."""

from __future__ import annotations

from pydantic import BaseModel

__all__ = ["ModelNote"]


class ModelNote(BaseModel):
    """Which model answered."""

    name: str
    version: int
    sha256: str
