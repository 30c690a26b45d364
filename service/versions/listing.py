"""What `/models` says: the versions and what each is doing, the trial, and what was done lately."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from service.contract import Metric, Precision
from service.engine import Provider
from service.versions.trial import TrialNote

__all__ = ["ModelList", "State", "SwapNote", "VersionState"]

State = Literal["serving", "previous", "shadow", "canary", "available", "refused"]


class VersionState(BaseModel):
    """A version in the repository and what it is doing."""

    version: int
    state: State
    reason: str | None = None
    sha256: str | None = None
    precision: Precision | None = None
    provider: Provider | None = None
    engine_reason: str | None = None
    threshold: float | None = None
    load_seconds: float | None = None
    metrics: tuple[Metric, ...] | None = None


class SwapNote(BaseModel):
    """Something that was done to the models, or was refused: a line of the audit trail.

    Attributes:
        declined: Versions that had been turned away when it was done: none of them comes back by itself.
    """

    at: str
    model: str | None = None
    action: str
    version: int | None
    by: str
    result: str
    reason: str | None = None
    declined: list[int] | None = None


class ModelList(BaseModel):
    """Answer of `/models`."""

    name: str
    ready: bool
    versions: list[VersionState]
    trial: TrialNote | None = None
    events: list[SwapNote] = []
