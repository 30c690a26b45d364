"""One pretraining run from configuration to run folder.

    run.json                    configuration, data with their hashes, seed, code revision, versions, metrics
    *.safetensors               weights in the published layout; see `training.pretrain.weights`
    history.csv, curves.png     what was logged, by epoch
    pictures/                   held-out clips beside what the model makes of them
    tensorboard/, wandb/        the same for those tools
    checkpoints/                what resuming needs

`run.json` appears last: a folder that has it is complete.
"""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import LearningRateMonitor

from training.begun import hold_to
from training.checkpoints import BEST, LAST, MovableCheckpoint, refuse_fewer_epochs
from training.clips.batches import ClipShape
from training.clips.source import fingerprint
from training.history import read_history
from training.loggers import make_loggers
from training.machine import prepare, settled, trainer_arguments
from training.pretrain.aligned_start import start_aligned
from training.pretrain.best import read_best
from training.pretrain.clip_data import ClipData, describe, open_parts
from training.pretrain.history import EpochHistory
from training.pretrain.one_frame import train_collapsed
from training.pretrain.pictures import ClipPictures
from training.pretrain.prior_module import TrainPrior
from training.pretrain.steps import SeededSteps
from training.pretrain.vqvae_module import TrainVQVAE
from training.pretrain.weights import (
    WeightsError,
    read_prior,
    read_vqvae,
    take_frame_encoder,
    write_prior,
    write_vqvae,
)
from training.progress import ProgressBar
from training.run import HISTORY, RECORD, code_revision
from training.videogpt.prior import Prior
from training.videogpt.vqvae import VQVAE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from training.clips.batches import Part
    from training.pretrain.config import PretrainConfig, PriorRunConfig, VQVAERunConfig
    from training.videogpt.vqvae import VQVAEConfig

RATES = ("dropout", "attn_dropout", "recompute")
"""What a prior may do differently from the one whose weights it starts from."""
STARTS = ("init", "vqvae", "frame_encoder")
"""Settings that name weights to start from, of which the contents count and not the names."""


def pretrain_vqvae(config: VQVAERunConfig) -> dict[str, float]:
    """Train a VQ-VAE, or go on with what `config.out` holds, and write the run folder.

    Returns:
        The metrics of the weights it ends with, by name; of many processes, only the first has them.

    Raises:
        DatasetError: Clips that cannot be read.
        WeightsError: `config.init` that cannot be read or does not fit.
        RunError: `config.out` holds another run, more epochs of this one, or not the weights of its best.
    """
    config = config.model_copy(update={"machine": settled(config.machine)})
    prepare(config.machine, config.seed)
    vqvae = VQVAE(config.model.build())
    if config.init is not None:
        start = read_vqvae(config.init)
        _check_same(start.config, vqvae.config, config.init)
        vqvae.load_state_dict(start.state_dict())
    module = TrainVQVAE(vqvae, config.optim, config.steps)
    return _run(config, module, vqvae.config, lambda: write_vqvae(config.out, vqvae))


def pretrain_prior(config: PriorRunConfig) -> dict[str, float]:
    """Train a prior, or go on with what `config.out` holds, and write the run folder.

    Returns:
        The metrics of the weights it ends with, by name; of many processes, only the first has them.

    Raises:
        DatasetError: Clips that cannot be read.
        WeightsError: A VQ-VAE, or `config.init`, that cannot be read or does not fit.
        RunError: `config.out` holds another run, more epochs of this one, or not the weights of its best.
    """
    config = config.model_copy(update={"machine": settled(config.machine)})
    prepare(config.machine, config.seed)
    prior = new_prior(config)
    n_frames, frozen = prior.config.n_cond_frames, config.encoder == "frozen"
    if n_frames:
        if config.encoder == "collapsed" or (frozen and n_frames == 1):
            train_collapsed(prior)
        prior.resnet.requires_grad_(not frozen)
    module = TrainPrior(prior, config.optim, config.steps)
    return _run(config, module, prior.config.vqvae, lambda: write_prior(config.out, prior))


