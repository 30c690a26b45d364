"""How models are changed: what the settings say of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.contract import Precision
    from service.engine import Provider
    from service.versions.trial import Gate

__all__ = ["Rules"]


@dataclass(frozen=True)
class Rules:
    """How models are changed.

    Attributes:
        keep_previous: Whether the model that answered before stays open.
        provider: Where models are going to run, as far as that is known before one does.
        vet_s: Seconds of processor time for the process that tries a bundle; 0 for no such process.
        max_batch: Most frames in one run, for that process.
        precision: Which of a bundle's models, for that process.
        gate: With it, a newer version that is found is tried in shadow first, and takes over by this gate.
        shadow_share: The share of streams for that.
        poll_s: Seconds between looks for newer versions; 0 for never.
        low: Whether threads in the background may give way; see `Aside`.
    """

    keep_previous: bool = True
    provider: Provider = "cpu"
    vet_s: float = 60.0
    max_batch: int | None = None
    precision: Precision | None = None
    gate: Gate | None = None
    shadow_share: float = 1.0
    poll_s: float = 0.0
    low: bool = True
