"""The VQ-VAE: the published numbers in evaluation and in one step of training."""

import golden
import pytest
import torch
from torch.testing import assert_close

from training.videogpt.vqvae import VQVAE, AttentionResidualBlock, VQVAEConfig

LOSS = {"rtol": 1e-5, "atol": 1e-7}


def model_of(name: str) -> VQVAE:
    model = VQVAE(golden.vqvae_config(name)).eval()
    model.load_state_dict(golden.weights(name))
    return model


@pytest.mark.parametrize("name", golden.cases("vqvae"))
def test_parameters_have_the_published_names_and_shapes(name: str) -> None:
    model = VQVAE(golden.vqvae_config(name))
    assert {key: tuple(value.shape) for key, value in model.state_dict().items()} == golden.shapes(name)


@pytest.mark.parametrize("name", golden.cases("vqvae_eval"))
def test_evaluation_equals_the_published_one(name: str) -> None:
    case, model = golden.load(name), model_of(name)
    video = case["in/video"]
    golden.assert_same_codes(model, video, case["out/codes"])
    with torch.inference_mode():
        output = model(video)
        assert_close(model.latents(video), case["out/z"], atol=2e-5, rtol=0)
        assert_close(model.decode(case["out/codes"]), case["out/recon"], atol=2e-5, rtol=0)
        lookup = model.codebook.lookup(case["out/codes"]).movedim(-1, 1)
    assert_close(lookup, case["out/embeddings"], atol=2e-5, rtol=0)
    if torch.equal(output.quantised.codes, case["out/codes"]):  # else a near tie fell the other way
        assert_close(output.quantised.embeddings, case["out/embeddings"], atol=2e-5, rtol=0)
        assert_close(output.recon, case["out/recon_forward"], atol=2e-5, rtol=0)
        assert_close(output.recon_loss, case["out/recon_loss"], **LOSS)
        assert_close(output.quantised.commitment_loss, case["out/commitment_loss"], **LOSS)
        assert_close(output.quantised.perplexity, case["out/perplexity"], **LOSS)


@pytest.mark.parametrize("name", golden.cases("vqvae_full"))
def test_the_full_model_equals_the_published_one(name: str) -> None:
    case, model = golden.load(name), model_of(name)
    golden.assert_same_codes(model, case["in/video"], case["out/codes"])
    with torch.inference_mode():
        z = model.latents(case["in/video"])
        every = z.shape[1] // case["out/z_sub"].shape[1]
        assert_close(z[:, ::every], case["out/z_sub"], atol=1e-4, rtol=0)
        assert_close(model.decode(case["out/codes"]), case["out/recon"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", golden.cases("vqvae_train_step"))
def test_a_step_of_training_equals_the_published_one(name: str) -> None:
    case, model = golden.load(name), model_of(name).train()
    torch.manual_seed(case.seed)
    output = model(case["in/video"])
    output.loss.backward()

    assert torch.equal(output.quantised.codes, case["out/codes"])
    assert_close(output.loss, case["out/loss"], **LOSS)
    assert_close(output.recon_loss, case["out/recon_loss"], **LOSS)
    assert_close(output.quantised.commitment_loss, case["out/commitment_loss"], **LOSS)
    assert_close(output.quantised.perplexity, case["out/perplexity"], **LOSS)
    golden.assert_same_gradients(model, case.group("grad/"))

    after, kept = case.group("after/"), case["after/kept_mask"]
    buffers = dict(model.named_buffers())
    for key in after.keys() & buffers.keys():
        assert_close(buffers[key], after[key], atol=2e-5, rtol=1e-5, msg=key)
    embeddings = model.codebook.embeddings
    assert torch.equal(model.codebook.N >= 1, kept)
    assert_close(embeddings[kept], after["codebook.embeddings_kept"], atol=2e-5, rtol=1e-5)
    assert_close(embeddings, after["codebook.embeddings_all_seeded"], atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("name", golden.cases("unit_ops"))
def test_a_residual_block_equals_the_published_one(name: str) -> None:
    case = golden.load(name)
    block = AttentionResidualBlock(case["attn_res_block/in"].shape[1]).eval()
    block.load_state_dict(case.group("attn_res_block/sd/"))
    assert_close(block(case["attn_res_block/in"]), case["attn_res_block/out"], atol=2e-5, rtol=0)


def test_every_parameter_gets_a_gradient(vqvae: VQVAE, clips: torch.Tensor) -> None:
    vqvae.train()(clips).loss.backward()
    assert [name for name, p in vqvae.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
    assert all(p.grad.any() for name, p in vqvae.named_parameters() if "conv" in name and name.endswith("weight"))


def test_training_on_one_clip_learns_it(vqvae: VQVAE, clips: torch.Tensor) -> None:
    smooth = torch.nn.functional.interpolate(clips[:1, :, :2, :4, :4], size=clips.shape[2:], mode="trilinear")
    optimiser = torch.optim.Adam(vqvae.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        output = vqvae.train()(smooth)
        optimiser.zero_grad()
        output.loss.backward()
        optimiser.step()
        losses.append(float(output.recon_loss.detach()))
    assert losses[-1] < losses[0] / 2


def test_encoding_in_training_mode_leaves_the_codebook_alone(vqvae: VQVAE, clips: torch.Tensor) -> None:
    before = vqvae.codebook.embeddings.clone()
    vqvae.train().encode(clips)
    assert torch.equal(vqvae.codebook.embeddings, before)


def test_any_clip_that_the_strides_divide_will_do(vqvae: VQVAE) -> None:
    codes = vqvae.eval().encode(torch.zeros(1, 3, 4, 10, 6))
    assert codes.shape == (1, 1, 5, 3)
    assert vqvae.decode(codes).shape == (1, 3, 4, 10, 6)


def test_a_clip_that_the_strides_do_not_divide_is_refused(vqvae: VQVAE) -> None:
    with pytest.raises(ValueError, match="multiple of 4"):
        vqvae(torch.zeros(1, 3, 6, 16, 16))


@pytest.mark.parametrize(
    ("numbers", "reason"),
    [
        ({"downsample": (3, 2, 2)}, "powers of two"),
        ({"downsample": (2, 2, 2)}, "stride of 4"),
        ({"sequence_length": 6}, "does not divide"),
        ({"n_hiddens": 15}, "multiple of 2"),
    ],
)
def test_numbers_that_make_no_model_are_refused(numbers: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        VQVAEConfig(**numbers)
