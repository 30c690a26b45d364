"""The running average of a network's weights, which is what a run gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning.pytorch.callbacks import WeightAveraging

if TYPE_CHECKING:
    from lightning import LightningModule, Trainer
    from torch import Tensor


def decay_at(step: int, decay: float) -> float:
    """What the average keeps of itself at a step, from 0: less in the beginning, or short runs would be their start.

    >>> [round(decay_at(step, 0.998), 3) for step in (0, 90, 8990)]
    [0.1, 0.91, 0.998]
    """
    return min(decay, (1 + step) / (10 + step))


class RunningAverage(WeightAveraging):
    """Averages weights and buffers after every step; validation and the end of the run see the average.

    Args:
        decay: What the average keeps of itself in a step, at most.
    """

    def __init__(self, decay: float) -> None:
        def averaged(mean: Tensor, value: Tensor, count: Tensor | int) -> Tensor:
            kept = decay_at(int(count), decay)
            return mean + (1 - kept) * (value - mean)  # in this form weights that do not learn stay as they are

        super().__init__(avg_fn=averaged)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the average in the network, which a run that had no step left to do would end without."""
        self.on_train_end(trainer, pl_module)
