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
from pydantic_settings import CliPositionalArg, SettingsConfigDict

from training.config import Config
from training.data.sides import read_sides_again
from training.run import RunError, code_revision, load_segmenter, read_run
from training.start import read_start, weights_sha256
from training.trainer import finish

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from training.run import Run
    from training.scores import Score


class AverageConfig(Config):
    """Average the weights of finished runs on the same data into a run folder of its own."""

    model_config = SettingsConfigDict(cli_prog_name="robomask average")

    runs: CliPositionalArg[list[Path]] = Field(min_length=1, description="finished runs of one network on one split")
    out: Path = Field(description="the run folder to write")
    start: bool = Field(
        False, description="also average in the weights that all of them started from, with equal share"
    )


def average_runs(config: AverageConfig) -> Score | None:
    """Write the mean of runs as a run folder, which can be evaluated, exported and started from like any other.

    Returns:
        Its score on the scenes held out, at its threshold; none where no scenes are held out.

    Raises:
        RunError: A run that is not finished, or runs that do not belong together.
        DatasetError: Their data are not there any more, or not what they were.
    """
    if config.out.is_file() or (config.out.is_dir() and any(config.out.iterdir())):
        raise RunError(
            f"{config.out}: expected a new or an empty folder, found something there: name another with --out"
        )
    runs = [read_run(folder) for folder in config.runs]
    first = runs[0]
    if len(runs) + config.start < 2:
        raise RunError(f"{first.folder}: expected two runs or more, or one with --start, got a single one")
    _refuse_ambiguous(runs)
    for run in runs[1:]:
        _compare(first, run)
    sides = read_sides_again(first)
    segmenter = load_segmenter(first.folder)
    networks = [segmenter.state_dict(), *(load_segmenter(run.folder).state_dict() for run in runs[1:])]
    if config.start:
        networks.append(_start_of(runs))
    segmenter.load_state_dict(mean_of(networks))
    config.out.mkdir(parents=True, exist_ok=True)
    kept = ("data", "parent", "pretrained", "known_scenes")
    origin = {
        **{name: first.record.get(name) for name in kept},
        "code_revision": code_revision(),
        "mean_of": {"runs": [_told(run) for run in runs], "start": config.start},
    }
    return finish(first.config.model_copy(update={"out": config.out}), segmenter, sides, origin)


def mean_of(networks: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of weights of the same names and shapes, each with equal share; float32, summed in float64."""
    return {name: torch.stack([one[name].double() for one in networks]).mean(0).float() for name in networks[0]}


def _refuse_ambiguous(runs: Sequence[Run]) -> None:
    """Refuse runs of which it could not be told afterwards what was averaged.

    Raises:
        RunError: Two of one name, or one that is a mean itself.
    """
    names = [run.folder.absolute().name for run in runs]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise RunError(f"expected runs of different names, found '{twice[0]}' twice: each is averaged in once")
    for run in runs:
        if run.record.get("mean_of"):
            raise RunError(
                f"{run.folder}: expected a run that was trained, found a mean of others: name those it is the mean of"
            )


def _compare(first: Run, run: Run) -> None:
    """Hold a run to another's network, data, split and start.

    Raises:
        RunError: One of them differs.
    """
    apart = {"init", "pretrained", "frozen", "frozen_groups"}
    networks = [each.config.model.model_dump(exclude=apart) for each in (first, run)]
    told = [(each.record["data"], each.config.data.noise) for each in (first, run)]
    starts = [(each.record.get("parent"), each.record.get("pretrained")) for each in (first, run)]
    for what, one, other in (
        ("network", *networks),
        ("data", *told),
        ("split", first.record["split"], run.record["split"]),
        ("start", *starts),
    ):
        if one != other:
            raise RunError(f"{run.folder}: expected the {what} of {first.folder}, to average both, found another")


def _start_of(runs: Sequence[Run]) -> dict[str, Tensor]:
    """The weights that all runs started from.

    Raises:
        RunError: They started from none, or it is not there any more.
    """
    first = runs[0]
    init, parent = first.config.model.init, first.record.get("parent")
    if init is None or parent is None:
        raise RunError(
            f"{first.folder}: expected runs that started from a model (--init), found none: leave --start out"
        )
    found = read_start(init, first.config.model)
    if found.parent != parent:
        raise RunError(f"{init}: expected what {first.folder} started from, found something else there by now")
    return found.segmenter.state_dict()


def _told(run: Run) -> dict[str, Any]:
    """What the record keeps of one of the runs."""
    return {
        "name": run.folder.absolute().name,
        "sha256": weights_sha256(run.folder),
        "code_revision": run.record.get("code_revision"),
        "config": run.config.model_dump(mode="json"),
    }
