"""Small networks for every row of the paper's table."""

import torch

from training.segmenter import Segmenter, build_segmenter
from training.videogpt.prior import Prior, PriorConfig
from training.videogpt.vqvae import VQVAEConfig

LAYERS = (1, 1, 1, 1)


def tiny_prior(resnet_dim: int = 12) -> Prior:
    """A prior over 2x16x16 codes of clips of 8 frames, with an output layer that is not zero."""
    torch.manual_seed(0)
    vqvae = VQVAEConfig(
        embedding_dim=4, n_codes=16, n_hiddens=8, n_res_layers=1, downsample=(4, 4, 4), sequence_length=8
    )
    prior = Prior(PriorConfig(vqvae, hidden_dim=12, heads=2, layers=1, resnet_layers=LAYERS, resnet_dim=resnet_dim))
    torch.nn.init.normal_(prior.fc_out.weight)
    return prior.eval()


def small_segmenter(encoder: str, head: str, latents: str = "expected") -> Segmenter:
    prior = tiny_prior() if encoder == "transformer" else None
    torch.manual_seed(1)
    return build_segmenter(
        LAYERS, encoder=encoder, head=head, frozen=encoder == "transformer", prior=prior, latents=latents, width=4
    )
