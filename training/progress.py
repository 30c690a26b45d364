"""The progress bar of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning.pytorch.callbacks import TQDMProgressBar

if TYPE_CHECKING:
    import lightning


class ProgressBar(TQDMProgressBar):
    """Lightning's, with losses and scores alone: its number of the loggers' version is none here."""

    def get_metrics(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """What stands behind the bar."""
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        return metrics
