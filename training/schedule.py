"""The learning rate as a pure function of the step, so that resuming cannot shift it."""

from __future__ import annotations

import math


def lr_ratio(step: int, *, steps: int, warmup_steps: int, final_ratio: float) -> float:
    """Learning rate at `step` (from 0) as a share of its peak: linear warm-up, then a cosine down to `final_ratio`.

    >>> [round(lr_ratio(s, steps=10, warmup_steps=2, final_ratio=0.1), 2) for s in (0, 1, 2, 6, 10)]
    [0.5, 1.0, 1.0, 0.55, 0.1]
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = min(1.0, (step - warmup_steps) / max(1, steps - warmup_steps))
    return final_ratio + (1 - final_ratio) * 0.5 * (1 + math.cos(math.pi * progress))
