"""The picture of the study, like the paper's figure 6: frames, labels, and what every row makes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from training.ablation.cells import Cell, read_masks
from training.ablation.rows import BY_NAME
from training.pictures import difference

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from training.ablation.config import AblateConfig
    from training.data.frames import FrameSet


def save_masks(config: AblateConfig, frames: FrameSet, results: Sequence[Mapping[str, Any]], picture: Path) -> None:
    """Draw held-out frames of different scenes, their labels, and every row's masks with its first seed.

    Green: row and label agree; red: only the row says robot; blue: only the label.
    """
    columns = _different_scenes(frames, config.pictures)
    rows: list[tuple[str, list[np.ndarray]]] = [
        ("frame", [frames.frames[i] for i in columns]),
        ("label", [np.repeat(frames.masks[i][:, :, None] * np.uint8(255), 3, 2) for i in columns]),
    ]
    for name in dict.fromkeys(result["row"] for result in results):
        masks: dict[int, np.ndarray] = {}
        for result in results:
            if result["row"] == name and result["seed"] == config.seeds[0]:
                cell = Cell(BY_NAME[name], result["fold"], result["seed"])
                masks |= dict(zip(result["frames"], read_masks(config.out / "results", cell), strict=True))
        encoder, decoder = BY_NAME[name].says
        rows.append(
            (f"{encoder}\n{decoder}", [difference(frames.frames[i], masks[i], frames.masks[i]) for i in columns])
        )
    figure = Figure(figsize=(2.2 + len(columns), len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(rows), len(columns), squeeze=False)
    for (label, pictures), axes in zip(rows, grid, strict=True):
        for ax, shown in zip(axes, pictures, strict=True):
            ax.imshow(shown, interpolation="nearest")
            ax.set_xticks([])
            ax.set_yticks([])
        axes[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=8)
    figure.savefig(picture, dpi=110)


def _different_scenes(frames: FrameSet, n: int) -> list[int]:
    """A frame from the middle of each of n scenes at most, spread over all scenes."""
    scenes = np.unique(frames.scene)
    chosen = scenes[np.unique(np.linspace(0, len(scenes) - 1, min(n, len(scenes))).round().astype(int))]
    return [int(rows[len(rows) // 2]) for rows in (np.flatnonzero(frames.scene == scene) for scene in chosen)]
