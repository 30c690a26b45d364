"""From a PyTorch module to one ONNX file."""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from torch import nn

STORED_AS_HALF = 1024
"""Smallest initialiser, in elements, that is worth storing as float16."""


class ExportError(RuntimeError):
    """An export that must not be published; the message says what was expected and what came."""


def to_onnx(graph: nn.Module) -> bytes:
    """The content of an ONNX file: the graph with a dynamic batch axis and all weights inside.

    Args:
        graph: A module like `ServingGraph`: frames uint8 [N,64,64,3] in, `Served` out.

    Raises:
        ExportError: The exporter froze the batch axis.
    """
    # Two example frames: with one, the exporter silently freezes the batch axis at 1.
    example = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    quiet = logging.getLogger("torch.onnx")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                graph.eval(),
                (example,),
                dynamo=True,
                input_names=["frames"],
                output_names=["probability", "latents"],
                dynamic_shapes=({0: torch.export.Dim("n", min=1)},),
                verbose=False,
            )
    finally:
        quiet.setLevel(level)
    if program is None:
        raise ExportError("expected torch.onnx.export to give a program, got none")
    model = program.model_proto
    _check_batch_axis(model)
    _strip_origins(model)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def store_as_half(content: bytes) -> bytes:
    """Store large float32 initialisers that float16 holds exactly as float16 behind a Cast.

    ONNX Runtime folds the casts when it loads the file, so arithmetic and results stay those of float32.
    """
    model = onnx.load_from_string(content)
    kept, casts = [], []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.size < STORED_AS_HALF or not _exact_in_half(values):
            kept.append(tensor)
            continue
        kept.append(numpy_helper.from_array(values.astype(np.float16), f"{tensor.name}.half"))
        casts.append(helper.make_node("Cast", [f"{tensor.name}.half"], [tensor.name], to=TensorProto.FLOAT))
    nodes = list(model.graph.node)
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(kept)
    model.graph.node.extend(casts + nodes)
    return bytes(model.SerializeToString())


def _exact_in_half(values: np.ndarray) -> bool:
    return (
        values.dtype == np.float32
        and float(np.abs(values).max()) <= float(np.finfo(np.float16).max)
        and np.array_equal(values.astype(np.float16).astype(np.float32), values)
    )


def _strip_origins(model: onnx.ModelProto) -> None:
    """Take off the exporter's notes of which line of which file made each node: half a megabyte, with paths."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.initializer, *graph.value_info, *graph.input, *graph.output):
        del part.metadata_props[:]
        part.doc_string = ""


def _check_batch_axis(model: onnx.ModelProto) -> None:
    for value in (*model.graph.input, *model.graph.output):
        first = value.type.tensor_type.shape.dim[0]
        if not first.dim_param:
            raise ExportError(f"expected a dynamic batch axis on {value.name!r}, the exporter froze it at {first}")
