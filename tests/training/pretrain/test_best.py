"""Which epoch's weights a run ends with."""

from pathlib import Path

import pytest
import torch

from training.pretrain.best import read_best
from training.run import RunError


def history(*losses: str) -> list[dict[str, str]]:
    return [{"epoch": str(epoch), "val_loss": loss} for epoch, loss in enumerate(losses)]


@pytest.fixture
def of_epoch_1(tmp_path: Path) -> Path:
    file = tmp_path / "best.ckpt"
    torch.save({"epoch": 1, "state_dict": {"weight": torch.ones(2)}}, file)
    return file


@pytest.mark.parametrize("losses", [("2", "1", "3"), ("1", "1"), ("nan", "1", "nan"), ("nan", "nan")])
def test_weights_come_with_the_row_of_their_epoch(of_epoch_1: Path, losses: tuple[str, ...]) -> None:
    best = read_best(of_epoch_1, history(*losses))
    assert best.row["epoch"] == "1"
    assert torch.equal(best.weights["weight"], torch.ones(2))


@pytest.mark.parametrize("losses", [("1", "2"), ("1", "nan"), ("1",)])
def test_weights_of_another_epoch_than_the_best_are_refused(of_epoch_1: Path, losses: tuple[str, ...]) -> None:
    with pytest.raises(RunError, match=r"expected the weights of epoch 0, .* found those of epoch 1: .*--keep last"):
        read_best(of_epoch_1, history(*losses))


def test_weights_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"best\.ckpt: expected the weights of epoch 1, .* found none"):
        read_best(tmp_path / "best.ckpt", history("2", "1"))
