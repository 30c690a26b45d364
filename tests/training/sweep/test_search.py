"""Searches of a few tiny trials."""

import json
from pathlib import Path

import numpy as np
import optuna
import pytest

from training.commands.sweep import main
from training.data.frames import FrameSet
from training.run import read_run
from training.sweep.config import SweepConfig
from training.sweep.search import draw, open_study, revive, sweep


@pytest.fixture
def call(tmp_path: Path, toys: FrameSet) -> list[str]:
    np.savez(tmp_path / "toys.npz", frames=toys.frames, masks=toys.masks, scene=toys.scene)
    return [
        *("--out", str(tmp_path / "search"), "--data.train", str(tmp_path / "toys.npz"), "--data.folds", "3"),
        *("--model.encoder", "none", "--model.head", "unet", "--model.width", "2", "--precision", "32-true"),
        *("--epochs", "2", "--steps-per-epoch", "1", "--batch-size", "2", "--optim.warmup-steps", "1"),
        *("--threads", "1", "--startup-trials", "1", "--warmup-epochs", "0", "--space.lr", "0.001", "0.01"),
    ]


def test_a_search_ends_with_its_best_trial_and_goes_on_where_it_was(
    call: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "search"
    assert main([*call, "--trials", "2"]) == 0
    assert "best.json" in capsys.readouterr().out
    first = json.loads((out / "trials.json").read_text())
    assert len(first) == 2
    assert main([*call, "--trials", "3"]) == 0
    after = json.loads((out / "trials.json").read_text())
    assert len(after) == 3
    assert {row["folder"] for row in first} < {row["folder"] for row in after}
    best = json.loads((out / "best.json").read_text())
    assert best["iou"] == max(row["iou"] for row in after if row["state"] == "complete")
    run = read_run(out / best["folder"])
    assert run.config.optim.lr == best["drawn"]["lr"]
    assert list((out / best["folder"] / "tensorboard").glob("events.*"))
    assert not (out / best["folder"] / "checkpoints").exists()


def config(call: list[str], **changes: object) -> SweepConfig:
    given = {
        "out": Path(call[1]), "data": {"train": [call[3]], "folds": 3}, "epochs": 2, "steps_per_epoch": 1,
        "batch_size": 2, "model": {"encoder": "none", "head": "unet", "width": 2},
        "machine": {"precision": "32-true", "threads": 1, "devices": 1}, "optim": {"warmup_steps": 1}, **changes,
    }  # fmt: skip
    return SweepConfig.model_validate(given)


def test_an_interrupted_trial_is_taken_up_again_with_what_it_drew(call: list[str]) -> None:
    settings = config(call, trials=1)
    settings.out.mkdir()
    study = open_study(settings)
    drawn = draw(study.ask(), settings.space)  # and then the power went
    again = open_study(settings)
    revive(again)
    assert [trial.state.name for trial in again.trials] == ["FAIL", "WAITING"]
    best = sweep(settings)
    assert best["drawn"]["lr"] == drawn["lr"]
    assert [trial.state.name for trial in open_study(settings).trials] == ["FAIL", "COMPLETE"]


def test_a_search_goes_on_with_the_data_and_settings_it_was_begun_with_or_not_at_all(
    call: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = [*call, "--epochs", "1"]
    assert main([*call, "--trials", "1"]) == 0
    trials = (tmp_path / "search" / "trials.json").read_bytes()
    for flags, told in (
        (("--data.fold", "1"), "data.fold 1 after 0"),
        (("--epochs", "2"), "epochs 2 after 1"),
        (("--optim.warmup-steps", "0"), "optim.warmup_steps 0 after 1"),
        (("--space.optimiser", "adamw"), "space.optimiser ['adamw'] after ['adamw', 'adam', 'sgd']"),
    ):
        assert main([*call, *flags, "--trials", "2"]) == 1
        assert told in capsys.readouterr().err
    moved = (tmp_path / "toys.npz").rename(tmp_path / "moved.npz")
    with np.load(moved) as content:
        np.savez(tmp_path / "toys.npz", frames=content["frames"], masks=1 - content["masks"], scene=content["scene"])
    assert main([*call, "--trials", "2"]) == 1
    assert "data_sha256" in capsys.readouterr().err
    assert (tmp_path / "search" / "trials.json").read_bytes() == trials
    call[3] = str(moved)
    assert main([*call, "--startup-trials", "2", "--warmup-epochs", "1", "--trials", "2"]) == 0


def test_a_trial_below_the_median_is_cut_short(call: list[str]) -> None:
    settings = config(call, trials=2, epochs=3, startup_trials=0, warmup_epochs=0)
    settings.out.mkdir()
    study = open_study(settings)
    ahead = optuna.trial.create_trial(
        value=1.0, intermediate_values={0: 1.0, 1: 1.0, 2: 1.0}, user_attrs={"folder": "x"}
    )
    study.add_trial(ahead)
    sweep(settings)
    rows = json.loads((settings.out / "trials.json").read_text())
    assert [(row["state"], row["epochs"]) for row in rows] == [("complete", 3), ("pruned", 1)]


def test_a_search_without_scenes_held_out_is_refused(call: list[str]) -> None:
    with pytest.raises(ValueError, match="held out"):
        config(call, data={"train": ["a.npz"], "split": "all"})
    with pytest.raises(ValueError, match="lower first"):
        config(call, space={"lr": [1e-2, 1e-3]})
