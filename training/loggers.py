"""Where curves go beside the run's own history: TensorBoard always, Weights & Biases and MLflow when asked."""

from __future__ import annotations

import hashlib
import importlib.util
from typing import TYPE_CHECKING

from lightning.pytorch.loggers import TensorBoardLogger

if TYPE_CHECKING:
    from pathlib import Path

    from lightning.pytorch.loggers import Logger, MLFlowLogger

    from training.config import Trackers

PROJECT = "robomask"
"""The project of Weights & Biases and the experiment of MLflow."""

FOLDER_TAG = "robomask.folder"
"""The tag by which a resumed run finds itself in MLflow."""


def make_loggers(out: Path, trackers: Trackers) -> list[Logger]:
    """The loggers of a run; what is not wanted is not imported.

    Raises:
        ValueError: One is wanted, and not installed.
    """
    loggers: list[Logger] = [TensorBoardLogger(out, name="", version="tensorboard")]
    if trackers.wandb != "off":
        if importlib.util.find_spec("wandb") is None:
            raise ValueError("log.wandb: expected the package wandb, found none: pip install wandb, or --log.wandb off")
        from lightning.pytorch.loggers import WandbLogger  # noqa: PLC0415 - only if wanted

        loggers.append(
            WandbLogger(
                out.name,
                save_dir=out,
                id=folder_id(out),
                project=PROJECT,
                offline=trackers.wandb == "offline",
                resume="allow",
            )
        )
    if trackers.mlflow != "off":
        loggers.append(_mlflow_logger(out, trackers.mlflow))
    return loggers


def end_wandb(trackers: Trackers) -> None:
    """End the run of Weights & Biases that is open in this process; the next one would go on with it."""
    if trackers.wandb != "off":
        importlib.import_module("wandb").finish()


def folder_id(out: Path) -> str:
    """What a run is called where its folder's name may not be the only one: the same after resuming."""
    return hashlib.sha256(str(out.resolve()).encode()).hexdigest()[:12]


def mlflow_run_id(out: Path, store: str) -> str | None:
    """The run of MLflow that the run in this folder is logged as; None if it has none yet.

    Raises:
        ValueError: MLflow is not installed.
    """
    require_mlflow()
    from mlflow import MlflowClient  # noqa: PLC0415 - only if wanted

    client = MlflowClient(store)
    experiment = client.get_experiment_by_name(PROJECT)
    if experiment is None:
        return None
    found = client.search_runs([experiment.experiment_id], f"tags.`{FOLDER_TAG}` = '{folder_id(out)}'", max_results=1)
    return str(found[0].info.run_id) if found else None


def require_mlflow(option: str = "log.mlflow") -> None:
    """Say what to install where MLflow is missing, or by which option it was asked for.

    Raises:
        ValueError: It is.
    """
    if importlib.util.find_spec("mlflow") is None:
        raise ValueError(
            f"{option}: expected the package mlflow, found none: pip install 'robomask[mlflow]', or --{option} off"
        )


def _mlflow_logger(out: Path, store: str) -> MLFlowLogger:
    run_id = mlflow_run_id(out, store)
    from lightning.pytorch.loggers import MLFlowLogger  # noqa: PLC0415 - only if wanted

    return MLFlowLogger(
        PROJECT, run_name=out.name, tracking_uri=store, run_id=run_id, tags={FOLDER_TAG: folder_id(out)}
    )
