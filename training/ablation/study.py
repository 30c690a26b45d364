"""Runs the study: every row on every fold with every seed, what is there already left as it is.

results/<row>.fold<i>.seed<s>.json   scores, by image; .npz beside it: the masks
latents/                             of frozen encoders, for all folds and seeds
runs/                                run folders of the networks that train as a whole
costs.json                           parameters, multiply-accumulates and milliseconds of each row
table.md, table.json, masks.png      what it comes to
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch
from tqdm import tqdm

from training.ablation.cells import (
    Cell,
    frozen_masks,
    learn_head,
    mean_masks,
    optim_of,
    read_result,
    seeded,
    whole_masks,
    write_result,
)
from training.ablation.cost import cost
from training.ablation.latents import cached_latents, digest, weights_digest
from training.ablation.picture import save_masks
from training.ablation.rows import BY_NAME
from training.ablation.table import summarise, write_table
from training.config import ModelConfig
from training.data import augment
from training.data.noise import noise_frames
from training.data.readers import read_frames
from training.data.splits import fold_split
from training.pretrain.weights import read_frame_encoder, read_prior
from training.run import segmenter_of
from training.segmenter import take_pretrained
from training.videogpt.configuration import frame_encoder_shape

if TYPE_CHECKING:
    from training.ablation.config import AblateConfig
    from training.ablation.latents import Cached
    from training.ablation.rows import Row
    from training.data.frames import FrameSet
    from training.segmenter import Segmenter


def ablate(config: AblateConfig) -> list[dict[str, Any]]:
    """Do what is not done yet, and write table and picture, in which rows that were done earlier stand as well.

    Returns:
        The rows of the table.

    Raises:
        DatasetError: Data that cannot be read.
        WeightsError: Pretrained weights that cannot be read.
        ValueError: Rows, folds and weights that do not fit together.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    frames = read_frames(config.data)
    parts = Parts(config)
    results: list[dict[str, Any]] = []
    with tqdm(total=len(config.rows) * config.folds * len(config.seeds), desc="cells", unit="cell") as bar:
        for name in config.rows:
            row = BY_NAME[name]
            for seed in config.seeds:
                for fold in range(config.folds):
                    bar.set_postfix_str(name)
                    results.append(_cell(config, parts, Cell(row, fold, seed), frames))
                    bar.update()
    results += _done_before(config, parts, frames)
    order = list(BY_NAME)
    results.sort(key=lambda result: order.index(result["row"]))
    costs = _costs(config, parts)
    table = summarise(results, costs, frames.split == "val")
    write_table(config.out, table, config)
    save_masks(config, frames, results, config.out / "masks.png")
    return table


def _done_before(config: AblateConfig, parts: Parts, frames: FrameSet) -> list[dict[str, Any]]:
    """The results of rows that are not asked for now, if all their cells are there with the same settings."""
    folder, sha256 = config.out / "results", frames.sha256()
    results: list[dict[str, Any]] = []
    for name, row in BY_NAME.items():
        cells = [Cell(row, fold, seed) for seed in config.seeds for fold in range(config.folds)]
        if name in config.rows or (row.pretrained and config.pretrained is None):
            continue
        if not all((folder / f"{cell.name}.json").is_file() for cell in cells):
            continue
        found = [read_result(folder, cell, key_of(config, parts, cell, sha256)) for cell in cells]
        results += [one for one in found if one is not None] if None not in found else []
    return results


class Parts:
    """Builds the networks of rows, and reads pretrained weights no more often than needed."""

    def __init__(self, config: AblateConfig) -> None:
        self.config = config
        self._digests: dict[str | None, str] = {None: ""}
        self.layers = config.layers
        if config.pretrained is not None:
            state = read_frame_encoder(config.pretrained).state_dict()
            layers, _, _ = frame_encoder_shape({name: tuple(tensor.shape) for name, tensor in state.items()})
            a, b, c, d = layers
            self.layers = (a, b, c, d)

    def model(self, row: Row, draw: int) -> ModelConfig:
        """A row as `robomask train` takes it."""
        if row.encoder is None:
            raise ValueError(f"row {row.name} has no network")
        return ModelConfig(
            encoder=row.encoder,
            head=row.head,
            frozen=row.frozen and row.encoder != "none",
            latents=row.latents,
            draw=draw if row.latents == "sampled" else 0,
            layers=self.layers,
            width=self.config.width,
            pretrained=self.config.pretrained if row.pretrained else None,
        )

    def build(self, model: ModelConfig, seed: int) -> Segmenter:
        """The network as it starts."""
        seeded(seed)
        if model.encoder == "transformer" and model.pretrained is not None:
            prior = read_prior(model.pretrained)
            seeded(seed)  # reading draws weights that it then replaces
            return segmenter_of(model, prior)
        segmenter = segmenter_of(model)
        if model.pretrained is not None:
            take_pretrained(segmenter, read_frame_encoder(model.pretrained))
        return segmenter

    def weights(self, row: Row) -> str:
        """A fingerprint of the pretrained weights that a row uses."""
        kind = row.pretrained
        if kind not in self._digests and self.config.pretrained is not None:
            read = read_prior if kind == "prior" else read_frame_encoder
            self._digests[kind] = weights_digest(read(self.config.pretrained))
        return self._digests[kind]


def _cell(config: AblateConfig, parts: Parts, cell: Cell, frames: FrameSet) -> dict[str, Any]:
    """The result of a cell, computed if it is not there."""
    row = cell.row
    split = fold_split(frames, config.folds, cell.fold, config.fold_seed)
    held = (~split.in_train).nonzero()[0]
    key = key_of(config, parts, cell, frames.sha256())
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
    write_result(folder, cell, key=key, held=held, masks=masks, frames=frames)
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


def key_of(config: AblateConfig, parts: Parts, cell: Cell, frames_sha256: str) -> str:
    """A fingerprint of all that a cell's result depends on."""
    row = cell.row
    return digest(
        row._asdict(),
        [cell.fold, cell.seed, config.folds, config.fold_seed, frames_sha256, parts.weights(row)],
        [list(parts.layers), config.width, config.copies, config.sampled_copies],
        optim_of(config, row).model_dump(mode="json") if row.encoder else None,
        [config.budget.of(row), config.augment.model_dump(mode="json"), augment.VERSION],
        *([config.rates.attention_conv] if row.head_first else []),
    )


def _costs(config: AblateConfig, parts: Parts) -> dict[str, dict[str, float]]:
    """What each row costs for a frame, measured once."""
    file = config.out / "costs.json"
    known: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    for name in config.rows:
        row = BY_NAME[name]
        if row.encoder is None:
            continue
        model = parts.model(row, 0)
        key = digest(model.model_dump(mode="json"), parts.weights(row))
        if known.get(name, {}).get("key") != key:
            known[name] = {"key": key, **cost(parts.build(model, 0))}
            temporary = file.with_suffix(".tmp")
            temporary.write_text(json.dumps(known, indent=1) + "\n")
            temporary.replace(file)
    return known
