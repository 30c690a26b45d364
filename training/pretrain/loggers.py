"""Where curves go beside the run's own history: TensorBoard always, Weights & Biases when asked."""

from __future__ import annotations

import hashlib
import importlib.util
from typing import TYPE_CHECKING

from lightning.pytorch.loggers import TensorBoardLogger

if TYPE_CHECKING:
    from pathlib import Path

    from lightning.pytorch.loggers import Logger

    from training.pretrain.config import LogConfig


def make_loggers(out: Path, config: LogConfig) -> list[Logger]:
    """The loggers of a run; Weights & Biases is imported only if it is wanted.

    Raises:
        ValueError: It is wanted, and not installed.
    """
    loggers: list[Logger] = [TensorBoardLogger(out, name="", version="tensorboard")]
    if config.wandb != "off":
        if importlib.util.find_spec("wandb") is None:
            raise ValueError("log.wandb: expected the package wandb, found none: pip install wandb, or --log.wandb off")
        from lightning.pytorch.loggers import WandbLogger  # noqa: PLC0415 - only if wanted

        run_id = hashlib.sha256(str(out.resolve()).encode()).hexdigest()[:12]  # the same after resuming
        loggers.append(
            WandbLogger(
                out.name, save_dir=out, id=run_id, project="robomask", offline=config.wandb == "offline", resume="allow"
            )
        )
    return loggers
