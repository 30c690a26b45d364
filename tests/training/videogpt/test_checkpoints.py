"""Published checkpoints: they load to the published numbers, and nothing else loads."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import golden
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from training.videogpt.checkpoints import load_frame_encoder, load_prior, load_vqvae
from training.videogpt.prior import Prior
from training.videogpt.published import CheckpointMismatch, NotACheckpoint, UnsafeCheckpoint
from training.videogpt.vqvae import VQVAE

checkpoints = pytest.mark.parametrize("name", golden.cases("ckpt"))


@checkpoints
def test_a_published_prior_loads_to_the_published_numbers(name: str) -> None:
    case = golden.load(name)
    prior = load_prior(golden.FOLDER / case.entry["ckpt_gpt"])
    n_frames = prior.config.n_cond_frames
    frames = case["in/video"][:, :, :n_frames] if n_frames else None
    golden.assert_same_codes(prior.vqvae, case["in/video"], case["out/codes"])
    with torch.inference_mode():
        output = prior(case["out/codes"], frames)
        assert_close(prior.decode(case["out/codes"]), case["out/recon"], atol=1e-4, rtol=0)
    assert_close(output.logits, case["out/logits"], atol=1e-4, rtol=0)
    assert_close(output.loss, case["out/loss"], rtol=1e-5, atol=0)
    assert prior.config == golden.prior_config(name)
    assert not prior.training
    assert not prior.vqvae.codebook._need_init


@checkpoints
def test_a_published_vqvae_loads_to_the_published_numbers(name: str) -> None:
    case = golden.load(name)
    vqvae = load_vqvae(golden.FOLDER / case.entry["ckpt_vqvae"])
    golden.assert_same_codes(vqvae, case["in/video"], case["out/codes"])
    with torch.inference_mode():
        assert_close(vqvae.decode(case["out/codes"]), case["out/recon"], atol=1e-4, rtol=0)
    assert vqvae.config == golden.vqvae_config(name)
    assert not vqvae.training
    assert not vqvae.codebook._need_init


@checkpoints
def test_the_frame_encoder_alone_comes_out_of_a_published_prior(name: str) -> None:
    case = golden.load(name)
    encoder = load_frame_encoder(golden.FOLDER / case.entry["ckpt_gpt"])
    n_frames = golden.prior_config(name).n_cond_frames
    with torch.inference_mode():
        latents = encoder(case["in/video"][:, :, :n_frames])
    assert_close(latents, case["out/resnet_features"], atol=1e-4, rtol=0)


@pytest.fixture
def lightning(monkeypatch: pytest.MonkeyPatch) -> type:
    """A class of the name that Lightning 1.x checkpoints contain; gone again before they are read."""
    name = "pytorch_lightning.callbacks.model_checkpoint"
    module = ModuleType(name)
    module.ModelCheckpoint = type("ModelCheckpoint", (), {"__module__": name})
    for package in ("pytorch_lightning", "pytorch_lightning.callbacks"):
        monkeypatch.setitem(sys.modules, package, ModuleType(package))
    monkeypatch.setitem(sys.modules, name, module)
    return module.ModelCheckpoint


def numbers_of(model: VQVAE | Prior) -> dict[str, Any]:
    """The command line that the model would have been trained with."""
    config = model.config
    if isinstance(model, VQVAE):
        return {field: getattr(config, field) for field in config.__slots__}
    own = {field: getattr(config, field) for field in config.__slots__ if not field.startswith(("resnet", "vqvae"))}
    clip = {"sequence_length": config.vqvae.sequence_length, "resolution": config.vqvae.resolution}
    return own | clip | {"class_cond": config.class_cond_dim is not None, "vqvae": "bair_stride4x2x2"}


def write(path: Path, model: VQVAE | Prior, state: dict[str, Tensor] | None = None, **extra: Any) -> Path:
    """A file in the layout of Lightning 1.x; `args` in `extra` changes the command line."""
    args = numbers_of(model) | extra.pop("args", {})
    content = {
        "epoch": 3,
        "pytorch-lightning_version": "1.3.3",
        "state_dict": state or model.state_dict(),
        "hparams_name": "kwargs",
        "hyper_parameters": {"args": argparse.Namespace(**args)},
    }
    torch.save(content | extra, path)
    return path


def assert_same_state(got: torch.nn.Module, expected: torch.nn.Module) -> None:
    state = expected.state_dict()
    assert got.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in got.state_dict().items())


@pytest.mark.parametrize("attn_type", ["full", "sparse"])
@pytest.mark.parametrize("changes", [{}, {"n_cond_frames": 0}, {"class_cond_dim": 5}])
def test_what_was_written_is_what_is_read(
    tiny_prior: Callable[..., Prior], tmp_path: Path, lightning: type, attn_type: str, changes: dict[str, Any]
) -> None:
    prior = tiny_prior(attn_type=attn_type, dropout=0.1, **changes)
    state = prior.state_dict()
    if attn_type == "full":
        state |= {f"attn_stack.attn_nets.{i}.attn.attn.mask": torch.ones(128, 128).tril() for i in range(2)}
    path = write(tmp_path / "gpt", prior, state, callbacks={lightning: {"best_model_score": torch.tensor(3.0)}})
    loaded = load_prior(path)
    assert_same_state(loaded, prior)
    if prior.config.n_cond_frames:
        assert loaded.config == prior.config
        assert_same_state(load_frame_encoder(path), prior.resnet)


def test_a_written_vqvae_is_read(vqvae: VQVAE, tmp_path: Path) -> None:
    loaded = load_vqvae(write(tmp_path / "vqvae", vqvae, args={"downsample": [4, 2, 2]}))
    assert_same_state(loaded, vqvae)
    assert loaded.config == vqvae.config
    assert not loaded.codebook._need_init


class Intruder:
    """Unpickling it runs a command."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


