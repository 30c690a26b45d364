"""Pictures of a run: learning curves, and frames with their masks drawn over them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from training.scores import per_image_iou

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

GREEN, RED, BLUE = (60, 220, 90), (240, 60, 50), (60, 120, 255)


def overlay(frame: np.ndarray, mask: np.ndarray, colour: Sequence[int] = GREEN, opacity: float = 0.55) -> np.ndarray:
    """Tint the masked pixels of a frame uint8 [H,W,3]; the mask is bool or 0/1 [H,W]. Returns uint8 [H,W,3]."""
    out = frame.astype(np.float32)
    inside = mask.astype(bool)
    out[inside] = (1 - opacity) * out[inside] + opacity * np.asarray(colour, np.float32)
    return np.rint(out).astype(np.uint8)


def difference(frame: np.ndarray, predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Green where both agree on robot, red where only the prediction says so, blue where only the truth does."""
    p, t = predicted.astype(bool), truth.astype(bool)
    for inside, colour in ((p & t, GREEN), (p & ~t, RED), (t & ~p, BLUE)):
        frame = overlay(frame, inside, colour)
    return frame


def panel(rows: Sequence[Sequence[np.ndarray]], scale: int = 2, gap: int = 2) -> Image.Image:
    """Lay pictures uint8 [H,W,3] of one size out in rows on white, each enlarged `scale` times without smoothing."""
    height, width = rows[0][0].shape[:2]
    columns = max(map(len, rows))
    sheet = np.full((len(rows) * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for r, row in enumerate(rows):
        for c, picture in enumerate(row):
            y, x = r * (height + gap), c * (width + gap)
            sheet[y : y + height, x : x + width] = picture
    return Image.fromarray(sheet).resize((sheet.shape[1] * scale, sheet.shape[0] * scale), Image.Resampling.NEAREST)


def prediction_panel(
    frames: np.ndarray, predicted: np.ndarray, truth: np.ndarray, *, pairs: int = 16, columns: int = 4
) -> Image.Image:
    """Frames beside their differences from the truth, from the worst IoU to the best in equal steps.

    Args:
        frames: uint8 [N,64,64,3].
        predicted: bool or 0/1 [N,64,64].
        truth: As `predicted`.
        pairs: How many frames to show at most.
        columns: Pairs in a row.
    """
    order = np.argsort(per_image_iou(predicted, truth))
    chosen = order[np.unique(np.linspace(0, len(order) - 1, min(pairs, len(order))).round().astype(int))]
    cells = [(frames[i], difference(frames[i], predicted[i], truth[i])) for i in chosen]
    rows = [[p for pair in cells[i : i + columns] for p in pair] for i in range(0, len(cells), columns)]
    return panel(rows)


def save_curves(history: Sequence[Mapping[str, str]], picture: Path) -> None:
    """Draw the rows of a run's history: losses above, validation IoU below, by step."""
    figure = Figure(figsize=(8, 6), layout="constrained")
    FigureCanvasAgg(figure)
    losses, ious = figure.subplots(2, 1, sharex=True)
    for axes, names in ((losses, ("train_loss", "val_loss")), (ious, ("val_iou", "val_iou_p5"))):
        for name in names:
            points = [(int(row["step"]), float(row[name])) for row in history if row.get(name)]
            if points:
                axes.plot(*zip(*points, strict=True), marker=".", markersize=3, linewidth=1, label=name)
        axes.grid(visible=True, alpha=0.3)
        if axes.has_data():  # a run may hold out nothing
            axes.legend()
    losses.set_ylabel("loss")
    losses.set_yscale("log")
    ious.set_ylabel("IoU on held-out scenes")
    ious.set_xlabel("step")
    ious.set_ylim(0.5, 1)
    figure.savefig(picture, dpi=110)
