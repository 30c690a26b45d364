"""One cell of the study: a row on one fold with one seed, as a file that appears when it is done."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from training.ablation.heads import predict_latents, train_head
from training.config import DataConfig, MachineConfig, ModelConfig, TrainConfig
from training.run import load_segmenter
from training.scores import per_image_iou, score
from training.trainer import predict, train

if TYPE_CHECKING:
    from pathlib import Path

    from training.ablation.config import AblateConfig
    from training.ablation.latents import Cached
    from training.ablation.rows import Row
    from training.config import OptimConfig
    from training.data.frames import FrameSet
    from training.data.splits import Split
    from training.segmenter import Segmenter


class Cell(NamedTuple):
    """Where the result of a row, a fold and a seed is."""

    row: Row
    fold: int
    seed: int

    @property
    def name(self) -> str:
        """The stem of its files."""
        return f"{self.row.name}.fold{self.fold}.seed{self.seed}"


def read_result(folder: Path, cell: Cell, key: str) -> dict[str, Any] | None:
    """The result of a cell; none where there is none, or one of other settings."""
    file = folder / f"{cell.name}.json"
    if not file.is_file():
        return None
    result: dict[str, Any] = json.loads(file.read_text())
    return result if result["key"] == key else None


def write_result(
    folder: Path,
    cell: Cell,
    *,
    key: str,
    settings: dict[str, Any],
    held: np.ndarray,
    masks: np.ndarray,
    frames: FrameSet,
) -> None:
    """Score the masks bool [n, 64, 64] of the frames `held` int [n], and write masks, then scores.

    `settings` are what the result depends on, and `key` their fingerprint.
    """
    folder.mkdir(parents=True, exist_ok=True)
    truth = frames.masks[held]
    result = {
        "key": key,
        "settings": settings,
        "row": cell.row.name,
        "fold": cell.fold,
        "seed": cell.seed,
        **score(masks, truth)._asdict(),
        "scenes": sorted(set(frames.scene[held].tolist())),
        "frames": held.tolist(),
        "iou": [round(float(iou), 5) for iou in per_image_iou(masks, truth)],
    }
    temporary = folder / f".{cell.name}.npz"
    np.savez_compressed(temporary, bits=np.packbits(masks, axis=-1))
    temporary.replace(folder / f"{cell.name}.npz")
    temporary = folder / f".{cell.name}.json"
    temporary.write_text(json.dumps(result) + "\n")
    temporary.replace(folder / f"{cell.name}.json")


def read_masks(folder: Path, cell: Cell) -> np.ndarray:
    """The masks bool [n, 64, 64] that a finished cell predicted, in the order of its `frames`."""
    with np.load(folder / f"{cell.name}.npz", allow_pickle=False) as file:
        return np.unpackbits(file["bits"], axis=-1).astype(bool)


def rate_of(row: Row) -> str:
    """The name, in `Rates`, of the learning rate of a row with a network."""
    return "finetuned" if not row.frozen and row.encoder == "frame-encoder" else row.head.replace("-", "_")


def optim_of(config: AblateConfig, row: Row) -> OptimConfig:
    """The optimiser settings of a row: the common ones with the row's own rate, and its own loss if it has one."""
    own = {"jaccard_weight": 0.0, "dice_weight": 0.0, "bce_weight": 1.0, "pos_weight": 1.0} if row.calibrated else {}
    return config.optim.model_copy(update={"lr": getattr(config.rates, rate_of(row)), **own})


def frozen_masks(config: AblateConfig, cell: Cell, segmenter: Segmenter, cached: Cached, split: Split) -> np.ndarray:
    """Train the head of a segmenter on cached latents; masks of the frames held out."""
    network = train_head(
        segmenter.head,
        cached,
        np.flatnonzero(split.in_train),
        optim_of(config, cell.row),
        steps=config.budget.head_steps,
        batch_size=config.budget.batch_size,
        seed=cell.seed,
    )
    return predict_latents(network, cached.latents[0][np.flatnonzero(~split.in_train)])


def learn_head(config: AblateConfig, cell: Cell, segmenter: Segmenter, cached: Cached, split: Split) -> None:
    """Train the head of a segmenter, in place, on the latents that its encoder gives before it is finetuned."""
    network = train_head(
        segmenter.head,
        cached,
        np.flatnonzero(split.in_train),
        optim_of(config, cell.row).model_copy(update={"lr": config.rates.attention_conv}),
        steps=config.budget.first_head_steps,
        batch_size=config.budget.batch_size,
        seed=cell.seed,
        standardised=False,
    )
    segmenter.head = network


def whole_masks(
    config: AblateConfig,
    cell: Cell,
    model: ModelConfig,
    start: Segmenter | None,
    *,
    key: str,
    frames: FrameSet,
    split: Split,
) -> np.ndarray:
    """Train a whole network as `robomask train` does, from `start` if it is given; masks of the frames held out.

    Its run folder, named for the cell's settings, lets an interrupted cell go on where it was; of a finished one the
    checkpoints are deleted.
    """
    out = config.out / "runs" / f"{cell.name}.{key}"
    run = TrainConfig(
        out=out,
        data=DataConfig(train=(config.data,), folds=config.folds, fold=cell.fold, fold_seed=config.fold_seed),
        model=model,
        augment=config.augment,
        optim=optim_of(config, cell.row),
        epochs=config.budget.epochs,
        steps_per_epoch=config.budget.steps_per_epoch,
        batch_size=config.budget.batch_size,
        seed=cell.seed,
        machine=MachineConfig(devices=1),
    )
    train(run, start=start)
    segmenter = load_segmenter(out)
    masks: np.ndarray = predict(segmenter, frames.frames[~split.in_train]) > 0.5
    shutil.rmtree(out / "checkpoints", ignore_errors=True)
    return masks


def mean_masks(frames: FrameSet, split: Split) -> np.ndarray:
    """The constant mask that scores best on what is learnt from: what is known without looking at the picture."""
    learnt, n_held = frames.masks[split.in_train], int((~split.in_train).sum())
    mean = learnt.mean(0)
    candidates = [mean >= threshold for threshold in np.linspace(0.02, 0.6, 30)]
    scores = [float(per_image_iou(np.broadcast_to(c, learnt.shape), learnt).mean()) for c in candidates]
    return np.repeat(candidates[int(np.argmax(scores))][None], n_held, 0)


def seeded(seed: int) -> None:
    """Make the weights that are drawn next a function of the seed."""
    torch.manual_seed(seed)
