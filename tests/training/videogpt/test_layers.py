"""The small layers: the published numbers, and what each is for."""

import re

import golden
import pytest
import torch
from torch.testing import assert_close

from training.videogpt.layers import (
    GELU2,
    BroadcastPositions,
    ClassLayerNorm,
    LayerNorm,
    RightShift,
    SamePadConv3d,
    SamePadConvTranspose3d,
)
from training.videogpt.resnet import StartBlock

TOLERANCE = {"atol": 2e-5, "rtol": 1e-5}

unit_ops = pytest.mark.parametrize("name", golden.cases("unit_ops"))


def operations(case: golden.Case, prefix: str) -> list[str]:
    """Names of the operations that start so; there must be some."""
    found = sorted({key.split("/")[0] for key in case.arrays if key.startswith(prefix)})
    assert found, f"{case.name} has no {prefix}*"
    return found


@unit_ops
def test_layer_norm_equals_the_published_one_down_to_tiny_variances(name: str) -> None:
    case = golden.load(name)
    for operation in operations(case, "layernorm_std"):
        norm = LayerNorm(len(case[f"{operation}/g"]))
        norm.load_state_dict({"g": case[f"{operation}/g"], "b": case[f"{operation}/b"]})
        assert_close(norm(case[f"{operation}/in"]), case[f"{operation}/out"], **TOLERANCE)


@unit_ops
def test_class_layer_norm_equals_the_published_one(name: str) -> None:
    case = golden.load(name)
    norm = ClassLayerNorm(*case["layernorm_cond/w.weight"].shape)
    norm.load_state_dict({key: case[f"layernorm_cond/{key}"] for key in ("w.weight", "wb.weight")})
    got = norm(case["layernorm_cond/in"], case["layernorm_cond/class_onehot"])
    assert_close(got, case["layernorm_cond/out"], **TOLERANCE)


@unit_ops
def test_gelu_equals_the_published_one(name: str) -> None:
    case = golden.load(name)
    assert_close(GELU2()(case["gelu2/in"]), case["gelu2/out"], **TOLERANCE)


@unit_ops
@pytest.mark.parametrize("layer", [SamePadConv3d, SamePadConvTranspose3d])
def test_padded_convolutions_equal_the_published_ones(
    name: str, layer: type[SamePadConv3d | SamePadConvTranspose3d]
) -> None:
    case = golden.load(name)
    kind, transposed = ("convt", True) if layer is SamePadConvTranspose3d else ("conv", False)
    for operation in operations(case, f"samepad_{kind}_"):
        kernel, *stride = (int(n) for n in re.fullmatch(r".*_k(\d)_s(\d)(\d)(\d)", operation).groups())
        shape = case[f"{operation}/{kind}.weight"].shape
        c_in, c_out = shape[:2] if transposed else shape[1::-1]
        conv = layer(c_in, c_out, kernel, tuple(stride))
        conv.load_state_dict({key: case[f"{operation}/{key}"] for key in (f"{kind}.weight", f"{kind}.bias")})
        assert_close(conv(case[f"{operation}/in"]), case[f"{operation}/out"], **TOLERANCE)


@unit_ops
def test_positions_equal_the_published_ones(name: str) -> None:
    case = golden.load(name)
    _, *shape, dim = case["pos_embed/in"].shape
    positions = BroadcastPositions(tuple(shape), dim)
    positions.load_state_dict(case.group("pos_embed/sd/"))
    assert_close(positions(case["pos_embed/in"]), case["pos_embed/out"], **TOLERANCE)


@unit_ops
def test_right_shift_equals_the_published_one(name: str) -> None:
    case = golden.load(name)
    shift = RightShift(len(case["right_shift/sos"]))
    shift.load_state_dict({"sos": case["right_shift/sos"]})
    assert_close(shift(case["right_shift/in"]), case["right_shift/out"], **TOLERANCE)


@unit_ops
def test_a_block_of_the_frame_encoder_equals_the_published_one(name: str) -> None:
    case = golden.load(name)
    given, expected = case["resnet_block/in"], case["resnet_block/out"]
    stride = tuple(before // after for before, after in zip(given.shape[2:], expected.shape[2:], strict=True))
    block = StartBlock(torch.nn.Conv3d, given.shape[1], expected.shape[1], stride)
    block.load_state_dict(case.group("resnet_block/sd/"))
    assert_close(block(given), expected, **TOLERANCE)


def test_one_position_is_that_row_of_the_table() -> None:
    positions = BroadcastPositions((2, 3, 4), 12)
    rows = torch.stack([positions.at(i) for i in range(24)])
    assert torch.equal(rows, positions.table().flatten(0, 2))


def test_positions_that_three_axes_cannot_share_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple"):
        BroadcastPositions((2, 3, 4), 512)


def test_a_class_layer_norm_without_classes_is_refused() -> None:
    with pytest.raises(ValueError, match="labels"):
        ClassLayerNorm(4, 2)(torch.randn(1, 4), None)
