"""A quick model runs in the layout that it is quicker in; others are not opened twice."""

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper
from service_kit import golden_frames, tiny_onnx

from benchmarks.standin import publish_standin
from service.contract import open_bundle
from service.engine.layout import Opens, quicker_layout
from service.engine.sessions import CPU, open_session


def session_of(content: bytes) -> ort.InferenceSession:
    return ort.InferenceSession(content, providers=[CPU])


def idle() -> bytes:
    """A model that hardly looks: there is no robot."""
    graph = helper.make_graph(
        [
            helper.make_node("Shape", ["frames"], ["size"], start=0, end=3),
            helper.make_node("ConstantOfShape", ["size"], ["probability"]),
        ],
        "idle",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["N", 64, 64, 3])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["N", 64, 64])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


def once(session: ort.InferenceSession) -> Opens:
    """Opens it in the usual layout alone."""
    return lambda *, in_blocks: session if in_blocks else pytest.fail("it was opened again")


def test_the_quicker_of_two_is_taken() -> None:
    quick, slow = session_of(idle()), session_of(tiny_onnx())
    assert quicker_layout(lambda *, in_blocks: quick if in_blocks else slow) == (quick, True, True)
    assert quicker_layout(lambda *, in_blocks: slow if in_blocks else quick) == (quick, False, True)


def test_a_slow_model_is_not_opened_a_second_time(tmp_path_factory: pytest.TempPathFactory) -> None:
    slow = session_of(publish_standin(tmp_path_factory.mktemp("slow"), scale=32).model("fp32"))
    assert quicker_layout(once(slow)) == (slow, True, False)


def test_what_cannot_be_run_is_left_to_the_test_of_its_answers() -> None:
    of_two = session_of(tiny_onnx(batch=2))
    assert quicker_layout(once(of_two)) == (of_two, True, False)


def test_both_layouts_say_the_same(tmp_path_factory: pytest.TempPathFactory) -> None:
    bundle = open_bundle(publish_standin(tmp_path_factory.mktemp("both")).folder)
    said = [
        open_session(bundle, "fp32", [CPU], 1, in_blocks=in_blocks).run(None, {"frames": golden_frames()})
        for in_blocks in (True, False)
    ]
    for one, other in zip(*said, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
