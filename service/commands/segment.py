"""`robomask segment`: pictures, folders and videos in, masks out; by a service, or with none."""

from __future__ import annotations

import contextlib
import sys

from pydantic import ValidationError
from pydantic_settings import CliApp
from tqdm import tqdm

from service.commands.refusal import refuse
from service.files.config import SegmentConfig
from service.files.errors import FilesError, OptionsDiffer
from service.files.journal import NAME, Journal
from service.files.ray_job import segment_on_ray
from service.files.results import ANNOTATIONS, write_coco
from service.files.running import Outcome, Writing, segment_all
from service.files.segmenters import Asked, Segmenter, open_local, open_remote
from service.files.sources import count_frames, find

__all__ = ["main"]

_CHANGES_MASKS = {"url", "engine", "models", "model", "version", "precision", "threshold", "fit", "masks", "overlays"}


def main(argv: list[str]) -> int:
    """Run from the command line; returns 0 if all frames have masks, 1 if some or all have none, 130 if interrupted."""
    try:
        config = CliApp.run(SegmentConfig, cli_args=argv)
    except ValidationError as error:
        return refuse("segment", error)
    try:
        outcome = _run(config)
    except FilesError as error:
        print(f"robomask segment: {error}", file=sys.stderr)
        if (config.out / NAME).exists() and not isinstance(error, OptionsDiffer):
            print(f"robomask segment: what is done is in {config.out}; the same command goes on", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"robomask segment: interrupted; the same command goes on from {config.out}", file=sys.stderr)
        return 130
    again = f", {outcome.before} had been before" if outcome.before else ""
    print(f"{config.out}: {outcome.new} frames segmented{again}, {len(outcome.failed)} failed")
    return 1 if outcome.failed else 0


def _run(config: SegmentConfig) -> Outcome:
    masks, overlays = config.out / "masks", config.out / "overlays"
    sources = find(config.inputs, [masks, overlays])
    options = config.model_dump(mode="json", include=_CHANGES_MASKS)
    asked = _asked(config)
    here = contextlib.nullcontext() if config.engine == "ray" else contextlib.closing(_segmenter(config.url, asked))
    writing = Writing(masks if config.masks else None, overlays if config.overlays else None)
    with here as segmenter, Journal(config.out / NAME, options) as journal:
        bar = tqdm(total=count_frames(sources, config.every) or None, unit="frame", desc="segment")

        def on_frame(failure: str | None) -> None:
            if failure is not None:
                bar.write(f"robomask segment: {failure}", file=sys.stderr)
            bar.update()

        with bar:
            if segmenter is None:
                outcome = segment_on_ray(
                    *(sources, asked, journal, writing),
                    every=config.every, actors=config.actors, gpus=config.gpus, on_frame=on_frame,
                )  # fmt: skip
            else:
                outcome = segment_all(
                    *(sources, segmenter, journal, writing), every=config.every, jobs=config.jobs, on_frame=on_frame
                )
        if config.coco:
            write_coco(config.out / ANNOTATIONS, sorted(journal.done.values(), key=lambda entry: entry.name))
    return outcome


def _segmenter(url: str | None, asked: Asked) -> Segmenter:
    return open_local(asked) if url is None else open_remote(url, asked)


def _asked(config: SegmentConfig) -> Asked:
    return Asked(
        models=config.models,
        model=config.model,
        version=config.version,
        precision=config.precision,
        threshold=config.threshold,
        fit=config.fit,
    )
