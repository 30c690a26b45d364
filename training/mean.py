"""The mean of several runs' weights: one network, often better than each of them, at the cost of none more.

Runs that started from the same weights end in one basin, where the mean of their weights lies nearer its floor than
they do; with what they started from it keeps more of that.

Source: Wortsman et al. 2022, "Model soups: averaging weights of multiple fine-tuned models improves accuracy without
increasing inference time"; Wortsman et al. 2022, "Robust fine-tuning of zero-shot models".
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import Field
from pydantic_settings import CliPositionalArg

from training.config import Config
from training.data.readers import DatasetError, read_frames
from training.run import RECORD, RunError, code_revision, load_segmenter, read_run
from training.start import read_start, weights_sha256
from training.trainer import finish, read_sides

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from training.run import Run
    from training.scores import Score


class AverageConfig(Config):
    """Average the weights of finished runs on the same data into a run folder of its own."""

    runs: CliPositionalArg[list[Path]] = Field(min_length=1, description="finished runs of one network on one split")
    out: Path = Field(description="the run folder to write")
    start: bool = Field(
        False, description="also average in the weights that all of them started from, with equal share"
    )


def average_runs(config: AverageConfig) -> Score | None:
    """Write the mean of runs as a run folder, which can be evaluated, exported and started from like any other.

    Returns:
        Its score on the scenes held out, at probability 0.5; none where no scenes are held out.

    Raises:
        RunError: A run that is not finished, or runs that do not belong together.
        DatasetError: Their data are not there any more, or not what they were.
    """
    runs = [read_run(folder) for folder in config.runs]
    first = runs[0]
    if len(runs) + config.start < 2:
        raise RunError(f"{first.folder}: expected two runs or more, or one with --start, got a single one")
    if (config.out / RECORD).exists():
        raise RunError(f"{config.out}: expected a folder without a finished run, found one: name another with --out")
    for run in runs[1:]:
        _compare(first, run)
    segmenter = load_segmenter(first.folder)
    networks = [segmenter.state_dict(), *(load_segmenter(run.folder).state_dict() for run in runs[1:])]
    if config.start:
        networks.append(_start_of(runs))
    segmenter.load_state_dict(mean_of(networks))
    now = [{"name": path.name, "sha256": read_frames(path).sha256()} for path in first.config.data.files]
    if now != first.record["data"]:
        raise DatasetError(
            f"{first.folder}: expected the run's data, to measure the mean on what was held out, found "
            f"{', '.join(one['name'] for one in now)}, not all of which is what it was"
        )
    config.out.mkdir(parents=True, exist_ok=True)
    kept = ("data", "parent", "pretrained", "known_scenes")
    origin = {
        **{name: first.record.get(name) for name in kept},
        "code_revision": code_revision(),
        "mean_of": {"runs": [_told(run) for run in runs], "start": config.start},
    }
    sides = read_sides(first.config.data, first.config.seed)
    return finish(first.config.model_copy(update={"out": config.out}), segmenter, sides, origin)


def mean_of(networks: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of weights of the same names and shapes, each with equal share; float32, summed in float64."""
    return {name: torch.stack([one[name].double() for one in networks]).mean(0).float() for name in networks[0]}


def _compare(first: Run, run: Run) -> None:
    """Hold a run to another's network, data and split.

    Raises:
        RunError: One of them differs.
    """
    networks = [each.config.model.model_dump(exclude={"init", "pretrained", "frozen"}) for each in (first, run)]
    for what, one, other in (
        ("network", *networks),
        ("data", first.record["data"], run.record["data"]),
        ("split", first.record["split"], run.record["split"]),
    ):
        if one != other:
            raise RunError(f"{run.folder}: expected the {what} of {first.folder}, to average both, found another")


def _start_of(runs: Sequence[Run]) -> dict[str, Tensor]:
    """The weights that all runs started from.

    Raises:
        RunError: They are not one and the same, or not there any more.
    """
    first = runs[0]
    parents = [run.record.get("parent") for run in runs]
    if parents[0] is None or any(parent != parents[0] for parent in parents):
        raise RunError(
            f"{first.folder}: expected runs that all started from one model (--init), to average it in, found "
            f"{', '.join(str(parent and parent['name']) for parent in parents)}: leave --start out"
        )
    init = first.config.model.init
    assert init is not None  # noqa: S101 - a run with a parent has one
    found = read_start(init, first.config.model)
    if found.parent != parents[0]:
        raise RunError(f"{init}: expected what {first.folder} started from, found something else there by now")
    return found.segmenter.state_dict()


def _told(run: Run) -> dict[str, Any]:
    """What the record keeps of one of the runs."""
    return {
        "name": run.folder.absolute().name,
        "sha256": weights_sha256(run.folder),
        "config": run.config.model_dump(mode="json"),
    }
