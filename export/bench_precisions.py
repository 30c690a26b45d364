"""How fast and how right each form of a model is, side by side: `python -m export.bench_precisions BUNDLE`.

One frame at a time. The forms take turns, so that whatever else the machine does hits all of them alike; medians.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from pydantic import Field
from pydantic_settings import CliApp, CliPositionalArg
from tqdm import tqdm

from export.commands.evaluate import select
from export.golden_frames import golden_frames
from export.graph import ServingGraph
from export.sessions import open_session
from export.time_split import time_split
from service.contract import Bundle, BundleInvalid, open_bundle
from service.contract.onnx_file import OnnxInvalid
from training.config import Config
from training.data.readers import DatasetError, read_frames
from training.from_onnx import segmenter_from_onnx
from training.scores import score
from training.segmenter import published_form

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Form = Callable[[np.ndarray], np.ndarray]
    """Frames uint8 [N,64,64,3] -> probabilities float32 [N,64,64]."""

PUBLISHED = "pytorch published"
COLLAPSED = "pytorch collapsed"


class BenchConfig(Config):
    """Time a bundle's precisions and the PyTorch network they come from, one frame at a time, taking turns."""

    bundle: CliPositionalArg[Path] = Field(description="a bundle with an fp32 model")
    data: Path | None = Field(None, description="labelled frames, to measure IoU as well")
    split: str = Field("val", description="the part of `data` to measure on, or all")
    against: Path | None = Field(None, description="another bundle, whose ONNX models take turns with these")
    threads: int = Field(1, ge=1, description="threads within one run")
    rounds: int = Field(20, ge=1, description="turns that each form takes")
    split_time: bool = Field(False, description="also tell what each precision spends its time on, by operator")
    as_json: bool = Field(False, description="print JSON instead of a table")


class Timing(NamedTuple):
    """Wall clock of one frame in milliseconds."""

    median_ms: float
    p10_ms: float
    min_ms: float


class Quality(NamedTuple):
    """Mean IoU with the labels, and of the masks with those of the fp32 model."""

    iou: float
    iou_with_fp32: float


def forms_of(bundle: Bundle, threads: int) -> dict[str, Form]:
    """Every form of the model, by name: PyTorch as published and collapsed, and the bundle's precisions."""
    torch.set_num_threads(threads)
    segmenter = segmenter_from_onnx(bundle.model("fp32"))
    graphs = {
        PUBLISHED: ServingGraph(published_form(segmenter)).eval(),
        COLLAPSED: ServingGraph(segmenter).eval(),
    }
    return {name: _eager(graph) for name, graph in graphs.items()} | onnx_forms(bundle, threads)


def onnx_forms(bundle: Bundle, threads: int, of: str = "") -> dict[str, Form]:
    """A bundle's precisions as they are served, by name; `of` is added to each."""
    return {
        f"onnx {precision}{of}": _run(
            open_session(bundle.model(precision), bundle.beside(precision), threads=threads, as_served=True)
        )
        for precision in bundle.manifest.precisions
    }


def take_turns(forms: Mapping[str, Form], frames: np.ndarray, rounds: int) -> dict[str, Timing]:
    """Time each form on one frame after the other; every form is run twice before it counts.

    Args:
        forms: The forms by name.
        frames: uint8 [N,64,64,3].
        rounds: Runs of each.
    """
    for form in forms.values():
        for _ in range(2):
            form(frames[:1])
    took: dict[str, list[float]] = {name: [] for name in forms}
    for turn in tqdm(range(rounds), desc="turns", leave=False):
        frame = frames[turn % len(frames)][None]
        for name, form in forms.items():
            started = time.perf_counter()
            form(frame)
            took[name].append(1000 * (time.perf_counter() - started))
    return {name: Timing(*(float(np.percentile(ms, p)) for p in (50, 10, 0))) for name, ms in took.items()}


