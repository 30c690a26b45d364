"""What the networks of a table cost, measured together."""

import json
from pathlib import Path

import pytest
import torch
from networks import tiny_prior

from training.ablation.config import AblateConfig
from training.ablation.cost import CLOCK, costs_of, measure, shape_of
from training.ablation.parts import Parts
from training.ablation.rows import BY_NAME, ROWS
from training.pretrain.weights import write_prior


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    folder = tmp_path_factory.mktemp("prior")
    write_prior(folder, tiny_prior(resnet_dim=240))
    return Parts(AblateConfig(out=Path("o"), data=Path("d"), pretrained=folder, width=4))


def test_rows_whose_networks_have_one_shape_have_one_time(parts: Parts) -> None:
    names = ("noise-conv", "transformer-conv", "resnet-attention", "resnet-finetuned", "unet")
    threads = torch.get_num_threads()
    costs = measure({name: parts.build(parts.model(BY_NAME[name], 0), 0) for name in names})
    assert list(costs) == list(names)
    assert costs["noise-conv"] == costs["transformer-conv"]
    frozen, whole = costs["resnet-attention"], costs["resnet-finetuned"]
    assert (frozen["ms"], frozen["mac"], frozen["parameters"]) == (whole["ms"], whole["mac"], whole["parameters"])
    assert frozen["trained"] < whole["trained"] == whole["parameters"]
    assert len({cost["ms"] for cost in costs.values()}) == 3
    assert torch.get_num_threads() == threads


def test_networks_that_compute_something_else_have_another_shape(parts: Parts) -> None:
    networks = {row.name: parts.build(parts.model(row, 0), 0) for row in ROWS if row.encoder}
    shapes = {name: shape_of(network) for name, network in networks.items()}
    assert shapes["random-finetuned"] == shapes["random-attention"]
    assert shapes["noise-overlap"] == shapes["transformer-conv"]
    heads = ("linear", "conv", "heavy")
    different = [f"{kind}-{head}" for kind in ("transformer", "sampled") for head in heads] + ["hidden-linear", "unet"]
    assert len({shapes[name] for name in different}) == len(different)


def test_all_rows_are_measured_anew_when_one_comes_in_and_none_otherwise(parts: Parts, tmp_path: Path) -> None:
    file = tmp_path / "costs.json"
    first = costs_of(file, parts, ["unet", "mean-mask"])
    assert list(first) == ["unet"]
    known = json.loads(file.read_text())
    known["rows"]["unet"]["ms"] = -1.0
    file.write_text(json.dumps(known))
    assert costs_of(file, parts, ["unet"])["unet"]["ms"] == -1
    both = costs_of(file, parts, ["unet", "transformer-linear"])
    assert both["unet"]["ms"] > 0
    assert json.loads(file.read_text())["ms"] == CLOCK
    assert costs_of(file, parts, ["unet", "transformer-linear"]) == both


def test_times_that_were_taken_row_by_row_are_measured_anew(parts: Parts, tmp_path: Path) -> None:
    file = tmp_path / "costs.json"
    file.write_text(json.dumps({"unet": {"key": "of another form", "ms": 95.0}}))
    assert costs_of(file, parts, ["unet"])["unet"]["ms"] > 0
    assert list(json.loads(file.read_text())["rows"]) == ["unet"]
