"""Weights of pretraining as files: written in the published layout, read from our own runs or published checkpoints.

    vqvae.safetensors           the VQ-VAE
    prior.safetensors           the prior, with its copy of the VQ-VAE (`vqvae.*`) and its frame encoder (`resnet.*`)
    frame_encoder.safetensors   the frame encoder alone, with the names of `FrameEncoder`: what finetuning starts from

`write_small_encoder` keeps a frame encoder in a sixth of the space: its 2D collapse, as float16. `write_small_prior`
does so for a whole prior, whose file then has no encoder in it: the one beside it belongs to it.

Each file carries the configuration of its model, as JSON, in its metadata.
"""

from __future__ import annotations

import dataclasses
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from training.pretrain.one_frame import published_state
from training.videogpt.checkpoints import load_frame_encoder, load_prior, load_vqvae
from training.videogpt.configuration import frame_encoder_shape
from training.videogpt.prior import Prior, PriorConfig
from training.videogpt.published import CheckpointError
from training.videogpt.resnet import FrameEncoder, collapse, expand
from training.videogpt.vqvae import VQVAE, VQVAEConfig

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import Tensor, nn

VQVAE_FILE = "vqvae.safetensors"
PRIOR_FILE = "prior.safetensors"
FRAME_ENCODER_FILE = "frame_encoder.safetensors"
MANIFEST = "manifest.json"
"""What a folder has that is a bundle."""
ENCODER_PREFIX = "resnet."
"""Of the frame encoder's names in a prior."""


class WeightsError(ValueError):
    """Weights that cannot be read; the message says why and what to do."""


def write_vqvae(folder: Path, vqvae: VQVAE) -> None:
    """Write the VQ-VAE of a run."""
    state = {name: tensor.detach().cpu() for name, tensor in vqvae.state_dict().items()}
    _write(folder / VQVAE_FILE, state, dataclasses.asdict(vqvae.config))


def write_prior(folder: Path, prior: Prior) -> None:
    """Write the prior of a run and, where it has one, its frame encoder on its own."""
    state = published_state(prior)
    encoder = {n.removeprefix(ENCODER_PREFIX): tensor for n, tensor in state.items() if n.startswith(ENCODER_PREFIX)}
    if encoder:
        config = {"layers": prior.config.resnet_layers, "dim": prior.config.resnet_dim, "width_multiplier": 1}
        _write(folder / FRAME_ENCODER_FILE, encoder, config)
    _write(folder / PRIOR_FILE, state, dataclasses.asdict(prior.config))


def write_small_encoder(file: Path, encoder: FrameEncoder) -> None:
    """Write what single frames meet of a frame encoder: its 2D collapse, kernels rounded to float16, norms as they are.

    `read_frame_encoder` reads it back, the outer temporal slices as zeros.
    """
    state = {
        name: tensor.half() if tensor.ndim > 1 else tensor for name, tensor in collapse(encoder.state_dict()).items()
    }
    layers, dim, width = frame_encoder_shape(_shapes(encoder.state_dict()))
    _write(file, state, {"layers": layers, "dim": dim, "width_multiplier": width, "form": "collapsed"})


def write_small_prior(folder: Path, prior: Prior) -> list[Path]:
    """Write a prior, matrices and kernels rounded to float16, and beside it the small form of its frame encoder.

    `read_prior` reads them back. The codebook stays as it is: which code is nearest is a matter of small differences.

    Returns:
        The files written.
    """
    files = [folder / PRIOR_FILE]
    state = {
        name: tensor.half() if tensor.ndim > 1 and not name.startswith("vqvae.codebook.") else tensor
        for name, tensor in prior.state_dict().items()
        if not name.startswith(ENCODER_PREFIX)
    }
    if prior.config.n_cond_frames:
        files.append(folder / FRAME_ENCODER_FILE)
        write_small_encoder(files[-1], prior.resnet)
    _write(files[0], state, dataclasses.asdict(prior.config))
    return files


def read_vqvae(path: Path) -> VQVAE:
    """The VQ-VAE of a run folder, of its file, or of a published checkpoint; in evaluation mode.

    Raises:
        WeightsError: Nothing of the kind there.
    """
    file = _file(path, VQVAE_FILE, "vqvae")
    if file.suffix != ".safetensors":
        with _published():
            return load_vqvae(file)
    model = VQVAE(_config(file, VQVAEConfig))
    _load(model, _tensors(file), file)
    return model.eval()


