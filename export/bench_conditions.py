"""How well models bear other cameras and copies: `python -m export.bench_conditions MODEL ... --data DATA`.

The same labelled frames are measured again under each of `export.conditions`; and how much of a picture of nothing is
robot to the model. A model is a run folder, a bundle, or the address of a service.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field
from pydantic_settings import CliApp, CliPositionalArg

from export.commands.evaluate import select
from export.conditions import CONDITIONS, NOTHING
from export.evaluate import EvaluationError, masks_of
from service.contract import BundleInvalid, Precision
from training.config import Config
from training.data.readers import DatasetError, read_frames
from training.run import RunError
from training.scores import Score, score

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from export.conditions import Change
    from export.evaluate import Masks
    from training.data.frames import FrameSet


class ConditionsConfig(Config):
    """Measure the IoU of models on frames as they are and as other cameras would have given them."""

    model: CliPositionalArg[list[str]] = Field(
        min_length=1, description="run folders, bundles or addresses of services"
    )
    data: Path = Field(description="labelled frames")
    split: str = Field("val", description="the part of `data` to measure on, or all")
    least: int = Field(40, ge=0, description="frames with fewer robot pixels than this left are left out")
    precision: Precision | None = Field(None, description="which of the bundles' models; by default its own choice")
    as_json: bool = Field(False, description="print JSON instead of a table")


def changed(frames: FrameSet, change: Change, least: int) -> FrameSet:
    """All frames under one condition, without those that have fewer than `least` robot pixels left."""
    pairs = [change(frame, mask) for frame, mask in zip(frames.frames, frames.masks, strict=True)]
    shown, masks = np.stack([frame for frame, _ in pairs]), np.stack([mask for _, mask in pairs])
    return replace(frames, frames=shown, masks=masks).take(masks.sum((1, 2)) >= least)


def under_all(frames: FrameSet, least: int) -> dict[str, FrameSet]:
    """All frames under each condition.

    Raises:
        DatasetError: One leaves no frame to measure.
    """
    conditions = {name: changed(frames, change, least) for name, change in CONDITIONS.items()}
    for name, found in conditions.items():
        if not len(found):
            raise DatasetError(
                f"expected frames with {least} robot pixels or more under each condition, found none under '{name}': "
                "ask for fewer with --least, or name other data"
            )
    return conditions


def measure(model: Masks, conditions: Mapping[str, FrameSet]) -> dict[str, Score]:
    """The scores of a model under each condition."""
    return {name: score(model(found.frames), found.masks) for name, found in conditions.items()}


def seen_in_nothing(model: Masks) -> dict[str, float]:
    """The share of a picture that a model calls robot where there is nothing to see, by what the picture is."""
    masks = model(np.stack(list(NOTHING.values())))
    return {name: float(mask.mean()) for name, mask in zip(NOTHING, masks, strict=True)}


def main(argv: Sequence[str]) -> int:
    """Run from the command line; returns the exit status."""
    config = CliApp.run(ConditionsConfig, cli_args=list(argv))
    try:
        frames = select(read_frames(config.data), config.split)
        conditions = under_all(frames, config.least)
        models = {name: masks_of(name, config.precision) for name in config.model}
        scores = {name: measure(model, conditions) for name, model in models.items()}
        shares = {name: seen_in_nothing(model) for name, model in models.items()}
    except (BundleInvalid, DatasetError, EvaluationError, RunError) as error:
        print(f"bench_conditions: {error}", file=sys.stderr)
        return 1
    if config.as_json:
        found = {model: {name: s._asdict() for name, s in by.items()} for model, by in scores.items()}
        print(json.dumps({"iou": found, "robot_in_nothing": shares}, indent=2))
    else:
        print(table(scores, {name: len(found) for name, found in conditions.items()}))
        print(table_of_nothing(shares))
    return 0


def table(scores: Mapping[str, Mapping[str, Score]], counts: Mapping[str, int]) -> str:
    """Mean and 5th percentile of every model under every condition, in Markdown."""
    columns = "".join(f" {model} | 5th percentile |" for model in scores)
    lines = [f"| mean IoU | frames |{columns}", f"|---|---|{'---|---|' * len(scores)}"]
    for name, count in counts.items():
        figures = "".join(f" {by[name].mean:.3f} | {by[name].p5:.3f} |" for by in scores.values())
        lines.append(f"| {name} | {count} |{figures}")
    return "\n".join(lines)


def table_of_nothing(shares: Mapping[str, Mapping[str, float]]) -> str:
    """How much of each picture of nothing every model calls robot, in Markdown."""
    lines = ["", "| robot in a picture that is |" + "".join(f" {model} |" for model in shares)]
    lines.append("|---|" + "---|" * len(shares))
    lines += [f"| {name} |" + "".join(f" {by[name]:.1%} |" for by in shares.values()) for name in NOTHING]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
