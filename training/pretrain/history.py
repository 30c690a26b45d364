"""The history of a pretraining run: one row an epoch, kept through interruptions, and its curves."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

from lightning.pytorch.callbacks import Callback
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from training.history import read_history

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import lightning


class EpochHistory(Callback):
    """Writes a row of what was logged at the end of every epoch, and draws the curves anew.

    Args:
        file: The table.
        picture: The curves.
        plots: Names of the logged values to keep, by the plot that shows them.
    """

    def __init__(self, file: Path, picture: Path, plots: Mapping[str, Sequence[str]]) -> None:
        self._file = file
        self._picture = picture
        self._plots = plots
        self._columns = tuple(name for names in plots.values() for name in names)

    def on_train_epoch_end(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Take what was logged for the epoch."""
        if not trainer.is_global_zero:
            return
        logged = {k.removesuffix("_epoch"): v for k, v in trainer.callback_metrics.items() if not k.endswith("_step")}
        row = {k: f"{v.item():.6g}" for k, v in logged.items() if k in self._columns}
        row["epoch"] = str(trainer.current_epoch)
        row["step"] = str(trainer.global_step)
        row["lr"] = f"{trainer.optimizers[0].param_groups[0]['lr']:.6g}"
        rows = [old for old in read_history(self._file) if int(old["epoch"]) < trainer.current_epoch]
        write_rows(self._file, ("epoch", "step", "lr", *self._columns), [*rows, row])
        save_metric_curves(read_history(self._file), self._plots, self._picture)


def write_rows(file: Path, columns: Sequence[str], rows: Sequence[dict[str, str]]) -> None:
    """Write a table whole, then put it in the old one's place."""
    temporary = file.with_suffix(".tmp")
    with temporary.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows(rows)
    temporary.replace(file)


def save_metric_curves(history: Sequence[dict[str, str]], plots: Mapping[str, Sequence[str]], picture: Path) -> None:
    """Draw values by step: a plot for each name of `plots`, with the values it lists."""
    figure = Figure(figsize=(8, max(4, 2.2 * len(plots))), layout="constrained")
    FigureCanvasAgg(figure)
    all_axes: Any = figure.subplots(len(plots), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (label, names) in zip(all_axes, plots.items(), strict=True):
        for name in names:
            points = [(int(row["step"]), float(row[name])) for row in history if row.get(name)]
            if points:
                axes.plot(*zip(*points, strict=True), marker=".", markersize=3, linewidth=1, label=name)
        axes.set_ylabel(label)
        axes.grid(visible=True, alpha=0.3)
        axes.legend()
    all_axes[-1].set_xlabel("step")
    figure.savefig(picture, dpi=90)
