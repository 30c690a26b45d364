"""What each version of the model has answered: Triton's statistics ask for it, where Prometheus is told the sum."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.call import Call

__all__ = ["VersionCounts"]


@dataclass(slots=True)
class VersionCounts:
    """Counts of one version since the start.

    Attributes:
        requests: Requests that it has answered.
        frames: Frames in them.
        runs: Runs of the model for them.
        stages_s: Seconds that they were in each stage, all together.
        failed: Requests to it that have no answer, for whatever reason.
        failed_s: Seconds until that was known, all together.
    """

    requests: int = 0
    frames: int = 0
    runs: float = 0.0
    stages_s: dict[str, float] = field(default_factory=dict)
    failed: int = 0
    failed_s: float = 0.0

    def add(self, call: Call) -> None:
        """Count a request that has its answer."""
        self.requests += 1
        self.frames += call.frames
        self.runs += call.runs
        for stage, seconds in call.stages_s.items():
            self.stages_s[stage] = self.stages_s.get(stage, 0.0) + seconds

    def add_failure(self, seconds: float) -> None:
        """Count a request that has no answer, and that it took so long until that was known."""
        self.failed += 1
        self.failed_s += seconds
