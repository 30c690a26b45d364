"""The study on toy scenes with a tiny prior."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import tiny_prior
from PIL import Image

from training.ablation.cells import Cell, learn_head, mean_masks, optim_of, rate_of
from training.ablation.config import AblateConfig, Budget, Rates
from training.ablation.heads import Standardise
from training.ablation.latents import cached_latents, weights_digest
from training.ablation.parts import Parts
from training.ablation.rows import BY_NAME, ROWS
from training.ablation.settings import key_of, settings_of
from training.ablation.table import summarise
from training.commands.ablate import main
from training.config import AugmentConfig
from training.data.frames import FrameSet
from training.data.splits import fold_split
from training.encoders import Pixels
from training.pretrain.weights import write_prior

QUICK = ("noise-conv", "transformer-linear", "resnet-linear", "unet", "sampled-conv", "random-linear", "mean-mask")


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prior")
    write_prior(folder, tiny_prior(resnet_dim=240))
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, toys: FrameSet) -> Path:
    file = tmp_path_factory.mktemp("data") / "toys.npz"
    np.savez(file, frames=toys.frames, masks=toys.masks, scene=toys.scene)
    return file


def arguments(out: Path, data: Path, pretrained: Path, *rows: str) -> list[str]:
    return [
        *("--out", str(out), "--data", str(data), "--pretrained", str(pretrained), "--rows", *rows),
        *("--seeds", "0", "--folds", "2", "--copies", "1", "--width", "4", "--pictures", "3", "--threads", "1"),
        *("--budget.head-steps", "12", "--budget.epochs", "1", "--budget.steps-per-epoch", "2"),
        *("--budget.batch-size", "4", "--optim.warmup-steps", "2"),
    ]


def test_the_command_fills_the_table_draws_the_picture_and_does_nothing_twice(
    tmp_path: Path, data: Path, pretrained: Path, toys: FrameSet, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "study"
    assert main(arguments(out, data, pretrained, *QUICK)) == 0
    assert "| 3D ResNet, frozen | linear | 0.17 |" in capsys.readouterr().out
    table = json.loads((out / "table.json").read_text())["rows"]
    assert [row["row"] for row in table] == list(QUICK)
    assert all(row["images"] == len(toys) and row["cells"] == 2 for row in table)
    assert all(row["mac"] > 0 and row["ms"] > 0 for row in table if row["row"] != "mean-mask")
    Image.open(out / "masks.png").verify()

    files = {file: file.stat().st_mtime_ns for folder in ("results", "latents") for file in (out / folder).iterdir()}
    torn = out / "results" / "resnet-linear.fold1.seed0.json"
    before = torn.read_text()
    torn.unlink()
    (out / "table.md").unlink()
    assert main(arguments(out, data, pretrained, *QUICK)) == 0
    assert torn.read_text() == before  # the same result, to the last digit
    assert {f for f, time in files.items() if f.stat().st_mtime_ns != time} == {torn, torn.with_suffix(".npz")}
    assert main(arguments(out, data, pretrained, QUICK[0])) == 0
    table = json.loads((out / "table.json").read_text())["rows"]
    assert sorted(row["row"] for row in table) == sorted(QUICK)  # those that were done earlier stand in it as well


def test_results_of_other_settings_are_neither_replaced_nor_left_out(
    tmp_path: Path, data: Path, pretrained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "study"
    wanted = arguments(out, data, pretrained, "resnet-linear", "mean-mask")
    assert main(wanted) == 0
    before = contents(out)
    assert main([*wanted, "--rates.linear", "0.05"]) == 1
    told = capsys.readouterr().err
    assert "results of resnet-linear were made with, found rates.linear 0.05 now, 0.01 there: repeat" in told
    assert main([*arguments(out, data, pretrained, "unet"), "--width", "2", "--folds", "3"]) == 1
    told = capsys.readouterr().err
    assert "results of mean-mask, resnet-linear were made with" in told
    assert "folds 3 now, 2 there, width 2 now, 4 there" in told
    without = [word for word in arguments(out, data, pretrained, "mean-mask") if word != "--pretrained"]
    without.remove(str(pretrained))
    assert main(without) == 1
    assert "pretrained none now" in capsys.readouterr().err
    assert contents(out) == before
    assert main(wanted) == 0


def contents(folder: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_results_on_other_data_are_not_replaced(
    tmp_path: Path, data: Path, pretrained: Path, toys: FrameSet, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "study"
    assert main(arguments(out, data, pretrained, "mean-mask")) == 0
    np.savez(tmp_path / "other.npz", frames=255 - toys.frames, masks=toys.masks, scene=toys.scene)
    before = contents(out)
    assert main(arguments(out, tmp_path / "other.npz", pretrained, "mean-mask")) == 1
    told = capsys.readouterr().err
    assert f"found data {FrameSet(255 - toys.frames, toys.masks, toys.scene, toys.split).sha256()[:12]} now" in told
    assert "another folder with --out" in told
    assert contents(out) == before


def test_results_that_do_not_say_what_they_were_made_with_count_if_it_was_the_same(
    tmp_path: Path, data: Path, pretrained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "study"
    wanted = arguments(out, data, pretrained, "mean-mask")
    assert main(wanted) == 0
    for file in (out / "results").glob("*.json"):
        result = json.loads(file.read_text())
        del result["settings"]
        file.write_text(json.dumps(result))
    before = contents(out / "results")
    assert main(wanted) == 0
    assert contents(out / "results") == before
    assert main([*wanted, "--budget.batch-size", "5"]) == 1
    assert "did not write down which" in capsys.readouterr().err


def test_frozen_rows_stay_whatever_the_budget_of_whole_networks_and_rows_that_lack_cells_are_told_of(
    tmp_path: Path, data: Path, pretrained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "study"
    assert main(arguments(out, data, pretrained, "mean-mask", "unet")) == 0
    (out / "results" / "unet.fold1.seed0.json").unlink()
    assert main(arguments(out, data, pretrained, "random-linear")) == 0
    told = "Not in the table, as cells are missing: unet (1 of 2 cells). --rows unet does the rest."
    assert told in capsys.readouterr().err
    assert told in (out / "table.md").read_text()
    (out / "results" / "unet.fold0.seed0.json").unlink()

    assert main([*arguments(out, data, pretrained, "mean-mask", "unet"), "--budget.steps-per-epoch", "1"]) == 0
    rows = [row["row"] for row in json.loads((out / "table.json").read_text())["rows"]]
    assert rows == ["unet", "random-linear", "mean-mask"]
    assert "Not in the table" not in (out / "table.md").read_text()
    capsys.readouterr()
    assert main(arguments(out, data, pretrained, "mean-mask")) == 1
    told = capsys.readouterr().err
    assert "results of unet were made with, found budget.steps_per_epoch 2 now, 1 there: repeat" in told


def test_each_learning_rate_is_some_rows() -> None:
    names = {rate_of(row) for row in ROWS if row.encoder}
    assert names == set(Rates.model_fields)


@pytest.mark.parametrize("named", [False, True])
def test_it_is_said_where_every_frame_counts_as_a_scene(
    tmp_path: Path, data: Path, pretrained: Path, toys: FrameSet, caplog: pytest.LogCaptureFixture, named: bool
) -> None:
    lone = tmp_path / "lone.npz"
    np.savez(lone, frames=toys.frames, masks=toys.masks)
    assert main(arguments(tmp_path / "study", data if named else lone, pretrained, "mean-mask")) == 0
    assert ("counts as a scene of its own" in caplog.text) is not named


def test_seeds_and_rows_count_once(tmp_path: Path, data: Path) -> None:
    with pytest.raises(ValueError, match="expected seeds that differ, got 0 1 0"):
        AblateConfig(out=tmp_path, data=data, rows=("unet",), seeds=(0, 1, 0))
    with pytest.raises(ValueError, match="expected rows that differ, got unet unet"):
        AblateConfig(out=tmp_path, data=data, rows=("unet", "unet"))


def test_a_bundle_has_no_prior_to_study(
    toy_bundle: Path, tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(tmp_path / "study", data, toy_bundle, "transformer-linear")) == 1
    told = capsys.readouterr().err
    assert "in a folder such as pretrained/ or a finished run of `robomask pretrain prior`" in told
    assert "found a bundle, which holds a trained frame encoder and its head, and neither transformer, prior" in told


def test_a_finetuned_rows_head_learns_from_the_frozen_encoder_first(
    tmp_path: Path, data: Path, pretrained: Path, toys: FrameSet
) -> None:
    config = AblateConfig(
        out=tmp_path, data=data, pretrained=pretrained, copies=1, budget=Budget(first_head_steps=3, batch_size=4)
    )
    cell, split = Cell(BY_NAME["resnet-finetuned"], 0, 0), fold_split(toys, 2, 0, 0)
    parts = Parts(config)
    fresh, taught = (parts.build(parts.model(cell.row, 0), 0) for _ in range(2))
    cached = cached_latents(tmp_path, taught.encoder, toys, copies=1, augmentation=AugmentConfig(), key="")
    learn_head(config, cell, taught, cached, split)
    assert weights_digest(taught.encoder) == weights_digest(fresh.encoder)
    assert weights_digest(taught.head) != weights_digest(fresh.head)
    assert taught.head.state_dict().keys() == fresh.head.state_dict().keys()
    wanted = arguments(tmp_path / "study", data, pretrained, "resnet-finetuned")
    assert main([*wanted, "--budget.first-head-steps", "2"]) == 0
    assert json.loads((tmp_path / "study" / "table.json").read_text())["rows"][0]["cells"] == 2


def test_a_finetuned_result_depends_on_how_its_head_learnt_first(data: Path, pretrained: Path) -> None:
    def key(row: str, **rates: float) -> str:
        config = AblateConfig(out=Path("o"), data=data, pretrained=pretrained, rates=Rates(**rates))
        return key_of(settings_of(config, Parts(config), Cell(BY_NAME[row], 0, 0), "frames"))

    assert key("resnet-finetuned") != key("resnet-finetuned", attention_conv=0.5)
    assert key("unet") == key("unet", attention_conv=0.5)


def test_the_budget_of_the_head_that_learns_first_touches_finetuned_rows_alone() -> None:
    short, long = Budget(first_head_steps=1), Budget(first_head_steps=2)
    assert [row.name for row in ROWS if short.of(row) != long.of(row)] == ["resnet-finetuned"]


@pytest.mark.parametrize("row", [row for row in ROWS if row.encoder is not None], ids=lambda row: row.name)
def test_every_row_is_a_configuration_of_the_train_command(row: object, pretrained: Path, toys: FrameSet) -> None:
    config = AblateConfig(out=Path("o"), data=Path("d"), pretrained=pretrained, width=4)
    parts = Parts(config)
    segmenter = parts.build(parts.model(row, 0), seed=0).eval()
    with torch.inference_mode():
        assert segmenter(torch.from_numpy(toys.frames[:1])).logits.shape == (1, 64, 64)


def test_rows_that_need_pretrained_weights_are_refused_without() -> None:
    with pytest.raises(ValueError, match="need pretrained weights"):
        AblateConfig(out=Path("o"), data=Path("d"))
    with pytest.raises(ValueError, match="expected rows of"):
        AblateConfig(out=Path("o"), data=Path("d"), rows=("resnet",))


def test_latents_are_computed_once_and_again_only_for_other_data(tmp_path: Path, toys: FrameSet) -> None:
    few = toys.take(np.arange(3))
    first = cached_latents(tmp_path, Pixels(), few, copies=1, augmentation=AugmentConfig(), key="")
    names = {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    again = cached_latents(tmp_path, Pixels(), few, copies=1, augmentation=AugmentConfig(), key="")
    assert {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == names
    assert np.array_equal(first.latents[1], again.latents[1])
    np.testing.assert_allclose(first.latents[0], few.frames / 255 - 0.5, atol=1e-3)
    assert np.array_equal(first.masks[0], few.masks)
    assert not np.array_equal(first.masks[1], few.masks)
    cached_latents(tmp_path, Pixels(), toys.take(np.arange(4)), copies=0, augmentation=AugmentConfig(), key="")
    assert len(list(tmp_path.iterdir())) == len(names) + 1


def test_standardised_latents_have_mean_0_and_spread_1() -> None:
    latents = np.random.default_rng(0).normal([5, -2], [3, 0.1], (6, 4, 4, 2))
    scaled = Standardise(latents)(torch.from_numpy(latents.astype(np.float32)))
    torch.testing.assert_close(scaled.flatten(0, 2).mean(0), torch.zeros(2), atol=1e-4, rtol=0)
    torch.testing.assert_close(scaled.flatten(0, 2).std(0), torch.ones(2), atol=1e-3, rtol=0)


def test_the_constant_mask_is_learnt_from_the_training_scenes_only(toys: FrameSet) -> None:
    masks = mean_masks(toys, fold_split(toys, 3, 0, 0))
    assert len(masks) == 8
    assert (masks == masks[0]).all()
    assert masks[0].any()


def test_the_table_tells_spread_over_seeds_from_spread_over_folds() -> None:
    def cell(seed: int, fold: int, iou: list[float]) -> dict[str, object]:
        frames = [2] if fold else [0, 1]
        score = {"mean": float(np.mean(iou)), "dataset": iou[0]}
        return {"row": "unet", "seed": seed, "fold": fold, "iou": iou, "frames": frames, **score}

    cells = [cell(0, 0, [0.8, 0.8]), cell(0, 1, [0.6]), cell(1, 0, [0.8, 0.8]), cell(1, 1, [0.9])]
    (row,) = summarise(cells, {}, np.array([False, False, True]))
    assert row["iou_val"] == pytest.approx((0.6 + 0.9) / 2)
    means = [2.2 / 3, 2.5 / 3]
    assert row["iou"] == pytest.approx(np.mean(means))
    assert row["sd_seeds"] == pytest.approx(np.std(means, ddof=1))
    assert row["sd_folds"] == pytest.approx(np.mean([np.std([0.8, 0.6], ddof=1), np.std([0.8, 0.9], ddof=1)]))
    assert row["dataset"] == pytest.approx((0.8 + 0.6 + 0.8 + 0.9) / 4)
    assert row["paper"] == 0.83
    assert Cell(BY_NAME["unet"], 1, 2).name == "unet.fold1.seed2"


def test_only_the_control_asks_for_probabilities(tmp_path: Path, data: Path) -> None:
    config = AblateConfig(out=tmp_path, data=data, rows=("mean-mask",))
    control, other = (optim_of(config, BY_NAME[name]) for name in ("noise-conv", "noise-overlap"))
    assert (control.jaccard_weight, control.bce_weight, control.pos_weight) == (0, 1, 1)
    assert (other.jaccard_weight, other.bce_weight, other.pos_weight) == (1, 0.5, 2)
    assert [row.name for row in ROWS if row.calibrated] == ["noise-conv"]
