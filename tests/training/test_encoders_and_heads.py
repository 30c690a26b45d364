"""Every encoder with every head that suits it."""

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from networks import LAYERS, small_segmenter, tiny_prior
from torch import Tensor

from training.config import ModelConfig, OptimConfig, TrainConfig
from training.data.frames import FrameSet
from training.encoders import PriorEncoder
from training.finetune import loss_of, make_optimizer
from training.heads import LatentGrid, build_head
from training.pretrain.weights import write_prior
from training.run import load_segmenter, write_run
from training.segmenter import build_segmenter, published_form
from training.start import start_of

ODD = [
    {"encoder": "none"},
    {"head": "unet"},
    {"encoder": "transformer"},
    {"encoder": "transformer", "head": "attention-skips", "pretrained": "runs/prior"},
    {"encoder": "none", "head": "unet", "frozen": True},
    {"encoder": "transformer", "pretrained": "runs/prior", "frozen_groups": (3,)},
]
GRIDS = [LatentGrid(16, 16, 240), LatentGrid(32, 32, 4, 4, codes=True), LatentGrid(32, 32, 8, 4)]
HEADS = ("linear", "conv", "heavy-conv", "fc-conv", "attention-conv")
PAIRS = [
    ("none", "unet", "expected"),
    ("frame-encoder", "attention-skips", "expected"),
    *[("frame-encoder", head, "expected") for head in HEADS],
    *[("transformer", head, latents) for head, latents in itertools.product(HEADS, ("expected", "hidden"))],
    *[("transformer", head, "sampled") for head in ("linear", "conv", "heavy-conv")],
]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors gain nothing from more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def frames(toys: FrameSet) -> Tensor:
    return torch.from_numpy(toys.frames[:3])


@pytest.mark.parametrize(("encoder", "head", "latents"), PAIRS)
def test_every_pair_gives_logits_and_every_parameter_that_should_learn_gets_a_gradient(
    frames: Tensor, encoder: str, head: str, latents: str
) -> None:
    segmenter = small_segmenter(encoder, head, latents).train()
    segmentation = segmenter(frames)
    assert segmentation.logits.shape == (3, 64, 64)
    segmentation.logits.square().mean().backward()
    learning = dict(segmenter.named_parameters() if encoder != "transformer" else segmenter.head.named_parameters())
    assert [n for n, p in learning.items() if p.grad is None or not p.grad.abs().max() > 0] == []
    if encoder == "transformer":
        assert all(p.grad is None and not p.requires_grad for p in segmenter.encoder.parameters())


@pytest.mark.parametrize(
    "grid", [LatentGrid(16, 16, 240), LatentGrid(32, 32, 4, 4, codes=True), LatentGrid(32, 32, 8, 4)]
)
def test_heads_have_the_shapes_of_the_paper(grid: LatentGrid) -> None:
    latents = torch.rand(2, *grid[:3])
    for name in ("linear", "conv", "heavy-conv"):
        assert build_head(name, grid)(latents).shape == (2, 64, 64)
    if grid.codes:  # 4x32x32 -> 64x64, and to 4x32x32
        assert build_head("linear", grid).fc.linear.weight.shape == (4096, 4096)
        assert build_head("conv", grid).fc.linear.weight.shape == (4096, 4096)
    else:
        assert build_head("fc-conv", grid)(latents).shape == (2, 64, 64)