def new_prior(config: PriorRunConfig) -> Prior:
    """The prior at the start of a run, its frame encoder as published.

    Raises:
        WeightsError: Weights that cannot be read or do not fit.
    """
    if config.init is not None:
        start = read_prior(config.init)
        prior = Prior(config.model.build(start.config.vqvae))
        _check_same(start.config, prior.config, config.init)
        prior.load_state_dict(start.state_dict())
    elif config.vqvae is not None:
        vqvae = read_vqvae(config.vqvae)
        prior = Prior(config.model.build(vqvae.config))
        prior.vqvae.load_state_dict(vqvae.state_dict())
        if config.start == "aligned":
            start_aligned(prior)
    else:
        raise ValueError("expected either vqvae or init, got neither")
    if config.frame_encoder is not None:
        take_frame_encoder(prior, config.frame_encoder)
    return prior


def _run(
    config: PretrainConfig, module: TrainVQVAE | TrainPrior, clips: VQVAEConfig, write_weights: Callable[[], None]
) -> dict[str, float]:
    """Fit, then write the folder; `clips` says what clips the model takes."""
    parts = open_parts(config.data, clips.sequence_length, config.seed)
    config.out.mkdir(parents=True, exist_ok=True)
    checkpoints = config.out / "checkpoints"
    last, best = checkpoints / LAST, checkpoints / BEST
    hold_to(config.out, _what_counts(config, parts), begun=last.is_file())
    refuse_fewer_epochs(config.out, last, config.epochs)
    trainer = lightning.Trainer(
        **trainer_arguments(config.machine),
        max_epochs=config.epochs,
        gradient_clip_val=config.optim.clip_norm,
        logger=make_loggers(config.out, config.log),
        log_every_n_steps=config.log.every_steps,
        callbacks=[
            SeededSteps(config.seed),
            EpochHistory(config.out / HISTORY, config.out / "curves.png", module.plots),
            ClipPictures(config.out / "pictures", config.log, config.seed),
            LearningRateMonitor("step"),
            ProgressBar(leave=True),
            MovableCheckpoint(
                checkpoints,
                filename=best.stem,
                monitor="val_loss",
                save_last=True,
                auto_insert_metric_name=False,
                enable_version_counter=False,
                save_on_train_epoch_end=True,
            ),
        ],
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
    data = ClipData(parts, ClipShape(clips.sequence_length, clips.resolution), config)
    trainer.fit(module, datamodule=data, ckpt_path=str(last) if last.is_file() else None, weights_only=True)
    if not trainer.is_global_zero:
        return {}
    rows = read_history(config.out / HISTORY)
    row: Mapping[str, str] = rows[-1]
    if config.keep == "best":
        row, weights = read_best(best, rows)
        module.load_state_dict(weights)
    metrics = {name: float(value) for name, value in row.items() if value}
    module.to("cpu")
    write_weights()
    _write_record(config, parts, metrics)
    return metrics


def _what_counts(config: PretrainConfig, parts: list[Part]) -> dict[str, Any]:
    """What a run cannot change while it is under way; its number of epochs may, as a schedule is shortened."""
    left_out = {"out", "log", "machine", "epochs", "keep", *STARTS}
    settings = config.model_dump(mode="json", exclude={**dict.fromkeys(left_out, True), "data": {"clips"}})
    weights = {name: _contents(path) for name in STARTS if (path := getattr(config, name, None)) is not None}
    clips = [{k: v for k, v in part.items() if k != "name"} for part in describe(parts)]
    return {**settings, "weights": weights, "clips": clips}


def _contents(path: Path) -> str:
    """A fingerprint of the weights in a file or a run folder; "" where there are none, which reading them tells."""
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path] * path.is_file()
    return fingerprint(files).sha256 if files else ""


def _check_same(start: Any, wanted: Any, path: Path) -> None:
    """Refuse to start from weights of a model with other numbers.

    Raises:
        WeightsError: Naming the numbers.
    """
    names = [field.name for field in dataclasses.fields(start) if field.name not in RATES]
    other = [
        f"{n}={getattr(start, n)} not {getattr(wanted, n)}" for n in names if getattr(start, n) != getattr(wanted, n)
    ]
    if other:
        raise WeightsError(
            f"{path}: expected a model of the configured numbers, found {', '.join(other)}: set the same"
        )


def _write_record(config: PretrainConfig, parts: list[Part], metrics: dict[str, float]) -> None:
    record = {
        "config": config.model_dump(mode="json"),
        "metrics": metrics,
        "data": describe(parts),
        "code_revision": code_revision(),
        "versions": {"torch": torch.__version__, "lightning": lightning.__version__, "numpy": np.__version__},
    }
    temporary = config.out / f".{RECORD}"
    temporary.write_text(json.dumps(record, indent=2) + "\n")
    temporary.replace(config.out / RECORD)
