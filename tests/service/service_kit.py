"""What the tests of the service are made with: a tiny real bundle and a real server that serves it."""

import asyncio
import io
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import uvicorn
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from service.app import create_app, create_models
from service.contract import Bundle, Golden, Lineage, Metric, publish
from service.settings import Settings
from service.versions.models import Models
from service.web.protocol import server_options

WEIGHTS = np.array([16.0, -8.0, 0.0], np.float32)
BIAS = -4.0
TOKEN = "open sesame"  # noqa: S105 - of a service that lives as long as a test
ADMIN = {"Authorization": f"Bearer {TOKEN}"}


def red_probability(frames: np.ndarray) -> np.ndarray:
    """What the tiny model says, in numpy: uint8 [N,64,64,3] -> float32 [N,64,64], high where red outweighs green."""
    logits = frames.astype(np.float32) / 255 @ WEIGHTS + BIAS
    return 1 / (1 + np.exp(-logits))


def tiny_onnx(latent_side: int = 16, batch: str | int = "N", bias: float = BIAS) -> bytes:
    """A model that keeps the contract, or, with other arguments, one that breaks it."""
    constants = {
        "scale": np.array(1 / 255, np.float32),
        "weights": WEIGHTS[:, None],
        "bias": np.array(bias, np.float32),
        "last": np.array([-1]),
        "features": np.linspace(-1, 1, 3 * 240, dtype=np.float32).reshape(3, 240),
    }
    stride = 64 // latent_side
    nodes = [
        helper.make_node("Cast", ["frames"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "scale"], ["unit"]),
        helper.make_node("MatMul", ["unit", "weights"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["sigmoid"]),
        helper.make_node("Squeeze", ["sigmoid", "last"], ["probability"]),
        helper.make_node("Transpose", ["unit"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["planes"], ["pooled"], kernel_shape=[stride] * 2, strides=[stride] * 2),
        helper.make_node("Transpose", ["pooled"], ["cells"], perm=[0, 2, 3, 1]),
        helper.make_node("MatMul", ["cells", "features"], ["latents"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, [batch, 64, 64, 3])],
        [
            helper.make_tensor_value_info("probability", TensorProto.FLOAT, [batch, 64, 64]),
            helper.make_tensor_value_info("latents", TensorProto.FLOAT, [batch, latent_side, latent_side, 240]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 10
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def golden_frames() -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)


def publish_tiny(repository: Path, **changes: Any) -> Bundle:
    """Publish the tiny model; any argument of `publish` can be another."""
    frames = golden_frames()
    arguments: dict[str, Any] = {
        "name": "tiny",
        "precisions": {"fp32": tiny_onnx()},
        "default_precision": "fp32",
        "threshold": 0.5,
        "golden": Golden(frames, red_probability(frames).astype(np.float32), tolerance=1e-4),
        "metrics": [Metric(name="iou", value=0.5, data="drawn", split="test", n=3)],
        "lineage": Lineage(command="pytest", created=datetime(2026, 1, 1, tzinfo=UTC), seed=7),
        "card": "# Tiny\n",
        "example_png": png(frames[0]),
    }
    return publish(repository, **arguments | changes)


def publish_other(repository: Path, bias: float = BIAS + 2, **changes: Any) -> None:
    """A version of the tiny model that says robot more often."""
    logits = golden_frames().astype(np.float32) / 255 @ WEIGHTS + bias
    golden = Golden(golden_frames(), (1 / (1 + np.exp(-logits))).astype(np.float32), tolerance=1e-4)
    publish_tiny(repository, precisions={"fp32": tiny_onnx(bias=bias)}, golden=golden, **changes)


def publish_cells(repository: Path, cells: np.ndarray) -> None:
    """A model that says the same of every frame: float32 [64,64]."""
    model = onnx.load_from_string(tiny_onnx())
    graph = model.graph
    graph.initializer.append(numpy_helper.from_array(np.zeros((), np.float32), "nothing"))
    graph.initializer.append(numpy_helper.from_array(cells, "cells_said"))
    graph.node[5].output[0] = "of_the_frame"
    graph.node.insert(6, helper.make_node("Mul", ["of_the_frame", "nothing"], ["zeros"]))
    graph.node.insert(7, helper.make_node("Add", ["zeros", "cells_said"], ["probability"]))
    golden = Golden(golden_frames(), np.stack([cells] * 3), tolerance=1e-4)
    publish_tiny(repository, precisions={"fp32": bytes(model.SerializeToString())}, golden=golden)


def png(pixels: np.ndarray, **options: Any) -> bytes:
    return encode(Image.fromarray(pixels), "PNG", **options)


def encode(image: Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


class Running:
    """A server in a thread of its own: a client for it, and what it is made of."""

    def __init__(
        self, client: httpx.Client, models: Models, server: uvicorn.Server, port: int, grpc_port: int | None
    ) -> None:
        self.client = client
        self.models = models
        self.port = port
        self.grpc_port = grpc_port
        self._server = server

    def stop(self) -> None:
        """Tell the server to stop; does not wait until it has."""
        self._server.should_exit = True

    def segment(self, content: bytes, content_type: str | None = "image/png", **options: Any) -> httpx.Response:
        headers = {"Content-Type": content_type} if content_type else {}
        return self.client.post("/segment", content=content, headers=headers | options.pop("headers", {}), **options)


def _run(config: uvicorn.Config, server: uvicorn.Server, listening: socket.socket) -> None:
    """Serve on the kind of event loop that is used in production."""
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(server.serve([listening]))


@contextmanager
def serving(repository: Path, **settings: Any) -> Iterator[Running]:
    """Serve a repository; stops when left."""
    chosen = Settings(
        _cli_parse_args=False, models=repository, **{"provider": "cpu", "workers": 2, "codec_threads": 2} | settings
    )
    models = create_models(chosen)
    failures: list[BaseException] = []
    app = create_app(chosen, models, failures.append)
    config = uvicorn.Config(
        app,
        port=0,
        **server_options(chosen, app.express),
    )
    server = uvicorn.Server(config)
    listening = config.bind_socket()
    listening.listen()  # who comes before the server does waits for it
    port = listening.getsockname()[1]
    thread = threading.Thread(target=_run, args=(config, server, listening))
    thread.start()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            while client.get("/readyz").status_code != 200:  # each answer is waited for: no sleep is needed
                assert not failures, failures
                assert thread.is_alive()
            yield Running(client, models, server, port, app.state.grpc_port)
    finally:
        server.should_exit = True
        thread.join()
