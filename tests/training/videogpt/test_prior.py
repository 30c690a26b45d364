"""The prior: the published numbers, and what an autoregressive model must not do."""

import math
from collections.abc import Callable
from typing import Any

import golden
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from training.videogpt.prior import Prior, PriorConfig
from training.videogpt.vqvae import VQVAEConfig


def model_of(name: str) -> Prior:
    model = Prior(golden.prior_config(name)).eval()
    model.load_state_dict(golden.weights(name))
    return model


def conditions(name: str) -> dict[str, Tensor]:
    """What the case's prior is conditioned on."""
    case, given = golden.load(name), {}
    n_frames = golden.prior_config(name).n_cond_frames
    if n_frames:
        given["frames"] = case["in/frame"] if "in/frame" in case else case["in/video"][:, :, :n_frames]
    if "in/label" in case:
        given["labels"] = case["in/label"]
    return given


@pytest.mark.parametrize("name", golden.cases("gpt"))
def test_parameters_have_the_published_names_and_shapes(name: str) -> None:
    model = Prior(golden.prior_config(name))
    assert {key: tuple(value.shape) for key, value in model.state_dict().items()} == golden.shapes(name)


@pytest.mark.parametrize("name", golden.cases("gpt", but_not="gpt_full"))
def test_logits_loss_and_gradients_equal_the_published_ones(name: str) -> None:
    case, model, given = golden.load(name), model_of(name), conditions(name)
    golden.assert_same_codes(model.vqvae, case["in/video"], case["out/codes"])
    output = model(case["out/codes"], **given)
    output.loss.backward()
    assert_close(output.logits, case["out/logits"], atol=1e-4, rtol=0)
    assert_close(output.loss, case["out/loss"], rtol=1e-5, atol=0)
    if "frames" in given:
        with torch.no_grad():
            assert_close(model.resnet(given["frames"]), case["out/resnet_features"], atol=1e-4, rtol=0)
            assert_close(model.frame_features(given["frames"]), case["out/frame_cond"], atol=1e-4, rtol=0)
    gradients, norms = case.group("grad/"), case.group("gradnorm/")
    if gradients:
        golden.assert_same_gradients(model, gradients)
        trained = {key for key, p in model.named_parameters() if p.requires_grad}
        assert trained == gradients.keys() | norms.keys()
    for key, norm in norms.items():
        assert_close(model.get_parameter(key).grad.norm(), norm, rtol=5e-3, atol=1e-6, msg=key)


@pytest.mark.parametrize("name", golden.cases("gpt_full"))
def test_the_full_model_equals_the_published_one(name: str) -> None:
    case, model, given = golden.load(name), model_of(name), conditions(name)
    with torch.inference_mode():
        assert_close(model.frame_features(given["frames"]), case["out/frame_cond"], atol=1e-4, rtol=0)
        logits = model(case["in/codes"], **given).logits.flatten(1, 3)
    assert_close(logits[:, case["pos"]], case["out/logits"], atol=1e-4, rtol=0)


@pytest.fixture
def codes() -> Tensor:
    """Codes of three clips."""
    return torch.randint(16, (3, 2, 8, 8))


def test_before_training_every_code_is_as_likely_as_any_other(
    tiny_prior: Callable[..., Prior], clips: Tensor, codes: Tensor
) -> None:
    fresh = Prior(tiny_prior().config)
    assert_close(fresh(codes, clips[:, :, :1]).loss, torch.tensor(math.log(16)))


@pytest.mark.parametrize("attn_type", ["full", "sparse"])
def test_no_position_sees_its_own_code_or_a_later_one(
    tiny_prior: Callable[..., Prior], codes: Tensor, attn_type: str
) -> None:
    prior = tiny_prior(attn_type=attn_type, n_cond_frames=0).eval()
    changed = codes.flatten(1).clone()
    changed[:, 77] = (changed[:, 77] + 1) % 16
    with torch.inference_mode():
        before, after = (prior(c.view_as(codes)).logits.flatten(1, 3) for c in (codes.flatten(1), changed))
    assert_close(before[:, :78], after[:, :78], atol=1e-6, rtol=0)
    assert (before[:, 78] - after[:, 78]).abs().max() > 1e-3


