"""What can be exported: a finished run, or a bundle to which precisions are to be added."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from export.ancestry import Ancestry, of_bundle, of_run
from export.card import card, card_again, with_comparison, with_precisions
from export.golden_frames import golden_frames
from export.graph import round_weights_to_half
from export.lineage import lineage_of
from export.to_onnx import ExportError
from service.contract import CARD, EXAMPLE, MANIFEST, Bundle, Golden, Metric, open_bundle
from training.data.readers import DatasetError, read_frames
from training.data.sides import read_sides_again
from training.from_onnx import segmenter_from_onnx
from training.run import load_segmenter, read_run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from export.card import Report
    from service.contract import Comparison, Lineage
    from training.data.frames import FrameSet
    from training.run import Run
    from training.segmenter import Segmenter

    WriteCard = Callable[[Report], str]

HEADS: Final = ("attention-conv", "attention-skips")
"""What a bundle's network may end in."""

CALIBRATION_FRAMES = 64
"""As many as change nothing any more; each takes a third of a second."""


@dataclass(frozen=True)
class Source:
    """A network and what is known of it.

    Attributes:
        segmenter: The network, its weights rounded to what the bundle stores.
        threshold: The probability from which a pixel is robot.
        golden: Frames of the self-test, uint8 [K,64,64,3].
        metrics: Measured before, for want of newer ones.
        example: A picture made before, if any.
        lineage: Where it comes from.
        write_card: Writes its card.
        training_frames: Reads the frames that it was trained on, a set for each data set that still is where it was.
        held_out: Reads the frames that its run has held out.
        data_sets: Reads the data sets of its run.
        ancestry: The models that it has learned from by starting from them.
        known_scenes: Of the scenes that its run has held out, those from which these had learned when it began.
        comparison: How it compared with the version before it, when that was measured.
    """

    segmenter: Segmenter
    threshold: float
    golden: np.ndarray
    metrics: tuple[Metric, ...]
    example: bytes | None
    lineage: Lineage
    write_card: WriteCard
    training_frames: Callable[[], list[FrameSet]]
    held_out: Callable[[], FrameSet]
    data_sets: Callable[[], dict[Path, FrameSet]]
    ancestry: Ancestry
    known_scenes: frozenset[str] = frozenset()
    comparison: Comparison | None = None


def read_source(folder: Path, credit: str) -> tuple[Source, str | None]:
    """Read a run or a bundle; returns it, and its name if it has one.

    Raises:
        RunError: Neither, or a run that is not finished.
        BundleInvalid: A bundle that is not what it says.
        ExportError: A bundle out of which the network cannot be rebuilt.
    """
    if (folder / MANIFEST).is_file():
        bundle = open_bundle(folder)
        return _from_bundle(bundle, credit), bundle.manifest.name
    return _from_run(folder, credit), None


def _from_run(folder: Path, credit: str) -> Source:
    run = read_run(folder)
    if run.config.model.encoder != "frame-encoder":
        raise ExportError(
            f"{folder}: expected a run with the frame encoder, whose latents a bundle promises, found encoder "
            f"{run.config.model.encoder}"
        )
    if run.config.model.head not in HEADS:
        raise ExportError(
            f"{folder}: expected a run with one of the heads {', '.join(HEADS)}, which bundles hold, found head "
            f"{run.config.model.head}"
        )
    segmenter = load_segmenter(folder)
    round_weights_to_half(segmenter)
    lineage = lineage_of(run)

    def write_card(report: Report) -> str:
        text = card(report.name, run, lineage, metrics=report.metrics, parity=report.parity, credit=credit)
        return with_precisions(with_comparison(text, report.comparison), report.verdicts)

    return Source(
        segmenter=segmenter,
        threshold=run.threshold,
        golden=golden_frames(),
        metrics=(),
        example=None,
        lineage=lineage,
        write_card=write_card,
        training_frames=lambda: _training_frames(run),
        held_out=lambda: held_out_frames(run),
        data_sets=lambda: _data_sets(run),
        ancestry=of_run(run),
        known_scenes=frozenset(run.record.get("known_scenes") or ()),
    )


def _from_bundle(bundle: Bundle, credit: str) -> Source:
    golden: Golden = bundle.golden()
    text = bundle.read(CARD).decode()
    try:
        segmenter = segmenter_from_onnx(bundle.model("fp32"))
    except ValueError as error:
        raise ExportError(f"{bundle.folder}: its network cannot be rebuilt: {error}") from error
    return Source(
        segmenter=segmenter,
        threshold=bundle.manifest.threshold,
        golden=golden.frames,
        metrics=tuple(m for m in bundle.manifest.metrics if m.precision in {None, "fp32"}),
        example=bundle.read(EXAMPLE),
        lineage=bundle.manifest.lineage,
        write_card=lambda report: card_again(text, report, credit),
        training_frames=list,
        held_out=_nothing_held_out,
        data_sets=dict,
        ancestry=of_bundle(bundle.folder, bundle.manifest.lineage),
        comparison=bundle.manifest.comparison,
    )


def held_out_frames(run: Run) -> FrameSet:
    """The frames that a run has held out, read again.

    Raises:
        DatasetError: A data set is not there any more, or not what it was.
        ExportError: The run has held out none.
    """
    try:
        frames = read_sides_again(run).val
    except DatasetError as error:
        raise DatasetError(f"{error}; name frames to compare on with --gate-data") from error
    if not len(frames):
        raise ExportError(f"{run.folder}: expected scenes held out, the run has learned from all: name --gate-data")
    return frames


def _nothing_held_out() -> FrameSet:
    raise ExportError("expected frames to compare on, a bundle has none: name some with --gate-data")


def _data_sets(run: Run) -> dict[Path, FrameSet]:
    """The run's data sets that still are where they were."""
    return {path: read_frames(path) for path in run.config.data.files if path.exists()}


def _training_frames(run: Run) -> list[FrameSet]:
    sets = [read_frames(path) for path in run.config.data.train if path.exists()]
    learnt = run.record["split"]["train"]
    return [frames.take(np.isin(frames.scene, learnt)) for frames in sets]


def calibration_frames(source: Source, calibration: FrameSet | None, data: FrameSet | None) -> np.ndarray:
    """Frames uint8 [N,64,64,3] that show the 8-bit model how large activations get, spread over what there is.

    As many come from each data set: a few labelled frames do not drown in many simulated ones.

    Args:
        source: The network, which may know what it was trained on.
        calibration: Frames that were named for this.
        data: Frames that were named to measure on; only those that they mark as training frames are taken.

    Raises:
        ExportError: There are none.
    """
    sets = [calibration] if calibration is not None else source.training_frames()
    if not sets and data is not None:
        sets = [data.take(data.split == "train")]
    sets = [frames for frames in sets if len(frames)]
    if not sets:
        raise ExportError(
            "expected frames to calibrate int8 on, found neither the training data nor frames marked 'train': "
            "name a data set with --calibration, or leave int8 out with --precisions fp32,fp16"
        )
    each = -(-CALIBRATION_FRAMES // len(sets))
    return np.concatenate([frames.frames[_spread(len(frames), each)] for frames in sets])


def _spread(n: int, count: int) -> np.ndarray:
    """At most `count` numbers below n, evenly spread.

    >>> _spread(5, 3).tolist(), _spread(2, 3).tolist()
    ([0, 2, 4], [0, 1])
    """
    return np.unique(np.linspace(0, n - 1, count).round().astype(int))
