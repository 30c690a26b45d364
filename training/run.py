"""The run folder: what training leaves for evaluation, export and the reader.

    run.json              configuration, split, seed, data hashes, code revision, threshold, scores
    model.safetensors     the averaged weights, collapsed, float32
    history.csv           losses and validation IoU by step
    curves.png, predictions.png
    tensorboard/          the same for that tool
    checkpoints/          what resuming needs

`run.json` and `model.safetensors` appear only when the run is complete.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import TypeAdapter
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from training.config import TrainConfig
from training.segmenter import Segmenter, build_segmenter
from training.threshold import DEFAULT
from training.videogpt.prior import Prior, PriorConfig

if TYPE_CHECKING:
    from training.config import ModelConfig

WEIGHTS = "model.safetensors"
RECORD = "run.json"
HISTORY = "history.csv"


class RunError(ValueError):
    """A run folder that cannot be read; the message says why and what to do."""


class Run(NamedTuple):
    """A finished run."""

    folder: Path
    config: TrainConfig
    record: dict[str, Any]

    @property
    def threshold(self) -> float:
        """From which probability on a pixel is robot; runs of before thresholds were set have the usual one."""
        return float(self.record.get("threshold", DEFAULT))


def write_run(folder: Path, segmenter: Segmenter, config: TrainConfig, record: dict[str, Any]) -> None:
    """Write weights, then the record that makes the run count as finished."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in segmenter.state_dict().items()}
    temporary = folder / f".{WEIGHTS}"
    save_file(weights, temporary)
    temporary.replace(folder / WEIGHTS)
    temporary = folder / f".{RECORD}"
    temporary.write_text(json.dumps({"config": config.model_dump(mode="json"), **record}, indent=2) + "\n")
    temporary.replace(folder / RECORD)


def read_run(folder: Path) -> Run:
    """Read a finished run's record.

    Raises:
        RunError: No finished run there, or a record that this version cannot read.
    """
    record = folder / RECORD
    if not record.is_file():
        raise RunError(f"{folder}: expected a finished run with {RECORD}, found none: has `robomask train` ended?")
    try:
        content = json.loads(record.read_text())
        config = TrainConfig.model_validate(content.pop("config"))
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{record}: expected the record of `robomask train`, found {error}") from error
    return Run(folder, _from_where_it_began(config, folder.absolute()), content)


def _from_where_it_began(config: TrainConfig, folder: Path) -> TrainConfig:
    """Relative paths of a record, which count from the folder that a run was begun in, from whichever it is read.

    That folder is the one from which the run's own lies where `out` says, wherever both have been moved to.
    """
    parts = config.out.parts
    if config.out.is_absolute() or ".." in parts or folder.parts[-len(parts) :] != parts:
        return config
    begun_in = folder.parents[len(parts) - 1]
    if begun_in == Path.cwd():
        return config

    def found(path: Path | None) -> Path | None:
        return path if path is None or not (begun_in / path).exists() else begun_in / path

    data, model = config.data, config.model
    data = data.model_copy(update={"train": tuple(found(path) for path in data.train), "val": found(data.val)})
    model = model.model_copy(update={"init": found(model.init), "pretrained": found(model.pretrained)})
    return config.model_copy(update={"data": data, "model": model})


def load_segmenter(folder: Path, model: ModelConfig | None = None) -> Segmenter:
    """The trained network of a finished run, in evaluation mode.

    Args:
        folder: The run folder.
        model: How to build the network, if not as the run did; its weights have to fit.

    Raises:
        RunError: No finished run, or weights that do not fit the network.
    """
    run = read_run(folder)
    file = folder / WEIGHTS
    if not file.is_file():
        raise RunError(f"{folder}: expected {WEIGHTS}, found none: has `robomask train` ended?")
    try:
        numbers = run.record.get("prior")
        prior = Prior(TypeAdapter(PriorConfig).validate_python(numbers)) if numbers else None
        segmenter = segmenter_of(model or run.config.model, prior)
    except ValueError as error:
        raise RunError(f"{folder}: the record describes no network: {error}") from error
    try:
        segmenter.load_state_dict(load_file(file))
    except (RuntimeError, SafetensorError) as error:
        raise RunError(f"{file}: the weights do not fit the network: {error}") from error
    return segmenter.eval()


def segmenter_of(config: ModelConfig, prior: Prior | None = None) -> Segmenter:
    """A new network as configured; `prior` is what the transformer encoder wraps.

    Raises:
        ValueError: Parts that do not fit together.
    """
    return build_segmenter(
        config.layers,
        encoder=config.encoder,
        head=config.head,
        frozen=config.frozen,
        frozen_groups=config.frozen_groups,
        prior=prior,
        latents=config.latents,
        draw=config.draw,
        width=config.width,
    )


def code_revision() -> str:
    """The commit of the code that runs, "+changes" where the work tree differs, "unknown" outside a checkout."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}

    def git(*arguments: str) -> str:
        return subprocess.run(  # noqa: S603 - fixed arguments
            ["git", *arguments],  # noqa: S607 - git is found where the user has it
            cwd=os.path.dirname(__file__),  # noqa: PTH120 - a string suffices
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    try:
        changes = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+changes" if changes else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
