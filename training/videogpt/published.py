"""Reads published VideoGPT files: PyTorch Lightning 1.x checkpoints, without Lightning and without running their code.

Such a file pickles, beside tensors, the command line it was trained with (`argparse.Namespace`) and a class object of
Lightning. A pickle can run anything, so a file may name nothing else: Lightning's names become empty stand-ins and any
other name is refused, by that name, before anything is loaded.

    CheckpointError (ValueError)
    ├── NotACheckpoint        not a file of this layout
    ├── UnsafeCheckpoint      names code that has no place in it
    └── CheckpointMismatch    command line, shapes and model do not agree
"""

from __future__ import annotations

import argparse
import pickle
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from pathlib import Path

LIGHTNING = "pytorch_lightning."
"""Names in this package are stood in for; what they stood for is not needed."""


class CheckpointError(ValueError):
    """A file that does not load as a VideoGPT checkpoint."""


class NotACheckpoint(CheckpointError):  # noqa: N818 - the base class says Error
    """A file of another layout."""


class UnsafeCheckpoint(CheckpointError):  # noqa: N818 - the base class says Error
    """A file that names code which a checkpoint has no need of."""

    def __init__(self, path: Path, names: list[str]) -> None:
        super().__init__(
            f"{path} names {', '.join(names)}; a VideoGPT checkpoint needs nothing but tensors, argparse.Namespace "
            f"and names in {LIGHTNING}*: not loaded, because loading could run what it names"
        )
        self.names = names


class CheckpointMismatch(CheckpointError):  # noqa: N818 - the base class says Error
    """A file whose hyper-parameters, shapes and keys do not agree."""


@dataclass(frozen=True, slots=True)
class PublishedCheckpoint:
    """What matters of a file."""

    args: dict[str, Any]
    """The command line it was trained with."""
    state: dict[str, Tensor]
    """The state dict, on the CPU."""

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Tensors whose names start with `prefix`, which is cut off."""
        return {k.removeprefix(prefix): v for k, v in self.state.items() if k.startswith(prefix)}

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Names to shapes."""
        return {name: tuple(tensor.shape) for name, tensor in self.state.items()}


def read_checkpoint(path: Path) -> PublishedCheckpoint:
    """Read a file; nothing it contains is run.

    Raises:
        NotACheckpoint: No zip archive of `torch.save`, or one of another layout.
        UnsafeCheckpoint: It names more than a checkpoint needs.
        OSError: There is no such file, or it cannot be read.
    """
    with path.open("rb") as file:
        if file.read(2) != b"PK":
            raise NotACheckpoint(f"{path} is no zip archive: expected a file of torch.save from PyTorch 1.6 or later")
    try:
        names = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
        refused = [n for n in names if n != "argparse.Namespace" and not n.startswith(LIGHTNING)]
        if refused:
            raise UnsafeCheckpoint(path, refused)
        stand_ins = [(type(n.rpartition(".")[2], (), {}), n) for n in names if n.startswith(LIGHTNING)]
        with torch.serialization.safe_globals([argparse.Namespace, *stand_ins]):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, pickle.UnpicklingError) as error:
        raise NotACheckpoint(f"{path} does not load as a checkpoint of PyTorch: {error}") from error
    return _published(content, path)


def _published(content: object, path: Path) -> PublishedCheckpoint:
    """The two parts of a file's content that matter."""
    if not isinstance(content, dict) or not isinstance(content.get("state_dict"), dict):
        raise NotACheckpoint(f"{path} has no state_dict: expected a checkpoint of PyTorch Lightning")
    hyper_parameters = content.get("hyper_parameters")
    args = hyper_parameters.get("args") if isinstance(hyper_parameters, dict) else None
    if not isinstance(args, argparse.Namespace):
        raise NotACheckpoint(
            f"{path} has no hyper_parameters['args']: expected the command line of a VideoGPT training"
        )
    state = content["state_dict"]
    if not all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in state.items()):
        raise NotACheckpoint(f"{path}: expected a state_dict of names and tensors")
    return PublishedCheckpoint(vars(args), dict(state))