def test_a_file_that_names_foreign_code_is_refused_by_that_name_and_runs_nothing(vqvae: VQVAE, tmp_path: Path) -> None:
    path = write(tmp_path / "vqvae", vqvae, callbacks=Intruder(tmp_path / "ran"))
    with pytest.raises(UnsafeCheckpoint, match=r"mkdir") as refused:
        load_vqvae(path)
    assert refused.value.names == [f"{os.mkdir.__module__}.mkdir"]
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("module", ["pytorch_lightningrod.callbacks", "lightning.pytorch"])
def test_only_lightnings_own_names_are_stood_in_for(
    vqvae: VQVAE, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    fake = ModuleType(module)
    fake.Thing = type("Thing", (), {"__module__": module})
    package = module.partition(".")[0]
    monkeypatch.setitem(sys.modules, package, ModuleType(package))
    monkeypatch.setitem(sys.modules, module, fake)
    path = write(tmp_path / "vqvae", vqvae, callbacks={fake.Thing: 1})
    with pytest.raises(UnsafeCheckpoint, match=rf"{module}\.Thing"):
        load_vqvae(path)


def test_reading_leaves_no_name_allowed_behind(vqvae: VQVAE, tmp_path: Path) -> None:
    before = set(torch.serialization.get_safe_globals())
    load_vqvae(write(tmp_path / "vqvae", vqvae))
    assert set(torch.serialization.get_safe_globals()) == before


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        ({"n_codes": 32}, "n_codes: the command line says 32, the tensors 16"),
        ({"n_res_layers": 4}, "n_res_layers"),
        ({"downsample": (8, 2, 2)}, "takes 3 convolutions, the tensors have 2"),
        ({"downsample": None}, "downsample: expected three numbers"),
        ({"resolution": "large"}, "resolution: expected a number"),
        ({"resolution": 17}, "does not divide"),
    ],
)
def test_a_vqvae_whose_numbers_do_not_agree_is_refused(
    vqvae: VQVAE, tmp_path: Path, args: dict[str, Any], reason: str
) -> None:
    with pytest.raises(CheckpointMismatch, match=reason):
        load_vqvae(write(tmp_path / "vqvae", vqvae, args=args))


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        ({"hidden_dim": 48}, "hidden_dim: the command line says 48, the tensors 24"),
        ({"layers": 3}, "layers"),
        ({"n_cond_frames": 0}, "n_cond_frames"),
        ({"heads": None}, "heads: expected a number"),
        ({"attn_type": "axial"}, "full or sparse"),
        ({"class_cond": True, "class_cond_dim": 4}, "class_cond_dim"),
        ({"resolution": 32}, r"frames: a stride of \(1, 4, 4\)"),
    ],
)
def test_a_prior_whose_numbers_do_not_agree_is_refused(
    tiny_prior: Callable[..., Prior], tmp_path: Path, args: dict[str, Any], reason: str
) -> None:
    with pytest.raises(CheckpointMismatch, match=reason):
        load_prior(write(tmp_path / "gpt", tiny_prior(), args=args))


def test_masks_of_full_attention_in_a_sparse_prior_are_refused(
    tiny_prior: Callable[..., Prior], tmp_path: Path
) -> None:
    prior = tiny_prior(attn_type="sparse")
    mask = {"attn_stack.attn_nets.0.attn.attn.mask": torch.ones(128, 128).tril()}
    with pytest.raises(CheckpointMismatch, match="masks of full attention"):
        load_prior(write(tmp_path / "gpt", prior, prior.state_dict() | mask))


def test_missing_and_foreign_tensors_are_refused_by_name(vqvae: VQVAE, tmp_path: Path) -> None:
    state = vqvae.state_dict()
    state["decoder.extra"] = state.pop("decoder.convts.0.convt.bias")
    with pytest.raises(CheckpointMismatch, match=r"(?s)convts\.0\.convt\.bias.*decoder\.extra"):
        load_vqvae(write(tmp_path / "vqvae", vqvae, state))


def test_a_vqvae_is_no_prior_and_has_no_frame_encoder(vqvae: VQVAE, tmp_path: Path) -> None:
    path = write(tmp_path / "vqvae", vqvae)
    with pytest.raises(CheckpointMismatch, match=r"attn_stack\.pos_embd"):
        load_prior(path)
    with pytest.raises(CheckpointMismatch, match=r"no resnet\.\*"):
        load_frame_encoder(path)


def test_files_of_another_layout_are_refused(tmp_path: Path) -> None:
    text, broken, plain, bare = (tmp_path / name for name in ("text", "broken", "plain", "bare"))
    text.write_text("<html>Sorry, the file you have requested does not exist.</html>")
    broken.write_bytes(b"PK\x03\x04 and no more")
    torch.save({"weight": torch.zeros(1)}, plain)
    torch.save({"state_dict": {"weight": torch.zeros(1)}}, bare)
    for path, reason in ((text, "no zip"), (broken, "not load"), (plain, "state_dict"), (bare, "command line")):
        with pytest.raises(NotACheckpoint, match=reason):
            load_vqvae(path)


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_vqvae(tmp_path / "nothing")
