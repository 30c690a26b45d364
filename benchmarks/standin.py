"""A small stand-in model behind the contract's tensors, so that what is measured is the service and not the model.

    python -m benchmarks.standin FOLDER
    robomask bench --serve --bundle FOLDER/standin/1 --clients 32 --payload raw --accept application/x-npy

The first makes a repository with it, the second measures the service with it.
"""

from __future__ import annotations

import argparse
import io
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from service.contract import FRAME_SIZE, Bundle, Golden, Lineage, publish

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["NAME", "arm_frame", "publish_standin"]

NAME: Final = "standin"
_CHANNELS: Final = (3, 8, 16, 16, 16)
_STRIDES: Final = (2, 2, 1, 1)
_LATENT_SIDE: Final = 16
_LATENTS: Final = 240


def publish_standin(repository: Path, scale: int = 1) -> Bundle:
    """Publish a convolutional network of random weights, 5.8 MFLOP a frame; its latents are copies.

    Args:
        repository: Where to.
        scale: How many times as many channels it has: 32 makes it about as slow as a real model.
    """
    rng = np.random.default_rng(0)
    content = _network(rng, scale)
    frames = np.stack([arm_frame(seed) for seed in range(3)])
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    probability = session.run(["probability"], {"frames": frames})[0]
    example = io.BytesIO()
    Image.fromarray(frames[0]).save(example, "PNG")
    return publish(
        repository,
        name=NAME,
        precisions={"fp32": content},
        default_precision="fp32",
        threshold=0.5,
        golden=Golden(frames, probability, tolerance=1e-3),
        metrics=[],
        lineage=Lineage(command="python -m benchmarks.http_rate", created=datetime(2026, 1, 1, tzinfo=UTC), seed=0),
        card="# Stand-in\nRandom weights; for measuring the service.\n",
        example_png=example.getvalue(),
    )


def arm_frame(seed: int, width: int = FRAME_SIZE, height: int = FRAME_SIZE) -> NDArray[np.uint8]:
    """A drawn camera frame uint8 [height,width,3]: a shaded table, a bright bar across it, a little sensor noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 1 : 1j * height, 0 : 1 : 1j * width]
    table = np.stack([120 + 60 * x, 90 + 50 * y, 70 + 40 * x * y], axis=-1)
    on_bar = np.abs(x - 0.3 - 0.4 * y) < 0.12
    table[on_bar & (y > 0.2)] = (40, 200, 220)
    noisy = table + rng.normal(0, 2, table.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def _network(rng: np.random.Generator, scale: int) -> bytes:
    weights = [numpy_helper.from_array(np.array(1 / 255, np.float32), "scale")]
    nodes = [
        helper.make_node("Cast", ["frames"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "scale"], ["unit"]),
        helper.make_node("Transpose", ["unit"], ["planes"], perm=[0, 3, 1, 2]),
    ]

    def convolve(source: str, name: str, inputs: int, outputs: int, *, side: int, stride: int, relu: bool) -> str:
        values = rng.standard_normal((outputs, inputs, side, side)) * np.sqrt(2 / (inputs * side * side))
        weights.append(numpy_helper.from_array(values.astype(np.float32), f"{name}_w"))
        made = name if not relu else f"{name}_raw"
        nodes.append(
            helper.make_node(
                "Conv", [source, f"{name}_w"], [made],
                kernel_shape=[side] * 2, strides=[stride] * 2, pads=[side // 2] * 4,
            )
        )  # fmt: skip
        if relu:
            nodes.append(helper.make_node("Relu", [made], [name]))
        return name

    def double(source: str, name: str) -> str:
        nodes.append(
            helper.make_node(
                "Resize", [source, "", "scales"], [name],
                mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor",
            )
        )  # fmt: skip
        return name

    weights.append(numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales"))
    weights.append(numpy_helper.from_array(np.array([1]), "channel"))
    last = "planes"
    channels = (_CHANNELS[0], *(scale * count for count in _CHANNELS[1:]))
    for layer, stride in enumerate(_STRIDES):
        inputs, outputs = channels[layer], channels[layer + 1]
        last = convolve(last, f"down{layer}", inputs, outputs, side=3, stride=stride, relu=True)
    weights.append(numpy_helper.from_array(np.array([1, 1, 1, _LATENTS // _CHANNELS[-1]]), "repeats"))
    few = last if scale == 1 else convolve(last, "few", channels[-1], _CHANNELS[-1], side=1, stride=1, relu=False)
    nodes.append(helper.make_node("Transpose", [few], ["features"], perm=[0, 2, 3, 1]))
    nodes.append(helper.make_node("Tile", ["features", "repeats"], ["latents"]))
    last = convolve(double(last, "up0"), "up0c", channels[-1], 8, side=3, stride=1, relu=True)
    last = convolve(double(last, "up1"), "logits", 8, 1, side=1, stride=1, relu=False)
    nodes.append(helper.make_node("Sigmoid", [last], ["sigmoid"]))
    nodes.append(helper.make_node("Squeeze", ["sigmoid", "channel"], ["probability"]))
    graph = helper.make_graph(
        nodes,
        NAME,
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["N", FRAME_SIZE, FRAME_SIZE, 3])],
        [
            helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["N", FRAME_SIZE, FRAME_SIZE]),
            helper.make_tensor_value_info("latents", TensorProto.FLOAT, ["N", _LATENT_SIDE, _LATENT_SIDE, _LATENTS]),
        ],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 10
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def main() -> int:
    """Run from the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="model repository to publish it in")
    parser.add_argument("--scale", type=int, default=1, help="times as many channels; 32 is about a real model")
    options = parser.parse_args()
    print(publish_standin(options.folder, options.scale).folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
