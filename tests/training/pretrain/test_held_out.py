"""What is said of a prior about clips that its run held out."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from training.pretrain.config import PriorRunConfig
from training.pretrain.held_out import main, motion, nats_per_token
from training.pretrain.trainer import pretrain_prior
from training.pretrain.weights import read_prior


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, prior_config: Callable[..., PriorRunConfig]) -> PriorRunConfig:
    config = prior_config(tmp_path_factory.mktemp("prior") / "run")
    pretrain_prior(config)
    return config


def test_each_data_set_has_its_line_and_its_futures(
    run: PriorRunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(run.out), "--pictures", str(tmp_path / "pictures")]) == 0
    header, line, picture = capsys.readouterr().out.splitlines()
    assert header.split()[:4] == ["data", "set", "clips", "all"]
    name, clips, *nats = line.split()
    assert (name, clips) == ("squares.npz", "1")
    assert 0 < float(nats[0]) <= 1.05 * float(nats[-1])
    with Image.open(picture) as strip:
        assert strip.height > 3 * 16


def test_the_figure_is_that_of_the_run_itself(
    run: PriorRunConfig, capsys: pytest.CaptureFixture[str], tmp_path: Path, squares: Path
) -> None:
    moved = tmp_path / "squares.npz"
    shutil.copyfile(squares, moved)
    assert main([str(run.out), "--clips", str(moved)]) == 0
    printed = float(capsys.readouterr().out.splitlines()[1].split()[2])
    history = (run.out / "history.csv").read_text().splitlines()
    column = history[0].split(",").index("val_loss")
    best = min(float(row.split(",")[column]) for row in history[1:])
    assert printed == pytest.approx(best, abs=2e-3)


def test_motion_is_told_from_what_stays(run: PriorRunConfig, capsys: pytest.CaptureFixture[str]) -> None:
    clip = np.full((1, 8, 16, 16, 3), 100, np.uint8)
    clip[0, 3, :5] = 200
    assert motion(clip) == (0.5, 0.0)
    assert motion(clip[:, :, ::-1]) == (0.0, 1.0)
    assert main([str(run.out), "--motion-clips", "1"]) == 0
    kinds = [line.split()[1] for line in capsys.readouterr().out.splitlines()[2:]]
    assert kinds == ["real", "codes", "sampled"]


def test_an_untrained_prior_needs_ln_k_nats(run: PriorRunConfig) -> None:
    prior = read_prior(run.out)
    torch.nn.init.zeros_(prior.fc_out.weight)
    nats = nats_per_token(prior, torch.randint(256, (3, 8, 16, 16, 3), dtype=torch.uint8))
    assert nats.all == pytest.approx(nats.uniform, abs=1e-5)


def test_a_folder_without_a_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 1
    assert "has `robomask pretrain prior` ended?" in capsys.readouterr().err