@pytest.mark.parametrize("attn_type", ["full", "sparse"])
@pytest.mark.parametrize("class_cond_dim", [None, 5])
def test_every_trained_parameter_gets_a_gradient(
    tiny_prior: Callable[..., Prior], clips: Tensor, codes: Tensor, attn_type: str, class_cond_dim: int | None
) -> None:
    prior = tiny_prior(attn_type=attn_type, class_cond_dim=class_cond_dim).train()
    labels = None if class_cond_dim is None else torch.tensor([0, 3, 3])
    prior(codes, clips[:, :, :1], labels).loss.backward()
    trained = {name: p.grad for name, p in prior.named_parameters() if not name.startswith("vqvae.")}
    assert [name for name, grad in trained.items() if grad is None or not grad.any()] == []
    assert [name for name, p in prior.vqvae.named_parameters() if p.requires_grad or p.grad is not None] == []


def test_recomputing_activations_changes_no_gradient(
    tiny_prior: Callable[..., Prior], clips: Tensor, codes: Tensor
) -> None:
    gradients = []
    for recompute in (True, False):
        torch.manual_seed(1)
        prior = tiny_prior(recompute=recompute).train()
        prior(codes, clips[:, :, :1]).loss.backward()
        gradients.append([p.grad for p in prior.parameters() if p.requires_grad])
    for kept, recomputed in zip(*gradients, strict=True):
        assert_close(kept, recomputed)


def test_the_vqvae_inside_never_trains(tiny_prior: Callable[..., Prior], clips: Tensor) -> None:
    prior = tiny_prior().train()
    before = {name: value.clone() for name, value in prior.vqvae.state_dict().items()}
    prior(prior.encode(clips), clips[:, :, :1])
    assert not any(module.training for module in prior.vqvae.modules())
    assert all(torch.equal(value, before[name]) for name, value in prior.vqvae.state_dict().items())


def test_without_frames_there_is_no_frame_encoder(tiny_prior: Callable[..., Prior]) -> None:
    names = [name for name in tiny_prior(n_cond_frames=0).state_dict() if not name.startswith("vqvae.")]
    assert not [name for name in names if "resnet" in name or "cond" in name or "enc_" in name]


def test_conditions_must_be_those_of_the_model(tiny_prior: Callable[..., Prior], clips: Tensor, codes: Tensor) -> None:
    with pytest.raises(ValueError, match=r"conditioned on 1 of them, got none"):
        tiny_prior()(codes)
    with pytest.raises(ValueError, match=r"no classes, got \[3\]"):
        tiny_prior()(codes, clips[:, :, :1], torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"5 classes, got none"):
        tiny_prior(n_cond_frames=0, class_cond_dim=5)(codes)


def test_masks_that_follow_from_the_shape_are_no_part_of_the_state(tiny_prior: Callable[..., Prior]) -> None:
    prior = tiny_prior(attn_type="full")
    state = prior.state_dict()
    assert not [name for name in state if name.endswith("mask")]
    published = {f"attn_stack.attn_nets.{i}.attn.attn.mask": torch.ones(128, 128).tril() for i in range(2)}
    assert not any(prior.load_state_dict(state | published))


@pytest.mark.parametrize(
    ("numbers", "reason"),
    [
        ({"attn_type": "local"}, "full or sparse"),
        ({"layers": 0}, "layers=0"),
        ({"hidden_dim": 512}, "multiples of 3"),
        ({"vqvae": VQVAEConfig(sequence_length=8, resolution=12)}, "blocks of 32"),
    ],
)
def test_numbers_that_make_no_model_are_refused(numbers: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        PriorConfig(**numbers)
