"""The history of a run: one row of losses and scores an epoch, kept through interruptions."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

from lightning.pytorch.callbacks import Callback

from training.pictures import save_curves

if TYPE_CHECKING:
    from pathlib import Path

    import lightning

COLUMNS = ("epoch", "step", "lr", "train_loss", "val_loss", "val_iou", "val_iou_p5")


def read_history(file: Path) -> list[dict[str, str]]:
    """The rows written so far, oldest first; none where there is no file."""
    if not file.is_file():
        return []
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def write_row(file: Path, row: dict[str, Any]) -> None:
    """Add an epoch's row. Rows of this and later epochs, which an interrupted run may have left, make way."""
    kept = [old for old in read_history(file) if int(old["epoch"]) < row["epoch"]]
    temporary = file.with_suffix(".tmp")
    with temporary.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerows([*kept, row])
    temporary.replace(file)


class HistoryCallback(Callback):
    """Writes a row, and draws the curves anew, at the end of every epoch."""

    def __init__(self, file: Path, picture: Path) -> None:
        self.file = file
        self.picture = picture

    def on_train_epoch_end(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Take what was logged for the epoch."""
        if not trainer.is_global_zero:
            return
        values: dict[str, Any] = {k: f"{v.item():.6g}" for k, v in trainer.callback_metrics.items() if k in COLUMNS}
        values["epoch"] = trainer.current_epoch
        values["step"] = trainer.global_step
        values["lr"] = f"{trainer.optimizers[0].param_groups[0]['lr']:.6g}"
        write_row(self.file, values)
        save_curves(read_history(self.file), self.picture)
