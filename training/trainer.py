"""One finetuning run from configuration to run folder."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from typing import TYPE_CHECKING, Any

import lightning
import numpy as np
import torch

from training.averaging import RunningAverage
from training.begun import hold_to
from training.checkpoints import LAST, MovableCheckpoint, refuse_fewer_epochs
from training.config import AugmentConfig, OptimConfig
from training.data.frames import concatenate
from training.data.labelled import LabelledFrames
from training.data.sides import hashes_of, read_sides
from training.encoders import PriorEncoder
from training.finetune import Finetune
from training.history import HistoryCallback
from training.loggers import make_loggers
from training.machine import prepare, settled, trainer_arguments
from training.pictures import prediction_panel
from training.pretrain.weights import FRAME_ENCODER_FILE, MANIFEST, PRIOR_FILE
from training.progress import ProgressBar
from training.run import HISTORY, RECORD, RunError, code_revision, read_run, write_run
from training.scores import Score, score
from training.start import known_scenes, refuse_known, start_of
from training.threshold import calibrate, frames_to_calibrate_on

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lightning.pytorch.callbacks import Callback
    from lightning.pytorch.loggers import Logger

    from training.config import ModelConfig, TrainConfig
    from training.data.splits import Sides
    from training.segmenter import Segmenter

_log = logging.getLogger(__name__)

EVALUATION_BATCH = 32


def predict(segmenter: Segmenter, frames: np.ndarray) -> np.ndarray:
    """Robot probability float32 [N, 64, 64] of frames uint8 [N, 64, 64, 3], in float32 arithmetic."""
    segmenter.eval()
    with torch.inference_mode():
        parts = [
            torch.sigmoid(segmenter(torch.from_numpy(frames[i : i + EVALUATION_BATCH])).logits).numpy()
            for i in range(0, len(frames), EVALUATION_BATCH)
        ]
    return np.concatenate(parts)


def train(
    config: TrainConfig,
    *,
    start: Segmenter | None = None,
    callbacks: Sequence[Callback] = (),
    loggers: Sequence[Logger] | None = None,
) -> Score | None:
    """Train, or go on with what `config.out` holds, and write the run folder.

    Args:
        config: The run.
        start: The network as `config.model` describes it, if some of it has been trained already; changed in place.
        callbacks: Called after the run's own.
        loggers: Where losses and scores go beside the run's own history; by default where the configuration says.

    Returns:
        The averaged weights' score on the validation scenes, at their threshold; none where no scenes are held out.
        Of many processes, only the first has it.

    Raises:
        DatasetError: A data set that cannot be read.
        RunError: Weights to start from that cannot be read or do not fit; or `config.out` holds another run, or more
            epochs of this one.
        ValueError: Settings that do not fit together.
    """
    config = config.model_copy(update={"machine": settled(config.machine)})
    prepare(config.machine, config.seed)
    revision = code_revision()  # of the code that is loaded now, whatever happens to the checkout meanwhile
    sides = read_sides(config.data, config.seed)
    if start is not None and config.model.init is not None:
        raise ValueError("expected a network to start from or model.init, got both")
    segmenter, parent = (start, None) if start is not None else start_of(config.model)
    held_out = set(sides.val.scene.tolist())
    if config.data.folds is not None:
        refuse_known(config.model, held_out)
    known = known_scenes(config.model, held_out)
    for run, scenes in known.items():
        _log.warning(
            "%s has learned from %d of the %d scenes held out: the score will not be one of scenes never seen",
            *(run, len(scenes), len(held_out)),
        )
    data = hashes_of(config.data)
    pretrained = pretrained_record(config.model)
    config.out.mkdir(parents=True, exist_ok=True)
    last = config.out / "checkpoints" / LAST
    if (config.out / RECORD).is_file() and read_run(config.out).record.get("mean_of"):
        raise RunError(f"{config.out}: expected a folder for a run, found the mean of several: name another with --out")
    hold_to(
        config.out,
        what_counts(config, data, sides, parent, pretrained),
        begun=last.is_file(),
        defaults=defaults_of_what_counts(),
    )
    refuse_fewer_epochs(config.out, last, config.epochs)
    module = Finetune(segmenter.train(), config.optim, config.steps)
    loggers = make_loggers(config.out, config.log) if loggers is None else loggers
    for logger in loggers:
        logger.log_hyperparams(config.model_dump(mode="json"))
    trainer = lightning.Trainer(
        **trainer_arguments(config.machine),
        max_epochs=config.epochs,
        gradient_clip_val=config.optim.clip_norm,
        logger=list(loggers),
        log_every_n_steps=min(50, config.steps_per_epoch),
        callbacks=[
            RunningAverage(config.optim.ema_decay),
            MovableCheckpoint(last.parent, filename=last.stem, save_top_k=1, enable_version_counter=False),
            ProgressBar(leave=True),
            HistoryCallback(config.out / HISTORY, config.out / "curves.png"),
            *callbacks,
        ],
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
    trainer.fit(
        module,
        datamodule=LabelledFrames(sides, config, EVALUATION_BATCH),
        ckpt_path=str(last) if last.is_file() else None,
        weights_only=True,
    )
    if not trainer.is_global_zero:
        return None
    known_before = sorted(set[str]().union(*known.values()))
    origin = {
        "data": data,
        "parent": parent,
        "pretrained": pretrained,
        "code_revision": revision,
        "known_scenes": known_before,
    }
    return finish(config, module.segmenter, sides, origin)


def what_counts(
    config: TrainConfig,
    data: list[dict[str, str]],
    sides: Sides,
    parent: dict[str, Any] | None,
    pretrained: dict[str, str] | None,
) -> dict[str, Any]:
    """What a run cannot change while it is under way; files by their content, wherever they lie.

    The number of epochs may: a schedule is shortened or drawn out.
    """
    settings = config.model_dump(
        mode="json",
        exclude={
            "out": True,
            "log": True,
            "machine": True,
            "epochs": True,
            "data": {"train", "val"},
            "model": {"init", "pretrained"},
        },
    )
    start = {"init": (parent or {}).get("sha256"), "pretrained": (pretrained or {}).get("sha256")}
    return {
        **settings,
        "data_sha256": [one["sha256"] for one in data],
        "sides_sha256": {"train": [side.sha256() for side in sides.train], "val": sides.val.sha256()},
        "start": start,
    }


def defaults_of_what_counts() -> dict[str, Any]:
    """Settings that a run which an earlier version began may not know, as it had them all the same."""
    return {"augment": AugmentConfig().model_dump(mode="json"), "optim": OptimConfig().model_dump(mode="json")}


def finish(config: TrainConfig, segmenter: Segmenter, sides: Sides, origin: dict[str, Any]) -> Score | None:
    """Set a network's threshold, measure it on the scenes held out, and write what makes its folder a finished run's.

    Args:
        config: The run; its folder is there.
        segmenter: Its weights.
        sides: What it has learned from, and what it is measured on.
        origin: What else the record says.

    Returns:
        Its score; none where no scenes are held out.
    """
    segmenter = segmenter.to("cpu")
    train = concatenate(list(sides.train))
    known = frames_to_calibrate_on(sides.train, sides.divided)
    threshold = calibrate(predict(segmenter, known.frames), known.masks)
    result = None
    if len(sides.val):
        predicted = predict(segmenter, sides.val.frames) >= threshold
        result = score(predicted, sides.val.masks)
        prediction_panel(sides.val.frames, predicted, sides.val.masks).save(config.out / "predictions.png")
    record: dict[str, Any] = {
        "threshold": threshold,
        "scores": {"val": result._asdict()} if result else {},
        "frames": {"train": len(train), "val": len(sides.val)},
        "split": {"train": sorted(set(train.scene.tolist())), "val": sorted(set(sides.val.scene.tolist()))},
        **origin,
        "prior": _prior_record(segmenter),
        "versions": {"torch": torch.__version__, "lightning": lightning.__version__, "numpy": np.__version__},
    }
    write_run(config.out, segmenter, config, record)
    return result


def pretrained_record(config: ModelConfig) -> dict[str, str] | None:
    """Which weights the encoder started from."""
    if config.pretrained is None:
        return None
    name = PRIOR_FILE if config.encoder == "transformer" else FRAME_ENCODER_FILE
    if (config.pretrained / MANIFEST).is_file():
        name = MANIFEST
    file = config.pretrained / name if config.pretrained.is_dir() else config.pretrained
    with file.open("rb") as content:
        return {"name": config.pretrained.name, "sha256": hashlib.file_digest(content, "sha256").hexdigest()}


def _prior_record(segmenter: Segmenter) -> dict[str, Any] | None:
    """The numbers of the prior inside the network, without which its weights cannot be read again."""
    encoder = segmenter.encoder
    return dataclasses.asdict(encoder.prior.config) if isinstance(encoder, PriorEncoder) else None