def main(argv: Sequence[str]) -> int:
    """Run from the command line; returns the exit status."""
    config = CliApp.run(BenchConfig, cli_args=list(argv))
    try:
        bundle = open_bundle(config.bundle)
        held_out = select(read_frames(config.data), config.split) if config.data else None
        forms = forms_of(bundle, config.threads)
        if config.against is not None:
            other = open_bundle(config.against)
            forms |= onnx_forms(other, config.threads, f" of version {other.manifest.version}")
    except (BundleInvalid, DatasetError, OnnxInvalid) as error:
        print(f"bench_precisions: {error}", file=sys.stderr)
        return 1
    frames = golden_frames() if held_out is None else held_out.frames
    timings = take_turns(forms, frames, config.rounds)
    qualities: dict[str, Quality] = {}
    if held_out is not None:
        onnx = {name: form for name, form in forms.items() if name.startswith("onnx")}
        bars = {name: tqdm(held_out.frames, desc=name, unit="frame", leave=False) for name in onnx}
        masks = {
            name: np.concatenate([form(frame[None]) for frame in bars[name]]) >= bundle.manifest.threshold
            for name, form in onnx.items()
        }
        qualities = {
            name: Quality(score(found, held_out.masks).mean, score(found, masks["onnx fp32"]).mean)
            for name, found in masks.items()
        }
    splits: dict[str, dict[str, float]] = {}
    if config.split_time:
        splits = {
            precision: time_split(bundle.model(precision), bundle.beside(precision), frames[:1])
            for precision in bundle.manifest.precisions
        }
    report = _report(config, timings, qualities, splits)
    print(json.dumps(report, indent=2) if config.as_json else _table(timings, qualities, splits))
    return 0


def _report(
    config: BenchConfig,
    timings: Mapping[str, Timing],
    qualities: Mapping[str, Quality],
    splits: Mapping[str, Mapping[str, float]],
) -> dict[str, object]:
    return {
        "bundle": "/".join(config.bundle.absolute().parts[-2:]),
        "threads": config.threads,
        "batch": 1,
        "rounds": config.rounds,
        "forms": {
            name: timing._asdict()
            | {"speedup_over_published": timings[PUBLISHED].median_ms / timing.median_ms}
            | {"speedup_over_onnx_fp32": timings["onnx fp32"].median_ms / timing.median_ms}
            | (qualities[name]._asdict() if name in qualities else {})
            for name, timing in timings.items()
        },
        "milliseconds_by_operator": {name: dict(split) for name, split in splits.items()},
    }


def _table(
    timings: Mapping[str, Timing], qualities: Mapping[str, Quality], splits: Mapping[str, Mapping[str, float]]
) -> str:
    width = max(map(len, timings))
    head = f"{'':{width}} {'median ms':>10} {'p10 ms':>8} {'published /':>12} {'onnx fp32 /':>12}"
    lines = [head + (f" {'IoU':>8} {'with fp32':>10}" if qualities else "")]
    for name, timing in timings.items():
        quality = qualities.get(name)
        numbers = f"{quality.iou:8.4f} {quality.iou_with_fp32:10.4f}" if quality else ""
        lines.append(
            f"{name:{width}} {timing.median_ms:10.1f} {timing.p10_ms:8.1f} "
            f"{timings[PUBLISHED].median_ms / timing.median_ms:12.2f} "
            f"{timings['onnx fp32'].median_ms / timing.median_ms:12.2f} {numbers}".rstrip()
        )
    for precision, split in splits.items():
        lines += ["", f"{precision}, ms by operator:", *(f"  {ms:8.2f}  {name}" for name, ms in split.items())]
    return "\n".join(lines)


def _eager(graph: ServingGraph) -> Form:
    def form(frames: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            probability: np.ndarray = graph(torch.from_numpy(frames)).probability.numpy()
        return probability

    return form


def _run(session: object) -> Form:
    def form(frames: np.ndarray) -> np.ndarray:
        probability: np.ndarray = session.run(["probability"], {"frames": frames})[0]  # type: ignore[attr-defined]
        return probability

    return form


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
