"""Whole runs on the toy data set with a small encoder."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from PIL import Image
from safetensors.torch import save_file

from training.averaging import RunningAverage
from training.commands.train import main
from training.config import AugmentConfig, DataConfig, ModelConfig, OptimConfig, TrainConfig
from training.data.frames import FrameSet
from training.finetune import Finetune
from training.history import read_history
from training.run import HISTORY, WEIGHTS, RunError, load_segmenter, read_run
from training.segmenter import build_segmenter
from training.start import start_of
from training.trainer import predict, train
from training.videogpt.resnet import FrameEncoder

SMALL = ModelConfig(layers=(1, 1, 1, 1))


def config(folder: Path, toys: FrameSet, out: str, **changes: object) -> TrainConfig:
    data = folder / "toys.npz"
    np.savez(data, frames=toys.frames, masks=toys.masks, scene=toys.scene)
    settings = {
        "out": folder / out,
        "data": DataConfig(train=(data,), split="seeded", val_fraction=0.3),
        "model": SMALL,
        "augment": AugmentConfig(),
        "optim": OptimConfig(warmup_steps=2),
        "epochs": 2,
        "steps_per_epoch": 2,
        "batch_size": 2,
        "machine": {"precision": "32-true"},
        **changes,
    }
    return TrainConfig.model_validate(settings)


class _PowerCut(Callback):
    """Before the first step."""

    def on_train_start(self, *_: object) -> None:
        raise RuntimeError("power cut")


def test_a_resumed_run_ends_with_the_same_weights_to_the_bit(
    tmp_path: Path, toys: FrameSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = config(tmp_path, toys, "whole", epochs=3)
    train(whole)

    torn = config(tmp_path, toys, "torn", epochs=3)
    passes = 0

    def interrupt(*_: object) -> None:
        nonlocal passes
        passes += 1
        if passes == 2:
            raise RuntimeError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr("training.finetune.Finetune.on_train_epoch_start", interrupt, raising=False)
        with pytest.raises(RuntimeError, match="power cut"):
            train(torn)
    with pytest.raises(RunError, match="has `robomask train` ended"):
        load_segmenter(torn.out)
    train(torn)

    one, other = load_segmenter(whole.out).state_dict(), load_segmenter(torn.out).state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert read_history(torn.out / HISTORY) == read_history(whole.out / HISTORY)
    assert [row["step"] for row in read_history(torn.out / HISTORY)] == ["2", "4", "6"]


def test_a_setting_that_came_after_a_run_was_begun_is_at_its_default(tmp_path: Path, toys: FrameSet) -> None:
    train(config(tmp_path, toys, "run", epochs=1))
    file = tmp_path / "run" / "begun.json"
    before = json.loads(file.read_text())
    del before["augment.blank"]
    file.write_text(json.dumps(before))
    train(config(tmp_path, toys, "run", epochs=2))
    with pytest.raises(RunError, match=r"augment\.blank 0\.5 after 0\.0"):
        train(config(tmp_path, toys, "run", epochs=3, augment=AugmentConfig(blank=0.5)))


def test_a_folder_goes_on_with_the_split_and_frames_it_was_begun_with_or_not_at_all(
    tmp_path: Path, toys: FrameSet
) -> None:
    folds = DataConfig(train=(tmp_path / "toys.npz",), folds=3, fold=0)
    begun = config(tmp_path, toys, "run", data=folds, epochs=1)
    train(begun)
    other = config(tmp_path, toys, "run", data=folds.model_copy(update={"fold": 1}), epochs=1)
    with pytest.raises(RunError, match=r"data\.fold 1 after 0"):
        train(other)
    longer = config(tmp_path, toys, "run", data=folds, epochs=2)
    assert train(longer) is not None
    with pytest.raises(RunError, match="at least the 2 epochs"):
        train(begun)
    np.savez(tmp_path / "toys.npz", frames=toys.frames, masks=1 - toys.masks, scene=toys.scene)
    with pytest.raises(RunError, match="data_sha256"):
        train(longer)


def test_a_run_that_has_done_more_epochs_is_told_how_many(
    tmp_path: Path, toys: FrameSet, capsys: pytest.CaptureFixture[str]
) -> None:
    run = config(tmp_path, toys, "run", epochs=3)
    train(run)
    arguments = [
        *("--out", str(run.out), "--data.train", str(run.data.train[0]), "--data.split", "seeded"),
        *("--data.val-fraction", "0.3", "--model.layers", "1", "1", "1", "1", "--optim.warmup-steps", "2"),
        *("--steps-per-epoch", "2", "--batch-size", "2", "--precision", "32-true"),
    ]
    for epochs in (1, 2):
        assert main([*arguments, "--epochs", str(epochs)]) == 1
        told = f"at least the 3 epochs that this run has done, got {epochs}: set --epochs 3"
        assert told in capsys.readouterr().err
    assert read_run(run.out).config.epochs == 3


def test_frames_do_not_change_sides_while_a_run_is_under_way(tmp_path: Path, toys: FrameSet) -> None:
    file = tmp_path / "marked.npz"
    marked = DataConfig(train=(file,))
    held = np.isin(toys.scene, ["toy4", "toy5"])
    for epochs, val in enumerate((held, ~held), start=1):
        marks = np.where(val, "val", "train")
        np.savez(file, frames=toys.frames, masks=toys.masks, scene=toys.scene, split=marks)
        run = config(tmp_path, toys, "run", data=marked, epochs=epochs)
        if epochs == 1:
            train(run)
    with pytest.raises(RunError, match="sides_sha256"):
        train(run)


def test_a_finished_run_ends_with_the_same_weights_again(tmp_path: Path, toys: FrameSet) -> None:
    run = config(tmp_path, toys, "run", epochs=2)
    result = train(run)
    weights = (run.out / WEIGHTS).read_bytes()
    assert train(run) == result
    assert (run.out / WEIGHTS).read_bytes() == weights


def test_a_run_that_could_not_start_may_start_with_other_settings(tmp_path: Path, toys: FrameSet) -> None:
    shares = DataConfig(train=(tmp_path / "toys.npz",), split="all", shares=(1.0,))
    with pytest.raises(RuntimeError, match="power cut"):
        train(config(tmp_path, toys, "run"), callbacks=[_PowerCut()])
    assert train(config(tmp_path, toys, "run", data=shares)) is None


def test_folds_do_not_start_from_weights_that_know_what_is_held_out(
    tmp_path: Path, toys: FrameSet, toy_bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folds = DataConfig(train=(tmp_path / "toys.npz",), folds=3, fold=0)
    train(config(tmp_path, toys, "first", epochs=1, data=folds.model_copy(update={"fold": 1})))
    np.savez(tmp_path / "other.npz", frames=toys.frames, masks=toys.masks, scene=np.char.add("other-", toys.scene))
    others = DataConfig(train=(tmp_path / "other.npz",), split="seeded", val_fraction=0.3)
    begun = SMALL.model_copy(update={"init": tmp_path / "first"})
    train(config(tmp_path, toys, "between", epochs=1, data=others, model=begun))
    for start, words in (
        (tmp_path / "first", "first: .* of them in its training"),
        (tmp_path / "between", "first: .* of them in its training"),
        (toy_bundle, "does not say"),
    ):
        told = SMALL.model_copy(update={"init": start})
        with pytest.raises(ValueError, match=words):
            train(config(tmp_path, toys, "second", epochs=1, data=folds, model=told))
    assert not (tmp_path / "second").exists()
    again = DataConfig(train=(tmp_path / "toys.npz",), split="seeded", val_fraction=0.5)
    train(config(tmp_path, toys, "third", epochs=1, data=again, model=begun))
    assert "scenes held out: the score will not be" in caplog.text
    assert read_run(tmp_path / "third").record["known_scenes"]


def test_the_average_of_a_short_run_is_of_its_end() -> None:
    average = RunningAverage(0.998)
    mean = torch.zeros(())
    for step in range(1, 200):
        mean = average._kwargs["avg_fn"](mean, torch.tensor(float(step > 50)), torch.tensor(step))
    assert mean > 0.99


def test_the_command_leaves_a_run_folder_that_says_what_made_it(
    tmp_path: Path, toys: FrameSet, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = config(tmp_path, toys, "run")
    arguments = [
        *("--out", str(wanted.out), "--data.train", json.dumps([str(wanted.data.train[0])])),
        *("--data.split", "seeded", "--data.val-fraction", "0.3", "--model.layers", "[1,1,1,1]"),
        *("--epochs", "2", "--steps-per-epoch", "2", "--batch-size", "2", "--seed", "5"),
    ]
    assert main(arguments) == 0
    assert "held-out frames" in capsys.readouterr().out
    run = read_run(wanted.out)
    assert run.config.seed == 5
    assert not set(run.record["split"]["train"]) & set(run.record["split"]["val"])
    assert run.record["data"][0]["sha256"] == toys.sha256()
    assert run.record["scores"]["val"]["n"] > 0
    assert list((wanted.out / "tensorboard").glob("events.*"))
    for picture in ("curves.png", "predictions.png"):
        Image.open(wanted.out / picture).verify()


def test_a_run_goes_on_from_the_weights_of_another(tmp_path: Path, toys: FrameSet) -> None:
    first = config(tmp_path, toys, "first")
    train(first)
    second = config(
        tmp_path, toys, "second", model=SMALL.model_copy(update={"init": first.out}), optim=OptimConfig(lr=1e-9)
    )
    train(second)
    before, after = (predict(load_segmenter(c.out), toys.frames[:2]) for c in (first, second))
    np.testing.assert_allclose(before, after, atol=1e-4)


def test_the_network_learns_the_toy_task(tmp_path: Path, toys: FrameSet) -> None:
    result = train(
        config(
            tmp_path, toys, "learned",
            augment=AugmentConfig(occlude=0, blur=0, noise=0, compress=0, stamp=0),
            optim=OptimConfig(lr=1e-3, warmup_steps=5, ema_decay=0.8), epochs=5, steps_per_epoch=8, batch_size=4,
        )
    )  # fmt: skip
    assert result.mean > 0.8


def test_a_data_set_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    absent = tmp_path / "absent.npz"
    assert main(["--out", str(tmp_path / "run"), "--data.train", json.dumps([str(absent)])]) == 1
    assert "absent.npz" in capsys.readouterr().err


def test_an_unknown_setting_is_an_error() -> None:
    with pytest.raises(ValueError, match="learning_rate"):
        OptimConfig.model_validate({"learning_rate": 1.0})


def test_training_on_cpu_leaves_no_half_precision_behind(tmp_path: Path, toys: FrameSet) -> None:
    settings = config(tmp_path, toys, "half", machine={"precision": "bf16-mixed"}, epochs=1)
    train(settings)
    assert {p.dtype for p in load_segmenter(settings.out).parameters()} == {torch.float32}


def test_a_run_starts_from_a_pretrained_encoder_and_a_new_head(tmp_path: Path, toys: FrameSet) -> None:
    published = FrameEncoder((1, 1, 1, 1))
    weights = tmp_path / "frame_encoder.safetensors"
    save_file(published.state_dict(), weights)
    start = start_of(SMALL.model_copy(update={"pretrained": weights})).segmenter
    clip = torch.rand(2, 3, 1, 64, 64) - 0.5
    with torch.no_grad():
        torch.testing.assert_close(start.encoder(clip[:, :, 0]), published(clip)[:, 0], atol=1e-4, rtol=1e-4)

    run = config(tmp_path, toys, "run", model={"layers": [1, 1, 1, 1], "pretrained": weights}, epochs=1)
    train(run)
    recorded = read_run(run.out).record["pretrained"]
    assert (recorded["name"], len(recorded["sha256"])) == (weights.name, 64)


def test_a_pretrained_encoder_of_another_size_is_refused_with_its_size(tmp_path: Path) -> None:
    weights = tmp_path / "frame_encoder.safetensors"
    save_file(FrameEncoder((1, 1, 2, 1)).state_dict(), weights)
    with pytest.raises(ValueError, match=r"\[1, 1, 2, 1\] blocks"):
        start_of(SMALL.model_copy(update={"pretrained": weights}))


def test_two_starts_at_once_are_an_error() -> None:
    with pytest.raises(ValueError, match="either init"):
        ModelConfig(init=Path("a"), pretrained=Path("b"))


def test_groups_of_the_encoder_that_are_left_as_they_are_keep_their_weights_to_the_bit(
    tmp_path: Path, toys: FrameSet
) -> None:
    first = config(tmp_path, toys, "first", epochs=1)
    train(first)
    model = SMALL.model_copy(update={"init": first.out, "frozen_groups": (3, 4)})
    second = config(tmp_path, toys, "second", epochs=1, model=model)
    train(second)
    before, after = (load_segmenter(each.out).encoder.state_dict() for each in (first, second))
    assert {name.split(".")[0] for name, weight in before.items() if not torch.equal(weight, after[name])} == {
        "stem", "group1", "group2"
    }  # fmt: skip


def test_the_encoder_can_learn_more_slowly_than_the_head() -> None:
    optim = OptimConfig(lr=1e-3, encoder_lr_ratio=0.1, weight_decay=0.5)
    groups = Finetune(build_segmenter((1, 1, 1, 1)), optim, 10).configure_optimizers()["optimizer"].param_groups
    assert [(group["initial_lr"], group["weight_decay"]) for group in groups] == [
        (pytest.approx(1e-4), 0.5), (pytest.approx(1e-4), 0.0), (1e-3, 0.5), (1e-3, 0.0),
    ]  # fmt: skip


def test_several_data_sets_train_with_their_shares_and_the_marked_one_is_held_out(
    tmp_path: Path, toys: FrameSet, capsys: pytest.CaptureFixture[str]
) -> None:
    real, simulated = tmp_path / "real.npz", tmp_path / "simulated.npz"
    split = np.where(toys.scene == "toy1", "val", "train")
    np.savez(real, frames=toys.frames, masks=toys.masks, scene=toys.scene, split=split)
    np.savez(simulated, frames=toys.frames[:6], masks=toys.masks[:6])
    arguments = [
        *("--out", str(tmp_path / "run"), "--data.train", str(real), str(simulated), "--data.shares", "0.5", "0.5"),
        *("--model.layers", "1", "1", "1", "1", "--epochs", "1", "--steps-per-epoch", "1", "--batch-size", "2"),
    ]
    assert main(arguments) == 0
    assert "on 4 held-out frames" in capsys.readouterr().out
    assert read_run(tmp_path / "run").record["frames"] == {"train": 26, "val": 4}


def test_a_run_on_everything_holds_out_nothing_and_ends_all_the_same(
    tmp_path: Path, toys: FrameSet, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "toys.npz"
    np.savez(data, frames=toys.frames, masks=toys.masks, scene=toys.scene)
    arguments = [
        *("--out", str(tmp_path / "run"), "--data.train", str(data), "--data.split", "all"),
        *("--model.layers", "1", "1", "1", "1", "--epochs", "1", "--steps-per-epoch", "1", "--batch-size", "2"),
    ]
    assert main(arguments) == 0
    assert "none held out" in capsys.readouterr().out
    assert read_run(tmp_path / "run").record["frames"] == {"train": len(toys), "val": 0}
    assert load_segmenter(tmp_path / "run")
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").is_file()


def test_a_run_measures_on_another_data_set(tmp_path: Path, toys: FrameSet) -> None:
    other = tmp_path / "other.npz"
    np.savez(other, frames=toys.frames[:6], masks=toys.masks[:6], scene=np.full(6, "elsewhere"))
    data = DataConfig(train=(tmp_path / "toys.npz",), val=other)
    run = config(tmp_path, toys, "run", data=data, epochs=1)
    result = train(run)
    assert result is not None
    assert result.n == 6
    record = read_run(run.out).record
    assert record["frames"] == {"train": len(toys), "val": 6}
    assert [entry["name"] for entry in record["data"]] == ["toys.npz", "other.npz"]
    with pytest.raises(ValueError, match="leaves nothing to split"):
        DataConfig(train=(other,), val=other, split="all")
