"""8-bit weights can be taken for weights of seven bits: nearly the same answers, where sums of all eight saturate."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from service.contract import open_bundle
from service.contract.narrow import narrow
from service.contract.onnx_file import OnnxInvalid
from service.engine import Engine
from service.engine.checks import self_test
from service.engine.running import Plain
from service.engine.sessions import CPU, open_session

MODELS = Path(__file__).parents[3] / "models"

WEIGHTS = np.array([[-127, -3, 0, 5], [127, 100, 1, -64]], np.int8)
SCALES = np.array([0.5, 0.25], np.float32)
BIAS = np.array([1001, -7], np.int32)


def quantised(**changes: Any) -> bytes:
    """A graph as the quantiser writes them: bytes as they are in memory, scales and zeros as lists of numbers."""
    zeros = changes.get("zeros", [0, 0])
    constants = [
        numpy_helper.from_array(WEIGHTS, "weights"),
        helper.make_tensor("scales", TensorProto.FLOAT, [2], SCALES.tolist()),
        helper.make_tensor("zeros", TensorProto.INT8, [2], zeros),
        numpy_helper.from_array(BIAS, "bias"),
        numpy_helper.from_array(SCALES / 8, "bias_scales"),
        helper.make_tensor("scale", TensorProto.FLOAT, [], [0.125]),
        helper.make_tensor("zero", TensorProto.UINT8, [], [128]),
    ]
    nodes = [
        helper.make_node("DequantizeLinear", ["frames", changes.get("scale", "scale"), "zero"], ["activations"]),
        helper.make_node("DequantizeLinear", ["weights", "scales", "zeros"], ["kernel"], axis=0),
        helper.make_node("DequantizeLinear", ["weights", "scales", "zeros"], ["same"], axis=0),
        helper.make_node("DequantizeLinear", ["bias", "bias_scales"], ["shift"], axis=0),
    ]
    inputs = [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["N"])]
    outputs = [helper.make_tensor_value_info("activations", TensorProto.FLOAT, ["N"])]
    graph = helper.make_graph(nodes, "quantised", inputs, outputs, constants)
    return bytes(helper.make_model(graph).SerializeToString())


def constants_of(content: bytes) -> dict[str, np.ndarray]:
    found = onnx.load_from_string(content).graph.initializer
    return {constant.name: numpy_helper.to_array(constant) for constant in found}


def test_weights_and_biases_are_halved_and_their_scales_doubled_once_and_nothing_else_changes() -> None:
    before, after = constants_of(quantised()), constants_of(narrow(quantised()))
    np.testing.assert_array_equal(after["weights"], [[-64, -2, 0, 2], [64, 50, 0, -32]])
    np.testing.assert_array_equal(after["scales"], SCALES * 2)
    np.testing.assert_array_equal(after["bias"], [500, -4])
    np.testing.assert_array_equal(after["bias_scales"], SCALES / 4)
    for name in ("zeros", "scale", "zero"):
        np.testing.assert_array_equal(after[name], before[name])


def test_a_model_without_8_bit_weights_stays_as_it_is() -> None:
    graph = helper.make_graph([], "empty", [], [], [numpy_helper.from_array(SCALES, "weights")])
    content = helper.make_model(graph).SerializeToString()
    assert narrow(content) == content


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"zeros": [0, 3]}, "weights around zero"), ({"scale": "scales"}, "one that activations have as well")],
)
def test_what_is_quantised_in_another_way_is_not_touched(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(OnnxInvalid, match=words):
        narrow(quantised(**changes))


def test_the_shipped_model_answers_with_seven_bits_as_it_may_with_eight() -> None:
    newest = max((MODELS / "robot-arm").iterdir(), key=lambda folder: int(folder.name))
    bundle = open_bundle(newest)
    session = open_session(bundle, "int8", [CPU], 1, narrow_weights=True)
    engine = Engine(Plain(session), "cpu", "int8", threshold=bundle.manifest.threshold)
    assert self_test(engine, bundle.golden()) < bundle.golden().allowed("int8") / 2