@pytest.mark.parametrize(
    ("encoder", "head", "lr"),
    [
        ("none", "unet", 3e-2), ("frame-encoder", "linear", 3e-2), ("frame-encoder", "fc-conv", 1e-2),
        ("frame-encoder", "conv", 3e-2), ("frame-encoder", "heavy-conv", 1e-2),
        ("frame-encoder", "attention-conv", 3e-3),
    ],
)  # fmt: skip
def test_every_head_learns_a_few_frames_by_heart(toys: FrameSet, encoder: str, head: str, lr: float) -> None:
    frames, masks = torch.from_numpy(toys.frames[:2]), torch.from_numpy(toys.masks[:2])
    segmenter = small_segmenter(encoder, head).train()
    with torch.no_grad():
        latents = segmenter(frames).latents  # of a random encoder: heads are under test
    optim = OptimConfig(lr=lr, warmup_steps=5)
    optimizer, schedule = make_optimizer([(segmenter.head, 1.0)], optim, 40)
    losses = []
    for _ in range(40):
        loss = loss_of(optim, segmenter.head(latents), masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    assert losses[-1] < 0.75 * losses[0]


def test_the_transformers_latents_depend_on_the_frame_alone(frames: Tensor) -> None:
    x = frames.movedim(-1, 1).float() / 255 - 0.5
    for latents in ("expected", "hidden", "sampled"):
        encoder = PriorEncoder(tiny_prior(), latents).train()
        together, again, alone = encoder(x[:3]), encoder(x[:3]), encoder(x[1:2])
        assert torch.equal(together, again)
        torch.testing.assert_close(together[1:2], alone, atol=1e-4, rtol=1e-4)
        assert not torch.allclose(together[0], together[1], atol=1e-6)
        assert together.shape == (3, encoder.grid.height, encoder.grid.width, encoder.grid.dim)


def test_another_draw_gives_other_codes_of_the_same_range(frames: Tensor) -> None:
    x = frames[:1].movedim(-1, 1).float() / 255 - 0.5
    one, other = (PriorEncoder(tiny_prior(), "sampled", draw)(x) for draw in (0, 1))
    assert not torch.equal(one, other)
    assert 0 <= one.min() <= one.max() < 1
    assert torch.equal(one * 16, (one * 16).round())


def test_attention_over_the_numbers_of_codes_is_refused() -> None:
    with pytest.raises(ValueError, match="expected or hidden"):
        small_segmenter("transformer", "attention-conv", "sampled")


def test_skips_read_the_same_in_either_form_of_the_encoder(frames: Tensor) -> None:
    segmenter = small_segmenter("frame-encoder", "attention-skips").eval()
    with torch.inference_mode():
        collapsed, published = segmenter(frames), published_form(segmenter)(frames)
    torch.testing.assert_close(published.logits, collapsed.logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(published.latents, collapsed.latents, atol=1e-5, rtol=0)


def test_skips_are_refused_on_latents_that_are_not_the_frame_encoders() -> None:
    with pytest.raises(ValueError, match="reads inside the frame encoder"):
        build_head("attention-skips", LatentGrid(32, 32, 8, 4))


def test_the_names_in_a_trained_model_of_the_first_kind_are_unchanged() -> None:
    names = {name.split(".")[0] + "." + name.split(".")[1] for name in build_segmenter(LAYERS).state_dict()}
    assert names == {
        "encoder.stem", "encoder.group1", "encoder.group2", "encoder.group3", "encoder.group4",
        "head.attention", "head.decoder",
    }  # fmt: skip
    assert {n for n in build_segmenter(LAYERS).head.state_dict() if n.startswith("decoder")} == {
        f"decoder.layers.{i}.{part}" for i in (0, 2, 4) for part in ("weight", "bias")
    }


def test_a_run_with_the_transformer_can_be_read_without_the_prior_it_came_from(tmp_path: Path, frames: Tensor) -> None:
    folder = tmp_path / "prior"
    folder.mkdir()
    write_prior(folder, tiny_prior())
    model = ModelConfig(encoder="transformer", head="conv", pretrained=folder)
    segmenter = start_of(model).segmenter.eval()
    run = tmp_path / "run"
    run.mkdir()
    config = TrainConfig.model_validate({"out": run, "data": {"train": ["a.npz"]}, "model": model})
    write_run(run, segmenter, config, {"prior": dataclasses.asdict(tiny_prior().config)})
    (folder / "prior.safetensors").unlink()
    with torch.inference_mode():
        assert torch.equal(load_segmenter(run)(frames).logits, segmenter(frames).logits)


@pytest.mark.parametrize("model", ODD)
def test_parts_that_do_not_fit_together_are_refused(model: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="expected"):
        ModelConfig.model_validate(model)


def test_the_configuration_of_a_run_survives_its_record() -> None:
    data = {"train": ["a.npz", "b.npz"], "shares": [0.3, 0.7], "folds": 5, "fold": 2}
    config = TrainConfig.model_validate({"out": "run", "data": data, "model": {"encoder": "none", "head": "unet"}})
    assert TrainConfig.model_validate(config.model_dump(mode="json")) == config


@pytest.mark.parametrize("optimiser", ["adamw", "adam", "sgd"])
@pytest.mark.parametrize("schedule", ["cosine", "exponential", "constant"])
def test_every_optimiser_and_schedule_lowers_every_loss(optimiser: str, schedule: str) -> None:
    target = (torch.rand(2, 8, 8, generator=torch.Generator().manual_seed(0)) < 0.3).float()
    for weights in ({"jaccard_weight": 1}, {"dice_weight": 1}, {"bce_weight": 1}, {"dice_weight": 1, "bce_weight": 1}):
        chosen = {"jaccard_weight": 0, "dice_weight": 0, "bce_weight": 0, **weights}
        optim = OptimConfig.model_validate(
            {"optimiser": optimiser, "schedule": schedule, "lr": 0.1, "warmup_steps": 1, **chosen}
        )
        layer = torch.nn.Linear(64, 64)
        optimizer, steps = make_optimizer([(layer, 1.0)], optim, 20)
        losses = []
        for _ in range(20):
            loss = loss_of(optim, layer(target.flatten(1)).view(2, 8, 8), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            steps.step()
            losses.append(loss.item())
        assert losses[-1] < losses[0]


def test_a_loss_without_any_weight_is_refused() -> None:
    with pytest.raises(ValueError, match="positive"):
        OptimConfig(jaccard_weight=0, bce_weight=0)
