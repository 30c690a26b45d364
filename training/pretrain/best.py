"""The best epoch of a pretraining run: its weights, and what was measured of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch

from training.run import HISTORY, RunError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import Tensor


class Best(NamedTuple):
    """An epoch.

    Attributes:
        row: Its row of the history.
        weights: The module's at its end, by name, on the CPU.
    """

    row: Mapping[str, str]
    weights: dict[str, Tensor]


def read_best(checkpoint: Path, history: Sequence[Mapping[str, str]]) -> Best:
    """The epoch that a checkpoint was kept of, if no other has a lower `val_loss`.

    Of epochs that the history, which has six digits, shows as equal, the checkpoint knows the better one.

    Raises:
        RunError: No checkpoint, or one of another epoch: metrics and weights would not belong together.
    """
    lowest = min(history, key=_loss)
    content = torch.load(checkpoint, map_location="cpu", weights_only=True) if checkpoint.is_file() else {}
    epoch = content.get("epoch")
    row = next((row for row in history if int(row["epoch"]) == epoch), None)
    if row is None or _loss(row) > _loss(lowest):
        raise RunError(
            f"{checkpoint}: expected the weights of epoch {lowest['epoch']}, of the lowest val_loss in {HISTORY}, "
            f"found {'none' if epoch is None else f'those of epoch {epoch}'}: put the right file there, end with the "
            "last epoch's weights (--keep last), or train again with another --out"
        )
    return Best(row, content["state_dict"])


def _loss(row: Mapping[str, str]) -> float:
    """For comparing: what is no number is worse than any, as it is where checkpoints are kept."""
    loss = float(row["val_loss"])
    return math.inf if math.isnan(loss) else loss
