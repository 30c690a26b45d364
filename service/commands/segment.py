"""`robomask segment`: pictures, folders and videos in, masks out; by a service, or with none."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import sys
from pathlib import Path

from pydantic import ValidationError
from pydantic_settings import CliApp
from tqdm import tqdm

from service.commands.refusal import refuse
from service.files.config import SegmentConfig
from service.files.errors import FilesError, NotOurs, NotWritten, OptionsDiffer, ResultsInUse
from service.files.journal import Journal
from service.files.names import JOURNAL, RESULTS, is_of_video
from service.files.owned import refuse_other_annotations, refuse_results
from service.files.ray_job import segment_on_ray, settled
from service.files.results import ANNOTATIONS, Writing, write_coco
from service.files.running import Outcome, segment_all
from service.files.segmenters import Asked, LocalSegmenter, RemoteSegmenter, Segmenter, open_local, open_remote
from service.files.sources import Source, count_frames, find

__all__ = ["main"]

_CHANGES_MASKS = {
    "engine",
    "models",
    "model",
    "version",
    "precision",
    "threshold",
    "fit",
    "masks",
    "overlays",
    "frames",
}
_TELLING = (NotOurs, NotWritten, OptionsDiffer, ResultsInUse)
"""Errors that say themselves what becomes of what is done."""


def main(argv: list[str]) -> int:
    """Run from the command line; returns 0 if all frames have masks, 1 if some or all have none, 130 if interrupted."""
    try:
        config = _config(argv)
    except ValidationError as error:
        return refuse("segment", error)
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # not so in the background of a script, where it is ignored
        signal.signal(signal.SIGINT, _interrupt)
    try:
        outcome = _run(config)
    except FilesError as error:
        print(f"robomask segment: {error}", file=sys.stderr)
        if (config.out / JOURNAL).exists() and not isinstance(error, _TELLING):
            print(f"robomask segment: what is done is in {config.out}; the same command goes on", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"robomask segment: expected to read and write what was asked for, got: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"robomask segment: interrupted; the same command goes on from {config.out}", file=sys.stderr)
        return 130
    finally:
        if before is signal.default_int_handler:
            signal.signal(signal.SIGINT, before)
    again = f", {outcome.before} had been before" if outcome.before else ""
    print(f"{config.out}: {outcome.new} frames segmented{again}, {len(outcome.failed)} failed")
    return 1 if outcome.failed else 0


def _interrupt(_number: int, _frame: object) -> None:
    """Wait for the frames in work, which a service may keep for long; the second time, do not."""
    print("robomask segment: waiting for the frames in work; interrupt again to end at once", file=sys.stderr)
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    raise KeyboardInterrupt


def _config(argv: list[str]) -> SegmentConfig:
    """What the command line says; inputs as they stand: pydantic-settings reads `a,b` as two, `2024` as a number."""
    options: list[str] = []
    inputs: list[str] = []
    words = iter(argv)
    for word in words:
        if word == "--":
            inputs.extend(words)
        elif not word.startswith("-"):
            inputs.append(word)
        else:
            options.append(word)
            field = SegmentConfig.model_fields.get(word.lstrip("-").replace("-", "_"))
            if field is not None and field.annotation is not bool:  # its value is the next word
                options.extend(itertools.islice(words, 1))
    config = CliApp.run(SegmentConfig, cli_args=[*(["inputs"] if inputs else []), *options])
    return config.model_copy(update={"inputs": tuple(map(Path, inputs))})


def _run(config: SegmentConfig) -> Outcome:
    masks, overlays, frames = folders = [config.out / kind for kind in RESULTS]
    sources = find(config.inputs, folders)
    asked = settled(_asked(config)) if config.engine == "ray" else _asked(config)
    here = contextlib.nullcontext() if config.engine == "ray" else contextlib.closing(_segmenter(config.url, asked))
    writing = Writing(
        masks if config.masks else None, overlays if config.overlays else None, frames if config.frames else None
    )
    with here as segmenter, Journal(config.out / JOURNAL, _options(config, asked, segmenter)) as journal:
        _begin(config, sources, journal, writing)
        if isinstance(segmenter, RemoteSegmenter) and len(journal.models) == 1:
            segmenter.keep_to(*journal.models)
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
            _annotate(config, sources, journal, writing)
    return outcome


def _begin(config: SegmentConfig, sources: list[Source], journal: Journal, writing: Writing) -> None:
    """Find out what is to be done, and see that nothing of somebody else's is lost by it."""
    readable = [source for source in sources if source.fault is None]
    journal.begin(readable, writing.files_of)
    if journal.is_new:
        refuse_results(readable, writing)
    if config.coco:
        refuse_other_annotations(config.out / ANNOTATIONS, journal.annotations)


def _annotate(config: SegmentConfig, sources: list[Source], journal: Journal, writing: Writing) -> None:
    """Write the COCO file, of frames that have a picture of their own: without it they are no use to training."""
    path = config.out / ANNOTATIONS
    done = journal.entries_of(sources, config.every)
    pictures = {source.name for source in sources if not source.is_video}
    listed = []
    for entry in done:
        if writing.frames is not None and is_of_video(entry.name):
            written = (writing.frames / entry.name).relative_to(config.out).as_posix()
            listed.append(entry.model_copy(update={"name": written}))
        elif entry.name in pictures or (config.out / entry.name).is_file():
            listed.append(entry)
    if len(listed) < len(done):
        print(
            f"robomask segment: {path}: expected a picture for each frame, found none for {len(done) - len(listed)} "
            "frames of videos, which are left out; to have them in it, give --frames and another --out",
            file=sys.stderr,
        )
    write_coco(path, listed, journal)


def _options(config: SegmentConfig, asked: Asked, segmenter: Segmenter | None) -> dict[str, object]:
    """What work has to be gone on with; the version too that has been chosen, as a newer one may come meanwhile.

    Of a service not where it is: each frame tells which model it is by, and all have to be one model's.
    """
    version = segmenter.version if isinstance(segmenter, LocalSegmenter) else asked.version
    chosen = {"version": version, "service": config.url is not None}
    return config.model_dump(mode="json", include=_CHANGES_MASKS) | chosen


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
