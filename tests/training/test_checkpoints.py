"""Checkpoints that are found again."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from training.checkpoints import MovableCheckpoint, refuse_fewer_epochs
from training.run import RunError


def checkpoint(kind: type[ModelCheckpoint], folder: Path) -> ModelCheckpoint:
    return kind(folder, filename="best", monitor="val_loss", save_last=True)


def test_checkpoints_that_lightning_wrote_are_known_again_in_another_folder(tmp_path: Path) -> None:
    before = checkpoint(ModelCheckpoint, tmp_path / "before")
    best = str(tmp_path / "before" / "best.ckpt")
    before.best_model_path = before.kth_best_model_path = best
    before.last_model_path = str(tmp_path / "before" / "last.ckpt")
    before.best_model_score = before.kth_value = torch.tensor(0.25)
    before.best_k_models = {best: torch.tensor(0.25)}

    after = checkpoint(MovableCheckpoint, tmp_path / "after")
    assert after.state_key == before.state_key
    after.load_state_dict(before.state_dict())
    moved = str(tmp_path / "after" / "best.ckpt")
    assert after.best_k_models == {moved: torch.tensor(0.25)}
    assert (after.best_model_path, after.kth_best_model_path) == (moved, moved)
    assert after.last_model_path == str(tmp_path / "after" / "last.ckpt")
    assert (after.best_model_score, after.kth_value) == (0.25, 0.25)
    assert after.dirpath == str(tmp_path / "after")


def test_what_has_no_best_epoch_yet_has_none_in_another_folder(tmp_path: Path) -> None:
    after = checkpoint(MovableCheckpoint, tmp_path / "after")
    after.load_state_dict(checkpoint(ModelCheckpoint, tmp_path / "before").state_dict())
    assert (after.best_model_path, after.last_model_path, after.best_k_models) == ("", "", {})


def test_a_run_ends_no_earlier_than_it_has_come(tmp_path: Path) -> None:
    last = tmp_path / "last.ckpt"
    refuse_fewer_epochs(tmp_path, last, 1)
    torch.save({"epoch": 3}, last)
    refuse_fewer_epochs(tmp_path, last, 4)
    with pytest.raises(RunError, match=r"at least the 4 epochs that this run has done, got 3: set --epochs 4"):
        refuse_fewer_epochs(tmp_path, last, 3)
