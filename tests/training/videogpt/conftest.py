"""Small models, and arithmetic that does not depend on how many cores there are."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from training.videogpt.prior import Prior, PriorConfig
from training.videogpt.vqvae import VQVAE, VQVAEConfig

TINY = VQVAEConfig(
    embedding_dim=4, n_codes=16, n_hiddens=8, n_res_layers=1, downsample=(4, 2, 2), sequence_length=8, resolution=16
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads change the order of sums, and more of them than free cores take far longer over small tensors."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def vqvae() -> VQVAE:
    """Latents of 2x8x8."""
    return VQVAE(TINY)


@pytest.fixture
def tiny_prior() -> Callable[..., Prior]:
    """Makes priors over 128 tokens, with an output layer that is not zero as it is at first."""

    def make(**changes: Any) -> Prior:
        numbers: dict[str, Any] = {"hidden_dim": 24, "heads": 2, "layers": 2, "resnet_layers": (1, 1, 1, 1)}
        prior = Prior(PriorConfig(vqvae=TINY, **(numbers | {"resnet_dim": 12} | changes)))
        torch.nn.init.normal_(prior.fc_out.weight, std=0.5)
        torch.nn.init.normal_(prior.attn_stack.right_shift.sos)
        return prior

    return make


@pytest.fixture
def clips() -> torch.Tensor:
    """Three clips for the small models."""
    return torch.rand(3, 3, 8, 16, 16) - 0.5
