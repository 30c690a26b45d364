"""Runs the study: every row on every fold with every seed, what is there already left as it is, or refused.

results/<row>.fold<i>.seed<s>.json   scores, by image; .npz beside it: the masks
latents/                             of frozen encoders, for all folds and seeds
runs/                                run folders of the networks that train as a whole
costs.json                           parameters, multiply-accumulates and milliseconds of all rows, measured together
table.md, table.json, masks.png      what it comes to
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from tqdm import tqdm

from training.ablation.cells import (
    Cell,
    frozen_masks,
    learn_head,
    mean_masks,
    read_result,
    whole_masks,
    write_result,
)
from training.ablation.cost import costs_of
from training.ablation.latents import cached_latents, digest
from training.ablation.parts import Parts
from training.ablation.picture import save_masks
from training.ablation.rows import BY_NAME
from training.ablation.settings import key_of, refuse_other_settings, settings_of
from training.ablation.table import summarise, write_table
from training.data.noise import noise_frames
from training.data.readers import read_frames
from training.data.sides import remark_lone_frames
from training.data.splits import fold_split

if TYPE_CHECKING:
    from training.ablation.config import AblateConfig
    from training.ablation.latents import Cached
    from training.data.frames import FrameSet
    from training.segmenter import Segmenter


class Study(NamedTuple):
    """What a study has come to.

    Attributes:
        table: The rows of the table.
        incomplete: Rows that are not asked for now and lack cells, so that they are not in it, with how many are there.
    """

    table: list[dict[str, Any]]
    incomplete: dict[str, str]


def ablate(config: AblateConfig) -> Study:
    """Do what is not done yet, and write table and picture, in which rows that were done earlier stand as well.

    Raises:
        DatasetError: Data that cannot be read.
        WeightsError: Pretrained weights that cannot be read.
        RunError: Results in the folder that were made with other settings or data.
        ValueError: Rows, folds and weights that do not fit together.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    frames = read_frames(config.data)
    remark_lone_frames(frames)
    parts = Parts(config)
    refuse_other_settings(config, parts, frames.sha256())
    results: list[dict[str, Any]] = []
    with tqdm(total=len(config.rows) * config.folds * len(config.seeds), desc="cells", unit="cell") as bar:
        for name in config.rows:
            row = BY_NAME[name]
            for seed in config.seeds:
                for fold in range(config.folds):
                    bar.set_postfix_str(name)
                    results.append(_cell(config, parts, Cell(row, fold, seed), frames))
                    bar.update()
    before, incomplete = _done_before(config, parts, frames)
    results += before
    order = list(BY_NAME)
    results.sort(key=lambda result: order.index(result["row"]))
    costs = costs_of(config.out / "costs.json", parts, dict.fromkeys(result["row"] for result in results))
    table = summarise(results, costs, frames.split == "val")
    write_table(config.out, table, config, incomplete)
    save_masks(config, frames, results, config.out / "masks.png")
    return Study(table, incomplete)


def _done_before(config: AblateConfig, parts: Parts, frames: FrameSet) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The results of rows that are not asked for now, if all their cells are there, and how many are of the others."""
    folder, sha256 = config.out / "results", frames.sha256()
    results: list[dict[str, Any]] = []
    incomplete: dict[str, str] = {}
    for name, row in BY_NAME.items():
        if name in config.rows or (row.pretrained and config.pretrained is None):
            continue
        cells = [Cell(row, fold, seed) for seed in config.seeds for fold in range(config.folds)]
        there = [read_result(folder, cell, key_of(settings_of(config, parts, cell, sha256))) for cell in cells]
        found = [one for one in there if one is not None]
        if len(found) == len(cells):
            results += found
        elif any(folder.glob(f"{name}.*.json")):
            incomplete[name] = f"{len(found)} of {len(cells)} cells"
    return results, incomplete


def _cell(config: AblateConfig, parts: Parts, cell: Cell, frames: FrameSet) -> dict[str, Any]:
    """The result of a cell, computed if it is not there."""
    row = cell.row
    split = fold_split(frames, config.folds, cell.fold, config.fold_seed)
    held = (~split.in_train).nonzero()[0]
    settings = settings_of(config, parts, cell, frames.sha256())
    key = key_of(settings)
    folder = config.out / "results"
    found = read_result(folder, cell, key)
    if found is not None:
        return found
    if row.encoder is None:
        masks = mean_masks(frames, split)
    elif not row.frozen:
        model, start = parts.model(row, 0), None
        if row.head_first and config.budget.first_head_steps:
            start = parts.build(model, cell.seed)
            learn_head(config, cell, start, _cached(config, cell, start, frames), split)
        masks = whole_masks(config, cell, model, start, key=key, frames=frames, split=split)
    else:
        segmenter = parts.build(parts.model(row, cell.seed), cell.seed)
        masks = frozen_masks(config, cell, segmenter, _cached(config, cell, segmenter, frames), split)
    write_result(folder, cell, key=key, settings=settings, held=held, masks=masks, frames=frames)
    result = read_result(folder, cell, key)
    if result is None:
        raise RuntimeError(f"{folder}: the result of {cell.name} is not there after it was written")
    return result


def _cached(config: AblateConfig, cell: Cell, segmenter: Segmenter, frames: FrameSet) -> Cached:
    """What the encoder of a row makes of all frames."""
    row = cell.row
    return cached_latents(
        config.out / "latents",
        segmenter.encoder,
        noise_frames(frames, seed=0) if row.noise else frames,
        copies=config.sampled_copies if row.latents == "sampled" else config.copies,
        augmentation=config.augment,
        key=digest(row.latents, cell.seed if row.latents == "sampled" else 0),
    )
