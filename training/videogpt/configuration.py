"""The configuration of a published VideoGPT, from its command line and the shapes of its tensors.

Yan et al. 2021, "VideoGPT: Video Generation using VQ-VAE and Transformers", public PyTorch version.

Shapes show almost everything; the number of heads, the kind of attention and the strides of a VQ-VAE on its own are the
command line's word. Where both know a number they must agree.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from training.videogpt.prior import PriorConfig
from training.videogpt.published import CheckpointMismatch
from training.videogpt.resnet import STRIDE
from training.videogpt.vqvae import VQVAEConfig, conv_strides

if TYPE_CHECKING:
    from collections.abc import Mapping

    Shapes = Mapping[str, tuple[int, ...]]
    """Names in a state dict to shapes."""


def vqvae_config(args: Mapping[str, Any], shapes: Shapes) -> VQVAEConfig:
    """Configuration of a VQ-VAE on its own. Its strides do not show in its shapes: they are the command line's word.

    Raises:
        CheckpointMismatch: Command line and shapes do not agree, or lack something.
    """
    _agree(args, _vqvae_numbers(shapes))
    downsample = args.get("downsample")
    if not isinstance(downsample, (list, tuple)) or not all(isinstance(stride, int) for stride in downsample):
        raise CheckpointMismatch(f"downsample: expected three numbers on the command line, got {downsample}")
    return _vqvae(
        shapes,
        downsample=tuple(downsample),
        sequence_length=_needed(args, "sequence_length"),
        resolution=_needed(args, "resolution"),
    )


def prior_config(args: Mapping[str, Any], shapes: Shapes) -> PriorConfig:
    """Configuration of a prior and of the VQ-VAE in it, whose own command line is not in the file.

    Raises:
        CheckpointMismatch: Command line and shapes do not agree, or lack something.
    """
    vqvae_shapes = {k.removeprefix("vqvae."): v for k, v in shapes.items() if k.startswith("vqvae.")}
    length, resolution = _needed(args, "sequence_length"), _needed(args, "resolution")
    grid = [_shape(shapes, f"attn_stack.pos_embd.emb.d_{axis}", 2)[0] for axis in range(3)]
    t, h, w = (size // codes for size, codes in zip((length, resolution, resolution), grid, strict=True))
    vqvae = _vqvae(vqvae_shapes, downsample=(t, h, w), sequence_length=length, resolution=resolution)

    shown: dict[str, Any] = {
        "hidden_dim": _shape(shapes, "fc_in.weight", 2)[0],
        "layers": _count(shapes, r"attn_stack\.attn_nets\.(\d+)\."),
        "n_cond_frames": _shape(shapes, "cond_pos_embd.emb.d_0", 2)[0] if "cond_pos_embd.emb.d_0" in shapes else 0,
    }
    _agree(args, shown)
    frames: dict[str, Any] = {}
    if shown["n_cond_frames"]:
        resnet = {k.removeprefix("resnet."): v for k, v in shapes.items() if k.startswith("resnet.")}
        frames["resnet_layers"], frames["resnet_dim"], _ = frame_encoder_shape(resnet)
    try:
        config = PriorConfig(
            vqvae=vqvae,
            **shown,
            **frames,
            **{rate: args[rate] for rate in ("dropout", "attn_dropout") if rate in args},
            class_cond_dim=_class_cond_dim(args, shapes),
            heads=_needed(args, "heads"),
            attn_type=_attn_type(args, shapes),
        )
    except ValueError as error:
        raise CheckpointMismatch(f"the checkpoint's numbers make no prior: {error}") from error
    if shown["n_cond_frames"]:
        rows = tuple(_shape(shapes, f"cond_pos_embd.emb.d_{axis}", 2)[0] for axis in range(3))
        if rows != config.frame_grid:
            raise CheckpointMismatch(f"frames: a stride of {STRIDE} gives features {config.frame_grid}, got {rows}")
    return config


def frame_encoder_shape(shapes: Shapes) -> tuple[tuple[int, ...], int, int]:
    """Blocks in each group, channels of the latents and width multiplier of a frame encoder, by its shapes.

    Raises:
        CheckpointMismatch: They are not those of a frame encoder.
    """
    layers = tuple(1 + _count(shapes, rf"group{group}\.blocks\.(\d+)\.") for group in (1, 2, 3, 4))
    dim = _shape(shapes, "group4.start_block.conv1.weight", 5)[0]
    return layers, dim, _shape(shapes, "stem.0.weight", 5)[0] // 64


def _vqvae_numbers(shapes: Shapes) -> dict[str, Any]:
    """What the shapes of a VQ-VAE show."""
    n_codes, embedding_dim = _shape(shapes, "codebook.embeddings", 2)
    return {
        "n_codes": n_codes,
        "embedding_dim": embedding_dim,
        "n_hiddens": _shape(shapes, "encoder.conv_last.conv.weight", 5)[0],
        "n_res_layers": _count(shapes, r"encoder\.res_stack\.(\d+)\.block\."),
    }


def _vqvae(shapes: Shapes, **told: Any) -> VQVAEConfig:
    """Configuration of a VQ-VAE, from its shapes and what they do not show."""
    try:
        config = VQVAEConfig(**_vqvae_numbers(shapes), **told)
    except ValueError as error:
        raise CheckpointMismatch(f"the checkpoint's numbers make no VQ-VAE: {error}") from error
    needed, there = len(conv_strides(config.downsample)), _count(shapes, r"encoder\.convs\.(\d+)\.")
    if needed != there:
        raise CheckpointMismatch(
            f"downsample: {config.downsample} takes {needed} convolutions, the tensors have {there}"
        )
    return config


def _class_cond_dim(args: Mapping[str, Any], shapes: Shapes) -> int | None:
    """Classes of a prior, whose normalisations then have weights by class."""
    shown = _shape(shapes, "norm.w.weight", 2)[1] if "norm.w.weight" in shapes else None
    told = args.get("class_cond_dim") if args.get("class_cond") else None
    if told != shown:
        raise CheckpointMismatch(f"class_cond_dim: the command line says {told}, the tensors {shown}")
    return shown


def _attn_type(args: Mapping[str, Any], shapes: Shapes) -> Any:
    """Kind of attention; masks are stored for the full kind alone, and may have been dropped."""
    stores_mask = any(name.endswith(".attn.attn.mask") for name in shapes)
    told = args.get("attn_type", "full" if stores_mask else None)
    if stores_mask and told != "full":
        raise CheckpointMismatch(f"attn_type: the command line says {told}, the tensors have masks of full attention")
    return told


def _agree(args: Mapping[str, Any], shown: Mapping[str, Any]) -> None:
    """Check the numbers that both the command line and the tensors know."""
    for name, value in shown.items():
        if args.get(name, value) != value:
            raise CheckpointMismatch(f"{name}: the command line says {args[name]}, the tensors {value}")


def _needed(args: Mapping[str, Any], name: str) -> int:
    """A number that only the command line knows."""
    value = args.get(name)
    if not isinstance(value, int):
        raise CheckpointMismatch(
            f"{name}: expected a number on the command line, got {value}; the tensors do not show it"
        )
    return value


def _shape(shapes: Shapes, name: str, n_axes: int) -> tuple[int, ...]:
    """Shape of a tensor that has to be there."""
    shape = shapes.get(name)
    if shape is None or len(shape) != n_axes or not all(shape):
        raise CheckpointMismatch(f"{name}: expected a tensor of {n_axes} axes as in the public layout, got {shape}")
    return shape


def _count(shapes: Shapes, pattern: str) -> int:
    """How many numbers stand in the place of the pattern's group."""
    return len({found[1] for name in shapes if (found := re.match(pattern, name))})
