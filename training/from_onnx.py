"""The trained network out of a bundle's ONNX file: nothing but the bundle is needed to compare or to train on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError
from onnx import numpy_helper

from training.segmenter import Segmenter, build_segmenter

if TYPE_CHECKING:
    from training.config import HeadName

PREFIX = "segmenter."
"""Where the exporter has the network's parameters; `.half` follows the name of those stored as float16."""


def segmenter_from_onnx(model: bytes) -> Segmenter:
    """Rebuild the network that `to_onnx` wrote: float32, encoder collapsed, evaluation mode.

    Args:
        model: The content of a full-precision ONNX file.

    Raises:
        ValueError: A parameter is missing, or the file is not one of ours.
    """
    try:
        graph = onnx.load_from_string(model).graph
    except DecodeError as error:
        raise ValueError(f"expected an ONNX file, found {error}") from error
    stored = {tensor.name.removesuffix(".half"): numpy_helper.to_array(tensor) for tensor in graph.initializer}
    named = {name.removeprefix(PREFIX): values for name, values in stored.items() if name.startswith(PREFIX)}
    unnamed = [values for name, values in stored.items() if not name.startswith(PREFIX)]
    segmenter = build_segmenter(_layers(set(named)), head=_head(set(named)))
    state = {}
    for name, parameter in segmenter.state_dict().items():
        values = named[name] if name in named else _transposed(unnamed, tuple(parameter.shape), name)
        state[name] = torch.from_numpy(values.astype(np.float32))
    segmenter.load_state_dict(state)
    return segmenter.eval()


def _layers(names: set[str]) -> tuple[int, ...]:
    """Residual blocks in each group of the encoder, by the names of its parameters."""
    blocks = {
        group: {n.split(".")[3] for n in names if n.startswith(f"encoder.group{group}.blocks.")}
        for group in (1, 2, 3, 4)
    }
    return tuple(1 + len(found) for found in blocks.values())


def _head(names: set[str]) -> HeadName:
    return "attention-skips" if any(name.startswith("head.fine.") for name in names) else "attention-conv"


def _transposed(unnamed: list[np.ndarray], shape: tuple[int, ...], name: str) -> np.ndarray:
    """The exporter folds the transposition of a matrix into its initialiser and gives it a name of its own."""
    candidates = [values for values in unnamed if len(shape) == 2 and values.shape == shape[::-1]]
    if len(candidates) != 1:
        raise ValueError(
            f"expected the parameter {name} {list(shape)} in the ONNX file, found {len(candidates)} like it"
        )
    return np.ascontiguousarray(candidates[0].T)
