"""The learning rate as a pure function of the step, so that resuming cannot shift it."""

from __future__ import annotations

import math
from typing import Literal

Schedule = Literal["cosine", "exponential", "constant"]


def lr_ratio(step: int, *, steps: int, warmup_steps: int, final_ratio: float, schedule: Schedule = "cosine") -> float:
    """Learning rate at `step` (from 0) as a share of its peak: linear warm-up, then the schedule.

    `cosine` and `exponential` end at `final_ratio` after `steps`; `constant` stays at the peak.

    >>> [round(lr_ratio(s, steps=10, warmup_steps=2, final_ratio=0.1), 2) for s in (0, 1, 2, 6, 10)]
    [0.5, 1.0, 1.0, 0.55, 0.1]
    >>> lr_ratio(5, steps=10, warmup_steps=0, final_ratio=0.01, schedule="exponential")
    0.1
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if schedule == "constant":
        return 1.0
    progress = min(1.0, (step - warmup_steps) / max(1, steps - warmup_steps))
    if schedule == "exponential":
        return float(final_ratio**progress)
    return final_ratio + (1 - final_ratio) * 0.5 * (1 + math.cos(math.pi * progress))
