"""Checkpoints: how far a run has come, and which of its epochs was the best, wherever its folder lies by now."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from training.run import RunError

if TYPE_CHECKING:
    from collections.abc import Mapping

LAST = "last.ckpt"
BEST = "best.ckpt"


def refuse_fewer_epochs(folder: Path, last: Path, epochs: int) -> None:
    """Refuse to end a run before the epoch that it has come to; its record would not be true of its weights.

    Args:
        folder: The run's.
        last: Its last checkpoint, of the end of an epoch; may not be there yet.
        epochs: How many the run is to have.

    Raises:
        RunError: It has done more.
    """
    if not last.is_file():
        return
    # Mapped, not read: one number is wanted of what may be gigabytes.
    done = 1 + torch.load(last, map_location="cpu", weights_only=True, mmap=True)["epoch"]
    if done > epochs:
        raise RunError(
            f"{folder}: expected at least the {done} epochs that this run has done, got {epochs}: set --epochs {done} "
            "to end it there"
        )


class MovableCheckpoint(ModelCheckpoint):
    """Writes checkpoints, and knows them again after their folder was renamed or mounted in another place.

    Lightning keeps their whole paths, and where these differ forgets which epoch was the best: the next one, however
    bad, would take its place.
    """

    @property
    def state_key(self) -> str:
        """The same as Lightning's own, by which checkpoints that were written before know it."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what was kept, with all paths in the present folder."""
        super().load_state_dict(state_dict if self.dirpath is None else _moved(state_dict, Path(self.dirpath)))


def _moved(state: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    def here(path: str) -> str:
        return str(folder / Path(path).name) if path else path

    paths = ("best_model_path", "kth_best_model_path", "last_model_path")
    return {
        **state,
        "dirpath": str(folder),
        "best_k_models": {here(path): score for path, score in state["best_k_models"].items()},
        **{name: here(state[name]) for name in paths},
    }
