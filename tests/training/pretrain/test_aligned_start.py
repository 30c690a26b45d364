"""The start at which tokens look at the frame where they are."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from training.pretrain.aligned_start import start_aligned, waves
from training.pretrain.config import PriorRunConfig
from training.pretrain.trainer import new_prior
from training.videogpt.prior import Prior, PriorConfig
from training.videogpt.transformer import TransformerLayer
from training.videogpt.vqvae import VQVAEConfig

CODES = VQVAEConfig(embedding_dim=16, n_codes=32, n_hiddens=8, n_res_layers=1, downsample=(4, 4, 4))


def prior_of(**changes: Any) -> Prior:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_dim": 240, "layers": 2, "attn_type": "full", "resnet_layers": (1, 1, 1, 1)}
    return Prior(PriorConfig(vqvae=CODES, **sizes | changes)).eval()


def first_glances(prior: Prior, frames: Tensor) -> Tensor:
    """Where the first layer's tokens look: weights [B, N, T*H*W, H'*W'], before self-attention says anything."""
    layer = prior.attn_stack.attn_nets[0]
    assert isinstance(layer, TransformerLayer)
    codes = torch.randint(32, (len(frames), *CODES.latent_shape))
    stack = prior.attn_stack
    tokens = stack.pos_embd(stack.right_shift(prior.embed(codes))).flatten(1, 3)
    attention = layer.enc_attn
    queries = attention._split(attention.w_qs(layer.pre_enc_norm(tokens)))
    keys = attention.keys_values(prior.frame_features(frames).flatten(1, 3)).keys
    return (queries @ keys.mT / keys.shape[-1] ** 0.5).softmax(-1)


@torch.no_grad()
def test_a_token_looks_first_at_its_own_place_of_the_frame() -> None:
    prior = prior_of()
    frames = torch.rand(2, 3, 1, 64, 64) - 0.5
    own_place = torch.arange(1024) % 256
    assert first_glances(prior, frames)[..., torch.arange(1024), own_place].mean() < 0.01  # 1/256 by chance
    start_aligned(prior)
    assert first_glances(prior, frames)[..., torch.arange(1024), own_place].mean() > 0.1


def test_waves_tell_places_apart() -> None:
    alike = waves(16, 80) @ waves(16, 80).T / 40
    torch.testing.assert_close(alike.diagonal(), torch.ones(16))
    distance = (torch.arange(16)[:, None] - torch.arange(16)).abs()
    assert alike[distance > 1].abs().max() < 0.25
    assert waves(4, 5).shape == (4, 5)


@pytest.mark.parametrize("changes", [{"n_cond_frames": 0}, {"hidden_dim": 120}])
def test_priors_without_frames_or_of_another_width_start_so_too(changes: dict[str, Any]) -> None:
    prior = prior_of(**changes)
    start_aligned(prior)
    frames = torch.zeros(1, 3, 1, 64, 64) if prior.config.n_cond_frames else None
    assert prior(torch.zeros(1, *CODES.latent_shape, dtype=torch.int64), frames).loss.isfinite()


def test_a_run_starts_as_it_is_told(
    tmp_path: Path, prior_config: Callable[..., PriorRunConfig], vqvae_run: Path
) -> None:
    def positions(start: str) -> Tensor:
        config = prior_config(tmp_path, vqvae=vqvae_run, start=start)
        return new_prior(config).attn_stack.pos_embd.table().detach().abs().max()

    assert positions("published") < 0.1
    assert positions("aligned") == 1
    assert PriorRunConfig(out=tmp_path, preset="cpu", vqvae=tmp_path, data={"clips": [tmp_path]}).start == "aligned"
