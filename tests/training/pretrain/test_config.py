"""Presets, flags and the files that weights are read from."""

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic_settings import CliApp
from safetensors.torch import save_file

from training.pretrain.bench_encoder import main as bench
from training.pretrain.config import ClipDataConfig, PriorRunConfig, VQVAERunConfig
from training.pretrain.weights import WeightsError, read_frame_encoder, read_prior, read_vqvae
from training.videogpt.prior import Prior, PriorConfig
from training.videogpt.resnet import LATENT_DIM, LAYERS
from training.videogpt.vqvae import VQVAE, VQVAEConfig

CLIPS = {"clips": ["a.npz"]}
TINY = VQVAEConfig(
    embedding_dim=4, n_codes=16, n_hiddens=8, n_res_layers=1, downsample=(4, 4, 4), sequence_length=8, resolution=16
)


def test_the_preset_bair_has_the_published_numbers() -> None:
    vqvae = VQVAERunConfig.model_validate({"out": "v", "data": CLIPS})
    prior = PriorRunConfig.model_validate({"out": "p", "data": CLIPS, "vqvae": "v"})
    assert vqvae.model.build() == VQVAEConfig()
    assert prior.model.build(VQVAEConfig()) == PriorConfig()
    assert (vqvae.optim.lr, vqvae.optim.final_lr_ratio, vqvae.batch_size, vqvae.steps) == (3e-4, 1, 16, 200_000)
    assert (prior.optim.lr, prior.optim.final_lr_ratio, prior.batch_size) == (3e-4, 0, 8)
    assert vqvae.augment.mirror == prior.augment.colour == 0


def test_the_preset_cpu_is_small_but_for_the_frame_encoder() -> None:
    vqvae = VQVAERunConfig.model_validate({"out": "v", "preset": "cpu", "data": CLIPS}).model.build()
    prior = PriorRunConfig.model_validate({"out": "p", "preset": "cpu", "data": CLIPS, "vqvae": "v"}).model.build(vqvae)
    assert vqvae.latent_shape == (4, 16, 16)
    assert (prior.resnet_layers, prior.resnet_dim) == (LAYERS, LATENT_DIM)


def test_flags_go_before_the_preset() -> None:
    given: dict[str, Any] = {"out": "v", "preset": "cpu", "data": CLIPS, "model": {"n_codes": 7}, "epochs": 3}
    config = VQVAERunConfig.model_validate(given)
    assert (config.model.n_codes, config.epochs) == (7, 3)
    assert config.model.downsample == (4, 4, 4)
    assert VQVAERunConfig.model_validate_json(config.model_dump_json()) == config


def test_one_flag_of_a_group_leaves_the_others_to_the_preset() -> None:
    flags = ["--out", "p", "--preset", "cpu", "--data.clips", '["a.npz"]', "--vqvae", "v", "--optim.warmup-steps", "7"]
    flags += ["--model.layers", "2", "--augment.noise", "0", "--log.every-steps", "3"]
    given = CliApp.run(PriorRunConfig, cli_args=flags)
    preset = PriorRunConfig.model_validate({"out": "p", "preset": "cpu", "data": CLIPS, "vqvae": "v"})
    assert given.optim == preset.optim.model_copy(update={"warmup_steps": 7})
    assert given.model == preset.model.model_copy(update={"layers": 2})
    assert given.augment == preset.augment.model_copy(update={"noise": 0})


def test_settings_that_contradict_one_another_are_errors() -> None:
    with pytest.raises(ValueError, match="one positive share for each of 1 data sets"):
        ClipDataConfig.model_validate({**CLIPS, "shares": [1, 2]})
    for both_or_neither in ({}, {"vqvae": "v", "init": "w"}):
        with pytest.raises(ValueError, match="either vqvae or init"):
            PriorRunConfig.model_validate({"out": "p", "data": CLIPS, **both_or_neither})
    for alone, said in (
        ({"encoder": "frozen"}, "random weights would stay random"),
        ({"frame_encoder": "e", "model": {"n_cond_frames": 0}}, "a prior that sees no frames"),
    ):
        with pytest.raises(ValueError, match=said):
            PriorRunConfig.model_validate({"out": "p", "data": CLIPS, "vqvae": "v", **alone})
    with pytest.raises(ValueError, match="learning_rate"):
        VQVAERunConfig.model_validate({"out": "v", "data": CLIPS, "optim": {"learning_rate": 1}})


def test_published_checkpoints_are_starting_points(tmp_path: Path) -> None:
    prior = Prior(PriorConfig(vqvae=TINY, hidden_dim=12, heads=2, layers=1, attn_type="full", resnet_dim=12))
    args = {"sequence_length": 8, "resolution": 16, "heads": 2, "attn_type": "full", "downsample": (4, 4, 4)}
    for name, model in (("gpt", prior), ("vqvae", prior.vqvae)):
        hyper_parameters = {"args": argparse.Namespace(**args)}
        torch.save({"state_dict": model.state_dict(), "hyper_parameters": hyper_parameters}, tmp_path / name)
    assert read_vqvae(tmp_path / "vqvae").config == TINY
    read = read_prior(tmp_path / "gpt")
    assert read.config.hidden_dim == 12
    encoder = read_frame_encoder(tmp_path / "gpt").state_dict()
    assert all(torch.equal(tensor, encoder[name]) for name, tensor in read.resnet.state_dict().items())


@pytest.mark.parametrize("read", [read_vqvae, read_prior, read_frame_encoder])
def test_files_that_hold_something_else_are_refused_by_name(tmp_path: Path, read: Any) -> None:
    file = tmp_path / "odd.safetensors"
    save_file({"a": torch.zeros(1)}, file)
    with pytest.raises(WeightsError, match=r"odd\.safetensors"):
        read(file)
    file.write_bytes(b"nothing")
    with pytest.raises(WeightsError, match=r"odd\.safetensors"):
        read(file)
    (tmp_path / "checkpoint").write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="checkpoint"):
        read(tmp_path / "checkpoint")


def test_weights_that_do_not_fit_their_configuration_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "vqvae.safetensors"
    config = {"n_codes": 8, "embedding_dim": 4, "n_hiddens": 8, "n_res_layers": 1}
    save_file(VQVAE(TINY).state_dict(), file, {"config": json.dumps(config)})
    with pytest.raises(WeightsError, match="do not fit"):
        read_vqvae(file)


def test_the_benchmark_prints_both_forms_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(["--part", "encoder", "--batch-size", "1", "--steps", "1", "--precision", "32-true"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["published", "collapsed", "ratio"]