def read_prior(path: Path) -> Prior:
    """The prior of a run folder, of its file, or of a published checkpoint; in evaluation mode, the encoder in 3D.

    Raises:
        WeightsError: Nothing of the kind there.
    """
    file = _file(path, PRIOR_FILE, "prior")
    if file.suffix != ".safetensors":
        with _published():
            return load_prior(file)
    model = Prior(_config(file, PriorConfig))
    state = {name: _single(tensor) for name, tensor in _tensors(file).items()}
    if model.config.n_cond_frames and not any(name.startswith(ENCODER_PREFIX) for name in state):
        encoder = read_frame_encoder(file.with_name(FRAME_ENCODER_FILE)).state_dict()
        state |= {f"{ENCODER_PREFIX}{name}": tensor for name, tensor in encoder.items()}
    _load(model, state, file)
    return model.eval()


def read_frame_encoder(path: Path) -> FrameEncoder:
    """The frame encoder of a prior's run folder, of its file, or of a published checkpoint; in evaluation mode.

    Raises:
        WeightsError: Nothing of the kind there.
    """
    file = _file(path, FRAME_ENCODER_FILE, "prior")
    if file.suffix != ".safetensors":
        with _published():
            return load_frame_encoder(file)
    state = {name: tensor.float() for name, tensor in _tensors(file).items()}
    if any(tensor.ndim == 4 for tensor in state.values()):
        state = expand(state)
    try:
        layers, dim, width = frame_encoder_shape(_shapes(state))
    except CheckpointError as error:
        raise WeightsError(f"{file}: expected a frame encoder, found {error}") from error
    model = FrameEncoder(layers, dim, width_multiplier=width)
    _load(model, state, file)
    return model.eval()


def take_frame_encoder(prior: Prior, path: Path) -> None:
    """Give a prior the weights of another frame encoder, from wherever `read_frame_encoder` finds them.

    Raises:
        WeightsError: Nothing of the kind there, or one of another size.
    """
    encoder = read_frame_encoder(path).state_dict()
    found, wanted = (frame_encoder_shape(_shapes(state)) for state in (encoder, prior.resnet.state_dict()))
    if found != wanted:
        raise WeightsError(
            f"{path}: expected a frame encoder of layers, features and width {wanted}, found {found}: set the same"
        )
    prior.resnet.load_state_dict(encoder)


def _write(file: Path, state: dict[str, Tensor], config: dict[str, Any]) -> None:
    """Write under another name, then rename: a file under its own name is whole."""
    temporary = file.with_name(f".{file.name}")
    contiguous = {name: tensor.contiguous() for name, tensor in state.items()}
    save_file(contiguous, temporary, {"format": "pt", "config": json.dumps(config)})
    temporary.replace(file)


def _file(path: Path, name: str, kind: str) -> Path:
    """The file that a path names, by itself or by its run folder."""
    file = path / name if path.is_dir() else path
    if not file.is_file():
        folder = "a folder such as pretrained/ or " if kind == "prior" else ""
        expected = f"expected {name} in {folder}a finished run of `robomask pretrain {kind}`, or a published checkpoint"
        if (path / MANIFEST).is_file():
            raise WeightsError(
                f"{path}: {expected}, found a bundle, which holds a trained frame encoder and its head, and neither "
                "transformer, prior nor VQ-VAE"
            )
        raise WeightsError(f"{path}: {expected}, found none: has `robomask pretrain {kind}` ended?")
    return file


def _config(file: Path, kind: Any) -> Any:
    """The configuration in a file's metadata."""
    try:
        with safe_open(file, "pt") as content:
            metadata = content.metadata() or {}
        return TypeAdapter(kind).validate_json(metadata["config"])
    except (SafetensorError, KeyError, ValidationError) as error:
        raise WeightsError(f"{file}: expected the configuration of a {kind.__name__} in it, found {error!r}") from error


def _tensors(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except SafetensorError as error:
        raise WeightsError(f"{file}: expected a safetensors file, found {error}") from error


def _single(tensor: Tensor) -> Tensor:
    """Of rounded numbers the float32 form; counts stay."""
    return tensor.float() if tensor.is_floating_point() else tensor


def _shapes(state: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def _load(model: nn.Module, state: dict[str, Tensor], file: Path) -> None:
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise WeightsError(
            f"{file}: the weights do not fit the model that its configuration describes: {error}"
        ) from error


@contextmanager
def _published() -> Iterator[None]:
    """While a published checkpoint is loaded: its refusals become ours."""
    try:
        yield
    except (CheckpointError, OSError) as error:
        raise WeightsError(str(error)) from error
