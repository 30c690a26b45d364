"""Whole runs on tiny models: what they leave, how they resume, where they start from."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from training.commands.pretrain import main
from training.history import read_history
from training.pretrain.config import PriorRunConfig, VQVAERunConfig
from training.pretrain.trainer import pretrain_prior, pretrain_vqvae
from training.pretrain.weights import WeightsError, read_frame_encoder, read_prior, read_vqvae
from training.run import RunError
from training.videogpt.resnet import FrameEncoder

MakeVQVAE = Callable[..., VQVAERunConfig]
MakePrior = Callable[..., PriorRunConfig]


def interrupt_in_epoch(monkeypatch: pytest.MonkeyPatch, module: str, epoch: int) -> None:
    """Fail in the middle of an epoch."""

    def fail(self: Any, *_: Any) -> None:
        if self.trainer.current_epoch == epoch and self.trainer.global_step % 2 == 1:
            raise RuntimeError("power cut")

    monkeypatch.setattr(f"{module}.on_train_batch_end", fail)


def assert_same_run(one: Path, other: Path, file: str) -> None:
    weights, others = load_file(one / file), load_file(other / file)
    assert weights.keys() == others.keys()
    assert all(torch.equal(weights[name], others[name]) for name in weights)
    assert read_history(one / "history.csv") == read_history(other / "history.csv")


def test_a_resumed_vqvae_ends_with_the_same_weights_to_the_bit(
    tmp_path: Path, vqvae_config: MakeVQVAE, monkeypatch: pytest.MonkeyPatch
) -> None:
    augment = {"mirror": 0.5, "crop_px": 2, "colour": 0.5, "noise": 0.5}
    whole, torn = (vqvae_config(tmp_path / name, epochs=3, augment=augment) for name in ("whole", "torn"))
    pretrain_vqvae(whole)
    with monkeypatch.context() as patch:
        interrupt_in_epoch(patch, "training.pretrain.vqvae_module.TrainVQVAE", 1)
        with pytest.raises(RuntimeError, match="power cut"):
            pretrain_vqvae(torn)
    assert not (torn.out / "run.json").exists()
    with pytest.raises(WeightsError, match="has `robomask pretrain vqvae` ended"):
        read_vqvae(torn.out)
    pretrain_vqvae(torn)
    assert_same_run(whole.out, torn.out, "vqvae.safetensors")


def test_a_run_that_goes_on_in_another_folder_ends_with_its_best_epoch(
    tmp_path: Path, vqvae_config: MakeVQVAE, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(self: Any) -> None:
        if self.trainer.current_epoch == 2:
            for weights in self.parameters():
                weights.data.mul_(10)

    module = "training.pretrain.vqvae_module.TrainVQVAE"
    monkeypatch.setattr(f"{module}.on_train_epoch_start", diverge, raising=False)
    whole, torn = (vqvae_config(tmp_path / name, epochs=3) for name in ("whole", "torn"))
    best = pretrain_vqvae(whole)
    assert best["epoch"] < 2
    with monkeypatch.context() as patch:
        interrupt_in_epoch(patch, module, 2)
        with pytest.raises(RuntimeError, match="power cut"):
            pretrain_vqvae(torn)
    moved = torn.out.rename(tmp_path / "moved")
    assert pretrain_vqvae(vqvae_config(moved, epochs=3)) == best
    assert_same_run(whole.out, moved, "vqvae.safetensors")


def test_a_run_that_has_lost_its_best_epoch_does_not_end_with_another(tmp_path: Path, vqvae_config: MakeVQVAE) -> None:
    run = vqvae_config(tmp_path / "run")
    pretrain_vqvae(run)
    best = run.out / "checkpoints" / "best.ckpt"
    content = torch.load(best, weights_only=True)
    torch.save({**content, "epoch": 7}, best)
    with pytest.raises(RunError, match="found those of epoch 7"):
        pretrain_vqvae(run)


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_run_that_has_done_more_epochs_is_told_how_many(tmp_path: Path, vqvae_config: MakeVQVAE, epochs: int) -> None:
    run = vqvae_config(tmp_path / "run", epochs=3)
    pretrain_vqvae(run)
    with pytest.raises(RunError, match=rf"at least the 3 epochs .* got {epochs}: set --epochs 3"):
        pretrain_vqvae(vqvae_config(run.out, epochs=epochs))
    assert json.loads((run.out / "run.json").read_text())["config"]["epochs"] == 3


@pytest.mark.parametrize("encoder", ["collapsed", "published"])
def test_a_resumed_prior_ends_with_the_same_weights_to_the_bit(
    tmp_path: Path, prior_config: MakePrior, monkeypatch: pytest.MonkeyPatch, encoder: str
) -> None:
    whole, torn = (prior_config(tmp_path / name, epochs=3, encoder=encoder) for name in ("whole", "torn"))
    pretrain_prior(whole)
    with monkeypatch.context() as patch:
        interrupt_in_epoch(patch, "training.pretrain.prior_module.TrainPrior", 1)
        with pytest.raises(RuntimeError, match="power cut"):
            pretrain_prior(torn)
    pretrain_prior(torn)
    assert_same_run(whole.out, torn.out, "prior.safetensors")


def test_the_commands_leave_run_folders_that_say_what_made_them(
    tmp_path: Path, vqvae_config: MakeVQVAE, prior_config: MakePrior, capsys: pytest.CaptureFixture[str]
) -> None:
    vqvae, prior = tmp_path / "vqvae", tmp_path / "prior"
    assert main(["vqvae", *flags(vqvae_config(vqvae, seed=7))]) == 0
    assert main(["prior", *flags(prior_config(prior, vqvae=vqvae))]) == 0
    assert "val_loss" in capsys.readouterr().out
    for folder in (vqvae, prior):
        record = json.loads((folder / "run.json").read_text())
        assert record["config"]["out"] == str(folder)
        assert record["data"][0]["whole"]
        assert len(record["data"][0]["sha256"]) == 64
        assert record["data"][0]["val_scenes"]
        assert {"torch", "lightning", "numpy"} <= record["versions"].keys()
        assert list((folder / "tensorboard").iterdir())
        Image.open(folder / "curves.png").verify()
        Image.open(folder / "pictures" / "step-0000004.png").verify()
        assert Image.open(folder / "pictures" / "step-0000004.gif").n_frames == 8
    assert json.loads((vqvae / "run.json").read_text())["config"]["seed"] == 7
    history = read_history(prior / "history.csv")
    assert [row["step"] for row in history] == ["2", "4"]
    assert all(float(history[-1][name]) >= 0 for name in ("train_loss", "val_loss", "val_first_grid", "val_unigram"))


def flags(config: VQVAERunConfig | PriorRunConfig) -> list[str]:
    """A configuration as a command line."""
    arguments = []
    for name, value in config.model_dump(mode="json", exclude_none=True).items():
        for inner, setting in value.items() if isinstance(value, dict) else [("", value)]:
            flag = ".".join(filter(None, (name, inner))).replace("_", "-")
            if isinstance(setting, bool):
                arguments.append(f"--{flag}" if setting else f"--no-{flag}")
            elif setting != []:
                arguments += [f"--{flag}", *map(str, setting if isinstance(setting, list) else [setting])]
    return arguments


def test_the_frame_encoder_of_a_prior_stands_on_its_own(tmp_path: Path, prior_config: MakePrior) -> None:
    config = prior_config(tmp_path / "prior")
    pretrain_prior(config)
    state = load_file(config.out / "frame_encoder.safetensors")
    published = FrameEncoder((1, 1, 1, 1), 12).state_dict()
    assert {name: tensor.shape for name, tensor in state.items()} == {n: t.shape for n, t in published.items()}
    frames = torch.rand(2, 3, 1, 16, 16) - 0.5
    with torch.no_grad():
        wanted = read_prior(config.out).resnet(frames)
        assert torch.equal(read_frame_encoder(config.out)(frames), wanted)
    assert read_prior(config.out).config.resnet_layers == (1, 1, 1, 1)


def test_runs_start_from_the_weights_of_others(
    tmp_path: Path, vqvae_config: MakeVQVAE, prior_config: MakePrior, vqvae_run: Path
) -> None:
    still = {"lr": 1e-12}
    again = vqvae_config(tmp_path / "again", init=vqvae_run, optim=still, epochs=1)
    pretrain_vqvae(again)
    before, after = read_vqvae(vqvae_run), read_vqvae(again.out)
    assert torch.allclose(before.encoder.convs[0].conv.weight, after.encoder.convs[0].conv.weight, atol=1e-6)

    first = prior_config(tmp_path / "first")
    pretrain_prior(first)
    second = prior_config(tmp_path / "second", vqvae=None, init=first.out, optim=still, epochs=1)
    pretrain_prior(second)
    one, other = read_prior(first.out).state_dict(), read_prior(second.out).state_dict()
    assert all(torch.allclose(one[name], other[name], atol=1e-6) for name in one)


@pytest.mark.parametrize("n_frames", [1, 4])
def test_a_prior_learns_to_use_a_frozen_frame_encoder(tmp_path: Path, prior_config: MakePrior, n_frames: int) -> None:
    size = {**prior_config(tmp_path).model.model_dump(), "n_cond_frames": n_frames}
    first = prior_config(tmp_path / "first", model=size, encoder="published")
    pretrain_prior(first)
    second = prior_config(tmp_path / "second", model=size, frame_encoder=first.out, encoder="frozen", seed=5)
    pretrain_prior(second)
    one, other = read_prior(first.out).state_dict(), read_prior(second.out).state_dict()
    encoder = [name for name in one if name.startswith("resnet.")]
    assert encoder
    assert all(torch.equal(one[name], other[name]) for name in encoder)
    assert not torch.equal(one["fc_in.weight"], other["fc_in.weight"])


def test_a_run_goes_on_with_the_weights_it_was_begun_with_alone(tmp_path: Path, prior_config: MakePrior) -> None:
    first, other = (prior_config(tmp_path / name, seed=seed) for seed, name in enumerate(("first", "other")))
    for config in (first, other):
        pretrain_prior(config)
    begun = prior_config(tmp_path / "next", frame_encoder=first.out)
    pretrain_prior(begun)
    with pytest.raises(RunError, match=r"weights\.frame_encoder"):
        pretrain_prior(prior_config(begun.out, frame_encoder=other.out))
    moved = first.out.rename(tmp_path / "moved")
    pretrain_prior(prior_config(begun.out, frame_encoder=moved))


def test_a_frame_encoder_of_another_size_is_refused(tmp_path: Path, prior_config: MakePrior) -> None:
    first = prior_config(tmp_path / "first")
    pretrain_prior(first)
    size = {**first.model.model_dump(), "resnet_dim": 24}
    with pytest.raises(WeightsError, match="expected a frame encoder of"):
        pretrain_prior(prior_config(tmp_path / "second", frame_encoder=first.out, model=size))


def test_weights_of_another_size_are_refused_by_the_numbers_that_differ(
    tmp_path: Path, vqvae_config: MakeVQVAE, vqvae_run: Path
) -> None:
    size = {**vqvae_config(tmp_path).model.model_dump(), "n_codes": 32}
    with pytest.raises(WeightsError, match="n_codes=16 not 32"):
        pretrain_vqvae(vqvae_config(tmp_path / "run", init=vqvae_run, model=size))


def test_runs_learn(tmp_path: Path, vqvae_config: MakeVQVAE, prior_config: MakePrior) -> None:
    longer = {"epochs": 3, "steps_per_epoch": 30, "batch_size": 4, "optim": {"lr": 3e-3}}
    vqvae = vqvae_config(tmp_path / "vqvae", **longer)
    pretrain_vqvae(vqvae)
    rows = read_history(vqvae.out / "history.csv")
    assert float(rows[-1]["train_recon"]) < 0.75 * float(rows[0]["train_recon"])
    assert float(rows[-1]["val_perplexity"]) > 2
    prior = prior_config(tmp_path / "prior", vqvae=vqvae.out, **longer)
    metrics = pretrain_prior(prior)
    assert metrics["val_loss"] < np.log(16)
    assert metrics["train_loss"] < 0.8 * np.log(16)


def test_what_cannot_be_read_is_named(
    tmp_path: Path, prior_config: MakePrior, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = flags(prior_config(tmp_path / "run", vqvae=tmp_path / "absent"))
    assert main(["prior", *arguments]) == 1
    assert "or a published checkpoint, found none: has `robomask pretrain vqvae` ended?" in capsys.readouterr().err
    assert main(["prior", *arguments, "--data.clips", str(tmp_path / "gone.npz")]) == 1
    assert main([]) == 2
    assert main(["--help"]) == 0


def test_weights_and_biases_is_asked_for_by_name_where_it_is_missing(
    tmp_path: Path, vqvae_config: MakeVQVAE, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ValueError, match="pip install wandb"):
        pretrain_vqvae(vqvae_config(tmp_path / "run", log={"wandb": "offline"}))


def test_two_processes_train_together(tmp_path: Path, vqvae_config: MakeVQVAE) -> None:
    script = tmp_path / "pretrain.py"
    script.write_text("import sys\nfrom training.commands.pretrain import main\nsys.exit(main(sys.argv[1:]))\n")
    config = vqvae_config(tmp_path / "run", machine={"devices": 2, "accelerator": "cpu", "precision": "32-true"})
    done = subprocess.run(
        [sys.executable, str(script), "vqvae", *flags(config)],
        capture_output=True, text=True, timeout=200, check=False, cwd=Path(__file__).parents[3],
        env={"PYTHONPATH": str(Path(__file__).parents[3]), "OMP_NUM_THREADS": "1", "PATH": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [row["step"] for row in read_history(config.out / "history.csv")] == ["2", "4"]
    read_vqvae(config.out)
