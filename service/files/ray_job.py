"""Segments large collections on a Ray cluster, as one Ray Data job: many processes, each with a model of its own.

Pieces of work go out, what was found comes back; frames are read and masks written where the work is done, and shown by
this process once they are in the journal. So inputs, model repository and results have to be on storage that every node
of the cluster has at the same path. A piece is some pictures or one video. What is found is the same to the bit as on
one machine: version and precision are chosen once, here, for all.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from service.files.errors import FilesError, FrameFailed, SegmenterFailed
from service.files.journal import Entry
from service.files.results import Writing, note
from service.files.running import Outcome, frames_in, segment_one
from service.files.segmenters import Asked, open_local
from service.files.sources import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from service.files.journal import Journal

__all__ = ["pieces_of", "segment_on_ray", "settled"]

_PICTURES: Final = 32
"""Pictures in a piece of work: some seconds of it, so that little is done twice if a node is lost."""
_TOLD: Final = 64
"""Frames of a video after which what was found is handed on."""

Piece: TypeAlias = "list[tuple[str, str, list[str]]]"
"""Sources: path, name, and the names of frames that are done."""
_Rows: TypeAlias = dict[str, list[str]]


def segment_on_ray(
    sources: Sequence[Source],
    asked: Asked,
    journal: Journal,
    writing: Writing,
    *,
    every: int,
    actors: int | None,
    gpus: float,
    on_frame: Callable[[str | None], None],
) -> Outcome:
    """Segment all frames that the journal does not say are done; as `segment_all` does in this process.

    Runs on the cluster that this process is connected to, or that RAY_ADDRESS names, or on one started for it here.

    Args:
        sources: Pictures and videos.
        asked: What is asked of the segmenters, with nothing left to choose; see `settled`.
        journal: What is done.
        writing: What is written of each frame.
        every: Of a video every n-th frame.
        actors: Processes that segment, each on one CPU; None for as many as the cluster has CPUs for.
        gpus: GPUs for each of them; less than 1 for a share of one.
        on_frame: Told after every frame: None, or, in words, that it failed.

    Raises:
        FilesError: Ray is not installed, or its job failed.
        SegmenterFailed: No frame can be segmented any more, or written.
        NotWritten: The journal cannot be written.
    """
    ray = _ray()
    failed = {source.name: source.fault for source in sources if source.fault is not None}
    for name, fault in failed.items():
        on_frame(f"{name}: {fault}")
    pieces, before = pieces_of([source for source in sources if source.fault is None], journal.done)
    for _ in range(before):
        on_frame(None)
    new = 0
    for row in _found(ray, pieces, asked, writing, every=every, actors=actors, gpus=gpus):
        if row["fatal"]:
            raise SegmenterFailed(row["fatal"])
        if row["failure"]:
            failed[row["name"]] = row["failure"]
            on_frame(f"{row['name']}: {row['failure']}")
            continue
        try:
            note(Entry.model_validate_json(row["entry"]), journal, writing)
        except FrameFailed as error:
            failed[row["name"]] = str(error)
            on_frame(f"{row['name']}: {error}")
            continue
        new += 1
        on_frame(None)
    return Outcome(new, before, failed)


def pieces_of(sources: Sequence[Source], done: Mapping[str, Entry]) -> tuple[list[Piece], int]:
    """What is left to do, in pieces, and how many frames are done.

    >>> pictures = [Source(Path(f"/{i}.png"), f"{i}.png") for i in range(3)]
    >>> pieces_of([*pictures, Source(Path("/v.mp4"), "v.mp4")], {"1.png": None, "v.mp4/000000.png": None})
    ([[('/0.png', '0.png', []), ('/2.png', '2.png', [])], [('/v.mp4', 'v.mp4', ['v.mp4/000000.png'])]], 2)
    """
    by_video: dict[str, list[str]] = {}
    for name in done:
        by_video.setdefault(name.rpartition("/")[0], []).append(name)
    pictures: Piece = []
    videos: list[Piece] = []
    before = 0
    for source in sources:
        path, name = str(source.path.absolute()), source.name
        if source.is_video:
            own = by_video.get(name, [])
            before += len(own)
            videos.append([(path, name, own)])
        elif name in done:
            before += 1
        else:
            pictures.append((path, name, []))
    return [pictures[start : start + _PICTURES] for start in range(0, len(pictures), _PICTURES)] + videos, before


def settled(asked: Asked) -> Asked:
    """The same with nothing left to choose, and sure to open; each process could choose differently later.

    Raises:
        FilesError: There is no bundle, or it is refused.
    """
    here = open_local(asked)
    return asked._replace(
        models=Path(asked.models).absolute(), model=here.model, version=here.version, precision=here.precision
    )


def _found(
    ray: Any, pieces: list[Piece], asked: Asked, writing: Writing, *, every: int, actors: int | None, gpus: float
) -> Iterator[dict[str, str]]:
    """A row for each frame, as they are done."""
    if not pieces:
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if not ray.is_initialized():
        ray.init(logging_level="warning")
    ray.data.DataContext.get_current().enable_progress_bars = False
    most = actors or max(1, int(ray.cluster_resources().get("CPU", 1)))
    job = ray.data.from_items([{"piece": json.dumps(piece)} for piece in pieces], override_num_blocks=len(pieces))
    job = job.map_batches(
        _Worker,
        fn_constructor_args=(asked, _absolute(writing), every),
        batch_size=None,
        concurrency=min(most, len(pieces)),
        num_cpus=1,
        num_gpus=gpus or None,
    )
    try:
        yield from job.iter_rows()
    except ray.exceptions.RayError as error:
        raise FilesError(f"expected the Ray job to go through, got: {error}") from error


def _absolute(writing: Writing) -> Writing:
    return Writing(*(None if folder is None else folder.absolute() for folder in writing))


class _Worker:
    """One process of the job."""

    def __init__(self, asked: Asked, writing: Writing, every: int) -> None:
        self._segmenter = open_local(asked)
        self._writing = writing
        self._every = every

    def __call__(self, batch: Mapping[str, Any]) -> Iterator[_Rows]:
        """Do pieces of work; tells what was found in every frame."""
        for text in batch["piece"]:
            piece = json.loads(str(text))
            done = {name for *_, names in piece for name in names}
            rows = _no_rows()
            for name, frame in frames_in([Source(Path(path), name) for path, name, _ in piece], self._every):
                if name in done:
                    continue
                entry = failure = ""
                try:
                    if isinstance(frame, FrameFailed):
                        raise frame
                    entry = segment_one(name, frame, self._segmenter, self._writing).model_dump_json()
                except FrameFailed as error:
                    failure = str(error)
                except FilesError as error:
                    _add(rows, name, fatal=str(error))
                    yield rows
                    return
                _add(rows, name, entry=entry, failure=failure)
                if len(rows["name"]) == _TOLD:
                    yield rows
                    rows = _no_rows()
            if rows["name"]:
                yield rows


def _no_rows() -> _Rows:
    return {"name": [], "entry": [], "failure": [], "fatal": []}


def _add(rows: _Rows, name: str, *, entry: str = "", failure: str = "", fatal: str = "") -> None:
    for column, value in (("name", name), ("entry", entry), ("failure", failure), ("fatal", fatal)):
        rows[column].append(value)


def _ray() -> Any:
    try:
        import ray  # noqa: PLC0415 - only this engine needs it
        import ray.data  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise FilesError(
            f"expected {error.name} for --engine ray: pip install 'robomask[segment,serve,ray]'"
        ) from error
    return ray
