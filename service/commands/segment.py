"""`robomask segment`: pictures, folders and videos in, masks out; by a service, or with none."""

from __future__ import annotations

import sys

from pydantic import ValidationError
from pydantic_settings import CliApp
from tqdm import tqdm

from service.files.config import SegmentConfig
from service.files.errors import FilesError
from service.files.journal import NAME, Journal
from service.files.results import ANNOTATIONS, write_coco
from service.files.running import Outcome, Writing, segment_all
from service.files.segmenters import ENGINES, Asked, Segmenter, open_remote
from service.files.sources import count_frames, find

__all__ = ["main"]

_CHANGES_MASKS = {"url", "engine", "models", "model", "version", "precision", "threshold", "fit", "masks", "overlays"}


def main(argv: list[str]) -> int:
    """Run from the command line; returns 0 if all frames have masks, 1 if some or all have none, 130 if interrupted."""
    try:
        config = CliApp.run(SegmentConfig, cli_args=argv)
    except ValidationError as error:
        for fault in error.errors(include_url=False):
            name = "-".join(map(str, fault["loc"])).replace("_", "-")
            print(f"robomask segment: {f'--{name}: ' if name else ''}{fault['msg']}", file=sys.stderr)
        return 2
    try:
        outcome = _run(config)
    except FilesError as error:
        print(f"robomask segment: {error}", file=sys.stderr)
        if (config.out / NAME).exists():
            print(f"robomask segment: what is done is in {config.out}; the same command goes on", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"robomask segment: interrupted; the same command goes on from {config.out}", file=sys.stderr)
        return 130
    again = f", {outcome.before} had been before" if outcome.before else ""
    print(f"{config.out}: {outcome.new} frames segmented{again}, {len(outcome.failed)} failed")
    return 1 if outcome.failed else 0


def _run(config: SegmentConfig) -> Outcome:
    sources = find(config.inputs)
    options = config.model_dump(mode="json", include=_CHANGES_MASKS)
    segmenter = _segmenter(config)
    writing = Writing(
        config.out / "masks" if config.masks else None, config.out / "overlays" if config.overlays else None
    )
    try:
        with Journal(config.out / NAME, options) as journal:
            bar = tqdm(total=count_frames(sources, config.every) or None, unit="frame", desc="segment")

            def on_frame(failure: str | None) -> None:
                if failure is not None:
                    bar.write(f"robomask segment: {failure}", file=sys.stderr)
                bar.update()

            with bar:
                outcome = segment_all(
                    *(sources, segmenter, journal, writing), every=config.every, jobs=config.jobs, on_frame=on_frame
                )
            if config.coco:
                write_coco(config.out / ANNOTATIONS, sorted(journal.done.values(), key=lambda entry: entry.name))
    finally:
        segmenter.close()
    return outcome


def _segmenter(config: SegmentConfig) -> Segmenter:
    asked = Asked(
        models=config.models,
        model=config.model,
        version=config.version,
        precision=config.precision,
        threshold=config.threshold,
        fit=config.fit,
    )
    return open_remote(config.url, asked) if config.url is not None else ENGINES[config.engine](asked)
