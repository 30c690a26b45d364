"""The table: mean and spread of every row, the paper's number beside it, and what a frame costs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from training.ablation.cost import CLOCK
from training.ablation.rows import BY_NAME

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from training.ablation.config import AblateConfig


_COLUMNS = (
    *("encoder", "decoder", "paper", "IoU", "± seeds", "± folds", "all pixels", "val", "5th percentile"),
    *("trained", "all", "GMAC", "ms"),
)


def summarise(
    results: Sequence[Mapping[str, Any]], costs: Mapping[str, Mapping[str, float]], marked: np.ndarray
) -> list[dict[str, Any]]:
    """One entry for each row, in the order in which rows first appear.

    Over the folds of a seed every image is held out once: `iou` is the mean over seeds of the mean over images,
    `sd_seeds` its spread over seeds (sample standard deviation; none with one seed), `sd_folds` the spread over folds,
    averaged over seeds, which tells how much scenes differ. `dataset` is the IoU of all pixels of a fold together, mean
    over folds and seeds. `iou_val` is the mean over marked images, none without any.

    Args:
        results: Of all cells.
        costs: Of each row, by name.
        marked: bool [N], the frames that the data set marks `val`. Over folds they are held out like all others, but
            pretraining on clips of the same scenes has not seen them either, if it kept to the marks.
    """
    table = []
    for name in dict.fromkeys(result["row"] for result in results):
        cells = [result for result in results if result["row"] == name]
        seeds = sorted({cell["seed"] for cell in cells})
        images = {seed: np.concatenate([c["iou"] for c in cells if c["seed"] == seed]) for seed in seeds}
        folds = {seed: [c["mean"] for c in cells if c["seed"] == seed] for seed in seeds}
        means = [float(images[seed].mean()) for seed in seeds]
        is_marked = {seed: marked[np.concatenate([c["frames"] for c in cells if c["seed"] == seed])] for seed in seeds}
        on_marked = [float(images[seed][is_marked[seed]].mean()) for seed in seeds] if marked.any() else []
        row = BY_NAME[name]
        table.append(
            {
                "row": name,
                "encoder": row.says[0],
                "decoder": row.says[1],
                "paper": row.paper,
                "iou": float(np.mean(means)),
                "sd_seeds": float(np.std(means, ddof=1)) if len(means) > 1 else None,
                "sd_folds": float(np.mean([np.std(folds[seed], ddof=1) for seed in seeds])),
                "dataset": float(np.mean([cell["dataset"] for cell in cells])),
                "iou_val": float(np.mean(on_marked)) if on_marked else None,
                "p5": float(np.mean([np.percentile(images[seed], 5) for seed in seeds])),
                "seeds": len(seeds),
                "cells": len(cells),
                "images": int(np.mean([len(images[seed]) for seed in seeds])),
                **{k: v for k, v in costs.get(name, {}).items() if k != "key"},
            }
        )
    return table


def markdown(table: Sequence[Mapping[str, Any]]) -> str:
    """The table for people.

    `table` is what `summarise` gives.
    """
    lines = [
        f"| {' | '.join(_COLUMNS)} |",
        "|---" * len(_COLUMNS) + "|",
    ]
    for row in table:
        paper = "" if row["paper"] is None else f"{row['paper']:g}"
        spread = "" if row["sd_seeds"] is None else f"{row['sd_seeds']:.3f}"
        cells = [row["encoder"], row["decoder"], paper, f"{row['iou']:.3f}", spread, f"{row['sd_folds']:.3f}"]
        cells.append(f"{row['dataset']:.3f}")
        cells.append("" if row["iou_val"] is None else f"{row['iou_val']:.3f}")
        cells.append(f"{row['p5']:.3f}")
        if "mac" in row:
            cells += [f"{row['trained'] / 1e6:.2f} M", f"{row['parameters'] / 1e6:.2f} M"]
            cells += [f"{row['mac'] / 1e9:.2f}", f"{row['ms']:.0f}"]
        else:
            cells += [""] * 4
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def not_in_the_table(incomplete: Mapping[str, str]) -> str:
    """A sentence about rows that lack cells.

    >>> not_in_the_table({"unet": "3 of 15 cells"})
    'Not in the table, as cells are missing: unet (3 of 15 cells). --rows unet does the rest.'
    """
    found = ", ".join(f"{name} ({cells})" for name, cells in incomplete.items())
    return f"Not in the table, as cells are missing: {found}. --rows {' '.join(incomplete)} does the rest."


def write_table(
    out: Path, table: Sequence[Mapping[str, Any]], config: AblateConfig, incomplete: Mapping[str, str]
) -> None:
    """Write `table.md` and `table.json`, the latter with the configuration that gave it.

    `incomplete` are rows that are not in it, with how many cells of each are there.
    """
    first = table[0]
    head = (
        f"Mean over images of the IoU at probability 0.5 on scenes held out: {config.folds} folds of scenes of "
        f"{config.data.name} ({first['images']} images), {first['seeds']} seeds a row. ± seeds: standard deviation "
        "of that mean over seeds; ± folds: standard deviation over folds; "
        "all pixels: IoU of all pixels of a fold together, mean over folds and seeds; "
        "val: mean over the frames marked so. The control noise-conv learns "
        "by cross-entropy alone, so that it may say nothing; noise-overlap by the loss of all other rows."
    )
    foot = f"Cost: of one frame, float32, CPU. ms: {CLOCK}."
    notes = f"\n{not_in_the_table(incomplete)}\n" if incomplete else ""
    (out / "table.md").write_text(f"{head}\n\n{markdown(table)}\n{foot}\n{notes}")
    content = {"config": config.model_dump(mode="json"), "ms": CLOCK, "rows": list(table)}
    (out / "table.json").write_text(json.dumps(content, indent=1) + "\n")
