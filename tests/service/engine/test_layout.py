"""A quick model runs in the layout that it is quicker in; others are not opened twice."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper
from service_kit import golden_frames, tiny_onnx

from benchmarks.standin import publish_standin
from service.contract import open_bundle
from service.engine.layout import quicker_layout
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


def test_the_quicker_of_two_is_taken() -> None:
    quick, slow = session_of(idle()), session_of(tiny_onnx())
    assert quicker_layout(quick, lambda: slow) is quick
    assert quicker_layout(slow, lambda: quick) is quick


def test_it_is_found_even_where_the_first_runs_wait_for_the_interpreter() -> None:
    seem_s = iter([0.007, 0.005, 0.005, 0.0005])

    def held_up(work: Callable[[], Any]) -> Any:
        took_s = work()
        return next(seem_s, took_s)

    quick, slow = session_of(idle()), session_of(tiny_onnx())
    assert quicker_layout(slow, lambda: quick, held_up) is quick


def test_a_slow_model_is_not_opened_a_second_time(tmp_path_factory: pytest.TempPathFactory) -> None:
    slow = session_of(publish_standin(tmp_path_factory.mktemp("slow"), scale=32).model("fp32"))
    assert quicker_layout(slow, lambda: pytest.fail("it was opened again")) is slow


def test_what_cannot_be_run_is_left_to_the_test_of_its_answers() -> None:
    of_two = session_of(tiny_onnx(batch=2))
    assert quicker_layout(of_two, lambda: pytest.fail("it was opened again")) is of_two


def test_both_layouts_say_the_same(tmp_path_factory: pytest.TempPathFactory) -> None:
    bundle = open_bundle(publish_standin(tmp_path_factory.mktemp("both")).folder)
    said = [
        open_session(bundle, "fp32", [CPU], 1, in_blocks=in_blocks).run(None, {"frames": golden_frames()})
        for in_blocks in (True, False)
    ]
    for one, other in zip(*said, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
