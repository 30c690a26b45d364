"""Searches settings of finetuning: Optuna draws, `robomask train` runs, the median of earlier trials cuts short.

    study.log                    every trial, drawn, reported and ended; what resuming reads
    trials/<digest>/             a run folder for each trial, named for what it drew, with TensorBoard files
    trials.json, best.json       all trials from the best on; the best one's configuration

The validation IoU at the end of every epoch is reported; a trial below the median of the others at its epoch ends.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from typing import TYPE_CHECKING, Any

import optuna
from lightning.pytorch.callbacks import Callback
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from training.begun import hold_to
from training.config import TrainConfig
from training.data.sides import hashes_of, read_sides
from training.history import read_history
from training.loggers import end_wandb, make_loggers
from training.run import HISTORY
from training.start import start_of
from training.sweep.config import Space
from training.trainer import defaults_of_what_counts, pretrained_record, train, what_counts

if TYPE_CHECKING:
    from pathlib import Path

    import lightning

    from training.sweep.config import SweepConfig

STUDY = "robomask"
FIXED = ("startup_trials", "warmup_epochs", "space", "trials")
"""Settings of the search itself, which a trial does not have."""
MAY_CHANGE = ("startup_trials", "warmup_epochs", "trials")
"""Those of them that decide how far the search goes, and not what its trials are compared by."""


def sweep(config: SweepConfig) -> dict[str, Any]:
    """Run the trials that are still to be run.

    A trial that was interrupted is drawn again first, and goes on from its checkpoint. One process at a time.

    Returns:
        The best trial: `iou`, `folder` and `drawn`.

    Raises:
        DatasetError: Data that cannot be read.
        RunError: The search was begun with other settings.
        ValueError: Settings that do not fit together, or no trial that came to its end.
    """
    config.out.mkdir(parents=True, exist_ok=True)
    study = open_study(config)
    hold_to(
        config.out,
        _what_trials_share(config),
        begun=any(trial.params for trial in study.get_trials(deepcopy=False)),
        defaults={**defaults_of_what_counts(), "space": Space().model_dump(mode="json")},
    )
    revive(study)
    left = config.trials - sum(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in study.trials)
    if left > 0:
        study.optimize(lambda trial: run_trial(config, trial), n_trials=left)
    return report(config, study)


def _what_trials_share(config: SweepConfig) -> dict[str, Any]:
    """What a search cannot change while it is under way, or it would rank trials that cannot be compared.

    Unlike a run's, its number of epochs: the score of a trial is that of its last.
    """
    sides = read_sides(config.data, config.seed)
    parent, pretrained = start_of(config.model).parent, pretrained_record(config.model)
    settings = what_counts(config, hashes_of(config.data), sides, parent, pretrained)
    return {name: value for name, value in settings.items() if name not in MAY_CHANGE} | {"epochs": config.epochs}


def open_study(config: SweepConfig) -> optuna.Study:
    """The study in the folder, new or as it was left."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = JournalStorage(JournalFileBackend(str(config.out / "study.log")))
    study = optuna.create_study(study_name=STUDY, storage=storage, direction="maximize", load_if_exists=True)
    study.sampler = optuna.samplers.TPESampler(seed=config.seed + len(study.trials))
    study.pruner = optuna.pruners.MedianPruner(config.startup_trials, config.warmup_epochs)
    return study


def revive(study: optuna.Study) -> None:
    """Put trials that an interruption left running at the head of the queue."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        if trial.params:
            study.enqueue_trial(trial.params)


def draw(trial: optuna.Trial, space: Space) -> dict[str, Any]:
    """What a trial changes in `OptimConfig`."""
    by_log = {
        name: trial.suggest_float(name, *getattr(space, name), log=True)
        for name in ("lr", "encoder_lr_ratio", "weight_decay")
    }
    loss = trial.suggest_categorical("loss", space.loss).split("+")
    return {
        **by_log,
        "pos_weight": trial.suggest_float("pos_weight", *space.pos_weight),
        "optimiser": trial.suggest_categorical("optimiser", space.optimiser),
        "schedule": trial.suggest_categorical("schedule", space.schedule),
        **{f"{kind}_weight": float(kind in loss) for kind in ("jaccard", "dice", "bce")},
    }


def run_trial(config: SweepConfig, trial: optuna.Trial) -> float:
    """Train with what the trial draws; the IoU of the last epoch's average weights on scenes held out."""
    drawn = draw(trial, config.space)
    settings = {name: value for name, value in config.model_dump().items() if name not in FIXED}
    settings["optim"] = {**settings["optim"], **drawn}
    trackers = settings.pop("log")
    name = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:12]
    out = config.out / "trials" / name
    trial.set_user_attr("folder", str(out.relative_to(config.out)))
    for row in read_history(out / HISTORY):
        trial.report(float(row["val_iou"]), int(row["epoch"]))
    run = TrainConfig.model_validate({**settings, "log": trackers, "out": out})
    loggers = make_loggers(out, run.log)
    try:
        result = train(run, callbacks=[Prune(trial)], loggers=loggers)
    finally:
        for logger in loggers:
            logger.finalize("finished")
        end_wandb(run.log)
    shutil.rmtree(out / "checkpoints", ignore_errors=True)
    if result is None:
        raise ValueError("expected scenes held out to compare trials on, found none")
    return result.mean


class Prune(Callback):
    """Reports every epoch's validation IoU and ends a trial that falls behind."""

    def __init__(self, trial: optuna.Trial) -> None:
        self.trial = trial

    def on_train_epoch_end(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Report, then ask."""
        self.trial.report(float(trainer.callback_metrics["val_iou"]), trainer.current_epoch)
        if self.trial.should_prune() and trainer.current_epoch + 1 < (trainer.max_epochs or 0):
            raise optuna.TrialPruned


def report(config: SweepConfig, study: optuna.Study) -> dict[str, Any]:
    """Write all trials and the best one's configuration, and delete checkpoints that nothing goes on from."""
    ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    rows: list[dict[str, Any]] = [
        {
            "iou": trial.value if trial.state == TrialState.COMPLETE else max(trial.intermediate_values.values()),
            "state": trial.state.name.lower(),
            "epochs": len(trial.intermediate_values),
            "folder": trial.user_attrs["folder"],
            "drawn": trial.params,
        }
        for trial in ended
        if trial.intermediate_values
    ]
    rows.sort(key=lambda row: (row["state"] != "complete", -row["iou"]))
    for row in rows:
        shutil.rmtree(config.out / row["folder"] / "checkpoints", ignore_errors=True)
    _write(config.out / "trials.json", rows)
    if not rows or rows[0]["state"] != "complete":
        raise ValueError(f"expected a trial that came to its end, found none of {config.trials}")
    _write(config.out / "best.json", rows[0])
    return rows[0]


def _write(file: Path, content: object) -> None:
    temporary = file.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=1) + "\n")
    temporary.replace(file)
