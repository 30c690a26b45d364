"""The mean of several runs' weights is a run like any other."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from export.pack import pack
from service.contract import CARD, open_bundle
from training.commands.average import main
from training.commands.train import main as train
from training.data.frames import FrameSet
from training.run import read_run
from training.start import read_network

TINY = ("--model.layers", "1", "1", "1", "1", "--epochs", "1", "--steps-per-epoch", "1", "--batch-size", "2")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, toy_file: Path, toy_bundle: Path) -> list[Path]:
    """Two runs that started from the same bundle and differ in their rate."""
    folder = tmp_path_factory.mktemp("mean")
    found = []
    for name, rate in (("one", "1e-3"), ("two", "3e-3")):
        words = ["--out", str(folder / name), "--data.train", str(toy_file), "--precision", "32-true", *TINY]
        assert train([*words, "--model.init", str(toy_bundle), "--optim.lr", rate]) == 0
        found.append(folder / name)
    return found


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model.safetensors")


def test_each_weight_is_the_mean_of_those_of_the_runs(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mean"
    assert main([*map(str, runs), "--out", str(out)]) == 0
    first, second, found = weights(runs[0]), weights(runs[1]), weights(out)
    for name, weight in found.items():
        torch.testing.assert_close(weight, (first[name] + second[name]) / 2)
    record = read_run(out).record
    assert f"mean IoU {record['scores']['val']['mean']:.4f}" in capsys.readouterr().out
    assert [one["name"] for one in record["mean_of"]["runs"]] == ["one", "two"]
    assert (out / "predictions.png").is_file()
    assert record["split"] == read_run(runs[0]).record["split"]


def test_what_the_runs_started_from_can_be_one_of_those_averaged(
    runs: list[Path], toy_bundle: Path, tmp_path: Path
) -> None:
    out = tmp_path / "mean"
    assert main([*map(str, runs), "--start", "--out", str(out)]) == 0
    three = [weights(runs[0]), weights(runs[1]), read_network(toy_bundle).state_dict()]
    for name, weight in weights(out).items():
        torch.testing.assert_close(weight, torch.stack([one[name] for one in three]).mean(0))


def test_a_bundle_of_a_mean_says_how_all_of_it_was_made(runs: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "mean"
    assert main([*map(str, runs), "--start", "--out", str(out)]) == 0
    bundle = open_bundle(pack(out, tmp_path / "models", name="toy", precisions=["fp32"]).folder)
    lineage = bundle.manifest.lineage
    first, second, last = lineage.command.split(" && ")
    assert (first.split()[:4], second.split()[:4]) == (
        ["robomask", "train", "--out", "one"],
        ["robomask", "train", "--out", "two"],
    )
    assert last == "robomask average one two --out mean --start"
    assert "toy/1" in first
    assert str(tmp_path) not in lineage.model_dump_json()
    assert lineage.parent is not None
    assert lineage.parent.name == "toy"
    card = bundle.read(CARD).decode()
    assert "mean of those of 2 runs, and of what they started from" in card
    assert f"    {last}\n" in card
    assert "Trained by code revision" in card


def test_runs_that_do_not_belong_together_are_named(
    runs: list[Path], toy_run: Path, toy_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "mean")]
    assert main([str(runs[0]), *out]) == 1
    assert "two runs or more" in capsys.readouterr().err
    assert main([str(runs[0]), str(tmp_path / "none"), *out]) == 1
    assert "expected a finished run" in capsys.readouterr().err
    assert main([str(runs[0]), str(toy_run), *out]) == 1
    assert f"{toy_run}: expected the start of" in capsys.readouterr().err
    assert main([str(toy_run), "--start", *out]) == 1
    assert "leave --start out" in capsys.readouterr().err
    assert main([str(runs[0]), str(runs[0]), *out]) == 1
    assert "'one' twice" in capsys.readouterr().err
    other = tmp_path / "other"
    words = ["--out", str(other), "--data.train", str(toy_file), "--precision", "32-true", *TINY]
    assert train([*words, "--data.split", "all"]) == 0
    capsys.readouterr()
    assert main([str(runs[0]), str(other), *out]) == 1
    assert f"{other}: expected the split of" in capsys.readouterr().err
    assert train([*words[:1], str(tmp_path / "head"), *words[2:], "--model.head", "linear"]) == 0
    capsys.readouterr()
    assert main([str(runs[0]), str(tmp_path / "head"), *out]) == 1
    assert "expected the network of" in capsys.readouterr().err
    assert not (tmp_path / "mean").exists()


def test_a_folder_with_anything_in_it_is_left_alone(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "kept"
    shutil.copytree(runs[0], kept)
    assert main([*map(str, runs), "--out", str(kept)]) == 1
    assert "a new or an empty folder" in capsys.readouterr().err
    before, after = weights(runs[0]), weights(kept)
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_a_mean_is_neither_averaged_again_nor_trained_over(
    runs: list[Path], toy_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mean = tmp_path / "mean"
    assert main([*map(str, runs), "--out", str(mean)]) == 0
    assert main([str(mean), str(runs[0]), "--out", str(tmp_path / "again")]) == 1
    assert "name those it is the mean of" in capsys.readouterr().err
    assert train(["--out", str(mean), "--data.train", str(toy_file), "--precision", "32-true", *TINY]) == 1
    assert "found the mean of several" in capsys.readouterr().err
    assert read_run(mean).record["mean_of"]


def test_runs_whose_data_are_marked_in_another_way_by_now_are_refused(
    toys: FrameSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "marked.npz"

    def mark(held_out: str) -> None:
        split = np.where(toys.scene == held_out, "val", "train")
        np.savez(file, frames=toys.frames, masks=toys.masks, scene=toys.scene, split=split)

    mark("toy5")
    for name in ("one", "two"):
        words = ["--out", str(tmp_path / name), "--data.train", str(file), "--precision", "32-true", *TINY]
        assert train(words) == 0
    mark("toy0")
    both = [str(tmp_path / "one"), str(tmp_path / "two")]
    assert main([*both, "--out", str(tmp_path / "mean")]) == 1
    assert "split as they were" in capsys.readouterr().err
    assert not (tmp_path / "mean").exists()
