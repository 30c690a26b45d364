"""The frame encoder: the published numbers, and the exactness of its collapse."""

from pathlib import Path

import golden
import make_own_golden as own
import numpy as np
import pytest
import torch

from training.videogpt.resnet import CollapsedFrameEncoder, FrameEncoder, collapse, expand, group_strides

OWN = Path(__file__).parent / "own" / "frame_encoder.npz"
ATOL = 1e-4


def encoder_of(name: str) -> FrameEncoder:
    config = golden.load(name).config
    encoder = FrameEncoder(
        config["layers"], config["resnet_dim"], config["stride"], config.get("width_multiplier", 1)
    ).eval()
    encoder.load_state_dict(golden.weights(name))
    return encoder


@pytest.mark.parametrize("name", golden.cases("resnet"))
def test_parameters_have_the_published_names_and_shapes(name: str) -> None:
    assert {key: tuple(value.shape) for key, value in encoder_of(name).state_dict().items()} == golden.shapes(name)


@pytest.mark.parametrize("name", golden.cases("resnet"))
def test_latents_equal_the_published_ones(name: str) -> None:
    case, encoder = golden.load(name), encoder_of(name)
    for given, expected in (("in/frames", "out/features"), ("in/frame1", "out/features1")):
        if given in case:
            with torch.inference_mode():
                torch.testing.assert_close(encoder(case[given]), case[expected], atol=ATOL, rtol=0)


@pytest.mark.parametrize("name", golden.cases("resnet"))
def test_the_collapse_of_published_weights_is_exact_for_single_frames(name: str) -> None:
    case, encoder = golden.load(name), encoder_of(name)
    config = case.config
    flat = CollapsedFrameEncoder(
        config["layers"], config["resnet_dim"], config["stride"][1:], config.get("width_multiplier", 1)
    ).eval()
    flat.load_state_dict(collapse(encoder.state_dict()))
    frames = case["in/frames"][:, :, 0]
    with torch.inference_mode():
        torch.testing.assert_close(flat(frames), encoder(frames[:, :, None])[:, 0], atol=ATOL, rtol=0)


@pytest.mark.parametrize("kind", ["clip", "frame"])
def test_latents_equal_those_of_an_independent_implementation(kind: str) -> None:
    encoder = FrameEncoder(own.LAYERS, own.DIM, own.STRIDE).eval()
    state = encoder.state_dict()
    encoder.load_state_dict({k: torch.from_numpy(own.parameter(k, tuple(v.shape))) for k, v in state.items()})
    with np.load(OWN) as file, torch.inference_mode():
        latents = encoder(torch.from_numpy(file[kind])[None])[0].numpy()
        np.testing.assert_allclose(latents, file[f"{kind}_latents"], atol=ATOL)


def test_the_full_encoder_has_the_size_of_the_public_one() -> None:
    assert sum(p.numel() for p in FrameEncoder().parameters()) == 33_890_144


def test_collapse_undoes_expand_and_keeps_given_outer_slices() -> None:
    encoder = FrameEncoder((1, 1, 1, 1), 12)
    published = encoder.state_dict()
    flat = collapse(published)
    for name, tensor in collapse(expand(flat)).items():
        assert torch.equal(tensor, flat[name])
    for name, tensor in expand(flat, outer=published).items():
        assert torch.equal(tensor, published[name])


def test_single_frames_give_the_outer_slices_no_gradient() -> None:
    encoder = FrameEncoder((1, 1, 1, 1), 12)
    encoder(torch.rand(2, 3, 1, 16, 16) - 0.5).square().mean().backward()
    for parameter in encoder.parameters():
        assert parameter.grad is not None
        if parameter.ndim == 5 and parameter.shape[2] == 3:
            assert parameter.grad[:, :, [0, 2]].abs().max() == 0
            assert parameter.grad[:, :, 1].abs().max() > 0


def test_collapsed_training_follows_the_published_loss_curve() -> None:
    torch.manual_seed(0)
    flat = CollapsedFrameEncoder((1, 1, 1, 1), 12)
    published = flat.published()
    frames = torch.rand(2, 3, 16, 16) - 0.5
    curves: list[list[float]] = []
    for encoder, batch in ((flat, frames), (published, frames[:, :, None])):
        optimizer = torch.optim.Adam(encoder.parameters(), lr=1e-4)
        curves.append([])
        for _ in range(4):
            loss = (encoder(batch) - 1).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            curves[-1].append(loss.item())
    np.testing.assert_allclose(*curves, rtol=1e-4)
    assert curves[0][-1] < curves[0][0]


def test_a_stride_that_halving_cannot_make_is_refused() -> None:
    with pytest.raises(ValueError, match="expected 1, 2, 4 or 8"):
        group_strides((1, 3, 4))
