"""`robomask label`: propose masks for unlabelled clips, from motion or by trained models, for a person to correct."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import numpy as np
from pydantic_settings import CliApp
from tqdm import tqdm

from training.clips.reading import open_clips
from training.commands.flags import repeat_flags
from training.data.readers import read_frames
from training.label.agreement import find_unread, match
from training.label.by_networks import propose_by
from training.label.clips import read_scenes, read_times, unread_keys
from training.label.coco import ANNOTATIONS, refuse_annotated, write_coco
from training.label.config import LabelConfig
from training.label.evidence import Weights
from training.label.propose import propose
from training.pictures import prediction_panel
from training.scores import score
from training.start import read_network

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from training.clips.source import ClipSource
    from training.label.clips import NamedScene, Reading


def main(argv: list[str]) -> int:
    """Run from the command line; returns the exit status."""
    config = CliApp.run(LabelConfig, cli_args=repeat_flags(argv))
    weights = Weights(config.colour, config.motion, config.place, config.smooth)
    try:
        if config.out is not None:
            refuse_annotated(config.out)
        source = open_clips(config.clips)
        reading = read_scenes(source, config.max_frames, config.split)
        scenes = reading.scenes
        _say_what_is_left_out(config, reading)
        if config.models:
            networks = [read_network(folder) for folder in config.models]
            proposals = [propose_by(networks, named.scene.frames) for named in tqdm(scenes, unit="scene", leave=False)]
        else:
            proposals = propose([named.scene for named in scenes], weights, config.rounds)
        if config.out is not None:
            _write(config, config.out, scenes, proposals)
        if config.evaluate is not None:
            _evaluate(config, source, reading, proposals)
    except (ValueError, OSError) as error:
        print(f"robomask label: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("robomask label: interrupted; no annotations were written", file=sys.stderr)
        return 130
    return 0


def _say_what_is_left_out(config: LabelConfig, reading: Reading) -> None:
    if reading.n_beyond:
        print(
            f"robomask label: {reading.n_beyond} of {reading.n_frames} frames are left out, the last "
            f"{len(reading.beyond)} tracks, by --max-frames {config.max_frames}: --max-frames {reading.n_frames} "
            "reads all of them",
            file=sys.stderr,
        )


def _write(config: LabelConfig, out: Path, scenes: Sequence[NamedScene], proposals: Sequence[np.ndarray]) -> None:
    written = write_coco(
        out,
        (
            (named.stems[t], named.name, named.scene.frames[t], masks[t])
            for named, masks in zip(scenes, proposals, strict=True)
            for t in range(0, len(masks), config.every)
        ),
        as_polygons=config.polygons,
    )
    filled = f"; polygons have filled {written.n_filled} pixels in holes of masks" if written.n_filled else ""
    print(
        f"{out}: {written.n_frames} frames and {ANNOTATIONS}, to be corrected; `robomask train` reads the folder"
        f"{filled}"
    )


def _evaluate(config: LabelConfig, source: ClipSource, reading: Reading, proposals: Sequence[np.ndarray]) -> None:
    """Print how well the proposals agree with labels, and draw them beside those where that is asked for."""
    if config.evaluate is None:
        return
    labelled = read_frames(config.evaluate)
    known = read_times(config.evaluate)
    keys = None if known is None else known.keys()
    matched = match(labelled, keys, reading.scenes, proposals)
    labels, proposed = matched.labels, matched.proposed
    report = {"all": score(proposed, labels.masks)._asdict()}
    for side in sorted(set(labels.split.tolist()) - {""}):
        chosen = labels.split == side
        report[side] = score(proposed[chosen], labels.masks[chosen])._asdict()
    counts, missing = {}, matched.missing
    for why, tracks in (("left_out_by_max_frames", reading.beyond), ("of_other_splits", reading.other_splits)):
        there = find_unread(labelled, keys, missing, source, tracks, unread_keys(source, reading, tracks))
        counts[f"labelled_frames_{why}"] = len(there)
        missing = np.setdiff1d(missing, there)
    counts["labelled_frames_not_among_the_clips"] = len(missing)
    print(json.dumps({"iou": report, **counts}, indent=1))
    if config.picture is not None:
        prediction_panel(labels.frames, proposed, labels.masks).save(config.picture)
        print(f"{config.picture}: from the worst to the best")
