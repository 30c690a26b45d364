"""Training the frame encoder in its 2D form is training it as published."""

import copy

import pytest
import torch
from torch import Tensor

from training.pretrain.one_frame import OneFrameEncoder, published_state, train_collapsed
from training.videogpt.prior import Prior, PriorConfig
from training.videogpt.vqvae import VQVAEConfig

VQVAE = VQVAEConfig(
    embedding_dim=4, n_codes=16, n_hiddens=8, n_res_layers=1, downsample=(4, 4, 4), sequence_length=8, resolution=16
)


def tiny(**changes: object) -> Prior:
    torch.manual_seed(0)
    settings = {
        "hidden_dim": 12, "heads": 2, "layers": 1, "dropout": 0.0, "attn_type": "full", "attn_dropout": 0.0,
        "resnet_layers": (2, 1, 1, 2), "resnet_dim": 12,
    }  # fmt: skip
    prior = Prior(PriorConfig(vqvae=VQVAE, **{**settings, **changes}))  # type: ignore[arg-type] # a test's shorthand
    torch.nn.init.normal_(prior.fc_out.weight, std=0.5)  # as new it is zero, and hides everything before it
    return prior


def train(prior: Prior, n_steps: int) -> list[float]:
    """Losses of Adam on random clips, in float64 so that only what differs in kind can differ."""
    prior.double()
    optimizer = torch.optim.Adam([p for p in prior.parameters() if p.requires_grad], lr=1e-3)
    generator = torch.Generator().manual_seed(1)
    losses = []
    for _ in range(n_steps):
        video = torch.rand(2, 3, 8, 16, 16, generator=generator, dtype=torch.float64) - 0.5
        loss: Tensor = prior(prior.encode(video), video[:, :, :1]).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(prior.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_both_forms_have_the_same_losses_and_end_with_the_same_weights() -> None:
    published = tiny()
    collapsed = copy.deepcopy(published)
    train_collapsed(collapsed)
    curve = train(published, 8)
    assert train(collapsed, 8) == pytest.approx(curve, rel=1e-6)
    assert curve[-1] != curve[0]
    state = published_state(collapsed)
    for name, tensor in published.state_dict().items():
        torch.testing.assert_close(state[name], tensor, rtol=1e-4, atol=1e-5, check_dtype=False, msg=name)


def test_outer_slices_stay_as_they_were_to_the_bit() -> None:
    prior = tiny()
    before = {name: tensor.clone() for name, tensor in prior.state_dict().items()}
    train_collapsed(prior)
    train(prior, 2)
    after = published_state(prior)
    kernels = [n for n, t in before.items() if n.startswith("resnet.") and t.ndim == 5 and t.shape[2] == 3]
    assert kernels
    for name in kernels:
        assert torch.equal(after[name][:, :, 0].float(), before[name][:, :, 0])
        assert torch.equal(after[name][:, :, 2].float(), before[name][:, :, 2])
        assert not torch.equal(after[name][:, :, 1].float(), before[name][:, :, 1])


def test_checkpoints_keep_the_outer_slices() -> None:
    prior, other = tiny(), tiny()
    torch.nn.init.normal_(other.resnet.stem[0].weight)  # type: ignore[arg-type] # a sequence forgets its types
    train_collapsed(prior)
    train_collapsed(other)
    other.load_state_dict(prior.state_dict())
    wanted = published_state(prior)
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in published_state(other).items())


def test_no_optimiser_sees_the_outer_slices() -> None:
    prior = tiny()
    n_published = sum(p.numel() for p in prior.resnet.parameters())
    train_collapsed(prior)
    assert isinstance(prior.resnet, OneFrameEncoder)
    assert sum(p.numel() for p in prior.resnet.parameters()) < 0.4 * n_published


def test_more_frames_than_one_are_refused() -> None:
    with pytest.raises(ValueError, match="this prior sees 2"):
        train_collapsed(tiny(n_cond_frames=2))
    prior = tiny()
    train_collapsed(prior)
    with pytest.raises(ValueError, match="one frame at a time"):
        prior.resnet(torch.zeros(1, 3, 2, 16, 16))
