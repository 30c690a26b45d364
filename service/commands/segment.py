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
from service.files.errors import FilesError, OptionsDiffer, ResultsInUse
from service.files.journal import Journal
from service.files.names import JOURNAL, RESULTS
from service.files.ray_job import segment_on_ray, settled
from service.files.results import ANNOTATIONS, write_coco
from service.files.running import Outcome, Writing, segment_all
from service.files.segmenters import Asked, LocalSegmenter, RemoteSegmenter, Segmenter, open_local, open_remote
from service.files.sources import count_frames, find

__all__ = ["main"]

_CHANGES_MASKS = {"url", "engine", "models", "model", "version", "precision", "threshold", "fit", "masks", "overlays"}


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
        if (config.out / JOURNAL).exists() and not isinstance(error, (OptionsDiffer, ResultsInUse)):
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
    masks, overlays = (config.out / kind for kind in RESULTS)
    sources = find(config.inputs, [masks, overlays])
    asked = settled(_asked(config)) if config.engine == "ray" else _asked(config)
    here = contextlib.nullcontext() if config.engine == "ray" else contextlib.closing(_segmenter(config.url, asked))
    writing = Writing(masks if config.masks else None, overlays if config.overlays else None)
    with here as segmenter, Journal(config.out / JOURNAL, _options(config, asked, segmenter)) as journal:
        journal.begin(sources, [folder for folder in writing if folder is not None])
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
            write_coco(config.out / ANNOTATIONS, sorted(journal.done.values(), key=lambda entry: entry.name))
    return outcome


def _options(config: SegmentConfig, asked: Asked, segmenter: Segmenter | None) -> dict[str, object]:
    """What work has to be gone on with; the version too that has been chosen, as a newer one may come meanwhile."""
    version = segmenter.version if isinstance(segmenter, LocalSegmenter) else asked.version
    return config.model_dump(mode="json", include=_CHANGES_MASKS) | {"version": version}


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
