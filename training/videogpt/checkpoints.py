"""Loads published VideoGPT checkpoints into the models of this package.

    encoder = load_frame_encoder(Path("bair_gpt"))

Yan et al. 2021, "VideoGPT: Video Generation using VQ-VAE and Transformers", public PyTorch version: the files
`bair_stride4x2x2` (a VQ-VAE) and `bair_gpt` (a prior), and others of their layout.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from training.videogpt.configuration import frame_encoder_shape, prior_config, vqvae_config
from training.videogpt.prior import Prior
from training.videogpt.published import CheckpointMismatch, read_checkpoint
from training.videogpt.resnet import FrameEncoder
from training.videogpt.vqvae import VQVAE

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn


def load_vqvae(path: Path) -> VQVAE:
    """The VQ-VAE of a file of its own, in eval mode.

    Raises:
        CheckpointError: The file is refused.
    """
    published = read_checkpoint(path)
    model = VQVAE(vqvae_config(published.args, published.shapes))
    _load(model, published.state, path)
    return model.eval()


def load_prior(path: Path) -> Prior:
    """A prior with its own copy of the VQ-VAE, in eval mode; the file that its command line names is not needed.

    Raises:
        CheckpointError: The file is refused.
    """
    published = read_checkpoint(path)
    model = Prior(prior_config(published.args, published.shapes))
    _load(model, published.state, path)
    return model.eval()


def load_frame_encoder(path: Path) -> FrameEncoder:
    """Only the frame encoder (`resnet.*`) of a prior, in eval mode.

    Raises:
        CheckpointError: The file is refused, or its prior is not conditioned on frames.
    """
    weights = read_checkpoint(path).part("resnet.")
    if not weights:
        raise CheckpointMismatch(f"{path} has no resnet.*: expected a prior that is conditioned on frames")
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    layers, dim, width = frame_encoder_shape(shapes)
    model = FrameEncoder(layers, dim, width_multiplier=width)
    _load(model, weights, path)
    return model.eval()


def _load(model: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Load strictly; only the masks of full attention may be too many."""
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointMismatch(f"{path} does not fit the model its numbers describe: {error}") from error
