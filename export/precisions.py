"""The files of a bundle: one network in fp32, fp16 and int8, each checked against the one before it."""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from export.gate import Verdict, judge, require_close
from export.graph import ServingGraph
from export.half import to_half
from export.parity import TOLERANCE, Parity, compare, require
from export.quantisable import QuantisableGraph
from export.quantise import Quantiser
from export.sessions import open_session, probabilities
from export.to_onnx import ExportError, store_as_half, to_onnx

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from service.contract import Precision
    from training.segmenter import Segmenter

_log = logging.getLogger(__name__)

FP32_FILE = "model.fp32.onnx"
"""Where a bundle has its fp32 model, whose weights the fp16 one shares."""

MOST_FLOAT_LAYERS = 16
"""Layers that int8 may leave in float32 before it is given up: with more it is hardly faster."""

HALF_TOLERANCE = 0.02
"""How far the fp16 file's probabilities may be off in float32 arithmetic: its small weights are rounded too."""

RANKING_FRAMES = 12
"""Frames on which layers are ranked by the harm that 8 bits do to them."""


@dataclass(frozen=True)
class Trial:
    """Frames to judge by.

    Attributes:
        frames: uint8 [N,64,64,3].
        masks: Their labels, uint8 [N,64,64], if there are any.
        threshold: The probability from which a pixel is robot.
    """

    frames: np.ndarray
    masks: np.ndarray | None
    threshold: float


@dataclass(frozen=True)
class Exported:
    """One precision that has passed.

    Attributes:
        content: The ONNX file.
        probability: What it says of the trial's frames, float32 [N,64,64].
        golden: What it says of the golden frames, float32 [K,64,64].
        verdict: How it compares with fp32; none for fp32 itself.
        float_layers: Layers of an int8 model that were left in float32 to pass.
    """

    content: bytes
    probability: np.ndarray
    golden: np.ndarray
    verdict: Verdict | None = None
    float_layers: tuple[str, ...] = ()


def export_fp32(segmenter: Segmenter, trial: Trial, golden: np.ndarray) -> tuple[Exported, Parity]:
    """The fp32 file, and how far it is from the network as published.

    Raises:
        ExportError: Further than it may be.
    """
    graph = ServingGraph(segmenter).eval()
    content = store_as_half(to_onnx(graph))
    parity = compare(graph, content, np.concatenate([golden, trial.frames[:8]]))
    require(parity)
    session = open_session(content)
    return Exported(content, probabilities(session, trial.frames, "fp32"), probabilities(session, golden)), parity


def export_fp16(segmenter: Segmenter, fp32: Exported, trial: Trial, golden: np.ndarray) -> Exported:
    """The fp16 file, which reads its weights out of the fp32 one.

    On a CPU, ONNX Runtime computes a float16 graph in float32. The file is run to see that it is right; it is judged
    by a network whose every layer rounds its result to float16, as GPUs do, whose sums are float32.

    Raises:
        ExportError: It is not the same network, or costs too much IoU.
    """
    content = to_half(fp32.content, FP32_FILE)
    found = probabilities(open_session(content, {FP32_FILE: fp32.content}), golden)
    if not (gap := float(np.abs(found - fp32.golden).max())) <= HALF_TOLERANCE:
        raise ExportError(f"expected the fp16 file to agree with fp32 to {HALF_TOLERANCE:g}, got {gap:g}")
    probability = _in_half(segmenter, trial.frames)
    verdict = _judge("fp16", probability, fp32, trial)
    require_close(verdict)
    return Exported(content, probability, _in_half(segmenter, golden), verdict)


def export_int8(
    segmenter: Segmenter, fp32: Exported, trial: Trial, golden: np.ndarray, calibration: np.ndarray
) -> Exported:
    """The int8 file; where 8 bits everywhere cost too much, the layers that suffer most stay in float32.

    Args:
        segmenter: The network.
        fp32: Its fp32 export.
        trial: Frames to judge by.
        golden: Golden frames.
        calibration: Frames uint8 [N,64,64,3] that show how large activations get.

    Raises:
        ExportError: It costs too much IoU all the same.
    """
    graph = QuantisableGraph(segmenter).eval()
    content = to_onnx(graph)
    _require_same(graph, segmenter, golden)
    quantiser = Quantiser(content, calibration)
    ranked: Sequence[str] = ()
    count = 0
    while True:
        kept = tuple(ranked[:count])
        content = quantiser.write(keep_float=kept)
        session = open_session(content)
        probability = probabilities(session, trial.frames, "int8")
        verdict = _judge("int8", probability, fp32, trial)
        if verdict.passes:
            return Exported(content, probability, probabilities(session, golden), verdict, kept)
        count = max(1, 2 * count)
        if count > min(MOST_FLOAT_LAYERS, len(quantiser.layers) // 2):
            require_close(verdict)
        _log.info("int8 costs %.4f of the IoU with %d layers in float32: trying %d", verdict.drop, len(kept), count)
        ranked = ranked or rank(quantiser, calibration[:: max(1, len(calibration) // RANKING_FRAMES)])


def rank(quantiser: Quantiser, frames: np.ndarray) -> list[str]:
    """Layers by how much the probabilities change when each alone is 8-bit, the most sensitive first."""
    reference = probabilities(open_session(quantiser.write(keep_float=quantiser.layers)), frames)
    harm = {}
    for layer in quantiser.layers:
        others = [name for name in quantiser.layers if name != layer]
        alone = probabilities(open_session(quantiser.write(keep_float=others)), frames)
        harm[layer] = float(np.square(alone - reference).mean())
    return sorted(harm, key=lambda name: -harm[name])


def _in_half(segmenter: Segmenter, frames: np.ndarray) -> np.ndarray:
    """Probabilities float32 [N,64,64] of a network whose layers round what they give to float16."""
    graph = ServingGraph(copy.deepcopy(segmenter)).eval()
    for module in graph.modules():
        if not list(module.children()):
            module.register_forward_hook(lambda _module, _inputs, result: result.half().float())
    with torch.inference_mode():
        parts = [graph(torch.from_numpy(frame[None])).probability for frame in frames]
    probability: np.ndarray = torch.cat(parts).numpy()
    return probability


def _judge(precision: Precision, probability: np.ndarray, fp32: Exported, trial: Trial) -> Verdict:
    masks, reference = probability >= trial.threshold, fp32.probability >= trial.threshold
    return judge(precision, masks, reference, trial.masks)


def _require_same(graph: QuantisableGraph, segmenter: Segmenter, frames: np.ndarray) -> None:
    """Refuse a rewritten graph that is not the same network."""
    batch = torch.from_numpy(frames)
    with torch.inference_mode():
        found, wanted = graph(batch), ServingGraph(segmenter).eval()(batch)
    gap = float((found.probability - wanted.probability).abs().max())
    if not gap <= TOLERANCE:
        raise ExportError(f"expected the network rewritten for 8 bits to agree to {TOLERANCE:g}, got {gap:g}")


def chosen(precisions: Collection[Precision]) -> tuple[Precision, ...]:
    """Precisions in the order in which they are made; fp32 is always among them.

    >>> chosen(["int8"])
    ('fp32', 'int8')
    """
    order: tuple[Precision, ...] = ("fp32", "fp16", "int8")
    return tuple(p for p in order if p == "fp32" or p in precisions)
